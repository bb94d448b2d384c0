//! Freezing: which results count, said once and for good (G2, G6).

use indexbuild_api::{FrozenStage, Reason, names};

use super::Pass;
use super::mode::{Mode, deletion_is_over};
use crate::action::{Action, Decision, Event};
use crate::world::{Stage, Unproved, World};

/// The build as it is once the list of frozen stages is written that a decision writes. `None`: it writes none, or the first.
pub(super) fn with_stages(world: &World, decision: &Decision) -> Option<World> {
    let stages = decision.actions.iter().find_map(|action| match action {
        Action::RecordStages { stages } if world.frozen.unsaid.is_none() => Some(stages),
        _ => None,
    })?;
    let mut after = world.clone();
    after.build.status.get_or_insert_default().frozen_stages = Some(stages.clone());
    let lost = |said: &&FrozenStage| !world.stages.iter().any(|stage| stage.name == said.name);
    after.frozen.lost = stages.iter().filter(lost).cloned().collect();
    Some(after)
}

impl Pass<'_> {
    /// The list of frozen stages stands in the status before anything is decided: of a build that is just begun an empty
    /// one, so that nothing that somebody else made is ever taken for what an older operator left. A build that is let go,
    /// as the time for its deletion is over, needs none: a definition that does not know the list must not hold it.
    pub(super) fn vouches_first(&mut self) -> bool {
        let build = &self.world.build;
        let Some(stages) = self.world.frozen.unsaid.as_ref().filter(|_| !build.gone) else {
            return false;
        };
        if !deletion_is_over(build) {
            self.steps.push(Action::RecordStages { stages: stages.clone() });
        }
        self.undecided = true;
        true
    }

    /// Makes objects of frozen stages that are not there, from what the records still say, and tells of those that cannot be
    /// made. Whether nothing else can be decided: while the build runs, each stage is read by those that follow.
    /// A deletion reads none.
    pub(super) fn restores_stages(&mut self) -> bool {
        let frozen = &self.world.frozen;
        if self.world.build.deleting || self.world.build.gone {
            return false;
        }
        let running = matches!(self.mode, Mode::Run | Mode::Suspend);
        for lost in &frozen.lost {
            if frozen.unproved.iter().any(|unproved| unproved.stage == lost.name) {
                continue;
            }
            match self.stages.made_again(lost) {
                Some(stage) => self.steps.push(Action::FreezeStage { stage }),
                None if running => self.stage_is_lost(lost),
                None => {}
            }
        }
        if running {
            let offered = self.stages.ready(true).and_then(|ready| self.stages.offered(&ready));
            for unproved in &frozen.unproved {
                if offered.as_ref().is_none_or(|offered| offered.name != unproved.stage) {
                    self.stage_is_foreign(unproved);
                }
            }
        }
        self.undecided = running && !frozen.lost.is_empty();
        self.undecided
    }

    fn stage_is_lost(&mut self, lost: &FrozenStage) {
        let build = &self.world.build;
        let object = names::config_map(&build.name, &build.uid, &lost.name);
        let what = format!(
            "stage {} was frozen, and ConfigMap {object} of namespace {}, which held it, is gone; which results count is \
             never decided twice, so that nothing is decided until then",
            lost.name, build.namespace
        );
        let ends_when = format!(
            "somebody puts back what was there (a backup, `kubectl indexbuild report`; its digest is {}), or deletes the build",
            lost.digest
        );
        self.wait_on(Reason::StageLost, None, build.timeouts.replace_after, what, &ends_when);
    }

    fn stage_is_foreign(&mut self, unproved: &Unproved) {
        let build = &self.world.build;
        let Unproved { stage, object, holds: _ } = unproved;
        let follows = if self.world.is_frozen(stage) {
            "nothing is decided until what was there is put back"
        } else {
            "the build goes on until it has to freeze that stage"
        };
        let what = format!(
            "ConfigMap {object} stands where the operator freezes stage {stage}, and nothing vouches for what is in it: it is \
             not believed, and {follows}"
        );
        let ends_when = format!("it is removed: `kubectl delete configmap {object} -n {}`", build.namespace);
        self.wait_on(Reason::ForeignObject, None, build.timeouts.replace_after, what, &ends_when);
    }

    /// Freezes a stage whose works are all chosen; or gives up cleaning, when its tries or its time are spent.
    pub(super) fn freeze(&mut self) {
        let running = matches!(self.mode, Mode::Run | Mode::Suspend);
        if let Some(stage) = self.stages.ready(running) {
            self.say_frozen(&stage);
            return;
        }
        let Mode::Clean(_) = self.mode else {
            return;
        };
        if let Some(stage) = self.stages.ready_clean() {
            self.say_frozen(&stage);
        } else if let Some(why) = self.cleaning_is_hopeless() {
            let prefix = self.world.build.prefix();
            self.events.push(Event {
                reason: Reason::CleanupTimedOut,
                warning: true,
                message: format!("cleaning was given up: {why}; what is left under {prefix} can be removed by hand"),
            });
            self.say_frozen(&Stage { name: self.stages.clean_name().to_owned(), chosen: Vec::new() });
        }
    }

    /// The digest first: an object that is made before it could be anybody's.
    fn say_frozen(&mut self, stage: &Stage) {
        let Some(new) = self.stages.offered(stage).or_else(|| stage.frozen()) else {
            return;
        };
        let status = self.world.build.status.as_ref();
        let mut stages = status.and_then(|status| status.frozen_stages.clone()).unwrap_or_default();
        stages.push(new);
        self.steps.push(Action::RecordStages { stages });
    }

    /// The list of frozen stages as this pass would leave it, where it changes that.
    pub(super) fn recorded_stages(&self) -> Option<Vec<FrozenStage>> {
        self.steps.iter().find_map(|step| match step {
            Action::RecordStages { stages } => Some(stages.clone()),
            _ => None,
        })
    }
}
