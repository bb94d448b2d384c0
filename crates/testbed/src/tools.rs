//! Where the programs are that a cluster is made of, and whether this machine can run them.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::TestbedError;

/// The folder with etcd, Kubernetes and the rest, made by `make tools`.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
}

/// All that is built from Go modules.
const BUILT: [&str; 8] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "versitygw",
    "workload",
];

/// All that comes with the system.
const INSTALLED: [&str; 8] = ["containerd", "ctr", "runc", "nft", "ip", "nsenter", "unshare", "mount"];

impl Tools {
    /// Finds the tools: in the folder that the variable `INDEXBUILD_TOOLS` names (`make` sets it).
    ///
    /// # Errors
    /// [`TestbedError::Unavailable`]: not Linux, not root, a tool is missing; with what to do about it.
    pub fn find() -> Result<Self, TestbedError> {
        let unavailable = |why: String| Err(TestbedError::Unavailable(why));
        if !cfg!(target_os = "linux") {
            return unavailable("it needs Linux: namespaces, cgroups".to_owned());
        }
        if !rustix::process::geteuid().is_root() {
            return unavailable("it needs root: namespaces, cgroups, mounts".to_owned());
        }
        let Some(bin) = env::var_os("INDEXBUILD_TOOLS").map(PathBuf::from) else {
            return unavailable("INDEXBUILD_TOOLS does not name the folder of the tools: start it by make".to_owned());
        };
        let missing: Vec<&str> = BUILT.into_iter().filter(|name| !bin.join(name).is_file()).collect();
        if !missing.is_empty() {
            return unavailable(format!("{} not in {}: run make tools", missing.join(", "), bin.display()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = |name: &&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let missing: Vec<&str> = INSTALLED.into_iter().filter(|name| !installed(name)).collect();
        if !missing.is_empty() {
            return unavailable(format!("{} not installed: run make tools", missing.join(", ")));
        }
        Ok(Self { bin })
    }

    /// The path of a tool that every cluster is made of.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The path of a tool that only some tests need: `helm`, `kubeconform`, `kwok`, `kstatus`, a CSI driver.
    ///
    /// # Errors
    /// [`TestbedError::Unavailable`]: it was not built.
    pub fn optional(&self, name: &str) -> Result<PathBuf, TestbedError> {
        let path = self.bin.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(TestbedError::Unavailable(format!("{name} not in {}: run make tools", self.bin.display())))
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// The tools, or `None` after having reported the test as skipped.
pub fn tools_or_skip(test: &str) -> Option<Tools> {
    or_skip(test, Tools::find())
}

/// What a test needs, or `None` after having reported the test as skipped: on standard error, and in the file that
/// the variable `INDEXBUILD_SKIPPED` names, by which CI fails when anything was skipped.
pub fn or_skip<T>(test: &str, needed: Result<T, TestbedError>) -> Option<T> {
    match needed {
        Ok(needed) => Some(needed),
        Err(error) => {
            let line = format!("SKIPPED: {test}: {error}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            if let Some(list) = env::var_os("INDEXBUILD_SKIPPED") {
                let file = OpenOptions::new().create(true).append(true).open(list);
                let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
            }
            None
        }
    }
}
