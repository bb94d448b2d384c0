//! The chosen runs as a Sort reads them: from this volume, or from the store by ranges.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use indexbuild_engine::{BoxError, PieceReader, RunInput, RunTable, Volume};
use indexbuild_store::in_parallel;
use indexbuild_text::chain;

use super::Job;
use super::adopt::StoredRun;
use crate::failure::WorkFailure;
use crate::results::{RunPlace, RunRef};
use crate::stored_objects::{OBJECTS_AT_ONCE, ObjectError};

enum Place {
    File(PathBuf),
    Object {
        path: String,
        /// Where the lane's pieces begin and end, in order.
        pieces: Vec<(u64, u64)>,
    },
}

/// The runs of a Sort: their tables, and where to read them.
pub(super) struct ChosenRuns<'a> {
    job: &'a Job,
    places: Vec<Place>,
    /// What the engine sorts from.
    pub inputs: Vec<RunInput>,
    windows: Mutex<VecDeque<Window>>,
}

struct Window {
    run: usize,
    offset: u64,
    bytes: Bytes,
}

/// A run whose table cannot be used.
struct Damaged<'a> {
    run: &'a RunRef,
    file: Option<PathBuf>,
    why: String,
}

impl<'a> ChosenRuns<'a> {
    /// Opens the runs and reads the part of their tables that belongs to the lane.
    ///
    /// # Errors
    /// Those of the store. Runs that are missing or damaged: [`WorkFailure::damaged`] with the splits
    /// of all of them; files on the volume are kept aside (I3).
    pub(super) fn open(
        job: &'a Job,
        volume: &Volume,
        runs: &[&RunRef],
        index: u32,
        lane: u32,
    ) -> Result<Self, WorkFailure> {
        let opened = in_parallel(runs, OBJECTS_AT_ONCE, |run| {
            job.shared.go_on()?;
            open_one(job, volume, run, index, lane)
        })?;
        let mut places = Vec::with_capacity(runs.len());
        let mut inputs = Vec::with_capacity(runs.len());
        let mut damaged = Vec::new();
        for (run, opened) in runs.iter().zip(opened) {
            match opened {
                Ok((place, table)) => {
                    places.push(place);
                    inputs.push(RunInput { table, splits: run.splits.clone(), name: run.name.clone() });
                }
                Err(one) => damaged.push(one),
            }
        }
        if damaged.is_empty() {
            return Ok(Self { job, places, inputs, windows: Mutex::default() });
        }
        for Damaged { run: _, file, why } in &damaged {
            if let Some(file) = file {
                keep_aside(volume, file, why);
            }
        }
        let first = damaged.first().map(|one| format!("run {}: {}", one.run.name, one.why)).unwrap_or_default();
        let splits = damaged.iter().flat_map(|one| one.run.splits.iter().copied()).collect();
        Err(WorkFailure::damaged(
            splits,
            format!("{} of {} runs are missing or damaged, the first is {first}", damaged.len(), runs.len()),
        ))
    }

    pub(super) fn entries(&self, index: u32, lane: u32) -> u64 {
        self.inputs.iter().flat_map(|run| run.table.pieces(index, lane)).map(|piece| piece.entries).sum()
    }

    /// Bytes of the lane in all runs.
    pub(super) fn bytes(&self, index: u32, lane: u32) -> u64 {
        self.inputs.iter().flat_map(|run| run.table.pieces(index, lane)).map(|piece| piece.len).sum()
    }

    /// Keeps damaged runs of this volume for inspection; what is in the store stays there anyway.
    pub(super) fn keep_aside(&self, volume: &Volume, runs: &[usize], why: &str) {
        for run in runs {
            match self.places.get(*run) {
                Some(Place::File(path)) => keep_aside(volume, path, why),
                Some(Place::Object { .. }) | None => {}
            }
        }
    }

