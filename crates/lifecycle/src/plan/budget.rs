//! Attempts and their budget: which ends count, when the budget is spent, how long to wait before the next try.

use std::collections::BTreeMap;

use indexbuild_api::{IndexBuildSpec, OwnerChangeReason, WorkErrorReason, WorkFailures};

use super::grants::RecordDraft;
use super::stages::CLEAN_WORK;
use crate::evidence::EvidenceKind;
use crate::owner::ORPHANED_EXIT_CODE;
use crate::world::{Millis, NodeReady, NodeView, PodState, PodView, World};

/// Clean fails so often before it is given up, once an index is committed: what is left does no harm then.
pub(super) const CLEAN_ATTEMPTS: u32 = 4;

/// Repair rounds that a build survives, beside its `backoffLimitPerWork`.
const REPAIR_ROUNDS: u32 = 8;

/// The most works that a record counts failures of.
const MAX_WORK_FAILURES: usize = 64;

/// The most repair rounds of a build.
pub(super) fn max_rounds(world: &World) -> u32 {
    world.build.spec.backoff_limit_per_work.saturating_add(REPAIR_ROUNDS)
}

/// An attempt that ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub work_id: String,
    pub reason: WorkErrorReason,
    pub message: String,
    /// Whether another attempt is useless.
    pub permanent: bool,
    /// Whether it counts against the budget. Drains, partitions, reboots, outages of a store and full disks do not, nor
    /// does damage that a repair round mends.
    pub counts: bool,
    /// The splits to encode again.
    pub damaged: Vec<u32>,
    /// Which budget it has spent, where it is the last.
    pub spent: Option<Spent>,
}

/// How the present attempt failed, if it did: as its owner reported, or as the kubelet says that its process ended.
pub(super) fn failure(draft: &RecordDraft<'_>, done: bool) -> Option<Failure> {
    let work = draft.view.record.spec.work.as_ref()?;
    if done || draft.result().is_some() {
        return None;
    }
    if let Some(error) = draft.error() {
        let repairable = error.reason == WorkErrorReason::DamagedInput && !error.damaged_splits.is_empty();
        return Some(Failure {
            work_id: work.id.clone(),
            reason: error.reason,
            message: error.message.clone(),
            permanent: !error.retryable,
            counts: error.retryable
                && !repairable
                && !matches!(error.reason, WorkErrorReason::StoreUnavailable | WorkErrorReason::NoSpace),
            damaged: if repairable { error.damaged_splits.clone() } else { Vec::new() },
            spent: None,
        });
    }
    let pod = draft.pod();
    let deleting = pod.is_some_and(|pod| pod.deleting);
    let disrupted = pod.is_some_and(|pod| pod.disrupted);
    let evidence = draft.evidence()?;
    // Who has released its volume was stopped, or gave way, by itself: it is blamed for nothing but for not advancing.
    let exit_code = match (evidence.exit_code(), evidence.kind()) {
        (Some(exit_code), _) => exit_code,
        (None, EvidenceKind::Released) => 0,
        (
            None,
            EvidenceKind::Terminated
            | EvidenceKind::NodeRebooted
            | EvidenceKind::NodeGone
            | EvidenceKind::OutOfService
            | EvidenceKind::NeverClaimed
            | EvidenceKind::Recorded,
        ) => return None,
    };
    let stalled = deleting && draft.stall() >= draft.no_progress_limit();
    // A pod that somebody asked to end (a drain, a pause, a node under pressure) ends as it was asked to; not so one that
    // was asked to because our container in it had ended.
    let asked = deleting && pod.is_some_and(|pod| pod.own_exit.is_none());
    let unforced = asked || disrupted || evidence.rebooted();
    let message = if stalled {
        format!("{} did not advance and was stopped; its log says what it was doing", describe(draft))
    } else if !unforced && exit_code != 0 && exit_code != i32::from(ORPHANED_EXIT_CODE) {
        format!("{} ended with exit code {exit_code} and without a report; its log says why", describe(draft))
    } else if exit_code == 0 && evidence.kind() == EvidenceKind::Terminated && ended_unasked(draft) {
        format!("{} was stopped before its work was done{}", describe(draft), draft.world().platform.stopped())
    } else {
        return None;
    };
    Some(Failure {
        work_id: work.id.clone(),
        reason: WorkErrorReason::Internal,
        message,
        permanent: false,
        counts: true,
        damaged: Vec::new(),
        spent: None,
    })
}

