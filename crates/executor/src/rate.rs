//! `spec.rowsPerSecond`: how fast the source is read.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The longest that a reader sleeps before it asks again: the limit may have changed meanwhile.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A limit on rows per second, shared by the threads of a process. It may change while they read. What was not used
/// is kept for at most a second, so that a pause does not become a burst.
#[derive(Debug)]
pub(crate) struct RateLimit(Mutex<Flow>);

/// Rows that were taken have their turn when as many have passed as were taken before them.
#[derive(Debug, Default)]
struct Flow {
    per_second: Option<f64>,
    taken: f64,
    passed: f64,
    at: Option<Instant>,
}

/// The turn of rows that were taken.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Turn(f64);

impl RateLimit {
    /// The process's share of the build's limit. `None`: unlimited. It begins with the first rows.
    #[must_use]
    pub(crate) fn share(rows_per_second: Option<u64>, parallelism: u64) -> Self {
        let per_second = share_of(rows_per_second, parallelism);
        Self(Mutex::new(Flow { per_second, ..Flow::default() }))
    }

    /// Another limit from `now` on, for those who wait already too.
    pub(crate) fn change(&self, rows_per_second: Option<u64>, parallelism: u64, now: Instant) {
        let mut flow = self.flow();
        flow.pass(now);
        flow.per_second = share_of(rows_per_second, parallelism);
    }

    /// Rows to read at once, at most `wanted`: a limited reader reads in steps of a tenth of a second. The
    /// first step is free, so a step as large as a work would let the whole of it pass without a limit.
    pub(crate) fn batch_rows(&self, wanted: usize) -> usize {
        let Some(per_second) = self.flow().per_second else {
            return wanted;
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is not below 1
        let step = (per_second / 10.0) as usize;
        step.clamp(1, wanted.max(1))
    }

    /// Takes `rows` more rows, and gives their turn.
    pub(crate) fn take(&self, rows: u64, now: Instant) -> Turn {
        let mut flow = self.flow();
        flow.pass(now);
        let turn = Turn(flow.taken);
        #[allow(clippy::cast_precision_loss)] // exact up to 9 * 10^15 rows
        let rows = rows as f64;
        flow.taken += rows;
        turn
    }

    /// How long it is until the turn of rows that were taken comes, as long as the limit stays what it is.
    pub(crate) fn wait(&self, turn: Turn, now: Instant) -> Duration {
        let mut flow = self.flow();
        flow.pass(now);
        match flow.per_second {
            Some(per_second) => {
                let seconds = ((turn.0 - flow.passed) / per_second).max(0.0);
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
            None => Duration::ZERO,
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[allow(clippy::cast_precision_loss)] // a rate, not a count
fn share_of(rows_per_second: Option<u64>, parallelism: u64) -> Option<f64> {
    rows_per_second.map(|rows| (rows / parallelism.max(1)).max(1) as f64)
}

impl Flow {
    /// Lets pass what may have passed by `now`.
    fn pass(&mut self, now: Instant) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        self.passed = match self.per_second {
            Some(per_second) => (self.passed + per_second * since.as_secs_f64()).min(self.taken + per_second),
            None => self.taken,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes rows, and says how long their reader waits.
    fn pause(limit: &RateLimit, rows: u64, now: Instant) -> Duration {
        let turn = limit.take(rows, now);
        limit.wait(turn, now)
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let limit = RateLimit::share(None, 4);
        let now = Instant::now();
        assert_eq!(pause(&limit, u64::MAX, now), Duration::ZERO);
        assert_eq!(pause(&limit, 1, now), Duration::ZERO);
    }

    #[test]
    fn a_limited_reader_reads_in_small_steps() {
        assert_eq!(RateLimit::share(None, 1).batch_rows(20_000), 20_000);
        assert_eq!(RateLimit::share(Some(4_000), 4).batch_rows(20_000), 100);
        assert_eq!(RateLimit::share(Some(1), 4).batch_rows(20_000), 1);
        assert_eq!(RateLimit::share(Some(1 << 40), 1).batch_rows(20_000), 20_000);
    }

    #[test]
    fn rows_are_spread_over_time_and_the_limit_is_divided_among_the_slots() {
        let limit = RateLimit::share(Some(4_000), 4);
        let now = Instant::now();
        assert_eq!(pause(&limit, 1_000, now), Duration::ZERO);
        assert_eq!(pause(&limit, 1_000, now), Duration::from_secs(1));
        assert_eq!(pause(&limit, 1, now), Duration::from_secs(2));
        let later = now + Duration::from_secs(100);
        assert_eq!(pause(&limit, 1_000, later), Duration::ZERO);
        assert_eq!(pause(&limit, 1_000, later), Duration::ZERO, "at most a second's rows are made up for");
        assert_eq!(pause(&limit, 500, later), Duration::from_secs(1));
        assert_eq!(pause(&limit, 1, later), Duration::from_millis(1_500));
        assert_eq!(pause(&limit, 1, later + Duration::from_secs(1)), Duration::from_millis(501));
    }

    #[test]
    fn a_changed_limit_holds_for_those_who_wait() {
        let now = Instant::now();
        let limit = RateLimit::share(Some(10), 1);
        let _ = limit.take(1_000, now);
        let turn = limit.take(1_000, now);
        let waits = |now, seconds: u64| {
            let wait = limit.wait(turn, now);
            assert!(
                wait.abs_diff(Duration::from_secs(seconds)) < Duration::from_millis(500),
                "{wait:?}, not {seconds} s"
            );
        };
        waits(now, 100);
        let now = now + Duration::from_secs(50);
        waits(now, 50);
        limit.change(Some(100), 1, now);
        waits(now, 5);
        limit.change(Some(100), 10, now);
        waits(now, 50);
        limit.change(None, 1, now);
        waits(now, 0);
        limit.change(Some(10), 1, now);
        waits(now, 0);
        assert_eq!(pause(&limit, 20, now), Duration::ZERO);
        assert_eq!(pause(&limit, 1, now), Duration::from_secs(2));
    }
}
