//! What hinders a build outside of it, as far as the API server knows: the status of its pods and claims, and, where that
//! does not say, the warnings about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexbuild_api::{Guarded, apart};
use indexbuild_lifecycle::world::{Hindrance, NodeReady, Unstarted, Warning, World};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::memory::BuildMemory;
use crate::observe::Objects;
use crate::views;

/// After so many milliseconds without a container on its node, or without a volume, events are asked why.
const LATE: u64 = 8_000;

/// Reasons of a waiting container that do not end by themselves.
const STUCK: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// A warning of the kubelet on each pod where it was given no DNS server, which hinders none.
const HARMLESS: &str = "MissingClusterDNS";

/// What hinders the build now. What a status does not say is told in events: they are asked for where something takes
/// long, and only then.
pub(crate) async fn hindrances(
    client: &Client,
    objects: &Objects,
    world: &World,
    memory: &mut BuildMemory,
) -> Vec<Hindrance> {
    let wanted = || objects.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    // A pod whose process has claimed its grant runs, whatever the kubelet of a node that was lost since said last.
    let claimed = |pod: &Pod| {
        let grants = world.slots.iter().filter_map(|slot| slot.record.spec.grant.as_ref());
        let mut claimed = grants.filter(|grant| !grant.boot_nonce.is_empty());
        claimed.any(|grant| pod.metadata.uid.as_deref() == Some(grant.pod_uid.as_str()))
    };
    let unstarted: Vec<_> = wanted().filter(|pod| is_unstarted(pod) && !claimed(pod)).collect();
    let unbound: Vec<_> = objects.claims.iter().filter(|claim| is_unbound(claim)).collect();
    let uids = unstarted.iter().filter_map(|pod| pod.metadata.uid.as_deref());
    let uids: Vec<_> = uids.chain(unbound.iter().filter_map(|claim| claim.metadata.uid.as_deref())).collect();
    let late = memory.observer.late(&uids, LATE, world.now);
    let is_late = |uid: Option<String>| uid.is_some_and(|uid| late.contains(&uid));

    let mut hindrances: Vec<_> = wanted().filter_map(|pod| of_pod(pod)).collect();
    if let Some(claim) = unbound.iter().find(|claim| is_late(claim.uid())) {
        // Without a warning it waits for its pod, as it should.
        let warning = newest(&warnings(client, &world.build.namespace, claim.uid()).await);
        hindrances.extend(warning.map(|warning| Hindrance::ClaimUnbound { claim: claim.name_any(), warning }));
    }
    if let Some(pod) = unstarted.iter().find(|pod| is_late(pod.uid()))
        && hindrances.is_empty()
    {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let lost = node.filter(|name| world.node(name).is_some_and(|node| node.ready != NodeReady::True));
        let why = match lost {
            Some(node) => Unstarted::NodeNotReady { node: node.to_owned() },
            None => why_unstarted(pod, &warnings(client, &world.build.namespace, pod.uid()).await),
        };
        hindrances.push(Hindrance::PodUnstarted { pod: pod.name_any(), why });
    }
    let failed = memory.failed_actions.iter();
    let failed = failed.map(|(slot, message)| Hindrance::ActionFailed { slot: *slot, message: message.clone() });
    hindrances.extend(failed);
    hindrances
}

/// The warnings about an object, as far as they can be read; none where events may not be.
async fn warnings(client: &Client, namespace: &str, uid: Option<String>) -> Vec<Event> {
    let about = format!("involvedObject.uid={},type=Warning", uid.unwrap_or_default());
    let events = Api::<Guarded<Event>>::namespaced(client.clone(), namespace);
    match events.list(&ListParams::default().fields(&about).limit(50)).await {
        Ok(events) => apart(events.items).0.into_iter().map(Arc::unwrap_or_clone).collect(),
        Err(error) => {
            tracing::debug!(%error, "events are not read");
            Vec::new()
        }
    }
}

/// What keeps a pod from starting, as far as its status says.
fn of_pod(pod: &Pod) -> Option<Hindrance> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    // A webhook may have added containers that run before ours.
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let stuck = containers.find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().filter(|reason| STUCK.contains(&reason.as_str()))?;
        Some((reason, waiting.message.clone()))
    });
    if let Some((reason, said)) = stuck {
        return Some(Hindrance::ContainerStuck { pod: name, reason, said });
    }
    let scheduled = views::scheduled(pod).filter(|scheduled| scheduled.status == "False")?;
    let said = scheduled.message.clone();
    Some(if scheduled.reason.as_deref() == Some(views::GATED) {
        Hindrance::PodGated { pod: name, said }
    } else {
        Hindrance::PodFitsNowhere { pod: name, said }
    })
}

