//! What an observer remembers of a build between two looks: since when things are as they are.
//!
//! All of it is measured on the observer's own monotonic clock, and begins anew with the process: two machines' clocks are
//! never compared, and a control plane that was away does not hold its absence against anybody.

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

#[derive(Clone, Debug)]
struct Slot {
    report: Since<Option<Report>>,
    progress: Since<Option<Report>>,
    grant: Since<Option<Grant>>,
}

impl Slot {
    fn new(record: &Record, now: Millis) -> Self {
        Self {
            report: Since::new(record.status.report.clone(), now),
            progress: Since::new(progress(record), now),
            grant: Since::new(record.spec.grant.clone(), now),
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
    /// Since when its deletion is known.
    deleting: Option<Millis>,
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
                seen.report.see(record.status.report.clone(), now);
                seen.progress.see(progress(&record), now);
                seen.grant.see(record.spec.grant.clone(), now);
                SlotView {
                    report_age: seen.report.age(now),
                    progress_age: seen.progress.age(now),
                    grant_age: seen.grant.age(now),
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
    }

    /// For how long the build's deletion is known; 0 where there is none.
    pub fn deletion_age(&mut self, deleting: bool, now: Millis) -> Millis {
        if !deleting {
            self.deleting = None;
            return 0;
        }
        now.saturating_sub(*self.deleting.get_or_insert(now))
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

/// Since when nodes are ready or not, for all builds together.
#[derive(Clone, Debug, Default)]
pub struct NodeObserver {
    ready: BTreeMap<String, Since<bool>>,
}

impl NodeObserver {
    /// For how long a node has been ready, or not ready, as it is now.
    pub fn readiness_age(&mut self, node: &str, ready: bool, now: Millis) -> Millis {
        let seen = self.ready.entry(node.to_owned()).or_insert_with(|| Since::new(ready, now));
        seen.see(ready, now);
        seen.age(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(renewed: &str, rows: u64) -> Record {
        let mut record = Record::default();
        record.status.report =
            Some(Report { renew_time: renewed.to_owned(), rows: Some(rows), epoch: 1, ..Report::default() });
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
        assert_eq!(observer.deletion_age(true, 3_600_000), 0);
        assert_eq!(observer.deletion_age(true, 3_601_000), 1_000);
    }

    /// Else an owner that nobody could see would be replaced, or a deletion given up, in the moment of sight.
    #[test]
    fn the_time_in_which_a_build_could_not_be_read_is_held_against_nobody() {
        let mut observer = Observer::default();
        observer.slots(vec![record("a", 1)], 0);
        observer.deletion_age(true, 0);
        observer.count_anew();
        let seen = observer.slots(vec![record("a", 1)], 3_600_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 0, 0));
        assert_eq!(observer.deletion_age(true, 3_600_000), 0);
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
