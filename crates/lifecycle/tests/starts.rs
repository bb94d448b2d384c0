//! A pod that never ran is waited for: another one would wait for the same, in which autoscalers and people see nothing but
//! new pods, and sealed work is thrown away with its volume. It is replaced where another one would not wait.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{ConditionStatus, ConditionType, OwnerChangeReason, Reason, names};
use indexbuild_lifecycle::world::{ClaimPhase, Hindrance, NodeReady, PodState, World};
use indexbuild_lifecycle::{Action, Decision, plan};
use scene::*;

const LONG: u64 = 86_400_000;

/// One slot with a bound volume, whose pod has waited for a day.
fn waiting(node: Option<&str>) -> World {
    let mut world = encoding();
    world.build.spec.parallelism = 1;
    world.slots.truncate(1);
    world.pods.truncate(1);
    world.claims.truncate(1);
    let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
    grant.boot_nonce.clear();
    if node.is_none() {
        grant.pod_uid.clear();
    }
    let status = &mut world.slots[0].record.status;
    (status.claim, status.report) = (None, None);
    world.slots[0].grant_age = LONG;
    (world.pods[0].node, world.pods[0].state) = (node.map(str::to_owned), PodState::Pending);
    for node in &mut world.nodes {
        node.readiness_age = LONG;
    }
    world
}

fn replaced(decision: &Decision) -> bool {
    changed(decision, 0) == Some(OwnerChangeReason::Replaced)
}

/// Whether the owner is replaced, and whether on the same volume.
fn replaced_on_its_volume(decision: &Decision) -> Option<bool> {
    let (spec, _, change) = update(decision, 0).filter(|(_, _, change)| change.is_some())?;
    assert_eq!((change, spec.failed_attempts), (Some(OwnerChangeReason::Replaced), 0));
    Some(spec.former_volumes.is_empty())
}

#[test]
fn a_pod_that_never_ran_keeps_its_pod_and_its_volume_however_long_it_waits() {
    for node in [None, Some("node-0")] {
        for phase in [ClaimPhase::Pending, ClaimPhase::Bound] {
            let mut world = waiting(node);
            world.claims[0].phase = phase;
            for _ in 0..5 {
                let decision = plan(&world);
                assert_eq!(changed(&decision, 0), None, "{node:?} {phase:?}: {:?}", decision.actions);
                let touches = |action: &Action| {
                    matches!(action, Action::StopPod { .. } | Action::CreatePod { .. } | Action::DeleteClaim { .. })
                };
                assert!(!decision.actions.iter().any(touches), "{:?}", decision.actions);
                carry_out(&mut world, &decision);
                world.slots[0].grant_age += LONG;
            }
        }
    }
    // Control: a pod that runs, on a node that was lost, is replaced.
    let mut world = waiting(Some("node-0"));
    (world.pods[0].state, world.nodes[0].ready) = (PodState::Running, NodeReady::Unknown);
    assert_eq!(replaced_on_its_volume(&plan(&world)), Some(false));
}

#[test]
fn what_keeps_it_is_told_as_a_stall_until_it_is_mended_and_not_while_others_work() {
    let stalled = |world: &World| plan(world).status.condition(ConditionType::Stalled).cloned().unwrap();
    let mut world = waiting(None);
    let said = stalled(&world);
    assert_eq!((said.status, said.reason), (ConditionStatus::True, Reason::WaitingForPod), "nobody says why: {said:?}");
    let words = "0/3 nodes are available: 3 Insufficient memory.";
    let pod = world.pods[0].name.clone();
    world.hindrances = vec![Hindrance::PodFitsNowhere { pod, said: Some(words.to_owned()) }];
    for age in [1_000, 11_000, 21_000, LONG] {
        world.slots[0].grant_age = age;
        let said = stalled(&world);
        assert!(said.status == ConditionStatus::True && said.message.contains(words), "after {age}: {said:?}");
        assert!(!said.message.contains("owners ended"), "none ever ran: {said:?}");
        carry_out(&mut world.clone(), &plan(&world));
    }
    let mut helped = encoding();
    let grant = helped.slots[0].record.spec.grant.as_mut().unwrap();
    grant.boot_nonce.clear();
    helped.slots[0].record.status.claim = None;
    (helped.pods[0].state, helped.slots[0].grant_age) = (PodState::Pending, LONG);
    assert_eq!(stalled(&helped).status, ConditionStatus::False, "the other slot works");
}

/// I8.
#[test]
fn the_same_wait_is_the_same_text_for_a_day() {
    let mut world = settled(waiting(None));
    let mut written = 0;
    for hour in 0..24_u64 {
        world.now += 3_600_000;
        world.wall = format!("2026-01-01T{hour:02}:00:00Z");
        world.slots[0].grant_age += 3_600_000;
        let decision = plan(&world);
        written += usize::from(update(&decision, 0).is_some());
        carry_out(&mut world, &decision);
    }
    assert_eq!(written, 0);
}

