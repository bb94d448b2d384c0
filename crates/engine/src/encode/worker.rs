//! One thread of an Encode.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use indexbuild_index::{Encoder, Entries, Frame, RowPositions, Rows, SetHash, entry_hash};

use super::{DROP, GO, InputBatch, InputRows, Shared};
use crate::buffers::{Buffers, Mark, useful_bytes};
use crate::control::{StepTimes, thread_cpu, timed};
use crate::error::EngineError;
use crate::frames::{LONG_ENTRY, PieceKind};
use crate::packed;
use crate::run::{Counts, EntrySum, RunWriter};

/// Rows encoded at once: their entries stay in the processor's cache.
const ROWS_AT_ONCE: usize = 8192;
/// Bytes of values encoded at once, unless a single row has more: each index's entry holds them once more.
const BYTES_AT_ONCE: usize = 1 << 20;

struct Worker<'s, 'j, 'a> {
    shared: &'s Shared<'j, 'a>,
    encoders: Vec<Encoder>,
    entries: Entries,
    frame: Frame,
    buffers: Buffers,
    /// The run being written; there is none before its first section.
    writer: Option<RunWriter>,
    splits: Vec<u32>,
    counts: Counts,
    stats: StepTimes,
}

/// Why the reading of a split ended.
enum SplitEnd {
    Whole,
    /// The job stops, and the split's entries were dropped.
    Reverted,
}

/// The state of the run at the start of a split.
struct SplitStart {
    mark: Mark,
    counts: Counts,
    written: u64,
}

pub(super) fn work(shared: &Shared<'_, '_>, threads: usize) -> Result<StepTimes, EngineError> {
    let mut encoders = Vec::new();
    for target in &shared.targets {
        let encoder = Encoder::new(target.definition.clone())
            .map_err(|source| EngineError::Definition { index: target.definition.name.clone(), source })?;
        encoders.push(encoder);
    }
    let mut worker = Worker {
        shared,
        encoders,
        entries: Entries::default(),
        frame: Frame::new(),
        buffers: Buffers::new(
            shared.destinations,
            useful_bytes(shared.destinations, shared.job.memory / threads as u64 / 4 * 3),
        ),
        writer: None,
        splits: Vec::new(),
        counts: Counts::default(),
        stats: StepTimes::default(),
    };
    worker.begin_run();
    match worker.all() {
        // Complete splits are sealed even when another one cannot be read.
        Err(error) if matches!(error, EngineError::Read { .. } | EngineError::Encode { .. }) => {
            worker.seal()?;
            Err(error)
        }
        Err(error) => Err(error),
        Ok(()) => {
            worker.stats.cpu = thread_cpu();
            Ok(worker.stats)
        }
    }
}

