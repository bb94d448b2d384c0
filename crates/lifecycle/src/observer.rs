//! What an observer remembers of a build between two looks: since when things are as they are.
//!
//! All of it is measured on the observer's own monotonic clock. What owners do, and what a slot waits for, begins anew with
//! the process: two machines' clocks are never compared, and a control plane that was away does not hold its absence
//! against anybody. What an object tells the beginning of (a deletion, a build's start, a node's readiness) was going on
//! before the process: how long is told once, by the clock that wrote the beginning, and counted on from there. A clock
//! that jumps later changes nothing, and where no clock is known it begins with the first sight.

use std::collections::{BTreeMap, VecDeque};

use indexbuild_api::{Grant, Report};

use crate::world::{Millis, Record, SlotView};

/// Over how long the rate of a build is measured.
const RATE_WINDOW: Millis = 60_000;

/// A value, and since when it is as it is.
#[derive(Clone, Debug)]
struct Since<T> {
    value: T,
    at: Millis,
}

impl<T: PartialEq> Since<T> {
    fn new(value: T, at: Millis) -> Self {
        Self { value, at }
    }

    fn see(&mut self, value: T, now: Millis) {
        if self.value != value {
            *self = Self { value, at: now };
        }
    }

    fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.at)
    }
}

/// An age that was told once, and is counted on from there.
#[derive(Clone, Copy, Debug)]
struct Age {
    told: Millis,
    at: Millis,
}

impl Age {
    fn now(self, now: Millis) -> Millis {
        self.told.saturating_add(now.saturating_sub(self.at))
    }
}

/// The interval between reports that an owner may go by.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// What the record told last.
    told: Millis,
    longest: Millis,
    /// Reports since it was told to be shorter.
    heard: u8,
}

impl Interval {
    fn new(told: Millis) -> Self {
        Self { told, longest: told, heard: 0 }
    }

