//! The fast path of the key encoding: an Arrow batch becomes entries, column by column.
//!
//! Fixed-width keys are packed into one integer each and become bytes only when they are written
//! ([`PackedLayout`]); all others go to an [`Arena`]. Nothing is allocated per row. The result is
//! that of [`crate::codec`], which tests hold it to.

mod bodies;
mod long;
mod packed;
mod text;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::NullBuffer;

use self::bodies::{Bodies, BodyUse};
pub use self::long::LongEntry;
pub use self::packed::PackedLayout;
use self::text::{DictionaryCache, Text};
use crate::codec::{ENCODING_VERSION, FILE_BITS, FLAG_NULL_FIRST, FLAG_NULL_LAST, FLAG_VALUE, MAX_KEY_BYTES, ROW_BITS};
use crate::definition::{ColumnType, IndexDefinition, InvalidDefinition, KeyColumn, Nulls, Order, RowId};

/// Encodes batches for one index. One per thread: it keeps scratch space and what it learned of
/// dictionaries.
#[derive(Debug)]
pub struct Encoder {
    def: Arc<IndexDefinition>,
    packed: Option<PackedLayout>,
    /// Per column of key and row id.
    memos: Vec<DictionaryCache>,
}

/// Where a batch's rows stand in the source.
#[derive(Clone, Copy, Debug)]
pub struct RowPositions<'a> {
    /// The file's number, below 2²⁴.
    pub file: u32,
    /// The rows in it.
    pub rows: Rows<'a>,
}

/// Which rows of a file a batch holds.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Neighbours, beginning with this one.
    From(u64),
    /// These, one per row of the batch.
    Each(&'a [u64]),
}

impl RowPositions<'_> {
    fn of(&self, row: usize) -> u64 {
        match self.rows {
            Rows::From(first) => first + row as u64,
            Rows::Each(rows) => rows.get(row).copied().unwrap_or_default(),
        }
    }
}

/// Encoded entries, in the order of their rows within each of the two parts.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Entries in packed form ([`PackedLayout`]).
    pub packed: Vec<u128>,
    /// Entries without a packed form: all, when the index has none; else those with NULL in a key
    /// column.
    pub general: Arena,
}

impl Entries {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packed.len() + self.general.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.packed.clear();
        self.general.bytes.clear();
        self.general.entries.clear();
    }
}

/// Entries as bytes, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    /// Key and value of each entry.
    pub bytes: Vec<u8>,
    /// Where they are.
    pub entries: Vec<ArenaEntry>,
}

/// An entry in an [`Arena`]: key bytes, then value bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaEntry {
    /// Where the key begins.
    pub offset: u32,
    /// The key's length.
    pub key_len: u32,
    /// The value's length.
    pub value_len: u32,
}

impl Arena {
    /// An entry's stored key.
    #[must_use]
    #[inline]
    pub fn key(&self, entry: ArenaEntry) -> &[u8] {
        let start = entry.offset as usize;
        self.bytes.get(start..start + entry.key_len as usize).unwrap_or_default()
    }

    /// An entry's stored value.
    #[must_use]
    #[inline]
    pub fn value(&self, entry: ArenaEntry) -> &[u8] {
        let start = entry.offset as usize + entry.key_len as usize;
        self.bytes.get(start..start + entry.value_len as usize).unwrap_or_default()
    }
}

