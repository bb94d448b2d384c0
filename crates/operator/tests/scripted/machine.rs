//! A scripted scheduler and kubelet: puts each executor's pod on a node, starts an owner in it, and writes how its
//! container is, until the pod is gone. Everything happens through the API, in the order in which a kubelet does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, WorkKind, labels};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::containers::Containers;
use super::ledger::{Kind, Ledger};
use super::owner::{Owner, Place};
use super::provisioner;
use super::store::Store;

/// The nodes.
const NODES: [&str; 3] = ["scripted-1", "scripted-2", "scripted-3"];
/// How often a node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How often owners wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub claims: AtomicU64,
    pub results: AtomicU64,
    pub heartbeats: AtomicU64,
}

/// How many attempts were begun, by namespace and kind; and the UIDs of their builds.
type Begun = (BTreeMap<(String, WorkKind), usize>, BTreeSet<String>);

/// What owners do.
#[derive(Debug)]
pub(crate) struct Script {
    /// Encode works of every plan.
    pub encode_works: u32,
    /// Sort works of every plan.
    pub sort_works: u32,
    /// How long a work takes.
    pub pace: Duration,
    /// The object store.
    pub store: Store,
    /// Works that are not finished until they are released, by namespace.
    held: Mutex<BTreeSet<(String, WorkKind)>>,
    /// Told when one is released.
    pub released: Notify,
    /// What owners wrote.
    pub written: Written,
    /// Attempts that were begun, by namespace and kind; and the UIDs of their builds.
    begun: Mutex<Begun>,
    /// When containers begin, and crash.
    pub containers: Containers,
    /// Builds whose owners do not say that they have released their volume.
    mute: Mutex<BTreeSet<String>>,
    /// Nodes whose machines are gone.
    lost: watch::Sender<BTreeSet<String>>,
}

impl Script {
    /// Plans with so many works, each of which takes so long.
    pub(crate) fn new(encode_works: u32, sort_works: u32, pace: Duration) -> Self {
        let (store, held, released) = (Store::default(), Mutex::default(), Notify::new());
        Self {
            encode_works,
            sort_works,
            pace,
            store,
            held,
            released,
            written: Written::default(),
            begun: Mutex::default(),
            containers: Containers::default(),
            mute: Mutex::default(),
            lost: watch::Sender::default(),
        }
    }

    /// Owners of a build end without their last word.
    pub(crate) fn silence(&self, build: &str) {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner).insert(build.to_owned());
    }

    pub(crate) fn is_mute(&self, build: &str) -> bool {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner).contains(build)
    }

    /// A node's machine is gone: its kubelet and its owners stop where they are, and nobody says so.
    pub(crate) fn lose(&self, node: &str) {
        self.lost.send_modify(|lost| lost.extend([node.to_owned()]));
    }

    /// The machine has booted again: its kubelet is back, and what had run on it is not.
    pub(crate) fn recover(&self, node: &str) {
        self.lost.send_modify(|lost| lost.retain(|name| name != node));
    }

    fn is_lost(&self, node: &str) -> bool {
        self.lost.borrow().contains(node)
    }

    async fn until(&self, node: &str, is_lost: bool) {
        let mut lost = self.lost.subscribe();
        if lost.wait_for(|lost| lost.contains(node) == is_lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// An attempt is begun.
    pub(crate) fn begin(&self, namespace: &str, build_uid: &str, kind: WorkKind) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun.0.entry((namespace.to_owned(), kind)).or_default() += 1;
        begun.1.insert(build_uid.to_owned());
    }

    /// How many attempts at works of this kind were begun.
    pub(crate) fn in_hand(&self, namespace: &str, kind: WorkKind) -> usize {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.0.get(&(namespace.to_owned(), kind)).copied().unwrap_or_default()
    }

    /// Whether any work of a build was begun.
    pub(crate) fn has_begun(&self, build_uid: &str) -> bool {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).1.contains(build_uid)
    }

    /// Works of this kind are worked on, but not finished.
    pub(crate) fn hold(&self, namespace: &str, kind: WorkKind) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), kind));
    }

    /// They are finished.
    pub(crate) fn release(&self, namespace: &str, kind: WorkKind) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), kind));
        self.released.notify_waiters();
    }

    /// Whether they wait.
    pub(crate) fn is_held(&self, namespace: &str, kind: WorkKind) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&(namespace.to_owned(), kind))
    }
}

type Channel = watch::Sender<Option<Arc<EngineDirectory>>>;

/// All records, as one watch tells them; and what happened.
#[derive(Default)]
pub(crate) struct Records {
    channels: Mutex<BTreeMap<(String, String), Channel>>,
    pub ledger: Ledger,
}

