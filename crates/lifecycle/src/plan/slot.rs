//! A slot's owner: wait for it, bind it, keep it, rebind, replace, return, stop.

use indexbuild_api::{DirectoryState, OwnerChangeReason, Reason, VolumeState, Work, WorkErrorReason};

use super::Pass;
use super::budget::{self, Failure};
use super::grants::{NextOwner, RecordDraft, VolumeMove};
use super::mode::Mode;
use super::stages::{CLEAN_WORK, repair_round, repair_work};
use crate::action::{Action, End, StopReason};
use crate::evidence::LastOwner;
use crate::platform::Platform;
use crate::world::{Millis, PodState, PodView, Timeouts};

/// After so long it is told that a pod which runs has not registered.
const TELL_UNREGISTERED: Millis = 60_000;

/// The most splits that a repair round encodes again; more take further rounds.
const MAX_SPLITS: usize = 1_000;

/// What a slot with an owner has before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Its work goes on.
    Work,
    /// Its work goes on, but the build wants the slot no more.
    WorkElsewhere,
    /// Nothing goes on, and there may be more for it.
    Idle,
    /// Nothing goes on, and the build wants the slot no more.
    Leave,
}

impl<'w> Pass<'w> {
    /// Fills in the claim's UID, once.
    pub(super) fn bind_claim(&self, draft: &mut RecordDraft<'w>) {
        let Some(volume) = draft.spec.volume.as_mut().filter(|volume| volume.claim_uid.is_empty()) else {
            return;
        };
        if let Some(claim) = self.world.claim(&volume.claim_name).filter(|claim| !claim.foreign) {
            volume.claim_uid.clone_from(&claim.uid);
        }
    }

    /// What is to be done about the slot's owner.
    pub(super) fn owner(&mut self, draft: &mut RecordDraft<'w>) {
        let clean = draft.spec.work.as_ref().is_some_and(|work| work.id == CLEAN_WORK);
        let open = self.work_open(draft)
            && match self.mode {
                Mode::Run | Mode::Suspend => true,
                Mode::Clean(_) => clean,
                Mode::Disabled | Mode::Gone | Mode::Drain(_) => false,
            };
        if draft.spec.grant.is_none() {
            return;
        }
        let duty = match (open, self.wanted(draft.slot())) {
            (true, true) => Duty::Work,
            (true, false) => Duty::WorkElsewhere,
            (false, true) => Duty::Idle,
            (false, false) => Duty::Leave,
        };
        draft.see_machine();
        if draft.claimed() {
            self.claimed(draft, duty);
        } else {
            self.unclaimed(draft, duty);
        }
    }

    // ---- a grant that no process is bound to ----

    fn unclaimed(&mut self, draft: &mut RecordDraft<'w>, duty: Duty) {
        if duty != Duty::Work {
            // No pod is made for a work that is not wanted here: another slot can have it from the next look on.
            if matches!(self.mode, Mode::Drain(_)) {
                // It has not claimed, and will not be bound any more.
                self.stop(draft, StopReason::BuildEnded);
            } else if draft.spec.work.is_some() {
                self.release(draft, if duty == Duty::Idle { OwnerChangeReason::Revoked } else { self.why_unwanted() });
            }
            return;
        }
        let pod = draft.pod();
        if self.mode == Mode::Suspend {
            draft.state = Some(DirectoryState::Suspended);
            if pod.is_some() {
                let work = draft.spec.work.clone();
                self.rebind(draft, OwnerChangeReason::Suspended, work);
            }
            return;
        }
        if let Some(former) = self.returnable(draft) {
            self.take_back(draft, former);
            return;
        }
        if !draft.volume_is_sound() {
            let work = self.same_work(draft);
            let state = draft.volume_state();
            draft.bump(OwnerChangeReason::Replaced, work, NextOwner::NewPod, VolumeMove::New(state));
            return;
        }
        match (pod, draft.foreign_pod()) {
            (Some(pod), _) => self.born(draft, pod),
            (None, Some(foreign)) => self.name_is_taken(draft, foreign),
            (None, None) => self.unborn(draft),
        }
    }

