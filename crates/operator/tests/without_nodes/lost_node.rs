//! A node that is gone with its machine. A volume that was attached to it, and is not any more, proves that its owner is
//! gone where its driver's detach cuts a node off, and goes to the next owner; one that is still attached proves nothing,
//! nor does one of another driver, and a local one does when its machine is back with another boot id, as a live read of
//! it says.

use std::time::{Duration, Instant};

use indexbuild_api::{
    Attached, ConditionStatus, ConditionType, EngineDirectory, EngineDirectorySpec, IndexBuild, WorkKind, labels,
};
use indexbuild_faultproxy::{KubeProxy, RequestMatch, Rule, Verb};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::scripted::deputy::Deputy;
use crate::scripted::{Bench, Script, machine, provisioner};

const NAMESPACE: &str = "lost-node";
/// Where the scheduler puts the first slot of every build.
const NODE: &str = "scripted-1";
/// A pass over a build that nothing changes comes after half a minute.
const WITHIN: Duration = Duration::from_secs(60);
const ON_NETWORK: &str = "on-network";
const SHARED: &str = "shared";
const LOCAL: &str = "local";

fn records(bench: &Bench) -> Api<EngineDirectory> {
    Api::namespaced(bench.admin.clone(), NAMESPACE)
}

async fn record(bench: &Bench, build: &str) -> EngineDirectory {
    let selected = ListParams::default().labels(&format!("{}={build}", labels::INSTANCE));
    records(bench).list(&selected).await.unwrap().items.remove(0)
}

/// Waits until an object is as it should be, by a watch.
async fn becomes<K>(api: Api<K>, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let holds = |object: Option<&K>| object.is_some_and(&holds);
    let waited = tokio::time::timeout(WITHIN, await_condition(api.clone(), name, holds)).await;
    match waited {
        Ok(object) => object.unwrap().unwrap(),
        Err(_) => panic!("{what} within {WITHIN:?}: {:?}", api.get_opt(name).await),
    }
}

/// Where the operator asks for what would prove that an owner is gone.
const ATTACHMENTS: (Verb, &str) = (Verb::List, "storage.k8s.io/volumeattachments");
const LIVE_NODE: (Verb, &str) = (Verb::Get, "nodes");

/// A build is changed, so that the operator looks at it now; waits until it has asked for this.
async fn looks(bench: &Bench, proxy: &KubeProxy, build: &str, rate: u64, (verb, kind): (Verb, &str)) {
    let before = proxy.count(verb, kind);
    let change = Patch::Merge(json!({"spec": {"rowsPerSecond": rate}}));
    bench.builds(NAMESPACE).patch(build, &PatchParams::default(), &change).await.unwrap();
    let looked = bench.until(WITHIN, |_| proxy.count(verb, kind) > before).await;
    assert!(looked.is_ok(), "{verb} {kind} is not called: {:?}", proxy.counts());
}

/// The owner that follows another.
async fn next_owner(bench: &Bench, before: &EngineDirectory) -> EngineDirectorySpec {
    let owner = before.spec.grant.clone().unwrap();
    let is_given_on = |record: &EngineDirectory| {
        let grant = record.spec.grant.as_ref();
        grant.is_some_and(|grant| grant.pod_name != owner.pod_name && !grant.boot_nonce.is_empty())
    };
    becomes(records(bench), &before.name_any(), "another owner", is_given_on).await.spec
}

/// Builds on volumes of three kinds are worked on by owners on one node.
async fn at_work(bench: &Bench, proxy: &KubeProxy) -> Deputy {
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    let operator = bench.operator(proxy, NAMESPACE, "lease", None).await;
    for (name, class) in
        [(ON_NETWORK, provisioner::NETWORK), (SHARED, provisioner::SHARED), (LOCAL, provisioner::CLASS)]
    {
        bench
            .build(NAMESPACE, name, 1, |build| {
                build["spec"]["volume"]["storageClassName"] = json!(class);
                // Nobody is replaced for being silent.
                build["spec"]["disruption"]["replaceAfter"] = json!("10m");
                build["spec"]["disruption"]["orphanAfter"] = json!("30m");
            })
            .await;
    }
    bench.until(Duration::from_secs(30), |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 3).await.unwrap();
    operator
}

/// The volume of a build's only slot.
async fn volume_of(bench: &Bench, record: &EngineDirectory) -> String {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    let claim = claims.get(&record.spec.volume.as_ref().unwrap().claim_name).await.unwrap();
    claim.spec.unwrap().volume_name.unwrap()
}

/// What the write said that bound the process: what was attached then, by which driver.
async fn is_recorded(bench: &Bench, build: &str, driver: Option<&str>) {
    let record = record(bench, build).await;
    let volume = volume_of(bench, &record).await;
    let attached = driver.map(|driver| Attached { driver: driver.to_owned(), volume, node: NODE.to_owned() });
    assert_eq!(record.spec.grant.unwrap().attached, attached, "{build}");
}