impl Records {
    fn channel<T>(&self, namespace: &str, name: &str, use_it: impl FnOnce(&Channel) -> T) -> T {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(channels.entry((namespace.to_owned(), name.to_owned())).or_default())
    }

    /// Follows one record.
    pub(crate) fn subscribe(&self, namespace: &str, name: &str) -> watch::Receiver<Option<Arc<EngineDirectory>>> {
        self.channel(namespace, name, watch::Sender::subscribe)
    }

    /// The record as it was seen last.
    pub(crate) fn read(&self, namespace: &str, name: &str) -> Option<Arc<EngineDirectory>> {
        self.channel(namespace, name, |channel| channel.borrow().clone())
    }

    fn put(&self, directory: EngineDirectory, there: bool) {
        let (namespace, name) = (directory.namespace().unwrap_or_default(), directory.name_any());
        let value = there.then(|| Arc::new(directory));
        self.channel(&namespace, &name, |channel| channel.send_replace(value));
    }
}

/// What a scripted kubelet knows of one pod.
#[derive(Clone, Debug)]
struct PodSeen {
    pod: Arc<Pod>,
    gone: bool,
}

struct Inner {
    admin: Client,
    bare: Client,
    script: Arc<Script>,
    records: Arc<Records>,
    pods: Mutex<BTreeMap<String, watch::Sender<PodSeen>>>,
}

/// Nodes with kubelets, owners, volumes. Ends when it is dropped.
pub(crate) struct Machine {
    pub script: Arc<Script>,
    pub records: Arc<Records>,
    _tasks: JoinSet<()>,
}

impl Machine {
    /// Starts. `bare` is a client without any identity.
    pub(crate) async fn start(admin: Client, bare: Client, script: Script) -> Self {
        let script = Arc::new(script);
        let records = Arc::new(Records::default());
        for name in NODES {
            register(&admin, name, &boot_id(name)).await;
        }
        let inner = Arc::new(Inner {
            admin: admin.clone(),
            bare,
            script: Arc::clone(&script),
            records: Arc::clone(&records),
            pods: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let (beat, alive) = (admin.clone(), Arc::clone(&script));
        tasks.spawn(async move {
            loop {
                for name in NODES.into_iter().filter(|name| !alive.is_lost(name)) {
                    let _ = heartbeat(&beat, name).await;
                }
                tokio::time::sleep(HEARTBEAT).await;
            }
        });
        let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE);
        let staged = format!("{ours},{}", labels::STAGE);
        let book = Arc::clone(&records);
        follow(
            &mut tasks,
            &records,
            Api::<Guarded<EngineDirectory>>::all(admin.clone()),
            "",
            move |directory, there| {
                note(&book.ledger, Kind::Directory, &directory, there);
                book.put(directory, there);
            },
        );
        let book = Arc::clone(&records);
        follow(&mut tasks, &records, Api::<Guarded<IndexBuild>>::all(admin.clone()), "", move |build, there| {
            book.ledger.build(build, there);
        });
        let book = Arc::clone(&records);
        follow(&mut tasks, &records, Api::<Guarded<ConfigMap>>::all(admin.clone()), &staged, move |map, there| {
            note(&book.ledger, Kind::Stage, &map, there);
        });
        let (book, client) = (Arc::clone(&records), admin.clone());
        follow(
            &mut tasks,
            &records,
            Api::<Guarded<PersistentVolumeClaim>>::all(admin.clone()),
            &ours,
            move |claim, there| {
                note(&book.ledger, Kind::Claim, &claim, there);
                let bound = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
                if !there || (!bound && claim.metadata.deletion_timestamp.is_none()) {
                    tokio::spawn(volume(client.clone(), claim, there));
                }
            },
        );
        let (book, kubelet) = (Arc::clone(&records), Arc::clone(&inner));
        follow(&mut tasks, &records, Api::<Guarded<Pod>>::all(admin.clone()), &ours, move |pod, there| {
            note(&book.ledger, Kind::Pod, &pod, there);
            see(&kubelet, pod, there);
        });
        Self { script, records, _tasks: tasks }
    }

    /// What happened.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.records.ledger
    }
}

fn note<K: Resource>(ledger: &Ledger, kind: Kind, object: &K, there: bool) {
    if there { ledger.there(kind, object) } else { ledger.gone(kind, object) }
}

