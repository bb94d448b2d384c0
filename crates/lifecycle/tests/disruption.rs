//! The table of docs/failure-modes.md, row by row, as far as it is a decision.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::Epoch;
use indexbuild_api::*;
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;

/// failure-modes.md #4: keep.
#[test]
fn a_partition_shorter_than_patience_changes_nothing() {
    let mut world = settled(encoding());
    world.nodes[0].ready = NodeReady::Unknown;
    silent(&mut world, 0, 9_999);
    let decision = plan(&world);
    let (spec, state, change) = update(&decision, 0).unwrap();
    assert_eq!((state, change, spec), (DirectoryState::Silent, None, &world.slots[0].record.spec));
    assert!(decision.actions.iter().all(|action| !action.is_destructive()));
    let wait = decision.waits.iter().find(|wait| wait.reason == Reason::OwnerSilent).unwrap();
    assert!(wait.until > world.now && wait.until <= world.now + 1_000);
    assert_eq!(decision.status.failed_attempts, None);
    // Told once, by an event too.
    let told = |decision: &Decision| decision.events.iter().filter(|event| event.reason == Reason::OwnerSilent).count();
    assert_eq!(told(&decision), 1);
    carry_out(&mut world, &decision);
    assert_eq!(told(&plan(&world)), 0);
}

/// failure-modes.md #5: replace.
#[test]
fn after_patience_a_new_owner_works_on_a_new_volume_and_the_old_one_is_stranded() {
    let mut world = encoding();
    world.nodes[0].ready = NodeReady::Unknown;
    silent(&mut world, 0, 10_000);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(change, Some(OwnerChangeReason::Replaced));
    assert_eq!(spec.work.as_ref().unwrap().id, "encode-0");
    let former = &spec.former_volumes[0];
    assert_eq!(
        (former.state, former.pod_uid.as_str(), former.boot_nonce.as_str(), former.epoch, former.boot_id.as_str()),
        (VolumeState::Stranded, "pod-0", "nonce-0", Epoch::new(3), "boot-1")
    );
    assert_ne!(spec.volume.as_ref().unwrap().claim_name, former.claim_name);
    assert!(
        decision.actions.iter().all(|action| !action.is_destructive()),
        "the old owner and its volume are left alone"
    );
    assert_eq!(spec.failed_attempts, 0, "a partition is no failure");
}

/// An end that is nobody's fault is not made to wait for what failed before it: a reboot after a failure would cost the
/// backoff of both. What ends again and again is slowed down, so that a node that kills each pod is not flooded.
#[test]
fn an_end_without_fault_is_not_waited_for_whatever_failed_before_and_repeated_ends_are() {
    let waits = |past: Past| {
        let mut world = encoding();
        world.slots[0].record.spec.past = past;
        world.pods[0].state = terminated(0);
        world.pods[0].deleting = true;
        let decision = plan(&world);
        assert_eq!(changed(&decision, 0), Some(OwnerChangeReason::Rebound));
        let told = decision.events.iter().find(|event| event.reason == Reason::PodEnded).unwrap();
        assert!(!told.warning && told.message.contains("on the same volume"), "{}", told.message);
        carry_out(&mut world, &decision);
        world.pods.remove(0);
        let decision = plan(&world);
        let wait = decision.waits.iter().find(|wait| wait.reason == Reason::BackingOff);
        wait.map(|wait| (wait.until - world.now, wait.what.clone()))
    };
    let nothing = Past { first_epoch: Epoch::new(1), ..Past::default() };
    assert_eq!(waits(nothing), None);
    assert_eq!(waits(Past { tries: 2, failed_tries: 2, failures_in_a_row: 2, ..nothing }), None);
    assert_eq!(waits(Past { tries: 2, failed_tries: 1, failures_in_a_row: 1, ..nothing }), None);
    let (once, why) = waits(Past { tries: 1, ends_in_a_row: 1, ..nothing }).unwrap();
    assert!(once > 0 && why.contains("its owners ended several times in a row"), "{why}");
    let (twice, _) = waits(Past { tries: 2, ends_in_a_row: 2, ..nothing }).unwrap();
    assert!(twice > once, "{once} ms and then {twice} ms");
}

