//! Fake nodes, by KWOK: pods on them are Running in the API without a process anywhere. For tests of scale.

use std::fs;

use serde_json::{Value, json};

use crate::clocks::Clocks;
use crate::error::{At as _, TestbedError};
use crate::namespace::{Namespace, Net};
use crate::process::Process;
use crate::tools::Tools;

/// The annotation by which a test ends a pod on a fake node: its container's exit code.
pub const EXIT_CODE: &str = "testbed.local/exit-code";

const STAGES: &str = include_str!("kwok.yaml");

/// Starts KWOK, which looks after the nodes that [`node`] describes.
pub(crate) fn kwok(
    namespace: &Namespace,
    tools: &Tools,
    clocks: Clocks,
    folder: &std::path::Path,
    kubeconfig: &std::path::Path,
) -> Result<Process, TestbedError> {
    let stages = folder.join("kwok.yaml");
    fs::write(&stages, STAGES).at("write", &stages)?;
    let mut command = namespace.command(&Net::Control, tools.optional("kwok")?);
    command.args([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", stages.display()),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
        "--cidr=10.200.0.1/16".to_owned(),
        format!("--node-lease-duration-seconds={}", clocks.node_lease),
    ]);
    Process::start(command, "kwok", &folder.join("logs"))
}

/// A fake node. Beside real ones it is tainted: only pods that ask for it go there.
pub(crate) fn node(number: u32, beside_real_ones: bool) -> Value {
    let name = format!("fake{number}");
    let room = json!({"cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "64Ti"});
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "testbed.local/fake": "true",
            },
        },
        "status": {
            "allocatable": room,
            "capacity": room,
            "addresses": [{"type": "Hostname", "address": name}],
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "none", "kernelVersion": "none",
                "kubeletVersion": "fake", "kubeProxyVersion": "", "containerRuntimeVersion": "fake",
                "machineID": format!("{number:032x}"), "systemUUID": format!("{number:032x}"),
                "bootID": format!("00000000-0000-4000-9000-{number:012x}"),
            },
        },
    });
    if beside_real_ones {
        node["spec"]["taints"] = json!([{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]);
    }
    node
}
