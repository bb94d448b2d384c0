//! Fetches a lane's pieces of all runs, checks each, and scatters the entries into parts of ranges.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use indexbuild_index::PackedLayout;
use xxhash_rust::xxh3::xxh3_128;

use super::part::{Part, each_frame};
use super::spill::SpillFolder;
use super::{Destination, SortJob};
use crate::buffers::{Buffers, useful_bytes};
use crate::control::{StepTimes, thread_cpu, timed};
use crate::error::{BoxError, EngineError};
use crate::frames::{LONG_ENTRY, PieceKind};
use crate::packed;
use crate::route::Router;
use crate::run::PieceRef;
use crate::threads;

/// Bytes of a piece that are read at once: all, of those of many entries.
const READ_AT_ONCE: usize = 4 << 20;

/// A piece of a run of the job's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) run: usize,
    pub(crate) at: PieceRef,
}

/// What the fetching threads share.
pub(crate) struct Fetch<'f, 'j> {
    pub(crate) job: &'f SortJob<'j>,
    pub(crate) layout: Option<&'f PackedLayout>,
    pub(crate) pieces: &'f [Piece],
    pub(crate) destinations: &'f [Destination],
    pub(crate) router: Router,
    pub(crate) folder: &'f SpillFolder,
    /// Bytes of scattered entries kept in memory before they are spilled; `None`: all fit.
    pub(crate) spill_above: Option<u64>,
    /// Bytes of all pieces, where all fit.
    pub(crate) in_memory: u64,
    /// Held by the thread that has a long entry in memory.
    pub(crate) alone: Mutex<()>,
}

pub(crate) struct Fetched {
    pub(crate) parts: Vec<Part>,
    /// Entries that went to ranges sealed before, by destination.
    pub(crate) passed: Vec<u64>,
    pub(crate) stats: StepTimes,
}

impl Fetch<'_, '_> {
    pub(crate) fn run(&self) -> Result<Fetched, EngineError> {
        let Self { job, pieces, destinations, .. } = self;
        let threads = job.threads.clamp(1, pieces.len().max(1));
        let parts: Vec<Mutex<Part>> = destinations.iter().map(|_| Mutex::default()).collect();
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let damaged: Mutex<Vec<(usize, String)>> = Mutex::default();
        let accounts = threads::run(threads, |_| {
            let mut worker = Worker {
                fetch: self,
                parts: &parts,
                buffers: match self.spill_above {
                    Some(most) => {
                        Buffers::new(destinations.len(), useful_bytes(destinations.len(), most / threads as u64))
                    }
                    None => Buffers::new(destinations.len(), self.in_memory / threads as u64),
                },
                passed: vec![0; destinations.len()],
                bytes: Vec::new(),
                packed: Vec::new(),
                stats: StepTimes::default(),
            };
            let outcome = worker.all(&next, &failed, &damaged);
            if outcome.is_err() {
                failed.store(true, Ordering::SeqCst);
            }
            worker.stats.cpu = thread_cpu();
            outcome.map(|()| (worker.passed, worker.stats))
        })?;
        let damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !damaged.is_empty() {
            return Err(self.damage(damaged));
        }
        let mut fetched = Fetched {
            parts: parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner)).collect(),
            passed: vec![0; destinations.len()],
            stats: StepTimes::default(),
        };
        fetched.stats.bytes_spilled = fetched.parts.iter().map(|part| part.apart.bytes()).sum();
        for (passed, stats) in accounts {
            fetched.stats.merge(&stats);
            for (sum, count) in fetched.passed.iter_mut().zip(passed) {
                *sum += count;
            }
        }
        Ok(fetched)
    }

    fn damage(&self, mut damaged: Vec<(usize, String)>) -> EngineError {
        damaged.sort();
        let runs: BTreeSet<usize> = damaged.iter().map(|(run, _)| *run).collect();
        let splits: BTreeSet<u32> = runs.iter().flat_map(|run| self.job.runs[*run].splits.iter().copied()).collect();
        EngineError::Damaged {
            names: runs.iter().map(|run| self.job.runs[*run].name.clone()).collect(),
            runs: runs.into_iter().collect(),
            splits: splits.into_iter().collect(),
            what: damaged.swap_remove(0).1,
        }
    }

    pub(crate) fn read(&self, piece: &Piece, length: u64, bytes: &mut Vec<u8>) -> Result<(), EngineError> {
        let run = &self.job.runs[piece.run];
        let failed = |source: BoxError| EngineError::Fetch {
            run: run.name.clone(),
            offset: piece.at.offset,
            len: length,
            source,
        };
        bytes.clear();
        bytes.resize(usize::try_from(length).map_err(|error| failed(error.into()))?, 0);
        // In steps: a store's answer is in memory beside the piece.
        for (step, part) in (0..).zip(bytes.chunks_mut(READ_AT_ONCE)) {
            let offset = piece.at.offset + step * READ_AT_ONCE as u64;
            self.job.reader.read_at(piece.run, offset, part).map_err(failed)?;
        }
        Ok(())
    }
}

