//! What a pass tells beside the build's status: events, metrics, whether ownership is enforced.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use indexbuild_api::{ConditionStatus, ConditionType, IndexBuildStatus, Phase, Unreadable, VolumeCounts};
use indexbuild_lifecycle::plan::unreadable_event;
use indexbuild_lifecycle::world::Enforcement;
use kube::{Client, ResourceExt as _};

use crate::caches::{Caches, readable};
use crate::events::Announcer;
use crate::metrics::{BuildEnd, Metrics};
use crate::self_test::SelfTest;
use crate::unreadable::Known;

/// What all passes tell through.
pub(crate) struct Reporting {
    pub events: Announcer,
    pub metrics: Metrics,
    unreadable: Mutex<Known>,
    enforcement: RwLock<Enforcement>,
}

impl Reporting {
    #[must_use]
    pub(crate) fn new(client: Client, metrics: Metrics, identity: &str, lease: (&str, &str)) -> Self {
        let events = Announcer::new(client, identity).led_by(lease.0, lease.1);
        let enforcement = RwLock::new(SelfTest::new().answer().clone());
        Self { events, metrics, unreadable: Mutex::default(), enforcement }
    }

    /// Whether the API server refuses reports of anybody but the owner.
    pub(crate) fn enforcement(&self) -> Enforcement {
        self.enforcement.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries whether ownership is enforced, where that is due and there is a record to try it on.
    pub(crate) async fn try_ownership(&self, test: &mut SelfTest, client: &Client, all: &[Caches]) {
        if !test.is_due(Instant::now()) {
            return;
        }
        let mut records: Vec<_> = all.iter().flat_map(|caches| readable(&caches.directories)).collect();
        if records.is_empty() {
            return;
        }
        // Always the same one while it is there: its name is in what people are told.
        records.sort_by_key(|record| (record.namespace(), record.name_any()));
        let answer = test.run(client, records.iter().map(Arc::as_ref)).await;
        self.metrics.set_ownership(answer);
        *self.enforcement.write().unwrap_or_else(PoisonError::into_inner) = answer.clone();
    }

    /// Tells of what is there and cannot be read: once in the log, as an event of the object, and as long as it is so in
    /// the metrics.
    pub(crate) async fn tell_unreadable(&self, unreadable: &[Unreadable]) {
        let new = self.known().see(unreadable, Instant::now());
        for one in &new {
            tracing::warn!(
                kind = one.kind,
                namespace = one.namespace,
                name = one.name,
                "{}",
                unreadable_event(std::slice::from_ref(one)).message
            );
        }
        self.count_unreadable();
        futures::future::join_all(new.iter().map(|one| self.events.publish_unreadable(one))).await;
    }

    /// Forgets what can be read again, or is gone.
    pub(crate) fn forget_readable(&self) {
        for one in self.known().forget(Instant::now()) {
            let Unreadable { kind, namespace, name, .. } = one;
            tracing::info!(kind, namespace, name, "an object that could not be read is readable, or gone");
        }
        self.count_unreadable();
    }

    fn count_unreadable(&self) {
        let counts = self.known().count();
        self.metrics.set_unreadable(&counts);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the ends that a status says and the one before did not: once, by whoever wrote it. What had ended before this
    /// process began is told by no counter of it, else each change of leaders would look like builds that fail.
    pub(crate) fn count_ends(&self, before: Option<&IndexBuildStatus>, written: &IndexBuildStatus) {
        for (condition_type, end) in
            [(ConditionType::Complete, BuildEnd::Complete), (ConditionType::Failed, BuildEnd::Failed)]
        {
            let new = holds(written, condition_type) && !before.is_some_and(|before| holds(before, condition_type));
            if new {
                self.metrics.ended(end);
            }
        }
    }

    /// Counts builds, slots and volumes.
    pub(crate) fn count(&self, all: &[Caches]) {
        let builds: Vec<_> = all.iter().flat_map(|caches| readable(&caches.builds)).collect();
        let status = |build: &indexbuild_api::IndexBuild| build.status.clone().unwrap_or_default();
        self.metrics.set_builds(builds.iter().map(|build| status(build).phase.unwrap_or(Phase::Pending)));
        let stalled = |build: &indexbuild_api::IndexBuild| {
            let status = status(build);
            let stalled = status.condition(ConditionType::Stalled)?;
            (stalled.status == ConditionStatus::True && !holds(&status, ConditionType::Failed))
                .then_some(stalled.reason)
        };
        self.metrics.set_stalled(builds.iter().filter_map(|build| stalled(build)));
        let records = all.iter().flat_map(|caches| readable(&caches.directories));
        self.metrics
            .set_slots(records.map(|record| record.status.as_ref().map(|status| status.state).unwrap_or_default()));
        let mut sum = VolumeCounts::default();
        for build in &builds {
            let VolumeCounts { held, stranded, retained } = status(build).volumes.unwrap_or_default();
            sum.held = sum.held.saturating_add(held);
            sum.stranded = sum.stranded.saturating_add(stranded);
            sum.retained = sum.retained.saturating_add(retained);
        }
        self.metrics.set_volumes(sum);
    }
}

fn holds(status: &IndexBuildStatus, condition_type: ConditionType) -> bool {
    status.condition(condition_type).is_some_and(|condition| condition.status == ConditionStatus::True)
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Condition, Reason};

    use super::*;

    fn status(condition_type: ConditionType) -> IndexBuildStatus {
        let condition = Condition {
            condition_type,
            status: ConditionStatus::True,
            reason: Reason::Published,
            message: String::new(),
            last_transition_time: None,
            observed_generation: None,
        };
        IndexBuildStatus { conditions: vec![condition], ..IndexBuildStatus::default() }
    }

    /// A new leader finds four builds that have failed, and writes the status of one of them for another reason.
    #[tokio::test]
    async fn an_end_is_counted_by_whoever_wrote_it_and_not_by_the_next_leader() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let reporting = Reporting::new(client, Metrics::new(), "a", ("b", "c"));
        let (failed, complete) = (status(ConditionType::Failed), status(ConditionType::Complete));
        for _ in 0..4 {
            reporting.count_ends(Some(&failed), &failed);
        }
        let counted = || {
            let text = reporting.metrics.text().unwrap();
            let of = |result: &str| {
                let line = format!("indexbuild_builds_ended_total{{result=\"{result}\"}} ");
                text.lines().find_map(|other| other.strip_prefix(&line)?.parse::<u64>().ok()).unwrap()
            };
            (of("complete"), of("failed"))
        };
        assert_eq!(counted(), (0, 0));
        reporting.count_ends(Some(&status(ConditionType::Progressing)), &failed);
        reporting.count_ends(None, &complete);
        assert_eq!(counted(), (1, 1));
    }
}