/// Whether nobody is seen to have asked the owner's pod to end, and its node is well. A kubelet that ends a pod above its own
/// limit of ephemeral storage signals its containers, and says nothing in the pod: as ours ends in peace then, its phase
/// is `Succeeded`, without a reason.
fn ended_unasked(draft: &RecordDraft<'_>) -> bool {
    let Some(pod) = draft.pod() else {
        return false;
    };
    let on = pod.node.as_deref().and_then(|node| draft.world().node(node));
    let boot_id = draft.view.record.spec.grant.as_ref().map_or("", |grant| grant.boot_id.as_str());
    let well = |node: &NodeView| {
        // A kernel that is not the one that the process ran on has ended it. So may a kubelet that is short of something:
        // one that begins anew then ends what it finds, and says nothing in the pod.
        let same_boot = !boot_id.is_empty() && node.boot_id == boot_id;
        node.ready == NodeReady::True && !node.gone && !node.pressed && same_boot
    };
    !pod.deleting && !pod.disrupted && on.is_some_and(well)
}

/// Whether how an owner ended that has released its volume is still to be heard: its word comes before the kubelet's, which
/// alone says whether the cluster had a reason to end it.
pub(super) fn is_unexplained(draft: &RecordDraft<'_>) -> bool {
    let released = draft.evidence().is_some_and(|evidence| evidence.kind() == EvidenceKind::Released);
    let runs = draft.pod().is_some_and(|pod| matches!(pod.state, PodState::Running | PodState::Unknown));
    released && runs && ended_unasked(draft) && draft.silence() <= draft.kubelet_limit()
}

/// The failure that it is when a pod runs on a node that stays well, and never registers: the next one would not
/// either. Of one on a node that is away, or was, nothing is known.
pub(super) fn never_registered(draft: &RecordDraft<'_>, pod: &PodView, nodes_lost: bool) -> Option<Failure> {
    let node = pod.node.as_deref()?;
    let waited = draft.view.grant_age.min(draft.timeouts().replace_after);
    let stayed_well = |node: &NodeView| node.ready == NodeReady::True && node.readiness_age >= waited;
    let well = draft.world().node(node).is_some_and(stayed_well);
    let work = draft.spec.work.as_ref()?;
    (well && pod.state == PodState::Running && !nodes_lost).then(|| Failure {
        work_id: work.id.clone(),
        reason: WorkErrorReason::Internal,
        message: format!(
            "{} {} ran on node {node} and never registered: {}",
            draft.world().platform.pod(),
            pod.name,
            draft.world().platform.no_way()
        ),
        permanent: false,
        counts: true,
        damaged: Vec::new(),
        spent: None,
    })
}

/// Counts a failed attempt in the write that ends it, so that each is counted once: not in a pass that cannot end it (a
/// record that is full of former volumes), which would count it again and again.
pub(super) fn count(draft: &mut RecordDraft<'_>, failure: Option<&Failure>) {
    let counted = failure.filter(|failure| draft.bumped() && failure.counts && failure.work_id != CLEAN_WORK);
    let Some(Failure { work_id, .. }) = counted else {
        return;
    };
    draft.spec.failed_attempts = draft.view.record.spec.failed_attempts.saturating_add(1);
    let works = &mut draft.spec.work_failures;
    match works.iter_mut().find(|work| work.work_id == *work_id) {
        Some(work) => work.failed_attempts = work.failed_attempts.saturating_add(1),
        None => {
            // A slot has one work at a time, and takes another before it is done only where it must leave.
            if works.len() >= MAX_WORK_FAILURES {
                works.remove(0);
            }
            works.push(WorkFailures { work_id: work_id.clone(), failed_attempts: 1 });
        }
    }
}

