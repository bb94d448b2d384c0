//! Key encoding, version 1: the reference. One value at a time, written for reading; the fast path
//! is [`crate::columnar`], and tests hold it to this one. The format is described, with examples,
//! in `docs/key-encoding.md`.
//!
//! ```text
//! byte   0    1
//! key    │ 01 │ flag u8 │ body │ flag u8 │ body │ … │ row id │
//!             └─ column 1 ─────┴─ column 2 ────┴ … ┴ not in a unique index, unless a column is NULL
//! value  │ 01 │ row id │ NULL bits [included / 8, rounded up] │ body │ body │ … │
//!             └ in a unique index                             └─ included columns that are not NULL
//!
//! row id by position   u64 big endian: file, the upper 24 bits; row, the lower 40
//! row id by columns    flag u8, body, for each of them
//! ```
//! A NULL in a key is its flag without a body.

use crate::definition::{ColumnType, IndexDefinition, KeyColumn, Nulls, Order, RowId};
use crate::value::Value;

/// First byte of every stored key and of every value.
pub const ENCODING_VERSION: u8 = 0x01;
/// Longest stored key, in bytes. RocksDB keeps a file's first and last key in its metadata, and a
/// block of 16 KiB should hold more than one entry.
pub const MAX_KEY_BYTES: usize = 8 * 1024;

/// Flag: NULL, before all values.
pub const FLAG_NULL_FIRST: u8 = 0x00;
/// Flag: a value follows.
pub const FLAG_VALUE: u8 = 0x01;
/// Flag: NULL, after all values.
pub const FLAG_NULL_LAST: u8 = 0x02;

/// What `00` in a string becomes: `00 FF`.
pub(crate) const ESCAPED: u8 = 0xFF;
/// What a string ends with: `00 01`.
pub(crate) const TERMINATOR: [u8; 2] = [0x00, 0x01];

pub(crate) const FILE_BITS: u32 = 24;
pub(crate) const ROW_BITS: u32 = 40;

/// What names a row, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum RowIdValue {
    /// Its place in the source.
    Position(Position),
    /// The values of the row id's columns.
    Columns(Vec<Value>),
}

/// A row's place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

impl Position {
    /// From the file's number (24 bits) and the row in the file (40 bits); `None` when one is too
    /// large.
    #[must_use]
    pub const fn new(file: u32, row: u64) -> Option<Self> {
        if file >> FILE_BITS != 0 || row >> ROW_BITS != 0 {
            return None;
        }
        Some(Self((file as u64) << ROW_BITS | row))
    }

    /// Its stored form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The file's number in the manifest's list.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // 24 bits.
    pub const fn file(self) -> u32 {
        (self.0 >> ROW_BITS) as u32
    }

    /// The row in the file, from 0; for CSV the byte offset at which it begins.
    #[must_use]
    pub const fn row(self) -> u64 {
        self.0 & ((1 << ROW_BITS) - 1)
    }
}

/// An entry, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedEntry {
    /// The key columns' values.
    pub columns: Vec<Value>,
    /// The row.
    pub row_id: RowIdValue,
    /// The included columns' values.
    pub included: Vec<Value>,
}

/// Values that cannot be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// More values than the key has columns, or fewer than an entry needs.
    #[error("index `{index}` has {columns} columns for this, and {values} values were given")]
    WrongNumber {
        /// The index.
        index: String,
        /// Its columns.
        columns: usize,
        /// The values.
        values: usize,
    },
    /// A value of another type.
    #[error("a value for column `{column}` of index `{index}` is not of type {expected}, or out of its bounds")]
    WrongType {
        /// The index.
        index: String,
        /// The column.
        column: String,
        /// Its type.
        expected: ColumnType,
    },
    /// NULL in the row id.
    #[error("row id column `{column}` of index `{index}` is NULL; a row id names a row, so it cannot be")]
    NullRowId {
        /// The index.
        index: String,
        /// The column.
        column: String,
    },
    /// The stored key is too long.
    #[error("a key of index `{index}` takes {bytes} bytes; at most {MAX_KEY_BYTES} are possible")]
    KeyTooLong {
        /// The index.
        index: String,
        /// Its length.
        bytes: usize,
    },
}

