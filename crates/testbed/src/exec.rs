//! Commands in a pod's container: those of its image, and others that it does not have.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, namespace_and_name};
use crate::error::TestbedError;
use crate::namespace::output_of;

impl Cluster {
    /// Runs a command of the image in a pod's first container, by way of API server and kubelet. `pod` is a name in the
    /// namespace `default`, or `namespace/name`. Returns what it printed.
    ///
    /// # Errors
    /// Its failure, with what it said; a node that cannot be reached.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, TestbedError> {
        let (namespace, name) = namespace_and_name(pod);
        let mut words = vec!["exec", "-n", namespace, name, "--"];
        words.extend_from_slice(command);
        self.kubectl(&words)
    }

    /// Runs a program of this machine, which must be linked statically, inside a pod's first container: with its network,
    /// its files, its token, its user. The container's image need not have it, and neither API server nor kubelet takes
    /// part: it works on a node that is cut off. Returns what it printed.
    ///
    /// # Errors
    /// A container that does not run; the program's failure, with what it said.
    pub fn run_inside(&self, pod: &str, program: &Path, arguments: &[&str]) -> Result<String, TestbedError> {
        let process = self.processes(pod)?[0];
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let ids = |name: &str| -> Vec<&str> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().collect()
        };
        let user = ids("Uid:").first().copied().unwrap_or("65532");
        // nsenter sets one group: the token is readable by the pod's fsGroup, where there is one.
        let own = ids("Gid:").first().copied().unwrap_or("65532");
        let group = ids("Groups:").into_iter().find(|group| *group != own).unwrap_or(own);
        // Opened here, executed there: the container's files do not have it.
        let script = r#"program=$1; shift; exec 3< "$program"; exec "$@""#;
        let mut command = Command::new("bash");
        command.args(["-c", script, "inside"]).arg(program);
        command.args(["nsenter", "--target", &process.to_string(), "--mount", "--net", "--pid", "--uts", "--ipc"]);
        command.args(["--setuid", user, "--setgid", group, "--", "/proc/self/fd/3"]).args(arguments);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").env("KUBERNETES_SERVICE_PORT", "443");
        output_of(command)
    }

    pub(crate) fn pod(&self, pod: &str) -> Result<Value, TestbedError> {
        let (namespace, name) = namespace_and_name(pod);
        self.get(&["pod", "-n", namespace, name])
    }

    /// All processes of a pod's first container, the oldest first: at least one.
    pub(crate) fn processes(&self, pod: &str) -> Result<Vec<u32>, TestbedError> {
        let object = self.pod(pod)?;
        let node = self.node(object["spec"]["nodeName"].as_str().unwrap_or_default())?;
        let id = object["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
        let processes = node.processes_of(id.trim_start_matches("containerd://"));
        if processes.is_empty() {
            return Err(TestbedError::Unavailable(format!("no process of pod {pod} runs on {}", node.name)));
        }
        Ok(processes)
    }
}
