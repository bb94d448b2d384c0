//! What hinders a build outside of it: an image that cannot be pulled, a pod that fits nowhere, a quota that is
//! used up. Said in the build's conditions, so that `kubectl describe` tells what is waited for.

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{Condition, ConditionStatus, ConditionType, IndexBuildSpec, IndexBuildStatus, Reason};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

use crate::views;

/// The longest message of a condition.
const MAX_MESSAGE: usize = 2_048;

/// Something that hinders a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub reason: Reason,
    /// What, about which object, and what would end it.
    pub message: String,
}

impl Trouble {
    /// The same, with what is waited for meanwhile and until when.
    #[must_use]
    pub(crate) fn and(self, words: Option<String>) -> Self {
        let Some(words) = words else {
            return self;
        };
        Self { message: format!("{}; {words}", self.message), ..self }
    }
}

/// Reasons of a waiting container that do not end by themselves.
const STUCK: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// What keeps a pod from starting, as far as its status says.
pub(crate) fn of_pod(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let said = |text: Option<&String>| text.map(|text| format!(": {text}")).unwrap_or_default();
    let stuck = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
        Some(format!("pod {name} cannot start its container ({reason}){}", said(waiting.message.as_ref())))
    });
    if let Some(message) = stuck {
        let message = format!("{message}; it starts as soon as the cause is gone");
        return Some(Trouble { reason: Reason::WaitingForPod, message });
    }
    let scheduled = views::scheduled(pod).filter(|scheduled| scheduled.status == "False")?;
    let said = said(scheduled.message.as_ref());
    let message = if scheduled.reason.as_deref() == Some(views::GATED) {
        format!("pod {name} is held back{said}; it starts once whoever set its scheduling gates has removed them")
    } else {
        format!("pod {name} fits on no node{said}; it starts as soon as one has room for it")
    };
    Some(Trouble { reason: Reason::WaitingForPod, message })
}

/// Whether a pod is on a node and none of its containers was made yet: ordinary for a moment.
pub(crate) fn is_unstarted(pod: &Pod) -> bool {
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
pub(crate) fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    claim.metadata.deletion_timestamp.is_none() && phase == Some("Pending")
}

/// What keeps a claim from its volume, as far as the warnings about it tell: a class that does not exist. Without
/// one it waits for its pod, as it should.
pub(crate) fn of_unbound(claim: &PersistentVolumeClaim, warnings: &[Event]) -> Option<Trouble> {
    let (reason, said) = newest(warnings)?;
    let name = claim.name_any();
    Some(Trouble {
        reason: Reason::WaitingForVolume,
        message: format!("claim {name} has no volume ({reason}): {said}; it is bound as soon as the cause is gone"),
    })
}

/// A warning of the kubelet on each pod where it was given no DNS server, which hinders none.
const HARMLESS: &str = "MissingClusterDNS";

/// The newest of the warnings that say anything.
fn newest(warnings: &[Event]) -> Option<(&str, &str)> {
    let time = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    let told = warnings
        .iter()
        .filter(|event| event.message.is_some() && event.reason.as_deref() != Some(HARMLESS))
        .max_by_key(|event| time(event))?;
    Some((told.reason.as_deref().unwrap_or_default(), told.message.as_deref().unwrap_or_default()))
}

/// What keeps a pod from starting that its status does not say: a mount that fails is told in events alone. `lost`: its
/// node, if that is not ready. `warnings`: those about the pod, if they may be read.
pub(crate) fn of_unstarted(pod: &Pod, lost: Option<&str>, warnings: &[Event]) -> Trouble {
    let name = pod.name_any();
    let message = if let Some(node) = lost {
        format!("pod {name} has not started: its node {node} is not ready; it starts when the node is back")
    } else if let Some((reason, said)) = newest(warnings) {
        format!("pod {name} cannot start ({reason}): {said}; it starts as soon as the cause is gone")
    } else {
        let mounted = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mounted: BTreeSet<_> = mounted.filter_map(|volume| volume.secret.as_ref()?.secret_name.clone()).collect();
        let mounted: Vec<_> = mounted.into_iter().collect();
        format!(
            "pod {name} has not started on its node, which does not say why; it waits for what it mounts, of Secrets [{}]: one may be missing; `kubectl describe pod {name}` tells more",
            mounted.join(", ")
        )
    };
    Trouble { reason: Reason::WaitingForPod, message }
}

