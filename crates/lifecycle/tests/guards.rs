//! The guards G1 to G11, and what counts as evidence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::Epoch;
use indexbuild_api::*;
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;

/// G1.
#[test]
fn g1_every_write_of_a_record_carries_the_version_that_was_looked_at() {
    let mut world = encoding();
    reports_result(&mut world, 0);
    for action in plan(&world).actions {
        if let Action::UpdateDirectory { slot, version, .. } = action {
            assert_eq!(version, format!("v{slot}"));
        }
    }
}

/// G2: in the record first; then said in the status, from what records are seen to say; then frozen as it was said; then
/// emptied, and not before.
#[test]
fn g2_a_result_is_chosen_in_the_record_then_said_then_frozen_then_leaves_the_record() {
    let mut world = encoding();
    reports_result(&mut world, 0);
    reports_result(&mut world, 1);
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::FreezeStage { .. })));
    assert_eq!(update(&decision, 0).unwrap().0.chosen[0].work_id, "encode-0");
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    assert_eq!(records_stages(&decision), ["encode"]);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::FreezeStage { .. })));
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    assert!(update(&decision, 0).is_none(), "nothing is decided on a stage that is not there");
    let frozen = decision
        .actions
        .iter()
        .find_map(|action| match action {
            Action::FreezeStage { stage } => Some(stage),
            _ => None,
        })
        .unwrap();
    assert_eq!((frozen.name.as_str(), frozen.chosen.len()), ("encode", 2));
    let said = world.build.status.as_ref().unwrap().frozen_stages.as_ref().unwrap();
    assert_eq!(said.last(), frozen.frozen().as_ref());
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert!(spec.chosen.is_empty());
    assert_eq!((spec.work.as_ref().unwrap().id.as_str(), change), ("sort-0", Some(OwnerChangeReason::NextWork)));
}

/// G3.
#[test]
fn g3_a_result_counts_only_for_the_epoch_nonce_and_work_of_the_grant() {
    let spoil: [fn(&mut World); 4] = [
        |world| report_mut(world, 0).epoch = Epoch::new(2),
        |world| report_mut(world, 0).boot_nonce = "another".to_owned(),
        |world| report_mut(world, 0).result.as_mut().unwrap().epoch = Epoch::new(2),
        |world| report_mut(world, 0).result.as_mut().unwrap().work_id = "encode-1".to_owned(),
    ];
    for spoil in spoil {
        let mut world = encoding();
        reports_result(&mut world, 0);
        spoil(&mut world);
        assert!(update(&plan(&world), 0).is_none_or(|(spec, ..)| spec.chosen.is_empty()));
    }
}

