//! Which table is read, and how.

use serde::{Deserialize, Serialize};

/// The table's files and their format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TableSpec {
    Parquet {
        /// `s3://`, `gs://`, `az://`, `http(s)://`, `file://` URLs or plain paths; each may hold `*`, `?`, `[..]` and `**`.
        urls: Vec<String>,
    },
    Csv {
        urls: Vec<String>,
        /// How the files are written.
        options: CsvOptions,
    },
}

impl TableSpec {
    pub fn urls(&self) -> &[String] {
        match self {
            Self::Parquet { urls } | Self::Csv { urls, options: _ } => urls,
        }
    }
}

/// How CSV files are written: RFC 4180 with a choice of characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CsvOptions {
    /// Whether each file's first row names the columns.
    pub header: bool,
    /// The byte between two cells.
    pub delimiter: u8,
    /// The byte around cells that hold delimiters or line breaks, doubled inside; `None`: no cell is quoted.
    pub quote: Option<u8>,
    /// The unquoted texts that mean NULL. A quoted cell is never NULL.
    pub nulls: Vec<String>,
    /// With a header: the types of the columns that are not text. Without: all columns in their order.
    pub columns: Vec<CsvColumn>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { header: true, delimiter: b',', quote: Some(b'"'), nulls: vec![String::new()], columns: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CsvColumn {
    pub name: String,
    /// `bool`, `int8`..`int64`, `uint8`..`uint64`, `float32`, `float64`, `decimal(p,s)`, `date`, `time`, `timestamp`,
    /// `timestamptz`, `string` or `bytes`. Times and timestamps are in microseconds.
    #[serde(rename = "type")]
    pub column_type: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The most rows of one batch. Batches may be smaller where rows are long.
    pub batch_rows: usize,
    /// The most bytes of one batch's values, unless a single row takes more.
    pub batch_bytes: u64,
    /// The most bytes of the values of one row.
    pub row_budget: u64,
    /// The most bytes of one CSV row as it is in the file. The Parquet pages that a reader holds, of all its columns, take
    /// twice as many at most.
    pub page_budget: u64,
}

impl ReadOptions {
    /// The same, with a budget of `bytes` for all Parquet pages together.
    #[must_use]
    pub fn with_pages(self, bytes: u64) -> Self {
        Self { page_budget: bytes.div_ceil(2), ..self }
    }
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_rows: 8192, batch_bytes: 16 << 20, row_budget: 64 << 20, page_budget: 64 << 20 }
    }
}
