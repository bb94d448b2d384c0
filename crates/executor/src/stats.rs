//! What a work cost: the figures that a user sees, kept with each result.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indexbuild_engine::StepTimes;
use indexbuild_process::{cpu_time, peak_rss};
use serde::{Deserialize, Serialize};

/// What one attempt cost. Part of its `result.json`; a build's summary is the sum over its chosen
/// results, but for the maxima.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Statistics {
    /// Milliseconds from the attempt's begin to its result.
    pub wall_ms: u64,
    /// Milliseconds of processor time in between, all threads together.
    pub cpu_ms: u64,
    /// The process's peak resident set since its start, in bytes (`VmHWM`).
    pub peak_rss_bytes: u64,
    pub threads: u64,
    /// Rows read from the source, or entries sorted.
    pub rows: u64,
    /// Rows (entries) that were taken over, sealed, from older attempts.
    pub rows_adopted: u64,
    /// Rows (entries) that an older attempt had sealed and that were worked on again all the same.
    pub rows_redone: u64,
    /// Nanoseconds per step (read, encode, scatter, spill, fetch, sort, write, fsync, ...), summed
    /// over threads.
    pub step_ns: BTreeMap<String, u64>,
    /// Bytes read: of the source, or of runs.
    pub bytes_in: u64,
    /// Bytes written to the volume.
    pub bytes_out: u64,
    /// Bytes fetched from the output store.
    pub bytes_fetched: u64,
    /// Bytes uploaded.
    pub bytes_uploaded: u64,
    /// Requests that read from the output store.
    pub gets: u64,
    /// Requests that wrote to the output store.
    pub puts: u64,
    /// Flushes of files and folders.
    pub fsyncs: u64,
    /// Entries of the largest range, per mille of the mean range; 0 without ranges.
    pub largest_range_per_mille: u64,
}

impl Statistics {
    /// Adds another attempt's figures: sums, and for memory, threads and skew the larger one.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            wall_ms,
            cpu_ms,
            peak_rss_bytes,
            threads,
            rows,
            rows_adopted,
            rows_redone,
            step_ns,
            bytes_in,
            bytes_out,
            bytes_fetched,
            bytes_uploaded,
            gets,
            puts,
            fsyncs,
            largest_range_per_mille,
        } = other;
        self.wall_ms += wall_ms;
        self.cpu_ms += cpu_ms;
        self.peak_rss_bytes = self.peak_rss_bytes.max(*peak_rss_bytes);
        self.threads = self.threads.max(*threads);
        self.rows += rows;
        self.rows_adopted += rows_adopted;
        self.rows_redone += rows_redone;
        for (step, ns) in step_ns {
            *self.step_ns.entry(step.clone()).or_default() += ns;
        }
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.bytes_fetched += bytes_fetched;
        self.bytes_uploaded += bytes_uploaded;
        self.gets += gets;
        self.puts += puts;
        self.fsyncs += fsyncs;
        self.largest_range_per_mille = self.largest_range_per_mille.max(*largest_range_per_mille);
    }
}

/// Counters that the attempt's parts add to while they work.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that read from the output store.
    pub gets: AtomicU64,
    /// Requests that wrote to the output store.
    pub puts: AtomicU64,
    /// Bytes uploaded.
    pub bytes_uploaded: AtomicU64,
    /// Bytes fetched from the output store.
    pub bytes_fetched: AtomicU64,
    pub rows_read: AtomicU64,
    /// Nanoseconds spent waiting for `rowsPerSecond`.
    pub throttle_ns: AtomicU64,
    pub upload_ns: AtomicU64,
}

/// Adds the time since `start`, in nanoseconds.
pub fn add_since(counter: &AtomicU64, start: Instant) {
    counter.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// A stopwatch for one attempt: wall, processor and flushes.
#[derive(Debug)]
pub struct Meter {
    started: Instant,
    cpu: Duration,
    fsyncs: u64,
    /// Counters of the attempt's parts.
    pub counters: Counters,
}

impl Meter {
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu_time(),
            fsyncs: indexbuild_durable::fsyncs(),
            counters: Counters::default(),
        }
    }

    /// What was measured so far; the caller adds what only it knows.
    pub fn statistics(&self) -> Statistics {
        let Counters { gets, puts, bytes_uploaded, bytes_fetched, rows_read, throttle_ns, upload_ns } = &self.counters;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let step_ns = [("throttle", value(throttle_ns)), ("upload", value(upload_ns))];
        Statistics {
            wall_ms: millis(self.started.elapsed()),
            cpu_ms: millis(cpu_time().saturating_sub(self.cpu)),
            peak_rss_bytes: peak_rss(),
            rows: value(rows_read),
            step_ns: step_ns.into_iter().filter(|(_, ns)| *ns > 0).map(|(name, ns)| (name.to_owned(), ns)).collect(),
            bytes_fetched: value(bytes_fetched),
            bytes_uploaded: value(bytes_uploaded),
            gets: value(gets),
            puts: value(puts),
            fsyncs: indexbuild_durable::fsyncs().saturating_sub(self.fsyncs),
            ..Statistics::default()
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Statistics {
    /// Adds an engine job's account.
    pub fn add_steps(&mut self, times: &StepTimes) {
        for (step, ns) in times.steps() {
            if ns > 0 {
                *self.step_ns.entry(step.to_owned()).or_default() += ns;
            }
        }
        self.bytes_in += times.bytes_read;
        self.bytes_out += times.bytes_written + times.bytes_spilled;
        let skew = times.largest_range.saturating_mul(1_000) / times.mean_range.max(1);
        self.largest_range_per_mille = self.largest_range_per_mille.max(skew);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_and_maxima_stay() {
        let one = Statistics {
            wall_ms: 3,
            peak_rss_bytes: 10,
            step_ns: [("sort".to_owned(), 5)].into(),
            ..Default::default()
        };
        let mut sum = Statistics {
            wall_ms: 4,
            peak_rss_bytes: 7,
            step_ns: [("sort".to_owned(), 2)].into(),
            ..Default::default()
        };
        sum.merge(&one);
        assert_eq!((sum.wall_ms, sum.peak_rss_bytes, sum.step_ns["sort"]), (7, 10, 7));
    }
}
