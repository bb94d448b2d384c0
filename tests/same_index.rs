//! I10: the same snapshot and spec give the same files, bit for bit, whatever worked on them and whatever broke. Where files are
//! cut is decided by the snapshot and the spec alone; the number of slots, which may change, groups ranges and cuts none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Workspace, build_yaml};

const ROWS: u64 = 120_000;

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(ROWS, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "5000", "--nulls", "0.02"]);
    workspace.write("build.yaml", &build_yaml("same", &["k", "c"], "  parallelism: 1\n"));
    workspace
}

fn files(workspace: &Workspace, flags: &[&str]) -> Vec<String> {
    let _ = std::fs::remove_dir_all(workspace.join("indexes"));
    let _ = std::fs::remove_dir_all(workspace.join("state"));
    let mut arguments = vec!["run", "build.yaml", "--state", "state", "--quiet"];
    arguments.extend_from_slice(flags);
    workspace.indexbuild(&arguments).succeeded(&format!("{flags:?}"));
    workspace.files("same")
}

#[test]
fn slots_threads_memory_and_kills_change_no_bit_of_a_file_i10() {
    let workspace = workspace();
    let reference = files(&workspace, &["--parallelism", "1", "--threads", "1", "--memory", "128Mi"]);
    assert!(reference.len() > 4, "several files, else the comparison is worth little: {reference:#?}");
    for (slots, threads, memory) in
        [("1", "2", "1Gi"), ("2", "1", "128Mi"), ("2", "2", "1Gi"), ("5", "1", "1Gi"), ("5", "2", "128Mi")]
    {
        let flags = ["--parallelism", slots, "--threads", threads, "--memory", memory];
        assert_eq!(files(&workspace, &flags), reference, "{flags:?}");
    }
    for faults in [vec!["--fault", "kill:0@encode"], vec!["--fault", "kill:1@sort", "--fault", "kill:0@encode"]] {
        let mut flags = vec!["--parallelism", "2", "--threads", "2"];
        flags.extend(faults);
        assert_eq!(files(&workspace, &flags), reference, "{flags:?}");
    }
}

/// The comparison looks at bytes: RocksDB's own writer makes the same content of other ones each time.
#[test]
fn files_of_rocksdb_s_own_writer_differ_from_build_to_build_control_of_i10() {
    let workspace = workspace();
    let [one, other] = [(); 2].map(|()| {
        let _ = std::fs::remove_dir_all(workspace.join("indexes"));
        let switches = [("INDEXBUILD_TEST_SWITCHES", r#"{"rocksdbWritesFiles":true}"#)];
        workspace
            .indexbuild_with(&["run", "build.yaml", "--state", "state", "--quiet"], &switches)
            .succeeded("a build");
        let _ = std::fs::remove_dir_all(workspace.join("state"));
        (workspace.content("same"), workspace.files("same"))
    });
    assert_eq!(one.0, other.0, "the entries and the cuts");
    assert_ne!(one.1, other.1, "the bytes");
    assert_eq!(one.0, files(&workspace, &[])[..one.0.len()], "our writer's entries and cuts are RocksDB's");
}

/// A filter stands beside the entries, in the unique index alone, and is as much the same as they are.
#[test]
fn a_bloom_filter_changes_no_entry_and_is_equal_bit_for_bit_i10() {
    let workspace = Workspace::new();
    workspace.sample(ROWS, "table.parquet", &["--columns", "id,k", "--row-group-rows", "5000"]);
    let yaml = build_yaml("same", &["k", "id"], "");
    let unique = yaml.replace("[{name: \"id\"}]}", "[{name: \"id\"}], unique: true}");
    assert_ne!(yaml, unique);
    let build = |bits: u32, flags: &[&str]| {
        let output = format!("output: {{url: indexes, bloomBitsPerKey: {bits}}}");
        workspace.write("build.yaml", &unique.replace("output: {url: indexes}", &output));
        let files = files(&workspace, flags);
        workspace.indexbuild(&["verify", "indexes/default/same", "--source", "build.yaml"]).succeeded("verify");
        let bytes = |index: usize| workspace.manifest("same")["indexes"][index]["bytes"].as_u64().unwrap();
        (workspace.content("same"), files, [bytes(0), bytes(1)])
    };
    let (content, plain, sizes) = build(0, &[]);
    let (filtered_content, filtered, filtered_sizes) = build(10, &["--parallelism", "1", "--threads", "1"]);
    assert_eq!(filtered_content, content);
    assert_ne!(filtered, plain);
    assert_eq!(filtered_sizes[0], sizes[0], "the index that is not unique has none");
    let more = filtered_sizes[1] - sizes[1];
    assert!((ROWS * 10 / 8..ROWS * 10 / 8 + 20_000).contains(&more), "{more} bytes for {ROWS} keys of ten bits");
    assert_eq!(build(10, &["--parallelism", "3", "--threads", "2", "--memory", "128Mi"]).1, filtered);
}

#[test]
fn another_table_gives_another_index_control_of_i10() {
    let workspace = workspace();
    let one = files(&workspace, &[]);
    workspace.sample(
        ROWS,
        "table.parquet",
        &["--columns", "id,k,c", "--row-group-rows", "5000", "--nulls", "0.02", "--seed", "7"],
    );
    assert_ne!(files(&workspace, &[]), one);
}