/// Follows all objects of a kind that can be read. What there is comes by the watch itself: a list beside it may be "too old" for the
/// cache that the API server is just making of a kind that was just defined, and the ledger would have a gap where
/// nothing was missed.
fn follow<K>(
    tasks: &mut JoinSet<()>,
    records: &Arc<Records>,
    api: Api<Guarded<K>>,
    selector: &str,
    mut each: impl FnMut(K, bool) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(selector).streaming_lists();
    let records = Arc::clone(records);
    tasks.spawn(async move {
        let mut stream = watcher(api, config).default_backoff().boxed();
        let mut begun = 0_u32;
        let mut tell = |object: &Guarded<K>, there| {
            if let Ok(object) = object.read() {
                each(Arc::unwrap_or_clone(object), there);
            }
        };
        loop {
            match stream.try_next().await {
                Ok(Some(Event::Apply(object) | Event::InitApply(object))) => tell(&object, true),
                Ok(Some(Event::Delete(object))) => tell(&object, false),
                Ok(Some(Event::Init)) => {
                    begun += 1;
                    if begun > 1 {
                        records.ledger.gap(&K::kind(&()));
                    }
                }
                Ok(Some(Event::InitDone)) => {}
                Ok(None) => return,
                // It begins anew by itself.
                Err(error) => eprintln!("watch of {}: {error}", K::kind(&())),
            }
        }
    });
}

async fn volume(client: Client, claim: PersistentVolumeClaim, there: bool) {
    for _ in 0..5 {
        let done =
            if there { provisioner::bind(&client, &claim).await } else { provisioner::reclaim(&client, &claim).await };
        match done {
            Ok(()) => return,
            // Deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Of the first boot of a node.
pub(crate) fn boot_id(node: &str) -> String {
    format!("boot-{node}")
}

/// A kubelet makes its Node, and says what machine it is on.
pub(crate) async fn register(admin: &Client, name: &str, boot_id: &str) {
    let nodes: Api<Node> = Api::all(admin.clone());
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
    }))
    .unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    heartbeat(admin, name).await.unwrap();
    let now = jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "capacity": {"cpu": "1000", "memory": "4000Gi", "pods": "10000"},
        "allocatable": {"cpu": "1000", "memory": "4000Gi", "pods": "10000"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "scripted",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
        "nodeInfo": {"machineID": name, "systemUUID": format!("uuid-{name}"), "bootID": boot_id,
            "kernelVersion": "x", "osImage": "x", "containerRuntimeVersion": "scripted://1", "kubeletVersion": "v1.34.4",
            "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"},
    }});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn heartbeat(admin: &Client, name: &str) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(admin.clone(), "kube-node-lease");
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time}});
    leases.patch(name, &PatchParams::apply("scripted-kubelet").force(), &Patch::Apply(lease)).await.map(drop)
}

/// A pod was seen: it begins to be played, or its player is told.
fn see(inner: &Arc<Inner>, pod: Pod, there: bool) {
    let Some(uid) = pod.uid() else { return };
    let seen = PodSeen { pod: Arc::new(pod), gone: !there };
    let mut pods = inner.pods.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = pods.get(&uid) {
        known.send_replace(seen);
        if !there {
            pods.remove(&uid);
        }
    } else if there {
        let (sender, receiver) = watch::channel(seen);
        pods.insert(uid, sender);
        let inner = Arc::clone(inner);
        tokio::spawn(async move { play(&inner, receiver).await });
    }
}

