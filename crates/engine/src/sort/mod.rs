//! Sort: a lane of all runs becomes sorted SST files.
//!
//! Pieces are fetched, checked and scattered into parts of ranges that fit in memory; a thread takes
//! one range at a time, sorts its parts in order and writes them; files are finished, sealed and
//! handed on beside it. At the end a RocksDB ingests what was written.

mod check;
mod duplicates;
mod fetch;
mod in_memory;
mod kept_apart;
mod long_entries;
mod part;
mod range;
mod recut;
mod rocksdb_file;
mod seal_files;
mod sealed;
mod spill;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indexbuild_index::{Encoder, PackedLayout, SetHash};

use self::check::EngineHandle;
pub use self::check::{EngineCheck, leak_engine};
pub use self::duplicates::{DuplicatePair, Duplicates, MOST_PAIRS};
pub(crate) use self::sealed::{RANGE_VERSION, RangeSidecar, read_sidecar};
pub use self::sealed::{SealedRange, SealedSst};

use self::fetch::{Fetch, Fetched, Piece};
use self::in_memory::{Sorter, memory_of};
use self::part::Part;
use self::range::RangeSorter;
use self::recut::{cuts_within, sample_pieces};
use self::seal_files::{SealJob, hand_on, seal_files};
use self::spill::SpillFolder;
use self::writer::{FileFormat, RangeContext, RangeWriter};
use crate::attempt::Attempt;
use crate::control::{JobControl, Step, StepTimes, nanos, thread_cpu, timed};
use crate::error::{BoxError, EngineError};
use crate::plan::{IndexPlan, Lane};
use crate::route::{Cut, Router};
use crate::run::RunTable;
use crate::threads;

/// Offsets into a thread's sorting memory have 32 bits.
const LARGEST_BUDGET: u64 = 2 << 30;
const SMALLEST_BUDGET: u64 = 64 << 10;
/// What other entries have beside long ones at least.
const LEAST_MEMORY: u64 = 4 << 20;

/// Reads pieces of the runs of a job. Several threads read at once.
pub trait PieceReader: Sync {
    /// Fills `buf` from `offset` of the run with this number in the job's list.
    fn read_at(&self, run: usize, offset: u64, buf: &mut [u8]) -> Result<(), BoxError>;
}

#[derive(Clone, Debug)]
pub struct RunInput {
    /// Its table, or the part of it that belongs to the lane ([`RunTable::only`]).
    pub table: RunTable,
    /// The splits that it covers: what must be encoded again when it is damaged.
    pub splits: Vec<u32>,
    pub name: String,
}

pub struct SortJob<'a> {
    pub attempt: &'a Attempt,
    pub index_plan: &'a IndexPlan,
    /// Its number in the runs.
    pub index: u32,
    pub lane: Lane,
    pub runs: &'a [RunInput],
    pub reader: &'a dyn PieceReader,
    /// Ranges taken over from former attempts; they are not sorted again.
    pub already: Vec<SealedRange>,
    pub threads: usize,
    /// Bytes of memory, of all threads together.
    pub memory: u64,
    pub control: &'a JobControl,
    /// Called for each range sealed, adopted ones first.
    pub on_sealed: &'a (dyn Fn(&SealedRange) -> Result<(), BoxError> + Sync),
}

#[derive(Clone, Debug)]
pub struct SortOutcome {
    /// All ranges of the lane that hold any entry, adopted ones included, in key order.
    pub ranges: Vec<SealedRange>,
    pub entries: u64,
    pub hash: SetHash,
    /// Keys of a unique index that stand more than once.
    pub duplicates: Duplicates,
    /// What RocksDB counted; `None` when the job was asked to stop before.
    pub check: Option<EngineCheck>,
    /// Ranges not sealed, because the owner asked to stop. Otherwise empty.
    pub missing: Vec<u32>,
    pub stats: StepTimes,
}

/// A part of a range, as the fetch scatters into it.
pub(crate) struct Destination {
    pub(crate) range: u32,
    /// Its range was sealed by a former attempt: entries are counted and passed over.
    pub(crate) sealed: bool,
}

/// Sorts a lane, writes and seals its files, and has RocksDB ingest and check them.
///
/// # Errors
/// `Damaged` (I3), `DuplicateKeyOutsideUnique`, `EngineLocked`, `NoSpace`, `Fetch`, `HandOn`,
/// `Disagrees` (I6), `Cancelled`, and those of the file system and of RocksDB. What was sealed before
/// stays in the attempt's folder, for the next attempt to adopt; no handle stays open (I7).
pub fn sort(mut job: SortJob<'_>) -> Result<SortOutcome, EngineError> {
    let (begun, cpu) = (Instant::now(), thread_cpu());
    job.control.begin(Step::Fetch);
    let already = std::mem::take(&mut job.already);
    for range in &already {
        hand_on(&job, range)?;
    }
    // Opened before the work, so that a lock that is held is noticed at once.
    let engine = EngineHandle::open(job.attempt)?;
    let outcome = sort_lane(&job, already, &engine);
    engine.close(job.attempt.test_switches);
    outcome.map(|mut outcome| {
        outcome.stats.wall = nanos(begun.elapsed());
        outcome.stats.cpu += thread_cpu() - cpu;
        outcome
    })
}

