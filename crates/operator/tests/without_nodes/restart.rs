//! An operator that starts beside builds that rest: complete, failed, complete with a volume that nothing frees, paused.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indexbuild_api::{EngineDirectory, IndexBuild, IndexBuildStatus, Phase, WorkKind, labels};
use indexbuild_faultproxy::{KubeProxy, Verb};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::scripted::deputy::Deputy;
use crate::scripted::ledger::Kind;
use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "restart";
const WITHIN: Duration = Duration::from_secs(180);
/// Longer than any patience of these builds: what is counted anew comes to its end within it.
const QUIET: Duration = Duration::from_secs(45);

async fn status(bench: &Bench, name: &str) -> IndexBuildStatus {
    bench.builds(NAMESPACE).get(name).await.unwrap().status.unwrap_or_default()
}

async fn comes_to(bench: &Bench, name: &str, phase: Phase) {
    let start = Instant::now();
    while status(bench, name).await.phase != Some(phase) {
        assert!(start.elapsed() < WITHIN, "{name} is not {phase:?}: {:?}", status(bench, name).await);
        let _ = bench.until(Duration::from_millis(200), |_| false).await;
    }
}

/// Everything of a kind, with its version.
async fn versions<K>(bench: &Bench) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let all = Api::<K>::namespaced(bench.admin.clone(), NAMESPACE).list(&ListParams::default()).await.unwrap();
    let version = |object: &K| format!("{} {} {:?}", K::kind(&()), object.name_any(), object.resource_version());
    all.items.iter().map(version).collect()
}

async fn all_versions(bench: &Bench) -> Vec<String> {
    let mut all = versions::<IndexBuild>(bench).await;
    all.extend(versions::<EngineDirectory>(bench).await);
    all.extend(versions::<Event>(bench).await);
    all.extend(versions::<ConfigMap>(bench).await);
    all.extend(versions::<PersistentVolumeClaim>(bench).await);
    all.extend(versions::<ServiceAccount>(bench).await);
    all.extend(versions::<Role>(bench).await);
    all.extend(versions::<RoleBinding>(bench).await);
    all
}

/// What was written through a proxy, but for the Lease, and for the dry runs by which it is tried whether ownership is enforced:
/// whether those changed anything is seen by the versions.
fn writes(proxy: &KubeProxy) -> BTreeMap<(Verb, String), u64> {
    let harmless = |verb: Verb, kind: &str| match kind {
        "coordination.k8s.io/leases" => true,
        "configmaps" => verb == Verb::Create,
        kind => verb == Verb::Patch && kind.ends_with("enginedirectories/status"),
    };
    proxy.counts().into_iter().filter(|((verb, kind), _)| verb.mutates() && !harmless(*verb, kind)).collect()
}

