//! The order of keys and the form of files, judged by others: DuckDB sorts the same real Parquet file, and
//! RocksDBs of other versions (rocksdict; Debian's tools, 7.8) ingest and read the files.
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

/// Debian's tools of RocksDB, 7.8: older than the program's own by four years.
fn old_rocksdb_or_skip(test: &str) -> Option<()> {
    let found = Command::new("ldb").arg("--version").output().is_ok();
    if !found {
        let line = format!("SKIPPED: {test}: there is no ldb: run `make old-rocksdb`, or install rocksdb-tools\n");
        print!("{line}");
        if let Some(list) = std::env::var_os("INDEXBUILD_SKIPPED") {
            let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
            std::io::Write::write_all(&mut list, line.as_bytes()).unwrap();
        }
    }
    found.then_some(())
}

#[test]
fn a_rocksdb_of_years_ago_ingests_the_files_verifies_them_and_looks_up_through_their_filters() {
    let test = "a_rocksdb_of_years_ago_ingests_the_files_verifies_them_and_looks_up_through_their_filters";
    let Some(()) = old_rocksdb_or_skip(test) else { return };
    let workspace = Workspace::new();
    workspace.sample(ROWS, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "5000", "--nulls", "0.05"]);
    let yaml =
        build_yaml("order", &["k", "c", "id"], "").replace("[{name: \"id\"}]}", "[{name: \"id\"}], unique: true}");
    for compression in ["None", "Lz4", "Zstd"] {
        for former in ["indexes", "db", ".indexbuild"] {
            let _ = std::fs::remove_dir_all(workspace.join(former));
        }
        let output = format!("{{url: indexes, compression: {compression}, bloomBitsPerKey: 10}}");
        workspace.write("build.yaml", &yaml.replace("{url: indexes}", &output));
        workspace.indexbuild(&["run", "build.yaml", "--quiet"]).succeeded(compression);
        let folder = workspace.build_folder("order");
        for (number, index) in workspace.manifest("order")["indexes"].as_array().unwrap().iter().enumerate() {
            let what = format!("{compression}, {}", index["definition"]["name"]);
            let ran = |program: &str, arguments: &[&str]| {
                let mut command = Command::new(program);
                command.args(arguments).current_dir(workspace.path());
                finish(command, &format!("{program} {arguments:?}")).succeeded(&what).text()
            };
            let db = format!("--db=db/{compression}-{number}");
            std::fs::create_dir_all(workspace.join("db")).unwrap();
            let files = index["files"].as_array().unwrap();
            for file in files {
                let path = folder.join(file["path"].as_str().unwrap());
                let path = path.to_str().unwrap();
                ran(
                    "ldb",
                    &[
                        "ingest_extern_sst",
                        path,
                        &db,
                        "--create_if_missing",
                        "--allow_global_seqno=false",
                        "--write_global_seqno=false",
                    ],
                );
                let file = format!("--file={path}");
                let verified = ran("sst_dump", &[&file, "--command=verify"]);
                assert!(verified.contains("The file is ok"), "{what}: {verified}");
                // `verify` shows no properties.
                let dumped = ran("sst_dump", &[&file, "--command=check", "--show_properties"]);
                let filtered = dumped.contains("filter policy name: bloomfilter");
                assert_eq!(filtered, index["definition"]["unique"] == true, "{what}: {dumped}");
            }
            let scanned = ran("ldb", &["scan", "--hex", "--no_value", &db]);
            let keys: Vec<&str> = scanned.lines().filter_map(|line| line.trim().strip_prefix("0x")).collect();
            assert_eq!(keys.len() as u64, ROWS, "{what}");
            assert!(keys.is_sorted(), "{what}");
            let bounds = [&files[0]["firstKey"], &files[files.len() - 1]["lastKey"]];
            for (key, bound) in [keys[0], keys[keys.len() - 1]].iter().zip(bounds) {
                assert_eq!(key.to_lowercase(), bound.as_str().unwrap().to_lowercase(), "{what}");
            }
            // With a policy, each is looked for in the filter first.
            for key in keys.iter().step_by(keys.len() / 5) {
                ran("ldb", &["get", "--hex", &format!("0x{key}"), "--bloom_bits=10", &db]);
            }
        }
    }
}
