//! Parquet: footers, row groups as splits, and batches of the needed columns.

mod chunks;
mod column;
mod footer;
mod leaves;
mod lengths;
mod limits;
mod page;
mod pages;
mod reader;
mod splits;

pub(crate) use footer::{Footer, Footers};
pub(crate) use leaves::compare;
pub(crate) use reader::{ParquetReader, Request};
pub(crate) use splits::{Piece, group, row_groups};
