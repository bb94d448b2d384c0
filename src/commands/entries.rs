//! Entries of an index as people and programs read them.

use indexbuild_index::{ColumnType, DecodedEntry, IndexDefinition, KeyColumn, RowId, RowIdValue, Value};
use serde_json::{Map, json};

use crate::output::OutputFormat;

/// `{"key": {column: value}, "rowId": {column: value} or {"file": n, "row": n}, "include": {…}}`
pub(super) fn to_json(definition: &IndexDefinition, entry: &DecodedEntry) -> serde_json::Value {
    let DecodedEntry { columns, row_id, included } = entry;
    let object = |names: Vec<(&str, ColumnType)>, values: &[Value]| {
        let pairs = names.into_iter().zip(values);
        pairs.map(|((name, kind), value)| (name.to_owned(), value.to_json(kind))).collect::<Map<_, _>>()
    };
    let mut out = Map::new();
    out.insert("key".to_owned(), object(typed(&definition.columns), columns).into());
    let row = match (row_id, &definition.row_id) {
        (RowIdValue::Position(position), _) => json!({"file": position.file(), "row": position.row()}),
        (RowIdValue::Columns(values), RowId::Columns(columns)) => object(typed(columns), values).into(),
        (RowIdValue::Columns(values), RowId::Position) => json!(format!("{values:?}")),
    };
    out.insert("rowId".to_owned(), row);
    if !definition.include.is_empty() {
        let names = definition.include.iter().map(|column| (column.name.as_str(), column.column_type)).collect();
        out.insert("include".to_owned(), object(names, included).into());
    }
    out.into()
}

/// Writes entries one by one, so that memory does not grow with their number. Returns how many.
pub(super) fn write<E: Into<anyhow::Error>>(
    format: OutputFormat,
    definition: &IndexDefinition,
    entries: impl Iterator<Item = Result<DecodedEntry, E>>,
) -> anyhow::Result<u64> {
    let mut count = 0;
    if format == OutputFormat::Json {
        crate::output::text("[")?;
    }
    for entry in entries {
        let entry = to_json(definition, &entry.map_err(Into::into)?);
        let text = match format {
            OutputFormat::Json => format!("{}\n  {entry}", if count == 0 { "" } else { "," }),
            OutputFormat::Yaml => format!("- {entry}\n"),
            OutputFormat::Table => format!("{}\n", line(definition, &entry)),
        };
        crate::output::text(&text)?;
        count += 1;
    }
    if format == OutputFormat::Json {
        crate::output::text("\n]\n")?;
    }
    Ok(count)
}

fn typed(columns: &[KeyColumn]) -> Vec<(&str, ColumnType)> {
    columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect()
}

fn named(columns: &[KeyColumn]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_str()).collect()
}

/// `customer=17 created=2026-01-31T10:00:00 -> id=1 | total=12.50`: columns in the index's order, by which it is sorted.
fn line(definition: &IndexDefinition, entry: &serde_json::Value) -> String {
    let pairs = |part: &serde_json::Value, names: &[&str]| {
        let pair = |name: &&str| match &part[*name] {
            serde_json::Value::String(text) => format!("{name}={text}"),
            serde_json::Value::Null => format!("{name}=NULL"),
            other => format!("{name}={other}"),
        };
        names.iter().map(pair).collect::<Vec<_>>().join(" ")
    };
    let row = match &definition.row_id {
        RowId::Position => vec!["file", "row"],
        RowId::Columns(columns) => named(columns),
    };
    let mut line = format!("{} -> {}", pairs(&entry["key"], &named(&definition.columns)), pairs(&entry["rowId"], &row));
    if !definition.include.is_empty() {
        let included: Vec<&str> = definition.include.iter().map(|column| column.name.as_str()).collect();
        line.push_str(" | ");
        line.push_str(&pairs(&entry["include"], &included));
    }
    line
}
