//! Any definition, rows for it, and the Arrow batches that hold them; and SQL's order of such rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal32Array, Decimal64Array,
    Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray,
    Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{Field, Schema};
use proptest::prelude::*;

use crate::definition::{ColumnType, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId, TimeUnit};
use crate::value::Value;

pub(crate) const ALL_TYPES: [ColumnType; 27] = [
    ColumnType::Bool,
    ColumnType::Int8,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::UInt8,
    ColumnType::UInt16,
    ColumnType::UInt32,
    ColumnType::UInt64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal { precision: 7, scale: 2 },
    ColumnType::Decimal { precision: 18, scale: 0 },
    ColumnType::Decimal { precision: 38, scale: -3 },
    ColumnType::Date,
    ColumnType::Time { unit: TimeUnit::Second },
    ColumnType::Time { unit: TimeUnit::Millisecond },
    ColumnType::Time { unit: TimeUnit::Microsecond },
    ColumnType::Time { unit: TimeUnit::Nanosecond },
    ColumnType::Timestamp { unit: TimeUnit::Second, utc: true },
    ColumnType::Timestamp { unit: TimeUnit::Millisecond, utc: false },
    ColumnType::Timestamp { unit: TimeUnit::Microsecond, utc: true },
    ColumnType::Timestamp { unit: TimeUnit::Nanosecond, utc: false },
    ColumnType::String,
    ColumnType::String,
    ColumnType::Bytes,
    ColumnType::Bytes,
];

pub(crate) fn value_of(column_type: ColumnType) -> BoxedStrategy<Value> {
    let int = |low: i64, high: i64| {
        prop_oneof![3 => low..=high, 2 => prop::sample::select(vec![low, low + 1, -1, 0, 1, high - 1, high])]
            .prop_map(Value::Int)
            .boxed()
    };
    let uint = |high: u64| {
        prop_oneof![3 => 0..=high, 1 => prop::sample::select(vec![0, 1, high / 2, high])].prop_map(Value::UInt).boxed()
    };
    match column_type {
        ColumnType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
        ColumnType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
        ColumnType::Int32 | ColumnType::Date => int(i32::MIN.into(), i32::MAX.into()),
        ColumnType::Time { unit: TimeUnit::Second | TimeUnit::Millisecond } => int(i32::MIN.into(), i32::MAX.into()),
        ColumnType::Int64 | ColumnType::Time { .. } | ColumnType::Timestamp { .. } => int(i64::MIN, i64::MAX),
        ColumnType::UInt8 => uint(u8::MAX.into()),
        ColumnType::UInt16 => uint(u16::MAX.into()),
        ColumnType::UInt32 => uint(u32::MAX.into()),
        ColumnType::UInt64 => uint(u64::MAX),
        ColumnType::Float32 => {
            let special = [0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45];
            prop_oneof![any::<f32>(), prop::sample::select(special.to_vec())]
                .prop_map(|value| Value::Float(value.into()))
                .boxed()
        }
        ColumnType::Float64 => {
            let special = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324];
            prop_oneof![any::<f64>(), prop::sample::select(special.to_vec())].prop_map(Value::Float).boxed()
        }
        ColumnType::Decimal { precision, .. } => {
            let most = 10i128.pow(precision.into()) - 1;
            prop_oneof![-most..=most, prop::sample::select(vec![-most, -1, 0, 1, most])]
                .prop_map(Value::Decimal)
                .boxed()
        }
        ColumnType::String => prop_oneof!["[\0\u{1}a\u{ff}é😀]{0,6}", ".{0,12}"].prop_map(Value::String).boxed(),
        ColumnType::Bytes => prop_oneof![
            prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 0xFE, 0xFF]), 0..6),
            prop::collection::vec(any::<u8>(), 0..12)
        ]
        .prop_map(Value::Bytes)
        .boxed(),
    }
}

pub(super) fn nullable(column_type: ColumnType) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 5 => value_of(column_type)].boxed()
}