struct Worker<'w, 'f, 'j> {
    fetch: &'w Fetch<'f, 'j>,
    parts: &'w [Mutex<Part>],
    buffers: Buffers,
    passed: Vec<u64>,
    bytes: Vec<u8>,
    packed: Vec<u128>,
    stats: StepTimes,
}

impl Worker<'_, '_, '_> {
    fn all(
        &mut self,
        next: &AtomicUsize,
        failed: &AtomicBool,
        damaged: &Mutex<Vec<(usize, String)>>,
    ) -> Result<(), EngineError> {
        let fetch = self.fetch;
        while let Some(piece) = fetch.pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            if fetch.job.control.is_cancelled() || failed.load(Ordering::Relaxed) {
                return Err(EngineError::Cancelled);
            }
            let long = piece.at.is_long();
            let alone = long.then(|| fetch.alone.lock().unwrap_or_else(PoisonError::into_inner));
            let mut stats = std::mem::take(&mut self.stats);
            let whole = timed(&mut stats.fetch, || {
                fetch
                    .read(piece, piece.at.len, &mut self.bytes)
                    .map(|()| fetch.job.attempt.test_switches.trust_runs || xxh3_128(&self.bytes) == piece.at.digest)
            });
            let read = whole.and_then(|whole| {
                stats.bytes_read += piece.at.len;
                stats.rows += piece.at.entries;
                if whole { timed(&mut stats.scatter, || self.scatter(piece)) } else { Ok(false) }
            });
            self.stats = stats;
            if long {
                self.bytes = Vec::new();
            }
            drop(alone);
            if !read? {
                // The other pieces are still checked: one repair then covers all damage.
                let run = &fetch.job.runs[piece.run].name;
                let PieceRef { offset, len, .. } = piece.at;
                let what = format!("{len} bytes at {offset} of run {run} are not what was sealed");
                tracing::warn!(run, offset, len, "a damaged piece");
                damaged.lock().unwrap_or_else(PoisonError::into_inner).push((piece.run, what));
                continue;
            }
            fetch.job.control.add_rows(piece.at.entries);
            fetch.job.control.add_bytes(piece.at.len);
            if fetch.spill_above.is_some() && self.buffers.is_full() {
                self.empty()?;
            }
        }
        self.empty()
    }

    /// Whether the piece held what its table says.
    fn scatter(&mut self, piece: &Piece) -> Result<bool, EngineError> {
        let Self { fetch, parts, buffers, passed, bytes, packed, .. } = self;
        let Fetch { layout, destinations, router, folder, .. } = fetch;
        match (piece.at.kind, layout) {
            (PieceKind::Packed, Some(layout)) => {
                let width = layout.width();
                if bytes.len() as u64 != piece.at.entries * width as u64 {
                    return Ok(false);
                }
                // In steps that stay in the processor's cache.
                for some in bytes.chunks(width * 4096) {
                    packed.clear();
                    packed::unpack(width, some, packed);
                    if destinations.iter().any(|destination| destination.sealed) {
                        packed.retain(|entry| {
                            let destination = router.packed(*entry);
                            let sealed = destinations[destination].sealed;
                            passed[destination] += u64::from(sealed);
                            !sealed
                        });
                    }
                    packed::scatter(width, packed, router, buffers);
                }
                Ok(true)
            }
            (PieceKind::Packed, None) => Ok(false),
            (PieceKind::General, _) => {
                let mut entries = 0;
                let used = each_frame(bytes, |frame| {
                    entries += 1;
                    let destination = router.general(frame.key, frame.value);
                    if destinations[destination].sealed {
                        passed[destination] += 1;
                    } else if frame.bytes.len() > LONG_ENTRY {
                        parts[destination].lock().unwrap_or_else(PoisonError::into_inner).apart.add(&frame, folder)?;
                    } else {
                        buffers.push(destination, PieceKind::General, frame.bytes);
                    }
                    Ok(())
                })?;
                Ok(used == bytes.len() && entries == piece.at.entries)
            }
        }
    }

    fn empty(&mut self) -> Result<(), EngineError> {
        let Self { fetch, parts, buffers, stats, .. } = self;
        timed(&mut stats.spill, || {
            for (destination, part) in parts.iter().enumerate() {
                for kind in PieceKind::BOTH {
                    let chunks = buffers.take(destination, kind);
                    if chunks.is_empty() {
                        continue;
                    }
                    let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
                    if fetch.spill_above.is_some() {
                        stats.bytes_spilled += part.of(kind).spill(&chunks, kind, fetch.folder)?;
                        drop(part);
                        buffers.recycle(chunks);
                    } else {
                        part.of(kind).keep(chunks);
                    }
                }
            }
            Ok(())
        })
    }
}