/// A pod's life.
async fn play(inner: &Inner, mut seen: watch::Receiver<PodSeen>) {
    let PodSeen { pod, gone: _ } = seen.borrow().clone();
    let (name, namespace, uid) = (pod.name_any(), pod.namespace().unwrap_or_default(), pod.uid().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(inner.admin.clone(), &namespace);
    let is_over = |seen: &PodSeen| seen.gone || seen.pod.metadata.deletion_timestamp.is_some();

    // The scheduler.
    let slot: u32 = pod.labels().get(labels::SLOT).and_then(|slot| slot.parse().ok()).unwrap_or_default();
    let mut nodes = NODES.into_iter().cycle().skip(slot as usize % NODES.len()).take(NODES.len());
    let Some(node) = nodes.find(|node| !inner.script.is_lost(node)) else { return };
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
    let bound = pods.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding).await;
    if bound.is_err() {
        // It was deleted before it was on a node: then nothing of it ever runs.
        let gone = async {
            while !seen.borrow_and_update().gone {
                if seen.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), gone).await.is_err() {
            eprintln!("pod {namespace}/{name} could not be bound: {bound:?}");
        }
        return;
    }

    // The kubelet: volumes are mounted, the token is made, the container starts.
    let over = is_over(&seen.borrow());
    if !over && wait_for_claims(inner, &pod, node, &mut seen).await {
        let (stop, stopped) = watch::channel(false);
        let mut told = seen.clone();
        let telling = async move {
            loop {
                if is_over(&told.borrow_and_update()) {
                    stop.send_replace(true);
                }
                if told.changed().await.is_err() {
                    stop.send_replace(true);
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        inner.script.containers.may_start(&namespace).await;
        let nodes: Api<Node> = Api::all(inner.admin.clone());
        let kernel = nodes.get(node).await.ok().and_then(|node| node.status?.node_info).map(|info| info.boot_id);
        let crashes = inner.script.containers.crashes(&namespace);
        let started = jiff::Timestamp::now();
        if let Some(token) = token(inner, &pod, &namespace).await {
            write_status(&pods, &pod, &json!({"running": {"startedAt": started.to_string()}}), "Running").await;
            let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
            let place = Place {
                namespace: namespace.clone(),
                build_name: label(labels::INSTANCE),
                build_uid: label(labels::BUILD_UID),
                slot,
                pod_uid: uid.clone(),
                boot_id: kernel.unwrap_or_default(),
                token,
            };
            let owner = Owner { place, client: inner.bare.clone(), records: &inner.records, script: &inner.script };
            let code = tokio::select! {
                code = owner.live(stopped) => Some(code),
                () = telling => Some(0),
                () = inner.script.containers.crashed(&namespace, crashes) => Some(1),
                () = inner.script.until(node, true) => None,
            };
            match code {
                Some(code) => ended(&pods, &pod, code, started).await,
                // What it was is not said by a kubelet that has just begun.
                None => inner.script.until(node, false).await,
            }
        }
    } else if !seen.borrow().gone {
        ended(&pods, &pod, 137, jiff::Timestamp::now()).await;
    }

    // What the kubelet has ended, it removes when that is asked for.
    while !is_over(&seen.borrow_and_update()) {
        if seen.changed().await.is_err() {
            return;
        }
    }
    let mut parameters = DeleteParams::default().grace_period(0);
    parameters.preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
    for _ in 0..20 {
        match pods.delete(&name, &parameters).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Until the pod's claims are bound, and their volumes attached; `false`: the pod is to end first.
async fn wait_for_claims(inner: &Inner, pod: &Pod, node: &str, seen: &mut watch::Receiver<PodSeen>) -> bool {
    let namespace = pod.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(inner.admin.clone(), &namespace);
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
    let names = volumes.into_iter().filter_map(|volume| volume.persistent_volume_claim).map(|claim| claim.claim_name);
    for name in names {
        loop {
            {
                let now = seen.borrow_and_update();
                if now.gone || now.pod.metadata.deletion_timestamp.is_some() {
                    return false;
                }
            }
            let claim = claims.get_opt(&name).await.ok().flatten();
            let phase = claim.as_ref().and_then(|claim| claim.status.as_ref()?.phase.as_deref());
            if let Some(claim) = claim.as_ref().filter(|_| phase == Some("Bound"))
                && provisioner::attach(&inner.admin, claim, node).await.is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    true
}

/// A token of the pod's account that is bound to the pod, as the kubelet asks for it.
async fn token(inner: &Inner, pod: &Pod, namespace: &str) -> Option<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(inner.admin.clone(), namespace);
    let account = pod.spec.as_ref()?.service_account_name.clone()?;
    let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {
        "audiences": [], "expirationSeconds": 3600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()},
    }}))
    .unwrap();
    for _ in 0..50 {
        match accounts.create_token_request(&account, &PostParams::default(), &request).await {
            Ok(made) => return made.status.map(|status| status.token),
            // The pod is gone.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return None,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    None
}

async fn ended(pods: &Api<Pod>, pod: &Pod, code: i32, started: jiff::Timestamp) {
    let state = json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "containerID": container(pod), "startedAt": started.to_string(), "finishedAt": jiff::Timestamp::now().to_string(),
    }});
    write_status(pods, pod, &state, if code == 0 { "Succeeded" } else { "Failed" }).await;
}

fn container(pod: &Pod) -> String {
    format!("containerd://{}", pod.uid().unwrap_or_default().replace('-', ""))
}

/// The container's state, as the kubelet writes it.
async fn write_status(pods: &Api<Pod>, pod: &Pod, state: &Value, phase: &str) {
    let running = phase == "Running";
    let containers: Vec<Value> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container_spec| {
            json!({"name": container_spec.name, "image": container_spec.image, "imageID": "scripted", "ready": running,
                "started": running, "restartCount": 0, "containerID": container(pod), "state": state})
        })
        .collect();
    let status = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": phase, "containerStatuses": containers,
        "conditions": [{"type": "Ready", "status": if running { "True" } else { "False" }}]}});
    for _ in 0..20 {
        match pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
