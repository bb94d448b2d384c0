//! What the world did not change is neither said nor done again, whoever looks: an operator that starts beside builds that
//! have ended finds all as its predecessor left it, and counts nobody's patience anew (I8).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{
    Condition, ConditionStatus, ConditionType, IndexBuildStatus, Phase, Reason, WorkErrorReason, names,
};
use indexbuild_lifecycle::world::{ClaimPhase, Enforcement, NodeReady, World};
use indexbuild_lifecycle::{Action, Decision, plan};
use scene::*;

fn ages(world: &mut World, age: u64) {
    for view in &mut world.slots {
        (view.report_age, view.progress_age, view.grant_age) = (age, age, age);
    }
}

/// A build whose executors have ended, but for the former owner of a volume of slot 0.
fn ending(phase: Phase, former: fn(&mut World)) -> World {
    let mut world = replaced();
    world.pods[0].state = terminated(0);
    world.pods[1].state = terminated(0);
    match phase {
        Phase::Complete => world.stages.extend([
            stage("encode", &["encode-0", "encode-1"]),
            stage("sort", &["sort-0", "sort-1"]),
            stage("publish", &["publish"]),
        ]),
        Phase::Failed => {
            let failed = Condition {
                condition_type: ConditionType::Failed,
                status: ConditionStatus::True,
                reason: Reason::DuplicateKey,
                message: "two rows have one key".to_owned(),
                last_transition_time: None,
                observed_generation: None,
            };
            world.build.status = Some(IndexBuildStatus { conditions: vec![failed], ..IndexBuildStatus::default() });
        }
        other => panic!("no end: {other:?}"),
    }
    world.stages.push(stage("clean", &["clean"]));
    former(&mut world);
    world
}

/// As an operator leaves it that has looked on for long.
fn ended(phase: Phase, former: fn(&mut World)) -> World {
    let mut world = ending(phase, former);
    for _ in 0..40 {
        ages(&mut world, 100_000);
        let decision = plan(&world);
        let done = decision.actions.is_empty() && world.build.status.as_ref() == Some(&decision.status);
        carry_out_all(&mut world, &decision);
        if done {
            assert_eq!(decision.status.phase, Some(phase), "{:?}", decision.status);
            return world;
        }
    }
    panic!("it does not come to rest: {:?}", plan(&world));
}

