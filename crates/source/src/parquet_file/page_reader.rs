//! The pages of one column chunk, in their order: each one's header first, then, if its reader wants it, the page.
//!
//! The library has such a reader, too. It takes room for the stored and the unpacked bytes of any page at once, compares
//! checksums only to say that some page's is wrong, and believes what a footer says of a chunk's place; old writers said
//! something else (a dictionary at 0, a length without the dictionary's header).

use std::io::Read;

use flate2::CrcReader;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;

use super::chunks::{Chunk, ChunkStream, SharedChunks};
use super::page_header::{self, Header, PageKind};
use super::thrift::Compact;
use super::unpack;
use crate::error::SourceError;

/// Bytes of a header that are read at once.
const HEADER_STEP: usize = 256;
/// More bytes than any dictionary's header has. Writers that leave it out of the chunk's length (PARQUET-816) end so much later.
const SLACK: u64 = 128;

/// How a page comes into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// With all its stored bytes at hand.
    Whole,
    /// Unpacked as it is read.
    Streamed,
}

/// Where a chunk's pages begin and end, as far as the footer can be believed.
pub(super) fn place(meta: &ColumnChunkMetaData) -> (u64, u64) {
    let data = u64::try_from(meta.data_page_offset()).unwrap_or(0);
    // Some write 0 where there is none, or one that lies behind the data.
    let dictionary = meta.dictionary_page_offset().and_then(|offset| u64::try_from(offset).ok());
    let start = dictionary.filter(|offset| *offset > 0 && *offset < data).unwrap_or(data);
    (start, start.saturating_add(u64::try_from(meta.compressed_size()).unwrap_or(0)))
}

pub(super) struct PageReader {
    chunks: SharedChunks,
    chunk: Chunk,
    codec: Compression,
    at: u64,
    /// The end as the footer says, and how much further the pages may reach.
    end: u64,
    slack: u64,
    /// Number of the next page of data, from 0.
    number: u64,
    /// The next page's header, if it was read.
    header: Option<Header>,
}

impl PageReader {
    pub(super) fn new(chunks: SharedChunks, column: usize, row_group: usize, meta: &ColumnChunkMetaData) -> Self {
        let (start, end) = place(meta);
        let chunk = Chunk { start, end: end.saturating_add(SLACK).min(chunks.file_size()), row_group, column };
        Self { chunks, chunk, codec: meta.compression(), at: start, end, slack: 0, number: 0, header: None }
    }

    /// The next page that is of interest, if there is one. `more`: whether rows of the chunk are still missing.
    pub(super) fn peek(&mut self, more: bool) -> ParquetResult<Option<Header>> {
        while self.header.is_none() {
            let beyond = self.at >= self.end;
            if beyond && !(more && self.at < self.end.saturating_add(self.slack)) {
                return Ok(None);
            }
            let mut thrift = Compact(self.chunks.stream(self.chunk, self.at, HEADER_STEP));
            let header = match page_header::read(&mut thrift) {
                Ok(header) => header,
                Err(_) if beyond => return Ok(None),
                Err(error) => return Err(self.damaged(&format!("its header: {}", text(error)))),
            };
            let start = thrift.0.position();
            let length = start - self.at;
            if let PageKind::Dictionary { .. } = header.kind {
                self.slack = length;
            }
            let fits = start.checked_add(header.stored).is_some_and(|end| end <= self.end.saturating_add(self.slack));
            if !fits {
                return if beyond { Ok(None) } else { Err(self.damaged("it reaches beyond the column's chunk")) };
            }
            self.at = start;
            if header.kind == PageKind::Other {
                self.at += header.stored;
                continue;
            }
            self.header = Some(header);
        }
        Ok(self.header)
    }

    /// What the next page takes of memory while it is read. `None`: it cannot be read in this way.
    pub(super) fn takes(&self, way: Way) -> ParquetResult<Option<u64>> {
        let Some(header) = self.header else { return Ok(None) };
        if !self.is_packed(&header) {
            return Ok((way == Way::Whole).then_some(header.stored));
        }
        if way == Way::Whole {
            return Ok(Some(header.unpacked.saturating_add(header.stored)));
        }
        // Of a short page there is nothing to win.
        let levels = levels(&header) as u64;
        if header.stored.saturating_sub(levels) <= unpack::STEP as u64 {
            return Ok(None);
        }
        let begin = self.chunks.bytes(self.chunk, self.at.saturating_add(levels), unpack::FRAME_HEADER)?;
        Ok(unpack::streaming_takes(self.codec, &begin).map(|takes| header.unpacked.saturating_add(takes)))
    }

    /// Passes over the next page.
    pub(super) fn pass(&mut self) {
        if let Some(header) = self.header.take() {
            self.passed(&header);
        }
    }

    fn passed(&mut self, header: &Header) {
        self.at += header.stored;
        self.number += u64::from(!matches!(header.kind, PageKind::Dictionary { .. }));
    }

    /// Reads the page whose header was seen last.
    pub(super) fn read(&mut self, way: Way) -> ParquetResult<Option<Page>> {
        let Some(header) = self.header else { return Ok(None) };
        let bytes = match way {
            Way::Whole => self.whole(&header)?,
            Way::Streamed => self.streamed(&header)?.into(),
        };
        let page = self.page(&header, bytes)?;
        self.header = None;
        self.passed(&header);
        Ok(Some(page))
    }