/// A row that cannot be indexed, or a batch that is not of the index.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The definition itself.
    #[error(transparent)]
    Definition(#[from] InvalidDefinition),
    /// The batch lacks a column.
    #[error("index `{index}` needs column `{column}`, which the rows do not have")]
    MissingColumn {
        /// The index.
        index: String,
        /// The column.
        column: String,
    },
    /// The batch's column has another type.
    #[error("column `{column}` of index `{index}` is of type {actual}; the index was planned for {expected}")]
    WrongType {
        /// The index.
        index: String,
        /// The column.
        column: String,
        /// The planned type.
        expected: ColumnType,
        /// The batch's type.
        actual: String,
    },
    /// NULL in the row id.
    #[error(
        "row id column `{column}` of index `{index}` is NULL in row {row} of file {file}; \
         a row id names a row: choose columns that are never NULL, or leave rowId out"
    )]
    NullRowId {
        /// The index.
        index: String,
        /// The column.
        column: String,
        /// The file's number.
        file: u32,
        /// The row in the file.
        row: u64,
    },
    /// The stored key is too long.
    #[error(
        "row {row} of file {file} has a key of {bytes} bytes in index `{index}`; at most {MAX_KEY_BYTES} are possible: \
         index a shorter column"
    )]
    KeyTooLong {
        /// The index.
        index: String,
        /// The file's number.
        file: u32,
        /// The row in the file.
        row: u64,
        /// The key's length, in bytes.
        bytes: usize,
    },
    /// A decimal that the column's precision or scale cannot hold.
    #[error(
        "row {row} of file {file} has {value} in column `{column}` of index `{index}`, which does not fit in {expected}"
    )]
    DecimalDoesNotFit {
        /// The index.
        index: String,
        /// The column.
        column: String,
        /// The file's number.
        file: u32,
        /// The row in the file.
        row: u64,
        /// The value, as the file has it.
        value: String,
        /// The planned type.
        expected: ColumnType,
    },
    /// The row's place does not fit in a row id.
    #[error("row {row} of file {file} has no row id: positions end at 2^24 files of 2^40 rows; name rowId columns")]
    PositionTooLarge {
        /// The file's number.
        file: u32,
        /// The row in the file.
        row: u64,
    },
    /// The caller gave positions for another number of rows.
    #[error("a batch of {rows} rows came with {positions} positions")]
    PositionsDoNotMatch {
        /// Rows of the batch.
        rows: usize,
        /// Positions given.
        positions: usize,
    },
    /// The arena is addressed by 32 bits.
    #[error("the encoded rows of index `{index}` exceed 4 GiB in one buffer; use smaller batches")]
    BufferTooLarge {
        /// The index.
        index: String,
    },
}

/// Names what went wrong in which index and where.
struct Context<'a> {
    index: &'a str,
    at: RowPositions<'a>,
}

/// A key column of one batch, its values' bodies at hand.
struct BoundColumn<'a> {
    body: Body<'a>,
    nulls: Option<NullBuffer>,
    null_flag: u8,
}

enum Body<'a> {
    Fixed { bodies: Bodies, width: usize },
    Text { text: Text<'a>, descending: bool, cache: &'a mut DictionaryCache },
}

impl BoundColumn<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes flag and body; whether the row is NULL.
    #[inline]
    fn write(&mut self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.is_null(row) {
            out.push(self.null_flag);
            return true;
        }
        out.push(FLAG_VALUE);
        match &mut self.body {
            Body::Fixed { bodies, width } => bodies.write(row, *width, out),
            Body::Text { text, descending, cache } => text.write_escaped(row, *descending, cache, out),
        }
        false
    }
}

/// An included column of one batch.
struct Included<'a> {
    body: Plain<'a>,
    nulls: Option<NullBuffer>,
}

enum Plain<'a> {
    Fixed { bodies: Bodies, width: usize },
    Text(Text<'a>),
}

impl Encoder {
    /// An encoder for this index.
    ///
    /// # Errors
    /// [`EncodeError::Definition`].
    pub fn new(def: Arc<IndexDefinition>) -> Result<Self, EncodeError> {
        def.check()?;
        let packed = PackedLayout::of(&def);
        let memos = std::iter::repeat_with(DictionaryCache::default)
            .take(def.columns.len() + def.row_id_columns().len())
            .collect();
        Ok(Self { def, packed, memos })
    }

    /// The index.
    #[must_use]
    pub fn definition(&self) -> &Arc<IndexDefinition> {
        &self.def
    }

    /// The packed form of this index's entries: there is one when all key columns and the row id
    /// are of fixed width, their bodies take 16 bytes at most, and nothing is included.
    #[must_use]
    pub fn packed(&self) -> Option<&PackedLayout> {
        self.packed.as_ref()
    }