/// What a case is called, and what it changes.
type Case = (&'static str, fn(&mut World));

const FORMERS: [Case; 5] = [
    ("its node is silent", |world| world.nodes[2].ready = NodeReady::Unknown),
    ("its pod is not there", |world| world.pods.retain(|pod| pod.uid != "pod-9")),
    ("its pod hangs on a node that answers", |_| {}),
    ("its claim is being deleted", |world| {
        world
            .claims
            .iter_mut()
            .filter(|claim| claim.uid == "claim-9")
            .for_each(|claim| claim.phase = ClaimPhase::Terminating);
        world.nodes[2].ready = NodeReady::Unknown;
    }),
    ("its claim is lost", |world| {
        world.claims.iter_mut().filter(|claim| claim.uid == "claim-9").for_each(|claim| claim.phase = ClaimPhase::Lost);
        world.nodes[2].ready = NodeReady::Unknown;
    }),
];

#[test]
fn a_fresh_observer_of_a_build_that_has_ended_says_and_does_nothing_i8() {
    for phase in [Phase::Complete, Phase::Failed] {
        for (name, former) in FORMERS {
            let mut world = ended(phase, former);
            assert!(!world.slots.is_empty(), "{name}: a record holds the volume");
            // What another process has not tried yet says nothing about what its predecessor found out.
            world.enforcement = Some(Enforcement::Untried { why: "not tried".to_owned() });
            for second in 0..40_u64 {
                ages(&mut world, second * 1_000);
                world.now += 1_000;
                world.wall = format!("2026-01-02T00:00:{second:02}Z");
                let decision = plan(&world);
                let what = format!("{phase:?}, {name}, after {second} s");
                assert_eq!(decision.actions, vec![], "{what}");
                assert_eq!(decision.events, vec![], "{what}");
                assert_eq!(Some(&decision.status), world.build.status.as_ref(), "{what}");
            }
        }
    }
}

/// The control: a build that was never said to have ended waits for its former owners as long as it should.
#[test]
fn a_fresh_observer_of_a_build_that_is_cleaning_has_all_patience_before_it() {
    let mut world = ending(Phase::Complete, |world| world.nodes[2].ready = NodeReady::Unknown);
    for _ in 0..10 {
        ages(&mut world, 1_000);
        let decision = plan(&world);
        assert_eq!(decision.status.phase, Some(Phase::Cleaning));
        carry_out_all(&mut world, &decision);
    }
    // Each write of a record is followed by another look.
    for _ in 0..5 {
        ages(&mut world, 100_000);
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
    }
    assert_eq!(plan(&world).status.phase, Some(Phase::Complete));
}

/// The control: what the world does change is acted on at once, by a fresh observer too.
#[test]
fn a_proof_that_comes_after_a_build_has_ended_frees_its_volume() {
    let mut world = ended(Phase::Complete, |world| world.nodes[2].ready = NodeReady::Unknown);
    ages(&mut world, 0);
    world.pods.iter_mut().filter(|pod| pod.uid == "pod-9").for_each(|pod| pod.state = terminated(0));
    let mut deleted = Vec::new();
    for _ in 0..10 {
        let decision = plan(&world);
        deleted.extend(decision.actions.iter().filter_map(|action| match action {
            Action::DeleteClaim { name, .. } => Some(name.clone()),
            _ => None,
        }));
        carry_out_all(&mut world, &decision);
    }
    assert_eq!(deleted, [names::claim("orders", UID, 0, 9)]);
    assert_eq!(world.build.status.unwrap().phase, Some(Phase::Complete));
}

#[test]
fn that_a_volume_is_held_is_an_event_once_whoever_looks_and_of_another_volume_another_one() {
    let told = |decision: &Decision| {
        let events = decision.events.iter().filter(|event| event.reason == Reason::VolumeReleaseBlocked);
        events.map(|event| event.message.clone()).collect::<Vec<_>>()
    };
    let mut world = replaced();
    world.nodes[2].ready = NodeReady::Unknown;
    let first = plan(&world);
    assert_eq!(told(&first).len(), 1, "{:?}", first.events);
    carry_out(&mut world, &first);
    for age in [0, 5_000, 100_000] {
        ages(&mut world, age);
        assert_eq!(told(&plan(&world)), Vec::<String>::new(), "it was told");
    }
    // Another volume, whose name begins as the first one's does.
    let (mut former, mut claim) = (stranded(0), world.claims[2].clone());
    former.claim_name = names::claim("orders", UID, 0, 99);
    former.claim_uid = "claim-99".to_owned();
    former.generation = 99;
    (claim.name, claim.uid, claim.generation) = (former.claim_name.clone(), former.claim_uid.clone(), 99);
    world.claims.push(claim);
    world.slots[0].record.spec.former_volumes.push(former.clone());
    let second = told(&plan(&world));
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(second[0].contains(&format!("{} is held", former.claim_name)), "{second:?}");
}

#[test]
fn what_a_predecessor_found_out_about_ownership_stands_until_it_is_tried_again() {
    let mut world = encoding();
    let said = |world: &World| plan(world).status.condition(ConditionType::OwnershipEnforced).map(|said| said.status);
    let untried = || Some(Enforcement::Untried { why: "not tried".to_owned() });
    world.enforcement = untried();
    assert_eq!(said(&world), Some(ConditionStatus::Unknown), "nobody has ever tried");
    world.enforcement = Some(Enforcement::Enforced);
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    world.enforcement = untried();
    assert_eq!(said(&world), Some(ConditionStatus::True));
    world.enforcement = Some(Enforcement::Unknown { why: "refused by something else".to_owned() });
    assert_eq!(said(&world), Some(ConditionStatus::Unknown), "the control: it was tried, and is not known any more");
}

/// Fewer executors than slots look like a fault where nobody says that there is nothing to give them.
#[test]
fn that_no_work_is_left_to_hand_out_is_said_where_fewer_slots_work_than_are_asked_for() {
    let ready = |world: &World| plan(world).status.condition(ConditionType::Ready).unwrap().message.clone();
    let mut world = settled(encoding());
    assert!(!ready(&world).contains("slots have work"), "all have: {}", ready(&world));
    world.build.spec.parallelism = 6;
    let said = ready(&world);
    assert!(said.ends_with("; 2 of 6 slots have work, as no work of the stage encode is left to hand out"), "{said}");
    assert_eq!(plan(&world).status.executors.as_deref(), Some("2/6"));
    let world = settled(world);
    assert_eq!(plan(&world).status, world.build.status.clone().unwrap(), "and written once");
    // The control: there is more to do than slots, and the missing ones are on their way.
    let mut more = world;
    more.stages[0] = planned(9, 2);
    assert!(!ready(&more).contains("left to hand out"), "{}", ready(&more));
}

/// A failure is final: what a message says that would mend it makes this build go on no more.
#[test]
fn whatever_a_build_has_failed_of_what_still_helps_is_said_behind_it() {
    use WorkErrorReason as E;
    for reason in [
        E::SourceChanged,
        E::SourceUnreadable,
        E::InvalidData,
        E::MissingColumn,
        E::UnsupportedType,
        E::DuplicateKey,
        E::DuplicateRowId,
        E::NullRowId,
        E::KeyTooLong,
        E::DamagedInput,
        E::NoSpace,
        E::Volume,
        E::EngineLocked,
        E::OutputConflict,
        E::Tombstoned,
        E::Verification,
        E::StoreUnavailable,
        E::Internal,
    ] {
        let mut world = encoding();
        reports_error(&mut world, 0, reason, false, vec![]);
        let long = "the bucket does not exist; create it ".repeat(200);
        report_mut(&mut world, 0).error.as_mut().unwrap().message = long.clone();
        let status = plan(&world).status;
        for condition_type in [ConditionType::Failed, ConditionType::Ready, ConditionType::Stalled] {
            let said = &status.condition(condition_type).unwrap().message;
            let tail = said.rsplit('…').next().unwrap();
            assert!(tail.contains("has failed for good") && tail.contains("anew"), "{reason:?}: {said}");
            assert!(said.starts_with("encode-0: the bucket does not exist"), "{said}");
        }
    }
    // Budgets: of one work, and of time.
    let mut world = encoding();
    world.build.spec.backoff_limit_per_work = 0;
    reports_error(&mut world, 0, WorkErrorReason::Internal, true, vec![]);
    let said = plan(&world).status.condition(ConditionType::Failed).unwrap().clone();
    assert!(
        said.reason == Reason::BackoffLimitExceeded && said.message.contains("no other attempt is made"),
        "{said:?}"
    );
    let mut world = encoding();
    world.build.spec.active_deadline_seconds = Some(1);
    world.build.active_age = 2_000;
    let said = plan(&world).status.condition(ConditionType::Failed).unwrap().clone();
    assert!(
        said.reason == Reason::DeadlineExceeded && said.message.contains("a longer activeDeadlineSeconds"),
        "{said:?}"
    );
}
