//! A pod that is bound to a node begins only after the node has rebooted. Its process runs on the boot that is there: what
//! the node was when the pod was bound proves nothing about it, and the boot after its own does.

use std::time::Duration;

use indexbuild_api::{EngineDirectory, WorkKind};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scripted::bench::BUILD;
use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "late-start";
/// Where the scheduler puts the first slot of every build.
const NODE: &str = "scripted-1";
const WITHIN: Duration = Duration::from_secs(60);

async fn record(bench: &Bench) -> Option<EngineDirectory> {
    let records: Api<EngineDirectory> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    records.list(&ListParams::default()).await.unwrap().items.pop()
}

/// Waits until the slot's record is as it should be.
async fn becomes(bench: &Bench, what: &str, holds: impl Fn(&EngineDirectory) -> bool) -> EngineDirectory {
    let start = std::time::Instant::now();
    loop {
        let now = record(bench).await;
        if let Some(now) = now.clone().filter(|record| holds(record)) {
            return now;
        }
        assert!(start.elapsed() < WITHIN, "{what}: {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn boots(bench: &Bench, boot_id: &str) {
    let booted = json!({"status": {"nodeInfo": {"bootID": boot_id}}});
    let nodes: Api<Node> = Api::all(bench.admin.clone());
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(booted)).await.unwrap();
}

/// I4, I8.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_begins_after_its_node_rebooted_is_kept_until_the_next_boot_i4() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("a node reboots before a container begins", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    script.containers.hold(NAMESPACE);
    let proxy = bench.proxy().await;
    let operator = bench.operator(&proxy, NAMESPACE, "lease", None).await;
    bench
        .build(NAMESPACE, BUILD, 1, |build| {
            // Nobody is replaced for being silent.
            build["spec"]["disruption"]["replaceAfter"] = json!("10m");
            build["spec"]["disruption"]["orphanAfter"] = json!("30m");
        })
        .await;
    let bound = |record: &EngineDirectory| record.spec.grant.as_ref().is_some_and(|grant| !grant.pod_uid.is_empty());
    let waiting = becomes(&bench, "its pod is bound", bound).await.spec.grant.unwrap();
    assert_eq!((waiting.node_name.as_str(), waiting.boot_id.as_str()), (NODE, ""), "{waiting:?}");

    boots(&bench, "second boot").await;
    script.containers.release(NAMESPACE);
    bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 1).await.unwrap();
    let working = becomes(&bench, "its machine is known", |record| {
        record.spec.grant.as_ref().is_some_and(|grant| !grant.system_uuid.is_empty())
    })
    .await;
    let grant = working.spec.grant.clone().unwrap();
    let machine = format!("uuid-{NODE}");
    assert_eq!((grant.boot_id.as_str(), grant.system_uuid), ("second boot", machine), "what it says itself");
    assert_eq!(grant.pod_uid, waiting.pod_uid, "the pod that waited works");
    assert_eq!(bench.machine.ledger().tally(NAMESPACE).made[&crate::scripted::ledger::Kind::Pod], 1);

    // The control: of the boot after its own, its node's kubelet says nothing here, and the boot id is the proof.
    boots(&bench, "third boot").await;
    let next = becomes(&bench, "another owner", |record| {
        record.spec.grant.as_ref().is_some_and(|grant| grant.pod_uid != waiting.pod_uid && !grant.boot_nonce.is_empty())
    })
    .await;
    assert_eq!(next.spec.volume, working.spec.volume, "what is sealed on it is kept");
    assert_eq!(next.name_any(), working.name_any());
    assert_eq!(next.spec.grant.unwrap().boot_id, "third boot");
    script.release(NAMESPACE, WorkKind::Encode);
    bench.until(WITHIN, |bench| bench.is_settled(NAMESPACE)).await.unwrap();
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
