//! Whatever is observed, arbitrary nonsense included: no action without its evidence.
//!
//! The oracle looks at the world alone, never at the types that the planner makes its proofs of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use indexbuild_api::{
    Chosen, Claim, Condition, ConditionStatus, ConditionType, DeletionPolicy, DirectoryState, EngineDirectorySpec,
    EngineDirectoryStatus, FormerVolume, Grant, IndexBuildSpec, IndexBuildStatus, OutputSpec, OwnerChange,
    OwnerChangeReason, Reason, Report, RunLocation, VolumeRef, VolumeState, Waiting, Work, WorkError, WorkErrorReason,
    WorkKind, WorkResult, names,
};
use indexbuild_lifecycle::admission::review_spec;
use indexbuild_lifecycle::world::{
    BuildView, ClaimPhase, ClaimView, Clocks, LockScope, LockTaken, NodeReady, NodeView, PodState, PodView, Record,
    SlotView, Stage, Termination, World,
};
use indexbuild_lifecycle::{Action, plan};
use proptest::prelude::*;
use proptest::sample::select;

const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

// Small pools, so that things meet.
fn pod_uid() -> impl Strategy<Value = String> {
    select(vec!["", "p1", "p2", "p3", "unknown"]).prop_map(str::to_owned)
}
fn nonce() -> impl Strategy<Value = String> {
    select(vec!["", "n1", "n2"]).prop_map(str::to_owned)
}
fn epoch() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1_u64..6, 1 => Just(u64::MAX), 1 => Just(u64::from(u32::MAX))]
}
fn generation() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 1_u32..5, 1 => Just(u32::MAX)]
}
fn claim_uid() -> impl Strategy<Value = String> {
    select(vec!["", "c1", "c2", "c3"]).prop_map(str::to_owned)
}
fn claim_name(slot: u32) -> impl Strategy<Value = String> {
    (1_u32..5).prop_map(move |generation| names::claim("orders", UID, slot, generation))
}
fn node_name() -> impl Strategy<Value = String> {
    select(vec!["", "node-1", "node-2"]).prop_map(str::to_owned)
}
fn boot() -> impl Strategy<Value = String> {
    select(vec!["", "boot-1", "boot-2"]).prop_map(str::to_owned)
}
fn machine() -> impl Strategy<Value = String> {
    select(vec!["", "machine-1", "machine-2"]).prop_map(str::to_owned)
}
fn work_id() -> impl Strategy<Value = String> {
    select(vec!["plan", "encode-0", "encode-1", "encode-r1-0", "sort-0", "sort-1", "publish", "clean", "nonsense"])
        .prop_map(str::to_owned)
}
fn age() -> impl Strategy<Value = u64> {
    select(vec![0, 500, 2_000, 9_000, 11_000, 40_000, u64::MAX])
}

fn chosen() -> impl Strategy<Value = Chosen> {
    (work_id(), epoch(), nonce(), any::<bool>(), proptest::option::of(0_u32..3), proptest::option::of(0_u32..3))
        .prop_map(|(work_id, epoch, boot_nonce, on_volume, encode_works, sort_works)| Chosen {
            work_id,
            epoch,
            boot_nonce,
            digest: "d".to_owned(),
            rows: 1,
            entries: 1,
            bytes: u64::MAX,
            on_volume,
            encode_works,
            sort_works,
        })
}

fn work() -> impl Strategy<Value = Work> {
    (work_id(), any::<bool>(), proptest::collection::vec(0_u32..5, 0..3)).prop_map(|(id, volume, splits)| Work {
        kind: match id.as_str() {
            "plan" => WorkKind::Plan,
            "publish" => WorkKind::Publish,
            "clean" => WorkKind::Clean,
            id if id.starts_with("sort") => WorkKind::Sort,
            _ => WorkKind::Encode,
        },
        id,
        inputs_digest: "i".to_owned(),
        runs: if volume { RunLocation::Volume } else { RunLocation::Store },
        splits,
        inputs: vec!["plan".to_owned()],
    })
}

