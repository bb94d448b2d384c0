//! Rows as they come out of a split.

use arrow_array::RecordBatch;

/// Some rows of a split.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The columns, in the order in which they were asked for.
    pub batch: RecordBatch,
    /// The file's number in the snapshot.
    pub file: u32,
    pub rows: BatchRows,
}

/// Rows' places in their file: for Parquet the row's number, for CSV the byte where it starts. Both are below 2^40.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchRows {
    /// The first row's place; the others follow one by one.
    From(u64),
    Each(Vec<u64>),
}