    /// The grant's pod is not there.
    fn unborn(&mut self, draft: &mut RecordDraft<'w>) {
        let grant = draft.spec.grant.clone().unwrap_or_default();
        if !grant.pod_uid.is_empty() {
            // It was there, and nobody claimed. Its name is never used again (G10).
            let work = self.same_work(draft);
            self.rebind(draft, OwnerChangeReason::OwnerEnded, work);
            return;
        }
        let slot = draft.slot();
        let Some(volume) = draft.spec.volume.clone().filter(|_| !self.is_queued()) else {
            return;
        };
        let left = budget::backoff(draft).saturating_sub(draft.view.grant_age);
        if left > 0 {
            draft.state = Some(DirectoryState::BackingOff);
            let work = draft.spec.work.as_ref().map(|work| work.id.as_str()).unwrap_or_default();
            // The last error of the work is why only if it was the last that happened to the slot.
            let said = self.world.build.status.as_ref().and_then(|status| status.last_error.as_ref());
            let why = match said.filter(|error| error.work_id == work) {
                _ if budget::never_began(draft) => {
                    " (its pods ended several times in a row before they had registered)".to_owned()
                }
                _ if !budget::has_failed(draft) => " (its owners ended several times in a row)".to_owned(),
                Some(error) => format!(" ({})", error.message),
                None => String::new(),
            };
            let what = format!("slot {slot} waits before its next attempt at {work}{why}");
            self.wait(Reason::BackingOff, Some(slot), left, what, "the time is over");
            return;
        }
        draft.state = Some(DirectoryState::Starting);
        // The claim's UID is recorded with its pod's: a claim that a pod uses is not another one by then.
        if self.world.claim(&volume.claim_name).is_none() {
            self.steps.push(Action::CreateClaim { slot, generation: volume.generation, name: volume.claim_name });
        } else {
            self.steps.push(Action::CreatePod {
                slot,
                epoch: grant.epoch,
                name: grant.pod_name.clone(),
                claim: volume.claim_name,
            });
        }
        let again =
            draft.timeouts().replace_after.saturating_sub(draft.view.grant_age).max(draft.timeouts().renew_interval);
        let platform = self.world.platform;
        let what = format!("{} {} of slot {slot} is not made yet", platform.pod(), grant.pod_name);
        self.wait_on(Reason::WaitingForPod, Some(slot), again, what, platform.is_made_when());
    }

    /// The grant's pod is there, and no process of it is bound.
    fn born(&mut self, draft: &mut RecordDraft<'w>, pod: &'w PodView) {
        let slot = draft.slot();
        if matches!(pod.state, PodState::Terminated(_)) || pod.deleting {
            let failure = budget::failure(draft, false);
            self.retry(draft, failure);
            return;
        }
        if pod.own_exit.is_some() {
            self.stop(draft, StopReason::OwnerEnded);
            return;
        }
        draft.state = Some(DirectoryState::Starting);
        let grant = draft.spec.grant.clone().unwrap_or_default();
        if grant.pod_uid.is_empty() {
            // Before it is on a node no process of it can run: a pod that is never scheduled is never bound.
            if pod.node.is_some() || pod.state == PodState::Running {
                draft.bind_pod(pod);
                return;
            }
        } else if let Some(claim) = draft.view.record.status.claim.as_ref()
            && claim.pod_uid == grant.pod_uid
            && !claim.boot_nonce.is_empty()
        {
            draft.bind_nonce(claim);
            return;
        }
        if pod.is_unstarted() {
            self.unstarted(draft, pod);
            return;
        }
        let patience = draft.timeouts().replace_after;
        let unregistered = budget::never_registered(draft, pod, self.lost);
        if draft.view.grant_age < patience || self.lost {
            let left = patience.saturating_sub(draft.view.grant_age).max(draft.timeouts().renew_interval);
            let platform = self.world.platform;
            let place = match &pod.node {
                Some(node) if unregistered.is_some() => {
                    format!("runs{} and has not registered: {}", self.on_node(node), platform.no_way())
                }
                Some(node) => format!("runs{} and has not registered", self.on_node(node)),
                None => "runs and has not registered".to_owned(),
            };
            let what = format!("{} {} of slot {slot} {place} ({})", platform.pod(), pod.name, platform.tells_why());
            let ends_when = format!(
                "it claims; after replaceAfter another one is made, {} where this one is bound",
                platform.on_a_new_volume()
            );
            if self.lost {
                self.wait_on(Reason::WaitingForPod, Some(slot), left, what, &ends_when);
            } else {
                self.wait(Reason::WaitingForPod, Some(slot), left, what, &ends_when);
            }
            let late = draft.view.grant_age >= TELL_UNREGISTERED.min(patience / 2);
            if let Some(wait) = self.waits.last_mut().filter(|_| late && unregistered.is_some()) {
                wait.stalls = true;
            }
            return;
        }
        if let Some(failure) = unregistered {
            self.error = Some(failure.clone());
            let work = self.same_work(draft);
            draft.bump(OwnerChangeReason::AttemptFailed, work, NextOwner::NewPod, VolumeMove::New(VolumeState::Idle));
            budget::count(draft, Some(&failure));
            if draft.bumped() {
                self.tell_failure(draft, &failure);
            }
            return;
        }
        // The volume may be held by the node that this one was lost with. It is idle: nobody claimed it.
        let place = if draft.is_bound() { VolumeMove::New(VolumeState::Idle) } else { VolumeMove::Keep };
        let work = self.same_work(draft);
        draft.bump(OwnerChangeReason::Replaced, work, NextOwner::NewPod, place);
    }

