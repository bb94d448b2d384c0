//! Builds in a simulated world of faults: once they stop, every build ends, and what it ends with is right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    missing_docs,
    clippy::format_push_string
)]

mod sim;

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{ConditionType, Phase, Reason, VolumeState};
use indexbuild_lifecycle::End;
use sim::{Faults, Manifest, Rng, Sim};

/// Ticks with faults, and ticks after which a build without faults must have ended.
const FAULTY: usize = 140;
const CALM: usize = 4_000;

fn run(seed: u64, faults: Faults, backoff_limit: u32, delete_at: Option<usize>) -> Sim {
    let parallelism = 1 + (seed % 4) as u32;
    to_the_end(seed, Sim::new(seed, parallelism, backoff_limit, faults), delete_at)
}

fn to_the_end(seed: u64, mut sim: Sim, delete_at: Option<usize>) -> Sim {
    for tick in 0..FAULTY {
        if Some(tick) == delete_at {
            sim.deleting_since = Some(sim.now);
        }
        sim.tick(true);
    }
    for _ in 0..CALM {
        if sim.end.is_some() && (sim.deleting_since.is_none() || sim.released || !sim.finalizer) {
            break;
        }
        sim.tick(false);
    }
    assert!(sim.end.is_some(), "seed {seed}: no end\n{}", sim.explain());
    check(seed, &sim);
    sim
}

/// I1 and what else must hold at the end.
fn check(seed: u64, sim: &Sim) {
    // I1: one attempt per work, and every work of the plan.
    for stage in sim.stages.values() {
        let works: BTreeSet<_> = stage.chosen.iter().map(|chosen| &chosen.work_id).collect();
        assert_eq!(works.len(), stage.chosen.len(), "seed {seed}: {stage:?}");
    }
    let (encode, sort) = sim.plan_works;
    match sim.end.unwrap() {
        End::Complete => {
            assert_eq!(sim.stages["encode"].chosen.len(), encode as usize);
            assert_eq!(sim.stages["sort"].chosen.len(), sort as usize);
            let Some(Manifest::Committed(inputs)) = &sim.manifest else {
                panic!("seed {seed}: complete without a manifest\n{}", sim.explain());
            };
            for input in inputs {
                assert_eq!(input, &sim.stages[&input.name], "seed {seed}: the manifest is made of what was frozen");
            }
            assert_eq!(sim.status.as_ref().unwrap().phase, Some(Phase::Complete));
        }
        End::Failed => {
            let status = sim.status.as_ref().unwrap();
            assert_eq!(status.phase, Some(Phase::Failed), "seed {seed}");
            let why = status.condition(ConditionType::Failed).unwrap();
            if why.reason == Reason::DeadlineExceeded {
                assert!(sim.spec.active_deadline_seconds.is_some(), "seed {seed}: {why:?}");
            } else {
                assert!(status.last_error.is_some(), "seed {seed}: the evidence is kept");
                let spent = status.failed_attempts >= sim.spec.backoff_limit;
                assert!(sim.permanent_injected || spent, "seed {seed}: {status:?}");
            }
        }
        End::Aborted => assert!(sim.deleting_since.is_some()),
    }
    // I9: nothing is left but what a record holds: without proof, or by policy.
    let held: BTreeSet<String> = sim
        .records()
        .flat_map(|spec| {
            let formers = spec.former_volumes.iter().map(|volume| volume.claim_name.clone());
            formers.chain(spec.volume.iter().map(|volume| volume.claim_name.clone())).collect::<Vec<_>>()
        })
        .collect();
    for claim in sim.claim_names() {
        assert!(
            held.contains(&claim) || sim.stray_claims.contains(&claim) || sim.kept_claims.contains(&claim),
            "seed {seed}: claim {claim} leaked\n{}",
            sim.explain()
        );
    }
}

fn seeds(count: u64, salt: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng(salt);
    (0..count).map(move |_| rng.next() >> 8)
}

fn all_faults() -> Faults {
    Faults {
        partition: 2,
        cut: 2,
        kill: 1,
        reboot: 1,
        node_gone: 1,
        node_removed: 1,
        drain: 1,
        freeze: 1,
        crash: 10,
        stale: 20,
        late: 10,
        fail: 5,
        permanent: 0,
        damage: 5,
        lose_claim: 1,
        scale: 1,
        suspend: 2,
        slow_start: 30,
        sandbox: 10,
        mute: 30,
        away: 2,
        forge: 2,
    }
}

