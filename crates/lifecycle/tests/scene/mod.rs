//! Scenes of a build, and what becomes of them.
#![allow(dead_code)] // each test file uses some

use indexbuild_api::{
    AfterBuild, Attached, Chosen, Claim, DirectoryState, Duration, EngineDirectorySpec, EngineDirectoryStatus, Epoch,
    FormerVolume, Grant, IndexBuildSpec, OutputSpec, OwnerChange, OwnerChangeReason, Report, Retention, RunLocation,
    VolumeRef, VolumeState, Work, WorkError, WorkErrorReason, WorkKind, WorkResult, names,
};
use indexbuild_lifecycle::world::{
    Attachments, BuildView, ClaimPhase, ClaimView, Frozen, NodeReady, NodeView, PodState, PodView, Record, Share,
    SlotView, Stage, Termination, Timeouts, World,
};
use indexbuild_lifecycle::{Action, Decision, Platform, plan};

pub(crate) const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

pub(crate) fn world() -> World {
    World {
        platform: Platform::Kubernetes,
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
            deletion_unseen: 0,
            namespace_ends: false,
            active_age: 0,
            finalizer: true,
            reconcile_disabled: false,
            timeouts: Timeouts { renew_interval: 1_000, replace_after: 10_000, orphan_after: 30_000 },
            share: Share::default(),
            percent_per_second: None,
            gone: false,
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
                readiness_age: 0,
                out_of_service: false,
                gone: false,
                volumes_detached: false,
                cordoned: false,
                pressed: false,
            })
            .collect(),
        attachments: Attachments { detaching_drivers: [DETACHES.to_owned()].into(), seen: vec![] },
        stages: vec![],
        frozen: Frozen::default(),
        hindrances: vec![],
        enforcement: None,
    }
}

pub(crate) fn work(id: &str) -> Work {
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
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    }
}

/// A slot whose owner works at `id`, with its pod and its volume, heard from just now.
pub(crate) fn add_slot(world: &mut World, slot: u32, epoch: u64, id: &str) {
    let (pod_uid, nonce) = (format!("pod-{slot}"), format!("nonce-{slot}"));
    let pod_name = names::pod("orders", UID, slot, Epoch::new(epoch));
    let claim_name = names::claim("orders", UID, slot, 1);
    let node = format!("node-{slot}");
    world.pods.push(PodView {
        name: pod_name.clone(),
        uid: pod_uid.clone(),
        slot,
        epoch: Epoch::new(epoch),
        node: Some(node.clone()),
        deleting: false,
        disrupted: false,
        foreign: false,
        own_exit: None,
        as_asked: Some(true),
        suited: Vec::new(),
        state: PodState::Running,
    });
    world.claims.push(ClaimView {
        name: claim_name.clone(),
        uid: format!("claim-{slot}"),
        slot,
        generation: 1,
        phase: ClaimPhase::Bound,
        foreign: false,
        nodes: None,
        outdated: false,
    });
    let spec = EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: UID.to_owned(),
        slot,
        renew_interval: indexbuild_api::Duration::from_millis(1_000),
        grant: Some(Grant {
            epoch: Epoch::new(epoch),
            pod_name,
            pod_uid: pod_uid.clone(),
            boot_nonce: nonce.clone(),
            node_name: node,
            boot_id: "boot-1".to_owned(),
            system_uuid: format!("machine-{slot}"),
            ..Grant::default()
        }),
        work: Some(work(id)),
        volume: Some(VolumeRef { claim_name, claim_uid: format!("claim-{slot}"), generation: 1, condemned: false }),
        after_build: Some(AfterBuild { volumes: Retention::Delete, replace_after: Duration::from_millis(10_000) }),
        ..EngineDirectorySpec::default()
    };
    let status = EngineDirectoryStatus {
        state: DirectoryState::Working,
        claim: Some(Claim { pod_uid, boot_nonce: nonce.clone(), boot_id: "boot-1".to_owned() }),
        report: Some(Report {
            epoch: Epoch::new(epoch),
            boot_nonce: nonce,
            rows: Some(5),
            progress: Some(0.1),
            ..Report::default()
        }),
        ..EngineDirectoryStatus::default()
    };
    world.slots.push(SlotView {
        record: Record { spec, status, version: format!("v{slot}") },
        report_age: 100,
        progress_age: 100,
        grant_age: 100_000,
        longest_interval: 1_000,
    });
}

