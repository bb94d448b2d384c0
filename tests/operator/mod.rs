//! What the tests of the operator share: a cluster whose nodes run the program under test, volumes, tables in the
//! object store, and operators.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod operator_process;
#[path = "../../crates/operator/tests/scripted/release.rs"]
pub(crate) mod release;
pub(crate) mod seal_watcher;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indexbuild_testbed::{ApiCall, Cluster, Options, Provisioner, Reclaim, Tools, write_archive};
use serde_json::{Value, json};

use self::operator_process::{Operator, OperatorOptions};
use self::seal_watcher::SealWatcher;

/// The program under test.
pub(crate) const INDEXBUILD: &str = env!("CARGO_BIN_EXE_indexbuild");
/// The image that holds it.
pub(crate) const IMAGE: &str = "testbed.local/indexbuild:1";
/// The namespace of most builds.
pub(crate) const NAMESPACE: &str = "default";
/// What a build's objects are of, beside its claims' volumes.
pub(crate) const KINDS: [&str; 8] =
    ["ib", "ed", "pods", "pvc", "configmaps", "serviceaccounts", "roles", "rolebindings"];

/// A cluster with everything that a build needs.
pub(crate) struct Fixture {
    // Dropped first: they speak to the cluster.
    operators: Vec<Operator>,
    provisioner: Option<Provisioner>,
    pub watcher: SealWatcher,
    pub cluster: Cluster,
    folder: tempfile::TempDir,
    /// What local runs over the same source gave, by what was asked.
    local: Mutex<HashMap<String, Vec<String>>>,
    /// What operators sign in with: the chart's rights, and no others.
    kubeconfig: PathBuf,
    began: Instant,
}

impl Fixture {
    /// Nodes with so many local volumes each, the resources' definitions, and the image on every node.
    pub(crate) fn start(tools: &Tools, options: Options, volumes: u32) -> Self {
        let began = Instant::now();
        let nodes = options.nodes;
        let options = Options { audit: true, ..options };
        let cluster = Cluster::start(tools, options).unwrap_or_else(|error| panic!("{error}"));
        release::install(&cluster, tools, &["serviceaccount", "rbac"]);
        let folder = tempfile::Builder::new().prefix("ib-").tempdir().unwrap();
        let mut folders = Vec::new();
        for node in 1..=nodes {
            for number in 1..=volumes {
                let name = format!("v{node}-{number}");
                folders.push(cluster.offer_volume(&format!("node{node}"), &name, Reclaim::Delete).unwrap());
            }
        }
        let provisioner = Some(cluster.provisioner().unwrap());
        let indexes = cluster.bucket("indexes").unwrap();
        let watcher = SealWatcher::of(indexes, folders);
        let kubeconfig = folder.path().join("operator.kubeconfig");
        let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": release::token(&cluster)});
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let (operators, local) = (Vec::new(), Mutex::default());
        let fixture = Self { operators, provisioner, watcher, cluster, folder, local, kubeconfig, began };
        fixture.import(IMAGE);
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        fixture.kubectl(&["apply", "--server-side", "-f", &crds.display().to_string()]);
        fixture.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
        fixture.secret(NAMESPACE);
        fixture.say(&format!("{nodes} nodes; clocks: {}", fixture.cluster.clocks()));
        fixture
    }