fn former(slot: u32) -> impl Strategy<Value = FormerVolume> {
    let place = (claim_name(slot), claim_uid(), generation(), any::<bool>());
    let owner = (pod_uid(), nonce(), epoch(), node_name(), boot(), machine());
    let state = select(vec![VolumeState::Stranded, VolumeState::Superseded, VolumeState::Idle, VolumeState::Lost]);
    (place, owner, state).prop_map(
        |(
            (claim_name, claim_uid, generation, condemned),
            (pod_uid, boot_nonce, epoch, node_name, node_boot_id, node_system_uuid),
            state,
        )| FormerVolume {
            claim_name,
            claim_uid,
            generation,
            condemned,
            pod_name: String::new(),
            pod_uid,
            boot_nonce,
            epoch,
            node_name,
            node_boot_id,
            node_system_uuid,
            state,
        },
    )
}

fn result() -> impl Strategy<Value = WorkResult> {
    (work_id(), epoch()).prop_map(|(work_id, epoch)| WorkResult {
        work_id,
        epoch,
        digest: "d".to_owned(),
        encode_works: Some(2),
        sort_works: Some(2),
        ..WorkResult::default()
    })
}
fn error() -> impl Strategy<Value = WorkError> {
    (
        select(vec![WorkErrorReason::DamagedInput, WorkErrorReason::NoSpace, WorkErrorReason::DuplicateKey]),
        any::<bool>(),
        proptest::collection::vec(0_u32..5, 0..3),
    )
        .prop_map(|(reason, retryable, damaged_splits)| WorkError {
            reason,
            message: "m".to_owned(),
            retryable,
            damaged_splits,
        })
}
fn report() -> impl Strategy<Value = Report> {
    let progress = proptest::option::of(select(vec![0.0, 0.4, 0.6, 1.0, f64::INFINITY]));
    (epoch(), nonce(), progress, proptest::option::of(result()), proptest::option::of(error()), any::<bool>()).prop_map(
        |(epoch, boot_nonce, progress, result, error, waits)| Report {
            epoch,
            boot_nonce,
            progress,
            result,
            error,
            rows: Some(u64::MAX),
            waiting: waits.then(|| Waiting { reason: Reason::WaitingForSpace, message: "room".to_owned() }),
            ..Report::default()
        },
    )
}

fn slot_view(slot: u32) -> impl Strategy<Value = SlotView> {
    let grant = proptest::option::weighted(0.9, (epoch(), pod_uid(), nonce()));
    let volume = proptest::option::weighted(0.9, (claim_name(slot), claim_uid(), generation(), any::<bool>()));
    let spec = (
        grant,
        proptest::option::weighted(0.8, work()),
        volume,
        proptest::collection::vec(former(slot), 0..3),
        proptest::collection::vec(chosen(), 0..3),
        0_u32..3,
    );
    let node = (proptest::option::of(node_name()), proptest::option::of(boot()), proptest::option::of(machine()));
    let history = proptest::collection::vec(
        (
            epoch(),
            select(vec![
                OwnerChangeReason::Rebound,
                OwnerChangeReason::Replaced,
                OwnerChangeReason::NextWork,
                OwnerChangeReason::AttemptFailed,
            ]),
        ),
        0..6,
    );
    let status = (node, proptest::option::of((pod_uid(), nonce())), proptest::option::weighted(0.8, report()), history);
    (spec, status, (age(), age(), age()), prop_oneof![19 => Just(UID.to_owned()), 1 => Just("another".to_owned())])
        .prop_map(
            move |(
                (grant, work, volume, formers, chosen, failed),
                ((node_name, boot_id, machine), claim, report, history),
                (report_age, progress_age, grant_age),
                build_uid,
            )| {
                // A record names a volume in one place: no write of the planner makes it two.
                let mut seen: BTreeSet<String> = volume.iter().map(|(name, ..)| name.clone()).collect();
                let formers: Vec<_> =
                    formers.into_iter().filter(|volume| seen.insert(volume.claim_name.clone())).collect();
                let mut seen = BTreeSet::new();
                let chosen: Vec<_> = chosen.into_iter().filter(|chosen| seen.insert(chosen.work_id.clone())).collect();
                let grant = grant.map(|(epoch, pod_uid, boot_nonce)| Grant {
                    epoch,
                    pod_name: names::pod("orders", UID, slot, epoch),
                    pod_uid,
                    boot_nonce,
                });
                let spec = EngineDirectorySpec {
                    build_name: "orders".to_owned(),
                    build_uid,
                    slot,
                    work: if grant.is_some() { work } else { None },
                    grant,
                    volume: volume.map(|(claim_name, claim_uid, generation, condemned)| VolumeRef {
                        claim_name,
                        claim_uid,
                        generation,
                        condemned,
                    }),
                    former_volumes: formers,
                    chosen,
                    failed_attempts: failed,
                    ..EngineDirectorySpec::default()
                };
                let status = EngineDirectoryStatus {
                    state: DirectoryState::Working,
                    node_name,
                    node_boot_id: boot_id,
                    node_system_uuid: machine,
                    claim: claim.map(|(pod_uid, boot_nonce)| Claim { pod_uid, boot_nonce }),
                    report,
                    history: history
                        .into_iter()
                        .map(|(epoch, reason)| OwnerChange {
                            epoch,
                            pod_uid: String::new(),
                            pod_name: String::new(),
                            reason,
                            time: String::new(),
                            volume_generation: 1,
                        })
                        .collect(),
                    ..EngineDirectoryStatus::default()
                };
                SlotView {
                    record: Record { spec, status, version: "7".to_owned() },
                    report_age,
                    progress_age,
                    grant_age,
                }
            },
        )
}

