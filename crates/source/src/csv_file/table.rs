//! The columns of a CSV table, from the options and the first file's header.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::cuts::{LARGEST_TEXT, UnclosedQuote, parts};
use super::lines::line_of;
use super::rows::{Dialect, Outcome, skip_empty, unescape};
use super::text::{Text, TextWindow};
use super::types;
use crate::error::SourceError;
use crate::files::OpenFile;
use crate::spec::CsvOptions;

pub(super) const LONGEST_HEADER: usize = 4 << 20;
const HEADER_BLOCK: usize = 64 << 10;
/// So many files are unpacked at once when the build is planned: each takes up to 8 MiB besides its blocks.
const UNPACKED_AT_ONCE: usize = 4;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How the table's files are read.
#[derive(Debug)]
pub(crate) struct CsvTable {
    pub(crate) dialect: Dialect,
    pub(crate) nulls: Vec<Vec<u8>>,
    pub(crate) schema: SchemaRef,
    header: bool,
    /// Compressed files of which parts were asked for.
    packed: AtomicUsize,
    unpacking: (Mutex<usize>, Condvar),
}

impl CsvTable {
    pub(crate) fn open(options: &CsvOptions, first: &Arc<OpenFile>) -> Result<Self, SourceError> {
        let CsvOptions { header, delimiter, quote, nulls, columns } = options;
        let invalid = |message: &str| Err(SourceError::InvalidOptions { message: message.to_owned() });
        if Some(*delimiter) == *quote {
            return invalid("the CSV delimiter and quote are the same character; choose another for one of them");
        }
        if [Some(*delimiter), *quote].iter().flatten().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return invalid("the CSV delimiter or quote is a line break; choose another character");
        }
        if !*header && columns.is_empty() {
            return invalid("CSV files without a header need columns: name them in their order, with their types");
        }
        let dialect = Dialect { delimiter: *delimiter, quote: *quote };
        let typed = columns
            .iter()
            .map(|column| Ok((column.name.as_str(), types::by_name(&column.name, &column.column_type)?)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        let names = if *header {
            let (text, plain) = Text::of(first, None, HEADER_BLOCK)?;
            read_header(dialect, &text, plain)?.0
        } else {
            typed.iter().map(|(name, _)| (*name).to_owned()).collect()
        };
        if let Some((missing, _)) = typed.iter().find(|(name, _)| !names.iter().any(|found| found == name)) {
            return Err(SourceError::MissingColumn { column: (*missing).to_owned(), available: names });
        }
        let fields: Vec<Field> = names
            .iter()
            .map(|name| {
                let data_type = typed.iter().find(|(typed, _)| typed == name).map(|(_, data_type)| data_type.clone());
                Field::new(name, data_type.unwrap_or(DataType::Utf8), true)
            })
            .collect();
        let nulls = nulls.iter().map(|null| null.clone().into_bytes()).collect();
        Ok(Self {
            dialect,
            nulls,
            schema: Arc::new(Schema::new(fields)),
            header: *header,
            packed: AtomicUsize::new(0),
            unpacking: (Mutex::new(0), Condvar::new()),
        })
    }

    /// How many of the files whose parts were asked for are compressed.
    pub(crate) fn packed(&self) -> usize {
        self.packed.load(Ordering::Relaxed)
    }

    /// Checks that a further file has the table's header, and gives the place of its first row.
    pub(crate) fn check(&self, first_url: &str, file: &Arc<OpenFile>) -> Result<(), SourceError> {
        self.data_start(first_url, file).map(drop)
    }

    /// The text, and where its first row may start; with the leave to unpack it, where that is needed.
    fn data_start(&self, first_url: &str, file: &Arc<OpenFile>) -> Result<(Text, u64, Option<Turn<'_>>), SourceError> {
        let url = file.file().url();
        if file.file().size() >= LARGEST_TEXT {
            return Err(SourceError::TooLarge {
                url: url.to_owned(),
                what: format!(
                    "the file has {} bytes, and the limit is {LARGEST_TEXT} bytes in a CSV file",
                    file.file().size()
                ),
            });
        }
        let (text, plain) = Text::of(file, None, HEADER_BLOCK)?;
        let turn = text.is_packed().then(|| self.turn());
        if !self.header {
            let start = text.begin(plain, None, HEADER_BLOCK)?.at(0, BYTE_ORDER_MARK.len())?;
            return Ok((text, if start.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 }, turn));
        }
        let (names, start) = read_header(self.dialect, &text, plain)?;
        let expected = self.schema.fields();
        let difference = match names.iter().zip(expected).find(|(name, field)| *name != field.name()) {
            Some((name, field)) => format!("its header has {name:?} where {:?} is expected", field.name()),
            None if names.len() != expected.len() => {
                format!("its header has {} columns, and {} are expected", names.len(), expected.len())
            }
            None => return Ok((text, start, turn)),
        };
        Err(SourceError::SchemaMismatch { first: first_url.to_owned(), other: url.to_owned(), difference })
    }

