//! The time of a build, `activeDeadlineSeconds`, and the time of a deletion: when they end, what stops them, and what they
//! never tear.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{
    Chosen, Condition, ConditionStatus, ConditionType, DeletionPolicy, IndexBuildStatus, LastWait, Phase, Reason,
    ReportedWait,
};
use indexbuild_lifecycle::world::World;
use indexbuild_lifecycle::{Action, Decision, End, plan};
use scene::{add_slot, carry_out, choice, encoding, planned, report_mut, reports_result, settled, stage, world};

/// A build that works, and was given an hour.
fn an_hour() -> World {
    let mut world = encoding();
    world.build.spec.active_deadline_seconds = Some(3_600);
    world.build.status =
        Some(IndexBuildStatus { start_time: Some("2025-12-31T23:00:00Z".to_owned()), ..plan(&world).status });
    world
}

/// A build whose Publish was granted, and was given an hour.
fn publishing() -> World {
    let mut world = world();
    world.build.spec.parallelism = 1;
    world.build.spec.active_deadline_seconds = Some(3_600);
    world.stages =
        vec![planned(2, 2), stage("encode", &["encode-0", "encode-1"]), stage("sort", &["sort-0", "sort-1"])];
    add_slot(&mut world, 0, 3, "publish");
    world.build.status =
        Some(IndexBuildStatus { start_time: Some("2025-12-31T23:00:00Z".to_owned()), ..plan(&world).status });
    world
}

fn said(decision: &Decision) -> Condition {
    decision.status.condition(ConditionType::Failed).cloned().unwrap()
}

fn has_failed(world: &World) -> bool {
    said(&plan(world)).status == ConditionStatus::True
}

#[test]
fn a_build_fails_when_its_time_is_over_and_not_before_and_is_looked_at_in_that_moment_i5() {
    let mut world = an_hour();
    world.build.active_age = 3_599_999;
    let decision = plan(&world);
    assert_eq!(said(&decision).status, ConditionStatus::False);
    let wait = decision.waits.iter().find(|wait| wait.reason == Reason::DeadlineExceeded).expect("it is waited for");
    assert!(wait.acts && wait.until == world.now + 1 && decision.requeue == 1, "{wait:?} {}", decision.requeue);
    assert_eq!(decision.status.condition(ConditionType::Stalled).unwrap().status, ConditionStatus::False);
    world.build.active_age = 3_600_000;
    let decision = plan(&world);
    let failed = said(&decision);
    assert_eq!((failed.status, failed.reason), (ConditionStatus::True, Reason::DeadlineExceeded));
    for part in ["activeDeadlineSeconds (3600)", "since 2025-12-31T23:00:00Z", "Encoding at", "waited for nothing"] {
        assert!(failed.message.contains(part), "{part}: {}", failed.message);
    }
    assert!(decision.actions.is_empty(), "it is said first, and acted on by the next pass: {:?}", decision.actions);
    assert_eq!(decision.status.last_error, None, "no attempt is to blame");
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    assert_eq!(decision.status.phase, Some(Phase::Aborting));
    assert_eq!(said(&decision).message, failed.message, "it stays said");
    // Control: without a deadline it has any time.
    let mut any = an_hour();
    any.build.spec.active_deadline_seconds = None;
    any.build.active_age = u64::MAX;
    assert!(!has_failed(&any));
    assert!(plan(&any).waits.iter().all(|wait| wait.reason != Reason::DeadlineExceeded));
}

#[test]
fn it_may_be_made_longer_shorter_or_taken_away_while_the_build_runs_and_a_build_that_failed_by_it_stays_failed() {
    let mut world = an_hour();
    world.build.active_age = 1_800_000;
    assert!(!has_failed(&world));
    world.build.spec.active_deadline_seconds = Some(1_799);
    assert!(has_failed(&world));
    let failed = settled(world.clone());
    for changed in [Some(7_200), None] {
        world.build.spec.active_deadline_seconds = changed;
        assert!(!has_failed(&world), "{changed:?}");
        let mut failed = failed.clone();
        failed.build.spec.active_deadline_seconds = changed;
        assert!(has_failed(&failed), "{changed:?}");
    }
}