fn pod() -> impl Strategy<Value = PodView> {
    let ended = (select(vec![0, 10, 11, 137]), any::<(bool, bool, bool, bool)>()).prop_map(
        |(exit_code, (finished, kubelet_written, container_id_present, restart_never))| {
            PodState::Terminated(Termination {
                exit_code,
                finished_at: if finished { "2026-01-01T00:00:00Z".to_owned() } else { String::new() },
                kubelet_written,
                container_id_present,
                restart_never,
            })
        },
    );
    let whole = Just(PodState::Terminated(Termination {
        exit_code: 137,
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        kubelet_written: true,
        container_id_present: true,
        restart_never: true,
    }));
    let state = prop_oneof![Just(PodState::Pending), Just(PodState::Running), Just(PodState::Unknown), ended, whole];
    (pod_uid(), 0_u32..4, epoch(), proptest::option::of(node_name()), any::<bool>(), state).prop_map(
        |(uid, slot, epoch, node, deleting, state)| PodView {
            name: names::pod("orders", UID, slot, epoch),
            uid,
            slot,
            epoch,
            node,
            deleting,
            state,
        },
    )
}

fn claim() -> impl Strategy<Value = ClaimView> {
    let lock = (pod_uid(), nonce(), proptest::option::of(epoch())).prop_map(|(pod_uid, boot_nonce, epoch)| LockTaken {
        pod_uid,
        boot_nonce,
        scope: epoch.map_or(LockScope::Process, |epoch| LockScope::Attempt { epoch }),
    });
    let phase = select(vec![
        ClaimPhase::Bound,
        ClaimPhase::Bound,
        ClaimPhase::Bound,
        ClaimPhase::Pending,
        ClaimPhase::Lost,
        ClaimPhase::Terminating,
    ]);
    (0_u32..4, 1_u32..5, claim_uid(), phase, proptest::bool::weighted(0.1), proptest::option::of(lock)).prop_map(
        |(slot, generation, uid, phase, foreign, lock_taken)| ClaimView {
            name: names::claim("orders", UID, slot, generation),
            uid: if uid.is_empty() { "c9".to_owned() } else { uid },
            slot,
            generation,
            phase,
            foreign,
            lock_taken,
        },
    )
}

