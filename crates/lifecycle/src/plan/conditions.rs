//! The conditions of a build, and what they tell people: whether it is ready, stalled, complete, failed, and what holds
//! it up.

use indexbuild_api::{Condition, ConditionStatus, ConditionType, IndexBuildStatus, Phase, Reason};

use super::Pass;
use super::hindrances::enforced;
use super::mode::Mode;
use super::volumes::{VolumeFate, current_class, former_class};
use super::waits::{describe_wait, severity, some_of, truncate};
use crate::action::{Event, Wait};
use crate::evidence::LastOwner;
use crate::platform::Platform;
use crate::world::Enforcement;

impl Pass<'_> {
    /// Everything that the status says in conditions.
    pub(super) fn conditions(
        &self,
        before: &IndexBuildStatus,
        status: &IndexBuildStatus,
        published: bool,
        failed: bool,
        ended: bool,
    ) -> Vec<Condition> {
        let phase =
            if self.is_queued() { Reason::WaitingForBudget } else { phase_reason(status.phase.unwrap_or_default()) };
        let url = status.manifest.as_ref().map(|manifest| manifest.url.clone()).unwrap_or_default();
        let said = before.condition(ConditionType::Failed);
        let (why, what) = match (&self.failing, said) {
            (Some(failure), _) => self.why_failed(failure),
            (None, Some(said)) if failed => (said.reason, said.message.clone()),
            (None, _) => (Reason::AsExpected, String::new()),
        };
        let mut list = Vec::new();
        let mut say =
            |condition_type, status, reason, message: String| list.push((condition_type, status, reason, message));
        let holds = |holds: bool| if holds { ConditionStatus::True } else { ConditionStatus::False };

        let worst = self.worst_wait();
        let severity = |wait: &Wait| severity(wait, self.mode);
        let ready_said = before.condition(ConditionType::Ready).map(|ready| ready.message.as_str());
        let going_on = worst.map_or_else(|| self.going_on(status), |wait| describe_wait(wait, self.world, ready_said));
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
                self.retained_volumes(volumes.retained),
            );
        } else {
            let reason = if volumes.held > 0 { Reason::AsExpected } else { Reason::NoVolumes };
            say(ConditionType::VolumesHeld, ConditionStatus::False, reason, String::new());
        }
        if let Some((reason, message)) = self.hindrance(ready_said, ended).filter(|_| !published) {
            for (condition_type, status, why, what) in &mut list {
                match condition_type {
                    ConditionType::Ready => {}
                    // The build is stalled by it if nobody works.
                    ConditionType::Stalled if !working => *status = ConditionStatus::True,
                    ConditionType::Progressing if !working => *status = ConditionStatus::False,
                    _ => continue,
                }
                (*why, *what) = (reason, message.clone());
            }
        }
        let stands = |enforcement: &Enforcement| {
            let said = before.condition(ConditionType::OwnershipEnforced).is_some();
            said && matches!(enforcement, Enforcement::Untried { .. })
        };
        let enforcement = self.world.enforcement.as_ref().filter(|_| !self.is_over(ended));
        if let Some(enforcement) = enforcement.filter(|enforcement| !stands(enforcement)) {
            let (status, reason, message) = enforced(enforcement);
            list.push((ConditionType::OwnershipEnforced, status, reason, message));
        }
        beside(before, dated(before, self.world.build.generation, &self.world.wall, list))
    }

    /// How far the build is, and what a person can do where it rests because somebody wanted that.
    fn going_on(&self, status: &IndexBuildStatus) -> String {
        let (phase, progress) = (status.phase.unwrap_or_default(), status.progress.clone().unwrap_or_default());
        match self.mode {
            Mode::Disabled => format!(
                "{phase} {progress}: left alone, as its annotation {} says; it goes on when that is removed",
                indexbuild_api::labels::RECONCILE
            ),
            Mode::Suspend => format!("{phase} {progress}: {}", self.world.platform.goes_on_when()),
            Mode::Run => format!("{phase} {progress}{}", self.why_fewer(status)),
            Mode::Clean(_) | Mode::Drain(_) | Mode::Gone => format!("{phase} {progress}"),
        }
    }

    /// Why fewer slots have work than the build asks for, where that is as it should be: else `4/6` looks like a fault.
    fn why_fewer(&self, status: &IndexBuildStatus) -> String {
        let desired = self.world.build.spec.parallelism;
        let wanted = self.drafts.values().filter(|draft| draft.slot() < desired);
        let busy = wanted.filter(|draft| self.work_open(draft)).count();
        let stage = status.works.as_ref().map_or("", |works| works.stage.as_str());
        if busy == 0 || u32::try_from(busy).is_ok_and(|busy| busy >= desired) {
            return String::new();
        }
        let has = if busy == 1 { "has" } else { "have" };
        if self.unassigned().is_empty() {
            format!("; {busy} of {desired} slots {has} work, as no work of the stage {stage} is left to hand out")
        } else if let Some(slot) = self.only_slot() {
            format!(
                "; {busy} of {desired} slots {has} work, as the runs to sort are on the volume of slot {slot} alone"
            )
        } else {
            String::new()
        }
    }

    pub(super) fn lost_nodes(&self) -> String {
        let known: Vec<_> = self.world.nodes_in_use().collect();
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

    /// How many volumes are kept as was asked for, and how they are removed.
    fn retained_volumes(&self, count: u32) -> String {
        let platform = self.world.platform;
        let (kept, them) = match count {
            1 => (format!("1 {} is", platform.volume()), "it"),
            _ => (format!("{count} {} are", platform.volumes()), "them"),
        };
        match platform {
            Platform::Kubernetes => format!(
                "{kept} kept by spec.volume.retention; `kubectl delete pvc -n {} -l {}={}` removes {them}",
                self.world.build.namespace,
                indexbuild_api::labels::BUILD_UID,
                self.world.build.uid,
            ),
            Platform::OneMachine => {
                format!("{kept} kept, as was asked for; removing the folder of the run's state removes {them}")
            }
        }
    }

    /// Which volumes are held for want of a proof, and who could supply it.
    fn stranded_volumes(&self, count: u32) -> String {
        let formers = self.drafts.values().flat_map(|draft| {
            let formers = &draft.view.record.spec.former_volumes;
            formers.iter().filter(|volume| !self.gives_way(draft, volume))
        });
        let held = formers
            .filter(|volume| matches!(former_class(self.world, volume), VolumeFate::Stranded | VolumeFate::Lost(None)))
            .map(|volume| {
                let said =
                    format!("{} of {}", volume.claim_name, super::volumes::former_owner(self.world.platform, volume));
                (said, LastOwner::former(volume))
            });
        // The present one of an owner whose claim is lost, until the next pass gives the slot another.
        let present = self.drafts.values().filter_map(|draft| {
            let lost = matches!(current_class(draft), Some(VolumeFate::Stranded | VolumeFate::Lost(None)));
            let volume = draft.view.record.spec.volume.as_ref().filter(|_| lost)?;
            let owner = LastOwner::current(&draft.view.record)?;
            Some((format!("{} of {}", volume.claim_name, super::budget::describe(draft)), owner))
        });
        let (held, owners): (Vec<String>, Vec<_>) = held.chain(present).unzip();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let (held, proofs) = (some_of(&held), super::volumes::proofs(self.world, &owners));
        if count == 1 {
            let volume = self.world.platform.volume();
            format!(
                "1 {volume} is held, as nothing proves that its former owner is gone ({held}): it goes when {proofs}"
            )
        } else {
            let volumes = self.world.platform.volumes();
            format!(
                "{count} {volumes} are held, as nothing proves that their former owners are gone ({held}): they go when {proofs}"
            )
        }
    }
}