#[test]
fn a_pause_takes_the_start_away_and_who_goes_on_has_all_of_the_time_again() {
    let mut world = an_hour();
    world.build.active_age = 3_599_000;
    world.build.spec.suspend = true;
    let decision = plan(&world);
    assert_eq!(decision.status.start_time, None);
    carry_out(&mut world, &decision);
    // Whatever an observer still holds: nothing ends a pause.
    world.build.active_age = 9_000_000;
    assert!(!has_failed(&world));
    world.build.active_age = 0;
    world.build.spec.suspend = false;
    world.wall = "2026-01-01T05:00:00Z".to_owned();
    let decision = plan(&world);
    assert_eq!(decision.status.start_time.as_deref(), Some("2026-01-01T05:00:00Z"));
    assert_eq!(said(&decision).status, ConditionStatus::False);
    // Control: without a pause it stays as it is.
    let mut running = an_hour();
    running.wall = "2026-01-01T05:00:00Z".to_owned();
    assert_eq!(plan(&running).status.start_time.as_deref(), Some("2025-12-31T23:00:00Z"));
}

#[test]
fn what_was_waited_for_last_outlasts_the_wait_and_is_in_the_message() {
    let mut world = an_hour();
    let waiting = ReportedWait {
        reason: Reason::WaitingForStore,
        message: "s3://lake does not answer".to_owned(),
        needs_help: false,
    };
    report_mut(&mut world, 0).waiting = Some(waiting);
    world.wall = "2026-01-01T00:10:00Z".to_owned();
    world = settled(world);
    let LastWait { reason, message, since } = world.build.status.as_ref().unwrap().last_wait.clone().unwrap();
    assert_eq!((reason, since.as_str()), (Reason::WaitingForStore, "2026-01-01T00:10:00Z"));
    assert!(message.contains("s3://lake does not answer"), "{message}");
    // I8: it says the same for as long as the same is waited for.
    let before = world.build.status.clone();
    (world.wall, world.now) = ("2026-01-01T00:10:05Z".to_owned(), world.now + 5_000);
    assert_eq!(plan(&world).status.last_wait, before.unwrap().last_wait);
    // The store is back long before the time is over.
    report_mut(&mut world, 0).waiting = None;
    world = settled(world);
    world.build.active_age = 3_600_000;
    let failed = said(&plan(&world));
    assert!(
        failed.message.contains("since 2026-01-01T00:10:00Z: WaitingForStore") && failed.message.contains("s3://lake"),
        "{}",
        failed.message
    );
}

#[test]
fn a_commit_outlives_the_deadline_reported_chosen_or_frozen() {
    let mut reported = publishing();
    reported.build.active_age = 9_000_000;
    assert!(has_failed(&reported), "the control: nothing tells of a commit");
    reports_result(&mut reported, 0);
    assert!(!has_failed(&reported));
    let mut chosen = publishing();
    chosen.build.active_age = 9_000_000;
    chosen.slots[0].record.spec.chosen.push(choice("publish"));
    assert!(!has_failed(&chosen));
    let mut frozen = publishing();
    frozen.build.active_age = 9_000_000;
    frozen.stages.push(stage("publish", &["publish"]));
    let status = plan(&frozen).status;
    assert_eq!(status.condition(ConditionType::Complete).unwrap().status, ConditionStatus::True);
    assert!(!has_failed(&frozen));
    // Its result comes in after the failure was said: it committed before any tombstone.
    let mut late = publishing();
    late.build.active_age = 9_000_000;
    let decision = plan(&late);
    carry_out(&mut late, &decision);
    assert!(has_failed(&late));
    reports_result(&mut late, 0);
    let late = settled(late);
    assert!(!has_failed(&late) && late.stages.iter().any(|stage| stage.name == "publish"), "{:?}", late.stages);
}

/// What becomes of a build whose time was over while its Publish may have been granted, when its Clean found this.
fn cleaned(committed: bool) -> World {
    let mut world = publishing();
    world.build.active_age = 9_000_000;
    world = settled(world);
    assert!(has_failed(&world));
    let found = Chosen { committed, entries: 20, bytes: 30, ..choice("clean") };
    world.stages.push(indexbuild_lifecycle::Stage { name: "clean".to_owned(), chosen: vec![found] });
    world
}

