//! What a former attempt sealed is taken over, once it is checked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use indexbuild_engine::{EngineError, JobControl, SealedRun, adopt_ranges, adopt_runs};
use indexbuild_index::{Nulls, Order};

use crate::support::{
    LaneJob, Means, PLENTY, Place, Table, build, content, encode_with, flip_byte, on_c, on_k, plan, sort_with,
};

const SMALL_RUNS: Means = Means { lanes: 2, threads: 1, memory: 1 << 20, run_bytes: 40_000 };

/// An Encode that fails on the way; what it sealed stays.
fn broken_encode(place: &Place, table: &mut Table) -> usize {
    let plan = plan(on_k(Order::Asc, Nulls::Last), table, 4, 2);
    table.fails_at = Some(15);
    let attempt = place.begin("encode-0");
    let control = JobControl::new();
    let error = encode_with(&attempt, &[plan], table, SMALL_RUNS, Vec::new(), &control, &|_| Ok(())).unwrap_err();
    assert!(matches!(error, EngineError::Read { split: 15, .. }), "{error:?}");
    table.fails_at = None;
    let sealed = attempt
        .runs_dir()
        .read_dir()
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "run")
        .count();
    assert!(sealed >= 2, "{sealed} runs");
    sealed
}

/// Encodes the rest, sorts, and compares with an undisturbed build. Returns the rows read.
fn finish(place: &Place, table: &Table, adopted: Vec<SealedRun>, attempt: &indexbuild_engine::Attempt) -> u64 {
    table.read.store(0, Ordering::SeqCst);
    let plan = plan(on_k(Order::Asc, Nulls::Last), table, 4, 2);
    let control = JobControl::new();
    let encoded =
        encode_with(attempt, std::slice::from_ref(&plan), table, SMALL_RUNS, adopted, &control, &|_| Ok(())).unwrap();
    let read = table.read.load(Ordering::SeqCst);
    assert_eq!(encoded.rows, table.rows.len() as u64);
    assert!(encoded.missing.is_empty());
    let mut splits: Vec<u32> = encoded.runs.iter().flat_map(|run| run.sidecar.splits.clone()).collect();
    splits.sort_unstable();
    assert_eq!(splits, table.splits(), "each split is covered once");
    let outcomes: Vec<_> = (0..plan.lanes.len())
        .map(|lane| {
            let attempt = place.begin(&format!("sort-{lane}"));
            let job = LaneJob {
                attempt: &attempt,
                plan: &plan,
                lane,
                runs: &encoded.runs,
                already: Vec::new(),
                means: SMALL_RUNS,
            };
            sort_with(job, &control, &|_| Ok(())).unwrap()
        })
        .collect();
    let (expected, _, _place) = build(&on_k(Order::Asc, Nulls::Last), table, 4, PLENTY);
    assert_eq!(content(&outcomes), expected);
    read
}

/// What one Encode sealed was handed on, maybe uploaded and named in a result: when it goes on in the same attempt,
/// after an outage of the source or a full disk, it must not seal another content under a name that is taken.
#[test]
fn i3_an_encode_that_goes_on_in_the_same_attempt_never_writes_over_a_sealed_run() {
    let place = Place::default();
    let mut table = Table::mixed(30_000);
    let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 2);
    let attempt = place.begin("encode-0");
    let sealed: Mutex<Vec<SealedRun>> = Mutex::default();
    let hand_on = |run: &SealedRun| {
        let mut sealed = sealed.lock().unwrap();
        if sealed.iter().all(|known| known.name != run.name) {
            sealed.push(run.clone());
        }
        Ok(())
    };
    table.fails_at = Some(15);
    let control = JobControl::new();
    encode_with(&attempt, std::slice::from_ref(&plan), &table, SMALL_RUNS, Vec::new(), &control, &hand_on).unwrap_err();
    table.fails_at = None;
    let already = sealed.lock().unwrap().clone();
    assert!(already.len() >= 2, "{} runs", already.len());
    let before: Vec<Vec<u8>> = already.iter().map(|run| std::fs::read(&run.path).unwrap()).collect();
    let plans = std::slice::from_ref(&plan);
    let encoded = encode_with(&attempt, plans, &table, SMALL_RUNS, already.clone(), &control, &|_| Ok(())).unwrap();
    assert_eq!((encoded.rows, control.rows()), (30_000, 30_000), "and no row counts twice as progress");
    let after: Vec<Vec<u8>> = already.iter().map(|run| std::fs::read(&run.path).unwrap()).collect();
    assert!(before == after, "a sealed run has another content");
}

