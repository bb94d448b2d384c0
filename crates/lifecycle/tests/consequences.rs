//! Each failure has its fair consequence: what is nobody's fault is not counted, what is counted is counted once, and
//! what cannot succeed comes to an end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{
    Claim, Condition, ConditionStatus, ConditionType, DirectoryState, Epoch, FormerVolume, Grant, IndexBuildStatus,
    OwnerChangeReason, Reason, Report, ReportedWait, WorkErrorReason, WorkFailures,
};
use indexbuild_lifecycle::world::{ClaimPhase, ClaimView, NodeReady, NodeView, PodState, PodView, World};
use indexbuild_lifecycle::{Action, Evidence, EvidenceKind, StopReason, plan};
use scene::{
    carry_out_all, changed, encoding, replaced, report_mut, reports_error, silent, stage, stranded, terminated, update,
};

fn failed_attempts(world: &World, slot: usize) -> u32 {
    world.slots[slot].record.spec.failed_attempts
}

fn one_slot() -> World {
    let mut world = encoding();
    world.build.spec.parallelism = 1;
    world.slots.truncate(1);
    world.pods.truncate(1);
    world.claims.truncate(1);
    world
}

#[test]
fn who_waits_for_room_on_a_full_disk_or_store_is_left_alone_however_long_it_takes() {
    for (reason, left_alone) in
        [(Reason::WaitingForSpace, true), (Reason::WaitingForStore, true), (Reason::WaitingForPod, false)]
    {
        let mut world = encoding();
        report_mut(&mut world, 0).waiting =
            Some(ReportedWait { reason, message: "5 GiB are lacking".to_owned(), needs_help: true });
        world.slots[0].report_age = 100;
        world.slots[0].progress_age = 31_000;
        let decision = plan(&world);
        let stopped = decision.actions.iter().any(|action| matches!(action, Action::StopPod { .. }));
        assert_eq!(!stopped, left_alone, "{reason:?}: {:?}", decision.actions);
        if left_alone {
            let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
            assert_eq!(stalled.status, ConditionStatus::True, "somebody must make room: {stalled:?}");
            assert!(stalled.message.contains("5 GiB are lacking"), "{stalled:?}");
        }
    }
}

#[test]
fn a_failure_is_counted_once_though_the_record_can_hold_no_more_volumes() {
    for formers in [63, 64] {
        let mut world = encoding();
        world.slots[0].record.spec.former_volumes = (0..formers)
            .map(|index| FormerVolume {
                claim_name: format!("c{index}"),
                claim_uid: format!("u{index}"),
                epoch: Epoch::new(1),
                ..stranded(0)
            })
            .collect();
        for index in 0..formers {
            world.claims.push(ClaimView {
                name: format!("c{index}"),
                uid: format!("u{index}"),
                slot: 0,
                generation: 10 + index,
                phase: ClaimPhase::Bound,
                foreign: false,
                nodes: None,
                outdated: false,
            });
        }
        reports_error(&mut world, 0, WorkErrorReason::Internal, true, vec![]);
        silent(&mut world, 0, 11_000);
        let decision = plan(&world);
        if formers == 64 {
            let waits: Vec<_> = decision.waits.iter().filter(|wait| wait.stalls).map(|wait| &wait.what).collect();
            assert!(waits.iter().any(|what| what.contains("64 volumes")), "it is told: {waits:?}");
        }
        for _ in 0..3 {
            let decision = plan(&world);
            carry_out_all(&mut world, &decision);
        }
        assert_eq!(failed_attempts(&world, 0), u32::from(formers == 63), "{formers} former volumes");
    }
}