fn sort_lane(job: &SortJob<'_>, already: Vec<SealedRange>, engine: &EngineHandle) -> Result<SortOutcome, EngineError> {
    let lane_number = job.index_plan.lane_number(job.lane)?;
    let boundaries = job.index_plan.checked_boundaries()?;
    let encoder = Encoder::new(Arc::new(job.index_plan.definition.clone()))
        .map_err(|source| EngineError::Definition { index: job.index_plan.definition.name.clone(), source })?;
    let layout = encoder.packed();

    let pieces = pieces_of(job, lane_number, layout)?;
    let folder = SpillFolder::new(job.attempt.spill_dir());
    let job = &leaving_room(job, &pieces);
    let sort_layout = SortLayout::new(job, &boundaries, layout, &already, &pieces, &folder)?;
    let Fetched { parts, passed, mut stats } = sort_layout.fetch(job, layout, &pieces, &folder)?;
    sort_layout.check_adopted(job, &passed, &already)?;

    job.control.set_step(Step::Sort);
    let Sorted { mut ranges, missing } =
        sort_ranges(job, layout, &folder, sort_layout.destinations, parts, &mut stats)?;
    let sorted_here: u64 = ranges.iter().map(|range| range.entries + range.duplicates.count).sum();
    ranges.extend(already);
    ranges.sort_by_key(|range| range.range);
    let mut outcome = SortOutcome {
        entries: ranges.iter().map(|range| range.entries).sum(),
        hash: SetHash::default(),
        duplicates: Duplicates::default(),
        check: None,
        missing,
        ranges,
        stats,
    };
    for range in &outcome.ranges {
        outcome.hash.merge(range.hash);
        outcome.duplicates.merge(&range.duplicates);
    }
    if outcome.missing.is_empty() {
        // I6: nothing got lost or doubled between the runs and the files.
        let expected = outcome.stats.rows - passed.iter().sum::<u64>();
        check_equal("entries of the lane in its files", expected, sorted_here)?;
        job.control.set_step(Step::Check);
        let check = timed(&mut outcome.stats.check, || engine.check(&outcome.ranges))?;
        outcome.check = Some(check);
    }
    Ok(outcome)
}

/// The job with less memory for other entries where long ones are among the pieces: one of those is in memory at a time,
/// twice (as it is read and in its block, or in its block and compressed).
fn leaving_room<'a>(job: &SortJob<'a>, pieces: &[Piece]) -> SortJob<'a> {
    let longest = pieces.iter().filter(|piece| piece.at.is_long()).map(|piece| piece.at.len).max().unwrap_or(0);
    let least = LEAST_MEMORY.min(job.memory);
    SortJob { memory: job.memory.saturating_sub(2 * longest).max(least), already: Vec::new(), ..*job }
}

fn check_equal(what: &str, expected: u64, found: u64) -> Result<(), EngineError> {
    if expected == found { Ok(()) } else { Err(EngineError::Disagrees { what: what.to_owned(), expected, found }) }
}

fn pieces_of(job: &SortJob<'_>, lane: u32, layout: Option<&PackedLayout>) -> Result<Vec<Piece>, EngineError> {
    let width = layout.map_or(0, PackedLayout::width);
    let mut pieces = Vec::new();
    for (number, run) in job.runs.iter().enumerate() {
        let said = run.table.indexes().get(job.index as usize);
        if !said.is_some_and(|said| said.width as usize == width && said.lanes as usize == job.index_plan.lanes.len()) {
            return Err(EngineError::BadTable {
                path: PathBuf::from(&run.name),
                why: format!("it was not made by this plan of index {:?}", job.index_plan.definition.name),
            });
        }
        pieces.extend(run.table.pieces(job.index, lane).map(|at| Piece { run: number, at: *at }));
    }
    Ok(pieces)
}

/// How a lane's entries are laid out for sorting.
struct SortLayout {
    destinations: Vec<Destination>,
    cuts: Vec<Cut>,
    spill_above: Option<u64>,
    in_memory: u64,
}

