//! The definition of an index: its key columns, its row id, its included columns.

use std::fmt;

use arrow_schema::DataType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One index, with everything resolved that decides its bytes. Two equal definitions over the same
/// rows give the same entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexDefinition {
    /// The index's name, unique in its build.
    pub name: String,
    /// Whether two rows may not share a key. Rows with NULL in a key column never collide.
    pub unique: bool,
    /// The key columns, leading one first.
    pub columns: Vec<KeyColumn>,
    /// What names a row.
    pub row_id: RowId,
    /// Columns carried in the entry's value.
    #[serde(default)]
    pub include: Vec<IncludedColumn>,
}

/// A column of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyColumn {
    /// The column's name; a struct's leaf is `address.city`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// The direction in which it sorts.
    pub order: Order,
    /// Where NULL sorts.
    pub nulls: Nulls,
}

/// A column that stands in an entry's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IncludedColumn {
    /// The column's name; a struct's leaf is `address.city`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

/// The direction in which a column sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Ascending.
    Asc,
    /// Descending.
    Desc,
}

/// Where NULL sorts, whatever the column's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Nulls {
    /// Before all values.
    First,
    /// After all values.
    Last,
}

impl Nulls {
    /// The default, as in SQL: NULL is greater than every value.
    #[must_use]
    pub const fn default_for(order: Order) -> Self {
        match order {
            Order::Asc => Self::Last,
            Order::Desc => Self::First,
        }
    }
}

/// What names a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RowId {
    /// Its place in the source: a u64, file number (24 bits) << 40 | row in the file (40 bits; for
    /// CSV the byte offset at which the row begins).
    Position,
    /// These columns, always ascending and never NULL. Together they must be unique.
    Columns(Vec<KeyColumn>),
}

/// The unit of a time or timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimeUnit {
    /// 1 s.
    Second,
    /// 10⁻³ s.
    Millisecond,
    /// 10⁻⁶ s.
    Microsecond,
    /// 10⁻⁹ s.
    Nanosecond,
}

impl TimeUnit {
    /// How many of it make a second.
    #[must_use]
    pub const fn per_second(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1_000_000,
            Self::Nanosecond => 1_000_000_000,
        }
    }

    const fn to_arrow(self) -> arrow_schema::TimeUnit {
        match self {
            Self::Second => arrow_schema::TimeUnit::Second,
            Self::Millisecond => arrow_schema::TimeUnit::Millisecond,
            Self::Microsecond => arrow_schema::TimeUnit::Microsecond,
            Self::Nanosecond => arrow_schema::TimeUnit::Nanosecond,
        }
    }

    const fn from_arrow(unit: arrow_schema::TimeUnit) -> Self {
        match unit {
            arrow_schema::TimeUnit::Second => Self::Second,
            arrow_schema::TimeUnit::Millisecond => Self::Millisecond,
            arrow_schema::TimeUnit::Microsecond => Self::Microsecond,
            arrow_schema::TimeUnit::Nanosecond => Self::Nanosecond,
        }
    }
}

/// The type of a column that can be indexed or included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnType {
    /// false < true.
    Bool,
    /// 8-bit signed integer.
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// 8-bit unsigned integer.
    UInt8,
    /// 16-bit unsigned integer.
    UInt16,
    /// 32-bit unsigned integer.
    UInt32,
    /// 64-bit unsigned integer.
    UInt64,
    /// Single precision; −0 equals +0, and NaN is one value greater than all.
    Float32,
    /// Double precision; −0 equals +0, and NaN is one value greater than all.
    Float64,
    /// A decimal of `precision` digits (1 to 38), `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point; negative: zeros before it.
        scale: i8,
    },
    /// Days since 1970-01-01, 32 bits.
    Date,
    /// Time of day since midnight: 32 bits for seconds and milliseconds, else 64.
    Time {
        /// Its unit.
        unit: TimeUnit,
    },
    /// Time since 1970-01-01T00:00:00, 64 bits.
    Timestamp {
        /// Its unit.
        unit: TimeUnit,
        /// Whether it is an instant (UTC) or a wall clock's reading without a zone.
        utc: bool,
    },
    /// Text in UTF-8, ordered by its bytes (collation `C`).
    String,
    /// Bytes.
    Bytes,
}

/// An Arrow type that no index can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("type {arrow} cannot be indexed: {why}")]
pub struct UnsupportedType {
    /// The Arrow type as Arrow prints it.
    pub arrow: String,
    /// Why not, and what can be done.
    pub why: &'static str,
}

impl ColumnType {
    /// The column type that an Arrow column is indexed as. A dictionary counts as its values.
    ///
    /// # Errors
    /// [`UnsupportedType`] for lists, maps and the other types that have no place in a key.
    pub fn from_arrow(data_type: &DataType) -> Result<Self, UnsupportedType> {
        let refuse = |why| Err(UnsupportedType { arrow: data_type.to_string(), why });
        Ok(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 | DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => Self::Decimal { precision: *precision, scale: *scale },
            DataType::Date32 => Self::Date,
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time { unit: TimeUnit::from_arrow(*unit) },
            DataType::Timestamp(unit, zone) => {
                Self::Timestamp { unit: TimeUnit::from_arrow(*unit), utc: zone.is_some() }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            DataType::Dictionary(_, values) => Self::from_arrow(values)?,
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(..) => return refuse("a list has no single value per row"),
            DataType::Map(..) => return refuse("a map has no single value per row"),
            DataType::Struct(_) => return refuse("name one of its leaves, as in `address.city`"),
            DataType::Decimal256(..) => return refuse("decimals have at most 38 digits"),
            DataType::Null => return refuse("it holds nothing but NULL"),
            DataType::Date64 => return refuse("cast it to a date (32 bits) or a timestamp"),
            DataType::Duration(_) | DataType::Interval(_) => return refuse("cast it to an integer"),
            DataType::Union(..) | DataType::RunEndEncoded(..) => return refuse("cast it to a plain type"),
        })
    }

