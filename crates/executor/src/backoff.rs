//! How long to pause before a control plane that failed is asked again: the one place that says so.
//!
//! Pauses are counted from when the call that failed was begun. So one that hangs until its time limit is not paused
//! for on top of that, and contact is back within [`LONGEST_PAUSE`] of the last refusal, whatever kind it was.

use std::time::{Duration, Instant};

pub use indexbuild_process::Pauses;
use indexbuild_process::{between, chance};

/// The longest pause there is, whoever asks for it: after it the control plane is asked again. An owner that is heard
/// from later than that may be taken for lost (`replaceAfter` may be as short as 15 s).
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest time without a look at the record, however seldom reports are asked for: a watch that went silent hides a higher
/// epoch no longer than that (G11).
const LONGEST_LOOK: Duration = Duration::from_secs(50);

/// For how long the record is watched, where `within` is when something is due. Owners that were told to report seldom look more
/// often than that: at least three times in the time after which they end for want of contact.
pub fn look_within(within: Duration, interval: Duration, orphan_after: Duration) -> Duration {
    if interval > LONGEST_LOOK { within.min(LONGEST_LOOK).min(orphan_after / 3) } else { within }
}

/// Up to a quarter longer, as far as [`LONGEST_PAUSE`] leaves room for that: so that the executors of a build, who lose
/// contact in one moment, do not come back in one. Chance is spread over what room there is, and does not gather at its end.
pub fn later(pause: Duration) -> Duration {
    longer(pause, chance())
}

fn longer(pause: Duration, chance: u8) -> Duration {
    let pause = pause.min(LONGEST_PAUSE);
    between(pause, pause.saturating_add(pause / 4).min(LONGEST_PAUSE), chance)
}

/// How those who ask a control plane pause when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub reads: Pauses,
    /// After a watch that was refused, or that told nothing. The record is read meanwhile.
    pub watches: Pauses,
    /// After a write. The record is read before each, and watched after it.
    pub writes: Pauses,
}

impl Pace {
    /// Of a Kubernetes API server: thousands of executors share it, and none of them is a burden to it when it is least
    /// able to bear one. Within a minute at most 14 reads fail, or 9 writes with a read before
    /// and a watch after each.
    pub const API_SERVER: Self = {
        let first = Duration::from_secs(1);
        let others = Pauses { first, longest: Duration::from_secs(9) };
        Self { reads: Pauses { first, longest: Duration::from_secs(5) }, watches: others, writes: others }
    };

    /// Of a process on the same machine: asking it costs nothing but waking up.
    pub const LOCAL: Self = {
        let all = Pauses { first: Duration::from_millis(50), longest: Duration::from_millis(500) };
        Self { reads: all, watches: all, writes: all }
    };
}

/// What one kind of call has come to of late, and when it may be made again.
#[derive(Debug)]
pub struct Backoff {
    pauses: Pauses,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    #[must_use]
    pub const fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0, until: None }
    }

    /// A call that was begun then has failed.
    pub fn failed(&mut self, begun: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.until = begun.checked_add(later(self.pauses.after(self.failures)));
    }

    pub fn succeeded(&mut self) {
        *self = Self::new(self.pauses);
    }

    /// How long until the next call; zero when it may be made now.
    pub fn left(&self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many calls are made in a minute that all fail at once.
    fn calls_in_a_minute(pauses: Pauses, chance: impl Fn(u32) -> u8) -> u32 {
        let mut at = Duration::ZERO;
        let mut calls = 0;
        while at < Duration::from_secs(60) {
            calls += 1;
            at += longer(pauses.after(calls), chance(calls));
        }
        calls
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_first_call_waits_for_nothing() {
        let seconds = |failures| longer(Pace::API_SERVER.writes.after(failures), 0).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 33, u32::MAX].map(seconds), [0, 1, 2, 4, 8, 9, 9, 9, 9]);
    }

    /// A turn of the loop is at most a read, a write and a watch; one that a watch sent is a read more.
    #[test]
    fn whatever_an_api_server_refuses_it_is_asked_at_most_thirty_times_a_minute() {
        let Pace { reads, watches, writes } = Pace::API_SERVER;
        assert_eq!(calls_in_a_minute(reads, |_| 0), 14);
        assert_eq!(calls_in_a_minute(watches, |_| 0) * 3, 27);
        assert_eq!(calls_in_a_minute(writes, |_| 0) * 3, 27);
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_the_longest_and_chance_never_shortens_one(
            first in 1_u64..20_000, longest in 1_u64..100_000, failures: u32, chance: u8,
        ) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
            let pauses = Pauses { first, longest };
            let (least, pause) = (longer(pauses.after(failures), 0), longer(pauses.after(failures), chance));
            prop_assert!(pause <= LONGEST_PAUSE && pause >= least && pause <= least * 5 / 4);
        }
    }

    #[test]
    fn an_owner_that_reports_seldom_looks_at_its_record_more_often_and_others_as_before() {
        let of = |within: u64, interval: u64, orphan_after: u64| {
            let [within, interval, orphan_after] = [within, interval, orphan_after].map(Duration::from_secs);
            look_within(within, interval, orphan_after).as_secs()
        };
        assert_eq!([of(160, 160, 1_800), of(30, 160, 1_800), of(160, 160, 90)], [50, 30, 30]);
        assert_eq!([of(5, 5, 6), of(50, 50, 60), of(70, 50, 60)], [5, 50, 70], "as it was");
    }

    /// Executors that lost contact in one moment are spread over a second at least, however long they have paused.
    #[test]
    fn the_longest_pauses_are_not_all_the_same() {
        let Pace { reads, watches, writes } = Pace::API_SERVER;
        for pauses in [reads, watches, writes] {
            let spread = longer(pauses.after(99), u8::MAX) - longer(pauses.after(99), 0);
            assert!(spread > Duration::from_millis(950), "{pauses:?}: {spread:?}");
        }
    }

    #[test]
    fn a_call_that_hung_is_not_paused_for_once_more_and_a_success_forgets_it() {
        let mut backoff = Backoff::new(Pace::API_SERVER.reads);
        assert_eq!(backoff.left(), Duration::ZERO);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(7)).unwrap();
        for _ in 0..10 {
            backoff.failed(long_ago);
        }
        assert_eq!(backoff.left(), Duration::ZERO);
        backoff.failed(Instant::now());
        assert!(backoff.left() > Duration::from_secs(4), "{backoff:?}");
        backoff.succeeded();
        assert_eq!(backoff.left(), Duration::ZERO);
        backoff.failed(Instant::now());
        assert!(backoff.left() < Duration::from_secs(2), "{backoff:?}");
    }
}
