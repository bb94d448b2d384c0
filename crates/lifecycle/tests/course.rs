//! A build's course: stages, budget, pauses, deletion, status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::Epoch;
use indexbuild_api::*;
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;

/// I8, G11 aside: who works undisturbed is left alone.
#[test]
fn with_nothing_to_do_nothing_is_written() {
    let mut world = settled(encoding());
    let decision = plan(&world);
    assert_eq!(decision.actions, vec![]);
    world.wall = "2026-01-01T05:00:00Z".to_owned();
    world.now += 5_000;
    assert_eq!(plan(&world).status, decision.status);
}

#[test]
fn retryable_failures_are_counted_once_each_and_back_off_exponentially() {
    let mut world = encoding();
    world.build.spec.backoff_limit_per_work = 3;
    let mut delays = Vec::new();
    for failures in 1..=3 {
        reports_error(&mut world, 0, WorkErrorReason::Internal, true, vec![]);
        assert_eq!(changed(&plan(&world), 0), None, "its process has not ended yet");
        world.pods[0].state = terminated(10);
        let decision = plan(&world);
        carry_out(&mut world, &decision);
        let told = decision.events;
        world.build.status = Some(decision.status);
        assert_eq!(world.slots[0].record.spec.failed_attempts, failures);
        let counted = format!("encode-0: what and where; slot 0 tries again (its failed attempts at it: {failures}; ");
        assert!(told.iter().any(|event| event.reason == Reason::WorkFailed && event.message.starts_with(&counted)));
        let decision = plan(&world);
        assert_eq!(decision.status.failed_attempts, Some(failures));
        let wait = decision.waits.iter().find(|wait| wait.reason == Reason::BackingOff).unwrap();
        assert!(wait.what.ends_with("at encode-0 (what and where)"), "why it waits: {}", wait.what);
        delays.push(wait.until - world.now);
        // The next process of the slot.
        let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
        (grant.pod_uid, grant.boot_nonce) = (format!("pod-x{failures}"), "nonce-x".to_owned());
        world.pods[0] = PodView {
            name: grant.pod_name.clone(),
            uid: grant.pod_uid.clone(),
            slot: 0,
            epoch: grant.epoch,
            node: Some("node-0".to_owned()),
            deleting: false,
            disrupted: false,
            foreign: false,
            own_exit: None,
            as_asked: Some(true),
            suited: Vec::new(),
            state: PodState::Running,
        };
        world.slots[0].record.status.report =
            Some(Report { epoch: grant.epoch, boot_nonce: "nonce-x".to_owned(), ..Report::default() });
    }
    assert_eq!(delays, vec![2_000, 4_000, 5_000]);
    reports_error(&mut world, 0, WorkErrorReason::Internal, true, vec![]);
    let decision = plan(&world);
    let failed = decision.status.condition(ConditionType::Failed).unwrap();
    assert_eq!((failed.status, failed.reason), (ConditionStatus::True, Reason::BackoffLimitExceeded));
    assert_eq!(decision.actions, vec![], "it is said before it is acted on");
}

#[test]
fn a_permanent_error_fails_the_build_at_once_and_its_evidence_is_kept() {
    let mut world = encoding();
    reports_error(&mut world, 1, WorkErrorReason::DuplicateKey, false, vec![]);
    let decision = plan(&world);
    assert_eq!(decision.actions, vec![]);
    carry_out(&mut world, &decision);
    world.slots[1].record.status.report = None;
    let status = plan(&world).status;
    let failed = status.condition(ConditionType::Failed).unwrap();
    assert_eq!((failed.status, failed.reason), (ConditionStatus::True, Reason::DuplicateKey));
    assert!(failed.message.contains("what and where"));
    assert_eq!(status.last_error.as_ref().unwrap().work_id, "encode-1");
    assert_eq!(status.phase, Some(Phase::Aborting));
    assert_eq!(status.condition(ConditionType::Finished).unwrap().status, ConditionStatus::True);
}

#[test]
fn progress_not_liveness_tells_a_stall_and_it_ends_at_its_deadline() {
    let mut world = settled(encoding());
    world.slots[0].progress_age = 10_000;
    let decision = plan(&world);
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert_eq!((stalled.status, stalled.reason), (ConditionStatus::True, Reason::NoProgress));
    report_mut(&mut world, 0).waiting = Some(ReportedWait {
        reason: Reason::WaitingForSpace,
        message: "12 MiB are missing".to_owned(),
        needs_help: false,
    });
    let decision = plan(&world);
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert!(stalled.reason == Reason::WaitingForSpace && stalled.message.contains("12 MiB"));
    // Who waits for room goes on by itself; who says nothing of what it waits for is ended.
    report_mut(&mut world, 0).waiting = None;
    world.slots[0].progress_age = 30_000;
    let decision = plan(&world);
    assert!(decision.actions.contains(&Action::StopPod {
        name: world.pods[0].name.clone(),
        uid: "pod-0".to_owned(),
        reason: StopReason::NoProgress
    }));
    world.pods[0].deleting = true;
    world.pods[0].state = terminated(0);
    let decision = plan(&world);
    assert_eq!(
        (changed(&decision, 0), update(&decision, 0).unwrap().0.failed_attempts),
        (Some(OwnerChangeReason::NoProgress), 1)
    );
}