    /// Appends one entry per row of `batch`, whose columns are found by name.
    ///
    /// # Errors
    /// [`EncodeError`]; what was appended by then is of no use.
    pub fn encode(&mut self, batch: &RecordBatch, at: &RowPositions<'_>, out: &mut Entries) -> Result<(), EncodeError> {
        let Self { def, packed, memos } = self;
        let rows = batch.num_rows();
        let context = Context { index: &def.name, at: *at };
        check_positions(def, at, rows)?;
        let (key_memos, row_id_memos) = memos.split_at_mut(def.columns.len());
        let mut keys = bind_all(batch, &def.columns, key_memos, &context)?;
        let mut row_id = bind_all(batch, def.row_id_columns(), row_id_memos, &context)?;
        check_row_id(def, &row_id, at, rows)?;
        let mut writer = RowWriter { def, context, at: *at };
        let Some(layout) = packed else {
            let included = bind_included(batch, def, &writer.context)?;
            for row in 0..rows {
                writer.write(row, &mut keys, &mut row_id, &included, &mut out.general)?;
            }
            return Ok(());
        };
        let start = out.packed.len();
        out.packed.resize(start + rows, 0);
        let target = &mut out.packed[start..];
        let mut shift = layout.width() * 8;
        for bound in keys.iter().chain(&row_id) {
            if let Body::Fixed { bodies, width } = &bound.body {
                shift -= width * 8;
                bodies.pack(shift, target);
            }
        }
        if def.row_id == RowId::Position {
            let file = u128::from(at.file) << ROW_BITS;
            match at.rows {
                Rows::From(first) => {
                    target.iter_mut().zip(first..).for_each(|(packed, row)| *packed |= file | u128::from(row));
                }
                Rows::Each(each) => {
                    target.iter_mut().zip(each).for_each(|(packed, row)| *packed |= file | u128::from(*row));
                }
            }
        }
        let nulls = keys.iter().fold(None, |nulls, bound| NullBuffer::union(nulls.as_ref(), bound.nulls.as_ref()));
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
            return Ok(());
        };
        let mut kept = start;
        for row in 0..rows {
            if nulls.is_null(row) {
                writer.write(row, &mut keys, &mut row_id, &[], &mut out.general)?;
            } else {
                out.packed[kept] = out.packed[start + row];
                kept += 1;
            }
        }
        out.packed.truncate(kept);
        Ok(())
    }
}

fn check_positions(def: &IndexDefinition, at: &RowPositions<'_>, rows: usize) -> Result<(), EncodeError> {
    if let Rows::Each(each) = at.rows
        && each.len() != rows
    {
        return Err(EncodeError::PositionsDoNotMatch { rows, positions: each.len() });
    }
    if def.row_id != RowId::Position || rows == 0 {
        return Ok(());
    }
    let last = match at.rows {
        Rows::From(first) => first.saturating_add(rows as u64 - 1),
        Rows::Each(each) => each.iter().copied().max().unwrap_or_default(),
    };
    if at.file >> FILE_BITS != 0 || last >> ROW_BITS != 0 {
        return Err(EncodeError::PositionTooLarge { file: at.file, row: last });
    }
    Ok(())
}

/// A row id names a row: none of its columns is NULL.
fn check_row_id(
    def: &IndexDefinition,
    row_id: &[BoundColumn<'_>],
    at: &RowPositions<'_>,
    rows: usize,
) -> Result<(), EncodeError> {
    for (bound, column) in row_id.iter().zip(def.row_id_columns()) {
        if let Some(nulls) = bound.nulls.as_ref().filter(|nulls| nulls.null_count() > 0) {
            let row = (0..rows).find(|row| nulls.is_null(*row)).unwrap_or_default();
            let (index, column) = (def.name.clone(), column.name.clone());
            return Err(EncodeError::NullRowId { index, column, file: at.file, row: at.of(row) });
        }
    }
    Ok(())
}

fn column_of<'b>(
    batch: &'b RecordBatch,
    name: &str,
    expected: ColumnType,
    context: &Context<'_>,
) -> Result<&'b arrow_array::ArrayRef, EncodeError> {
    let array = batch
        .column_by_name(name)
        .ok_or_else(|| EncodeError::MissingColumn { index: context.index.to_owned(), column: name.to_owned() })?;
    let same = match (ColumnType::from_arrow(array.data_type()), expected) {
        // Rescaled value by value.
        (Ok(ColumnType::Decimal { .. }), ColumnType::Decimal { .. }) => true,
        (Ok(actual), expected) => actual == expected,
        (Err(_), _) => false,
    };
    if !same {
        return Err(EncodeError::WrongType {
            index: context.index.to_owned(),
            column: name.to_owned(),
            expected,
            actual: array.data_type().to_string(),
        });
    }
    Ok(array)
}

fn bind_all<'a>(
    batch: &'a RecordBatch,
    columns: &[KeyColumn],
    memos: &'a mut [DictionaryCache],
    context: &Context<'_>,
) -> Result<Vec<BoundColumn<'a>>, EncodeError> {
    columns.iter().zip(memos).map(|(column, cache)| bind(batch, column, cache, context)).collect()
}

