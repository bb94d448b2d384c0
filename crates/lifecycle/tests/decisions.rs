//! Decisions one by one: guards, rows of the table of disruptions, budget, stages, status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use indexbuild_api::{
    Chosen, Claim, ConditionStatus, ConditionType, DirectoryState, EngineDirectorySpec, EngineDirectoryStatus,
    FormerVolume, Grant, IndexBuildSpec, OutputSpec, OwnerChange, OwnerChangeReason, Phase, Reason, Report,
    RunLocation, VolumeRef, VolumeState, Waiting, Work, WorkError, WorkErrorReason, WorkKind, WorkResult, names,
};
use indexbuild_lifecycle::world::{
    BuildView, ClaimPhase, ClaimView, Clocks, LockScope, LockTaken, NodeReady, NodeView, PodState, PodView, Record,
    SlotView, Stage, Termination, World,
};
use indexbuild_lifecycle::{Action, Decision, End, Evidence, EvidenceKind, StopReason, plan};

const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

fn world() -> World {
    World {
        now: 1_000_000,
        wall: "2026-01-01T00:00:00Z".to_owned(),
        build: BuildView {
            uid: UID.to_owned(),
            name: "orders".to_owned(),
            namespace: "shop".to_owned(),
            generation: 1,
            spec: IndexBuildSpec {
                parallelism: 2,
                output: OutputSpec { url: "s3://indexes/".to_owned(), ..OutputSpec::default() },
                ..IndexBuildSpec::default()
            },
            status: None,
            deleting: false,
            deletion_age: 0,
            finalizer: true,
            reconcile_disabled: false,
            clocks: Clocks { renew_interval: 1_000, replace_after: 10_000, orphan_after: 30_000 },
            percent_per_second: None,
        },
        slots: vec![],
        pods: vec![],
        claims: vec![],
        nodes: (0..3)
            .map(|index| NodeView {
                name: format!("node-{index}"),
                boot_id: "boot-1".to_owned(),
                system_uuid: format!("machine-{index}"),
                ready: NodeReady::True,
                unready_age: 0,
                out_of_service: false,
                gone: false,
                volumes_detached: false,
                cordoned: false,
            })
            .collect(),
        stages: vec![],
    }
}

fn work(id: &str) -> Work {
    let kind = match id {
        "plan" => WorkKind::Plan,
        "publish" => WorkKind::Publish,
        "clean" => WorkKind::Clean,
        _ if id.starts_with("sort") => WorkKind::Sort,
        _ => WorkKind::Encode,
    };
    Work {
        id: id.to_owned(),
        kind,
        inputs_digest: "d".to_owned(),
        runs: RunLocation::Store,
        splits: vec![],
        inputs: vec!["plan".to_owned(), "encode".to_owned()],
    }
}

/// A slot whose owner works at `id`, with its pod and its volume, heard from just now.
fn add_slot(world: &mut World, slot: u32, epoch: u64, id: &str) {
    let (pod_uid, nonce) = (format!("pod-{slot}"), format!("nonce-{slot}"));
    let pod_name = names::pod("orders", UID, slot, epoch);
    let claim_name = names::claim("orders", UID, slot, 1);
    let node = format!("node-{slot}");
    world.pods.push(PodView {
        name: pod_name.clone(),
        uid: pod_uid.clone(),
        slot,
        epoch,
        node: Some(node.clone()),
        deleting: false,
        state: PodState::Running,
    });
    world.claims.push(ClaimView {
        name: claim_name.clone(),
        uid: format!("claim-{slot}"),
        slot,
        generation: 1,
        phase: ClaimPhase::Bound,
        foreign: false,
        lock_taken: None,
    });
    let spec = EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: UID.to_owned(),
        slot,
        renew_interval: indexbuild_api::Duration::from_millis(1_000),
        grant: Some(Grant { epoch, pod_name, pod_uid: pod_uid.clone(), boot_nonce: nonce.clone() }),
        work: Some(work(id)),
        volume: Some(VolumeRef { claim_name, claim_uid: format!("claim-{slot}"), generation: 1, condemned: false }),
        ..EngineDirectorySpec::default()
    };
    let status = EngineDirectoryStatus {
        state: DirectoryState::Working,
        node_name: Some(node),
        node_boot_id: Some("boot-1".to_owned()),
        node_system_uuid: Some(format!("machine-{slot}")),
        claim: Some(Claim { pod_uid, boot_nonce: nonce.clone() }),
        report: Some(Report { epoch, boot_nonce: nonce, rows: Some(5), progress: Some(0.1), ..Report::default() }),
        ..EngineDirectoryStatus::default()
    };
    world.slots.push(SlotView {
        record: Record { spec, status, version: format!("v{slot}") },
        report_age: 100,
        progress_age: 100,
        grant_age: 100_000,
    });
}

