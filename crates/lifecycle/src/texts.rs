//! Texts of what is reported, of a length that the definitions take: one that is too long would have the whole report refused, and
//! with it all that it says.

use std::sync::LazyLock;

use indexbuild_api::{EngineDirectoryStatus, IndexBuildStatus, Report, crds, schema_of};
use indexbuild_text::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The schemas of both resources' statuses: a build's, and a record's.
static STATUSES: LazyLock<[Value; 2]> = LazyLock::new(|| {
    ["IndexBuild", "EngineDirectory"].map(|kind| {
        let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind);
        crd.map(|crd| schema_of(&crd)["properties"]["status"].take()).unwrap_or_default()
    })
});

/// What is reported, with each of its texts cut, on a character's border, to what the definition has room for.
pub trait Fitted: Sized {
    #[must_use]
    fn fitted(self) -> Self;
}

impl Fitted for IndexBuildStatus {
    fn fitted(self) -> Self {
        let [build, _] = &*STATUSES;
        fit(self, build)
    }
}

impl Fitted for EngineDirectoryStatus {
    fn fitted(self) -> Self {
        let [_, record] = &*STATUSES;
        fit(self, record)
    }
}

impl Fitted for Report {
    fn fitted(self) -> Self {
        let [_, record] = &*STATUSES;
        fit(self, &record["properties"]["report"])
    }
}

fn fit<T: Serialize + DeserializeOwned>(report: T, schema: &Value) -> T {
    // Of the types of these resources, JSON can say all, and reads back what it said.
    let Ok(mut value) = serde_json::to_value(&report) else {
        return report;
    };
    if !cut(&mut value, schema) {
        return report;
    }
    serde_json::from_value(value).unwrap_or(report)
}

/// Cuts what is too long. Whether anything was.
fn cut(value: &mut Value, schema: &Value) -> bool {
    let mut any = false;
    match value {
        Value::String(text) => {
            let longest = schema["maxLength"].as_u64().and_then(|longest| usize::try_from(longest).ok());
            // A word of a closed set is as long as it is.
            if let Some(longest) = longest.filter(|longest| text.chars().count() > *longest)
                && schema.get("enum").is_none()
            {
                // So many bytes are at most so many characters.
                *text = bounded(text, longest);
                any = true;
            }
        }
        Value::Array(items) => {
            for item in items {
                any |= cut(item, &schema["items"]);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                if let Some(schema) = known {
                    any |= cut(value, schema);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    any
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// A text for each place that has room for one, so long, of letters of one to four bytes.
    fn full(schema: &Value, letters: &str, length: usize) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return words[0].clone();
        }
        match schema["type"].as_str() {
            Some("object") => {
                let known = schema["properties"].as_object().into_iter().flatten();
                let mut fields: Map<_, _> =
                    known.map(|(name, schema)| (name.clone(), full(schema, letters, length))).collect();
                if let Some(schema) = schema.get("additionalProperties") {
                    fields.insert("key".to_owned(), full(schema, letters, length));
                }
                Value::Object(fields)
            }
            Some("array") => json!([full(&schema["items"], letters, length)]),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            _ if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
            _ => json!(letters.chars().cycle().take(length).collect::<String>()),
        }
    }

    /// What of a value the schema does not take.
    fn refused(place: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                let longest = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
                if text.chars().count() as u64 > longest {
                    found.push(format!("{place}: {} characters", text.chars().count()));
                }
            }
            Value::Array(items) => {
                items.iter().for_each(|item| refused(&format!("{place}[]"), item, &schema["items"], found));
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let schema = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    refused(&format!("{place}.{name}"), value, schema, found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn tried<T: Fitted + Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug>(schema: &Value) -> usize {
        let mut cut_ones = 0;
        for letters in ["a", "é", "語", "🦀", "aé語🦀", "🦀a"] {
            for length in [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1_023, 1_025, 4_095, 4_096, 4_097, 70_000] {
                let value = full(schema, letters, length);
                let report: T =
                    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
                let mut too_long = Vec::new();
                refused("", &json!(report), schema, &mut too_long);
                let fitted = report.clone().fitted();
                let mut found = Vec::new();
                refused("", &json!(fitted), schema, &mut found);
                assert!(found.is_empty(), "{letters} {length}: {found:?}");
                assert_eq!(too_long.is_empty(), fitted == report, "what fits stays as it is");
                assert_eq!(fitted.clone().fitted(), fitted, "once is enough");
                cut_ones += too_long.len();
            }
        }
        cut_ones
    }

    /// A report that the API server refuses for one long text says nothing at all.
    #[test]
    fn whatever_is_said_at_each_place_of_a_status_or_a_report_has_room_in_its_definition() {
        let [build, record] = &*STATUSES;
        assert!(tried::<IndexBuildStatus>(build) > 100);
        assert!(tried::<EngineDirectoryStatus>(record) > 100);
        assert!(tried::<Report>(&record["properties"]["report"]) > 50);
    }
}
