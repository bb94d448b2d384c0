//! Parquet: footers, row groups as splits, and batches of the needed columns.

mod batch_limits;
mod chunks;
mod column;
mod footer;
mod footer_scan;
mod leaves;
mod page_header;
mod page_needs;
mod page_reader;
mod pages;
mod reader;
mod splits;
mod thrift;
mod unpack;
mod value_lengths;

pub(crate) use footer::{Footer, Footers};
pub(crate) use leaves::compare;
pub(crate) use reader::{ParquetReader, ReadRequest};
pub(crate) use splits::{RowGroupRange, group, row_groups};
