//! A CSV file's text, which may be compressed: then it is unpacked from its start, a block at a time, whenever it is read.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;

use super::kinds::{Packing, packing_of};
use crate::error::SourceError;
use crate::files::{OpenFile, Window};

/// What is read of a compressed file at once.
const PACKED_BLOCK: usize = 1 << 20;
/// zstd's decoder keeps as much of the text as the file says; files of all levels but `--ultra` and `--long` need at most this.
const LARGEST_WINDOW_LOG: u32 = 23;
/// So many bytes tell what a file is.
const MAGIC: usize = 16;

/// A file, and how its text is to be had.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) file: Arc<OpenFile>,
    packing: Packing,
}

/// Reads forward through a text.
pub(super) enum TextWindow {
    Plain(Window, u64),
    Packed(Box<Unpacking>),
}

impl Text {
    /// A text whose beginning is looked at; of a plain file also a window from its start to its `end`, if that is known: both
    /// are one read.
    pub(super) fn of(
        file: &Arc<OpenFile>,
        end: Option<u64>,
        block: usize,
    ) -> Result<(Self, Option<TextWindow>), SourceError> {
        let size = file.file().size();
        let end = end.map_or(size, |end| end.min(size));
        let mut window = Window::new(Arc::clone(file), 0, end, block);
        let wanted = usize::try_from(size).map_or(MAGIC, |size| size.min(MAGIC));
        let mut first = window.at(0, wanted)?;
        if first.len() < wanted {
            first = file.read(0, wanted)?;
        }
        let packing = packing_of(file.file().url(), &first)?;
        let text = Self { file: Arc::clone(file), packing };
        Ok((text, (packing == Packing::None).then_some(TextWindow::Plain(window, end))))
    }

    /// A window from its start to its `end`, if that is known: the one that it came with, or one in which it is unpacked.
    pub(super) fn begin(
        &self,
        plain: Option<TextWindow>,
        end: Option<u64>,
        block: usize,
    ) -> Result<TextWindow, SourceError> {
        if let Some(window) = plain {
            return Ok(window);
        }
        // What is inside may be of no kind that can be read either.
        let mut inside = self.window(0, None, MAGIC)?;
        if packing_of(self.file.file().url(), &inside.at(0, MAGIC)?)? != Packing::None {
            return Err(self.damaged("it is compressed twice"));
        }
        drop(inside);
        self.window(0, end, block)
    }

    /// A text that is known to be plain.
    pub(super) fn plain(file: &Arc<OpenFile>) -> Self {
        Self { file: Arc::clone(file), packing: Packing::None }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.packing != Packing::None
    }

    /// A window that begins at `start`, and ends at `end` or with the text.
    pub(super) fn window(&self, start: u64, end: Option<u64>, block: usize) -> Result<TextWindow, SourceError> {
        let size = self.file.file().size();
        let raw =
            || Raw { window: Window::new(Arc::clone(&self.file), 0, size, PACKED_BLOCK), at: 0, held: Bytes::new() };
        let reader: Box<dyn Read + Send> = match self.packing {
            Packing::None => {
                let end = end.map_or(size, |end| end.min(size));
                return Ok(TextWindow::Plain(Window::new(Arc::clone(&self.file), start, end, block), end));
            }
            // All members: some programs write one for each block, or append to a file.
            Packing::Gzip => Box::new(MultiGzDecoder::new(raw())),
            Packing::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(raw()).and_then(|mut decoder| {
                    decoder.window_log_max(LARGEST_WINDOW_LOG)?;
                    Ok(decoder)
                });
                Box::new(decoder.map_err(|error| SourceError::from_io(self.file.file().url(), error))?)
            }
        };
        let text = self.clone();
        Ok(TextWindow::Packed(Box::new(Unpacking {
            text,
            reader,
            start: 0,
            buffer: Bytes::new(),
            ended: false,
            end,
            block: block.max(1),
        })))
    }

    fn damaged(&self, detail: &str) -> SourceError {
        SourceError::Corrupt {
            url: self.file.file().url().to_owned(),
            format: self.packing.name(),
            detail: detail.to_owned(),
            source: None,
        }
    }

    /// Why it cannot be unpacked. A file that was replaced looks damaged: that is asked first.
    fn unpacking(&self, error: io::Error) -> SourceError {
        let error = match error.downcast::<SourceError>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        if let Err(changed) = self.file.file().check() {
            return changed;
        }
        let words = error.to_string();
        if error.kind() == ErrorKind::UnexpectedEof {
            return self.damaged("it is cut off: it ends in the midst of its data");
        }
        if self.packing == Packing::Zstd && words.contains("too much memory") {
            return self.damaged("it was compressed with a window of more than 8 MiB (--ultra or --long)");
        }
        self.damaged(&words)
    }
}

