//! From the API's objects to the lifecycle's vocabulary. Nothing is decided here.

use indexbuild_api::{DirectoryState, EngineDirectory, Epoch, labels, names};
use indexbuild_lifecycle::frozen::StageObject;
use indexbuild_lifecycle::world::{
    ClaimPhase, ClaimView, Millis, NodeReady, NodeView, PodState, PodView, Record, Termination,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerStatus, Node, NodeCondition, PersistentVolumeClaim, Pod, PodCondition,
};
use kube::ResourceExt as _;

use crate::objects::Owner;

/// What the kubelet writes when it did not find a container: no proof of anything (docs/lifecycle.md, Evidence).
const NOT_FOUND: &str = "ContainerStatusUnknown";

/// Why a pod with scheduling gates is not looked at.
pub const GATED: &str = "SchedulingGated";

/// What a kubelet says that it is short of.
const PRESSURES: [&str; 3] = ["DiskPressure", "MemoryPressure", "PIDPressure"];

/// The taint by which somebody vouches that a node is down.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

fn label<T: std::str::FromStr>(object: &impl kube::ResourceExt, key: &str) -> Option<T> {
    object.labels().get(key)?.parse().ok()
}

/// A record. A tombstone that goes with its build is none yet: its owner reference stands, or stands again.
pub fn record(directory: &EngineDirectory) -> Record {
    let mut status = directory.status.clone().unwrap_or_default();
    if status.state == DirectoryState::Tombstone && !directory.owner_references().is_empty() {
        status.state = DirectoryState::Idle;
    }
    Record { spec: directory.spec.clone(), status, version: directory.resource_version().unwrap_or_default() }
}

/// A pod of a build; `None`: its labels do not say which slot and epoch it was made for.
pub fn pod(pod: &Pod, build_uid: &str) -> Option<PodView> {
    Some(PodView {
        foreign: !is_owned_by(pod, build_uid),
        ..pod_of_slot(pod, label(pod, labels::SLOT)?, label(pod, labels::EPOCH)?)?
    })
}

/// Somebody else's pod under the name that a slot's pod of an epoch was to have.
pub(crate) fn foreign_pod(pod: &Pod, slot: u32, epoch: Epoch) -> Option<PodView> {
    Some(PodView { foreign: true, ..pod_of_slot(pod, slot, epoch)? })
}

fn pod_of_slot(pod: &Pod, slot: u32, epoch: Epoch) -> Option<PodView> {
    Some(PodView {
        name: pod.name_any(),
        uid: pod.uid()?,
        slot,
        epoch,
        foreign: false,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty()),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        disrupted: condition(pod, "DisruptionTarget").is_some_and(|condition| condition.status == "True")
            || is_refused_by_node(pod),
        own_exit: own_exit(pod),
        as_asked: None,
        suited: Vec::new(),
        state: pod_state(pod),
    })
}

/// Whether a build owns an object, by UID: what the operator makes for it, and nobody else's, has such a reference from its
/// first moment on.
pub(crate) fn is_owned_by(object: &impl kube::ResourceExt, build_uid: &str) -> bool {
    object.owner_references().iter().any(|reference| reference.uid == build_uid)
}

/// Why a kubelet does not admit a pod, in its own words, beside `OutOf` and what there is too little of.
const NOT_ADMITTED: [&str; 10] = [
    "NodeAffinity",
    "NodeName",
    "NodePorts",
    "NodeSelectorMismatching",
    "NodeShutdown",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "TaintToleration",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
];

/// Whether its kubelet did not admit the pod, for reasons of the node's: a kubelet that begins anew judges again all that it
/// finds, also what ran there before, and gives such an end no condition `DisruptionTarget`. A pod
/// above its own limit is `Evicted` too, and is told from that by the words alone.
fn is_refused_by_node(pod: &Pod) -> bool {
    let Some(status) = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Failed")) else {
        return false;
    };
    let (reason, message) =
        (status.reason.as_deref().unwrap_or_default(), status.message.as_deref().unwrap_or_default());
    match reason {
        "" => false,
        "Evicted" => message.contains("The node had condition: ["),
        _ => reason.starts_with("OutOf") || NOT_ADMITTED.contains(&reason),
    }
}

