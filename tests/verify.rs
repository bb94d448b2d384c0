//! `verify` finds what was broken in a finished index. Guards I3 and I6 on the consumer's side; the
//! untouched index is the control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Workspace, build_yaml};

fn built() -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(60_000, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "5000"]);
    workspace.write("build.yaml", &build_yaml("checked", &["k", "c"], "  parallelism: 1\n"));
    workspace.indexbuild(&["run", "build.yaml", "--state", "state", "--quiet"]).succeeded("the build");
    workspace
}

const VERIFY: [&str; 4] = ["verify", "indexes/default/checked", "--source", "build.yaml"];

fn files(workspace: &Workspace) -> Vec<std::path::PathBuf> {
    let folder = workspace.build_folder("checked");
    let manifest = workspace.manifest("checked");
    manifest["indexes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|index| index["files"].as_array().unwrap().clone())
        .map(|file| folder.join(file["path"].as_str().unwrap()))
        .collect()
}

#[test]
fn an_untouched_index_passes_control() {
    built().indexbuild(&VERIFY).succeeded("verify");
}

#[test]
fn a_flipped_byte_a_missing_file_and_a_swapped_file_are_found() {
    let workspace = built();
    let files = files(&workspace);
    let (first, last) = (&files[0], files.last().unwrap());
    assert_ne!(first, last);
    let content = std::fs::read(first).unwrap();

    let mut flipped = content.clone();
    let middle = flipped.len() / 3;
    flipped[middle] ^= 1;
    std::fs::write(first, &flipped).unwrap();
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(workspace.indexbuild(&VERIFY).failed("a flipped byte").text().contains(name));

    std::fs::remove_file(first).unwrap();
    assert!(workspace.indexbuild(&VERIFY).failed("a missing file").text().contains(name));

    std::fs::copy(last, first).unwrap();
    assert!(workspace.indexbuild(&VERIFY).failed("a swapped file").text().contains(name));

    std::fs::write(first, &content).unwrap();
    workspace.indexbuild(&VERIFY).succeeded("the content put back");
}

#[test]
fn a_row_more_or_less_in_the_table_is_found() {
    let workspace = built();
    for (rows, what) in [("59999", "a row that the table lost"), ("60001", "a row that the index lacks")] {
        workspace
            .indexbuild(&[
                "sample",
                "--rows",
                rows,
                "--out",
                "table.parquet",
                "--columns",
                "id,k,c",
                "--row-group-rows",
                "5000",
            ])
            .succeeded("sample");
        workspace.indexbuild(&VERIFY).failed(what);
    }
}