fn node() -> impl Strategy<Value = NodeView> {
    let ready = select(vec![NodeReady::True, NodeReady::True, NodeReady::True, NodeReady::False, NodeReady::Unknown]);
    (node_name(), boot(), machine(), ready, any::<(bool, bool, bool)>()).prop_map(
        |(name, boot_id, system_uuid, ready, (out_of_service, gone, volumes_detached))| NodeView {
            name,
            boot_id,
            system_uuid,
            ready,
            unready_age: 0,
            out_of_service,
            gone,
            volumes_detached,
            cordoned: false,
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let spec = (1_u32..4, 0_u32..4, proptest::bool::weighted(0.1), any::<bool>()).prop_map(
        |(parallelism, backoff_limit, suspend, delete)| IndexBuildSpec {
            parallelism,
            backoff_limit,
            suspend,
            output: OutputSpec {
                url: "s3://indexes".to_owned(),
                deletion_policy: if delete { DeletionPolicy::Delete } else { DeletionPolicy::Retain },
                ..OutputSpec::default()
            },
            ..IndexBuildSpec::default()
        },
    );
    let build = (
        spec,
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.9),
        proptest::bool::weighted(0.03),
        proptest::bool::weighted(0.2),
        age(),
    );
    let slots = proptest::collection::vec((0_u32..4).prop_flat_map(slot_view), 0..4);
    let stages = proptest::collection::vec(
        (
            select(vec!["plan", "encode", "encode-r1", "sort", "publish", "clean"]),
            proptest::collection::vec(chosen(), 0..3),
        ),
        0..6,
    );
    (
        build,
        slots,
        proptest::collection::vec(pod(), 0..6),
        proptest::collection::vec(claim(), 0..6),
        proptest::collection::vec(node(), 0..4),
        stages,
    )
        .prop_map(
            |((spec, deleting, finalizer, disabled, failed, deletion_age), slots, pods, claims, nodes, stages)| {
                // What an API server makes sure of: one object of a name.
                let mut seen = BTreeSet::new();
                let slots = slots.into_iter().filter(|view| seen.insert(view.record.spec.slot)).collect();
                let mut seen = BTreeSet::new();
                let pods = pods.into_iter().filter(|pod| seen.insert(pod.name.clone())).collect();
                let mut seen = BTreeSet::new();
                let claims = claims.into_iter().filter(|claim| seen.insert(claim.name.clone())).collect();
                let mut seen = BTreeSet::new();
                let nodes = nodes.into_iter().filter(|node| seen.insert(node.name.clone())).collect();
                let mut seen = BTreeSet::new();
                let stages = stages
                    .into_iter()
                    .filter(|(name, _)| seen.insert(*name))
                    .map(|(name, chosen)| Stage { name: name.to_owned(), chosen })
                    .collect();
                let status = failed.then(|| IndexBuildStatus {
                    conditions: vec![Condition {
                        condition_type: ConditionType::Failed,
                        status: ConditionStatus::True,
                        reason: Reason::DuplicateKey,
                        message: "m".to_owned(),
                        last_transition_time: None,
                        observed_generation: None,
                    }],
                    ..IndexBuildStatus::default()
                });
                World {
                    now: 1_000_000,
                    wall: "2026-01-01T00:00:00Z".to_owned(),
                    build: BuildView {
                        uid: UID.to_owned(),
                        name: "orders".to_owned(),
                        namespace: "shop".to_owned(),
                        generation: 3,
                        spec,
                        status,
                        deleting,
                        deletion_age,
                        finalizer,
                        reconcile_disabled: disabled,
                        clocks: Clocks { renew_interval: 1_000, replace_after: 10_000, orphan_after: 30_000 },
                        percent_per_second: Some(0.5),
                    },
                    slots,
                    pods,
                    claims,
                    nodes,
                    stages,
                }
            },
        )
}

// ---- the oracle ----

struct Owner<'a> {
    pod_uid: &'a str,
    nonce: &'a str,
    epoch: u64,
    node: &'a str,
    boot: &'a str,
    machine: &'a str,
    recorded: bool,
}

