//! Removes possible secrets from the collected texts and objects.

use indexbuild_api::IndexBuild;
use serde_json::Value;

const REMOVED: &str = "(removed)";
/// Shorter values occur by chance in too many places.
const SHORTEST: usize = 6;

/// The values to remove: those of the build's environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Redaction {
    values: Vec<String>,
}

impl Redaction {
    /// The values that a build's spec holds in plain text.
    pub(super) fn of(build: &IndexBuild) -> Self {
        let executor = build.spec.executor_or_default();
        let values = executor.env.iter().filter_map(|variable| variable.value.clone());
        let mut values: Vec<String> = values.filter(|value| value.len() >= SHORTEST).collect();
        // A longer one may hold a shorter one.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// A text without these values, and without user names, passwords and queries in URLs.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            text = text.replace(value.as_str(), REMOVED);
        }
        urls(&text)
    }

    /// An object without fields that are noise or may hold a secret.
    pub(super) fn object(&self, mut object: Value) -> Value {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        }
        environment(&mut object);
        object
    }
}

/// Values of environments go, whatever their length; where they come from stays.
fn environment(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match field {
                    Value::Array(variables) if name == "env" => {
                        for variable in variables.iter_mut().filter_map(Value::as_object_mut) {
                            if let Some(value) = variable.get_mut("value") {
                                *value = Value::from(REMOVED);
                            }
                        }
                    }
                    field => environment(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(environment),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Where a URL ends within a text.
fn ends_url(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '\'' | '<' | '>' | ',' | ')' | ']' | '}' | '`')
}

/// URLs without user names, passwords and queries.
fn urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(ends_url).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        let (place, query) = url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
        let authority = place.find('/').unwrap_or(place.len());
        match place.get(..authority).and_then(|authority| authority.rfind('@')) {
            Some(at) => {
                out.push_str(REMOVED);
                out.push_str(&place[at..]);
            }
            None => out.push_str(place),
        }
        if query.is_some() {
            out.push('?');
            out.push_str(REMOVED);
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_signs_in_by_a_url_is_removed_and_the_place_stays() {
        for (text, clean) in [
            (
                "read https://ann:pw@host:9000/b/k?X-Amz-Signature=abc, then",
                "read https://(removed)@host:9000/b/k?(removed), then",
            ),
            ("s3://lake/orders/*.parquet", "s3://lake/orders/*.parquet"),
            ("\"https://host/a@b\" and ://", "\"https://host/a@b\" and ://"),
            ("az://ü@x", "az://(removed)@x"),
        ] {
            assert_eq!(urls(text), clean);
        }
    }

    #[test]
    fn values_of_environments_are_removed_from_objects_and_from_logs() {
        let build = json!({
            "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
            "metadata": {"name": "o", "managedFields": [], "annotations":
                {"kubectl.kubernetes.io/last-applied-configuration": "hunter2-hunter2", "a": "b"}},
            "spec": {"source": {"parquet": {"urls": ["s3://a/b"]}}, "indexes": [], "output": {"url": "s3://c"},
                "executor": {"env": [{"name": "TOKEN", "value": "hunter2-hunter2"}, {"name": "N", "value": "1"}]}},
        });
        let parsed: IndexBuild = serde_json::from_value(build.clone()).unwrap();
        let redaction = Redaction::of(&parsed);
        let object = redaction.object(build).to_string();
        assert!(!object.contains("hunter2") && object.contains("\"a\":\"b\"") && object.contains("TOKEN"), "{object}");
        assert_eq!(redaction.text("a log with hunter2-hunter2 in it, 1"), "a log with (removed) in it, 1");
    }
}