#[test]
fn failures_of_a_slot_that_went_stay_counted_and_later_ones_are_added() {
    let mut world = encoding();
    world.slots[0].record.spec.failed_attempts = 2;
    world.slots[1].record.spec.failed_attempts = 3;
    let decision = plan(&world);
    carry_out_all(&mut world, &decision);
    assert_eq!(world.build.status.as_ref().unwrap().failed_attempts, Some(5));
    // The second slot goes: nobody needs it, its pod has ended and its volume is gone.
    world.build.spec.parallelism = 1;
    for round in 0..8 {
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
        world.slots.iter_mut().for_each(|view| view.grant_age += 2_000);
        if round == 1 {
            world.pods[1].deleting = true;
            world.pods[1].state = terminated(0);
        }
    }
    assert!(world.claims.iter().all(|claim| claim.slot == 0), "its volume is gone: {:?}", world.claims);
    world.pods.retain(|pod| pod.slot == 0);
    for _ in 0..4 {
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
    }
    world.slots[0].record.spec.failed_attempts = 4; // two more failures
    assert_eq!(plan(&world).status.failed_attempts, Some(7));
    // Control: a slot that never failed leaves no record.
    world.slots.iter_mut().filter(|view| view.record.spec.slot == 1).for_each(|view| {
        view.record.spec.failed_attempts = 0;
    });
    let decision = plan(&world);
    assert!(decision.actions.iter().any(|action| matches!(action, Action::DeleteDirectory { slot: 1, .. })));
}

#[test]
fn who_is_evicted_or_preempted_has_not_failed_and_who_is_killed_for_memory_has() {
    for (disrupted, counted) in [(true, 0), (false, 1)] {
        let mut world = encoding();
        world.pods[0].state = terminated(137);
        world.pods[0].disrupted = disrupted;
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
        assert_eq!(failed_attempts(&world, 0), counted, "disrupted: {disrupted}");
        let reason = if disrupted { OwnerChangeReason::Rebound } else { OwnerChangeReason::AttemptFailed };
        assert_eq!(changed(&decision, 0), Some(reason));
    }
}

/// The owner of slot 0 reports a failure and ends; another one is granted the same work.
fn fails_once(world: &mut World) {
    reports_error(world, 0, WorkErrorReason::Internal, true, vec![]);
    world.pods[0].state = terminated(10);
    let decision = plan(world);
    carry_out_all(world, &decision);
    let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
    (grant.pod_uid, grant.boot_nonce) = ("pod-0".to_owned(), "nonce-0".to_owned());
    let (epoch, name) = (grant.epoch, grant.pod_name.clone());
    let report = Report { epoch, boot_nonce: "nonce-0".to_owned(), ..Report::default() };
    world.slots[0].record.status.report = Some(report);
    (world.pods[0].name, world.pods[0].epoch, world.pods[0].state) = (name, epoch, PodState::Running);
}

#[test]
fn the_first_work_that_fails_too_often_fails_the_build_and_many_works_that_fail_once_do_not() {
    let failed = |world: &World| plan(world).status.condition(ConditionType::Failed).cloned().unwrap();
    let mut world = encoding();
    world.build.spec.backoff_limit_per_work = 2;
    for _ in 0..2 {
        fails_once(&mut world);
        assert_eq!(failed(&world).status, ConditionStatus::False);
    }
    assert_eq!(
        world.slots[0].record.spec.work_failures,
        [WorkFailures { work_id: "encode-0".to_owned(), failed_attempts: 2 }]
    );
    let mut third = world.clone();
    reports_error(&mut third, 0, WorkErrorReason::Internal, true, vec![]);
    let said = failed(&third);
    assert_eq!((said.status, said.reason), (ConditionStatus::True, Reason::BackoffLimitExceeded));
    assert!(
        said.message.contains("encode-0 failed 3 times") && said.message.contains("backoffLimitPerWork (2)"),
        "{said:?}"
    );

    // Another work of the same slot, and the same work at another slot.
    let mut another = world.clone();
    another.slots[0].record.spec.work.as_mut().unwrap().id = "encode-7".to_owned();
    reports_error(&mut another, 0, WorkErrorReason::Internal, true, vec![]);
    assert_eq!(failed(&another).status, ConditionStatus::False, "it failed once");
    let mut moved = world.clone();
    moved.slots[1].record.spec.work.as_mut().unwrap().id = "encode-0".to_owned();
    reports_error(&mut moved, 1, WorkErrorReason::Internal, true, vec![]);
    assert_eq!(failed(&moved).status, ConditionStatus::True, "whoever has it: it failed three times");

    // All works together, where a limit is set.
    for (limit, status) in
        [(None, ConditionStatus::False), (Some(2), ConditionStatus::True), (Some(3), ConditionStatus::False)]
    {
        another.build.spec.backoff_limit = limit;
        assert_eq!(failed(&another).status, status, "backoffLimit: {limit:?}");
    }

    // Of a work that is done nothing is counted any more.
    world.stages.push(stage("encode", &["encode-0", "encode-1"]));
    fails_once(&mut world);
    for _ in 0..3 {
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
    }
    let left = &world.slots[0].record.spec.work_failures;
    assert!(left.iter().all(|work| work.work_id != "encode-0"), "{left:?}");
}