/// Two slots that encode the only two works.
pub(crate) fn encoding() -> World {
    let mut world = world();
    world.stages.push(planned(2, 2));
    add_slot(&mut world, 0, 3, "encode-0");
    add_slot(&mut world, 1, 3, "encode-1");
    world
}

pub(crate) fn planned(encode: u32, sort: u32) -> Stage {
    Stage {
        name: "plan".to_owned(),
        chosen: vec![Chosen { encode_works: Some(encode), sort_works: Some(sort), ..choice("plan") }],
    }
}

pub(crate) fn choice(id: &str) -> Chosen {
    Chosen {
        work_id: id.to_owned(),
        epoch: Epoch::new(2),
        boot_nonce: "n".to_owned(),
        digest: "d".to_owned(),
        rows: 10,
        entries: 20,
        bytes: 30,
        ..Chosen::default()
    }
}

pub(crate) fn stage(name: &str, works: &[&str]) -> Stage {
    Stage { name: name.to_owned(), chosen: works.iter().map(|id| choice(id)).collect() }
}

pub(crate) fn silent(world: &mut World, slot: usize, age: u64) {
    (world.slots[slot].report_age, world.slots[slot].progress_age) = (age, age);
}

pub(crate) fn terminated(exit_code: i32) -> PodState {
    PodState::Terminated(Termination {
        exit_code,
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        kubelet_written: true,
        container_id_present: true,
        restart_never: true,
    })
}

pub(crate) fn report_mut(world: &mut World, slot: usize) -> &mut Report {
    world.slots[slot].record.status.report.as_mut().unwrap()
}

pub(crate) fn reports_result(world: &mut World, slot: usize) {
    let id = world.slots[slot].record.spec.work.as_ref().unwrap().id.clone();
    let epoch = world.slots[slot].record.spec.grant.as_ref().unwrap().epoch;
    report_mut(world, slot).result =
        Some(WorkResult { work_id: id, epoch, digest: "r".to_owned(), ..WorkResult::default() });
}

pub(crate) fn reports_error(
    world: &mut World,
    slot: usize,
    reason: WorkErrorReason,
    retryable: bool,
    damaged_splits: Vec<u32>,
) {
    report_mut(world, slot).error =
        Some(WorkError { reason, message: "what and where".to_owned(), retryable, damaged_splits });
}

pub(crate) fn update(
    decision: &Decision,
    slot: u32,
) -> Option<(&EngineDirectorySpec, DirectoryState, Option<OwnerChangeReason>)> {
    decision.actions.iter().find_map(|action| match action {
        Action::UpdateDirectory { slot: at, spec, state, change, .. } if *at == slot => Some((spec, *state, *change)),
        _ => None,
    })
}

pub(crate) fn changed(decision: &Decision, slot: u32) -> Option<OwnerChangeReason> {
    update(decision, slot).and_then(|(_, _, change)| change)
}

/// A line of a record's history.
pub(crate) fn owner_change(epoch: u64, reason: OwnerChangeReason) -> OwnerChange {
    OwnerChange {
        epoch: Epoch::new(epoch),
        pod_uid: String::new(),
        pod_name: String::new(),
        reason,
        time: String::new(),
        volume_generation: 1,
        claim_name: String::new(),
        boot_nonce: String::new(),
        node_name: String::new(),
        work_id: String::new(),
        work_ended: None,
    }
}

/// Carries out a decision with all that it makes of objects beside the records.
pub(crate) fn carry_out_all(world: &mut World, decision: &Decision) {
    carry_out(world, decision);
    for action in &decision.actions {
        match action {
            Action::DeleteDirectory { slot, .. } => world.slots.retain(|view| view.record.spec.slot != *slot),
            Action::DeleteClaim { name, .. } => world.claims.retain(|claim| claim.name != *name),
            Action::StopPod { uid, .. } => {
                world.pods.iter_mut().filter(|pod| pod.uid == *uid).for_each(|pod| pod.deleting = true);
            }
            _ => {}
        }
    }
}

