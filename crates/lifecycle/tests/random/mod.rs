//! Worlds of arbitrary nonsense, from small pools, so that things meet.

mod gone;
pub(crate) mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{
    AfterBuild, Attached, Chosen, Claim, Condition, ConditionStatus, ConditionType, DeletionPolicy, DirectoryState,
    Duration, EngineDirectorySpec, EngineDirectoryStatus, Epoch, FormerVolume, Grant, IndexBuildSpec, IndexBuildStatus,
    OutputSpec, OwnerChangeReason, Past, Reason, Release, Report, ReportedWait, Retention, RunLocation, VolumeRef,
    VolumeRetention, VolumeSpec, VolumeState, Work, WorkError, WorkErrorReason, WorkKind, WorkResult, names,
};
use indexbuild_lifecycle::Platform;
use indexbuild_lifecycle::world::*;
use proptest::prelude::*;
use proptest::sample::select;

const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";
fn pod_uid() -> impl Strategy<Value = String> {
    select(vec!["", "p1", "p2", "p3", "unknown"]).prop_map(str::to_owned)
}
fn nonce() -> impl Strategy<Value = String> {
    select(vec!["", "n1", "n2"]).prop_map(str::to_owned)
}
fn epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![8 => 1_u64..6, 1 => Just(u64::MAX), 1 => Just(u64::from(u32::MAX))].prop_map(Epoch::new)
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
fn attached() -> impl Strategy<Value = Option<Attached>> {
    proptest::option::weighted(0.8, (select(vec!["detaches", "detaches", "pretends"]), node_name())).prop_map(
        |attached| attached.map(|(driver, node)| Attached { driver: driver.to_owned(), volume: "pv".to_owned(), node }),
    )
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
            committed: on_volume,
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
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    })
}