/// The node and its machine are lost; the network volumes are attached to it for a while.
async fn lose(bench: &Bench, proxy: &KubeProxy) {
    let before = record(bench, ON_NETWORK).await;
    let local = record(bench, LOCAL).await;
    let shared = record(bench, SHARED).await;
    let volume = before.spec.volume.clone().unwrap();
    let attachments: Api<VolumeAttachment> = Api::all(bench.admin.clone());
    for (build, driver) in
        [(ON_NETWORK, Some(provisioner::DETACHES)), (SHARED, Some(provisioner::PRETENDS)), (LOCAL, None)]
    {
        is_recorded(bench, build, driver).await;
    }
    bench.machine.script.lose(NODE);
    Api::<Node>::all(bench.admin.clone()).delete(NODE, &DeleteParams::default()).await.unwrap();

    // The control: it is attached, so that its machine may write to it yet, whatever became of the Node.
    for rate in 1_000..1_003 {
        looks(bench, proxy, ON_NETWORK, rate, ATTACHMENTS).await;
    }
    let now = record(bench, ON_NETWORK).await.spec;
    assert_eq!((now.grant, now.volume), (before.spec.grant.clone(), Some(volume.clone())), "it is attached");
    let (verb, kind) = LIVE_NODE;
    assert!(proxy.count(verb, kind) >= 1, "{verb} {kind}: {:?}", proxy.counts());

    for record in [&shared, &before] {
        let attachment = provisioner::attachment(&volume_of(bench, record).await, NODE);
        attachments.delete(&attachment, &DeleteParams::default()).await.unwrap();
    }
    let start = Instant::now();
    let now = next_owner(bench, &before).await;
    println!("a new owner has the volume {:?} after it was detached", start.elapsed());
    assert_eq!(now.volume, Some(volume), "what is sealed on it is kept");
    assert!(now.former_volumes.is_empty(), "{now:?}");
    // Nothing is attached: of a driver of which nothing is known, that proves nothing.
    for rate in 3_000..3_003 {
        looks(bench, proxy, SHARED, rate, ATTACHMENTS).await;
    }
    let held = record(bench, SHARED).await.spec;
    assert_eq!((held.grant, held.volume), (shared.spec.grant, shared.spec.volume), "its machine may write to it yet");
    let still = record(bench, LOCAL).await.spec;
    assert_eq!(
        (still.grant, still.volume),
        (local.spec.grant, local.spec.volume),
        "a local volume is where its machine is"
    );
}

/// The machine is back: first its Node alone, which proves nothing, then with another boot id, which counts when it is
/// read live, and not before.
async fn come_back(bench: &Bench, proxy: &KubeProxy) {
    let before = record(bench, LOCAL).await;
    machine::register(&bench.admin, NODE, &machine::boot_id(NODE)).await;
    bench.machine.script.recover(NODE);
    let lists = (Verb::List, "pods");
    for rate in 1_000..1_003 {
        looks(bench, proxy, LOCAL, rate, lists).await;
    }
    assert_eq!(record(bench, LOCAL).await.spec.grant, before.spec.grant, "a machine that has not booted anew");

    // What a live read gives from here on is what the node was; the operator's watch is told of the boot.
    let old = proxy.add_rule(Rule::OldVersion { which: RequestMatch::verb(Verb::Get).resource("", "nodes") });
    let client = Client::try_from(bench.through(proxy).await).unwrap();
    Api::<Node>::all(client).get(NODE).await.unwrap();
    let booted = json!({"status": {"nodeInfo": {"bootID": "another boot"}}});
    let nodes: Api<Node> = Api::all(bench.admin.clone());
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(booted)).await.unwrap();
    for rate in 2_000..2_003 {
        looks(bench, proxy, LOCAL, rate, LIVE_NODE).await;
    }
    assert_eq!(record(bench, LOCAL).await.spec.grant, before.spec.grant, "what a watch tells is no proof");

    old.lift();
    let now = next_owner(bench, &before).await;
    assert_eq!(now.volume, before.spec.volume, "what is sealed on it is kept");
    assert!(now.former_volumes.is_empty(), "{now:?}");
}

/// I3, I4.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_s_volumes_go_to_the_next_owner_once_detached_or_booted_anew_and_not_before_i3_i4() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("a node is lost, and comes back", script).await else { return };
    let proxy = bench.proxy().await;
    let operator = at_work(&bench, &proxy).await;
    lose(&bench, &proxy).await;
    come_back(&bench, &proxy).await;

    bench.machine.script.release(NAMESPACE, WorkKind::Encode);
    for name in [ON_NETWORK, SHARED, LOCAL] {
        becomes(bench.builds(NAMESPACE), name, "a complete build", |build: &IndexBuild| {
            let complete = build.status.as_ref().and_then(|status| status.condition(ConditionType::Complete));
            complete.is_some_and(|complete| complete.status == ConditionStatus::True)
        })
        .await;
    }
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