    /// An owner reads its record before it reports. So the read before the second report that follows on a change found it;
    /// that before the first one may have come too early, and what it found holds until the second.
    fn see(&mut self, told: Millis, reported: bool) {
        if told != self.told {
            *self = Self { told, longest: self.longest.max(told), heard: 0 };
        } else if reported && self.longest > told {
            self.heard = self.heard.saturating_add(1);
            if self.heard >= 2 {
                self.longest = told;
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    report: Since<Option<Report>>,
    progress: Since<Option<Report>>,
    grant: Since<Option<Grant>>,
    interval: Interval,
}

impl Slot {
    fn new(record: &Record, now: Millis) -> Self {
        Self {
            report: Since::new(record.status.report.clone(), now),
            progress: Since::new(progress(record), now),
            grant: Since::new(record.spec.grant.clone(), now),
            interval: Interval::new(record.spec.renew_interval.as_millis()),
        }
    }
}

/// The report without its time: a renewal is a sign of life, not of progress.
fn progress(record: &Record) -> Option<Report> {
    record.status.report.clone().map(|report| Report { renew_time: String::new(), ..report })
}

/// What was seen of one build, and since when.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    slots: BTreeMap<u32, Slot>,
    deleting: Option<Age>,
    /// Its start, as its status tells it.
    active: Option<(String, Age)>,
    percents: VecDeque<(Millis, u32)>,
    /// Pods that have not started and claims without a volume, by UID, and since when that is seen.
    unstarted: BTreeMap<String, Millis>,
}

impl Observer {
    /// The views of the slots: their records, and for how long they are as they are.
    pub fn slots(&mut self, records: Vec<Record>, now: Millis) -> Vec<SlotView> {
        self.slots.retain(|slot, _| records.iter().any(|record| record.spec.slot == *slot));
        records
            .into_iter()
            .map(|record| {
                let seen = self.slots.entry(record.spec.slot).or_insert_with(|| Slot::new(&record, now));
                let reported = seen.report.value != record.status.report;
                seen.interval.see(record.spec.renew_interval.as_millis(), reported);
                seen.report.see(record.status.report.clone(), now);
                seen.progress.see(progress(&record), now);
                seen.grant.see(record.spec.grant.clone(), now);
                SlotView {
                    report_age: seen.report.age(now),
                    progress_age: seen.progress.age(now),
                    grant_age: seen.grant.age(now),
                    longest_interval: seen.interval.longest,
                    record,
                }
            })
            .collect()
    }

    /// Begins to count anew: what could not be seen for a while is held against nobody.
    pub fn count_anew(&mut self) {
        self.slots.clear();
        self.unstarted.clear();
        self.deleting = None;
        self.active = None;
    }

    /// For how long the build's deletion has been asked for, and how much of that had passed before it was known here; 0
    /// where there is none. `told`: its age by the clock that wrote its time.
    pub fn deletion(&mut self, deleting: bool, told: Option<Millis>, now: Millis) -> (Millis, Millis) {
        if !deleting {
            self.deleting = None;
            return (0, 0);
        }
        let age = *self.deleting.get_or_insert(Age { told: told.unwrap_or(0), at: now });
        (age.now(now), age.told)
    }

    /// For how long the build has been active; 0 where it has no start. `told`: since then, by the clock that wrote it.
    pub fn active(&mut self, start: Option<&str>, told: Option<Millis>, now: Millis) -> Millis {
        let Some(start) = start else {
            self.active = None;
            return 0;
        };
        match &self.active {
            Some((known, age)) if known == start => age.now(now),
            Some(_) | None => {
                let age = Age { told: told.unwrap_or(0), at: now };
                self.active = Some((start.to_owned(), age));
                age.now(now)
            }
        }
    }

    /// Takes note of what has not begun, by UID; of that, what has not for `patience`.
    pub fn late(&mut self, unstarted: &[&str], patience: Millis, now: Millis) -> Vec<String> {
        self.unstarted.retain(|uid, _| unstarted.contains(&uid.as_str()));
        for uid in unstarted {
            self.unstarted.entry((*uid).to_owned()).or_insert(now);
        }
        let late = self.unstarted.iter().filter(|(_, since)| now.saturating_sub(**since) >= patience);
        late.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes the percent of the whole that is done now.
    pub fn see_percent(&mut self, percent: u32, now: Millis) {
        if self.percents.back().is_none_or(|(_, last)| *last != percent) {
            self.percents.push_back((now, percent));
        }
        while self.percents.len() > 2
            && self.percents.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) > RATE_WINDOW)
        {
            self.percents.pop_front();
        }
    }

    /// Percent of the whole per second; `None` until something was seen to advance.
    #[must_use]
    pub fn percent_per_second(&self, now: Millis) -> Option<f64> {
        let (at, percent) = self.percents.front()?;
        let (_, last) = self.percents.back()?;
        let millis = u32::try_from(now.saturating_sub(*at)).ok()?;
        (last > percent && millis > 500).then(|| f64::from(last - percent) * 1_000.0 / f64::from(millis))
    }
}

/// A node's readiness, as it was seen last.
#[derive(Clone, Debug)]
struct Readiness {
    ready: bool,
    /// When that began, as the node says.
    since: Option<String>,
    age: Age,
    seen: Millis,
}

/// Since when nodes are ready or not, for all builds together.
#[derive(Clone, Debug, Default)]
pub struct NodeObserver {
    nodes: BTreeMap<String, Readiness>,
}

impl NodeObserver {
    /// For how long a node has been ready, or not ready, as it is now. `since`: when that began, as the node says; `told`: its
    /// age by the API server's clock. Nodes' clocks may be wrong: what was seen otherwise meanwhile is no older than that.
    pub fn readiness_age(
        &mut self,
        node: &str,
        ready: bool,
        since: Option<&str>,
        told: Option<Millis>,
        now: Millis,
    ) -> Millis {
        let told = told.unwrap_or(0);
        let fresh = |told| Readiness { ready, since: since.map(str::to_owned), age: Age { told, at: now }, seen: now };
        let seen = self.nodes.entry(node.to_owned()).or_insert_with(|| fresh(told));
        if seen.ready != ready || seen.since.as_deref() != since {
            *seen = fresh(told.min(now.saturating_sub(seen.seen)));
        }
        seen.seen = now;
        seen.age.now(now)
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::Epoch;

    use super::*;

    fn record(renewed: &str, rows: u64) -> Record {
        let mut record = Record::default();
        record.status.report = Some(Report {
            renew_time: renewed.to_owned(),
            rows: Some(rows),
            epoch: Epoch::new(1),
            ..Report::default()
        });
        record
    }

    #[test]
    fn a_renewal_is_a_sign_of_life_and_not_of_progress() {
        let mut observer = Observer::default();
        observer.slots(vec![record("a", 1)], 1_000);
        let seen = observer.slots(vec![record("b", 1)], 6_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 5_000, 5_000));
        let seen = observer.slots(vec![record("b", 1)], 9_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age), (3_000, 8_000));
        let seen = observer.slots(vec![record("c", 2)], 9_500);
        assert_eq!((seen[0].report_age, seen[0].progress_age), (0, 0));
    }