impl SortLayout {
    fn new(
        job: &SortJob<'_>,
        boundaries: &[Vec<u8>],
        layout: Option<&PackedLayout>,
        already: &[SealedRange],
        pieces: &[Piece],
        folder: &SpillFolder,
    ) -> Result<Self, EngineError> {
        let budget = budget(job);
        let mut whole = Part::default();
        for piece in pieces.iter().filter(|piece| !piece.at.is_long()) {
            let of_kind = whole.of(piece.at.kind);
            of_kind.entries += piece.at.entries;
            of_kind.bytes += piece.at.len;
        }
        let memory = memory_of(&whole, layout.map_or(0, PackedLayout::width));
        let stored = whole.packed.bytes + whole.general.bytes;
        let room = (job.memory / 2).saturating_sub(filter_memory(job, whole.entries()));
        let mut sort_layout = Self {
            destinations: Vec::new(),
            cuts: Vec::new(),
            spill_above: (stored > room).then_some(room),
            in_memory: stored,
        };
        let mut sample = Vec::new();
        if memory / u64::from(job.lane.ranges) > budget / 2 {
            let fetch = Fetch {
                job,
                layout,
                pieces,
                destinations: &[],
                router: Router::new(&[], 0),
                folder,
                spill_above: None,
                in_memory: 0,
                alone: Mutex::default(),
            };
            sample = sample_pieces(&fetch, pieces)?;
        }
        #[allow(clippy::cast_precision_loss)]
        let per_sample = memory as f64 / sample.len().max(1) as f64;
        let lower = |range: u32| {
            let boundary = (range as usize).checked_sub(1).and_then(|before| boundaries.get(before));
            boundary.map(|key| Cut::at_key(key.clone(), layout))
        };
        for range in job.lane.first_range..job.lane.first_range + job.lane.ranges {
            let sealed = already.iter().any(|sealed| sealed.range == range);
            let begin = lower(range);
            if range > job.lane.first_range
                && let Some(cut) = &begin
            {
                sort_layout.cuts.push(cut.clone());
            }
            sort_layout.destinations.push(Destination { range, sealed });
            if !sealed {
                let end = lower(range + 1);
                for cut in cuts_within(&sample, per_sample, budget, begin.as_ref(), end.as_ref(), layout) {
                    sort_layout.cuts.push(cut);
                    sort_layout.destinations.push(Destination { range, sealed });
                }
            }
        }
        Ok(sort_layout)
    }

    fn fetch(
        &self,
        job: &SortJob<'_>,
        layout: Option<&PackedLayout>,
        pieces: &[Piece],
        folder: &SpillFolder,
    ) -> Result<Fetched, EngineError> {
        let Self { destinations, cuts, spill_above, in_memory } = self;
        let router = Router::new(cuts, 0);
        let (spill_above, in_memory, alone) = (*spill_above, *in_memory, Mutex::default());
        Fetch { job, layout, pieces, destinations, router, folder, spill_above, in_memory, alone }.run()
    }

    /// I6: a range that was taken over holds exactly the entries that the runs have for it.
    fn check_adopted(&self, job: &SortJob<'_>, passed: &[u64], already: &[SealedRange]) -> Result<(), EngineError> {
        for sealed in already {
            let passed: u64 = self
                .destinations
                .iter()
                .zip(passed)
                .filter(|(destination, _)| destination.range == sealed.range)
                .map(|(_, passed)| passed)
                .sum();
            let what = format!(
                "entries of range {} of index {:?}, sealed by a former attempt",
                sealed.range, job.index_plan.definition.name
            );
            check_equal(&what, passed, sealed.entries + sealed.duplicates.count)?;
        }
        Ok(())
    }
}

/// Bytes of memory that a thread may use to sort.
fn budget(job: &SortJob<'_>) -> u64 {
    (job.memory / (4 * job.threads.max(1) as u64)).clamp(SMALLEST_BUDGET, LARGEST_BUDGET)
}

/// Bytes that the keys of Bloom filters take while files are written: eight a key, of one file per thread. A file has as
/// many keys as its range at most, and ranges are about equal; twice as many are thought of.
fn filter_memory(job: &SortJob<'_>, entries: u64) -> u64 {
    let in_a_range = 2 * entries / u64::from(job.lane.ranges.max(1));
    let many = if job.index_plan.bloom_bits_per_key > 0 { job.threads.max(1) as u64 } else { 0 };
    many * 8 * in_a_range.min(entries)
}

struct Sorted {
    ranges: Vec<SealedRange>,
    missing: Vec<u32>,
}

/// A range to be sorted: its parts in order, and the number of its entries.
struct UnsortedRange {
    range: u32,
    entries: u64,
    parts: Mutex<Vec<Part>>,
}

