//! Batches of a split's rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

use super::batch_limits::{Fit, Limits, fixed_bytes, is_text};
use super::chunks::SharedChunks;
use super::column::{Column, ColumnError, TextLengths, as_views, copied_text};
use super::footer::{Footer, corrupt};
use super::leaves::{Leaf, find};
use super::page_needs::Wanted;
use super::pages::{ColumnSource, PageMemory, Pages};
use crate::batch::{BatchRows, SourceBatch};
use crate::error::SourceError;
use crate::files::PinnedFile;
use crate::spec::ReadOptions;

/// Reads one split of a Parquet file.
pub(crate) struct ParquetReader {
    file: Arc<PinnedFile>,
    number: u32,
    chunks: SharedChunks,
    /// The needed columns, each once.
    columns: Vec<Column>,
    /// For each requested column, its position among the needed ones.
    positions: Vec<usize>,
    schema: SchemaRef,
    limits: Limits,
    /// The place of the next row in the file, and of the row after the split.
    next: u64,
    end: u64,
}

pub(crate) struct ReadRequest<'a> {
    pub(crate) file: &'a Arc<PinnedFile>,
    pub(crate) number: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) columns: &'a [String],
    /// The columns as they are given out.
    pub(crate) schema: SchemaRef,
    pub(crate) options: ReadOptions,
}

/// An error if a column chunk is of a kind that is not read.
fn readable(url: &str, row_group: usize, column: &str, chunk: &ColumnChunkMetaData) -> Result<(), SourceError> {
    let unsupported = |what: String| Err(SourceError::Unsupported { url: url.to_owned(), what });
    if let Some(file) = chunk.file_path().filter(|file| !file.is_empty()) {
        return unsupported(format!("column {column:?} of row group {row_group} lies in another file, {file:?}"));
    }
    match chunk.compression() {
        Compression::LZO => unsupported(format!("column {column:?} of row group {row_group} is packed by LZO")),
        _ => Ok(()),
    }
}

impl ParquetReader {
    pub(crate) fn open(footer: &Footer, request: ReadRequest<'_>) -> Result<Self, SourceError> {
        let ReadRequest { file, number, first, count, columns, schema, options } = request;
        let metadata = footer.metadata();
        let groups: Vec<usize> = (first..first.saturating_add(count)).map(|group| group as usize).collect();
        let foreign = || SourceError::Internal {
            url: file.url().to_owned(),
            detail: format!(
                "the plan names row groups {first}..{}, and the file has {}",
                first.saturating_add(count),
                metadata.num_row_groups()
            ),
        };
        if groups.iter().any(|group| *group >= metadata.num_row_groups()) {
            return Err(foreign());
        }
        let leaves =
            columns.iter().map(|column| find(file.url(), &footer.leaves, column)).collect::<Result<Vec<_>, _>>()?;
        let mut needed: Vec<(usize, &Leaf)> =
            leaves.iter().filter_map(|leaf| leaf.column.map(|at| (at, *leaf))).collect();
        needed.sort_unstable_by_key(|(at, _)| *at);
        needed.dedup_by_key(|(at, _)| *at);

        let rows_of = |groups: &[usize]| {
            groups.iter().map(|group| u64::try_from(metadata.row_group(*group).num_rows()).unwrap_or(0)).sum::<u64>()
        };
        let before: Vec<usize> = (0..first as usize).collect();
        let next = rows_of(&before);
        let end = next + rows_of(&groups);

        for group in &groups {
            for (at, leaf) in &needed {
                let Some(chunk) = metadata.row_group(*group).columns().get(*at) else { return Err(foreign()) };
                readable(file.url(), *group, &leaf.name, chunk)?;
            }
        }
        let names = needed.iter().map(|(_, leaf)| leaf.name.clone()).collect();
        let chunks = SharedChunks::new(file.open()?, names, options.page_budget);
        let descriptors = footer.arrow.parquet_schema();
        let fixed: Vec<u64> =
            needed.iter().map(|(at, leaf)| fixed_bytes(&leaf.data_type, &descriptors.column(*at))).collect();
        let limits = Limits::new(&fixed, &options);
        if let Some(bytes) = limits.every_row_too_large() {
            let widest = (0..fixed.len()).max_by_key(|column| fixed.get(*column)).unwrap_or(0);
            return Err(chunks.value_too_large(widest, first as usize, bytes, limits.row));
        }
        // Bytes that are read ahead come out of the same memory: that of two pages.
        let of_pages = options.page_budget.saturating_mul(2).saturating_sub(chunks.read_ahead());
        let memory = PageMemory::new(of_pages.max(options.page_budget), needed.len());
        let wanted: Arc<[Wanted]> =
            needed.iter().map(|(at, leaf)| Wanted { leaf: *at, is_text: is_text(&leaf.data_type) }).collect();
        let views = as_views(footer.arrow.schema().fields());
        let of_text = needed.iter().filter(|(_, leaf)| is_text(&leaf.data_type)).count() as u64;
        let column = |(column, (at, leaf)): (usize, &(usize, &Leaf))| {
            let pages = Pages::new(ColumnSource {
                chunks: chunks.clone(),
                metadata: Arc::clone(footer.arrow.metadata()),
                memory: Arc::clone(&memory),
                wanted: Arc::clone(&wanted),
                leaf: *at,
                column,
                borrows: is_text(&leaf.data_type),
                most_rows: limits.rows,
                copied_bytes: limits.batch / of_text.max(1),
                largest_value: limits.row,
            });
            Column::new(descriptors, &views, footer.arrow.metadata(), leaf, *at, pages, groups.clone())
        };
        let columns = needed.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>();
        let columns = columns.map_err(|error| corrupt(file.url(), error))?;
        let position = |leaf: &&Leaf| needed.iter().position(|(at, _)| Some(*at) == leaf.column).unwrap_or(0);
        let positions = leaves.iter().map(position).collect();
        Ok(Self { file: Arc::clone(file), number, chunks, columns, positions, schema, limits, next, end })
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        let rows = self.rows()?;
        if rows == 0 {
            self.file.check()?;
            if self.next != self.end {
                return Err(self.damaged(format!("row groups of {} rows end after row {}", self.end, self.next)));
            }
            return Ok(None);
        }
        let first = self.next;
        self.next += rows as u64;
        let arrays: Vec<ArrayRef> =
            self.columns.iter_mut().filter_map(|column| column.take(rows)).map(copied_text).collect();
        let columns = self.positions.iter().filter_map(|position| arrays.get(*position)).map(Arc::clone).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.map_err(|error| self.explain(error))?;
        Ok(Some(SourceBatch { batch, file: self.number, rows: BatchRows::From(first) }))
    }