/// Two slots that encode the only two works.
fn encoding() -> World {
    let mut world = world();
    world.stages.push(planned(2, 2));
    add_slot(&mut world, 0, 3, "encode-0");
    add_slot(&mut world, 1, 3, "encode-1");
    world
}

fn planned(encode: u32, sort: u32) -> Stage {
    Stage {
        name: "plan".to_owned(),
        chosen: vec![Chosen { encode_works: Some(encode), sort_works: Some(sort), ..choice("plan") }],
    }
}

fn choice(id: &str) -> Chosen {
    Chosen {
        work_id: id.to_owned(),
        epoch: 2,
        boot_nonce: "n".to_owned(),
        digest: "d".to_owned(),
        rows: 10,
        entries: 20,
        bytes: 30,
        ..Chosen::default()
    }
}

fn stage(name: &str, works: &[&str]) -> Stage {
    Stage { name: name.to_owned(), chosen: works.iter().map(|id| choice(id)).collect() }
}

fn silent(world: &mut World, slot: usize, age: u64) {
    (world.slots[slot].report_age, world.slots[slot].progress_age) = (age, age);
}

fn terminated(exit_code: i32) -> PodState {
    PodState::Terminated(Termination {
        exit_code,
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        kubelet_written: true,
        container_id_present: true,
        restart_never: true,
    })
}

fn report_mut(world: &mut World, slot: usize) -> &mut Report {
    world.slots[slot].record.status.report.as_mut().unwrap()
}

fn reports_result(world: &mut World, slot: usize) {
    let id = world.slots[slot].record.spec.work.as_ref().unwrap().id.clone();
    let epoch = world.slots[slot].record.spec.grant.as_ref().unwrap().epoch;
    report_mut(world, slot).result =
        Some(WorkResult { work_id: id, epoch, digest: "r".to_owned(), ..WorkResult::default() });
}

fn reports_error(world: &mut World, slot: usize, reason: WorkErrorReason, retryable: bool, damaged_splits: Vec<u32>) {
    report_mut(world, slot).error =
        Some(WorkError { reason, message: "what and where".to_owned(), retryable, damaged_splits });
}

fn update(decision: &Decision, slot: u32) -> Option<(&EngineDirectorySpec, DirectoryState, Option<OwnerChangeReason>)> {
    decision.actions.iter().find_map(|action| match action {
        Action::UpdateDirectory { slot: at, spec, state, change, .. } if *at == slot => Some((spec, *state, *change)),
        _ => None,
    })
}

fn changed(decision: &Decision, slot: u32) -> Option<OwnerChangeReason> {
    update(decision, slot).and_then(|(_, _, change)| change)
}

/// Carries out what changes records and the build's status.
fn carry_out(world: &mut World, decision: &Decision) {
    for action in &decision.actions {
        match action {
            Action::UpdateDirectory { slot, spec, state, change, .. } => {
                let view = world.slots.iter_mut().find(|view| view.record.spec.slot == *slot).unwrap();
                if view.record.spec.grant != spec.grant {
                    view.grant_age = 0;
                }
                if let Some(reason) = change {
                    let epoch = spec.grant.as_ref().unwrap().epoch;
                    view.record.status.history.push(OwnerChange {
                        epoch,
                        pod_uid: String::new(),
                        pod_name: String::new(),
                        reason: *reason,
                        time: String::new(),
                        volume_generation: 1,
                    });
                }
                view.record.spec = spec.clone();
                view.record.status.state = *state;
                view.record.version.push('+');
            }
            Action::FreezeStage { stage } => world.stages.push(stage.clone()),
            _ => {}
        }
    }
    world.build.status = Some(decision.status.clone());
}

