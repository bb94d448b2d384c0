//! Walks a structural schema over a marked document: types, bounds, unknown and missing fields, defaults, rules.

use indexbuild_api::MAX_BUILD_NAME;
use regex::Regex;
use serde_json::{Map, Value};

use crate::cel::Rule;
use crate::problem::Problem;
use crate::yaml::{Content, Key, Node, Place};

/// One walk and what it found.
#[derive(Default)]
pub(crate) struct Walk {
    pub problems: Vec<Problem>,
}

impl Walk {
    /// Checks a whole object; gives it with the schema's defaults.
    pub(crate) fn document(&mut self, schema: &Value, document: &Node, old: Option<&Value>) -> Value {
        let checked = self.value("", schema, document, old);
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        checked
    }

    /// What the API server checks of every object's name, as far as the definition's rules leave it open.
    pub(crate) fn name(&mut self, document: &Node) {
        let metadata = document.field("metadata");
        let name = metadata.and_then(|metadata| metadata.field("name"));
        let (place, text) = match (name, metadata) {
            (Some(node), _) => match &node.content {
                Content::Text(text) => (node.place, text.as_str()),
                Content::Null => (node.place, ""),
                Content::Bool(_) | Content::Number(_) | Content::List(_) | Content::Map(_) => return,
            },
            (None, metadata) => (metadata.map_or(document.place, |node| node.place), ""),
        };
        if text.is_empty() {
            self.problems.push(Problem::new(
                "metadata.name",
                place,
                "Required value: name the build (lower case letters, digits and hyphens)".to_owned(),
            ));
            return;
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inside = text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.');
        let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
        if !inside || !ends {
            self.problems.push(Problem::new(
                "metadata.name",
                place,
                format!(
                    "Invalid value: \"{text}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters and '-', and must start and end with an alphanumeric character: choose a name such as \"{}\"",
                    suggest_name(text)
                ),
            ));
        }
    }

    fn value(&mut self, path: &str, schema: &Value, node: &Node, old: Option<&Value>) -> Value {
        let before = self.problems.len();
        if !self.has_type(path, schema, node) {
            return Value::Null;
        }
        let value = match &node.content {
            Content::Map(fields) => self.object(path, schema, node, fields, old),
            Content::List(items) => self.list(path, schema, node, items, old),
            Content::Text(text) => {
                self.text(path, schema, node, text);
                node.to_json()
            }
            Content::Number(number) => {
                self.number(path, schema, node, number.as_f64().unwrap_or(f64::NAN));
                node.to_json()
            }
            Content::Null | Content::Bool(_) => node.to_json(),
        };
        self.one_of(path, schema, node, &value);
        // A rule is asked only about a value that has the shape it expects.
        if self.problems.len() == before {
            self.rules(path, schema, node, &value, old);
        }
        value
    }

    fn has_type(&mut self, path: &str, schema: &Value, node: &Node) -> bool {
        let actual = node.type_name();
        let fits = if schema["x-kubernetes-int-or-string"] == true {
            matches!(actual, "integer" | "string")
        } else {
            match schema["type"].as_str() {
                Some("number") => matches!(actual, "number" | "integer"),
                Some(expected) => actual == expected,
                None => true,
            }
        };
        if !fits {
            let expected = schema["type"].as_str().unwrap_or("integer or string");
            let quoted = matches!(expected, "string") && matches!(actual, "integer" | "number" | "boolean");
            let way_out = if quoted && actual == "boolean" {
                ": put it in quotes (a bare y, yes or on means true)".to_owned()
            } else if quoted {
                format!(": put it in quotes, \"{}\"", node.to_json())
            } else if expected == "array" {
                ": write a list, each item behind a hyphen".to_owned()
            } else {
                hint(schema)
            };
            self.problems.push(Problem::new(
                path,
                node.place,
                format!(
                    "Invalid value: \"{actual}\": {path} in body must be of type {expected}: \"{actual}\"{way_out}"
                ),
            ));
        }
        fits
    }

    fn object(
        &mut self,
        path: &str,
        schema: &Value,
        node: &Node,
        fields: &[(Key, Node)],
        old: Option<&Value>,
    ) -> Value {
        let mut checked = Map::new();
        let properties = schema["properties"].as_object();
        let additional = schema.get("additionalProperties");
        let open =
            schema["x-kubernetes-preserve-unknown-fields"] == true || (properties.is_none() && additional.is_none());
        for (key, field) in fields {
            let at = join(path, &key.name);
            let known = properties.and_then(|properties| properties.get(&key.name)).or(additional);
            match known {
                // A null is an absent field to the API server: its default, if there is one, takes its place.
                Some(_) if matches!(field.content, Content::Null) => {}
                Some(inner) => {
                    let old = old.and_then(|old| old.get(&key.name));
                    let value = self.value(&at, inner, field, old);
                    checked.insert(key.name.clone(), value);
                }
                None if open => {
                    checked.insert(key.name.clone(), field.to_json());
                }
                None => self.problems.push(Problem::new(&at, key.place, unknown_field(&at, &key.name, properties))),
            }
        }
        for (name, inner) in properties.into_iter().flatten() {
            if !checked.contains_key(name)
                && let Some(default) = inner.get("default")
            {
                checked.insert(name.clone(), default.clone());
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let given = fields.iter().any(|(key, field)| key.name == name && !matches!(field.content, Content::Null));
            if !given && !checked.contains_key(name) {
                let inner = properties.and_then(|properties| properties.get(name));
                self.problems.push(Problem::new(
                    &join(path, name),
                    node.place,
                    format!("Required value{}", inner.map(hint).unwrap_or_default()),
                ));
            }
        }
        self.at_most(path, schema, "maxProperties", node, fields.len(), "items");
        Value::Object(checked)
    }

    fn list(&mut self, path: &str, schema: &Value, node: &Node, items: &[Node], old: Option<&Value>) -> Value {
        self.at_most(path, schema, "maxItems", node, items.len(), "items");
        if let Some(least) = schema["minItems"].as_u64()
            && (items.len() as u64) < least
        {
            self.problems.push(Problem::new(
                path,
                node.place,
                format!(
                    "Invalid value: {}: {path} in body should have at least {least} items{}",
                    items.len(),
                    hint(schema)
                ),
            ));
        }
        let keys: Vec<&str> =
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut seen: Vec<Value> = Vec::new();
        let mut checked = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let at = format!("{path}[{number}]");
            let identity = match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => key_values(&item.to_json(), &keys),
                Some("set") => Some(item.to_json()),
                _ => None,
            };
            if let Some(identity) = &identity {
                if seen.contains(identity) {
                    self.problems.push(Problem::new(
                        &at,
                        item.place,
                        format!("Duplicate value: {identity}: each may stand once in this list: remove or rename one of them"),
                    ));
                }
                seen.push(identity.clone());
            }
            // Only a list by key lets an item be compared with the one it was.
            let former = old
                .and_then(Value::as_array)
                .filter(|_| !keys.is_empty())
                .and_then(|old| old.iter().find(|former| key_values(former, &keys) == identity));
            checked.push(self.value(&at, &schema["items"], item, former));
        }
        Value::Array(checked)
    }