/// An action that the API server refused.
pub(crate) fn of_refusal(message: &str) -> Trouble {
    let (reason, way_out) = if message.contains("exceeded quota") {
        (Reason::WaitingForPod, "it is made as soon as the quota is raised or others give up what they use")
    } else if message.contains("forbidden") {
        (
            Reason::MissingPermission,
            "it goes on as soon as the operator's role allows that, or whatever refused it does",
        )
    } else {
        (Reason::InternalError, "the operator's log says more")
    };
    Trouble { reason, message: format!("{message}; it is tried again: {way_out}") }
}

/// A place that means something on one machine only.
pub(crate) fn unsupported(spec: &IndexBuildSpec) -> Option<Trouble> {
    let source = spec.source.files().flat_map(|files| files.urls);
    let mut places = source.map(|url| ("spec.source", url)).chain([("spec.output.url", &spec.output.url)]);
    let (field, url) = places.find(|(_, url)| url.starts_with("file:"))?;
    Some(Trouble {
        reason: Reason::UnsupportedSpec,
        message: format!(
            "{field} names {url}: executors run on different machines, which see no common files; put the files into an object store (s3://, gs://, az://) and make a new build, or use `indexbuild run` on one machine"
        ),
    })
}

/// Puts what hinders the build into its conditions: it is stalled if nobody works, and says why in any case.
pub(crate) fn say(status: &mut IndexBuildStatus, before: Option<&IndexBuildStatus>, trouble: &Trouble, wall: &str) {
    let working = status.slots.is_some_and(|slots| slots.working > 0);
    let ready = status.condition(ConditionType::Ready).map_or(ConditionStatus::False, |ready| ready.status);
    if ready == ConditionStatus::True {
        return;
    }
    let Trouble { reason, message } = trouble;
    put(status, before, ConditionType::Ready, ready, *reason, message, wall);
    if working {
        return;
    }
    put(status, before, ConditionType::Stalled, ConditionStatus::True, *reason, message, wall);
    put(status, before, ConditionType::Progressing, ConditionStatus::False, *reason, message, wall);
}

/// Puts into the conditions why nothing is decided about a build, whoever works for it meanwhile.
pub(crate) fn stall(status: &mut IndexBuildStatus, before: Option<&IndexBuildStatus>, trouble: &Trouble, wall: &str) {
    let ready = status.condition(ConditionType::Ready).map_or(ConditionStatus::False, |ready| ready.status);
    let Trouble { reason, message } = trouble;
    put(status, before, ConditionType::Ready, ready, *reason, message, wall);
    put(status, before, ConditionType::Stalled, ConditionStatus::True, *reason, message, wall);
}

/// Says whether the API server refuses reports of anybody but the owner.
pub(crate) fn say_enforced(
    status: &mut IndexBuildStatus,
    before: Option<&IndexBuildStatus>,
    holds: ConditionStatus,
    reason: Reason,
    message: &str,
    wall: &str,
) {
    put(status, before, ConditionType::OwnershipEnforced, holds, reason, message, wall);
}

/// Sets a condition. `lastTransitionTime` changes only when the status does.
pub(crate) fn put(
    status: &mut IndexBuildStatus,
    before: Option<&IndexBuildStatus>,
    condition_type: ConditionType,
    holds: ConditionStatus,
    reason: Reason,
    message: &str,
    wall: &str,
) {
    let old = before.and_then(|before| before.condition(condition_type)).filter(|old| old.status == holds);
    let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| wall.to_owned());
    let end = (0..=message.len().min(MAX_MESSAGE)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    let condition = Condition {
        condition_type,
        status: holds,
        reason,
        message: message.get(..end).unwrap_or_default().to_owned(),
        last_transition_time: Some(since),
        observed_generation: Some(status.observed_generation),
    };
    status.conditions.retain(|condition| condition.condition_type != condition_type);
    status.conditions.push(condition);
    status.conditions.sort_by_key(|condition| condition.condition_type);
}

