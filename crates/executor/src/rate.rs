//! `spec.rowsPerSecond`: how fast the source is read.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A limit on rows per second, shared by the threads of a process. What was not used is kept for
/// at most a second, so that a pause does not become a burst.
#[derive(Debug)]
pub struct RateLimit {
    per_second: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// The process's share of the build's limit. `None`: unlimited.
    #[must_use]
    pub fn share(rows_per_second: Option<u64>, parallelism: u64) -> Self {
        let per_second = rows_per_second.map(|rows| (rows / parallelism.max(1)).max(1));
        Self { per_second, free_at: Mutex::new(None) }
    }

    /// Rows to read at once, at most `wanted`: a limited reader reads in steps of a tenth of a second. The
    /// first step is free, so a step as large as a work would let the whole of it pass without a limit.
    #[must_use]
    pub fn batch_rows(&self, wanted: usize) -> usize {
        let Some(per_second) = self.per_second else {
            return wanted;
        };
        usize::try_from(per_second / 10).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }

    /// How long to wait before `rows` more rows may be read, at `now`. The rows count as taken.
    pub fn take(&self, rows: u64, now: Instant) -> Duration {
        let Some(per_second) = self.per_second else {
            return Duration::ZERO;
        };
        let mut free_at = self.free_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let oldest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let start = free_at.map_or(now, |at| at.max(oldest));
        #[allow(clippy::cast_precision_loss)] // a rate, not a count
        let cost = Duration::from_secs_f64(rows as f64 / per_second as f64);
        *free_at = Some(start + cost);
        start.saturating_duration_since(now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nobody_waits() {
        let limit = RateLimit::share(None, 4);
        assert_eq!(limit.take(u64::MAX, Instant::now()), Duration::ZERO);
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
        assert_eq!(limit.take(1_000, now), Duration::ZERO);
        assert_eq!(limit.take(1_000, now), Duration::from_secs(1));
        assert_eq!(limit.take(1, now), Duration::from_secs(2));
        let later = now + Duration::from_secs(100);
        assert_eq!(limit.take(1_000, later), Duration::ZERO);
        assert_eq!(limit.take(1_000, later), Duration::ZERO, "at most a second's rows are made up for");
        assert!(limit.take(1_000, later) > Duration::ZERO);
    }
}
