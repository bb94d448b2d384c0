//! The columns of CSV files, from the options and each file's header.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::cuts::{LARGEST_TEXT, UnclosedQuote, parts};
use super::lines::line_of;
use super::rows::{Dialect, Outcome, skip_empty, unescape};
use super::text::{Text, TextWindow};
use super::types;
use crate::error::SourceError;
use crate::files::{OpenFile, PinnedFile};
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
    /// The columns that the options name, with their types.
    typed: Vec<(String, DataType)>,
    header: bool,
    /// The columns of the files that were looked at, by their numbers; files with the same header share them.
    known: Mutex<BTreeMap<usize, (SchemaRef, u64)>>,
    /// Compressed files of which parts were asked for.
    packed: AtomicUsize,
    unpacking: (Mutex<usize>, Condvar),
}

impl CsvTable {
    pub(crate) fn new(options: &CsvOptions) -> Result<Self, SourceError> {
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
        let typed = columns
            .iter()
            .map(|column| Ok((column.name.clone(), types::by_name(&column.name, &column.column_type)?)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        Ok(Self {
            dialect: Dialect { delimiter: *delimiter, quote: *quote },
            nulls: nulls.iter().map(|null| null.clone().into_bytes()).collect(),
            typed,
            header: *header,
            known: Mutex::default(),
            packed: AtomicUsize::new(0),
            unpacking: (Mutex::new(0), Condvar::new()),
        })
    }

    /// How many of the files whose parts were asked for are compressed.
    pub(crate) fn packed(&self) -> usize {
        self.packed.load(Ordering::Relaxed)
    }

    /// The names of the columns to which the options give types.
    pub(crate) fn typed(&self) -> impl Iterator<Item = &String> {
        self.typed.iter().map(|(name, _)| name)
    }

    /// The columns of a file, in its own order.
    pub(crate) fn schema(&self, number: usize, file: &Arc<PinnedFile>) -> Result<SchemaRef, SourceError> {
        self.begin(number, file, None).map(|(schema, _)| schema)
    }

    /// The columns of a file, and the place of its first row.
    fn begin(
        &self,
        number: usize,
        file: &Arc<PinnedFile>,
        open: Option<&Arc<OpenFile>>,
    ) -> Result<(SchemaRef, u64), SourceError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((schema, start)) = known().get(&number) {
            return Ok((Arc::clone(schema), *start));
        }
        let url = file.url();
        if file.size() >= LARGEST_TEXT {
            return Err(SourceError::TooLarge {
                url: url.to_owned(),
                what: format!(
                    "the file has {} bytes, and the limit is {LARGEST_TEXT} bytes in a CSV file",
                    file.size()
                ),
            });
        }
        let file = match open {
            Some(file) => Arc::clone(file),
            None => Arc::new(file.open()?),
        };
        let (text, plain) = Text::of(&file, None, HEADER_BLOCK)?;
        let _turn = text.is_packed().then(|| self.turn());
        let (names, start) = if self.header {
            read_header(self.dialect, &text, plain)?
        } else {
            let mut window = text.begin(plain, None, HEADER_BLOCK)?;
            let begin = window.at(0, BYTE_ORDER_MARK.len())?;
            (self.typed().cloned().collect(), if begin.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 })
        };
        let mut known = known();
        // Nearly always the header is that of a neighbour.
        let neighbours = known.range(..number).next_back().into_iter().chain(known.first_key_value());
        let same = neighbours.map(|(_, (schema, _))| schema).find(|schema| {
            schema.fields().len() == names.len()
                && schema.fields().iter().zip(&names).all(|(field, name)| field.name() == name)
        });
        let schema = same.map_or_else(|| self.schema_of(&names), Arc::clone);
        known.insert(number, (Arc::clone(&schema), start));
        Ok((schema, start))
    }

    fn schema_of(&self, names: &[String]) -> SchemaRef {
        let field = |name: &String| {
            let data_type = self.typed.iter().find(|(typed, _)| typed == name).map(|(_, data_type)| data_type.clone());
            Field::new(name, data_type.unwrap_or(DataType::Utf8), true)
        };
        Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
    }

    /// The parts of a file, each about `target` bytes, both ends at the start of a row.
    pub(crate) fn parts(
        &self,
        number: usize,
        file: &Arc<OpenFile>,
        target: u64,
    ) -> Result<Vec<(u64, u64)>, SourceError> {
        let (_, start) = self.begin(number, file.file(), Some(file))?;
        let (text, _) = Text::of(file, None, HEADER_BLOCK)?;
        let _turn = text.is_packed().then(|| self.turn());
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
