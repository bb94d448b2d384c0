//! From bytes to rows and cells, after RFC 4180.
//!
//! The rules are those of the `csv` crate (the tests hold them against it), with one difference: whether a cell was quoted
//! is kept, because a quoted cell is never NULL. `csv` and `csv-core` do not tell it.
//! - A row ends at `\n`, `\r\n` or `\r` outside quotes, or at the end. Empty lines are no rows.
//! - A quote opens a quoted cell only as the cell's first byte; elsewhere it is a byte like any other.
//! - In a quoted cell two quotes stand for one. After the closing quote only a delimiter or the row's end may follow.

/// Which bytes separate and quote cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
}

/// A cell's place in the buffer, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    start: u32,
    end: u32,
}

const QUOTED: u32 = 1 << 31;
const ESCAPED: u32 = 1 << 30;
/// Buffers are shorter than this, so that a place and two marks fit into 32 bits.
pub(crate) const LONGEST_BUFFER: usize = 1 << 30;

impl Cell {
    fn new(start: usize, end: usize, marks: u32) -> Self {
        // Both are below LONGEST_BUFFER.
        #[allow(clippy::cast_possible_truncation)]
        let (start, end) = (start as u32, end as u32);
        Self { start, end: end | marks }
    }

    /// All of a buffer, as it stands: never NULL.
    pub(super) fn all_of(buffer: &[u8]) -> Self {
        Self::new(0, buffer.len(), QUOTED)
    }

    pub(crate) fn quoted(self) -> bool {
        self.end & QUOTED != 0
    }

    /// Whether it holds doubled quotes.
    pub(crate) fn escaped(self) -> bool {
        self.end & ESCAPED != 0
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn bytes(self, buffer: &[u8]) -> &[u8] {
        let end = (self.end & !(QUOTED | ESCAPED)) as usize;
        buffer.get(self.start as usize..end).unwrap_or_default()
    }
}

/// The outcome of reading a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A row; the next one starts here or later.
    Row { end: usize, cells: usize },
    /// The buffer ends before the row does.
    Partial,
    /// The text goes on after a closing quote, at this place.
    AfterQuote(usize),
}

/// The first byte at or after `at` that is not part of an empty line.
pub(crate) fn skip_empty(buffer: &[u8], mut at: usize) -> usize {
    while matches!(buffer.get(at), Some(b'\n' | b'\r')) {
        at += 1;
    }
    at
}

impl Dialect {
    /// Reads the row that starts at `at`; `wanted` says of each cell whether it is pushed to `cells`.
    ///
    /// `last`: nothing follows the buffer, so that its end ends a row. After anything but [`Outcome::Row`], `cells` may hold
    /// a part of the row.
    pub(crate) fn row(
        &self,
        buffer: &[u8],
        mut at: usize,
        last: bool,
        wanted: &[bool],
        cells: &mut Vec<Cell>,
    ) -> Outcome {
        let mut count = 0;
        loop {
            let keep = wanted.get(count).copied().unwrap_or(false);
            let end = if self.quote.is_some() && buffer.get(at).copied() == self.quote {
                let Some((end, marks)) = self.quoted(buffer, at + 1, last) else { return Outcome::Partial };
                if keep {
                    cells.push(Cell::new(at + 1, end, marks));
                }
                end + 1
            } else {
                let end = self.plain(buffer, at);
                if keep {
                    cells.push(Cell::new(at, end, 0));
                }
                end
            };
            count += 1;
            match buffer.get(end) {
                Some(byte) if *byte == self.delimiter => at = end + 1,
                Some(b'\n' | b'\r') => return Outcome::Row { end: end + 1, cells: count },
                Some(_) => return Outcome::AfterQuote(end),
                None if last => return Outcome::Row { end, cells: count },
                None => return Outcome::Partial,
            }
        }
    }

    /// Where a cell without quotes ends.
    #[inline]
    fn plain(&self, buffer: &[u8], at: usize) -> usize {
        // Most cells are short: a search that is fast on long ones costs more to start than they take.
        const SHORT: usize = 24;
        let rest = buffer.get(at..).unwrap_or_default();
        for (length, byte) in rest.iter().enumerate().take(SHORT) {
            if *byte == self.delimiter || *byte == b'\n' || *byte == b'\r' {
                return at + length;
            }
        }
        let long = rest.get(SHORT..).unwrap_or_default();
        memchr::memchr3(self.delimiter, b'\n', b'\r', long).map_or(buffer.len(), |found| at + SHORT + found)
    }

