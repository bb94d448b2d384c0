//! What of a slot's past decides: counted in the write that changes its owner or work, in its spec.
//!
//! The history in the status tells the same to people. It is written after the spec, and so may be lost, or be written
//! once more by a former leader: nothing is decided by it.

use indexbuild_api::{Epoch, OwnerChangeReason, Past};

/// What of the slot's past decides, after one more change of its owner or work.
pub(super) const fn past_after(past: &Past, epoch: Epoch, reason: OwnerChangeReason, same_volume: bool) -> Past {
    let Past {
        first_epoch,
        next_work_epoch,
        tries,
        failed_tries,
        failures_in_a_row,
        ends_in_a_row,
        replacements_in_a_row,
    } = *past;
    let again = Past {
        first_epoch,
        next_work_epoch,
        tries: tries.saturating_add(1),
        failed_tries,
        failures_in_a_row: 0,
        ends_in_a_row: 0,
        replacements_in_a_row: 0,
    };
    match reason {
        OwnerChangeReason::AttemptFailed | OwnerChangeReason::NoProgress => Past {
            failed_tries: failed_tries.saturating_add(1),
            failures_in_a_row: failures_in_a_row.saturating_add(1),
            ..again
        },
        OwnerChangeReason::Rebound | OwnerChangeReason::OwnerEnded => {
            Past { ends_in_a_row: ends_in_a_row.saturating_add(1), ..again }
        }
        // That pod had not begun, and the build asks for another one by now: nothing happened that could happen again.
        OwnerChangeReason::Replaced if same_volume => again,
        OwnerChangeReason::Replaced => Past { replacements_in_a_row: replacements_in_a_row.saturating_add(1), ..again },
        OwnerChangeReason::Returned | OwnerChangeReason::Other(_) => again,
        OwnerChangeReason::NextWork => Past { next_work_epoch: epoch, tries: 0, failed_tries: 0, ..again },
        OwnerChangeReason::FirstOwner
        | OwnerChangeReason::Suspended
        | OwnerChangeReason::Resumed
        | OwnerChangeReason::ScaledDown
        | OwnerChangeReason::Revoked
        | OwnerChangeReason::Aborted => Past { tries: 0, failed_tries: 0, ..again },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(changes: &[OwnerChangeReason]) -> Past {
        let first = Past { first_epoch: Epoch::new(1), ..Past::default() };
        (2..).zip(changes).fold(first, |past, (epoch, reason)| past_after(&past, Epoch::new(epoch), *reason, false))
    }

    #[test]
    fn what_happened_in_a_row_ends_with_another_kind_and_all_of_it_when_the_work_advances() {
        use OwnerChangeReason::{AttemptFailed, NextWork, NoProgress, OwnerEnded, Rebound, Replaced, Returned};
        let seen = past(&[AttemptFailed, NoProgress, Rebound, OwnerEnded]);
        assert_eq!((seen.first_epoch, seen.tries, seen.failed_tries), (Epoch::FIRST, 4, 2));
        assert_eq!((seen.failures_in_a_row, seen.ends_in_a_row, seen.replacements_in_a_row), (0, 2, 0));
        let seen = past(&[Rebound, Replaced, Replaced]);
        assert_eq!((seen.ends_in_a_row, seen.replacements_in_a_row, seen.tries), (0, 2, 3));
        assert_eq!(
            past_after(&seen, Epoch::new(9), Replaced, true).replacements_in_a_row,
            0,
            "another pod was asked for"
        );
        let seen = past(&[Replaced, Returned]);
        assert_eq!((seen.tries, seen.replacements_in_a_row), (2, 0));
        let seen = past(&[AttemptFailed, NextWork]);
        assert_eq!(seen, Past { first_epoch: Epoch::new(1), next_work_epoch: Epoch::new(3), ..Past::default() });
        assert_eq!(past(&[NextWork, AttemptFailed]).next_work_epoch, 2, "it is remembered");
    }
}
