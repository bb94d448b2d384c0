//! An engineer on call reads the conditions of a build and of its slots, and nothing else: in every wait they name the
//! object, until when it is waited for, and what ends it (I5). And the same wait is said once (I8).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{
    Condition, ConditionStatus, ConditionType, Epoch, IndexBuildStatus, Reason, VolumeState, WorkErrorReason, names,
};
use indexbuild_lifecycle::plan::transition_events;
use indexbuild_lifecycle::world::{NodeReady, PodState, PodView, World};
use indexbuild_lifecycle::{Action, plan};
use scene::*;

/// What the slot's record says that it waits for.
fn of_slot(world: &World, slot: u32) -> String {
    let decision = plan(world);
    let written = decision.actions.iter().find_map(|action| match action {
        Action::UpdateDirectory { slot: at, conditions, .. } if *at == slot => Some(conditions.clone()),
        _ => None,
    });
    let record = world.slots.iter().find(|view| view.record.spec.slot == slot).unwrap();
    let conditions = written.unwrap_or_else(|| record.record.status.conditions.clone());
    let waiting = |condition: &&Condition| condition.condition_type == ConditionType::Waiting;
    let found = conditions.iter().find(waiting).filter(|found| found.status == ConditionStatus::True);
    found.map(|found| found.message.clone()).unwrap_or_default()
}

