//! Observe: everything that the lifecycle looks at, of one build, at one moment.
//!
//! A first look is at the caches, and finds out whether anything is to be done. Whatever is then done was read
//! live in the same pass: an absence in a cache means nothing, and a silent watch is no evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexbuild_api::{EngineDirectory, IndexBuild, IndexBuildSpec, IndexBuildStatus, labels};
use indexbuild_lifecycle::Millis;
use indexbuild_lifecycle::world::{BuildView, ClaimPhase, ClaimView, Clocks, NodeReady, NodeView, World};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::caches::{Caches, Nodes};
use crate::error::is_status;
use crate::memory::{BuildMemory, NodeMemory};
use crate::objects::Owner;
use crate::views::{self, BadStage};

/// The objects of one build.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Its records.
    pub directories: Vec<Arc<EngineDirectory>>,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Its claims.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Its frozen stages.
    pub stages: Vec<Arc<ConfigMap>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Nodes that are named in records and whose object is gone: a live read said so.
    pub gone: BTreeSet<String>,
    /// Nodes that no network volume of the build is attached to any more.
    pub detached: BTreeSet<String>,
    /// Claims of somebody else that have names of ours.
    pub foreign: Vec<ClaimView>,
}

/// Selects what belongs to a build, whatever its name is.
#[must_use]
pub fn selector(uid: &str) -> String {
    format!("{}={uid}", labels::BUILD_UID)
}

impl Objects {
    /// As the caches have them.
    #[must_use]
    pub fn cached(caches: &Caches, nodes: &Nodes, owner: &Owner) -> Self {
        Self {
            directories: of_build(&caches.directories, owner),
            pods: of_build(&caches.pods, owner),
            claims: of_build(&caches.claims, owner),
            stages: of_build(&caches.stages, owner),
            nodes: nodes.state(),
            ..Self::default()
        }
    }

    /// As the API server has them now. Nodes are read anew where what the cache has of them would prove something.
    ///
    /// # Errors
    /// The API server's.
    pub async fn live(
        client: &Client,
        nodes: &Nodes,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<Self, kube::Error> {
        let namespace = owner.namespace.as_str();
        let selected = ListParams::default().labels(&selector(&owner.uid));
        let staged = ListParams::default().labels(&format!("{},{}", selector(&owner.uid), labels::STAGE));
        let (directories, pods, claims, stages) = futures::try_join!(
            list(Api::<EngineDirectory>::namespaced(client.clone(), namespace), &selected),
            list(Api::<Pod>::namespaced(client.clone(), namespace), &selected),
            list(Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace), &selected),
            list(Api::<ConfigMap>::namespaced(client.clone(), namespace), &staged),
        )?;
        let mut objects = Self { directories, pods, claims, stages, nodes: nodes.state(), ..Self::default() };
        objects.look_at_nodes(client).await?;
        objects.look_at_foreign(client, owner, memory).await?;
        Ok(objects)
    }

    /// What proves that an owner is gone is read from the API server itself: a reboot, a removal, a taint.
    async fn look_at_nodes(&mut self, client: &Client) -> Result<(), kube::Error> {
        let api = Api::<Node>::all(client.clone());
        for (name, boot_ids) in self.recorded_nodes() {
            let known = self.nodes.iter().position(|node| node.name_any() == name);
            let proves_nothing = known.is_some_and(|at| {
                let node = &self.nodes[at];
                let now = node.status.as_ref().and_then(|status| status.node_info.as_ref()).map(|info| &info.boot_id);
                !views::is_out_of_service(node) && now.is_some_and(|now| boot_ids.iter().all(|boot_id| boot_id == now))
            });
            if proves_nothing {
                continue;
            }
            match api.get_opt(&name).await {
                Ok(Some(node)) => {
                    let suspicious = views::is_out_of_service(&node);
                    match known {
                        Some(at) => self.nodes[at] = Arc::new(node),
                        None => self.nodes.push(Arc::new(node)),
                    }
                    if suspicious && self.is_detached(client, &name).await? {
                        self.detached.insert(name);
                    }
                }
                Ok(None) => {
                    if let Some(at) = known {
                        self.nodes.remove(at);
                    }
                    if self.is_detached(client, &name).await? {
                        self.detached.insert(name.clone());
                    }
                    self.gone.insert(name);
                }
                // Without the permission nothing is known of nodes, and nothing is proved by them.
                Err(error) if is_status(&error, 403) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The nodes that records name, with the boot ids that they had.
    fn recorded_nodes(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut nodes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for directory in &self.directories {
            let status = directory.status.clone().unwrap_or_default();
            let present = (status.node_name.unwrap_or_default(), status.node_boot_id.unwrap_or_default());
            let former = directory.spec.former_volumes.iter();
            let former = former.map(|volume| (volume.node_name.clone(), volume.node_boot_id.clone()));
            for (name, boot_id) in former.chain(std::iter::once(present)).filter(|(name, _)| !name.is_empty()) {
                nodes.entry(name).or_default().insert(boot_id);
            }
        }
        nodes
    }

    /// Whether all volumes of the build are network volumes, none of which is attached to a node. A local volume
    /// stays with its machine, whatever becomes of the Node object: then this proves nothing.
    async fn is_detached(&self, client: &Client, node: &str) -> Result<bool, kube::Error> {
        let names: BTreeSet<String> = self
            .claims
            .iter()
            .filter_map(|claim| claim.spec.as_ref()?.volume_name.clone())
            .filter(|name| !name.is_empty())
            .collect();
        let volumes = Api::<PersistentVolume>::all(client.clone());
        for name in &names {
            match volumes.get_opt(name).await {
                Ok(Some(volume)) if volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some()) => {}
                Ok(_) => return Ok(false),
                Err(error) if is_status(&error, 403) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let attachments = match Api::<VolumeAttachment>::all(client.clone()).list(&ListParams::default()).await {
            Ok(attachments) => attachments,
            Err(error) if is_status(&error, 403) => return Ok(false),
            Err(error) => return Err(error),
        };
        let attached = attachments.items.iter().any(|attachment| {
            let volume = attachment.spec.source.persistent_volume_name.as_ref();
            attachment.spec.node_name == node && volume.is_some_and(|volume| names.contains(volume))
        });
        Ok(!names.is_empty() && !attached)
    }

    async fn look_at_foreign(
        &mut self,
        client: &Client,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<(), kube::Error> {
        let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &owner.namespace);
        for (name, (slot, generation)) in &memory.foreign_claims {
            let Some(claim) = api.get_opt(name).await? else {
                continue;
            };
            if is_of_build(&claim, owner) {
                continue;
            }
            self.foreign.push(ClaimView {
                name: name.clone(),
                uid: claim.uid().unwrap_or_default(),
                slot: *slot,
                generation: *generation,
                phase: ClaimPhase::Bound,
                foreign: true,
                lock_taken: None,
            });
        }
        Ok(())
    }

    /// The record of a slot.
    #[must_use]
    pub fn directory(&self, slot: u32) -> Option<&EngineDirectory> {
        self.directories.iter().map(AsRef::as_ref).find(|directory| directory.spec.slot == slot)
    }
}

/// Whether an object's labels say that it is this build's.
#[must_use]
pub fn is_of_build<K: Resource>(object: &K, owner: &Owner) -> bool {
    object.meta().labels.as_ref().and_then(|labels| labels.get(labels::BUILD_UID)).is_some_and(|uid| *uid == owner.uid)
}

fn of_build<K>(store: &kube::runtime::reflector::Store<K>, owner: &Owner) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(owner.namespace.as_str()) && is_of_build(object, owner)
    })
}

async fn list<K>(api: Api<K>, parameters: &ListParams) -> Result<Vec<Arc<K>>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(api.list(parameters).await?.items.into_iter().map(Arc::new).collect())
}