#[test]
fn what_ran_before_a_reboot_has_not_failed_though_the_kubelet_that_comes_back_reports_an_exit_code() {
    for (boot_id, counted) in [("boot-2", 0), ("boot-1", 1)] {
        let mut world = encoding();
        world.nodes[0].boot_id = boot_id.to_owned();
        world.pods[0].state = terminated(255);
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
        assert_eq!(failed_attempts(&world, 0), counted, "{boot_id}");
    }
}

/// I4: a node reboots between the binding of a pod to it and the start of its container.
#[test]
fn a_pod_that_starts_after_its_node_rebooted_is_not_proved_gone() {
    let mut world = encoding();
    let record = &mut world.slots[0].record;
    let grant = record.spec.grant.as_mut().unwrap();
    *grant = Grant { epoch: grant.epoch, pod_name: grant.pod_name.clone(), ..Grant::default() };
    (record.status.claim, record.status.report) = (None, None);
    world.pods[0].state = PodState::Pending;
    let decision = plan(&world);
    carry_out_all(&mut world, &decision);
    assert_eq!(world.slots[0].record.spec.grant.as_ref().unwrap().pod_uid, "pod-0");

    world.nodes[0].boot_id = "boot-2".to_owned();
    world.pods[0].state = PodState::Running;
    let claim = Claim { pod_uid: "pod-0".to_owned(), boot_nonce: "x".to_owned(), boot_id: "boot-2".to_owned() };
    world.slots[0].record.status.claim = Some(claim);
    let decision = plan(&world);
    carry_out_all(&mut world, &decision);
    let proof = |world: &World| Evidence::of_current(world, &world.slots[0].record).map(|evidence| evidence.kind());
    assert_eq!(world.slots[0].record.spec.grant.as_ref().unwrap().boot_nonce, "x");
    assert_eq!(proof(&world), None, "it runs");
    assert_eq!(changed(&plan(&world), 0), None, "its volume goes to another pod while it runs");
    // The control: the next boot is after its word.
    world.nodes[0].boot_id = "boot-3".to_owned();
    assert_eq!(proof(&world), Some(EvidenceKind::NodeRebooted));
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Rebound));
}

/// I8: a pause that waits for an owner which is cut off says the same for as long as that lasts.
#[test]
fn a_pause_that_waits_for_proof_writes_nothing_once_patience_is_over_i8() {
    let mut world = encoding();
    world.build.spec.suspend = true;
    world.nodes[0].ready = NodeReady::Unknown;
    let mut written = Vec::new();
    for round in 0..30_u64 {
        silent(&mut world, 0, 9_000 + round * 2_000);
        world.now += 2_000;
        world.wall = format!("2026-01-01T00:{:02}:{:02}Z", round * 2 / 60, round * 2 % 60);
        let decision = plan(&world);
        written.push(update(&decision, 0).is_some());
        carry_out_all(&mut world, &decision);
    }
    assert!(written.iter().skip(10).all(|written| !written), "{written:?}");
}

#[test]
fn the_end_of_our_container_ends_the_owner_and_its_volume_moves_when_the_pod_has_ended_g8() {
    for (code, counted) in [(1, 1), (11, 0)] {
        let mut world = encoding();
        world.pods[0].own_exit = Some(code);
        let decision = plan(&world);
        let stop = decision.actions.iter().any(
            |action| matches!(action, Action::StopPod { uid, reason: StopReason::OwnerEnded, .. } if uid == "pod-0"),
        );
        assert!(stop, "at once, not after replaceAfter: {:?}", decision.actions);
        assert_eq!(changed(&decision, 0), None, "the container beside it has the volume mounted");
        carry_out_all(&mut world, &decision);
        assert_eq!(changed(&plan(&world), 0), None);
        world.pods[0].state = terminated(code);
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
        assert!(changed(&decision, 0).is_some());
        assert_eq!(failed_attempts(&world, 0), counted, "exit code {code}, though the pod was asked to end");
    }
}

