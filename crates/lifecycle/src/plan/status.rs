//! What is said about the build. Deterministic, and without anything that changes with time alone: with nothing to
//! say, nothing is written (I8).

use indexbuild_api::{
    Condition, ConditionStatus, ConditionType, DirectoryState, IndexBuildStatus, LastError, ManifestStatus, Phase,
    Reason, SlotCounts, VolumeCounts, WorkCounts,
};
use jiff::{SignedDuration, Timestamp};

use super::Pass;
use super::mode::{self, Mode};
use super::stages::{ENCODE, PLAN, PUBLISH, SORT};
use super::volumes::{Class, current_class, former_class};
use super::waits::{severity, words};
use crate::action::{Action, Decision, End, Event, Wait};
use crate::world::{BuildView, Millis};

/// The prefix under which the build writes.
pub(super) fn prefix(build: &BuildView) -> String {
    let url = build.spec.output.url.trim_end_matches('/');
    format!("{url}/{}/{}/{}/", build.namespace, build.name, build.uid)
}

impl Pass<'_> {
    /// Puts the decision together.
    pub(super) fn finish(mut self) -> Decision {
        let looked = !self.steps.contains(&Action::AddFinalizer)
            && self.failing.is_none()
            && !matches!(self.mode, Mode::Disabled | Mode::Gone);
        if looked {
            self.settle_states();
            self.volume_waits();
        }
        let ended = self.ended(looked);
        if self.lost && looked {
            let again = self.world.build.clocks.replace_after;
            let what = self.lost_nodes();
            self.wait_on(Reason::MostNodesLost, None, again, what, "half of the nodes or more are ready again");
        }
        let release = self.releases_finalizer(ended);
        let status = self.status(ended);
        let requeue = self.requeue();
        let mut actions = Vec::new();
        // Row 23, and one destructive action per pass: what is destroyed was read live in the same pass.
        let destroyed = self.destructive.drain(..).next().filter(|_| looked && !self.lost);
        // A record that goes is not written before: its deletion is of the version that was looked at.
        let going = match &destroyed {
            Some(Action::DeleteDirectory { slot, .. }) => Some(*slot),
            Some(_) | None => None,
        };
        if looked {
            let drafts = std::mem::take(&mut self.drafts).into_values();
            for draft in drafts.filter(|draft| going != Some(draft.slot())) {
                let conditions = self.slot_conditions(&draft);
                actions.extend(draft.into_action(conditions));
            }
        }
        let Self { steps, waits, mut events, world, .. } = self;
        actions.extend(steps);
        actions.extend(destroyed);
        if release {
            if !ended {
                events.push(Event {
                    reason: Reason::CleanupTimedOut,
                    warning: true,
                    message: format!(
                        "the time allowed for the deletion is over: the build is let go; objects under {} and {} volumes may be left",
                        prefix(&world.build),
                        status.volumes.map_or(0, |volumes| volumes.held),
                    ),
                });
            }
            actions.push(Action::RemoveFinalizer);
        }
        let over = ended || (release && world.build.deleting);
        let end = if over { Mode::of(world).end() } else { None };
        let requeue =
            if actions.is_empty() { requeue } else { requeue.min(world.build.clocks.renew_interval / 5).max(1) };
        Decision { actions, status, requeue, end, waits, events }
    }

    fn ended(&self, looked: bool) -> bool {
        match self.mode {
            Mode::Gone => true,
            Mode::Drain(_) => {
                looked
                    && self.destructive.is_empty()
                    && self.steps.is_empty()
                    && self.drafts.values().all(|draft| self.is_settled(draft) && draft.spec == draft.view.record.spec)
            }
            Mode::Disabled | Mode::Run | Mode::Suspend | Mode::Clean(_) => false,
        }
    }

    /// The finalizer goes when the commit is clean and no volume waits, unless the index is to go with its build;
    /// and at a deletion when all is done or the time for it is over.
    fn releases_finalizer(&self, ended: bool) -> bool {
        let build = &self.world.build;
        if !build.finalizer || self.mode == Mode::Disabled {
            return false;
        }
        if build.deleting {
            return ended || build.deletion_age >= mode::time_box(build).saturating_mul(2);
        }
        let index_goes = match build.spec.output.deletion_policy {
            indexbuild_api::DeletionPolicy::Retain => false,
            indexbuild_api::DeletionPolicy::Delete => mode::published(self.world),
        };
        ended && !index_goes && self.drafts.is_empty()
    }

    /// What each slot is doing, where nothing was said yet.
    fn settle_states(&mut self) {
        let slots: Vec<u32> = self.drafts.keys().copied().collect();
        for slot in slots {
            let Some(mut draft) = self.drafts.remove(&slot) else {
                continue;
            };
            if draft.state.is_none() || draft.bumped() {
                let open = self.work_open(&draft);
                draft.state = Some(match (self.mode, open, draft.claimed()) {
                    (Mode::Suspend, _, false) => DirectoryState::Suspended,
                    (_, false, _) => DirectoryState::Idle,
                    (_, true, false) => DirectoryState::Starting,
                    (_, true, true) => DirectoryState::Working,
                });
            }
            self.drafts.insert(slot, draft);
        }
    }

    fn requeue(&self) -> Millis {
        let clocks = self.world.build.clocks;
        let next = self.waits.iter().map(|wait| wait.until.saturating_sub(self.world.now)).min();
        next.unwrap_or(clocks.renew_interval.saturating_mul(2)).clamp(1, clocks.replace_after.max(1))
    }

    fn status(&self, ended: bool) -> IndexBuildStatus {
        let build = &self.world.build;
        let before = build.status.clone().unwrap_or_default();
        let published = mode::published(self.world);
        let failed = !published && (self.failing.is_some() || mode::failed(self.world));
        let phase = self.phase(ended, failed);
        let volumes = self.count_volumes();
        let percent = if published { 100 } else { self.percent().max(before.percent.unwrap_or(0)).min(99) };
        let finished = published || failed;
        let (rows, entries, bytes) = self.totals();
        let published_by = self.world.stage(PUBLISH).and_then(|stage| stage.chosen.first());
        let failures = self.failures;
        let mut status = IndexBuildStatus {
            observed_generation: build.generation,
            conditions: Vec::new(),
            phase: if self.mode == Mode::Disabled { before.phase } else { Some(phase) },
            progress: Some(format!("{percent}%")),
            percent: Some(percent),
            executors: None,
            slots: None,
            works: self.works(),
            rows: rows.max(before.rows),
            entries: entries.max(before.entries),
            bytes: bytes.max(before.bytes),
            start_time: before.start_time.clone().or_else(|| Some(self.world.wall.clone())),
            estimated_end_time: if finished {
                None
            } else {
                self.estimate(percent, before.estimated_end_time.as_deref())
            },
            finish_time: if finished {
                before.finish_time.clone().or_else(|| Some(self.world.wall.clone()))
            } else {
                None
            },
            failed_attempts: if failures > 0 { Some(failures) } else { before.failed_attempts },
            last_error: self.last_error().or_else(|| before.last_error.clone()),
            volumes: if self.world.slots.is_empty() && before.volumes.is_none() { None } else { Some(volumes) },
            manifest: published_by.map_or_else(
                || before.manifest.clone(),
                |chosen| {
                    Some(ManifestStatus {
                        url: format!("{}manifest.json", prefix(build)),
                        digest: chosen.digest.clone(),
                        entries: chosen.entries,
                        bytes: chosen.bytes,
                    })
                },
            ),
        };
        let counts = self.count_slots();
        status.slots = Some(counts);
        status.executors = Some(format!("{}/{}", counts.working, counts.desired));
        status.conditions = self.conditions(&before, &status, published, failed, ended);
        status
    }

    fn phase(&self, ended: bool, failed: bool) -> Phase {
        match self.mode {
            Mode::Suspend if !failed => Phase::Suspended,
            Mode::Clean(End::Complete) => Phase::Cleaning,
            Mode::Drain(End::Complete) => {
                if ended {
                    Phase::Complete
                } else {
                    Phase::Cleaning
                }
            }
            Mode::Clean(End::Failed) => Phase::Aborting,
            Mode::Drain(End::Failed) => {
                if ended {
                    Phase::Failed
                } else {
                    Phase::Aborting
                }
            }
            Mode::Clean(End::Aborted) | Mode::Drain(End::Aborted) | Mode::Gone => Phase::Aborting,
            Mode::Run | Mode::Suspend | Mode::Disabled => {
                let begun = !self.world.slots.is_empty() || !self.world.stages.is_empty();
                match self.stages.current().0 {
                    _ if failed => Phase::Aborting,
                    PLAN if !begun => Phase::Pending,
                    PLAN => Phase::Planning,
                    ENCODE => Phase::Encoding,
                    SORT => Phase::Sorting,
                    _ => Phase::Publishing,
                }
            }
        }
    }

    fn works(&self) -> Option<WorkCounts> {
        let (stage, works) = match self.mode {
            Mode::Run | Mode::Suspend | Mode::Disabled => self.stages.current(),
            Mode::Clean(_) => (self.stages.clean_name(), vec![super::CLEAN_WORK.to_owned()]),
            Mode::Drain(_) | Mode::Gone => return None,
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let done = works.iter().filter(|id| self.stages.done(id)).count();
        Some(WorkCounts { stage: stage.to_owned(), total: count(works.len()), done: count(done) })
    }

    fn count_slots(&self) -> SlotCounts {
        let wanted = match self.mode {
            Mode::Run | Mode::Suspend | Mode::Disabled => self.world.build.spec.parallelism,
            Mode::Clean(_) => 1,
            Mode::Drain(_) | Mode::Gone => 0,
        };
        let mut counts = SlotCounts { desired: wanted, ..SlotCounts::default() };
        for draft in self.drafts.values() {
            match draft.state.unwrap_or(draft.view.record.status.state) {
                DirectoryState::Working => counts.working += 1,
                DirectoryState::Waiting | DirectoryState::BackingOff | DirectoryState::Starting => counts.waiting += 1,
                DirectoryState::Silent => counts.silent += 1,
                DirectoryState::Idle
                | DirectoryState::Stopping
                | DirectoryState::Suspended
                | DirectoryState::Finished
                | DirectoryState::Tombstone => {}
            }
        }
        counts
    }

    fn count_volumes(&self) -> VolumeCounts {
        let retains = matches!(self.mode, Mode::Drain(_)) && !self.mode.deletes_volumes(&self.world.build);
        let mut counts = VolumeCounts::default();
        for draft in self.drafts.values() {
            let formers = draft.view.record.spec.former_volumes.iter().map(|volume| former_class(self.world, volume));
            for class in formers.chain(current_class(draft)) {
                match class {
                    Class::Gone | Class::Foreign => {}
                    Class::Owned | Class::Terminating => counts.held += 1,
                    Class::Stranded | Class::Lost(None) => {
                        counts.held += 1;
                        counts.stranded += 1;
                    }
                    Class::Idle(_) | Class::Superseded(_) | Class::Lost(Some(_)) => {
                        counts.held += 1;
                        counts.retained += u32::from(retains);
                    }
                }
            }
        }
        counts
    }

    /// How much is done: the plan 2 %, Encode and Sort 47 % each, Publish the rest.
    fn percent(&self) -> u32 {
        let (stage, works) = self.stages.current();
        let (base, share) = match stage {
            PLAN => (0.0, 2.0),
            ENCODE => (2.0, 47.0),
            SORT => (49.0, 47.0),
            _ => (96.0, 4.0),
        };
        let done = works.iter().filter(|id| self.stages.done(id)).count();
        let under_way: f64 = self
            .drafts
            .values()
            .filter(|draft| {
                draft
                    .view
                    .record
                    .spec
                    .work
                    .as_ref()
                    .is_some_and(|work| works.contains(&work.id) && !self.stages.done(&work.id))
            })
            .filter_map(|draft| draft.report()?.progress)
            .filter(|progress| progress.is_finite())
            .map(|progress| progress.clamp(0.0, 1.0))
            .sum();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // At most thousands of works; the result is within 0..=100.
        let percent = (base + share * ((done as f64 + under_way) / (works.len().max(1) as f64)).min(1.0)) as u32;
        percent.min(100)
    }

    /// Rows read and entries encoded, as far as chosen or reported; bytes of Sort's files once there are any.
    fn totals(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let frozen = self.world.stages.iter().flat_map(|stage| &stage.chosen);
        let recorded = self.drafts.values().flat_map(|draft| &draft.view.record.spec.chosen);
        let mut seen = std::collections::BTreeSet::new();
        let (mut rows, mut entries, mut bytes) = (0_u64, 0_u64, 0_u64);
        for chosen in frozen.chain(recorded).filter(|chosen| seen.insert(chosen.work_id.as_str())) {
            let first_encode =
                chosen.work_id.starts_with("encode-") && super::stages::repair_round(&chosen.work_id).is_none();
            if first_encode {
                rows = rows.saturating_add(chosen.rows);
                entries = entries.saturating_add(chosen.entries);
            } else if chosen.work_id.starts_with("sort-") {
                bytes = bytes.saturating_add(chosen.bytes);
            }
        }
        for draft in self.drafts.values() {
            let Some(work) = draft.view.record.spec.work.as_ref() else {
                continue;
            };
            let first_encode = work.id.starts_with("encode-") && super::stages::repair_round(&work.id).is_none();
            if first_encode
                && !seen.contains(work.id.as_str())
                && let Some(report) = draft.report()
            {
                rows = rows.saturating_add(report.rows.unwrap_or(0));
            }
        }
        let some = |number: u64| (number > 0).then_some(number);
        (some(rows), some(entries), some(bytes))
    }

    /// When the build will end at the observed rate. Kept while it is about right, so that it is not written anew
    /// with every look.
    fn estimate(&self, percent: u32, before: Option<&str>) -> Option<String> {
        let rate = self.world.build.percent_per_second.filter(|rate| rate.is_finite() && *rate > 0.0);
        let (Some(rate), Mode::Run) = (rate, self.mode) else {
            return if self.mode == Mode::Run { before.map(str::to_owned) } else { None };
        };
        let now: Timestamp = self.world.wall.parse().ok()?;
        let seconds = (f64::from(100 - percent.min(100)) / rate).min(3.0e8);
        let end = now.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()?;
        let end = Timestamp::from_second(end.as_second()).ok()?;
        let near_enough = before.and_then(|before| before.parse::<Timestamp>().ok()).filter(|before| {
            let off = (end.as_second() - before.as_second()).unsigned_abs();
            #[allow(clippy::cast_precision_loss)] // seconds of at most ten years
            let off = off as f64;
            off <= (seconds * 0.1).max(30.0)
        });
        Some(near_enough.map_or_else(|| end.to_string(), |before| before.to_string()))
    }

    fn last_error(&self) -> Option<LastError> {
        let failure = self.failing.as_ref().or(self.error.as_ref())?;
        if failure.work_id.is_empty() {
            return None;
        }
        Some(LastError { work_id: failure.work_id.clone(), reason: failure.reason, message: failure.message.clone() })
    }

    fn conditions(
        &self,
        before: &IndexBuildStatus,
        status: &IndexBuildStatus,
        published: bool,
        failed: bool,
        ended: bool,
    ) -> Vec<Condition> {
        let phase = phase_reason(status.phase.unwrap_or_default());
        let url = status.manifest.as_ref().map(|manifest| manifest.url.clone()).unwrap_or_default();
        let said = before.condition(ConditionType::Failed);
        let (why, what) = match (&self.failing, said) {
            (Some(failure), _) if failure.permanent => {
                (Reason::from(failure.reason), format!("{}: {}", failure.work_id, failure.message))
            }
            (Some(failure), _) => (
                Reason::BackoffLimitExceeded,
                format!(
                    "more attempts failed than backoffLimit ({}) allows; the last, {}: {}",
                    self.world.build.spec.backoff_limit, failure.work_id, failure.message
                ),
            ),
            (None, Some(said)) if failed => (said.reason, said.message.clone()),
            (None, _) => (Reason::AsExpected, String::new()),
        };
        let mut list = Vec::new();
        let mut say =
            |condition_type, status, reason, message: String| list.push((condition_type, status, reason, message));
        let holds = |holds: bool| if holds { ConditionStatus::True } else { ConditionStatus::False };

        let worst = self.worst_wait();
        let severity = |wait: &Wait| severity(wait.reason, self.mode);
        let ready_said = before.condition(ConditionType::Ready).map(|ready| ready.message.as_str());
        let going_on = worst.map_or_else(|| self.going_on(status), |wait| words(wait, self.world, ready_said));
        if published {
            say(
                ConditionType::Ready,
                ConditionStatus::True,
                Reason::Published,
                format!("the index is published: {url}"),
            );
        } else if failed {
            say(ConditionType::Ready, ConditionStatus::False, why, what.clone());
        } else {
            say(ConditionType::Ready, ConditionStatus::False, phase, going_on.clone());
        }

        let resting = ended || self.mode == Mode::Disabled || (self.mode == Mode::Suspend && self.waits.is_empty());
        let reconciling = match self.mode {
            Mode::Disabled => Reason::ReconcileDisabled,
            _ if ended => Reason::AsExpected,
            _ => phase,
        };
        say(ConditionType::Reconciling, holds(!resting), reconciling, String::new());

        let working = status.slots.is_some_and(|slots| slots.working > 0);
        let stalled = worst.filter(|wait| severity(wait) >= 3 || (severity(wait) == 2 && !working));
        if failed {
            say(ConditionType::Stalled, ConditionStatus::True, why, what.clone());
        } else if let Some(wait) = stalled {
            say(ConditionType::Stalled, ConditionStatus::True, wait.reason, going_on.clone());
        } else {
            say(ConditionType::Stalled, ConditionStatus::False, Reason::AsExpected, String::new());
        }

        say(ConditionType::Complete, holds(published), if published { Reason::Published } else { phase }, url.clone());
        say(
            ConditionType::Failed,
            holds(failed),
            if failed { why } else { Reason::AsExpected },
            if failed { what.clone() } else { String::new() },
        );
        let finished = published || failed;
        let finished_why = if published {
            Reason::Published
        } else if failed {
            why
        } else {
            phase
        };
        say(ConditionType::Finished, holds(finished), finished_why, String::new());

        let stuck = worst.filter(|wait| severity(wait) >= 3);
        if finished || matches!(self.mode, Mode::Suspend | Mode::Disabled | Mode::Gone) {
            let reason = if self.mode == Mode::Suspend { Reason::Suspended } else { reconciling };
            say(ConditionType::Progressing, ConditionStatus::False, reason, String::new());
        } else if let Some(wait) = stuck {
            say(ConditionType::Progressing, ConditionStatus::False, wait.reason, going_on);
        } else {
            say(ConditionType::Progressing, ConditionStatus::True, phase, going_on);
        }

        let volumes = status.volumes.unwrap_or_default();
        if volumes.stranded > 0 {
            let message = self.stranded_volumes(volumes.stranded);
            say(ConditionType::VolumesHeld, ConditionStatus::True, Reason::VolumesStranded, message);
        } else if volumes.retained > 0 {
            say(
                ConditionType::VolumesHeld,
                ConditionStatus::True,
                Reason::VolumesRetained,
                format!(
                    "{} volumes are kept by spec.volume.retention; `kubectl delete pvc -n {} -l {}={}` removes them",
                    volumes.retained,
                    self.world.build.namespace,
                    indexbuild_api::labels::BUILD_UID,
                    self.world.build.uid,
                ),
            );
        } else {
            say(ConditionType::VolumesHeld, ConditionStatus::False, Reason::NoVolumes, String::new());
        }
        self.dated(before, list)
    }

    /// How far the build is, and what a person can do where it rests because somebody wanted that.
    fn going_on(&self, status: &IndexBuildStatus) -> String {
        let (phase, progress) = (status.phase.unwrap_or_default(), status.progress.clone().unwrap_or_default());
        match self.mode {
            Mode::Disabled => format!(
                "{phase} {progress}: left alone, as its annotation {} says; it goes on when that is removed",
                indexbuild_api::labels::RECONCILE
            ),
            Mode::Suspend => format!(
                "{phase} {progress}: its executors have ended and its volumes stay; it goes on when spec.suspend is false"
            ),
            Mode::Run | Mode::Clean(_) | Mode::Drain(_) | Mode::Gone => format!("{phase} {progress}"),
        }
    }

    fn lost_nodes(&self) -> String {
        let known: Vec<_> = self.world.nodes.iter().filter(|node| !node.gone).collect();
        let lost: Vec<&str> = known
            .iter()
            .filter(|node| node.ready != crate::world::NodeReady::True)
            .map(|node| node.name.as_str())
            .collect();
        format!(
            "{} of {} nodes look lost ({}): it is probably this controller that is cut off, so that nothing is destroyed or replaced",
            lost.len(),
            known.len(),
            some_of(&lost),
        )
    }

    /// Which volumes are held for want of a proof, and who could supply it.
    fn stranded_volumes(&self, count: u32) -> String {
        let formers = self.drafts.values().flat_map(|draft| &draft.view.record.spec.former_volumes);
        let held = formers
            .filter(|volume| matches!(former_class(self.world, volume), Class::Stranded | Class::Lost(None)))
            .map(|volume| format!("{} of {}", volume.claim_name, super::volumes::former_owner(volume)));
        let held: Vec<String> = held.collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        format!(
            "{count} volumes are held, as nothing proves that their former owners are gone ({}): they go when {}",
            some_of(&held),
            super::volumes::PROOFS
        )
    }

    /// `lastTransitionTime` changes only when the status does. Conditions that are not this function's stay.
    fn dated(
        &self,
        before: &IndexBuildStatus,
        list: Vec<(ConditionType, ConditionStatus, Reason, String)>,
    ) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = list
            .into_iter()
            .map(|(condition_type, status, reason, mut message)| {
                truncate(&mut message);
                let old = before.condition(condition_type).filter(|old| old.status == status);
                Condition {
                    condition_type,
                    status,
                    reason,
                    message,
                    last_transition_time: old
                        .and_then(|old| old.last_transition_time.clone())
                        .or_else(|| Some(self.world.wall.clone())),
                    observed_generation: Some(self.world.build.generation),
                }
            })
            .collect();
        for other in &before.conditions {
            if !conditions.iter().any(|condition| condition.condition_type == other.condition_type) {
                conditions.push(other.clone());
            }
        }
        conditions.sort_by_key(|condition| condition.condition_type);
        conditions
    }
}

