//! The bytes of the needed column chunks. Those of object stores are read ahead within a budget.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::thrift::Octets;
use crate::error::SourceError;
use crate::files::{OpenFile, Window};

/// The most bytes that one reader holds or has under way for one column.
const COLUMN_AHEAD: usize = 4 << 20;
/// The most bytes for all its columns, or half the budget of a page if that is less.
const READER_AHEAD: usize = 16 << 20;
const SMALLEST_BLOCK: usize = 64 << 10;

/// A column chunk that will be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) row_group: usize,
    /// Its number among the needed columns.
    pub(super) column: usize,
}

/// A column's block, and the chunk that it belongs to.
type ColumnWindow = Option<(u64, Window)>;

/// The needed chunks of one split.
pub(super) struct Chunks {
    file: Arc<OpenFile>,
    names: Vec<String>,
    /// One per column: its chunks of several row groups are read one after the other, so that one buffer is enough.
    windows: Vec<Mutex<ColumnWindow>>,
    block: usize,
    /// The decoder's errors hold text only; the cause is kept here.
    failure: Mutex<Option<SourceError>>,
}

/// Shared by the decoder, which reads, and the reader, which asks what went wrong.
#[derive(Clone)]
pub(super) struct SharedChunks(Arc<Chunks>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that are read ahead of so many columns, whatever the budget.
pub(super) fn most_read_ahead(columns: usize) -> u64 {
    (columns * block(columns, READER_AHEAD) * 2) as u64
}

/// Two blocks per column at most: the one in use and the one under way.
fn block(columns: usize, ahead: usize) -> usize {
    (ahead / columns.max(1)).clamp(2 * SMALLEST_BLOCK, COLUMN_AHEAD) / 2
}

impl SharedChunks {
    pub(super) fn new(file: OpenFile, names: Vec<String>, page_budget: u64) -> Self {
        let ahead = usize::try_from(page_budget / 2).unwrap_or(usize::MAX).min(READER_AHEAD);
        let block = block(names.len(), ahead);
        let windows = names.iter().map(|_| Mutex::new(None)).collect();
        Self(Arc::new(Chunks { file: Arc::new(file), names, windows, block, failure: Mutex::new(None) }))
    }

    pub(super) fn columns(&self) -> usize {
        self.0.names.len()
    }

    pub(super) fn is_remote(&self) -> bool {
        self.0.file.is_remote()
    }

    pub(super) fn file_size(&self) -> u64 {
        self.0.file.file().size()
    }

    /// The most bytes that are read ahead, of all columns together.
    pub(super) fn read_ahead(&self) -> u64 {
        if self.is_remote() { (self.columns() * self.0.block * 2) as u64 } else { 0 }
    }

    /// Why the decoder was refused bytes, if it was.
    pub(super) fn take_failure(&self) -> Option<SourceError> {
        lock(&self.0.failure).take()
    }

    /// An error for the decoder, whose cause the reader will find.
    pub(super) fn refuse(&self, error: SourceError) -> ParquetError {
        let text = error.to_string();
        lock(&self.0.failure).get_or_insert(error);
        ParquetError::General(text)
    }

    pub(super) fn column(&self, column: usize) -> String {
        self.0.names.get(column).cloned().unwrap_or_default()
    }

    pub(super) fn url(&self) -> String {
        self.0.file.file().url().to_owned()
    }

    pub(super) fn refuse_value(&self, column: usize, row_group: usize, bytes: u64, budget: u64) -> ParquetError {
        self.refuse(self.value_too_large(column, row_group, bytes, budget))
    }

    pub(super) fn value_too_large(&self, column: usize, row_group: usize, bytes: u64, budget: u64) -> SourceError {
        SourceError::ValueTooLarge { url: self.url(), row_group, column: self.column(column), bytes, budget }
    }

    pub(super) fn refuse_damage(&self, column: usize, row_group: usize, detail: &str) -> ParquetError {
        ParquetError::General(format!("column {:?} of row group {row_group}: {detail}", self.column(column)))
    }

    /// At least `least` bytes from `start` on, fewer only at the end of the chunk.
    fn bytes_at(&self, chunk: Chunk, start: u64, least: usize) -> Result<Bytes, SourceError> {
        let left = usize::try_from(chunk.end.saturating_sub(start)).unwrap_or(usize::MAX);
        let Some(window) = self.0.windows.get(chunk.column).filter(|_| self.is_remote()) else {
            // A local file is read page by page, without a copy: the system's page cache reads ahead.
            return self.0.file.read(start, least.min(left));
        };
        let mut window = lock(window);
        let held = match &mut *window {
            Some((held, window)) if *held == chunk.start => window,
            other => {
                let fresh = Window::new(Arc::clone(&self.0.file), chunk.start, chunk.end, self.0.block);
                &mut other.insert((chunk.start, fresh)).1
            }
        };
        held.at(start, least)
    }

    /// Exactly these bytes of a chunk.
    pub(super) fn bytes(&self, chunk: Chunk, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = if self.is_remote() && length > self.0.block {
            // Block by block: a window that had to hold all of them would hold them twice while it grows.
            let mut bytes = Vec::with_capacity(length);
            let mut stream = self.stream(chunk, start, self.0.block).take(length as u64);
            stream.read_to_end(&mut bytes).map_err(|error| ParquetError::General(error.to_string()))?;
            bytes.into()
        } else {
            self.bytes_at(chunk, start, length).map_err(|error| self.refuse(error))?
        };
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} reach beyond the column's chunk")));
        }
        Ok(bytes.slice(..length))
    }

    /// Reads on from a place in a chunk to its end, of a local file so many bytes at a time.
    pub(super) fn stream(&self, chunk: Chunk, at: u64, step: usize) -> ChunkStream {
        ChunkStream { chunks: self.clone(), chunk, at, step, bytes: Bytes::new() }
    }
}

pub(super) struct ChunkStream {
    chunks: SharedChunks,
    chunk: Chunk,
    at: u64,
    step: usize,
    /// Those from `at` on that were read.
    bytes: Bytes,
}

impl ChunkStream {
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Reads more if there are none at hand; at the chunk's end there are none afterwards.
    fn fill(&mut self) -> ParquetResult<()> {
        if self.bytes.is_empty() && self.at < self.chunk.end {
            // Of an object store, what the window holds: more at once would be copied together.
            let least = if self.chunks.is_remote() { 1 } else { self.step };
            let bytes = self.chunks.bytes_at(self.chunk, self.at, least);
            self.bytes = bytes.map_err(|error| self.chunks.refuse(error))?;
        }
        Ok(())
    }
}

impl Octets for ChunkStream {
    fn octet(&mut self) -> ParquetResult<u8> {
        self.fill()?;
        let first = self.bytes.first().copied();
        let first = first.ok_or_else(|| ParquetError::EOF("it reaches beyond the column's chunk".to_owned()))?;
        self.pass(1)?;
        Ok(first)
    }

    fn pass(&mut self, bytes: u64) -> ParquetResult<()> {
        if bytes > self.chunk.end.saturating_sub(self.at) {
            return Err(ParquetError::EOF("it reaches beyond the column's chunk".to_owned()));
        }
        let held = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.advance(held);
        self.at += bytes;
        Ok(())
    }
}

impl Read for ChunkStream {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        self.fill().map_err(std::io::Error::other)?;
        let length = target.len().min(self.bytes.len());
        if let Some(target) = target.get_mut(..length) {
            self.bytes.copy_to_slice(target);
        }
        self.at += length as u64;
        Ok(length)
    }
}
