//! etcd, API server, controller manager, scheduler, object store: what runs in the control plane's network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certs::{Authority, Identity};
use crate::clocks::Clocks;
use crate::error::{At as _, TestbedError};
use crate::namespace::{Namespace, Net};
use crate::process::Process;
use crate::tools::Tools;

/// Where the API server is for everybody inside.
pub(crate) const API: &str = "10.88.0.1";
/// Where the object store is: another address, so that it can be cut off alone.
pub(crate) const STORE: &str = "10.88.0.2";
/// The object store's port.
pub(crate) const STORE_PORT: u16 = 7070;
/// The port of the same objects behind TLS.
pub(crate) const TLS_STORE_PORT: u16 = 7443;
/// Keys of the object store: of no use anywhere else.
pub(crate) const STORE_KEYS: (&str, &str) = ("testbed", "testbed-secret");

/// Everything, without bodies; a watch is recorded when it begins, a request when it is answered.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

/// The files that the control plane is started with: made once, used at each start.
#[derive(Debug)]
pub(crate) struct Files {
    ca: PathBuf,
    server: Identity,
    kubelet_client: Identity,
    token_keys: (PathBuf, PathBuf),
    controller_manager: PathBuf,
    scheduler: PathBuf,
    pub(crate) admin: PathBuf,
}

/// The API server's URL for everybody inside.
pub(crate) fn server() -> String {
    format!("https://{API}:6443")
}

impl Files {
    pub(crate) fn write(authority: &Authority) -> Result<Self, TestbedError> {
        let server = server();
        let names = [API, "127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];
        Ok(Self {
            ca: authority.certificate(),
            server: authority.sign("kube-apiserver", None, &names)?,
            kubelet_client: authority.sign("kubelet-client", Some("system:masters"), &[])?,
            token_keys: authority.token_key()?,
            controller_manager: authority.kubeconfig(
                "system:kube-controller-manager",
                "system:authenticated",
                &server,
            )?,
            scheduler: authority.kubeconfig("system:kube-scheduler", "system:authenticated", &server)?,
            admin: authority.kubeconfig("admin", "system:masters", &server)?,
        })
    }
}

fn flag(name: &str, value: impl AsRef<Path>) -> String {
    format!("--{name}={}", value.as_ref().display())
}

/// Starts etcd; its data is in memory, and goes with the namespaces.
pub(crate) fn etcd(namespace: &Namespace, tools: &Tools, logs: &Path) -> Result<Process, TestbedError> {
    let mut command = namespace.command(&Net::Control, tools.path("etcd"));
    command.args([
        "--data-dir=/run/etcd",
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]);
    Process::start(command, "etcd", logs)
}

pub(crate) fn api_server(
    namespace: &Namespace,
    tools: &Tools,
    files: &Files,
    clocks: Clocks,
    audit: bool,
    logs: &Path,
) -> Result<Process, TestbedError> {
    let Files { ca, server, kubelet_client, token_keys, controller_manager: _, scheduler: _, admin: _ } = files;
    let mut command = namespace.command(&Net::Control, tools.path("kube-apiserver"));
    command.args([
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--advertise-address={API}"),
        flag("tls-cert-file", &server.certificate),
        flag("tls-private-key-file", &server.key),
        flag("client-ca-file", ca),
        flag("kubelet-client-certificate", &kubelet_client.certificate),
        flag("kubelet-client-key", &kubelet_client.key),
        // There is no DNS that would know a node by its name.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag("service-account-signing-key-file", &token_keys.0),
        flag("service-account-key-file", &token_keys.1),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        // Pod Security decides, as on real clusters.
        "--allow-privileged=true".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--default-not-ready-toleration-seconds={}", clocks.toleration),
        format!("--default-unreachable-toleration-seconds={}", clocks.toleration),
    ]);
    if audit {
        let policy = logs.join("audit-policy.json");
        fs::write(&policy, AUDIT_POLICY).at("write", &policy)?;
        // Blocking: a call that was answered is recorded.
        command.args([flag("audit-policy-file", policy), flag("audit-log-path", audit_log(logs))]);
        command.arg("--audit-log-mode=blocking");
    }
    Process::start(command, "kube-apiserver", logs)
}

pub(crate) fn controller_manager(
    namespace: &Namespace,
    tools: &Tools,
    files: &Files,
    clocks: Clocks,
    logs: &Path,
) -> Result<Process, TestbedError> {
    let mut command = namespace.command(&Net::Control, tools.path("kube-controller-manager"));
    command.args([
        flag("kubeconfig", &files.controller_manager),
        flag("authentication-kubeconfig", &files.controller_manager),
        flag("authorization-kubeconfig", &files.controller_manager),
        flag("service-account-private-key-file", &files.token_keys.0),
        flag("root-ca-file", &files.ca),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--node-monitor-period={}s", clocks.monitor_period),
        format!("--node-monitor-grace-period={}s", clocks.monitor_grace),
        // A test cluster is small: one silent node of three must not look like the loss of a whole zone.
        "--node-eviction-rate=10".to_owned(),
        "--unhealthy-zone-threshold=0.9".to_owned(),
    ]);
    Process::start(command, "kube-controller-manager", logs)
}

pub(crate) fn scheduler(
    namespace: &Namespace,
    tools: &Tools,
    files: &Files,
    logs: &Path,
) -> Result<Process, TestbedError> {
    let mut command = namespace.command(&Net::Control, tools.path("kube-scheduler"));
    command.args([flag("kubeconfig", &files.scheduler), "--leader-elect=false".to_owned()]);
    Process::start(command, "kube-scheduler", logs)
}

/// Starts the object store on a folder: a bucket is a folder in it. It keeps connections alive, as stores do.
pub(crate) fn object_store(
    namespace: &Namespace,
    tools: &Tools,
    folder: &Path,
    logs: &Path,
) -> Result<Process, TestbedError> {
    fs::create_dir_all(folder).at("make", folder)?;
    let mut command = object_store_command(namespace, tools, STORE_PORT);
    command.arg("posix").arg(folder);
    Process::start(command, "object-store", logs)
}

/// Starts another object store on the same folder, by TLS alone, under an authority of its own.
pub(crate) fn tls_object_store(
    namespace: &Namespace,
    tools: &Tools,
    folder: &Path,
    authority: &Authority,
    logs: &Path,
) -> Result<Process, TestbedError> {
    let Identity { certificate, key } = authority.sign("object-store", None, &[STORE])?;
    let mut command = object_store_command(namespace, tools, TLS_STORE_PORT);
    command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("posix").arg(folder);
    Process::start(command, "tls-object-store", logs)
}

fn object_store_command(namespace: &Namespace, tools: &Tools, port: u16) -> Command {
    let mut command = namespace.command(&Net::Control, tools.path("versitygw"));
    let (access, secret) = STORE_KEYS;
    command.args(["--access", access, "--secret", secret, "--keep-alive", "--port"]);
    command.arg(format!("{STORE}:{port}"));
    command
}

/// The API server's record of all calls.
pub(crate) fn audit_log(logs: &Path) -> PathBuf {
    logs.join("audit.log")
}
