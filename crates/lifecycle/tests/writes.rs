//! The budget of writes that all builds have together: who may begin, how often owners report, how patient one is with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use std::collections::BTreeSet;

use indexbuild_api::{ConditionType, DirectoryState, Duration, Epoch, IndexBuildStatus, LastWait, Phase, Reason};
use indexbuild_lifecycle::observer::Observer;
use indexbuild_lifecycle::world::{Queued, Share, World};
use indexbuild_lifecycle::writes::{Asks, Shares, numbers_after, share};
use indexbuild_lifecycle::{Action, plan};
use proptest::prelude::*;
use scene::*;

const SECOND: u64 = 1_000;

/// A build with so many owners and such a patience, in seconds; the lower its number, the older it is.
fn asks(number: usize, owners: u32, replace_after: u64) -> Asks {
    Asks {
        uid: format!("u{number:04}"),
        made: format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60),
        begun: false,
        owners,
        own_interval: indexbuild_api::renew_interval(owners).as_millis(),
        replace_after: replace_after * SECOND,
    }
}

fn begun(asks: Asks) -> Asks {
    Asks { begun: true, ..asks }
}

fn waits(shares: &Shares, build: &Asks) -> bool {
    shares.waiting.contains(&build.uid)
}

/// What builds really write in a second: each owner its report, each build its status.
fn written(shares: &Shares, builds: &[Asks]) -> f64 {
    let each = |build: &Asks| {
        let interval = build.own_interval.max(shares.interval);
        f64::from(build.owners) / interval as f64 + 1.0 / shares.interval as f64
    };
    1_000.0 * builds.iter().filter(|build| !waits(shares, build)).map(each).sum::<f64>()
}

#[test]
fn one_small_build_reports_as_if_there_were_no_budget() {
    for owners in [1, 4, 100] {
        let shares = share(25, &[asks(0, owners, 600)]);
        assert_eq!((shares.interval, shares.waiting.len()), (5 * SECOND, 0), "{owners}");
    }
}

#[test]
fn the_interval_is_doubled_as_often_as_all_reports_together_need_and_falls_again() {
    let of = |builds: usize| {
        let all: Vec<Asks> = (0..builds).map(|number| begun(asks(number, 10, 600))).collect();
        share(25, &all).interval / SECOND
    };
    // 11 writes in each interval for each build, each counted in whole thousandths of a write a second.
    assert_eq!([1, 11, 12, 22, 23, 45, 46, 90, 91, 174].map(of), [5, 5, 10, 10, 20, 20, 40, 40, 80, 80]);
}

#[test]
fn further_builds_wait_in_the_order_of_their_age_where_the_least_patient_would_lose_owners_that_are_well() {
    // 3 × 5 s is all that they allow: 4 builds of 30 owners write 24.8 times a second.
    let all: Vec<Asks> = [3, 0, 4, 1, 5, 2].map(|number| asks(number, 30, 15)).to_vec();
    let shares = share(25, &all);
    assert_eq!((shares.interval, shares.waiting.clone()), (5 * SECOND, vec!["u0004".to_owned(), "u0005".to_owned()]));
    let place = |uid: &str| shares.of(uid).queued.map(|queued| (queued.number, queued.of, queued.budget));
    assert_eq!([place("u0003"), place("u0004"), place("u0005")], [None, Some((1, 2, 25)), Some((2, 2, 25))]);
    let patient: Vec<Asks> = (0..6).map(|number| asks(number, 30, 30)).collect();
    let shares = share(25, &patient);
    assert_eq!((shares.interval, shares.waiting.len()), (10 * SECOND, 0), "the control: they allow 10 s");
}

#[test]
fn a_small_build_does_not_overtake_an_older_one_that_waits_and_one_that_is_too_large_begins_alone() {
    let large = asks(1, 1_000, 150);
    let others = [begun(asks(0, 10, 600)), large.clone(), asks(2, 1, 600)];
    let shares = share(10, &others);
    assert_eq!(shares.waiting, ["u0001", "u0002"]);
    let shares = share(10, &others[1..]);
    assert!(!waits(&shares, &large) && waits(&shares, &others[2]), "20 writes in a second are more than 10");
}

