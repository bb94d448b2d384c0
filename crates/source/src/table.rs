//! A table: files of one format and one schema.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use indexbuild_store::{StoreOptions, in_parallel};

use crate::batch::SourceBatch;
use crate::csv_file::{CsvReader, CsvTable};
use crate::error::SourceError;
use crate::files::{FILES_AT_ONCE, PinnedFile, Stores, list};
use crate::parquet_file::{Footer, Footers, ParquetReader, ReadRequest, RowGroupRange, compare, group, row_groups};
use crate::reader::{BatchReader, FormatReader};
use crate::retry::RetryPolicy;
use crate::snapshot::Snapshot;
use crate::spec::{ReadOptions, TableSpec};
use crate::split::{Split, SplitPart, target_bytes};

/// A table in the state that a snapshot pins. Clones share everything; all methods block.
#[derive(Clone, Debug)]
pub struct Table {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Vec<Arc<PinnedFile>>,
    format: Format,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Format {
    Parquet(Footers),
    Csv(Arc<CsvTable>),
}

impl Table {
    /// Lists the files and notes their states. Every footer or header is read, so that what cannot be read is known now.
    pub fn pin(spec: &TableSpec, settings: &StoreOptions) -> Result<Snapshot, SourceError> {
        Self::pin_in(spec, &Stores::new(settings))
    }

    /// The table of a snapshot. Every file is checked to be in the pinned state; only the first one's schema is read.
    pub fn open(spec: &TableSpec, settings: &StoreOptions, snapshot: &Snapshot) -> Result<Self, SourceError> {
        Self::open_in(spec, &Stores::new(settings), snapshot)
    }

    /// As [`Table::pin`], with a retry policy for stores that may be away for a while.
    pub fn pin_with(spec: &TableSpec, policy: Arc<dyn RetryPolicy>) -> Result<Snapshot, SourceError> {
        Self::pin_in(spec, &Stores::with_policy(policy))
    }

    /// As [`Table::open`], with a retry policy for this and each later read.
    pub fn open_with(spec: &TableSpec, policy: Arc<dyn RetryPolicy>, snapshot: &Snapshot) -> Result<Self, SourceError> {
        Self::open_in(spec, &Stores::with_policy(policy), snapshot)
    }

    /// The files as they are now, listed and not looked into.
    pub fn list(spec: &TableSpec, settings: &StoreOptions) -> Result<Snapshot, SourceError> {
        list(spec.urls(), &Stores::new(settings))
    }

    pub(crate) fn pin_in(spec: &TableSpec, stores: &Stores) -> Result<Snapshot, SourceError> {
        let snapshot = list(spec.urls(), stores)?;
        let table = Self::open_in(spec, stores, &snapshot)?;
        table.check_schemas()?;
        Ok(snapshot)
    }