/// A slot that cleans, whose pod ends again and again: how often cleaning is given up within twelve pods.
fn times_given_up(mut world: World, exit_code: i32, drained: bool) -> usize {
    let mut given_up = 0;
    for round in 0..24 {
        let decision = plan(&world);
        let without_choice = stage("clean", &[]).frozen().unwrap();
        let empty =
            |action: &&Action| matches!(action, Action::RecordStages { stages } if stages.contains(&without_choice));
        given_up += decision.actions.iter().filter(empty).count();
        carry_out_all(&mut world, &decision);
        if given_up > 0 || world.slots.is_empty() {
            break;
        }
        world.slots[0].grant_age = 400_000;
        world.slots[0].report_age = 10;
        let grant = world.slots[0].record.spec.grant.clone().unwrap();
        if grant.pod_uid.is_empty() {
            world.pods = vec![PodView {
                name: grant.pod_name,
                uid: format!("p{round}"),
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
            }];
        } else if grant.boot_nonce.is_empty() {
            world.slots[0].record.status.claim =
                Some(Claim { pod_uid: grant.pod_uid, boot_nonce: format!("n{round}"), boot_id: String::new() });
        } else if world.slots[0].record.spec.work.as_ref().is_some_and(|work| work.id == "clean") {
            world.pods[0].deleting = drained;
            world.pods[0].state = terminated(exit_code);
        }
    }
    given_up
}

fn failed_build() -> World {
    let mut world = one_slot();
    world.build.status = Some(IndexBuildStatus {
        conditions: vec![Condition {
            condition_type: ConditionType::Failed,
            status: ConditionStatus::True,
            reason: Reason::BackoffLimitExceeded,
            message: "it failed".to_owned(),
            last_transition_time: None,
            observed_generation: None,
        }],
        ..IndexBuildStatus::default()
    });
    world
}

fn published_build() -> World {
    let mut world = one_slot();
    for (name, works) in
        [("encode", vec!["encode-0", "encode-1"]), ("sort", vec!["sort-0", "sort-1"]), ("publish", vec!["publish"])]
    {
        world.stages.push(stage(name, &works));
    }
    world
}

#[test]
fn drains_use_up_no_try_of_a_clean_up_and_a_build_whose_publish_may_commit_cleans_until_its_tombstone_stands() {
    let mut deleted = one_slot();
    deleted.build.deleting = true;
    deleted.build.deletion_age = 100;
    assert_eq!(times_given_up(deleted.clone(), 0, true), 0, "a deletion, drained");
    assert_eq!(times_given_up(deleted.clone(), 1, false), 0, "a deletion, failing: it has its time");
    let mut published_too_late = failed_build();
    published_too_late.stages.push(stage("encode", &["encode-0", "encode-1"]));
    published_too_late.stages.push(stage("sort", &["sort-0", "sort-1"]));
    assert_eq!(times_given_up(published_too_late.clone(), 0, true), 0, "a failed build, drained");
    assert_eq!(times_given_up(published_too_late, 1, false), 0, "a failed build whose Publish may still commit");
    assert_eq!(times_given_up(failed_build(), 0, true), 0, "a build that failed before, drained");
    assert_eq!(times_given_up(published_build(), 0, true), 0, "a committed index, drained");
    // Controls: what is left of a committed index, or where nothing can commit, does no harm; a deletion has its time.
    assert_eq!(times_given_up(failed_build(), 1, false), 1, "a build that failed before any Publish, failing");
    assert_eq!(times_given_up(published_build(), 1, false), 1, "a committed index, failing");
    deleted.build.deletion_age = 1_000_000;
    assert_eq!(times_given_up(deleted, 0, true), 1, "the time of a deletion is over");
}

#[test]
fn nodes_that_are_switched_off_stop_nothing_and_nodes_that_were_just_lost_do_i23() {
    for (unready, replaced) in [(86_400_000, true), (60_000, false)] {
        let mut world = encoding();
        for index in 0..10 {
            world.nodes.push(NodeView {
                name: format!("off-{index}"),
                ready: NodeReady::Unknown,
                readiness_age: unready,
                ..world.nodes[0].clone()
            });
        }
        silent(&mut world, 0, 3_600_000);
        assert_eq!(changed(&plan(&world), 0).is_some(), replaced, "not ready for {unready} ms");
    }
}

