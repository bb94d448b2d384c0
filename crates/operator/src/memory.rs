//! What the operator remembers of a build between two passes: since when things are as they are, and what it did itself.

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{ConditionStatus, ConditionType, IndexBuildStatus, Reason};
use indexbuild_lifecycle::Millis;
use indexbuild_lifecycle::observer::Observer;
use indexbuild_lifecycle::world::Share;
use indexbuild_lifecycle::writes::numbers_after;
use k8s_openapi::api::core::v1::NodeSelector;
use kube::core::ObjectMeta;

/// How often the number is written that a build has in the queue: where many wait, each that begins changes all of them.
const QUEUE_INTERVAL: Millis = 60_000;

/// After so long a build that is worked on is read from the API server itself, even where the caches show nothing to
/// do: an event that never came must not make it wait for ever (I5).
const LIVE_LOOK_AT_WORK: Millis = 30_000;

/// The same for a build that has ended.
const LIVE_LOOK_AT_REST: Millis = 3_600_000;

/// So many of its own writes a cache may be behind.
const OWN_VERSIONS: usize = 8;

/// So many names of somebody else's pods are remembered: more than slots make pods in one pass.
const FOREIGN_PODS: usize = 1_024;

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
    /// Since when what is seen of it is as it is.
    pub observer: Observer,
    /// What it was told of the budget of writes.
    pub share: Share,
    /// When it was read from the API server itself.
    live: Option<Millis>,
    /// The status as it was written last, and when.
    status: Option<(IndexBuildStatus, Millis)>,
    /// How often it was written, since anything else had changed, because numbers had.
    numbers_told: u32,
    /// The status at the last of this process's own versions, where it is known.
    at_own: Option<IndexBuildStatus>,
    /// Versions of the build's object that this process's own writes have followed on each other from, the oldest first.
    own_versions: Vec<String>,
    /// What was applied for its executors, so that it is not applied again (I8).
    pub provided: Option<Provided>,
    /// Claims of somebody else under names of ours, by name: the slot and generation that we meant.
    pub foreign_claims: BTreeMap<String, (u32, u32)>,
    /// Names of pods under which somebody else's pod was met.
    pub foreign_pods: BTreeSet<String>,
    /// The nodes that volumes are bound to, by the volume's name; `None`: to none, or they may not be read.
    pub volume_nodes: BTreeMap<String, Option<NodeSelector>>,
    /// Names of stages under which somebody else's object was met that no label tells.
    pub foreign_stages: BTreeSet<String>,
    /// Why the last action for a slot, or with `None` for all of them, failed, where it did.
    pub failed_actions: BTreeMap<Option<u32>, String>,
    /// Whether something hindered it when it was looked at last: what its status says then, a decision alone does not know.
    pub hindered: bool,
    /// Whether the API server refused to make something for it because its namespace is being deleted. That does not end.
    pub namespace_ends: bool,
}

impl BuildMemory {
    /// Notes that a pod which was to be made has the name of somebody else's. Names are never used again (G10), so that the
    /// latest are enough.
    pub(crate) fn met_foreign_pod(&mut self, name: &str) {
        if self.foreign_pods.len() >= FOREIGN_PODS {
            self.foreign_pods.pop_first();
        }
        self.foreign_pods.insert(name.to_owned());
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

    /// Whether a status is to be written now: something that people or programs wait for has changed, or numbers
    /// have and the last write is old enough.
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
        // What a build waits for is told as soon as its first numbers, however long it has worked.
        let told = if words(before) == words(after) { self.numbers_told } else { 0 };
        self.status.as_ref().is_none_or(|(_, at)| now.saturating_sub(*at) >= self.status_interval(told))
    }

    fn status_interval(&self, told: u32) -> Millis {
        match self.share.queued {
            Some(_) => QUEUE_INTERVAL,
            None => numbers_after(told, self.share.interval),
        }
    }

    /// Notes that a status was written, and which version the build's object has by that.
    pub(crate) fn wrote_status(&mut self, status: IndexBuildStatus, version: String, now: Millis) {
        if self.own_versions.last() == Some(&version) {
            self.at_own = Some(status.clone());
        }
        let alone = self.status.as_ref().is_some_and(|(before, _)| essentials(before) == essentials(&status));
        self.numbers_told = if alone { self.numbers_told.saturating_add(1) } else { 0 };
        self.status = Some((status, now));
    }

    /// The status that holds: what this process wrote last, where the cache may not have it yet.
    /// Which stages are frozen is written apart, and never from memory.
    pub(crate) fn newest_status(&self, seen: Option<&IndexBuildStatus>) -> Option<IndexBuildStatus> {
        let frozen_stages = seen.and_then(|seen| seen.frozen_stages.clone());
        let written = self.status.as_ref().map(|(status, _)| IndexBuildStatus { frozen_stages, ..status.clone() });
        written.or_else(|| seen.cloned())
    }

