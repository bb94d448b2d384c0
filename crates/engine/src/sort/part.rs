//! Entries of a range, or of a part of one, that wait to be sorted: in memory or in a spill file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use indexbuild_durable::fault::{self, Op};

use super::kept_apart::KeptApart;
use crate::buffers::Chunk;
use crate::error::{At as _, EngineError};
use crate::frames::Frames;
use crate::frames::PieceKind;

/// How much of a spill file is read at once.
const READ: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    chunks: Vec<Chunk>,
    file: Option<SpillFile>,
}

/// A file of this job alone. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct SpillFile(PathBuf);

impl SpillFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // Best effort: the attempt removes its whole spill folder when it ends.
        let _ = fs::remove_file(&self.0);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) packed: Stored,
    pub(crate) general: Stored,
    /// Entries of any kind that are too long to be copied.
    pub(crate) apart: KeptApart,
    /// All entries are the same: it cannot be cut.
    pub(crate) identical: bool,
}

/// Where a job's spill files go.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    folder: PathBuf,
    next: AtomicU32,
}

impl SpillFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, next: AtomicU32::new(0) }
    }

    /// A file that is not there yet.
    pub(crate) fn file(&self, kind: PieceKind) -> SpillFile {
        SpillFile(self.fresh(kind))
    }

    fn fresh(&self, kind: PieceKind) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.folder.join(match kind {
            PieceKind::Packed => format!("{number:06}.packed"),
            PieceKind::General => format!("{number:06}.general"),
        })
    }
}

impl Part {
    pub(crate) fn of(&mut self, kind: PieceKind) -> &mut Stored {
        match kind {
            PieceKind::Packed => &mut self.packed,
            PieceKind::General => &mut self.general,
        }
    }

    pub(crate) fn entries(&self) -> u64 {
        self.packed.entries + self.general.entries + self.apart.entries()
    }
}

impl Stored {
    pub(crate) fn keep(&mut self, chunks: Vec<Chunk>) {
        for chunk in &chunks {
            self.entries += chunk.entries;
            self.bytes += chunk.bytes.len() as u64;
        }
        self.chunks.extend(chunks);
    }

    /// Appends chunks to the spill file. Opened anew each time: a lane may have more parts than a
    /// process may have open files. Returns the bytes written.
    pub(crate) fn spill(
        &mut self,
        chunks: &[Chunk],
        kind: PieceKind,
        folder: &SpillFolder,
    ) -> Result<u64, EngineError> {
        if chunks.is_empty() {
            return Ok(0);
        }
        let SpillFile(path) = self.file.get_or_insert_with(|| SpillFile(folder.fresh(kind)));
        let mut file = fault::step(Op::Create, path, || OpenOptions::new().append(true).create(true).open(&*path))
            .at("create", path)?;
        let mut written = 0;
        for chunk in chunks {
            fault::step(Op::Write, path, || file.write_all(&chunk.bytes)).at("write", path)?;
            self.entries += chunk.entries;
            written += chunk.bytes.len() as u64;
        }
        self.bytes += written;
        Ok(written)
    }

    /// Passes all bytes to `take`, which returns how many of them it used (whole entries only); it gets the rest
    /// again with the bytes that follow. Then memory and file are freed.
    pub(crate) fn consume(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<usize, EngineError>,
    ) -> Result<(), EngineError> {
        for chunk in self.chunks.drain(..) {
            take(&chunk.bytes)?;
        }
        if let Some(SpillFile(path)) = &self.file {
            read_through(path, &mut take)?;
        }
        Ok(())
    }

    /// As [`Stored::consume`], but leaves the entries where they are.
    pub(crate) fn read(&self, mut take: impl FnMut(&[u8]) -> Result<usize, EngineError>) -> Result<(), EngineError> {
        for chunk in &self.chunks {
            take(&chunk.bytes)?;
        }
        if let Some(SpillFile(path)) = &self.file {
            read_through(path, &mut take)?;
        }
        Ok(())
    }
}

fn read_through(path: &Path, take: &mut impl FnMut(&[u8]) -> Result<usize, EngineError>) -> Result<(), EngineError> {
    let mut file = File::open(path).at("open", path)?;
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            // An entry larger than the buffer.
            buffer.resize(buffer.len() * 2, 0);
        }
        let read = file.read(&mut buffer[filled..]).at("read", path)?;
        filled += read;
        let at_end = read == 0;
        if !at_end && filled < buffer.len() {
            continue;
        }
        let used = take(&buffer[..filled])?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if at_end {
            return if filled == 0 { Ok(()) } else { Err(torn(path, filled)) };
        }
    }
}

fn torn(path: &Path, rest: usize) -> EngineError {
    EngineError::Disagrees {
        what: format!("bytes after the last entry of {}", path.display()),
        expected: 0,
        found: rest as u64,
    }
}

/// Bytes of whole packed entries at the begin of `bytes`.
pub(crate) fn whole_packed(bytes: &[u8], width: usize) -> &[u8] {
    &bytes[..bytes.len() - bytes.len() % width]
}

/// Calls `each` with every whole frame; returns the bytes they take.
pub(crate) fn each_frame<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(crate::frames::FrameRef<'a>) -> Result<(), EngineError>,
) -> Result<usize, EngineError> {
    let mut frames = Frames::new(bytes);
    for frame in frames.by_ref() {
        each(frame)?;
    }
    Ok(bytes.len() - frames.rest().len())
}
