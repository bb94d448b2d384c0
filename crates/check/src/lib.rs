//! Checks a build's YAML by the resource's own schema, so that the API server and a local run say the same.
//!
//! One source: the `CustomResourceDefinition`. Its types, bounds, defaults and CEL rules are walked here
//! over the marked YAML, so that each problem names its field and its place in the file. Words: `docs/glossary.md`.

mod cel;
mod problem;
mod schema;
mod yaml;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use indexbuild_api::labels::{GROUP, VERSION};
use indexbuild_api::{EngineDirectory, EngineDirectorySpec, IndexBuild, crds, schema_of};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

pub use problem::{CheckError, Problem};
use schema::Walk;
use yaml::{Content, Node};

/// Checks the text of a YAML file that holds one `IndexBuild`, and gives the build with the schema's
/// defaults filled in. All problems are reported at once.
///
/// # Errors
/// What is wrong, where (`file:line:column` and field path), and the way out.
pub fn check_build(file_name: &str, text: &str) -> Result<IndexBuild, CheckError> {
    check_build_in(file_name, text, &|_, place| place.to_owned())
}

/// What a place in a build's file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceOf {
    /// The table's files; it may be a pattern.
    Source,
    /// The one folder or prefix that the indexes are written to.
    Output,
}

/// As [`check_build`], for a local run: each place in `source` and `output` is first replaced by what
/// `resolve` makes of it, so that a path beside the file can stand where a cluster needs a URL. A bare
/// `missingColumns: Null` is taken for the word.
///
/// # Errors
/// What is wrong, where (`file:line:column` and field path), and the way out.
pub fn check_build_in(
    file_name: &str,
    text: &str,
    resolve: &dyn Fn(PlaceOf, &str) -> String,
) -> Result<IndexBuild, CheckError> {
    let failed = |problems| CheckError { file: file_name.to_owned(), problems };
    let mut document = yaml::parse_one(text).map_err(|problem| failed(vec![problem]))?;
    for (of, path) in [
        (PlaceOf::Source, &["spec", "source", yaml::ANY, "urls"][..]),
        (PlaceOf::Output, &["spec", "output", "url"][..]),
    ] {
        document.replace_texts(path, &|place| resolve(of, place));
    }
    // An API server drops a null before anybody sees it. Here the file itself is seen, and what was meant is not left out.
    document.take_null_for_a_word(&["spec", "source", yaml::ANY, "missingColumns"], text);
    if let Some(problems) = wrong_kind(&document) {
        return Err(failed(problems));
    }
    let mut walk = Walk::default();
    let checked = walk.document(schema_of_kind("IndexBuild"), &document, None);
    walk.name(&document);
    if !walk.problems.is_empty() {
        return Err(failed(walk.problems));
    }
    serde_json::from_value(checked)
        .map_err(|error| failed(vec![Problem::new("", (1, 1), format!("the build cannot be read: {error}"))]))
}

/// Checks a build that takes the place of another: what [`check_build`] checks, and what may not change.
///
/// # Errors
/// What is wrong, with the field's path.
pub fn check_update(old: &IndexBuild, new: &IndexBuild) -> Result<(), CheckError> {
    check_transition("IndexBuild", Some(&to_json(old)), &to_json(new))
}

/// Checks a record by its own schema: alone, or as what takes the place of another.
///
/// # Errors
/// What is wrong, with the field's path.
pub fn check_directory(old: Option<&EngineDirectory>, new: &EngineDirectory) -> Result<(), CheckError> {
    check_transition("EngineDirectory", old.map(to_json).as_ref(), &to_json(new))
}

/// As [`check_directory`], for the operator's part alone.
///
/// # Errors
/// What is wrong, with the field's path.
pub fn check_directory_spec(old: Option<&EngineDirectorySpec>, new: &EngineDirectorySpec) -> Result<(), CheckError> {
    let record = |spec: &EngineDirectorySpec| EngineDirectory::new("record", spec.clone());
    check_directory(old.map(record).as_ref(), &record(new))
}

/// Checks an object of one of our kinds, as JSON, by its own schema and rules, and gives it with the schema's defaults:
/// what the API server would store.
///
/// # Errors
/// What is wrong, with the field's path; for a kind that is not ours, that it has no schema.
pub fn check_object(kind: &str, object: &Value) -> Result<Value, CheckError> {
    let mut walk = Walk::default();
    let checked = walk.document(schema_of_kind(kind), &Node::from_json(object), None);
    if walk.problems.is_empty() {
        Ok(checked)
    } else {
        Err(CheckError { file: String::new(), problems: walk.problems })
    }
}