/// Stored bytes that are no entry of the index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part} of an entry of index `{index}` is not valid at byte {at}: {why}")]
pub struct DecodeError {
    /// The index.
    pub index: String,
    /// Key or value.
    pub part: &'static str,
    /// Where.
    pub at: usize,
    /// Why.
    pub why: &'static str,
}

/// The bytes with which every stored key begins whose leading columns hold `values`: the empty
/// prefix of an index is its version byte.
///
/// # Errors
/// [`CodecError`]: more values than columns, or of another type.
pub fn encode_key_prefix(def: &IndexDefinition, values: &[Value]) -> Result<Vec<u8>, CodecError> {
    if values.len() > def.columns.len() {
        return Err(wrong_number(def, def.columns.len(), values.len()));
    }
    let mut key = vec![ENCODING_VERSION];
    for (column, value) in def.columns.iter().zip(values) {
        encode_column(def, column, value, &mut key)?;
    }
    check_length(def, &key)?;
    Ok(key)
}

/// The stored key and value of a row.
///
/// # Errors
/// [`CodecError`].
pub fn encode_entry(
    def: &IndexDefinition,
    columns: &[Value],
    row_id: &RowIdValue,
    included: &[Value],
) -> Result<(Vec<u8>, Vec<u8>), CodecError> {
    if columns.len() != def.columns.len() {
        return Err(wrong_number(def, def.columns.len(), columns.len()));
    }
    if included.len() != def.include.len() {
        return Err(wrong_number(def, def.include.len(), included.len()));
    }
    let mut key = vec![ENCODING_VERSION];
    for (column, value) in def.columns.iter().zip(columns) {
        encode_column(def, column, value, &mut key)?;
    }
    let mut encoded_row_id = Vec::new();
    encode_row_id(def, row_id, &mut encoded_row_id)?;
    let mut stored = vec![ENCODING_VERSION];
    if !def.unique || columns.contains(&Value::Null) {
        key.extend_from_slice(&encoded_row_id);
    }
    if def.unique {
        stored.extend_from_slice(&encoded_row_id);
    }
    check_length(def, &key)?;
    let bitmap = stored.len();
    stored.resize(bitmap + def.include.len().div_ceil(8), 0);
    for (position, (column, value)) in def.include.iter().zip(included).enumerate() {
        if *value == Value::Null {
            stored[bitmap + position / 8] |= 1 << (position % 8);
        } else {
            encode_plain(column.column_type, value, &mut stored)
                .ok_or_else(|| wrong_type(def, &column.name, column.column_type))?;
        }
    }
    Ok((key, stored))
}

fn encode_row_id(def: &IndexDefinition, row_id: &RowIdValue, out: &mut Vec<u8>) -> Result<(), CodecError> {
    match (&def.row_id, row_id) {
        (RowId::Position, RowIdValue::Position(position)) => out.extend_from_slice(&position.0.to_be_bytes()),
        (RowId::Columns(columns), RowIdValue::Columns(values)) if columns.len() == values.len() => {
            for (column, value) in columns.iter().zip(values) {
                if *value == Value::Null {
                    return Err(CodecError::NullRowId { index: def.name.clone(), column: column.name.clone() });
                }
                encode_column(def, column, value, out)?;
            }
        }
        (RowId::Columns(_), RowIdValue::Position(_)) => {
            return Err(wrong_number(def, def.row_id_columns().len(), 0));
        }
        (RowId::Position | RowId::Columns(_), RowIdValue::Columns(values)) => {
            return Err(wrong_number(def, def.row_id_columns().len(), values.len()));
        }
    }
    Ok(())
}