/// G3: the same process, the next epoch.
#[test]
fn g3_a_change_of_work_raises_the_epoch_by_one_for_the_same_process_too() {
    let mut world = encoding();
    world.stages[0] = planned(3, 2);
    reports_result(&mut world, 0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    let old = world.slots[0].record.spec.grant.clone().unwrap();
    assert_eq!(spec.grant, Some(Grant { epoch: Epoch::new(4), ..old }));
    assert_eq!((spec.work.as_ref().unwrap().id.as_str(), change), ("encode-2", Some(OwnerChangeReason::NextWork)));
    assert_eq!(spec.chosen[0].epoch, 3);
}

/// A process that ends with its report (an engine handle stayed open, say) is given nothing: a grant to it would be
/// lost, count as a failed attempt and wait for its backoff. Its end is no failure: a new pod goes on.
#[test]
fn i7_a_process_that_says_that_it_ends_is_granted_no_further_work_and_its_end_is_no_failure() {
    let mut world = encoding();
    world.stages[0] = planned(3, 2);
    reports_result(&mut world, 0);
    report_mut(&mut world, 0).ending = true;
    let decision = plan(&world);
    let (spec, ..) = update(&decision, 0).unwrap();
    assert_eq!(spec.chosen[0].work_id, "encode-0", "its result counts");
    assert_eq!(spec.grant.as_ref().unwrap().epoch, 3, "and it is granted nothing");
    carry_out(&mut world, &decision);
    assert!(update(&plan(&world), 0).is_none_or(|(spec, ..)| spec.grant.as_ref().unwrap().epoch == 3));
    world.pods[0].state = terminated(13);
    for _ in 0..3 {
        let decision = plan(&world);
        carry_out(&mut world, &decision);
    }
    let spec = &world.slots[0].record.spec;
    assert_eq!(spec.work.as_ref().unwrap().id, "encode-2");
    assert_eq!(spec.failed_attempts, 0);
    assert_ne!(spec.grant.as_ref().unwrap().pod_name, "orders-0b7e1c9a-0-e3", "a new pod goes on");
}

/// G4: a report is taken whole or not at all.
#[test]
fn g4_an_error_of_an_older_epoch_is_not_read_into_the_present_attempt() {
    let mut world = encoding();
    reports_error(&mut world, 0, WorkErrorReason::DuplicateKey, false, vec![]);
    report_mut(&mut world, 0).epoch = Epoch::new(2);
    let decision = plan(&world);
    assert_eq!(decision.status.condition(ConditionType::Failed).unwrap().status, ConditionStatus::False);
}

/// G5: what is deleted from the store is Clean's doing alone, which writes the tombstone first; it is granted only
/// when all other rights are revoked and their owners are gone, or patience with them is over.
#[test]
fn g5_an_aborted_build_revokes_everybody_before_clean_is_granted() {
    let mut world = encoding();
    world.build.deleting = true;
    world.build.deletion_age = 100;
    let decision = plan(&world);
    assert_eq!(changed(&decision, 1), Some(OwnerChangeReason::Aborted));
    assert!(decision.actions.iter().all(|action| !matches!(action, Action::UpdateDirectory { spec, .. } if spec.work.as_ref().is_some_and(|work| work.kind == WorkKind::Clean))));
    carry_out(&mut world, &decision);
    world.pods[1].state = terminated(0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((spec.work.as_ref().unwrap().kind, change), (WorkKind::Clean, Some(OwnerChangeReason::Aborted)));
}

/// G5: an index goes only where its build was deleted and its policy says so; and the work itself says it, as its
/// process may be older than the deletion.
#[test]
fn g5_a_committed_index_is_removed_only_where_the_policy_of_its_deleted_build_says_so() {
    for (policy, deleting, goes) in [
        (DeletionPolicy::Delete, true, Some(true)),
        (DeletionPolicy::Retain, true, None),
        (DeletionPolicy::Delete, false, None),
    ] {
        let mut world = encoding();
        for name in ["encode", "sort", "publish", "clean"] {
            world.stages.push(stage(name, &[name]));
        }
        (world.slots, world.pods, world.claims) = (Vec::new(), Vec::new(), Vec::new());
        world.build.spec.output.deletion_policy = policy;
        world.build.deleting = deleting;
        let works: Vec<_> = plan(&world)
            .actions
            .into_iter()
            .filter_map(|action| match action {
                Action::CreateDirectory { spec, .. } => spec.work.map(|work| work.removes_index),
                _ => None,
            })
            .collect();
        assert_eq!(works.first().copied(), goes, "{policy:?}, deleted: {deleting}");
    }
    let mut aborted = encoding();
    aborted.build.spec.output.deletion_policy = DeletionPolicy::Delete;
    aborted.build.deleting = true;
    (aborted.slots, aborted.pods, aborted.claims) = (Vec::new(), Vec::new(), Vec::new());
    let removes = plan(&aborted).actions.into_iter().any(
        |action| matches!(action, Action::CreateDirectory { spec, .. } if spec.work.as_ref().is_some_and(|work| work.removes_index)),
    );
    assert!(removes, "its Publish may have committed unseen");
}

/// G6.
#[test]
fn g6_a_frozen_stage_is_never_made_again_whatever_records_say_later() {
    let mut world = encoding();
    world.stages.push(stage("encode", &["encode-0", "encode-1"]));
    world.slots[0].record.spec.chosen = vec![Chosen { epoch: Epoch::new(9), ..choice("encode-0") }];
    world.slots[1].record.spec.chosen = vec![Chosen { epoch: Epoch::new(9), ..choice("encode-1") }];
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::FreezeStage { .. })));
    assert!(records_stages(&decision).is_empty());
}

