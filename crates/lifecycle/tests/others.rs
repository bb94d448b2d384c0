//! What others say, do and make: words of a later version, which prove nothing; ends that a node under pressure causes, which are
//! nobody's fault; pods of somebody else under our names, which are not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::Epoch;
use indexbuild_api::*;
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;
use serde::de::DeserializeOwned;

/// A word of any closed set that this version does not know.
fn later<T: DeserializeOwned>() -> T {
    serde_json::from_value(serde_json::json!("LaterVersion")).unwrap()
}

fn failed_attempts(decision: &Decision, slot: u32) -> u32 {
    update(decision, slot).map_or(0, |(spec, _, _)| spec.failed_attempts)
}

// ---- words of a later version ----

/// I4: `Idle` is what a record proves; a word that may mean anything proves nothing, and is left as it is.
#[test]
fn a_volume_in_a_state_that_is_not_known_is_neither_taken_nor_removed_nor_given_another_state() {
    let deletes = |world: &World| plan(world).actions.iter().any(|action| matches!(action, Action::DeleteClaim { .. }));
    for ended in [false, true] {
        let mut world = replaced();
        if ended {
            world.pods.iter_mut().filter(|pod| pod.uid == "pod-9").for_each(|pod| pod.state = terminated(0));
        }
        world.slots[0].record.spec.former_volumes[0].state = later();
        let mut control = world.clone();
        control.slots[0].record.spec.former_volumes[0].state = VolumeState::Idle;
        control.pods.iter_mut().filter(|pod| pod.uid == "pod-9").for_each(|pod| pod.state = terminated(0));
        for _ in 0..4 {
            assert!(!deletes(&world), "ended: {ended}");
            let decision = plan(&world);
            assert_ne!(changed(&decision, 0), Some(OwnerChangeReason::Returned));
            carry_out(&mut world, &decision);
            let former = &world.slots[0].record.spec.former_volumes[0];
            assert_eq!((former.state, former.condemned), (later(), false), "ended: {ended}");
        }
        assert_eq!(Evidence::of_former(&world, &world.slots[0].record.spec.former_volumes[0]), None);
        assert_eq!(plan(&world).status.volumes.unwrap().stranded, 1, "it is held, and told");
        // The control: what the record proves is condemned, and then goes.
        let decision = plan(&control);
        carry_out(&mut control, &decision);
        assert!(control.slots[0].record.spec.former_volumes[0].condemned);
        control.pods.retain(|pod| pod.uid != "pod-9");
        assert!(deletes(&control));
    }
}

#[test]
fn who_does_not_know_what_was_asked_for_a_volume_keeps_it() {
    let kept = |volumes: Retention| {
        let mut world = replaced();
        world.build = BuildView::gone(UID.to_owned(), "orders".to_owned(), "shop".to_owned());
        world.stages.clear();
        world.slots.truncate(1);
        let record = &mut world.slots[0].record;
        record.status.state = DirectoryState::Tombstone;
        record.spec.after_build.as_mut().unwrap().volumes = volumes;
        record.spec.former_volumes[0].state = VolumeState::Idle;
        world.pods.clear();
        let actions = plan(&world).actions;
        let keeps = actions.iter().any(|action| matches!(action, Action::KeepClaim { .. }));
        let condemns = update(&plan(&world), 0)
            .is_some_and(|(spec, ..)| spec.former_volumes.iter().any(|volume| volume.condemned));
        assert_ne!(keeps, condemns, "{actions:?}");
        keeps
    };
    assert!(kept(later()) && kept(Retention::Retain) && !kept(Retention::Delete));
}

/// What people are told of a slot decides nothing, known or not.
#[test]
fn words_that_tell_people_of_a_slot_decide_nothing() {
    let known = encoding();
    let mut told = known.clone();
    for view in &mut told.slots {
        let status = &mut view.record.status;
        status.history.push(owner_change(3, later()));
        let condition = serde_json::json!({"type": "LaterVersion", "status": "LaterVersion", "reason": "LaterVersion"});
        status.conditions.push(serde_json::from_value(condition).unwrap());
    }
    let specs = |world: &World| [0, 1].map(|slot| update(&plan(world), slot).map(|(spec, ..)| spec.clone()));
    let unchanged = |specs: [Option<EngineDirectorySpec>; 2]| {
        specs.into_iter().zip(&known.slots).all(|(spec, view)| spec.is_none_or(|spec| spec == view.record.spec))
    };
    assert!(unchanged(specs(&known)) && unchanged(specs(&told)));
    told.slots[0].record.status.state = later();
    assert!(unchanged(specs(&told)));
}