fn settled(mut world: World) -> World {
    for _ in 0..4 {
        let decision = plan(&world);
        carry_out(&mut world, &decision);
    }
    world
}

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
fn a_build_begins_with_its_finalizer_then_with_the_plan_in_slot_0() {
    let mut world = world();
    world.build.finalizer = false;
    assert_eq!(plan(&world).actions, vec![Action::AddFinalizer]);
    world.build.finalizer = true;
    let decision = plan(&world);
    let [Action::CreateDirectory { slot: 0, spec }] = decision.actions.as_slice() else {
        panic!("{:?}", decision.actions)
    };
    assert_eq!(spec.work.as_ref().unwrap().id, "plan");
    assert_eq!(
        spec.grant.as_ref().unwrap(),
        &Grant {
            epoch: 1,
            pod_name: names::pod("orders", UID, 0, 1),
            pod_uid: String::new(),
            boot_nonce: String::new()
        }
    );
    assert_eq!(decision.status.phase, Some(Phase::Pending));
}

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

/// G2: in the record first; frozen only from what records are seen to say; then emptied.
#[test]
fn g2_a_result_is_chosen_in_the_record_then_frozen_then_leaves_the_record() {
    let mut world = encoding();
    reports_result(&mut world, 0);
    reports_result(&mut world, 1);
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::FreezeStage { .. })));
    assert_eq!(update(&decision, 0).unwrap().0.chosen[0].work_id, "encode-0");
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    let frozen = decision
        .actions
        .iter()
        .find_map(|action| match action {
            Action::FreezeStage { stage } => Some(stage),
            _ => None,
        })
        .unwrap();
    assert_eq!((frozen.name.as_str(), frozen.chosen.len()), ("encode", 2));
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
        |world| report_mut(world, 0).epoch = 2,
        |world| report_mut(world, 0).boot_nonce = "another".to_owned(),
        |world| report_mut(world, 0).result.as_mut().unwrap().epoch = 2,
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
    assert_eq!(spec.grant, Some(Grant { epoch: 4, ..old }));
    assert_eq!((spec.work.as_ref().unwrap().id.as_str(), change), ("encode-2", Some(OwnerChangeReason::NextWork)));
    assert_eq!(spec.chosen[0].epoch, 3);
}