#[test]
fn what_has_begun_goes_on_whatever_came_before_it() {
    let all = [asks(0, 100, 15), begun(asks(1, 100, 15)), begun(asks(2, 100, 15))];
    let shares = share(25, &all);
    assert_eq!(shares.waiting, ["u0000"]);
    assert_eq!(shares.milliwrites, 40_400);
}

/// Few kinds of builds, all numbers of each: nothing is left to chance.
#[test]
fn for_all_sets_of_up_to_five_builds_the_budget_is_kept_by_whoever_is_not_alone_and_the_oldest_never_waits() {
    let kinds = [(1, 15), (40, 15), (100, 60), (120, 600), (1_000, 150)];
    for budget in [1, 10, 25, 100] {
        for count in 1..=5_u32 {
            for code in 0..5_usize.pow(count) {
                let kind = |number: u32| kinds[code / 5_usize.pow(number) % 5];
                let builds: Vec<Asks> =
                    (0..count).map(|number| asks(number as usize, kind(number).0, kind(number).1)).collect();
                check(budget, &builds);
            }
        }
    }
}

/// What holds for builds of which none has begun.
fn check(budget: u32, builds: &[Asks]) {
    let shares = share(budget, builds);
    let working: Vec<&Asks> = builds.iter().filter(|build| !waits(&shares, build)).collect();
    let writes = written(&shares, builds);
    assert!(writes <= f64::from(budget) + 1e-9 || working.len() == 1, "{writes}: {builds:?} {shares:?}");
    let mut ages: Vec<_> = builds.iter().map(|build| (&build.made, &build.uid)).collect();
    ages.sort();
    let order: Vec<&String> = working.iter().map(|build| &build.uid).collect();
    // Those at work are the oldest, and those that wait are told in the order of their age.
    let oldest: BTreeSet<&String> = ages.iter().take(working.len()).map(|(_, uid)| *uid).collect();
    assert_eq!(order.into_iter().collect::<BTreeSet<_>>(), oldest);
    assert!(!working.is_empty());
    let queue: Vec<&String> = ages.iter().skip(working.len()).map(|(_, uid)| *uid).collect();
    assert_eq!(shares.waiting.iter().collect::<Vec<_>>(), queue);
    // No owner that is well is replaced: its interval fits three times into each one's patience.
    for build in working {
        let interval = build.own_interval.max(shares.interval);
        assert!(3 * interval <= build.replace_after.max(3 * build.own_interval), "{build:?} {shares:?}");
    }
    assert!((shares.interval / 5_000).is_power_of_two() && shares.interval.is_multiple_of(5_000));
}

fn any_build() -> impl Strategy<Value = (u32, u64)> {
    (1_u32..=1_000, 15_u64..=3_600)
        .prop_map(|(owners, patience)| (owners, patience.max(u64::from(owners) * 150 / 1_000 + 1)))
}

