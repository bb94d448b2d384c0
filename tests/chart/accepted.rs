//! What the chart renders, before a real API server, and by its schemas.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use indexbuild_testbed::{Cluster, Options, Tools, tools_or_skip};
use serde_json::json;

use super::rendered::INSTALLATIONS;
use super::support::{SYSTEM, root, template};

/// Strictly: a field that the API server does not know is an error, too.
#[test]
fn a_real_api_server_takes_every_kind_of_installation() {
    let Some(tools) = tools_or_skip("the chart before a real API server") else { return };
    let options = Options { nodes: 0, ..Options::default() };
    let cluster = Cluster::start(&tools, options).unwrap_or_else(|error| panic!("{error}"));
    for namespace in [SYSTEM, "shop", "search"] {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    // Of another project; what is in them is not looked at.
    let foreign = ["ServiceMonitor", "PrometheusRule"].map(|kind| {
        let plural = format!("{}s", kind.to_lowercase());
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        })
    });
    cluster.apply(&foreign).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.yaml");
    for (name, values) in INSTALLATIONS {
        // The pod of `helm test` wants an account that a dry run does not make.
        let values = [values, &["--skip-tests"]].concat();
        std::fs::write(&chart, template(&tools, &values).unwrap()).unwrap();
        let file = chart.display().to_string();
        let taken = cluster.kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", &file]);
        taken.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // What people check a chart with before they have a cluster says the same, by this API server's schemas.
    let crds = root().join("crds").display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &crds]).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).unwrap();
    let published = cluster.wait("the API server publishes the resources", Duration::from_secs(30), |cluster| {
        let text = cluster.kubectl(&["get", "--raw", "/openapi/v2"])?;
        let known = text.contains("EngineDirectory") && text.contains("IndexBuild");
        Ok(if known { Ok(text) } else { Err(format!("{} bytes", text.len())) })
    });
    let openapi = published.unwrap();
    let schemas = folder.path().join("schemas");
    std::fs::create_dir(&schemas).unwrap();
    super::schemas::write(&serde_json::from_str(&openapi).unwrap(), &schemas);
    for (name, values) in INSTALLATIONS {
        std::fs::write(&chart, template(&tools, values).unwrap()).unwrap();
        kubeconform(&tools, &schemas, &chart).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for example in ["parquet-s3.yaml", "csv-s3.yaml"] {
        kubeconform(&tools, &schemas, &root().join("examples").join(example)).unwrap();
    }
    // It does refuse.
    let text = template(&tools, &[]).unwrap().replace("revisionHistoryLimit:", "revisionHistoryLimits:");
    std::fs::write(&chart, text).unwrap();
    let refused = kubeconform(&tools, &schemas, &chart).expect_err("a field that Deployments do not have");
    assert!(refused.contains("revisionHistoryLimits"), "{refused}");
}

fn kubeconform(tools: &Tools, schemas: &Path, file: &Path) -> Result<(), String> {
    let place = format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", schemas.display());
    let output = Command::new(tools.path("kubeconform"))
        .args(["-strict", "-summary", "-schema-location", &place])
        .arg(file)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said) }
}
