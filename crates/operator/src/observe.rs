//! Observe: everything that the lifecycle looks at, of one build, at one moment.
//!
//! A first look is at the caches, and finds out whether anything is to be done. Whatever is then done was read
//! live in the same pass: an absence in a cache means nothing, and a silent watch is no evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexbuild_api::{
    EngineDirectory, EngineDirectorySpec, Guarded, IndexBuild, IndexBuildSpec, IndexBuildStatus, Unreadable, apart,
    labels, names,
};
use indexbuild_lifecycle::observer::NodeObserver;
use indexbuild_lifecycle::world::{
    Attachments, BuildView, ClaimView, Frozen, NodeReady, NodeView, PodView, Share, Timeouts, World,
};
use indexbuild_lifecycle::{Platform, frozen};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::attachments::{self, VolumeAttachments};
use crate::caches::{Caches, Nodes};
use crate::error::{OperatorError, is_status};
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::server_time::Moment;
use crate::unreadable::UnreadableObjects;
use crate::views::{self, is_of_build};

/// A build as the API server has it now, whether or not it can be read; `None`: it is not there, or another one has its name.
pub(crate) async fn live(client: &Client, owner: &Owner) -> Result<Option<Guarded<IndexBuild>>, OperatorError> {
    let api = Api::<Guarded<IndexBuild>>::namespaced(client.clone(), &owner.namespace);
    let live =
        api.get_opt(&owner.name).await.map_err(OperatorError::api(format!("build {} is not read", owner.name)))?;
    Ok(live.filter(|live| live.uid().as_deref() == Some(owner.uid.as_str())))
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub directories: Vec<Arc<EngineDirectory>>,
    pub pods: Vec<Arc<Pod>>,
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub stages: Vec<Arc<ConfigMap>>,
    pub nodes: Vec<Arc<Node>>,
    /// Nodes that are named in records and whose object is gone: a live read said so.
    pub gone: BTreeSet<String>,
    /// What attaches the build's volumes to nodes, read where it decides something; `None`: it was not, or may not be.
    pub attachments: Option<VolumeAttachments>,
    /// Claims of somebody else that have names of ours.
    pub foreign: Vec<ClaimView>,
    /// Pods of somebody else that have names of ours, and that no label of ours tells.
    pub foreign_pods: Vec<PodView>,
    /// Nodes that are there and cannot be read.
    pub unread_nodes: BTreeSet<String>,
    /// What is there of the build, and of the nodes that its records name, and cannot be read: never absent, but not
    /// known either. While there is any, nothing can be decided.
    pub unreadable: Vec<Unreadable>,
}

/// Selects what belongs to a build, whatever its name is.
pub(crate) fn selector(uid: &str) -> String {
    format!("{}={uid}", labels::BUILD_UID)
}

impl Objects {
    #[must_use]
    pub(crate) fn cached(caches: &Caches, nodes: &Nodes, owner: &Owner) -> Self {
        let (directories, unread_directories) = of_build(&caches.directories, owner);
        let (pods, unread_pods) = of_build(&caches.pods, owner);
        let (claims, unread_claims) = of_build(&caches.claims, owner);
        let (stages, unread_stages) = of_build(&caches.stages, owner);
        let unreadable = [unread_directories, unread_pods, unread_claims, unread_stages].concat();
        let mut objects = Self { directories, pods, claims, stages, unreadable, ..Self::default() };
        let unread_nodes = objects.take_nodes(nodes);
        let recorded = objects.recorded_nodes();
        objects.unreadable.extend(unread_nodes.into_iter().filter(|node| recorded.contains_key(&node.name)));
        objects
    }

    /// Takes the nodes of a cache; gives those that cannot be read.
    fn take_nodes(&mut self, nodes: &Nodes) -> Vec<Unreadable> {
        let (nodes, unread) = apart(nodes.state().iter().map(|node| node.as_ref().clone()));
        self.nodes = nodes;
        self.unread_nodes = unread.iter().map(|node| node.name.clone()).collect();
        unread
    }

