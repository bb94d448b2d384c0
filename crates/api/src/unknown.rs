//! What of a build's spec a later version has put there, and this one does not know.

use std::fmt::Write;
use std::sync::LazyLock;

use serde_json::Value;

use crate::crd::{crds, schema_of};

/// The schema of a build's spec as this version has it.
static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let build = crds().into_iter().find(|crd| crd.spec.names.kind == "IndexBuild");
    build.map(|build| schema_of(&build)["properties"]["spec"].take()).unwrap_or_default()
});

/// So many unknown parts are named; whoever reads of them knows then that their operator is older than their builds.
const NAMED: usize = 8;

/// Which fields and words of a build's spec this version does not know, each by its place; `None`: it knows all. Whoever
/// carried such a build out would make another index than was asked for.
#[must_use]
pub fn unknown_in_spec(spec: &Value) -> Option<String> {
    let mut found = Vec::new();
    look("spec", spec, &SPEC, &mut found);
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    let mut text = found.join("; ");
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    (!text.is_empty()).then_some(text)
}

fn look(place: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    match value {
        // The API server takes a null for nothing.
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let place = format!("{place}.{name}");
                match known {
                    Some(schema) => look(&place, value, schema, found),
                    None if schema.get("x-kubernetes-preserve-unknown-fields").is_some() => {}
                    None => found.push(format!("{place} is a field that this version does not know")),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look(&format!("{place}[{index}]"), item, &schema["items"], found);
            }
        }
        Value::String(word) => {
            let words = schema["enum"].as_array();
            if words.is_some_and(|words| !words.iter().any(|known| known == word)) {
                found.push(format!("{place} is {word:?}, a word that this version does not know"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "source": {"parquet": {"urls": ["s3://lake/a"]}},
            "indexes": [{"name": "a", "columns": [{"name": "b", "order": "Desc"}]}],
            "output": {"url": "s3://indexes/s", "compression": "Zstd"},
            "volume": {"size": "10Gi", "storageClassName": null},
            "executor": {
                "affinity": {"nodeAffinity": {"anything": {"goes": "Here"}}},
                "nodeSelector": {"disk": "nvme"},
                "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
            },
        })
    }

    #[test]
    fn of_a_spec_that_is_known_whole_nothing_is_told() {
        assert_eq!(unknown_in_spec(&spec()), None);
    }

    #[test]
    fn a_field_and_a_word_that_are_not_known_are_named_by_their_place_however_deep_they_stand() {
        let unknown = |at: &str, value: Value| {
            let mut spec = spec();
            let (parent, name) = at.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[name] = value;
            unknown_in_spec(&spec).unwrap_or_else(|| panic!("{at} is not told"))
        };
        for (at, said) in [
            ("/tier", "spec.tier is a field"),
            ("/volume/tier", "spec.volume.tier is a field"),
            ("/indexes/0/columns/0/collation", "spec.indexes[0].columns[0].collation is a field"),
            ("/executor/resources/limits/gpu", "spec.executor.resources.limits.gpu is a field"),
        ] {
            assert!(unknown(at, json!("fast")).starts_with(said), "{at}");
        }
        for (at, said) in [
            ("/output/compression", "spec.output.compression is \"Brotli\", a word"),
            ("/output/deletionPolicy", "spec.output.deletionPolicy is \"Brotli\", a word"),
            ("/indexes/0/columns/0/order", "spec.indexes[0].columns[0].order is \"Brotli\", a word"),
        ] {
            assert!(unknown(at, json!("Brotli")).starts_with(said), "{at}");
        }
        assert_eq!(unknown_in_spec(&json!({"tier": null})), None, "a null is nothing");
    }

    #[test]
    fn what_is_told_has_an_end() {
        let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("f{n}"), json!(n))).collect();
        let said = unknown_in_spec(&Value::Object(many)).unwrap();
        assert!(said.ends_with("; and 92 more") && said.len() < 1_000, "{said}");
    }
}