    // ---- a grant that a process is bound to ----

    fn claimed(&mut self, draft: &mut RecordDraft<'w>, duty: Duty) {
        if duty == Duty::Work
            && self.mode == Mode::Run
            && let Some(former) = self.returnable(draft)
        {
            self.take_back(draft, former);
            return;
        }
        match duty {
            _ if draft.evidence().is_some() => self.gone(draft, duty),
            Duty::Work => self.working(draft, true),
            Duty::WorkElsewhere => self.working(draft, false),
            Duty::Idle => self.idle(draft, true),
            Duty::Leave => self.idle(draft, false),
        }
    }

    /// The owner is proved gone.
    fn gone(&mut self, draft: &mut RecordDraft<'w>, duty: Duty) {
        let failure = budget::failure(draft, false);
        match duty {
            // Said in the record at once: what proves it may not be there any more at the next look.
            Duty::Idle => self.release(draft, OwnerChangeReason::OwnerEnded),
            Duty::Leave => self.release(draft, self.why_unwanted()),
            Duty::WorkElsewhere => {
                self.release(draft, self.why_unwanted());
                budget::count(draft, failure.as_ref());
            }
            Duty::Work if self.mode == Mode::Suspend => {
                let work = draft.spec.work.clone();
                self.rebind(draft, OwnerChangeReason::Suspended, work);
                budget::count(draft, failure.as_ref());
            }
            Duty::Work if failure.is_none() && budget::is_unexplained(draft) => {
                let left = draft.kubelet_limit().saturating_sub(draft.silence()).max(1);
                let what = format!("{} has ended, and nobody is seen to have asked it to", budget::describe(draft));
                let ends_when = match self.world.platform {
                    Platform::Kubernetes => "its kubelet says how it ended, or has not said so in time",
                    Platform::OneMachine => "it is known how it ended, or was not in time",
                };
                self.wait(Reason::WaitingForEvidence, Some(draft.slot()), left, what, ends_when);
            }
            Duty::Work => self.retry(draft, failure),
        }
    }