    /// Where a quoted cell's closing quote is, and its marks. `None`: not in this buffer, or it cannot be known yet.
    fn quoted(&self, buffer: &[u8], mut at: usize, last: bool) -> Option<(usize, u32)> {
        let quote = self.quote?;
        let mut marks = QUOTED;
        loop {
            let found = at + memchr::memchr(quote, buffer.get(at..)?)?;
            match buffer.get(found + 1) {
                Some(next) if *next == quote => {
                    marks |= ESCAPED;
                    at = found + 2;
                }
                None if !last => return None,
                _ => return Some((found, marks)),
            }
        }
    }
}

/// A quoted cell's text: doubled quotes become one.
pub(crate) fn unescape(bytes: &[u8], quote: u8, text: &mut Vec<u8>) {
    text.clear();
    unescape_onto(bytes, quote, text);
}

/// As [`unescape`], behind what is there.
pub(crate) fn unescape_onto(bytes: &[u8], quote: u8, text: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(quote, rest) {
        let (before, after) = rest.split_at(at + 1);
        text.extend_from_slice(before);
        rest = after.get(1..).unwrap_or_default();
    }
    text.extend_from_slice(rest);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All rows, or `None` where the text breaks the rules of quoting.
    fn rows(text: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
        let dialect = Dialect { delimiter: b',', quote: Some(b'"') };
        let (mut rows, mut at) = (Vec::new(), 0);
        loop {
            at = skip_empty(text, at);
            if at == text.len() {
                return Some(rows);
            }
            let mut cells = Vec::new();
            match dialect.row(text, at, true, &[true; 64], &mut cells) {
                Outcome::Row { end, cells: count } => {
                    assert_eq!(count, cells.len());
                    at = end;
                }
                Outcome::Partial | Outcome::AfterQuote(_) => return None,
            }
            rows.push(
                cells
                    .iter()
                    .map(|cell| {
                        let mut value = cell.bytes(text).to_vec();
                        if cell.escaped() {
                            unescape(cell.bytes(text), b'"', &mut value);
                        }
                        value
                    })
                    .collect(),
            );
        }
    }

    fn by_csv_crate(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn rows_and_cells_are_those_of_the_csv_crate(text in "[a\",\r\n]{0,40}|([a-c]{0,30},){1,3}[\"\n,x]{0,6}") {
            if let Some(rows) = rows(text.as_bytes()) {
                prop_assert_eq!(rows, by_csv_crate(text.as_bytes()));
            }
        }

        #[test]
        fn what_the_csv_crate_writes_is_read_back(table in prop::collection::vec(prop::collection::vec(".{0,40}", 1..4), 0..6)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &table {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let expected: Vec<Vec<Vec<u8>>> =
                table.iter().map(|row| row.iter().map(|cell| cell.clone().into_bytes()).collect()).collect();
            prop_assert_eq!(rows(&text), Some(expected));
        }
    }

    #[test]
    fn a_row_is_partial_until_the_byte_that_ends_it_is_there() {
        let dialect = Dialect { delimiter: b',', quote: Some(b'"') };
        let text = b"a,\"b\"\"\n\"\n";
        for length in 0..text.len() - 1 {
            let mut cells = Vec::new();
            let outcome = dialect.row(&text[..length], 0, false, &[true, true], &mut cells);
            assert_eq!(outcome, Outcome::Partial, "after {length} bytes");
        }
        let mut cells = Vec::new();
        let outcome = dialect.row(text, 0, false, &[true, true], &mut cells);
        assert_eq!(outcome, Outcome::Row { end: text.len(), cells: 2 });
        assert!(!cells[0].quoted() && cells[1].quoted() && cells[1].escaped());
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        let dialect = Dialect { delimiter: b',', quote: Some(b'"') };
        let outcome = dialect.row(b"\"a\"b,c\n", 0, true, &[true, true], &mut Vec::new());
        assert_eq!(outcome, Outcome::AfterQuote(3));
    }
}