    /// Else an owner that has not read the shorter one yet would be replaced, though it reports as it was told.
    #[test]
    fn a_shorter_interval_counts_once_its_owner_must_have_read_it_and_a_longer_one_at_once() {
        let mut observer = Observer::default();
        let mut look = |seconds: u64, renewed: &str| {
            let mut record = record(renewed, 1);
            record.spec.renew_interval = indexbuild_api::Duration::from_secs(seconds);
            observer.slots(vec![record], 0)[0].longest_interval / 1_000
        };
        assert_eq!(look(5, "a"), 5);
        assert_eq!(look(40, "a"), 40, "it may have read it already");
        assert_eq!(look(5, "b"), 40, "this report may be older than what is told now");
        assert_eq!(look(5, "b"), 40);
        assert_eq!(look(5, "c"), 40, "the read before this one may have come too early");
        assert_eq!(look(5, "d"), 5);
        assert_eq!((look(20, "d"), look(10, "e"), look(5, "f"), look(5, "g")), (20, 20, 20, 20));
        assert_eq!(look(5, "h"), 5);
    }

    #[test]
    fn a_pod_is_late_when_it_was_seen_unstarted_for_long_and_not_after_it_has_started() {
        let mut observer = Observer::default();
        assert!(observer.late(&["a"], 5_000, 1_000).is_empty());
        assert_eq!(observer.late(&["a", "b"], 5_000, 6_000), ["a"]);
        assert!(observer.late(&["b"], 5_000, 10_000).is_empty());
        assert_eq!(observer.late(&["a", "b"], 5_000, 11_000), ["b"], "it counts anew");
    }

