//! The options of SST files, and the RocksDB that checks them. The engine writes the files
//! (`crates/engine/src/sort/writer.rs`).

mod check_db;
mod error;
mod options;
mod raw;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::check_db::OpenHandle;
pub use self::check_db::{CheckDb, DbCounts, open_handles};
pub use self::error::DbError;
pub use self::options::{sst_options, sst_options_with_filter};