/// How our own container ended, where it did before anybody asked the pod to end. The kubelet tells whole seconds.
fn own_exit(pod: &Pod) -> Option<i32> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let end = containers.iter().find(|status| status.name == names::CONTAINER).and_then(ended)?;
    let Some(deletion) = &pod.metadata.deletion_timestamp else {
        return Some(end.exit_code);
    };
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    let asked = deletion.0.checked_sub(grace).ok()?;
    (end.finished_at.as_ref()?.0 < asked).then_some(end.exit_code)
}

fn pod_state(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else {
        return if is_queued(pod) { PodState::Queued } else { PodState::Pending };
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let all_ended = containers.len() == wanted && wanted > 0 && containers.iter().all(|status| ended(status).is_some());
    if all_ended || matches!(phase, "Failed" | "Succeeded") {
        return PodState::Terminated(termination(pod, containers, all_ended));
    }
    let running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let waits = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    match phase {
        // One that a webhook has added may run beside it.
        _ if containers.iter().any(|status| status.name == names::CONTAINER && waits(status)) => PodState::Pending,
        _ if containers.iter().any(running) => PodState::Running,
        "Running" => PodState::Running,
        "Unknown" => PodState::Unknown,
        _ if is_queued(pod) => PodState::Queued,
        _ => PodState::Pending,
    }
}

/// A scheduler that looked at a pod has bound it or says why not; of a gated one the API server says that it was not
/// looked at.
fn is_queued(pod: &Pod) -> bool {
    let on_node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|name| !name.is_empty());
    !on_node && scheduled(pod).is_none_or(|condition| condition.reason.as_deref() == Some(GATED))
}

/// What is said of the pod's way to a node.
pub fn scheduled(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "PodScheduled")
}

fn condition<'p>(pod: &'p Pod, named: &str) -> Option<&'p PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == named)
}

/// G8: container statuses are written by the kubelet alone; a phase is also written by the pod garbage collector,
/// which proves nothing.
fn termination(pod: &Pod, containers: &[ContainerStatus], all_ended: bool) -> Termination {
    let ends: Vec<_> = containers.iter().filter_map(ended).collect();
    let own = containers.iter().find(|status| status.name == names::CONTAINER).and_then(ended);
    let known = |end: &&k8s_openapi::api::core::v1::ContainerStateTerminated| {
        end.container_id.as_ref().is_some_and(|id| !id.is_empty()) && end.reason.as_deref() != Some(NOT_FOUND)
    };
    let finished =
        ends.iter().map(|end| end.finished_at.as_ref().map(|time| time.0.to_string())).collect::<Option<Vec<_>>>();
    Termination {
        // Not that of a container which a webhook has added.
        exit_code: own.or_else(|| ends.first().copied()).map_or(0, |end| end.exit_code),
        finished_at: finished.and_then(|times| times.into_iter().max()).unwrap_or_default(),
        kubelet_written: all_ended,
        container_id_present: all_ended && ends.iter().all(known),
        restart_never: pod.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("Never")),
    }
}

fn ended(status: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// What a pod that ended wrote last: the end of its log.
pub fn last_words(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    containers.iter().filter_map(ended).find_map(|end| end.message.clone())
}

/// A claim; `None`: its labels do not say which slot and generation it was made for.
pub fn claim(claim: &PersistentVolumeClaim) -> Option<ClaimView> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    Some(ClaimView {
        name: claim.name_any(),
        uid: claim.uid()?,
        slot: label(claim, labels::SLOT)?,
        generation: label(claim, labels::VOLUME_GENERATION)?,
        phase: match phase {
            _ if claim.metadata.deletion_timestamp.is_some() => ClaimPhase::Terminating,
            Some("Bound") => ClaimPhase::Bound,
            Some("Lost") => ClaimPhase::Lost,
            Some(_) | None => ClaimPhase::Pending,
        },
        foreign: false,
        nodes: None,
        outdated: false,
    })
}

