//! Real servers on loopback for the proxies' own tests: started here, killed on drop.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A binary in the folder of tools that `make` names.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("INDEXBUILD_TOOLS")?).join(name);
    path.is_file().then_some(path)
}

/// Says that a test did not run, on the terminal and in the file that `INDEXBUILD_SKIPPED` names.
pub(crate) fn skipped(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    println!("{line}");
    if let Some(file) = std::env::var_os("INDEXBUILD_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// A process that ends with its test.
pub(crate) struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that are free now, all different.
fn ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|l| l.local_addr().unwrap().port())
}

fn wait_for_port(port: u16, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// etcd and kube-apiserver.
pub(crate) struct Api {
    pub url: String,
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub log: PathBuf,
    _api: Process,
    _etcd: Process,
    _dir: tempfile::TempDir,
}

impl Api {
    /// `None` when the binaries are not there, which is reported.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let (Some(etcd), Some(apiserver)) = (tool("etcd"), tool("kube-apiserver")) else {
            skipped(test, "etcd or kube-apiserver not found; `make tools` builds them");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [client, peer, port] = ports();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::new(Vec::<String>::new()).unwrap();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.distinguished_name.push(DnType::CommonName, "test-ca");
        let ca_pem = ca_params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let signed = |names: Vec<String>, common: &str, organization: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common);
            params.distinguished_name.push(DnType::OrganizationName, organization);
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let (server_cert, server_key) = signed(vec!["127.0.0.1".into(), "localhost".into()], "kube-apiserver", "x");
        let (cert_pem, key_pem) = signed(vec![], "admin", "system:masters");
        let accounts = KeyPair::generate().unwrap();
        for (name, text) in [
            ("ca.crt", &ca_pem),
            ("server.crt", &server_cert),
            ("server.key", &server_key),
            ("sa.key", &accounts.serialize_pem()),
            ("sa.pub", &accounts.public_key_pem()),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        let endpoint = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let etcd = Process::start(
            Command::new(etcd)
                .arg("--data-dir")
                .arg(at("etcd"))
                .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync"]),
            &at("etcd.log"),
        );
        wait_for_port(client, &at("etcd.log"));
        let flag = |name: &str, file: &str| format!("--{name}={}", at(file).display());
        let log = at("apiserver.log");
        let api = Process::start(
            Command::new(apiserver)
                .arg(format!("--etcd-servers={endpoint}"))
                .arg(format!("--secure-port={port}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC"])
                .args(["--service-account-issuer=https://test", "--service-cluster-ip-range=10.96.0.0/16"])
                .arg("--endpoint-reconciler-type=none")
                .args([flag("client-ca-file", "ca.crt"), flag("tls-cert-file", "server.crt")])
                .args([flag("tls-private-key-file", "server.key"), flag("cert-dir", "certs")])
                .args([flag("service-account-key-file", "sa.pub"), flag("service-account-signing-key-file", "sa.key")]),
            &log,
        );
        wait_for_port(port, &log);
        let url = format!("https://127.0.0.1:{port}");
        Some(Self { url, ca_pem, cert_pem, key_pem, log, _api: api, _etcd: etcd, _dir: dir })
    }
}

/// An S3 store.
pub(crate) struct Store {
    pub url: String,
    _gateway: Process,
    _dir: tempfile::TempDir,
}

impl Store {
    /// `None` when the binary is not there, which is reported. Bucket `bucket` exists, keys are `test`/`testtest`.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(gateway) = tool("versitygw") else {
            skipped(test, "versitygw not found; `make tools` builds it");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("bucket")).unwrap();
        let [port] = ports();
        let log = dir.path().join("log");
        let gateway = Process::start(
            Command::new(gateway)
                .args(["--access", "test", "--secret", "testtest", "--keep-alive"])
                .args(["--port", &format!("127.0.0.1:{port}"), "posix"])
                .arg(root),
            &log,
        );
        wait_for_port(port, &log);
        Some(Self { url: format!("http://127.0.0.1:{port}"), _gateway: gateway, _dir: dir })
    }
}