fn sort_ranges(
    job: &SortJob<'_>,
    layout: Option<&PackedLayout>,
    folder: &SpillFolder,
    destinations: Vec<Destination>,
    parts: Vec<Part>,
    stats: &mut StepTimes,
) -> Result<Sorted, EngineError> {
    let mut unsorted: Vec<UnsortedRange> = Vec::new();
    for (Destination { range, sealed: _ }, part) in destinations.into_iter().zip(parts) {
        let entries = part.entries();
        match unsorted.last_mut().filter(|last| last.range == range) {
            Some(last) => {
                last.entries += entries;
                last.parts.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).push(part);
            }
            None => unsorted.push(UnsortedRange { range, entries, parts: Mutex::new(vec![part]) }),
        }
    }
    unsorted.retain(|range| range.entries > 0);
    stats.largest_range = unsorted.iter().map(|range| range.entries).max().unwrap_or(0);
    stats.mean_range =
        unsorted.iter().map(|range| range.entries).sum::<u64>().checked_div(unsorted.len() as u64).unwrap_or(0);
    // The largest first: threads then end at about the same time.
    unsorted.sort_by_key(|range| (std::cmp::Reverse(range.entries), range.range));

    let compression = job.index_plan.compression;
    let bloom_bits_per_key = job.index_plan.bloom_bits_per_key;
    let options = indexbuild_index::sst::sst_options_with_filter(compression, bloom_bits_per_key);
    let format = if job.attempt.test_switches.rocksdb_writes_files {
        FileFormat::RocksDb(&options)
    } else {
        FileFormat::Own { compression, bloom_bits_per_key }
    };
    let threads = job.threads.clamp(1, unsorted.len().max(1));
    let (next, alone) = (AtomicUsize::new(0), Mutex::new(()));
    let mut finish_stats = StepTimes::default();
    let (sorted, finished) = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(threads);
        let finisher = std::thread::Builder::new()
            .name("engine-finish".to_owned())
            .spawn_scoped(scope, || seal_files(job, receiver, &mut finish_stats));
        let sorted = threads::run(threads, |_| {
            let mut sorter = RangeSorter {
                job,
                layout,
                budget: budget(job),
                folder,
                sorter: Sorter::default(),
                stats: StepTimes::default(),
            };
            take_ranges(&mut sorter, &unsorted, &next, format, &alone, &sender.clone())?;
            sorter.stats.cpu = thread_cpu();
            Ok(sorter.stats)
        });
        drop(sender);
        let finished = match finisher {
            Ok(handle) => handle.join().unwrap_or_else(|panic| Err(threads::panicked(panic.as_ref()))),
            Err(error) => Err(EngineError::io("start", std::path::Path::new("a thread"), error)),
        };
        (sorted, finished)
    });
    // A sorting thread whose file could not be sealed sees only that it was cancelled: the sealing thread has the cause.
    let (accounts, ranges) = match (sorted, finished) {
        (Ok(accounts), Ok(ranges)) => (accounts, ranges),
        (Err(EngineError::Cancelled) | Ok(_), Err(error)) | (Err(error), _) => return Err(error),
    };
    for account in accounts {
        stats.merge(&account);
    }
    stats.merge(&finish_stats);
    let mut missing: Vec<u32> = unsorted
        .iter()
        .map(|unsorted| unsorted.range)
        .filter(|range| !ranges.iter().any(|sealed| sealed.range == *range))
        .collect();
    missing.sort_unstable();
    Ok(Sorted { ranges, missing })
}

fn take_ranges<'o>(
    sorter: &mut RangeSorter<'_, '_>,
    unsorted: &[UnsortedRange],
    next: &AtomicUsize,
    format: FileFormat<'o>,
    alone: &Mutex<()>,
    sender: &SyncSender<SealJob<'o>>,
) -> Result<(), EngineError> {
    let job = sorter.job;
    let send = |finish| sender.send(finish).map_err(|_| EngineError::Cancelled);
    while !job.control.is_stopping() {
        let Some(range) = unsorted.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
        let parts = std::mem::take(&mut *range.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let context = RangeContext {
            attempt: job.attempt,
            definition: &job.index_plan.definition,
            range: range.range,
            target_file_bytes: job.index_plan.target_file_bytes,
            alone,
        };
        let mut writer = RangeWriter::new(context, format, |full| send(SealJob::File(range.range, full)));
        for mut part in parts {
            let long = part.apart.entries();
            writer.begin_part(std::mem::take(&mut part.apart))?;
            sorter.part(part, &mut writer)?;
            writer.end_part()?;
            job.control.add_rows(long);
        }
        let totals = writer.finish()?;
        send(SealJob::Range(range.range, totals))?;
    }
    Ok(())
}