    /// The owner has something to do, and nothing proves it gone.
    fn working(&mut self, draft: &mut RecordDraft<'w>, wanted: bool) {
        let slot = draft.slot();
        let timeouts = draft.timeouts();
        let silence = draft.silence();
        let error = draft.error().is_some();
        let waiting = draft.report().and_then(|report| report.waiting.as_ref());
        draft.state = Some(match draft.report() {
            _ if silence > draft.quiet_limit() => DirectoryState::Silent,
            Some(report) if report.waiting.is_some() => DirectoryState::Waiting,
            _ if error => DirectoryState::Stopping,
            _ => DirectoryState::Working,
        });
        if self.mode == Mode::Suspend {
            self.stop(draft, StopReason::Suspended);
            return;
        }
        if !draft.volume_is_sound() && draft.volume_state() != VolumeState::Terminating {
            // failure-modes.md #17: a lost claim. Its data is gone; whoever still writes there can no longer be
            // chosen.
            let (work, state) = (if wanted { self.same_work(draft) } else { None }, draft.volume_state());
            draft.bump(
                OwnerChangeReason::Replaced,
                work,
                NextOwner::NewPod,
                if wanted { VolumeMove::New(state) } else { VolumeMove::None(state) },
            );
            return;
        }
        if silence >= timeouts.replace_after && !self.lost {
            self.replace(draft, wanted);
        } else if draft.pod().is_some_and(|pod| pod.own_exit.is_some()) {
            // The process is gone. Its volume moves when the pod has ended, which has it mounted.
            self.stop(draft, StopReason::OwnerEnded);
        } else if silence > draft.quiet_limit() {
            let left = timeouts.replace_after.saturating_sub(silence).max(timeouts.renew_interval);
            let what = format!("{} is silent{}", budget::describe(draft), self.place_of(draft));
            let ends_when = format!(
                "it is heard from, or proved gone; after replaceAfter another one takes its place {}",
                self.world.platform.on_a_new_volume()
            );
            if self.lost {
                self.wait_on(Reason::OwnerSilent, Some(slot), left, what, &ends_when);
            } else {
                self.wait(Reason::OwnerSilent, Some(slot), left, what, &ends_when);
            }
        } else if error && draft.stall() >= timeouts.renew_interval.saturating_mul(4) {
            // Its process should have ended by itself: the kernel closes what it may have left open.
            self.stop(draft, StopReason::NoProgress);
        } else if draft.stall() >= draft.no_progress_limit() && !waiting.is_some_and(super::waits::is_outage) {
            self.stop(draft, StopReason::NoProgress);
        } else if error || draft.pod().is_some_and(|pod| pod.deleting) {
            let left = timeouts.replace_after.saturating_sub(silence);
            let what = format!("{} is ending{}", budget::describe(draft), self.place_of(draft));
            let ends_when = format!(
                "{}; after replaceAfter without a word another one takes its place",
                self.world.platform.terminated()
            );
            self.wait(Reason::WaitingForEvidence, Some(slot), left, what, &ends_when);
        } else if let Some(waiting) = waiting {
            self.owner_waits(draft, waiting);
        } else if draft.stall() >= timeouts.replace_after {
            let left = draft.no_progress_limit().saturating_sub(draft.stall());
            let what = format!("{} reports, but does not advance", budget::describe(draft));
            self.wait(
                Reason::NoProgress,
                Some(slot),
                left,
                what,
                "it advances; after orphanAfter its attempt is ended and counted",
            );
        }
    }

    /// The owner is silent for too long, and nothing proves it gone: the epoch rises, which is always safe, and a
    /// new owner works on a new volume. The old one is stranded (failure-modes.md #5, #8).
    fn replace(&mut self, draft: &mut RecordDraft<'w>, wanted: bool) {
        let failure = budget::failure(draft, false);
        let failed = failure.is_some();
        let counted = failure.clone();
        let owner = budget::describe(draft);
        if wanted {
            let reason = if failed { OwnerChangeReason::AttemptFailed } else { OwnerChangeReason::Replaced };
            let work = match failure {
                Some(failure) if !failure.damaged.is_empty() => {
                    self.repair(draft, &failure).unwrap_or_else(|| self.same_work(draft))
                }
                Some(_) | None => self.same_work(draft),
            };
            draft.bump(reason, work, NextOwner::NewPod, VolumeMove::New(VolumeState::Stranded));
        } else {
            draft.bump(self.why_unwanted(), None, NextOwner::NewPod, VolumeMove::None(VolumeState::Stranded));
        }
        budget::count(draft, counted.as_ref());
        if draft.bumped() {
            self.events.push(crate::action::Event {
                reason: Reason::OwnerReplaced,
                warning: true,
                message: if wanted {
                    format!("{owner} was silent for replaceAfter: its epoch is over, and another one takes its place on a new volume")
                } else {
                    format!("{owner} was silent for replaceAfter: its epoch is over, and nobody takes its place, as its slot is not needed")
                },
            });
        } else {
            let held = draft.spec.former_volumes.len();
            let what =
                format!("{owner} is silent, and cannot be replaced: the slot holds {held} volumes of former owners");
            let again = draft.timeouts().replace_after;
            let formers: Vec<_> = draft.spec.former_volumes.iter().map(LastOwner::former).collect();
            let proofs = super::volumes::proofs(self.world, &formers);
            self.wait_on(Reason::OwnerSilent, Some(draft.slot()), again, what, &proofs);
            if let Some(wait) = self.waits.last_mut() {
                wait.stalls = true;
            }
        }
    }

    /// The owner has nothing to do, and nothing proves it gone.
    fn idle(&mut self, draft: &mut RecordDraft<'w>, wanted: bool) {
        let alive_long = draft.silence() < draft.timeouts().replace_after;
        draft.state = Some(DirectoryState::Idle);
        if draft.pod().is_some_and(|pod| pod.own_exit.is_some()) {
            self.stop(draft, StopReason::OwnerEnded);
            return;
        }
        match self.mode {
            Mode::Run if wanted => {
                if !alive_long && !self.lost && !self.unassigned().is_empty() {
                    draft.bump(
                        OwnerChangeReason::Replaced,
                        None,
                        NextOwner::NewPod,
                        VolumeMove::None(VolumeState::Stranded),
                    );
                }
            }
            Mode::Suspend => self.stop(draft, StopReason::Suspended),
            // Who is to clean is granted that.
            Mode::Clean(_) if wanted => {}
            Mode::Run | Mode::Clean(_) | Mode::Drain(_) => self.revoke(draft),
            Mode::Disabled | Mode::Gone => {}
        }
    }

