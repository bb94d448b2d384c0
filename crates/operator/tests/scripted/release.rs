//! The chart's account and rights for an operator that a test runs outside of the cluster.

use std::path::Path;
use std::process::Command;

use indexbuild_testbed::{Cluster, Tools};
use serde_json::{Value, json};

/// Where the chart is released.
pub(crate) const NAMESPACE: &str = "indexbuild-system";
/// The account of its operator.
const ACCOUNT: &str = "indexbuild-operator";

/// Installs these templates of the chart.
pub(crate) fn install(cluster: &Cluster, tools: &Tools, templates: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("charts").is_dir()).unwrap();
    let mut helm = Command::new(tools.path("helm"));
    helm.args(["template", "indexbuild"]).arg(root.join("charts/indexbuild")).args(["--namespace", NAMESPACE]);
    for template in templates {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    let made = helm.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &made.stdout).unwrap();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
    let applied = cluster.kubectl(&["apply", "-f", &file.path().display().to_string()]);
    applied.unwrap_or_else(|error| panic!("{error}"));
}

/// A token of the account.
pub(crate) fn token(cluster: &Cluster) -> String {
    let made = cluster.kubectl(&["create", "token", ACCOUNT, "-n", NAMESPACE, "--duration", "10h"]);
    made.unwrap_or_else(|error| panic!("{error}")).trim().to_owned()
}

/// The user name of the account, as the API server's audit log has it.
pub(crate) fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

/// The chart's rights on its Lease, for Leases of any name in another namespace: tests run several operators.
pub(crate) fn lease_rights(namespace: &str) -> [Value; 2] {
    let metadata = json!({"name": "lease", "namespace": namespace});
    let rbac = "rbac.authorization.k8s.io";
    [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "patch", "create"]}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "lease"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]}),
    ]
}
