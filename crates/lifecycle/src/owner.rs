//! The executor's side of the protocol: what a process may do, given what it last saw of its slot's record.

use indexbuild_api::{Epoch, Work};

use crate::world::{Millis, Record};

/// The exit code of an owner that ended for want of contact (`orphanAfter`): a partition's doing, never counted.
pub const ORPHANED_EXIT_CODE: u8 = 11;

/// What a process knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerState {
    pub pod_uid: String,
    /// The nonce that it drew at its start.
    pub boot_nonce: String,
    /// After so long without contact it ends by itself.
    pub orphan_after: Millis,
    /// When it last read the record, on its own clock; at first, when it started.
    pub last_contact: Millis,
    /// Whether its claim was taken.
    pub claimed: bool,
    /// The attempt in hand, or the last one that it ended well and reported.
    pub current: Option<Current>,
    /// Whether it was told to stop (SIGTERM).
    pub stop_requested: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    pub epoch: Epoch,
    pub work_id: String,
}

/// What a process saw of its record.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    Record(&'a Record),
    /// 404. It may have been deleted by hand: no word about who owns the slot.
    Absent,
    /// 401 or 403. A deleted pod's token is refused within seconds, while its process still owns the epoch.
    Refused,
    Unreachable,
}

/// What a process may do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is granted to it yet: look again.
    Wait,
    /// Write `status.claim`.
    Claim,
    /// Begin this work in a new directory `<epoch>-<nonce>` (G9). What is still in hand is ended and closed first.
    Start { epoch: Epoch, work: Work },
    /// Cut off: go on with the work in hand. Its directory and its prefix are its own, so nobody is harmed.
    GoOn,
    /// It is the owner and was heard: go on, and renew the report when it is due.
    Report,
    /// End the work in hand, close everything, then exit, all in bounded time (G11).
    GiveWay(GiveWayReason),
    /// Exit; nothing is in hand.
    Exit(ExitReason),
}

/// Why a process gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveWayReason {
    /// Somebody else has a higher epoch.
    HigherEpoch,
    /// Its work was taken from it.
    Revoked,
    /// Another process is bound under its pod's UID.
    SecondNonce,
    /// Within its epoch the work is another one: against the rules (G3), so that it cannot know what counts.
    WorkChanged,
    StopRequested,
    /// No contact for `orphanAfter`.
    Orphaned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitReason {
    StopRequested,
    /// No contact for `orphanAfter`.
    Orphaned,
    /// It was the owner and is not any more.
    Superseded,
    /// Another process claimed, or is bound, under its pod's UID.
    SecondNonce,
}

/// What a process may do next, given what it saw. Call it after every read or attempted read of the record;
/// `last_contact` is set to `now` by the caller after a [`Seen::Record`].
#[must_use]
pub fn next(state: &OwnerState, seen: Seen<'_>, now: Millis) -> Step {
    if state.stop_requested {
        return end(state, GiveWayReason::StopRequested, ExitReason::StopRequested);
    }
    match seen {
        Seen::Record(record) => judge(state, record),
        // "Unknown" as much as a timeout: none of them says who owns the slot.
        Seen::Absent | Seen::Refused | Seen::Unreachable => alone(state, now),
    }
}

fn alone(state: &OwnerState, now: Millis) -> Step {
    if now.saturating_sub(state.last_contact) >= state.orphan_after {
        // G11: a process that nobody can reach ends all the same, in bounded time.
        return end(state, GiveWayReason::Orphaned, ExitReason::Orphaned);
    }
    if state.current.is_some() { Step::GoOn } else { Step::Wait }
}

fn judge(state: &OwnerState, record: &Record) -> Step {
    let Some(grant) = record.spec.grant.as_ref() else {
        return if state.claimed || state.current.is_some() {
            end(state, GiveWayReason::Revoked, ExitReason::Superseded)
        } else {
            Step::Wait
        };
    };
    if let Some(current) = &state.current
        && grant.epoch < current.epoch
    {
        // A read from before the grant that it works under. Old news is no news.
        return Step::GoOn;
    }
    if grant.pod_uid != state.pod_uid {
        // G11: a stale owner gives way as soon as it sees that it is one.
        return if state.current.is_some() {
            end(state, GiveWayReason::HigherEpoch, ExitReason::Superseded)
        } else if state.claimed {
            Step::Exit(ExitReason::Superseded)
        } else {
            Step::Wait
        };
    }
    if grant.boot_nonce.is_empty() {
        return unbound(state, record);
    }
    if grant.boot_nonce != state.boot_nonce {
        return end(state, GiveWayReason::SecondNonce, ExitReason::SecondNonce);
    }
    match (&state.current, &record.spec.work) {
        (None, None) => Step::Wait,
        (None, Some(work)) => Step::Start { epoch: grant.epoch, work: work.clone() },
        (Some(_), None) => end(state, GiveWayReason::Revoked, ExitReason::Superseded),
        (Some(current), Some(work)) if current.epoch < grant.epoch => {
            // G3, G9: another work, or another try at this one, is another epoch and another directory.
            Step::Start { epoch: grant.epoch, work: work.clone() }
        }
        (Some(current), Some(work)) if current.work_id != work.id => {
            end(state, GiveWayReason::WorkChanged, ExitReason::Superseded)
        }
        (Some(_), Some(_)) => Step::Report,
    }
}

/// The pod is granted, and no process of it is bound yet.
fn unbound(state: &OwnerState, record: &Record) -> Step {
    if state.current.is_some() {
        return end(state, GiveWayReason::HigherEpoch, ExitReason::Superseded);
    }
    match record.status.claim.as_ref().filter(|claim| claim.pod_uid == state.pod_uid) {
        // A second nonce under one pod UID: the first one may hold a directory (failure-modes.md #11).
        Some(claim) if claim.boot_nonce != state.boot_nonce => Step::Exit(ExitReason::SecondNonce),
        Some(_) => Step::Wait,
        None => Step::Claim,
    }
}

fn end(state: &OwnerState, give_way: GiveWayReason, exit: ExitReason) -> Step {
    if state.current.is_some() { Step::GiveWay(give_way) } else { Step::Exit(exit) }
}