#[test]
fn a_new_owner_is_not_blamed_for_what_the_former_one_did_not_do() {
    let mut world = settled(encoding());
    (world.slots[0].progress_age, world.slots[0].grant_age) = (u64::MAX, 500);
    assert_eq!(plan(&world).actions, vec![]);
}

#[test]
fn sorts_go_only_to_the_volume_that_alone_holds_their_runs_while_it_is_there() {
    let mut world = encoding();
    let on_volume = |id: &str| Chosen { on_volume: true, ..choice(id) };
    world.stages.push(Stage { name: "encode".to_owned(), chosen: vec![on_volume("encode-0"), on_volume("encode-1")] });
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).unwrap().0.work.as_ref().unwrap().id, "sort-0");
    assert_eq!(changed(&decision, 1), None, "slot 1 would have to encode again what slot 0 has");
    // Another volume in slot 0: the runs are gone, and any slot may say so.
    world.slots[0].record.spec.volume.as_mut().unwrap().generation = 3;
    let decision = plan(&world);
    assert_eq!(update(&decision, 1).unwrap().0.work.as_ref().unwrap().id, "sort-1");
}

#[test]
fn an_empty_table_passes_its_empty_stages() {
    let mut world = world();
    world.stages.push(planned(0, 0));
    let decision = plan(&world);
    assert_eq!(records_stages(&decision), ["encode"], "{:?}", decision.actions);
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    assert!(decision.actions.contains(&Action::FreezeStage { stage: stage("encode", &[]) }), "{:?}", decision.actions);
    carry_out(&mut world, &decision);
    // Of Sort the same.
    for _ in 0..2 {
        let decision = plan(&world);
        carry_out(&mut world, &decision);
    }
    assert!(plan(&world).actions.iter().any(|action| matches!(action, Action::CreateDirectory { slot: 0, spec } if spec.work.as_ref().unwrap().id == "publish")));
}

/// I9: the time for a deletion is bounded.
#[test]
fn a_deletion_is_let_go_when_its_time_is_over_and_says_what_is_left() {
    let mut world = encoding();
    world.build.deleting = true;
    world.build.deletion_age = 59_999;
    assert!(!plan(&world).actions.contains(&Action::RemoveFinalizer));
    world.build.deletion_age = 60_000;
    let decision = plan(&world);
    assert!(decision.actions.contains(&Action::RemoveFinalizer));
    assert_eq!(decision.end, Some(End::Aborted));
    let event = decision
        .events
        .iter()
        .find(|event| event.reason == Reason::CleanupTimedOut && event.message.contains("s3://indexes/shop/orders/"))
        .unwrap();
    assert!(event.warning);
}

#[test]
fn a_build_that_is_to_be_left_alone_is_left_alone() {
    let mut world = encoding();
    world.build.reconcile_disabled = true;
    silent(&mut world, 0, 100_000);
    let decision = plan(&world);
    assert_eq!(decision.actions, vec![]);
    assert_eq!(decision.status.condition(ConditionType::Reconciling).unwrap().reason, Reason::ReconcileDisabled);
}

#[test]
fn a_record_of_another_build_of_that_name_is_not_touched() {
    let mut world = encoding();
    world.slots[0].record.spec.build_uid = "another".to_owned();
    silent(&mut world, 0, 100_000);
    let decision = plan(&world);
    assert!(update(&decision, 0).is_none());
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::CreateDirectory { slot: 0, .. })));
}

/// I10: what may change never enters the digest of a work's inputs.
#[test]
fn the_inputs_digest_looks_at_nothing_that_may_change() {
    let digest = |change: fn(&mut World)| {
        let mut world = encoding();
        world.stages[0] = planned(3, 2);
        reports_result(&mut world, 0);
        change(&mut world);
        update(&plan(&world), 0).unwrap().0.work.as_ref().unwrap().inputs_digest.clone()
    };
    let plain = digest(|_| ());
    assert_eq!(plain, digest(|world| world.build.spec.parallelism = 7));
    assert_eq!(plain, digest(|world| world.build.spec.backoff_limit = Some(7)));
    assert_eq!(plain, digest(|world| world.build.spec.rows_per_second = Some(7)));
    assert_ne!(plain, digest(|world| world.build.spec.output.url = "s3://elsewhere".to_owned()));
    assert_ne!(plain, digest(|world| world.stages[0].chosen[0].digest = "another".to_owned()));
}

