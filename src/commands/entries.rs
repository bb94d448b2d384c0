//! Entries of an index as people and programs read them.

use indexbuild_index::value::printable_json;
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
    let mut outcome = Ok(());
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                outcome = Err(error.into());
                break;
            }
        };
        let text = match format {
            OutputFormat::Json => {
                let begin = if count == 0 { "[" } else { "," };
                format!("{begin}\n  {}", printable_json(&to_json(definition, &entry)))
            }
            OutputFormat::Yaml => format!("- {}\n", printable_json(&to_json(definition, &entry))),
            OutputFormat::Table => format!("{}\n", line(definition, &entry)),
        };
        crate::output::text(&text)?;
        count += 1;
    }
    // After an error too: a document that is cut off is none to whoever parses it. The exit code tells that it is not all.
    crate::output::text(match (format, count) {
        (OutputFormat::Json | OutputFormat::Yaml, 0) => "[]\n",
        (OutputFormat::Json, _) => "\n]\n",
        (OutputFormat::Yaml | OutputFormat::Table, _) => "",
    })?;
    outcome.map(|()| count)
}

fn typed(columns: &[KeyColumn]) -> Vec<(&str, ColumnType)> {
    columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect()
}

/// `customer=17 created=2026-01-31T10:00:00 -> id=1 | total=12.50`: columns in the index's order, by which it is sorted.
/// Values are printed as `get` takes them; no blank stands in one outside of quotes.
fn line(definition: &IndexDefinition, entry: &DecodedEntry) -> String {
    let DecodedEntry { columns, row_id, included } = entry;
    let pairs = |names: Vec<(&str, ColumnType)>, values: &[Value]| {
        let pairs = names.into_iter().zip(values);
        pairs.map(|((name, kind), value)| format!("{name}={}", value.display(kind))).collect::<Vec<_>>().join(" ")
    };
    let row = match row_id {
        RowIdValue::Position(position) => format!("file={} row={}", position.file(), position.row()),
        RowIdValue::Columns(values) => pairs(typed(definition.row_id_columns()), values),
    };
    let mut line = format!("{} -> {row}", pairs(typed(&definition.columns), columns));
    if !definition.include.is_empty() {
        let names = definition.include.iter().map(|column| (column.name.as_str(), column.column_type)).collect();
        line.push_str(" | ");
        line.push_str(&pairs(names, included));
    }
    line
}