#[test]
fn a_cut_off_owners_volume_returns_if_its_replacement_has_not_caught_up() {
    let mut world = replaced();
    world.slots[0].record.spec.past.replacements_in_a_row = 1;
    world.pods[2].state = terminated(0);
    report_mut(&mut world, 0).progress = Some(0.4);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(change, Some(OwnerChangeReason::Returned));
    let volume = spec.volume.as_ref().unwrap();
    assert_eq!((volume.claim_name.as_str(), volume.claim_uid.as_str()), (stranded(0).claim_name.as_str(), "claim-9"));
    assert!(volume.generation > 9);
    assert_eq!(
        spec.former_volumes.iter().map(|former| former.state).collect::<Vec<_>>(),
        vec![VolumeState::Superseded]
    );
    // The replacement is asked to end, which is no reason for an alarm until patience with it is over.
    carry_out(&mut world, &decision);
    let alarmed = |world: &World| {
        let decision = plan(world);
        let stops = |action: &Action| matches!(action, Action::StopPod { reason: StopReason::Superseded, .. });
        assert!(decision.actions.iter().any(stops), "{:#?}", decision.actions);
        decision.events.iter().any(|event| event.reason == Reason::VolumeReleaseBlocked)
    };
    assert!(!alarmed(&world));
    let mut hanging = world.clone();
    hanging.slots[0].grant_age = 10_000;
    assert!(alarmed(&hanging));
    // It is cleaned, and never takes its turn again.
    world.pods[0].state = terminated(0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.former_volumes[0].condemned), (None, true));
    assert!(decision.waits.iter().all(|wait| wait.reason != Reason::BackingOff), "it goes on at once");
}

/// failure-modes.md #23.
#[test]
fn when_most_nodes_look_lost_nothing_is_destroyed_or_replaced_and_the_status_says_so() {
    let mut world = replaced();
    world.pods[2].state = terminated(0);
    world.slots[0].record.spec.former_volumes[0].condemned = true;
    silent(&mut world, 1, 50_000);
    assert!(plan(&world).actions.iter().any(Action::is_destructive), "the control");
    for node in &mut world.nodes[..2] {
        node.ready = NodeReady::Unknown;
    }
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(Action::is_destructive));
    assert_eq!(changed(&decision, 1), None);
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert_eq!((stalled.status, stalled.reason), (ConditionStatus::True, Reason::MostNodesLost));
}

/// failure-modes.md #29.
#[test]
fn a_pod_whose_own_volume_keeps_it_from_being_scheduled_is_replaced_on_a_new_one_and_was_never_bound() {
    let mut world = encoding();
    world.slots[0].record.spec.grant =
        Some(Grant { epoch: Epoch::new(4), pod_name: names::pod("orders", UID, 0, Epoch::new(4)), ..Grant::default() });
    world.pods[0] = PodView {
        name: names::pod("orders", UID, 0, Epoch::new(4)),
        uid: "pod-4".to_owned(),
        slot: 0,
        epoch: Epoch::new(4),
        node: None,
        deleting: false,
        disrupted: false,
        foreign: false,
        own_exit: None,
        as_asked: Some(true),
        suited: Vec::new(),
        state: PodState::Pending,
    };
    world.claims[0].nodes = Some(vec!["node-0".to_owned()]);
    world.nodes[0].cordoned = true;
    world.slots[0].grant_age = 9_000;
    assert!(
        update(&plan(&world), 0)
            .is_none_or(|(spec, _, change)| change.is_none() && spec.grant.as_ref().unwrap().pod_uid.is_empty())
    );
    world.slots[0].grant_age = 10_000;
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.former_volumes[0].state), (Some(OwnerChangeReason::Replaced), VolumeState::Idle));

    // One that no scheduler has looked at keeps its volume: another one would wait as well, without what is sealed.
    world.pods[0].state = PodState::Queued;
    world.slots[0].grant_age = 60_000;
    let decision = plan(&world);
    assert_eq!(changed(&decision, 0), None);
    let wait = decision.waits.iter().find(|wait| wait.slot == Some(0)).unwrap();
    assert!(!wait.acts && wait.what.contains("was not looked at by the scheduler yet"), "{wait:?}");
}

#[test]
fn an_unproved_volume_stays_listed_and_does_not_hold_back_the_end() {
    let mut world = replaced();
    world.stages = vec![
        planned(2, 2),
        stage("encode", &[]),
        stage("sort", &[]),
        stage("publish", &["publish"]),
        stage("clean", &["clean"]),
    ];
    world.slots.remove(1);
    world.claims.retain(|claim| claim.uid == "claim-9");
    world.pods.clear();
    let record = &mut world.slots[0].record;
    (record.spec.volume, record.spec.work) = (None, None);
    record.spec.grant = Some(Grant { epoch: Epoch::new(8), pod_name: "orders-e8".to_owned(), ..Grant::default() });
    let world = settled(world);
    let decision = plan(&world);
    assert_eq!((decision.end, decision.actions), (Some(End::Complete), vec![]));
    let held = decision.status.condition(ConditionType::VolumesHeld).unwrap();
    assert_eq!((held.status, held.reason), (ConditionStatus::True, Reason::VolumesStranded));
    let complete = decision.status.condition(ConditionType::Complete).unwrap();
    assert_eq!(complete.status, ConditionStatus::True);
    assert_eq!(decision.status.manifest.as_ref().unwrap().url, format!("s3://indexes/shop/orders/{UID}/manifest.json"));
}