#[test]
fn i10_sealed_runs_of_a_failed_attempt_are_taken_over_and_only_the_rest_is_read() {
    let place = Place::default();
    let mut table = Table::mixed(30_000);
    let sealed = broken_encode(&place, &mut table);
    let attempt = place.begin("encode-0");
    let adopted = adopt_runs(&attempt, &place.volume.attempts().unwrap(), &table.splits()).unwrap();
    assert_eq!(adopted.taken.len(), sealed);
    assert!(adopted.quarantined.is_empty());
    let rows: u64 = adopted.taken.iter().map(|run| run.sidecar.rows).sum();
    let read = finish(&place, &table, adopted.taken, &attempt);
    assert_eq!(read, 30_000 - rows, "what was sealed is not read again");

    // A third attempt finds runs twice, by their links, and takes each once.
    let third = place.begin("encode-0");
    let adopted = adopt_runs(&third, &place.volume.attempts().unwrap(), &table.splits()).unwrap();
    let mut splits: Vec<u32> = adopted.taken.iter().flat_map(|run| run.sidecar.splits.clone()).collect();
    splits.sort_unstable();
    assert_eq!(splits, table.splits());
    // Another work takes nothing.
    let other = place.begin("encode-1");
    assert!(adopt_runs(&other, &place.volume.attempts().unwrap(), &table.splits()).unwrap().taken.is_empty());
    // Nor does the same work take a run that covers a split it was not given.
    let fourth = place.begin("encode-0");
    let adopted = adopt_runs(&fourth, &place.volume.attempts().unwrap(), &[0]).unwrap();
    assert!(adopted.taken.iter().all(|run| run.sidecar.splits == [0]));
}

#[test]
fn i3_a_run_with_a_flipped_byte_is_kept_aside_at_adoption_and_its_splits_are_read_again() {
    let place = Place::default();
    let mut table = Table::mixed(30_000);
    let sealed = broken_encode(&place, &mut table);
    let former = place.volume.attempts().unwrap().remove(0);
    let mut runs: Vec<_> = former.dir.join("runs").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    runs.retain(|path| path.extension().unwrap() == "run");
    runs.sort();
    flip_byte(&runs[1], 1234);
    let attempt = place.begin("encode-0");
    let adopted = adopt_runs(&attempt, &place.volume.attempts().unwrap(), &table.splits()).unwrap();
    assert_eq!(adopted.taken.len(), sealed - 1);
    let [damaged] = adopted.quarantined.as_slice() else { panic!("{:?}", adopted.quarantined) };
    assert_eq!(damaged.found, runs[1]);
    assert!(damaged.why.contains("not what was sealed"), "{}", damaged.why);
    assert_eq!(place.volume.quarantined().unwrap(), std::slice::from_ref(&damaged.kept));
    finish(&place, &table, adopted.taken, &attempt);
}