    // ---- steps ----

    /// The epoch of an owner that is not needed any more is over: it gives way as soon as it sees that (G11). Its pod
    /// is not deleted while it runs: the object of a deleted pod goes within a second of its end, and with it the
    /// kubelet's word, which a control plane that was away at that moment would never hear (G8).
    fn revoke(&mut self, draft: &mut RecordDraft<'w>) {
        if self.lost && !draft.in_contact() {
            return;
        }
        let reason = self.why_unwanted();
        draft.bump(reason, None, NextOwner::NewPod, VolumeMove::None(VolumeState::Stranded));
        self.condemn_early(draft);
        if !draft.bumped() {
            // The record can hold no more volumes: then its pod is asked to end, and the volume stays where it is.
            self.stop(draft, StopReason::BuildEnded);
        }
    }

    /// Asks the owner's pod to end, with its full grace, once; and says what is waited for.
    fn stop(&mut self, draft: &mut RecordDraft<'w>, reason: StopReason) {
        let slot = draft.slot();
        let Some(pod) = draft.pod() else {
            return;
        };
        if matches!(pod.state, PodState::Terminated(_)) {
            return;
        }
        draft.state = Some(DirectoryState::Stopping);
        if !pod.deleting {
            self.destructive.push(Action::StopPod { name: pod.name.clone(), uid: pod.uid.clone(), reason });
        }
        let what = format!("{} {} is asked to end{}", self.world.platform.pod(), pod.name, self.place_of(draft));
        let ends_when = match self.world.platform {
            Platform::Kubernetes => "the kubelet reports it terminated, or its node is proved gone",
            Platform::OneMachine => "it has ended",
        };
        let Timeouts { renew_interval, replace_after, .. } = draft.timeouts();
        if draft.silence() < replace_after {
            let left = replace_after.saturating_sub(draft.silence()).max(renew_interval);
            self.wait(Reason::WaitingForEvidence, Some(slot), left, what, ends_when);
        } else {
            // No deadline is left: one that slides would be another text in each pass (I8).
            self.wait_on(Reason::WaitingForEvidence, Some(slot), replace_after, what, ends_when);
        }
    }

    /// The same work, or its mending, for a new pod after an owner that is proved gone or never claimed.
    fn retry(&mut self, draft: &mut RecordDraft<'w>, failure: Option<Failure>) {
        let Some(failure) = failure else {
            let reason = if draft.claimed() { OwnerChangeReason::Rebound } else { OwnerChangeReason::OwnerEnded };
            let work = self.same_work(draft);
            let owner = format!("{}{}", budget::describe(draft), self.place_of(draft));
            let proof = draft.evidence().map_or_else(
                || format!("its {} is going", self.world.platform.pod()),
                |evidence| evidence.kind().describe(self.world.platform).to_owned(),
            );
            self.rebind(draft, reason, work);
            if draft.bumped() {
                let kept = draft.spec.former_volumes.len() == draft.view.record.spec.former_volumes.len();
                let platform = self.world.platform;
                let place = if kept { platform.on_the_same_volume() } else { platform.on_a_new_volume() };
                let message =
                    format!("{owner} ended ({proof}): another one continues {place}; it counts as no failure");
                self.events.push(crate::action::Event { reason: Reason::PodEnded, warning: false, message });
            }
            return;
        };
        if failure.permanent && self.needs_no_tombstone() {
            // Only a Clean gets here: it is given up.
            return;
        }
        let work = if failure.damaged.is_empty() {
            self.same_work(draft)
        } else if let Some(work) = self.repair(draft, &failure) {
            work
        } else {
            let slot = draft.slot();
            let left = draft.timeouts().replace_after;
            let what = format!("{} waits for a repair round that another slot does", failure.work_id);
            self.wait_on(Reason::Repairing, Some(slot), left, what, "that round's results are chosen");
            return;
        };
        let stalled = failure.counts && draft.pod().is_some_and(|pod| pod.deleting) && draft.error().is_none();
        let reason = if stalled { OwnerChangeReason::NoProgress } else { OwnerChangeReason::AttemptFailed };
        self.rebind(draft, reason, work);
        budget::count(draft, Some(&failure));
        if draft.bumped() && failure.counts {
            self.tell_failure(draft, &failure);
        } else if draft.bumped() && failure.reason == WorkErrorReason::StoreUnavailable {
            let Failure { work_id, message, .. } = &failure;
            let message =
                format!("{work_id}: {message}; slot {} tries again, and it counts as no failure", draft.slot());
            self.events.push(crate::action::Event { reason: Reason::WaitingForStore, warning: true, message });
        }
    }