/// What to tell people of a build's turns: that it is published, has failed, is stalled, or is stalled no more.
#[must_use]
pub fn turns(before: Option<&IndexBuildStatus>, after: &IndexBuildStatus) -> Vec<Event> {
    let holds = |status: &IndexBuildStatus, condition_type| {
        status.condition(condition_type).is_some_and(|condition| condition.status == ConditionStatus::True)
    };
    let told = [(ConditionType::Complete, false), (ConditionType::Failed, true), (ConditionType::Stalled, true)];
    let mut events = Vec::new();
    for (condition_type, warning) in told {
        // A failure is told once, though it also stalls.
        let doubled = condition_type == ConditionType::Stalled && holds(after, ConditionType::Failed);
        let begins = holds(after, condition_type) && !before.is_some_and(|before| holds(before, condition_type));
        if let Some(condition) = after.condition(condition_type).filter(|_| begins && !doubled) {
            let message = match condition_type {
                ConditionType::Complete => format!("the index is published: {}", condition.message),
                _ => condition.message.clone(),
            };
            events.push(Event { reason: condition.reason, warning, message });
        }
    }
    events
}

/// The first few names, and how many more there are.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// The longest message that a condition takes, in bytes.
const MAX_MESSAGE: usize = 4_096;

pub(super) fn truncate(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
}

const fn phase_reason(phase: Phase) -> Reason {
    match phase {
        Phase::Pending => Reason::Pending,
        Phase::Planning => Reason::Planning,
        Phase::Encoding => Reason::Encoding,
        Phase::Sorting => Reason::Sorting,
        Phase::Publishing => Reason::Publishing,
        Phase::Cleaning => Reason::Cleaning,
        Phase::Suspended => Reason::Suspended,
        Phase::Aborting => Reason::Aborted,
        Phase::Complete => Reason::Published,
        Phase::Failed => Reason::WorkFailed,
    }
}