/// G7.
#[test]
fn g7_a_volume_is_condemned_in_the_record_before_it_is_deleted() {
    let mut world = replaced();
    world.pods[2].state = terminated(0);
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::DeleteClaim { .. })));
    let (spec, ..) = update(&decision, 0).unwrap();
    assert!(spec.former_volumes[0].condemned);
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    let Some(Action::DeleteClaim { name, uid, condemned, evidence }) =
        decision.actions.iter().find(|action| action.is_destructive())
    else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!((name, uid.as_str(), condemned.claim_uid()), (&stranded(0).claim_name, "claim-9", "claim-9"));
    assert_eq!((evidence.kind(), evidence.exit_code()), (EvidenceKind::Terminated, Some(0)));
    world.claims.retain(|claim| claim.uid != "claim-9");
    assert!(update(&plan(&world), 0).unwrap().0.former_volumes.is_empty(), "accounted for");
}

/// G8.
#[test]
fn g8_terminated_counts_only_with_restart_never_and_the_kubelets_own_word() {
    let whole = Termination {
        exit_code: 0,
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        kubelet_written: true,
        container_id_present: true,
        restart_never: true,
    };
    let partial = [
        Termination { restart_never: false, ..whole.clone() },
        Termination { kubelet_written: false, ..whole.clone() },
        Termination { container_id_present: false, ..whole.clone() },
        Termination { finished_at: String::new(), ..whole.clone() },
    ];
    let mut world = replaced();
    world.pods[2].state = PodState::Terminated(whole);
    assert!(Evidence::of_former(&world, &stranded(0)).is_some());
    for partial in partial {
        world.pods[2].state = PodState::Terminated(partial);
        assert_eq!(Evidence::of_former(&world, &stranded(0)), None);
    }
}

#[test]
fn evidence_is_exactly_what_the_table_of_disruptions_lists() {
    let of = |change: fn(&mut World)| {
        let mut world = replaced();
        change(&mut world);
        Evidence::of_former(&world, &stranded(0)).map(|evidence| evidence.kind())
    };
    assert_eq!(of(|_| ()), None);
    assert_eq!(of(|world| world.pods.clear()), None, "a missing pod proves nothing");
    assert_eq!(of(|world| world.nodes[2].ready = NodeReady::Unknown), None);
    assert_eq!(of(|world| world.nodes.clear()), None, "a node that is merely not seen is not gone");
    assert_eq!(of(|world| world.nodes[2].boot_id = "boot-2".to_owned()), Some(EvidenceKind::NodeRebooted));
    assert_eq!(
        of(|world| (world.nodes[2].boot_id, world.nodes[2].system_uuid) =
            ("boot-2".to_owned(), "machine-7".to_owned())),
        None,
        "another machine of its name"
    );
    assert_eq!(of(|world| world.nodes[2].gone = true), None, "the machine may run on");
    assert_eq!(
        of(|world| (world.nodes[2].gone, world.nodes[2].volumes_detached) = (true, true)),
        Some(EvidenceKind::NodeGone)
    );
    assert_eq!(
        of(|world| (world.nodes[2].out_of_service, world.nodes[2].volumes_detached) = (true, true)),
        None,
        "its pod object is there"
    );
    assert_eq!(
        of(|world| {
            world.pods.truncate(2);
            (world.nodes[2].out_of_service, world.nodes[2].volumes_detached) = (true, true);
        }),
        Some(EvidenceKind::OutOfService)
    );
    // Whatever becomes of the node, and whoever vouches for it: only a detach that cuts the node off proves anything.
    let lost: [fn(&mut World); 2] = [
        |world| (world.nodes[2].gone, world.nodes[2].volumes_detached) = (true, true),
        |world| {
            world.pods.truncate(2);
            (world.nodes[2].out_of_service, world.nodes[2].volumes_detached) = (true, true);
        },
    ];
    for lose in lost {
        let mut world = replaced();
        lose(&mut world);
        let of = |world: &World, attached| {
            Evidence::of_former(world, &FormerVolume { attached, ..stranded(0) }).map(|evidence| evidence.kind())
        };
        assert!(of(&world, attached("node-2")).is_some(), "the control");
        assert_eq!(of(&world, None), None, "never seen attached, as of an older version, or of NFS");
        assert_eq!(of(&world, attached("node-1")), None, "attached to another node");
        let other = attached("node-2").map(|seen| Attached { driver: "nfs.csi.k8s.io".to_owned(), ..seen });
        assert_eq!(of(&world, other.clone()), None, "a driver whose detach may do nothing");
        world.attachments.detaching_drivers.insert("nfs.csi.k8s.io".to_owned());
        assert!(of(&world, other).is_some(), "the administrator says that it cuts the node off");
        world.nodes[2].volumes_detached = false;
        assert_eq!(of(&world, attached("node-2")), None, "it is attached yet");
    }
    let unclaimed = FormerVolume { boot_nonce: String::new(), ..stranded(0) };
    assert_eq!(Evidence::of_former(&replaced(), &unclaimed).unwrap().kind(), EvidenceKind::NeverClaimed);
}

