//! The pages of one column, given to its decoder one by one as memory allows.
//!
//! The decoder asks for pages until it has as many rows as it was built for, and keeps the pages that its text lies in.
//! When the next page does not fit beside those, it is told that there is none: then it returns the rows that it has, and
//! asks again for the next batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader as PageSource};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::chunks::{SharedChunks, most_read_ahead};
use super::page_needs::{self, MOST_SPANNED, PER_DICTIONARY_VALUE, PER_LENGTH, PER_TWO_LENGTHS, Wanted};
use super::page_reader::{PageReader, Way};
use super::value_lengths::{self, Lengths};
use crate::error::SourceError;

/// How the lengths of a page's values are read; `None`: the page is damaged.
type ReadLengths = fn(&[u8]) -> Option<Lengths>;

/// Memory of pages, of all columns of a reader together.
#[derive(Debug)]
pub(super) struct PageMemory {
    /// The most bytes that pages may take at once.
    pub(super) budget: u64,
    held: Mutex<Vec<HeldBytes>>,
}

/// Bytes of the pages of one column.
#[derive(Clone, Copy, Debug, Default)]
struct HeldBytes {
    dictionary: u64,
    /// The page that is being decoded.
    current: u64,
    /// The pages before it that rows of the batch still lie in.
    before: u64,
}

impl PageMemory {
    pub(super) fn new(budget: u64, columns: usize) -> Arc<Self> {
        Arc::new(Self { budget, held: Mutex::new(vec![HeldBytes::default(); columns]) })
    }

    fn column<T>(&self, column: usize, change: impl FnOnce(&mut HeldBytes) -> T) -> Option<T> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get_mut(column).map(change)
    }

    /// All bytes, and those that are held only because batches reach over several pages.
    fn sum(&self) -> (u64, u64) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().fold((0, 0), |(all, before), held| {
            (all + held.dictionary + held.current + held.before, before + held.before)
        })
    }
}

/// Whether a page that takes `takes` bytes may be read beside pages that take `held` of the budget's bytes, `spanned` of
/// them only because batches reach over several pages. Where nothing else can be done first, `must` is true.
///
/// A quarter of the budget, and no more than helps, is for batches that reach over pages; so what every column must have at once, its dictionary
/// and one page, finds the rest, in whatever order the columns come to their pages' ends.
fn may_read(takes: u64, held: u64, spanned: u64, budget: u64, must: bool) -> bool {
    held.saturating_add(takes) <= budget && (must || spanned <= (budget / 4).min(MOST_SPANNED))
}

/// Rows that may be decoded at once where the longest value has this many bytes, so that they are at most `bytes`.
fn rows_at_once(longest: u64, bytes: u64, most: usize) -> usize {
    usize::try_from(bytes / longest.max(1)).unwrap_or(usize::MAX).clamp(1, most.max(1))
}

/// A column to read, and the limits of its reads.
pub(super) struct ColumnSource {
    pub(super) chunks: SharedChunks,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) memory: Arc<PageMemory>,
    /// All columns of the reader.
    pub(super) wanted: Arc<[Wanted]>,
    pub(super) leaf: usize,
    pub(super) column: usize,
    /// Whether decoded values lie in the pages, instead of being copied out of them.
    pub(super) borrows: bool,
    /// Rows of a batch at most.
    pub(super) most_rows: usize,
    /// Bytes that values may take when they are copied out of their pages, at once.
    pub(super) copied_bytes: u64,
    pub(super) largest_value: u64,
}

/// A page that was read and not given to the decoder yet.
struct FetchedPage {
    page: Page,
    takes: u64,
    rows: u64,
    rows_at_once: usize,
}

struct State {
    source: ColumnSource,
    row_group: usize,
    /// The rows that the row group should have.
    rows: u64,
    reader: Option<PageReader>,
    ahead: Option<FetchedPage>,
    /// The chunk's dictionary: for text it is given again to each decoder that goes on in the chunk.
    dictionary: Option<Page>,
    /// The rows that its longest value allows at once.
    dictionary_rows: usize,
    dictionary_due: bool,
    /// Rows of the pages given to decoders, of this chunk, and how many of them came out.
    given: u64,
    taken: u64,
    /// The batch size that the decoder was built for.
    rows_at_once: usize,
}

#[derive(Clone)]
pub(super) struct Pages(Arc<Mutex<State>>);

