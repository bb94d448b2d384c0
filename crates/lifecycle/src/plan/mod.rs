//! What to do next about a build. One pass is a task list: what failed, each slot's owner and volumes, the next
//! works, stages that are complete, pods that nobody needs; then the status.

mod assign;
mod budget;
mod conditions;
mod deadline;
mod failed;
mod freeze;
mod grants;
mod hindrances;
mod left;
mod mode;
mod past;
mod place;
mod refusals;
mod returned;
mod slot;
mod stages;
mod status;
mod undecided;
mod unstarted;
mod volumes;
mod waits;

use std::collections::BTreeMap;

use indexbuild_api::WorkErrorReason;

use crate::action::{Action, Decision, End, Event, Wait};
use crate::world::World;
use budget::Failure;
use grants::RecordDraft;
use mode::Mode;
use stages::Stages;

/// The stages that works of the build may read, as far as they exist or may come next: what an executor is allowed
/// to read.
#[must_use]
pub fn stage_names(world: &World) -> Vec<String> {
    let rounds = Stages::of(world, mode::clean_stage(world), mode::keeps_volumes(world)).rounds();
    let repairs = (1..=rounds.saturating_add(2)).map(stages::repair_stage);
    [PLAN, ENCODE, SORT, PUBLISH, CLEAN, CLEAN_INDEX].into_iter().map(str::to_owned).chain(repairs).collect()
}

pub use conditions::transition_events;
pub use undecided::{unreadable, unreadable_event, unsupported};
pub use volumes::kept_claim;

pub use stages::{CLEAN, CLEAN_INDEX, CLEAN_WORK, ENCODE, PLAN, PUBLISH, SORT};

/// What to do next about a build, given everything observed. A pure function: the same world, the same decision.
#[must_use]
pub fn plan(world: &World) -> Decision {
    let decision = decide(world);
    let said = freeze::with_stages(world, &decision).map(|after| decide(&after).status);
    let before = world.build.status.as_ref();
    let said_with_stages = said.filter(|status| transition_events(before, status).is_empty());
    Decision { said_with_stages, ..decision }
}

fn decide(world: &World) -> Decision {
    let mut pass = Pass::of(world);
    if pass.mode == Mode::Disabled || pass.mode == Mode::Gone {
        return pass.finish();
    }
    if pass.vouches_first() {
        return pass.finish();
    }
    if pass.needs_finalizer() {
        pass.steps.push(Action::AddFinalizer);
        return pass.finish();
    }
    if pass.restores_stages() {
        return pass.finish();
    }
    pass.find_failure();
    // A failure is said first, in the status, and acted on by the next pass: what acts on it takes its evidence
    // away, and a crash in between must not forget why the build failed.
    if pass.failing.is_none() {
        pass.queue_wait();
        pass.deadline_wait();
        pass.each_slot();
        // Of a build that is gone only volumes are left to decide about: no work, no result, no stage.
        if !world.build.gone {
            pass.assign();
            pass.freeze();
        }
        pass.superseded_pods();
    }
    pass.finish()
}

/// One look at a build.
#[derive(Debug)]
pub(crate) struct Pass<'w> {
    world: &'w World,
    mode: Mode,
    stages: Stages<'w>,
    drafts: BTreeMap<u32, RecordDraft<'w>>,
    /// What does not change a record: in the order in which it is done.
    steps: Vec<Action>,
    /// What takes something away: at most one of these is done.
    destructive: Vec<Action>,
    waits: Vec<Wait>,
    events: Vec<Event>,
    /// Why the build fails, found by this pass.
    failing: Option<Failure>,
    /// The last attempt's error that is seen now.
    error: Option<Failure>,
    /// Failed attempts that count, those included that are not ended yet.
    failures: u32,
    /// Whether this pass begins a repair round.
    repairing: bool,
    /// Whether nothing is decided about slots, as it is not known which results count.
    undecided: bool,
    /// Whether most nodes look lost: nothing is destroyed or replaced (failure-modes.md #23).
    lost: bool,
}