/// G4: a report is taken whole or not at all.
#[test]
fn g4_an_error_of_an_older_epoch_is_not_read_into_the_present_attempt() {
    let mut world = encoding();
    reports_error(&mut world, 0, WorkErrorReason::DuplicateKey, false, vec![]);
    report_mut(&mut world, 0).epoch = 2;
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

/// G6.
#[test]
fn g6_a_frozen_stage_is_never_made_again_whatever_records_say_later() {
    let mut world = encoding();
    world.stages.push(stage("encode", &["encode-0", "encode-1"]));
    world.slots[0].record.spec.chosen = vec![Chosen { epoch: 9, ..choice("encode-0") }];
    world.slots[1].record.spec.chosen = vec![Chosen { epoch: 9, ..choice("encode-1") }];
    assert!(!plan(&world).actions.iter().any(|action| matches!(action, Action::FreezeStage { .. })));
}

fn stranded(slot: u32) -> FormerVolume {
    FormerVolume {
        claim_name: names::claim("orders", UID, slot, 9),
        claim_uid: "claim-9".to_owned(),
        generation: 9,
        pod_name: names::pod("orders", UID, slot, 2),
        pod_uid: "pod-9".to_owned(),
        boot_nonce: "nonce-9".to_owned(),
        epoch: 2,
        node_name: "node-2".to_owned(),
        node_boot_id: "boot-1".to_owned(),
        node_system_uuid: "machine-2".to_owned(),
        state: VolumeState::Stranded,
        ..FormerVolume::default()
    }
}

/// Slot 0 has replaced a silent owner, whose volume is stranded.
fn replaced() -> World {
    let mut world = encoding();
    let former = stranded(0);
    world.claims.push(ClaimView {
        name: former.claim_name.clone(),
        uid: "claim-9".to_owned(),
        slot: 0,
        generation: 9,
        phase: ClaimPhase::Bound,
        foreign: false,
        lock_taken: None,
    });
    world.pods.push(PodView {
        name: former.pod_name.clone(),
        uid: "pod-9".to_owned(),
        slot: 0,
        epoch: 2,
        node: Some("node-2".to_owned()),
        deleting: false,
        state: PodState::Running,
    });
    world.slots[0].record.spec.former_volumes = vec![former];
    report_mut(&mut world, 0).progress = Some(0.9);
    world
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
    assert!(matches!(evidence.kind(), EvidenceKind::Terminated { .. }));
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
    let lock = |scope| LockTaken { pod_uid: "pod-9".to_owned(), boot_nonce: "nonce-9".to_owned(), scope };
    let with_lock = |lock: LockTaken| {
        let mut world = replaced();
        world.claims[2].lock_taken = Some(lock);
        Evidence::of_former(&world, &stranded(0)).map(|evidence| evidence.kind())
    };
    assert_eq!(with_lock(lock(LockScope::Process)), Some(EvidenceKind::LockTaken));
    assert_eq!(with_lock(lock(LockScope::Attempt { epoch: 2 })), Some(EvidenceKind::LockTaken));
    assert_eq!(with_lock(lock(LockScope::Attempt { epoch: 1 })), None, "an earlier attempt's lock");
    assert_eq!(with_lock(LockTaken { boot_nonce: "another".to_owned(), ..lock(LockScope::Process) }), None);
    let unclaimed = FormerVolume { boot_nonce: String::new(), ..stranded(0) };
    assert_eq!(Evidence::of_former(&replaced(), &unclaimed).unwrap().kind(), EvidenceKind::NeverClaimed);
}

/// G9: a nonce is bound once; a new owner is a new epoch without one.
#[test]
fn g9_a_new_owner_begins_without_pod_or_nonce_and_each_is_bound_once() {
    let mut world = encoding();
    world.pods[0].state = terminated(137);
    let decision = plan(&world);
    let grant = update(&decision, 0).unwrap().0.grant.clone().unwrap();
    assert_eq!((grant.epoch, grant.pod_uid.as_str(), grant.boot_nonce.as_str()), (4, "", ""));
    carry_out(&mut world, &decision);
    world.slots[0].grant_age = 100_000;
    world.pods.push(PodView {
        name: grant.pod_name.clone(),
        uid: "pod-new".to_owned(),
        slot: 0,
        epoch: 4,
        node: Some("node-1".to_owned()),
        deleting: false,
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
        Some(Claim { pod_uid: "pod-new".to_owned(), boot_nonce: "nonce-new".to_owned() });
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
        lock_taken: None,
    });
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    let made = plan(&world).actions.into_iter().find_map(|action| match action {
        Action::CreatePod { name, epoch, .. } => Some((name, epoch)),
        _ => None,
    });
    assert_eq!(made, Some((names::pod("orders", UID, 0, 4), 4)));
}

/// G11: rows 12 and 13: an older epoch that still runs is asked to end once its replacement has caught up.
#[test]
fn g11_a_stale_owners_pod_is_stopped_once_its_replacement_has_caught_up_and_not_before() {
    let mut world = replaced();
    let stop = Action::StopPod { name: stranded(0).pod_name, uid: "pod-9".to_owned(), reason: StopReason::Superseded };
    assert!(plan(&world).actions.contains(&stop));
    report_mut(&mut world, 0).progress = Some(0.1);
    assert!(!plan(&world).actions.contains(&stop));
}

/// Row 4: keep.
#[test]
fn a_partition_shorter_than_patience_changes_nothing() {
    let mut world = settled(encoding());
    world.nodes[0].ready = NodeReady::Unknown;
    silent(&mut world, 0, 9_999);
    let decision = plan(&world);
    let (spec, state, change) = update(&decision, 0).unwrap();
    assert_eq!((state, change, spec), (DirectoryState::Silent, None, &world.slots[0].record.spec));
    assert!(decision.actions.iter().all(|action| !action.is_destructive()));
    let wait = decision.waits.iter().find(|wait| wait.reason == Reason::OwnerSilent).unwrap();
    assert!(wait.until > world.now && wait.until <= world.now + 1_000);
    assert_eq!(decision.status.failed_attempts, None);
}

/// Row 5: replace.
#[test]
fn after_patience_a_new_owner_works_on_a_new_volume_and_the_old_one_is_stranded() {
    let mut world = encoding();
    world.nodes[0].ready = NodeReady::Unknown;
    silent(&mut world, 0, 10_000);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(change, Some(OwnerChangeReason::Replaced));
    assert_eq!(spec.work.as_ref().unwrap().id, "encode-0");
    let former = &spec.former_volumes[0];
    assert_eq!(
        (former.state, former.pod_uid.as_str(), former.boot_nonce.as_str(), former.epoch, former.node_boot_id.as_str()),
        (VolumeState::Stranded, "pod-0", "nonce-0", 3, "boot-1")
    );
    assert_ne!(spec.volume.as_ref().unwrap().claim_name, former.claim_name);
    assert!(
        decision.actions.iter().all(|action| !action.is_destructive()),
        "the old owner and its volume are left alone"
    );
    assert_eq!(spec.failed_attempts, 0, "a partition is no failure");
}

/// Rows 10 and 27: rebind.
#[test]
fn with_evidence_the_volume_goes_on_with_a_new_pod_and_a_drain_is_no_failure() {
    let mut world = encoding();
    world.pods[0].state = terminated(0);
    world.pods[0].deleting = true;
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.failed_attempts), (Some(OwnerChangeReason::Rebound), 0));
    assert_eq!(spec.volume, world.slots[0].record.spec.volume);
    assert_eq!(spec.work.as_ref().unwrap().id, "encode-0");
}

