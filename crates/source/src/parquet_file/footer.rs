//! Footers: read once, checked, and kept within a budget.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use super::footer_scan::{self, Findings};
use super::leaves::{Leaf, flat_schema, leaves, read_schema};
use super::page_reader::place;
use crate::error::SourceError;
use crate::files::{OpenFile, PinnedFile};

/// The first read from a file's end; most footers fit.
const FIRST_READ: u64 = 64 << 10;
/// The last bytes of a file whose footer is encrypted.
const ENCRYPTED: &[u8] = b"PARE";
/// Bytes of footers that a table keeps. The last one used is kept however large it is.
const CACHE_BYTES: usize = 16 << 20;
/// Row positions hold 40 bits of row in file.
const MOST_ROWS: u64 = 1 << 40;

/// A Parquet file's metadata and columns.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(crate) arrow: ArrowReaderMetadata,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) schema: SchemaRef,
}

impl Footer {
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.arrow.metadata()
    }

    pub(crate) fn read(file: &OpenFile) -> Result<Self, SourceError> {
        let url = file.file().url();
        let (metadata, findings) = metadata(file)?;
        check(url, file.file().size(), &metadata)?;
        // What the library stumbles over may be what the scan knows by name.
        let refused = |error: ParquetError| match &findings.unknown {
            Some(what) => SourceError::Unsupported { url: url.to_owned(), what: what.clone() },
            None => corrupt(url, error),
        };
        let wanted = read_schema(metadata.file_metadata().schema_descr()).map_err(refused)?;
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_schema(Arc::clone(&wanted));
        let arrow = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(refused)?;
        let leaves = leaves(&wanted, &findings.encrypted);
        let schema = flat_schema(&leaves);
        Ok(Self { arrow, leaves, schema })
    }
}

pub(crate) fn corrupt(url: &str, error: ParquetError) -> SourceError {
    SourceError::Corrupt {
        url: url.to_owned(),
        format: "Parquet",
        detail: error.to_string(),
        source: Some(Box::new(error)),
    }
}

fn metadata(file: &OpenFile) -> Result<(ParquetMetaData, Findings), SourceError> {
    let url = file.file().url();
    let size = file.file().size();
    let mut length = size.min(FIRST_READ);
    loop {
        let end = file.read(size - length, usize::try_from(length).unwrap_or(usize::MAX))?;
        if end.ends_with(ENCRYPTED) {
            return Err(SourceError::Encrypted { url: url.to_owned(), what: "its footer is".to_owned() });
        }
        // Statistics are not used, and of many row groups they are most of the memory.
        let options = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let mut reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_metadata_options(Some(options));
        match decode(&mut reader, &end, size) {
            Ok(metadata) => return Ok((metadata, scanned(&end).unwrap_or_default())),
            // The library asks for as many bytes from the end as the footer's length field says.
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > length && needed as u64 <= size => {
                length = needed as u64;
            }
            Err(error) => {
                return Err(match scanned(&end).and_then(|findings| findings.unknown) {
                    Some(what) => SourceError::Unsupported { url: url.to_owned(), what },
                    None => corrupt(url, error),
                });
            }
        }
    }
}

fn decode(reader: &mut ParquetMetaDataReader, end: &Bytes, size: u64) -> Result<ParquetMetaData, ParquetError> {
    reader.try_parse_sized(end, size)?;
    reader.finish()
}

/// What there is to find in the footer at the end of these bytes.
fn scanned(end: &[u8]) -> Option<Findings> {
    let (before, tail) = end.split_last_chunk::<FOOTER_SIZE>()?;
    let length = u32::from_le_bytes(*tail.first_chunk()?) as usize;
    footer_scan::scan(before.get(before.len().checked_sub(length)?..)?).ok()
}

/// Checks what the decoder takes for granted: without it, it panics.
fn check(url: &str, size: u64, metadata: &ParquetMetaData) -> Result<(), SourceError> {
    let corrupt =
        |detail: String| SourceError::Corrupt { url: url.to_owned(), format: "Parquet", detail, source: None };
    let mut rows = 0_u64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let in_group = u64::try_from(group.num_rows())
            .map_err(|_| corrupt(format!("row group {number} says that it has {} rows", group.num_rows())))?;
        rows = rows.saturating_add(in_group);
        if in_group == 0 {
            // Nothing is read of it; some write any offsets.
            continue;
        }
        for column in group.columns() {
            let (start, end) = place(column);
            let inside = column.data_page_offset() >= 0
                && column.uncompressed_size() >= 0
                && column.compressed_size() >= 0
                && end <= size;
            if !inside {
                return Err(corrupt(format!(
                    "column {} of row group {number} should have {} bytes at {start}, and the file has {size}",
                    column.column_path().string(),
                    column.compressed_size()
                )));
            }
        }
    }
    if rows >= MOST_ROWS {
        return Err(SourceError::TooLarge {
            url: url.to_owned(),
            what: format!("the file has {rows} rows, and the limit is {MOST_ROWS} rows in a file"),
        });
    }
    Ok(())
}

/// The footers of the files that were used last.
#[derive(Debug, Default)]
pub(crate) struct Footers {
    kept: Mutex<VecDeque<(usize, Arc<Footer>)>>,
}

impl Footers {
    pub(crate) fn get(&self, number: usize, file: &Arc<PinnedFile>) -> Result<Arc<Footer>, SourceError> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|(held, _)| *held == number)
                && let Some(entry) = kept.remove(at)
            {
                let footer = Arc::clone(&entry.1);
                kept.push_front(entry);
                return Ok(footer);
            }
        }
        let footer = Arc::new(Footer::read(&file.open()?)?);
        self.keep(number, &footer);
        Ok(footer)
    }

    pub(crate) fn keep(&self, number: usize, footer: &Arc<Footer>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(held, _)| *held != number);
        kept.push_front((number, Arc::clone(footer)));
        let mut bytes = 0;
        let fitting = kept
            .iter()
            .take_while(|(_, footer)| {
                bytes += footer.metadata().memory_size();
                bytes <= CACHE_BYTES
            })
            .count();
        kept.truncate(fitting.max(1));
    }
}