/// What is attached is said of the process that is bound, of its own volume and node, and is held with what it leaves.
#[test]
fn the_write_that_binds_a_process_says_whether_its_volume_is_attached_to_its_node() {
    let bound = |seen: Vec<AttachmentView>| {
        let mut world = encoding();
        let slot = &mut world.slots[0];
        slot.record.spec.grant.as_mut().unwrap().boot_nonce.clear();
        slot.record.status.report = None;
        world.attachments.seen = seen;
        let decision = plan(&world);
        let grant = update(&decision, 0).unwrap().0.grant.clone().unwrap();
        assert!(!grant.boot_nonce.is_empty(), "it is bound");
        carry_out(&mut world, &decision);
        (grant.attached, world)
    };
    let claim = |slot| names::claim("orders", UID, slot, 1);
    let view = |slot, node: &str| AttachmentView { claim: claim(slot), attached: attached(node).unwrap() };
    assert_eq!(bound(vec![]).0, None);
    assert_eq!(bound(vec![view(0, "node-1"), view(1, "node-0")]).0, None, "its volume elsewhere, another one here");
    let (said, mut world) = bound(vec![view(0, "node-1"), view(0, "node-0")]);
    assert_eq!(said, attached("node-0"));

    // Silent for too long: what is held says what its owner had.
    world.attachments.seen.clear();
    world.slots[0].report_age = 20_000;
    world.slots[0].grant_age = 20_000;
    let decision = plan(&world);
    let (spec, ..) = update(&decision, 0).unwrap();
    assert_eq!(spec.former_volumes[0].attached, attached("node-0"));
    assert_eq!(spec.grant.as_ref().unwrap().attached, None, "the next owner has said nothing yet");
}

