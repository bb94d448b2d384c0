//! A table whose text is one page, as DuckDB writes it, larger than what an executor usually has for pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::Workspace;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

const ROWS: i64 = 10_000;
const BYTES: usize = 4_000;

fn build(workspace: &Workspace, mib: &str) {
    workspace.write(
        "build.yaml",
        &format!(
            "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: pages}}\nspec:\n  source:\n    parquet: {{urls: [table.parquet]}}\n  rowId: {{columns: [id]}}\n  indexes:\n    - {{name: by_id, columns: [{{name: id}}], include: [v]}}\n  output: {{url: indexes}}\n  parallelism: 1\n  executor: {{resources: {{requests: {{cpu: \"1\"}}, limits: {{memory: {mib}Mi}}}}}}\n"
        ),
    );
}

#[test]
fn a_page_of_40_mb_is_refused_with_the_memory_that_suffices_and_with_that_it_is_built() {
    let workspace = Workspace::new();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("{row:BYTES$}"))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("v", texts)]).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .set_write_batch_size(usize::try_from(ROWS).unwrap())
        .build();
    let file = std::fs::File::create(workspace.path().join("table.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    build(&workspace, "128");
    let refused = workspace.indexbuild(&["run", "build.yaml", "--quiet"]).failed("a page that does not fit").text();
    let named = refused.split("limits.memory of ").nth(1).and_then(|rest| rest.split("Mi suffices").next());
    let named = named.unwrap_or_else(|| panic!("no limit is named: {refused}"));
    for part in ["table.parquet", "\"v\"", "row group 0"] {
        assert!(refused.contains(part), "{refused}");
    }
    let mib: u64 = named.parse().unwrap();
    // The page, what is fixed, and what entries need.
    assert!((128..160).contains(&mib), "{refused}");

    for folder in ["indexes", ".indexbuild"] {
        let _ = std::fs::remove_dir_all(workspace.join(folder));
    }
    build(&workspace, named);
    workspace.indexbuild(&["run", "build.yaml", "--quiet"]).succeeded("the limit that was named");
    let verify = ["verify", "indexes/default/pages", "--source", "build.yaml"];
    workspace.indexbuild(&verify).succeeded("verify with the table");
}
