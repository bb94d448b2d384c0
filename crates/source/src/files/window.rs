//! Reading forward through a range of a file, a block at a time.

use std::sync::Arc;

use bytes::Bytes;

use super::pinned::{OpenFile, PendingRead};
use crate::error::SourceError;

/// A buffer that moves forward through a range of a file.
///
/// It holds one block and, of a remote file, has the next one under way: two blocks of memory at most, unless more than a
/// block is asked for at once.
pub(crate) struct Window {
    file: Arc<OpenFile>,
    /// The byte after the range; nothing beyond is read.
    end: u64,
    block: usize,
    start: u64,
    buffer: Bytes,
    ahead: Option<(u64, PendingRead)>,
}

impl Window {
    pub(crate) fn new(file: Arc<OpenFile>, start: u64, end: u64, block: usize) -> Self {
        Self { file, end, block: block.max(1), start, buffer: Bytes::new(), ahead: None }
    }

    /// At least `least` bytes from `start` on, fewer only where the range ends before.
    pub(crate) fn at(&mut self, start: u64, least: usize) -> Result<Bytes, SourceError> {
        let left = self.end.saturating_sub(start);
        let least = usize::try_from(left).map_or(least, |left| least.min(left));
        if let Some(held) = self.held(start)
            && held.len() >= least
        {
            return Ok(held);
        }
        let tail = self.held(start).unwrap_or_default();
        let mut next = start + tail.len() as u64;
        let mut buffer = tail;
        while buffer.len() < least {
            let piece = self.piece(next, least - buffer.len(), &buffer)?;
            next = start + piece.len() as u64;
            buffer = piece;
        }
        (self.start, self.buffer) = (start, buffer.clone());
        self.read_ahead(next)?;
        Ok(buffer)
    }

    fn held(&self, start: u64) -> Option<Bytes> {
        let skip = usize::try_from(start.checked_sub(self.start)?).ok()?;
        (skip < self.buffer.len()).then(|| self.buffer.slice(skip..))
    }

    /// `tail` and what follows it from `next` on, at least `least` bytes of that.
    fn piece(&mut self, next: u64, least: usize, tail: &Bytes) -> Result<Bytes, SourceError> {
        if let Some((at, pending)) = self.ahead.take()
            && at == next
        {
            return Ok(joined(tail, self.file.finish(pending)?));
        }
        let length = self.clipped(next, least.max(self.block.saturating_sub(tail.len())));
        if self.file.is_remote() {
            return Ok(joined(tail, self.file.read(next, length)?));
        }
        let mut bytes = Vec::with_capacity(tail.len() + length);
        bytes.extend_from_slice(tail);
        self.file.append(next, length, &mut bytes)?;
        Ok(bytes.into())
    }

    fn read_ahead(&mut self, next: u64) -> Result<(), SourceError> {
        let length = self.clipped(next, self.block);
        if self.file.is_remote() && length > 0 {
            self.ahead = Some((next, self.file.start(next, length)?));
        }
        Ok(())
    }

    fn clipped(&self, start: u64, length: usize) -> usize {
        usize::try_from(self.end.saturating_sub(start)).map_or(length, |left| length.min(left))
    }
}

fn joined(tail: &Bytes, piece: Bytes) -> Bytes {
    if tail.is_empty() {
        return piece;
    }
    let mut bytes = Vec::with_capacity(tail.len() + piece.len());
    bytes.extend_from_slice(tail);
    bytes.extend_from_slice(&piece);
    bytes.into()
}
