//! Keys that stand more than once in a unique index, with the rows that have them.

use indexbuild_index::value::to_hex;
use indexbuild_index::{DecodedEntry, IndexDefinition, KeyColumn, RowIdValue, Value, decode_entry};
use serde::{Deserialize, Serialize};

/// Pairs named at most; the count is exact.
pub const MOST_PAIRS: usize = 100;

/// What a unique index found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Duplicates {
    /// Rows whose key another row had already.
    pub count: u64,
    /// The first of them in key order, up to [`MOST_PAIRS`].
    pub pairs: Vec<DuplicatePair>,
}

/// Two rows with the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DuplicatePair {
    /// The stored key, hex.
    pub key: String,
    pub decoded: String,
    /// Row id of the row that has it first, in words.
    pub first: String,
    /// Row id of another row that has it, in words.
    pub second: String,
}

impl Duplicates {
    /// Adds a row, with its value, whose key another row has; that one as [`describe`] tells it.
    pub(crate) fn add(
        &mut self,
        definition: &IndexDefinition,
        key: &[u8],
        first: impl FnOnce() -> (String, String),
        second: &[u8],
    ) {
        self.count += 1;
        if self.pairs.len() < MOST_PAIRS {
            let (decoded, first) = first();
            let (_, second) = describe(definition, key, second);
            self.pairs.push(DuplicatePair { key: to_hex(key), decoded, first, second });
        }
    }

    /// Adds those of a range that comes after.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        let room = MOST_PAIRS - self.pairs.len().min(MOST_PAIRS);
        self.pairs.extend(other.pairs.iter().take(room).cloned());
    }
}

/// Key and row id of an entry in words; bytes that cannot be decoded are shown as hex.
pub(crate) fn describe(definition: &IndexDefinition, key: &[u8], value: &[u8]) -> (String, String) {
    match decode_entry(definition, key, value) {
        Ok(DecodedEntry { columns, row_id, included: _ }) => {
            let columns = named(&definition.columns, &columns);
            let row = match row_id {
                RowIdValue::Position(position) => format!("file {}, row {}", position.file(), position.row()),
                RowIdValue::Columns(values) => named(definition.row_id_columns(), &values),
            };
            (columns, row)
        }
        Err(error) => {
            tracing::warn!(%error, index = %definition.name, "a duplicate cannot be shown in words");
            (to_hex(key), to_hex(value))
        }
    }
}

fn named(columns: &[KeyColumn], values: &[Value]) -> String {
    let parts = columns.iter().zip(values);
    parts
        .map(|(column, value)| format!("{} = {}", column.name, value.display(column.column_type)))
        .collect::<Vec<_>>()
        .join(", ")
}
