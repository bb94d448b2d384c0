//! `indexbuild run`, from its command line: resumed, interrupted, killed, given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use common::{Workspace, build_yaml, eventually, files_below, finish};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// One work of each kind, over in a second: slot 0 has them all.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(60_000, "table.parquet", &["--columns", "id,k", "--row-group-rows", "5000"]);
    workspace.write("build.yaml", &build_yaml("small", &["k"], more));
    workspace
}

const RUN: [&str; 5] = ["run", "build.yaml", "--state", "state", "--quiet"];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    RUN.iter().copied().chain(more.iter().copied()).collect()
}

fn undisturbed() -> Vec<String> {
    let workspace = workspace("  parallelism: 2\n");
    workspace.indexbuild(&RUN).succeeded("the undisturbed run");
    workspace.files("small")
}

/// Neither a volume, a pod nor a record stays, and nothing half written.
fn assert_clean(workspace: &Workspace) {
    let left: Vec<String> = files_below(workspace.path())
        .into_keys()
        .filter(|file| {
            file.contains(".tmp-")
                || ["state/volumes/", "state/pods/", "state/slots/"].iter().any(|folder| file.starts_with(folder))
        })
        .collect();
    assert!(left.is_empty(), "left over: {left:?}");
}

/// The pods that owned something, by the timeline of a summary.
fn owners(summary: &Value) -> Vec<String> {
    let spans = summary["timeline"]["spans"].as_array().unwrap();
    spans.iter().map(|span| span["pod"].as_str().unwrap().to_owned()).collect()
}

fn reasons(summary: &Value) -> Vec<String> {
    let spans = summary["timeline"]["spans"].as_array().unwrap();
    spans.iter().map(|span| span["reason"].as_str().unwrap().to_owned()).collect()
}