impl<'w> Pass<'w> {
    fn of(world: &'w World) -> Self {
        let mode = Mode::of(world);
        let mut drafts = BTreeMap::new();
        for view in &world.slots {
            // A record of another build that has this name again is not ours to touch.
            if view.record.spec.build_uid == world.build.uid {
                drafts.entry(view.record.spec.slot).or_insert_with(|| RecordDraft::of(world, view));
            }
        }
        Self {
            world,
            mode,
            stages: Stages::of(world, mode::clean_stage(world), mode::keeps_volumes(world)),
            drafts,
            steps: Vec::new(),
            destructive: Vec::new(),
            waits: Vec::new(),
            events: Vec::new(),
            failing: None,
            error: None,
            failures: budget::counted(world),
            repairing: false,
            undecided: false,
            lost: world.most_nodes_lost(),
        }
    }

    /// The finalizer is there before the first executor: a deleted build must be cleaned.
    fn needs_finalizer(&self) -> bool {
        let build = &self.world.build;
        let begun = matches!(self.mode, Mode::Run | Mode::Suspend | Mode::Clean(_));
        begun && !build.finalizer && !build.deleting
    }

    /// Whether a work of the slot is still to be done.
    fn work_open(&self, draft: &RecordDraft<'_>) -> bool {
        let Some(work) = &draft.spec.work else {
            return false;
        };
        !self.is_done(draft, &work.id)
    }

    fn is_done(&self, draft: &RecordDraft<'_>, work_id: &str) -> bool {
        let grant = draft.view.record.spec.grant.as_ref();
        // A Clean that was done for the commit is not the Clean that a deletion asks for afterwards.
        let removes_index = draft.spec.work.as_ref().is_some_and(|work| work.removes_index);
        let cleaned = work_id == CLEAN_WORK
            && match self.world.stage(CLEAN) {
                Some(stage) => stage.chosen.iter().any(|chosen| {
                    grant.is_some_and(|grant| grant.epoch == chosen.epoch && grant.boot_nonce == chosen.boot_nonce)
                }),
                // Who did it is not known any more.
                None => self.world.is_frozen(CLEAN) && self.stages.clean_name() == CLEAN_INDEX && !removes_index,
            };
        let just_chosen = draft.spec.chosen.iter().any(|chosen| {
            chosen.work_id == work_id
                && (work_id != CLEAN_WORK
                    || grant.is_some_and(|grant| grant.epoch == chosen.epoch && grant.boot_nonce == chosen.boot_nonce))
        });
        cleaned || just_chosen || self.stages.done(work_id)
    }

    /// Finds out whether the build has failed: a permanent error, a spent budget, a plan that says nothing.
    fn find_failure(&mut self) {
        let mut pending: Vec<String> = Vec::new();
        let mut worst: Option<Failure> = None;
        for draft in self.drafts.values() {
            let done = draft.view.record.spec.work.as_ref().is_none_or(|work| self.is_done(draft, &work.id));
            let Some(failure) = budget::failure(draft, done) else {
                continue;
            };
            if failure.work_id == CLEAN_WORK {
                continue;
            }
            if failure.counts {
                pending.push(failure.work_id.clone());
            }
            let beyond_repair = !failure.damaged.is_empty() && self.stages.rounds() >= budget::max_rounds(self.world);
            if (failure.permanent || beyond_repair) && worst.as_ref().is_none_or(|worst| !worst.permanent) {
                worst = Some(Failure { permanent: true, ..failure.clone() });
            }
            if self.error.is_none() || failure.permanent {
                self.error = Some(failure);
            }
        }
        if !matches!(self.mode, Mode::Run | Mode::Suspend) || self.commit_is_reported() {
            return;
        }
        let works: Vec<&str> = pending.iter().map(String::as_str).collect();
        if worst.is_none()
            && let Some(spent) = budget::spent(self.world, &works)
        {
            let last = self.error.clone().unwrap_or_else(|| self.remembered_error());
            worst = Some(Failure { permanent: false, spent: Some(spent), ..last });
        }
        if worst.is_none() && self.stages.plan_is_unusable() {
            worst = Some(Failure {
                work_id: PLAN.to_owned(),
                reason: WorkErrorReason::Internal,
                message: "the plan's result does not say how many works there are: the executor and the control plane are of different versions".to_owned(),
                permanent: true,
                counts: false,
                damaged: Vec::new(),
                spent: None,
            });
        }
        if worst.is_none() {
            worst = self.overdue();
        }
        if worst.is_some() {
            // Said once, as the last word. Before, an attempt that has not ended is not in the number: it would be
            // counted again when it ends.
            let pending = u32::try_from(pending.len()).unwrap_or(u32::MAX);
            self.failures = budget::counted(self.world).saturating_add(pending);
        }
        self.failing = worst;
    }

