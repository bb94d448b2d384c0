//! The order of keys and the form of files, judged by others: DuckDB sorts the same real Parquet file, and
//! a RocksDB of another version (rocksdict) ingests and reads the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::{Workspace, build_yaml, finish, python};

const ROWS: u64 = 50_000;

fn built() -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(
        ROWS,
        "table.parquet",
        &["--columns", "id,k,c", "--row-group-rows", "5000", "--nulls", "0.05", "--duplicates", "0.3"],
    );
    let yaml = build_yaml("order", &["k", "c"], "  parallelism: 2\n").replace(
        "  output:",
        "    - {name: by_k_desc, columns: [{name: k, order: Desc}, {name: c, nulls: First}]}\n    - {name: by_k_nulls_first, columns: [{name: k, nulls: First}]}\n  output:",
    );
    workspace.write("build.yaml", &yaml);
    workspace.indexbuild(&["run", "build.yaml", "--state", "state", "--quiet"]).succeeded("the build");
    workspace
}

fn run_python(workspace: &Workspace, script: &str) -> String {
    let mut command = Command::new(python());
    command.args(["-c", script]).current_dir(workspace.path());
    finish(command, "python").succeeded("python").stdout
}

#[test]
fn a_sorted_scan_equals_what_duckdb_gives_for_the_same_order_by() {
    let workspace = built();
    for (index, order) in [
        ("by_k", "k ASC NULLS LAST, id"),
        ("by_c", "c ASC NULLS LAST, id"),
        ("by_k_desc", "k DESC NULLS FIRST, c ASC NULLS FIRST, id"),
        ("by_k_nulls_first", "k ASC NULLS FIRST, id"),
    ] {
        let expected = run_python(
            &workspace,
            &format!(
                "import duckdb\nfor (i,) in duckdb.sql(\"SELECT id FROM 'table.parquet' ORDER BY {order}\").fetchall(): print(i)"
            ),
        );
        let expected: Vec<u64> = expected.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(expected.len() as u64, ROWS);
        for reverse in [false, true] {
            let mut arguments = vec!["scan", "indexes/default/order", "--index", index, "-o", "json"];
            if reverse {
                arguments.push("--reverse");
            }
            let scanned = workspace.indexbuild(&arguments).succeeded("scan").json();
            let mut ids: Vec<u64> =
                scanned.as_array().unwrap().iter().map(|entry| entry["rowId"]["id"].as_u64().unwrap()).collect();
            if reverse {
                ids.reverse();
            }
            assert!(
                ids == expected,
                "{index}, reverse {reverse}: first difference at {:?}",
                ids.iter().zip(&expected).position(|(a, b)| a != b)
            );
        }
    }
}

#[test]
fn a_rocksdb_of_another_version_ingests_and_reads_the_files() {
    let workspace = built();
    let folder = workspace.build_folder("order");
    let manifest = workspace.manifest("order");
    for index in manifest["indexes"].as_array().unwrap() {
        let files: Vec<String> = index["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| format!("{:?}", folder.join(file["path"].as_str().unwrap())))
            .collect();
        let script = format!(
            r"
import rocksdict, shutil, tempfile
folder = tempfile.mkdtemp()
db = rocksdict.Rdict(folder, rocksdict.Options(raw_mode=True))
db.ingest_external_file([{}])
previous, count = None, 0
for key in db.keys():
    assert previous is None or previous < key, (previous, key)
    previous, count = key, count + 1
print(count)
db.close()
shutil.rmtree(folder)
",
            files.join(", ")
        );
        let counted: u64 = run_python(&workspace, &script).trim().parse().unwrap();
        assert_eq!(counted, index["entries"].as_u64().unwrap());
        assert_eq!(counted, ROWS);
    }
}