    /// Prints a line with the time since the beginning.
    pub(crate) fn say(&self, what: &str) {
        println!("[{:6.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// Puts the image of the program on every node, under a name.
    pub(crate) fn import(&self, name: &str) {
        let archive = self.folder.path().join("image.tar");
        let files = program_files();
        let files: Vec<(&Path, &str)> = files.iter().map(|(file, place)| (file.as_path(), place.as_str())).collect();
        write_archive(&archive, name, &files, &["/usr/local/bin/indexbuild"]).unwrap();
        self.cluster.import_image(&archive).unwrap();
        std::fs::remove_file(&archive).unwrap();
    }

    /// Another namespace for builds.
    pub(crate) fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
        self.secret(name);
        let there =
            |fixture: &Self| fixture.cluster.get(&["serviceaccount", "default", "-n", name]).map_err(|e| e.to_string());
        self.until("the namespace has its default account", Duration::from_secs(20), there);
    }

    fn secret(&self, namespace: &str) {
        let (_, key, secret) = self.cluster.object_store();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": namespace},
            "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
        });
        self.cluster.apply(&[secret]).unwrap();
    }

    /// kubectl, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).unwrap_or_else(|error| panic!("{error}\n{}", self.operator_log()))
    }

    /// Puts a sysbench-shaped table into the bucket `lake`, in one or several files.
    pub(crate) fn table(&self, name: &str, rows: u64, files: u32, more: &[&str]) {
        let bucket = self.cluster.bucket("lake").unwrap().join(name);
        std::fs::create_dir_all(&bucket).unwrap();
        let made = Command::new(INDEXBUILD)
            .args(["sample", "--rows", &rows.to_string(), "--files", &files.to_string(), "--out"])
            .arg(bucket.join("part.parquet"))
            .args(more)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts an operator beside the API server, with the chart's rights.
    pub(crate) fn start_operator(&mut self, options: OperatorOptions) {
        self.cluster.apply(&release::lease_rights(&options.namespace)).unwrap();
        let log = self.folder.path().join(format!("operator-{}.log", options.namespace));
        let mut program = self.cluster.command(INDEXBUILD);
        program.env("KUBECONFIG", &self.kubeconfig);
        let mut switches = options.switches.unwrap_or_else(|| json!({}));
        switches["nodeBootIds"] = json!(self.cluster.boot_ids());
        let options = OperatorOptions { switches: Some(switches), ..options };
        self.operators.push(Operator::start(program, options, log));
    }

    /// All that the operators asked of the API server was within their rights. One that has just begun knows no role
    /// yet, and denies for a moment what it allows before and after.
    pub(crate) fn assert_within_rights(&self) {
        let calls = self.cluster.audit().unwrap();
        let own = calls.into_iter().filter(|call| call.user == release::user() && !call.resource.is_empty());
        let (allowed, denied): (Vec<_>, Vec<_>) = own.partition(|call| call.allowed);
        let rights = |calls: Vec<ApiCall>| -> BTreeSet<_> {
            calls.into_iter().map(|call| (call.group, call.resource, call.verb)).collect()
        };
        let (allowed, denied) = (rights(allowed), rights(denied));
        assert!(!allowed.is_empty(), "the log holds their calls");
        let lacking: Vec<_> = denied.difference(&allowed).collect();
        assert!(lacking.is_empty(), "what the chart's roles do not allow: {lacking:?}");
    }

    /// Stops the last operator that was started, as its pod's deletion does.
    pub(crate) fn stop_operator(&mut self) {
        drop(self.operators.pop());
    }

    /// What the operators said last.
    pub(crate) fn operator_log(&self) -> String {
        self.operators.iter().map(|operator| operator.log_end(60)).collect::<Vec<_>>().join("\n--- next\n")
    }

    /// A build of the table `source` with `slots` slots.
    pub(crate) fn build(&self, name: &str, source: &str, slots: u32) -> Value {
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
                "executor": {"resources": {"limits": {"memory": "256Mi"}, "requests": {"memory": "64Mi", "cpu": "10m"}}},
            },
        })
    }

    /// The build, as the API server has it.
    pub(crate) fn read(&self, name: &str) -> Value {
        self.read_in(NAMESPACE, name)
    }

    /// The build in a namespace, as the API server has it.
    pub(crate) fn read_in(&self, namespace: &str, name: &str) -> Value {
        self.cluster.get(&["ib", name, "-n", namespace]).unwrap_or_else(|error| json!({"status": error.to_string()}))
    }

    /// The records of a build's slots, in their order.
    pub(crate) fn slots(&self, namespace: &str, name: &str) -> Vec<Value> {
        self.parts("ed", namespace, name, |record| record["spec"]["slot"].as_u64())
    }

    /// The pods of a build.
    pub(crate) fn pods(&self, namespace: &str, name: &str) -> Vec<Value> {
        self.parts("pods", namespace, name, |pod| pod["metadata"]["name"].as_str().map(str::to_owned))
    }

    /// The claims of a build.
    pub(crate) fn claims(&self, namespace: &str, name: &str) -> Vec<Value> {
        self.parts("pvc", namespace, name, |claim| claim["metadata"]["name"].as_str().map(str::to_owned))
    }

    fn parts<K: Ord>(&self, kind: &str, namespace: &str, name: &str, order: impl Fn(&Value) -> K) -> Vec<Value> {
        let select = format!("app.kubernetes.io/instance={name}");
        let list = self.cluster.get(&[kind, "-n", namespace, "-l", &select]).unwrap_or_default();
        let mut items = list["items"].as_array().cloned().unwrap_or_default();
        items.sort_by_key(order);
        items
    }

    /// Waits until a build has ended well.
    pub(crate) fn complete(&self, name: &str, within: Duration) -> Value {
        self.complete_in(NAMESPACE, name, within)
    }

    /// Waits until a build in a namespace has ended well.
    pub(crate) fn complete_in(&self, namespace: &str, name: &str, within: Duration) -> Value {
        self.until(&format!("build {namespace}/{name} is complete"), within, |fixture| {
            let build = fixture.read_in(namespace, name);
            if holds(&build, "Failed") {
                panic!("build {name} failed: {}\n{}", build["status"], fixture.operator_log());
            }
            if holds(&build, "Complete") { Ok(build) } else { Err(build["status"].to_string()) }
        })
    }

    /// Waits until a slot's owner works and has sealed so many runs, as the store or a volume has them. Returns its record.
    pub(crate) fn at_work(&self, namespace: &str, name: &str, slot: usize, sealed: usize) -> Value {
        let what = format!("slot {slot} of {namespace}/{name} encodes and has sealed {sealed} runs");
        self.until(&what, Duration::from_secs(180), |fixture| {
            let records = fixture.slots(namespace, name);
            let Some(record) = records.get(slot) else { return Err("no record".to_owned()) };
            let epoch = record["spec"]["grant"]["epoch"].as_u64().unwrap_or_default();
            let bound = record["spec"]["grant"]["bootNonce"].as_str().is_some_and(|nonce| !nonce.is_empty());
            let encodes = record["spec"]["work"]["kind"] == "Encode";
            let uid = record["spec"]["buildUID"].as_str().unwrap_or_default();
            let there = fixture
                .watcher
                .sealed(uid)
                .iter()
                .filter(|run| run.epoch == epoch && run.work == record["spec"]["work"]["id"])
                .count();
            if bound && encodes && there >= sealed {
                Ok(record.clone())
            } else {
                Err(format!("{there} runs; {}", record["spec"]))
            }
        })
    }

    /// I10: the published index is what a local run over the same source with the same spec gives, and every entry is
    /// the table's.
    pub(crate) fn assert_same_as_local(&self, namespace: &str, name: &str) {
        let build = self.read_in(namespace, name);
        let uid = build["metadata"]["uid"].as_str().unwrap();
        let manifest = self.manifest(namespace, name, uid);
        let files = crate::common::files_of(&self.published(namespace, name, uid), &manifest);
        assert!(files.len() > 1, "an index with files: {files:?}");
        assert_eq!(files, self.local_files(&build), "I10: build {namespace}/{name} is not what a local run gives");
        // I1: each work once.
        let works = manifest["works"].as_array().unwrap();
        let ids: std::collections::BTreeSet<_> = works.iter().map(|work| work["workId"].to_string()).collect();
        assert_eq!(ids.len(), works.len(), "I1: a work stands twice in the manifest of {name}");
        let (endpoint, ..) = self.cluster.object_store();
        let file = self.folder.path().join(format!("{namespace}-{name}.json"));
        std::fs::write(&file, definition(&build).to_string()).unwrap();
        let mut verify = self.program();
        verify.args(["verify", &format!("s3://indexes/shop/{namespace}/{name}")]);
        verify.args(["--endpoint", &endpoint, "--region", "us-east-1", "--allow-http", "--source"]).arg(file);
        finish(verify, "verify");
    }

    /// What a build has published.
    pub(crate) fn manifest(&self, namespace: &str, name: &str, uid: &str) -> Value {
        crate::common::manifest_in(&self.published(namespace, name, uid))
    }

    /// Where a build publishes, in the store's own folder.
    fn published(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.cluster.bucket("indexes").unwrap().join("shop").join(namespace).join(name).join(uid)
    }

    /// The program inside the cluster's network, with the store's keys in its environment.
    fn program(&self) -> Command {
        let (_, key, secret) = self.cluster.object_store();
        let mut command = self.cluster.command(INDEXBUILD);
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret);
        command
    }

    fn local_files(&self, build: &Value) -> Vec<String> {
        let mut local = definition(build);
        local["metadata"] = json!({"name": "local"});
        let spec = &mut local["spec"];
        spec["parallelism"] = json!(1);
        let asked = format!("{} {} {}", spec["source"], spec["indexes"], spec["output"]);
        let mut known = self.local.lock().unwrap();
        if let Some(files) = known.get(&asked) {
            return files.clone();
        }
        let folder = self.folder.path().join(format!("local-{}", known.len()));
        std::fs::create_dir_all(&folder).unwrap();
        spec["output"] = json!({"url": folder.join("indexes")});
        let file = folder.join("build.json");
        std::fs::write(&file, local.to_string()).unwrap();
        let mut run = self.program();
        run.arg("run").arg(&file).arg("--state").arg(folder.join("state")).arg("--quiet");
        finish(run, "the local run over the same source");
        let published = crate::common::build_folder(&folder.join("indexes"), "local");
        let files = crate::common::files_of(&published, &crate::common::manifest_in(&published));
        known.insert(asked, files.clone());
        files
    }

    /// Waits for a condition; a failure shows what the cluster and the operator said.
    pub(crate) fn until<T>(&self, what: &str, within: Duration, probe: impl Fn(&Self) -> Result<T, String>) -> T {
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

    /// Nothing of a build is left: no object, no volume that is not offered anew, and of the store only the tombstone
    /// that keeps a late Publish from committing (I9).
    pub(crate) fn assert_gone(&self, namespace: &str, name: &str, uid: &str, within: Duration) {
        self.until(&format!("nothing of build {namespace}/{name} is left"), within, |fixture| {
            let mut left = Vec::new();
            let select = format!("indexbuild.dev/build-uid={uid}");
            for kind in KINDS.iter().skip(1) {
                let list =
                    fixture.cluster.get(&[*kind, "-n", namespace, "-l", &select]).map_err(|error| error.to_string())?;
                let items = list["items"].as_array().into_iter().flatten();
                left.extend(items.map(|item| format!("{kind} {}", item["metadata"]["name"])));
            }
            if fixture.cluster.get(&["ib", name, "-n", namespace]).is_ok_and(|build| build["metadata"]["uid"] == uid) {
                left.push("the build itself".to_owned());
            }
            left.extend(fixture.watcher.files_of_volumes(uid).into_iter().map(|file| format!("on a volume: {file}")));
            let prefix = fixture.cluster.bucket("indexes").unwrap().join("shop").join(namespace).join(name).join(uid);
            left.extend(crate::common::files_below(&prefix).into_keys().filter(|file| file != "manifest.json"));
            let manifest = std::fs::read_to_string(prefix.join("manifest.json")).unwrap_or_default();
            if manifest.contains("\"indexes\"") {
                left.push("a committed index".to_owned());
            }
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        });
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for operator in &self.operators {
                let kept = std::env::temp_dir().join(format!("indexbuild-operator-{}.log", std::process::id()));
                operator.keep_log(&kept);
            }
        }
        self.operators.clear();
    }
}