/// disruptions.md, "Evidence", word by word.
fn proved_gone(world: &World, owner: &Owner<'_>, claim: &str) -> bool {
    if owner.nonce.is_empty() || owner.recorded {
        return true;
    }
    let a = !owner.pod_uid.is_empty()
        && world.pods.iter().any(|pod| pod.uid == owner.pod_uid)
        && world.pods.iter().filter(|pod| pod.uid == owner.pod_uid).all(|pod| match &pod.state {
            PodState::Terminated(ended) => {
                ended.restart_never
                    && ended.container_id_present
                    && ended.kubelet_written
                    && !ended.finished_at.is_empty()
            }
            _ => false,
        });
    let node = world.nodes.iter().find(|node| node.name == owner.node);
    let b = node.is_some_and(|node| {
        !node.gone
            && !owner.machine.is_empty()
            && owner.machine == node.system_uuid
            && !owner.boot.is_empty()
            && !node.boot_id.is_empty()
            && owner.boot != node.boot_id
    });
    let c = node.is_some_and(|node| node.gone && node.volumes_detached);
    let d = node.is_some_and(|node| node.out_of_service && node.volumes_detached)
        && !world.pods.iter().any(|pod| pod.uid == owner.pod_uid);
    let e = !owner.pod_uid.is_empty()
        && world.claims.iter().filter(|view| view.name == claim).filter_map(|view| view.lock_taken.as_ref()).any(
            |lock| {
                lock.pod_uid == owner.pod_uid
                    && lock.boot_nonce == owner.nonce
                    && match lock.scope {
                        LockScope::Process => true,
                        LockScope::Attempt { epoch } => epoch == owner.epoch,
                    }
            },
        );
    a || b || c || d || e
}

fn current_owner<'a>(record: &'a Record) -> Option<Owner<'a>> {
    let grant = record.spec.grant.as_ref()?;
    Some(Owner {
        pod_uid: &grant.pod_uid,
        nonce: &grant.boot_nonce,
        epoch: grant.epoch,
        node: record.status.node_name.as_deref().unwrap_or(""),
        boot: record.status.node_boot_id.as_deref().unwrap_or(""),
        machine: record.status.node_system_uuid.as_deref().unwrap_or(""),
        recorded: false,
    })
}

fn former_owner(volume: &FormerVolume) -> Owner<'_> {
    Owner {
        pod_uid: &volume.pod_uid,
        nonce: &volume.boot_nonce,
        epoch: volume.epoch,
        node: &volume.node_name,
        boot: &volume.node_boot_id,
        machine: &volume.node_system_uuid,
        recorded: volume.state == VolumeState::Idle,
    }
}

fn most_lost(world: &World) -> bool {
    let known: Vec<_> = world.nodes.iter().filter(|node| !node.gone).collect();
    known.iter().filter(|node| node.ready != NodeReady::True).count() * 2 > known.len()
}

fn record_of(world: &World, slot: u32) -> &Record {
    &world.slots.iter().find(|view| view.record.spec.slot == slot).unwrap().record
}

/// I4, G7, G8: a claim is deleted only if the record condemns it and its last owner is proved gone.
fn check_delete(world: &World, name: &str, uid: &str) {
    let allowed = world.slots.iter().map(|view| &view.record).any(|record| {
        let current = record.spec.volume.as_ref().is_some_and(|volume| {
            volume.condemned
                && volume.claim_name == name
                && volume.claim_uid == uid
                && current_owner(record).is_none_or(|owner| proved_gone(world, &owner, name))
        });
        let former = record.spec.former_volumes.iter().any(|volume| {
            volume.condemned
                && volume.claim_name == name
                && volume.claim_uid == uid
                && proved_gone(world, &former_owner(volume), name)
        });
        current || former
    });
    assert!(allowed, "{name} ({uid}) is deleted without proof");
    let claim =
        world.claims.iter().find(|claim| claim.name == name && claim.uid == uid).expect("what is deleted was seen");
    assert!(!claim.foreign, "{name} is somebody else's");
    assert!(!claim_is_used(world, name), "a pod that has not ended may use {name}");
}

fn claim_is_used(world: &World, name: &str) -> bool {
    world.slots.iter().map(|view| &view.record.spec).any(|spec| {
        let users = spec
            .former_volumes
            .iter()
            .filter(|volume| volume.claim_name == name)
            .map(|volume| volume.pod_uid.as_str())
            .chain(
                spec.volume
                    .iter()
                    .filter(|volume| volume.claim_name == name)
                    .filter_map(|_| spec.grant.as_ref().map(|grant| grant.pod_uid.as_str())),
            );
        users
            .filter(|uid| !uid.is_empty())
            .any(|uid| world.pods.iter().any(|pod| pod.uid == uid && !matches!(pod.state, PodState::Terminated(_))))
    })
}