fn bind<'a>(
    batch: &'a RecordBatch,
    column: &KeyColumn,
    cache: &'a mut DictionaryCache,
    context: &Context<'_>,
) -> Result<BoundColumn<'a>, EncodeError> {
    let array = column_of(batch, &column.name, column.column_type, context)?;
    let nulls = array.logical_nulls();
    let descending = column.order == Order::Desc;
    let body = match column.column_type.width() {
        Some(width) => {
            let form = BodyUse::Key { descending };
            let bodies = Bodies::of(array.as_ref(), column.column_type, form, nulls.as_ref());
            Body::Fixed { bodies: bodies.map_err(|failed| failed.explain(&column.name, context))?, width }
        }
        None => {
            let text =
                Text::of(array.as_ref()).ok_or_else(|| wrong_type(&column.name, column.column_type, array, context))?;
            cache.prepare(&text);
            Body::Text { text, descending, cache }
        }
    };
    let null_flag = match column.nulls {
        Nulls::First => FLAG_NULL_FIRST,
        Nulls::Last => FLAG_NULL_LAST,
    };
    Ok(BoundColumn { body, nulls, null_flag })
}

fn bind_included<'a>(
    batch: &'a RecordBatch,
    def: &IndexDefinition,
    context: &Context<'_>,
) -> Result<Vec<Included<'a>>, EncodeError> {
    let bind = |column: &crate::definition::IncludedColumn| {
        let array = column_of(batch, &column.name, column.column_type, context)?;
        let nulls = array.logical_nulls();
        let body = match column.column_type.width() {
            Some(width) => {
                let bodies = Bodies::of(array.as_ref(), column.column_type, BodyUse::Plain, nulls.as_ref());
                Plain::Fixed { bodies: bodies.map_err(|failed| failed.explain(&column.name, context))?, width }
            }
            None => Plain::Text(
                Text::of(array.as_ref()).ok_or_else(|| wrong_type(&column.name, column.column_type, array, context))?,
            ),
        };
        Ok(Included { body, nulls })
    };
    def.include.iter().map(bind).collect()
}

fn wrong_type(column: &str, expected: ColumnType, array: &arrow_array::ArrayRef, context: &Context<'_>) -> EncodeError {
    EncodeError::WrongType {
        index: context.index.to_owned(),
        column: column.to_owned(),
        expected,
        actual: array.data_type().to_string(),
    }
}

/// Writes rows as bytes.
struct RowWriter<'a> {
    def: &'a IndexDefinition,
    context: Context<'a>,
    at: RowPositions<'a>,
}

impl RowWriter<'_> {
    fn write(
        &mut self,
        row: usize,
        keys: &mut [BoundColumn<'_>],
        row_id: &mut [BoundColumn<'_>],
        included: &[Included<'_>],
        out: &mut Arena,
    ) -> Result<(), EncodeError> {
        let start = out.bytes.len();
        let bytes = &mut out.bytes;
        bytes.push(ENCODING_VERSION);
        let mut any_null = false;
        for bound in keys.iter_mut() {
            any_null |= bound.write(row, bytes);
        }
        if any_null || !self.def.unique {
            self.row_id(row, row_id, bytes);
        }
        let key_len = bytes.len() - start;
        if key_len > MAX_KEY_BYTES {
            return Err(EncodeError::KeyTooLong {
                index: self.context.index.to_owned(),
                file: self.at.file,
                row: self.at.of(row),
                bytes: key_len,
            });
        }
        bytes.push(ENCODING_VERSION);
        if self.def.unique {
            self.row_id(row, row_id, bytes);
        }
        if !included.is_empty() {
            write_included(row, included, bytes, |text, bytes| text.write_counted(row, bytes));
        }
        let value_len = bytes.len() - start - key_len;
        let too_large = || EncodeError::BufferTooLarge { index: self.context.index.to_owned() };
        u32::try_from(bytes.len()).map_err(|_| too_large())?;
        let short = |length: usize| u32::try_from(length).map_err(|_| too_large());
        out.entries.push(ArenaEntry { offset: short(start)?, key_len: short(key_len)?, value_len: short(value_len)? });
        Ok(())
    }

    #[inline]
    fn row_id(&self, row: usize, columns: &mut [BoundColumn<'_>], out: &mut Vec<u8>) {
        if self.def.row_id == RowId::Position {
            let position = u64::from(self.at.file) << ROW_BITS | self.at.of(row);
            out.extend_from_slice(&position.to_be_bytes());
        } else {
            for bound in columns {
                bound.write(row, out);
            }
        }
    }
}

fn write_included<'a>(
    row: usize,
    included: &[Included<'a>],
    out: &mut Vec<u8>,
    mut write_text: impl FnMut(&Text<'a>, &mut Vec<u8>),
) {
    let bitmap = out.len();
    out.resize(bitmap + included.len().div_ceil(8), 0);
    for (position, column) in included.iter().enumerate() {
        if column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out[bitmap + position / 8] |= 1 << (position % 8);
            continue;
        }
        match &column.body {
            Plain::Fixed { bodies, width } => bodies.write(row, *width, out),
            Plain::Text(text) => write_text(text, out),
        }
    }
}