/// The first of what hinders slots, in their order.
pub(crate) fn first(pods: impl Iterator<Item = Trouble>, refused: &BTreeMap<u32, String>) -> Option<Trouble> {
    let mut pods = pods;
    pods.next().or_else(|| refused.values().next().map(|message| of_refusal(message)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_that_cannot_be_pulled_and_a_pod_that_fits_nowhere_are_told() {
        let pod = |status| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status}))
                .unwrap()
        };
        let waiting = |reason: &str| {
            pod(json!({"containerStatuses": [{"name": "executor", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "no such image i"}}}]}))
        };
        assert!(of_pod(&waiting("ImagePullBackOff")).unwrap().message.contains("no such image i"));
        assert_eq!(of_pod(&waiting("ContainerCreating")), None);
        let unschedulable = pod(json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available"}]}));
        assert!(of_pod(&unschedulable).unwrap().message.contains("0/3 nodes are available"));
        let gated = pod(json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]}));
        assert!(of_pod(&gated).unwrap().message.contains("scheduling gates has removed them"));
        assert_eq!(of_pod(&pod(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}))), None);
    }

    #[test]
    fn a_mount_that_fails_is_told_by_its_event_and_without_one_by_what_is_mounted() {
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
        ];
        let mut events = events.to_vec();
        let harmless = Event { reason: Some(HARMLESS.to_owned()), ..event("2026-01-01T00:00:09Z", "no DNS") };
        events.push(harmless);
        let told = of_unstarted(&pod("ContainerCreating"), None, &events).message;
        assert!(told.contains("FailedMount") && told.contains("secret \"lake\" not found"), "{told}");
        let told = of_unstarted(&pod("ContainerCreating"), Some("n"), &events).message;
        assert!(told.contains("its node n is not ready"), "what it would mount is not to blame: {told}");
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c"}, "status": {"phase": "Pending"}})).unwrap();
        assert!(is_unbound(&claim));
        assert_eq!(of_unbound(&claim, &[]), None, "it waits for its pod");
        let told = of_unbound(&claim, &events).unwrap();
        assert!(told.reason == Reason::WaitingForVolume && told.message.contains("not found"), "{told:?}");
        let told = of_unstarted(&pod("ContainerCreating"), None, &[]).message;
        assert!(told.contains("[lake]") && told.contains("kubectl describe pod p"), "{told}");
    }

    #[test]
    fn a_quota_that_is_used_up_is_not_taken_for_a_missing_permission() {
        assert_eq!(of_refusal("pods \"x\" is forbidden: exceeded quota: q").reason, Reason::WaitingForPod);
        assert_eq!(of_refusal("pods is forbidden: User cannot create").reason, Reason::MissingPermission);
    }

    #[test]
    fn a_place_on_one_machine_is_refused_with_the_way_out() {
        let mut spec = IndexBuildSpec::default();
        spec.output.url = "s3://bucket/x".to_owned();
        assert_eq!(unsupported(&spec), None);
        spec.output.url = "file:///tmp/x".to_owned();
        let trouble = unsupported(&spec).unwrap();
        assert!(trouble.message.contains("spec.output.url") && trouble.message.contains("indexbuild run"));
    }

    #[test]
    fn a_hindrance_keeps_the_time_since_when_it_is_there() {
        let trouble = Trouble { reason: Reason::WaitingForPod, message: "m".to_owned() };
        let mut first = IndexBuildStatus::default();
        say(&mut first, None, &trouble, "t1");
        assert_eq!(first.condition(ConditionType::Stalled).unwrap().status, ConditionStatus::True);
        let mut second = IndexBuildStatus::default();
        say(&mut second, Some(&first), &trouble, "t2");
        assert_eq!(second.condition(ConditionType::Stalled).unwrap().last_transition_time.as_deref(), Some("t1"));
    }
}