/// Who reads it has to do something else than he would elsewhere.
#[test]
fn a_held_volume_says_why_its_detach_would_prove_nothing_and_what_helps() {
    let told = |attached: Option<Attached>| {
        let mut world = replaced();
        world.slots[0].record.spec.former_volumes[0].attached = attached;
        let decision = plan(&world);
        let wait = decision.waits.iter().find(|wait| wait.reason == Reason::VolumesStranded).unwrap();
        let held = decision.status.condition(ConditionType::VolumesHeld).unwrap().message.clone();
        let event = decision.events.iter().find(|event| event.reason == Reason::VolumeReleaseBlocked).unwrap();
        [wait.ends_when.clone(), held, event.message.clone()]
    };
    for said in told(attached("node-2")) {
        assert!(said.contains("its Node object is removed and the volume detached"), "{said}");
        assert!(
            said.contains("puts the taint node.kubernetes.io/out-of-service") && !said.contains("neither"),
            "{said}"
        );
    }
    let other = attached("node-2").map(|seen| Attached { driver: "rbd.csi.ceph.com".to_owned(), ..seen });
    for said in told(other) {
        for part in
            ["its driver rbd.csi.ceph.com is not in the chart's evidence.detachingDrivers", "neither", "by hand"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("puts the taint"), "it does not help: {said}");
    }
    for said in told(None) {
        for part in ["nothing was seen to attach it", "neither", "removes the claim by hand"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

/// G9: a nonce is bound once; a new owner is a new epoch without one.
#[test]
fn g9_a_new_owner_begins_without_pod_or_nonce_and_each_is_bound_once() {
    let mut world = encoding();
    world.pods[0].state = terminated(137);
    let decision = plan(&world);
    let grant = update(&decision, 0).unwrap().0.grant.clone().unwrap();
    assert_eq!((grant.epoch, grant.pod_uid.as_str(), grant.boot_nonce.as_str()), (Epoch::new(4), "", ""));
    carry_out(&mut world, &decision);
    world.slots[0].grant_age = 100_000;
    world.pods.push(PodView {
        name: grant.pod_name.clone(),
        uid: "pod-new".to_owned(),
        slot: 0,
        epoch: Epoch::new(4),
        node: Some("node-1".to_owned()),
        deleting: false,
        disrupted: false,
        foreign: false,
        own_exit: None,
        as_asked: Some(true),
        suited: Vec::new(),
        state: PodState::Pending,
    });
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).unwrap().0.grant.as_ref().unwrap().pod_uid, "pod-new");
    carry_out(&mut world, &decision);
    assert!(
        update(&plan(&world), 0).is_none_or(|(spec, ..)| spec.grant.as_ref().unwrap().boot_nonce.is_empty()),
        "the former pod's claim is not this one's"
    );
    world.slots[0].record.status.claim =
        Some(Claim { pod_uid: "pod-new".to_owned(), boot_nonce: "nonce-new".to_owned(), boot_id: String::new() });
    assert_eq!(update(&plan(&world), 0).unwrap().0.grant.as_ref().unwrap().boot_nonce, "nonce-new");
}

/// G10.
#[test]
fn g10_a_pod_that_hangs_in_terminating_blocks_nobodys_name() {
    let mut world = encoding();
    world.pods[0].deleting = true;
    silent(&mut world, 0, 11_000);
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    world.slots[0].grant_age = 60_000;
    world.slots[0].report_age = 60_000;
    let claim = world.slots[0].record.spec.volume.clone().unwrap();
    assert!(
        plan(&world)
            .actions
            .iter()
            .any(|action| matches!(action, Action::CreateClaim { name, .. } if *name == claim.claim_name))
    );
    world.claims.push(ClaimView {
        name: claim.claim_name.clone(),
        uid: "claim-new".to_owned(),
        slot: 0,
        generation: claim.generation,
        phase: ClaimPhase::Pending,
        foreign: false,
        nodes: None,
        outdated: false,
    });
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    let made = plan(&world).actions.into_iter().find_map(|action| match action {
        Action::CreatePod { name, epoch, .. } => Some((name, epoch)),
        _ => None,
    });
    assert_eq!(made, Some((names::pod("orders", UID, 0, Epoch::new(4)), Epoch::new(4))));
}

/// G11, failure-modes.md #12, #13: an older epoch that still runs is asked to end once its replacement has caught up.
#[test]
fn g11_a_stale_owners_pod_is_stopped_once_its_replacement_has_caught_up_and_not_before() {
    let mut world = replaced();
    let stop = Action::StopPod { name: stranded(0).pod_name, uid: "pod-9".to_owned(), reason: StopReason::Superseded };
    assert!(plan(&world).actions.contains(&stop));
    report_mut(&mut world, 0).progress = Some(0.1);
    assert!(!plan(&world).actions.contains(&stop));
}
