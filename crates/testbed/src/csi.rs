//! A CSI driver on all nodes, with the attacher that every driver has on a real cluster. Its volumes are folders that each
//! node sees, and its detach does nothing: whoever has a volume mounted writes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::namespace::Net;
use crate::process::Process;

/// For how long a kubelet may take to find a driver.
const REGISTERED: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts a driver of this name, with a storage class of the same name, and waits until all nodes have it.
    ///
    /// # Errors
    /// [`TestbedError::Unavailable`]: it was not built. A part that does not start; kubectl's.
    pub fn start_csi_driver(&mut self, name: &str) -> Result<(), TestbedError> {
        let program = self.tools().optional("csi-folder")?;
        let attacher = self.tools().optional("csi-attacher")?;
        let volumes = self.csi_volumes();
        fs::create_dir_all(&volumes).at("make", &volumes)?;
        self.apply(&[driver(name), storage_class(name)])?;
        let mut started = Vec::new();
        for node in self.nodes() {
            started.push(node.start_csi_driver(&self.node_context(), &program, name, &volumes)?);
        }
        // A socket's path has room for some hundred letters.
        let socket = format!("/run/{name}.sock");
        let mut command = self.namespace().command(&Net::Control, &program);
        command.args([flag("name", name), flag("folder", &volumes), flag("endpoint", &socket)]);
        started.push(Process::start(command, name, self.logs())?);
        let mut command = self.namespace().command(&Net::Control, &attacher);
        command.args([flag("csi-address", &socket), flag("kubeconfig", self.kubeconfig())]);
        started.push(Process::start(command, &format!("{name}-attacher"), self.logs())?);
        self.keep(started);
        let all = self.nodes().count();
        self.wait(&format!("all nodes have the driver {name}"), REGISTERED, |cluster| {
            let nodes = cluster.get(&["csinodes"])?;
            let having = nodes["items"].as_array().into_iter().flatten().filter(|node| has(node, name)).count();
            Ok(if having == all { Ok(()) } else { Err(format!("{having} of {all}: {nodes}")) })
        })
    }

    /// Offers a volume of a driver, on whichever node its claim is wanted. Returns its folder.
    ///
    /// # Errors
    /// Those of the file system; kubectl's.
    pub fn offer_csi_volume(&self, driver: &str, name: &str) -> Result<PathBuf, TestbedError> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.csi_volumes().join(name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        // Pods run as any user.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).at("open", &folder)?;
        self.apply(&[volume(driver, name)])?;
        Ok(folder)
    }

    fn csi_volumes(&self) -> PathBuf {
        self.folder().join("shared")
    }
}

fn flag(name: &str, value: impl AsRef<Path>) -> String {
    format!("--{name}={}", value.as_ref().display())
}

fn has(node: &Value, driver: &str) -> bool {
    node["spec"]["drivers"].as_array().into_iter().flatten().any(|known| known["name"] == driver)
}

fn driver(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name},
        "spec": {"attachRequired": true, "podInfoOnMount": false, "fsGroupPolicy": "None"},
    })
}

fn storage_class(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(driver: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": driver, "csi": {"driver": driver, "volumeHandle": name},
        },
    })
}