    fn is_packed(&self, header: &Header) -> bool {
        self.codec != Compression::UNCOMPRESSED && !matches!(header.kind, PageKind::DataV2 { packed: false, .. })
    }

    fn whole(&self, header: &Header) -> ParquetResult<bytes::Bytes> {
        let stored = self.chunks.bytes(self.chunk, self.at, size(header.stored))?;
        if let Some(expected) = header.checksum {
            let mut found = flate2::Crc::new();
            found.update(&stored);
            self.check(expected, found.sum())?;
        }
        if !self.is_packed(header) {
            return Ok(stored);
        }
        let (levels, packed) = stored.split_at_checked(levels(header)).ok_or_else(|| self.levels_too_long())?;
        let mut unpacked = Vec::with_capacity(size(header.unpacked));
        unpacked.extend_from_slice(levels);
        let left = self.left(header)?;
        // All values of a page of the second version may be NULL; then there is nothing to unpack.
        if left > 0 {
            unpack::whole(self.codec, packed, &mut unpacked, left).map_err(|detail| self.damaged(&detail))?;
        }
        Ok(unpacked.into())
    }

    fn streamed(&self, header: &Header) -> ParquetResult<Vec<u8>> {
        let stream: ChunkStream = self.chunks.stream(self.chunk, self.at, unpack::STEP);
        let mut stored = CrcReader::new(stream.take(header.stored));
        let mut unpacked = Vec::with_capacity(size(header.unpacked));
        let left = self.left(header)?;
        let levels = levels(header);
        let mut read = || -> Result<(), String> {
            (&mut stored).take(levels as u64).read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
            unpack::streamed(self.codec, &mut stored, &mut unpacked, left)
        };
        let outcome = read();
        if let Some(expected) = header.checksum {
            // A page that cannot be unpacked because its bytes are others is told by its checksum, which is of all of them.
            std::io::copy(&mut stored, &mut std::io::sink()).map_err(|error| self.damaged(&error.to_string()))?;
            self.check(expected, stored.crc().sum())?;
        }
        outcome.map_err(|detail| self.damaged(&detail))?;
        Ok(unpacked)
    }

    /// The bytes to be unpacked, without levels.
    fn left(&self, header: &Header) -> ParquetResult<usize> {
        size(header.unpacked).checked_sub(levels(header)).ok_or_else(|| self.levels_too_long())
    }

    fn levels_too_long(&self) -> ParquetError {
        self.damaged("its levels are longer than it is")
    }

    fn check(&self, expected: u32, found: u32) -> ParquetResult<()> {
        if expected == found {
            return Ok(());
        }
        Err(self.chunks.refuse(SourceError::WrongChecksum {
            url: self.chunks.url(),
            row_group: self.chunk.row_group,
            column: self.chunks.column(self.chunk.column),
            page: self.name(),
            expected,
            found,
        }))
    }

    fn page(&self, header: &Header, buf: bytes::Bytes) -> ParquetResult<Page> {
        Ok(match header.kind {
            PageKind::Dictionary { values, encoding } => {
                Page::DictionaryPage { buf, num_values: values, encoding: self.encoding(encoding)?, is_sorted: false }
            }
            PageKind::Data { values, encoding, definition, repetition } => Page::DataPage {
                buf,
                num_values: values,
                encoding: self.encoding(encoding)?,
                // Without levels, some write anything.
                def_level_encoding: page_header::encoding(definition).unwrap_or(Encoding::RLE),
                rep_level_encoding: page_header::encoding(repetition).unwrap_or(Encoding::RLE),
                statistics: None,
            },
            PageKind::DataV2 { values, nulls, rows, encoding, definition, repetition, packed } => {
                if u64::from(definition) + u64::from(repetition) > buf.len() as u64 {
                    return Err(self.levels_too_long());
                }
                Page::DataPageV2 {
                    buf,
                    num_values: values,
                    encoding: self.encoding(encoding)?,
                    num_nulls: nulls,
                    num_rows: rows,
                    def_levels_byte_len: definition,
                    rep_levels_byte_len: repetition,
                    is_compressed: packed,
                    statistics: None,
                }
            }
            PageKind::Other => return Err(self.damaged("it is of no known kind")),
        })
    }

    fn encoding(&self, code: i64) -> ParquetResult<Encoding> {
        page_header::encoding(code).ok_or_else(|| {
            self.chunks.refuse(SourceError::Unsupported {
                url: self.chunks.url(),
                what: format!(
                    "{} of column {:?} in row group {} has encoding number {code}, which is not known here",
                    self.name(),
                    self.chunks.column(self.chunk.column),
                    self.chunk.row_group
                ),
            })
        })
    }

    fn name(&self) -> String {
        match self.header.map(|header| header.kind) {
            Some(PageKind::Dictionary { .. }) => "the dictionary".to_owned(),
            Some(_) | None => format!("page {}", self.number),
        }
    }

    fn damaged(&self, detail: &str) -> ParquetError {
        let detail = format!("{}: {detail}", self.name());
        self.chunks.refuse_damage(self.chunk.column, self.chunk.row_group, &detail)
    }
}

/// Bytes before the values that are never packed.
fn levels(header: &Header) -> usize {
    match header.kind {
        PageKind::DataV2 { definition, repetition, .. } => definition as usize + repetition as usize,
        PageKind::Dictionary { .. } | PageKind::Data { .. } | PageKind::Other => 0,
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn text(error: ParquetError) -> String {
    match error {
        ParquetError::General(text) | ParquetError::EOF(text) => text,
        other => other.to_string(),
    }
}