    fn fetch(
        &self,
        run: usize,
        path: &str,
        pieces: &[(u64, u64)],
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), BoxError> {
        let len = buf.len() as u64;
        let copy = |from: &Bytes, at: u64, buf: &mut [u8]| -> Result<(), BoxError> {
            let begin = usize::try_from(at)?;
            let part = from.get(begin..begin + buf.len()).ok_or("the store sent less than was asked for")?;
            buf.copy_from_slice(part);
            Ok(())
        };
        {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let hit = windows.iter().find(|window| {
                window.run == run
                    && window.offset <= offset
                    && offset + len <= window.offset + window.bytes.len() as u64
            });
            if let Some(Window { run: _, offset: begin, bytes }) = hit {
                let (bytes, begin) = (bytes.clone(), *begin);
                drop(windows);
                return copy(&bytes, offset - begin, buf);
            }
        }
        // Small neighbouring pieces of the lane come in one request.
        let limit = offset + self.job.budget.window.max(len);
        let end = pieces.iter().map(|(_, end)| *end).filter(|end| *end <= limit).max().unwrap_or(0).max(offset + len);
        let bytes = self.job.objects.get_range(path, offset..end)?;
        copy(&bytes, 0, buf)?;
        if end > offset + len {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            while windows.len() >= self.job.budget.windows {
                windows.pop_front();
            }
            windows.push_back(Window { run, offset, bytes });
        }
        Ok(())
    }
}

impl PieceReader for ChosenRuns<'_> {
    fn read_at(&self, run: usize, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        match self.places.get(run) {
            // Opened anew for each piece of some MiB: thousands of runs must not hold thousands of
            // descriptors. Never mapped: in a memory-limited pod that was 16 times slower.
            Some(Place::File(path)) => Ok(File::open(path)?.read_exact_at(buf, offset)?),
            Some(Place::Object { path, pieces }) => self.fetch(run, path, pieces, offset, buf),
            None => Err(format!("there is no run {run}").into()),
        }
    }
}

type Opened<'r> = Result<(Place, RunTable), Damaged<'r>>;

fn open_one<'r>(job: &Job, volume: &Volume, run: &'r RunRef, index: u32, lane: u32) -> Result<Opened<'r>, WorkFailure> {
    let (read, file) = match &run.place {
        RunPlace::Volume { attempt } => {
            let path = volume.run_path(attempt, &run.name);
            let read = File::open(&path).map_err(BoxError::from).and_then(|file| {
                let length = file.metadata()?.len();
                if length == run.bytes {
                    RunTable::read_with_digest(&file)
                } else {
                    Err(format!("its length is {length}, {} was sealed", run.bytes).into())
                }
            });
            (read, Some(path))
        }
        RunPlace::Store { path } => {
            (RunTable::read_with_digest(&StoredRun { objects: &job.objects, path, bytes: run.bytes }), None)
        }
    };
    let why = match read {
        Ok((table, digest)) if digest == run.table_digest => {
            let table = table.only(index, lane);
            let place = match (&run.place, file) {
                (RunPlace::Volume { .. }, Some(path)) => Place::File(path),
                (RunPlace::Volume { .. } | RunPlace::Store { .. }, _) => {
                    let mut pieces: Vec<(u64, u64)> =
                        table.pieces(index, lane).map(|piece| (piece.offset, piece.offset + piece.len)).collect();
                    pieces.sort_unstable();
                    let path = match &run.place {
                        RunPlace::Store { path } => path.clone(),
                        RunPlace::Volume { .. } => {
                            return Err(WorkFailure::internal("a run on a volume without a path"));
                        }
                    };
                    Place::Object { path, pieces }
                }
            };
            return Ok(Ok((place, table)));
        }
        Ok((_, digest)) => format!("the digest of its table is {digest}, {} was sealed", run.table_digest),
        Err(error) => match error.downcast::<ObjectError>() {
            Ok(error) if !error.is_loss() => return Err((*error).into()),
            Ok(error) => chain(error.as_ref()),
            Err(error) => chain(error.as_ref()),
        },
    };
    Ok(Err(Damaged { run, file, why }))
}

/// Keeps a damaged file for inspection. Not being able to is no reason to fail: the splits are
/// encoded again in either case.
fn keep_aside(volume: &Volume, path: &std::path::Path, why: &str) {
    if path.exists()
        && let Err(error) = volume.quarantine(path, why)
    {
        tracing::warn!(path = %path.display(), %error, "a damaged run cannot be kept aside");
    }
}
