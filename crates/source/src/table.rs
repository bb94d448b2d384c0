//! A table: files of one format. In their columns they may differ.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::{Schema, SchemaRef};
use indexbuild_store::{StoreOptions, in_parallel};

use crate::csv_file::{CsvReader, CsvTable};
use crate::error::SourceError;
use crate::file_columns::FileColumns;
use crate::files::{FILES_AT_ONCE, PinnedFile, Stores, list};
use crate::folders::Folders;
use crate::parquet_file::{Footers, ParquetReader, ReadRequest, RowGroupRange, group, row_groups};
use crate::reader::{BatchReader, FormatReader};
use crate::retry::RetryPolicy;
use crate::snapshot::Snapshot;
use crate::spec::{ColumnRules, MissingColumns, ReadColumns, ReadOptions, TableSpec};
use crate::split::{Split, SplitPart, target_bytes};
use crate::survey::{Survey, available};

/// Files of which a survey holds at once what they say.
const SURVEYED_AT_ONCE: usize = 1024;
/// What a column takes of a row, roughly, in a file that does not hold it.
const OTHER_BYTES: u64 = 8;

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

    /// The table of a snapshot. Every file is checked to be in the pinned state; only the first one's columns are read.
    pub fn open(spec: &TableSpec, settings: &StoreOptions, snapshot: &Snapshot) -> Result<Self, SourceError> {
        Self::open_in(spec, &Stores::new(settings), snapshot)
    }

    /// Lists the files, notes their states, and opens the table, with a retry policy for stores that may be away for a
    /// while. [`Table::survey`] then reads every footer or header.
    pub fn pin_with(spec: &TableSpec, policy: Arc<dyn RetryPolicy>) -> Result<(Snapshot, Self), SourceError> {
        let stores = Stores::with_policy(policy);
        let snapshot = list(spec.urls(), &stores)?;
        let table = Self::open_in(spec, &stores, &snapshot)?;
        Ok((snapshot, table))
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
        table.survey(&[], &ColumnRules::default())?;
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
        let format = match spec {
            TableSpec::Parquet { urls: _ } => Format::Parquet(Footers::default()),
            TableSpec::Csv { urls: _, options } => Format::Csv(Arc::new(CsvTable::new(options)?)),
        };
        let schema = format.schema(0, first)?;
        Ok(Self { inner: Arc::new(Inner { files, format, schema }) })
    }

    /// The columns of the first file and the folders in its path, and what is used and is elsewhere in the table: what is used,
    /// with the least type that holds its values in all files unchanged.
    ///
    /// Reads every footer or header. A pure function of the set of files, whatever their order (I10).
    pub fn survey(&self, columns: &[String], rules: &ColumnRules) -> Result<SchemaRef, SourceError> {
        let typed = match &self.inner.format {
            Format::Parquet(_) => None,
            Format::Csv(table) => Some(table.typed()),
        };
        let mut survey = Survey::new(columns, typed.into_iter().flatten(), rules)?;
        let numbered: Vec<_> = self.inner.files.iter().enumerate().collect();
        for some in numbered.chunks(SURVEYED_AT_ONCE) {
            let said = in_parallel(some, FILES_AT_ONCE, |(number, file)| {
                let schema = self.inner.format.schema(*number, file)?;
                survey.ask(file.url(), &schema)
            })?;
            for says in said {
                survey.add(says)?;
            }
        }
        survey.finish(self.first_url(), &self.inner.schema)
    }

    /// The URL of a file by its number in the snapshot.
    pub fn url_of(&self, file: u32) -> Option<&str> {
        self.inner.files.get(usize::try_from(file).ok()?).map(|file| file.url())
    }

    fn first_url(&self) -> &str {
        self.inner.files.first().map_or("", |file| file.url())
    }

    /// The columns of the first file. Leaves of structs are named `a.b`; lists and maps are shown, but cannot be read.
    pub fn schema(&self) -> &SchemaRef {
        &self.inner.schema
    }

    /// The columns of the first file with these names, in this order.
    pub fn project(&self, columns: &[String]) -> Result<SchemaRef, SourceError> {
        let fields = self.inner.schema.fields();
        let field = |column: &String| {
            let found = fields.iter().find(|field| field.name() == column);
            found.cloned().ok_or_else(|| self.missing(column))
        };
        Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>, _>>()?)))
    }

    fn missing(&self, column: &str) -> SourceError {
        match Folders::of(self.first_url()) {
            Err(error) => error,
            Ok(folders) => SourceError::MissingColumn {
                column: column.to_owned(),
                available: available(&self.inner.schema, &folders),
            },
        }
    }

    /// The table in pieces of 4 to 64 MiB (a larger row group is one piece), in the order of files and rows.
    ///
    /// A pure function of the snapshot and the columns (I10). To find them, a CSV file with quotes is read once.
    pub fn splits(&self, columns: &[String]) -> Result<Vec<Split>, SourceError> {
        self.splits_of(columns, target_bytes)
    }

    /// `target`: the size of splits, given the bytes of the table.
    pub(crate) fn splits_of(&self, columns: &[String], target: impl Fn(u64) -> u64) -> Result<Vec<Split>, SourceError> {
        let numbered: Vec<_> = self.inner.files.iter().enumerate().collect();
        let found = Mutex::new(vec![false; columns.len()]);
        // Those of the columns that are in a file. What is in none, and in no folder's name, is an error.
        let held = |number: usize, file: &Arc<PinnedFile>| {
            let schema = self.inner.format.schema(number, file)?;
            let folders = Folders::of(file.url())?;
            let in_file = |column: &String| schema.fields().iter().any(|field| field.name() == column);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            for (found, column) in found.iter_mut().zip(columns) {
                *found |= in_file(column) || folders.has(column);
            }
            Ok::<_, SourceError>(columns.iter().filter(|column| in_file(column)).cloned().collect::<Vec<_>>())
        };
        let splits = match &self.inner.format {
            Format::Parquet(footers) => {
                let per_file = in_parallel(&numbered, FILES_AT_ONCE, |(number, file)| {
                    let held = held(*number, file)?;
                    let footer = footers.get(*number, file)?;
                    let mut groups = row_groups(file.url(), &footer, &held)?;
                    // What a file does not hold takes room, too: without this, a table that is read for its folders' names
                    // alone were one split.
                    let others = (columns.len() - held.len()) as u64 * OTHER_BYTES;
                    for group in &mut groups {
                        group.bytes = group.bytes.saturating_add(group.rows.saturating_mul(others));
                    }
                    Ok(groups)
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
                in_parallel(&numbered, FILES_AT_ONCE, |(number, file)| held(*number, file).map(drop))?;
                let target = target(self.inner.files.iter().map(|file| file.size()).fold(0, u64::saturating_add));
                let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                let per_file = in_parallel(&numbered, threads, |(number, file)| {
                    table.parts(*number, &Arc::new(file.open()?), target)
                })?;
                let pieces = per_file.into_iter().enumerate().flat_map(|(file, parts)| {
                    parts
                        .into_iter()
                        .map(move |(start, end)| (file, SplitPart::Bytes { start, end }, None, end - start))
                });
                self.numbered(pieces)
            }
        }?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        match columns.iter().zip(found).find(|(_, found)| !found) {
            Some((column, _)) => Err(self.missing(column)),
            None => Ok(splits),
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

    /// As [`Table::read_as`], with the types that the first file's columns have.
    pub fn read(&self, split: &Split, columns: &[String], options: &ReadOptions) -> Result<BatchReader, SourceError> {
        let columns = ReadColumns { schema: self.project(columns)?, missing: MissingColumns::Fail };
        self.read_as(split, &columns, options)
    }

    /// Reads a split's columns. Each reader belongs to one thread; how many there are is the caller's choice.
    pub fn read_as(
        &self,
        split: &Split,
        columns: &ReadColumns,
        options: &ReadOptions,
    ) -> Result<BatchReader, SourceError> {
        let Split { id, file: number, part, rows: _, bytes: _ } = split;
        let foreign = || SourceError::Internal {
            url: self.first_url().to_owned(),
            detail: format!("split {id} does not belong to this table"),
        };
        let file = self.inner.files.get(*number as usize).ok_or_else(foreign)?;
        let held = self.inner.format.schema(*number as usize, file)?;
        let columns = FileColumns::new(file.url(), &held, columns)?;
        let options = columns.options(options);
        let schema = Arc::clone(&columns.schema);
        let reader = match (&self.inner.format, *part) {
            (Format::Parquet(footers), SplitPart::RowGroups { first, count }) => {
                let footer = footers.get(*number as usize, file)?;
                let columns = &columns.names;
                let request = ReadRequest { file, number: *number, first, count, columns, schema, options };
                FormatReader::Parquet(Box::new(ParquetReader::open(&footer, request)?))
            }
            (Format::Csv(table), SplitPart::Bytes { start, end }) if start <= end => {
                let places = (columns.places.as_slice(), held.fields().len());
                let part = (start, end);
                let file = file.open()?;
                FormatReader::Csv(Box::new(CsvReader::open(table, file, *number, part, places, schema, options)?))
            }
            (Format::Parquet(_), SplitPart::Bytes { .. })
            | (Format::Csv(_), SplitPart::RowGroups { .. } | SplitPart::Bytes { .. }) => return Err(foreign()),
        };
        Ok(BatchReader::new(reader, columns))
    }
}

impl Format {
    /// The columns of a file.
    fn schema(&self, number: usize, file: &Arc<PinnedFile>) -> Result<SchemaRef, SourceError> {
        match self {
            Self::Parquet(footers) => Ok(Arc::clone(&footers.get(number, file)?.schema)),
            Self::Csv(table) => table.schema(number, file),
        }
    }
}
