//! Splits of the table as the engine reads them, no faster than `rowsPerSecond` allows.

use std::sync::atomic::Ordering;
use std::time::Instant;

use indexbuild_engine::{Batches, BoxError, InputBatch, InputRows, SplitReader};
use indexbuild_source::{BatchReader, BatchRows, ReadColumns, ReadOptions, SourceBatch, Table};

use super::Job;
use crate::attempt_state::Ended;
use crate::plan_file::PlanFile;
use crate::rate::LONGEST_SLEEP;

/// The table, projected to what the plan's indexes need.
pub(super) struct TableReader<'a> {
    pub job: &'a Job,
    pub plan: &'a PlanFile,
    /// The table, of the plan's snapshot.
    pub table: Table,
    /// What the plan's indexes need, in the types that the plan gives it.
    pub columns: ReadColumns,
    /// How much to read at once.
    pub options: ReadOptions,
}

impl SplitReader for TableReader<'_> {
    fn read(&self, split: u32) -> Result<Batches<'_>, BoxError> {
        self.job.shared.go_on()?;
        let split = usize::try_from(split)
            .ok()
            .and_then(|place| self.plan.splits.get(place))
            .ok_or_else(|| format!("the plan has no split {split}"))?;
        let batches = self.table.read_as(split, &self.columns, &self.options)?;
        Ok(Box::new(Throttled { job: self.job, batches }))
    }
}

struct Throttled<'a> {
    job: &'a Job,
    batches: BatchReader,
}

impl Throttled<'_> {
    /// Sleeps until so many rows have their turn.
    fn await_turn(&self, rows: u64) -> Result<(), Ended> {
        let Job { rate, shared, meter, .. } = self.job;
        let turn = rate.take(rows, Instant::now());
        loop {
            let wait = rate.wait(turn, Instant::now());
            if wait.is_zero() {
                break;
            }
            let start = Instant::now();
            shared.sleep(wait.min(LONGEST_SLEEP))?;
            crate::stats::add_since(&meter.counters.throttle_ns, start);
        }
        Ok(())
    }
}

impl Iterator for Throttled<'_> {
    type Item = Result<InputBatch, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let SourceBatch { batch, file, rows } = match self.batches.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        if let Err(ended) = self.await_turn(batch.num_rows() as u64) {
            return Some(Err(ended.into()));
        }
        self.job.meter.counters.rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let rows = match rows {
            BatchRows::From(first) => InputRows::From(first),
            BatchRows::Each(places) => InputRows::Each(places),
        };
        Some(Ok(InputBatch { batch, file, rows }))
    }
}