fn of_build(world: &World) -> String {
    plan(world).status.condition(ConditionType::Ready).unwrap().message.clone()
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

#[test]
fn a_silent_owner_is_named_with_its_node_the_time_of_its_replacement_and_the_way_out() {
    let mut world = settled(encoding());
    silent(&mut world, 1, 4_000);
    world.nodes[1].ready = NodeReady::Unknown;
    let pod = names::pod("orders", UID, 1, Epoch::new(3));
    let parts = [
        pod.as_str(),
        "node-1, which is silent too",
        ", until 2026-01-01T00:00:06Z at the latest: ends when",
        "heard from",
        "another one takes its place on a new volume",
    ];
    holds(&of_slot(&world, 1), &parts);
    holds(&of_build(&world), &parts);
    assert_eq!(of_slot(&world, 0), "", "its neighbour waits for nothing");
}

#[test]
fn the_same_wait_is_written_once_however_often_it_is_looked_at() {
    let mut world = settled(encoding());
    silent(&mut world, 1, 4_000);
    world = settled(world);
    let said = of_slot(&world, 1);
    for second in 1..6_u64 {
        world.now += 1_000;
        world.wall = format!("2026-01-01T00:00:{second:02}.{second}Z");
        silent(&mut world, 1, 4_000 + second * 1_000);
        let decision = plan(&world);
        let writes = decision.actions.iter().filter(|action| matches!(action, Action::UpdateDirectory { slot: 1, .. }));
        assert_eq!(writes.count(), 0, "after {second} s");
        assert_eq!(of_slot(&world, 1), said);
        assert_eq!(of_build(&world), said);
    }
    silent(&mut world, 1, 0);
    let decision = plan(&world);
    let ended = decision.actions.iter().any(|action| matches!(action, Action::UpdateDirectory { slot: 1, conditions, .. } if conditions[0].status == ConditionStatus::False));
    assert!(ended, "its end is said too");
}

#[test]
fn a_pod_that_does_not_begin_is_named_once_it_has_had_time_to() {
    let mut world = settled(encoding());
    let grant = world.slots[1].record.spec.grant.as_mut().unwrap();
    grant.pod_uid.clear();
    grant.boot_nonce.clear();
    world.slots[1].record.status.claim = None;
    world.pods[1].state = PodState::Pending;
    world.pods[1].node = None;
    world.slots[1].grant_age = 500;
    assert_eq!(of_slot(&world, 1), "", "it was made a moment ago");
    world.slots[1].grant_age = 4_000;
    let pod = names::pod("orders", UID, 1, Epoch::new(3));
    let said = of_slot(&world, 1);
    holds(&said, &[&pod, "is on no node yet", "kubectl describe pod", "spec.executor"]);
    assert!(!said.contains("at the latest"), "nothing else is done then: {said}");
    world.claims[1].nodes = Some(vec!["node-1".to_owned()]);
    world.nodes[1].cordoned = true;
    holds(&of_slot(&world, 1), &[&pod, "on a new volume", "until 2026-01-01T00:00:06Z"]);
    world.pods.remove(1);
    let unborn = of_slot(&world, 1);
    holds(&unborn, &[&pod, "is not made yet", "the API server takes it"]);
    assert!(!unborn.contains("at the latest"), "nothing else is done then: {unborn}");
}

#[test]
fn a_held_volume_is_told_with_pod_uid_node_and_who_could_prove_what() {
    let mut world = settled(encoding());
    world.claims.push(indexbuild_lifecycle::world::ClaimView {
        name: names::claim("orders", UID, 1, 9),
        uid: "claim-9".to_owned(),
        slot: 1,
        generation: 9,
        phase: indexbuild_lifecycle::world::ClaimPhase::Bound,
        foreign: false,
        nodes: None,
        outdated: false,
    });
    let former = stranded(1);
    assert_eq!(former.state, VolumeState::Stranded);
    let (name, uid) = (former.pod_name.clone(), "pod-9".to_owned());
    let node = Some("node-2".to_owned());
    world.pods.push(PodView { name, uid, node, epoch: Epoch::new(2), ..world.pods[1].clone() });
    world.slots[1].record.spec.former_volumes.push(former);
    let parts = ["-v9", "(UID pod-9) on node-2", "kubelet", "out-of-service", "the build does not wait for it"];
    holds(&of_slot(&world, 1), &parts);
    let decision = plan(&world);
    let held = decision.status.condition(ConditionType::VolumesHeld).unwrap();
    assert_eq!((held.status, held.reason), (ConditionStatus::True, Reason::VolumesStranded));
    holds(&held.message, &parts);
    let event = decision.events.iter().find(|event| event.reason == Reason::VolumeReleaseBlocked).unwrap();
    assert!(event.warning);
    holds(&event.message, &parts);
    assert!(of_build(&world).starts_with("Encoding"), "it holds up nothing: {}", of_build(&world));
}

#[test]
fn the_nodes_that_look_lost_are_named() {
    let mut world = settled(encoding());
    for node in &mut world.nodes[..2] {
        node.ready = NodeReady::Unknown;
    }
    let told = of_build(&world);
    holds(&told, &["2 of 3 nodes look lost (node-0, node-1)", "nothing is destroyed", "ready again"]);
    assert!(!told.contains("at the latest"), "there is no deadline: {told}");
}

#[test]
fn a_pause_and_a_build_left_alone_say_how_it_goes_on() {
    let mut world = settled(encoding());
    world.build.reconcile_disabled = true;
    holds(&of_build(&world), &["indexbuild.dev/reconcile", "removed"]);
    world.build.reconcile_disabled = false;
    world.build.spec.suspend = true;
    let stopping = of_build(&world);
    holds(&stopping, &["pod orders-", "is asked to end on node node-", "at the latest"]);
    world.slots.clear();
    world.pods.clear();
    holds(&of_build(&world), &["volumes stay", "spec.suspend is false"]);
}

#[test]
fn a_retry_says_of_which_work_and_when() {
    let mut world = settled(encoding());
    for _ in 0..3 {
        reports_error(&mut world, 1, WorkErrorReason::StoreUnavailable, true, vec![]);
        world.pods[1].state = terminated(10);
        world = settled(world);
    }
    world.pods.truncate(1);
    let told = of_slot(&world, 1);
    holds(&told, &["slot 1", "encode-1", "until", "at the latest"]);
}

#[test]
fn the_transitions_of_a_build_are_told_once_each() {
    let status = |name, status| IndexBuildStatus {
        conditions: vec![Condition {
            condition_type: name,
            status,
            reason: Reason::DuplicateKey,
            message: "what".to_owned(),
            last_transition_time: None,
            observed_generation: None,
        }],
        ..IndexBuildStatus::default()
    };
    let failed = status(ConditionType::Failed, ConditionStatus::True);
    let events = transition_events(None, &failed);
    assert_eq!((events.len(), events[0].reason, events[0].warning), (1, Reason::DuplicateKey, true));
    assert!(transition_events(Some(&failed), &failed).is_empty());
    let complete = status(ConditionType::Complete, ConditionStatus::True);
    assert!(!transition_events(None, &complete)[0].warning);
    assert!(transition_events(None, &status(ConditionType::Stalled, ConditionStatus::False)).is_empty());
}