pub(super) fn describe(draft: &RecordDraft<'_>) -> String {
    let grant = draft.view.record.spec.grant.as_ref();
    grant.map_or_else(
        || format!("slot {}", draft.slot()),
        |grant| {
            let pod = draft.world().platform.pod();
            format!("{pod} {} (slot {}, epoch {})", grant.pod_name, draft.slot(), grant.epoch)
        },
    )
}

/// Failed attempts that were counted: by the records, or by the status where a record is gone.
pub(super) fn counted(world: &World) -> u32 {
    let records = world.slots.iter().map(|slot| slot.record.spec.failed_attempts);
    let records = records.fold(0_u32, u32::saturating_add);
    let said = world.build.status.as_ref().and_then(|status| status.failed_attempts);
    records.max(said.unwrap_or(0))
}

/// Which budget a build has spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// One work failed so often.
    Work { work_id: String, times: u32 },
    /// All works together.
    Build,
    /// The time that it was given.
    Time,
}

/// The budget that is spent, if one is. `pending`: the works of attempts that have failed and are not counted yet.
pub(super) fn spent(world: &World, pending: &[&str]) -> Option<Spent> {
    let IndexBuildSpec { backoff_limit, backoff_limit_per_work, .. } = &world.build.spec;
    let mut of_works: BTreeMap<&str, u32> = BTreeMap::new();
    let counted = world.slots.iter().flat_map(|slot| &slot.record.spec.work_failures);
    let counted = counted.map(|work| (work.work_id.as_str(), work.failed_attempts));
    for (work_id, times) in counted.chain(pending.iter().map(|work_id| (*work_id, 1))) {
        let sum = of_works.entry(work_id).or_default();
        *sum = sum.saturating_add(times);
    }
    if let Some((work_id, times)) = of_works.into_iter().find(|(_, times)| times > backoff_limit_per_work) {
        return Some(Spent::Work { work_id: work_id.to_owned(), times });
    }
    let pending = u32::try_from(pending.len()).unwrap_or(u32::MAX);
    let all = self::counted(world).saturating_add(pending);
    backoff_limit.is_some_and(|limit| all > limit).then_some(Spent::Build)
}

/// How often the slot's work has failed, since it last advanced. Ends that are nobody's fault do not count.
pub(super) const fn failed_tries(draft: &RecordDraft<'_>) -> u32 {
    draft.view.record.spec.past.failed_tries
}

/// How long to wait before the pod of the present grant is made. After a failure: exponential in the tries of this
/// work. After an end that is nobody's fault (a drain, a reboot, a replacement): exponential in how often in a row it
/// happened, and the first is not waited for, whatever failed before. An owner that returned is not waited for: what
/// happened to its replacement is undone, and it can happen again only after another `replaceAfter`.
pub(super) fn backoff(draft: &RecordDraft<'_>) -> Millis {
    let past = &draft.view.record.spec.past;
    let tries =
        if has_failed(draft) { past.tries } else { past.ends_in_a_row.saturating_add(past.replacements_in_a_row) };
    if tries == 0 || (tries == 1 && !has_failed(draft)) {
        return 0;
    }
    let timeouts = &draft.timeouts();
    let first = timeouts.renew_interval.saturating_mul(2);
    let longest = first.max((timeouts.replace_after / 2).min(300_000));
    first.saturating_mul(1_u64.checked_shl(tries - 1).unwrap_or(u64::MAX)).min(longest)
}

/// Whether the last change of owner was because its attempt failed.
pub(super) const fn has_failed(draft: &RecordDraft<'_>) -> bool {
    draft.view.record.spec.past.failures_in_a_row > 0
}

/// Whether the last owner ended before it had registered. It is told to people, and decides nothing.
pub(super) fn never_began(draft: &RecordDraft<'_>) -> bool {
    let record = &draft.view.record;
    let last =
        record.spec.untold.last().filter(|last| record.status.history.iter().all(|told| told.epoch < last.epoch));
    let last = last.or_else(|| record.status.history.last());
    last.is_some_and(|change| change.reason == OwnerChangeReason::OwnerEnded)
}
