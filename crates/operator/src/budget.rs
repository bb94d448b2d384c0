//! The budget of writes that all builds have together: who asks for how much of it, as the caches show them. What becomes of
//! that the lifecycle says.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use indexbuild_api::{ConditionStatus, ConditionType, Guarded, IndexBuild, Phase, labels};
use indexbuild_lifecycle::plan::unsupported;
use indexbuild_lifecycle::world::Share;
use indexbuild_lifecycle::writes::{Asks, Shares, share};
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;

use crate::metrics::Metrics;

/// So many writes in a second have all builds together where nobody says otherwise: half of what a small control plane takes
/// (some 50 in a second), as what a slot costs beside its reports, and everybody else, needs the rest.
pub const WRITES_PER_SECOND: u32 = 25;

/// How old an answer may be: with thousands of builds one for each pass would be work for nothing.
const FRESH: Duration = Duration::from_secs(1);

pub(crate) struct Budget {
    writes_per_second: u32,
    metrics: Metrics,
    builds: Vec<Store<Guarded<IndexBuild>>>,
    divided: Mutex<Divided>,
}

#[derive(Debug, Default)]
struct Divided {
    at: Option<Instant>,
    shares: Shares,
    /// Builds that this process lets work: their status says so a moment later.
    begun: HashSet<String>,
    /// Those that were asked about, and wait or work.
    known: HashSet<String>,
}

impl Budget {
    /// Of the builds in these caches.
    pub(crate) fn new(writes_per_second: u32, metrics: Metrics, builds: Vec<Store<Guarded<IndexBuild>>>) -> Self {
        let this = Self { writes_per_second, metrics, builds, divided: Mutex::default() };
        this.divide(&mut this.lock(), Instant::now());
        this
    }

    fn lock(&self) -> MutexGuard<'_, Divided> {
        self.divided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a build is told.
    pub(crate) fn share_of(&self, uid: &str) -> Share {
        let now = Instant::now();
        let mut divided = self.lock();
        let is_old = divided.at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH);
        if is_old || !divided.known.contains(uid) {
            self.divide(&mut divided, now);
        }
        divided.shares.of(uid)
    }

    /// Divides the budget anew, as time passes.
    pub(crate) fn look(&self) {
        self.divide(&mut self.lock(), Instant::now());
    }

    fn divide(&self, divided: &mut Divided, now: Instant) {
        let mut all: Vec<Asks> = Vec::new();
        for build in self.builds.iter().flat_map(Store::state) {
            if let Ok(build) = build.read() {
                all.extend(asks(&build, &divided.begun));
            }
        }
        // What a cache that was never filled lacks may be at work: nobody begins before it is known.
        let known = self.builds.iter().all(|builds| builds.wait_until_ready().now_or_never().is_some());
        let shares = if known {
            share(self.writes_per_second, &all)
        } else {
            let at_work: Vec<Asks> = all.iter().filter(|asks| asks.begun).cloned().collect();
            let waiting = all.iter().filter(|asks| !asks.begun).map(|asks| asks.uid.clone()).collect();
            Shares { waiting, ..share(self.writes_per_second, &at_work) }
        };
        self.metrics.set_budget(&shares);
        divided.known = all.into_iter().map(|asks| asks.uid).collect();
        divided.begun = divided.known.iter().filter(|uid| !shares.waiting.contains(uid)).cloned().collect();
        divided.shares = shares;
        divided.at = Some(now);
    }
}