    /// The version that a write of the build's object follows on: that which was looked at, or what this process itself
    /// has made of it since, as a cache shows that a moment later. Of anybody else's write this knows nothing: then the
    /// API server refuses.
    fn version_of(&self, build: &ObjectMeta) -> String {
        let seen = build.resource_version.clone().unwrap_or_default();
        let own = self.own_versions.last().filter(|_| self.own_versions.contains(&seen));
        own.cloned().unwrap_or(seen)
    }

    /// The version that a write of the build's status follows on, and the status there, of an object that was looked at with
    /// this `status`. What a write changes is made out against exactly that.
    pub(crate) fn base_of(
        &self,
        build: &ObjectMeta,
        status: Option<&IndexBuildStatus>,
    ) -> (String, Option<IndexBuildStatus>) {
        let (seen, version) = (build.resource_version.clone().unwrap_or_default(), self.version_of(build));
        match &self.at_own {
            Some(at_own) if version != seen => (version, Some(at_own.clone())),
            // What is not known is not written over: the API server refuses, and the next look is a live one.
            Some(_) | None => (seen, status.cloned()),
        }
    }

    /// Notes that the build's object, as it was looked at, was written, and which version it has by that. That write is
    /// taken for one that leaves the status as it was, until [`Self::wrote_status`] says otherwise.
    pub(crate) fn wrote_build(&mut self, build: &ObjectMeta, status: Option<&IndexBuildStatus>, version: String) {
        let (_, at_own) = self.base_of(build, status);
        let on = self.version_of(build);
        if self.own_versions.last() != Some(&on) {
            self.own_versions = vec![on];
        }
        self.at_own = at_own;
        self.own_versions.push(version);
        let surplus = self.own_versions.len().saturating_sub(OWN_VERSIONS);
        self.own_versions.drain(..surplus);
    }

    /// Forgets what was written: somebody else may have changed it.
    pub(crate) fn forget_status(&mut self) {
        self.status = None;
        self.numbers_told = 0;
        self.at_own = None;
        self.own_versions.clear();
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
        last_wait: None,
        ..status.clone()
    };
    for condition in &mut essentials.conditions {
        // Messages carry numbers too; a change of what they say comes with a change of the reason.
        condition.message = String::new();
        // Whether there are volumes, where nothing is wrong with any, is a number too.
        if condition.condition_type == ConditionType::VolumesHeld && condition.status == ConditionStatus::False {
            condition.reason = Reason::AsExpected;
        }
    }
    essentials
}

