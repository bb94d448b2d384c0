//! The policy `guard`: what the operator must never do, whatever rights it has.

use indexbuild_testbed::Cluster;
use kube::Client;
use serde_json::{Value, json};

use super::support::{NAMESPACE, bind, call, small_build, until_refused};
use super::{ADMINISTRATOR, THE_OPERATOR, with};

/// A write, and the message with which the operator is refused; `None`: it is allowed.
struct WriteCase {
    method: &'static str,
    path: String,
    body: Value,
    refusal: Option<&'static str>,
}

const BY_UID: &str = "the operator deletes by UID only";
const FORCE: &str = "the operator never force-deletes";
const NOTHING_ELSE: &str = "the operator deletes pods, claims and records, and nothing else";
const FINALIZERS: &str = "the operator writes no finalizer but its own";
const CLAIM_REF: &str = "the operator never takes a volume's claimRef away";
const SAME_SLOT: &str = "the operator gives a volume to no claim but the same slot's next";
const NODES: &str = "the operator never writes a node: a taint is a person's word";

fn core(kind: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{kind}/{name}")
}

fn own(kind: &str, name: &str) -> String {
    format!("/apis/indexbuild.dev/v1alpha1/namespaces/{NAMESPACE}/{kind}/{name}")
}

/// What the writes are about. Finalizers keep it there; a node's name keeps a pod from ending at once.
async fn objects(client: &Client) {
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE, "finalizers": ["example.com/keep"]});
    let pod = |name: &str, node: Value| {
        let container = json!({"name": "main", "image": "none", "imagePullPolicy": "Never"});
        let spec = with(json!({"containers": [container], "terminationGracePeriodSeconds": 5}), &node);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name), "spec": spec})
    };
    let reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE,
        "name": "orders-0b7e1c9a-2-v1", "uid": "11111111-1111-1111-1111-111111111111"});
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let claims = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let builds = format!("/apis/indexbuild.dev/v1alpha1/namespaces/{NAMESPACE}/indexbuilds");
    let mut build = small_build("guarded");
    build["metadata"]["finalizers"] = json!(["example.com/keep"]);
    let all = [
        (
            ADMINISTRATOR,
            "/api/v1/nodes".to_owned(),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}}),
        ),
        (ADMINISTRATOR, pods.clone(), pod("placed", json!({"nodeName": "node1"}))),
        (ADMINISTRATOR, pods, pod("waiting", json!({}))),
        (
            ADMINISTRATOR,
            claims,
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata("claim"),
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (ADMINISTRATOR, maps, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("map")})),
        (
            ADMINISTRATOR,
            "/api/v1/persistentvolumes".to_owned(),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "volume", "finalizers": ["example.com/keep"]},
                "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "x",
                    "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}, "claimRef": reference},
            }),
        ),
        (
            ADMINISTRATOR,
            "/apis/storage.k8s.io/v1/volumeattachments".to_owned(),
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": "attachment", "finalizers": ["example.com/keep"]},
                "spec": {"attacher": "example.com", "nodeName": "node1", "source": {"persistentVolumeName": "volume"}},
            }),
        ),
        (ADMINISTRATOR, builds, build),
        (
            THE_OPERATOR,
            own("enginedirectories", "").trim_end_matches('/').to_owned(),
            json!({
                "apiVersion": "indexbuild.dev/v1alpha1", "kind": "EngineDirectory", "metadata": metadata("guarded"),
                "spec": {"buildName": "guarded", "buildUID": "0b7e1c9a", "slot": 0},
            }),
        ),
    ];
    for (caller, path, object) in all {
        call(client, caller, "POST", &path, &object).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    }
}