/// Whether another attempt may succeed it says itself; the word alone says less than any that is known.
#[test]
fn an_attempt_that_failed_for_a_reason_that_is_not_known_has_failed_as_for_any_other() {
    for retryable in [true, false] {
        let failed = |reason: WorkErrorReason| {
            let mut world = encoding();
            reports_error(&mut world, 0, reason, retryable, vec![1, 2]);
            world.pods[0].state = terminated(10);
            let decision = plan(&world);
            let ended = decision.status.condition(ConditionType::Failed).unwrap().clone();
            (changed(&decision, 0), failed_attempts(&decision, 0), ended.status)
        };
        assert_eq!(failed(later()), failed(WorkErrorReason::Internal), "retryable: {retryable}");
    }
}

/// A later operator's word about a build stays beside what this one says, and a reason of its own is never made of it.
#[test]
fn a_condition_of_a_type_that_is_not_known_stays_and_nothing_is_written_for_it_again_and_again() {
    let mut world = settled(encoding());
    let other = serde_json::json!({"type": "LaterVersion", "status": "True", "reason": "LaterVersion", "message": "m"});
    let other: Condition = serde_json::from_value(other).unwrap();
    let status = world.build.status.as_mut().unwrap();
    status.conditions.push(other.clone());
    status.phase = Some(later());
    let decision = plan(&world);
    assert!(decision.status.conditions.contains(&other));
    assert_eq!(decision.status.phase, Some(Phase::Encoding));
    carry_out(&mut world, &decision);
    assert_eq!(plan(&world).status, decision.status, "I8");
    // Left alone, the phase stays: it is no reason.
    world.build.reconcile_disabled = true;
    world.build.status.as_mut().unwrap().phase = Some(later());
    let left = plan(&world).status;
    assert_eq!(left.phase, Some(later()));
    let word = |condition: &&Condition| {
        condition.reason == later::<Reason>() && condition.condition_type != other.condition_type
    };
    assert_eq!(left.conditions.iter().find(word), None);
}

// ---- a node under pressure ----

#[test]
fn who_ends_in_peace_on_a_node_under_pressure_has_not_failed_and_on_one_that_is_well_has() {
    for (pressed, counted) in [(true, 0), (false, 1)] {
        let mut world = encoding();
        world.pods[0].state = terminated(0);
        world.nodes[0].pressed = pressed;
        let decision = plan(&world);
        assert_eq!(failed_attempts(&decision, 0), counted, "pressed: {pressed}");
        let reason = if pressed { OwnerChangeReason::Rebound } else { OwnerChangeReason::AttemptFailed };
        assert_eq!(changed(&decision, 0), Some(reason));
        // Another node's pressure explains nothing.
        (world.nodes[0].pressed, world.nodes[1].pressed) = (false, pressed);
        assert_eq!(failed_attempts(&plan(&world), 0), 1);
    }
}

/// A pressed node is no excuse for whoever is killed for its own memory: the kubelet marks those that it ends for the node's.
#[test]
fn who_is_killed_on_a_node_under_pressure_has_failed_unless_its_kubelet_says_that_it_did_that() {
    for (disrupted, counted) in [(true, 0), (false, 1)] {
        let mut world = encoding();
        world.pods[0].state = terminated(137);
        world.pods[0].disrupted = disrupted;
        world.nodes[0].pressed = true;
        assert_eq!(failed_attempts(&plan(&world), 0), counted, "disrupted: {disrupted}");
    }
}