fn encode_column(
    def: &IndexDefinition,
    column: &KeyColumn,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    if *value == Value::Null {
        out.push(match column.nulls {
            Nulls::First => FLAG_NULL_FIRST,
            Nulls::Last => FLAG_NULL_LAST,
        });
        return Ok(());
    }
    out.push(FLAG_VALUE);
    let body = out.len();
    encode_body(column.column_type, value, out).ok_or_else(|| wrong_type(def, &column.name, column.column_type))?;
    if column.order == Order::Desc {
        // Only the body: the flag decides where NULL stands, whatever the direction.
        out[body..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    Ok(())
}

/// The body of a value in a key, ascending.
fn encode_body(column_type: ColumnType, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match (column_type, value) {
        (ColumnType::String, Value::String(text)) => escape(text.as_bytes(), out),
        (ColumnType::Bytes, Value::Bytes(bytes)) => escape(bytes, out),
        (ColumnType::Float32 | ColumnType::Float64, Value::Float(float)) => {
            let normal = normalise(*float);
            let width = column_type.width()?;
            #[allow(clippy::cast_possible_truncation)] // A single-precision value is held exactly.
            let bits = if width == 4 {
                let bits = (normal as f32).to_bits();
                u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
            } else {
                let bits = normal.to_bits();
                if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
            };
            push_be(bits.into(), width, out);
        }
        (_, Value::Int(_) | Value::Decimal(_)) => {
            let width = column_type.width()?;
            // Flipping the sign bit makes two's complement sort as unsigned.
            push_be(raw_bits(column_type, value)? ^ 1 << (width * 8 - 1), width, out);
        }
        (_, Value::Bool(_) | Value::UInt(_)) => push_be(raw_bits(column_type, value)?, column_type.width()?, out),
        (_, Value::Null | Value::Float(_) | Value::String(_) | Value::Bytes(_)) => return None,
    }
    Some(())
}

/// An included value: as it is, neither normalised nor made to sort.
fn encode_plain(column_type: ColumnType, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match (column_type, value) {
        (ColumnType::String, Value::String(text)) => push_counted(text.as_bytes(), out),
        (ColumnType::Bytes, Value::Bytes(bytes)) => push_counted(bytes, out),
        (ColumnType::String | ColumnType::Bytes, _) => return None,
        (_, _) => push_be(raw_bits(column_type, value)?, column_type.width()?, out),
    }
    Some(())
}

/// A fixed-width value's bits in its type's width; `None` for one of another type or too large.
fn raw_bits(column_type: ColumnType, value: &Value) -> Option<u128> {
    let bits = match (column_type, value) {
        (ColumnType::Bool, Value::Bool(value)) => u128::from(*value),
        (
            ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time { .. }
            | ColumnType::Timestamp { .. },
            Value::Int(value),
        ) => signed_bits(i128::from(*value), column_type.width()?)?,
        (ColumnType::UInt8 | ColumnType::UInt16 | ColumnType::UInt32 | ColumnType::UInt64, Value::UInt(value)) => {
            let spare = 64 - column_type.width()? * 8;
            (value.leading_zeros() as usize >= spare).then_some(u128::from(*value))?
        }
        (ColumnType::Decimal { precision, .. }, Value::Decimal(digits)) => {
            let fits = digits.unsigned_abs() < 10u128.checked_pow(precision.into())?;
            fits.then(|| signed_bits(*digits, column_type.width()?))??
        }
        #[allow(clippy::cast_possible_truncation)] // A single-precision value is held exactly.
        (ColumnType::Float32, Value::Float(value)) => u128::from((*value as f32).to_bits()),
        (ColumnType::Float64, Value::Float(value)) => u128::from(value.to_bits()),
        (_, _) => return None,
    };
    Some(bits)
}

fn signed_bits(value: i128, width: usize) -> Option<u128> {
    let unused = 128 - width * 8;
    let truncated = value << unused >> unused;
    (truncated == value).then(|| value.cast_unsigned() << unused >> unused)
}

fn push_be(bits: u128, width: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&bits.to_be_bytes()[16 - width..]);
}

/// −0 is +0, and every NaN is the same one, which is greater than all.
pub(crate) fn normalise(float: f64) -> f64 {
    if float.is_nan() {
        f64::NAN.abs()
    } else if float == 0.0 {
        0.0
    } else {
        float
    }
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
    out.extend_from_slice(&TERMINATOR);
}

fn push_counted(bytes: &[u8], out: &mut Vec<u8>) {
    push_varint(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// LEB128: seven bits a byte, least ones first, the high bit set on all but the last.
pub(crate) fn push_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7F) as u8);
}

