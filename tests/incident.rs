//! The incident that this project began with, and its negative controls.
//!
//! A process is cut off for longer than patience lasts, with an engine handle leaked in it, and stays
//! alive. Elsewhere the build then failed for ever with "lock held by current process"
//! (pingcap/tidb#58776).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Stdio};

use common::{Sidecars, Workspace, build_yaml, files_below};

const ROWS: u64 = 200_000;

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(ROWS, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "5000"]);
    workspace.write("build.yaml", &build_yaml("incident", &["k", "c"], "  parallelism: 3\n  backoffLimit: 3\n"));
    workspace
}

fn undisturbed() -> Vec<String> {
    let workspace = workspace();
    workspace.indexbuild(&["run", "build.yaml", "--state", "state", "--quiet"]).succeeded("the undisturbed build");
    workspace.files("incident")
}

#[test]
fn a_build_survives_a_cut_with_a_leaked_engine_handle_i1_i2_i7_g9_g11() {
    let workspace = workspace();
    let sidecars = Sidecars::watch(vec![workspace.join("state/volumes"), workspace.join("indexes")]);
    let ran = workspace
        .indexbuild(&[
            "run",
            "build.yaml",
            "--state",
            "state",
            "-o",
            "json",
            "--replace-after",
            "800ms",
            "--renew-interval",
            "100ms",
            "--fault",
            "leak-engine:1",
            "--fault",
            "cut:1:3s@sort",
        ])
        .succeeded("the build with one slot cut off for longer than its patience");
    let summary = ran.json();
    let sealed = sidecars.seen();

    // Each row was encoded once, counted over all attempts: the cut came after that, and nobody did it again.
    assert_eq!(sealed.runs.values().sum::<u64>(), ROWS, "{:?}", sealed.runs);
    // At most what the late owner had in hand was sorted twice.
    let sorted = sealed.ranges.values().sum::<u64>();
    let published: u64 = 2 * ROWS;
    assert!(sorted >= published, "{sorted}: not every range's sidecar was seen");
    assert!(sorted < 2 * published, "{sorted}: more than the late owner's work was done twice");

    // The slot was given to another process while the first one lived.
    let timeline = &summary["timeline"].to_string();
    assert!(timeline.contains("plac"), "the timeline tells of the replacement: {timeline}");

    // I1: one attempt per piece of work, each named once.
    let manifest = workspace.manifest("incident");
    let mut works: Vec<_> =
        manifest["works"].as_array().unwrap().iter().map(|work| work["workId"].as_str().unwrap().to_owned()).collect();
    let count = works.len();
    works.sort();
    works.dedup();
    assert_eq!(works.len(), count, "a work stands twice in the manifest");
    assert_eq!(workspace.files("incident"), undisturbed(), "the files are those of the undisturbed build, bit for bit");

    // What is left in the output is what the manifest names; the late one's files are gone.
    let named: std::collections::BTreeSet<String> = manifest["indexes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|index| {
            index["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned())
        })
        .collect();
    for file in files_below(&workspace.build_folder("incident")).keys().filter(|file| file.ends_with(".sst")) {
        assert!(named.contains(file), "{file} is in no manifest and was not cleaned");
    }
    workspace.indexbuild(&["verify", "indexes/default/incident", "--source", "build.yaml"]).succeeded("verify");
}

/// Negative control (a): attempts share one directory and are retried inside the leaking process.
#[test]
fn with_a_shared_directory_a_retry_in_the_leaking_process_never_gets_the_lock_control() {
    let workspace = workspace();
    let mut command = workspace.command(&["run", "build.yaml", "--state", "state", "--parallelism", "1", "--quiet"]);
    command.env("INDEXBUILD_TEST_SWITCHES", r#"{"shareAttemptDirectory":true,"leakEngineHandle":true}"#);
    let mut parent = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let refused = || pod_logs(&workspace).matches("lock hold by current process").count();
    common::eventually("the retries are refused again and again", || (refused() >= 5).then_some(()));
    let ended = parent.try_wait().unwrap();
    // Ended before anything is asserted: a process of a test does not outlive it.
    Command::new("kill").args(["-TERM", &parent.id().to_string()]).status().unwrap();
    parent.wait().unwrap();
    assert_eq!(ended, None, "the build never ends");
    assert!(
        !files_below(&workspace.join("indexes")).keys().any(|file| file.ends_with("manifest.json")),
        "nothing was committed"
    );
}

fn pod_logs(workspace: &Workspace) -> String {
    files_below(&workspace.join("state"))
        .keys()
        .filter(|file| file.ends_with("log"))
        .map(|file| std::fs::read_to_string(workspace.join("state").join(file)).unwrap_or_default())
        .collect()
}
