//! How much memory the pages of a file need at once: asked when they do not fit, so that the error names what suffices.

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::chunks::SharedChunks;
use super::page_header::PageKind;
use super::page_reader::{PageReader, Way};

/// Bytes that a decoder takes for each value of a dictionary of texts, besides the page.
pub(super) const PER_DICTIONARY_VALUE: u64 = 16;
/// Bytes for each length of a page of `DELTA_LENGTH_BYTE_ARRAY` and, twice, of `DELTA_BYTE_ARRAY`.
pub(super) const PER_LENGTH: u64 = 4;
pub(super) const PER_TWO_LENGTHS: u64 = 8;
/// Bytes of pages at most that are kept only because a batch reaches over several.
pub(super) const MOST_SPANNED: u64 = 4 << 20;

/// Headers that are read at most to find out: each may be a question to an object store.
const MOST_HEADERS: usize = 4096;
/// Row groups that are looked at at most, those that may need most first.
const MOST_ROW_GROUPS: usize = 16;

/// A column that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) leaf: usize,
    pub(super) is_text: bool,
}

/// The least budget of pages with which all row groups of the file can be read, as far as their headers tell.
pub(super) fn of(chunks: &SharedChunks, metadata: &ParquetMetaData, wanted: &[Wanted]) -> u64 {
    let mut groups: Vec<(u64, usize)> =
        metadata.row_groups().iter().zip(0..).map(|(group, number)| (bound(group, wanted), number)).collect();
    groups.sort_unstable_by_key(|(bytes, number)| (std::cmp::Reverse(*bytes), *number));
    let (mut most, mut headers) = (0_u64, 0);
    for (bytes, number) in groups.into_iter().take(MOST_ROW_GROUPS) {
        if bytes <= most || headers >= MOST_HEADERS {
            break;
        }
        let columns = wanted.iter().zip(0..);
        let sum = columns.map(|(wanted, column)| of_chunk(chunks, metadata, number, column, *wanted, &mut headers));
        most = most.max(sum.fold(0, u64::saturating_add));
    }
    // Batches that reach over pages may take the rest.
    most.saturating_add((most / 3).min(MOST_SPANNED))
}

/// More than the pages of a row group can take.
fn bound(group: &RowGroupMetaData, wanted: &[Wanted]) -> u64 {
    let of = |wanted: &Wanted| {
        let bytes = group.columns().get(wanted.leaf).and_then(|chunk| u64::try_from(chunk.uncompressed_size()).ok());
        bytes.unwrap_or(0).saturating_mul(4)
    };
    wanted.iter().map(of).fold(0, u64::saturating_add)
}

/// What a column's chunk needs at once: its dictionary, and a page; of numbers the page before, too.
fn of_chunk(
    chunks: &SharedChunks,
    metadata: &ParquetMetaData,
    row_group: usize,
    column: usize,
    wanted: Wanted,
    headers: &mut usize,
) -> u64 {
    let Some(meta) = metadata.row_groups().get(row_group).and_then(|group| group.columns().get(wanted.leaf)) else {
        return 0;
    };
    let mut reader = PageReader::new(chunks.clone(), column, row_group, meta);
    let (mut dictionary, mut before, mut most) = (0_u64, 0_u64, 0_u64);
    // What cannot be read is told when it is.
    while let Ok(Some(header)) = reader.peek(false) {
        *headers += 1;
        if *headers > MOST_HEADERS {
            break;
        }
        let ways = [Way::Whole, Way::Streamed].map(|way| reader.takes(way).ok().flatten());
        let takes = ways.into_iter().flatten().min().unwrap_or(0);
        let of_values = |values: u32, each: u64| if wanted.is_text { u64::from(values) * each } else { 0 };
        match header.kind {
            PageKind::Dictionary { values, .. } => {
                dictionary = header.unpacked.saturating_add(of_values(values, PER_DICTIONARY_VALUE));
                most = most.max(takes).max(dictionary);
            }
            PageKind::Data { values, .. } | PageKind::DataV2 { values, .. } => {
                let held = header.unpacked.saturating_add(of_values(values, PER_TWO_LENGTHS));
                most = most.max(dictionary.saturating_add(before).saturating_add(takes.max(held)));
                before = if wanted.is_text { 0 } else { held };
            }
            PageKind::Other => {}
        }
        reader.pass();
    }
    most
}