fn check_update(world: &World, slot: u32, new: &EngineDirectorySpec, change: Option<OwnerChangeReason>) {
    let record = record_of(world, slot);
    let old = &record.spec;
    review_spec(old, new).unwrap_or_else(|refusal| panic!("{refusal}\n{old:?}\n{new:?}"));
    let epoch = |spec: &EngineDirectorySpec| spec.grant.as_ref().map_or(0, |grant| grant.epoch);
    // G1, G3: by exactly one, with every change of owner or work, and never down.
    let owner = |spec: &EngineDirectorySpec| spec.grant.as_ref().map(|grant| (grant.pod_name.clone(), grant.epoch));
    assert_eq!(change.is_some(), owner(old) != owner(new) || old.work != new.work);
    if old.grant.is_some() {
        assert_eq!(epoch(new), epoch(old) + u64::from(change.is_some()));
    }
    if change.is_some() {
        let grant = new.grant.as_ref().unwrap();
        let same_process = old.grant.as_ref().is_some_and(|old| {
            old.pod_uid == grant.pod_uid && !grant.pod_uid.is_empty() && old.boot_nonce == grant.boot_nonce
        });
        if !same_process {
            // G10, G9: a name of its own, and nobody bound yet.
            assert!(grant.pod_name.ends_with(&format!("-e{}", grant.epoch)));
            assert_eq!((grant.pod_uid.as_str(), grant.boot_nonce.as_str()), ("", ""));
            // I4: another owner on a volume that somebody had only after proof that he is gone.
            if let Some(volume) = &new.volume {
                let had = old.volume.as_ref().is_some_and(|old| old.claim_name == volume.claim_name);
                if had && let Some(owner) = current_owner(record) {
                    assert!(
                        proved_gone(world, &owner, &volume.claim_name),
                        "{} is given on without proof",
                        volume.claim_name
                    );
                }
                for former in old.former_volumes.iter().filter(|former| former.claim_name == volume.claim_name) {
                    assert!(!former.condemned && proved_gone(world, &former_owner(former), &volume.claim_name));
                }
            }
        }
    }
    // No volume that is there and ours is forgotten.
    let forgotten = old
        .volume
        .iter()
        .map(|volume| (&volume.claim_name, &volume.claim_uid))
        .chain(old.former_volumes.iter().map(|volume| (&volume.claim_name, &volume.claim_uid)));
    for (name, uid) in forgotten {
        let there = world.claims.iter().any(|claim| claim.name == *name && claim.uid == *uid && !claim.foreign);
        let held = new.volume.iter().any(|volume| volume.claim_name == *name)
            || new.former_volumes.iter().any(|volume| volume.claim_name == *name);
        assert!(!there || held, "{name} is forgotten");
    }
    // G3: only a result of the granted epoch, nonce and work is chosen.
    for chosen in new.chosen.iter().filter(|chosen| !old.chosen.contains(chosen)) {
        let (grant, report) = (old.grant.as_ref().unwrap(), record.status.report.as_ref().unwrap());
        let result = report.result.as_ref().unwrap();
        assert_eq!(
            (chosen.epoch, chosen.boot_nonce.as_str(), chosen.work_id.as_str()),
            (grant.epoch, grant.boot_nonce.as_str(), old.work.as_ref().unwrap().id.as_str())
        );
        assert_eq!(
            (report.epoch, report.boot_nonce.as_str(), result.epoch, result.work_id.as_str()),
            (grant.epoch, grant.boot_nonce.as_str(), grant.epoch, chosen.work_id.as_str())
        );
    }
    // G2: a choice leaves the record only when its stage is frozen.
    for chosen in old.chosen.iter().filter(|chosen| !new.chosen.contains(chosen)) {
        let id = chosen.work_id.as_str();
        let stage = match id {
            "encode-r1-0" => "encode-r1",
            _ if id.starts_with("encode") => "encode",
            _ if id.starts_with("sort") => "sort",
            _ => id,
        };
        let frozen = world.stages.iter().any(|frozen| frozen.name == stage || frozen.chosen.contains(chosen));
        assert!(frozen, "{id} is dropped before {stage} is frozen");
    }
}

