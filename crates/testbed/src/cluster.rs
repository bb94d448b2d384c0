//! A cluster: started in seconds, thrown away without a trace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::api_reads;
use crate::certs::Authority;
use crate::clocks::Clocks;
use crate::control_plane::{self, Files, STORE, STORE_KEYS, STORE_PORT, TLS_STORE_PORT};
use crate::error::{At as _, TestbedError};
use crate::fake_nodes;
use crate::image;
use crate::namespace::{Namespace, Net, output_of};
use crate::node::{BOOT_IDS, Node, NodeContext, PAUSE};
use crate::process::Process;
use crate::tools::Tools;

/// The image of the program that tests run in pods: `tests/tools/workload`.
pub const WORKLOAD_IMAGE: &str = "testbed.local/workload:1";

const START_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes; none is a control plane alone, without a scheduler.
    pub nodes: u32,
    /// Fake nodes, on which pods run in the API alone (KWOK). With some there is a scheduler.
    pub fake_nodes: u32,
    pub clocks: Clocks,
    /// Whether the API server records all calls, for [`Cluster::audit`].
    pub audit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 3, fake_nodes: 0, clocks: Clocks::SHORT, audit: false }
    }
}

/// A running cluster. Dropping it ends and removes it; the logs are kept when the thread panics.
#[derive(Debug)]
pub struct Cluster {
    tools: Tools,
    options: Options,
    files: Files,
    nodes: Vec<Node>,
    api_server: Option<Process>,
    others: Vec<Process>,
    namespace: Option<Namespace>,
    folder: Option<TempDir>,
    path: PathBuf,
    logs: PathBuf,
}

impl Cluster {
    /// Starts a cluster, and waits until all of it is ready.
    ///
    /// # Errors
    /// A part that does not start, with the end of its log.
    pub fn start(tools: &Tools, options: Options) -> Result<Self, TestbedError> {
        let Options { nodes, fake_nodes, clocks: _, audit: _ } = options;
        let folder =
            tempfile::Builder::new().prefix("indexbuild-testbed-").tempdir().at("make", std::env::temp_dir())?;
        let path = folder.path().to_owned();
        let id =
            path.file_name().map_or(String::new(), |name| name.to_string_lossy().replace("indexbuild-testbed-", ""));
        let logs = path.join("logs");
        fs::create_dir_all(&logs).at("make", &logs)?;
        let authority = Authority::new(&path.join("pki"))?;
        let files = Files::write(&authority)?;
        let namespace = Namespace::new(&logs.join("namespaces.log"))?;
        let mut cluster = Self {
            tools: tools.clone(),
            options,
            files,
            nodes: Vec::new(),
            api_server: None,
            others: Vec::new(),
            namespace: Some(namespace),
            folder: Some(folder),
            path: path.clone(),
            logs,
        };
        cluster.start_control_plane()?;
        if fake_nodes > 0 {
            cluster.start_fake_nodes(&authority)?;
        }
        for number in 1..=nodes {
            let mut node = Node::new(&cluster.node_context(), &authority, &id, &path, number, nodes)?;
            let started = node.start_containerd(&cluster.node_context());
            // The cluster must know the node even if it did not start: its cgroups are to be removed.
            cluster.nodes.push(node);
            started?;
        }
        if nodes > 0 {
            cluster.import_images()?;
            for place in 0..cluster.nodes.len() {
                cluster.with_node_at(place, Node::start_kubelet)?;
            }
        }
        let all = (nodes + fake_nodes) as usize;
        cluster.wait("all nodes are Ready", START_TIMEOUT, |cluster| {
            if all == 0 {
                return Ok(Ok(()));
            }
            let list = cluster.get(&["nodes"])?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let ready = items.iter().filter(|node| condition(node, "Ready") == "True").count();
            if ready == all { Ok(Ok(())) } else { Ok(Err(format!("{ready} of {all} Ready"))) }
        })?;
        // Pods need it, and the controller manager makes it a moment after the namespace.
        cluster.wait("the default service account is there", START_TIMEOUT, |cluster| {
            Ok(cluster.get(&["serviceaccount", "default"]).map(drop).map_err(|error| error.to_string()))
        })?;
        Ok(cluster)
    }

