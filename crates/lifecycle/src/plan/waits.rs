//! What is waited for, in words: what, about which object, until when, and what ends it.
//!
//! A text says the same as long as the same is waited for, so that it is written once (I8): its deadline is a time of
//! day that stays as it was said first while it is about right.

use indexbuild_api::{Condition, ConditionStatus, ConditionType, Reason, ReportedWait};
use indexbuild_text::bounded;
use jiff::{SignedDuration, Timestamp};

use super::Pass;
use super::grants::RecordDraft;
use super::mode::Mode;
use crate::action::Wait;
use crate::world::{Millis, Queued, World};

const BEFORE_TIME: &str = ", until ";
const AFTER_TIME: &str = " at the latest: ends when ";

impl Pass<'_> {
    /// Something that is waited for until a deadline, when something else is done.
    pub(super) fn wait(&mut self, reason: Reason, slot: Option<u32>, left: Millis, what: String, ends_when: &str) {
        let until = self.world.now.saturating_add(left);
        let stalls = stalls(reason);
        self.waits.push(Wait { reason, slot, what, until, acts: true, ends_when: ends_when.to_owned(), stalls });
    }

    /// Something that is waited for as long as it takes: nothing else could be done about it. It is looked at again
    /// meanwhile.
    pub(super) fn wait_on(&mut self, reason: Reason, slot: Option<u32>, again: Millis, what: String, ends_when: &str) {
        let until = self.world.now.saturating_add(again);
        let stalls = stalls(reason);
        self.waits.push(Wait { reason, slot, what, until, acts: false, ends_when: ends_when.to_owned(), stalls });
    }

    /// Whether the build waits for its turn: it makes no pods.
    pub(super) fn is_queued(&self) -> bool {
        self.mode == Mode::Run && self.world.build.share.queued.is_some()
    }

    /// A build that waits for the budget of writes that all builds have together.
    pub(super) fn queue_wait(&mut self) {
        let Some(Queued { number, of, budget }) = self.world.build.share.queued.filter(|_| self.is_queued()) else {
            return;
        };
        let what = format!(
            "the build waits for its turn, number {number} of {of} in the queue: those that are at work, and it, would write to the \
             Kubernetes API more than {budget} times a second, which is what all builds have together"
        );
        let ends_when = "those before it have begun and some of them have ended, or the operator has a larger budget (--writes-per-second)";
        let again = self.world.build.timeouts.renew_interval;
        self.wait_on(Reason::WaitingForBudget, None, again, what, ends_when);
    }

    /// What a slot's owner says that it waits for. A store is waited for as long as it takes: that it is away, or refuses,
    /// is nobody's fault, and an attempt that is ended would find the same.
    pub(super) fn owner_waits(&mut self, draft: &RecordDraft<'_>, waiting: &ReportedWait) {
        let ReportedWait { reason, message, needs_help } = waiting;
        let (timeouts, stall, slot) = (draft.timeouts(), draft.stall(), draft.slot());
        let what = format!("{}: {message}", super::budget::describe(draft));
        let late = timeouts.replace_after.saturating_sub(stall);
        let stalls = *needs_help || late == 0;
        if is_outage(waiting) {
            // Looked at again when it has lasted so long that somebody should know.
            let again = if late == 0 { timeouts.replace_after } else { late }.max(timeouts.renew_interval);
            let ends_when = match reason {
                Reason::WaitingForSpace => "there is room again",
                _ => "the store does what it is asked",
            };
            self.wait_on(*reason, Some(slot), again, what, ends_when);
        } else {
            let left = draft.no_progress_limit().saturating_sub(stall);
            let ends_when = "it advances; after orphanAfter its attempt is ended and counted";
            self.wait(*reason, Some(slot), left, what, ends_when);
        }
        if let Some(wait) = self.waits.last_mut() {
            wait.stalls = stalls;
        }
    }

    /// The wait that a person should know of first, if any is worth it.
    pub(super) fn worst_wait(&self) -> Option<&Wait> {
        let weight = |wait: &Wait| severity(wait, self.mode);
        self.waits.iter().rev().max_by_key(|wait| weight(wait)).filter(|wait| weight(wait) > 0)
    }

    /// The conditions of a slot's record: what it waits for. None until it has waited for something.
    pub(super) fn slot_conditions(&self, draft: &RecordDraft<'_>) -> Vec<Condition> {
        let before = &draft.view.record.status.conditions;
        let old = before.iter().find(|condition| condition.condition_type == ConditionType::Waiting);
        // A pod that has just been made is on its way, and so is an owner that was just told to give way.
        let fresh = draft.is_fresh();
        let passing = |wait: &Wait| matches!(wait.reason, Reason::WaitingForPod | Reason::WaitingForEvidence);
        let worth = |wait: &&Wait| wait.slot == Some(draft.slot()) && !(fresh && passing(wait));
        let weight = |wait: &&Wait| match wait.reason {
            // It holds up nothing that the slot does.
            Reason::VolumesStranded => 0,
            _ => 1 + severity(wait, self.mode),
        };
        let wait = self.waits.iter().rev().filter(worth).max_by_key(weight);
        let (status, reason, message) = match (wait, old) {
            (None, None) => return before.clone(),
            (None, Some(_)) => (ConditionStatus::False, Reason::AsExpected, String::new()),
            (Some(wait), _) => (
                ConditionStatus::True,
                wait.reason,
                describe_wait(wait, self.world, old.map(|old| old.message.as_str())),
            ),
        };
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        let mut message = message;
        truncate(&mut message);
        let condition = Condition {
            condition_type: ConditionType::Waiting,
            status,
            reason,
            message,
            last_transition_time: since.or_else(|| Some(self.world.wall.clone())),
            observed_generation: None,
        };
        let others = before.iter().filter(|other| other.condition_type != ConditionType::Waiting);
        others.cloned().chain([condition]).collect()
    }
}