fn check_transition(kind: &str, old: Option<&Value>, new: &Value) -> Result<(), CheckError> {
    let schema = schema_of_kind(kind);
    let old = old.map(|old| {
        // The stored object has its defaults, as the API server reads it.
        Walk::default().document(schema, &Node::from_json(old), None)
    });
    let mut walk = Walk::default();
    walk.document(schema, &Node::from_json(new), old.as_ref());
    if walk.problems.is_empty() { Ok(()) } else { Err(CheckError { file: String::new(), problems: walk.problems }) }
}

fn to_json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The schema of a kind, with metadata; for a kind that is not ours, one that nothing fits.
fn schema_of_kind(kind: &str) -> &'static Value {
    static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        crds().iter().map(|crd| (crd.spec.names.kind.clone(), with_metadata(schema_of(crd)))).collect()
    });
    static NONE: LazyLock<Value> =
        LazyLock::new(|| json!({"type": "object", "properties": {}, "required": ["schema"]}));
    SCHEMAS.get(kind).unwrap_or_else(|| &NONE)
}

/// A definition says nothing of `apiVersion`, `kind` and `metadata`, which the API server knows by itself.
fn with_metadata(mut schema: Value) -> Value {
    let settings = schemars::generate::SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let metadata = settings.into_generator().into_root_schema_for::<ObjectMeta>();
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = metadata.to_value();
    schema
}

/// A document of another kind is not compared with a schema that was never meant for it.
fn wrong_kind(document: &Node) -> Option<Vec<Problem>> {
    let expected = format!("{GROUP}/{VERSION}");
    let Content::Map(_) = &document.content else {
        return Some(vec![Problem::new(
            "",
            document.place,
            format!(
                "the file must hold an object, but is {}: begin with apiVersion: {expected} and kind: IndexBuild",
                document.describe()
            ),
        )]);
    };
    let mut problems = Vec::new();
    for (field, expected) in [("apiVersion", expected.as_str()), ("kind", "IndexBuild")] {
        match document.field(field).map(|node| (&node.content, node.place)) {
            Some((Content::Text(text), _)) if text == expected => {}
            Some((_, place)) => problems.push(Problem::new(
                field,
                place,
                format!(
                    "Unsupported value: {}: supported values: \"{expected}\": write {field}: {expected}",
                    document.field(field).map(Node::show).unwrap_or_default()
                ),
            )),
            None => {
                problems.push(Problem::new(
                    field,
                    document.place,
                    format!("Required value: write {field}: {expected}"),
                ));
            }
        }
    }
    (!problems.is_empty()).then_some(problems)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use indexbuild_api::MissingColumns;

    use super::check_build;

    #[test]
    fn a_bare_null_is_the_word_for_missing_columns_and_an_empty_field_is_absent() {
        let null = Some(MissingColumns::Null);
        for (written, expected) in [
            ("missingColumns: Null", null),
            ("missingColumns:   null # as YAML spells it", null),
            ("missingColumns: \"Null\"", null),
            ("missingColumns: Fail", Some(MissingColumns::Fail)),
            ("missingColumns:", Some(MissingColumns::Fail)),
            ("missingColumns: ~", Some(MissingColumns::Fail)),
            ("missingColumns: nullable", None),
        ] {
            for (format, line) in
                [("parquet", written.to_owned()), ("csv", format!("delimiter: \";\"\n      {written}"))]
            {
                let text = format!(
                    "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: a}}\nspec:\n  source:\n    {format}:\n      urls: [\"s3://a/b\"]\n      {line}\n  indexes: [{{name: by_k, columns: [{{name: k}}]}}]\n  rowId: {{columns: [id]}}\n  output: {{url: \"s3://a/i\"}}\n",
                );
                let found = check_build("build.yaml", &text);
                match expected {
                    Some(expected) => {
                        let build = found.unwrap();
                        assert_eq!(build.spec.source.files().next().unwrap().missing_columns, expected, "{text}");
                    }
                    None => assert!(found.unwrap_err().to_string().contains("missingColumns"), "{text}"),
                }
            }
        }
        let flow = "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {name: a}\nspec:\n  source: {parquet: {urls: [\"s3://ä/b\"], missingColumns: Null}}\n  indexes: [{name: by_k, columns: [{name: k}]}]\n  rowId: {columns: [id]}\n  output: {url: \"s3://a/i\"}\n";
        let build = check_build("build.yaml", flow).unwrap();
        assert_eq!(build.spec.source.files().next().unwrap().missing_columns, MissingColumns::Null);
    }
}
