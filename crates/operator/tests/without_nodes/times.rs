//! Times that objects bear are judged by the API server's clock, and an operator that starts does not begin them anew; and
//! what is left where a namespace goes is told.

use std::time::{Duration, Instant};

use crate::scripted::bench::BUILD;
use crate::scripted::deputy::{Deputy, Order};
use crate::scripted::{Bench, Script};
use indexbuild_api::{ConditionStatus, ConditionType, Reason, WorkKind};
use indexbuild_faultproxy::KubeProxy;
use indexbuild_operator::TestSwitches;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(90);
/// The chart's Lease.
const LEASE: &str = "indexbuild-operator";

async fn operator(bench: &Bench, proxy: &KubeProxy, namespace: &str, lease: (&str, &str), forgets: bool) -> Deputy {
    let switches: TestSwitches = serde_json::from_value(json!({"forgetServerTime": forgets})).unwrap();
    Deputy::start(Order {
        config: bench.through(proxy).await,
        namespaces: vec![namespace.to_owned()],
        lease_namespace: lease.0.to_owned(),
        lease: lease.1.to_owned(),
        tamper: None,
        switches,
    })
}

/// Waits until `since` was so long ago: the moment is what the test is about.
async fn at(since: Instant, seconds: u64) {
    tokio::time::sleep_until((since + Duration::from_secs(seconds)).into()).await;
}

/// How long a deletion took whose Clean never ended, with an operator that was killed and followed by another after 16 s.
async fn deletion(bench: &Bench, namespace: &str, forgets: bool) -> Duration {
    bench.namespace(namespace).await;
    let proxy = bench.proxy().await;
    let script = &bench.machine.script;
    script.hold(namespace, WorkKind::Encode);
    script.hold(namespace, WorkKind::Clean);
    let first = operator(bench, &proxy, namespace, (namespace, "lease-1"), forgets).await;
    bench
        .build(namespace, BUILD, 1, |build| {
            build["spec"]["disruption"] = json!({"replaceAfter": "15s", "orphanAfter": "24s"});
        })
        .await;
    bench.until(PATIENCE, |_| script.in_hand(namespace, WorkKind::Encode) > 0).await.unwrap();
    let begun = Instant::now();
    bench.delete(namespace, BUILD).await;
    at(begun, 16).await;
    tokio::task::spawn_blocking(move || first.kill()).await.unwrap();
    let second = operator(bench, &proxy, namespace, (namespace, "lease-2"), forgets).await;
    bench.until(PATIENCE, |bench| bench.machine.ledger().read_build(namespace).is_none()).await.unwrap();
    let took = begun.elapsed();
    tokio::task::spawn_blocking(move || second.kill()).await.unwrap();
    took
}

/// After how long a build failed that was given 20 s, with an operator that was killed and followed by another after 12 s.
async fn deadline(bench: &Bench, namespace: &str, forgets: bool) -> Duration {
    bench.namespace(namespace).await;
    let proxy = bench.proxy().await;
    let script = &bench.machine.script;
    script.hold(namespace, WorkKind::Encode);
    let first = operator(bench, &proxy, namespace, (namespace, "lease-1"), forgets).await;
    let begun = Instant::now();
    bench.build(namespace, BUILD, 1, |build| build["spec"]["activeDeadlineSeconds"] = json!(20)).await;
    let failed = |bench: &Bench| {
        let build = bench.machine.ledger().read_build(namespace)?;
        let failed = build.status.as_ref()?.condition(ConditionType::Failed)?.clone();
        (failed.status == ConditionStatus::True).then_some(failed)
    };
    at(begun, 12).await;
    assert_eq!(failed(bench), None);
    tokio::task::spawn_blocking(move || first.kill()).await.unwrap();
    let second = operator(bench, &proxy, namespace, (namespace, "lease-2"), forgets).await;
    bench.until(PATIENCE, |bench| failed(bench).is_some()).await.unwrap();
    let took = begun.elapsed();
    let failed = failed(bench).unwrap();
    assert_eq!(failed.reason, Reason::DeadlineExceeded, "{failed:?}");
    assert!(failed.message.contains("activeDeadlineSeconds (20)"), "{failed:?}");
    tokio::task::spawn_blocking(move || second.kill()).await.unwrap();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_in_the_middle_begins_neither_a_deletion_nor_a_builds_time_anew() {
    let script = Script::new(1, 1, Duration::from_millis(30));
    let Some(bench) = Bench::start("times over a restart", script).await else { return };
    let (deleted, forgot_deletion, failed, forgot_start) = tokio::join!(
        deletion(&bench, "t-deletion", false),
        deletion(&bench, "t-deletion-control", true),
        deadline(&bench, "t-deadline", false),
        deadline(&bench, "t-deadline-control", true),
    );
    let seconds = |from, to| Duration::from_secs(from)..Duration::from_secs(to);
    // Cleaning has 24 s, and what is left is put away in some more.
    assert!(seconds(23, 38).contains(&deleted), "{deleted:?}");
    assert!(
        forgot_deletion >= Duration::from_secs(39),
        "the control, which forgets what time it is: {forgot_deletion:?}"
    );
    assert!(seconds(19, 28).contains(&failed), "{failed:?}");
    assert!(forgot_start >= Duration::from_secs(31), "the control, which forgets what time it is: {forgot_start:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_is_not_held_up_and_what_is_left_is_told_in_the_operators_own() {
    let script = Script::new(1, 1, Duration::from_millis(30));
    let Some(bench) = Bench::start("a namespace is deleted", script).await else { return };
    let namespace = "t-namespace";
    bench.namespace(namespace).await;
    let proxy = bench.proxy().await;
    let script = &bench.machine.script;
    script.hold(namespace, WorkKind::Sort);
    let home = bench.lease_namespace();
    let operator = operator(&bench, &proxy, namespace, (home, LEASE), false).await;
    bench.build(namespace, BUILD, 1, |_| {}).await;
    bench.until(PATIENCE, |_| script.in_hand(namespace, WorkKind::Sort) > 0).await.unwrap();
    let uid = bench.builds(namespace).get(BUILD).await.unwrap().uid().unwrap();
    let namespaces: Api<Namespace> = Api::all(bench.admin.clone());
    namespaces.delete(namespace, &DeleteParams::default()).await.map(drop).unwrap();
    let begun = Instant::now();
    while namespaces.get_opt(namespace).await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", bench.builds(namespace).get_opt(BUILD).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), home);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told = events.iter().find(|event| event.reason.as_deref() == Some("NamespaceDeleted"));
    let note = told.and_then(|event| event.note.clone()).unwrap_or_default();
    let prefix = format!("s3://indexes/shop/{namespace}/{BUILD}/{uid}/");
    assert!(note.contains(&prefix), "{note:?} of {} events", events.len());
    let metrics = operator.metrics.text().unwrap();
    let counted = r#"indexbuild_left_behind_total{reason="NamespaceDeleted"} 1"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    assert!(proxy.forbidden().is_empty(), "{:?}", proxy.forbidden());
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