proptest! {
    #[test]
    fn any_set_of_builds_keeps_the_budget(budget in 1_u32..=200, builds in prop::collection::vec(any_build(), 1..40)) {
        let builds: Vec<Asks> =
            builds.into_iter().enumerate().map(|(number, (owners, patience))| asks(number, owners, patience)).collect();
        check(budget, &builds);
    }

    /// Builds come, begin, end and pause, in any order: at no time is more written than the budget has, but by one that
    /// began alone; and whoever waits begins at last.
    #[test]
    fn whatever_comes_and_goes_the_budget_is_kept_and_nobody_waits_for_ever(
        budget in 1_u32..=60,
        course in prop::collection::vec((any_build(), any::<prop::sample::Index>(), 0_u8..3), 1..60),
    ) {
        let mut builds: Vec<Asks> = Vec::new();
        let mut alone: Option<String> = None;
        let turn = |builds: &mut Vec<Asks>, alone: &mut Option<String>| {
            let shares = share(budget, builds);
            let none = builds.iter().all(|build| !build.begun);
            for build in builds.iter_mut().filter(|build| !shares.waiting.contains(&build.uid)) {
                build.begun = true;
            }
            let at_work: Vec<&Asks> = builds.iter().filter(|build| build.begun).collect();
            let over = written(&shares, builds) > f64::from(budget) + 1e-9;
            if none && at_work.len() == 1 && over {
                *alone = Some(at_work[0].uid.clone());
            }
            let excused = at_work.len() == 1 && alone.as_ref() == Some(&at_work[0].uid);
            assert!(!over || excused, "{shares:?}");
        };
        for (number, ((owners, patience), which, what)) in course.into_iter().enumerate() {
            match what {
                0 if !builds.is_empty() => {
                    let which = which.index(builds.len());
                    builds.remove(which);
                }
                // A pause: it asks anew when it goes on.
                1 if !builds.is_empty() => {
                    let which = which.index(builds.len());
                    builds[which].begun = false;
                }
                _ => builds.push(asks(number, owners, patience)),
            }
            turn(&mut builds, &mut alone);
        }
        // They end one after the other: each one that waited begins meanwhile.
        for _ in 0..builds.len() {
            turn(&mut builds, &mut alone);
            let ends = builds.iter().position(|build| build.begun).expect("somebody is at work while there are builds");
            builds.remove(ends);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// An owner reports at the interval that it read last, one report of it gets lost, each is up to a fifth late, and what
    /// it is told changes all the time: it is never taken for lost.
    #[test]
    fn no_owner_that_reports_as_it_was_told_is_replaced(
        steps in prop::collection::vec((0_u32..7, 1_u64..200, any::<bool>(), 0_u64..20), 1..20),
        patience in 1_u64..=10,
    ) {
        let replace_after = patience * 5_000;
        let mut observer = Observer::default();
        let mut record = scene::encoding().slots[0].record.clone();
        record.spec.renew_interval = Duration::from_millis(5_000);
        // What the owner has read, and when it reports next.
        let (mut read, mut reported, mut due, mut lost) = (5_000_u64, 0_u64, 5_000_u64, false);
        let mut now = 0;
        for (step, seconds, loses, late) in steps {
            // The record's next write tells another interval.
            record.spec.renew_interval = Duration::from_millis(5_000 << step);
            for _ in 0..seconds {
                now += SECOND;
                if now >= due {
                    // It reads before it reports; what it does not get through is tried again an interval later.
                    let before = read;
                    read = record.spec.renew_interval.as_millis();
                    if loses && !lost {
                        lost = true;
                        due = now + before.max(read);
                    } else {
                        lost = false;
                        reported = now;
                        due = now + read + read * late / 100;
                        record.status.report.as_mut().unwrap().renew_time = now.to_string();
                    }
                }
                let seen = observer.slots(vec![record.clone()], now);
                let mut world = scene::encoding();
                world.build.timeouts.replace_after = replace_after;
                world.build.timeouts.orphan_after = 100_000_000;
                world.slots[0] = seen[0].clone();
                world.slots[0].grant_age = 100_000_000;
                world.slots[0].progress_age = 0;
                let age = seen[0].report_age;
                let replaced = plan(&world).events.iter().any(|event| event.reason == Reason::OwnerReplaced);
                prop_assert!(!replaced, "silent for {age} ms, last at {reported}, told {read}, it may have {}", seen[0].longest_interval);
            }
        }
    }
}

/// The control: one that is silent for longer than that is replaced.
#[test]
fn an_owner_that_was_told_to_report_seldom_is_waited_for_three_intervals_and_no_longer_control() {
    let replaced = |longest_interval: u64, silence: u64| {
        let mut world = encoding();
        silent(&mut world, 0, silence);
        world.slots[0].longest_interval = longest_interval;
        plan(&world).events.iter().any(|event| event.reason == Reason::OwnerReplaced)
    };
    assert_eq!([9_999, 10_000].map(|silence| replaced(1_000, silence)), [false, true], "replaceAfter");
    assert_eq!([59_999, 60_000].map(|silence| replaced(20_000, silence)), [false, true]);
}

#[test]
fn an_owner_is_silent_only_after_three_of_the_intervals_that_it_was_told() {
    let state = |silence: u64| {
        let mut world = settled(encoding());
        world.build.timeouts.replace_after = 100_000;
        world.build.timeouts.orphan_after = 200_000;
        world.slots[0].longest_interval = 20_000;
        silent(&mut world, 0, silence);
        update(&plan(&world), 0).map(|(_, state, _)| state)
    };
    assert_eq!([60_000, 60_001].map(state), [None, Some(DirectoryState::Silent)]);
}

/// I8: else each change of it would be a write for each slot of all builds.
#[test]
fn another_interval_is_told_by_the_next_write_of_a_record_and_is_no_reason_for_one() {
    let mut world = settled(encoding());
    world.build.share.interval = 20_000;
    assert!(update(&plan(&world), 0).is_none());
    reports_result(&mut world, 0);
    let decision = plan(&world);
    let (spec, _, _) = update(&decision, 0).unwrap();
    assert_eq!(spec.renew_interval, Duration::from_millis(20_000));
    // Where nothing is told, it is as it was.
    world.build.share = Share::default();
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).unwrap().0.renew_interval, Duration::from_millis(1_000));
}

