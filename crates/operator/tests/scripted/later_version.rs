//! What a later version has that this one does not know: a field more in each object, a word more in each closed set.

use serde_json::{Value, json};

/// What the operator of a later version writes.
pub(crate) const FIELD: &str = "laterVersion";
pub(crate) const WORD: &str = "LaterVersion";

/// The definitions as a later version's chart has them: a field more in each object, a word more in each closed set.
pub(crate) fn later(schema: &mut Value) {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(json!(WORD));
    }
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(later);
        fields.insert(FIELD.to_owned(), json!({"type": "string", "maxLength": 63}));
    }
    if let Some(items) = schema.get_mut("items") {
        later(items);
    }
}
