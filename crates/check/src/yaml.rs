//! YAML with the place of every key and value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

use crate::problem::Problem;

/// Line and column, from 1; 0 where there is no file.
pub(crate) type Place = (u64, u64);

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub place: Place,
    pub content: Content,
}

/// A key of a map and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub place: Place,
    pub name: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// In a path: each field.
pub(crate) const ANY: &str = "*";

impl Node {
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(fields) => fields.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::List(_) => None,
        }
    }

    /// Replaces the text at a path of fields ([`ANY`]: of whichever name), or each text of the list there.
    pub(crate) fn replace_texts(&mut self, path: &[&str], replace: &dyn Fn(&str) -> String) {
        match (path.split_first(), &mut self.content) {
            (None, Content::Text(text)) => *text = replace(text),
            (None, Content::List(items)) => items.iter_mut().for_each(|item| item.replace_texts(&[], replace)),
            (Some((name, rest)), Content::Map(fields)) => {
                for (_, node) in fields.iter_mut().filter(|(key, _)| *name == ANY || key.name == *name) {
                    node.replace_texts(rest, replace);
                }
            }
            (None | Some(_), _) => {}
        }
    }

    /// Makes the bare word `Null` at a path of fields in `file` the text that YAML does not take it for. A field that is left
    /// empty, and a `~`, stay nothing.
    pub(crate) fn take_null_for_a_word(&mut self, path: &[&str], file: &str) {
        match (path.split_first(), &mut self.content) {
            (None, content @ Content::Null) => {
                let before = |place: u64| usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
                let (line, column) = self.place;
                let line = file.lines().nth(before(line)).unwrap_or_default();
                let written: String = line.chars().skip(before(column)).take(4).collect();
                if written.eq_ignore_ascii_case("null") {
                    *content = Content::Text("Null".to_owned());
                }
            }
            (Some((name, rest)), Content::Map(fields)) => {
                for (_, node) in fields.iter_mut().filter(|(key, _)| *name == ANY || key.name == *name) {
                    node.take_null_for_a_word(rest, file);
                }
            }
            (None | Some(_), _) => {}
        }
    }

    /// The name of the value's type, as schemas call it.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "boolean",
            // What does not fit in 64 bits with a sign is no integer to the API server.
            Content::Number(number) if number.as_i64().is_none() => "number",
            Content::Number(_) => "integer",
            Content::Text(_) => "string",
            Content::List(_) => "array",
            Content::Map(_) => "object",
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match &self.content {
            Content::Null => "empty",
            Content::Bool(_) => "a boolean",
            Content::Number(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "an object",
        }
    }

    /// The value as the API server shows it in messages.
    pub(crate) fn show(&self) -> String {
        match &self.content {
            Content::List(_) | Content::Map(_) => format!("\"{}\"", self.type_name()),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => self.to_json().to_string(),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Content::Map(fields) => {
                Value::Object(fields.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect())
            }
        }
    }

    /// A value that stands in no file.
    pub(crate) fn from_json(value: &Value) -> Self {
        let place = (0, 0);
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::Number(number) => Content::Number(number.clone()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(items.iter().map(Self::from_json).collect()),
            Value::Object(fields) => Content::Map(
                fields
                    .iter()
                    .map(|(name, value)| {
                        let name = name.clone();
                        (Key { place, name }, Self::from_json(value))
                    })
                    .collect(),
            ),
        };
        Self { place, content }
    }
}

fn place_of<T>(spanned: &Spanned<T>) -> Place {
    (spanned.referenced.line(), spanned.referenced.column())
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyContent;

        impl<'de> Visitor<'de> for AnyContent {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML value")
            }

            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::Null)
            }

            fn visit_none<E>(self) -> Result<Content, E> {
                Ok(Content::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
                Content::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
                Ok(Content::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
                Ok(Content::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
                Ok(Content::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
                // JSON knows neither infinity nor NaN; as a text they fail every number's type.
                Ok(Number::from_f64(value).map_or_else(|| Content::Text(value.to_string()), Content::Number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Content, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element::<Spanned<Content>>()? {
                    items.push(node(item));
                }
                Ok(Content::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let place = place_of(&key);
                    let value = map.next_value::<Spanned<Content>>()?;
                    fields.push((Key { place, name: key.value }, node(value)));
                }
                Ok(Content::Map(fields))
            }
        }

        deserializer.deserialize_any(AnyContent)
    }
}

fn node(spanned: Spanned<Content>) -> Node {
    Node { place: place_of(&spanned), content: spanned.value }
}

/// Reads a text that must hold exactly one document.
pub(crate) fn parse_one(text: &str) -> Result<Node, Problem> {
    let documents: Vec<Spanned<Content>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let place = error.location().map_or((1, 1), |location| (location.line(), location.column()));
        let message = error.without_snippet().to_string();
        Problem::new("", place, format!("the file is not valid YAML: {message}"))
    })?;
    let mut documents: Vec<Node> =
        documents.into_iter().map(node).filter(|document| !matches!(document.content, Content::Null)).collect();
    match documents.len() {
        0 => Err(Problem::new(
            "",
            (1, 1),
            "the file is empty: write one IndexBuild; examples/ has some to begin with".to_owned(),
        )),
        1 => Ok(documents.remove(0)),
        count => Err(Problem::new(
            "",
            documents[1].place,
            format!(
                "the file holds {count} documents, but one build is run at a time: put each into a file of its own"
            ),
        )),
    }
}
