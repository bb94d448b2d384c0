//! The last words about pods that ended.
//!
//! A pod whose deletion was asked for goes within a second of its end, and with it the kubelet's word that its
//! containers ended: the only proof that its volume is nobody's any more (G8). Whoever looks a moment later finds no
//! pod, which proves nothing. What the kubelet wrote once stays true, so it is kept from when a watch tells of it: the
//! event of a deletion carries the object as it was last.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use indexbuild_api::VolumeState;
use indexbuild_lifecycle::evidence::is_final;
use indexbuild_lifecycle::world::{PodState, PodView, World};
use k8s_openapi::api::core::v1::Pod;

use crate::views;

/// How many are remembered: a little more than pods can end between two looks at their builds.
const MOST: usize = 10_000;

/// Pods that were seen to have ended, by UID. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    pods: HashMap<String, PodView>,
    order: VecDeque<String>,
}

impl Ended {
    /// Takes note of a pod that a watch tells of, if its end is final.
    pub(crate) fn note(&self, pod: &Pod) {
        // A record names it by its UID: that it is whose it says it is was seen when it was bound.
        let view = views::pod(pod, "").map(|view| PodView { foreign: false, ..view });
        let Some(view) = view.filter(has_ended) else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.pods.contains_key(&view.uid) {
            return;
        }
        while seen.order.len() >= MOST {
            let Some(oldest) = seen.order.pop_front() else { break };
            seen.pods.remove(&oldest);
        }
        seen.order.push_back(view.uid.clone());
        seen.pods.insert(view.uid.clone(), view);
    }

    /// Adds to an observation the pods that its records name, that are not there any more, and whose end was seen and
    /// is in no record yet. One that is recorded is needed no more, and would look like an object that is to be removed.
    pub(crate) fn remember(&self, world: &mut World) {
        let World { slots, pods, .. } = world;
        let there: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        let owners = slots.iter().flat_map(|slot| {
            let spec = &slot.record.spec;
            let unsaid = spec.former_volumes.iter().filter(|volume| volume.state != VolumeState::Idle);
            let former = unsaid.map(|volume| volume.pod_uid.as_str());
            spec.grant.iter().map(|grant| grant.pod_uid.as_str()).chain(former)
        });
        let missing: HashSet<&str> = owners.filter(|uid| !uid.is_empty() && !there.contains(uid)).collect();
        if missing.is_empty() {
            return;
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<PodView> = missing.iter().filter_map(|uid| seen.pods.get(*uid)).cloned().collect();
        drop(seen);
        found.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        pods.extend(found);
    }
}

fn has_ended(pod: &PodView) -> bool {
    match &pod.state {
        PodState::Terminated(termination) => is_final(termination),
        PodState::Queued | PodState::Pending | PodState::Running | PodState::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{EngineDirectorySpec, Epoch, FormerVolume, Grant, labels};
    use indexbuild_lifecycle::world::{Record, SlotView};
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, state: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "labels": {labels::SLOT: "0", labels::EPOCH: "1"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "executor"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "executor", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state},
            ]},
        }))
        .unwrap()
    }

    fn terminated() -> Value {
        json!({"terminated": {"exitCode": 0, "containerID": "containerd://c", "finishedAt": "2026-01-01T00:00:00Z"}})
    }

    fn world(owner: &str) -> World {
        let observed = crate::objects::tests::build("");
        let mut memory = crate::memory::BuildMemory::default();
        let moment = crate::server_time::Moment { now: 0, server: None };
        let observed = crate::observe::Observed { build: &observed, status: None, moment };
        let objects = crate::observe::Objects::default();
        let mut world = crate::observe::world(observed, &objects, &mut memory, &mut Default::default()).unwrap();
        let grant =
            Grant { epoch: Epoch::new(1), pod_uid: owner.to_owned(), boot_nonce: "n".to_owned(), ..Grant::default() };
        let spec = EngineDirectorySpec { grant: Some(grant), ..EngineDirectorySpec::default() };
        let record = Record { spec, ..Record::default() };
        world.slots.push(SlotView { record, report_age: 0, progress_age: 0, grant_age: 0, longest_interval: 0 });
        world
    }

    /// G8: the kubelet's word outlives the object that it stood in.
    #[test]
    fn an_owner_that_was_seen_to_end_is_proved_gone_though_its_pod_is_not_there() {
        let ended = Ended::default();
        ended.note(&pod("a", &terminated()));
        let mut seen = world("a");
        ended.remember(&mut seen);
        assert!(indexbuild_lifecycle::Evidence::of_current(&seen, &seen.slots[0].record).is_some());
        ended.remember(&mut seen);
        assert_eq!(seen.pods.len(), 1, "once");
    }

    /// Else its object would be deleted with each look, for ever: it is not there.
    #[test]
    fn one_whose_end_is_in_the_record_is_not_remembered() {
        let ended = Ended::default();
        ended.note(&pod("a", &terminated()));
        for (state, remembered) in [(VolumeState::Stranded, 1), (VolumeState::Idle, 0)] {
            let mut seen = world("b");
            let former = FormerVolume { pod_uid: "a".to_owned(), state, ..FormerVolume::default() };
            seen.slots[0].record.spec.former_volumes.push(former);
            ended.remember(&mut seen);
            assert_eq!(seen.pods.len(), remembered, "{state:?}");
        }
    }

    /// G8: an absence proves nothing, and neither does the end of another pod.
    #[test]
    fn a_pod_that_vanished_while_it_ran_is_not_proved_gone() {
        let ended = Ended::default();
        ended.note(&pod("a", &json!({"running": {}})));
        ended.note(&pod("b", &terminated()));
        let mut seen = world("a");
        ended.remember(&mut seen);
        assert!(seen.pods.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let ended = Ended::default();
        for number in 0..=MOST {
            ended.note(&pod(&number.to_string(), &terminated()));
        }
        let mut seen = world("0");
        ended.remember(&mut seen);
        assert!(seen.pods.is_empty());
        let mut seen = world(&MOST.to_string());
        ended.remember(&mut seen);
        assert_eq!(seen.pods.len(), 1);
    }
}