/// Carries out what changes records and the build's status.
pub(crate) fn carry_out(world: &mut World, decision: &Decision) {
    for action in &decision.actions {
        match action {
            Action::UpdateDirectory { slot, spec, state, change, conditions, .. } => {
                let view = world.slots.iter_mut().find(|view| view.record.spec.slot == *slot).unwrap();
                if view.record.spec.grant != spec.grant {
                    view.grant_age = 0;
                }
                if let Some(reason) = change {
                    let epoch = spec.grant.as_ref().unwrap().epoch;
                    let generation = spec.volume.as_ref().map_or(0, |volume| volume.generation);
                    let change = OwnerChange { volume_generation: generation, ..owner_change(epoch.get(), *reason) };
                    view.record.status.history.push(change);
                }
                view.record.spec = spec.clone();
                view.record.status.state = *state;
                view.record.status.conditions.clone_from(conditions);
                view.record.version.push('+');
            }
            Action::FreezeStage { stage } => world.stages.push(stage.clone()),
            _ => {}
        }
    }
    world.build.status = Some(decision.status.clone());
    know_stages(world);
}

/// What is known of frozen stages by the status and by those that are there.
pub(crate) fn know_stages(world: &mut World) {
    let said = world.build.status.as_ref().and_then(|status| status.frozen_stages.as_deref()).unwrap_or_default();
    world.frozen =
        Frozen { unproved: std::mem::take(&mut world.frozen.unproved), ..Frozen::own(Some(said), &world.stages) };
}

/// The stages that a decision says are frozen, by name.
pub(crate) fn records_stages(decision: &Decision) -> Vec<String> {
    let said = decision.actions.iter().find_map(|action| match action {
        Action::RecordStages { stages } => Some(stages.iter().map(|stage| stage.name.clone()).collect()),
        _ => None,
    });
    said.unwrap_or_default()
}

pub(crate) fn settled(mut world: World) -> World {
    for _ in 0..4 {
        let decision = plan(&world);
        carry_out(&mut world, &decision);
    }
    world
}

/// The driver whose detach cuts a node off.
pub(crate) const DETACHES: &str = "detaches.example.com";

pub(crate) fn attached(node: &str) -> Option<Attached> {
    Some(Attached { driver: DETACHES.to_owned(), volume: "pv-9".to_owned(), node: node.to_owned() })
}

pub(crate) fn stranded(slot: u32) -> FormerVolume {
    FormerVolume {
        claim_name: names::claim("orders", UID, slot, 9),
        claim_uid: "claim-9".to_owned(),
        generation: 9,
        pod_name: names::pod("orders", UID, slot, Epoch::new(2)),
        pod_uid: "pod-9".to_owned(),
        boot_nonce: "nonce-9".to_owned(),
        epoch: Epoch::new(2),
        node_name: "node-2".to_owned(),
        boot_id: "boot-1".to_owned(),
        system_uuid: "machine-2".to_owned(),
        attached: attached("node-2"),
        state: VolumeState::Stranded,
        ..FormerVolume::default()
    }
}

/// Slot 0 has replaced a silent owner, whose volume is stranded.
pub(crate) fn replaced() -> World {
    let mut world = encoding();
    let former = stranded(0);
    world.claims.push(ClaimView {
        name: former.claim_name.clone(),
        uid: "claim-9".to_owned(),
        slot: 0,
        generation: 9,
        phase: ClaimPhase::Bound,
        foreign: false,
        nodes: None,
        outdated: false,
    });
    world.pods.push(PodView {
        name: former.pod_name.clone(),
        uid: "pod-9".to_owned(),
        slot: 0,
        epoch: Epoch::new(2),
        node: Some("node-2".to_owned()),
        deleting: false,
        disrupted: false,
        foreign: false,
        own_exit: None,
        as_asked: Some(true),
        suited: Vec::new(),
        state: PodState::Running,
    });
    world.slots[0].record.spec.former_volumes = vec![former];
    report_mut(&mut world, 0).progress = Some(0.9);
    world
}
