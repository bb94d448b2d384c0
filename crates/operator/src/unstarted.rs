//! What is asked of pods that have not begun: whether they are what the build asks for now, which nodes would take them,
//! and to which nodes their volumes are bound.

use indexbuild_api::{Guarded, IndexBuild, Quantity, labels};
use indexbuild_lifecycle::world::{ClaimPhase, PodState, PodView, World};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, Pod,
    PodSpec, Taint, Toleration,
};
use kube::{Api, Client, ResourceExt as _};

use crate::error::is_status;
use crate::memory::BuildMemory;
use crate::objects::{self, Image, Owner};
use crate::observe::Objects;

/// Reads the volumes of pods that wait for a node: which nodes one is bound to never changes.
///
/// # Errors
/// The API server's.
pub(crate) async fn read_volumes(
    client: &Client,
    objects: &Objects,
    memory: &mut BuildMemory,
) -> Result<(), kube::Error> {
    let waiting = objects.pods.iter().filter(|pod| waits_for_a_node(pod));
    let claims = waiting.filter_map(|pod| claim_of(objects, pod));
    let names: Vec<String> =
        claims.filter_map(volume_of).filter(|name| !memory.volume_nodes.contains_key(name)).collect();
    let volumes = Api::<Guarded<PersistentVolume>>::all(client.clone());
    for name in names {
        let nodes = match volumes.get_opt(&name).await {
            Ok(Some(volume)) => volume.read().ok().and_then(|volume| nodes_of(&volume).cloned()),
            Ok(None) => continue,
            // Without the permission nothing is known of it, and it is not taken for the cause.
            Err(error) if is_status(&error, 403) => None,
            Err(error) => return Err(error),
        };
        memory.volume_nodes.insert(name, nodes);
    }
    Ok(())
}

/// Completes what is known of pods that have not begun, and of their volumes.
pub(crate) fn complete(world: &mut World, build: &IndexBuild, objects: &Objects, memory: &BuildMemory, image: &Image) {
    if !world.pods.iter().any(PodView::is_unstarted) {
        return;
    }
    // Of a spec that no pod can be made from the next try says what is wrong.
    let asked = objects::pod_digest(build, &Owner::of(build), image).ok();
    for view in world.pods.iter_mut().filter(|pod| pod.is_unstarted()) {
        let Some(pod) = objects.pods.iter().find(|pod| pod.uid().as_deref() == Some(view.uid.as_str())) else {
            continue;
        };
        let made_from = pod.annotations().get(labels::POD_DIGEST);
        view.as_asked = made_from.map(|made_from| Some(made_from) == asked.as_ref());
        let size = build.spec.volume_or_default().size_bytes();
        let claim = claim_of(objects, pod);
        let seen = claim.and_then(|claim| world.claims.iter_mut().find(|view| view.name == claim.name_any()));
        if let (Some(claim), Some(seen)) = (claim, seen) {
            seen.outdated = seen.phase == ClaimPhase::Pending && size_of(claim).is_some_and(|asked| asked != size);
        }
        if view.node.is_some() || view.state != PodState::Pending {
            continue;
        }
        let takes = |node: &&std::sync::Arc<Node>| pod.spec.as_ref().is_some_and(|spec| suits(spec, node));
        view.suited = objects.nodes.iter().filter(takes).map(|node| node.name_any()).collect();
        let Some(claim) = claim.filter(|_| !objects.nodes.is_empty()) else {
            continue;
        };
        let selector = volume_of(claim).and_then(|volume| memory.volume_nodes.get(&volume)?.as_ref());
        let bound = world.claims.iter_mut().find(|view| view.name == claim.name_any());
        if let (Some(selector), Some(view)) = (selector, bound)
            && view.phase == ClaimPhase::Bound
        {
            let selected = objects.nodes.iter().filter(|node| selects(selector, node));
            view.nodes = Some(selected.map(|node| node.name_any()).collect());
        }
    }
}

fn waits_for_a_node(pod: &Pod) -> bool {
    let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|name| !name.is_empty()));
    !on_node && pod.metadata.deletion_timestamp.is_none()
}

fn claim_of<'o>(objects: &'o Objects, pod: &Pod) -> Option<&'o PersistentVolumeClaim> {
    let mut volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let name = volumes.find_map(|volume| Some(&volume.persistent_volume_claim.as_ref()?.claim_name))?;
    objects.claims.iter().map(AsRef::as_ref).find(|claim| claim.metadata.name.as_ref() == Some(name))
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.spec.as_ref()?.volume_name.clone().filter(|name| !name.is_empty())
}

fn size_of(claim: &PersistentVolumeClaim) -> Option<u64> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(Quantity::parse(&requests.get("storage")?.0).ok()?.ceil())
}

