//! A store that is away, or refuses, is nobody's fault: it is told, never counted, and waited for as long as it takes (I5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{ConditionStatus, ConditionType, Reason, ReportedWait, WorkErrorReason};
use indexbuild_lifecycle::world::{NodeView, World};
use indexbuild_lifecycle::{Decision, plan};
use scene::*;

const SAID: &str = "the output's store, since 2026-01-01T00:00:00Z: cannot read plan.json: 503 Service Unavailable";

fn waits(world: &mut World, slot: usize, reason: Reason, needs_help: bool) {
    report_mut(world, slot).waiting = Some(ReportedWait { reason, message: SAID.to_owned(), needs_help });
}

/// For how long the slot's owner has reported the same.
fn unchanged(world: &mut World, slot: usize, age: u64) {
    (world.slots[slot].report_age, world.slots[slot].progress_age) = (100, age);
}

fn says(decision: &Decision, condition: ConditionType) -> (ConditionStatus, Reason, String) {
    let found = decision.status.condition(condition).unwrap();
    (found.status, found.reason, found.message.clone())
}

/// Eight slots that encode, each on a node of its own.
fn eight() -> World {
    let mut world = world();
    world.stages.push(planned(8, 8));
    world.build.spec.parallelism = 8;
    for slot in 0..8 {
        add_slot(&mut world, slot, 3, &format!("encode-{slot}"));
        world.nodes.push(NodeView { name: format!("node-{slot}"), ..world.nodes[0].clone() });
    }
    world
}

#[test]
fn one_outage_of_the_store_is_not_eight_failures() {
    let mut world = eight();
    for slot in 0..8 {
        reports_error(&mut world, slot, WorkErrorReason::StoreUnavailable, true, vec![]);
    }
    for round in 0..20 {
        let decision = plan(&world);
        assert_eq!(says(&decision, ConditionType::Failed).0, ConditionStatus::False, "round {round}");
        for (slot, pod) in world.pods.iter_mut().enumerate().take(8) {
            if round == slot {
                pod.state = terminated(10);
            }
        }
        carry_out(&mut world, &decision);
    }
    assert!(world.slots.iter().all(|slot| slot.record.spec.failed_attempts == 0));
    assert_eq!(world.build.status.unwrap().failed_attempts, None);
}

/// The control: another retryable error, eight times, is more than a `backoffLimit` of 6 allows.
#[test]
fn eight_failures_of_another_kind_end_the_build_control() {
    let mut world = eight();
    world.build.spec.backoff_limit = Some(6);
    for slot in 0..8 {
        reports_error(&mut world, slot, WorkErrorReason::Internal, true, vec![]);
    }
    assert_eq!(says(&plan(&world), ConditionType::Failed).0, ConditionStatus::True);
}

#[test]
fn what_an_owner_waits_for_is_told_at_once_by_condition_record_and_event() {
    let mut world = settled(encoding());
    waits(&mut world, 1, Reason::WaitingForStore, false);
    unchanged(&mut world, 1, 200);
    let decision = plan(&world);
    let (_, _, ready) = says(&decision, ConditionType::Ready);
    assert!(ready.contains(SAID) && ready.contains("slot 1"), "{ready}");
    assert_eq!(says(&decision, ConditionType::Stalled).0, ConditionStatus::False, "it may pass by itself");
    let told: Vec<_> = decision.events.iter().filter(|event| event.reason == Reason::WaitingForStore).collect();
    assert!(told.len() == 1 && told[0].warning && told[0].message.contains(SAID), "{told:?}");
    carry_out(&mut world, &decision);
    let waiting = |world: &World| {
        let conditions = &world.slots[1].record.status.conditions;
        conditions.iter().find(|condition| condition.condition_type == ConditionType::Waiting).cloned()
    };
    assert!(waiting(&world).unwrap().message.contains(SAID), "the record's column");
    let decision = plan(&world);
    assert!(decision.events.is_empty(), "told once: {:?}", decision.events);
    assert!(decision.actions.is_empty(), "and written once (I8): {:?}", decision.actions);
    report_mut(&mut world, 1).waiting = None;
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    assert_eq!(waiting(&world).unwrap().status, ConditionStatus::False, "its end is said too");
}