/// G5: a Publish that was granted before the time was over commits until a tombstone stands; the Clean finds out which of
/// them came first, and the build ends as that.
#[test]
fn a_build_whose_clean_finds_the_index_committed_is_complete_and_one_whose_tombstone_stands_has_failed() {
    let mut world = publishing();
    world.build.active_age = 9_000_000;
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    let granted = |decision: &Decision| {
        decision.actions.iter().any(|action| {
            matches!(action, Action::UpdateDirectory { spec, .. } if spec.work.as_ref().is_some_and(|work| work.id == "clean"))
        })
    };
    assert!(granted(&plan(&world)), "it cleans: {:?}", plan(&world).actions);
    assert_eq!(plan(&world).status.phase, Some(Phase::Aborting));

    let status = plan(&cleaned(true)).status;
    let holds = |condition| status.condition(condition).unwrap().status == ConditionStatus::True;
    assert!(holds(ConditionType::Complete) && !holds(ConditionType::Failed) && holds(ConditionType::Finished));
    assert!(holds(ConditionType::Ready) && !holds(ConditionType::Stalled));
    let manifest = status.manifest.clone().expect("where the index is");
    assert!(manifest.url.ends_with("/manifest.json") && (manifest.entries, manifest.bytes) == (20, 30), "{manifest:?}");
    let mut ended = cleaned(true);
    for _ in 0..20 {
        let decision = plan(&ended);
        if let Some(end) = decision.end {
            assert_eq!(end, End::Complete);
        }
        carry_out(&mut ended, &decision);
    }
    // An index that is found so goes as any other with its build, where that is asked for.
    ended.build.deleting = true;
    ended.build.spec.output.deletion_policy = DeletionPolicy::Delete;
    let works = |decision: &Decision| {
        let granted = decision.actions.iter().find_map(|action| match action {
            Action::UpdateDirectory { spec, .. } | Action::CreateDirectory { spec, .. } => spec.work.clone(),
            _ => None,
        });
        granted.map(|work| (work.id, work.removes_index))
    };
    assert_eq!(works(&plan(&ended)), Some(("clean".to_owned(), true)), "{:?}", plan(&ended).actions);

    let status = plan(&cleaned(false)).status;
    let holds = |condition| status.condition(condition).unwrap().status == ConditionStatus::True;
    assert!(!holds(ConditionType::Complete) && holds(ConditionType::Failed));
    assert_eq!(status.condition(ConditionType::Failed).unwrap().reason, Reason::DeadlineExceeded);
}

/// A deletion that an observer learns of when all of its time is over, as the control plane was away: it was not looked
/// after yet.
#[test]
fn a_deletion_that_was_not_seen_has_its_chance_and_one_in_the_middle_keeps_its_time() {
    let given_up = |age, unseen| {
        let mut world = encoding();
        world.build.deleting = true;
        (world.build.deletion_age, world.build.deletion_unseen) = (age, unseen);
        let decision = plan(&world);
        let cleaned = indexbuild_lifecycle::Stage { name: "clean".to_owned(), chosen: Vec::new() }.frozen().unwrap();
        let empty = |action: &Action| matches!(action, Action::RecordStages { stages } if stages.contains(&cleaned));
        (decision.actions.iter().any(empty), decision.actions.contains(&Action::RemoveFinalizer))
    };
    // orphanAfter is 30 s, so that a chance is 7.5 s.
    assert_eq!(given_up(29_999, 0), (false, false));
    assert_eq!(given_up(30_000, 0), (true, false));
    assert_eq!(given_up(30_000, 20_000), (true, false), "a restart in the middle does not begin anew");
    assert_eq!(given_up(60_000, 40_000), (true, true));
    assert_eq!(given_up(3_600_000, 3_600_000), (false, false), "nobody has looked after it yet");
    assert_eq!(given_up(3_607_500, 3_600_000), (true, false), "its records have time to stand alone");
    assert_eq!(given_up(3_615_000, 3_600_000), (true, true));
}