#[test]
fn the_finalizer_goes_only_after_the_tombstone_was_seen() {
    let mut world = replaced();
    world.build.deleting = true;
    world.build.deletion_age = 100;
    world.build.spec.parallelism = 1;
    world.slots.truncate(1);
    world.pods.clear();
    world.claims.retain(|claim| claim.uid == "claim-9");
    world.stages.push(stage("clean", &[]));
    // Its own owner and volume are gone already, the stranded one is unheard of.
    let record = &mut world.slots[0].record;
    (record.spec.volume, record.spec.work) = (None, None);
    let grant = record.spec.grant.as_mut().unwrap();
    (grant.pod_uid, grant.boot_nonce) = (String::new(), String::new());
    record.status.state = DirectoryState::Idle;
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).map(|(_, state, _)| state), Some(DirectoryState::Tombstone));
    assert!(!decision.actions.contains(&Action::RemoveFinalizer), "a compare-and-set that is lost loses the record");
    carry_out_all(&mut world, &decision);
    assert!(plan(&world).actions.contains(&Action::RemoveFinalizer), "the tombstone was read");
}

/// A pod that runs and never registers, again and again: how many pods, and what was said.
fn never_registering(node_ready: NodeReady, ready_for: u64) -> (usize, Option<String>, World) {
    let mut world = one_slot();
    world.slots[0].record.spec.grant.as_mut().unwrap().boot_nonce.clear();
    world.slots[0].record.status.claim = None;
    world.slots[0].record.status.report = None;
    world.nodes[0].ready = node_ready;
    world.nodes[0].readiness_age = ready_for;
    let mut pods = 0;
    for round in 0..200 {
        world.slots[0].grant_age = 400_000;
        let decision = plan(&world);
        carry_out_all(&mut world, &decision);
        for action in &decision.actions {
            match action {
                Action::CreateClaim { name, generation, .. } => world.claims.push(ClaimView {
                    name: name.clone(),
                    uid: format!("u{round}"),
                    slot: 0,
                    generation: *generation,
                    phase: ClaimPhase::Bound,
                    foreign: false,
                    nodes: None,
                    outdated: false,
                }),
                Action::CreatePod { name, epoch, .. } => {
                    pods += 1;
                    world.pods.push(PodView {
                        name: name.clone(),
                        uid: format!("p{round}"),
                        slot: 0,
                        epoch: *epoch,
                        node: Some("node-0".to_owned()),
                        deleting: false,
                        disrupted: false,
                        foreign: false,
                        own_exit: None,
                        as_asked: Some(true),
                        suited: Vec::new(),
                        state: PodState::Running,
                    });
                }
                _ => {}
            }
        }
        world.pods.iter_mut().filter(|pod| pod.deleting).for_each(|pod| pod.state = terminated(0));
        let current = world.slots[0].record.spec.grant.clone().unwrap();
        world.pods.retain(|pod| pod.name == current.pod_name || !pod.deleting);
        let failed = decision.status.condition(ConditionType::Failed).unwrap();
        if failed.status == ConditionStatus::True {
            return (pods, Some(failed.message.clone()), world);
        }
    }
    (pods, None, world)
}

#[test]
fn pods_that_run_and_never_register_are_counted_told_and_come_to_an_end() {
    let (pods, said, _) = never_registering(NodeReady::True, 1_000_000);
    let said = said.expect("the build fails");
    assert!(pods <= 7, "{pods} pods");
    assert!(said.contains("never registered") && said.contains("NetworkPolicy"), "{said}");

    // Told within two minutes, long before patience is over.
    let mut world = one_slot();
    world.build.timeouts.replace_after = 600_000;
    world.slots[0].record.spec.grant.as_mut().unwrap().boot_nonce.clear();
    world.slots[0].record.status.claim = None;
    world.nodes[0].readiness_age = 1_000_000;
    for (age, told) in [(5_000, ConditionStatus::False), (61_000, ConditionStatus::True)] {
        world.slots[0].grant_age = age;
        let decision = plan(&world);
        let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
        assert_eq!(stalled.status, told, "after {age} ms: {stalled:?}");
        assert!(told == ConditionStatus::False || stalled.message.contains("has not registered"), "{stalled:?}");
    }
    // Controls: of a pod on a node that is away, or came back just now, nothing is known.
    for (node_ready, ready_for) in [(NodeReady::Unknown, 1_000_000), (NodeReady::True, 5_000)] {
        let (_, said, world) = never_registering(node_ready, ready_for);
        assert_eq!((said, failed_attempts(&world, 0)), (None, 0), "{node_ready:?} for {ready_for} ms");
    }
}