#[test]
fn i10_sealed_ranges_of_a_failed_attempt_are_taken_over_and_a_damaged_one_is_done_again() {
    for damage in [false, true] {
        let place = Place::default();
        let table = Table::mixed(30_000);
        let plan = plan(on_c(), &table, 6, 1);
        let control = JobControl::new();
        let means = SMALL_RUNS;
        let encoding = place.begin("encode-0");
        let encoded =
            encode_with(&encoding, std::slice::from_ref(&plan), &table, means, Vec::new(), &control, &|_| Ok(()))
                .unwrap();

        let first = place.begin("sort-0");
        let sealed = AtomicU32::new(0);
        let error = sort_with(LaneJob::first(&first, &plan, &encoded.runs, means), &control, &|_| {
            if sealed.fetch_add(1, Ordering::SeqCst) == 2 { Err("the store is gone".into()) } else { Ok(()) }
        })
        .unwrap_err();
        assert!(matches!(error, EngineError::HandOn { .. }), "{error:?}");
        drop(first);

        let former = place.volume.attempts().unwrap();
        if damage {
            let mut files: Vec<_> = former
                .iter()
                .flat_map(|former| former.dir.join("ranges").read_dir().unwrap())
                .map(|entry| entry.unwrap().path())
                .collect();
            files.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
            files.sort();
            flip_byte(&files[0], 500);
        }
        let second = place.begin("sort-0");
        let adopted = adopt_ranges(&second, &former, 0).unwrap();
        assert_eq!(adopted.taken.len(), if damage { 2 } else { 3 });
        assert_eq!(adopted.quarantined.len(), usize::from(damage));
        let handed_on = AtomicU32::new(0);
        let outcome = sort_with(
            LaneJob { already: adopted.taken.clone(), ..LaneJob::first(&second, &plan, &encoded.runs, means) },
            &control,
            &|_| {
                handed_on.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(handed_on.load(Ordering::SeqCst) as usize, outcome.ranges.len(), "adopted ranges are handed on too");
        for range in &adopted.taken {
            assert!(outcome.ranges.contains(range), "what was taken over is part of the outcome as it was");
        }
        assert_eq!(content(&[outcome]), build(&on_c(), &table, 6, PLENTY).0);
    }
}

#[test]
fn i6_a_range_of_a_former_attempt_that_lacks_entries_is_noticed() {
    let place = Place::default();
    let table = Table::mixed(6000);
    let plan = plan(on_c(), &table, 3, 1);
    let control = JobControl::new();
    let encoding = place.begin("encode-0");
    let encoded =
        encode_with(&encoding, std::slice::from_ref(&plan), &table, PLENTY, Vec::new(), &control, &|_| Ok(())).unwrap();
    let first = place.begin("sort-0");
    let mut outcome = sort_with(LaneJob::first(&first, &plan, &encoded.runs, PLENTY), &control, &|_| Ok(())).unwrap();
    let mut range = outcome.ranges.swap_remove(0);
    range.entries -= 1;
    let second = place.begin("sort-0");
    let error = sort_with(
        LaneJob { already: vec![range], ..LaneJob::first(&second, &plan, &encoded.runs, PLENTY) },
        &control,
        &|_| Ok(()),
    )
    .unwrap_err();
    assert!(matches!(error, EngineError::Disagrees { .. }), "{error:?}");
}

#[test]
fn asked_to_stop_an_encode_seals_whole_splits_and_the_next_attempt_does_the_rest() {
    for threads in [1, 2] {
        for memory in [64 << 10, 64 << 20] {
            let place = Place::default();
            let mut table = Table::mixed(30_000);
            let plan = plan(on_k(Order::Asc, Nulls::Last), &table, 4, 2);
            let control = Arc::new(JobControl::new());
            let asked = Arc::clone(&control);
            table.before_batch = Box::new(move |split| {
                if split == 9 {
                    asked.stop_after_seal();
                }
            });
            let means = Means { threads, memory, ..SMALL_RUNS };
            let attempt = place.begin("encode-0");
            let stopped = encode_with(&attempt, &[plan], &table, means, Vec::new(), &control, &|_| Ok(())).unwrap();
            assert!(!stopped.missing.is_empty() && stopped.rows > 0, "{} rows", stopped.rows);
            let covered: usize = stopped.runs.iter().map(|run| run.sidecar.splits.len()).sum();
            assert_eq!(stopped.rows as usize, covered * table.split_rows, "whole splits only");
            table.before_batch = Box::new(|_| {});
            let next = place.begin("encode-0");
            let adopted = adopt_runs(&next, &place.volume.attempts().unwrap(), &table.splits()).unwrap();
            assert_eq!(adopted.taken.len(), stopped.runs.len());
            finish(&place, &table, adopted.taken, &next);
        }
    }
}