#[test]
fn the_estimate_is_kept_while_it_is_about_right() {
    let mut world = encoding();
    world.build.percent_per_second = Some(0.1);
    let first = plan(&world).status;
    let end = first.estimated_end_time.clone().unwrap();
    world.build.status = Some(first);
    world.build.percent_per_second = Some(0.101);
    world.wall = "2026-01-01T00:00:05Z".to_owned();
    assert_eq!(plan(&world).status.estimated_end_time, Some(end.clone()));
    world.build.percent_per_second = Some(0.01);
    assert_ne!(plan(&world).status.estimated_end_time, Some(end));
}

#[test]
fn a_transition_time_changes_only_when_the_status_does() {
    let mut world = encoding();
    let first = plan(&world).status;
    world.build.status = Some(first.clone());
    world.wall = "2026-01-02T00:00:00Z".to_owned();
    silent(&mut world, 0, 50_000);
    silent(&mut world, 1, 50_000);
    let second = plan(&world).status;
    for condition in &second.conditions {
        let before = first.condition(condition.condition_type).unwrap();
        assert_eq!(
            before.status == condition.status,
            before.last_transition_time == condition.last_transition_time,
            "{condition:?}"
        );
    }
}

/// G5: which Clean is meant stands in the work: whoever does it knows nothing of the deletion.
#[test]
fn the_index_of_a_deleted_build_goes_where_its_policy_says_so() {
    for (policy, goes) in [(DeletionPolicy::Delete, true), (DeletionPolicy::Retain, false)] {
        let mut world = world();
        world.stages = vec![
            planned(1, 1),
            stage("encode", &["encode-0"]),
            stage("sort", &["sort-0"]),
            stage("publish", &["publish"]),
            stage("clean", &["clean"]),
        ];
        world.build.spec.output.deletion_policy = policy;
        world.build.deleting = true;
        let cleans = plan(&world).actions.into_iter().find_map(|action| match action {
            Action::CreateDirectory { spec, .. } => spec.work,
            _ => None,
        });
        assert_eq!(cleans.map(|work| (work.id, work.removes_index)), goes.then(|| ("clean".to_owned(), true)));
    }
}

/// A build that never started (a selector that fits no node, an image that is not there) is deleted at once: a Clean
/// would need a pod that does not start either, and there is nothing in the store to clean.
#[test]
fn i9_a_build_whose_pods_never_started_goes_without_a_clean() {
    let never_started = || {
        let mut world = world();
        add_slot(&mut world, 0, 1, "plan");
        let record = &mut world.slots[0].record;
        let grant = record.spec.grant.as_mut().unwrap();
        *grant = Grant { epoch: grant.epoch, pod_name: grant.pod_name.clone(), ..Grant::default() };
        record.spec.past.first_epoch = Epoch::new(1);
        (record.status.claim, record.status.report) = (None, None);
        world.claims.iter_mut().for_each(|claim| claim.phase = ClaimPhase::Pending);
        world.pods.iter_mut().for_each(|pod| {
            pod.node = None;
            pod.state = PodState::Pending;
        });
        world.build.deleting = true;
        world
    };
    let cleans = |mut world: World| {
        let mut actions = Vec::new();
        for _ in 0..6 {
            let decision = plan(&world);
            carry_out(&mut world, &decision);
            actions.extend(decision.actions);
        }
        let clean = |action: &Action| matches!(action, Action::UpdateDirectory { spec, .. } if spec.work.as_ref().is_some_and(|work| work.kind == WorkKind::Clean));
        let stops = |action: &Action| matches!(action, Action::StopPod { reason: StopReason::BuildEnded, .. });
        (actions.iter().any(clean), actions.iter().any(stops))
    };
    let world = never_started();
    assert_eq!((world.slots.len(), world.pods.len()), (1, 1), "its first pod was made");
    assert_eq!(cleans(world), (false, true));
    // The control: a process that has claimed may be bound by another operator's write that is not seen yet.
    let mut claimed = never_started();
    claimed.slots[0].record.status.claim =
        Some(Claim { pod_uid: claimed.pods[0].uid.clone(), boot_nonce: "nonce".to_owned(), boot_id: String::new() });
    assert!(cleans(claimed).0);
    // Nor of a record that was made anew, or that an older version made, is it known.
    for first_epoch in [0, 2] {
        let mut made_anew = never_started();
        made_anew.slots[0].record.spec.past.first_epoch = Epoch::new(first_epoch);
        assert!(cleans(made_anew).0, "{first_epoch}");
    }
}
