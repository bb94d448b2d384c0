//! Encode: splits become runs.
//!
//! Threads take splits from one queue. Each encodes its batches, scatters the entries by lane into
//! memory, writes a section of its run whenever its memory is full, and seals the run at the end of
//! a split once it is large enough.

mod worker;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use arrow_array::RecordBatch;
use indexbuild_index::Encoder;

use crate::attempt::Attempt;
use crate::control::{JobControl, Step, StepTimes, nanos};
use crate::error::{BoxError, EngineError};
use crate::plan::IndexPlan;
use crate::route::{Cut, Router};
use crate::run::{EntrySum, IndexShape, RunWriter, SealedRun};
use crate::threads;

/// The batches of one split.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<InputBatch, BoxError>> + Send + 'a>;

/// Reads splits of the table. Several threads read several splits at once.
pub trait SplitReader: Sync {
    /// The split's batches, in any order of rows that the split always has.
    fn read(&self, split: u32) -> Result<Batches<'_>, BoxError>;
}

/// Some rows of a split.
#[derive(Clone, Debug)]
pub struct InputBatch {
    /// At least the columns that the indexes need.
    pub batch: RecordBatch,
    pub file: u32,
    pub rows: InputRows,
}

/// Positions of a batch's rows in their file, as in row ids.
#[derive(Clone, Debug)]
pub enum InputRows {
    From(u64),
    Each(Vec<u64>),
}

pub struct EncodeJob<'a> {
    pub attempt: &'a Attempt,
    /// All indexes of the build: the table is read once for all.
    pub indexes: &'a [IndexPlan],
    pub splits: &'a [u32],
    /// Runs taken over from former attempts; what they cover is not read again.
    pub already: Vec<SealedRun>,
    pub reader: &'a dyn SplitReader,
    pub threads: usize,
    /// Bytes for buffers, of all threads together.
    pub memory: u64,
    /// A run is sealed at the end of the split that makes it so large.
    pub run_bytes: u64,
    pub control: &'a JobControl,
    /// Called for each run sealed, adopted ones first, from the thread that sealed it.
    pub on_sealed: &'a (dyn Fn(&SealedRun) -> Result<(), BoxError> + Sync),
}

#[derive(Clone, Debug)]
pub struct EncodeOutcome {
    /// All sealed runs, adopted ones included.
    pub runs: Vec<SealedRun>,
    pub rows: u64,
    /// By index, in the job's order: an entry per row.
    pub indexes: Vec<EntrySum>,
    /// Splits that no run covers, because the owner asked to stop. Otherwise empty.
    pub missing: Vec<u32>,
    pub stats: StepTimes,
}

const GO: u8 = 0;
/// A split could not be read: complete splits are sealed, so that they need not be read again.
const SEAL: u8 = 1;
/// Another error: nothing more is written.
const DROP: u8 = 2;

/// What the threads of a job share.
struct Shared<'j, 'a> {
    job: &'j EncodeJob<'a>,
    targets: Vec<Target>,
    shapes: Vec<IndexShape>,
    destinations: usize,
    queue: Vec<u32>,
    next_split: AtomicUsize,
    next_run: AtomicU32,
    end: AtomicU8,
    sealed: Mutex<Vec<SealedRun>>,
}

/// Where entries of one index go.
struct Target {
    definition: Arc<indexbuild_index::IndexDefinition>,
    router: Router,
}

/// Encodes all splits that are not covered yet.
///
/// # Errors
/// `Read`, `Encode`, `NoSpace`, `HandOn`, `Cancelled`, and those of the file system. Runs sealed
/// before stay in the attempt's folder, for the next attempt to adopt.
pub fn encode(job: EncodeJob<'_>) -> Result<EncodeOutcome, EngineError> {
    let begun = Instant::now();
    job.control.begin(Step::Encode);
    let shared = Shared::new(&job)?;
    for run in &job.already {
        job.control.add_rows(run.sidecar.rows);
        job.control.add_bytes(run.sidecar.bytes);
        (job.on_sealed)(run).map_err(|source| EngineError::hand_on(&run.name, &run.path, source))?;
    }
    let threads = job.threads.clamp(1, shared.queue.len().max(1));
    let accounts = threads::run(threads, |_| {
        let outcome = worker::work(&shared, threads);
        if let Err(error) = &outcome {
            let end = if matches!(error, EngineError::Read { .. } | EngineError::Encode { .. }) { SEAL } else { DROP };
            shared.end.fetch_max(end, Ordering::SeqCst);
        }
        outcome
    })?;
    let mut stats = StepTimes::default();
    for account in &accounts {
        stats.merge(account);
    }
    let mut runs = shared.sealed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    runs.sort_by(|left, right| left.name.cmp(&right.name));
    let mut runs_all = job.already;
    runs_all.append(&mut runs);
    stats.wall = nanos(begun.elapsed());
    Ok(summed(runs_all, job.splits, job.indexes.len(), stats))
}

fn summed(runs: Vec<SealedRun>, splits: &[u32], indexes: usize, stats: StepTimes) -> EncodeOutcome {
    let mut rows = 0;
    let mut sums = vec![EntrySum::default(); indexes];
    let mut covered = Vec::new();
    for run in &runs {
        rows += run.sidecar.rows;
        covered.extend_from_slice(&run.sidecar.splits);
        for (sum, of_run) in sums.iter_mut().zip(&run.sidecar.indexes) {
            sum.merge(*of_run);
        }
    }
    covered.sort_unstable();
    let missing = splits.iter().copied().filter(|split| covered.binary_search(split).is_err()).collect();
    EncodeOutcome { runs, rows, indexes: sums, missing, stats }
}

impl<'j, 'a> Shared<'j, 'a> {
    fn new(job: &'j EncodeJob<'a>) -> Result<Self, EngineError> {
        let mut targets = Vec::new();
        let mut shapes = Vec::new();
        let mut destinations = 0;
        for plan in job.indexes {
            let definition = Arc::new(plan.definition.clone());
            let encoder = Encoder::new(Arc::clone(&definition))
                .map_err(|source| EngineError::Definition { index: definition.name.clone(), source })?;
            let boundaries = plan.checked_boundaries()?;
            let cuts: Vec<Cut> = plan
                .lanes
                .iter()
                .skip(1)
                .map(|lane| Cut::at_key(boundaries[lane.first_range as usize - 1].clone(), encoder.packed()))
                .collect();
            shapes.push(IndexShape {
                width: encoder.packed().map_or(0, |layout| u32::try_from(layout.width()).unwrap_or(0)),
                lanes: u32::try_from(plan.lanes.len()).unwrap_or(u32::MAX),
                first_destination: destinations,
            });
            targets.push(Target { definition, router: Router::new(&cuts, destinations) });
            destinations += plan.lanes.len();
        }
        let covered: Vec<u32> = job.already.iter().flat_map(|run| run.sidecar.splits.iter().copied()).collect();
        Ok(Self {
            job,
            targets,
            shapes,
            destinations,
            queue: job.splits.iter().copied().filter(|split| !covered.contains(split)).collect(),
            next_split: AtomicUsize::new(0),
            next_run: AtomicU32::new(RunWriter::first_free_number(job.attempt)?),
            end: AtomicU8::new(GO),
            sealed: Mutex::default(),
        })
    }
}