    #[test]
    fn an_observer_that_starts_begins_to_count_anew() {
        let mut observer = Observer::default();
        let seen = observer.slots(vec![record("long ago", 1)], 3_600_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 0, 0));
        assert_eq!(observer.deletion(true, None, 3_600_000), (0, 0));
        assert_eq!(observer.deletion(true, None, 3_601_000), (1_000, 0));
        assert_eq!(observer.deletion(false, None, 3_602_000), (0, 0));
    }

    /// A restart in the middle of a deletion, or of a build's time, does not begin it anew; and a clock that jumps
    /// afterwards, or is not known any more, changes nothing.
    #[test]
    fn what_an_object_tells_the_beginning_of_is_counted_from_there_and_a_clock_is_asked_once() {
        for later in [None, Some(0), Some(86_400_000)] {
            let mut observer = Observer::default();
            assert_eq!(observer.deletion(true, Some(50_000), 1_000), (50_000, 50_000));
            assert_eq!(observer.deletion(true, later, 3_000), (52_000, 50_000), "{later:?}");
            assert_eq!(observer.active(Some("a"), Some(7_000), 1_000), 7_000);
            assert_eq!(observer.active(Some("a"), later, 3_000), 9_000, "{later:?}");
        }
    }

    #[test]
    fn a_build_that_goes_on_after_a_pause_has_all_of_its_time_again() {
        let mut observer = Observer::default();
        assert_eq!(observer.active(Some("a"), Some(0), 0), 0);
        assert_eq!(observer.active(Some("a"), Some(0), 9_000), 9_000);
        assert_eq!(observer.active(None, None, 10_000), 0);
        assert_eq!(observer.active(Some("b"), Some(100), 20_000), 100);
        assert_eq!(observer.active(Some("c"), Some(0), 30_000), 0, "the pause itself was not seen");
    }

    /// t11: a pool that is switched off is known to be, also by an observer that starts; but no clock of a node makes one
    /// old that was seen ready a moment ago.
    #[test]
    fn a_node_is_not_ready_since_it_says_so_and_no_longer_than_it_was_seen_otherwise() {
        let mut nodes = NodeObserver::default();
        assert_eq!(nodes.readiness_age("off", false, Some("a"), Some(7_200_000), 0), 7_200_000);
        assert_eq!(nodes.readiness_age("off", false, Some("a"), None, 1_000), 7_201_000);
        assert_eq!(nodes.readiness_age("wrong clock", true, Some("a"), Some(60_000), 0), 60_000);
        assert_eq!(nodes.readiness_age("wrong clock", false, Some("b"), Some(7_200_000), 5_000), 5_000);
        assert_eq!(nodes.readiness_age("wrong clock", false, Some("b"), Some(7_200_000), 6_000), 6_000);
        assert_eq!(
            nodes.readiness_age("wrong clock", false, Some("c"), Some(100), 60_000),
            100,
            "it was ready between"
        );
        assert_eq!(nodes.readiness_age("silent", false, None, None, 60_000), 0, "nothing is told");
    }

    /// Else an owner that nobody could see would be replaced, or a deletion given up, in the moment of sight.
    #[test]
    fn the_time_in_which_a_build_could_not_be_read_is_held_against_nobody() {
        let mut observer = Observer::default();
        observer.slots(vec![record("a", 1)], 0);
        observer.deletion(true, Some(0), 0);
        observer.count_anew();
        let seen = observer.slots(vec![record("a", 1)], 3_600_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 0, 0));
        let (age, unseen) = observer.deletion(true, Some(3_600_000), 3_600_000);
        assert_eq!(age - unseen, 0, "a deletion has its chance again");
    }

    #[test]
    fn a_record_that_was_made_anew_is_not_as_old_as_its_predecessor() {
        let mut observer = Observer::default();
        observer.slots(vec![record("a", 1)], 0);
        observer.slots(Vec::new(), 1_000);
        assert_eq!(observer.slots(vec![record("a", 1)], 2_000)[0].grant_age, 0);
    }

    #[test]
    fn a_rate_is_that_of_the_last_while_and_none_before_anything_advanced() {
        let mut observer = Observer::default();
        assert_eq!(observer.percent_per_second(0), None);
        observer.see_percent(0, 0);
        observer.see_percent(0, 5_000);
        assert_eq!(observer.percent_per_second(5_000), None);
        observer.see_percent(20, 10_000);
        let per_second = observer.percent_per_second(10_000).unwrap();
        assert!((per_second - 2.0).abs() < 1e-9, "{per_second}");
        for (percent, now) in [(30, 90_000), (40, 100_000), (50, 110_000)] {
            observer.see_percent(percent, now);
        }
        let per_second = observer.percent_per_second(110_000).unwrap();
        assert!((per_second - 0.3).abs() < 1e-9, "from 20 % at 10 s on, the last before the while: {per_second}");
    }
}