/// Waits until all that was in hand is written, and the caches have it.
async fn settle(bench: &Bench, proxy: &KubeProxy) {
    let start = Instant::now();
    let (mut seen, mut since) = (all_versions(bench).await, Instant::now());
    while since.elapsed() < Duration::from_secs(8) {
        assert!(start.elapsed() < WITHIN, "writes do not end: {:?}", proxy.counts());
        let _ = bench.until(Duration::from_millis(500), |_| false).await;
        let now = all_versions(bench).await;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

async fn operator(bench: &Bench, proxy: &KubeProxy) -> Deputy {
    bench.operator(proxy, NAMESPACE, "lease", None).await
}

/// How many passes over builds have ended well.
fn passes(operator: &Deputy) -> u64 {
    let text = operator.metrics.text().unwrap();
    let count = |line: &str| line.strip_prefix("indexbuild_reconcile_total{result=\"success\"} ")?.parse().ok();
    text.lines().find_map(count).unwrap_or(0)
}

/// I8.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_over_builds_that_rest_writes_nothing_i8() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("an operator starts beside builds that rest", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    let proxy = bench.proxy().await;
    let first = operator(&bench, &proxy).await;
    bench.build(NAMESPACE, "complete", 1, |_| {}).await;
    comes_to(&bench, "complete", Phase::Complete).await;

    script.hold(NAMESPACE, WorkKind::Encode);
    script.silence("held");
    bench.build(NAMESPACE, "failed", 1, |build| build["spec"]["activeDeadlineSeconds"] = json!(3)).await;
    bench.build(NAMESPACE, "paused", 1, |_| {}).await;
    bench.build(NAMESPACE, "held", 1, |_| {}).await;
    comes_to(&bench, "failed", Phase::Failed).await;
    let begun = bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) >= 3).await;
    assert!(begun.is_ok(), "{}", bench.records(NAMESPACE).await);
    let pause = Patch::Merge(json!({"spec": {"suspend": true}}));
    bench.builds(NAMESPACE).patch("paused", &PatchParams::default(), &pause).await.unwrap();
    comes_to(&bench, "paused", Phase::Suspended).await;

    let ended = bench.until(WITHIN, |bench| bench.machine.ledger().count_left(NAMESPACE, &[Kind::Pod]) == 1).await;
    assert!(ended.is_ok(), "more pods than that of the one: {:?}", bench.objects(NAMESPACE).await);

    // Its owner ends while no operator looks, and nobody can say any more that it did.
    tokio::task::spawn_blocking(move || first.kill()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    for pod in pods.list(&ListParams::default().labels(&format!("{}=held", labels::INSTANCE))).await.unwrap() {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    let gone = bench.until(WITHIN, |bench| bench.machine.ledger().count_left(NAMESPACE, &[Kind::Pod]) == 0).await;
    assert!(gone.is_ok(), "pods are still there: {:?}", bench.objects(NAMESPACE).await);
    let second = operator(&bench, &proxy).await;
    let start = Instant::now();
    while status(&bench, "held").await.volumes.is_none_or(|volumes| volumes.stranded == 0) {
        assert!(start.elapsed() < WITHIN, "nothing is held: {}", bench.records(NAMESPACE).await);
        let _ = bench.until(Duration::from_millis(200), |_| false).await;
    }
    script.release(NAMESPACE, WorkKind::Encode);
    comes_to(&bench, "held", Phase::Complete).await;
    settle(&bench, &proxy).await;
    for (name, phase) in [
        ("complete", Phase::Complete),
        ("failed", Phase::Failed),
        ("held", Phase::Complete),
        ("paused", Phase::Suspended),
    ] {
        assert_eq!(status(&bench, name).await.phase, Some(phase), "{name}");
    }
    assert_eq!(status(&bench, "held").await.volumes.map(|volumes| volumes.stranded), Some(1));
    tokio::task::spawn_blocking(move || second.kill()).await.unwrap();

    let before = all_versions(&bench).await;
    let proxy = bench.proxy().await;
    let third = operator(&bench, &proxy).await;
    let start = Instant::now();
    while passes(&third) < 4 {
        assert!(start.elapsed() < WITHIN, "it has not looked at each build: {}", third.metrics.text().unwrap());
        let _ = bench.until(Duration::from_millis(100), |_| false).await;
    }
    let _ = bench.until(QUIET, |_| false).await;
    assert!(third.is_running());
    assert_eq!(writes(&proxy), BTreeMap::new(), "written by a restart");
    assert_eq!(all_versions(&bench).await, before, "changed by a restart");
    // No end is counted again: by this the chart's alert about failed builds stays silent.
    let text = third.metrics.text().unwrap();
    for line in ["indexbuild_builds_ended_total{result=\"failed\"} 0", "indexbuild_builds{phase=\"Failed\"} 1"] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }

    // The control: what somebody asks for is done at once.
    let resume = Patch::Merge(json!({"spec": {"suspend": false}}));
    bench.builds(NAMESPACE).patch("paused", &PatchParams::default(), &resume).await.unwrap();
    comes_to(&bench, "paused", Phase::Complete).await;
    assert!(!writes(&proxy).is_empty());
    tokio::task::spawn_blocking(move || third.kill()).await.unwrap();
    bench.end().await;
}