/// G8, I9: an owner that is not needed any more is revoked and gives way; its pod is not deleted while it runs, so
/// that what the kubelet says of its end is there until the record says it too, whoever was away meanwhile.
#[test]
fn i9_an_owner_that_is_not_needed_any_more_is_revoked_and_its_object_stays_until_its_end_is_recorded() {
    let mut world = settled(encoding());
    world.stages.extend([
        stage("encode", &["encode-0", "encode-1"]),
        stage("sort", &["sort-0", "sort-1"]),
        stage("publish", &["publish"]),
        stage("clean", &["clean"]),
    ]);
    let stops = |decision: &Decision, of: StopReason| {
        decision.actions.iter().any(|action| matches!(action, Action::StopPod { reason, .. } if *reason == of))
    };
    let told = |decision: &Decision| decision.events.iter().any(|event| event.reason == Reason::VolumeReleaseBlocked);
    let decision = plan(&world);
    for slot in 0..2 {
        let (spec, _, change) = update(&decision, slot).unwrap();
        assert_eq!((change, &spec.volume), (Some(OwnerChangeReason::Revoked), &None));
    }
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    assert!(decision.actions.is_empty() && !told(&decision), "{decision:#?}");
    assert_eq!(decision.status.volumes.unwrap().stranded, 0, "nothing is wrong with a volume whose owner gives way");
    assert!(decision.waits.iter().any(|wait| wait.reason == Reason::WaitingForEvidence && wait.acts));
    // One that does not give way is asked to; one whose node does not answer is an alarm.
    let mut hanging = world.clone();
    hanging.slots.iter_mut().for_each(|view| view.grant_age = 5_000);
    assert!(stops(&plan(&hanging), StopReason::Superseded));
    let mut unheard = world.clone();
    unheard.nodes[0].ready = NodeReady::Unknown;
    assert!(told(&plan(&unheard)));
    // What the kubelet says is written before the object that says so goes.
    world.pods.iter_mut().for_each(|pod| pod.state = terminated(0));
    let decision = plan(&world);
    assert!(!stops(&decision, StopReason::Ended), "{decision:#?}");
    for slot in 0..2 {
        let former = &update(&decision, slot).unwrap().0.former_volumes[0];
        assert_eq!((former.state, former.condemned), (VolumeState::Idle, true));
    }
    carry_out(&mut world, &decision);
    world.pods.clear();
    let deletes = |action: &Action| matches!(action, Action::DeleteClaim { name, .. } if *name == world.claims[0].name);
    assert!(plan(&world).actions.iter().any(deletes));
    world.claims.clear();
    let decision = plan(&world);
    assert_eq!(update(&decision, 0), None, "no write of its own says that the volume is gone");
    assert!(decision.actions.iter().any(|action| matches!(action, Action::DeleteDirectory { slot: 0, .. })));
}

/// I8: what passes is written once it lasts, or with the next write.
#[test]
fn a_state_that_passes_and_a_choice_that_is_frozen_are_no_reason_for_a_write() {
    let mut world = settled(encoding());
    world.slots[0].record.status.state = DirectoryState::Starting;
    world.slots[0].grant_age = 2_999;
    assert_eq!(update(&plan(&world), 0), None);
    world.slots[0].grant_age = 3_000;
    assert_eq!(update(&plan(&world), 0).unwrap().1, DirectoryState::Working);
    world.slots[0].grant_age = 2_999;
    world.slots[0].record.status.state = DirectoryState::Silent;
    assert_eq!(update(&plan(&world), 0).unwrap().1, DirectoryState::Working, "the alarm is over");

    let mut world = settled(encoding());
    world.slots[0].record.spec.chosen.push(world.stages[0].chosen[0].clone());
    assert_eq!(update(&plan(&world), 0), None, "the choice of the plan is frozen");
    silent(&mut world, 0, 10_000);
    assert!(update(&plan(&world), 0).unwrap().0.chosen.is_empty());
}

/// A claim that is being deleted waits for every pod that names it, ended or not (pvc-protection): the object of an
/// ended pod, kept as evidence, must go as soon as the record says what it proves.
#[test]
fn i9_the_object_of_an_ended_pod_goes_once_its_volume_is_condemned_or_being_deleted() {
    let goes = |state: VolumeState, condemned: bool| {
        let mut world = replaced();
        world.pods.iter_mut().find(|pod| pod.uid == "pod-9").unwrap().state = terminated(0);
        let former = &mut world.slots[0].record.spec.former_volumes[0];
        (former.state, former.condemned) = (state, condemned);
        if state == VolumeState::Terminating {
            world.claims.iter_mut().find(|claim| claim.uid == "claim-9").unwrap().phase = ClaimPhase::Terminating;
        }
        let stops = |action: &Action| matches!(action, Action::StopPod { uid, reason: StopReason::Ended, .. } if uid == "pod-9");
        // One destructive action per pass: the claim's own deletion may come first.
        (0..3).any(|_| {
            let decision = plan(&world);
            carry_out(&mut world, &decision);
            decision.actions.iter().any(stops)
        })
    };
    assert!(goes(VolumeState::Terminating, true));
    assert!(goes(VolumeState::Terminating, false), "somebody else deleted the claim");
}
