//! Local volumes as the static provisioner of Kubernetes keeps them: a folder of a node is a volume; when its
//! claim is gone, policy `Delete` empties the folder and offers it anew, `Retain` leaves it to an administrator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::namespace::{Net, finish};
use crate::objects;

/// What the provisioner signs its volumes with. Without it the controller manager holds a volume with policy
/// `Delete` for its own, finds no plugin that could delete it, and marks it Failed.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "testbed.local/static-provisioner";

/// What happens to a volume when its claim is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// It is emptied and offered anew.
    Delete,
    /// It stays Released, with its content.
    Retain,
}

impl Reclaim {
    const fn name(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }
}

/// The provisioner's running half: it looks after Released volumes until it is dropped.
#[derive(Debug)]
pub struct Provisioner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Offers a folder of a node as a volume of class `local`, and returns the folder.
    ///
    /// # Errors
    /// A node that does not exist; those of the file system; kubectl's.
    pub fn offer_volume(&self, node: &str, name: &str, reclaim: Reclaim) -> Result<PathBuf, TestbedError> {
        let folder = self.volume_folder(node, name)?;
        self.apply(&[objects::local_storage_class(), offered(name, node, &folder, reclaim.name())])?;
        Ok(folder)
    }

    /// Offers a volume of so many MiB that a pod can really fill: memory, so its content does not outlive the cluster.
    /// The returned folder is where programs outside see it.
    ///
    /// # Errors
    /// A node that does not exist; mount's failure; kubectl's.
    pub fn offer_small_volume(&self, node: &str, name: &str, mib: u32) -> Result<PathBuf, TestbedError> {
        self.node(node)?;
        let folder = self.small_volume(node, name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        let mut command = self.namespace().command(&Net::Control, "mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=777"), "tmpfs"]).arg(&folder);
        finish(command)?;
        self.apply(&[objects::local_storage_class(), offered(name, node, &folder, Reclaim::Retain.name())])?;
        Ok(self.seen_from_outside(&folder))
    }

    /// Fills a volume of [`Cluster::offer_small_volume`] to the last byte, until [`Cluster::empty_filler`].
    ///
    /// # Errors
    /// A volume that is not of that kind: a folder of the machine's disk is never filled.
    pub fn fill_volume(&self, node: &str, name: &str) -> Result<(), TestbedError> {
        let folder = self.small_volume(node, name);
        let script = "mountpoint -q \"$0\" && { cat /dev/zero > \"$0/.filler\" 2>/dev/null || true; }";
        let mut command = self.namespace().command(&Net::Control, "bash");
        command.args(["-c", script]).arg(folder);
        finish(command).map(drop)
    }

    /// Gives a filled volume its room back.
    ///
    /// # Errors
    /// A volume that was not filled.
    pub fn empty_filler(&self, node: &str, name: &str) -> Result<(), TestbedError> {
        let filler = self.seen_from_outside(&self.small_volume(node, name)).join(".filler");
        fs::remove_file(&filler).at("remove", filler)
    }

    /// Starts to look after Released volumes of [`Cluster::offer_volume`].
    ///
    /// # Errors
    /// kubectl that cannot be started.
    pub fn provisioner(&self) -> Result<Provisioner, TestbedError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (kubectl, kubeconfig) = (self.tools().path("kubectl"), self.kubeconfig().to_owned());
        let init = self.init_pid();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let run = |arguments: &[&str], input: Option<&Value>| -> Option<String> {
                let mut command = Command::new("nsenter");
                command.args(["--target", &init.to_string(), "--all", "--"]).arg(&kubectl);
                command.args(arguments).env("KUBECONFIG", &kubeconfig).stdout(Stdio::piped()).stderr(Stdio::null());
                command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
                let mut child = command.spawn().ok()?;
                write_and_close(&mut child, input)?;
                let output = child.wait_with_output().ok()?;
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            };
            // An API server that does not answer is asked again: faults of the cluster do not end it.
            while !stopped.load(Ordering::Relaxed) {
                let list = run(&["get", "pv", "-o", "json"], None).and_then(|text| serde_json::from_str(&text).ok());
                for volume in released(list.as_ref().unwrap_or(&Value::Null)) {
                    let _ = reclaim(&volume, &run);
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Ok(Provisioner { stop, thread: Some(thread) })
    }

    fn small_volume(&self, node: &str, name: &str) -> PathBuf {
        // Outside of the node's own folder: a crash unmounts all that is below that.
        self.folder().join("small").join(node).join(name)
    }

    fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc").join(self.init_pid().to_string()).join("root").join(inside)
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

fn write_and_close(child: &mut Child, input: Option<&Value>) -> Option<()> {
    use std::io::Write as _;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input.to_string().as_bytes()).ok()?;
    }
    Some(())
}

fn offered(name: &str, node: &str, folder: &Path, reclaim: &str) -> Value {
    let mut volume = objects::local_volume(name, node, folder, reclaim);
    volume["metadata"]["annotations"] = serde_json::json!({PROVISIONED_BY: PROVISIONER});
    volume
}

/// The volumes that are to be emptied: ours, policy `Delete`, their claim gone.
fn released(list: &Value) -> Vec<Value> {
    let ours = |volume: &&Value| {
        volume["metadata"]["annotations"][PROVISIONED_BY] == PROVISIONER
            && volume["spec"]["persistentVolumeReclaimPolicy"] == Reclaim::Delete.name()
            && volume["status"]["phase"] == "Released"
    };
    list["items"].as_array().into_iter().flatten().filter(ours).cloned().collect()
}

/// Empties the folder first: a volume that is offered is empty, whenever this is interrupted.
fn reclaim(volume: &Value, run: &impl Fn(&[&str], Option<&Value>) -> Option<String>) -> Option<()> {
    let name = volume["metadata"]["name"].as_str()?;
    let folder = Path::new(volume["spec"]["local"]["path"].as_str()?);
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() { fs::remove_dir_all(&path).ok()? } else { fs::remove_file(&path).ok()? }
    }
    run(&["delete", "pv", name, "--timeout=10s"], None)?;
    let values = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"];
    let anew = offered(name, values[0].as_str()?, folder, Reclaim::Delete.name());
    run(&["create", "-f", "-"], Some(&anew)).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Retain is the administrator's; Bound is in use; a volume of somebody else is none of ours.
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
        let names: Vec<Value> = released(&list).iter().map(|volume| volume["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["a"]);
    }
}