/// Row 9.
#[test]
fn a_pod_that_is_not_there_proves_nothing() {
    let mut world = encoding();
    world.pods.remove(0);
    silent(&mut world, 0, 5_000);
    assert_eq!(changed(&plan(&world), 0), None);
}

#[test]
fn a_cut_off_owners_volume_returns_if_its_replacement_has_not_caught_up() {
    let mut world = replaced();
    world.pods[2].state = terminated(0);
    report_mut(&mut world, 0).progress = Some(0.4);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(change, Some(OwnerChangeReason::Returned));
    let volume = spec.volume.as_ref().unwrap();
    assert_eq!((volume.claim_name.as_str(), volume.claim_uid.as_str()), (stranded(0).claim_name.as_str(), "claim-9"));
    assert!(volume.generation > 9);
    assert_eq!(
        spec.former_volumes.iter().map(|former| former.state).collect::<Vec<_>>(),
        vec![VolumeState::Superseded]
    );
    // The replacement is cleaned, and never takes its turn again.
    carry_out(&mut world, &decision);
    world.pods[0].state = terminated(0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.former_volumes[0].condemned), (None, true));
}

/// Row 23.
#[test]
fn when_most_nodes_look_lost_nothing_is_destroyed_or_replaced_and_the_status_says_so() {
    let mut world = replaced();
    world.pods[2].state = terminated(0);
    world.slots[0].record.spec.former_volumes[0].condemned = true;
    silent(&mut world, 1, 50_000);
    assert!(plan(&world).actions.iter().any(Action::is_destructive), "the control");
    for node in &mut world.nodes[..2] {
        node.ready = NodeReady::Unknown;
    }
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(Action::is_destructive));
    assert_eq!(changed(&decision, 1), None);
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert_eq!((stalled.status, stalled.reason), (ConditionStatus::True, Reason::MostNodesLost));
}

