//! A table as splits of Arrow batches.
//!
//! [`Table::pin`] lists the files and notes their states in a [`Snapshot`]; [`Table::open`] opens exactly those files;
//! [`Table::survey`] finds the type that a column has in all files together; [`Table::splits`] cuts the table into pieces;
//! [`Table::read_as`] reads the needed columns of one piece, batch by batch.
//! A file that is not in the pinned state any more is an error that names it, wherever that is noticed.
//!
//! Everything blocks; parallelism is the caller's, one [`BatchReader`] per thread. See `docs/sources.md` for formats,
//! types, splits and the bounds of memory. Words: `docs/glossary.md`.

mod batch;
mod csv_file;
mod error;
mod file_columns;
mod files;
mod folders;
mod parquet_file;
mod reader;
mod retry;
mod snapshot;
mod spec;
mod split;
mod survey;
mod table;
#[cfg(test)]
mod tests;
mod widen;

pub use batch::{BatchRows, SourceBatch};
pub use error::SourceError;
pub use files::{file_under, pattern_over};
pub use indexbuild_store::{CaCertificates, StoreOptions};
pub use reader::BatchReader;
pub use retry::{FailedRequest, Retry, RetryPolicy};
pub use snapshot::{FileStamp, Snapshot};
pub use spec::{ColumnRules, CsvColumn, CsvOptions, MissingColumns, ReadColumns, ReadOptions, TableSpec};
pub use split::{Split, SplitPart};
pub use table::Table;