impl Pages {
    pub(super) fn new(source: ColumnSource) -> Self {
        let most_rows = source.most_rows;
        Self(Arc::new(Mutex::new(State {
            source,
            row_group: 0,
            rows: 0,
            reader: None,
            ahead: None,
            dictionary: None,
            dictionary_rows: most_rows,
            dictionary_due: false,
            given: 0,
            taken: 0,
            rows_at_once: most_rows,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn row_group(&self) -> usize {
        self.state().row_group
    }

    /// Goes to the column's chunk in a row group.
    pub(super) fn open(&self, row_group: usize) -> ParquetResult<()> {
        let mut state = self.state();
        let group = state.source.metadata.row_groups().get(row_group);
        let chunk = group.and_then(|group| Some((group.columns().get(state.source.leaf)?, group.num_rows())));
        let (chunk, rows) = chunk.ok_or_else(|| ParquetError::General(format!("there is no row group {row_group}")))?;
        let expected = usize::try_from(rows).unwrap_or(0);
        let reader = PageReader::new(state.source.chunks.clone(), state.source.column, row_group, chunk);
        state.source.memory.column(state.source.column, |held| *held = HeldBytes::default());
        // What an empty row group says of its chunks is of no interest.
        state.reader = (expected > 0).then_some(reader);
        state.row_group = row_group;
        state.rows = expected as u64;
        (state.ahead, state.dictionary, state.dictionary_due) = (None, None, false);
        (state.given, state.taken) = (0, 0);
        state.dictionary_rows = state.source.most_rows;
        Ok(())
    }

    /// Rows at once that a decoder is to be built for, which goes on from here; `None` at the chunk's end.
    pub(super) fn begin_decoder(&self) -> ParquetResult<Option<usize>> {
        let mut state = self.state();
        state.source.memory.column(state.source.column, |held| held.current = 0);
        if !state.fetch_page(true)? {
            // Rows that are missing here would give the next row group's the wrong places.
            let (rows, given) = (state.rows, state.given);
            return if rows == given {
                Ok(None)
            } else {
                Err(state.damaged(&format!("{given} rows of {rows} are in it")))
            };
        }
        state.dictionary_due = state.dictionary.is_some();
        state.rows_at_once = state.allowed();
        Ok(Some(state.rows_at_once))
    }

    /// The rows decoded so far are used: the pages before the current one are free.
    pub(super) fn begin_batch(&self) {
        let state = self.state();
        state.source.memory.column(state.source.column, |held| held.before = 0);
    }

    pub(super) fn rows_taken(&self, rows: u64) {
        self.state().taken += rows;
    }
}

impl State {
    fn chunk(&self) -> Option<&ColumnChunkMetaData> {
        self.source.metadata.row_groups().get(self.row_group)?.columns().get(self.source.leaf)
    }

    /// Reads the next page of data, if there is one and it may be read now; whether it is there.
    ///
    /// `last`: no page could be given up first to make room.
    fn fetch_page(&mut self, last: bool) -> ParquetResult<bool> {
        while self.ahead.is_none() {
            let more = self.given < self.rows;
            let Some(reader) = &mut self.reader else { return Ok(false) };
            if reader.peek(more)?.is_none() {
                return Ok(false);
            }
            let whole = reader.takes(Way::Whole)?.unwrap_or(u64::MAX);
            let way = if self.may_read(whole) {
                Way::Whole
            } else if !last && (self.has_rows() || self.is_text()) {
                return Ok(false);
            } else {
                // A decoder of numbers does not begin anew in the middle of a chunk: this is the last way for it, too.
                let streamed = self.reader.as_ref().map_or(Ok(None), |reader| reader.takes(Way::Streamed))?;
                match streamed {
                    Some(takes) if self.may_read(takes) => Way::Streamed,
                    _ => return Err(self.too_large(whole.min(streamed.unwrap_or(u64::MAX)))),
                }
            };
            let Some(reader) = &mut self.reader else { return Ok(false) };
            match reader.read(way)? {
                Some(page @ Page::DictionaryPage { .. }) => self.keep_dictionary(page)?,
                // The decoder would take a page without rows for the end.
                Some(page) if page.num_values() == 0 => {}
                Some(page) => self.ahead = Some(self.data(page)?),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether the decoder has rows for the current batch.
    fn has_rows(&self) -> bool {
        self.given > self.taken
    }

    fn may_read(&self, takes: u64) -> bool {
        let ColumnSource { memory, column, borrows, .. } = &self.source;
        let (held, spanned) = memory.sum();
        // The current page stays while rows of the batch lie in it.
        let stays = if *borrows { memory.column(*column, |held| held.current).unwrap_or(0) } else { 0 };
        may_read(takes, held, spanned + stays, memory.budget, !self.has_rows())
    }

    /// `takes`: bytes of the page that does not fit beside those held.
    fn too_large(&self, takes: u64) -> ParquetError {
        let ColumnSource { chunks, metadata, memory, wanted, column, .. } = &self.source;
        let bytes = memory.sum().0.saturating_add(takes);
        let needed = page_needs::of(chunks, metadata, wanted).max(bytes);
        // What is read ahead grows with the budget.
        let needed = needed.saturating_add(if chunks.is_remote() { most_read_ahead(chunks.columns()) } else { 0 });
        let (url, column, row_group, budget) = (chunks.url(), chunks.column(*column), self.row_group, memory.budget);
        chunks.refuse(if takes > budget {
            SourceError::PageTooLarge { url, row_group, column, bytes: takes, budget, needed }
        } else {
            let columns = chunks.columns();
            SourceError::PagesTooLarge { url, row_group, column, columns, bytes, budget, needed }
        })
    }

    fn damaged(&self, detail: &str) -> ParquetError {
        self.source.chunks.refuse_damage(self.source.column, self.row_group, detail)
    }

    fn keep_dictionary(&mut self, page: Page) -> ParquetResult<()> {
        let bytes = page.buffer().len() as u64;
        let values = u64::from(page.num_values());
        let width = self.chunk().map_or(1, |chunk| match chunk.column_type() {
            PhysicalType::BOOLEAN => 1,
            PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
            PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
            PhysicalType::INT96 => 12,
            PhysicalType::FIXED_LEN_BYTE_ARRAY => u64::try_from(chunk.column_descr().type_length()).unwrap_or(1).max(1),
        });
        // The decoder makes room for as many as the header names.
        if values.saturating_mul(width) > bytes {
            return Err(self.damaged(&format!("a dictionary of {bytes} bytes should have {values} values")));
        }
        let mut takes = bytes;
        if self.is_text() {
            let known = value_lengths::of_plain(page.buffer());
            let Lengths { values: _, longest } =
                known.ok_or_else(|| self.damaged("the lengths of its dictionary's values do not fit"))?;
            self.check_value(longest)?;
            takes += values * PER_DICTIONARY_VALUE;
            if !self.source.borrows {
                self.dictionary_rows = rows_at_once(longest, self.source.copied_bytes, self.source.most_rows);
            }
        }
        self.source.memory.column(self.source.column, |held| held.dictionary = takes);
        if self.source.memory.sum().0 > self.source.memory.budget {
            return Err(self.too_large(0));
        }
        self.dictionary = Some(page);
        self.dictionary_due = true;
        Ok(())
    }

    fn data(&self, page: Page) -> ParquetResult<FetchedPage> {
        let rows = u64::from(page.num_values());
        let bytes = page.buffer().len() as u64;
        let most = self.source.most_rows;
        if !self.is_text() {
            return Ok(FetchedPage { page, takes: bytes, rows, rows_at_once: most });
        }
        let encoding = page.encoding();
        let known: Option<(ReadLengths, u64)> = match encoding {
            Encoding::DELTA_BYTE_ARRAY => Some((value_lengths::of_delta_byte_array, PER_TWO_LENGTHS)),
            Encoding::DELTA_LENGTH_BYTE_ARRAY => Some((value_lengths::of_delta_length_byte_array, PER_LENGTH)),
            // No value is longer than what is stored of it, and it is not copied.
            _ if self.source.borrows => None,
            Encoding::PLAIN => Some((value_lengths::of_plain, 0)),
            _ => None,
        };
        let Some((lengths, per_value)) = known else {
            let by_dictionary = matches!(encoding, Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY);
            let rows_at_once = if by_dictionary { self.dictionary_rows } else { most };
            return Ok(FetchedPage { page, takes: bytes, rows, rows_at_once });
        };
        let found = self.values(&page).and_then(|values| lengths(&values)).filter(|found| found.values <= rows);
        let Lengths { values, longest } =
            found.ok_or_else(|| self.damaged("the lengths of a page's values do not fit"))?;
        let copied_bytes = !self.source.borrows || encoding == Encoding::DELTA_BYTE_ARRAY;
        if encoding == Encoding::DELTA_BYTE_ARRAY {
            self.check_value(longest)?;
        }
        let rows_at_once = if copied_bytes { rows_at_once(longest, self.source.copied_bytes, most) } else { most };
        Ok(FetchedPage { page, takes: bytes + values * per_value, rows, rows_at_once })
    }

    fn is_text(&self) -> bool {
        self.chunk().is_some_and(|chunk| chunk.column_type() == PhysicalType::BYTE_ARRAY)
    }

    fn check_value(&self, bytes: u64) -> ParquetResult<()> {
        if bytes <= self.source.largest_value {
            return Ok(());
        }
        Err(self.source.chunks.refuse_value(self.source.column, self.row_group, bytes, self.source.largest_value))
    }

    /// The values of a page of data, without the levels before them. `None`: the page is shorter than its levels.
    fn values(&self, page: &Page) -> Option<Bytes> {
        let level = self.chunk()?.column_descr().max_def_level();
        let (buffer, levels) = match page {
            Page::DataPage { buf, num_values, def_level_encoding, .. } if level > 0 => {
                #[allow(deprecated)] // Files of old have it.
                let levels = if *def_level_encoding == Encoding::BIT_PACKED {
                    let bits = usize::try_from(16 - level.leading_zeros()).ok()?;
                    (*num_values as usize * bits).div_ceil(8)
                } else {
                    u32::from_le_bytes(*buf.first_chunk()?) as usize + 4
                };
                (buf, levels)
            }
            Page::DataPage { buf, .. } => (buf, 0),
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                (buf, *def_levels_byte_len as usize + *rep_levels_byte_len as usize)
            }
            Page::DictionaryPage { buf, .. } => (buf, 0),
        };
        (levels <= buffer.len()).then(|| buffer.slice(levels..))
    }

    /// Rows at once that the page ahead allows.
    fn allowed(&self) -> usize {
        self.ahead.as_ref().map_or(self.source.most_rows, |ahead| ahead.rows_at_once)
    }

    /// Whether the decoder in use may have the page ahead: it decodes no more rows at once than that allows, nor far fewer.
    fn suits(&self) -> bool {
        let allowed = self.allowed();
        self.rows_at_once <= allowed && self.rows_at_once.saturating_mul(4) >= allowed
    }

    fn next(&mut self) -> ParquetResult<Option<Page>> {
        if self.dictionary_due {
            self.dictionary_due = false;
            return Ok(if self.is_text() { self.dictionary.clone() } else { self.dictionary.take() });
        }
        if !self.fetch_page(false)? || !self.suits() {
            return Ok(None);
        }
        if self.dictionary_due {
            // It came with the page.
            return self.next();
        }
        let Some(FetchedPage { page, takes, rows, rows_at_once: _ }) = self.ahead.take() else { return Ok(None) };
        let stays = self.source.borrows && self.has_rows();
        self.source.memory.column(self.source.column, |held| {
            held.before += if stays { held.current } else { 0 };
            held.current = takes;
        });
        if self.source.memory.sum().0 > self.source.memory.budget {
            return Err(self.too_large(0));
        }
        self.given += rows;
        if self.given > self.rows {
            return Err(self.damaged(&format!("more rows are in it than the {} of the row group", self.rows)));
        }
        Ok(Some(page))
    }
}

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageSource for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        self.state().next()
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Err(ParquetError::General("pages are read one by one".to_owned()))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        Err(ParquetError::General("pages are read one by one".to_owned()))
    }
}

/// The pages as the decoder wants them: one chunk.
pub(super) struct OneChunk(pub(super) Option<Pages>);

impl Iterator for OneChunk {
    type Item = ParquetResult<Box<dyn PageSource>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pages = self.0.take()?;
        Some(Ok(Box::new(pages)))
    }
}

impl PageIterator for OneChunk {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{may_read, rows_at_once};

    #[test]
    fn rows_at_once_are_as_many_as_the_longest_value_allows() {
        assert_eq!(rows_at_once(100, 1000, 8192), 10);
        assert_eq!(rows_at_once(0, 1000, 8192), 1000);
        assert_eq!(rows_at_once(5000, 1000, 8192), 1);
        assert_eq!(rows_at_once(1, 1 << 20, 8192), 8192);
    }

    proptest! {
        /// Columns come to their pages' ends in any order; each has one page, and more while the batch may reach over
        /// them. As long as what each must have fits, nothing else keeps it from having it.
        #[test]
        fn pages_that_a_batch_reaches_over_never_take_the_room_of_those_that_a_column_must_have(
            pages in prop::collection::vec((0_usize..4, 1_u64..100), 1..200),
            budget in 550_u64..2000,
        ) {
            // By column: the page in hand, and those before it.
            let mut held = [(0_u64, 0_u64); 4];
            for (column, takes) in pages {
                let sum: u64 = held.iter().map(|(current, before)| current + before).sum();
                let spanned: u64 = held.iter().map(|(_, before)| before).sum::<u64>() + held[column].0;
                let must = held[column].0 == 0;
                if may_read(takes, sum, spanned, budget, must) {
                    let (current, before) = &mut held[column];
                    *before += *current;
                    *current = takes;
                } else {
                    prop_assert!(!must, "{takes} beside {held:?} of {budget}");
                    // The batch ends, and all rows before are used.
                    held = [(0, 0); 4];
                }
                prop_assert!(held.iter().map(|(current, before)| current + before).sum::<u64>() <= budget);
            }
        }
    }
}
