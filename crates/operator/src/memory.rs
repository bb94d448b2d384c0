//! What an observer remembers of a build between two looks: since when things are as they are.
//!
//! All of it is measured on this process's own monotonic clock, and begins anew with the process: two machines'
//! clocks are never compared, and an operator that was away does not hold its absence against anybody.

use std::collections::{BTreeMap, VecDeque};

use indexbuild_api::{Grant, IndexBuildStatus, Report};
use indexbuild_lifecycle::Millis;
use indexbuild_lifecycle::world::{Record, SlotView};

/// Over how long the rate of a build is measured.
const RATE_WINDOW: Millis = 60_000;

/// How often a status is written of which numbers alone have changed.
const STATUS_INTERVAL: Millis = 5_000;

/// After so long a build that is worked on is read from the API server itself, even where the caches show nothing to
/// do: an event that never came must not make it wait for ever (I5).
const LIVE_LOOK_AT_WORK: Millis = 30_000;

/// The same for a build that has ended.
const LIVE_LOOK_AT_REST: Millis = 3_600_000;

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

/// What was applied for a build's executors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provided {
    /// Of which generation of the build's spec.
    pub generation: Option<i64>,
    pub digest: String,
}

/// What is remembered of one build, by its UID.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildMemory {
    slots: BTreeMap<u32, Slot>,
    /// Since when its deletion is known.
    deleting: Option<Millis>,
    /// When it was read from the API server itself.
    live: Option<Millis>,
    percents: VecDeque<(Millis, u32)>,
    /// The status as it was written last, and when.
    status: Option<(IndexBuildStatus, Millis)>,
    /// What was applied for its executors, so that it is not applied again (I8).
    pub provided: Option<Provided>,
    /// Claims of somebody else under names of ours, by name: the slot and generation that we meant.
    pub foreign_claims: BTreeMap<String, (u32, u32)>,
    /// Why the last action for a slot was refused, if it was.
    pub trouble: BTreeMap<u32, String>,
    /// Pods that have not started and claims without a volume, by UID, and since when that is seen.
    unstarted: BTreeMap<String, Millis>,
}

impl BuildMemory {
    /// The views of the slots: their records, and for how long they are as they are.
    pub(crate) fn slots(&mut self, records: Vec<Record>, now: Millis) -> Vec<SlotView> {
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
    pub(crate) fn count_anew(&mut self) {
        self.slots.clear();
        self.unstarted.clear();
        self.deleting = None;
    }

    /// For how long the build's deletion is known; 0 where there is none.
    pub(crate) fn deletion_age(&mut self, deleting: bool, now: Millis) -> Millis {
        if !deleting {
            self.deleting = None;
            return 0;
        }
        now.saturating_sub(*self.deleting.get_or_insert(now))
    }

    /// Takes note of what has not begun, by UID; of that, what has not for `patience`.
    pub(crate) fn late(&mut self, unstarted: &[&str], patience: Millis, now: Millis) -> Vec<String> {
        self.unstarted.retain(|uid, _| unstarted.contains(&uid.as_str()));
        for uid in unstarted {
            self.unstarted.entry((*uid).to_owned()).or_insert(now);
        }
        let late = self.unstarted.iter().filter(|(_, since)| now.saturating_sub(**since) >= patience);
        late.map(|(uid, _)| uid.clone()).collect()
    }

    /// Whether the API server itself is to be asked, whatever the caches show.
    pub(crate) fn live_look_is_due(&mut self, ended: bool, now: Millis) -> bool {
        let interval = if ended { LIVE_LOOK_AT_REST } else { LIVE_LOOK_AT_WORK };
        // The caches were filled by a list when this memory began.
        now.saturating_sub(*self.live.get_or_insert(now)) >= interval
    }

    /// Notes that the API server itself was asked.
    pub(crate) fn looked_live(&mut self, now: Millis) {
        self.live = Some(now);
    }

    /// Takes the percent of the whole that is done now.
    pub(crate) fn see_percent(&mut self, percent: u32, now: Millis) {
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
    pub(crate) fn percent_per_second(&self, now: Millis) -> Option<f64> {
        let (at, percent) = self.percents.front()?;
        let (_, last) = self.percents.back()?;
        let millis = u32::try_from(now.saturating_sub(*at)).ok()?;
        (last > percent && millis > 500).then(|| f64::from(last - percent) * 1_000.0 / f64::from(millis))
    }

    /// Whether a status is to be written now: something that people or programs wait for has changed, or numbers
    /// have and the last write is some seconds old (conventions: at most every 5 s).
    pub(crate) fn status_is_due(
        &self,
        before: Option<&IndexBuildStatus>,
        after: &IndexBuildStatus,
        now: Millis,
    ) -> bool {
        let Some(before) = before else {
            return true;
        };
        if before == after {
            return false;
        }
        if essentials(before) != essentials(after) {
            return true;
        }
        self.status.as_ref().is_none_or(|(_, at)| now.saturating_sub(*at) >= STATUS_INTERVAL)
    }

    /// Notes that a status was written.
    pub(crate) fn wrote_status(&mut self, status: IndexBuildStatus, now: Millis) {
        self.status = Some((status, now));
    }

    /// The status that holds: what this process wrote last, where the cache may not have it yet.
    pub(crate) fn newest_status(&self, seen: Option<&IndexBuildStatus>) -> Option<IndexBuildStatus> {
        self.status.as_ref().map(|(status, _)| status.clone()).or_else(|| seen.cloned())
    }

    /// Forgets what was written: somebody else may have changed it.
    pub(crate) fn forget_status(&mut self) {
        self.status = None;
    }
}

/// A status without the numbers that change all the time, with every slot and every work.
fn essentials(status: &IndexBuildStatus) -> IndexBuildStatus {
    let mut essentials = IndexBuildStatus {
        progress: None,
        percent: None,
        executors: None,
        slots: None,
        works: None,
        volumes: None,
        rows: None,
        entries: None,
        bytes: None,
        estimated_end_time: None,
        ..status.clone()
    };
    for condition in &mut essentials.conditions {
        // Messages carry numbers too; a change of what they say comes with a change of the reason.
        condition.message = String::new();
    }
    essentials
}

/// Since when nodes are ready or not, for all builds together.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeMemory {
    ready: BTreeMap<String, Since<bool>>,
}

impl NodeMemory {
    /// For how long a node has been ready, or not ready, as it is now.
    pub(crate) fn readiness_age(&mut self, node: &str, ready: bool, now: Millis) -> Millis {
        let seen = self.ready.entry(node.to_owned()).or_insert_with(|| Since::new(ready, now));
        seen.see(ready, now);
        seen.age(now)
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Condition, ConditionStatus, ConditionType, Phase, Reason};