/// Whether a condition of an object is true.
pub(crate) fn holds(object: &Value, condition: &str) -> bool {
    indexbuild_testbed::condition(object, condition) == "True"
}

/// The message of an object's condition.
pub(crate) fn message(object: &Value, condition: &str) -> String {
    let all = object["status"]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|found| found["type"] == condition);
    found.map(|found| format!("{}: {}", found["reason"], found["message"])).unwrap_or_default()
}

/// Puts a build's executors on a node as long as it takes them.
pub(crate) fn prefer(build: &mut Value, node: &str) {
    build["spec"]["executor"]["affinity"] = json!({"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
        ]}}],
    }});
}

/// Sets the test switches of a build's executors, which the operators of these tests hand over.
pub(crate) fn switch(build: &mut Value, switches: &Value) {
    let annotation = json!({"indexbuild.dev/test-switches": switches.to_string()});
    build["spec"]["executor"]["podMetadata"]["annotations"] = annotation;
}

/// A text of an object.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The reasons of a record's changes of owner, oldest first.
pub(crate) fn history(record: &Value) -> Vec<String> {
    let changes = record["status"]["history"].as_array();
    changes.into_iter().flatten().map(|change| text(change, "/reason").to_owned()).collect()
}

/// A build's definition, without what only a cluster knows and without what slows it down.
fn definition(build: &Value) -> Value {
    let mut spec = build["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in ["rowsPerSecond", "executor", "disruption", "volume", "suspend"] {
            spec.remove(field);
        }
    }
    json!({
        "apiVersion": build["apiVersion"], "kind": build["kind"],
        "metadata": {"name": build["metadata"]["name"], "namespace": build["metadata"]["namespace"]},
        "spec": spec,
    })
}

fn finish(mut command: Command, what: &str) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{what}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
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
