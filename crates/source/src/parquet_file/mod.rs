//! Parquet: footers, row groups as splits, and batches of the needed columns.

mod batch_limits;
mod caught;
mod chunks;
mod column;
mod footer;
mod leaves;
mod page_header;
mod pages;
mod reader;
mod splits;
mod value_lengths;

pub(crate) use footer::Footers;
pub(crate) use reader::{ParquetReader, ReadRequest};
pub(crate) use splits::{RowGroupRange, group, row_groups};
