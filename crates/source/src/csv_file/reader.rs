//! Batches of a split's rows.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use super::cells::{CellError, Column};
use super::lines::{line_of, row_length};
use super::rows::{Cell, LONGEST_BUFFER, Outcome, skip_empty};
use super::table::{CsvTable, LONGEST_HEADER};
use super::text::{Text, TextWindow};
use super::types;
use crate::batch::{BatchRows, SourceBatch};
use crate::error::SourceError;
use crate::files::OpenFile;
use crate::spec::ReadOptions;

const BLOCK: usize = 1 << 20;
/// Two of them are in memory at most: one in use, one under way.
const REMOTE_BLOCK: usize = 2 << 20;
/// The longest beginning of a cell that an error shows.
const SHOWN: usize = 80;

/// Reads one split of a CSV file.
pub(crate) struct CsvReader {
    table: Arc<CsvTable>,
    text: Text,
    number: u32,
    window: TextWindow,
    at: u64,
    end: u64,
    /// For each column of the file, whether it is needed.
    wanted: Vec<bool>,
    /// For each requested column, its position among the needed ones.
    positions: Vec<usize>,
    /// How many columns are needed.
    width: usize,
    schema: SchemaRef,
    batch_rows: usize,
    /// The most bytes of a batch's cells, unless a single row has more, and of a row's.
    batch_bytes: usize,
    row_bytes: usize,
    /// The most bytes of a row in the file.
    row_budget: usize,
    cells: Vec<Cell>,
}

impl CsvReader {
    pub(crate) fn open(
        table: &Arc<CsvTable>,
        file: OpenFile,
        number: u32,
        (start, end): (u64, u64),
        (columns, of): (&[usize], usize),
        schema: SchemaRef,
        options: ReadOptions,
    ) -> Result<Self, SourceError> {
        let mut wanted = vec![false; of];
        for column in columns {
            if let Some(wanted) = wanted.get_mut(*column) {
                *wanted = true;
            }
        }
        let needed_before = |column: usize| wanted.iter().take(column).filter(|wanted| **wanted).count();
        let positions = columns.iter().map(|column| needed_before(*column)).collect();
        let width = needed_before(wanted.len());
        let fixed = schema.fields().iter().map(|field| fixed_bytes(field.data_type())).sum::<u64>().max(1);
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let batch_bytes = options.batch_bytes.min(options.row_budget);
        let file = Arc::new(file);
        let block = if file.is_remote() { REMOTE_BLOCK } else { BLOCK };
        // A compressed file is one split, which begins with its first row.
        let (text, window) = if start > LONGEST_HEADER as u64 {
            let text = Text::plain(&file);
            let window = text.window(start, Some(end), block)?;
            (text, window)
        } else {
            let (text, plain) = Text::of(&file, Some(end), block)?;
            let window = text.begin(plain, Some(end), block)?;
            (text, window)
        };
        if !text.is_packed() && end > file.file().size() {
            return Err(SourceError::Internal {
                url: file.file().url().to_owned(),
                detail: format!("a split ends at byte {end}, behind the file's end"),
            });
        }
        Ok(Self {
            table: Arc::clone(table),
            window,
            text,
            number,
            at: start,
            end,
            wanted,
            positions,
            width,
            schema,
            // Half of a batch is for what every row takes, the other half for its texts.
            batch_rows: options.batch_rows.min(bytes(batch_bytes / 2 / fixed)).max(1),
            batch_bytes: bytes(batch_bytes),
            row_bytes: bytes(options.row_budget),
            row_budget: bytes(options.page_budget).min(LONGEST_BUFFER / 4),
            cells: Vec::new(),
        })
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        let mut least = 1;
        while self.at < self.end {
            let buffer = self.window.at(self.at, least)?;
            let last = self.at + buffer.len() as u64 >= self.end;
            self.cells.clear();
            let mut places = Vec::with_capacity(self.batch_rows.min(buffer.len() / 4 + 1));
            let mut done = 0;
            let mut bytes = 0_usize;
            while places.len() < self.batch_rows {
                done = skip_empty(&buffer, done);
                if done == buffer.len() {
                    break;
                }
                match self.table.dialect.row(&buffer, done, last, &self.wanted, &mut self.cells) {
                    Outcome::Row { end, cells } => {
                        if cells != self.wanted.len() {
                            return Err(self.field_count(done, cells));
                        }
                        let row = self.cells.iter().skip(places.len() * self.width);
                        let row = row.map(|cell| cell.bytes(&buffer).len()).sum::<usize>();
                        bytes += row;
                        if places.is_empty() && row > self.row_bytes {
                            return Err(self.row_too_large(done, self.row_bytes));
                        }
                        if !places.is_empty() && bytes > self.batch_bytes {
                            self.cells.truncate(places.len() * self.width);
                            break;
                        }
                        places.push(self.at + done as u64);
                        done = end;
                    }
                    Outcome::Partial => {
                        self.cells.truncate(places.len() * self.width);
                        break;
                    }
                    Outcome::AfterQuote(at) => {
                        return Err(self.quoting(
                            at,
                            "text follows a closing quote inside a cell (a quote in a quoted cell is written twice)",
                        ));
                    }
                }
            }
            if places.is_empty() {
                // An empty line, or a row that is longer than the buffer.
                self.at += done as u64;
                if done < buffer.len() {
                    if last {
                        return Err(self.quoting(0, "a quote is opened in this row and never closed"));
                    }
                    let held = buffer.len() - done;
                    if held >= self.row_budget {
                        return Err(self.row_too_large(0, self.row_budget));
                    }
                    least = (2 * held).max(BLOCK).min(self.row_budget);
                }
                continue;
            }
            let batch = self.batch(&buffer, places.len())?;
            self.at += done as u64;
            return Ok(Some(SourceBatch { batch, file: self.number, rows: BatchRows::Each(places) }));
        }
        self.text.file.file().check()?;
        Ok(None)
    }

