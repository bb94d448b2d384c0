//! Entries of a range, or of a part of one, that wait to be sorted: in memory or in a spill file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use indexbuild_durable::fault::{self, Op};

use super::kept_apart::KeptApart;
use super::spill::{SpillFile, SpillFolder};
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

#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) packed: Stored,
    pub(crate) general: Stored,
    /// Entries of any kind that are too long to be copied.
    pub(crate) apart: KeptApart,
    /// All entries are the same: it cannot be cut.
    pub(crate) identical: bool,
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
        let path = self.file.get_or_insert_with(|| folder.file(kind)).path();
        let mut file = fault::step(Op::Create, path, || OpenOptions::new().append(true).create(true).open(path))
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
        if let Some(file) = &self.file {
            read_through(file.path(), &mut take)?;
        }
        Ok(())
    }

    /// As [`Stored::consume`], but leaves the entries where they are.
    pub(crate) fn read(&self, mut take: impl FnMut(&[u8]) -> Result<usize, EngineError>) -> Result<(), EngineError> {
        for chunk in &self.chunks {
            take(&chunk.bytes)?;
        }
        if let Some(file) = &self.file {
            read_through(file.path(), &mut take)?;
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
