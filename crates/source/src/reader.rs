//! A split, read batch by batch, whatever its format.

use crate::batch::SourceBatch;
use crate::csv_file::CsvReader;
use crate::error::SourceError;
use crate::file_columns::FileColumns;
use crate::parquet_file::ParquetReader;

/// Reads a split, batch by batch. After an error it ends.
///
/// When the last row has been given out, the file is checked to be the one of the snapshot; if it is not, the last item
/// is an error. A caller must therefore use nothing of a split before its reader has ended.
pub struct BatchReader {
    reader: FormatReader,
    columns: FileColumns,
    ended: bool,
}

pub(crate) enum FormatReader {
    Parquet(Box<ParquetReader>),
    Csv(Box<CsvReader>),
}

impl BatchReader {
    pub(crate) fn new(reader: FormatReader, columns: FileColumns) -> Self {
        Self { reader, columns, ended: false }
    }
}

impl Iterator for BatchReader {
    type Item = Result<SourceBatch, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match &mut self.reader {
            FormatReader::Parquet(reader) => reader.next_batch(),
            FormatReader::Csv(reader) => reader.next_batch(),
        };
        let item = item.transpose().map(|batch| self.columns.complete(batch?));
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}
