//! What is printed of a value is taken back as that value: for every type, over its whole range.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use crate::codec::encode_key_prefix;
use crate::columnar::arbitrary::{ALL_TYPES, value_of};
use crate::definition::{ColumnType, IndexDefinition, KeyColumn, Nulls, Order, RowId, TimeUnit};
use crate::value::{Value, printable_json};

/// The key under which a value is found: of two zeros, and of all NaN, it is one.
fn key(column_type: ColumnType, value: &Value) -> Vec<u8> {
    let column = KeyColumn { name: "c".into(), column_type, order: Order::Asc, nulls: Nulls::Last };
    let (columns, row_id) = (vec![column], RowId::Position);
    let definition = IndexDefinition { name: "printed".into(), unique: false, columns, row_id, include: Vec::new() };
    encode_key_prefix(&definition, std::slice::from_ref(value)).unwrap()
}

/// Every way in which a value is printed is read as it.
fn taken_back(column_type: ColumnType, value: &Value) -> Result<(), String> {
    let json = value.to_json(column_type);
    // JSON escapes controls below the blank alone.
    let raw_json = json.to_string();
    let printed = [value.display(column_type), raw_json.clone(), printable_json(&json)];
    for text in printed {
        let read = Value::parse(&text, column_type).map_err(|error| format!("{value:?}: {error}"))?;
        let same = match (value, &read) {
            (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits() || left.is_nan(),
            (left, right) => left == right,
        };
        if !same || key(column_type, &read) != key(column_type, value) {
            return Err(format!("{value:?} is printed as {text}, which is read as {read:?}"));
        }
        if text.chars().any(char::is_control) && text != raw_json {
            return Err(format!("{value:?} is printed with a control: {text:?}"));
        }
        // On a line, values end at blanks.
        if text == value.display(column_type) && !text.starts_with('"') && text.contains(char::is_whitespace) {
            return Err(format!("{value:?} is printed with a blank and no quotes: {text:?}"));
        }
    }
    Ok(())
}

fn types() -> Vec<ColumnType> {
    let decimals = (1..=38).flat_map(|precision| {
        let precision_of_scale = i8::try_from(precision).unwrap();
        [-38, -3, 0, 1, precision_of_scale, 38].map(|scale| ColumnType::Decimal { precision, scale })
    });
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let timestamps = units.iter().flat_map(|unit| [true, false].map(|utc| ColumnType::Timestamp { unit: *unit, utc }));
    ALL_TYPES.into_iter().chain(decimals).chain(timestamps).collect()
}

/// One by one, since a lucky draw should not be needed for them.
#[test]
fn the_edges_of_every_type_are_taken_back() {
    let texts = [
        "",
        "NULL",
        "null",
        "\"NULL\"",
        "\"",
        "\"\"",
        "'",
        "a b",
        " a",
        "a ",
        "\t",
        "a\nb",
        "\r\n",
        "a\0b",
        "\0",
        "-",
        "-o",
        "--",
        "-5",
        "\\",
        "\\u0000",
        "Smith, John",
        "a=b",
        "->",
        "|",
        "é",
        "😀",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}a",
        "\u{202e}a",
        "\u{ffff}",
        "\u{10ffff}",
        "00112233-4455-6677-8899-aabbccddeeff",
        "2026-01-31",
    ];
    let strings = texts.map(|text| (ColumnType::String, Value::String(text.into())));
    let every_byte: Vec<u8> = (0..=255).collect();
    let bytes = [Vec::new(), vec![0], every_byte, vec![0x22; 16]].map(|bytes| (ColumnType::Bytes, Value::Bytes(bytes)));
    let specials = [
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        1e15,
        1e16,
        1e17,
        1e-5,
        1e-6,
        0.1,
    ];
    let doubles = specials.map(|value| (ColumnType::Float64, Value::Float(value)));
    #[allow(clippy::cast_possible_truncation)]
    let singles = specials.map(|value| (ColumnType::Float32, Value::Float((value as f32).into())));
    let mut all: Vec<(ColumnType, Value)> = strings.into_iter().chain(bytes).chain(doubles).chain(singles).collect();
    for column_type in types() {
        match column_type {
            ColumnType::Decimal { precision, .. } => {
                let most = 10i128.pow(precision.into()) - 1;
                all.extend([-most, -1, 0, 1, most].map(|digits| (column_type, Value::Decimal(digits))));
            }
            ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time { .. }
            | ColumnType::Timestamp { .. } => {
                let bits = column_type.width().unwrap() * 8;
                let (low, high) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
                all.extend([low, low + 1, -1, 0, 1, high - 1, high].map(|value| (column_type, Value::Int(value))));
            }
            ColumnType::UInt8 | ColumnType::UInt16 | ColumnType::UInt32 | ColumnType::UInt64 => {
                let high = u64::MAX >> (64 - column_type.width().unwrap() * 8);
                all.extend([0, 1, high].map(|value| (column_type, Value::UInt(value))));
            }
            ColumnType::Bool | ColumnType::Float32 | ColumnType::Float64 | ColumnType::String | ColumnType::Bytes => {}
        }
    }
    for (column_type, value) in all {
        if let Err(wrong) = taken_back(column_type, &value) {
            panic!("{column_type}: {wrong}");
        }
    }
    for column_type in types() {
        assert_eq!(Value::parse(&Value::Null.display(column_type), column_type), Ok(Value::Null), "{column_type}");
    }
}

proptest! {
    #[test]
    fn any_value_of_any_type_is_taken_back(
        (column_type, value) in prop::sample::select(types()).prop_flat_map(|one| (Just(one), value_of(one)))
    ) {
        prop_assert_eq!(taken_back(column_type, &value), Ok(()), "{}", column_type);
    }

    /// Another implementation, where it has the range.
    #[test]
    fn a_timestamp_is_printed_as_jiff_prints_it(
        nanos in -62_135_596_800_000_000_000_i128..253_402_207_200_000_000_000,
        unit in prop::sample::select(vec![TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond])
    ) {
        let count = i64::try_from(nanos.div_euclid(1_000_000_000 / i128::from(unit.per_second()))).unwrap();
        let exact = i128::from(count) * (1_000_000_000 / i128::from(unit.per_second()));
        let at = jiff::Timestamp::from_nanosecond(exact).unwrap();
        prop_assert_eq!(Value::Int(count).display(ColumnType::Timestamp { unit, utc: true }), at.to_string());
        let civil = jiff::tz::TimeZone::UTC.to_datetime(at);
        prop_assert_eq!(Value::Int(count).display(ColumnType::Timestamp { unit, utc: false }), civil.to_string());
    }
}