/// A build of which nothing is there any more but its object, and what its status told.
fn emptied() -> World {
    let mut world = encoding();
    world.build.deleting = true;
    world.build.deletion_age = 5_000;
    (world.slots, world.pods, world.claims, world.stages) = (vec![], vec![], vec![], vec![]);
    world.build.status = Some(IndexBuildStatus { rows: Some(1_000_000), ..IndexBuildStatus::default() });
    world
}

#[test]
fn a_build_whose_namespace_is_deleted_is_let_go_at_once_and_what_is_left_is_told_with_its_place() {
    let mut world = emptied();
    world.build.namespace_ends = true;
    let decision = plan(&world);
    assert_eq!(decision.actions, [Action::RemoveFinalizer], "nothing can be made there any more");
    let left = decision.leaves.clone().expect("it is told");
    assert_eq!((left.reason, left.warning), (Reason::NamespaceDeleted, true));
    let prefix = format!("s3://indexes/shop/orders/{}/", world.build.uid);
    for part in ["build shop/orders", &prefix, "without a tombstone", "aws s3 rm"] {
        assert!(left.message.contains(part), "{part}: {}", left.message);
    }
    assert!(decision.events.contains(&left));

    // An index that was to go with its build.
    let mut published = published_build();
    (published.slots, published.pods, published.claims) = (vec![], vec![], vec![]);
    published.build.deleting = true;
    published.build.spec.output.deletion_policy = indexbuild_api::DeletionPolicy::Delete;
    published.build.namespace_ends = true;
    let decision = plan(&published);
    assert_eq!(decision.actions, [Action::RemoveFinalizer]);
    let left = decision.leaves.expect("it is told");
    assert!(left.message.contains("deletionPolicy is Delete") && left.message.contains("LATEST"), "{}", left.message);

    // Volumes that are there go with their claims, as their class says.
    let mut volumes = emptied();
    volumes.build.namespace_ends = true;
    volumes.claims = encoding().claims;
    let left = std::iter::successors(Some(volumes), |world| {
        let mut next = world.clone();
        carry_out_all(&mut next, &plan(world));
        Some(next)
    });
    let left = left.take(8).find_map(|world| plan(&world).leaves).expect("it is let go");
    assert!(left.message.contains("2 volumes") && left.message.contains("get persistentvolumes"), "{}", left.message);

    // Controls: nothing is left where nothing was begun, nor where all was cleaned.
    for cleaned in [false, true] {
        let mut nothing = emptied();
        nothing.build.namespace_ends = true;
        if cleaned {
            nothing.stages.push(stage("clean", &["clean"]));
        } else {
            nothing.build.status = None;
        }
        let decision = plan(&nothing);
        assert_eq!((decision.actions, decision.leaves), (vec![Action::RemoveFinalizer], None), "cleaned: {cleaned}");
    }
}

/// Somebody's hand took the records of a build that worked: it wrote something, whatever is there of it.
#[test]
fn a_deleted_build_whose_records_are_gone_is_cleaned_all_the_same() {
    let mut world = emptied();
    let decision = plan(&world);
    let cleans = |action: &Action| matches!(action, Action::CreateDirectory { spec, .. } if spec.work.as_ref().is_some_and(|work| work.id == "clean"));
    assert!(decision.actions.iter().any(cleans), "{:?}", decision.actions);
    assert_eq!(decision.leaves, None);
    // Its time over, it is let go, and that is told with the place.
    world.build.deletion_age = 60_000;
    let left = plan(&world).leaves.expect("it is told");
    assert!(left.reason == Reason::CleanupTimedOut && left.message.contains("s3://indexes/shop/orders/"), "{left:?}");
    // Control: one that never worked goes at once.
    world.build.status = None;
    world.build.deletion_age = 5_000;
    assert_eq!(plan(&world).actions, [Action::RemoveFinalizer]);
}