/// Its pod never began, or began and was not taken back by a kubelet that began anew.
#[test]
fn a_pod_that_its_kubelet_does_not_admit_is_followed_by_another_and_counted_on_nobody() {
    for bound in [false, true] {
        let mut world = encoding();
        world.pods[0].disrupted = true;
        world.pods[0].state = PodState::Terminated(Termination {
            exit_code: 0,
            finished_at: String::new(),
            kubelet_written: false,
            container_id_present: false,
            restart_never: true,
        });
        if !bound {
            let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
            (grant.pod_uid, grant.boot_nonce) = (String::new(), String::new());
            (grant.node_name, grant.boot_id, grant.system_uuid) = Default::default();
        }
        let decision = plan(&world);
        assert_eq!(failed_attempts(&decision, 0), 0, "bound: {bound}");
        // G8: of one that had begun, that word proves no end.
        let follows = (!bound).then_some(OwnerChangeReason::OwnerEnded);
        assert_eq!(changed(&decision, 0), follows, "bound: {bound}");
    }
}

// ---- pods of somebody else ----

/// The grant of slot 0 has no pod yet, and somebody else's has its name.
fn taken(labelled_as_ours: bool) -> World {
    let mut world = encoding();
    let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
    (grant.pod_uid, grant.boot_nonce) = (String::new(), String::new());
    (grant.node_name, grant.boot_id, grant.system_uuid) = Default::default();
    world.slots[0].record.status = EngineDirectoryStatus::default();
    let stranger = &mut world.pods[0];
    stranger.foreign = true;
    if labelled_as_ours {
        // As high as a label goes.
        stranger.epoch = Epoch::new(u64::MAX);
    }
    world
}

/// G10.
#[test]
fn somebody_elses_pod_at_the_name_of_ours_is_neither_adopted_nor_removed_and_the_next_epoch_has_another_name() {
    for labelled_as_ours in [false, true] {
        let mut world = taken(labelled_as_ours);
        let name = world.pods[0].name.clone();
        let mut adopted = world.clone();
        adopted.pods[0].foreign = false;
        let decision = plan(&adopted);
        assert_eq!(
            update(&decision, 0).unwrap().0.grant.as_ref().unwrap().pod_uid,
            "pod-0",
            "the control: it is bound"
        );

        let decision = plan(&world);
        let told = decision.events.iter().find(|event| event.reason == Reason::ForeignObject).unwrap();
        assert!(told.message.contains(&name) && told.message.contains("slot 0"), "{}", told.message);
        let grant = update(&decision, 0).unwrap().0.grant.clone().unwrap();
        assert_eq!((grant.epoch, grant.pod_uid.as_str()), (Epoch::new(4), ""));
        assert_ne!(grant.pod_name, name);
        assert_eq!(failed_attempts(&decision, 0), 0);
        let before = world.slots[0].record.spec.volume.clone();
        carry_out(&mut world, &decision);
        assert_eq!(world.slots[0].record.spec.volume, before, "its volume is as it was");
        for _ in 0..4 {
            let decision = plan(&world);
            let touched =
                decision.actions.iter().any(|action| matches!(action, Action::StopPod { uid, .. } if uid == "pod-0"));
            assert!(!touched, "{:?}", decision.actions);
            carry_out(&mut world, &decision);
        }
        let made = plan(&world)
            .actions
            .iter()
            .any(|action| matches!(action, Action::CreatePod { slot: 0, name, .. } if *name == grant.pod_name));
        assert!(made, "the slot's own pod is made under the other name");
    }
}

/// Nor is it waited for, or removed, when the build ends.
#[test]
fn somebody_elses_pod_holds_up_no_deletion() {
    let mut world = taken(true);
    world.build.deleting = true;
    world.stages.push(stage("clean", &["clean"]));
    for _ in 0..8 {
        world.slots.iter_mut().for_each(|view| view.grant_age += 2_000);
        let decision = plan(&world);
        for action in &decision.actions {
            match action {
                Action::StopPod { uid, .. } => {
                    assert_ne!(uid, "pod-0", "it is not ours");
                    world.pods.retain(|pod| pod.uid != *uid);
                }
                Action::DeleteClaim { name, .. } => world.claims.retain(|claim| claim.name != *name),
                Action::DeleteDirectory { slot, .. } => world.slots.retain(|view| view.record.spec.slot != *slot),
                _ => {}
            }
        }
        carry_out(&mut world, &decision);
    }
    assert!(world.slots.iter().all(|view| view.record.spec.slot != 0), "{:?}", world.slots);
}