fn check_length(def: &IndexDefinition, key: &[u8]) -> Result<(), CodecError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(CodecError::KeyTooLong { index: def.name.clone(), bytes: key.len() });
    }
    Ok(())
}

fn wrong_number(def: &IndexDefinition, columns: usize, values: usize) -> CodecError {
    CodecError::WrongNumber { index: def.name.clone(), columns, values }
}

fn wrong_type(def: &IndexDefinition, column: &str, expected: ColumnType) -> CodecError {
    CodecError::WrongType { index: def.name.clone(), column: column.to_owned(), expected }
}

/// Reads an entry back. Floats of key columns come back normalised (+0 for −0).
///
/// # Errors
/// [`DecodeError`] when the bytes are no entry of this index.
pub fn decode_entry(def: &IndexDefinition, key: &[u8], value: &[u8]) -> Result<DecodedEntry, DecodeError> {
    let mut key = Cursor::new(def, "key", key);
    let mut value = Cursor::new(def, "value", value);
    key.version()?;
    value.version()?;
    let columns = def.columns.iter().map(|column| key.column(column)).collect::<Result<Vec<_>, _>>()?;
    let in_key = !def.unique || columns.contains(&Value::Null);
    let key_starts = key.at;
    let row_of_key = if in_key { Some(key.row_id(def)?) } else { None };
    let value_starts = value.at;
    let row_of_value = if def.unique { Some(value.row_id(def)?) } else { None };
    let row_id = match (row_of_key, row_of_value) {
        // By their bytes: NaN is not equal to itself.
        (Some(_), Some(_)) if key.since(key_starts) != value.since(value_starts) => {
            return Err(value.error("its row id is not that of the key"));
        }
        (Some(row_id), _) | (None, Some(row_id)) => row_id,
        (None, None) => return Err(key.error("it has no row id")),
    };
    let bitmap = value.take(def.include.len().div_ceil(8))?;
    let included = def.include.iter().enumerate().map(|(position, column)| {
        let null = bitmap.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
        if null { Ok(Value::Null) } else { value.plain(column.column_type) }
    });
    let included = included.collect::<Result<_, _>>()?;
    key.end()?;
    value.end()?;
    Ok(DecodedEntry { columns, row_id, included })
}

