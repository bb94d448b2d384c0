//! A process killed (SIGKILL) at every durable step of a small build, before and after the step, and the
//! build resumed: the same index, and nothing left over. Guards I1, I2, I3, I10.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Workspace, build_yaml, files_below};

const ROWS: u64 = 3_000;

fn workspace() -> Workspace {
    let workspace = Workspace::in_memory();
    workspace.sample(ROWS, "table.parquet", &["--columns", "id,k", "--row-group-rows", "1000"]);
    workspace.write("build.yaml", &build_yaml("small", &["k"], "  parallelism: 1\n"));
    workspace
}

fn run(workspace: &Workspace, who: &str, more: &[&str]) -> common::CommandOutput {
    // The parent writes a record with each renewal. Long renewals make its steps those of the work alone;
    // an executor's steps do not depend on them, and short ones let its replacement begin at once.
    let renewal = if who == "parent" { "60s" } else { "50ms" };
    let clocks = ["--renew-interval", renewal, "--replace-after", "300s"];
    let mut arguments = vec!["run", "build.yaml", "--state", "state", "--quiet", "--threads", "1"];
    arguments.extend_from_slice(&clocks);
    arguments.extend_from_slice(more);
    workspace.indexbuild(&arguments)
}

/// Runs the build with its durable steps counted. Returns how many points the process passed.
fn traced(workspace: &Workspace, who: &str, more: &[&str]) -> (common::CommandOutput, usize) {
    let trace = workspace.join("trace");
    let fault = format!("trace:{who}:{}", trace.display());
    let mut arguments = vec!["--fault", fault.as_str()];
    arguments.extend_from_slice(more);
    let ran = run(workspace, who, &arguments);
    (ran, std::fs::read_to_string(trace).unwrap().lines().count())
}

/// What may be left: the index, the record of the build. No engine directory, lock or temporary file.
fn assert_nothing_leaked(workspace: &Workspace, what: &str) {
    let state = files_below(&workspace.join("state"));
    let output = files_below(&workspace.join("indexes"));
    for file in state.keys().chain(output.keys()) {
        assert!(!file.contains(".tmp-"), "{what}: temporary file {file}");
    }
    let volumes: Vec<_> = state.keys().filter(|file| file.starts_with("volumes/")).collect();
    assert!(volumes.is_empty(), "{what}: left on volumes: {volumes:?}");
    let manifest = workspace.manifest("small");
    let named: BTreeSet<String> = manifest["indexes"][0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap().to_owned())
        .collect();
    for file in files_below(&workspace.build_folder("small"))
        .keys()
        .filter(|file| file.ends_with(".sst") || file.contains("/runs/"))
    {
        assert!(named.contains(file), "{what}: {file} is in no manifest");
    }
}

fn sweep(who: &str) {
    let undisturbed = workspace();
    run(&undisturbed, who, &[]).succeeded("the undisturbed run");
    let reference = undisturbed.files("small");
    assert_nothing_leaked(&undisturbed, "undisturbed");
    let (ran, expected) = traced(&workspace(), who, &[]);
    ran.succeeded("the traced run");
    assert!(expected > 20, "a build makes more durable steps than {expected}");

    let next = AtomicUsize::new(0);
    let killed = AtomicUsize::new(0);
    let ended_before = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::SeqCst);
                    if point >= expected {
                        break;
                    }
                    let what = format!("{who} killed at point {point} of {expected}");
                    let workspace = workspace();
                    let fault = format!("kill-point:{who}:{point}");
                    let (first, passed) = traced(&workspace, who, &["--fault", &fault]);
                    // The trace names a point before the process dies at it.
                    if passed > point {
                        assert!(first.code != Some(0) || who != "parent", "{what}: it lives on");
                        killed.fetch_add(1, Ordering::SeqCst);
                    } else {
                        // How many of an executor's reports the parent writes down as one is a matter of
                        // timing: a run may have fewer points than the counted one. Then it passed them all.
                        assert!(who == "parent" && first.code == Some(0), "{what}: {}", first.text());
                        ended_before.fetch_add(1, Ordering::SeqCst);
                    }
                    // Every third one resumes with another number of slots.
                    let slots = if point.is_multiple_of(3) { "2" } else { "1" };
                    run(&workspace, who, &["--parallelism", slots])
                        .succeeded(&format!("{what}, resumed; the first run said:\n{}", first.text()));
                    assert_eq!(workspace.files("small"), reference, "{what}");
                    assert_nothing_leaked(&workspace, &what);
                }
            });
        }
    });
    let (killed, ended_before) = (killed.into_inner(), ended_before.into_inner());
    println!("{who}: {expected} kill points, {killed} kills, each resumed to the same index");
    assert_eq!(killed + ended_before, expected, "each point that the undisturbed run counted was tried");
    assert!(ended_before <= expected / 5, "{ended_before} runs of {expected} had fewer points than the counted one");
}

#[test]
fn an_executor_killed_at_any_durable_step_costs_nothing_but_time() {
    sweep("0");
}

#[test]
fn a_parent_killed_at_any_durable_step_costs_nothing_but_time() {
    sweep("parent");
}