    fn tell_failure(&mut self, draft: &RecordDraft<'w>, failure: &Failure) {
        let limit = self.world.build.spec.backoff_limit_per_work;
        let Failure { work_id, message, .. } = failure;
        let at_work = draft.spec.work_failures.iter().find(|work| work.work_id == *work_id);
        let failed = at_work.map_or(0, |work| work.failed_attempts);
        let message = format!(
            "{work_id}: {message}; slot {} tries again (its failed attempts at it: {failed}; backoffLimitPerWork: {limit})",
            draft.slot()
        );
        self.events.push(crate::action::Event { reason: Reason::WorkFailed, warning: true, message });
    }

    /// What follows a report of damaged runs: the next repair round; the same work with rounds that are done since
    /// as further inputs; or nothing yet (`None`) while another slot does a round.
    fn repair(&mut self, draft: &RecordDraft<'w>, failure: &Failure) -> Option<Option<Work>> {
        let rounds = self.stages.rounds();
        let work = draft.view.record.spec.work.as_ref()?;
        let knows_all = (1..=rounds).all(|round| work.inputs.contains(&super::stages::repair_stage(round)));
        if !knows_all {
            return Some(self.same_work(draft));
        }
        let next = repair_work(rounds.saturating_add(1));
        let under_way = self.repairing
            || self.drafts.values().any(|other| {
                let has = other.spec.work.as_ref().is_some_and(|work| work.id == next);
                has || other.spec.chosen.iter().any(|chosen| chosen.work_id == next)
            });
        if under_way {
            return None;
        }
        let mut splits = failure.damaged.clone();
        splits.sort_unstable();
        splits.dedup();
        splits.truncate(MAX_SPLITS);
        self.repairing = true;
        self.events.push(crate::action::Event {
            reason: Reason::Repairing,
            warning: true,
            message: format!("{}: {}; {} splits are encoded again", failure.work_id, failure.message, splits.len()),
        });
        Some(Some(self.stages.work(&next, &splits)))
    }

    /// The draft's work as it is read today: rounds may have been added to its inputs.
    pub(super) fn same_work(&self, draft: &RecordDraft<'w>) -> Option<Work> {
        let work = draft.spec.work.as_ref()?;
        let splits: &[u32] = if repair_round(&work.id).is_some() { &work.splits } else { &[] };
        Some(self.stages.work(&work.id, splits))
    }

    /// A new pod on the same volume, whose owner is proved gone (evidence), or on a new one where this is not sound.
    fn rebind(&self, draft: &mut RecordDraft<'w>, reason: OwnerChangeReason, work: Option<Work>) {
        let sound = draft.volume_is_sound() && draft.evidence().is_some();
        let place = if sound { VolumeMove::Keep } else { VolumeMove::New(draft.volume_state()) };
        draft.bump(reason, work, NextOwner::NewPod, place);
    }

    /// No work, no owner; the volume stays where it is sound and its owner is proved gone.
    fn release(&self, draft: &mut RecordDraft<'w>, reason: OwnerChangeReason) {
        let unusable =
            draft.spec.volume.as_ref().is_some_and(|volume| volume.condemned || draft.is_held(&volume.claim_name));
        let keep = !unusable && draft.evidence().is_some();
        let place = if keep { VolumeMove::Keep } else { VolumeMove::None(draft.volume_state()) };
        draft.bump(reason, None, NextOwner::NewPod, place);
    }

    fn why_unwanted(&self) -> OwnerChangeReason {
        match self.mode {
            Mode::Clean(End::Failed | End::Aborted) => OwnerChangeReason::Aborted,
            Mode::Clean(End::Complete) | Mode::Drain(_) | Mode::Disabled | Mode::Gone => OwnerChangeReason::Revoked,
            Mode::Run | Mode::Suspend => OwnerChangeReason::ScaledDown,
        }
    }
}
