//! A node: a network namespace, a containerd, a kubelet, cgroups of its own, a boot id and a machine id.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;

use crate::certs::Authority;
use crate::clocks::Clocks;
use crate::control_plane::{API, server};
use crate::error::{At as _, TestbedError};
use crate::namespace::{Namespace, Net, output_of, signal};
use crate::process::Process;
use crate::tools::Tools;

/// The image that holds each pod's namespaces.
pub(crate) const PAUSE: &str = "testbed.local/pause:1";
/// Less room than this on its disk makes a kubelet evict pods.
const ROOM: &str = "0.1%";
/// More room than any disk in use has free. Not more than the disk has at all: with that a kubelet does not start.
const ALL_ROOM: &str = "99.9%";

/// The folder in a cluster's own with the boot ids of its nodes.
pub(crate) const BOOT_IDS: &str = "boot-ids";

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    number: u32,
    folder: PathBuf,
    cgroup: String,
    kubeconfig: PathBuf,
    /// Where all nodes keep their boot ids, in files named as they are.
    boot_ids: PathBuf,
    boots: u32,
    containerd: Option<Process>,
    kubelet: Option<Process>,
}

pub(crate) struct NodeContext<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) tools: &'a Tools,
    pub(crate) clocks: Clocks,
    pub(crate) logs: &'a Path,
}