/// What is known of the build beside its objects.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The build.
    pub build: &'a IndexBuild,
    /// The status that holds.
    pub status: Option<IndexBuildStatus>,
    /// This process's clock.
    pub now: Millis,
    /// The time of day.
    pub wall: String,
}

/// The times that hold for a build.
#[must_use]
pub fn clocks(spec: &IndexBuildSpec) -> Clocks {
    let disruption = spec.disruption_or_default();
    Clocks {
        renew_interval: spec.renew_interval().as_millis(),
        replace_after: disruption.replace_after.as_millis(),
        orphan_after: disruption.orphan_after.as_millis(),
    }
}

/// The lifecycle's view of a build.
///
/// # Errors
/// [`BadStage`]: what was chosen cannot be read, so that nothing may be done.
pub fn world(
    observed: Observed<'_>,
    objects: &Objects,
    memory: &mut BuildMemory,
    nodes: &mut NodeMemory,
) -> Result<World, BadStage> {
    let Observed { build, status, now, wall } = observed;
    let deleting = build.metadata.deletion_timestamp.is_some();
    let stages = objects.stages.iter().map(|map| views::stage(map)).collect::<Result<_, _>>()?;
    let build = BuildView {
        uid: build.uid().unwrap_or_default(),
        name: build.name_any(),
        namespace: build.namespace().unwrap_or_default(),
        generation: build.metadata.generation.unwrap_or_default(),
        spec: build.spec.clone(),
        status,
        deleting,
        deletion_age: memory.deletion_age(deleting, now),
        finalizer: build.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER),
        reconcile_disabled: build
            .annotations()
            .get(labels::RECONCILE)
            .is_some_and(|value| value == labels::RECONCILE_DISABLED),
        clocks: clocks(&build.spec),
        percent_per_second: memory.percent_per_second(now),
        gone: false,
    };
    Ok(World { stages, ..remains(build, now, wall, objects, memory, nodes) })
}

/// The lifecycle's view of what is there of a build beside its own object and its stages.
pub fn remains(
    build: BuildView,
    now: Millis,
    wall: String,
    objects: &Objects,
    memory: &mut BuildMemory,
    nodes: &mut NodeMemory,
) -> World {
    let mut claims: Vec<_> = objects.claims.iter().filter_map(|claim| views::claim(claim)).collect();
    claims.extend(objects.foreign.iter().cloned());
    let mut records: Vec<_> = objects.directories.iter().map(|directory| views::record(directory)).collect();
    records.sort_by_key(|record| record.spec.slot);
    World {
        now,
        wall,
        build,
        slots: memory.slots(records, now),
        pods: objects.pods.iter().filter_map(|pod| views::pod(pod)).collect(),
        claims,
        nodes: node_views(objects, nodes, now),
        stages: Vec::new(),
    }
}

fn node_views(objects: &Objects, memory: &mut NodeMemory, now: Millis) -> Vec<NodeView> {
    let there = objects.nodes.iter().map(|node| {
        let name = node.name_any();
        let age = memory.unready_age(&name, views::node_ready(node) == NodeReady::True, now);
        views::node(node, age, objects.detached.contains(&name))
    });
    let mut nodes: Vec<_> = there.collect();
    nodes.extend(objects.gone.iter().map(|name| views::gone_node(name, objects.detached.contains(name))));
    nodes
}