/// A build of five minutes with six turns has thirty words of its numbers where each follows after ten seconds, and twelve like this.
#[test]
fn numbers_alone_are_told_the_more_seldom_the_longer_a_stage_lasts() {
    let seconds = |interval: u64| [0, 1, 2, 3, 63, 64, u32::MAX].map(|told| numbers_after(told, interval) / SECOND);
    assert_eq!(seconds(0), [10, 20, 40, 40, 40, 40, 40]);
    assert_eq!(seconds(20 * SECOND), [20, 20, 40, 40, 40, 40, 40], "never more often than all builds together may");
    assert_eq!(seconds(80 * SECOND), [80; 7]);
}

fn queued(mut world: World) -> World {
    world.build.share = Share { interval: 0, queued: Some(Queued { number: 3, of: 7, budget: 25 }) };
    world
}

#[test]
fn a_build_that_waits_for_its_turn_makes_nothing_and_says_which_number_it_has() {
    let decision = plan(&queued(world()));
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let ready = decision.status.condition(ConditionType::Ready).unwrap();
    assert_eq!(ready.reason, Reason::WaitingForBudget);
    for part in ["number 3 of 7", "25 times a second", "ends when"] {
        assert!(ready.message.contains(part), "{part}: {}", ready.message);
    }
    let IndexBuildStatus { phase, start_time, last_wait, .. } = &decision.status;
    assert_eq!((*phase, start_time), (Some(Phase::Pending), &None), "no time passes for it");
    assert!(matches!(last_wait, Some(LastWait { reason: Reason::WaitingForBudget, .. })));
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    assert_eq!(stalled.status, indexbuild_api::ConditionStatus::False);
    let made = plan(&world()).actions;
    assert!(made.iter().any(|action| matches!(action, Action::CreateDirectory { .. })), "the control: {made:?}");
}

#[test]
fn a_build_that_goes_on_after_a_pause_waits_with_its_records_as_they_are_and_who_works_is_left_alone() {
    let mut paused = encoding();
    paused.pods.clear();
    for view in &mut paused.slots {
        let grant = view.record.spec.grant.as_mut().unwrap();
        *grant = indexbuild_api::Grant {
            epoch: Epoch::new(4),
            pod_name: "next".to_owned(),
            ..indexbuild_api::Grant::default()
        };
        view.record.status.state = DirectoryState::Suspended;
        view.record.status.report = None;
    }
    let decision = plan(&queued(paused.clone()));
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    let made = plan(&paused).actions;
    assert!(made.iter().any(|action| matches!(action, Action::CreatePod { .. })), "the control: {made:?}");
    let mut at_work = settled(encoding());
    reports_result(&mut at_work, 0);
    assert_eq!(plan(&queued(at_work.clone())).actions, plan(&at_work).actions);
}

#[test]
fn a_build_without_a_record_of_its_interval_is_looked_at_as_before() {
    let mut world = encoding();
    world.slots[0].record.spec.renew_interval = Duration::from_millis(0);
    world.slots[0].longest_interval = 0;
    silent(&mut world, 0, 3_001);
    let decision = plan(&world);
    assert_eq!(update(&decision, 0).map(|(_, state, _)| state), Some(DirectoryState::Silent));
}