    fn text(&mut self, path: &str, schema: &Value, node: &Node, text: &str) {
        let length = text.chars().count();
        if let Some(most) = schema["maxLength"].as_u64()
            && length as u64 > most
        {
            let bytes = if most == 1 { "byte" } else { "bytes" };
            self.problems.push(Problem::new(
                path,
                node.place,
                format!("Too long: may not be more than {most} {bytes}: it has {length}"),
            ));
        }
        if let Some(least) = schema["minLength"].as_u64()
            && (length as u64) < least
        {
            self.problems.push(Problem::new(
                path,
                node.place,
                format!(
                    "Invalid value: {}: {path} in body should be at least {least} chars long{}",
                    node.show(),
                    hint(schema)
                ),
            ));
            return;
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            self.problems.push(Problem::new(
                path,
                node.place,
                format!(
                    "Invalid value: {}: {path} in body should match '{pattern}'{}",
                    node.show(),
                    pattern_hint(pattern, schema)
                ),
            ));
        }
    }

    fn number(&mut self, path: &str, schema: &Value, node: &Node, number: f64) {
        let mut outside = |relation: &str, bound: &Value| {
            self.problems.push(Problem::new(
                path,
                node.place,
                format!(
                    "Invalid value: {}: {path} in body should be {relation} than or equal to {}",
                    node.show(),
                    whole(bound)
                ),
            ));
        };
        if let Some(least) = schema["minimum"].as_f64()
            && number < least
        {
            outside("greater", &schema["minimum"]);
        }
        if let Some(most) = schema["maximum"].as_f64()
            && number > most
        {
            outside("less", &schema["maximum"]);
        }
    }