    use super::*;

    fn record(renewed: &str, rows: u64) -> Record {
        let mut record = Record::default();
        record.status.report =
            Some(Report { renew_time: renewed.to_owned(), rows: Some(rows), epoch: 1, ..Report::default() });
        record
    }

    #[test]
    fn a_renewal_is_a_sign_of_life_and_not_of_progress() {
        let mut memory = BuildMemory::default();
        memory.slots(vec![record("a", 1)], 1_000);
        let seen = memory.slots(vec![record("b", 1)], 6_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 5_000, 5_000));
        let seen = memory.slots(vec![record("b", 1)], 9_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age), (3_000, 8_000));
        let seen = memory.slots(vec![record("c", 2)], 9_500);
        assert_eq!((seen[0].report_age, seen[0].progress_age), (0, 0));
    }

    #[test]
    fn a_pod_is_late_when_it_was_seen_unstarted_for_long_and_not_after_it_has_started() {
        let mut memory = BuildMemory::default();
        assert!(memory.late(&["a"], 5_000, 1_000).is_empty());
        assert_eq!(memory.late(&["a", "b"], 5_000, 6_000), ["a"]);
        assert!(memory.late(&["b"], 5_000, 10_000).is_empty());
        assert_eq!(memory.late(&["a", "b"], 5_000, 11_000), ["b"], "it counts anew");
    }

    #[test]
    fn an_observer_that_starts_begins_to_count_anew() {
        let mut memory = BuildMemory::default();
        let seen = memory.slots(vec![record("long ago", 1)], 3_600_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 0, 0));
        assert_eq!(memory.deletion_age(true, 3_600_000), 0);
        assert_eq!(memory.deletion_age(true, 3_601_000), 1_000);
    }

    /// Else an owner that nobody could see would be replaced, or a deletion given up, in the moment of sight.
    #[test]
    fn the_time_in_which_a_build_could_not_be_read_is_held_against_nobody() {
        let mut memory = BuildMemory::default();
        memory.slots(vec![record("a", 1)], 0);
        memory.deletion_age(true, 0);
        memory.count_anew();
        let seen = memory.slots(vec![record("a", 1)], 3_600_000);
        assert_eq!((seen[0].report_age, seen[0].progress_age, seen[0].grant_age), (0, 0, 0));
        assert_eq!(memory.deletion_age(true, 3_600_000), 0);
    }

    #[test]
    fn a_record_that_was_made_anew_is_not_as_old_as_its_predecessor() {
        let mut memory = BuildMemory::default();
        memory.slots(vec![record("a", 1)], 0);
        memory.slots(Vec::new(), 1_000);
        assert_eq!(memory.slots(vec![record("a", 1)], 2_000)[0].grant_age, 0);
    }

    #[test]
    fn numbers_alone_are_written_at_most_every_five_seconds_and_a_change_of_state_at_once() {
        let condition = |reason| Condition {
            condition_type: ConditionType::Progressing,
            status: ConditionStatus::True,
            reason,
            message: String::new(),
            last_transition_time: None,
            observed_generation: None,
        };
        let status = |rows, phase, reason| IndexBuildStatus {
            rows: Some(rows),
            phase: Some(phase),
            conditions: vec![condition(reason)],
            ..IndexBuildStatus::default()
        };
        let before = status(1, Phase::Encoding, Reason::Encoding);
        let mut memory = BuildMemory::default();
        memory.wrote_status(before.clone(), 10_000);
        assert!(!memory.status_is_due(Some(&before), &before, 60_000), "I8: nothing to say, nothing written");
        let rows = status(2, Phase::Encoding, Reason::Encoding);
        assert!(!memory.status_is_due(Some(&before), &rows, 14_999));
        assert!(memory.status_is_due(Some(&before), &rows, 15_000));
        let phase = status(1, Phase::Sorting, Reason::Encoding);
        assert!(memory.status_is_due(Some(&before), &phase, 10_001));
        let reason = status(1, Phase::Encoding, Reason::OwnerSilent);
        assert!(memory.status_is_due(Some(&before), &reason, 10_001));
        assert!(memory.status_is_due(None, &before, 0), "a build that nobody has seen yet");
    }

    /// I5.
    #[test]
    fn caches_that_show_nothing_to_do_are_not_believed_for_ever() {
        let mut memory = BuildMemory::default();
        assert!(!memory.live_look_is_due(false, 1_000), "the caches were just filled");
        assert!(!memory.live_look_is_due(false, 30_999));
        assert!(memory.live_look_is_due(false, 31_000));
        assert!(!memory.live_look_is_due(true, 31_000), "one that has ended is looked at less often");
        memory.looked_live(31_000);
        assert!(!memory.live_look_is_due(false, 60_999));
    }
}
