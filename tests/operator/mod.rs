//! What the tests of the operator share: a cluster whose nodes run the program under test, volumes, a table in
//! the object store, and an operator.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use indexbuild_testbed::{Cluster, Options, Provisioner, Reclaim, Tools, write_archive};
use serde_json::{Value, json};

/// The program under test.
pub const INDEXBUILD: &str = env!("CARGO_BIN_EXE_indexbuild");
/// The image that holds it.
pub const IMAGE: &str = "testbed.local/indexbuild:1";
/// The namespace of the builds.
pub const NAMESPACE: &str = "default";

/// A cluster with everything that a build needs.
pub struct World {
    // Dropped first: it speaks to the cluster.
    operator: Option<Child>,
    provisioner: Option<Provisioner>,
    pub cluster: Cluster,
    folder: tempfile::TempDir,
}

impl World {
    /// Three nodes, some local volumes on each, the resources' definitions, and the image on every node.
    pub fn start(tools: &Tools, options: Options) -> Self {
        let nodes = options.nodes;
        let cluster = Cluster::start(tools, options).unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::Builder::new().prefix("ib-").tempdir().unwrap();
        for node in 1..=nodes {
            for number in 1..=6 {
                let name = format!("v{node}-{number}");
                cluster.offer_volume(&format!("node{node}"), &name, Reclaim::Delete).unwrap();
            }
        }
        let provisioner = Some(cluster.provisioner().unwrap());
        let archive = folder.path().join("image.tar");
        let files = program_files();
        let files: Vec<(&Path, &str)> = files.iter().map(|(file, place)| (file.as_path(), place.as_str())).collect();
        write_archive(&archive, IMAGE, &files, &["/usr/local/bin/indexbuild"]).unwrap();
        cluster.import_image(&archive).unwrap();
        std::fs::remove_file(&archive).unwrap();
        let world = Self { operator: None, provisioner, cluster, folder };
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        world.kubectl(&["apply", "--server-side", "-f", &crds.display().to_string()]);
        world.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
        let (_, key, secret) = world.cluster.object_store();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": NAMESPACE},
            "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
        });
        world.cluster.apply(&[secret]).unwrap();
        world.cluster.bucket("indexes").unwrap();
        world
    }

    /// kubectl, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).unwrap_or_else(|error| panic!("{error}\n{}", self.operator_log()))
    }

    /// Puts a sysbench-shaped table into the bucket `lake`, in several files.
    pub fn table(&self, name: &str, rows: u64, files: u32) {
        let bucket = self.cluster.bucket("lake").unwrap().join(name);
        std::fs::create_dir_all(&bucket).unwrap();
        let made = Command::new(INDEXBUILD)
            .args(["sample", "--rows", &rows.to_string(), "--files", &files.to_string(), "--out"])
            .arg(bucket.join("part.parquet"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts an operator beside the API server, with an administrator's rights.
    pub fn start_operator(&mut self, more: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.cluster.command(INDEXBUILD);
        command
            .env("INDEXBUILD_LOG", "info,indexbuild_operator=debug")
            .args(["--log-format=json", "operator", "--executor-image", IMAGE])
            .args(["--executor-image-pull-policy", "Never", "--bind", "127.0.0.1:8080", "--lease-namespace", "default"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.operator = Some(command.spawn().unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("operator.log")
    }

    /// What the operator said last.
    pub fn operator_log(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// A build of the table `source` with `slots` slots.
    pub fn build(&self, name: &str, source: &str, slots: u32) -> Value {
        let (endpoint, _, _) = self.cluster.object_store();
        json!({
            "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "source": {"parquet": {
                    "urls": [format!("s3://lake/{source}/*.parquet")],
                    "endpoint": endpoint, "region": "us-east-1", "credentials": {"secretName": "store"},
                }},
                "rowId": {"columns": ["id"]},
                "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
                "output": {
                    "url": "s3://indexes/shop", "endpoint": endpoint, "region": "us-east-1",
                    "credentials": {"secretName": "store"},
                },
                "parallelism": slots,
                "volume": {"storageClassName": "local", "size": "1Gi"},
                "executor": {"resources": {"limits": {"memory": "256Mi"}}},
            },
        })
    }

    /// The build, as the API server has it.
    pub fn read(&self, name: &str) -> Value {
        self.cluster.get(&["ib", name, "-n", NAMESPACE]).unwrap_or_else(|error| json!({"status": error.to_string()}))
    }

    /// Waits until a build has ended well.
    pub fn complete(&self, name: &str, within: Duration) -> Value {
        self.until(&format!("build {name} is complete"), within, |world| {
            let build = world.read(name);
            if holds(&build, "Failed") {
                panic!("the build failed: {}\n{}", build["status"], world.operator_log());
            }
            if holds(&build, "Complete") { Ok(build) } else { Err(build["status"].to_string()) }
        })
    }

    /// Waits for a condition; a failure shows what the cluster and the operator said.
    pub fn until<T>(&self, what: &str, within: Duration, probe: impl Fn(&Self) -> Result<T, String>) -> T {
        let waited = self.cluster.wait(what, within, |_| Ok(probe(self)));
        waited.unwrap_or_else(|error| {
            let pods = self.cluster.kubectl(&["get", "pods,pvc,ed,ib", "-A", "-o", "wide"]).unwrap_or_default();
            let whole =
                self.cluster.kubectl(&["get", "ib,ed", "-A", "-o", "yaml"]).unwrap_or_else(|error| error.to_string());
            let logs = self.executor_logs();
            panic!(
                "{error}\n--- objects\n{pods}\n{whole}\n--- operator\n{}\n--- executors\n{logs}",
                self.operator_log()
            )
        })
    }

    fn executor_logs(&self) -> String {
        let select = ["logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=executor", "--tail=8", "--prefix"];
        self.cluster.kubectl(&select).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(operator) = &mut self.operator {
            let _ = operator.kill();
            let _ = operator.wait();
        }
    }
}

/// Whether a condition of an object is true.
pub fn holds(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|found| found["type"] == condition && found["status"] == "True")
}

/// The program, and what it is linked with: an image of these files alone.
fn program_files() -> Vec<(PathBuf, String)> {
    let mut files = vec![(PathBuf::from(INDEXBUILD), "/usr/local/bin/indexbuild".to_owned())];
    // TLS clients want to know whom to trust, before they know that a store is plain HTTP.
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    files.push((PathBuf::from(authorities), authorities.to_owned()));
    let linked = Command::new("ldd").arg(INDEXBUILD).output().unwrap();
    for line in String::from_utf8_lossy(&linked.stdout).lines() {
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path {
            files.push((std::fs::canonicalize(path).unwrap(), path.to_owned()));
        }
    }
    files
}