#[test]
fn a_pod_that_never_ran_is_replaced_at_once_on_its_volume_when_the_build_asks_for_another_one() {
    for node in [None, Some("node-0")] {
        for state in [PodState::Pending, PodState::Queued] {
            let mut world = waiting(node);
            world.pods[0].state = state;
            world.slots[0].grant_age = 500;
            world.pods[0].as_asked = Some(false);
            assert_eq!(replaced_on_its_volume(&plan(&world)), Some(true));
        }
    }
    // It was edited again and again: no pause grows.
    let mut world = waiting(None);
    for _ in 0..5 {
        world.slots[0].grant_age = 500;
        let epoch = world.slots[0].record.spec.grant.as_ref().unwrap().epoch;
        world.pods[0].name = names::pod("orders", UID, 0, epoch);
        world.pods[0].as_asked = Some(false);
        let decision = plan(&world);
        assert!(replaced(&decision));
        carry_out(&mut world, &decision);
        let made = |action: &Action| matches!(action, Action::CreatePod { slot: 0, .. });
        assert!(plan(&world).actions.iter().any(made), "at once: {:?}", plan(&world));
    }
    // Controls: one that runs is left as it is, and so is everything while most nodes look lost.
    let mut running = waiting(Some("node-0"));
    (running.pods[0].as_asked, running.pods[0].state) = (Some(false), PodState::Running);
    running.slots[0].grant_age = 500;
    assert_eq!(changed(&plan(&running), 0), None);
    let mut lost = waiting(None);
    lost.pods[0].as_asked = Some(false);
    for node in &mut lost.nodes {
        (node.ready, node.readiness_age) = (NodeReady::Unknown, 1_000);
    }
    assert_eq!(changed(&plan(&lost), 0), None);
}

/// A size that no volume has: the edit that mends it must reach a claim that nothing is bound to.
#[test]
fn a_claim_that_no_volume_is_bound_to_is_replaced_at_once_when_the_build_asks_for_another_size() {
    for (phase, replaced) in [(ClaimPhase::Pending, Some(false)), (ClaimPhase::Bound, None)] {
        let mut world = waiting(None);
        world.slots[0].grant_age = 500;
        (world.claims[0].phase, world.claims[0].outdated) = (phase, true);
        assert_eq!(replaced_on_its_volume(&plan(&world)), replaced, "{phase:?}: what is sealed stays");
    }
}

/// An older version's pods do not say what they were made from: an edit must reach them too.
#[test]
fn a_pod_that_does_not_say_what_it_was_made_from_is_replaced_on_its_volume_when_its_time_is_over() {
    let mut world = waiting(None);
    world.pods[0].as_asked = None;
    world.slots[0].grant_age = 9_000;
    assert_eq!(changed(&plan(&world), 0), None);
    world.slots[0].grant_age = 10_000;
    assert_eq!(replaced_on_its_volume(&plan(&world)), Some(true));
}

/// failure-modes.md #29.
#[test]
fn a_pod_that_its_own_volume_holds_gets_a_new_one_after_its_time_and_one_that_would_wait_anywhere_keeps_it() {
    let held = |change: fn(&mut World)| {
        let mut world = waiting(None);
        world.claims[0].nodes = Some(vec!["node-0".to_owned()]);
        change(&mut world);
        let early = {
            let mut early = world.clone();
            early.slots[0].grant_age = 9_000;
            replaced(&plan(&early))
        };
        assert!(!early, "it has its time");
        replaced_on_its_volume(&plan(&world))
    };
    assert_eq!(held(|world| world.nodes[0].cordoned = true), Some(false), "cordoned");
    assert_eq!(held(|world| world.nodes[0].ready = NodeReady::Unknown), Some(false), "lost");
    assert_eq!(held(|world| drop(world.nodes.remove(0))), Some(false), "gone");
    assert_eq!(held(|world| world.claims[0].nodes = Some(vec![])), Some(false), "no node that is left");
    assert_eq!(held(|world| world.pods[0].suited = vec!["node-2".to_owned()]), Some(false), "full: another has room");
    // Controls.
    assert_eq!(held(|_| {}), None, "it would suit no other node: a selector, a size");
    assert_eq!(held(|world| world.pods[0].suited = vec!["node-0".to_owned()]), None, "only where its volume is");
    assert_eq!(
        held(|world| {
            world.pods[0].suited = vec!["node-2".to_owned()];
            world.nodes[2].cordoned = true;
        }),
        None,
        "the other takes no pods"
    );
    assert_eq!(held(|world| world.claims[0].nodes = None), None, "its volume can be used anywhere");
    let unbound = |world: &mut World| {
        world.claims[0].phase = ClaimPhase::Pending;
        world.nodes[0].cordoned = true;
    };
    assert_eq!(held(unbound), None, "there is no volume that could hold it");
}

#[test]
fn a_pod_that_is_bound_to_a_node_is_replaced_only_once_that_node_was_lost_for_its_time() {
    let mut world = waiting(Some("node-0"));
    assert_eq!(changed(&plan(&world), 0), None, "an image that cannot be pulled, a mount that fails");
    world.nodes[0].ready = NodeReady::Unknown;
    world.nodes[0].readiness_age = 9_000;
    let decision = plan(&world);
    assert_eq!(changed(&decision, 0), None, "its node was lost a moment ago, whatever the pod waited for before");
    let wait = decision.waits.iter().find(|wait| wait.slot == Some(0)).unwrap();
    assert!(wait.acts && wait.until == world.now + 1_000, "{wait:?}");
    world.nodes[0].readiness_age = 10_000;
    assert_eq!(replaced_on_its_volume(&plan(&world)), Some(false));
    world.claims[0].phase = ClaimPhase::Pending;
    assert_eq!(replaced_on_its_volume(&plan(&world)), Some(true), "there is no volume that could stay there");
}

#[test]
fn pods_that_went_before_they_registered_are_not_told_as_owners_that_ended() {
    let mut world = waiting(None);
    world.pods.clear();
    world.slots[0].grant_age = 100;
    for epoch in [2, 3] {
        let change = owner_change(epoch, OwnerChangeReason::OwnerEnded);
        world.slots[0].record.status.history.push(change);
    }
    world.slots[0].record.spec.past.ends_in_a_row = 2;
    let wait = plan(&world).waits.into_iter().find(|wait| wait.reason == Reason::BackingOff).unwrap();
    assert!(wait.what.contains("its pods ended") && !wait.what.contains("owners"), "{}", wait.what);
}