/// Row 29.
#[test]
fn a_pod_that_is_never_scheduled_is_replaced_on_a_new_volume_and_was_never_bound() {
    let mut world = encoding();
    world.slots[0].record.spec.grant = Some(Grant {
        epoch: 4,
        pod_name: names::pod("orders", UID, 0, 4),
        pod_uid: String::new(),
        boot_nonce: String::new(),
    });
    world.pods[0] = PodView {
        name: names::pod("orders", UID, 0, 4),
        uid: "pod-4".to_owned(),
        slot: 0,
        epoch: 4,
        node: None,
        deleting: false,
        state: PodState::Pending,
    };
    world.slots[0].grant_age = 9_000;
    assert!(
        update(&plan(&world), 0)
            .is_none_or(|(spec, _, change)| change.is_none() && spec.grant.as_ref().unwrap().pod_uid.is_empty())
    );
    world.slots[0].grant_age = 10_000;
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.former_volumes[0].state), (Some(OwnerChangeReason::Replaced), VolumeState::Idle));
}

/// Row 17.
#[test]
fn a_lost_claim_is_left_for_a_new_volume() {
    let mut world = encoding();
    world.claims[0].phase = ClaimPhase::Lost;
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!((change, spec.former_volumes[0].state), (Some(OwnerChangeReason::Replaced), VolumeState::Lost));
}

/// Row 31.
#[test]
fn a_record_deleted_by_hand_begins_above_every_epoch_that_is_seen_and_holds_what_it_finds() {
    let mut world = encoding();
    world.slots.remove(0);
    world.pods[0].epoch = 41;
    let decision = plan(&world);
    let spec = decision
        .actions
        .iter()
        .find_map(|action| match action {
            Action::CreateDirectory { slot: 0, spec } => Some(spec),
            _ => None,
        })
        .unwrap();
    assert_eq!(spec.grant.as_ref().unwrap().epoch, 42);
    assert_eq!(spec.former_volumes[0].state, VolumeState::Stranded);
    assert!(Evidence::of_former(&world, &spec.former_volumes[0]).is_none());
    assert!(decision.events.iter().any(|event| event.warning));
}

#[test]
fn retryable_failures_are_counted_once_each_and_back_off_exponentially() {
    let mut world = encoding();
    world.build.spec.backoff_limit = 3;
    let mut delays = Vec::new();
    for failures in 1..=3 {
        reports_error(&mut world, 0, WorkErrorReason::StoreUnavailable, true, vec![]);
        assert_eq!(changed(&plan(&world), 0), None, "its process has not ended yet");
        world.pods[0].state = terminated(10);
        let decision = plan(&world);
        carry_out(&mut world, &decision);
        assert_eq!(world.slots[0].record.spec.failed_attempts, failures);
        let decision = plan(&world);
        assert_eq!(decision.status.failed_attempts, Some(failures));
        let wait = decision.waits.iter().find(|wait| wait.reason == Reason::BackingOff).unwrap();
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
            state: PodState::Running,
        };
        world.slots[0].record.status.report =
            Some(Report { epoch: grant.epoch, boot_nonce: "nonce-x".to_owned(), ..Report::default() });
    }
    assert_eq!(delays, vec![2_000, 4_000, 5_000]);
    reports_error(&mut world, 0, WorkErrorReason::StoreUnavailable, true, vec![]);
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
    report_mut(&mut world, 0).waiting =
        Some(Waiting { reason: Reason::WaitingForSpace, message: "12 MiB are missing".to_owned() });
    let decision = plan(&world);
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert!(stalled.reason == Reason::WaitingForSpace && stalled.message.contains("12 MiB"));
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
fn damaged_splits_are_encoded_again_in_a_round_and_the_sort_is_granted_with_it() {
    let mut world = world();
    world.stages = vec![planned(2, 1), stage("encode", &["encode-0", "encode-1"])];
    add_slot(&mut world, 0, 3, "sort-0");
    reports_error(&mut world, 0, WorkErrorReason::DamagedInput, true, vec![7, 3, 7]);
    world.pods[0].state = terminated(10);
    let decision = plan(&world);
    let (spec, ..) = update(&decision, 0).unwrap();
    let round = spec.work.as_ref().unwrap();
    assert_eq!((round.id.as_str(), round.kind, &round.splits), ("encode-r1-0", WorkKind::Encode, &vec![3, 7]));
    assert_eq!(spec.failed_attempts, 0);
    carry_out(&mut world, &decision);
    world.slots[0].record.spec.chosen.push(choice("encode-r1-0"));
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    assert!(world.stages.iter().any(|stage| stage.name == "encode-r1"));
    let decision = plan(&world);
    let sort = update(&decision, 0).unwrap().0.work.clone().unwrap();
    assert_eq!(
        (sort.id.as_str(), sort.inputs),
        ("sort-0", vec!["plan".to_owned(), "encode".to_owned(), "encode-r1".to_owned()])
    );
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
    assert!(decision.actions.contains(&Action::FreezeStage { stage: stage("encode", &[]) }), "{:?}", decision.actions);
    carry_out(&mut world, &decision);
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    assert!(plan(&world).actions.iter().any(|action| matches!(action, Action::CreateDirectory { slot: 0, spec } if spec.work.as_ref().unwrap().id == "publish")));
}