impl Node {
    /// Makes the node's files and its network; starts nothing yet.
    pub(crate) fn new(
        context: &NodeContext<'_>,
        authority: &Authority,
        cluster: &str,
        folder: &Path,
        number: u32,
        nodes: u32,
    ) -> Result<Self, TestbedError> {
        let name = format!("node{number}");
        let boot_ids = folder.join(BOOT_IDS);
        fs::create_dir_all(&boot_ids).at("make", &boot_ids)?;
        let folder = folder.join(&name);
        for part in ["kubelet", "containerd", "cni", "pods", "plugins", "volumes"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).at("make", &part)?;
        }
        let user = format!("system:node:{name}");
        let kubeconfig = authority.kubeconfig(&user, "system:nodes", &server())?;
        let node = Self {
            cgroup: format!("tb-{cluster}-{name}"),
            name,
            number,
            folder,
            kubeconfig,
            boot_ids,
            boots: 0,
            containerd: None,
            kubelet: None,
        };
        node.connect(context.namespace, nodes)?;
        node.write_config(context.clocks, &authority.certificate())?;
        Ok(node)
    }

    pub(crate) fn net(&self) -> Net {
        Net::Node(self.name.clone())
    }

    pub(crate) fn address(&self) -> String {
        format!("10.88.0.{}", 10 + self.number)
    }

    /// The folder on the node for a local volume.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.folder.join("volumes").join(name)
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.folder.join("kubelet/pods").join(uid)
    }

    fn run_folder(&self) -> String {
        format!("/run/{}", self.name)
    }

    pub(crate) fn socket(&self) -> String {
        format!("{}/containerd.sock", self.run_folder())
    }

    fn connect(&self, namespace: &Namespace, nodes: u32) -> Result<(), TestbedError> {
        let (name, number, address) = (&self.name, self.number, self.address());
        let outside = format!(
            "set -e\nip netns add {name}\nip link add veth{number} type veth peer name eth0 netns {name}\n\
             ip link set veth{number} master br0 up\nip route add 10.244.{number}.0/24 via {address} || true\nmkdir -p /run/{name}"
        );
        let mut inside = format!(
            "set -e\nip link set lo up\nip addr add {address}/24 dev eth0\nip link set eth0 up\n\
             ip route add default via {API}\necho 1 > /proc/sys/net/ipv4/ip_forward\n"
        );
        for other in (1..=nodes).filter(|other| *other != number) {
            inside.push_str(&format!("ip route add 10.244.{other}.0/24 via 10.88.0.{}\n", 10 + other));
        }
        // The service `kubernetes`, for pods and for the node itself: kube-proxy is not needed for one address.
        inside.push_str(&format!(
            "nft -f - <<'NFT'\ntable ip service {{\n chain pre {{ type nat hook prerouting priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to {API}:6443; }}\n \
             chain out {{ type nat hook output priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to {API}:6443; }}\n}}\nNFT\n"
        ));
        let mut command = namespace.command(&Net::Control, "bash");
        command.args(["-c", &outside]);
        output_of(command)?;
        let mut command = namespace.command(&self.net(), "bash");
        command.args(["-c", &inside]);
        output_of(command)?;
        Ok(())
    }

    fn write_config(&self, clocks: Clocks, ca: &Path) -> Result<(), TestbedError> {
        let path = |name: &str| self.folder.join(name);
        let kubelet = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": ca}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{}", self.socket()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "failCgroupV1": false,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20_000,
            "podLogsDir": path("pods"),
            "volumePluginDir": path("plugins"),
            "resolvConf": "",
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": ROOM, "imagefs.available": "0.1%"},
            // What a pod has written shows within seconds; by default it is looked at every minute or two.
            "volumeStatsAggPeriod": "5s",
            "imageGCHighThresholdPercent": 100,
            "featureGates": {"KubeletSeparateDiskGC": false},
            "nodeLeaseDurationSeconds": clocks.node_lease,
            "nodeStatusUpdateFrequency": format!("{}s", clocks.node_status),
            "nodeStatusReportFrequency": format!("{}s", clocks.node_status),
            "registerWithTaints": [],
        });
        write(&path("kubelet.json"), &kubelet.to_string())?;
        let containerd = format!(
            "version = 2\nroot = \"{root}\"\nstate = \"{run}/containerd\"\noom_score = 0\n\
             [grpc]\naddress = \"{socket}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{cni}\"\n",
            root = path("containerd").display(),
            run = self.run_folder(),
            socket = self.socket(),
            cni = path("cni").display(),
        );
        write(&path("containerd.toml"), &containerd)?;
        let cni = json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": format!("{}/cni", self.run_folder()),
                    "ranges": [[{"subnet": format!("10.244.{}.0/24", self.number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        });
        write(&path("cni/pods.conflist"), &cni.to_string())?;
        write(&path("machine-id"), &format!("{:032x}\n", 0xabc0_0000_u64 + u64::from(self.number)))?;
        self.write_boot_id()
    }

    fn write_boot_id(&self) -> Result<(), TestbedError> {
        let id = format!("00000000-0000-4000-8000-{:06x}{:06x}\n", self.number, self.boots);
        write(&self.boot_ids.join(&self.name), &id)
    }

    /// A command in the node's network and in cgroups of its own, so that a crash finds all of its descendants.
    fn command(&self, namespace: &Namespace, program: &Path) -> std::process::Command {
        let mut command = namespace.command(&self.net(), "bash");
        let script = format!(
            "for controller in {}; do echo $$ > \"$controller/{}-system/cgroup.procs\"; done; exec \"$0\" \"$@\"",
            controllers().join(" "),
            self.cgroup,
        );
        command.arg("-c").arg(script).arg(program);
        command
    }

    pub(crate) fn start_containerd(&mut self, context: &NodeContext<'_>) -> Result<(), TestbedError> {
        make_cgroup(&self.cgroup)?;
        make_cgroup(&format!("{}-system", self.cgroup))?;
        let mut command = self.command(context.namespace, Path::new("containerd"));
        command.arg("--config").arg(self.folder.join("containerd.toml"));
        self.containerd = Some(Process::start(command, &format!("{}-containerd", self.name), context.logs)?);
        Ok(())
    }

    pub(crate) fn start_kubelet(&mut self, context: &NodeContext<'_>) -> Result<(), TestbedError> {
        let mut command = self.command(context.namespace, &context.tools.path("kubelet"));
        let flag = |name: &str, file: &str| format!("--{name}={}", self.folder.join(file).display());
        command.args([
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", self.address()),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            flag("config", "kubelet.json"),
            flag("root-dir", "kubelet"),
            flag("cert-dir", "kubelet/pki"),
            format!("--boot-id-file={}", self.boot_ids.join(&self.name).display()),
            flag("machine-id-file", "machine-id"),
        ]);
        self.kubelet = Some(Process::start(command, &format!("{}-kubelet", self.name), context.logs)?);
        Ok(())
    }

    /// Has its kubelet, once that is started again, find too little room on its disk, or enough.
    pub(crate) fn write_disk_pressure(&self, pressed: bool) -> Result<(), TestbedError> {
        let path = self.folder.join("kubelet.json");
        let text = fs::read_to_string(&path).at("read", &path)?;
        let mut kubelet: serde_json::Value =
            serde_json::from_str(&text).map_err(std::io::Error::from).at("understand", &path)?;
        kubelet["evictionHard"]["nodefs.available"] = json!(if pressed { ALL_ROOM } else { ROOM });
        write(&path, &kubelet.to_string())
    }

    /// Starts a CSI driver on the node; its kubelet finds it. It ends with the node.
    pub(crate) fn start_csi_driver(
        &self,
        context: &NodeContext<'_>,
        program: &Path,
        name: &str,
        volumes: &Path,
    ) -> Result<Process, TestbedError> {
        let registry = self.folder.join("kubelet/plugins_registry");
        fs::create_dir_all(&registry).at("make", &registry)?;
        let mut command = self.command(context.namespace, program);
        command.args([
            format!("--name={name}"),
            format!("--node={}", self.name),
            format!("--folder={}", volumes.display()),
            format!("--endpoint={}/{name}.sock", self.run_folder()),
            format!("--register={}", registry.join(format!("{name}-reg.sock")).display()),
        ]);
        Process::start(command, &format!("{}-{name}", self.name), context.logs)
    }

    pub(crate) fn stop_kubelet(&mut self) {
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.kill();
        }
    }

    pub(crate) fn freeze_kubelet(&self, frozen: bool) {
        if let Some(kubelet) = &self.kubelet {
            kubelet.signal(if frozen { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Ends all processes of the node at once, as a loss of power does. Its files stay; `/run` does not.
    pub(crate) fn crash(&mut self, namespace: &Namespace) -> Result<(), TestbedError> {
        let start = std::time::Instant::now();
        loop {
            let mut living = 0;
            for root in [self.cgroup.clone(), format!("{}-system", self.cgroup)] {
                for pid in processes_below(&root) {
                    living += 1;
                    signal(pid, Signal::KILL);
                }
            }
            if living == 0 || start.elapsed().as_secs() > 20 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.stop_kubelet();
        if let Some(containerd) = self.containerd.take() {
            containerd.kill();
        }
        // Mounts of containers, interfaces of pods, everything in memory: gone with the power.
        let script = format!(
            "for mount in $(grep -oE '({folder}|{run})/[^ ]*' /proc/self/mounts | sort -ru); do umount -l \"$mount\"; done; \
             rm -rf {run}; mkdir -p {run}; rm -rf {folder}/kubelet/pods/*; \
             nsenter --net=/run/netns/{name} ip link delete cni0 || true",
            folder = self.folder.display(),
            run = self.run_folder(),
            name = self.name,
        );
        let mut command = namespace.command(&Net::Control, "bash");
        command.args(["-c", &script]);
        output_of(command)?;
        Ok(())
    }

    /// Starts a crashed node again.
    pub(crate) fn boot(&mut self, context: &NodeContext<'_>, new_boot_id: bool) -> Result<(), TestbedError> {
        if new_boot_id {
            self.boots += 1;
            self.write_boot_id()?;
        }
        self.start_containerd(context)?;
        self.await_containerd(context)?;
        self.start_kubelet(context)
    }

    /// A kubelet that finds no runtime ends, and here no init system starts it again.
    fn await_containerd(&self, context: &NodeContext<'_>) -> Result<(), TestbedError> {
        let start = std::time::Instant::now();
        loop {
            let mut command = context.namespace.command(&self.net(), "ctr");
            command.args(["-a", &self.socket(), "--connect-timeout", "2s", "version"]);
            match output_of(command) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed().as_secs() > 30 => return Err(error),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
            }
        }
    }

    /// The processes of a container, by its id: its cgroup is named after it.
    pub(crate) fn processes_of(&self, container: &str) -> Vec<u32> {
        let mut folders: Vec<PathBuf> =
            controllers().iter().map(|controller| Path::new(controller).join(&self.cgroup)).collect();
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            if !container.is_empty() && folder.file_name().is_some_and(|name| name == container) {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
            folders.extend(folders_in(&folder));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes the node's cgroups: all that the kernel does not remove by itself.
    pub(crate) fn remove_cgroups(&self) {
        for root in [self.cgroup.clone(), format!("{}-system", self.cgroup)] {
            for hierarchy in mounted(&["cgroup", "cgroup2"]) {
                remove_tree(&Path::new(&hierarchy).join(&root));
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), TestbedError> {
    fs::write(path, text).at("write", path)
}

/// The mounted hierarchies of these kinds. runc makes folders in all of them.
fn mounted(kinds: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(place), Some(kind)) = (fields.next(), fields.next())
            && kinds.contains(&kind)
        {
            found.push(place.to_owned());
        }
    }
    found
}

/// The controllers of cgroup v1, or the one hierarchy of v2 (on which this is untested).
fn controllers() -> Vec<String> {
    let first = mounted(&["cgroup"]);
    if first.is_empty() { mounted(&["cgroup2"]) } else { first }
}

fn make_cgroup(name: &str) -> Result<(), TestbedError> {
    for controller in controllers() {
        let folder = Path::new(&controller).join(name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            let from = Path::new(&controller).join(setting);
            if let Ok(value) = fs::read_to_string(&from) {
                let to = folder.join(setting);
                fs::write(&to, value).at("write", to)?;
            }
        }
    }
    Ok(())
}

fn processes_below(root: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for controller in controllers() {
        let mut folders = vec![Path::new(&controller).join(root)];
        while let Some(folder) = folders.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            folders.extend(folders_in(&folder));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes cgroups, the innermost first. Processes that were just killed may hold one for a moment.
fn remove_tree(folder: &Path) {
    for inner in folders_in(folder) {
        remove_tree(&inner);
    }
    let start = std::time::Instant::now();
    while folder.exists() && fs::remove_dir(folder).is_err() && start.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