/// What a build asks for; nothing, where it neither works nor is about to. `admitted`: those that this process lets work.
fn asks(build: &IndexBuild, admitted: &HashSet<String>) -> Option<Asks> {
    let uid = build.uid()?;
    let status = build.status.as_ref();
    let finished = status.and_then(|status| status.condition(ConditionType::Finished));
    let finished = finished.is_some_and(|finished| finished.status == ConditionStatus::True);
    let deleting = build.metadata.deletion_timestamp.is_some();
    let at_rest = status.is_some_and(|status| matches!(status.phase, Some(Phase::Complete | Phase::Failed)));
    if finished && at_rest && !deleting {
        return None;
    }
    // By its start a build is known that was let begin, also by an operator that is not any more: it waits without one, and
    // a pause takes it away.
    let begun = status.is_some_and(|status| status.start_time.is_some());
    let disabled = build.annotations().get(labels::RECONCILE).is_some_and(|value| value == labels::RECONCILE_DISABLED);
    let cleans = deleting || finished;
    if !cleans && (build.spec.suspend || (disabled && !begun) || unsupported(&build.spec, 0, None, "").is_some()) {
        return None;
    }
    let made = build.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    Some(Asks {
        made: made.unwrap_or_default(),
        begun: cleans || begun || admitted.contains(&uid),
        // One cleans; the others have nothing to report.
        owners: if cleans { 1 } else { build.spec.parallelism },
        own_interval: build.spec.renew_interval().as_millis(),
        replace_after: build.spec.disruption_or_default().replace_after.as_millis(),
        uid,
    })
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    /// Of 10 slots, all of which write 2.2 times a second at 5 s, which is all that its patience allows.
    fn build(number: usize, more: Value) -> Value {
        let mut build = serde_json::to_value(crate::objects::tests::build("")).unwrap();
        build["metadata"]["name"] = json!(format!("b{number}"));
        build["metadata"]["uid"] = json!(format!("u{number}"));
        build["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{number:02}Z"));
        build["spec"]["parallelism"] = json!(10);
        build["spec"]["disruption"] = json!({"replaceAfter": "15s", "orphanAfter": "60s"});
        build["spec"]["output"]["url"] = json!("s3://indexes/");
        for (part, value) in more.as_object().unwrap() {
            match value.as_object() {
                Some(fields) if build[part].is_object() => {
                    fields.iter().for_each(|(field, value)| build[part][field] = value.clone());
                }
                _ => build[part] = value.clone(),
            }
        }
        build
    }

    fn budget(writes_per_second: u32, builds: &[Value]) -> (Budget, reflector::store::Writer<Guarded<IndexBuild>>) {
        let (reader, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Init);
        for build in builds {
            writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(build.clone()).unwrap()));
        }
        writer.apply_watcher_event(&Event::InitDone);
        (Budget::new(writes_per_second, Metrics::new(), vec![reader]), writer)
    }

    fn waits(budget: &Budget, number: usize) -> Option<u32> {
        budget.share_of(&format!("u{number}")).queued.map(|queued| queued.number)
    }

    #[test]
    fn builds_wait_in_the_order_of_their_age_and_one_that_ends_makes_room_for_the_oldest() {
        let all: Vec<Value> = (0..5).rev().map(|number| build(number, json!({}))).collect();
        let (budget, mut writer) = budget(5, &all);
        let places = |budget: &Budget| [0, 1, 2, 3, 4].map(|number| waits(budget, number));
        assert_eq!(places(&budget), [None, None, Some(1), Some(2), Some(3)]);
        assert_eq!(budget.share_of("u0").interval, 5_000);
        let ended = json!({"status": {"phase": "Complete", "conditions": [{"type": "Finished", "status": "True",
            "reason": "Published", "message": ""}]}});
        let ended = serde_json::from_value(build(1, ended)).unwrap();
        writer.apply_watcher_event(&Event::Apply(ended));
        budget.look();
        assert_eq!(places(&budget), [None, None, None, Some(1), Some(2)]);
    }

    #[test]
    fn what_does_not_work_is_in_nobodys_way_and_what_has_begun_goes_on() {
        let begun = json!({"status": {"startTime": "2026-01-01T00:00:00Z"}});
        let disabled = json!({"metadata": {"annotations": {labels::RECONCILE: labels::RECONCILE_DISABLED}}});
        for (what, more, takes_room) in [
            ("suspended", json!({"spec": {"suspend": true}}), false),
            ("left alone before it has begun", disabled, false),
            ("what cannot be carried out here", json!({"spec": {"output": {"url": "file:///tmp/x"}}}), false),
            ("one like others", json!({}), true),
            ("one that has begun", begun.clone(), true),
        ] {
            let (budget, _writer) = budget(2, &[build(0, more), build(1, json!({}))]);
            assert_eq!(waits(&budget, 1).is_some(), takes_room, "{what}");
            assert_eq!(waits(&budget, 0), None, "{what}");
        }
        // An operator that starts finds who has begun, be it younger.
        let (budget, _writer) = budget(2, &[build(0, json!({})), build(1, begun)]);
        assert_eq!((waits(&budget, 0), waits(&budget, 1)), (Some(1), None));
    }

    #[test]
    fn nobody_begins_before_all_that_may_be_at_work_is_known() {
        let (budget, _writer) = budget(100, &[build(0, json!({}))]);
        assert_eq!(waits(&budget, 0), None, "the control");
        let (unfilled, _filled_later) = reflector::store();
        let both = Budget::new(100, Metrics::new(), vec![budget.builds[0].clone(), unfilled]);
        assert_eq!(waits(&both, 0), Some(1));
    }
}
