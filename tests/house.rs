//! The shape of the house: who may see what. A dependency that creeps in fails here, not in a review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

/// The names of all crates that a package of the workspace is built with, tests apart.
fn built_with(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn assert_without(package: &str, banned: &[&str]) {
    let all = built_with(package);
    for banned in banned {
        let found: Vec<_> =
            all.iter().filter(|name| *name == banned || name.starts_with(&format!("{banned}-"))).collect();
        assert!(found.is_empty(), "{package} is built with {found:?}: see ARCHITECTURE.md, \"The house\"");
    }
}

#[test]
fn the_operator_sees_neither_rocksdb_nor_a_table_nor_a_store() {
    assert_without("indexbuild-operator", &["rocksdb", "librocksdb", "arrow", "parquet", "object_store"]);
}

#[test]
fn the_lifecycle_sees_no_client_no_runtime_and_no_engine() {
    assert_without(
        "indexbuild-lifecycle",
        &["tokio", "hyper", "kube-client", "kube-runtime", "rocksdb", "librocksdb", "arrow", "object_store"],
    );
}

#[test]
fn an_index_is_read_without_the_crates_that_build_one() {
    assert_without(
        "indexbuild-index",
        &["indexbuild-engine", "indexbuild-executor", "indexbuild-lifecycle", "indexbuild-api", "kube", "k8s-openapi"],
    );
}

#[test]
fn a_table_is_read_without_rocksdb() {
    assert_without("indexbuild-source", &["rocksdb", "librocksdb"]);
}

/// The control: what the engine is built with is found.
#[test]
fn the_engine_is_built_with_rocksdb_control() {
    assert!(built_with("indexbuild-engine").contains("librocksdb-sys"));
}