    fn start_control_plane(&mut self) -> Result<(), TestbedError> {
        let (Self { tools, options, files, logs, path, .. }, namespace) = (&*self, self.namespace());
        let Options { nodes, fake_nodes, clocks, audit } = *options;
        let etcd = control_plane::etcd(namespace, tools, logs)?;
        let store = control_plane::object_store(namespace, tools, &path.join("objects"), logs)?;
        let api_server = control_plane::api_server(namespace, tools, files, clocks, audit, logs)?;
        self.others.extend([etcd, store]);
        self.api_server = Some(api_server);
        // The other programs exit when their roles are not there yet.
        self.wait_for_api()?;
        let (Self { tools, files, logs, path, .. }, namespace) = (&*self, self.namespace());
        let proxy = api_reads::proxy(namespace, tools, files, path, logs)?;
        let manager = control_plane::controller_manager(namespace, tools, files, clocks, logs)?;
        let schedules = nodes + fake_nodes > 0;
        let scheduler = if schedules { Some(control_plane::scheduler(namespace, tools, files, logs)?) } else { None };
        self.others.extend([proxy, manager]);
        self.others.extend(scheduler);
        Ok(())
    }

    fn start_fake_nodes(&mut self, authority: &Authority) -> Result<(), TestbedError> {
        let Options { nodes, fake_nodes, clocks, audit: _ } = self.options;
        // A user of its own, so that its calls are told apart in the audit log.
        let kubeconfig = authority.kubeconfig("kwok", "system:masters", &control_plane::server())?;
        let kwok = fake_nodes::kwok(self.namespace(), &self.tools, clocks, &self.path, &kubeconfig)?;
        self.others.push(kwok);
        let fakes: Vec<Value> = (1..=fake_nodes).map(|number| fake_nodes::node(number, nodes > 0)).collect();
        self.apply(&fakes)
    }

