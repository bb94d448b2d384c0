//! Parquet: footers, row groups as splits, and batches of the needed columns.

mod chunks;
mod footer;
mod leaves;
mod page;
mod reader;
mod splits;

pub(crate) use footer::{Footer, Footers};
pub(crate) use leaves::compare;
pub(crate) use reader::{ParquetReader, Request};
pub(crate) use splits::{Piece, group, row_groups};
