//! I7: after an attempt ends, its process holds no engine handle and no lock. The gauge counts a
//! whole process, so all of it is one test, in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "engine/support.rs"]
#[allow(dead_code)]
mod support;

use std::process::Command;

use indexbuild_engine::{EngineError, JobControl, TestSwitches, Volume, open_handles};
use indexbuild_index::{Nulls, Order};

use support::{LaneJob, PLENTY, Place, TINY, Table, encode_with, flip_byte, on_k, plan, sort_with};

/// Names the folder in which the child process tries the leaked engine.
const LEAKED: &str = "ENGINE_TEST_LEAKED_VOLUME";

#[test]
fn i7_no_handle_and_no_lock_stays_open_on_any_way_out_unless_a_test_leaks_it() {
    if let Ok(folder) = std::env::var(LEAKED) {
        return in_another_process(std::path::Path::new(&folder));
    }
    let place = Place::default();
    let mut table = Table::mixed(10_000);
    let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 1);
    let control = JobControl::new();
    let nothing_is_held = |what: &str| {
        assert_eq!(open_handles(), 0, "{what}: an engine handle is open");
        for attempt in place.volume.attempts().unwrap() {
            assert!(!attempt.held, "{what}: {} is still locked", attempt.name);
        }
    };

    table.fails_at = Some(3);
    let attempt = place.begin("encode-0");
    encode_with(&attempt, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(())).unwrap_err();
    drop(attempt);
    nothing_is_held("a split could not be read");
    table.fails_at = None;

    let encoding = place.begin("encode-0");
    let error =
        encode_with(&encoding, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Err("no".into()))
            .unwrap_err();
    assert!(matches!(error, EngineError::HandOn { .. }), "{error:?}");
    let mut encoded =
        encode_with(&encoding, std::slice::from_ref(&plan), &table, TINY, Vec::new(), &control, &|_| Ok(())).unwrap();
    drop(encoding);
    nothing_is_held("a run could not be handed on");

    let mut attempts = 0;
    let mut sort_once = |runs: &[indexbuild_engine::SealedRun], control: &JobControl, refuse: bool| {
        attempts += 1;
        let attempt = place.begin(&format!("sort-{attempts}"));
        let job = LaneJob { attempt: &attempt, plan: &plan, lane: 0, runs, already: Vec::new(), means: TINY };
        sort_with(job, control, &|_| if refuse { Err("no".into()) } else { Ok(()) })
    };
    sort_once(&encoded.runs, &control, false).unwrap();
    nothing_is_held("a sort succeeded");
    sort_once(&encoded.runs, &control, true).unwrap_err();
    nothing_is_held("a range could not be handed on");
    let cancelled = JobControl::new();
    cancelled.cancel();
    sort_once(&encoded.runs, &cancelled, false).unwrap_err();
    nothing_is_held("a sort was cancelled");
    let stopping = JobControl::new();
    stopping.stop_after_seal();
    let stopped = sort_once(&encoded.runs, &stopping, false).unwrap();
    assert!(stopped.check.is_none() && !stopped.missing.is_empty());
    nothing_is_held("a sort was stopped");
    flip_byte(&encoded.runs[0].path, 0);
    let error = sort_once(&encoded.runs, &control, false).unwrap_err();
    assert!(matches!(error, EngineError::Damaged { .. }), "{error:?}");
    nothing_is_held("a run is damaged");
    flip_byte(&encoded.runs[0].path, 0);

    // Negative controls: attempts that share a folder, and a handle that is leaked in it.
    let shared = |work: &str, leak_engine_handle| {
        let attempt = sharing(&place.volume, leak_engine_handle).begin(&place.owner(work)).unwrap();
        let job = LaneJob {
            attempt: &attempt,
            plan: &plan,
            lane: 0,
            runs: &encoded.runs,
            already: Vec::new(),
            means: PLENTY,
        };
        sort_with(job, &control, &|_| Ok(()))
    };
    shared("sort-leaking", true).unwrap();
    assert_eq!(open_handles(), 1, "the leak is seen");
    for _again in 0..3 {
        let error = shared("sort-again", false).unwrap_err();
        let EngineError::EngineLocked { by_this_process: true, source, .. } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains("lock hold by current process"), "{source}");
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "i7_no_handle_and_no_lock_stays_open_on_any_way_out_unless_a_test_leaks_it", "--nocapture"])
        .env(LEAKED, place.folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
    // With a folder of its own the next attempt succeeds, leak or not: that is the point of it all.
    encoded.runs.reverse();
    let attempt = place.begin("sort-own-folder");
    let job =
        LaneJob { attempt: &attempt, plan: &plan, lane: 0, runs: &encoded.runs, already: Vec::new(), means: TINY };
    sort_with(job, &control, &|_| Ok(())).unwrap();
}

/// The volume, with attempts that share a folder.
fn sharing(volume: &Volume, leak_engine_handle: bool) -> Volume {
    let switches = TestSwitches { share_attempt_directory: true, leak_engine_handle, ..TestSwitches::default() };
    volume.clone().with_test_switches(switches)
}

fn in_another_process(folder: &std::path::Path) {
    let volume = sharing(&Volume::open(folder, "build").unwrap(), false);
    let place = Place::default();
    let table = Table::mixed(1000);
    let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 2, 1);
    let control = JobControl::new();
    let encoding = place.begin("encode-0");
    let encoded =
        encode_with(&encoding, std::slice::from_ref(&plan), &table, PLENTY, Vec::new(), &control, &|_| Ok(())).unwrap();
    let attempt = volume.begin(&place.owner("sort-elsewhere")).unwrap();
    let job =
        LaneJob { attempt: &attempt, plan: &plan, lane: 0, runs: &encoded.runs, already: Vec::new(), means: PLENTY };
    let error = sort_with(job, &control, &|_| Ok(())).unwrap_err();
    let EngineError::EngineLocked { by_this_process: false, source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("Resource temporarily unavailable"), "{source}");
}