#[test]
fn a_build_without_faults_completes_leaves_nothing_and_changes_no_owner() {
    for seed in seeds(40, 1) {
        let sim = run(seed, Faults::NONE, 6, None);
        assert_eq!(sim.end, Some(End::Complete), "{}", sim.explain());
        assert_eq!(sim.claim_names(), Vec::<String>::new(), "seed {seed}\n{}", sim.explain());
        assert_eq!(sim.records().count(), 0, "{}", sim.explain());
        assert_eq!(sim.living(), 0);
        for change in ["rebound", "replaced", "returned", "attempt failed", "no progress"] {
            assert_eq!(sim.counts.get(change), None, "seed {seed}: {change}\n{}", sim.explain());
        }
    }
}

/// G1, G2, G3, G6, G9, G10, I1, I2, I4: checked at every step by the simulation itself.
#[test]
fn whatever_happens_every_build_completes_once_faults_stop() {
    let mut totals: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds(350, 2) {
        let sim = run(seed, all_faults(), 1_000, None);
        assert_eq!(sim.end, Some(End::Complete), "seed {seed}\n{}", sim.explain());
        for (what, count) in sim.counts {
            *totals.entry(what).or_default() += count;
        }
    }
    println!("{totals:?}");
    // The schedule is worth nothing if it does not reach what it is to test.
    for what in [
        "partition",
        "cut",
        "kill",
        "reboot",
        "begun after a reboot",
        "node removed",
        "crash",
        "conflict",
        "rebound",
        "replaced",
        "returned",
        "attempt failed",
        "damage",
        "claim deleted",
        "scaled down",
        "away",
        "released",
        "ended without a word",
        "forged",
        "removed",
        "put in a stage's place",
        "made again",
    ] {
        assert!(totals.get(what).is_some_and(|count| *count >= 5), "{what} was hardly tried: {totals:?}");
    }
}

/// I4: the word of an owner is believed, and the volume goes to the next one at once. That of a process which says so and
/// works on must be found by what the simulation asserts on the truth: two processes on a volume, or one that is deleted
/// under somebody.
#[test]
fn an_executor_that_works_on_after_its_last_word_is_found_out() {
    let faults = Faults { drain: 4, ..Faults::NONE };
    let found = |mutant: bool| {
        let mut found = BTreeSet::new();
        for seed in seeds(30, 6) {
            let outcome = std::panic::catch_unwind(|| {
                let mut sim = Sim::new(seed, 2, 1_000, faults);
                sim.writes_after_release = mutant;
                for _ in 0..FAULTY {
                    sim.tick(true);
                }
            });
            if let Err(said) = outcome {
                let said = said.downcast_ref::<String>().cloned().unwrap_or_default();
                found.insert(said.split(':').next().unwrap_or_default().chars().take(24).collect::<String>());
            }
        }
        found
    };
    assert_eq!(found(false), BTreeSet::new(), "the control: who closes everything first is no danger");
    let found = found(true);
    assert!(found.iter().any(|said| said.starts_with("two processes on volume")), "{found:?}");
}

/// An owner's word outlives its pod: a drain while no operator looks costs no patience.
#[test]
fn after_ends_in_peace_that_no_operator_saw_no_owner_is_waited_for() {
    let faults = Faults { drain: 3, away: 10, ..Faults::NONE };
    let replaced = |mute: u64| {
        let mut replaced = 0;
        for seed in seeds(60, 7) {
            let sim = run(seed, Faults { mute, ..faults }, 1_000, None);
            assert_eq!(sim.end, Some(End::Complete), "seed {seed}\n{}", sim.explain());
            let lost = sim.records().count();
            assert!(mute > 0 || lost == 0, "seed {seed}: a volume is stranded\n{}", sim.explain());
            replaced += sim.counts.get("replaced").copied().unwrap_or_default();
        }
        replaced
    };
    assert_eq!(replaced(0), 0);
    assert!(replaced(100) >= 10, "the control: without the word they are replaced when patience is over");
}

#[test]
fn partitions_alone_never_fail_a_build_even_without_a_budget() {
    for seed in seeds(80, 3) {
        let faults = Faults { partition: 4, cut: 3, drain: 1, crash: 5, stale: 10, late: 10, ..Faults::NONE };
        let sim = run(seed, faults, 0, None);
        assert_eq!(sim.end, Some(End::Complete), "seed {seed}\n{}", sim.explain());
    }
}

#[test]
fn a_spent_budget_or_a_permanent_error_fails_the_build_with_its_reason() {
    let mut failed = 0;
    for seed in seeds(80, 4) {
        let faults = Faults { fail: 40, permanent: 5, partition: 1, crash: 5, stale: 10, ..Faults::NONE };
        let sim = run(seed, faults, 1, None);
        failed += u32::from(sim.end == Some(End::Failed));
        if sim.end == Some(End::Failed) {
            // G5: no late Publish can commit any more, unless cleaning was given up.
            assert!(sim.manifest.is_some() || sim.stages["clean"].chosen.is_empty(), "seed {seed}");
        }
    }
    assert!(failed > 30, "{failed}");
}

