//! What hinders a build outside of it, and whether the API server refuses reports of others: said in its conditions, and
//! no more than said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{Condition, ConditionStatus, ConditionType, Reason};
use indexbuild_lifecycle::plan;
use indexbuild_lifecycle::world::{Enforcement, Hindrance, PodState, World};
use scene::*;

fn said(world: &World, condition_type: ConditionType) -> Condition {
    plan(world).status.condition(condition_type).unwrap().clone()
}

fn refused(message: &str) -> Hindrance {
    Hindrance::ActionFailed { slot: Some(0), message: message.to_owned() }
}

/// Two slots whose pods are not on a node yet.
fn starting() -> World {
    let mut world = encoding();
    for (slot, pod) in world.slots.iter_mut().zip(&mut world.pods) {
        slot.record.spec.grant.as_mut().unwrap().boot_nonce = String::new();
        (slot.record.status.claim, slot.record.status.report) = (None, None);
        slot.grant_age = 1_000;
        (pod.node, pod.state) = (None, PodState::Pending);
    }
    world
}

#[test]
fn a_hindrance_stalls_a_build_that_nobody_works_for_and_keeps_the_time_since_when_it_is_there() {
    let mut world = world();
    world.hindrances = vec![refused("pods is forbidden: User cannot create")];
    let stalled = said(&world, ConditionType::Stalled);
    assert_eq!((stalled.status, stalled.reason), (ConditionStatus::True, Reason::MissingPermission));
    assert!(stalled.message.contains("the operator's role allows that"), "{}", stalled.message);
    assert_eq!(said(&world, ConditionType::Ready).message, stalled.message);
    assert_eq!(said(&world, ConditionType::Progressing).status, ConditionStatus::False);
    world.build.status = Some(plan(&world).status);
    world.wall = "2026-01-01T01:00:00Z".to_owned();
    assert_eq!(said(&world, ConditionType::Stalled).last_transition_time, stalled.last_transition_time);
}

#[test]
fn a_hindrance_of_a_build_that_somebody_works_for_is_said_and_stalls_nothing() {
    let mut world = encoding();
    let before = plan(&world);
    world.hindrances = vec![refused("pods \"x\" is forbidden: exceeded quota: q")];
    assert!(said(&world, ConditionType::Ready).message.contains("exceeded quota"));
    assert_eq!(said(&world, ConditionType::Stalled).status, ConditionStatus::False);
    assert_eq!(said(&world, ConditionType::Progressing).status, ConditionStatus::True);
    let after = plan(&world);
    assert_eq!((after.actions, after.waits, after.events), (before.actions, before.waits, before.events));
}

#[test]
fn a_pod_that_is_hindered_is_told_with_what_is_waited_for_meanwhile() {
    let mut world = starting();
    let pod = world.pods[1].name.clone();
    world.hindrances = vec![Hindrance::PodFitsNowhere { pod: pod.clone(), said: None }];
    let told = said(&world, ConditionType::Ready).message;
    let begins = format!("pod {pod} fits on no node; it starts as soon as one has room for it; ");
    let wait = plan(&world).waits.into_iter().find(|wait| wait.slot == Some(1)).unwrap();
    assert_eq!(wait.reason, Reason::WaitingForPod);
    assert!(told.starts_with(&begins) && told[begins.len()..].starts_with(&wait.what), "{told}");
}

#[test]
fn nothing_hinders_a_build_that_is_published() {
    let mut world = encoding();
    world.stages.extend([stage("encode", &["encode-0"]), stage("sort", &["sort-0"]), stage("publish", &["publish"])]);
    world.hindrances = vec![refused("pods is forbidden")];
    let ready = said(&world, ConditionType::Ready);
    assert_eq!((ready.status, ready.reason), (ConditionStatus::True, Reason::Published));
    assert_eq!(said(&world, ConditionType::Stalled).status, ConditionStatus::False);
}

#[test]
fn whether_reports_of_others_are_refused_is_said_and_people_are_told_where_they_are_not() {
    let mut world = encoding();
    assert_eq!(plan(&world).status.condition(ConditionType::OwnershipEnforced), None);
    let no = Enforcement::NotEnforced { message: "no policy".to_owned() };
    let unknown = Enforcement::Unknown { why: "no record".to_owned() };
    for (enforcement, status, events) in [
        (Enforcement::Enforced, ConditionStatus::True, 0),
        (no, ConditionStatus::False, 1),
        (unknown, ConditionStatus::Unknown, 0),
    ] {
        world.enforcement = Some(enforcement);
        assert_eq!(said(&world, ConditionType::OwnershipEnforced).status, status);
        let told = plan(&world).events.into_iter().filter(|event| event.reason == Reason::NotEnforced);
        assert_eq!(told.count(), events, "{status:?}");
    }
}