fn nodes_of(volume: &PersistentVolume) -> Option<&NodeSelector> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()
}

/// Whether a node would take a pod, whatever is in use there and wherever the pod's volumes are.
fn suits(pod: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    let selected = pod.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerated = |taint: &Taint| {
        taint.effect == "PreferNoSchedule" || pod.tolerations.iter().flatten().any(|one| tolerates(one, taint))
    };
    selected
        && required.is_none_or(|required| selects(required, node))
        && taints.all(tolerated)
        && is_large_enough(pod, node)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let Toleration { key, operator, value, effect, toleration_seconds: _ } = toleration;
    let of_effect = effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
    let of_key = key.as_deref().is_none_or(|key| key.is_empty() || key == taint.key);
    let exists = operator.as_deref() == Some("Exists");
    let of_value = exists || value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    of_effect && of_key && of_value
}

/// Whether what a pod asks for is not more than the whole node has to give.
fn is_large_enough(pod: &PodSpec, node: &Node) -> bool {
    let has = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    pod.containers.iter().all(|container| {
        let asks = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        asks.into_iter().flatten().all(|(resource, asked)| {
            let given = has.and_then(|has| has.get(resource)).and_then(|given| Quantity::parse(&given.0).ok());
            // What a node does not tell, or tells otherwise, is not taken for too little.
            given.zip(Quantity::parse(&asked.0).ok()).is_none_or(|(given, asked)| asked <= given)
        })
    })
}

fn selects(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| {
        let NodeSelectorTerm { match_expressions, match_fields } = term;
        let labels = match_expressions.iter().flatten();
        let fields = match_fields.iter().flatten();
        let says_anything = labels.clone().next().is_some() || fields.clone().next().is_some();
        says_anything
            && labels.clone().all(|one| holds(one, node.labels().get(&one.key).map(String::as_str)))
            && fields.clone().all(|one| one.key == "metadata.name" && holds(one, node.metadata.name.as_deref()))
    })
}

fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let NodeSelectorRequirement { key: _, operator, values } = requirement;
    let mut values = values.iter().flatten().map(String::as_str);
    let number = |text: &str| text.parse::<i64>().ok();
    match (operator.as_str(), found) {
        ("In", Some(found)) => values.any(|value| value == found),
        ("NotIn", Some(found)) => values.all(|value| value != found),
        ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
        ("Gt", Some(found)) => values.next().and_then(number).zip(number(found)).is_some_and(|(than, it)| it > than),
        ("Lt", Some(found)) => values.next().and_then(number).zip(number(found)).is_some_and(|(than, it)| it < than),
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indexbuild_api::Epoch;
    use indexbuild_lifecycle::Platform;
    use indexbuild_lifecycle::world::BuildView;
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::PodPlace;
    use crate::objects::tests::build as a_build;
    use crate::views;

    fn node(spec: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "fast", "cores": "8"}},
            "spec": spec,
            "status": {"allocatable": {"cpu": "3920m", "memory": "7Gi", "pods": "110"}},
        }))
        .unwrap()
    }

    fn asks(pod: Value) -> bool {
        let mut whole = json!({"containers": [{"name": "executor"}]});
        for (key, value) in pod.as_object().unwrap() {
            whole[key] = value.clone();
        }
        suits(&serde_json::from_value(whole).unwrap(), &node(json!({})))
    }

    fn requirement(key: &str, operator: &str, values: &[&str]) -> bool {
        let terms = json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        selects(&serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap(), &node(json!({})))
    }

    #[test]
    fn a_node_suits_a_pod_by_its_labels_its_taints_and_its_size() {
        assert!(asks(json!({})));
        assert!(asks(json!({"nodeSelector": {"disk": "fast"}})) && !asks(json!({"nodeSelector": {"disk": "slow"}})));
        let wants = |value: &str| {
            let terms = json!([{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]);
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            asks(json!({"affinity": {"nodeAffinity": required}}))
        };
        assert!(wants("fast") && !wants("slow"));
        let sized = |cpu: &str, memory: &str| {
            asks(
                json!({"containers": [{"name": "executor", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}),
            )
        };
        assert!(sized("3", "1Gi") && !sized("4", "1Gi") && !sized("1", "1Ti"));
        let tainted = |taints: Value, tolerations: Value| {
            let pod = serde_json::from_value(json!({"containers": [], "tolerations": tolerations})).unwrap();
            suits(&pod, &node(json!({"taints": taints})))
        };
        let taint = |effect: &str| json!([{"key": "spot", "value": "yes", "effect": effect}]);
        assert!(!tainted(taint("NoSchedule"), json!([])) && tainted(taint("PreferNoSchedule"), json!([])));
        assert!(tainted(taint("NoSchedule"), json!([{"operator": "Exists"}])));
        assert!(tainted(taint("NoExecute"), json!([{"key": "spot", "value": "yes", "effect": "NoExecute"}])));
        assert!(!tainted(taint("NoExecute"), json!([{"key": "spot", "value": "no", "effect": "NoExecute"}])));
        assert!(!tainted(taint("NoSchedule"), json!([{"key": "spot", "operator": "Exists", "effect": "NoExecute"}])));
    }

    #[test]
    fn the_nodes_of_a_volume_are_those_that_its_affinity_selects() {
        assert!(requirement("disk", "In", &["fast"]) && !requirement("disk", "In", &["slow"]));
        assert!(!requirement("disk", "NotIn", &["fast"]) && requirement("zone", "NotIn", &["a"]));
        assert!(requirement("disk", "Exists", &[]) && !requirement("zone", "Exists", &[]));
        assert!(!requirement("disk", "DoesNotExist", &[]) && requirement("zone", "DoesNotExist", &[]));
        assert!(requirement("cores", "Gt", &["4"]) && !requirement("cores", "Lt", &["8"]));
        let of_name = |name: &str| {
            let terms = json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
            selects(&serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap(), &node(json!({})))
        };
        assert!(of_name("n1") && !of_name("n2"), "and an empty term selects nothing");
    }

    #[test]
    fn a_pod_that_has_not_begun_is_held_against_the_build_and_its_volume_against_the_nodes() {
        let (build, edited) = (a_build(""), a_build("  executor: {nodeSelector: {disk: fast}}\n"));
        let image = Image { reference: "i".to_owned(), pull_policy: "Never".to_owned(), pull_secrets: Vec::new() };
        let place = PodPlace { slot: 0, epoch: Epoch::new(1), name: "p".to_owned(), claim: "c".to_owned() };
        let mut pod = objects::pod(&build, &Owner::of(&build), &image, place).unwrap();
        pod.metadata.uid = Some("u".to_owned());
        let unschedulable = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"});
        pod.status = serde_json::from_value(json!({"phase": "Pending", "conditions": [unschedulable]})).unwrap();
        let claim = |phase: &str, size: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": {"name": "c", "uid": "c", "labels": {labels::SLOT: "0", labels::VOLUME_GENERATION: "1"}},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": size}}},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let named = |name: &str| {
            let mut node = node(json!({}));
            node.metadata.name = Some(name.to_owned());
            Arc::new(node)
        };
        let terms = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
        let mut memory = BuildMemory::default();
        let selector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
        memory.volume_nodes.insert("v".to_owned(), Some(selector));
        let seen = |build: &IndexBuild, pod: &Pod, claim: PersistentVolumeClaim| {
            let mut world = World {
                platform: Platform::Kubernetes,
                now: 0,
                wall: String::new(),
                build: BuildView::gone(String::new(), String::new(), String::new()),
                slots: Vec::new(),
                pods: vec![views::pod(pod, "").unwrap()],
                claims: vec![views::claim(&claim).unwrap()],
                nodes: Vec::new(),
                attachments: indexbuild_lifecycle::world::Attachments::default(),
                stages: Vec::new(),
                frozen: indexbuild_lifecycle::world::Frozen::default(),
                hindrances: Vec::new(),
                enforcement: None,
            };
            let (pods, claims) = (vec![Arc::new(pod.clone())], vec![Arc::new(claim)]);
            let objects = Objects { pods, claims, nodes: vec![named("n1"), named("n2")], ..Objects::default() };
            complete(&mut world, build, &objects, &memory, &image);
            (world.pods.remove(0), world.claims.remove(0))
        };
        let (view, bound) = seen(&build, &pod, claim("Bound", "5Gi"));
        assert_eq!((view.as_asked, view.suited), (Some(true), vec!["n1".to_owned(), "n2".to_owned()]));
        assert_eq!((bound.nodes, bound.outdated), (Some(vec!["n1".to_owned()]), false));
        assert_eq!(seen(&edited, &pod, claim("Bound", "5Gi")).0.as_asked, Some(false));
        let mut older = pod.clone();
        older.metadata.annotations = None;
        assert_eq!(seen(&build, &older, claim("Bound", "5Gi")).0.as_asked, None, "an older version's");
        // No volume is bound to it: another size is another claim; a bound one keeps what is on it.
        assert!(seen(&build, &pod, claim("Pending", "6Gi")).1.outdated);
        assert!(
            !seen(&build, &pod, claim("Pending", "5120Mi")).1.outdated
                && !seen(&build, &pod, claim("Bound", "6Gi")).1.outdated
        );
        // One that runs is asked nothing.
        let mut running = pod.clone();
        running.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
        let state = json!({"name": "executor", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}});
        running.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [state]})).unwrap();
        assert_eq!(seen(&edited, &running, claim("Bound", "5Gi")).0.as_asked, None);
    }
}