impl Worker<'_, '_, '_> {
    fn all(&mut self) -> Result<(), EngineError> {
        while !self.is_stopping()? {
            let next = self.shared.next_split.fetch_add(1, Ordering::Relaxed);
            let Some(split) = self.shared.queue.get(next).copied() else { break };
            match self.split(split)? {
                SplitEnd::Whole => self.splits.push(split),
                SplitEnd::Reverted => break,
            }
            let written = self.writer.as_ref().map_or(0, RunWriter::bytes);
            if written + self.buffers.used() as u64 >= self.shared.job.run_bytes {
                self.seal()?;
            }
        }
        self.seal()
    }

    /// Whether to seal and return; to end at once is an error.
    fn is_stopping(&self) -> Result<bool, EngineError> {
        let end = self.shared.end.load(Ordering::Relaxed);
        if self.shared.job.control.is_cancelled() || end == DROP {
            return Err(EngineError::Cancelled);
        }
        Ok(end != GO || self.shared.job.control.is_stopping())
    }

    fn split(&mut self, split: u32) -> Result<SplitEnd, EngineError> {
        let start = SplitStart {
            mark: self.buffers.mark(),
            counts: self.counts.clone(),
            written: self.writer.as_ref().map_or(0, RunWriter::bytes),
        };
        let outcome = self.batches(split, &start);
        if matches!(outcome, Err(EngineError::Read { .. } | EngineError::Encode { .. })) && !self.revert(&start) {
            // The split's first entries are in the file, among those of complete splits: the run cannot be kept.
            self.drop_run();
        }
        outcome
    }

    fn batches(&mut self, split: u32, start: &SplitStart) -> Result<SplitEnd, EngineError> {
        let failed = |source| EngineError::Read { split, source };
        let shared = self.shared;
        let mut batches = timed(&mut self.stats.read, || shared.job.reader.read(split)).map_err(failed)?;
        loop {
            // A split whose first rows were written already is read to its end: it is small.
            if self.is_stopping()? && self.revert(start) {
                return Ok(SplitEnd::Reverted);
            }
            let Some(batch) = timed(&mut self.stats.read, || batches.next()) else { return Ok(SplitEnd::Whole) };
            self.batch(split, &batch.map_err(failed)?)?;
        }
    }

    /// Drops a split's entries from the run, if none of them was written yet.
    fn revert(&mut self, start: &SplitStart) -> bool {
        let SplitStart { mark, counts, written } = start;
        if self.writer.as_ref().map_or(0, RunWriter::bytes) != *written {
            return false;
        }
        self.buffers.rewind(mark);
        self.counts = counts.clone();
        true
    }

    fn batch(&mut self, split: u32, input: &InputBatch) -> Result<(), EngineError> {
        let InputBatch { batch, file, rows } = input;
        let mut begin = 0;
        while begin < batch.num_rows() {
            let part = part_of(batch, begin);
            let count = part.num_rows();
            let positions = match rows {
                InputRows::From(first) => Rows::From(first + begin as u64),
                InputRows::Each(each) => {
                    Rows::Each(each.get(begin..begin + count).ok_or_else(|| EngineError::Read {
                        split,
                        source: format!("{} rows came with {} positions", batch.num_rows(), each.len()).into(),
                    })?)
                }
            };
            for index in 0..self.encoders.len() {
                let at = RowPositions { file: *file, rows: positions };
                if !self.long_entry(split, index, &part, &at)? {
                    self.entries_of(split, index, &part, &at)?;
                }
                if self.buffers.is_full() {
                    self.section()?;
                }
            }
            self.counts.rows += count as u64;
            self.stats.rows += count as u64;
            self.shared.job.control.add_rows(count as u64);
            begin += count;
        }
        Ok(())
    }

    /// Writes a row's entry straight to the run if it is long; whether it was.
    fn long_entry(
        &mut self,
        split: u32,
        index: usize,
        batch: &RecordBatch,
        at: &RowPositions<'_>,
    ) -> Result<bool, EngineError> {
        let Self { shared, encoders, .. } = self;
        let (shared, encoder) = (*shared, &mut encoders[index]);
        if batch.num_rows() != 1 || encoder.packed().is_some() || bytes_of(batch) <= LONG_ENTRY {
            return Ok(false);
        }
        let target = &shared.targets[index];
        let entry = timed(&mut self.stats.encode, || encoder.encode_long(batch, at))
            .map_err(|source| EngineError::Encode { index: target.definition.name.clone(), split, source })?;
        if entry.value_len() <= LONG_ENTRY {
            return Ok(false);
        }
        // Lanes are cut at keys alone.
        let lane = target.router.general(entry.key(), &[]) - shared.shapes[index].first_destination;
        let [index_number, lane] = [index, lane].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let hash = self.write(|writer, _| writer.long_entry(index_number, lane, &entry))?;
        let mut sum = EntrySum { entries: 1, hash: SetHash::default() };
        sum.hash.add(hash);
        self.counts.indexes[index].merge(sum);
        Ok(true)
    }

    fn entries_of(
        &mut self,
        split: u32,
        index: usize,
        batch: &arrow_array::RecordBatch,
        at: &RowPositions<'_>,
    ) -> Result<(), EngineError> {
        let Self { shared, encoders, entries, frame, buffers, counts, stats, .. } = self;
        let target = &shared.targets[index];
        let encoder = &mut encoders[index];
        entries.packed.clear();
        entries.general.bytes.clear();
        entries.general.entries.clear();
        timed(&mut stats.encode, || encoder.encode(batch, at, entries)).map_err(|source| EngineError::Encode {
            index: target.definition.name.clone(),
            split,
            source,
        })?;
        let found = entries.packed.len() + entries.general.entries.len();
        if found != batch.num_rows() {
            return Err(EngineError::Disagrees {
                what: format!("entries of a batch for index {:?}", target.definition.name),
                expected: batch.num_rows() as u64,
                found: found as u64,
            });
        }
        let mut hash = SetHash::default();
        if let Some(layout) = encoder.packed() {
            timed(&mut stats.encode, || {
                for entry in &entries.packed {
                    layout.expand(*entry, frame);
                    hash.add(entry_hash(frame.bytes()));
                }
            });
            timed(&mut stats.scatter, || packed::scatter(layout.width(), &entries.packed, &target.router, buffers));
        }
        timed(&mut stats.scatter, || {
            for entry in &entries.general.entries {
                let begin = entry.offset as usize;
                let middle = begin + entry.key_len as usize;
                let key = &entries.general.bytes[begin..middle];
                let value = &entries.general.bytes[middle..middle + entry.value_len as usize];
                frame.set(key, value);
                hash.add(entry_hash(frame.bytes()));
                buffers.push(target.router.general(key, value), PieceKind::General, frame.bytes());
            }
        });
        counts.indexes[index].merge(EntrySum { entries: found as u64, hash });
        Ok(())
    }

    fn section(&mut self) -> Result<(), EngineError> {
        let shared = self.shared;
        self.write(|writer, buffers| writer.section(buffers, &shared.shapes))
    }

    /// Writes to the run, which is begun if there is none.
    fn write<T>(
        &mut self,
        write: impl FnOnce(&mut RunWriter, &mut Buffers) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let Self { shared, buffers, writer, stats, .. } = self;
        timed(&mut stats.spill, || {
            let writer = match writer {
                Some(writer) => writer,
                none @ None => {
                    let number = shared.next_run.fetch_add(1, Ordering::Relaxed);
                    none.insert(RunWriter::create(shared.job.attempt, number)?)
                }
            };
            let before = writer.bytes();
            let written = write(writer, buffers)?;
            shared.job.control.add_bytes(writer.bytes() - before);
            Ok(written)
        })
    }

    /// Seals the run if it covers any split, and hands it on.
    fn seal(&mut self) -> Result<(), EngineError> {
        if self.splits.is_empty() {
            self.drop_run();
            return Ok(());
        }
        self.section()?;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let splits = std::mem::take(&mut self.splits);
        let shared = self.shared;
        let Self { counts, stats, .. } = self;
        let run = timed(&mut stats.fsync, || writer.seal(shared.job.attempt, &shared.shapes, splits, counts))?;
        stats.bytes_written += run.sidecar.bytes;
        self.begin_run();
        shared.sealed.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
        timed(&mut self.stats.hand_on, || (shared.job.on_sealed)(&run))
            .map_err(|source| EngineError::hand_on(&run.name, &run.path, source))
    }

    fn begin_run(&mut self) {
        self.counts = Counts { rows: 0, indexes: vec![EntrySum::default(); self.encoders.len()] };
    }

    fn drop_run(&mut self) {
        self.writer = None;
        self.splits.clear();
        self.buffers = Buffers::new(self.shared.destinations, 0);
        self.begin_run();
    }
}