/// What a status says in words, without the numbers in them; and how many executors there are of those that are wanted.
fn words(status: &IndexBuildStatus) -> Vec<String> {
    let conditions = status.conditions.iter().map(|condition| condition.message.as_str());
    let waits = status.last_wait.iter().map(|wait| wait.message.as_str());
    let texts = conditions.chain(waits).map(|text| text.replace(|letter: char| letter.is_ascii_digit(), ""));
    texts.chain(status.executors.clone()).collect()
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Condition, Phase};

    use super::*;

    fn at(version: &str) -> ObjectMeta {
        ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn numbers_alone_are_written_ever_more_seldom_and_a_change_of_state_at_once() {
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
        memory.wrote_status(before.clone(), "5".to_owned(), 10_000);
        assert!(!memory.status_is_due(Some(&before), &before, 60_000), "I8: nothing to say, nothing written");
        let rows = status(2, Phase::Encoding, Reason::Encoding);
        assert!(!memory.status_is_due(Some(&before), &rows, 19_999));
        assert!(memory.status_is_due(Some(&before), &rows, 20_000));
        memory.share.interval = 40_000;
        assert!(!memory.status_is_due(Some(&before), &rows, 49_999), "all builds together write more than they may");
        assert!(memory.status_is_due(Some(&before), &rows, 50_000));
        memory.share.interval = 0;
        let phase = status(1, Phase::Sorting, Reason::Encoding);
        assert!(memory.status_is_due(Some(&before), &phase, 10_001));
        let reason = status(1, Phase::Encoding, Reason::OwnerSilent);
        assert!(memory.status_is_due(Some(&before), &reason, 10_001));
        assert!(memory.status_is_due(None, &before, 0), "a build that nobody has seen yet");
        // The longer nothing else changes, the more seldom; after a turn of the build as at first.
        memory.wrote_status(rows.clone(), "6".to_owned(), 20_000);
        let more = status(3, Phase::Encoding, Reason::Encoding);
        assert_eq!([39_999, 40_000].map(|now| memory.status_is_due(Some(&rows), &more, now)), [false, true]);
        let mut waits = more.clone();
        waits.conditions[0].message = "slot 3 waits for a store".to_owned();
        assert_eq!([29_999, 30_000].map(|now| memory.status_is_due(Some(&rows), &waits, now)), [false, true]);
        memory.wrote_status(phase.clone(), "7".to_owned(), 41_000);
        let next = status(4, Phase::Sorting, Reason::Encoding);
        assert_eq!([50_999, 51_000].map(|now| memory.status_is_due(Some(&phase), &next, now)), [false, true]);
    }

    #[test]
    fn a_write_follows_on_this_processs_own_ones_and_on_nobody_elses() {
        let mut memory = BuildMemory::default();
        assert_eq!(memory.version_of(&at("5")), "5");
        memory.wrote_build(&at("5"), None, "6".to_owned());
        memory.wrote_build(&at("5"), None, "7".to_owned());
        assert_eq!(["5", "6", "7"].map(|seen| memory.version_of(&at(seen))), ["7", "7", "7"], "the cache is behind");
        assert_eq!(memory.version_of(&at("9")), "9", "somebody else has written");
        memory.wrote_build(&at("9"), None, "10".to_owned());
        assert_eq!(["7", "9"].map(|seen| memory.version_of(&at(seen))), ["7", "10"], "what was before that is refused");
        for version in 11..40 {
            memory.wrote_build(&at("9"), None, version.to_string());
        }
        assert!(memory.own_versions.len() <= OWN_VERSIONS);
        memory.forget_status();
        assert_eq!(memory.version_of(&at("38")), "38");
    }

    #[test]
    fn that_a_build_has_volumes_is_told_with_its_numbers_and_that_one_is_held_at_once() {
        let status = |held, reason| IndexBuildStatus {
            conditions: vec![Condition {
                condition_type: ConditionType::VolumesHeld,
                status: held,
                reason,
                message: String::new(),
                last_transition_time: None,
                observed_generation: None,
            }],
            ..IndexBuildStatus::default()
        };
        let none = status(ConditionStatus::False, Reason::NoVolumes);
        let mut memory = BuildMemory::default();
        memory.wrote_status(none.clone(), "5".to_owned(), 0);
        let due = |after: IndexBuildStatus| memory.status_is_due(Some(&none), &after, 5_000);
        assert!(!due(status(ConditionStatus::False, Reason::AsExpected)));
        assert!(due(status(ConditionStatus::True, Reason::VolumesRetained)), "a person may have to do something");
        let stranded = status(ConditionStatus::True, Reason::VolumesStranded);
        memory.wrote_status(stranded.clone(), "6".to_owned(), 0);
        assert!(memory.status_is_due(Some(&stranded), &status(ConditionStatus::True, Reason::VolumesRetained), 5_000));
    }

    /// What a write changes is made out against the status at the version that it follows on: against any other it would leave
    /// something unwritten, or be refused as no object.
    #[test]
    fn the_status_that_a_write_changes_is_the_one_at_the_version_that_it_follows_on() {
        let status = |rows| IndexBuildStatus { rows: Some(rows), ..IndexBuildStatus::default() };
        let base = |memory: &BuildMemory, seen: &str, rows: u64| {
            let (version, there) = memory.base_of(&at(seen), Some(&status(rows)));
            (version, there.unwrap().rows.unwrap())
        };
        let mut memory = BuildMemory::default();
        assert_eq!(base(&memory, "5", 1), ("5".to_owned(), 1));
        // The finalizer, then a status, then the list of stages, which leaves the rest of the status alone.
        memory.wrote_build(&at("5"), Some(&status(1)), "6".to_owned());
        assert_eq!(base(&memory, "5", 1), ("6".to_owned(), 1));
        memory.wrote_build(&at("5"), Some(&status(1)), "7".to_owned());
        memory.wrote_status(status(2), "7".to_owned(), 0);
        assert_eq!(base(&memory, "5", 1), ("7".to_owned(), 2));
        memory.wrote_build(&at("5"), Some(&status(1)), "8".to_owned());
        assert_eq!(base(&memory, "6", 1), ("8".to_owned(), 2));
        assert_eq!(base(&memory, "8", 2), ("8".to_owned(), 2));
        // Somebody else's status, and then a finalizer of ours on it: ours is not what stands there.
        assert_eq!(base(&memory, "9", 7), ("9".to_owned(), 7));
        memory.wrote_build(&at("9"), Some(&status(7)), "10".to_owned());
        assert_eq!(base(&memory, "9", 7), ("10".to_owned(), 7));
        memory.forget_status();
        assert_eq!(base(&memory, "9", 7), ("9".to_owned(), 7), "the API server refuses what is behind");
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