    /// The parts of a file, each about `target` bytes, both ends at the start of a row.
    pub(crate) fn parts(
        &self,
        first_url: &str,
        file: &Arc<OpenFile>,
        target: u64,
    ) -> Result<Vec<(u64, u64)>, SourceError> {
        let (text, start, _turn) = self.data_start(first_url, file)?;
        let parts = match parts(&text, self.dialect, start, target)? {
            Ok(parts) => parts,
            Err(UnclosedQuote(at)) => {
                file.file().check()?;
                return Err(SourceError::Quoting {
                    url: file.file().url().to_owned(),
                    line: line_of(&text, at)?,
                    detail: "a quote that opens here is never closed".to_owned(),
                });
            }
        };
        file.file().check()?;
        if text.is_packed() {
            self.packed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(parts)
    }

    /// Waits until few enough files are being unpacked.
    fn turn(&self) -> Turn<'_> {
        let (count, bell) = &self.unpacking;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count =
            bell.wait_while(count, |count| *count >= UNPACKED_AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        Turn(self)
    }
}

/// Leave to unpack one file.
struct Turn<'a>(&'a CsvTable);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (count, bell) = &self.0.unpacking;
        *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        bell.notify_one();
    }
}

/// The names in a file's first row, and where the next row may start.
fn read_header(dialect: Dialect, text: &Text, plain: Option<TextWindow>) -> Result<(Vec<String>, u64), SourceError> {
    let url = text.file.file().url();
    let corrupt = |detail: &str| SourceError::Corrupt {
        url: url.to_owned(),
        format: "CSV",
        detail: detail.to_owned(),
        source: None,
    };
    let mut window = text.begin(plain, None, HEADER_BLOCK)?;
    let mut least = HEADER_BLOCK;
    loop {
        let buffer = window.at(0, least)?;
        let last = window.ends_at(buffer.len() as u64);
        let mark = if buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let at = skip_empty(&buffer, mark);
        if at == buffer.len() && last {
            return Err(corrupt("it is empty, and a header was expected"));
        }
        let mut cells = Vec::new();
        let every = vec![true; buffer.len() - at + 1];
        match dialect.row(&buffer, at, last, &every, &mut cells) {
            Outcome::Row { end, cells: _ } => {
                let mut names = Vec::with_capacity(cells.len());
                let mut unescaped = Vec::new();
                for cell in cells {
                    let mut bytes = cell.bytes(&buffer);
                    if let (true, Some(quote)) = (cell.escaped(), dialect.quote) {
                        unescape(bytes, quote, &mut unescaped);
                        bytes = &unescaped;
                    }
                    let name = std::str::from_utf8(bytes).map_err(|_| corrupt("its header is not UTF-8 text"))?;
                    names.push(name.to_owned());
                }
                return Ok((names, end as u64));
            }
            Outcome::AfterQuote(_) => return Err(corrupt("its header has text after a closing quote")),
            Outcome::Partial if last => return Err(corrupt("its header has a quote that is never closed")),
            Outcome::Partial if buffer.len() >= LONGEST_HEADER => {
                return Err(corrupt("its first row, which should be the header, takes more than 4 MiB"));
            }
            Outcome::Partial => least = (buffer.len() * 2).min(LONGEST_HEADER),
        }
    }
}
