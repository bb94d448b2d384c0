//! What the operator remembers of a build between two passes: since when things are as they are, and what it did itself.

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{IndexBuild, IndexBuildStatus};
use indexbuild_lifecycle::Millis;
use indexbuild_lifecycle::observer::Observer;
use indexbuild_lifecycle::world::Share;
use k8s_openapi::api::core::v1::NodeSelector;
use kube::ResourceExt as _;

/// How often a status is written of which numbers alone have changed, where the budget of writes does not ask for less.
const STATUS_INTERVAL: Millis = 10_000;

/// How often the number is written that a build has in the queue: where many wait, each that begins changes all of them.
const QUEUE_INTERVAL: Millis = 60_000;

/// After so long a build that is worked on is read from the API server itself, even where the caches show nothing to
/// do: an event that never came must not make it wait for ever (I5).
const LIVE_LOOK_AT_WORK: Millis = 30_000;

/// The same for a build that has ended.
const LIVE_LOOK_AT_REST: Millis = 3_600_000;

/// So many of its own writes a cache may be behind.
const OWN_VERSIONS: usize = 8;

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
    /// Versions of the build's object that this process's own writes have followed on each other from, the oldest first.
    own_versions: Vec<String>,
    /// What was applied for its executors, so that it is not applied again (I8).
    pub provided: Option<Provided>,
    /// Claims of somebody else under names of ours, by name: the slot and generation that we meant.
    pub foreign_claims: BTreeMap<String, (u32, u32)>,
    /// The nodes that volumes are bound to, by the volume's name; `None`: to none, or they may not be read.
    pub volume_nodes: BTreeMap<String, Option<NodeSelector>>,
    /// Names of stages under which somebody else's object was met that no label tells.
    pub foreign_stages: BTreeSet<String>,
    /// Why the last action for a slot, or with `None` for all of them, failed, where it did.
    pub failed_actions: BTreeMap<Option<u32>, String>,
    /// Whether the API server refused to make something for it because its namespace is being deleted. That does not end.
    pub namespace_ends: bool,
}

impl BuildMemory {
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
        self.status.as_ref().is_none_or(|(_, at)| now.saturating_sub(*at) >= self.status_interval())
    }

    fn status_interval(&self) -> Millis {
        match self.share.queued {
            Some(_) => QUEUE_INTERVAL,
            None => self.share.interval.max(STATUS_INTERVAL),
        }
    }

    /// Notes that a status was written.
    pub(crate) fn wrote_status(&mut self, status: IndexBuildStatus, now: Millis) {
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
    pub(crate) fn version_of(&self, build: &IndexBuild) -> String {
        let seen = build.resource_version().unwrap_or_default();
        let own = self.own_versions.last().filter(|_| self.own_versions.contains(&seen));
        own.cloned().unwrap_or(seen)
    }

    /// Notes that the build's object, as it was looked at, was written, and which version it has by that.
    pub(crate) fn wrote_build(&mut self, build: &IndexBuild, version: String) {
        let on = self.version_of(build);
        if self.own_versions.last() != Some(&on) {
            self.own_versions = vec![on];
        }
        self.own_versions.push(version);
        let surplus = self.own_versions.len().saturating_sub(OWN_VERSIONS);
        self.own_versions.drain(..surplus);
    }

    /// Forgets what was written: somebody else may have changed it.
    pub(crate) fn forget_status(&mut self) {
        self.status = None;
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
    }
    essentials
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Condition, ConditionStatus, ConditionType, Phase, Reason};

    use super::*;

    #[test]
    fn numbers_alone_are_written_at_most_every_ten_seconds_and_a_change_of_state_at_once() {
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
        assert!(!memory.status_is_due(Some(&before), &rows, 19_999));
        assert!(memory.status_is_due(Some(&before), &rows, 20_000));
        memory.share.interval = 40_000;
        assert!(!memory.status_is_due(Some(&before), &rows, 49_999), "all builds together write more than they may");
        assert!(memory.status_is_due(Some(&before), &rows, 50_000));
        let phase = status(1, Phase::Sorting, Reason::Encoding);
        assert!(memory.status_is_due(Some(&before), &phase, 10_001));
        let reason = status(1, Phase::Encoding, Reason::OwnerSilent);
        assert!(memory.status_is_due(Some(&before), &reason, 10_001));
        assert!(memory.status_is_due(None, &before, 0), "a build that nobody has seen yet");
    }

    #[test]
    fn a_write_follows_on_this_processs_own_ones_and_on_nobody_elses() {
        let at = |version: &str| {
            let mut build = IndexBuild::new("orders", indexbuild_api::IndexBuildSpec::default());
            build.metadata.resource_version = Some(version.to_owned());
            build
        };
        let mut memory = BuildMemory::default();
        assert_eq!(memory.version_of(&at("5")), "5");
        memory.wrote_build(&at("5"), "6".to_owned());
        memory.wrote_build(&at("5"), "7".to_owned());
        assert_eq!(["5", "6", "7"].map(|seen| memory.version_of(&at(seen))), ["7", "7", "7"], "the cache is behind");
        assert_eq!(memory.version_of(&at("9")), "9", "somebody else has written");
        memory.wrote_build(&at("9"), "10".to_owned());
        assert_eq!(["7", "9"].map(|seen| memory.version_of(&at(seen))), ["7", "10"], "what was before that is refused");
        for version in 11..40 {
            memory.wrote_build(&at("9"), version.to_string());
        }
        assert!(memory.own_versions.len() <= OWN_VERSIONS);
        memory.forget_status();
        assert_eq!(memory.version_of(&at("38")), "38");
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