impl TextWindow {
    /// At least `least` bytes from `start` on, fewer only where the text ends before. `start` never goes back.
    pub(super) fn at(&mut self, start: u64, least: usize) -> Result<Bytes, SourceError> {
        match self {
            Self::Plain(window, _) => window.at(start, least),
            Self::Packed(unpacking) => unpacking.at(start, least),
        }
    }

    /// Whether the text is known to end at `at`, to which it was read.
    pub(super) fn ends_at(&self, at: u64) -> bool {
        match self {
            Self::Plain(_, end) => at >= *end,
            Self::Packed(unpacking) => unpacking.ended && at >= unpacking.start + unpacking.buffer.len() as u64,
        }
    }
}

/// A text that is being unpacked.
pub(super) struct Unpacking {
    text: Text,
    reader: Box<dyn Read + Send>,
    /// The place in the text of what the buffer holds.
    start: u64,
    buffer: Bytes,
    ended: bool,
    end: Option<u64>,
    block: usize,
}

impl Unpacking {
    fn at(&mut self, start: u64, least: usize) -> Result<Bytes, SourceError> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(start));
        let least = usize::try_from(left).map_or(least, |left| least.min(left));
        while start > self.start + self.buffer.len() as u64 && !self.ended {
            self.start += self.buffer.len() as u64;
            self.buffer = self.unpacked(Vec::new(), self.block)?;
        }
        let skip = usize::try_from(start.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.advance(skip);
        self.start += skip as u64;
        if self.buffer.len() < least && !self.ended {
            let length = least.max(self.block);
            let mut kept = Vec::with_capacity(length);
            kept.extend_from_slice(&self.buffer);
            self.buffer = self.unpacked(kept, length)?;
        }
        if self.buffer.len() < least && self.end.is_some() {
            // Never fewer than the plan found: whoever waits for the rest would wait for ever.
            self.text.file.file().check()?;
            return Err(self.text.damaged("its text is shorter than when the build was planned"));
        }
        let shown = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
        Ok(self.buffer.slice(..shown))
    }

    /// `bytes` and what follows, up to `length` bytes in all.
    fn unpacked(&mut self, mut bytes: Vec<u8>, length: usize) -> Result<Bytes, SourceError> {
        let mut done = bytes.len();
        bytes.resize(length.max(done), 0);
        while let Some(target) = bytes.get_mut(done..).filter(|target| !target.is_empty()) {
            match self.reader.read(target) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.text.unpacking(error)),
            }
        }
        bytes.truncate(done);
        Ok(bytes.into())
    }
}

/// The bytes of a compressed file, in their order.
struct Raw {
    window: Window,
    at: u64,
    held: Bytes,
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held.is_empty() {
            self.held = self.window.at(self.at, 1).map_err(io::Error::other)?;
        }
        Ok(&self.held)
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.held.len());
        self.held.advance(amount);
        self.at += amount as u64;
    }
}

impl Read for Raw {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.len().min(target.len());
        if let (Some(target), Some(held)) = (target.get_mut(..length), self.held.get(..length)) {
            target.copy_from_slice(held);
        }
        self.consume(length);
        Ok(length)
    }
}
