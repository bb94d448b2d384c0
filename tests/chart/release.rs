//! The life of a release on real nodes: installed, tried, at work, upgraded under a running build, uninstalled. The
//! operator is the chart's Deployment, with the chart's rights and no others.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indexbuild_api::{Epoch, names};
use indexbuild_operator::objects::{self, Owner};
use indexbuild_testbed::objects as objects_of_tests;
use indexbuild_testbed::{
    BaseImage, Clocks, Cluster, ImageBuilder, ImageSpec, Options, Provisioner, Reclaim, Tools, condition, tools_or_skip,
};
use serde_json::{Value, json};

use super::rights::{Right, operators_rules, rights};
use super::support::{RELEASE, SYSTEM, chart, documents, root, template};

const INDEXBUILD: &str = env!("CARGO_BIN_EXE_indexbuild");
const IMAGE: &str = "testbed.local/indexbuild:chart";
const NAMESPACE: &str = "shop";
const ROWS: u64 = 60_000;

struct Release<'a> {
    tools: &'a Tools,
    _provisioner: Provisioner,
    cluster: Cluster,
    /// The store that builds use: its certificate is of an authority that no system knows.
    store: TlsStore,
}

struct TlsStore {
    endpoint: String,
    /// The authority's certificate.
    ca: String,
}