fn readiness(node: &Node) -> Option<&NodeCondition> {
    node_condition(node, "Ready")
}

fn node_condition<'n>(node: &'n Node, named: &str) -> Option<&'n NodeCondition> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == named)
}

/// Since when a node is as ready, or not, as it says.
pub(crate) fn ready_since(node: &Node) -> Option<Timestamp> {
    readiness(node)?.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether a node says that it is ready.
pub fn node_ready(node: &Node) -> NodeReady {
    match readiness(node).map(|condition| condition.status.as_str()) {
        Some("True") => NodeReady::True,
        Some("False") => NodeReady::False,
        Some(_) | None => NodeReady::Unknown,
    }
}

/// What tells a machine or its boot, where a record has room for it. A part of it would tell another one.
fn identity(id: &str) -> String {
    const LONGEST: usize = 64;
    if id.len() <= LONGEST { id.to_owned() } else { String::new() }
}

/// A node that is there. `volumes_detached`: that nothing attaches a volume of the build to it, as was read live.
pub fn node(node: &Node, readiness_age: Millis, volumes_detached: bool) -> NodeView {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let spec = node.spec.as_ref();
    NodeView {
        name: node.name_any(),
        boot_id: info.map(|info| identity(&info.boot_id)).unwrap_or_default(),
        system_uuid: info.map(|info| identity(&info.system_uuid)).unwrap_or_default(),
        ready: node_ready(node),
        readiness_age,
        out_of_service: is_out_of_service(node),
        gone: false,
        volumes_detached,
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        pressed: PRESSURES
            .iter()
            .any(|pressure| node_condition(node, pressure).is_some_and(|one| one.status == "True")),
    }
}

/// Whether somebody put the out-of-service taint.
pub fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// A node whose object is gone: a live read said so.
pub fn gone_node(name: &str, volumes_detached: bool) -> NodeView {
    NodeView {
        name: name.to_owned(),
        boot_id: String::new(),
        system_uuid: String::new(),
        ready: NodeReady::Unknown,
        readiness_age: 0,
        out_of_service: false,
        gone: true,
        volumes_detached,
        cordoned: false,
        pressed: false,
    }
}

/// An object under the name of a stage. Whether it is one, the lifecycle says.
pub fn stage(map: &ConfigMap, owner: &Owner) -> StageObject {
    let ConfigMap { metadata, immutable, data, binary_data: _ } = map;
    let owned = metadata.owner_references.iter().flatten().any(|reference| *reference == owner.reference());
    StageObject {
        name: map.name_any(),
        text: data.as_ref().and_then(|data| data.get(names::STAGE_KEY)).cloned(),
        well_formed: *immutable == Some(true) && owned && is_of_build(map, owner),
    }
}

/// Whether an object's labels say that it is this build's.
pub(crate) fn is_of_build<K: kube::Resource>(object: &K, owner: &Owner) -> bool {
    object.meta().labels.as_ref().and_then(|labels| labels.get(labels::BUILD_UID)).is_some_and(|uid| *uid == owner.uid)
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{EngineDirectorySpec, EngineDirectoryStatus};
    use indexbuild_lifecycle::evidence::is_final;
    use serde_json::{Value, json};

    use super::*;

    fn a_pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "labels": {labels::SLOT: "2", labels::EPOCH: "7"}},
            "spec": {"restartPolicy": "Never", "nodeName": "n1", "containers": [{"name": "executor"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn terminated(with: Value) -> Value {
        let mut end = json!({
            "exitCode": 10, "reason": "Error", "containerID": "containerd://abc",
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z",
        });
        for (key, value) in with.as_object().unwrap() {
            end[key] = value.clone();
        }
        json!({"phase": "Failed", "containerStatuses": [
            {"name": "executor", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": end}}
        ]})
    }

    fn end_of(status: Value) -> Termination {
        match pod(&a_pod(status), "b").unwrap().state {
            PodState::Terminated(termination) => termination,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_is_told_apart_by_the_slot_and_epoch_that_it_was_made_for() {
        let view = pod(&a_pod(json!({"phase": "Pending"})), "b").unwrap();
        assert_eq!((view.slot, view.epoch, view.node.as_deref()), (2, Epoch::new(7), Some("n1")));
        assert_eq!(view.state, PodState::Pending);
        let mut queued = a_pod(json!({"phase": "Pending"}));
        queued.spec.as_mut().unwrap().node_name = None;
        assert_eq!(pod(&queued, "b").unwrap().state, PodState::Queued);
        let mut told = |reason: &str| {
            let said = json!([{"type": "PodScheduled", "status": "False", "reason": reason}]);
            queued.status.as_mut().unwrap().conditions = serde_json::from_value(said).unwrap();
            pod(&queued, "b").unwrap().state
        };
        assert_eq!(told("Unschedulable"), PodState::Pending);
        assert_eq!(told(GATED), PodState::Queued);
        let mut stranger = a_pod(json!({}));
        stranger.metadata.labels = None;
        assert!(pod(&stranger, "b").is_none());
    }

    /// G8.
    #[test]
    fn the_kubelets_own_word_of_every_container_is_final() {
        let end = end_of(terminated(json!({})));
        assert!(is_final(&end));
        assert_eq!(end.exit_code, 10);
    }

    /// G8.
    #[test]
    fn a_phase_that_the_garbage_collector_wrote_is_not_final() {
        let running = json!({"phase": "Failed", "reason": "NodeLost", "containerStatuses": [
            {"name": "executor", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
             "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        ]});
        assert!(!is_final(&end_of(running)));
        assert!(!is_final(&end_of(json!({"phase": "Failed", "reason": "Evicted"}))));
    }

    /// G8.
    #[test]
    fn a_container_that_the_kubelet_did_not_find_is_not_proved_gone() {
        assert!(!is_final(&end_of(terminated(json!({"reason": "ContainerStatusUnknown"})))));
        assert!(!is_final(&end_of(terminated(json!({"containerID": ""})))));
        assert!(!is_final(&end_of(terminated(json!({"finishedAt": null})))));
    }

    /// G8: a policy that starts containers again.
    #[test]
    fn an_end_counts_only_where_nothing_starts_the_container_again() {
        let mut always = a_pod(terminated(json!({})));
        always.spec.as_mut().unwrap().restart_policy = Some("Always".to_owned());
        let PodState::Terminated(end) = pod(&always, "b").unwrap().state else { panic!("terminated") };
        assert!(!is_final(&end));
    }

    /// An image that cannot be pulled, say: its process was never started, whatever the phase is called.
    #[test]
    fn a_pod_whose_own_container_waits_has_not_begun_though_another_one_runs_in_it() {
        let beside = |own: Value| {
            let status = |name: &str, state: Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
            let both = [status("proxy", runs), status("executor", own)];
            pod(&a_pod(json!({"phase": "Running", "containerStatuses": both})), "b").unwrap().state
        };
        assert_eq!(beside(json!({"waiting": {"reason": "ImagePullBackOff"}})), PodState::Pending);
        assert_eq!(beside(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})), PodState::Running);
    }

    /// A sidecar that a webhook has added runs on, and its own end hides nothing.
    #[test]
    fn the_end_of_our_own_container_is_seen_beside_another_one_and_only_if_nobody_asked_for_it() {
        let with_sidecar = |sidecar: Value| {
            let mut status = terminated(json!({"exitCode": 7}));
            status["phase"] = json!("Running");
            let beside = json!({"name": "proxy", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": sidecar});
            status["containerStatuses"].as_array_mut().unwrap().insert(0, beside);
            let mut two = a_pod(status);
            let spec = two.spec.as_mut().unwrap();
            let mut second = spec.containers[0].clone();
            second.name = "proxy".to_owned();
            spec.containers.push(second);
            two
        };
        let runs = with_sidecar(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
        let view = pod(&runs, "b").unwrap();
        assert_eq!((view.state, view.own_exit), (PodState::Running, Some(7)));
        // The deletion's time is that of the request and the grace; our container ended at 00:01:00.
        for (deletion, own_exit) in [("2026-01-01T00:01:31Z", Some(7)), ("2026-01-01T00:01:30Z", None)] {
            let mut asked = runs.clone();
            asked.metadata.deletion_grace_period_seconds = Some(30);
            asked.metadata.deletion_timestamp = Some(serde_json::from_value(json!(deletion)).unwrap());
            assert_eq!(pod(&asked, "b").unwrap().own_exit, own_exit, "{deletion}");
        }
        let both = with_sidecar(json!({"terminated": {
            "exitCode": 137, "containerID": "containerd://b", "finishedAt": "2026-01-01T00:02:00Z"
        }}));
        let PodState::Terminated(end) = pod(&both, "b").unwrap().state else { panic!("both have ended") };
        assert!(is_final(&end));
        assert_eq!(end.exit_code, 7, "how the sidecar was ended says nothing of ours");
    }

    #[test]
    fn a_pod_that_the_cluster_ends_for_its_own_reasons_is_told_by_its_condition_alone() {
        let said = |status: &str| {
            let mut end = terminated(json!({"exitCode": 137}));
            end["reason"] = json!("Evicted");
            end["conditions"] =
                json!([{"type": "DisruptionTarget", "status": status, "reason": "TerminationByKubelet"}]);
            pod(&a_pod(end), "b").unwrap().disrupted
        };
        assert!(said("True") && !said("False"));
        assert!(!pod(&a_pod(terminated(json!({"exitCode": 137, "reason": "OOMKilled"}))), "b").unwrap().disrupted);
    }

    /// A kubelet that begins anew under pressure admits nothing, not even what ran there before, and gives it no condition.
    #[test]
    fn a_pod_that_its_kubelet_does_not_admit_has_not_failed_and_one_above_its_own_limit_has() {
        let disrupted = |phase: &str, reason: &str, message: &str| {
            let mut end = terminated(json!({"exitCode": 137}));
            (end["phase"], end["reason"], end["message"]) = (json!(phase), json!(reason), json!(message));
            pod(&a_pod(end), "b").unwrap().disrupted
        };
        for (reason, message) in [
            ("Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "),
            ("Evicted", "The node had condition: [MemoryPressure PIDPressure]. "),
            (
                "OutOfpods",
                "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110",
            ),
            ("OutOfephemeral-storage", "Pod was rejected: Node didn't have enough resource: ephemeral-storage"),
            (
                "NodeAffinity",
                "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity",
            ),
            ("NodeShutdown", "Pod was rejected as the node is shutting down."),
            (
                "UnexpectedAdmissionError",
                "Pod was rejected: Allocate failed due to no device plugin, which is unexpected",
            ),
        ] {
            assert!(disrupted("Failed", reason, message), "{reason}: {message}");
            assert!(!disrupted("Running", reason, message), "{reason}: it has not ended");
        }
        for (reason, message) in [
            ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. "),
            ("Evicted", "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\". "),
            ("Evicted", "Container executor exceeded its local ephemeral storage limit \"100Mi\". "),
            ("Evicted", ""),
            ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
            ("", ""),
        ] {
            assert!(!disrupted("Failed", reason, message), "{reason}: {message}");
        }
    }

    #[test]
    fn a_node_is_pressed_where_its_kubelet_says_so_of_anything() {
        let pressed = |condition: &str, status: &str| {
            let conditions = json!([{"type": "Ready", "status": "True"}, {"type": condition, "status": status}]);
            let object = json!({"metadata": {"name": "n1"}, "status": {"conditions": conditions}});
            node(&serde_json::from_value(object).unwrap(), 0, false).pressed
        };
        for condition in ["DiskPressure", "MemoryPressure", "PIDPressure"] {
            assert!(pressed(condition, "True") && !pressed(condition, "False") && !pressed(condition, "Unknown"));
        }
        assert!(!pressed("NetworkUnavailable", "True"));
    }

    /// A record that has no room for it would be refused with all that it says.
    #[test]
    fn what_identifies_a_machine_at_greater_length_than_a_record_holds_identifies_nothing() {
        let seen = |id: &str| {
            let info = json!({"architecture": "", "bootID": id, "systemUUID": id, "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": ""});
            let object = json!({"metadata": {"name": "n1"}, "status": {"nodeInfo": info}});
            let view = node(&serde_json::from_value(object).unwrap(), 0, false);
            (view.boot_id, view.system_uuid)
        };
        let longest = "a".repeat(64);
        assert_eq!(seen(&longest), (longest.clone(), longest.clone()));
        assert_eq!(seen(&(longest + "a")), (String::new(), String::new()));
    }

    /// Labels are anybody's to write; the reference to the build that owns it is in what the operator makes alone.
    #[test]
    fn a_pod_that_the_build_does_not_own_is_somebody_elses_whatever_its_labels_say() {
        let mut object = a_pod(json!({}));
        assert!(pod(&object, "b").unwrap().foreign);
        let owned_by = |uid: &str| json!([{"apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild", "name": "orders", "uid": uid}]);
        object.metadata.owner_references = serde_json::from_value(owned_by("b")).unwrap();
        assert!(!pod(&object, "b").unwrap().foreign);
        object.metadata.owner_references = serde_json::from_value(owned_by("another")).unwrap();
        assert!(pod(&object, "b").unwrap().foreign);
        object.metadata.labels = None;
        let stranger = foreign_pod(&object, 4, Epoch::new(9)).unwrap();
        assert_eq!((stranger.slot, stranger.epoch, stranger.foreign), (4, Epoch::new(9), true));
    }

    #[test]
    fn one_of_two_containers_that_ended_is_no_end() {
        let mut two = a_pod(terminated(json!({})));
        two.status.as_mut().unwrap().phase = Some("Running".to_owned());
        let spec = two.spec.as_mut().unwrap();
        let second = spec.containers[0].clone();
        spec.containers.push(second);
        assert_eq!(pod(&two, "b").unwrap().state, PodState::Running);
    }

    /// I9: with an owner reference it goes with its build, whatever its state says.
    #[test]
    fn a_tombstone_that_still_has_an_owner_is_none() {
        let mut directory = EngineDirectory::new("orders-0b7e1c9a-0", EngineDirectorySpec::default());
        let status = EngineDirectoryStatus { state: DirectoryState::Tombstone, ..EngineDirectoryStatus::default() };
        directory.status = Some(status);
        assert_eq!(record(&directory).status.state, DirectoryState::Tombstone);
        let build = crate::objects::tests::build("");
        directory.metadata.owner_references = Some(vec![Owner::of(&build).reference()]);
        assert_eq!(record(&directory).status.state, DirectoryState::Idle);
    }

    #[test]
    fn a_claim_that_is_being_deleted_is_terminating_whatever_its_phase() {
        let mut object: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "c", "uid": "u", "labels": {labels::SLOT: "0", labels::VOLUME_GENERATION: "3"}},
            "status": {"phase": "Bound"},
        }))
        .unwrap();
        assert_eq!(claim(&object).unwrap().phase, ClaimPhase::Bound);
        object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(claim(&object).unwrap().phase, ClaimPhase::Terminating);
    }
}