struct Cursor<'a> {
    index: &'a str,
    part: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(def: &'a IndexDefinition, part: &'static str, bytes: &'a [u8]) -> Self {
        Self { index: &def.name, part, bytes, at: 0 }
    }

    fn error(&self, why: &'static str) -> DecodeError {
        DecodeError { index: self.index.to_owned(), part: self.part, at: self.at, why }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let taken = taken.ok_or_else(|| self.error("it ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn version(&mut self) -> Result<(), DecodeError> {
        if self.byte()? == ENCODING_VERSION { Ok(()) } else { Err(self.error("its encoding version is not 1")) }
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error("something follows its end")) }
    }

    fn row_id(&mut self, def: &IndexDefinition) -> Result<RowIdValue, DecodeError> {
        match &def.row_id {
            RowId::Position => {
                let bytes = self.take(8)?;
                let position = bytes.iter().fold(0, |position, byte| position << 8 | u64::from(*byte));
                Ok(RowIdValue::Position(Position(position)))
            }
            RowId::Columns(columns) => {
                let values = columns.iter().map(|column| match self.column(column)? {
                    Value::Null => Err(self.error("a row id is NULL")),
                    value => Ok(value),
                });
                values.collect::<Result<_, _>>().map(RowIdValue::Columns)
            }
        }
    }

    fn column(&mut self, column: &KeyColumn) -> Result<Value, DecodeError> {
        match (self.byte()?, column.nulls) {
            (FLAG_NULL_FIRST, Nulls::First) | (FLAG_NULL_LAST, Nulls::Last) => Ok(Value::Null),
            (FLAG_VALUE, _) => self.body(column.column_type, if column.order == Order::Desc { 0xFF } else { 0 }),
            (_, _) => Err(self.error("this flag is not possible here")),
        }
    }

    fn bits(&mut self, width: usize, mask: u8) -> Result<u128, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |bits, byte| bits << 8 | u128::from(byte ^ mask)))
    }

    fn body(&mut self, column_type: ColumnType, mask: u8) -> Result<Value, DecodeError> {
        let Some(width) = column_type.width() else {
            let bytes = self.unescape(mask)?;
            return self.text_or_bytes(column_type, bytes);
        };
        let bits = self.bits(width, mask)?;
        let top = 1u128 << (width * 8 - 1);
        let raw = match column_type {
            ColumnType::Bool
            | ColumnType::UInt8
            | ColumnType::UInt16
            | ColumnType::UInt32
            | ColumnType::UInt64
            | ColumnType::String
            | ColumnType::Bytes => bits,
            ColumnType::Float32 | ColumnType::Float64 => {
                if bits & top != 0 {
                    bits ^ top
                } else {
                    !bits & (top << 1).wrapping_sub(1)
                }
            }
            ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Decimal { .. }
            | ColumnType::Date
            | ColumnType::Time { .. }
            | ColumnType::Timestamp { .. } => bits ^ top,
        };
        self.value_of(column_type, width, raw)
    }

    fn plain(&mut self, column_type: ColumnType) -> Result<Value, DecodeError> {
        if let Some(width) = column_type.width() {
            let bits = self.bits(width, 0)?;
            return self.value_of(column_type, width, bits);
        }
        let mut length = 0usize;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift > 28 {
                return Err(self.error("a length has more than five bytes"));
            }
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let bytes = self.take(length)?.to_vec();
        self.text_or_bytes(column_type, bytes)
    }

    #[allow(clippy::cast_possible_truncation)] // `bits` has at most `width` bytes.
    fn value_of(&self, column_type: ColumnType, width: usize, bits: u128) -> Result<Value, DecodeError> {
        let unused = 128 - width * 8;
        let signed = (bits << unused).cast_signed() >> unused;
        Ok(match column_type {
            ColumnType::Bool => match bits {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(self.error("a bool is neither 00 nor 01")),
            },
            ColumnType::UInt8 | ColumnType::UInt16 | ColumnType::UInt32 | ColumnType::UInt64 => {
                Value::UInt(bits as u64)
            }
            ColumnType::Float32 => Value::Float(f32::from_bits(bits as u32).into()),
            ColumnType::Float64 => Value::Float(f64::from_bits(bits as u64)),
            ColumnType::Decimal { .. } => Value::Decimal(signed),
            ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time { .. }
            | ColumnType::Timestamp { .. } => Value::Int(signed as i64),
            ColumnType::String | ColumnType::Bytes => return Err(self.error("its type has no fixed width")),
        })
    }

    fn unescape(&mut self, mask: u8) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.byte()? ^ mask;
            if byte != 0 {
                bytes.push(byte);
                continue;
            }
            match self.byte()? ^ mask {
                ESCAPED => bytes.push(0),
                0x01 => return Ok(bytes),
                _ => return Err(self.error("00 is followed by neither FF nor 01")),
            }
        }
    }

    fn text_or_bytes(&self, column_type: ColumnType, bytes: Vec<u8>) -> Result<Value, DecodeError> {
        if column_type == ColumnType::Bytes {
            return Ok(Value::Bytes(bytes));
        }
        String::from_utf8(bytes).map(Value::String).map_err(|_| self.error("a string is not UTF-8"))
    }
}