impl Release<'_> {
    /// A cluster with three nodes, whose namespaces hold pods to Pod Security `restricted`.
    fn start(tools: &Tools) -> Release<'_> {
        let options = Options { nodes: 3, clocks: Clocks::SHORT, audit: true, ..Options::default() };
        let mut cluster = Cluster::start(tools, options).unwrap_or_else(|error| panic!("{error}"));
        let (endpoint, ca) = cluster.start_tls_object_store().unwrap();
        for node in 1..=3 {
            for number in 1..=4 {
                cluster.offer_volume(&format!("node{node}"), &format!("v{node}-{number}"), Reclaim::Delete).unwrap();
            }
        }
        let took = build_image(&cluster);
        println!("the image of the Dockerfile, built and imported on three nodes: {took:?}");
        let namespaces = [SYSTEM, NAMESPACE, "search"].map(|name| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            }})
        });
        cluster.apply(&namespaces).unwrap();
        let (_, key, secret) = cluster.object_store();
        let keys = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake", "namespace": NAMESPACE},
            "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
        });
        cluster.apply(&[keys, ca_secret("storage-ca", &ca)]).unwrap();
        cluster.bucket("indexes").unwrap();
        let provisioner = cluster.provisioner().unwrap();
        Release { tools, _provisioner: provisioner, cluster, store: TlsStore { endpoint, ca } }
    }

    fn table(&self, rows: u64) {
        let bucket = self.cluster.bucket("lake").unwrap().join("orders");
        std::fs::create_dir_all(&bucket).unwrap();
        let made = Command::new(INDEXBUILD)
            .args(["sample", "--rows", &rows.to_string(), "--files", "4", "--out"])
            .arg(bucket.join("part.parquet"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Helm in the cluster; what it said, and how long it took.
    fn helm(&self, arguments: &[&str]) -> (Result<String, String>, Duration) {
        let begun = Instant::now();
        let mut command = self.cluster.command(self.tools.path("helm"));
        command.args(arguments).args(["--namespace", SYSTEM]);
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (if output.status.success() { Ok(said) } else { Err(said) }, begun.elapsed())
    }

    /// `helm install` or `upgrade`, with the image of the test.
    fn put(&self, verb: &str, more: &[&str]) -> Duration {
        let chart = chart().display().to_string();
        let mut arguments = vec![
            verb,
            RELEASE,
            &chart,
            "--wait",
            "--timeout",
            "90s",
            "--set",
            "image.repository=testbed.local/indexbuild",
            "--set",
            "image.tag=chart",
            "--set",
            "image.pullPolicy=Never",
        ];
        arguments.extend_from_slice(more);
        let (done, took) = self.helm(&arguments);
        done.unwrap_or_else(|error| panic!("helm {verb}: {error}\n{}", self.operators()));
        took
    }

    /// What the operator's pods are, and say.
    fn operators(&self) -> String {
        let select = "app.kubernetes.io/name=indexbuild";
        let pods = self.cluster.kubectl(&["describe", "pods", "-n", SYSTEM, "-l", select]).unwrap_or_default();
        let logs = self.cluster.kubectl(&["logs", "-n", SYSTEM, "-l", select, "--tail=30", "--prefix"]);
        format!("{pods}\n{}", logs.unwrap_or_else(|error| error.to_string()))
    }

    fn until<T>(&self, what: &str, seconds: u64, probe: impl Fn(&Cluster) -> Result<T, String>) -> T {
        let waited = self.cluster.wait(what, Duration::from_secs(seconds), |cluster| Ok(probe(cluster)));
        waited.unwrap_or_else(|error| {
            let objects =
                self.cluster.kubectl(&["get", "pods,pvc,ed,ib,events", "-A", "-o", "wide"]).unwrap_or_default();
            panic!("{error}\n{objects}\n{}", self.operators())
        })
    }

    fn build(&self, name: &str) -> Value {
        self.cluster.get(&["ib", name, "-n", NAMESPACE]).unwrap_or_default()
    }

    /// The pods of a build's executors, by UID.
    fn executors(&self, name: &str) -> BTreeSet<String> {
        let select = format!("app.kubernetes.io/component=executor,app.kubernetes.io/instance={name}");
        let pods = self.cluster.get(&["pods", "-n", NAMESPACE, "-l", &select]).unwrap();
        let pods = pods["items"].as_array().into_iter().flatten();
        pods.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
    }

    fn complete(&self, name: &str, seconds: u64) -> Value {
        self.until(&format!("{name} is complete"), seconds, |_| {
            let build = self.build(name);
            if condition(&build, "Complete") == "True" { Ok(build) } else { Err(build["status"].to_string()) }
        })
    }
}

/// The example of the documentation, on this cluster's store and volumes.
fn example(release: &Release<'_>, name: &str, more: &Value) -> Value {
    let text = include_str!("../../examples/parquet-s3.yaml");
    let mut build: Value = serde_saphyr::from_str(text).unwrap();
    build["metadata"]["name"] = json!(name);
    let spec = &mut build["spec"];
    for part in ["/source/parquet", "/output"] {
        spec.pointer_mut(part).unwrap()["endpoint"] = json!(release.store.endpoint);
    }
    // The columns that the sample has, and nodes without labels of their own.
    spec["indexes"] = json!([{"name": "by_k", "columns": [{"name": "k", "order": "Desc"}], "include": ["c"]}]);
    spec["volume"]["size"] = json!("1Gi");
    spec["executor"] = json!({"resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "256Mi"}}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    build
}

/// The image of the Dockerfile; the stage that compiles is replaced by a folder with the program under test.
fn build_image(cluster: &Cluster) -> Duration {
    let begun = Instant::now();
    let dockerfile = root().join("Dockerfile");
    let text = std::fs::read_to_string(&dockerfile).unwrap();
    let base = text.lines().filter_map(|line| line.strip_prefix("FROM ")).next_back().unwrap();
    ImageBuilder::find().unwrap().base(base, BaseImage::Bare, &["libstdc++6"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(INDEXBUILD, folder.path().join("indexbuild")).unwrap();
    let contexts: [(&str, &Path); 1] = [("builder", folder.path())];
    let spec = ImageSpec { dockerfile: &dockerfile, context: &root(), contexts: &contexts, arguments: &[], tag: IMAGE };
    cluster.build_image(&spec).unwrap();
    begun.elapsed()
}

/// Kinds that a release or a build may leave behind.
const KINDS: [&str; 18] = [
    "pods",
    "persistentvolumeclaims",
    "configmaps",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "deployments",
    "services",
    "secrets",
    "poddisruptionbudgets",
    "networkpolicies",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "indexbuilds",
    "enginedirectories",
    "leases",
];

#[test]
fn a_release_is_installed_builds_is_upgraded_under_a_running_build_and_leaves_nothing_but_definitions() {
    let Some(tools) = tools_or_skip("the life of a release") else { return };
    let release = Release::start(&tools);
    let cluster = &release.cluster;
    release.table(ROWS);
    // The definitions come first, so that what is left over can be asked for.
    let known: Vec<&str> =
        KINDS.iter().copied().filter(|kind| !["indexbuilds", "enginedirectories"].contains(kind)).collect();
    let before = cluster.objects(&known).unwrap();

    // The definitions were there before, applied by kubectl.
    let took = release.put("install", &["--take-ownership"]);
    println!("helm install --wait: {took:?}");
    let (tested, took) = release.helm(&["test", RELEASE, "--timeout", "60s"]);
    println!("helm test: {took:?}");
    tested.unwrap_or_else(|error| panic!("helm test: {error}\n{}", release.operators()));

    // The example becomes an index; the operator has the chart's rights alone.
    cluster.apply(&[example(&release, "first", &json!({}))]).unwrap();
    let finished = ["wait", "--for=condition=Finished", "ib/first", "-n", NAMESPACE, "--timeout=120s"];
    cluster.kubectl(&finished).unwrap_or_else(|error| panic!("{error}\n{}", release.operators()));
    let build = release.complete("first", 30);
    assert_eq!(build["status"]["rows"], ROWS);
    people_see(&release, "first");
    the_index_agrees_with_its_source(&release, &build);

    builds_over_a_store_that_nobody_vouches_for(&release);

    // A build that takes its time.
    cluster.apply(&[example(&release, "second", &json!({"rowsPerSecond": 500}))]).unwrap();
    release.until("the second build works", 60, |_| {
        let build = release.build("second");
        if build["status"]["rows"].as_u64() > Some(0) { Ok(()) } else { Err(build["status"].to_string()) }
    });
    let at_work = release.executors("second");
    enforced(&release, "second", "True");
    // The control: without the policies the operator finds out, and says so.
    let took = release.put("upgrade", &["--set", "admissionPolicies.create=false", "--set", "logLevel=debug"]);
    println!("helm upgrade --wait under a build: {took:?}");
    enforced(&release, "second", "False");
    let events = cluster.kubectl(&["get", "events", "-n", NAMESPACE, "-o", "wide"]).unwrap();
    assert!(events.lines().any(|line| line.contains("NotEnforced") && line.contains("Warning")), "{events}");
    let (tested, _) = release.helm(&["test", RELEASE, "--timeout", "60s"]);
    tested.unwrap_or_else(|error| panic!("helm test without policies: {error}"));
    release.put("upgrade", &[]);
    enforced(&release, "second", "True");
    assert_eq!(release.executors("second"), at_work, "an upgrade changes no executor");
    let patch = r#"{"spec":{"rowsPerSecond":null}}"#;
    cluster.kubectl(&["patch", "ib", "second", "-n", NAMESPACE, "--type=merge", "-p", patch]).unwrap();
    let build = release.complete("second", 180);
    assert_eq!(build["status"]["rows"], ROWS);

    they_are_told_and_one_is_corrected(&release);

    // A build that is deleted on its way is cleaned with the chart's rights, too.
    cluster.apply(&[example(&release, "third", &json!({"rowsPerSecond": 500}))]).unwrap();
    release.until("the third build has executors", 60, |_| {
        if release.executors("third").is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    cluster.kubectl(&["delete", "ib", "third", "-n", NAMESPACE, "--timeout=60s"]).unwrap();

    // The corrected secret reaches the pod within a minute or two, and what is opened next goes by it.
    release.complete("late-ca", 240);
    release.cluster.kubectl(&["delete", "secret", "late-ca", "-n", NAMESPACE]).unwrap();
    names_that_are_taken_are_told_and_left_alone(&release);
    a_lost_lease_is_made_anew_and_a_failed_mount_is_told(&release);
    called_and_allowed(&release);

    // A build that runs on does not hold up the end of the operator.
    cluster.apply(&[example(&release, "fourth", &json!({"rowsPerSecond": 500}))]).unwrap();
    release.until("the fourth build has executors", 60, |_| {
        if release.executors("fourth").is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    let (done, took) = release.helm(&["uninstall", RELEASE, "--wait", "--timeout", "60s"]);
    done.unwrap_or_else(|error| panic!("helm uninstall: {error}"));
    println!("helm uninstall --wait with a build at work: {took:?}");
    assert!(took < Duration::from_secs(60));
    for name in ["indexbuilds.indexbuild.dev", "enginedirectories.indexbuild.dev"] {
        cluster.get(&["crd", name]).expect("definitions outlive the release: with them all builds would go");
    }
    assert_eq!(condition(&release.build("first"), "Complete"), "True", "builds outlive the release");

    // Installed again, it takes up what it left: the definitions are its own.
    release.put("install", &[]);
    for name in ["first", "second", "late-ca", "fourth"] {
        cluster.kubectl(&["delete", "ib", name, "-n", NAMESPACE, "--timeout=60s"]).unwrap();
    }
    let (done, _) = release.helm(&["uninstall", RELEASE, "--wait", "--timeout", "60s"]);
    done.unwrap_or_else(|error| panic!("helm uninstall: {error}"));
    release.until("nothing is left", 30, |cluster| {
        let now = cluster.objects(&KINDS).map_err(|error| error.to_string())?;
        let left: Vec<_> = now.difference(&before).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
}

/// A finished build in `kubectl get`, its events, and the operator's metrics.
fn people_see(release: &Release<'_>, name: &str) {
    let cluster = &release.cluster;
    let list = cluster.kubectl(&["get", "ib", name, "-n", NAMESPACE]).unwrap();
    let [header, row]: [Vec<&str>; 2] = [0, 1].map(|at| list.lines().nth(at).unwrap().split_whitespace().collect());
    assert_eq!(header, ["NAME", "READY", "PHASE", "PROGRESS", "EXECUTORS", "ROWS", "AGE"]);
    assert_eq!((row[0], row[1], row[3], row[5]), (name, "True", "100%", ROWS.to_string().as_str()), "{list}");
    release.until("the publication is an event", 20, |cluster| {
        let events = cluster.kubectl(&["describe", "ib", name, "-n", NAMESPACE]).map_err(|error| error.to_string())?;
        let published = |line: &str| line.contains("Published") && line.contains("manifest.json");
        if events.lines().any(published) { Ok(()) } else { Err(events) }
    });
    let pods = cluster.get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator"]).unwrap();
    release.until("the metrics tell it", 30, |cluster| {
        let mut metrics = String::new();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let pod = pod["metadata"]["name"].as_str().unwrap();
            let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
            metrics += &cluster.kubectl(&["get", "--raw", &path]).map_err(|error| error.to_string())?;
        }
        let wanted =
            ["indexbuild_leader 1", "indexbuild_ownership_enforced 1", "indexbuild_builds{phase=\"Complete\"} 1"];
        let missing: Vec<_> = wanted.iter().filter(|line| !metrics.lines().any(|each| each == **line)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not in\n{metrics}")) }
    });
}

/// By `indexbuild verify`, and by a lookup of a row that is known from the same table written as text.
fn the_index_agrees_with_its_source(release: &Release<'_>, build: &Value) {
    let cluster = &release.cluster;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &release.store.ca).unwrap();
    let run = |arguments: &[&str]| {
        let (_, key, secret) = cluster.object_store();
        let mut command = cluster.command(INDEXBUILD);
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret).args(arguments);
        command.args(["--endpoint", &release.store.endpoint, "--region", "us-east-1", "--ca-file"]).arg(&ca);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let place = format!("s3://indexes/shop/{NAMESPACE}/first");
    let file = folder.path().join("first.json");
    let definition = json!({
        "apiVersion": build["apiVersion"], "kind": build["kind"],
        "metadata": {"name": "first", "namespace": NAMESPACE}, "spec": build["spec"],
    });
    std::fs::write(&file, definition.to_string()).unwrap();
    run(&["verify", &place, "--source", file.to_str().unwrap()]);

    let table = folder.path().join("table.csv");
    let rows = ROWS.to_string();
    let written = Command::new(INDEXBUILD).args(["sample", "--rows", &rows, "--out"]).arg(&table).status().unwrap();
    assert!(written.success());
    let text = std::fs::read_to_string(&table).unwrap();
    let row: Vec<&str> = text.lines().nth(4_321).unwrap().split(',').map(|cell| cell.trim_matches('"')).collect();
    let found = run(&["get", &place, row[1]]);
    let there = |line: &str| line.contains(&format!("id={} ", row[0])) && line.contains(row[2]);
    assert!(found.lines().any(there), "{row:?} is not in\n{found}");
}

/// Waits until a build's condition `OwnershipEnforced` says so.
fn enforced(release: &Release<'_>, name: &str, wanted: &str) {
    release.until(&format!("OwnershipEnforced is {wanted}"), 60, |_| {
        let build = release.build(name);
        let now = condition(&build, "OwnershipEnforced");
        if now == wanted { Ok(()) } else { Err(format!("{now}: {}", build["status"]["conditions"])) }
    });
}

/// The controls of `caSecret`, over a store whose certificate nobody vouches for: one build has none for its source, and
/// the secret that another one names for its output holds the certificate of somebody else. They try while other things
/// happen.
fn builds_over_a_store_that_nobody_vouches_for(release: &Release<'_>) {
    let mut without = example(release, "without-ca", &json!({"parallelism": 1}));
    without.pointer_mut("/spec/source/parquet").unwrap().as_object_mut().unwrap().remove("caSecret").unwrap();
    let mut late = example(release, "late-ca", &json!({"parallelism": 1}));
    late["spec"]["output"]["caSecret"] = json!({"name": "late-ca"});
    release.cluster.apply(&[ca_secret("late-ca", &strangers_certificate()), without, late]).unwrap();
}

fn ca_secret(name: &str, certificate: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"ca.crt": certificate},
    })
}

/// Of an authority that has signed nothing here.
fn strangers_certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}

/// Each says what is wrong, and nothing was planned; then somebody corrects the secret.
fn they_are_told_and_one_is_corrected(release: &Release<'_>) {
    let cluster = &release.cluster;
    for name in ["late-ca", "without-ca"] {
        release.until(&format!("{name} tells that its store's certificate is not trusted"), 120, |_| {
            let build = release.build(name);
            let said = build["status"]["conditions"].to_string();
            let told = condition(&build, "Stalled") == "True" && said.contains("invalid peer certificate");
            if told { Ok(()) } else { Err(said) }
        });
        let build = release.build(name);
        assert_ne!(condition(&build, "Complete"), "True", "{build}");
        let prefix = cluster.bucket("indexes").unwrap().join("shop").join(NAMESPACE).join(name);
        let plan = prefix.join(build["metadata"]["uid"].as_str().unwrap()).join("plan.json");
        assert!(!plan.exists(), "{} was made over a store that nobody vouches for", plan.display());
    }
    cluster.kubectl(&["delete", "ib", "without-ca", "-n", NAMESPACE, "--timeout=60s"]).unwrap();
    cluster.apply(&[ca_secret("late-ca", &release.store.ca)]).unwrap();
}

/// A claim and a pod of somebody else that have the names of a build's own: told, never touched.
fn names_that_are_taken_are_told_and_left_alone(release: &Release<'_>) {
    let cluster = &release.cluster;
    cluster.apply(&[example(release, "fifth", &json!({"suspend": true, "parallelism": 2}))]).unwrap();
    let uid = release.build("fifth")["metadata"]["uid"].as_str().unwrap().to_owned();
    let (claim, pod) = (names::claim("fifth", &uid, 0, 1), names::pod("fifth", &uid, 1, Epoch::new(1)));
    let mut stranger = objects_of_tests::pod(&pod, &["pause"]);
    stranger["metadata"]["namespace"] = json!(NAMESPACE);
    let somebodys = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}},
    });
    cluster.apply(&[stranger, somebodys]).unwrap();
    let resume = r#"{"spec":{"suspend":false}}"#;
    cluster.kubectl(&["patch", "ib", "fifth", "-n", NAMESPACE, "--type=merge", "-p", resume]).unwrap();
    release.until("the taken name of a pod is told", 60, |_| {
        let said = release.build("fifth")["status"]["conditions"].to_string();
        if said.contains(&pod) { Ok(()) } else { Err(said) }
    });
    let held = cluster.get(&["pod", &pod, "-n", NAMESPACE]).unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_null(), "{held}");
    cluster.kubectl(&["delete", "pod", &pod, "-n", NAMESPACE, "--timeout=30s"]).unwrap();
    release.complete("fifth", 120);
    let held = cluster.get(&["pvc", &claim, "-n", NAMESPACE]).unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_null(), "{held}");
    cluster.kubectl(&["delete", "pvc", &claim, "-n", NAMESPACE, "--timeout=30s"]).unwrap();
    cluster.kubectl(&["delete", "ib", "fifth", "-n", NAMESPACE, "--timeout=60s"]).unwrap();
}

/// The Lease is gone, and a pod's mounts fail: the operator makes the one anew, and tells the other.
fn a_lost_lease_is_made_anew_and_a_failed_mount_is_told(release: &Release<'_>) {
    let cluster = &release.cluster;
    let lease = "indexbuild-operator";
    let uid = |cluster: &Cluster| {
        let lease = cluster.get(&["lease", lease, "-n", SYSTEM]).map_err(|error| error.to_string())?;
        Ok::<_, String>(lease["metadata"]["uid"].clone())
    };
    let before = uid(cluster).unwrap();
    cluster.kubectl(&["delete", "lease", lease, "-n", SYSTEM]).unwrap();
    release.until("the Lease is made anew", 60, |cluster| {
        let now = uid(cluster)?;
        if now == before { Err("the old one".to_owned()) } else { Ok(()) }
    });
    let mut unmounted = example(release, "unmounted", &json!({"parallelism": 1}));
    unmounted["spec"]["output"]["caSecret"] = json!({"name": "nobodys-ca"});
    cluster.apply(&[unmounted]).unwrap();
    release.until("the mount that fails is told", 60, |_| {
        let said = release.build("unmounted")["status"]["conditions"].to_string();
        if said.contains("nobodys-ca") && said.contains("FailedMount") { Ok(()) } else { Err(said) }
    });
    cluster.kubectl(&["delete", "ib", "unmounted", "-n", NAMESPACE, "--timeout=60s"]).unwrap();
}

/// What the chart allows and these builds do not call, each with where it is. All else is called here.
const CALLED_ELSEWHERE: [(&str, &str, &str, &str); 4] = [
    ("", "serviceaccounts", "create", APPLIED),
    ("rbac.authorization.k8s.io", "roles", "create", APPLIED),
    ("rbac.authorization.k8s.io", "rolebindings", "create", APPLIED),
    ("", "nodes", "get", LOST_NODE),
];
const APPLIED: &str = "an apply that makes something must be allowed to create, and is logged as a patch";
const LOST_NODE: &str = "crates/operator/tests/without_nodes/lost_node.rs: a node that is gone, or back";

/// The API server's own log of who called what, against the roles: the same set.
fn called_and_allowed(release: &Release<'_>) {
    let operator = format!("system:serviceaccount:{SYSTEM}:indexbuild-operator");
    let executors = format!("system:serviceaccount:{NAMESPACE}:");
    let (mut called, mut by_executors, mut denied) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for call in release.cluster.audit().unwrap().into_iter().filter(|call| !call.resource.is_empty()) {
        let resource = if call.subresource.is_empty() {
            call.resource.clone()
        } else {
            format!("{}/{}", call.resource, call.subresource)
        };
        let right: Right = (call.group.clone(), resource, call.verb.clone());
        if call.user == operator && call.allowed {
            called.insert(right);
        } else if call.user == operator {
            denied.insert(right);
        } else if call.user.starts_with(&executors) && call.allowed {
            by_executors.insert(right);
        }
    }
    assert!(denied.is_empty(), "the operator calls what no role allows: {denied:?}");
    let allowed = rights(&operators_rules(&documents(&template(release.tools, &[]).unwrap())));
    let elsewhere: BTreeSet<Right> = CALLED_ELSEWHERE
        .iter()
        .map(|(group, resource, verb, _)| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
        .collect();
    // What executors call was granted by the operator, which therefore holds it.
    let used: BTreeSet<Right> = called.union(&by_executors).cloned().collect();
    let unused: BTreeSet<Right> = allowed.difference(&used).cloned().collect();
    assert_eq!(unused, elsewhere, "allowed, and not called here");
    println!("called by the operator: {} rights, by executors: {}", called.len(), by_executors.len());
    for (group, resource, verb, when) in CALLED_ELSEWHERE {
        println!("not called here: {verb} {resource} {group}: {when}");
    }

    let owner = Owner { namespace: NAMESPACE.to_owned(), name: "orders".to_owned(), uid: "0b7e1c9a".to_owned() };
    let role = serde_json::to_value(objects::role(&owner, 0..1, &["plan".to_owned()])).unwrap();
    let granted = rights(role["rules"].as_array().unwrap());
    assert_eq!(by_executors, granted, "executors call what they are granted, all of it");
}
