//! The reference of all fields, written from the definitions.

use std::fmt::Write;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::conditions::{ConditionType, Reason, WorkErrorReason};
use crate::crd::{crds, schema_of};
use crate::{DirectoryState, OwnerChangeReason, Phase, VolumeState};

/// The reference of all resources in Markdown: each field with its type, bounds, default and meaning, and the rules.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Reference\n\nGenerated from the types in `crates/api`; do not edit. `kubectl explain indexbuild.spec` says the same.\n",
    );
    for crd in crds() {
        let schema = schema_of(&crd);
        let names = &crd.spec.names;
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {}\n\n`{}/v1alpha1`, short `{}`. {}\n",
            names.kind,
            crd.spec.group,
            names.short_names.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", "),
            schema["description"].as_str().unwrap_or_default(),
        );
        for part in ["spec", "status"] {
            let _ = write!(page, "\n### {}: {part}\n\n| field | type | meaning |\n|---|---|---|\n", names.kind);
            fields(&mut page, part, &schema["properties"][part]);
        }
        let mut rules = Vec::new();
        collect_rules("", &schema, &mut rules);
        let _ = write!(page, "\n### {}: rules\n\n| at | what is refused reads |\n|---|---|\n", names.kind);
        for (path, message) in rules {
            let _ = writeln!(page, "| `{path}` | {} |", cell(&message));
        }
    }
    page.push_str("\n## Words\n\nThe values of closed sets, and what they mean.\n");
    vocabulary::<ConditionType>(&mut page, "Types of conditions");
    vocabulary::<Reason>(&mut page, "Reasons of conditions and events");
    vocabulary::<Phase>(&mut page, "Phases of a build");
    vocabulary::<DirectoryState>(&mut page, "States of a slot");
    vocabulary::<OwnerChangeReason>(&mut page, "Why a slot's owner or work changed");
    vocabulary::<VolumeState>(&mut page, "What is known of a volume");
    vocabulary::<WorkErrorReason>(&mut page, "Why an attempt failed");
    page
}

/// The values of an enum with what their documentation says.
fn vocabulary<T: JsonSchema>(page: &mut String, title: &str) {
    let _ = write!(page, "\n### {title}\n\n| value | meaning |\n|---|---|\n");
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    for value in schema["oneOf"].as_array().into_iter().flatten() {
        let name = value["const"].as_str().unwrap_or_default();
        let _ = writeln!(page, "| `{name}` | {} |", cell(value["description"].as_str().unwrap_or_default()));
    }
}

fn fields(page: &mut String, path: &str, schema: &Value) {
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        let (suffix, inner) = match field.get("additionalProperties") {
            _ if field["type"] == "array" => ("[]", &field["items"]),
            Some(values) => (".*", values),
            None => ("", field),
        };
        let _ = writeln!(
            page,
            "| `{at}` | {} | {} |",
            cell(&describe_type(field, required(name))),
            cell(field["description"].as_str().unwrap_or_default())
        );
        fields(page, &format!("{at}{suffix}"), inner);
    }
}

fn describe_type(field: &Value, required: bool) -> String {
    let simple = |field: &Value| -> String {
        if let Some(names) = field["enum"].as_array() {
            return names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" \\| ");
        }
        if field["x-kubernetes-int-or-string"] == true {
            return "quantity".to_owned();
        }
        if field["pattern"] == crate::DURATION_PATTERN {
            return "duration".to_owned();
        }
        field["type"].as_str().unwrap_or("any").to_owned()
    };
    let mut text = match field["type"].as_str() {
        Some("array") => format!("list of {}", simple(&field["items"])),
        _ => match field.get("additionalProperties") {
            Some(values) => format!("map of {}", simple(values)),
            None => simple(field),
        },
    };
    for (bound, word) in [("minimum", "at least"), ("maximum", "at most"), ("maxItems", "at most")] {
        if let Some(value) = field[bound].as_f64().filter(|value| *value != 0.0) {
            let quantity = field["x-kubernetes-int-or-string"] == true;
            let value = if quantity { "1Ei".to_owned() } else { value.to_string() };
            let _ = write!(text, ", {word} {value}");
        }
    }
    if let Some(default) = field.get("default").filter(|default| !default.is_object()) {
        let _ = write!(text, ", default `{default}`");
    }
    if required {
        text.push_str(", **required**");
    }
    text
}

fn collect_rules(path: &str, schema: &Value, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let at = format!("{path}{}", rule["fieldPath"].as_str().unwrap_or_default());
        let at = at.trim_start_matches('.');
        let at = if at.is_empty() { "metadata.name" } else { at };
        rules.push((at.to_owned(), rule["message"].as_str().unwrap_or_default().to_owned()));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(&format!("{path}.{name}"), field, rules);
    }
    if let Some(items) = schema.get("items") {
        collect_rules(&format!("{path}[]"), items, rules);
    }
}

/// A text that stays within its cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("<i>", "`<i>`")
}