    fn one_of(&mut self, path: &str, schema: &Value, node: &Node, value: &Value) {
        let Some(allowed) = schema["enum"].as_array() else {
            return;
        };
        if allowed.contains(value) {
            return;
        }
        let names: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let meant = value
            .as_str()
            .and_then(|text| closest(text, allowed.iter().filter_map(Value::as_str)))
            .map(|name| format!(": did you mean \"{name}\"?"))
            .unwrap_or_default();
        self.problems.push(Problem::new(
            path,
            node.place,
            format!("Unsupported value: {}: supported values: {}{meant}", node.show(), names.join(", ")),
        ));
    }

    fn rules(&mut self, path: &str, schema: &Value, node: &Node, value: &Value, old: Option<&Value>) {
        for rule in Rule::of(schema) {
            if let Some(message) = rule.violation(schema, value, old) {
                let relative = rule.field_path.unwrap_or_default().trim_start_matches('.');
                let (at, place) = descend(path, node, relative);
                let kind = match rule.reason {
                    Some("FieldValueRequired") => "Required value",
                    Some("FieldValueForbidden") => "Forbidden",
                    Some("FieldValueDuplicate") => "Duplicate value",
                    _ => "Invalid value",
                };
                self.problems.push(Problem::new(&at, place, format!("{kind}: {message}")));
            }
        }
    }

    fn at_most(&mut self, path: &str, schema: &Value, bound: &str, node: &Node, count: usize, unit: &str) {
        if let Some(most) = schema[bound].as_u64()
            && count as u64 > most
        {
            self.problems.push(Problem::new(
                path,
                node.place,
                format!("Too many: {count}: must have at most {most} {unit}"),
            ));
        }
    }
}

/// The values of a list item's keys.
fn key_values(item: &Value, keys: &[&str]) -> Option<Value> {
    let fields: Map<String, Value> =
        keys.iter().filter_map(|key| item.get(*key).map(|value| ((*key).to_owned(), value.clone()))).collect();
    (fields.len() == keys.len() && !keys.is_empty()).then_some(Value::Object(fields))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The field that a rule points at, and the place of as much of its way as is written.
fn descend(path: &str, node: &Node, relative: &str) -> (String, Place) {
    let mut at = path.to_owned();
    let mut place = node.place;
    let mut here = Some(node);
    for name in relative.split('.').filter(|name| !name.is_empty()) {
        at = join(&at, name);
        here = here.and_then(|node| node.field(name));
        place = here.map_or(place, |node| node.place);
    }
    (at, place)
}

fn unknown_field(path: &str, name: &str, properties: Option<&Map<String, Value>>) -> String {
    let names: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let way_out = match closest(name, names.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("remove it; known here: {}", names.join(", ")),
    };
    format!("unknown field \"{path}\": {way_out}")
}

/// The name that was probably meant: a few letters off, or the same but for case.
fn closest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = text.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// The first sentence of a field's description: what belongs there.
fn hint(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .and_then(|text| text.lines().next())
        .map(|text| {
            let sentence = text.split(". ").next().unwrap_or(text).trim_end_matches('.');
            format!(": {sentence}")
        })
        .unwrap_or_default()
}

fn pattern_hint(pattern: &str, schema: &Value) -> String {
    if pattern == indexbuild_api::DURATION_PATTERN {
        ": write a duration such as 90s, 5m or 1h30m".to_owned()
    } else if pattern == indexbuild_api::QUANTITY_PATTERN {
        ": write a quantity such as 512Mi, 50Gi or 2".to_owned()
    } else {
        hint(schema)
    }
}

fn whole(bound: &Value) -> String {
    match bound.as_f64() {
        Some(float) => format!("{float}"),
        None => bound.to_string(),
    }
}

fn suggest_name(text: &str) -> String {
    let plain: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(MAX_BUILD_NAME)
        .collect();
    let trimmed = plain.trim_matches('-');
    if trimmed.is_empty() { "orders".to_owned() } else { trimmed.to_owned() }
}
