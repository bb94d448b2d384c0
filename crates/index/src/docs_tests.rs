//! Holds `docs/key-encoding.md` to the code: people write readers from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use crate::codec::{Position, RowIdValue, decode_entry, encode_entry, encode_key_prefix};
use crate::columnar::arbitrary::ALL_TYPES;
use crate::definition::{ColumnType, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId, TimeUnit};
use crate::value::{Value, to_hex};

const DOC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/key-encoding.md"));

fn types() -> Vec<ColumnType> {
    let of_their_own = |known: &ColumnType| matches!(known, ColumnType::Decimal { .. } | ColumnType::Timestamp { .. });
    let mut types: Vec<_> = ALL_TYPES.into_iter().filter(|known| !of_their_own(known)).collect();
    types.extend([(9, 2), (18, 2), (38, 0)].map(|(precision, scale)| ColumnType::Decimal { precision, scale }));
    types.push(ColumnType::Timestamp { unit: TimeUnit::Microsecond, utc: true });
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Nanosecond];
    types.extend(units.map(|unit| ColumnType::Timestamp { unit, utc: false }));
    types
}

/// The cells of a table's rows, backticks taken off; the table is found by its head.
fn table(head: &str) -> Vec<Vec<String>> {
    let from = DOC.find(head).unwrap_or_else(|| panic!("no table with head {head}"));
    let rows = DOC[from..].lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

fn key_column(name: &str, column_type: ColumnType, direction: &str) -> KeyColumn {
    let order = if direction.starts_with("DESC") { Order::Desc } else { Order::Asc };
    let nulls = match direction {
        text if text.ends_with("NULLS FIRST") => Nulls::First,
        text if text.ends_with("NULLS LAST") => Nulls::Last,
        "ASC" | "DESC" => Nulls::default_for(order),
        other => panic!("direction {other}"),
    };
    KeyColumn { name: name.into(), column_type, order, nulls }
}

fn definition(columns: Vec<KeyColumn>, row_id: RowId, unique: bool) -> IndexDefinition {
    IndexDefinition { name: "doc".into(), unique, columns, row_id, include: Vec::new() }
}

#[test]
fn every_example_of_a_column_in_the_docs_is_what_the_code_writes() {
    let types = types();
    let mut seen = BTreeSet::new();
    let rows = table("| column | direction | value | flag and body |");
    for row in &rows {
        let [name, direction, value, hex] = row.as_slice() else { panic!("{row:?}") };
        let column_type = *types.iter().find(|known| known.to_string() == *name).unwrap_or_else(|| panic!("{name}"));
        let value = match value.as_str() {
            "NULL" => Value::Null,
            text => Value::parse(&text.replace("\\0", "\0"), column_type).unwrap(),
        };
        let def = definition(vec![key_column("c", column_type, direction)], RowId::Position, false);
        let key = encode_key_prefix(&def, &[value]).unwrap();
        assert_eq!(format!("01{hex}"), to_hex(&key), "{row:?}");
        seen.insert(column_type.to_string());
    }
    let all: BTreeSet<String> = types.iter().map(ToString::to_string).collect();
    assert_eq!(seen, all, "every type has an example");
}

#[test]
fn every_example_of_an_entry_in_the_docs_is_what_the_code_writes() {
    let id = || RowId::Columns(vec![key_column("id", ColumnType::Int64, "ASC")]);
    let seven = || RowIdValue::Columns(vec![Value::Int(7)]);
    let column = |column_type| vec![key_column("c", column_type, "ASC")];
    let mut carrying = definition(column(ColumnType::Int32), id(), false);
    carrying.include = [ColumnType::Int32, ColumnType::String, ColumnType::String]
        .map(|column_type| IncludedColumn { name: "i".into(), column_type })
        .to_vec();
    let by_position = definition(column(ColumnType::Int32), RowId::Position, false);
    let unique = definition(column(ColumnType::String), id(), true);
    let entries = [
        (by_position, Value::Int(42), RowIdValue::Position(Position::new(3, 17).unwrap()), vec![]),
        (definition(column(ColumnType::Int32), id(), false), Value::Int(42), seven(), vec![]),
        (unique.clone(), Value::String("a".into()), seven(), vec![]),
        (unique, Value::Null, seven(), vec![]),
        (carrying, Value::Int(42), seven(), vec![Value::Int(-5), Value::Null, Value::String("hi".into())]),
    ];
    let rows = table("| index | entry | stored key | value |");
    assert_eq!(rows.len(), entries.len());
    for (row, (def, key, row_id, included)) in rows.iter().zip(entries) {
        let (stored, value) = encode_entry(&def, &[key], &row_id, &included).unwrap();
        assert_eq!((to_hex(&stored), to_hex(&value)), (row[2].clone(), row[3].clone()), "{row:?}");
        assert_eq!(decode_entry(&def, &stored, &value).unwrap().included, included);
    }
}
