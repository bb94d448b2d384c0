//! The bytes of the needed column chunks, for the Parquet decoder. They are read ahead within a budget, and a page's size is
//! checked before the page is read.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::page_header;
use crate::error::SourceError;
use crate::files::{OpenFile, Window};

/// The most bytes that one reader holds or has under way for one column.
const COLUMN_AHEAD: usize = 4 << 20;
/// The most bytes for all its columns, or half the budget of a page if that is less.
const READER_AHEAD: usize = 16 << 20;
const SMALLEST_BLOCK: usize = 64 << 10;

/// A column chunk that will be read.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) row_group: usize,
    pub(super) column: usize,
}

/// The header of a column's next page.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    /// Whether the next bytes that are asked for are its header.
    expected: bool,
    /// Its uncompressed and its compressed size, once its header was read.
    sizes: Option<(u64, u64)>,
}

/// The needed chunks of one split.
pub(super) struct Chunks {
    file: Arc<OpenFile>,
    chunks: Vec<Chunk>,
    names: Vec<String>,
    /// One per column: its chunks of several row groups are read one after the other, so that one buffer is enough.
    windows: Vec<Mutex<Option<(usize, Window)>>>,
    headers: Vec<Mutex<Header>>,
    block: usize,
    page_budget: u64,
    /// The decoder's errors hold text only; the cause is kept here.
    failure: Mutex<Option<SourceError>>,
}

