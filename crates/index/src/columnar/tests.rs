#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal32Array, Decimal64Array,
    Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch, StringArray,
    StringViewArray, Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{Field, Schema};
use proptest::prelude::*;
use proptest::strategy::Union;

use super::*;
use crate::codec::{DecodedEntry, Position, RowIdValue, decode_entry, encode_entry, encode_key_prefix};
use crate::definition::{IncludedColumn, TimeUnit};
use crate::digest::Frame;
use crate::value::Value;

const ALL_TYPES: [ColumnType; 27] = [
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

fn value_of(column_type: ColumnType) -> BoxedStrategy<Value> {
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

fn nullable(column_type: ColumnType) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 5 => value_of(column_type)].boxed()
}

/// SQL's order, written without a thought of bytes.
fn sql_order(column: &KeyColumn, left: &Value, right: &Value) -> Ordering {
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

fn sql_order_of_rows(columns: &[KeyColumn], left: &[Value], right: &[Value]) -> Ordering {
    let each = columns.iter().zip(left.iter().zip(right));
    each.map(|(column, (left, right))| sql_order(column, left, right))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn key_column(name: String, types: Vec<ColumnType>) -> BoxedStrategy<KeyColumn> {
    (prop::sample::select(types), prop::bool::ANY, prop::bool::ANY)
        .prop_map(move |(column_type, descending, first)| KeyColumn {
            name: name.clone(),
            column_type,
            order: if descending { Order::Desc } else { Order::Asc },
            nulls: if first { Nulls::First } else { Nulls::Last },
        })
        .boxed()
}

fn definition(types: Vec<ColumnType>, most_columns: usize, most_included: usize) -> BoxedStrategy<IndexDefinition> {
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
type Row = (Vec<Value>, Vec<Value>, Vec<Value>);

fn rows(def: &IndexDefinition, most: usize) -> BoxedStrategy<Vec<Row>> {
    let keys: Vec<_> = def.columns.iter().map(|column| nullable(column.column_type)).collect();
    let row_id: Vec<_> = def.row_id_columns().iter().map(|column| value_of(column.column_type)).collect();
    let included: Vec<_> = def.include.iter().map(|column| nullable(column.column_type)).collect();
    prop::collection::vec((keys, row_id, included), 1..=most).boxed()
}

fn world(types: Vec<ColumnType>, columns: usize, included: usize) -> BoxedStrategy<(IndexDefinition, Vec<Row>)> {
    definition(types, columns, included)
        .prop_flat_map(|def| {
            let rows = rows(&def, 8);
            (Just(def), rows)
        })
        .boxed()
}

fn fixed_types() -> Vec<ColumnType> {
    ALL_TYPES.into_iter().filter(|column_type| column_type.width().is_some()).collect()
}

fn ints<T: TryFrom<i64>>(values: &[Value]) -> Vec<Option<T>> {
    let of = |value: &Value| match value {
        Value::Int(value) => T::try_from(*value).ok(),
        _ => None,
    };
    values.iter().map(of).collect()
}

fn uints<T: TryFrom<u64>>(values: &[Value]) -> Vec<Option<T>> {
    let of = |value: &Value| match value {
        Value::UInt(value) => T::try_from(*value).ok(),
        _ => None,
    };
    values.iter().map(of).collect()
}

fn floats(values: &[Value]) -> impl Iterator<Item = Option<f64>> {
    values.iter().map(|value| if let Value::Float(value) = value { Some(*value) } else { None })
}

fn digits(values: &[Value]) -> impl Iterator<Item = Option<i128>> {
    values.iter().map(|value| if let Value::Decimal(value) = value { Some(*value) } else { None })
}

fn texts(values: &[Value]) -> Vec<Option<&str>> {
    values.iter().map(|value| if let Value::String(text) = value { Some(text.as_str()) } else { None }).collect()
}

fn binaries(values: &[Value]) -> Vec<Option<&[u8]>> {
    values.iter().map(|value| if let Value::Bytes(bytes) = value { Some(bytes.as_slice()) } else { None }).collect()
}

fn dictionary_of(values: ArrayRef) -> ArrayRef {
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
fn concat(parts: &[&dyn Array]) -> ArrayRef {
    let data: Vec<_> = parts.iter().map(|part| part.to_data()).collect();
    let mut out = arrow_array_data(&data);
    for (number, part) in parts.iter().enumerate() {
        out.try_extend(number, 0, part.len()).unwrap();
    }
    arrow_array::make_array(out.freeze())
}

fn arrow_array_data(data: &[arrow_data::ArrayData]) -> arrow_data::transform::MutableArrayData<'_> {
    arrow_data::transform::MutableArrayData::new(data.iter().collect(), true, data.len())
}

/// An Arrow array of these values; `form` chooses among the arrays that hold such values.
fn array_of(column_type: ColumnType, values: &[Value], form: usize) -> ArrayRef {
    if form % 4 == 3 && !matches!(column_type, ColumnType::Bool) {
        return dictionary_of(array_of(column_type, values, form / 4));
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

fn batch_of(def: &IndexDefinition, rows: &[Row], form: usize) -> RecordBatch {
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

const FILE: u32 = 7;
const FIRST_ROW: u64 = 1 << 33;

fn row_id_of(def: &IndexDefinition, row: &Row, number: usize) -> RowIdValue {
    match def.row_id {
        RowId::Position => RowIdValue::Position(Position::new(FILE, FIRST_ROW + number as u64).unwrap()),
        RowId::Columns(_) => RowIdValue::Columns(row.1.clone()),
    }
}

fn by_reference(def: &IndexDefinition, rows: &[Row]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let each = rows.iter().enumerate();
    each.map(|(n, row)| encode_entry(def, &row.0, &row_id_of(def, row, n), &row.2).unwrap()).collect()
}

/// All entries of a batch, in no particular order.
fn by_encoder(encoder: &mut Encoder, batch: &RecordBatch, rows: Rows<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Entries::default();
    encoder.encode(batch, &RowPositions { file: FILE, rows }, &mut entries).unwrap();
    let mut frame = Frame::new();
    let mut all = Vec::new();
    for packed in &entries.packed {
        encoder.packed().unwrap().expand(*packed, &mut frame);
        assert_eq!(frame.bytes().len(), encoder.packed().unwrap().frame_len());
        all.push((frame.key().to_vec(), frame.value().to_vec()));
    }
    for entry in &entries.general.entries {
        all.push((entries.general.key(*entry).to_vec(), entries.general.value(*entry).to_vec()));
    }
    all
}

/// The value that comes back from a key: floats are normalised there.
fn normalised(value: &Value) -> Value {
    match value {
        Value::Float(float) => Value::Float(crate::codec::normalise(*float)),
        other => other.clone(),
    }
}

/// Equal to the last bit, also where `==` is not (NaN) or is too much (−0).
fn same_bits(left: &[Value], right: &[Value]) -> bool {
    let same = |(left, right): (&Value, &Value)| match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (left, right) => left == right,
    };
    left.len() == right.len() && left.iter().zip(right).all(same)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Every type of the table, ascending and descending, NULLs first and last, one to three columns.
    #[test]
    fn bytewise_order_of_keys_is_the_order_of_sql((def, rows) in world(ALL_TYPES.to_vec(), 3, 0)) {
        for left in &rows {
            for right in &rows {
                let keys = [left, right].map(|row| encode_key_prefix(&def, &row.0).unwrap());
                prop_assert_eq!(keys[0].cmp(&keys[1]), sql_order_of_rows(&def.columns, &left.0, &right.0),
                    "{:?} {:?}", left.0, right.0);
            }
        }
    }

    #[test]
    fn stored_keys_are_ordered_by_columns_and_then_by_row_id((def, rows) in world(ALL_TYPES.to_vec(), 2, 1)) {
        let keys: Vec<_> = by_reference(&def, &rows).into_iter().map(|(key, _)| key).collect();
        for (left, left_key) in rows.iter().zip(&keys).enumerate().map(|(n, (row, key))| ((n, row), key)) {
            for (right, right_key) in rows.iter().zip(&keys).enumerate().map(|(n, (row, key))| ((n, row), key)) {
                let columns = sql_order_of_rows(&def.columns, &left.1.0, &right.1.0);
                let row_ids = match def.row_id {
                    RowId::Position => left.0.cmp(&right.0),
                    RowId::Columns(_) => sql_order_of_rows(def.row_id_columns(), &left.1.1, &right.1.1),
                };
                let no_row_id = def.unique && !left.1.0.contains(&Value::Null);
                let expected = if no_row_id { columns } else { columns.then(row_ids) };
                prop_assert_eq!(left_key.cmp(right_key), expected);
            }
        }
    }

    #[test]
    fn the_encoder_writes_what_the_reference_writes(
        (def, rows) in world(ALL_TYPES.to_vec(), 3, 3),
        form in 0..12usize,
        each in any::<bool>(),
    ) {
        let mut expected = by_reference(&def, &rows);
        let mut encoder = Encoder::new(Arc::new(def.clone())).unwrap();
        let positions: Vec<u64> = (0..rows.len() as u64).map(|row| FIRST_ROW + row).collect();
        let positions = if each { Rows::Each(&positions) } else { Rows::From(FIRST_ROW) };
        let batch = batch_of(&def, &rows, form);
        // Twice: the second time with what it learned of the dictionaries.
        for _ in 0..2 {
            let mut written = by_encoder(&mut encoder, &batch, positions);
            written.sort();
            expected.sort();
            prop_assert_eq!(&written, &expected);
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_again((def, rows) in world(ALL_TYPES.to_vec(), 3, 4)) {
        for ((number, row), (key, value)) in rows.iter().enumerate().zip(by_reference(&def, &rows)) {
            let DecodedEntry { columns, row_id, included } = decode_entry(&def, &key, &value).unwrap();
            let expected: Vec<Value> = row.0.iter().map(normalised).collect();
            prop_assert!(same_bits(&columns, &expected), "{:?} {:?}", columns, expected);
            prop_assert!(same_bits(&included, &row.2), "{:?} {:?}", included, row.2);
            match row_id {
                RowIdValue::Position(position) => {
                    prop_assert_eq!((position.file(), position.row()), (FILE, FIRST_ROW + number as u64));
                }
                RowIdValue::Columns(values) => {
                    let expected: Vec<Value> = row.1.iter().map(normalised).collect();
                    prop_assert!(same_bits(&values, &expected));
                }
            }
            for cut in 0..key.len() {
                prop_assert!(decode_entry(&def, &key[..cut], &value).is_err());
            }
            for cut in 0..value.len() {
                prop_assert!(decode_entry(&def, &key, &value[..cut]).is_err());
            }
        }
    }

    #[test]
    fn packed_order_is_stored_order_and_bounds_agree(
        (def, rows) in world(fixed_types(), 2, 0),
        noise in prop::collection::vec(any::<u8>(), 0..24),
        cut in 0..40usize,
        pick in any::<prop::sample::Index>(),
    ) {
        let mut encoder = Encoder::new(Arc::new(def.clone())).unwrap();
        let mut entries = Entries::default();
        let at = RowPositions { file: FILE, rows: Rows::From(FIRST_ROW) };
        encoder.encode(&batch_of(&def, &rows, 0), &at, &mut entries).unwrap();
        let Some(layout) = encoder.packed() else {
            prop_assert!(entries.packed.is_empty());
            return Ok(());
        };
        let without_null = rows.iter().filter(|row| !row.0.contains(&Value::Null)).count();
        prop_assert_eq!(entries.packed.len(), without_null);
        let mut frame = Frame::new();
        let stored: Vec<(u128, Vec<u8>, Vec<u8>)> = entries.packed.iter().map(|packed| {
            layout.expand(*packed, &mut frame);
            (*packed, frame.key().to_vec(), frame.value().to_vec())
        }).collect();
        for left in &stored {
            prop_assert!(layout.width() == 16 || left.0 >> (layout.width() * 8) == 0);
            for right in &stored {
                // In a unique index the value is the row id, which breaks ties.
                prop_assert_eq!(left.0.cmp(&right.0), (&left.1, &left.2).cmp(&(&right.1, &right.2)));
                prop_assert_eq!(layout.key_of(left.0) == layout.key_of(right.0), left.1 == right.1);
            }
        }
        // Bounds: a key, a part of one, one that goes on, bytes next to one, any bytes.
        let mut bounds = vec![noise.clone(), Vec::new(), vec![1], vec![1, 0], vec![1, 1], vec![1, 2], vec![2]];
        if !stored.is_empty() {
            let key = &pick.get(&stored).1;
            bounds.push(key.clone());
            bounds.push(key[..cut.min(key.len())].to_vec());
            bounds.push([key.as_slice(), &noise].concat());
            let mut next = key.clone();
            let at = cut % next.len();
            next[at] = next[at].wrapping_add(1);
            bounds.push(next.clone());
            next[at] = next[at].wrapping_sub(2);
            bounds.push(next);
        }
        for bound in bounds {
            let least = layout.lower_bound(&bound);
            for (packed, key, _) in &stored {
                prop_assert_eq!(key >= &bound, least.is_some_and(|least| *packed >= least), "{:02x?} {:02x?}", key, bound);
            }
            if let Some(least) = least {
                // It is the least one, not only a bound: the one before it is less.
                layout.expand(least, &mut frame);
                prop_assert!(frame.key() >= bound.as_slice());
                if least > 0 {
                    layout.expand(least - 1, &mut frame);
                    prop_assert!(frame.key() < bound.as_slice());
                }
            }
        }
    }
}

fn def(columns: Vec<KeyColumn>, row_id: RowId) -> IndexDefinition {
    IndexDefinition { name: "by_test".into(), unique: false, columns, row_id, include: Vec::new() }
}

fn ascending(name: &str, column_type: ColumnType) -> KeyColumn {
    KeyColumn { name: name.into(), column_type, order: Order::Asc, nulls: Nulls::Last }
}

fn encode_one(
    def: IndexDefinition,
    columns: Vec<(&str, ArrayRef)>,
    at: RowPositions<'_>,
) -> Result<Entries, EncodeError> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let mut entries = Entries::default();
    Encoder::new(Arc::new(def))?.encode(&batch.unwrap(), &at, &mut entries).map(|()| entries)
}

const AT: RowPositions<'static> = RowPositions { file: 2, rows: Rows::From(100) };

#[test]
fn null_in_a_row_id_is_an_error_that_names_the_row() {
    let def = def(vec![ascending("k", ColumnType::Int32)], RowId::Columns(vec![ascending("id", ColumnType::Int64)]));
    let columns = vec![
        ("k", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef),
        ("id", Arc::new(Int64Array::from(vec![Some(1), None, None]))),
    ];
    let error = encode_one(def, columns, AT).unwrap_err();
    assert!(matches!(&error, EncodeError::NullRowId { column, file: 2, row: 101, .. } if column == "id"), "{error}");
}

#[test]
fn a_key_longer_than_the_limit_is_an_error_that_names_index_and_row() {
    let def = def(vec![ascending("s", ColumnType::String)], RowId::Position);
    // Version, flag, terminator and row id take 12 bytes.
    let longest = "x".repeat(MAX_KEY_BYTES - 12);
    let fits = vec![("s", Arc::new(StringArray::from(vec![longest.clone()])) as ArrayRef)];
    assert_eq!(encode_one(def.clone(), fits, AT).unwrap().general.entries[0].key_len as usize, MAX_KEY_BYTES);
    let too_long = vec![("s", Arc::new(StringArray::from(vec!["a".to_owned(), longest + "x"])) as ArrayRef)];
    let error = encode_one(def, too_long, AT).unwrap_err();
    assert!(
        matches!(&error, EncodeError::KeyTooLong { index, file: 2, row: 101, .. } if index == "by_test"),
        "{error}"
    );
}

#[test]
fn a_decimal_is_rescaled_or_refused_by_row() {
    let wanted = ColumnType::Decimal { precision: 5, scale: 2 };
    let column = |digits: Vec<Option<i128>>, precision, scale| {
        Arc::new(Decimal128Array::from(digits).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
    };
    let def = def(vec![ascending("d", wanted)], RowId::Position);
    let encode = |array| encode_one(def.clone(), vec![("d", array)], AT);
    let same = encode(column(vec![Some(12_50)], 5, 2)).unwrap().packed;
    assert_eq!(encode(column(vec![Some(12_5)], 4, 1)).unwrap().packed, same);
    assert_eq!(encode(column(vec![Some(12_5000)], 6, 4)).unwrap().packed, same);
    // What stands under a NULL is nobody's value.
    for (digits, precision, scale, text) in [
        (vec![None, Some(1_0000)], 5, 1, "1000.0"),
        (vec![Some(1), Some(12_5001)], 6, 4, "0.0001"),
        (vec![Some(i128::MAX / 10)], 38, 0, "17014118346046923173168730371588410572"),
    ] {
        let error = encode(column(digits, precision, scale)).unwrap_err();
        assert!(matches!(&error, EncodeError::DecimalDoesNotFit { value, .. } if value == text), "{error}");
    }
}

#[test]
fn an_unused_value_of_a_dictionary_does_no_harm() {
    let values = Decimal128Array::from(vec![1, 99_999]).with_precision_and_scale(5, 0).unwrap();
    let keys: PrimitiveArray<Int8Type> = vec![Some(0), None].into();
    let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
    let def = def(vec![ascending("d", ColumnType::Decimal { precision: 5, scale: 2 })], RowId::Position);
    assert_eq!(encode_one(def, vec![("d", Arc::new(dictionary))], AT).unwrap().len(), 2);
}

#[test]
fn an_empty_dictionary_is_a_column_of_null() {
    for values in
        [Arc::new(StringArray::from(Vec::<&str>::new())) as ArrayRef, Arc::new(Int32Array::from(Vec::<i32>::new()))]
    {
        let column_type = ColumnType::from_arrow(values.data_type()).unwrap();
        let keys: PrimitiveArray<Int8Type> = vec![None, None].into();
        let def = def(vec![ascending("c", column_type)], RowId::Position);
        let entries =
            encode_one(def, vec![("c", Arc::new(DictionaryArray::<Int8Type>::new(keys, values)))], AT).unwrap();
        assert_eq!(entries.general.key(entries.general.entries[1])[..2], [1, FLAG_NULL_LAST]);
    }
}

/// Readers hand out one dictionary after another in one stream.
#[test]
fn another_dictionary_is_not_taken_for_the_one_before() {
    let def = Arc::new(def(vec![ascending("s", ColumnType::String)], RowId::Position));
    let mut encoder = Encoder::new(Arc::clone(&def)).unwrap();
    for text in ["first", "other"] {
        let array: DictionaryArray<Int8Type> = vec![text, text].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("s", Arc::new(array) as ArrayRef)]).unwrap();
        for (key, value) in by_encoder(&mut encoder, &batch, Rows::From(0)) {
            let decoded = decode_entry(&def, &key, &value).unwrap();
            assert_eq!(decoded.columns, [Value::String(text.into())]);
        }
    }
}

#[test]
fn fixed_size_binary_and_half_precision_are_indexed() {
    let bytes = FixedSizeBinaryArray::try_from_iter([[0u8, 255], [1, 2]].into_iter()).unwrap();
    let def_bytes = def(vec![ascending("b", ColumnType::Bytes)], RowId::Position);
    let entries = encode_one(def_bytes, vec![("b", Arc::new(bytes))], AT).unwrap();
    assert_eq!(entries.general.key(entries.general.entries[0])[..7], [1, 1, 0, 255, 255, 0, 1]);
    assert_eq!(ColumnType::from_arrow(&arrow_schema::DataType::Float16), Ok(ColumnType::Float32));
}

#[test]
fn a_batch_that_is_not_of_the_index_is_refused() {
    let def = def(vec![ascending("k", ColumnType::Int32)], RowId::Position);
    let int = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
    let missing = encode_one(def.clone(), vec![("other", int())], AT).unwrap_err();
    assert!(matches!(missing, EncodeError::MissingColumn { .. }), "{missing}");
    let other = encode_one(def.clone(), vec![("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)], AT).unwrap_err();
    assert!(matches!(other, EncodeError::WrongType { .. }), "{other}");
    let far = RowPositions { file: 0, rows: Rows::From(1 << 40) };
    assert!(matches!(encode_one(def.clone(), vec![("k", int())], far), Err(EncodeError::PositionTooLarge { .. })));
    let many = RowPositions { file: 0, rows: Rows::Each(&[1, 2]) };
    assert!(matches!(encode_one(def.clone(), vec![("k", int())], many), Err(EncodeError::PositionsDoNotMatch { .. })));
    let mut empty = def;
    empty.columns.clear();
    assert!(matches!(Encoder::new(Arc::new(empty)), Err(EncodeError::Definition(_))));
}

#[test]
fn a_packed_layout_is_there_when_sixteen_bytes_hold_it() {
    let id = RowId::Columns(vec![ascending("id", ColumnType::Int64)]);
    let width = |columns: Vec<KeyColumn>, row_id: &RowId| {
        let encoder = Encoder::new(Arc::new(def(columns, row_id.clone()))).unwrap();
        encoder.packed().map(PackedLayout::width)
    };
    assert_eq!(width(vec![ascending("k", ColumnType::Int32)], &RowId::Position), Some(12));
    assert_eq!(width(vec![ascending("k", ColumnType::Int64)], &id), Some(16));
    assert_eq!(width(vec![ascending("k", ColumnType::Int64), ascending("b", ColumnType::Bool)], &id), None);
    assert_eq!(width(vec![ascending("s", ColumnType::String)], &id), None);
    let mut carrying = def(vec![ascending("k", ColumnType::Int32)], id);
    carrying.include.push(IncludedColumn { name: "i".into(), column_type: ColumnType::Bool });
    assert_eq!(Encoder::new(Arc::new(carrying)).unwrap().packed(), None);
}

/// Guards the strategies above: a world of one type only would prove little.
#[test]
fn the_property_tests_meet_every_type() {
    let mut names: Vec<String> = ALL_TYPES.iter().map(ToString::to_string).collect();
    names.dedup();
    assert_eq!(names.len(), 25);
    let _ = Union::new(ALL_TYPES.map(value_of));
}