/// Starts a run that a frozen process keeps from ending, and waits until it is frozen.
fn start_stuck(workspace: &Workspace) -> Child {
    let child = workspace
        .command(&arguments(&["--fault", "freeze:0:1h@encode"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the process of slot 0 is frozen", || {
        let journal = std::fs::read_to_string(workspace.join("state/timeline.jsonl")).unwrap_or_default();
        journal.contains("is frozen").then_some(())
    });
    child
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// The ids of the processes whose pods the state folder knows: they wrote them into their locks.
fn child_pids(workspace: &Workspace) -> Vec<u32> {
    let pods = std::fs::read_dir(workspace.join("state/pods")).unwrap();
    pods.filter_map(|pod| std::fs::read_to_string(pod.unwrap().path().join("lock")).ok()?.trim().parse().ok()).collect()
}

#[test]
fn a_csv_and_a_parquet_file_of_the_same_rows_give_indexes_that_verify_and_a_second_run_has_nothing_to_do() {
    let workspace = workspace("  parallelism: 2\n");
    workspace.write("table.csv", "id,k\n1,30\n2,10\n3,20\n4,\n");
    workspace.write(
        "csv.yaml",
        &build_yaml("csv", &["k"], "").replace(
            "parquet: {urls: [table.parquet]}",
            "csv: {urls: [table.csv], columns: [{name: id, type: int64}, {name: k, type: int64}]}",
        ),
    );
    for (file, name, rows) in [("csv.yaml", "csv", 4), ("build.yaml", "small", 60_000)] {
        // Without --state: the folder beside the command.
        let first = workspace.indexbuild(&["run", file, "-o", "json", "--quiet"]).succeeded(file).json();
        assert_eq!(first["rows"], rows, "{first}");
        assert_eq!(first["outcome"], "Complete");
        assert!(
            first["children"].as_array().unwrap().iter().all(|child| child["peakRssBytes"].as_u64() > Some(1 << 20))
        );
        let place = format!("indexes/default/{name}");
        workspace.indexbuild(&["verify", &place, "--source", file]).succeeded("verify");
        let before = files_below(&workspace.join("indexes"));
        let second = workspace.indexbuild(&["run", file, "-o", "json", "--quiet"]).succeeded("again").json();
        assert_eq!(second["manifest"], first["manifest"]);
        assert_eq!(second["children"], Value::Array(Vec::new()), "no process was needed");
        assert_eq!(files_below(&workspace.join("indexes")), before);
        assert!(workspace.join(&format!(".indexbuild/default/{name}/build.json")).exists());
    }
}

/// I1, I10, G9: a killed process costs time, and its volume goes on with the next one.
#[test]
fn a_killed_child_is_followed_by_another_on_the_same_volume() {
    let workspace = workspace("  parallelism: 2\n");
    let summary = workspace
        .indexbuild(&arguments(&["-o", "json", "--fault", "kill:0@encode", "--fault", "kill:0@sort"]))
        .succeeded("the run with killed processes")
        .json();
    assert_eq!(summary["failedAttempts"], 2, "{summary}");
    assert_eq!(workspace.files("small"), undisturbed());
    let volumes: Vec<u64> =
        summary["timeline"]["spans"].as_array().unwrap().iter().map(|span| span["volume"].as_u64().unwrap()).collect();
    assert!(volumes.iter().all(|volume| *volume == volumes[0]), "each slot kept its volume: {volumes:?}");
    assert_clean(&workspace);
}

/// The parent alone is killed: its children work on, and the next parent keeps them where the grant is theirs.
#[test]
fn children_outlive_a_killed_parent_and_are_kept_by_the_next_one_with_another_parallelism() {
    let workspace = workspace("  parallelism: 1\n");
    let mut parent = start_stuck(&workspace);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let pids = child_pids(&workspace);
    assert_eq!(pids.len(), 1, "{pids:?}");
    signal(pids[0], "CONT");
    let summary =
        workspace.indexbuild(&arguments(&["-o", "json", "--parallelism", "3"])).succeeded("the next parent").json();
    let owners = owners(&summary);
    assert!(owners.iter().filter(|owner| **owner == owners[0]).count() > 2, "the first process was kept: {owners:?}");
    assert_eq!(summary["failedAttempts"], 0, "{summary}");
    assert_eq!(workspace.files("small"), undisturbed());
    assert_clean(&workspace);
}

/// Both are killed: what the child held is proved free by its lock.
#[test]
fn a_run_killed_with_its_children_goes_on_where_it_was() {
    let workspace = workspace("  parallelism: 2\n");
    let mut parent = start_stuck(&workspace);
    parent.kill().unwrap();
    parent.wait().unwrap();
    for pid in child_pids(&workspace) {
        signal(pid, "KILL");
    }
    workspace.indexbuild(&arguments(&["--parallelism", "1"])).succeeded("the resumed run");
    assert_eq!(workspace.files("small"), undisturbed());
    assert_clean(&workspace);
}

#[test]
fn a_silence_shorter_than_patience_changes_nothing() {
    let workspace = workspace("  parallelism: 2\n");
    let summary = workspace
        .indexbuild(&arguments(&[
            "-o",
            "json",
            "--replace-after",
            "60s",
            "--fault",
            "freeze:0:1s@sort",
            "--fault",
            "cut:0:1s@encode",
        ]))
        .succeeded("the run with short silences")
        .json();
    assert!(reasons(&summary).iter().all(|reason| reason == "FirstOwner" || reason == "NextWork"), "{summary}");
    assert_eq!(workspace.files("small"), undisturbed());
    assert_clean(&workspace);
}

/// I1, I4, G11: a process that is silent for too long is replaced on a new volume; the old volume is cleaned
/// once its process is proved gone, and not before.
#[test]
fn a_silence_longer_than_patience_is_answered_by_a_new_volume_and_nothing_is_left_of_the_old_one() {
    for fault in ["cut:0:2s@encode", "freeze:0:2s@encode", "cut:0:1h@encode"] {
        let workspace = workspace("  parallelism: 2\n");
        let summary = workspace
            .indexbuild(&arguments(&[
                "-o",
                "json",
                "--replace-after",
                "800ms",
                "--renew-interval",
                "100ms",
                "--fault",
                fault,
            ]))
            .succeeded(fault)
            .json();
        assert!(reasons(&summary).iter().any(|reason| reason == "Replaced"), "{fault}: {summary}");
        assert_eq!(workspace.files("small"), undisturbed(), "{fault}");
        assert_clean(&workspace);
    }
}

#[test]
fn an_interrupted_run_says_so_by_its_exit_code_and_the_same_command_goes_on() {
    let workspace = workspace("  parallelism: 2\n");
    let stuck = start_stuck(&workspace);
    let held = workspace.indexbuild(&RUN);
    assert_eq!(held.code, Some(4), "{}", held.text());
    assert!(held.stderr.contains(&format!("process {}", stuck.id())), "{}", held.stderr);
    signal(stuck.id(), "INT");
    let mut stuck = stuck;
    let code = eventually("the interrupted run ends", || stuck.try_wait().unwrap()).code();
    assert_eq!(code, Some(3));
    assert!(child_pids(&workspace).iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    workspace.indexbuild(&RUN).succeeded("the same command");
    assert_eq!(workspace.files("small"), undisturbed());
    assert_clean(&workspace);
}

/// G5: the tombstone is what stays of a build that was given up.
#[test]
fn a_build_that_is_given_up_leaves_its_tombstone_and_nothing_else() {
    let workspace = workspace("  parallelism: 1\n");
    let first = workspace.indexbuild(&arguments(&["--fault", "kill-point:parent:150"]));
    assert_eq!(first.code, None, "killed: {}", first.text());
    workspace.indexbuild(&arguments(&["--abort"])).succeeded("given up");
    let output: Vec<String> = files_below(&workspace.join("indexes")).into_keys().collect();
    assert_eq!(output.len(), 1, "{output:?}");
    assert!(output[0].ends_with("/manifest.json"));
    assert_clean(&workspace);
}

#[test]
fn a_failed_build_names_its_cause_and_the_corrected_file_begins_anew() {
    let workspace = workspace("");
    let yaml = build_yaml("small", &["k"], "");
    workspace.write("build.yaml", &yaml.replace("\"k\"", "\"kk\""));
    let failed = workspace.indexbuild(&RUN);
    assert_eq!(failed.code, Some(1), "{}", failed.text());
    assert!(failed.stderr.contains("\"kk\"") && failed.stderr.contains("id, k"), "{}", failed.stderr);
    // I9: whenFailed is Retain, if nobody says otherwise.
    let volumes = || -> Vec<String> {
        files_below(&workspace.join("state")).into_keys().filter(|file| file.ends_with("claim.json")).collect()
    };
    let stayed = volumes();
    assert!(!stayed.is_empty() && stayed.iter().all(|file| file.starts_with("volumes/")), "{stayed:?}");
    let sealed = workspace.join("state").join(&stayed[0]).with_file_name("sealed");
    std::fs::write(&sealed, "of the build that failed").unwrap();
    workspace.write("build.yaml", &yaml);
    let corrected = workspace.command(&["run", "build.yaml", "--state", "state"]);
    let corrected = finish(corrected, "the corrected file");
    assert_eq!(corrected.code, Some(0), "{}", corrected.text());
    assert!(corrected.stderr.contains("the volumes of the last build stay in"), "{}", corrected.stderr);
    let kept = volumes();
    assert_eq!(kept.len(), stayed.len(), "{kept:?}");
    assert!(kept.iter().all(|file| file.starts_with("kept/")), "{kept:?}");
    let sealed = workspace.join("state").join(&kept[0]).with_file_name("sealed");
    assert_eq!(std::fs::read_to_string(sealed).unwrap(), "of the build that failed");
    // What is complete is not changed by a file that says something else.
    workspace.write("build.yaml", &yaml.replace("\"k\"", "\"id\""));
    let refused = workspace.indexbuild(&RUN);
    assert_eq!(refused.code, Some(2), "{}", refused.text());
    assert!(
        refused.stderr.contains("indexes is immutable") && refused.stderr.contains("--fresh"),
        "{}",
        refused.stderr
    );
}

/// I9, the control of the test above.
#[test]
fn the_volumes_of_a_failed_build_go_where_its_policy_says_so() {
    let workspace = workspace("  volume: {retention: {whenFailed: Delete}}\n");
    let yaml = std::fs::read_to_string(workspace.join("build.yaml")).unwrap();
    workspace.write("build.yaml", &yaml.replace("\"k\"", "\"kk\""));
    assert_eq!(workspace.indexbuild(&RUN).code, Some(1));
    assert_clean(&workspace);
    workspace.write("build.yaml", &yaml);
    workspace.indexbuild(&RUN).succeeded("the corrected file");
    assert!(!workspace.join("state/kept").exists());
}

/// A build whose process does not move fails when its time is over, and says what it waited for last. Its volumes stay, as
/// the policy says for a failed build; the control has time enough.
#[test]
fn a_run_that_has_a_deadline_ends_by_it_and_names_it() {
    let workspace = workspace("  parallelism: 1\n  volume: {retention: {whenFailed: Retain}}\n");
    let fault = ["--fault", "freeze:0:1h@encode", "--replace-after", "6s", "--orphan-after", "30s"];
    let failed = workspace.indexbuild(&arguments(&[&fault[..], &["--active-deadline", "3s"]].concat()));
    assert_eq!(failed.code, Some(1), "{}", failed.text());
    for part in ["activeDeadlineSeconds (3)", "Encoding at", "waited for"] {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }
    let volumes = |file: &String| file.starts_with("state/volumes/");
    assert!(files_below(workspace.path()).keys().any(volumes), "what is sealed is kept");
    let output: Vec<String> = files_below(&workspace.join("indexes")).into_keys().collect();
    assert!(output.len() == 1 && output[0].ends_with("/manifest.json"), "the tombstone alone: {output:?}");
    for wrong in ["0s", "2", "forever"] {
        assert_eq!(workspace.indexbuild(&arguments(&["--active-deadline", wrong])).code, Some(2), "{wrong}");
    }
    workspace.indexbuild(&arguments(&["--active-deadline", "1h"])).succeeded("with time enough");
}

#[test]
fn an_unusable_state_folder_is_named_with_the_way_out() {
    let workspace = workspace("");
    workspace.write("file", "not a folder");
    let ran = finish(workspace.command(&["run", "build.yaml", "--state", "file/state"]), "a state below a file");
    assert_eq!(ran.code, Some(1), "{}", ran.text());
    assert!(ran.stderr.contains("file/state") && ran.stderr.contains("--state"), "{}", ran.stderr);
    workspace.indexbuild(&RUN).succeeded("a state folder of its own");
    let build = workspace.join("state/build.json");
    let text = std::fs::read_to_string(&build).unwrap();
    std::fs::write(&build, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    let ran = workspace.indexbuild(&RUN);
    assert_eq!(ran.code, Some(1), "{}", ran.text());
    assert!(ran.stderr.contains("version 9"), "{}", ran.stderr);
}

/// A file of some kilobytes whose rows all name one long text of a dictionary, as DuckDB writes them: row by row it is
/// much more than the limit. Guards that memory is a budget, whatever the table's encoding.
#[test]
fn rows_that_name_one_long_text_of_a_dictionary_are_built_within_the_memory_limit() {
    const ROWS: i64 = 1_500;
    const LIMIT: u64 = 128 << 20;
    let text = "a long text, ".repeat(8_000);
    assert!(ROWS.unsigned_abs() * text.len() as u64 > LIMIT);
    let workspace = Workspace::new();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let keys: Int32Array = (0..ROWS).map(|_| 0).collect();
    let texts: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec![text.as_str()]))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("v", texts)]).unwrap();
    let file = std::fs::File::create(workspace.join("table.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size = std::fs::metadata(workspace.join("table.parquet")).unwrap().len();
    assert!(size < 2 * text.len() as u64 + 100_000, "{size} bytes: not of a dictionary");
    workspace.write(
        "build.yaml",
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {name: long}\nspec:\n  source:\n    parquet: {urls: [table.parquet]}\n  rowId: {columns: [id]}\n  indexes:\n    - {name: by_id, columns: [{name: id}], include: [v]}\n  output: {url: indexes}\n  parallelism: 1\n  executor: {resources: {limits: {memory: 128Mi}}}\n",
    );
    let summary = workspace.indexbuild(&arguments(&["-o", "json"])).succeeded("long values").json();
    for child in summary["children"].as_array().unwrap() {
        let peak = child["peakRssBytes"].as_u64().unwrap();
        assert!(peak > 1 << 20 && peak < LIMIT, "a child took {} MiB", peak >> 20);
    }
    workspace.indexbuild(&["verify", "indexes/default/long", "--source", "build.yaml"]).succeeded("verify");
    // Both sides of that are read by the same reader; this one by the test.
    for (reverse, ids) in [(false, 0..20), (true, ROWS - 20..ROWS)] {
        let mut scan = vec!["scan", "indexes/default/long", "--index", "by_id", "--limit", "20", "-o", "json"];
        scan.extend(reverse.then_some("--reverse"));
        let scanned = workspace.indexbuild(&scan).succeeded("scan").json();
        let mut entries = scanned.as_array().unwrap().clone();
        if reverse {
            entries.reverse();
        }
        assert_eq!(entries.len(), 20);
        for (entry, id) in entries.iter().zip(ids) {
            assert_eq!(entry["rowId"]["id"].as_i64(), Some(id));
            assert!(entry["include"]["v"].as_str() == Some(&text), "another text in row {id}");
        }
    }
}