    pub(crate) fn open_in(spec: &TableSpec, stores: &Stores, snapshot: &Snapshot) -> Result<Self, SourceError> {
        let files = snapshot
            .files
            .iter()
            .map(|stamp| PinnedFile::new(stamp, stores).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        in_parallel(&files, FILES_AT_ONCE, |file| file.check())?;
        let Some(first) = files.first() else {
            return Err(SourceError::NoFiles { url: spec.urls().join(", ") });
        };
        let (format, schema) = match spec {
            TableSpec::Parquet { urls: _ } => {
                let footers = Footers::default();
                let footer = footers.get(0, first)?;
                (Format::Parquet(footers), Arc::clone(&footer.schema))
            }
            TableSpec::Csv { urls: _, options } => {
                let table = CsvTable::open(options, &Arc::new(first.open()?))?;
                let schema = Arc::clone(&table.schema);
                (Format::Csv(Arc::new(table)), schema)
            }
        };
        Ok(Self { inner: Arc::new(Inner { files, format, schema }) })
    }

    fn check_schemas(&self) -> Result<(), SourceError> {
        let numbered: Vec<_> = self.inner.files.iter().enumerate().collect();
        in_parallel(&numbered, FILES_AT_ONCE, |(number, file)| match &self.inner.format {
            Format::Parquet(footers) => self.footer(footers, *number, file).map(drop),
            Format::Csv(table) => table.check(self.first_url(), &Arc::new(file.open()?)),
        })?;
        Ok(())
    }

    /// A file's footer, checked to have the table's columns.
    fn footer(&self, footers: &Footers, number: usize, file: &Arc<PinnedFile>) -> Result<Arc<Footer>, SourceError> {
        let footer = footers.get(number, file)?;
        match compare(&self.inner.schema, &footer.schema) {
            None => Ok(footer),
            Some(difference) => Err(SourceError::SchemaMismatch {
                first: self.first_url().to_owned(),
                other: file.url().to_owned(),
                difference,
            }),
        }
    }

    /// The URL of a file by its number in the snapshot.
    pub fn url_of(&self, file: u32) -> Option<&str> {
        self.inner.files.get(usize::try_from(file).ok()?).map(|file| file.url())
    }

    fn first_url(&self) -> &str {
        self.inner.files.first().map_or("", |file| file.url())
    }

    /// The columns. Leaves of structs are named `a.b`; lists and maps are shown, but cannot be read.
    pub fn schema(&self) -> &SchemaRef {
        &self.inner.schema
    }

    /// The columns with these names, in this order.
    pub fn project(&self, columns: &[String]) -> Result<SchemaRef, SourceError> {
        let fields = self.indices(columns)?.into_iter().map(|at| self.inner.schema.field(at).clone());
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn indices(&self, columns: &[String]) -> Result<Vec<usize>, SourceError> {
        let fields = self.inner.schema.fields();
        let index = |column: &String| {
            let mut named = fields.iter().enumerate().filter(|(_, field)| field.name() == column).map(|(at, _)| at);
            let at = named.next().ok_or_else(|| SourceError::MissingColumn {
                column: column.clone(),
                available: fields.iter().map(|field| field.name().clone()).collect(),
            })?;
            match named.next() {
                None => Ok(at),
                Some(_) => {
                    Err(SourceError::AmbiguousColumn { url: self.first_url().to_owned(), column: column.clone() })
                }
            }
        };
        columns.iter().map(index).collect()
    }

    /// The table in pieces of 4 to 64 MiB (a larger row group is one piece), in the order of files and rows.
    ///
    /// A pure function of the snapshot and the columns (I10). To find them, a CSV file with quotes is read once.
    pub fn splits(&self, columns: &[String]) -> Result<Vec<Split>, SourceError> {
        self.splits_of(columns, target_bytes)
    }

    /// `target`: the size of splits, given the bytes of the table.
    pub(crate) fn splits_of(&self, columns: &[String], target: impl Fn(u64) -> u64) -> Result<Vec<Split>, SourceError> {
        self.indices(columns)?;
        match &self.inner.format {
            Format::Parquet(footers) => {
                let numbered: Vec<_> = self.inner.files.iter().enumerate().collect();
                let per_file = in_parallel(&numbered, FILES_AT_ONCE, |(number, file)| {
                    let footer = self.footer(footers, *number, file)?;
                    row_groups(file.url(), &footer, columns)
                })?;
                let target = target(per_file.iter().flatten().map(|group| group.bytes).fold(0, u64::saturating_add));
                let pieces = per_file.into_iter().enumerate().flat_map(|(file, row_groups)| {
                    group(row_groups, target).into_iter().map(move |RowGroupRange { first, count, rows, bytes }| {
                        (file, SplitPart::RowGroups { first, count }, Some(rows), bytes)
                    })
                });
                self.numbered(pieces)
            }
            Format::Csv(table) => {
                let target = target(self.inner.files.iter().map(|file| file.size()).fold(0, u64::saturating_add));
                let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                let per_file = in_parallel(&self.inner.files, threads, |file| {
                    table.parts(self.first_url(), &Arc::new(file.open()?), target)
                })?;
                let pieces = per_file.into_iter().enumerate().flat_map(|(file, parts)| {
                    parts
                        .into_iter()
                        .map(move |(start, end)| (file, SplitPart::Bytes { start, end }, None, end - start))
                });
                self.numbered(pieces)
            }
        }
    }

    /// How many of the files are compressed, and therefore one split each; known once the splits are.
    pub fn compressed_files(&self) -> usize {
        match &self.inner.format {
            Format::Parquet(_) => 0,
            Format::Csv(table) => table.packed(),
        }
    }

    fn numbered(
        &self,
        pieces: impl Iterator<Item = (usize, SplitPart, Option<u64>, u64)>,
    ) -> Result<Vec<Split>, SourceError> {
        let too_many = || SourceError::TooLarge {
            url: self.first_url().to_owned(),
            what: "the table has more than 2^32 splits".to_owned(),
        };
        pieces
            .enumerate()
            .map(|(id, (file, part, rows, bytes))| {
                let id = u32::try_from(id).map_err(|_| too_many())?;
                let file = u32::try_from(file).map_err(|_| too_many())?;
                Ok(Split { id, file, part, rows, bytes })
            })
            .collect()
    }

    /// Reads a split's columns. Each reader belongs to one thread; how many there are is the caller's choice.
    pub fn read(&self, split: &Split, columns: &[String], options: &ReadOptions) -> Result<BatchReader, SourceError> {
        let Split { id, file: number, part, rows: _, bytes: _ } = split;
        let schema = self.project(columns)?;
        let foreign = || SourceError::Internal {
            url: self.first_url().to_owned(),
            detail: format!("split {id} does not belong to this table"),
        };
        let file = self.inner.files.get(*number as usize).ok_or_else(foreign)?;
        let reader = match (&self.inner.format, *part) {
            (Format::Parquet(footers), SplitPart::RowGroups { first, count }) => {
                let footer = self.footer(footers, *number as usize, file)?;
                let request = ReadRequest { file, number: *number, first, count, columns, schema, options: *options };
                FormatReader::Parquet(Box::new(ParquetReader::open(&footer, request)?))
            }
            (Format::Csv(table), SplitPart::Bytes { start, end }) if start <= end => {
                let indices = self.indices(columns)?;
                let part = (start, end);
                FormatReader::Csv(Box::new(CsvReader::open(
                    table,
                    file.open()?,
                    *number,
                    part,
                    &indices,
                    schema,
                    *options,
                )?))
            }
            (Format::Parquet(_), SplitPart::Bytes { .. })
            | (Format::Csv(_), SplitPart::RowGroups { .. } | SplitPart::Bytes { .. }) => return Err(foreign()),
        };
        Ok(BatchReader::new(reader))
    }

    /// A split's first rows, as many as one batch holds; `None` if it has none.
    pub fn sample(
        &self,
        split: &Split,
        columns: &[String],
        options: &ReadOptions,
    ) -> Result<Option<SourceBatch>, SourceError> {
        self.read(split, columns, options)?.next().transpose()
    }
}
