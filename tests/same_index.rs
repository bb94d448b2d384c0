//! I10: the same snapshot and spec give the same index, whatever worked on it and whatever broke.
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

fn content(workspace: &Workspace, flags: &[&str]) -> Vec<String> {
    let _ = std::fs::remove_dir_all(workspace.join("indexes"));
    let _ = std::fs::remove_dir_all(workspace.join("state"));
    let mut arguments = vec!["run", "build.yaml", "--state", "state", "--quiet"];
    arguments.extend_from_slice(flags);
    workspace.indexbuild(&arguments).succeeded(&format!("{flags:?}"));
    workspace.content("same")
}

#[test]
fn slots_threads_memory_and_kills_do_not_change_the_index_i10() {
    let workspace = workspace();
    let reference = content(&workspace, &["--parallelism", "1", "--threads", "1", "--memory", "128Mi"]);
    assert!(reference.len() > 4, "several files, else the comparison is worth little: {reference:#?}");
    for (slots, threads, memory) in
        [("1", "2", "1Gi"), ("2", "1", "128Mi"), ("2", "2", "1Gi"), ("5", "1", "1Gi"), ("5", "2", "128Mi")]
    {
        let flags = ["--parallelism", slots, "--threads", threads, "--memory", memory];
        assert_eq!(content(&workspace, &flags), reference, "{flags:?}");
    }
    for faults in [vec!["--fault", "kill:0@encode"], vec!["--fault", "kill:1@sort", "--fault", "kill:0@encode"]] {
        let mut flags = vec!["--parallelism", "2", "--threads", "2"];
        flags.extend(faults);
        assert_eq!(content(&workspace, &flags), reference, "{flags:?}");
    }
}

#[test]
fn another_table_gives_another_index_control_of_i10() {
    let workspace = workspace();
    let one = content(&workspace, &[]);
    workspace.sample(
        ROWS,
        "table.parquet",
        &["--columns", "id,k,c", "--row-group-rows", "5000", "--nulls", "0.02", "--seed", "7"],
    );
    assert_ne!(content(&workspace, &[]), one);
}