/// A wait in words. `before` is what was said of it last: its deadline is kept while it is about right.
#[must_use]
pub(super) fn describe_wait(wait: &Wait, world: &World, before: Option<&str>) -> String {
    let Wait { reason: _, slot: _, what, until, acts, ends_when, stalls: _ } = wait;
    let left = until.saturating_sub(world.now);
    let Some(deadline) = deadline(&world.wall, left).filter(|_| *acts) else {
        return format!("{what}: ends when {ends_when}");
    };
    let said = before.and_then(|before| said_deadline(before, what, ends_when));
    let deadline = said.filter(|said| near(*said, deadline, left)).unwrap_or(deadline);
    format!("{what}{BEFORE_TIME}{deadline}{AFTER_TIME}{ends_when}")
}

/// The time of day after `left`, in whole seconds.
fn deadline(wall: &str, left: Millis) -> Option<Timestamp> {
    let now: Timestamp = wall.parse().ok()?;
    let end = now.checked_add(SignedDuration::from_millis(i64::try_from(left).ok()?)).ok()?;
    Timestamp::from_second(end.as_second()).ok()
}

/// The deadline within a text that says the same. The text may stand within a longer one.
fn said_deadline(before: &str, what: &str, ends_when: &str) -> Option<Timestamp> {
    let (_, rest) = before.split_once(&format!("{what}{BEFORE_TIME}"))?;
    let (time, rest) = rest.split_once(AFTER_TIME)?;
    if rest.starts_with(ends_when) { time.parse().ok() } else { None }
}

/// Whether a deadline that was said is right to within a tenth of what is left, or 5 s.
fn near(said: Timestamp, deadline: Timestamp, left: Millis) -> bool {
    let off = said.as_millisecond().abs_diff(deadline.as_millisecond());
    off <= (left / 10).max(5_000)
}

/// Whether an owner waits for what another attempt would wait for too: a store that is away or refuses, or a full disk.
pub(super) fn is_outage(waiting: &ReportedWait) -> bool {
    matches!(waiting.reason, Reason::WaitingForStore | Reason::WaitingForSpace)
}

/// Waits that always need somebody's help.
const fn stalls(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::MostNodesLost
            | Reason::NoProgress
            | Reason::WaitingForVolume
            | Reason::ForeignObject
            | Reason::StageLost
    )
}

/// How much a wait needs somebody's attention: 0, none; 1, it is said; 2, stalled if nobody works; 3, stalled.
pub(super) const fn severity(wait: &Wait, mode: Mode) -> u8 {
    if wait.stalls {
        return 3;
    }
    match (wait.reason, mode) {
        (Reason::OwnerSilent, _) => 2,
        (
            Reason::BackingOff
            | Reason::Repairing
            | Reason::WaitingForPod
            | Reason::WaitingForEvidence
            | Reason::WaitingForSpace
            | Reason::WaitingForStore
            | Reason::InternalError
            | Reason::WaitingForBudget,
            _,
        )
        // While the build works, a volume that is held for a proof holds up nothing.
        | (Reason::VolumesStranded, Mode::Drain(_)) => 1,
        _ => 0,
    }
}

/// The longest message that a condition takes, in bytes.
const MAX_MESSAGE: usize = 4_096;

pub(super) fn truncate(message: &mut String) {
    *message = bounded(message, MAX_MESSAGE);
}

/// So many names are told.
pub(super) const SHOWN: usize = 5;

/// The first few names, and how many more there are.
pub(super) fn some_of(names: &[&str]) -> String {
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(until: Millis) -> Wait {
        Wait {
            reason: Reason::OwnerSilent,
            slot: Some(1),
            what: "pod p is silent".to_owned(),
            until,
            acts: true,
            ends_when: "it is heard from".to_owned(),
            stalls: false,
        }
    }

    fn said(wait: &Wait, now: Millis, wall: &str, before: Option<&str>) -> String {
        let deadline = deadline(wall, wait.until - now).unwrap();
        let left = wait.until - now;
        let kept = before.and_then(|before| said_deadline(before, &wait.what, &wait.ends_when));
        kept.filter(|kept| near(*kept, deadline, left)).unwrap_or(deadline).to_string()
    }

    #[test]
    fn a_deadline_stays_as_it_was_said_while_it_is_about_right() {
        let first = "pod p is silent, until 2026-01-01T00:10:00Z at the latest: ends when it is heard from";
        // Two clocks never tick together: the same deadline, computed later, is off by some milliseconds.
        assert_eq!(said(&wait(600_990), 1_500, "2026-01-01T00:00:01.9Z", Some(first)), "2026-01-01T00:10:00Z");
        // Another operator began to count anew.
        assert_eq!(said(&wait(600_000), 0, "2026-01-01T00:05:00Z", Some(first)), "2026-01-01T00:15:00Z");
        // Another owner.
        let other = first.replace("pod p", "pod q");
        assert_eq!(said(&wait(600_000), 0, "2026-01-01T00:00:30Z", Some(&other)), "2026-01-01T00:10:30Z");
        // Within a longer text.
        let longer = format!("something hinders it; {first}; and more");
        assert_eq!(said(&wait(600_000), 0, "2026-01-01T00:00:30Z", Some(&longer)), "2026-01-01T00:10:00Z");
    }
}