    fn remembered_error(&self) -> Failure {
        let said = self.world.build.status.as_ref().and_then(|status| status.last_error.clone());
        let (work_id, reason, message) = said.map_or_else(
            || (String::new(), WorkErrorReason::Internal, "attempts failed".to_owned()),
            |error| (error.work_id, error.reason, error.message),
        );
        Failure { work_id, reason, message, permanent: false, counts: true, damaged: Vec::new(), spent: None }
    }

    /// Whether a Publish has committed, as far as a record says: then nothing makes the build fail any more.
    fn commit_is_reported(&self) -> bool {
        self.drafts.values().any(|draft| {
            draft.spec.chosen.iter().any(|chosen| chosen.work_id == PUBLISH)
                || draft.result().is_some_and(|result| result.work_id == PUBLISH)
        })
    }

    fn each_slot(&mut self) {
        let slots: Vec<u32> = self.drafts.keys().copied().collect();
        for slot in slots {
            if let Some(mut draft) = self.drafts.remove(&slot) {
                self.bind_claim(&mut draft);
                if !self.world.build.gone {
                    self.choose(&mut draft);
                }
                self.owner(&mut draft);
                self.volumes(&mut draft);
                self.drafts.insert(slot, draft);
            }
        }
    }

    /// The first of the two steps of a choice, and the end of the second: a choice whose stage is frozen leaves
    /// the record (G2).
    fn choose(&self, draft: &mut RecordDraft<'w>) {
        if let Some(result) = draft.result()
            && !self.is_done(draft, &result.work_id)
        {
            draft.choose(result);
        }
        let stages = &self.stages;
        draft.spec.chosen.retain(|chosen| !stages.is_frozen(chosen));
        // Of a work that is done nothing is counted any more.
        draft.spec.work_failures.retain(|work| !stages.done(&work.work_id));
    }

    /// Whether it does no harm if cleaning is given up: an index is committed, or no Publish can have been granted. Else
    /// a late Publish could commit as long as no tombstone stands in the store.
    fn needs_no_tombstone(&self) -> bool {
        match self.mode.end() {
            Some(End::Complete) => true,
            Some(End::Failed) => !self.world.is_frozen(SORT),
            Some(End::Aborted) | None => false,
        }
    }

    /// Why cleaning is given up, if it is: at a deletion when its time is over, else after some failures, where it does
    /// no harm.
    fn cleaning_is_hopeless(&self) -> Option<String> {
        let build = &self.world.build;
        if mode::cleaning_is_over(build) {
            return Some("the time allowed for it is over".to_owned());
        }
        if !self.needs_no_tombstone() {
            return None;
        }
        let cleaners = self.drafts.values().filter(|draft| {
            draft
                .view
                .record
                .spec
                .work
                .as_ref()
                .is_some_and(|work| work.id == CLEAN_WORK && !self.is_done(draft, CLEAN_WORK))
        });
        for draft in cleaners {
            if let Some(failure) = budget::failure(draft, false)
                && failure.permanent
            {
                return Some(failure.message);
            }
            if budget::failed_tries(draft) >= budget::CLEAN_ATTEMPTS {
                return Some(format!("{} attempts did not succeed", budget::CLEAN_ATTEMPTS));
            }
        }
        None
    }
}
