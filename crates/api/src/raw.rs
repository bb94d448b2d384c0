//! Objects of Kubernetes that are carried through as they are.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

/// How deep a [`RawObject`] may be nested. Those of Kubernetes are nested less than ten deep; what reads JSON gives up
/// between 100 and 128, and then with all that stands beside it.
pub const MAX_DEPTH: usize = 64;

/// An object of the core API that is passed on to the pod unread (an affinity, a label selector). Its
/// full schema would make the CRD larger than client-side apply takes; the API server checks it when
/// the pod is made. One that is nested deeper than `MAX_DEPTH` is not read.
#[derive(Serialize, Clone, Debug, Default, PartialEq)]
#[serde(transparent)]
pub struct RawObject(pub Map<String, Value>);

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        if fields.values().any(|value| is_deeper(value, MAX_DEPTH - 1)) {
            return Err(D::Error::custom(format!("an object is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self(fields))
    }
}

/// Whether objects and lists are nested deeper than so many levels.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(less) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, less)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, less)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl JsonSchema for RawObject {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RawObject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

/// A map of short texts, such as labels.
pub(crate) fn text_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}
