//! What can go wrong when a table is read.

use std::error::Error;
use std::io;

use indexbuild_store::{Asked, Fault, missing_right};

/// A table could not be read: what happened, to which file or column, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No file is where the URL points, or none matches its pattern.
    #[error("{url}: no file matches; check the URL and, for an object store, the bucket and its credentials")]
    NoFiles { url: String },
    #[error("{url}: the bucket does not exist; create it, or correct the URL")]
    NoBucket { url: String },
    #[error("{url}: unknown URL scheme; known are {}", known.join(", "))]
    UnknownScheme { url: String, known: Vec<String> },
    #[error("{url}: {why}")]
    InvalidUrl {
        url: String,
        /// What is wrong with it, and what to write instead.
        why: String,
    },
    #[error("{message}")]
    InvalidOptions {
        /// What is wrong, and what to write instead.
        message: String,
    },
    /// A file is not in the state in which it was when the build was planned.
    #[error(
        "{url} changed while the index is being built: it was {was}, and is {is}; a build is over the files as they were when it began, and a new one is over them as they are then"
    )]
    FileChanged {
        url: String,
        /// Its state in the snapshot.
        was: String,
        is: String,
    },
    #[error("{url} is damaged or not a {format} file: {detail}; write the file again, or leave it out")]
    Corrupt {
        url: String,
        format: &'static str,
        detail: String,
        /// The decoder's own error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    #[error("column {column:?} is not in the table; its columns are {}", available.join(", "))]
    MissingColumn { column: String, available: Vec<String> },
    #[error("{url} has several columns named {column:?}; rename all but one of them")]
    AmbiguousColumn { url: String, column: String },
    /// A column has a type that cannot be read, or a type's name is not known.
    #[error("column {column:?} has the type {data_type}, which cannot be read; {hint}")]
    UnsupportedType { column: String, data_type: String, hint: String },
    /// A column that is used has types in two files that no type holds together.
    #[error(
        "column {column:?} is {first_type} in {first} and {other_type} in {other}, and no type holds both without changing a value; write one of the files again, or leave the column out"
    )]
    TypeMismatch {
        column: String,
        /// The file before, and the column's type there.
        first: String,
        first_type: String,
        /// The file that differs from it.
        other: String,
        other_type: String,
    },
    /// A column that is used is in some of the table's files only.
    #[error(
        "{url} has no column {column:?}, which is used; write the file again with it, leave the file or the column out, or set missingColumns: \"Null\" in the source (with the quotes: without them YAML reads it as absent), by which it is NULL in that file"
    )]
    MissingInFile { url: String, column: String },
    /// A column that is used stands in a file, and in a folder's name besides.
    #[error(
        "column {column:?} is in {url}, and in the name of a folder of {folder} too; which one is meant cannot be told: rename the column or the folders, or write the files without the column"
    )]
    PartitionIsColumn {
        column: String,
        /// The file with the column.
        url: String,
        /// The file, the same or another, with a folder `column=value`.
        folder: String,
    },
    #[error("{url} is in several folders {column}=...; leave one of them, or rename them")]
    PartitionTwice { url: String, column: String },
    #[error(
        "{url}: the folder's name says that {column:?} is {value:?}, which is not {expected}; rename the folder, leave the file out, or give the partition another type"
    )]
    PartitionValue {
        url: String,
        column: String,
        /// The text, decoded.
        value: String,
        expected: String,
    },
    #[error(
        "partition {column:?} of the source is in no file's path; name one of the folders {column}=..., or take it out of partitions"
    )]
    MissingPartition { column: String },
    /// A value has no place in the type that the column has in all files together.
    #[error(
        "{url}, row at {place}, column {column:?}: {value} does not fit into {data_type}, which the column is in other files; write those files with the type of this one, or leave the column out"
    )]
    DoesNotFit {
        url: String,
        /// The row's number for Parquet, its first byte for CSV.
        place: u64,
        column: String,
        value: String,
        data_type: String,
    },
    /// A Parquet file, or columns of it, are encrypted.
    #[error(
        "{url}: {what} encrypted, and no keys can be given here; write the file without encryption, or leave out what is encrypted"
    )]
    Encrypted {
        url: String,
        /// What is, with the verb.
        what: String,
    },
    /// A Parquet file has something that the format allows and that is not read.
    #[error("{url}: {what}, which is not supported; write the file in another way, or leave the column out")]
    Unsupported { url: String, what: String },
    /// The bytes of a Parquet page are not those of which its checksum is.
    #[error(
        "{url}: {page} of column {column:?} in row group {row_group} is damaged: its checksum is {found:08x}, and its header says {expected:08x}; write the file again, or leave it out"
    )]
    WrongChecksum {
        url: String,
        /// The row group's number, from 0.
        row_group: usize,
        column: String,
        /// The page: its number among those of data, from 0, or that it is the dictionary.
        page: String,
        expected: u32,
        found: u32,
    },
    /// A Parquet page does not fit into the memory that may be used for pages.
    #[error(
        "{url}: a page of column {column:?} in row group {row_group} takes {bytes} bytes, and the budget of pages is {budget} bytes, where {needed} suffice; give the executors more memory, or write the file with smaller pages"
    )]
    PageTooLarge {
        url: String,
        /// The row group's number, from 0.
        row_group: usize,
        column: String,
        /// The bytes that it takes while it is read.
        bytes: u64,
        /// The budget of all pages in bytes.
        budget: u64,
        /// A budget with which the file's pages can be read.
        needed: u64,
    },
    /// The Parquet pages that must be in memory at once do not fit into what may be used for them.
    #[error(
        "{url}: the pages that {columns} columns need at once, with the next one of column {column:?} in row group {row_group}, take {bytes} bytes, and the budget of pages is {budget} bytes, where {needed} suffice; give the executors more memory, use fewer columns, or write the file with smaller pages"
    )]
    PagesTooLarge {
        url: String,
        /// The row group's number, from 0.
        row_group: usize,
        /// The column whose page does not fit.
        column: String,
        columns: usize,
        /// What their pages take, with that page, in bytes.
        bytes: u64,
        /// The budget in bytes.
        budget: u64,
        /// A budget with which the file's pages can be read.
        needed: u64,
    },
    /// A Parquet value, or a row with it, does not fit into the memory that may be used for a row.
    #[error(
        "{url}: a row of row group {row_group} takes {bytes} bytes, most of them in column {column:?}, and the budget is {budget}; give the executors more memory, or leave the column out"
    )]
    ValueTooLarge {
        url: String,
        /// The row group's number, from 0.
        row_group: usize,
        /// The column with the row's largest value.
        column: String,
        /// The bytes of the row's needed columns, or of that value alone.
        bytes: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// A CSV row does not fit into the memory that may be used for it.
    #[error(
        "{url}, line {line}: the row has {bytes} bytes, of at most {budget} that it may take; a quote that is never closed looks like that; close it, or give the executors more memory"
    )]
    RowTooLarge {
        url: String,
        /// The line where the row starts, from 1.
        line: u64,
        /// The bytes of the row as it stands in the file.
        bytes: u64,
        /// The budget in bytes.
        budget: u64,
    },
    #[error(
        "{url}, line {line}, column {column:?}: {value:?} is not {expected}; correct the cell, list it under nulls, or give the column another type"
    )]
    Cell {
        url: String,
        /// The line in which the cell starts, from 1.
        line: u64,
        column: String,
        /// The cell's text, its beginning if it is long.
        value: String,
        expected: String,
    },
    #[error(
        "{url}, line {line}: the row has {found} cells, and the table {expected} columns; correct the row, or the delimiter and quote of the source"
    )]
    FieldCount {
        url: String,
        /// The line where the row starts, from 1.
        line: u64,
        expected: usize,
        found: usize,
    },
    #[error("{url}, line {line}: {detail}; correct the row, or the quote of the source")]
    Quoting {
        url: String,
        /// The line, from 1.
        line: u64,
        detail: String,
    },
    #[error("{url}: {what}; split the table")]
    TooLarge {
        url: String,
        /// What is too large, and the limit.
        what: String,
    },
    #[error(
        "{url} may not be read: {source}; {}",
        right.as_deref().unwrap_or("give the user or the credentials of this process the right to read it")
    )]
    Denied {
        /// The file, folder or URL.
        url: String,
        /// The right that is missing, where a store's refusal is about one.
        right: Option<String>,
        /// The system's or the store's answer.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{url}: the object store's settings do not work: {source}; check endpoint, region and credentials")]
    Settings {
        url: String,
        /// What the store's client says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{url} cannot be read from its store, which answers: {answer}; check the URL, the endpoint and the region")]
    Unusable { url: String, answer: String },
    #[error("{url} could not be read: {source}; check the disk or mount that holds it")]
    Io {
        url: String,
        #[source]
        source: io::Error,
    },
    #[error("{url} could not be read from its store: {source}; check that the store can be reached")]
    Store {
        url: String,
        /// What the store's client says, after its own retries.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{url}: {detail}; report it with the file that brings it about")]
    Internal { url: String, detail: String },
}

impl SourceError {
    /// Whether the same read may succeed later with nothing changed by a person.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { url: _, source } => !lasts(source),
            Self::Store { url: _, source: _ } => true,
            Self::NoFiles { .. }
            | Self::NoBucket { .. }
            | Self::UnknownScheme { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidOptions { .. }
            | Self::FileChanged { .. }
            | Self::Corrupt { .. }
            | Self::MissingColumn { .. }
            | Self::AmbiguousColumn { .. }
            | Self::UnsupportedType { .. }
            | Self::TypeMismatch { .. }
            | Self::MissingInFile { .. }
            | Self::PartitionIsColumn { .. }
            | Self::PartitionTwice { .. }
            | Self::PartitionValue { .. }
            | Self::MissingPartition { .. }
            | Self::DoesNotFit { .. }
            | Self::Encrypted { .. }
            | Self::Unsupported { .. }
            | Self::WrongChecksum { .. }
            | Self::PageTooLarge { .. }
            | Self::PagesTooLarge { .. }
            | Self::ValueTooLarge { .. }
            | Self::RowTooLarge { .. }
            | Self::Cell { .. }
            | Self::FieldCount { .. }
            | Self::Quoting { .. }
            | Self::TooLarge { .. }
            | Self::Denied { .. }
            | Self::Settings { .. }
            | Self::Unusable { .. }
            | Self::Internal { .. } => false,
        }
    }

    /// The budget of Parquet pages that suffices, in bytes, where that is what was too small; see [`ReadOptions::with_pages`].
    ///
    /// [`ReadOptions::with_pages`]: crate::ReadOptions::with_pages
    pub fn pages_needed(&self) -> Option<u64> {
        match self {
            Self::PageTooLarge { needed, .. } | Self::PagesTooLarge { needed, .. } => Some(*needed),
            _ => None,
        }
    }

    /// The bytes of the row, or of its largest value, where that is what the budget of a row was too small for.
    pub fn row_needed(&self) -> Option<u64> {
        match self {
            Self::ValueTooLarge { bytes, .. } | Self::RowTooLarge { bytes, .. } => Some(*bytes),
            _ => None,
        }
    }

    pub(crate) fn from_io(url: &str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { url: url.to_owned(), right: None, source: Box::new(source) }
        } else {
            Self::Io { url: url.to_owned(), source }
        }
    }

    /// A store's answer to whoever asked this of it, for what `url` names.
    pub(crate) fn from_store(url: &str, asked: Asked, source: object_store::Error) -> Self {
        let url = url.to_owned();
        match Fault::of(&source) {
            Fault::NotFound => Self::NoFiles { url },
            Fault::NoBucket => Self::NoBucket { url },
            Fault::Refused => {
                let right = missing_right(of_list(&url, asked), asked, &source);
                Self::Denied { url, right, source: Box::new(source) }
            }
            Fault::Outage => Self::Store { url, source: Box::new(source) },
            Fault::Final => match source {
                object_store::Error::UnknownConfigurationKey { .. } => Self::Settings { url, source: Box::new(source) },
                object_store::Error::InvalidPath { .. }
                | object_store::Error::NotSupported { .. }
                | object_store::Error::NotImplemented { .. } => Self::InvalidUrl { url, why: source.to_string() },
                other => Self::Unusable { url, answer: indexbuild_store::answer(&other) },
            },
        }
    }
}

/// What is wrong with the path itself, or with what stands there, is so at the next try too.
fn lasts(error: &io::Error) -> bool {
    let looped = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    looped
        || matches!(
            error.kind(),
            io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput
        )
}

/// What a list is of: the folder before the first part that is a pattern.
pub(crate) fn of_list(url: &str, asked: Asked) -> &str {
    match (asked, url.find(['*', '?', '['])) {
        (Asked::List, Some(first)) => {
            url.get(..first).and_then(|before| before.rsplit_once('/')).map_or(url, |(folder, _)| folder)
        }
        _ => url,
    }
}