#[test]
fn a_pause_stops_pods_gracefully_one_by_one_and_keeps_works_and_volumes() {
    let mut world = encoding();
    world.build.spec.suspend = true;
    let decision = plan(&world);
    assert_eq!(
        decision
            .actions
            .iter()
            .filter(|action| matches!(action, Action::StopPod { reason: StopReason::Suspended, .. }))
            .count(),
        1
    );
    world.pods[0].deleting = true;
    world.pods[0].state = terminated(0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(
        (change, spec.work.as_ref().unwrap().id.as_str(), &spec.volume),
        (Some(OwnerChangeReason::Suspended), "encode-0", &world.slots[0].record.spec.volume)
    );
    carry_out(&mut world, &decision);
    world.slots[0].grant_age = 50_000;
    let decision = plan(&world);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::CreatePod { .. })));
    assert_eq!(decision.status.phase, Some(Phase::Suspended));
    world.build.spec.suspend = false;
    assert!(plan(&world).actions.iter().any(|action| matches!(action, Action::CreatePod { slot: 0, epoch: 4, .. })));
}

#[test]
fn a_slot_that_goes_finishes_its_work_and_loses_it_only_by_a_higher_epoch() {
    let mut world = settled(encoding());
    world.build.spec.parallelism = 1;
    assert_eq!(changed(&plan(&world), 1), None, "it finishes");
    silent(&mut world, 1, 10_000);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 1).unwrap();
    assert_eq!((change, &spec.work, &spec.volume), (Some(OwnerChangeReason::ScaledDown), &None, &None));
    assert_eq!(spec.former_volumes[0].state, VolumeState::Stranded);
    assert_eq!(changed(&decision, 0), None, "nobody else has the work before the first one's right has ended");
    carry_out(&mut world, &decision);
    reports_result(&mut world, 0);
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).unwrap().0.work.as_ref().unwrap().id, "encode-1");
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
fn an_unproved_volume_stays_listed_and_does_not_hold_back_the_end() {
    let mut world = replaced();
    world.stages = vec![
        planned(2, 2),
        stage("encode", &[]),
        stage("sort", &[]),
        stage("publish", &["publish"]),
        stage("clean", &["clean"]),
    ];
    world.slots.remove(1);
    world.claims.retain(|claim| claim.uid == "claim-9");
    world.pods.clear();
    let record = &mut world.slots[0].record;
    (record.spec.volume, record.spec.work) = (None, None);
    record.spec.grant =
        Some(Grant { epoch: 8, pod_name: "orders-e8".to_owned(), pod_uid: String::new(), boot_nonce: String::new() });
    let world = settled(world);
    let decision = plan(&world);
    assert_eq!((decision.end, decision.actions), (Some(End::Complete), vec![]));
    let held = decision.status.condition(ConditionType::VolumesHeld).unwrap();
    assert_eq!((held.status, held.reason), (ConditionStatus::True, Reason::VolumesStranded));
    let complete = decision.status.condition(ConditionType::Complete).unwrap();
    assert_eq!(complete.status, ConditionStatus::True);
    assert_eq!(decision.status.manifest.as_ref().unwrap().url, format!("s3://indexes/shop/orders/{UID}/manifest.json"));
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
    assert_eq!(plain, digest(|world| world.build.spec.backoff_limit = 7));
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