/// Shared by the decoder, which reads, and the reader, which asks what went wrong.
#[derive(Clone)]
pub(super) struct SharedChunks(Arc<Chunks>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedChunks {
    pub(super) fn new(file: OpenFile, mut chunks: Vec<Chunk>, names: Vec<String>, page_budget: u64) -> Self {
        chunks.sort_unstable_by_key(|chunk| chunk.start);
        // Two blocks per column at most: the one in use and the one under way.
        let ahead = usize::try_from(page_budget / 2).unwrap_or(usize::MAX).min(READER_AHEAD);
        let block = (ahead / names.len().max(1)).clamp(2 * SMALLEST_BLOCK, COLUMN_AHEAD) / 2;
        let windows = names.iter().map(|_| Mutex::new(None)).collect();
        let headers = names.iter().map(|_| Mutex::default()).collect();
        Self(Arc::new(Chunks {
            file: Arc::new(file),
            chunks,
            names,
            windows,
            headers,
            block,
            page_budget,
            failure: Mutex::new(None),
        }))
    }

    /// The most bytes that are read ahead, of all columns together.
    pub(super) fn read_ahead(&self) -> u64 {
        if self.0.file.is_remote() { (self.0.names.len() * self.0.block * 2) as u64 } else { 0 }
    }

    /// Why the decoder was refused bytes, if it was.
    pub(super) fn take_failure(&self) -> Option<SourceError> {
        lock(&self.0.failure).take()
    }

    fn refuse(&self, error: SourceError) -> ParquetError {
        let text = error.to_string();
        lock(&self.0.failure).get_or_insert(error);
        ParquetError::General(text)
    }

    /// Notes that the next bytes read from the column are a page's header.
    pub(super) fn expect_header(&self, column: usize) {
        if let Some(header) = self.0.headers.get(column) {
            lock(header).expected = true;
        }
    }

    /// The uncompressed and the compressed size of the page whose header was read last.
    pub(super) fn sizes(&self, column: usize) -> Option<(u64, u64)> {
        let mut header = lock(self.0.headers.get(column)?);
        header.expected = false;
        header.sizes
    }

    fn column(&self, column: usize) -> String {
        self.0.names.get(column).cloned().unwrap_or_default()
    }

    pub(super) fn refuse_pages(&self, column: usize, row_group: usize, bytes: u64, budget: u64) -> ParquetError {
        self.refuse(SourceError::PagesTooLarge {
            url: self.0.file.file().url().to_owned(),
            row_group,
            column: self.column(column),
            columns: self.0.names.len(),
            bytes,
            budget,
        })
    }

    pub(super) fn refuse_value(&self, column: usize, row_group: usize, bytes: u64, budget: u64) -> ParquetError {
        self.refuse(self.value_too_large(column, row_group, bytes, budget))
    }

    pub(super) fn value_too_large(&self, column: usize, row_group: usize, bytes: u64, budget: u64) -> SourceError {
        SourceError::ValueTooLarge {
            url: self.0.file.file().url().to_owned(),
            row_group,
            column: self.column(column),
            bytes,
            budget,
        }
    }

    pub(super) fn refuse_damage(&self, column: usize, row_group: usize, detail: &str) -> ParquetError {
        ParquetError::General(format!("column {:?} of row group {row_group}: {detail}", self.column(column)))
    }

    fn chunk_at(&self, start: u64) -> Option<(usize, &Chunk)> {
        let after = self.0.chunks.partition_point(|chunk| chunk.start <= start);
        let at = after.checked_sub(1)?;
        let chunk = self.0.chunks.get(at)?;
        (start < chunk.end).then_some((at, chunk))
    }

    /// At least `least` bytes from `start` on, fewer only at the end of the chunk.
    fn bytes_at(&self, start: u64, least: usize) -> Result<Bytes, SourceError> {
        let chunk = self.chunk_at(start);
        let end = chunk.map_or(self.0.file.file().size(), |(_, chunk)| chunk.end);
        let window = chunk.and_then(|(at, chunk)| Some((at, chunk, self.0.windows.get(chunk.column)?)));
        let Some((at, chunk, window)) = window.filter(|_| self.0.file.is_remote()) else {
            // A local file is read page by page, without a copy: the system's page cache reads ahead. Some writers give
            // chunks a wrong length; what lies outside is read like that, too.
            let left = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            return self.0.file.read(start, least.min(left));
        };
        let mut window = lock(window);
        let held = match &mut *window {
            Some((held, window)) if *held == at => window,
            other => {
                let fresh = Window::new(Arc::clone(&self.0.file), chunk.start, chunk.end, self.0.block);
                &mut other.insert((at, fresh)).1
            }
        };
        held.at(start, least)
    }

    /// Notes a page's sizes if its header is what is read now, and refuses one that is over budget.
    fn check_header(&self, start: u64) -> Result<(), SourceError> {
        let Some((_, chunk)) = self.chunk_at(start) else { return Ok(()) };
        let Some(header) = self.0.headers.get(chunk.column) else { return Ok(()) };
        let mut header = lock(header);
        if !std::mem::take(&mut header.expected) {
            return Ok(());
        }
        header.sizes = page_header::sizes(&self.bytes_at(start, page_header::SIZES_LENGTH)?);
        let Some((uncompressed, compressed)) = header.sizes else { return Ok(()) };
        let bytes = uncompressed.max(compressed);
        if bytes <= self.0.page_budget {
            return Ok(());
        }
        Err(SourceError::PageTooLarge {
            url: self.0.file.file().url().to_owned(),
            row_group: chunk.row_group,
            column: self.column(chunk.column),
            bytes,
            budget: self.0.page_budget,
        })
    }
}

impl Length for SharedChunks {
    fn len(&self) -> u64 {
        self.0.file.file().size()
    }
}

impl ChunkReader for SharedChunks {
    type T = ChunkStream;

    /// The decoder calls this at the start of each page header, and of each page.
    fn get_read(&self, start: u64) -> Result<ChunkStream, ParquetError> {
        self.check_header(start).map_err(|error| self.refuse(error))?;
        Ok(ChunkStream { chunks: self.clone(), at: start, bytes: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.bytes_at(start, length).map_err(|error| self.refuse(error))?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} reach beyond the column's chunk")));
        }
        Ok(bytes.slice(..length))
    }
}

/// Reads on from a place in a chunk, for page headers.
pub(super) struct ChunkStream {
    chunks: SharedChunks,
    at: u64,
    bytes: Bytes,
}

impl Read for ChunkStream {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = self
                .chunks
                .bytes_at(self.at, target.len().max(256))
                .map_err(|error| std::io::Error::other(self.chunks.refuse(error)))?;
        }
        let length = target.len().min(self.bytes.len());
        let read = self.bytes.split_to(length);
        if let Some(target) = target.get_mut(..length) {
            target.copy_from_slice(&read);
        }
        self.at += length as u64;
        Ok(length)
    }
}
