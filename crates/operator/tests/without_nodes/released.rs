//! Pods that end in peace and are gone while no operator runs. Who has said that it has released its volume is not waited
//! for; who has not is, as nothing proves that it is gone.

use std::time::Duration;

use indexbuild_api::{
    ConditionStatus, ConditionType, EngineDirectory, IndexBuild, OwnerChangeReason, VolumeState, WorkKind, labels,
};
use indexbuild_faultproxy::{KubeProxy, Verb};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scripted::deputy::Deputy;
use crate::scripted::ledger::Kind;
use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "released";
const SAYS_SO: &str = "says-so";
/// The control.
const MUTE: &str = "mute";
const WITHIN: Duration = Duration::from_secs(60);

async fn record(bench: &Bench, build: &str) -> EngineDirectory {
    let records: Api<EngineDirectory> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    let selected = ListParams::default().labels(&format!("{}={build}", labels::INSTANCE));
    records.list(&selected).await.unwrap().items.remove(0)
}

async fn becomes(bench: &Bench, build: &str, what: &str, holds: impl Fn(&EngineDirectory) -> bool) -> EngineDirectory {
    let start = std::time::Instant::now();
    loop {
        let now = record(bench, build).await;
        if holds(&now) {
            return now;
        }
        assert!(start.elapsed() < WITHIN, "{build}: {what} within {WITHIN:?}: {now:?}");
        let _ = bench.until(Duration::from_millis(200), |_| false).await;
    }
}

/// A change of the build, so that the operator looks at it; waits until it has read its pods.
async fn looks(bench: &Bench, proxy: &KubeProxy, build: &str, rate: u64) {
    let before = proxy.count(Verb::List, "pods");
    let change = Patch::Merge(json!({"spec": {"rowsPerSecond": rate}}));
    bench.builds(NAMESPACE).patch(build, &PatchParams::default(), &change).await.unwrap();
    let looked = bench.until(WITHIN, |_| proxy.count(Verb::List, "pods") > before).await;
    assert!(looked.is_ok(), "its pods are not read: {:?}", proxy.counts());
}

async fn at_work(bench: &Bench, proxy: &KubeProxy) -> Deputy {
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    script.silence(MUTE);
    let operator = bench.operator(proxy, NAMESPACE, "lease", None).await;
    for (name, patience) in [(SAYS_SO, "10m"), (MUTE, "40s")] {
        bench
            .build(NAMESPACE, name, 1, |build| {
                build["spec"]["disruption"] = json!({"replaceAfter": patience, "orphanAfter": "30m"});
            })
            .await;
    }
    bench.until(Duration::from_secs(30), |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 2).await.unwrap();
    operator
}

/// I4, I9.
#[tokio::test(flavor = "multi_thread")]
async fn who_released_its_volume_while_no_operator_ran_is_not_waited_for_and_its_volume_goes_on_i4_i9() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("owners end while no operator runs", script).await else { return };
    let proxy = bench.proxy().await;
    let operator = at_work(&bench, &proxy).await;
    let (released, mute) = (record(&bench, SAYS_SO).await, record(&bench, MUTE).await);
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();

    let pods: Api<Pod> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    let gone = bench.until(WITHIN, |bench| bench.machine.ledger().count_left(NAMESPACE, &[Kind::Pod]) == 0).await;
    assert!(gone.is_ok(), "pods are still there: {:?}", bench.objects(NAMESPACE).await);
    let grant = released.spec.grant.clone().unwrap();
    let said = record(&bench, SAYS_SO).await.status.unwrap().released;
    assert_eq!(said[&grant.pod_uid].epoch, grant.epoch, "its last word outlives it");
    assert!(record(&bench, MUTE).await.status.unwrap().released.is_empty());

    let operator = bench.operator(&proxy, NAMESPACE, "lease", None).await;
    let now = becomes(&bench, SAYS_SO, "another owner", |record| {
        record.spec.grant.as_ref().is_some_and(|now| now.pod_name != grant.pod_name && !now.boot_nonce.is_empty())
    })
    .await;
    assert_eq!(now.spec.volume, released.spec.volume, "on the same volume");
    let history: Vec<_> = now.status.unwrap().history.iter().map(|change| change.reason).collect();
    assert!(history.contains(&OwnerChangeReason::Rebound), "{history:?}");
    assert!(!history.contains(&OwnerChangeReason::Replaced), "{history:?}");
    assert_eq!(now.spec.failed_attempts, 0);

    // The control.
    for rate in 1_000..1_003 {
        looks(&bench, &proxy, MUTE, rate).await;
    }
    assert_eq!(record(&bench, MUTE).await.spec.grant, mute.spec.grant, "a pod that is not there proves nothing");
    let replaced = becomes(&bench, MUTE, "a replacement", |record| record.spec.volume != mute.spec.volume).await;
    let former = replaced.spec.former_volumes.iter().map(|volume| (volume.claim_name.clone(), volume.state));
    let stranded = (mute.spec.volume.unwrap().claim_name, VolumeState::Stranded);
    assert_eq!(former.collect::<Vec<_>>(), [stranded]);

    bench.machine.script.release(NAMESPACE, WorkKind::Encode);
    for name in [SAYS_SO, MUTE] {
        let complete = |build: &IndexBuild| {
            let said = build.status.as_ref().and_then(|status| status.condition(ConditionType::Complete));
            said.is_some_and(|said| said.status == ConditionStatus::True)
        };
        let start = std::time::Instant::now();
        while !complete(&bench.builds(NAMESPACE).get(name).await.unwrap()) {
            assert!(start.elapsed() < WITHIN, "{name} is not complete");
            let _ = bench.until(Duration::from_millis(200), |_| false).await;
        }
    }
    // What is left is what nothing accounts for.
    let left = |bench: &Bench| bench.machine.ledger().count_left(NAMESPACE, &[Kind::Claim]);
    let settled = bench.until(WITHIN, |bench| left(bench) == 1).await;
    assert!(settled.is_ok(), "{:?}", bench.objects(NAMESPACE).await);
    let objects = bench.objects(NAMESPACE).await;
    assert!(objects.iter().any(|object| object.contains("PersistentVolumeClaim mute-")), "{objects:?}");
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
