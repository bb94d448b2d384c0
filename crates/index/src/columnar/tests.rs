#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray,
};
use proptest::prelude::*;

use super::arbitrary::{ALL_TYPES, Row, batch_of, fixed_types, sql_order_of_rows, tables};
use super::*;
use crate::codec::{DecodedEntry, Position, RowIdValue, decode_entry, encode_entry, encode_key_prefix};
use crate::definition::IncludedColumn;
use crate::digest::Frame;
use crate::value::Value;

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
    fn bytewise_order_of_keys_is_the_order_of_sql((def, rows) in tables(ALL_TYPES.to_vec(), 3, 0)) {
        for left in &rows {
            for right in &rows {
                let keys = [left, right].map(|row| encode_key_prefix(&def, &row.0).unwrap());
                prop_assert_eq!(keys[0].cmp(&keys[1]), sql_order_of_rows(&def.columns, &left.0, &right.0),
                    "{:?} {:?}", left.0, right.0);
            }
        }
    }

    #[test]
    fn stored_keys_are_ordered_by_columns_and_then_by_row_id((def, rows) in tables(ALL_TYPES.to_vec(), 2, 1)) {
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
        (def, rows) in tables(ALL_TYPES.to_vec(), 3, 3),
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
    fn what_was_encoded_is_decoded_again((def, rows) in tables(ALL_TYPES.to_vec(), 3, 4)) {
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
        (def, rows) in tables(fixed_types(), 2, 0),
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
    let same = encode(column(vec![Some(1250)], 5, 2)).unwrap().packed;
    assert_eq!(encode(column(vec![Some(125)], 4, 1)).unwrap().packed, same);
    assert_eq!(encode(column(vec![Some(125_000)], 6, 4)).unwrap().packed, same);
    // What stands under a NULL is nobody's value.
    for (digits, precision, scale, text) in [
        (vec![None, Some(10_000)], 5, 1, "1000.0"),
        (vec![Some(1), Some(125_001)], 6, 4, "0.0001"),
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
    assert!(Encoder::new(Arc::new(carrying)).unwrap().packed().is_none());
}

#[test]
fn a_frame_may_serve_several_layouts_in_turn() {
    let layouts = [ColumnType::Int32, ColumnType::Int64]
        .map(|column_type| Encoder::new(Arc::new(def(vec![ascending("k", column_type)], RowId::Position))).unwrap());
    let [narrow, wide] = layouts.each_ref().map(|encoder| encoder.packed().unwrap());
    let mut shared = Frame::new();
    for packed in [7u128, 8 << 64, u128::from(u64::MAX)] {
        for layout in [narrow, wide, narrow] {
            let mut fresh = Frame::new();
            layout.expand(packed, &mut fresh);
            layout.expand(packed, &mut shared);
            assert_eq!((shared.bytes(), shared.key()), (fresh.bytes(), fresh.key()));
        }
        shared.set(b"between", b"two");
    }
}

/// Guards the strategies above: a table of one type only would prove little.
#[test]
fn the_property_tests_meet_every_type() {
    let mut names: Vec<String> = ALL_TYPES.iter().map(ToString::to_string).collect();
    names.dedup();
    assert_eq!(names.len(), 25);
}