    fn batch(&self, buffer: &[u8], rows: usize) -> Result<RecordBatch, SourceError> {
        let mut arrays = Vec::with_capacity(self.positions.len());
        for (position, field) in self.positions.iter().zip(self.schema.fields()) {
            let column = Column {
                buffer,
                cells: &self.cells,
                first: *position,
                stride: self.width,
                nulls: &self.table.nulls,
                quote: self.table.dialect.quote.unwrap_or_default(),
            };
            match column.array(field.data_type()) {
                Ok(array) => arrays.push(array),
                Err(CellError::Row(row)) => {
                    let cell = self.cells.get(row * self.width + position);
                    return Err(self.cell(buffer, cell.copied(), field.name(), field.data_type()));
                }
                Err(CellError::Arrow(error)) => return Err(self.internal(&error)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| self.internal(&error))
    }

    fn url(&self) -> String {
        self.text.file.file().url().to_owned()
    }

    /// An error about what is at this place of the buffer. A file that was replaced looks damaged: that is asked first.
    fn at_line(&self, at: usize, error: impl FnOnce(u64) -> SourceError) -> SourceError {
        let changed = self.text.file.file().check();
        match changed.and_then(|()| line_of(&self.text, self.at + at as u64)) {
            Ok(line) => error(line),
            Err(other) => other,
        }
    }

    fn field_count(&self, at: usize, found: usize) -> SourceError {
        self.at_line(at, |line| SourceError::FieldCount { url: self.url(), line, expected: self.wanted.len(), found })
    }

    fn quoting(&self, at: usize, detail: &str) -> SourceError {
        self.at_line(at, |line| SourceError::Quoting { url: self.url(), line, detail: detail.to_owned() })
    }

    fn row_too_large(&self, at: usize, budget: usize) -> SourceError {
        let start = self.at + at as u64;
        match row_length(&self.text, &self.table.dialect, start, self.end) {
            Ok(bytes) => {
                let budget = budget as u64;
                self.at_line(at, |line| SourceError::RowTooLarge { url: self.url(), line, bytes, budget })
            }
            Err(error) => error,
        }
    }

    fn cell(&self, buffer: &[u8], cell: Option<Cell>, column: &str, data_type: &DataType) -> SourceError {
        let bytes = cell.map(|cell| cell.bytes(buffer)).unwrap_or_default();
        let mut value: String = String::from_utf8_lossy(bytes).chars().take(SHOWN).collect();
        if value.len() < bytes.len() && value.chars().count() == SHOWN {
            value.push('…');
        }
        self.at_line(cell.map(Cell::start).unwrap_or_default(), |line| SourceError::Cell {
            url: self.url(),
            line,
            column: column.to_owned(),
            value,
            expected: types::describe(data_type),
        })
    }

    fn internal(&self, error: &ArrowError) -> SourceError {
        SourceError::Internal { url: self.url(), detail: error.to_string() }
    }
}

/// The bytes that a column takes in every row of a batch: its cell's place, and its value or a text's offset.
fn fixed_bytes(data_type: &DataType) -> u64 {
    (size_of::<Cell>() + data_type.primitive_width().unwrap_or(size_of::<i32>()) + 1) as u64
}