/// SQL's order, written without a thought of bytes.
pub(super) fn sql_order(column: &KeyColumn, left: &Value, right: &Value) -> Ordering {
    let null_is = if column.nulls == Nulls::First { Ordering::Less } else { Ordering::Greater };
    let ascending = match (left, right) {
        (Value::Null, Value::Null) => return Ordering::Equal,
        (Value::Null, _) => return null_is,
        (_, Value::Null) => return null_is.reverse(),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::UInt(left), Value::UInt(right)) => left.cmp(right),
        (Value::Decimal(left), Value::Decimal(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => match (left.is_nan(), right.is_nan()) {
            (false, false) => left.partial_cmp(right).unwrap(),
            (left, right) => left.cmp(&right),
        },
        (Value::String(left), Value::String(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (left, right) => panic!("{left:?} and {right:?} are of one column"),
    };
    if column.order == Order::Desc { ascending.reverse() } else { ascending }
}

pub(super) fn sql_order_of_rows(columns: &[KeyColumn], left: &[Value], right: &[Value]) -> Ordering {
    let each = columns.iter().zip(left.iter().zip(right));
    each.map(|(column, (left, right))| sql_order(column, left, right))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

pub(super) fn key_column(name: String, types: Vec<ColumnType>) -> BoxedStrategy<KeyColumn> {
    (prop::sample::select(types), prop::bool::ANY, prop::bool::ANY)
        .prop_map(move |(column_type, descending, first)| KeyColumn {
            name: name.clone(),
            column_type,
            order: if descending { Order::Desc } else { Order::Asc },
            nulls: if first { Nulls::First } else { Nulls::Last },
        })
        .boxed()
}

pub(super) fn definition(
    types: Vec<ColumnType>,
    most_columns: usize,
    most_included: usize,
) -> BoxedStrategy<IndexDefinition> {
    let columns = (1..=most_columns).prop_flat_map({
        let types = types.clone();
        move |count| (0..count).map(|n| key_column(format!("k{n}"), types.clone())).collect::<Vec<_>>()
    });
    let row_id = prop_oneof![
        Just(RowId::Position).boxed(),
        (1..=2usize)
            .prop_flat_map({
                let types = types.clone();
                move |count| (0..count).map(|n| key_column(format!("r{n}"), types.clone())).collect::<Vec<_>>()
            })
            .prop_map(|columns: Vec<KeyColumn>| RowId::Columns(
                columns.into_iter().map(|column| KeyColumn { order: Order::Asc, ..column }).collect()
            ))
            .boxed(),
    ];
    let include = prop::collection::vec(prop::sample::select(types), 0..=most_included).prop_map(|types| {
        let each = types.into_iter().enumerate();
        each.map(|(n, column_type)| IncludedColumn { name: format!("i{n}"), column_type }).collect::<Vec<_>>()
    });
    (columns, row_id, include, any::<bool>())
        .prop_map(|(columns, row_id, include, unique)| IndexDefinition {
            name: "by_test".into(),
            unique,
            columns,
            row_id,
            include,
        })
        .boxed()
}

/// Rows of a definition: key values, row id values, included values.
pub(super) type Row = (Vec<Value>, Vec<Value>, Vec<Value>);

pub(super) fn rows(def: &IndexDefinition, most: usize) -> BoxedStrategy<Vec<Row>> {
    let keys: Vec<_> = def.columns.iter().map(|column| nullable(column.column_type)).collect();
    let row_id: Vec<_> = def.row_id_columns().iter().map(|column| value_of(column.column_type)).collect();
    let included: Vec<_> = def.include.iter().map(|column| nullable(column.column_type)).collect();
    prop::collection::vec((keys, row_id, included), 1..=most).boxed()
}

pub(super) fn tables(
    types: Vec<ColumnType>,
    columns: usize,
    included: usize,
) -> BoxedStrategy<(IndexDefinition, Vec<Row>)> {
    definition(types, columns, included)
        .prop_flat_map(|def| {
            let rows = rows(&def, 8);
            (Just(def), rows)
        })
        .boxed()
}

pub(super) fn fixed_types() -> Vec<ColumnType> {
    ALL_TYPES.into_iter().filter(|column_type| column_type.width().is_some()).collect()
}

pub(super) fn ints<T: TryFrom<i64>>(values: &[Value]) -> Vec<Option<T>> {
    let of = |value: &Value| match value {
        Value::Int(value) => T::try_from(*value).ok(),
        _ => None,
    };
    values.iter().map(of).collect()
}

pub(super) fn uints<T: TryFrom<u64>>(values: &[Value]) -> Vec<Option<T>> {
    let of = |value: &Value| match value {
        Value::UInt(value) => T::try_from(*value).ok(),
        _ => None,
    };
    values.iter().map(of).collect()
}

pub(super) fn floats(values: &[Value]) -> impl Iterator<Item = Option<f64>> {
    values.iter().map(|value| if let Value::Float(value) = value { Some(*value) } else { None })
}

pub(super) fn digits(values: &[Value]) -> impl Iterator<Item = Option<i128>> {
    values.iter().map(|value| if let Value::Decimal(value) = value { Some(*value) } else { None })
}

pub(super) fn texts(values: &[Value]) -> Vec<Option<&str>> {
    values.iter().map(|value| if let Value::String(text) = value { Some(text.as_str()) } else { None }).collect()
}

pub(super) fn binaries(values: &[Value]) -> Vec<Option<&[u8]>> {
    values.iter().map(|value| if let Value::Bytes(bytes) = value { Some(bytes.as_slice()) } else { None }).collect()
}

pub(super) fn dictionary_of(values: &dyn Array) -> ArrayRef {
    // Keys in reverse over a value array that holds each row's value, so that key and row differ.
    let len = i32::try_from(values.len()).unwrap();
    let reversed: Vec<usize> = (0..values.len()).rev().collect();
    let keys: PrimitiveArray<Int32Type> = (0..len).rev().map(Some).collect();
    let parts: Vec<ArrayRef> = reversed.iter().map(|row| values.slice(*row, 1)).collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let taken = concat(&parts);
    Arc::new(DictionaryArray::<Int32Type>::new(keys, taken))
}

/// `arrow-select` is not a dependency; this is its `concat` for tests.
pub(super) fn concat(parts: &[&dyn Array]) -> ArrayRef {
    let data: Vec<_> = parts.iter().map(|part| part.to_data()).collect();
    let mut out = arrow_array_data(&data);
    for (number, part) in parts.iter().enumerate() {
        out.try_extend(number, 0, part.len()).unwrap();
    }
    arrow_array::make_array(out.freeze())
}

pub(super) fn arrow_array_data(data: &[arrow_data::ArrayData]) -> arrow_data::transform::MutableArrayData<'_> {
    arrow_data::transform::MutableArrayData::new(data.iter().collect(), true, data.len())
}

/// An Arrow array of these values; `form` chooses among the arrays that hold such values.
pub(super) fn array_of(column_type: ColumnType, values: &[Value], form: usize) -> ArrayRef {
    if form % 4 == 3 && !matches!(column_type, ColumnType::Bool) {
        return dictionary_of(array_of(column_type, values, form / 4).as_ref());
    }
    let utc = |utc: bool| if utc { Some("+00:00") } else { None };
    match column_type {
        ColumnType::Bool => Arc::new(
            values
                .iter()
                .map(|value| if let Value::Bool(value) = value { Some(*value) } else { None })
                .collect::<BooleanArray>(),
        ),
        ColumnType::Int8 => Arc::new(Int8Array::from(ints(values))),
        ColumnType::Int16 => Arc::new(Int16Array::from(ints(values))),
        ColumnType::Int32 => Arc::new(Int32Array::from(ints(values))),
        ColumnType::Int64 => Arc::new(Int64Array::from(ints(values))),
        ColumnType::UInt8 => Arc::new(UInt8Array::from(uints(values))),
        ColumnType::UInt16 => Arc::new(UInt16Array::from(uints(values))),
        ColumnType::UInt32 => Arc::new(UInt32Array::from(uints(values))),
        ColumnType::UInt64 => Arc::new(UInt64Array::from(uints(values))),
        #[allow(clippy::cast_possible_truncation)]
        ColumnType::Float32 => {
            Arc::new(floats(values).map(|value| value.map(|value| value as f32)).collect::<Float32Array>())
        }
        ColumnType::Float64 => Arc::new(floats(values).collect::<Float64Array>()),
        ColumnType::Decimal { precision, scale } if precision <= 9 => {
            let narrow = digits(values).map(|digits| digits.map(|digits| i32::try_from(digits).unwrap()));
            Arc::new(narrow.collect::<Decimal32Array>().with_precision_and_scale(precision, scale).unwrap())
        }
        ColumnType::Decimal { precision, scale } if precision <= 18 => {
            let narrow = digits(values).map(|digits| digits.map(|digits| i64::try_from(digits).unwrap()));
            Arc::new(narrow.collect::<Decimal64Array>().with_precision_and_scale(precision, scale).unwrap())
        }
        ColumnType::Decimal { precision, scale } => {
            Arc::new(digits(values).collect::<Decimal128Array>().with_precision_and_scale(precision, scale).unwrap())
        }
        ColumnType::Date => Arc::new(Date32Array::from(ints(values))),
        ColumnType::Time { unit } => match unit {
            TimeUnit::Second => Arc::new(Time32SecondArray::from(ints(values))),
            TimeUnit::Millisecond => Arc::new(Time32MillisecondArray::from(ints(values))),
            TimeUnit::Microsecond => Arc::new(Time64MicrosecondArray::from(ints(values))),
            TimeUnit::Nanosecond => Arc::new(Time64NanosecondArray::from(ints(values))),
        },
        ColumnType::Timestamp { unit, utc: zone } => match unit {
            TimeUnit::Second => Arc::new(TimestampSecondArray::from(ints(values)).with_timezone_opt(utc(zone))),
            TimeUnit::Millisecond => {
                Arc::new(TimestampMillisecondArray::from(ints(values)).with_timezone_opt(utc(zone)))
            }
            TimeUnit::Microsecond => {
                Arc::new(TimestampMicrosecondArray::from(ints(values)).with_timezone_opt(utc(zone)))
            }
            TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::from(ints(values)).with_timezone_opt(utc(zone))),
        },
        ColumnType::String => match form % 3 {
            0 => Arc::new(StringArray::from(texts(values))),
            1 => Arc::new(LargeStringArray::from(texts(values))),
            _ => Arc::new(StringViewArray::from(texts(values))),
        },
        ColumnType::Bytes => match form % 3 {
            0 => Arc::new(BinaryArray::from(binaries(values))),
            1 => Arc::new(LargeBinaryArray::from(binaries(values))),
            _ => Arc::new(BinaryViewArray::from(binaries(values))),
        },
    }
}

pub(super) fn batch_of(def: &IndexDefinition, rows: &[Row], form: usize) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let mut add = |name: &str, column_type, values: Vec<Value>, number: usize| {
        columns.push((name.to_owned(), array_of(column_type, &values, form + number)));
    };
    for (n, column) in def.columns.iter().enumerate() {
        add(&column.name, column.column_type, rows.iter().map(|row| row.0[n].clone()).collect(), n);
    }
    for (n, column) in def.row_id_columns().iter().enumerate() {
        add(&column.name, column.column_type, rows.iter().map(|row| row.1[n].clone()).collect(), n + 1);
    }
    for (n, column) in def.include.iter().enumerate() {
        add(&column.name, column.column_type, rows.iter().map(|row| row.2[n].clone()).collect(), n + 2);
    }
    // The order of a batch's columns does not matter: they are found by name.
    columns.reverse();
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}
