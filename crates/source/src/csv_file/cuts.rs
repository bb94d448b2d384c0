//! Where a CSV file can be cut: at starts of rows.
//!
//! Whether a line break ends a row depends on the quotes before it, from the file's start. The file is therefore scanned
//! once, for quotes only, when the splits are made; reading a split later needs nothing of what precedes it.

use std::ops::Range;

use super::rows::Dialect;
use super::text::Text;
use crate::error::SourceError;

const BLOCK: usize = 2 << 20;
/// Row positions hold 40 bits of byte in file.
pub(super) const LARGEST_TEXT: u64 = 1 << 40;

/// The file ends inside quotes that were opened at this byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnclosedQuote(pub(super) u64);

/// Finds cuts in a stream of blocks.
pub(super) struct CutFinder {
    dialect: Dialect,
    target: u64,
    /// The place of the next byte, and the byte before it.
    at: u64,
    previous: u8,
    state: State,
    opened: u64,
    /// The next cut is the first start of a row at or after this.
    wanted: u64,
    cuts: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    /// After a quote in a quoted cell: the next byte says whether it closed the cell.
    AfterQuote,
}

impl CutFinder {
    /// `start`: the first row.
    pub(super) fn new(dialect: Dialect, start: u64, target: u64) -> Self {
        let target = target.max(1);
        Self {
            dialect,
            target,
            at: start,
            previous: b'\n',
            state: State::Outside,
            opened: start,
            wanted: start.saturating_add(target),
            cuts: Vec::new(),
        }
    }

    /// The next bytes of the file.
    pub(super) fn push(&mut self, block: &[u8]) {
        let mut at = 0;
        while at < block.len() {
            let rest = block.get(at..).unwrap_or_default();
            match (self.state, self.dialect.quote) {
                (State::AfterQuote, quote) => {
                    if rest.first().copied() == quote {
                        self.state = State::Inside;
                        at += 1;
                    } else {
                        self.state = State::Outside;
                    }
                }
                (State::Inside, Some(quote)) => match memchr::memchr(quote, rest) {
                    Some(found) => {
                        self.state = State::AfterQuote;
                        at += found + 1;
                    }
                    None => at = block.len(),
                },
                (State::Outside | State::Inside, quote) => {
                    let found = quote.and_then(|quote| memchr::memchr(quote, rest)).map(|found| at + found);
                    self.cut_in(block, at..found.unwrap_or(block.len()));
                    at = match found {
                        Some(found) => {
                            if self.opens(block, found) {
                                self.state = State::Inside;
                                self.opened = self.at + found as u64;
                            }
                            found + 1
                        }
                        None => block.len(),
                    };
                }
            }
        }
        self.previous = block.last().copied().unwrap_or(self.previous);
        self.at += block.len() as u64;
    }

    /// Whether a quote outside quotes is the first byte of a cell.
    fn opens(&self, block: &[u8], at: usize) -> bool {
        let before = match at.checked_sub(1) {
            Some(before) => block.get(before).copied().unwrap_or(self.previous),
            None => self.previous,
        };
        before == self.dialect.delimiter || before == b'\n' || before == b'\r'
    }

    /// Cuts in a part of the block that is outside quotes.
    fn cut_in(&mut self, block: &[u8], part: Range<usize>) {
        let end = self.at + part.end as u64;
        // A row starts one byte after the line break.
        while self.wanted <= end {
            let from = usize::try_from((self.wanted - 1).saturating_sub(self.at)).unwrap_or(0).max(part.start);
            let Some(found) = block.get(from..part.end).and_then(|bytes| memchr::memchr(b'\n', bytes)) else { return };
            let cut = self.at + (from + found + 1) as u64;
            self.cuts.push(cut);
            self.wanted = cut.saturating_add(self.target);
        }
    }

    /// The cuts, when the file ends at `size`.
    pub(super) fn finish(mut self, size: u64) -> Result<Vec<u64>, UnclosedQuote> {
        if self.state == State::Inside {
            return Err(UnclosedQuote(self.opened));
        }
        // A small rest goes with the split before it.
        while self.cuts.last().is_some_and(|cut| size.saturating_sub(*cut) < self.target / 2 || *cut >= size) {
            self.cuts.pop();
        }
        Ok(self.cuts)
    }
}

/// The parts of a file from its first row at `start`, each about `target` bytes.
pub(super) fn parts(
    text: &Text,
    dialect: Dialect,
    start: u64,
    target: u64,
) -> Result<Result<Vec<(u64, u64)>, UnclosedQuote>, SourceError> {
    if text.is_packed() {
        return whole(text, dialect, start);
    }
    let size = text.file.file().size();
    let mut finder = CutFinder::new(dialect, start, target);
    if dialect.quote.is_some() {
        let mut window = text.window(start, None, BLOCK)?;
        while finder.at < size {
            let block = window.at(finder.at, 1)?;
            finder.push(&block);
        }
    } else {
        // Every line break ends a row: only the surroundings of each cut are looked at.
        while finder.wanted < size {
            finder.at = finder.wanted - 1;
            let wanted = finder.wanted;
            let mut window = text.window(finder.at, None, 64 << 10)?;
            while finder.wanted == wanted && finder.at < size {
                let block = window.at(finder.at, 1)?;
                let first = block.get(..block.len().min(64 << 10)).unwrap_or_default();
                finder.push(first);
            }
            if finder.wanted == wanted {
                break;
            }
        }
    }
    let cuts = match finder.finish(size) {
        Ok(cuts) => cuts,
        Err(unclosed) => return Ok(Err(unclosed)),
    };
    let starts = std::iter::once(start).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(size));
    Ok(Ok(starts.zip(ends).filter(|(start, end)| start < end).collect()))
}

/// The one part of a compressed file: nothing can be read of it but from its start. It is unpacked once to its end, so that
/// damage is told now, and the part's length is that of the text.
fn whole(text: &Text, dialect: Dialect, start: u64) -> Result<Result<Vec<(u64, u64)>, UnclosedQuote>, SourceError> {
    let mut finder = CutFinder::new(dialect, start, u64::MAX);
    let mut window = text.window(start, None, BLOCK)?;
    let mut size = start;
    loop {
        let block = window.at(size, 1)?;
        if block.is_empty() {
            break;
        }
        if dialect.quote.is_some() {
            finder.push(&block);
        }
        size += block.len() as u64;
        if size >= LARGEST_TEXT {
            return Err(SourceError::TooLarge {
                url: text.file.file().url().to_owned(),
                what: format!(
                    "its text has more than {size} bytes, and the limit is {LARGEST_TEXT} bytes in a CSV file"
                ),
            });
        }
    }
    if let Err(unclosed) = finder.finish(size) {
        return Ok(Err(unclosed));
    }
    Ok(Ok(if start < size { vec![(start, size)] } else { Vec::new() }))
}
