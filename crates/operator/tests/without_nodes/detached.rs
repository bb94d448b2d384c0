//! A node that is gone with its machine. A volume of the network that nothing is attached to any more proves that its
//! owner is gone, and goes to the next owner; one that is still attached proves nothing, and a local one never does.

use std::time::{Duration, Instant};

use indexbuild_api::{ConditionStatus, ConditionType, EngineDirectory, IndexBuild, WorkKind, labels};
use indexbuild_faultproxy::{KubeProxy, Verb};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::scripted::{Bench, Script, provisioner};

const NAMESPACE: &str = "detached";
/// Where the scheduler puts the first slot of every build.
const NODE: &str = "scripted-1";
/// A pass over a build that nothing changes comes after half a minute.
const WITHIN: Duration = Duration::from_secs(60);
const ON_NETWORK: &str = "on-network";
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

/// The build is changed, so that the operator looks at it now; waits until it has asked for attachments.
async fn looks(bench: &Bench, proxy: &KubeProxy, rate: u64) {
    let seen = || proxy.count(Verb::List, "storage.k8s.io/volumeattachments");
    let before = seen();
    let change = Patch::Merge(json!({"spec": {"rowsPerSecond": rate}}));
    bench.builds(NAMESPACE).patch(ON_NETWORK, &PatchParams::default(), &change).await.unwrap();
    let looked = bench.until(WITHIN, |_| seen() > before).await;
    assert!(looked.is_ok(), "attachments are not looked for: {:?}", proxy.counts());
}

/// I3, I4.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_s_volume_goes_to_the_next_owner_once_it_is_detached_and_a_local_one_never_i3_i4() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("a network volume is detached from a lost node", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    let proxy = bench.proxy().await;
    let operator = bench.operator(&proxy, NAMESPACE, "lease", None).await;
    for (name, class) in [(ON_NETWORK, provisioner::NETWORK), (LOCAL, provisioner::CLASS)] {
        bench
            .build(NAMESPACE, name, 1, |build| {
                build["spec"]["volume"]["storageClassName"] = json!(class);
                // Nobody is replaced for being silent.
                build["spec"]["disruption"]["replaceAfter"] = json!("10m");
                build["spec"]["disruption"]["orphanAfter"] = json!("30m");
            })
            .await;
    }
    bench.until(Duration::from_secs(30), |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 2).await.unwrap();
    let before = record(&bench, ON_NETWORK).await;
    let local = record(&bench, LOCAL).await;
    let owner = before.spec.grant.clone().unwrap();
    let volume = before.spec.volume.clone().unwrap();

    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    let claim = claims.get(&volume.claim_name).await.unwrap();
    let attachment: VolumeAttachment = serde_json::from_value(json!({
        "metadata": {"name": "attached"},
        "spec": {"attacher": "scripted.example.com", "nodeName": NODE,
            "source": {"persistentVolumeName": claim.spec.unwrap().volume_name}},
    }))
    .unwrap();
    let attachments: Api<VolumeAttachment> = Api::all(bench.admin.clone());
    attachments.create(&PostParams::default(), &attachment).await.unwrap();
    script.lose(NODE);
    Api::<Node>::all(bench.admin.clone()).delete(NODE, &DeleteParams::default()).await.unwrap();

    // The control: it is attached, so that its machine may write to it yet, whatever became of the Node.
    for rate in 1_000..1_003 {
        looks(&bench, &proxy, rate).await;
    }
    let now = record(&bench, ON_NETWORK).await.spec;
    assert_eq!((now.grant.as_ref(), now.volume.as_ref()), (Some(&owner), Some(&volume)), "it is attached");
    for (verb, kind) in [(Verb::Get, "nodes"), (Verb::Get, "persistentvolumes")] {
        assert!(proxy.count(verb, kind) >= 1, "{verb} {kind}: {:?}", proxy.counts());
    }

    attachments.delete(&attachment.name_any(), &DeleteParams::default()).await.unwrap();
    let start = Instant::now();
    let is_given_on = |record: &EngineDirectory| {
        let grant = record.spec.grant.as_ref();
        grant.is_some_and(|grant| grant.pod_name != owner.pod_name && !grant.boot_nonce.is_empty())
    };
    let now = becomes(records(&bench), &before.name_any(), "another owner", is_given_on).await.spec;
    println!("a new owner has the volume {:?} after it was detached", start.elapsed());
    assert_eq!(now.volume, Some(volume), "what is sealed on it is kept");
    assert!(now.former_volumes.is_empty(), "{now:?}");
    let still = record(&bench, LOCAL).await.spec;
    assert_eq!(
        (still.grant, still.volume),
        (local.spec.grant, local.spec.volume),
        "a local volume is where its machine is"
    );

    script.release(NAMESPACE, WorkKind::Encode);
    becomes(bench.builds(NAMESPACE), ON_NETWORK, "a complete build", |build: &IndexBuild| {
        let complete = build.status.as_ref().and_then(|status| status.condition(ConditionType::Complete));
        complete.is_some_and(|complete| complete.status == ConditionStatus::True)
    })
    .await;
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
