//! The provisioner of local volumes. For those that were offered beforehand it does what the static provisioner of
//! Kubernetes does: when the claim is gone, policy `Delete` empties the folder and offers it anew, `Retain` leaves it to an
//! administrator. For claims of the class [`ON_DEMAND`] it makes a volume on the node that the scheduler chose, and removes
//! it when the claim is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::TestbedError;
use crate::local_volumes::{PROVISIONED_BY, Reclaim, offered};
use crate::objects::{self, ON_DEMAND, PROVISIONER};

/// A provisioner; dropping it ends it.
#[derive(Debug)]
pub struct Provisioner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Starts the provisioner.
    pub fn provisioner(&self) -> Result<Provisioner, TestbedError> {
        self.apply(&[objects::on_demand_storage_class()])?;
        let stop = Arc::new(AtomicBool::new(false));
        let looping = ProvisionerLoop {
            kubectl: self.tools().path("kubectl"),
            kubeconfig: self.kubeconfig().to_owned(),
            init: self.init_pid(),
            nodes: self.nodes().map(|node| (node.name.clone(), node.volume(""))).collect(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // An API server that does not answer is asked again: faults of the cluster do not end it.
            while !stopped.load(Ordering::Relaxed) {
                let _ = looping.pass();
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Ok(Provisioner { stop, thread: Some(thread) })
    }
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct ProvisionerLoop {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    init: u32,
    /// Real nodes, and where their volumes are.
    nodes: Vec<(String, PathBuf)>,
}

impl ProvisionerLoop {
    fn pass(&self) -> Option<()> {
        let volumes = self.list("pv")?;
        for volume in released(&volumes) {
            let _ = self.reclaim(volume);
        }
        let claims = self.list("pvc")?;
        let wanted: Vec<(&Value, &str)> = wanted(&claims).collect();
        let mut made = Vec::new();
        for (claim, node) in wanted {
            made.push(self.volume_for(claim, node)?);
        }
        if !made.is_empty() {
            self.run(&["create", "-f", "-"], Some(&json!({"apiVersion": "v1", "kind": "List", "items": made})))?;
        }
        Some(())
    }

    fn list(&self, kind: &str) -> Option<Value> {
        serde_json::from_str(&self.run(&["get", kind, "-A", "-o", "json"], None)?).ok()
    }

    fn run(&self, arguments: &[&str], input: Option<&Value>) -> Option<String> {
        use std::io::Write as _;
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--"]).arg(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).stdout(Stdio::piped()).stderr(Stdio::null());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().ok()?;
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
            pipe.write_all(input.to_string().as_bytes()).ok()?;
        }
        let output = child.wait_with_output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes the folder, if the node is real. Returns the volume, bound to its claim beforehand.
    fn volume_for(&self, claim: &Value, node: &str) -> Option<Value> {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = &claim["metadata"];
        let name = format!("pvc-{}", metadata["uid"].as_str()?);
        let mut folder = Path::new("/nowhere").join(&name);
        if let Some((_, volumes)) = self.nodes.iter().find(|(real, _)| real == node) {
            folder = volumes.join(&name);
            fs::create_dir_all(&folder).ok()?;
            // Pods run as any user.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).ok()?;
        }
        let mut volume = offered(&name, node, &folder, Reclaim::Delete.name());
        volume["spec"]["storageClassName"] = json!(ON_DEMAND);
        volume["spec"]["capacity"] = claim["spec"]["resources"]["requests"].clone();
        volume["spec"]["claimRef"] = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
        });
        Some(volume)
    }

    /// Empties the folder first: a volume that is offered is empty, whenever this is interrupted.
    fn reclaim(&self, volume: &Value) -> Option<()> {
        let name = volume["metadata"]["name"].as_str()?;
        let folder = Path::new(volume["spec"]["local"]["path"].as_str()?);
        let on_demand = volume["spec"]["storageClassName"] == ON_DEMAND;
        if folder.is_dir() {
            empty(folder)?;
        } else if !on_demand {
            return None;
        }
        if on_demand {
            if folder.is_dir() {
                fs::remove_dir(folder).ok()?;
            }
            return self.run(&["delete", "pv", name, "--wait=false"], None).map(drop);
        }
        self.run(&["delete", "pv", name, "--timeout=10s"], None)?;
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let node = terms[0]["matchExpressions"][0]["values"][0].as_str()?;
        let anew = offered(name, node, folder, Reclaim::Delete.name());
        self.run(&["create", "-f", "-"], Some(&anew)).map(drop)
    }
}

fn empty(folder: &Path) -> Option<()> {
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() { fs::remove_dir_all(&path).ok()? } else { fs::remove_file(&path).ok()? }
    }
    Some(())
}

/// The volumes that are to be emptied: ours, policy `Delete`, their claim gone.
fn released(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten().filter(|volume| {
        volume["metadata"]["annotations"][PROVISIONED_BY] == PROVISIONER
            && volume["spec"]["persistentVolumeReclaimPolicy"] == Reclaim::Delete.name()
            && volume["status"]["phase"] == "Released"
            && volume["metadata"]["deletionTimestamp"].is_null()
    })
}

/// The claims that want a volume made, each with the node that the scheduler chose for its pod.
fn wanted(list: &Value) -> impl Iterator<Item = (&Value, &str)> {
    list["items"].as_array().into_iter().flatten().filter_map(|claim| {
        let node = claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].as_str()?;
        let waits = claim["spec"]["storageClassName"] == ON_DEMAND
            && claim["status"]["phase"] == "Pending"
            && claim["spec"]["volumeName"].is_null()
            && claim["metadata"]["deletionTimestamp"].is_null();
        waits.then_some((claim, node))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume to be retained is the administrator's, a bound one is in use, and others have their own provisioners.
    #[test]
    fn only_our_released_volumes_with_policy_delete_are_emptied() {
        let volume = |name: &str, policy: &str, phase: &str, ours: bool| {
            let mut volume = offered(name, "node1", Path::new("/nowhere"), policy);
            volume["status"] = json!({"phase": phase});
            if !ours {
                volume["metadata"]["annotations"] = json!({});
            }
            volume
        };
        let list = json!({"items": [
            volume("a", "Delete", "Released", true),
            volume("b", "Retain", "Released", true),
            volume("c", "Delete", "Bound", true),
            volume("d", "Delete", "Released", false),
        ]});
        let names: Vec<&Value> = released(&list).map(|volume| &volume["metadata"]["name"]).collect();
        assert_eq!(names, ["a"]);
    }

    /// Without a node the scheduler has not decided; a claim of another class has its own provisioner.
    #[test]
    fn a_volume_is_made_for_a_claim_of_the_class_whose_pod_has_a_node() {
        let claim = |name: &str, class: &str, node: Option<&str>, phase: &str| {
            let mut claim = json!({
                "metadata": {"name": name, "annotations": {}},
                "spec": {"storageClassName": class}, "status": {"phase": phase},
            });
            if let Some(node) = node {
                claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = json!(node);
            }
            claim
        };
        let list = json!({"items": [
            claim("a", ON_DEMAND, Some("node2"), "Pending"),
            claim("b", ON_DEMAND, None, "Pending"),
            claim("c", "local", Some("node2"), "Pending"),
            claim("d", ON_DEMAND, Some("node2"), "Bound"),
        ]});
        let found: Vec<(&Value, &str)> =
            wanted(&list).map(|(claim, node)| (&claim["metadata"]["name"], node)).collect();
        assert_eq!(found, [(&json!("a"), "node2")]);
    }
}