fn check(world: &World) {
    let decision = plan(world);
    assert_eq!(decision, plan(world));
    let lost = most_lost(world);
    assert!(
        decision.actions.iter().filter(|action| action.is_destructive()).count() <= 1,
        "one destructive action per pass"
    );
    let mut written = BTreeSet::new();
    for action in &decision.actions {
        // Row 23.
        assert!(!(lost && action.is_destructive()), "{action:?} while most nodes are lost");
        match action {
            Action::AddFinalizer => assert!(!world.build.finalizer && !world.build.deleting),
            Action::RemoveFinalizer => assert!(world.build.finalizer),
            Action::CreateDirectory { slot, spec } => {
                assert!(world.slots.iter().all(|view| view.record.spec.slot != *slot));
                assert!(written.insert(*slot));
                let grant = spec.grant.as_ref().unwrap();
                // Row 31: above whatever is seen of the slot.
                assert!(
                    world
                        .pods
                        .iter()
                        .filter(|pod| pod.slot == *slot)
                        .all(|pod| pod.epoch < grant.epoch || pod.epoch == u64::MAX)
                );
            }
            Action::UpdateDirectory { slot, version, spec, state: _, change, node: _ } => {
                assert_eq!(*version, record_of(world, *slot).version);
                assert_eq!(record_of(world, *slot).spec.build_uid, world.build.uid, "another build's record");
                assert!(written.insert(*slot), "one write per record and pass");
                check_update(world, *slot, spec, *change);
                assert!(
                    !lost
                        || !matches!(change, Some(OwnerChangeReason::Replaced))
                        || world.pods.is_empty()
                        || !is_mass_replacement(world, *slot, spec),
                    "replaced while most nodes are lost"
                );
            }
            Action::DeleteDirectory { slot, version } => {
                let record = record_of(world, *slot);
                assert_eq!(*version, record.version);
                assert!(
                    record.spec.volume.is_none() && record.spec.former_volumes.is_empty(),
                    "volumes unaccounted for"
                );
            }
            Action::CreateClaim { name, .. } => assert!(world.claims.iter().all(|claim| claim.name != *name)),
            Action::CreatePod { slot, epoch, name, claim } => {
                // G10.
                assert!(world.pods.iter().all(|pod| pod.name != *name), "{name} exists");
                assert!(name.ends_with(&format!("-e{epoch}")));
                let spec = &record_of(world, *slot).spec;
                let (grant, volume) = (spec.grant.as_ref().unwrap(), spec.volume.as_ref().unwrap());
                assert_eq!((grant.epoch, &grant.pod_name, grant.pod_uid.as_str()), (*epoch, name, ""));
                assert!(volume.claim_name == *claim && !volume.condemned, "G7");
                assert!(
                    !world.build.spec.suspend
                        || world.build.deleting
                        || decision
                            .status
                            .conditions
                            .iter()
                            .any(|c| c.condition_type == ConditionType::Finished && c.status == ConditionStatus::True),
                    "a pod is made while the build pauses"
                );
            }
            Action::StopPod { name, uid, .. } => {
                assert!(world.pods.iter().any(|pod| pod.name == *name && pod.uid == *uid))
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                check_delete(world, name, uid);
                assert_eq!(
                    (condemned.claim_name(), condemned.claim_uid(), evidence.claim_name()),
                    (name.as_str(), uid.as_str(), name.as_str())
                );
            }
            Action::FreezeStage { stage } => {
                // G6.
                assert!(world.stages.iter().all(|frozen| frozen.name != stage.name), "{} exists", stage.name);
                // G2: in a record first, and there in the world as observed.
                for chosen in &stage.chosen {
                    assert!(
                        world.slots.iter().any(|view| view.record.spec.chosen.contains(chosen)),
                        "{chosen:?} is in no record"
                    );
                }
            }
        }
    }
    no_work_twice(world, &decision.actions);
    // I5.
    for wait in &decision.waits {
        assert!(wait.until >= world.now && !wait.what.is_empty() && !wait.ends_when.is_empty());
    }
    assert!(decision.requeue > 0);
    if world.build.reconcile_disabled {
        assert_eq!(decision.actions, Vec::new());
    }
    // I8: the same world with this status has nothing new to say, if nothing was done.
    if decision.actions.is_empty() {
        let mut next = world.clone();
        let failed_before = world.build.status.as_ref().is_some_and(|status| {
            status
                .conditions
                .iter()
                .any(|c| c.condition_type == ConditionType::Failed && c.status == ConditionStatus::True)
        });
        next.build.status = Some(decision.status.clone());
        next.wall = "2026-01-01T00:00:01Z".to_owned();
        let again = plan(&next);
        let failed_now =
            decision.status.condition(ConditionType::Failed).is_some_and(|c| c.status == ConditionStatus::True);
        if failed_before == failed_now {
            assert_eq!(again.status, decision.status);
        }
    }
}