    /// How many rows the next batch has: as many as all columns have at hand, and as fit.
    fn rows(&mut self) -> Result<usize, SourceError> {
        if self.columns.is_empty() {
            let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
            return Ok(left.min(self.limits.rows));
        }
        let mut fewest = usize::MAX;
        for column in 0..self.columns.len() {
            let found = self.columns.get_mut(column).map_or(Ok(0), Column::fill);
            fewest = fewest.min(found.map_err(|failed| self.failed(failed))?);
        }
        let arrays: Vec<&ArrayRef> = self.columns.iter().filter_map(Column::decoded).collect();
        if fewest == 0 && !arrays.is_empty() {
            let row = self.next;
            return Err(self.damaged(format!("one column ends before row {row}, and another goes on")));
        }
        let texts: Vec<TextLengths<'_>> = arrays.iter().filter_map(|array| TextLengths::of(array)).collect();
        if texts.is_empty() {
            // Without text, as many rows as the limit always fit.
            return Ok(fewest.min(self.limits.rows));
        }
        match self.limits.fit(fewest, |row| texts.iter().map(|text| text.get(row)).sum()) {
            Fit::Rows(rows) => Ok(rows),
            Fit::TooLarge(bytes) => {
                let length = |column: &usize| {
                    let array = self.columns.get(*column).and_then(Column::decoded);
                    array.and_then(TextLengths::of).map_or(0, |texts| texts.get(0))
                };
                let longest = (0..self.columns.len()).max_by_key(length).unwrap_or(0);
                let row_group = self.columns.get(longest).map_or(0, Column::row_group);
                Err(self.chunks.value_too_large(longest, row_group, bytes, self.limits.row))
            }
        }
    }

    fn failed(&self, failed: ColumnError) -> SourceError {
        match failed {
            ColumnError::Arrow(error) => self.explain(error),
            ColumnError::Panicked => self.damaged("its decoder stopped at data that it did not expect".to_owned()),
        }
    }

    fn damaged(&self, detail: String) -> SourceError {
        // A file that was replaced while it was read looks damaged, too.
        match self.file.check() {
            Err(error) => error,
            Ok(()) => SourceError::Corrupt { url: self.file.url().to_owned(), format: "Parquet", detail, source: None },
        }
    }

    fn explain(&self, error: ArrowError) -> SourceError {
        if let Some(cause) = self.chunks.take_failure() {
            return cause;
        }
        match self.damaged(error.to_string()) {
            SourceError::Corrupt { url, format, detail, source: _ } => {
                SourceError::Corrupt { url, format, detail, source: Some(Box::new(error)) }
            }
            other => other,
        }
    }
}