fn former(slot: u32) -> impl Strategy<Value = FormerVolume> {
    let place = (claim_name(slot), claim_uid(), generation(), any::<bool>());
    let owner = (pod_uid(), nonce(), epoch(), node_name(), boot(), machine(), attached());
    let state = select(vec![VolumeState::Stranded, VolumeState::Superseded, VolumeState::Idle, VolumeState::Lost]);
    (place, owner, state).prop_map(
        |(
            (claim_name, claim_uid, generation, condemned),
            (pod_uid, boot_nonce, epoch, node_name, boot_id, system_uuid, attached),
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
            boot_id,
            system_uuid,
            attached,
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
    (epoch(), nonce(), progress, proptest::option::of(result()), proptest::option::of(error()), any::<[bool; 4]>())
        .prop_map(|(epoch, boot_nonce, progress, result, error, [waits, ending, store, needs_help])| Report {
            epoch,
            boot_nonce,
            progress,
            result,
            error,
            ending,
            rows: Some(u64::MAX),
            waiting: waits.then(|| ReportedWait {
                reason: if store { Reason::WaitingForStore } else { Reason::WaitingForSpace },
                message: "what".to_owned(),
                needs_help,
            }),
            ..Report::default()
        })
}

fn retention() -> impl Strategy<Value = Retention> {
    select(vec![Retention::Delete, Retention::Retain])
}
fn policies() -> impl Strategy<Value = VolumeRetention> {
    (retention(), retention(), retention()).prop_map(|(when_published, when_failed, when_deleted)| VolumeRetention {
        when_published,
        when_failed,
        when_deleted,
    })
}
fn after_build() -> impl Strategy<Value = AfterBuild> {
    (retention(), select(vec![1_000, 10_000, 3_600_000]))
        .prop_map(|(volumes, patience)| AfterBuild { volumes, replace_after: Duration::from_millis(patience) })
}

/// A machine is that of a bound process: the rules of records keep it so.
fn grant(slot: u32) -> impl Strategy<Value = Grant> {
    (epoch(), pod_uid(), nonce(), node_name(), boot(), machine(), attached()).prop_map(
        move |(epoch, pod_uid, boot_nonce, node_name, boot_id, system_uuid, attached)| {
            let node_name = if pod_uid.is_empty() { String::new() } else { node_name };
            let boot_id = if boot_nonce.is_empty() { String::new() } else { boot_id };
            let known = !node_name.is_empty() && !boot_id.is_empty();
            Grant {
                epoch,
                pod_name: names::pod("orders", UID, slot, epoch),
                pod_uid,
                // Of a process alone.
                attached: attached.filter(|_| !boot_nonce.is_empty()),
                boot_nonce,
                node_name,
                boot_id,
                system_uuid: if known { system_uuid } else { String::new() },
            }
        },
    )
}
fn claimed() -> impl Strategy<Value = Claim> {
    (pod_uid(), nonce(), boot()).prop_map(|(pod_uid, boot_nonce, boot_id)| Claim { pod_uid, boot_nonce, boot_id })
}
fn past() -> impl Strategy<Value = Past> {
    (0_u64..3, epoch(), any::<[bool; 3]>(), 0_u32..40, 0_u32..6).prop_map(
        |(first_epoch, next_work_epoch, [failed, ended, replaced], tries, failed_tries)| Past {
            first_epoch: Epoch::new(first_epoch),
            next_work_epoch,
            tries,
            failed_tries,
            failures_in_a_row: u32::from(failed),
            ends_in_a_row: u32::from(ended) * tries,
            replacements_in_a_row: u32::from(replaced) * tries,
        },
    )
}
/// What is wrong with an owner's last word.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Nothing,
    Nonce,
    Epoch,
    Claim,
    Pod,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    select(vec![Wrong::Nothing, Wrong::Nothing, Wrong::Nonce, Wrong::Epoch, Wrong::Claim, Wrong::Pod])
}

/// Last words of the owners that a record knows: true ones, and such as speak of another process, epoch, volume or pod.
fn released(spec: &EngineDirectorySpec, words: &[Option<Wrong>]) -> BTreeMap<String, Release> {
    let granted = spec.grant.iter().zip(&spec.volume).map(|(grant, volume)| {
        (grant.pod_uid.clone(), grant.boot_nonce.clone(), grant.epoch, volume.claim_name.clone())
    });
    let former = spec
        .former_volumes
        .iter()
        .map(|volume| (volume.pod_uid.clone(), volume.boot_nonce.clone(), volume.epoch, volume.claim_name.clone()));
    let mut released = BTreeMap::new();
    for ((mut uid, mut boot_nonce, mut epoch, mut claim_name), wrong) in granted.chain(former).zip(words) {
        match wrong {
            None => continue,
            Some(Wrong::Nothing) => {}
            Some(Wrong::Nonce) => boot_nonce.push('x'),
            Some(Wrong::Epoch) => epoch = epoch.before(),
            Some(Wrong::Claim) => claim_name.push('x'),
            Some(Wrong::Pod) => uid.push('x'),
        }
        released.insert(uid, Release { epoch, boot_nonce, claim_name });
    }
    released
}

fn slot_view(slot: u32) -> impl Strategy<Value = SlotView> {
    let grant = proptest::option::weighted(0.9, grant(slot));
    let volume = proptest::option::weighted(0.9, (claim_name(slot), claim_uid(), generation(), any::<bool>()));
    let spec = (
        grant,
        proptest::option::weighted(0.8, work()),
        volume,
        proptest::collection::vec(former(slot), 0..3),
        proptest::collection::vec(chosen(), 0..3),
        0_u32..3,
        proptest::option::weighted(0.8, after_build()),
    );
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
    let status = (
        proptest::option::of(claimed()),
        proptest::option::weighted(0.8, report()),
        history,
        past(),
        proptest::collection::vec(proptest::option::weighted(0.3, wrong()), 4),
    );
    (spec, status, (age(), age(), age()), prop_oneof![19 => Just(UID.to_owned()), 1 => Just("another".to_owned())])
        .prop_map(
            move |(
                (grant, work, volume, formers, chosen, failed, after_build),
                (claim, report, history, past, words),
                (report_age, progress_age, grant_age),
                build_uid,
            )| {
                // A record names a volume in one place: no write of the planner makes it two.
                let mut seen: BTreeSet<String> = volume.iter().map(|(name, ..)| name.clone()).collect();
                let formers: Vec<_> =
                    formers.into_iter().filter(|volume| seen.insert(volume.claim_name.clone())).collect();
                let mut seen = BTreeSet::new();
                let chosen: Vec<_> = chosen.into_iter().filter(|chosen| seen.insert(chosen.work_id.clone())).collect();
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
                    past,
                    after_build,
                    ..EngineDirectorySpec::default()
                };
                let status = EngineDirectoryStatus {
                    released: released(&spec, &words),
                    state: DirectoryState::Working,
                    claim,
                    report,
                    history: history
                        .into_iter()
                        .map(|(epoch, reason)| crate::scene::owner_change(epoch.get(), reason))
                        .collect(),
                    ..EngineDirectoryStatus::default()
                };
                SlotView {
                    record: Record { spec, status, version: "7".to_owned() },
                    report_age,
                    progress_age,
                    grant_age,
                    longest_interval: 0,
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
    let state = prop_oneof![
        Just(PodState::Queued),
        Just(PodState::Pending),
        Just(PodState::Running),
        Just(PodState::Unknown),
        ended,
        whole
    ];
    let asked = (select(vec![Some(true), Some(true), Some(false), None]), proptest::collection::vec(node_name(), 0..2));
    (pod_uid(), 0_u32..4, epoch(), proptest::option::of(node_name()), any::<bool>(), state, asked).prop_map(
        |(uid, slot, epoch, node, deleting, state, (as_asked, suited))| PodView {
            name: names::pod("orders", UID, slot, epoch),
            uid,
            slot,
            epoch,
            node,
            deleting,
            disrupted: false,
            foreign: false,
            own_exit: None,
            as_asked,
            suited,
            state,
        },
    )
}

fn claim() -> impl Strategy<Value = ClaimView> {
    let phase = select(vec![
        ClaimPhase::Bound,
        ClaimPhase::Bound,
        ClaimPhase::Bound,
        ClaimPhase::Pending,
        ClaimPhase::Lost,
        ClaimPhase::Terminating,
    ]);
    let nodes = proptest::option::of(proptest::collection::vec(node_name(), 0..2));
    (0_u32..4, 1_u32..5, claim_uid(), phase, proptest::bool::weighted(0.1), nodes).prop_map(
        |(slot, generation, uid, phase, foreign, nodes)| ClaimView {
            name: names::claim("orders", UID, slot, generation),
            uid: if uid.is_empty() { "c9".to_owned() } else { uid },
            slot,
            generation,
            phase,
            foreign,
            nodes,
            outdated: generation == 2,
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
            readiness_age: 0,
            out_of_service,
            gone,
            volumes_detached,
            cordoned: false,
            pressed: false,
        },
    )
}

/// Stages of which the object is gone, or another one stands there, or both; and objects of stages that are not frozen.
fn doubtful(doubts: &[(&str, u8, Vec<Chosen>)], unsaid: bool) -> Frozen {
    let mut frozen = Frozen { unsaid: unsaid.then(Vec::new), ..Frozen::default() };
    for (name, kind, chosen) in doubts {
        let stage = Stage { name: (*name).to_owned(), chosen: chosen.clone() };
        let said = stage.frozen().unwrap();
        if *kind >= 3 && !unsaid {
            frozen.lost.push(said.clone());
        }
        if matches!(kind, 1 | 2 | 4 | 5) {
            let holds = (*kind % 2 == 1).then(|| {
                let forged = Stage { chosen: Vec::new(), ..stage.clone() };
                if *kind == 1 { (stage, said.digest) } else { (forged.clone(), forged.frozen().unwrap().digest) }
            });
            let object = names::config_map("orders", UID, name);
            frozen.unproved.push(Unproved { stage: (*name).to_owned(), object, holds });
        }
    }
    frozen
}

fn attachments() -> impl Strategy<Value = Attachments> {
    let seen = (0_u32..4)
        .prop_flat_map(|slot| (claim_name(slot), attached()))
        .prop_filter_map("not attached", |(claim, attached)| Some(AttachmentView { claim, attached: attached? }));
    proptest::collection::vec(seen, 0..4)
        .prop_map(|seen| Attachments { detaching_drivers: BTreeSet::from(["detaches".to_owned()]), seen })
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let deadline = proptest::option::weighted(0.2, 1_u64..60);
    let spec =
        (1_u32..4, 0_u32..4, proptest::bool::weighted(0.1), any::<bool>(), proptest::option::of(policies()), deadline)
            .prop_map(|(parallelism, backoff_limit, suspend, delete, retention, active_deadline_seconds)| {
                IndexBuildSpec {
                    parallelism,
                    active_deadline_seconds,
                    backoff_limit: Some(backoff_limit),
                    suspend,
                    volume: Some(VolumeSpec { retention, ..VolumeSpec::default() }),
                    output: OutputSpec {
                        url: "s3://indexes".to_owned(),
                        deletion_policy: if delete { DeletionPolicy::Delete } else { DeletionPolicy::Retain },
                        ..OutputSpec::default()
                    },
                    ..IndexBuildSpec::default()
                }
            });
    let build = (
        spec,
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.9),
        proptest::bool::weighted(0.03),
        proptest::bool::weighted(0.2),
        (age(), age(), age(), proptest::bool::weighted(0.1)),
        proptest::bool::weighted(0.2),
    );
    let slots = proptest::collection::vec((0_u32..4).prop_flat_map(slot_view), 0..4);
    let doubts = proptest::collection::vec(
        (
            select(vec!["plan", "encode", "encode-r1", "sort", "publish", "clean", "clean-index"]),
            0_u8..6,
            proptest::collection::vec(chosen(), 0..3),
        ),
        0..3,
    );
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
        (stages, doubts, proptest::bool::weighted(0.05)),
        attachments(),
    )
        .prop_map(
            |(
                (
                    spec,
                    deleting,
                    finalizer,
                    disabled,
                    failed,
                    (deletion_age, deletion_unseen, active_age, namespace_ends),
                    gone,
                ),
                slots,
                pods,
                claims,
                nodes,
                (stages, doubts, unsaid),
                attachments,
            )| {
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
                    .collect::<Vec<_>>();
                let doubts: Vec<_> = doubts.into_iter().filter(|(name, ..)| seen.insert(*name)).collect();
                let frozen = doubtful(&doubts, unsaid);
                let said = stages.iter().filter_map(Stage::frozen).chain(frozen.lost.clone()).collect();
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
                let status = if unsaid {
                    status
                } else {
                    Some(IndexBuildStatus { frozen_stages: Some(said), ..status.unwrap_or_default() })
                };
                World {
                    platform: Platform::Kubernetes,
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
                        deletion_unseen,
                        namespace_ends,
                        active_age,
                        finalizer,
                        reconcile_disabled: disabled,
                        timeouts: Timeouts { renew_interval: 1_000, replace_after: 10_000, orphan_after: 30_000 },
                        share: Share::default(),
                        percent_per_second: Some(0.5),
                        gone,
                    },
                    slots,
                    pods,
                    claims,
                    nodes,
                    attachments,
                    stages,
                    frozen,
                    hindrances: vec![],
                    enforcement: None,
                }
            },
        )
}