async fn uid(client: &Client, path: &str) -> String {
    let object = call(client, ADMINISTRATOR, "GET", path, &json!(null)).await.unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn write_cases(client: &Client) -> Vec<WriteCase> {
    let volume = "/api/v1/persistentvolumes/volume".to_owned();
    let attachment = "/apis/storage.k8s.io/v1/volumeattachments/attachment".to_owned();
    let node = "/api/v1/nodes/node1".to_owned();
    let (placed, waiting, claim) =
        (core("pods", "placed"), core("pods", "waiting"), core("persistentvolumeclaims", "claim"));
    let (build, record, map) =
        (own("indexbuilds", "guarded"), own("enginedirectories", "guarded"), core("configmaps", "map"));
    let mut tries = Vec::new();
    let mut add = |method, path: &str, mut body: Value, refusal| {
        // Of a delete with a body, the API server does not read the address.
        if method == "DELETE" {
            body["dryRun"] = json!(["All"]);
        }
        tries.push(WriteCase { method, path: format!("{path}?dryRun=All"), body, refusal });
    };
    for path in [&placed, &waiting, &claim, &record] {
        let right = uid(client, path).await;
        add("DELETE", path, json!({}), Some(BY_UID));
        add("DELETE", path, json!({"preconditions": {"uid": right}}), None);
    }
    let placed_uid = uid(client, &placed).await;
    add("DELETE", &placed, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": placed_uid}}), Some(FORCE));
    add("DELETE", &placed, json!({"gracePeriodSeconds": 0}), Some(BY_UID));
    let waiting_uid = uid(client, &waiting).await;
    add("DELETE", &waiting, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": waiting_uid}}), None);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "placed", "namespace": NAMESPACE}});
    add("POST", &format!("{placed}/eviction"), eviction, Some("the operator never evicts"));
    for path in [&volume, &attachment, &build] {
        let right = uid(client, path).await;
        add("DELETE", path, json!({"preconditions": {"uid": right}}), Some(NOTHING_ELSE));
    }
    for path in [&placed, &claim, &map, &volume, &build, &record] {
        add("PATCH", path, json!({"metadata": {"finalizers": null}}), Some(FINALIZERS));
        let more = json!(["example.com/keep", "example.com/other"]);
        add("PATCH", path, json!({"metadata": {"finalizers": more}}), Some(FINALIZERS));
    }
    let ours = json!(["example.com/keep", "indexbuild.dev/cleanup"]);
    add("PATCH", &build, json!({"metadata": {"finalizers": ours}}), None);
    add("PATCH", &build, json!({"spec": {"parallelism": 3}}), Some("the operator never changes what a user asked for"));
    add("PATCH", &volume, json!({"spec": {"claimRef": null}}), Some(CLAIM_REF));
    let refer = |namespace: &str, name: &str| json!({"spec": {"claimRef": {"namespace": namespace, "name": name, "uid": null, "resourceVersion": null}}});
    add("PATCH", &volume, refer(NAMESPACE, "orders-0b7e1c9a-2-v2"), None);
    add("PATCH", &volume, refer(NAMESPACE, "orders-0b7e1c9a-3-v2"), Some(SAME_SLOT));
    add("PATCH", &volume, refer(NAMESPACE, "somebodys"), Some(SAME_SLOT));
    add("PATCH", &volume, refer("default", "orders-0b7e1c9a-2-v2"), Some(SAME_SLOT));
    add("PATCH", &volume, json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}), None);
    let taint = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
    add("PATCH", &node, json!({"spec": {"taints": taint}}), Some(NODES));
    add("PATCH", &node, json!({"metadata": {"labels": {"a": "b"}}}), Some(NODES));
    add("PATCH", &format!("{node}/status"), json!({"status": {"phase": "Running"}}), Some(NODES));
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    add("PATCH", &attachment, labels.clone(), Some("the operator never writes a volume's attachment"));
    add("PATCH", &map, labels, None);
    tries
}

pub(super) async fn the_operator_is_refused_what_it_must_never_do(client: &Client, cluster: &Cluster) {
    objects(client).await;
    let tries = write_cases(client).await;
    let mut wrong = Vec::new();
    for WriteCase { method, path, body, refusal } in &tries {
        let answer = call(client, THE_OPERATOR, method, path, body).await;
        let as_meant = match (&answer, refusal) {
            (Ok(_), None) => true,
            (Err((_, said)), Some(refusal)) => said.contains("indexbuild-guard") && said.contains(refusal),
            (Ok(_), Some(_)) | (Err(_), None) => false,
        };
        if !as_meant {
            wrong.push(format!("{method} {path} {body}\n  meant: {refusal:?}\n  answer: {answer:?}"));
        }
        // It binds nobody else.
        if let Err(error) = call(client, ADMINISTRATOR, method, path, body).await {
            wrong.push(format!("{method} {path} {body} by an administrator: {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The control: the same writes, all of them, without the binding.
    bind(cluster, "indexbuild-guard", false);
    let WriteCase { method, path, body, .. } = &tries[0];
    until_refused(client, false, THE_OPERATOR, method, path, body, "indexbuild-guard").await;
    for WriteCase { method, path, body, .. } in &tries {
        let answer = call(client, THE_OPERATOR, method, path, body).await;
        assert!(answer.is_ok(), "{method} {path} {body}: {answer:?}");
    }
    bind(cluster, "indexbuild-guard", true);
}
