//! What hinders a build outside of it, as far as the API server knows: the status of its pods and claims, and, where that
//! does not say, the warnings about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexbuild_api::{Guarded, apart};
use indexbuild_lifecycle::world::{Hindrance, NodeReady, Unstarted, Warning, World};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::memory::BuildMemory;
use crate::observe::Objects;
use crate::views;

/// After so many milliseconds without a container on its node, or without a volume, events are asked why.
const LATE: u64 = 8_000;

/// The words about so many claims are asked for in one pass.
const ASKED: usize = 4;

/// So long after its last word whoever could not bind or make a volume would have said it again: the controllers try every
/// 15 s or, after many failures, every 5 minutes, and as seldom are events of one object taken.
const STALE: SignedDuration = SignedDuration::from_mins(8);

/// The kubelet's word for an image that is on its way.
const PULLING: &str = "Pulling";

/// What the controller of volumes says, as an ordinary event, where nothing can be bound to a claim.
const FAILED_BINDING: &str = "FailedBinding";
/// Its words where a claim had no class.
const NO_CLASS: &str = "no storage class is set";

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
    server: Option<Timestamp>,
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
    for claim in unbound.iter().filter(|claim| is_late(claim.uid())).take(ASKED) {
        let told = events(client, &world.build.namespace, claim.uid()).await;
        // Without a hindrance it waits for its pod, or for a volume that is being made, as it should.
        if let Some(hindrance) = of_claim(claim, &told, server) {
            hindrances.push(hindrance);
            break;
        }
    }
    if let Some(pod) = unstarted.iter().find(|pod| is_late(pod.uid()))
        && hindrances.is_empty()
    {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let lost = node.filter(|name| world.node(name).is_some_and(|node| node.ready != NodeReady::True));
        let why = match lost {
            Some(node) => Some(Unstarted::NodeNotReady { node: node.to_owned() }),
            None => why_unstarted(pod, &events(client, &world.build.namespace, pod.uid()).await),
        };
        hindrances.extend(why.map(|why| Hindrance::PodUnstarted { pod: pod.name_any(), why }));
    }
    let failed = memory.failed_actions.iter();
    let failed = failed.map(|(slot, message)| Hindrance::ActionFailed { slot: *slot, message: message.clone() });
    hindrances.extend(failed);
    hindrances
}