    /// As the API server has them now. Nodes are read anew where what the cache has of them would prove something.
    ///
    /// # Errors
    /// The API server's.
    pub(crate) async fn live(
        client: &Client,
        nodes: &Nodes,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<Self, kube::Error> {
        let namespace = owner.namespace.as_str();
        let selected = ListParams::default().labels(&selector(&owner.uid));
        let staged = ListParams::default().labels(&format!("{},{}", selector(&owner.uid), labels::STAGE));
        let (directories, pods, claims, stages) = futures::try_join!(
            list::<EngineDirectory>(client, namespace, &selected),
            list::<Pod>(client, namespace, &selected),
            list::<PersistentVolumeClaim>(client, namespace, &selected),
            list::<ConfigMap>(client, namespace, &staged),
        )?;
        let ((directories, unread_directories), (pods, unread_pods)) = (directories, pods);
        let ((claims, unread_claims), (stages, unread_stages)) = (claims, stages);
        let unreadable = [unread_directories, unread_pods, unread_claims, unread_stages].concat();
        let mut objects = Self { directories, pods, claims, stages, unreadable, ..Self::default() };
        objects.take_nodes(nodes);
        let doubtful = objects.look_at_nodes(client).await?;
        if doubtful || objects.directories.iter().any(|directory| attachments::is_to_be_bound(directory)) {
            objects.attachments = attachments::live(client, &objects.directories, &objects.claims).await?;
        }
        objects.look_at_foreign(client, owner, memory).await?;
        objects.look_at_foreign_pods(client, owner, memory).await?;
        objects.look_at_foreign_stages(client, owner, memory).await?;
        Ok(objects)
    }

    /// What proves that an owner is gone is read from the API server itself: a reboot, a removal, a taint. Whether there is a
    /// node whose loss would prove something, once volumes are detached from it.
    async fn look_at_nodes(&mut self, client: &Client) -> Result<bool, kube::Error> {
        let api = Api::<Guarded<Node>>::all(client.clone());
        let mut doubtful = false;
        for (name, boots) in self.recorded_nodes() {
            let known = self.nodes.iter().position(|node| node.name_any() == name);
            let proves_nothing = known.is_some_and(|at| {
                let node = &self.nodes[at];
                let now = node.status.as_ref().and_then(|status| status.node_info.as_ref()).map(|info| &info.boot_id);
                !views::is_out_of_service(node) && now.is_some_and(|now| boots.say_nothing(now))
            });
            if proves_nothing {
                continue;
            }
            match api.get_opt(&name).await {
                Ok(Some(node)) => {
                    self.unread_nodes.remove(&name);
                    let node = match node.read() {
                        Ok(node) => node,
                        Err(unreadable) => {
                            if let Some(at) = known {
                                self.nodes.remove(at);
                            }
                            self.unread_nodes.insert(name);
                            self.unreadable.push(unreadable);
                            continue;
                        }
                    };
                    doubtful |= views::is_out_of_service(&node);
                    match known {
                        Some(at) => self.nodes[at] = node,
                        None => self.nodes.push(node),
                    }
                }
                Ok(None) => {
                    if let Some(at) = known {
                        self.nodes.remove(at);
                    }
                    self.unread_nodes.remove(&name);
                    self.gone.insert(name);
                    doubtful = true;
                }
                // Without the permission nothing is known of nodes, and nothing is proved by them: what a watch told of
                // its boot least of all.
                Err(error) if is_status(&error, 403) => {
                    if let Some(at) = known
                        && let Some(status) = &mut Arc::make_mut(&mut self.nodes[at]).status
                    {
                        status.node_info = None;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(doubtful)
    }

    /// The nodes that records name, with what they say of their boots.
    fn recorded_nodes(&self) -> BTreeMap<String, Boots> {
        let mut nodes: BTreeMap<String, Boots> = BTreeMap::new();
        for directory in &self.directories {
            let claim = directory.status.as_ref().and_then(|status| status.claim.as_ref());
            for grant in directory.spec.grant.iter().filter(|grant| !grant.node_name.is_empty()) {
                let boots = nodes.entry(grant.node_name.clone()).or_default();
                // A word that is bound by the pass which reads it counts from then on.
                let word = claim.filter(|claim| grant.boot_nonce.is_empty() && claim.pod_uid == grant.pod_uid);
                let said = word.map_or(&grant.boot_id, |claim| &claim.boot_id);
                boots.add(said, &grant.system_uuid);
            }
            for volume in directory.spec.former_volumes.iter().filter(|volume| !volume.node_name.is_empty()) {
                let boots = nodes.entry(volume.node_name.clone()).or_default();
                if !volume.system_uuid.is_empty() {
                    boots.add(&volume.boot_id, &volume.system_uuid);
                }
            }
        }
        nodes
    }

    /// Whether it was read that nothing attaches a volume of the build to a node.
    fn is_detached(&self, node: &str) -> bool {
        self.attachments.as_ref().is_some_and(|attachments| !attachments.nodes.contains(node))
    }

    pub(crate) fn directory(&self, slot: u32) -> Option<&EngineDirectory> {
        self.directories.iter().map(AsRef::as_ref).find(|directory| directory.spec.slot == slot)
    }
}

/// What records say of a node's boots.
#[derive(Clone, Debug, Default)]
struct Boots {
    /// At which owners run of whom the machine is known: another one would prove that they are gone.
    known: BTreeSet<String>,
    /// Which owners have said that their node was not seen with yet: the same one would tell their machine.
    said: BTreeSet<String>,
}

impl Boots {
    fn add(&mut self, boot_id: &str, system_uuid: &str) {
        if !boot_id.is_empty() {
            let boots = if system_uuid.is_empty() { &mut self.said } else { &mut self.known };
            boots.insert(boot_id.to_owned());
        }
    }

    /// Whether it says nothing about any owner that the node is at this boot.
    fn say_nothing(&self, now: &String) -> bool {
        self.known.iter().all(|known| known == now) && !self.said.contains(now)
    }
}

fn of_build<K>(store: &kube::runtime::reflector::Store<Guarded<K>>, owner: &Owner) -> (Vec<Arc<K>>, Vec<Unreadable>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let found = store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(owner.namespace.as_str()) && is_of_build(object, owner)
    });
    apart(found.iter().map(|object| object.as_ref().clone()))
}

async fn list<K>(
    client: &Client,
    namespace: &str,
    parameters: &ListParams,
) -> Result<(Vec<Arc<K>>, Vec<Unreadable>), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api = Api::<Guarded<K>>::namespaced(client.clone(), namespace);
    Ok(apart(api.list(parameters).await?.items))
}

/// What is known of the build beside its objects.
#[derive(Clone, Debug)]
pub(crate) struct Observed<'a> {
    pub build: &'a IndexBuild,
    pub status: Option<IndexBuildStatus>,
    pub moment: Moment,
}

pub(crate) fn timeouts(spec: &IndexBuildSpec) -> Timeouts {
    let disruption = spec.disruption_or_default();
    Timeouts {
        renew_interval: spec.renew_interval().as_millis(),
        replace_after: disruption.replace_after.as_millis(),
        orphan_after: disruption.orphan_after.as_millis(),
    }
}

/// The lifecycle's view of a build. There is none of one of which anything cannot be read: in it, what cannot be read
/// would be absent, and made again, or taken for gone.
pub(crate) fn world(
    observed: Observed<'_>,
    objects: &Objects,
    memory: &mut BuildMemory,
    nodes: &mut NodeObserver,
) -> Result<World, UnreadableObjects> {
    let Observed { build, status, moment } = observed;
    let now = moment.now;
    let owner = Owner::of(build);
    let asked = build.metadata.deletion_timestamp.as_ref();
    let asked_for = asked.and_then(|time| moment.since(time.0));
    let (deletion_age, deletion_unseen) = memory.observer.deletion(asked.is_some(), asked_for, now);
    let start = status.as_ref().and_then(|status| status.start_time.as_deref());
    let started = start.and_then(|start| moment.since(start.parse().ok()?));
    let active_age = memory.observer.active(start, started, now);
    let build = BuildView {
        uid: build.uid().unwrap_or_default(),
        name: build.name_any(),
        namespace: build.namespace().unwrap_or_default(),
        generation: build.metadata.generation.unwrap_or_default(),
        spec: build.spec.clone(),
        status,
        deleting: asked.is_some(),
        deletion_age,
        deletion_unseen,
        namespace_ends: memory.namespace_ends,
        active_age,
        finalizer: build.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER),
        reconcile_disabled: build
            .annotations()
            .get(labels::RECONCILE)
            .is_some_and(|value| value == labels::RECONCILE_DISABLED),
        timeouts: timeouts(&build.spec),
        share: Share::default(),
        percent_per_second: memory.observer.percent_per_second(now),
        gone: false,
    };
    let world = remains(build, moment, objects, memory, nodes)?;
    let maps: Vec<_> = objects.stages.iter().map(|map| views::stage(map, &owner)).collect();
    let records = world.slots.iter().map(|slot| &slot.record.spec);
    let records: Vec<_> = records.filter(|spec| spec.build_uid == owner.uid).collect();
    let (stages, frozen) = frozen::sort_out(&world.build, &records, &maps);
    Ok(World { stages, frozen, ..world })
}