/// I4: a Node object goes and what was attached is detached, while the machine runs on. The control is an administrator
/// who believes drivers that detach by doing nothing.
#[test]
fn two_write_one_volume_only_where_a_detach_is_believed_that_does_nothing() {
    // One node of each build: soon, but not before it is at work.
    let faults = Faults { node_removed: 1, ..Faults::NONE };
    let run = |seed: u64, believe: bool| {
        let mut sim = Sim::new(seed, 3, 1_000, faults);
        if believe {
            sim.believe_all_drivers();
        }
        for _ in 0..FAULTY {
            sim.tick(true);
        }
        sim.counts.clone()
    };
    let mut rebound = 0;
    for seed in seeds(300, 6) {
        rebound += run(seed, false).get("rebound").copied().unwrap_or_default();
    }
    assert!(rebound >= 10, "a detach that cuts a node off is a proof: {rebound}");
    let violations = seeds(300, 6).filter(|seed| {
        let broken = std::panic::catch_unwind(|| run(*seed, true)).err();
        let said = broken.as_ref().and_then(|broken| broken.downcast_ref::<String>());
        said.is_some_and(|said| said.contains("two processes on volume"))
    });
    assert!(violations.count() >= 3, "the control: nobody was harmed");
}

/// I9: what a deleted build leaves is looked after by its records alone, once it is gone: what goes with it goes, and
/// what it asked to keep stays. The simulation itself checks that no volume is deleted that is to be kept.
#[test]
fn a_deleted_build_is_let_go_in_time_whatever_the_network_does_and_keeps_what_it_asked_to_keep() {
    let mut totals: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut outlived = BTreeMap::new();
    for seed in seeds(100, 5) {
        let delete_at = (seed % FAULTY as u64) as usize;
        let mut sim = run(seed, Faults { suspend: 0, ..all_faults() }, 1_000, Some(delete_at));
        assert!(sim.released || !sim.finalizer, "seed {seed}\n{}", sim.explain());
        let records = sim.records().count();
        for _ in 0..200 {
            sim.tick(false);
        }
        check(seed, &sim);
        *outlived.entry(format!("{:?}", sim.when_deleted())).or_insert(0) += records;
        // A record that is left is one of a volume that nothing proves free.
        for spec in sim.records() {
            let unproved = spec.former_volumes.iter().any(|volume| volume.state != VolumeState::Idle);
            assert!(unproved || spec.volume.is_some(), "seed {seed}: {spec:?}\n{}", sim.explain());
        }
        for (what, count) in std::mem::take(&mut sim.counts) {
            *totals.entry(what).or_default() += count;
        }
    }
    println!("{totals:?}; records that outlived their build: {outlived:?}");
    assert!(outlived["Retain"] >= 5, "the reaping was hardly tried: {outlived:?}");
    for what in ["claim kept", "claim deleted"] {
        assert!(totals.get(what).is_some_and(|count| *count >= 5), "{what} was hardly tried: {totals:?}");
    }
}

/// G5, I1: a build's time may be over in any moment, also while its Publish commits: it ends as what stands at its manifest.
#[test]
fn a_build_whose_time_is_over_ends_as_what_stands_at_its_manifest() {
    let mut ends: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in seeds(300, 6) {
        let undisturbed = run(seed, Faults::NONE, 6, None);
        let faults = Faults { cut: 3, partition: 2, freeze: 1, crash: 5, late: 20, ..Faults::NONE };
        let mut sim = Sim::new(seed, 1 + (seed % 4) as u32, 1_000, faults);
        // Most come to it in the second half of their work.
        sim.spec.active_deadline_seconds = Some((undisturbed.now / 1_000 * (50 + seed % 150) / 100).max(1));
        let sim = to_the_end(seed, sim, None);
        let committed = matches!(sim.manifest, Some(Manifest::Committed(_)));
        let told = sim.explain();
        match sim.end {
            Some(End::Complete) => assert!(committed, "seed {seed}: complete without an index\n{told}"),
            Some(End::Failed) => assert!(!committed, "seed {seed}: failed, and its index is committed\n{told}"),
            other => panic!("seed {seed}: {other:?}\n{told}"),
        }
        // No late Publish can commit any more, where one may have been granted.
        assert!(sim.manifest.is_some() || !sim.stages.contains_key("sort"), "seed {seed}\n{told}");
        let found = committed && !sim.stages.contains_key("publish");
        *ends
            .entry(if found {
                "found"
            } else if committed {
                "complete"
            } else {
                "failed"
            })
            .or_default() += 1;
    }
    println!("{ends:?}");
    // A Publish that commits between the two is seldom: each seed has one moment for it.
    for (end, least) in [("complete", 20), ("failed", 20), ("found", 1)] {
        assert!(ends.get(end).is_some_and(|count| *count >= least), "{end} was hardly tried: {ends:?}");
    }
}