/// The rows from `begin` on that are encoded at once: few enough that their values are about [`BYTES_AT_ONCE`], or one.
fn part_of(batch: &RecordBatch, begin: usize) -> RecordBatch {
    let mut count = ROWS_AT_ONCE.min(batch.num_rows() - begin);
    loop {
        let part = batch.slice(begin, count);
        if count <= 1 || bytes_of(&part) <= BYTES_AT_ONCE {
            return part;
        }
        count /= 2;
    }
}

/// The bytes of a batch's values.
fn bytes_of(batch: &RecordBatch) -> usize {
    // A column that cannot be measured counts as small.
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, StringArray};

    use super::*;

    #[test]
    fn few_long_rows_are_encoded_at_once_and_many_short_ones() {
        let texts = |lengths: Vec<usize>| {
            let ids: ArrayRef = Arc::new(Int32Array::from_iter_values((0..).take(lengths.len())));
            let texts = lengths.into_iter().map(|length| "x".repeat(length));
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
            RecordBatch::try_from_iter([("id", ids), ("c", texts)]).unwrap()
        };
        let parts = |batch: &RecordBatch| {
            let (mut begin, mut parts) = (0, Vec::new());
            while begin < batch.num_rows() {
                let part = part_of(batch, begin);
                assert_eq!(part, batch.slice(begin, part.num_rows()));
                begin += part.num_rows();
                parts.push(part.num_rows());
            }
            parts
        };
        assert_eq!(parts(&texts(vec![10; 20_000])), [8192, 8192, 3616]);
        assert_eq!(parts(&texts(vec![3 << 20, 1, 3 << 20])), [1, 1, 1]);
        let many = parts(&texts(vec![100_000; 100]));
        assert!(many.iter().all(|rows| (1..=10).contains(rows)), "{many:?}");
        assert_eq!(parts(&texts(vec![])), [0; 0]);
    }
}