/// The lifecycle's view of what is there of a build beside its own object and its stages.
pub(crate) fn remains(
    build: BuildView,
    moment: Moment,
    objects: &Objects,
    memory: &mut BuildMemory,
    nodes: &mut NodeObserver,
) -> Result<World, UnreadableObjects> {
    let mut unreadable = objects.unreadable.clone();
    let pods = viewed(&objects.pods, |pod| views::pod(pod, &build.uid), &build, &mut unreadable);
    let claims = viewed(&objects.claims, views::claim, &build, &mut unreadable);
    if !unreadable.is_empty() {
        return Err(UnreadableObjects(unreadable));
    }
    let mut records: Vec<_> = objects.directories.iter().map(|directory| views::record(directory)).collect();
    records.sort_by_key(|record| record.spec.slot);
    let bound: BTreeSet<String> = records.iter().flat_map(|record| owners_of(&record.spec)).collect();
    let pods = [pods, objects.foreign_pods.clone()].concat().into_iter();
    // One that a record has bound was the build's then, whatever became of its reference (`--cascade=orphan` takes it away).
    let pods = pods.map(|pod| PodView { foreign: pod.foreign && !bound.contains(&pod.uid), ..pod }).collect();
    let now = moment.now;
    Ok(World {
        platform: Platform::Kubernetes,
        now,
        wall: moment.wall(),
        build,
        slots: memory.observer.slots(records, now),
        pods,
        claims: [claims, objects.foreign.clone()].concat(),
        nodes: node_views(objects, nodes, moment),
        attachments: Attachments {
            detaching_drivers: BTreeSet::new(),
            seen: objects.attachments.as_ref().map(|all| all.seen.clone()).unwrap_or_default(),
        },
        stages: Vec::new(),
        frozen: Frozen::default(),
        hindrances: Vec::new(),
        enforcement: None,
    })
}