    fn wait_for_api(&mut self) -> Result<(), TestbedError> {
        let start = Instant::now();
        loop {
            let seen = match self.kubectl(&["get", "--raw", "/readyz"]) {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            let dead: Vec<String> = self
                .api_server
                .iter_mut()
                .chain(&mut self.others)
                .filter_map(|process| process.ended().then(|| process.log_end()))
                .collect();
            if !dead.is_empty() || start.elapsed() > START_TIMEOUT {
                return Err(TestbedError::Deadline {
                    what: "the API server is ready".to_owned(),
                    within: START_TIMEOUT,
                    seen,
                    context: dead.join("\n"),
                    logs: self.keep_logs(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn import_images(&self) -> Result<(), TestbedError> {
        let workload = self.tools.path("workload");
        for (name, arguments) in [(PAUSE, vec!["/workload", "pause"]), (WORKLOAD_IMAGE, vec!["/workload"])] {
            let archive = self.path.join("image.tar");
            image::write_archive(&archive, name, &[(&workload, "/workload")], &arguments)?;
            self.import_image(&archive)?;
            fs::remove_file(&archive).at("remove", &archive)?;
        }
        Ok(())
    }

    /// Imports an image archive (OCI or Docker) on every node.
    ///
    /// # Errors
    /// containerd's.
    pub fn import_image(&self, archive: &Path) -> Result<(), TestbedError> {
        let import = |node: &Node| {
            let what = format!("containerd of {} takes an image", node.name);
            self.wait(&what, START_TIMEOUT, |cluster| {
                let mut command = cluster.namespace().command(&node.net(), "ctr");
                command.args(["-a", &node.socket(), "-n", "k8s.io", "images", "import"]).arg(archive);
                Ok(output_of(command).map(drop).map_err(|error| error.to_string()))
            })
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| import(node))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Kills the API server, as an upgrade of a control plane with one replica does.
    pub fn stop_api_server(&mut self) {
        if let Some(process) = self.api_server.take() {
            process.kill();
        }
    }

    /// Starts the API server again, and waits until it is ready.
    ///
    /// # Errors
    /// An API server that does not start.
    pub fn start_api_server(&mut self) -> Result<(), TestbedError> {
        let Options { clocks, audit, .. } = self.options;
        let process = control_plane::api_server(self.namespace(), &self.tools, &self.files, clocks, audit, &self.logs)?;
        self.api_server = Some(process);
        self.wait_for_api()
    }

    pub fn clocks(&self) -> Clocks {
        self.options.clocks
    }

    /// An administrator's kubeconfig, for programs inside.
    pub fn kubeconfig(&self) -> &Path {
        &self.files.admin
    }

    /// Where the logs are while it runs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Keeps the cluster's logs beyond its end. Returns where they are.
    pub fn keep_logs(&self) -> PathBuf {
        let kept = self.path.with_extension("logs");
        let _ = fs::create_dir_all(&kept);
        for entry in fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            let _ = fs::copy(entry.path(), kept.join(entry.file_name()));
        }
        kept
    }

    /// The first process of the cluster's namespaces, for `nsenter`.
    pub fn init_pid(&self) -> u32 {
        self.namespace().init()
    }

    /// The object store: its URL for those inside, access key and secret key.
    pub fn object_store(&self) -> (String, &'static str, &'static str) {
        (format!("http://{STORE}:{STORE_PORT}"), STORE_KEYS.0, STORE_KEYS.1)
    }

    /// Starts another object store over the same buckets, by TLS alone, whose certificate an authority of its own signed.
    /// Returns its URL for those inside, and that authority's certificate (PEM). Its keys are those of the other one.
    ///
    /// # Errors
    /// It does not start; a certificate that cannot be made.
    pub fn start_tls_object_store(&mut self) -> Result<(String, String), TestbedError> {
        let authority = Authority::new(&self.path.join("store-pki"))?;
        let objects = self.path.join("objects");
        let store = control_plane::tls_object_store(self.namespace(), &self.tools, &objects, &authority, &self.logs)?;
        self.others.push(store);
        let certificate = authority.certificate();
        let certificate = fs::read_to_string(&certificate).at("read", &certificate)?;
        Ok((format!("https://{STORE}:{TLS_STORE_PORT}"), certificate))
    }

    /// Makes a bucket. Returns the folder that holds its objects.
    pub fn bucket(&self, name: &str) -> Result<PathBuf, TestbedError> {
        let folder = self.path.join("objects").join(name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        Ok(folder)
    }

    /// The folder with the boot ids of all nodes, each in a file named as its node: the kernel that they share has one of
    /// its own, which is none of theirs.
    pub fn boot_ids(&self) -> PathBuf {
        self.path.join(BOOT_IDS)
    }

    /// A command in the control plane's network, with the administrator's kubeconfig.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.namespace().command(&Net::Control, program);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs kubectl. Returns what it printed.
    ///
    /// # Errors
    /// Its failure, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, TestbedError> {
        let mut command = self.command(self.tools.path("kubectl"));
        command.args(arguments);
        output_of(command)
    }

    /// `kubectl get … -o json`, without a kubectl for it where that can be.
    ///
    /// # Errors
    /// Its failure; an answer that is not JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<Value, TestbedError> {
        let socket = api_reads::socket(&self.path);
        if let Some(path) = api_reads::path_of(arguments).filter(|_| socket.exists()) {
            return api_reads::get(&socket, &path);
        }
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// `kubectl apply` of objects.
    ///
    /// # Errors
    /// Its failure, with what the API server said.
    pub fn apply(&self, objects: &[Value]) -> Result<(), TestbedError> {
        let file = self.path.join("apply.json");
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        fs::write(&file, list.to_string()).at("write", &file)?;
        self.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// Ends a pod on a fake node, as its program would: with an exit code. `pod` is its name in the namespace `default`,
    /// or `namespace/name`.
    pub fn end_fake_pod(&self, pod: &str, exit_code: u8) -> Result<(), TestbedError> {
        let (namespace, name) = namespace_and_name(pod);
        self.kubectl(&["annotate", "pod", "-n", namespace, name, &format!("{}={exit_code}", fake_nodes::EXIT_CODE)])
            .map(drop)
    }

    /// Waits until a condition holds: the probe returns what was looked for, or what is there instead.
    ///
    /// # Errors
    /// [`TestbedError::Deadline`] with what was seen last, recent events, and where the logs are.
    pub fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut probe: impl FnMut(&Self) -> Result<Result<T, String>, TestbedError>,
    ) -> Result<T, TestbedError> {
        let start = Instant::now();
        loop {
            let seen = match probe(self) {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(seen)) => seen,
                Err(error) => error.to_string(),
            };
            if start.elapsed() > within {
                let events = self.kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]).unwrap_or_default();
                let lines: Vec<&str> = events.lines().collect();
                return Err(TestbedError::Deadline {
                    what: what.to_owned(),
                    within,
                    seen,
                    context: lines[lines.len().saturating_sub(15)..].join("\n"),
                    logs: self.keep_logs(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A node's own folder for a local volume; it outlives the node's crashes.
    ///
    /// # Errors
    /// A node that does not exist; those of the file system.
    pub fn volume_folder(&self, node: &str, name: &str) -> Result<PathBuf, TestbedError> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.node(node)?.volume(name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        // Pods run as any user.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).at("open", &folder)?;
        Ok(folder)
    }

    /// What a node's kubelet has of a pod: its volumes that are in no other place.
    ///
    /// # Errors
    /// A node that does not exist.
    pub fn pod_folder(&self, node: &str, uid: &str) -> Result<PathBuf, TestbedError> {
        Ok(self.node(node)?.pod(uid))
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        // Taken out in `drop` alone.
        match &self.namespace {
            Some(namespace) => namespace,
            None => unreachable!("a cluster has its namespaces until it is dropped"),
        }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node, TestbedError> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| TestbedError::Unavailable(format!("the cluster has no node {name:?}")))
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node, TestbedError> {
        let found = self.nodes.iter_mut().find(|node| node.name == name);
        found.ok_or_else(|| TestbedError::Unavailable(format!("the cluster has no node {name:?}")))
    }

    pub(crate) fn with_node(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Node, &NodeContext<'_>) -> Result<(), TestbedError>,
    ) -> Result<(), TestbedError> {
        self.node(name)?;
        let place = self.nodes.iter().position(|node| node.name == name).unwrap_or_default();
        self.with_node_at(place, act)
    }

    fn with_node_at(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut Node, &NodeContext<'_>) -> Result<(), TestbedError>,
    ) -> Result<(), TestbedError> {
        let mut node = self.nodes.remove(place);
        let outcome = act(&mut node, &self.node_context());
        self.nodes.insert(place, node);
        outcome
    }

    /// Processes that live as long as the cluster.
    pub(crate) fn keep(&mut self, processes: Vec<Process>) {
        self.others.extend(processes);
    }

    pub(crate) fn node_context(&self) -> NodeContext<'_> {
        NodeContext { namespace: self.namespace(), tools: &self.tools, clocks: self.clocks(), logs: &self.logs }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("clocks: {}\nlogs of the cluster: {}", self.clocks(), self.keep_logs().display());
        }
        // A frozen process would keep the namespaces alive.
        for node in &self.nodes {
            node.freeze_kubelet(false);
        }
        // All processes, mounts, interfaces and rules go with the namespaces; then nothing holds the folders.
        self.namespace = None;
        for node in &self.nodes {
            node.remove_cgroups();
        }
        if let Some(folder) = self.folder.take() {
            let path = folder.path().to_owned();
            if let Err(error) = folder.close() {
                eprintln!("{} is not removed: {error}", path.display());
            }
        }
    }
}

/// The status of an object's condition: `True`, `False`, `Unknown`, or nothing.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

/// `namespace/name`, or a name in the namespace `default`.
pub(crate) fn namespace_and_name(pod: &str) -> (&str, &str) {
    pod.split_once('/').unwrap_or(("default", pod))
}