/// Conditions that say this. `lastTransitionTime` changes only when the status does.
pub(super) fn dated(
    before: &IndexBuildStatus,
    generation: i64,
    wall: &str,
    list: Vec<(ConditionType, ConditionStatus, Reason, String)>,
) -> Vec<Condition> {
    let dated = |(condition_type, status, reason, mut message)| {
        truncate(&mut message);
        let old = before.condition(condition_type).filter(|old| old.status == status);
        let since = old.and_then(|old| old.last_transition_time.clone());
        Condition {
            condition_type,
            status,
            reason,
            message,
            last_transition_time: since.or_else(|| Some(wall.to_owned())),
            observed_generation: Some(generation),
        }
    };
    let mut conditions: Vec<Condition> = list.into_iter().map(dated).collect();
    conditions.sort_by_key(|condition| condition.condition_type);
    conditions
}

/// Conditions, and those of before that speak of something else.
pub(super) fn beside(before: &IndexBuildStatus, mut conditions: Vec<Condition>) -> Vec<Condition> {
    for other in &before.conditions {
        if !conditions.iter().any(|condition| condition.condition_type == other.condition_type) {
            conditions.push(other.clone());
        }
    }
    conditions.sort_by_key(|condition| condition.condition_type);
    conditions
}

/// What to tell people of a build's turns: that it is published, has failed, is stalled.
#[must_use]
pub fn transition_events(before: Option<&IndexBuildStatus>, after: &IndexBuildStatus) -> Vec<Event> {
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

/// What to tell people when executors fall silent: once for all of them, as a partition takes whole racks. Where nobody
/// works, the build stalls, and that is told.
pub(super) fn falls_silent(
    before: Option<&IndexBuildStatus>,
    after: &IndexBuildStatus,
    waits: &[Wait],
) -> Option<Event> {
    let slots = after.slots.filter(|slots| slots.silent > 0 && slots.working > 0)?;
    if before.and_then(|before| before.slots).is_some_and(|before| before.silent > 0) {
        return None;
    }
    let wait = waits.iter().find(|wait| wait.reason == Reason::OwnerSilent)?;
    let Wait { reason, slot: _, what, until: _, acts: _, ends_when, stalls: _ } = wait;
    let others = if slots.silent > 1 { format!(" ({} are silent)", slots.silent) } else { String::new() };
    Some(Event { reason: *reason, warning: true, message: format!("{what}{others}: ends when {ends_when}") })
}

/// What to tell people when owners begin to wait for something that they named: once for all of them, as a store that is
/// away is away for all. Where the build stalls by it, that is told.
pub(super) fn begins_to_wait(
    said: &[&[Condition]],
    before: Option<&IndexBuildStatus>,
    waits: &[Wait],
) -> Option<Event> {
    let told = |reason: Reason| {
        said.iter().flat_map(|conditions| conditions.iter()).any(|condition| {
            condition.condition_type == ConditionType::Waiting
                && condition.status == ConditionStatus::True
                && condition.reason == reason
        })
    };
    let stalled = before
        .and_then(|before| before.condition(ConditionType::Stalled))
        .is_some_and(|stalled| stalled.status == ConditionStatus::True);
    let named = |wait: &&Wait| matches!(wait.reason, Reason::WaitingForStore | Reason::WaitingForSpace);
    let wait = waits.iter().find(named).filter(|wait| !told(wait.reason) && (stalled || !wait.stalls))?;
    let Wait { reason, slot: _, what, until: _, acts: _, ends_when, stalls: _ } = wait;
    let others = waits.iter().filter(|other| other.reason == *reason).count().saturating_sub(1);
    let others = if others > 0 { format!(" (and {others} more wait)") } else { String::new() };
    Some(Event { reason: *reason, warning: true, message: format!("{what}{others}: ends when {ends_when}") })
}

const fn phase_reason(phase: Phase) -> Reason {
    match phase {
        Phase::Pending | Phase::Other(_) => Reason::Pending,
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
