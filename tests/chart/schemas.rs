//! The API server's own schemas in the form that kubeconform reads: a file for each kind, with nothing to look up
//! elsewhere and no field that is not known.

use std::path::Path;

use serde_json::{Value, json};

/// Writes a file for each kind that an OpenAPI document of an API server (`/openapi/v2`) knows.
pub(super) fn write(openapi: &Value, folder: &Path) {
    let definitions = &openapi["definitions"];
    for (name, definition) in definitions.as_object().unwrap() {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let word = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = word("group");
            let group = if group.is_empty() { String::new() } else { format!("-{}", group.split('.').next().unwrap()) };
            let file = folder.join(format!("{}{group}-{}.json", word("kind"), word("version")));
            let schema = resolved(definition, definitions, &mut vec![name.clone()]);
            std::fs::write(file, schema.to_string()).unwrap();
        }
    }
}

fn resolved(schema: &Value, definitions: &Value, within: &mut Vec<String>) -> Value {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(|place| place.as_str()?.strip_prefix("#/definitions/")) {
                // A schema that holds itself, as that of schemas does: any value.
                if within.iter().any(|outer| outer == name) {
                    return json!({});
                }
                within.push(name.to_owned());
                let found = resolved(&definitions[name], definitions, within);
                within.pop();
                return found;
            }
            if fields.get("format").is_some_and(|format| format == "int-or-string") {
                return json!({"type": ["string", "integer"]});
            }
            let mut all: serde_json::Map<String, Value> = fields
                .iter()
                .filter(|(key, _)| !key.starts_with("x-kubernetes-") && *key != "format")
                .map(|(key, value)| {
                    // Names of fields, which may be those of keywords.
                    let found = match value.as_object().filter(|_| key == "properties") {
                        Some(fields) => {
                            let each =
                                |(name, field): (&String, &Value)| (name.clone(), resolved(field, definitions, within));
                            Value::Object(fields.iter().map(each).collect())
                        }
                        None => resolved(value, definitions, within),
                    };
                    (key.clone(), found)
                })
                .collect();
            if all.contains_key("properties") && fields["properties"].is_object() {
                all.entry("additionalProperties").or_insert(json!(false));
            }
            Value::Object(all)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| resolved(item, definitions, within)).collect()),
        other => other.clone(),
    }
}
