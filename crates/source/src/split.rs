//! Pieces of the table, each read by itself.

use serde::{Deserialize, Serialize};

/// A contiguous piece of one file: the unit of checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Its position among all splits, in the order of files and of rows.
    pub id: u32,
    /// The file's number in the snapshot.
    pub file: u32,
    pub part: SplitPart,
    /// The rows in it, where the file says so (Parquet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The bytes of the needed columns, uncompressed, estimated. For CSV: the length.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SplitPart {
    /// Row groups of a Parquet file.
    RowGroups { first: u32, count: u32 },
    /// Bytes of a CSV file's text, unpacked. Both ends are the start of a row, or the text's end.
    Bytes {
        start: u64,
        /// The byte after the last.
        end: u64,
    },
}

pub(crate) const LEAST_SPLIT: u64 = 4 << 20;
pub(crate) const LARGEST_SPLIT: u64 = 64 << 20;

/// The size that splits should have in a table of `table_bytes`: some thousands of splits, each worth a checkpoint.
///
/// It depends on the table alone, never on slots, threads or memory: the same snapshot always gives the same splits (I10).
pub(crate) fn target_bytes(table_bytes: u64) -> u64 {
    (table_bytes / 4096).clamp(LEAST_SPLIT, LARGEST_SPLIT)
}
