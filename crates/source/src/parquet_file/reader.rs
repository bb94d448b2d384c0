//! Batches of a split's rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::chunks::{Chunk, SharedChunks};
use super::footer::{Footer, corrupt};
use super::leaves::{Leaf, find};
use super::splits::column_bytes;
use crate::batch::{BatchRows, SourceBatch};
use crate::error::SourceError;
use crate::files::SourceFile;
use crate::spec::ReadOptions;

/// Reads one split of a Parquet file.
pub(crate) struct ParquetReader {
    file: Arc<SourceFile>,
    number: u32,
    chunks: SharedChunks,
    decoder: ParquetRecordBatchReader,
    /// Where each asked-for column is in the decoder's batches.
    paths: Vec<Vec<String>>,
    schema: SchemaRef,
    /// The place of the next row in the file, and of the row after the split.
    next: u64,
    end: u64,
}

/// What to read.
pub(crate) struct Request<'a> {
    pub(crate) file: &'a Arc<SourceFile>,
    pub(crate) number: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// The columns by name.
    pub(crate) columns: &'a [String],
    /// The columns as they are given out.
    pub(crate) schema: SchemaRef,
    pub(crate) options: ReadOptions,
}

impl ParquetReader {
    pub(crate) fn open(footer: &Footer, request: Request<'_>) -> Result<Self, SourceError> {
        let Request { file, number, first, count, columns, schema, options } = request;
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

        let mut chunks = Vec::new();
        let mut widest_row = 1;
        for group in &groups {
            let row_group = metadata.row_group(*group);
            let mut bytes = 0_u64;
            for (column, (at, leaf)) in needed.iter().enumerate() {
                bytes = bytes.saturating_add(column_bytes(row_group, leaf));
                let Some(chunk) = row_group.columns().get(*at) else { return Err(foreign()) };
                let (start, length) = chunk.byte_range();
                chunks.push(Chunk {
                    start,
                    end: start + length,
                    row_group: *group,
                    column,
                    check_pages: u64::try_from(chunk.uncompressed_size()).unwrap_or(u64::MAX) > options.page_budget
                        || length > options.page_budget,
                });
            }
            let rows = u64::try_from(row_group.num_rows()).unwrap_or(0).max(1);
            widest_row = widest_row.max(bytes / rows);
        }
        // A batch of long values must fit into memory, too.
        let fitting = usize::try_from(options.page_budget / widest_row).unwrap_or(usize::MAX);
        let batch_rows = options.batch_rows.min(fitting).max(1);

        let names = needed.iter().map(|(_, leaf)| leaf.name.clone()).collect();
        let chunks = SharedChunks::new(file.open()?, chunks, names, options.page_budget);
        let mask = ProjectionMask::leaves(footer.arrow.parquet_schema(), needed.iter().map(|(at, _)| *at));
        let decoder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks.clone(), footer.arrow.clone())
            .with_row_groups(groups)
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .build()
            .map_err(|error| corrupt(file.url(), error))?;
        let paths = leaves.iter().map(|leaf| leaf.path.clone()).collect();
        Ok(Self { file: Arc::clone(file), number, chunks, decoder, paths, schema, next, end })
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        // On damaged input the decoder of the parquet library may panic (apache/arrow-rs#5563 and others); a panic would
        // take the whole process down without naming the file.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decoder.next()));
        let batch = match decoded {
            Ok(None) => {
                self.file.check()?;
                if self.next != self.end {
                    return Err(
                        self.damaged(format!("row groups that claim {} rows end after row {}", self.end, self.next))
                    );
                }
                return Ok(None);
            }
            Ok(Some(Ok(batch))) => batch,
            Ok(Some(Err(error))) => return Err(self.explain(error)),
            Err(_) => return Err(self.damaged("its decoder stopped at data that it did not expect".to_owned())),
        };
        let rows = batch.num_rows();
        let first = self.next;
        self.next += rows as u64;
        let columns =
            self.paths.iter().map(|path| column(&batch, path)).collect::<Result<Vec<_>, _>>().and_then(|columns| {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            });
        let batch = columns.map_err(|error| self.explain(error))?;
        Ok(Some(SourceBatch { batch, file: self.number, rows: BatchRows::From(first) }))
    }

    fn damaged(&self, detail: String) -> SourceError {
        // A file that was replaced while it was read looks damaged; say what it is.
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

/// A column of a batch, out of the structs around it. Where a struct is NULL, its leaves are.
fn column(batch: &RecordBatch, path: &[String]) -> Result<ArrayRef, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("the decoder gave no column {}", path.join(".")));
    let (first, inner) = path.split_first().ok_or_else(missing)?;
    let mut array = Arc::clone(batch.column_by_name(first).ok_or_else(missing)?);
    let mut nulls: Option<NullBuffer> = None;
    for name in inner {
        let parent = array.as_any().downcast_ref::<StructArray>().ok_or_else(missing)?;
        nulls = NullBuffer::union(nulls.as_ref(), parent.nulls());
        let child = Arc::clone(parent.column_by_name(name).ok_or_else(missing)?);
        array = child;
    }
    let Some(nulls) = nulls else { return Ok(array) };
    let union = NullBuffer::union(Some(&nulls), array.nulls());
    if union.as_ref() == array.nulls() {
        return Ok(array);
    }
    Ok(make_array(array.to_data().into_builder().nulls(union).build()?))
}
