//! Pods of somebody else under the names that slots were to give their own, with and without our labels: left alone, told, and
//! in nobody's way.

use std::time::{Duration, Instant};

use indexbuild_api::{EngineDirectory, Epoch, labels, names};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scripted::bench::BUILD;
use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "strangers";
const WITHIN: Duration = Duration::from_secs(60);

fn stranger(name: &str, more: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": more},
        "spec": {"containers": [{"name": "executor", "image": "stranger"}], "schedulerName": "nobody", "restartPolicy": "Never"},
    }))
    .unwrap()
}

/// G10.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_somebody_else_at_names_of_ours_are_left_alone_and_told_and_the_build_takes_other_names() {
    let script = Script::new(2, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("pods of somebody else", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let proxy = bench.proxy().await;
    bench.build(NAMESPACE, BUILD, 2, |build| build["spec"]["suspend"] = json!(true)).await;
    let uid = bench.builds(NAMESPACE).get(BUILD).await.unwrap().uid().unwrap();
    let pods: Api<Pod> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    // By which the operator finds pods of a build; without that by which the scripted kubelet finds them.
    let ours = json!({labels::BUILD_UID: uid, labels::SLOT: "1", labels::EPOCH: "1"});
    let strangers = [(0, json!({"of": "somebody"})), (1, ours)];
    let mut before = Vec::new();
    for (slot, labelled) in strangers {
        let pod = stranger(&names::pod(BUILD, &uid, slot, Epoch::new(1)), labelled);
        let start = Instant::now();
        // The namespace's account is made a moment after the namespace.
        before.push(loop {
            match pods.create(&PostParams::default(), &pod).await {
                Ok(made) => break made,
                Err(error) => assert!(start.elapsed() < WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
    }
    let operator = bench.operator(&proxy, NAMESPACE, "lease", None).await;
    let go_on = Patch::Merge(json!({"spec": {"suspend": false}}));
    bench.builds(NAMESPACE).patch(BUILD, &PatchParams::default(), &go_on).await.unwrap();

    let settled = bench.until(WITHIN, |bench| {
        let status = bench.machine.ledger().read_build(NAMESPACE).and_then(|build| build.status.clone());
        status.is_some_and(|status| status.manifest.is_some())
    });
    let records: Api<EngineDirectory> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    assert!(settled.await.is_ok(), "{:?}", records.list(&ListParams::default()).await);
    for pod in before {
        let now = pods.get(&pod.name_any()).await.unwrap();
        assert_eq!((now.uid(), &now.metadata.deletion_timestamp), (pod.uid(), &None), "{}", pod.name_any());
    }
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    let (start, mut told) = (Instant::now(), Vec::new());
    while told.len() < 2 {
        let all = events.list(&ListParams::default().fields("reason=ForeignObject")).await.unwrap();
        told = all.into_iter().filter_map(|event| event.note).collect();
        assert!(start.elapsed() < WITHIN, "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for slot in [0, 1] {
        let name = names::pod(BUILD, &uid, slot, Epoch::new(1));
        assert!(told.iter().any(|note| note.contains(&name)), "{name}: {told:?}");
    }
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
