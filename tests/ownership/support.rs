//! What the tests of the rules share: a cluster with the chart's resources, rules and roles, but no operator; and
//! callers of the API server.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use indexbuild_testbed::{Cluster, Options, Tools};
use kube::Client;
use serde_json::{Value, json};

/// Where the chart is installed to.
pub(super) const SYSTEM: &str = "indexbuild-system";
/// The namespace of the builds.
pub(super) const NAMESPACE: &str = "shop";
/// The operator, as the API server calls it.
pub(super) const OPERATOR: &str = "system:serviceaccount:indexbuild-system:indexbuild-operator";
/// The chart's policies.
pub(super) const POLICIES: [&str; 4] = ["indexbuild-owner", "indexbuild-grant", "indexbuild-stage", "indexbuild-guard"];

/// The chart, rendered.
pub(super) fn template(tools: &Tools, arguments: &[&str]) -> String {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/indexbuild");
    let output = Command::new(tools.path("helm"))
        .args(["template", "indexbuild", chart, "--namespace", SYSTEM, "--skip-tests"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A cluster on which the chart is installed, but for the operator itself.
pub(super) fn cluster(tools: &Tools, options: Options) -> Cluster {
    let cluster = Cluster::start(tools, options).unwrap_or_else(|error| panic!("{error}"));
    for namespace in [SYSTEM, NAMESPACE] {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chart.yaml");
    std::fs::write(&file, template(tools, &["--set", "replicas=0"])).unwrap();
    cluster.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).unwrap();
    cluster
}

/// Takes the binding of a policy away, or puts it there again.
pub(super) fn bind(cluster: &Cluster, policy: &str, bound: bool) {
    if bound {
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": policy}, "spec": {"policyName": policy, "validationActions": ["Deny"]},
        });
        cluster.apply(&[binding]).unwrap();
    } else {
        cluster.kubectl(&["delete", "validatingadmissionpolicybinding", policy]).unwrap();
    }
}

/// Who calls: a user, and the pod that the user's token is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub user: &'a str,
    pub pod_uid: &'a str,
}

/// An answer of the API server.
pub(super) type Answer = Result<Value, (u16, String)>;

/// Calls the API server as somebody else.
pub(super) async fn call(client: &Client, caller: Caller<'_>, method: &str, path: &str, body: &Value) -> Answer {
    let kind = match method {
        "PATCH" if body.is_array() => "application/json-patch+json",
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .header("impersonate-user", caller.user)
        .header("impersonate-group", "system:authenticated");
    if !caller.pod_uid.is_empty() {
        request = request.header("impersonate-extra-authentication.kubernetes.io%2fpod-uid", caller.pod_uid);
    }
    let request = request.body(serde_json::to_vec(body).unwrap()).unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("{method} {path}: {error:?}"),
    }
}

/// Gives users all rights: then only rules refuse them.
pub(super) fn allow_everything(cluster: &Cluster, users: &[&str]) {
    let subjects: Vec<Value> = users
        .iter()
        .map(|user| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}))
        .collect();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-everything"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": subjects,
    });
    cluster.apply(&[binding]).unwrap();
}

/// Waits until a policy refuses something, or does not any more: the API server takes it up after a moment.
pub(super) async fn until_refused(
    client: &Client,
    refused: bool,
    caller: Caller<'_>,
    method: &str,
    path: &str,
    body: &Value,
    by: &str,
) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let answer = call(client, caller, method, path, body).await;
        let now = matches!(&answer, Err((_, message)) if message.contains(by));
        if now == refused {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{by}: refused {now} after 30 s: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client by the cluster's forward.
pub(super) async fn client(forward: &indexbuild_testbed::PortForward) -> Client {
    let file = kube::config::Kubeconfig::read_from(forward.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A build of one index, as small as it can be.
pub(super) fn small_build(name: &str) -> Value {
    json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "source": {"parquet": {"urls": ["s3://lake/orders/*.parquet"]}},
            "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
            "output": {"url": "s3://indexes/shop"},
        },
    })
}
