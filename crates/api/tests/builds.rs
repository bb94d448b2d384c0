//! The table of good and bad builds in `tests/builds`, the examples, and the generated files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/builds/files.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use indexbuild_api::{IndexBuild, SourceSpec, crd_yaml, crds, reference_markdown, schema_of};
use indexbuild_check::{CheckError, check_build, check_update};
use table::header;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &str) -> Vec<(String, String)> {
    table::files(&root().join(folder))
}

/// What a refusal does not say although the file's head promises it.
fn unsaid(name: &str, text: &str, error: &CheckError) -> Vec<String> {
    let shown = error.to_string();
    let expected = [header(text, "expect"), header(text, "local")].concat();
    let mut unsaid = Vec::new();
    if expected.is_empty() {
        unsaid.push(format!("{name} does not say what a user reads; shown:\n{shown}"));
    }
    for part in expected.iter().filter(|part| !shown.contains(**part)) {
        unsaid.push(format!("{name}: expected: {part}\nshown: {shown}"));
    }
    for place in header(text, "at") {
        let at = |problem: &indexbuild_check::Problem| format!("{}:{}", problem.line, problem.column) == place;
        if !error.problems.iter().any(at) {
            unsaid.push(format!("{name}: no problem at {place}\nshown: {shown}"));
        }
    }
    for problem in &error.problems {
        if !error.file.is_empty() && (problem.line == 0 || problem.column == 0) {
            unsaid.push(format!("{name}: {problem} has no place"));
        }
    }
    unsaid
}

#[test]
fn every_good_build_is_accepted() {
    let table = files("tests/builds/good");
    assert!(table.len() >= 12);
    for (name, text) in table {
        check_build(&name, &text).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_bad_build_is_refused_with_the_message_that_its_head_gives() {
    let table = files("tests/builds/bad");
    assert!(table.len() >= 35);
    let mut wrong = Vec::new();
    for (name, text) in table {
        match check_build(&name, &text) {
            Ok(_) => wrong.push(format!("{name} was accepted")),
            Err(error) => wrong.extend(unsaid(&name, &text, &error)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_update_is_accepted_or_refused_as_its_head_says() {
    for (name, text) in files("tests/builds/updates") {
        let (old, new) = text.split_once("\n---\n").expect("two documents");
        let read = |text: &str| check_build(&name, text).unwrap_or_else(|error| panic!("{error}"));
        match check_update(&read(old), &read(new)) {
            Ok(()) => assert!(text.starts_with("# accept\n"), "{name} was accepted"),
            Err(error) => assert_eq!(unsaid(&name, &text, &error), Vec::<String>::new()),
        }
    }
}

#[test]
fn every_rule_of_the_definition_is_refused_by_some_file_of_the_table() {
    fn messages(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(fields) => {
                for rule in
                    fields.get("x-kubernetes-validations").and_then(|rules| rules.as_array()).into_iter().flatten()
                {
                    found.push(rule["message"].as_str().expect("each rule has a message").to_owned());
                }
                fields.values().for_each(|value| messages(value, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| messages(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    messages(&serde_json::to_value(&crds()[0]).unwrap(), &mut found);
    assert!(found.len() >= 20, "{}", found.len());
    let refused: Vec<String> = [files("tests/builds/bad"), files("tests/builds/updates")]
        .concat()
        .iter()
        .flat_map(|(_, text)| header(text, "expect").into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for message in found {
        assert!(refused.iter().any(|text| message.starts_with(text.as_str())), "no file is refused by: {message}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported_at_once_in_its_order() {
    let (name, text) =
        files("tests/builds/bad").into_iter().find(|(name, _)| name == "three-mistakes-at-once.yaml").unwrap();
    let error = check_build(&name, &text).unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
    assert!(error.problems.is_sorted_by_key(|problem| problem.line));
    assert!(error.to_string().starts_with("three-mistakes-at-once.yaml:9:"), "{error}");
}

#[test]
fn what_is_absent_is_filled_in_by_the_definition() {
    let (name, text) =
        files("tests/builds/good").into_iter().find(|(name, _)| name == "empty-objects-take-defaults.yaml").unwrap();
    let spec = check_build(&name, &text).unwrap().spec;
    assert_eq!((spec.parallelism, spec.backoff_limit_per_work, spec.backoff_limit, spec.suspend), (1, 6, None, false));
    assert_eq!(spec.disruption_or_default(), indexbuild_api::DisruptionSpec::default());
    assert_eq!(spec.volume_or_default().size_bytes(), 10 << 30);
    assert_eq!(spec.memory_limit_bytes(), 512 << 20);
    assert_eq!(spec.output.target_file_bytes(), 128 << 20);
}

#[test]
fn a_build_keeps_its_meaning_when_it_is_written_and_read_again() {
    for (name, text) in [files("tests/builds/good"), files("examples")].concat() {
        let build = check_build(&name, &text).unwrap();
        let again: IndexBuild = serde_json::from_value(serde_json::to_value(&build).unwrap()).unwrap();
        assert_eq!(again, build, "{name}");
        check_update(&build, &again).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Who asks for the table's files by `SourceSpec::files`, and the rule that one kind is given, know all kinds.
#[test]
fn each_kind_of_source_is_one_of_those_of_which_one_is_given() {
    let builds = crds().into_iter().find(|crd| crd.spec.names.kind == "IndexBuild").unwrap();
    let schema = schema_of(&builds);
    let source = &schema["properties"]["spec"]["properties"]["source"];
    let said = |part: &str| source["x-kubernetes-validations"][0][part].as_str().unwrap().to_owned();
    let kinds: Vec<&String> = source["properties"].as_object().unwrap().keys().collect();
    assert!(kinds.len() >= 2);
    for kind in kinds {
        assert!(
            said("rule").contains(&format!("has(self.{kind})")) && said("message").contains(kind.as_str()),
            "{kind}"
        );
        let spec: SourceSpec = serde_json::from_value(serde_json::json!({kind: {"urls": ["s3://lake/t"]}})).unwrap();
        let files: Vec<_> = spec.files().map(|files| (files.field, files.urls.join(" "))).collect();
        assert_eq!(files, [(kind.as_str(), "s3://lake/t".to_owned())]);
    }
}

#[test]
fn every_example_is_a_valid_build() {
    let examples = files("examples");
    assert!(examples.len() >= 4);
    for (name, text) in examples {
        check_build(&name, &text).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Compares a generated file with what stands in the repository; `make generated` writes it.
fn assert_fresh(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("INDEXBUILD_UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is stale: run make generated");
}

#[test]
fn the_definitions_in_crds_are_those_of_the_types() {
    for (file, text) in crd_yaml().unwrap() {
        for folder in ["crds", "charts/indexbuild/files/crds"] {
            assert_fresh(&format!("{folder}/{file}"), &text);
        }
    }
}

#[test]
fn the_reference_in_docs_is_that_of_the_types() {
    assert_fresh("docs/reference.md", &reference_markdown());
}

#[test]
fn the_definitions_are_the_same_when_they_are_read_from_their_files() {
    for ((file, text), crd) in crd_yaml().unwrap().into_iter().zip(crds()) {
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(read).unwrap();
        assert_eq!(read, crd, "{file}");
    }
}
