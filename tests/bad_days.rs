//! Bad input and bad days: each ends in an error that names the thing and the way out, and nothing is
//! lost. I5 and I6 from the user's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Workspace, build_yaml, files_below};

const RUN: [&str; 5] = ["run", "build.yaml", "--state", "state", "--quiet"];

fn with_table(rows: u64) -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(rows, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "2000"]);
    workspace.write("build.yaml", &build_yaml("bad", &["k"], ""));
    workspace
}

fn csv_yaml(index: &str, row_id: &str) -> String {
    format!(
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: bad}}\nspec:\n  source:\n    csv:\n      urls: [table.csv]\n      columns: [{{name: id, type: int64}}, {{name: a, type: int64}}]\n{row_id}  indexes:\n    - {index}\n  output: {{url: indexes}}\n"
    )
}

fn with_csv(text: &str, index: &str, row_id: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("table.csv", text).write("build.yaml", &csv_yaml(index, row_id));
    workspace
}

const ROW_ID: &str = "  rowId: {columns: [id]}\n";
const BY_A: &str = "{name: by_a, columns: [{name: a}]}";
const UNIQUE_A: &str = "{name: by_a, columns: [{name: a}], unique: true}";

fn fails_with(workspace: &Workspace, expected: &[&str]) {
    let text = workspace.indexbuild(&RUN).failed(&format!("a build that should say {expected:?}")).text();
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    // What stands at the commit's place, if anything, is a tombstone: no reader takes it for an index.
    for (file, _) in files_below(&workspace.join("indexes")).iter().filter(|(file, _)| file.ends_with("manifest.json"))
    {
        let document = std::fs::read_to_string(workspace.join("indexes").join(file)).unwrap();
        assert!(!document.contains("\"indexes\""), "a failed build published an index: {document}");
    }
}

#[test]
fn a_field_that_does_not_exist_is_named_with_its_place() {
    let workspace = with_table(10);
    workspace.write("build.yaml", &build_yaml("bad", &["k"], "  paralellism: 3\n"));
    let text = workspace.indexbuild(&["run", "build.yaml", "--dry-run"]).failed("an unknown field").text();
    for part in ["build.yaml:", "paralellism", "parallelism"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_missing_column_is_named_with_those_that_there_are() {
    let workspace = with_table(10);
    workspace.write("build.yaml", &build_yaml("bad", &["customer"], ""));
    fails_with(&workspace, &["customer", "by_customer", "k"]);
}

#[test]
fn an_empty_table_gives_an_empty_valid_index() {
    let workspace = with_csv("id,a\n", BY_A, ROW_ID);
    workspace.indexbuild(&RUN).succeeded("an empty table");
    assert_eq!(workspace.manifest("bad")["indexes"][0]["entries"], 0);
    workspace.indexbuild(&["verify", "indexes/default/bad", "--source", "build.yaml"]).succeeded("verify");
}

#[test]
fn a_truncated_parquet_file_is_named() {
    let workspace = with_table(5_000);
    let content = std::fs::read(workspace.join("table.parquet")).unwrap();
    std::fs::write(workspace.join("table.parquet"), &content[..content.len() / 2]).unwrap();
    fails_with(&workspace, &["table.parquet"]);
}

#[test]
fn a_cell_that_does_not_parse_is_named_by_file_line_and_column() {
    let workspace = with_csv("id,a\n1,10\n2,ten\n", BY_A, ROW_ID);
    fails_with(&workspace, &["table.csv", "3", "ten"]);
}

#[test]
fn duplicates_in_a_unique_index_are_counted_and_both_rows_named() {
    let workspace = with_csv("id,a\n1,10\n2,20\n3,10\n4,20\n5,30\n", UNIQUE_A, ROW_ID);
    fails_with(&workspace, &["by_a", "2"]);
}

#[test]
fn a_row_id_that_names_two_rows_is_an_error_that_says_so() {
    fails_with(&with_csv("id,a\n1,10\n1,10\n", BY_A, ROW_ID), &["rowId"]);
}

#[test]
fn a_null_in_the_row_id_is_an_error_that_says_so() {
    fails_with(&with_csv("id,a\n1,10\n,20\n", BY_A, ROW_ID), &["rowId"]);
}

#[test]
fn an_unknown_scheme_is_named_with_the_known_ones() {
    let workspace = with_table(10);
    workspace.write(
        "build.yaml",
        &build_yaml("bad", &["k"], "").replace("[table.parquet]", "[\"hdfs://lake/table.parquet\"]"),
    );
    fails_with(&workspace, &["spec.source.parquet.urls", "s3://"]);
}

#[test]
fn nothing_matching_is_an_error_that_names_the_pattern() {
    let workspace = with_table(10);
    workspace.write("build.yaml", &build_yaml("bad", &["k"], "").replace("table.parquet", "orders-*.parquet"));
    fails_with(&workspace, &["orders-*.parquet"]);
}

/// Whoever starts a run sits before it: a store that has not answered once in half a minute is told, with its words.
#[test]
fn a_run_whose_store_never_answers_ends_with_the_stores_words() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let workspace = Workspace::new();
    let source = format!("{{urls: ['http://{free}/t.parquet']}}");
    let text = format!(
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: bad}}\nspec:\n  source:\n    parquet: {source}\n  indexes: [{{name: by_k, columns: [{{name: k}}]}}]\n  output: {{url: indexes}}\n"
    );
    workspace.write("build.yaml", &text);
    let begun = std::time::Instant::now();
    fails_with(&workspace, &["/t.parquet", "has not answered once", "Connection refused"]);
    let took = begun.elapsed().as_secs();
    assert!((25..90).contains(&took), "{took} s");
}
