use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

/// When a process's own loop turned last. The loop itself beats: a task of its own would tell that tasks run, and not
/// that the loop does.
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    /// Milliseconds since `start`.
    last: AtomicU64,
    limit: Duration,
}

impl Heartbeat {
    /// A heartbeat that is missed after `limit`.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), limit }
    }

    pub fn beat(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(since, Ordering::Relaxed);
    }

    /// Whether the loop turned within the limit.
    ///
    /// # Errors
    /// Since when it has not, for people.
    pub fn check(&self) -> Result<(), String> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        turned(self.start.elapsed().saturating_sub(last), self.limit)
    }
}

fn turned(silent: Duration, limit: Duration) -> Result<(), String> {
    if silent <= limit {
        return Ok(());
    }
    Err(format!("the process's loop last turned {} s ago; the limit is {} s", silent.as_secs(), limit.as_secs()))
}

/// What a probe is answered.
#[must_use]
pub fn probe(check: Result<(), String>) -> (StatusCode, String) {
    match check {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_is_a_loop_that_turned_within_the_limit() {
        let limit = Duration::from_secs(60);
        assert!(turned(limit, limit).is_ok());
        assert!(turned(limit + Duration::from_secs(1), limit).unwrap_err().contains("61 s ago"));
    }
}
