//! What is watched: one list-watch for each kind, in a namespace or in all.
//!
//! Only what is looked at is kept. What was read is watched: a change of any of it leads to another look. An object
//! that cannot be read is kept too, as what is known of it: it is there, and hinders no other.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, future};
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, Unreadable, labels};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::client::WATCH_SECONDS;
use crate::pod_ends::Ended;

/// How many objects a page of a list has.
const PAGE: u32 = 500;

/// The nodes of the cluster; empty where they may not be read.
pub(crate) type Nodes = Store<Guarded<Node>>;

/// What is watched in one namespace, or in all.
#[derive(Clone)]
pub(crate) struct Caches {
    pub builds: Store<Guarded<IndexBuild>>,
    pub directories: Store<Guarded<EngineDirectory>>,
    pub pods: Store<Guarded<Pod>>,
    pub claims: Store<Guarded<PersistentVolumeClaim>>,
    pub stages: Store<Guarded<ConfigMap>>,
    /// The last words about pods that ended.
    pub ended: Ended,
}

/// Caches, and the streams that fill them while they are polled.
pub(crate) struct Watched {
    pub caches: Caches,
    pub builds: BoxStream<'static, Result<Guarded<IndexBuild>, watcher::Error>>,
    /// Builds of which something changed.
    pub parts: BoxStream<'static, ObjectRef<Guarded<IndexBuild>>>,
}

impl Caches {
    /// All objects that are there and cannot be read.
    pub(crate) fn unreadable(&self) -> Vec<Unreadable> {
        let Self { builds, directories, pods, claims, stages, ended: _ } = self;
        [unreadable(builds), unreadable(directories), unreadable(pods), unreadable(claims), unreadable(stages)].concat()
    }
}

/// The objects of a cache that could be read.
pub(crate) fn readable<K>(store: &Store<Guarded<K>>) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().filter_map(|object| object.read().ok()).collect()
}

/// The objects of a cache that could not.
pub(crate) fn unreadable<K>(store: &Store<Guarded<K>>) -> Vec<Unreadable>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().filter_map(|object| object.read().err()).collect()
}

/// Where the operator looks: one namespace, or all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<Guarded<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn config() -> watcher::Config {
    // `MostRecent` is the default list semantic: never an old state out of a lagging cache.
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

fn reflected<K>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    strip: impl Fn(&mut K) + Send + 'static,
) -> (Store<Guarded<K>>, impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let strip = move |object: &mut Guarded<K>| object.modify(&strip);
    let stream = watcher(api, config).default_backoff().modify(strip).reflect(writer).touched_objects();
    (reader, stream)
}

/// `managedFields` were dropped when it was read.
fn as_it_is<K>(_: &mut K) {}

/// The build that an object of a build belongs to, by its labels.
fn build_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<ObjectRef<Guarded<IndexBuild>>> {
    let meta = object.meta();
    let name = meta.labels.as_ref()?.get(labels::INSTANCE)?;
    Some(ObjectRef::new(name).within(meta.namespace.as_deref()?))
}

fn touched<K>(
    stream: impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<Guarded<IndexBuild>>>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    stream
        .filter_map(|object| {
            future::ready(match object {
                Ok(object) => build_of(&object),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "a watch is begun anew");
                    None
                }
            })
        })
        .boxed()
}

