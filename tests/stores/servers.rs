//! Object stores on loopback: started here, with a bucket `lake`, and killed when they are dropped.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexbuild_testbed::{TestbedError, or_skip};
use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::{HttpConnector as _, HttpRequestBody, ReqwestConnector};
use object_store::{Certificate, ClientOptions, ObjectStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::runtime::Runtime;

const STARTING: Duration = Duration::from_secs(60);
const BUCKET: &str = "lake";
/// Azurite's, and of no use anywhere else.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A certificate authority of a test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder, file }
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for a server on loopback, and its key.
    fn server(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (chain, private) = (self.folder.path().join("server.crt"), self.folder.path().join("server.key"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        (chain, private)
    }
}

/// A store that runs.
pub(crate) struct Server {
    process: Child,
    scheme: &'static str,
    endpoint: String,
    environment: Vec<(&'static str, &'static str)>,
    bucket: Arc<dyn ObjectStore>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program in the folder that a variable of `make` names.
fn program(test: &str, variable: &str, name: &str, made_by: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    let program = folder.map(|folder| folder.join(name)).filter(|program| program.is_file());
    or_skip(test, program.ok_or_else(|| TestbedError::Unavailable(format!("{name} is not there: run make {made_by}"))))
}

fn npm(test: &str, name: &str) -> Option<PathBuf> {
    let found = program(test, "INDEXBUILD_STORES", name, "stores")?;
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok_and(|node| node.success());
    or_skip(test, node.then_some(found).ok_or_else(|| TestbedError::Unavailable("node is not installed".to_owned())))
}

/// A port that is free now.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16, folder: &Path) -> Child {
    let log = folder.join("log");
    let file = std::fs::File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + STARTING;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(process.try_wait().unwrap().is_none(), "{command:?} ended: {}", said());
        if Instant::now() > deadline {
            let _ = process.kill();
            panic!("{command:?} does not listen on port {port}: {}", said());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Server {
    /// An S3 store over a folder; with an authority, by TLS alone.
    pub(crate) fn versitygw(test: &str, authority: Option<&Authority>) -> Option<Self> {
        let program = program(test, "INDEXBUILD_TOOLS", "versitygw", "tools")?;
        let (folder, port) = (tempfile::tempdir().unwrap(), port());
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join(BUCKET)).unwrap();
        let mut command = Command::new(program);
        let environment = vec![("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "testtest")];
        command.args(["--access", "test", "--secret", "testtest", "--keep-alive"]);
        command.arg("--port").arg(format!("127.0.0.1:{port}"));
        let mut options = ClientOptions::new().with_allow_http(true);
        let mut scheme = "http";
        if let Some(authority) = authority {
            let (certificate, key) = authority.server();
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
            let trusted = std::fs::read(authority.file()).unwrap();
            options = options.with_root_certificate(Certificate::from_pem(&trusted).unwrap());
            scheme = "https";
        }
        command.arg("posix").arg(&root);
        let process = start(command, port, folder.path());
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let bucket = s3(&endpoint, &environment, options);
        Some(Self { process, scheme: "s3", endpoint, environment, bucket, runtime: runtime(), folder })
    }

    /// Another S3 store, of npm.
    pub(crate) fn s3rver(test: &str) -> Option<Self> {
        let program = npm(test, "s3rver")?;
        let (folder, port) = (tempfile::tempdir().unwrap(), port());
        let mut command = Command::new(program);
        let environment = vec![("AWS_ACCESS_KEY_ID", "S3RVER"), ("AWS_SECRET_ACCESS_KEY", "S3RVER")];
        command.args([
            "-a",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "--no-vhost-buckets",
            "--configure-bucket",
            BUCKET,
            "-d",
        ]);
        command.arg(folder.path().join("root"));
        std::fs::create_dir_all(folder.path().join("root")).unwrap();
        let process = start(command, port, folder.path());
        let endpoint = format!("http://127.0.0.1:{port}");
        let bucket = s3(&endpoint, &environment, ClientOptions::new().with_allow_http(true));
        Some(Self { process, scheme: "s3", endpoint, environment, bucket, runtime: runtime(), folder })
    }

    /// Microsoft's own stand-in for Azure Blob Storage, of npm.
    pub(crate) fn azurite(test: &str) -> Option<Self> {
        let program = npm(test, "azurite-blob")?;
        let (folder, port) = (tempfile::tempdir().unwrap(), port());
        let mut command = Command::new(program);
        let environment = vec![("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)];
        command.args(["--blobPort", &port.to_string(), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
        command.arg("--location").arg(folder.path());
        let process = start(command, port, folder.path());
        let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
        let bucket = MicrosoftAzureBuilder::new()
            .with_endpoint(endpoint.clone())
            .with_account(ACCOUNT)
            .with_access_key(ACCOUNT_KEY)
            .with_container_name(BUCKET)
            .with_allow_http(true)
            .build()
            .unwrap();
        let bucket: Arc<dyn ObjectStore> = Arc::new(bucket);
        let server = Self { process, scheme: "az", endpoint, environment, bucket, runtime: runtime(), folder };
        server.runtime.block_on(make_container(&server.endpoint));
        Some(server)
    }

    /// `s3` or `az`.
    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// What signs in to it.
    pub(crate) fn environment(&self) -> &[(&'static str, &'static str)] {
        &self.environment
    }

    /// Where versitygw's buckets are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Looks at the bucket, or puts something into it, beside the program under test.
    pub(crate) fn run<T>(&self, act: impl AsyncFnOnce(&dyn ObjectStore) -> T) -> T {
        self.runtime.block_on(act(self.bucket.as_ref()))
    }
}

fn s3(endpoint: &str, environment: &[(&str, &str)], options: ClientOptions) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(environment[0].1)
        .with_secret_access_key(environment[1].1)
        .with_client_options(options);
    Arc::new(store.build().unwrap())
}

/// No client of ours makes one.
async fn make_container(endpoint: &str) {
    let mut request = http::Request::put(format!("{endpoint}/{BUCKET}?restype=container"))
        .header(http::header::CONTENT_LENGTH, 0)
        .body(HttpRequestBody::empty())
        .unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).unwrap());
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
    let client = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).unwrap();
    let made = client.execute(request).await.unwrap();
    assert_eq!(made.status(), http::StatusCode::CREATED, "{made:?}");
}