/// A replacement of an owner that is only silent: what row 23 forbids.
fn is_mass_replacement(world: &World, slot: u32, new: &EngineDirectorySpec) -> bool {
    let record = record_of(world, slot);
    let sound = record.spec.volume.as_ref().is_some_and(|volume| {
        !volume.condemned
            && world.claims.iter().any(|claim| {
                claim.name == volume.claim_name
                    && (volume.claim_uid.is_empty() || claim.uid == volume.claim_uid)
                    && !claim.foreign
                    && claim.phase == ClaimPhase::Bound
            })
    });
    let moved = new.volume.as_ref().map(|volume| &volume.claim_name)
        != record.spec.volume.as_ref().map(|volume| &volume.claim_name);
    sound && moved && current_owner(record).is_some_and(|owner| !proved_gone(world, &owner, ""))
}

/// Never two grants for one work by one decision, nor one for a work that another slot still has the right to.
fn no_work_twice(world: &World, actions: &[Action]) {
    let mut after: Vec<(u32, Option<Work>, bool)> = Vec::new();
    for view in &world.slots {
        let spec = &view.record.spec;
        if spec.build_uid == world.build.uid {
            let update = actions.iter().find_map(|action| match action {
                Action::UpdateDirectory { slot, spec, change, .. } if *slot == view.record.spec.slot => {
                    Some((spec.work.clone(), change.is_some()))
                }
                _ => None,
            });
            let (work, granted) = update.unwrap_or((spec.work.clone(), false));
            after.push((spec.slot, work, granted));
        }
    }
    for action in actions {
        if let Action::CreateDirectory { slot, spec } = action {
            after.push((*slot, spec.work.clone(), true));
        }
    }
    for (slot, work, granted) in &after {
        let Some(work) = work.as_ref().filter(|_| *granted) else {
            continue;
        };
        let had_it = world.slots.iter().any(|view| {
            view.record.spec.slot == *slot && view.record.spec.work.as_ref().is_some_and(|had| had.id == work.id)
        });
        for (other, theirs, _) in &after {
            if other != slot && !had_it && theirs.as_ref().is_some_and(|theirs| theirs.id == work.id) {
                let freed = world.slots.iter().find(|view| view.record.spec.slot == *other).is_some_and(|view| {
                    // A Clean that was done once may be granted again elsewhere, and a done work's name stands until the next.
                    let id = &work.id;
                    view.record.spec.chosen.iter().any(|chosen| chosen.work_id == *id)
                        || world.stages.iter().any(|stage| stage.chosen.iter().any(|chosen| chosen.work_id == *id))
                });
                assert!(freed, "{} is granted to slots {slot} and {other}", work.id);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// G1, G2, G3, G6, G7, G8, G9, G10, I4, I5, I8, on whatever is observed.
    #[test]
    fn no_action_without_its_evidence_whatever_is_observed(world in world()) {
        check(&world);
    }
}