/// Begins to watch. Nothing is read until the streams are polled.
pub(crate) fn watch(client: &Client, namespace: Option<&str>) -> Watched {
    let ours = || config().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE));
    let (builds, build_stream) = reflected(api::<IndexBuild>(client, namespace), config(), as_it_is);
    let (directories, directory_stream) = reflected(api::<EngineDirectory>(client, namespace), config(), as_it_is);
    let (pods, pod_stream) = reflected(api::<Pod>(client, namespace), ours(), as_it_is);
    let (claims, claim_stream) = reflected(api::<PersistentVolumeClaim>(client, namespace), ours(), as_it_is);
    let ended = Ended::default();
    let watched = ended.clone();
    let pod_stream = pod_stream.inspect(move |pod| {
        if let Ok(pod) = pod
            && let Ok(pod) = pod.read()
        {
            watched.note(&pod);
        }
    });
    let staged = ours().labels(&format!("{}={},{}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE, labels::STAGE));
    let (stages, stage_stream) = reflected(api::<ConfigMap>(client, namespace), staged, as_it_is);
    // A renewal alone is looked at when the build is looked at anyway, some seconds later: with thousands of slots
    // it would be a pass for each of them.
    let directory_stream = directory_stream
        .predicate_filter(|directory: &Guarded<EngineDirectory>| Some(decisive(directory)), PredicateConfig::default());
    let parts = futures::stream::select_all([
        touched(directory_stream),
        touched(pod_stream),
        touched(claim_stream),
        touched(stage_stream),
    ]);
    Watched {
        caches: Caches { builds, directories, pods, claims, stages, ended },
        builds: build_stream.boxed(),
        parts: parts.boxed(),
    }
}

/// A digest of what a record says beside how far its owner is.
fn decisive(directory: &Guarded<EngineDirectory>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let directory = match directory.read() {
        Ok(directory) => directory,
        Err(unreadable) => {
            unreadable.to_string().hash(&mut hasher);
            return hasher.finish();
        }
    };
    let status = directory.status.clone().unwrap_or_default();
    let report =
        status.report.map(|report| (report.epoch, report.boot_nonce, report.waiting, report.result, report.error));
    let what = (
        directory.uid(),
        serde_json::to_string(&directory.spec).unwrap_or_default(),
        format!(
            "{:?} {:?} {report:?} {:?} {:?}",
            status.claim, status.state, status.released, directory.metadata.deletion_timestamp
        ),
    );
    what.hash(&mut hasher);
    hasher.finish()
}

/// Watches nodes. Heartbeats of a node change nothing that is looked at.
pub(crate) fn watch_nodes(client: &Client) -> (Nodes, BoxStream<'static, Result<Guarded<Node>, watcher::Error>>) {
    let strip = |node: &mut Node| {
        if let Some(status) = node.status.as_mut() {
            status.images = None;
            for condition in status.conditions.iter_mut().flatten() {
                condition.last_heartbeat_time = None;
            }
        }
    };
    let (reader, stream) = reflected(Api::<Guarded<Node>>::all(client.clone()), config(), strip);
    let stream = stream.predicate_filter(
        |node: &Guarded<Node>| {
            let mut hasher = DefaultHasher::new();
            match node.read() {
                Ok(node) => format!("{:?} {:?}", views_of(&node), node.metadata.deletion_timestamp).hash(&mut hasher),
                Err(unreadable) => unreadable.to_string().hash(&mut hasher),
            }
            Some(hasher.finish())
        },
        PredicateConfig::default(),
    );
    (reader, stream.boxed())
}

fn views_of(node: &Node) -> indexbuild_lifecycle::world::NodeView {
    crate::views::node(node, 0, false)
}

/// Builds that a change of a node may concern: those that have not ended, as far as is known.
pub(crate) fn unfinished(builds: &Store<Guarded<IndexBuild>>) -> Vec<ObjectRef<Guarded<IndexBuild>>> {
    let at_work = |build: &IndexBuild| {
        let status = build.status.as_ref();
        let finished = status.and_then(|status| status.condition(indexbuild_api::ConditionType::Finished));
        build.metadata.deletion_timestamp.is_some()
            || finished.is_none_or(|finished| finished.status != indexbuild_api::ConditionStatus::True)
            || status.and_then(|status| status.volumes).is_some_and(|volumes| volumes.held > 0)
    };
    let concerned = |build: &Guarded<IndexBuild>| build.read().map_or(true, |build| at_work(&build));
    builds.state_filter(concerned).iter().map(|build| ObjectRef::from_obj(build.as_ref())).collect()
}