    /// An Arrow type that is indexed as this one: [`Self::from_arrow`] gives it back.
    #[must_use]
    pub fn to_arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => match precision {
                0..=9 => DataType::Decimal32(precision, scale),
                10..=18 => DataType::Decimal64(precision, scale),
                _ => DataType::Decimal128(precision, scale),
            },
            Self::Date => DataType::Date32,
            Self::Time { unit: unit @ (TimeUnit::Second | TimeUnit::Millisecond) } => DataType::Time32(unit.to_arrow()),
            Self::Time { unit } => DataType::Time64(unit.to_arrow()),
            Self::Timestamp { unit, utc } => DataType::Timestamp(unit.to_arrow(), utc.then(|| "UTC".into())),
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
        }
    }

    /// Bytes of a value's body in a key; `None` for strings and bytes, whose length varies.
    #[must_use]
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::UInt8 => Some(1),
            Self::Int16 | Self::UInt16 => Some(2),
            Self::Int32 | Self::UInt32 | Self::Float32 | Self::Date => Some(4),
            Self::Int64 | Self::UInt64 | Self::Float64 | Self::Timestamp { .. } => Some(8),
            Self::Time { unit } => match unit {
                TimeUnit::Second | TimeUnit::Millisecond => Some(4),
                TimeUnit::Microsecond | TimeUnit::Nanosecond => Some(8),
            },
            Self::Decimal { precision, .. } => Some(match precision {
                0..=9 => 4,
                10..=18 => 8,
                _ => 16,
            }),
            Self::String | Self::Bytes => None,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: &TimeUnit| match unit {
            TimeUnit::Second => "s",
            TimeUnit::Millisecond => "ms",
            TimeUnit::Microsecond => "us",
            TimeUnit::Nanosecond => "ns",
        };
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Time { unit: u } => write!(f, "time({})", unit(u)),
            Self::Timestamp { unit: u, utc: true } => write!(f, "timestamp({}, UTC)", unit(u)),
            Self::Timestamp { unit: u, utc: false } => write!(f, "timestamp({})", unit(u)),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
        }
    }
}

/// How the blocks of an SST file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Zstandard: small.
    Zstd,
}

impl IndexDefinition {
    /// The columns to be read for this index: distinct, in the order key, row id, included.
    #[must_use]
    pub fn needed_columns(&self) -> Vec<String> {
        let row_id: &[KeyColumn] = match &self.row_id {
            RowId::Position => &[],
            RowId::Columns(columns) => columns,
        };
        let names = self.columns.iter().chain(row_id).map(|column| &column.name);
        let mut needed: Vec<String> = Vec::new();
        for name in names.chain(self.include.iter().map(|column| &column.name)) {
            if !needed.contains(name) {
                needed.push(name.clone());
            }
        }
        needed
    }

    /// The row id's columns; none when a row is named by its position.
    #[must_use]
    pub fn row_id_columns(&self) -> &[KeyColumn] {
        match &self.row_id {
            RowId::Position => &[],
            RowId::Columns(columns) => columns,
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`InvalidDefinition`], with the rule that is broken.
    pub fn check(&self) -> Result<(), InvalidDefinition> {
        let refuse = |rule: String| Err(InvalidDefinition { index: self.name.clone(), rule });
        if self.columns.is_empty() {
            return refuse("it has no key column".into());
        }
        if let RowId::Columns(columns) = &self.row_id {
            if columns.is_empty() {
                return refuse("its row id has no column; leave the row id out to use the row's position".into());
            }
            if let Some(column) = columns.iter().find(|column| column.order != Order::Asc) {
                return refuse(format!("row id column `{}` is not ascending", column.name));
            }
        }
        let keys = self.columns.iter().chain(self.row_id_columns()).map(|column| (&column.name, column.column_type));
        for (name, column_type) in keys.chain(self.include.iter().map(|column| (&column.name, column.column_type))) {
            if let ColumnType::Decimal { precision, .. } = column_type
                && !(1..=38).contains(&precision)
            {
                return refuse(format!("column `{name}` is a decimal of {precision} digits; 1 to 38 are possible"));
            }
        }
        Ok(())
    }
}

/// A definition that no index can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index `{index}` cannot be built: {rule}")]
pub struct InvalidDefinition {
    /// The index.
    pub index: String,
    /// The rule that is broken.
    pub rule: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columnar::arbitrary::ALL_TYPES;

    #[test]
    fn a_type_is_indexed_as_itself_when_it_goes_to_arrow_and_back() {
        let mut types = ALL_TYPES.to_vec();
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            types.push(ColumnType::Time { unit });
            types.extend([true, false].map(|utc| ColumnType::Timestamp { unit, utc }));
        }
        for (precision, scale) in [(1, 0), (9, 9), (10, -3), (18, 0), (19, 2), (38, 38)] {
            types.push(ColumnType::Decimal { precision, scale });
        }
        for column_type in types {
            assert_eq!(ColumnType::from_arrow(&column_type.to_arrow()), Ok(column_type));
        }
    }
}