/// The events about an object, as far as they can be read; none where they may not be. Ordinary ones too: they tell that
/// what a warning before them says is over.
async fn events(client: &Client, namespace: &str, uid: Option<String>) -> Vec<Event> {
    let about = format!("involvedObject.uid={}", uid.unwrap_or_default());
    let events = Api::<Guarded<Event>>::namespaced(client.clone(), namespace);
    match events.list(&ListParams::default().fields(&about).limit(200)).await {
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

/// What keeps a pod from starting that its status does not say: a mount that fails is told in events alone. `None`: nothing
/// does, as its image is being pulled. By the newest word about it, as what hindered it before that is over.
fn why_unstarted(pod: &Pod, events: &[Event]) -> Option<Unstarted> {
    match newest_event(events) {
        Some(told) if is_warning(told) => return Some(Unstarted::Warned(warning(told))),
        Some(told) if told.reason.as_deref() == Some(PULLING) => return None,
        Some(_) | None => {}
    }
    let mounted = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let secrets: BTreeSet<_> = mounted.filter_map(|volume| volume.secret.as_ref()?.secret_name.clone()).collect();
    Some(Unstarted::Unknown { secrets: secrets.into_iter().collect() })
}

fn is_warning(event: &Event) -> bool {
    event.type_.as_deref() == Some("Warning")
}

/// When an event was seen last.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.into_iter().chain(last).chain(first).max()
}

/// The newest of the events that say anything.
fn newest_event(events: &[Event]) -> Option<&Event> {
    let told = events.iter().filter(|event| event.message.is_some() && event.reason.as_deref() != Some(HARMLESS));
    told.max_by_key(|event| time(event))
}

fn warning(event: &Event) -> Warning {
    let Event { reason, message, .. } = event;
    Warning { reason: reason.clone().unwrap_or_default(), message: message.clone().unwrap_or_default() }
}

/// What keeps a claim from being bound, by the newest word about it: what hindered it before that is over. A word that
/// whoever says it has not repeated for long is over too: they try again every few seconds or minutes as long as it holds.
/// `now`: by the API server's clock, where that is known.
fn of_claim(claim: &PersistentVolumeClaim, events: &[Event], now: Option<Timestamp>) -> Option<Hindrance> {
    let told = newest_event(events)?;
    let age = now.zip(time(told)).map(|(now, told)| now.duration_since(told));
    if age.is_some_and(|age| age > STALE) {
        return None;
    }
    let name = claim.name_any();
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    // Not a warning in Kubernetes' eyes, and the only word about it.
    let unfound = told.reason.as_deref() == Some(FAILED_BINDING);
    match class {
        None if unfound => Some(Hindrance::NoDefaultClass { claim: name }),
        // It has a class by now: the default one was marked since.
        Some(class) if unfound && !class.is_empty() && warning(told).message.contains(NO_CLASS) => None,
        _ if unfound || is_warning(told) => Some(Hindrance::ClaimUnbound { claim: name, warning: warning(told) }),
        _ => None,
    }
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
        assert_eq!(why_unstarted(&pod("ContainerCreating"), &events), Some(Unstarted::Warned(failed)));
        let unknown = Some(Unstarted::Unknown { secrets: vec!["lake".to_owned()] });
        assert_eq!(why_unstarted(&pod("ContainerCreating"), &[]), unknown);
        let normal = |reason: &str| Event {
            type_: Some("Normal".to_owned()),
            reason: Some(reason.to_owned()),
            ..event("2026-01-01T00:00:03Z", "the newest word")
        };
        let after = |reason| why_unstarted(&pod("ContainerCreating"), &[events.as_slice(), &[normal(reason)]].concat());
        assert_eq!(after("Pulling"), None, "the secret is there by now");
        assert_eq!(after("SuccessfulAttachVolume"), unknown);
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c"}, "status": {"phase": "Pending"}})).unwrap();
        assert!(is_unbound(&claim));
        assert_eq!(newest_event(&[]), None, "it waits for its pod");
    }

    /// A class that was missing and is there now; a default one that never was, is, or came later.
    #[test]
    fn the_newest_word_about_a_claim_counts_and_no_older_one() {
        let claim = |class: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {"storageClassName": class},
                "status": {"phase": "Pending"}}))
            .unwrap()
        };
        let event = |time: &str, kind: &str, reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "type": kind, "reason": reason,
                "lastTimestamp": format!("2026-01-01T00:{time}Z"), "message": message}))
            .unwrap()
        };
        let missing = |time| event(time, "Warning", "ProvisioningFailed", "storageclass \"fast\" not found");
        let waits = |time| event(time, "Normal", "WaitForFirstConsumer", "waiting for first consumer to be created");
        let unset = |time| {
            let message = "no persistent volumes available for this claim and no storage class is set";
            event(time, "Normal", "FailedBinding", message)
        };
        let now = |text: &str| Some(format!("2026-01-01T00:{text}Z").parse().unwrap());
        let said = |class, events: &[Event], at| of_claim(&claim(class), events, now(at));
        let fast = Some("fast");
        let unbound = |event: &Event| Some(Hindrance::ClaimUnbound { claim: "c".to_owned(), warning: warning(event) });
        assert_eq!(said(fast, &[], "01:00"), None);
        assert_eq!(said(fast, &[missing("00:30")], "01:00"), unbound(&missing("00:30")));
        assert_eq!(said(fast, &[missing("00:30"), waits("00:45")], "01:00"), None, "the class is there by now");
        assert_eq!(
            said(fast, &[waits("00:20"), missing("00:30")], "01:00"),
            unbound(&missing("00:30")),
            "it was removed"
        );
        assert_eq!(said(fast, &[missing("00:30")], "11:30"), None, "nobody has said so for 11 minutes");
        assert_eq!(of_claim(&claim(fast), &[missing("00:30")], None), unbound(&missing("00:30")), "no clock is known");
        let no_default = Some(Hindrance::NoDefaultClass { claim: "c".to_owned() });
        assert_eq!(said(None, &[unset("00:30")], "01:00"), no_default);
        assert_eq!(said(fast, &[unset("00:30")], "01:00"), None, "the default one was marked since");
        assert_eq!(said(Some(""), &[unset("00:30")], "01:00"), unbound(&unset("00:30")), "volumes by hand");
    }
}