/// Whether a pod is on a node and none of its containers was made yet: ordinary for a moment.
fn is_unstarted(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let creating = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref().is_none_or(|reason| reason == "ContainerCreating"))
    };
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    on_node && status.phase.as_deref() == Some("Pending") && statuses.iter().all(creating)
}

/// Whether a claim has no volume yet: ordinary for a moment.
fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    claim.metadata.deletion_timestamp.is_none() && phase == Some("Pending")
}

/// What keeps a pod from starting that its status does not say: a mount that fails is told in events alone.
fn why_unstarted(pod: &Pod, warnings: &[Event]) -> Unstarted {
    if let Some(warning) = newest(warnings) {
        return Unstarted::Warned(warning);
    }
    let mounted = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let secrets: BTreeSet<_> = mounted.filter_map(|volume| volume.secret.as_ref()?.secret_name.clone()).collect();
    Unstarted::Unknown { secrets: secrets.into_iter().collect() }
}

/// The newest of the warnings that say anything.
fn newest(warnings: &[Event]) -> Option<Warning> {
    let time = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    let told = warnings
        .iter()
        .filter(|event| event.message.is_some() && event.reason.as_deref() != Some(HARMLESS))
        .max_by_key(|event| time(event))?;
    Some(Warning { reason: told.reason.clone().unwrap_or_default(), message: told.message.clone().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_that_cannot_be_pulled_and_a_pod_that_fits_nowhere_are_seen() {
        let pod = |status| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status}))
                .unwrap()
        };
        let waiting = |reason: &str| {
            pod(json!({"containerStatuses": [{"name": "executor", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "no such image i"}}}]}))
        };
        let (name, said) = ("p".to_owned(), |text: &str| Some(text.to_owned()));
        let stuck = Hindrance::ContainerStuck {
            pod: name.clone(),
            reason: "ImagePullBackOff".to_owned(),
            said: said("no such image i"),
        };
        assert_eq!(of_pod(&waiting("ImagePullBackOff")), Some(stuck));
        assert_eq!(of_pod(&waiting("ContainerCreating")), None);
        let unscheduled = |reason: &str, message: &str| {
            pod(
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}),
            )
        };
        let nowhere = Hindrance::PodFitsNowhere { pod: name.clone(), said: said("0/3 nodes are available") };
        assert_eq!(of_pod(&unscheduled("Unschedulable", "0/3 nodes are available")), Some(nowhere));
        let gates = "Scheduling is blocked due to non-empty scheduling gates";
        let gated = Hindrance::PodGated { pod: name, said: said(gates) };
        assert_eq!(of_pod(&unscheduled("SchedulingGated", gates)), Some(gated));
        assert_eq!(of_pod(&pod(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}))), None);
    }

    #[test]
    fn a_mount_that_fails_is_seen_by_its_event_and_without_one_what_is_mounted() {
        let pod = |reason: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"nodeName": "n", "containers": [], "volumes": [{"name": "source", "secret": {"secretName": "lake"}},
                    {"name": "output", "secret": {"secretName": "lake"}}]},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "executor", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]},
            }))
            .unwrap()
        };
        assert!(is_unstarted(&pod("ContainerCreating")) && !is_unstarted(&pod("ErrImagePull")));
        let event = |time: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": "FailedMount",
                "lastTimestamp": time, "message": message,
            }))
            .unwrap()
        };
        let events = [
            event("2026-01-01T00:00:02Z", "secret \"lake\" not found"),
            event("2026-01-01T00:00:01Z", "something before"),
            Event { reason: Some(HARMLESS.to_owned()), ..event("2026-01-01T00:00:09Z", "no DNS") },
        ];
        let failed = Warning { reason: "FailedMount".to_owned(), message: "secret \"lake\" not found".to_owned() };
        assert_eq!(why_unstarted(&pod("ContainerCreating"), &events), Unstarted::Warned(failed));
        let unknown = Unstarted::Unknown { secrets: vec!["lake".to_owned()] };
        assert_eq!(why_unstarted(&pod("ContainerCreating"), &[]), unknown);
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c"}, "status": {"phase": "Pending"}})).unwrap();
        assert!(is_unbound(&claim));
        assert_eq!(newest(&[]), None, "it waits for its pod");
    }
}
