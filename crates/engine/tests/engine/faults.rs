//! Damage, full disks, orders to end.

use std::path::PathBuf;
use std::process::Command;

use indexbuild_engine::{EngineError, JobControl, is_no_space};
use indexbuild_index::{Nulls, Order};

use crate::support::{
    LaneJob, Means, PLENTY, Place, TINY, Table, build, content, encode_with, flip_byte, on_c, on_k, plan, sort_with,
};

const SMALL_RUNS: Means = Means { lanes: 2, threads: 1, memory: 1 << 20, run_bytes: 40_000 };

#[test]
fn i3_a_flipped_byte_in_a_run_is_found_before_anything_is_sealed_and_names_run_and_splits() {
    let place = Place::default();
    let table = Table::mixed(30_000);
    let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 2);
    let control = JobControl::new();
    let attempt = place.begin("encode-0");
    let encoded =
        encode_with(&attempt, std::slice::from_ref(&plan), &table, SMALL_RUNS, Vec::new(), &control, &|_| Ok(()))
            .unwrap();
    assert!(encoded.runs.len() > 3);
    // The first piece of a run belongs to its first lane.
    flip_byte(&encoded.runs[1].path, 3);
    flip_byte(&encoded.runs[3].path, 5);
    for threads in [1, 2] {
        let attempt = place.begin("sort-0");
        let means = Means { threads, ..SMALL_RUNS };
        let job = LaneJob { attempt: &attempt, plan: &plan, lane: 0, runs: &encoded.runs, already: Vec::new(), means };
        let error = sort_with(job, &control, &|_| Ok(())).unwrap_err();
        let EngineError::Damaged { runs, names, splits, what } = error else { panic!("{error:?}") };
        assert_eq!(runs, [1, 3], "all damage is found at once");
        assert_eq!(names, [encoded.runs[1].name.clone(), encoded.runs[3].name.clone()]);
        let mut expected = encoded.runs[1].sidecar.splits.clone();
        expected.extend(&encoded.runs[3].sidecar.splits);
        expected.sort_unstable();
        assert_eq!(splits, expected);
        assert!(what.contains(&encoded.runs[1].name), "{what}");
        assert_eq!(attempt.ranges_dir().read_dir().unwrap().count(), 0, "nothing was written from damaged runs");
    }
    // The other lane's pieces are whole.
    let attempt = place.begin("sort-1");
    let job = LaneJob {
        attempt: &attempt,
        plan: &plan,
        lane: 1,
        runs: &encoded.runs,
        already: Vec::new(),
        means: SMALL_RUNS,
    };
    sort_with(job, &control, &|_| Ok(())).unwrap();
}

#[test]
fn a_cancelled_job_ends_at_once_and_seals_nothing_more() {
    let place = Place::default();
    let table = Table::mixed(30_000);
    let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 1);
    let control = JobControl::new();
    control.cancel();
    let attempt = place.begin("encode-0");
    let error = encode_with(&attempt, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(()))
        .unwrap_err();
    assert!(matches!(error, EngineError::Cancelled), "{error:?}");
    assert_eq!(attempt.runs_dir().read_dir().unwrap().count(), 0, "not even an unfinished file stays");
    let control = JobControl::new();
    let encoded =
        encode_with(&attempt, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(())).unwrap();
    let sorting = place.begin("sort-0");
    let job =
        LaneJob { attempt: &sorting, plan: &plan, lane: 0, runs: &encoded.runs, already: Vec::new(), means: TINY };
    let error = sort_with(job, &control, &|_| {
        control.cancel();
        Ok(())
    })
    .unwrap_err();
    assert!(matches!(error, EngineError::Cancelled), "{error:?}");
    let unfinished = sorting
        .ranges_dir()
        .read_dir()
        .unwrap()
        .filter(|entry| indexbuild_durable::is_temporary(&entry.as_ref().unwrap().file_name()))
        .count();
    assert_eq!(unfinished, 0);
}

#[test]
fn runs_of_another_plan_are_refused() {
    let place = Place::default();
    let table = Table::mixed(3000);
    let one = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 2);
    let other = plan(on_c(), &table, 4, 2);
    let control = JobControl::new();
    let attempt = place.begin("encode-0");
    let encoded = encode_with(&attempt, &[one], &table, PLENTY, Vec::new(), &control, &|_| Ok(())).unwrap();
    let attempt = place.begin("sort-0");
    let job =
        LaneJob { attempt: &attempt, plan: &other, lane: 0, runs: &encoded.runs, already: Vec::new(), means: PLENTY };
    let error = sort_with(job, &control, &|_| Ok(())).unwrap_err();
    assert!(matches!(error, EngineError::BadTable { .. }), "{error:?}");
}

/// Names the file that fills the disk, in the child process of the next test.
const FULL: &str = "ENGINE_TEST_DISK_IS_FULL_WHILE";

#[test]
fn a_full_disk_is_told_apart_everywhere_and_the_work_goes_on_when_there_is_room() {
    if let Ok(full) = std::env::var(FULL) {
        return on_a_full_disk(&PathBuf::from(full));
    }
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    let faults = serde_json::json!({ "noSpaceWhile": full }).to_string();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "faults::a_full_disk_is_told_apart_everywhere_and_the_work_goes_on_when_there_is_room",
            "--nocapture",
        ])
        .env(FULL, &full)
        .env("INDEXBUILD_FAULTS", faults)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

fn on_a_full_disk(full: &std::path::Path) {
    let fill = || std::fs::write(full, b"").unwrap();
    let free = || std::fs::remove_file(full).unwrap();
    let place = Place::default();
    let table = Table::mixed(30_000);
    let plan = plan(on_c(), &table, 4, 1);
    let control = JobControl::new();
    let attempt = place.begin("encode-0");
    fill();
    let error = place.volume.admit(1).unwrap_err();
    assert!(matches!(error, EngineError::NotAdmitted(_)) && error.is_no_space(), "{error:?}");
    let error = encode_with(&attempt, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(()))
        .unwrap_err();
    assert!(error.is_no_space() && is_no_space(&error), "{error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    free();
    place.volume.admit(1).unwrap();
    let encoded =
        encode_with(&attempt, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(())).unwrap();
    // Full at the first spill, and full once a range is sealed.
    for after_a_range in [false, true] {
        let sorting = place.begin("sort-0");
        if !after_a_range {
            fill();
        }
        let error = sort_with(LaneJob::first(&sorting, &plan, &encoded.runs, TINY), &control, &|_| {
            if after_a_range && !full.exists() {
                fill();
            }
            Ok(())
        })
        .unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        free();
    }
    let sorting = place.begin("sort-0");
    let outcome = sort_with(LaneJob::first(&sorting, &plan, &encoded.runs, TINY), &control, &|_| Ok(())).unwrap();
    assert_eq!(content(&[outcome]), build(&on_c(), &table, 4, PLENTY).0);
}
