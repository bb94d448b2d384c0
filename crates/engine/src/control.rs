//! The control of a running job (progress, and requests to end), and the statistics of its time.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    #[default]
    Idle,
    /// Rows are read, encoded and scattered into runs.
    Encode,
    /// Pieces of runs are fetched and scattered into ranges.
    Fetch,
    /// Ranges are sorted and written.
    Sort,
    /// The finished files are ingested and checked.
    Check,
}

impl Step {
    const ALL: [Self; 5] = [Self::Idle, Self::Encode, Self::Fetch, Self::Sort, Self::Check];
}

/// Shared between a running job and its owner: the owner reads progress and asks for an end. A
/// job checks it once per batch, piece or few thousand entries, and so obeys within a fraction of a second.
#[derive(Debug, Default)]
pub struct JobControl {
    cancel: AtomicBool,
    stop_after_seal: AtomicBool,
    rows: AtomicU64,
    bytes: AtomicU64,
    step: AtomicU8,
}

impl JobControl {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the job to end at once, with `EngineError::Cancelled`.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
    }

    /// Asks the job to seal what is complete, and then to return (SIGTERM).
    pub fn stop_after_seal(&self) {
        self.stop_after_seal.store(true, Ordering::SeqCst);
    }

    /// Whether the job was asked to end at once.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Whether the job was asked to seal and return.
    pub fn is_stopping(&self) -> bool {
        self.stop_after_seal.load(Ordering::Relaxed)
    }

    /// Rows encoded, or entries fetched plus entries written, so far (adopted ones included).
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes written into runs, or fetched plus written into files, so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn step(&self) -> Step {
        Step::ALL.get(usize::from(self.step.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A job begins. One that is tried again in the same attempt counts anew: what it counts before it fails is no
    /// progress, but for what it sealed, which it counts again as adopted.
    pub(crate) fn begin(&self, step: Step) {
        self.rows.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.set_step(step);
    }

    pub(crate) fn set_step(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }
}

/// Where a job's time went, in nanoseconds summed over its threads, and what it moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// Waiting for the reader's batches.
    pub read: u64,
    /// Columns to entries, and their hashes.
    pub encode: u64,
    /// Entries to lanes or ranges.
    pub scatter: u64,
    /// Writing sections of runs and spill files.
    pub spill: u64,
    /// Reading pieces of runs and spill files, with the check of their digests.
    pub fetch: u64,
    pub sort: u64,
    /// Entries into SST files, with their digests.
    pub write: u64,
    /// Flushing to the disk and sealing.
    pub fsync: u64,
    pub hand_on: u64,
    /// Ingesting and checking the finished files.
    pub check: u64,
    /// From the job's begin to its end.
    pub wall: u64,
    /// Processor time of the job's threads, RocksDB's and the system's work for them included.
    pub cpu: u64,
    /// Rows read, or entries sorted.
    pub rows: u64,
    /// Bytes of runs read.
    pub bytes_read: u64,
    /// Bytes of sealed files written.
    pub bytes_written: u64,
    /// Bytes written into spill files.
    pub bytes_spilled: u64,
    pub largest_range: u64,
    /// Entries of the mean range that holds any.
    pub mean_range: u64,
    /// Ranges, or parts of ranges, that were over budget and cut again.
    pub cut_again: u64,
}

impl StepTimes {
    /// The nanoseconds of each step, by its name in results and summaries.
    pub fn steps(&self) -> [(&'static str, u64); 10] {
        [
            ("read", self.read),
            ("encode", self.encode),
            ("scatter", self.scatter),
            ("spill", self.spill),
            ("fetch", self.fetch),
            ("sort", self.sort),
            ("write", self.write),
            ("fsync", self.fsync),
            ("handOn", self.hand_on),
            ("check", self.check),
        ]
    }

    /// Adds another thread's or job's account. Ranges: the larger; wall: the longer.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            read,
            encode,
            scatter,
            spill,
            fetch,
            sort,
            write,
            fsync,
            hand_on,
            check,
            wall,
            cpu,
            rows,
            bytes_read,
            bytes_written,
            bytes_spilled,
            largest_range,
            mean_range,
            cut_again,
        } = other;
        self.read += read;
        self.encode += encode;
        self.scatter += scatter;
        self.spill += spill;
        self.fetch += fetch;
        self.sort += sort;
        self.write += write;
        self.fsync += fsync;
        self.hand_on += hand_on;
        self.check += check;
        self.wall = self.wall.max(*wall);
        self.cpu += cpu;
        self.rows += rows;
        self.bytes_read += bytes_read;
        self.bytes_written += bytes_written;
        self.bytes_spilled += bytes_spilled;
        self.largest_range = self.largest_range.max(*largest_range);
        self.mean_range = self.mean_range.max(*mean_range);
        self.cut_again += cut_again;
    }
}

/// Nanoseconds of a duration, as the accounts count them.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs `act` and adds its time to `account`.
pub(crate) fn timed<T>(account: &mut u64, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    *account += nanos(begun.elapsed());
    done
}

/// Processor time of the calling thread so far, in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    let rustix::time::Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(tv_nsec).unwrap_or(0)
}
