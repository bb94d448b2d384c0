//! Local volumes: folders of nodes that are offered beforehand, and small ones in memory that a test can fill. What
//! becomes of them when their claim is gone, and volumes that are made on demand: [`crate::Provisioner`].

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::namespace::{Net, output_of};
use crate::objects::{self, PROVISIONER};

/// The annotation of the provisioner's volumes. Without it the controller manager holds a volume with policy
/// `Delete` for its own, finds no plugin that could delete it, and marks it Failed.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// What happens to a volume when its claim is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// It is emptied and offered anew.
    Delete,
    /// It stays Released, with its content.
    Retain,
}

impl Reclaim {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }
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

    /// Offers a volume of `mib` MiB that a pod can really fill: memory, so its content does not outlive the cluster.
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
        output_of(command)?;
        self.apply(&[objects::local_storage_class(), offered(name, node, &folder, Reclaim::Retain.name())])?;
        Ok(self.seen_from_outside(&folder))
    }

    /// Fills a volume of [`Cluster::offer_small_volume`] to the last byte, until [`Cluster::unfill_volume`].
    ///
    /// # Errors
    /// A volume that is not of that kind: a folder of the machine's disk is never filled.
    pub fn fill_volume(&self, node: &str, name: &str) -> Result<(), TestbedError> {
        let folder = self.small_volume(node, name);
        let script = "mountpoint -q \"$0\" && { cat /dev/zero > \"$0/.filler\" 2>/dev/null || true; }";
        let mut command = self.namespace().command(&Net::Control, "bash");
        command.args(["-c", script]).arg(folder);
        output_of(command).map(drop)
    }

    /// Gives a filled volume its room back.
    ///
    /// # Errors
    /// A volume that was not filled.
    pub fn unfill_volume(&self, node: &str, name: &str) -> Result<(), TestbedError> {
        let filler = self.seen_from_outside(&self.small_volume(node, name)).join(".filler");
        fs::remove_file(&filler).at("remove", filler)
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

pub(crate) fn offered(name: &str, node: &str, folder: &Path, reclaim: &str) -> Value {
    let mut volume = objects::local_volume(name, node, folder, reclaim);
    volume["metadata"]["annotations"] = serde_json::json!({PROVISIONED_BY: PROVISIONER});
    volume
}
