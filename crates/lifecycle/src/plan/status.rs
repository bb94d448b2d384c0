//! What is said about the build. Deterministic, and without anything that changes with time alone: with nothing to
//! say, nothing is written (I8).

use indexbuild_api::{
    DirectoryState, IndexBuildStatus, LastError, ManifestStatus, Phase, Reason, Retention, SlotCounts, VolumeCounts,
    WorkCounts, WorkId,
};
use jiff::{SignedDuration, Timestamp};

use super::Pass;
use super::grants::RecordDraft;
use super::left;
use super::mode::{self, Mode};
use super::stages::{ENCODE, PLAN, SORT};
use super::volumes::{VolumeFate, current_class, former_class};
use crate::action::{Action, Decision, End};
use crate::texts::Fitted as _;
use crate::world::Millis;

impl Pass<'_> {
    pub(super) fn finish(mut self) -> Decision {
        let looked = !self.steps.contains(&Action::AddFinalizer)
            && self.failing.is_none()
            && !self.undecided
            && !matches!(self.mode, Mode::Disabled | Mode::Gone);
        if looked {
            self.settle_states();
            self.volume_waits();
        }
        let ended = self.ended(looked);
        if self.lost && looked {
            let again = self.world.build.timeouts.replace_after;
            let what = self.lost_nodes();
            self.wait_on(Reason::MostNodesLost, None, again, what, "half of the nodes or more are ready again");
        }
        let release = self.releases_finalizer(ended);
        let over = self.is_over(ended);
        let status = self.status(ended).fitted();
        let requeue = self.requeue();
        // Told before the record lets go of the volume: nobody would know of it after a crash in between.
        let kept = |action: &Action| matches!(action, Action::KeepClaim { .. });
        let (mut actions, steps): (Vec<_>, Vec<_>) = std::mem::take(&mut self.steps).into_iter().partition(kept);
        // failure-modes.md #23, and one destructive action per pass: what is destroyed was read live in the same pass.
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
                let stays = matches!(self.mode, Mode::Drain(_)) && self.is_settled(&draft);
                actions.extend(draft.into_action(conditions, stays));
            }
        }
        let Self { waits, mut events, world, .. } = self;
        actions.extend(steps);
        actions.extend(destroyed);
        let leaves = if release { left::behind(world, &status, ended) } else { None };
        if release {
            events.extend(leaves.clone());
            actions.push(Action::RemoveFinalizer);
        }
        events.extend(super::conditions::falls_silent(world.build.status.as_ref(), &status, &waits));
        let said: Vec<_> = world.slots.iter().map(|slot| slot.record.status.conditions.as_slice()).collect();
        events.extend(super::conditions::begins_to_wait(&said, world.build.status.as_ref(), &waits));
        events.extend(super::hindrances::unenforced(world.enforcement.as_ref()).filter(|_| !over));
        let end = if over { Mode::of(world).end() } else { None };
        // What was said is acted on at once.
        let said = actions.iter().any(|action| matches!(action, Action::RecordStages { .. }));
        let requeue = if said { 1 } else { requeue };
        let requeue =
            if actions.is_empty() { requeue } else { requeue.min(world.build.timeouts.renew_interval / 5).max(1) };
        Decision { actions, status, requeue, end, waits, events, leaves, said_with_stages: None }
    }

    fn ended(&self, looked: bool) -> bool {
        match self.mode {
            Mode::Gone => true,
            Mode::Drain(_) => {
                looked
                    && self.destructive.is_empty()
                    && self.steps.is_empty()
                    && self
                        .drafts
                        .values()
                        .all(|draft| self.is_settled(draft) && !draft.changes_spec() && self.stands_alone(draft))
            }
            Mode::Disabled | Mode::Run | Mode::Suspend | Mode::Clean(_) => false,
        }
    }

    /// Whether a record outlives a build that is deleted now: it was seen to be a tombstone. Its write may be refused
    /// once more, and a record that still has its owner reference goes with the build, and with it all that is known
    /// of its volumes.
    fn stands_alone(&self, draft: &RecordDraft<'_>) -> bool {
        self.mode != Mode::Drain(End::Aborted) || draft.view.record.status.state == DirectoryState::Tombstone
    }

    /// Whether nothing is left to do, or nothing is done any more: then nothing hinders the build.
    pub(super) fn is_over(&self, ended: bool) -> bool {
        ended || (self.world.build.deleting && self.releases_finalizer(ended))
    }

    /// The finalizer goes when the commit is clean and no volume waits, unless the index is to go with its build;
    /// and at a deletion when all is done or the time for it is over.
    fn releases_finalizer(&self, ended: bool) -> bool {
        let build = &self.world.build;
        if !build.finalizer || build.gone || self.mode == Mode::Disabled {
            return false;
        }
        if build.deleting {
            return ended || mode::deletion_is_over(build);
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
                // Of a build that is gone nothing is worked on any more, and no stage is known.
                let open = !self.world.build.gone && self.work_open(&draft);
                draft.state = Some(match (self.mode, open, draft.claimed()) {
                    (Mode::Suspend, _, false) => DirectoryState::Suspended,
                    // As it is: nothing of it changes until its turn.
                    (Mode::Run, _, false) if self.is_queued() => draft.view.record.status.state,
                    (_, false, _) => DirectoryState::Idle,
                    (_, true, false) => DirectoryState::Starting,
                    (_, true, true) => DirectoryState::Working,
                });
            }
            self.drafts.insert(slot, draft);
        }
    }

    fn requeue(&self) -> Millis {
        let timeouts = self.world.build.timeouts;
        let next = self.waits.iter().map(|wait| wait.until.saturating_sub(self.world.now)).min();
        next.unwrap_or(timeouts.renew_interval.saturating_mul(2)).clamp(1, timeouts.replace_after.max(1))
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
        let published_by = self.stages.publication().or_else(|| mode::found_committed(self.world).cloned());
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
            start_time: self.start_time(&before, finished),
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
            last_wait: if finished { before.last_wait.clone() } else { self.last_wait(&before, ended) },
            volumes: if self.world.slots.is_empty() && before.volumes.is_none() { None } else { Some(volumes) },
            manifest: published_by.map_or_else(
                || before.manifest.clone(),
                |chosen| {
                    Some(ManifestStatus {
                        url: format!("{}manifest.json", build.prefix()),
                        digest: chosen.digest,
                        entries: chosen.entries,
                        bytes: chosen.bytes,
                    })
                },
            ),
            frozen_stages: self.recorded_stages().or_else(|| before.frozen_stages.clone()),
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
                | DirectoryState::Tombstone
                | DirectoryState::Other(_) => {}
            }
        }
        counts
    }

    fn count_volumes(&self) -> VolumeCounts {
        let mut counts = VolumeCounts::default();
        for draft in self.drafts.values() {
            let retains = matches!(self.mode, Mode::Drain(_)) && self.retention(draft) == Retention::Retain;
            let formers =
                draft.view.record.spec.former_volumes.iter().map(|volume| match former_class(self.world, volume) {
                    VolumeFate::Stranded if self.gives_way(draft, volume) => VolumeFate::Owned,
                    class => class,
                });
            for class in formers.chain(current_class(draft)) {
                match class {
                    VolumeFate::Gone | VolumeFate::Foreign => {}
                    VolumeFate::Owned | VolumeFate::Terminating => counts.held += 1,
                    VolumeFate::Stranded | VolumeFate::Lost(None) => {
                        counts.held += 1;
                        counts.stranded += 1;
                    }
                    VolumeFate::Idle(_) | VolumeFate::Superseded(_) | VolumeFate::Lost(Some(_)) => {
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
            match chosen.work_id.parse() {
                Ok(WorkId::Encode { round: 0, number: _ }) => {
                    rows = rows.saturating_add(chosen.rows);
                    entries = entries.saturating_add(chosen.entries);
                }
                Ok(WorkId::Sort { number: _ }) => bytes = bytes.saturating_add(chosen.bytes),
                Ok(WorkId::Encode { .. } | WorkId::Plan | WorkId::Publish | WorkId::Clean) | Err(_) => {}
            }
        }
        for draft in self.drafts.values() {
            let Some(work) = draft.view.record.spec.work.as_ref() else {
                continue;
            };
            if matches!(work.id.parse(), Ok(WorkId::Encode { round: 0, number: _ }))
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
}