/// The UIDs of the pods that a record has bound.
fn owners_of(spec: &EngineDirectorySpec) -> impl Iterator<Item = String> {
    let former = spec.former_volumes.iter().map(|volume| volume.pod_uid.clone());
    let present = spec.grant.iter().map(|grant| grant.pod_uid.clone());
    present.chain(former).filter(|uid| !uid.is_empty())
}

/// Views of objects. One without a view whose name is one of ours was made for a slot, which its labels do not say any
/// more: it is not absent.
fn viewed<K, V>(
    objects: &[Arc<K>],
    view: impl Fn(&K) -> Option<V>,
    build: &BuildView,
    unreadable: &mut Vec<Unreadable>,
) -> Vec<V>
where
    K: Resource<DynamicType = ()>,
{
    let ours = format!("{}-{}-", build.name, names::short_uid(&build.uid));
    let mut seen = Vec::new();
    for object in objects {
        match view(object) {
            Some(view) => seen.push(view),
            None if object.name_any().starts_with(&ours) => {
                let why = format!("its labels {} do not say what it was made for", labels::SLOT);
                unreadable.push(Unreadable::of(object.as_ref(), why));
            }
            None => {}
        }
    }
    seen
}

fn node_views(objects: &Objects, observer: &mut NodeObserver, moment: Moment) -> Vec<NodeView> {
    let now = moment.now;
    let there = objects.nodes.iter().map(|node| {
        let name = node.name_any();
        let (since, ready) = (views::ready_since(node), views::node_ready(node) == NodeReady::True);
        let text = since.map(|since| since.to_string());
        let told = since.and_then(|since| moment.since(since));
        let age = observer.readiness_age(&name, ready, text.as_deref(), told, now);
        views::node(node, age, objects.is_detached(&name))
    });
    let mut nodes: Vec<_> = there.collect();
    // Of one that cannot be read nothing is known but that it is there.
    nodes.extend(objects.unread_nodes.iter().map(|name| NodeView {
        gone: false,
        readiness_age: observer.readiness_age(name, false, None, None, now),
        ..views::gone_node(name, false)
    }));
    nodes.extend(objects.gone.iter().map(|name| views::gone_node(name, objects.is_detached(name))));
    nodes
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::{self, Store};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::tests::build;
    use crate::pod_ends::Ended;

    const BEYOND: &str = "9999-12-31T23:59:59Z";

    fn store<K>(objects: &[Value]) -> Store<Guarded<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let (reader, mut writer) = reflector::store();
        for object in objects {
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object.clone()).unwrap()));
        }
        reader
    }

    /// What there is beside one slot's record, by kind.
    #[derive(Clone, Default)]
    struct There {
        records: Vec<Value>,
        pods: Vec<Value>,
        claims: Vec<Value>,
        stages: Vec<Value>,
        nodes: Vec<Value>,
    }

    /// What the lifecycle sees of a build with one slot, on node n1.
    fn seen(there: There) -> Result<World, UnreadableObjects> {
        let build = build("");
        let owner = Owner::of(&build);
        let There { records, pods, claims, stages, nodes } = there;
        let mut record = part("orders-0b7e1c9a-0", json!({}));
        let grant = json!({"epoch": 1, "podName": "p", "podUID": "u", "bootNonce": "", "nodeName": "n1"});
        record["spec"] = json!({"buildName": "orders", "buildUID": owner.uid, "slot": 0, "grant": grant});
        let caches = Caches {
            builds: store(&[]),
            directories: store(&[records, vec![record]].concat()),
            pods: store(&pods),
            claims: store(&claims),
            stages: store(&stages),
            ended: Ended::default(),
        };
        let objects = Objects::cached(&caches, &store(&nodes), &owner);
        let observed = Observed { build: &build, status: None, moment: Moment { now: 0, server: None } };
        world(observed, &objects, &mut BuildMemory::default(), &mut NodeObserver::default())
    }

    /// An object of the build.
    fn part(name: &str, more: Value) -> Value {
        let uid = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";
        let mut object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {labels::BUILD_UID: uid}},
        });
        for (field, value) in more.as_object().unwrap() {
            object[field] = value.clone();
        }
        object
    }

    fn said(there: There) -> String {
        seen(there).expect_err("it is seen as if it were not there").to_string()
    }

    #[test]
    fn a_build_of_which_anything_cannot_be_read_is_not_seen_and_what_it_is_is_named() {
        assert_eq!(seen(There::default()).unwrap().slots.len(), 1, "the control: all can be read");
        let spec = json!({"spec": {"buildName": "orders", "buildUID": "u", "slot": 4_294_967_296_u64}});
        let records = vec![part("orders-0b7e1c9a-1", spec)];
        assert!(
            said(There { records, ..There::default() }).starts_with("EngineDirectory shop/orders-0b7e1c9a-1 cannot")
        );
        let pods = vec![part("orders-0b7e1c9a-0-e1", json!({"status": {"startTime": BEYOND}}))];
        assert!(said(There { pods, ..There::default() }).starts_with("Pod shop/orders-0b7e1c9a-0-e1 cannot"));
        let claims = vec![part("orders-0b7e1c9a-0-v1", json!({"spec": []}))];
        assert!(said(There { claims, ..There::default() }).starts_with("PersistentVolumeClaim shop/"));
    }

    /// G2, G6: whatever it looks like.
    #[test]
    fn an_object_under_the_name_of_a_stage_is_there_and_is_not_believed() {
        let forged = r#"{"name":"plan","chosen":[]}"#;
        for text in ["[]", forged] {
            let mut stage = part("orders-0b7e1c9a-plan", json!({"data": {"stage.json": text}, "immutable": true}));
            stage["metadata"]["labels"][labels::STAGE] = json!("plan");
            let owner = Owner::of(&build("")).reference();
            stage["metadata"]["ownerReferences"] = json!([owner]);
            let world = seen(There { stages: vec![stage], ..There::default() }).unwrap();
            assert!(world.stages.is_empty(), "{:?}", world.stages);
            let unproved: Vec<_> = world.frozen.unproved.iter().map(|one| one.object.as_str()).collect();
            assert_eq!(unproved, ["orders-0b7e1c9a-plan"], "{text}");
        }
    }

    /// Its labels are anybody's to change who may change pods; a pod that ran is not gone by that.
    #[test]
    fn a_pod_of_a_slot_whose_labels_do_not_say_so_any_more_is_not_absent_and_a_stranger_is_nobody() {
        let pods = vec![part("orders-0b7e1c9a-0-e1", json!({}))];
        assert!(said(There { pods, ..There::default() }).contains("labels"));
        let pods = vec![part("stranger", json!({}))];
        assert!(seen(There { pods, ..There::default() }).unwrap().pods.is_empty());
    }

    /// An operator whose own clock is an hour off judges as any other, and one that starts begins nothing anew. Where the
    /// API server's clock is not known, no age is made up.
    #[test]
    fn what_began_before_this_process_is_as_old_as_the_api_servers_clock_says() {
        let mut build = build("");
        build.metadata.deletion_timestamp = serde_json::from_value(json!("2040-01-01T12:00:00Z")).unwrap();
        let start_time = Some("2040-01-01T11:00:00Z".to_owned());
        let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2040-01-01T09:10:00Z"}]}});
        let nodes = vec![Arc::new(serde_json::from_value(node).unwrap())];
        let objects = Objects { nodes, ..Objects::default() };
        let ages = |server: Option<&str>| {
            let moment = Moment { now: 5, server: server.map(|time| time.parse().unwrap()) };
            let status = Some(IndexBuildStatus { start_time: start_time.clone(), ..IndexBuildStatus::default() });
            let observed = Observed { build: &build, status, moment };
            let world = world(observed, &objects, &mut BuildMemory::default(), &mut NodeObserver::default()).unwrap();
            let BuildView { deletion_age, deletion_unseen, active_age, .. } = world.build;
            [deletion_age, deletion_unseen, active_age, world.nodes[0].readiness_age].map(|age| age / 60_000)
        };
        assert_eq!(ages(Some("2040-01-01T12:10:00Z")), [10, 10, 70, 180]);
        assert_eq!(ages(Some("2040-01-01T08:00:00Z")), [0; 4], "a clock that was set back");
        assert_eq!(ages(None), [0; 4]);
    }

    #[test]
    fn a_node_that_cannot_be_read_hinders_those_whose_records_name_it_and_proves_nothing_to_others() {
        let node = |name: &str, time: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time}]}});
        let good = "2026-01-01T00:00:00Z";
        let nodes = vec![node("n1", BEYOND), node("n2", good)];
        assert!(said(There { nodes, ..There::default() }).starts_with("Node n1 cannot be read"));
        let nodes = vec![node("n1", good), node("n2", BEYOND)];
        let world = seen(There { nodes, ..There::default() }).unwrap();
        let unread = world.node("n2").unwrap();
        assert!(!unread.gone && !unread.volumes_detached && unread.boot_id.is_empty(), "{unread:?}");
        assert_eq!(unread.ready, NodeReady::Unknown);
    }
}
