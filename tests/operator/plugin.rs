//! `kubectl indexbuild` on a real cluster, by a real kubectl; and what builds look like in every stage on the way, judged
//! as GitOps tools do. One cluster for all of it: `INDEXBUILD_RECORD=1` writes what was seen to `tests/gitops`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexbuild_testbed::{Direction, Options, Peer, Tools, tools_or_skip};
use serde_json::{Value, json};

use crate::judge;
use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, INDEXBUILD, NAMESPACE, holds};

/// Everything that a watch of all builds sees.
struct Watch {
    child: Child,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Watch {
    fn start(fixture: &Fixture, tools: &Tools) -> Self {
        let mut command = fixture.cluster.command(tools.path("kubectl"));
        command.args(["get", "ib", "-A", "-w", "-o", "json"]).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let into = Arc::clone(&seen);
        std::thread::spawn(move || {
            for object in serde_json::Deserializer::from_reader(output).into_iter::<Value>().map_while(Result::ok) {
                into.lock().unwrap().push(object);
            }
        });
        Self { child, seen }
    }

    /// The first object in each stage.
    fn stages(&self) -> Vec<(String, Value)> {
        let seen = self.seen.lock().unwrap();
        let first = |stage: &str| seen.iter().find(|build| judge::is_in(stage, build)).cloned();
        let stages = judge::STAGES.iter();
        stages.filter_map(|(stage, _, _)| Some(((*stage).to_owned(), first(stage)?))).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// kubectl with the plugin installed as the documentation says: by a link.
struct Kubectl<'a> {
    fixture: &'a Fixture,
    kubectl: PathBuf,
    folder: tempfile::TempDir,
}

impl<'a> Kubectl<'a> {
    fn new(fixture: &'a Fixture, tools: &Tools) -> Self {
        let folder = tempfile::Builder::new().prefix("ib-plugin-").tempdir().unwrap();
        for name in ["kubectl-indexbuild", "kubectl_complete-indexbuild"] {
            std::os::unix::fs::symlink(INDEXBUILD, folder.path().join(name)).unwrap();
        }
        Self { fixture, kubectl: tools.path("kubectl"), folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = self.fixture.cluster.command(&self.kubectl);
        command.args(arguments).env("PATH", path).current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.fixture.operator_log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says on failing, which it must with code 1.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }
}

/// The build applied by a user: kept, so that the same file can be compared later.
fn applied(fixture: &Fixture, folder: &Path, build: &Value) -> PathBuf {
    let file = folder.join(format!("{}.json", build["metadata"]["name"].as_str().unwrap()));
    std::fs::write(&file, build.to_string()).unwrap();
    fixture.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    file
}

fn phase(fixture: &Fixture, name: &str, phase: &str, within: u64) -> Value {
    fixture.until(&format!("build {name} is {phase}"), Duration::from_secs(within), |fixture| {
        let build = fixture.read(name);
        if build["status"]["phase"] == phase { Ok(build) } else { Err(build["status"].to_string()) }
    })
}

#[test]
fn people_see_pause_resume_report_and_cancel_builds_and_tools_judge_every_stage_of_them() {
    let Some(tools) = tools_or_skip("kubectl indexbuild on a cluster") else { return };
    let mut fixture = Fixture::start(&tools, Options::default(), 4);
    let folder = tempfile::tempdir().unwrap();
    fixture.table("orders", 100_000, 4, &[]);
    let watch = Watch::start(&fixture, &tools);

    // Nobody has seen it yet.
    let mut orders = fixture.build("orders", "orders", 2);
    orders["spec"]["rowsPerSecond"] = json!(3_000);
    orders["spec"]["executor"]["env"] = json!([{"name": "HINT", "value": "hunter2-hunter2"}]);
    orders["spec"]["volume"]["retention"] = json!({"whenPublished": "Retain"});
    let file = applied(&fixture, folder.path(), &orders);
    fixture.until("the watch sees a build that nobody has seen", Duration::from_secs(20), |_| {
        let seen = watch.stages();
        if seen.iter().any(|(stage, _)| stage == "pending") { Ok(()) } else { Err(format!("{} objects", seen.len())) }
    });

    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    let mut refused = fixture.build("refused", "orders", 1);
    refused["spec"]["output"] = json!({"url": "file:///tmp/x"});
    let mut nowhere = fixture.build("nowhere", "orders", 1);
    nowhere["spec"]["executor"]["nodeSelector"] = json!({"no": "where"});
    let mut failing = fixture.build("failing", "orders", 1);
    failing["spec"]["indexes"] = json!([{"name": "by_nothing", "columns": [{"name": "nothing"}]}]);
    for build in [&refused, &nowhere, &failing] {
        applied(&fixture, folder.path(), build);
    }

    phase(&fixture, "orders", "Encoding", 60);
    let working = |fixture: &Fixture| {
        let build = fixture.read("orders");
        let rows = build["status"]["rows"].as_u64().unwrap_or(0);
        let said = fixture.slots(NAMESPACE, "orders").iter().all(|record| record["status"]["state"] == "Working");
        let works = rows > 0 && build["status"]["executors"] == "2/2" && said;
        if works { Ok(()) } else { Err(build["status"].to_string()) }
    };
    fixture.until("both executors work", Duration::from_secs(60), working);
    let kubectl = Kubectl::new(&fixture, &tools);

    // Nothing that the operator writes shows as drift.
    let file = file.to_str().unwrap();
    let diff = kubectl.run(&["diff", "--server-side", "-f", file]);
    assert_eq!(diff.status.code(), Some(0), "drift: {}", String::from_utf8_lossy(&diff.stdout));
    let mut other = orders.clone();
    other["spec"]["rowsPerSecond"] = json!(4_000);
    let changed = folder.path().join("changed.json");
    std::fs::write(&changed, other.to_string()).unwrap();
    let control = kubectl.run(&["diff", "--server-side", "-f", changed.to_str().unwrap()]);
    assert_eq!(control.status.code(), Some(1), "a change is a difference");

    sees(&kubectl);
    reports(&kubectl);

    // A pause, and on.
    assert!(kubectl.ok(&["indexbuild", "suspend", "orders"]).contains("is paused"));
    let paused = phase(&fixture, "orders", "Suspended", 60);
    assert_eq!(paused["spec"]["suspend"], true);
    assert!(kubectl.ok(&["indexbuild", "suspend", "orders"]).contains("already"));
    assert!(kubectl.ok(&["indexbuild", "resume", "orders"]).contains("goes on"));

    // Cut off from the store for longer than patience lasts.
    let mut stuck = fixture.build("stuck", "orders", 1);
    stuck["spec"]["rowsPerSecond"] = json!(2_000);
    stuck["spec"]["disruption"] = json!({"replaceAfter": "15s", "orphanAfter": "10m"});
    stuck["spec"]["volume"]["retention"] = json!({"whenDeleted": "Retain"});
    applied(&fixture, folder.path(), &stuck);
    phase(&fixture, "stuck", "Encoding", 60);
    let nodes = ["node1", "node2", "node3"];
    fixture.complete("orders", Duration::from_secs(120));
    for node in nodes {
        fixture.cluster.cut(node, Peer::Store, Direction::Both).unwrap();
    }
    let stalled = fixture.until("the build says that it is stalled", Duration::from_secs(90), |fixture| {
        let build = fixture.read("stuck");
        if holds(&build, "Stalled") { Ok(build) } else { Err(build["status"].to_string()) }
    });
    on_call(&kubectl, &stalled);
    for node in nodes {
        fixture.cluster.heal(node).unwrap();
    }

    // Given up.
    let said = kubectl.fails(&["indexbuild", "cancel", "orders", "--yes"]);
    assert!(said.contains("complete") && said.contains("kubectl delete indexbuild orders"), "{said}");
    let said = kubectl.fails(&["indexbuild", "cancel", "stuck"]);
    assert!(said.contains("--yes"), "{said}");
    for name in ["stuck", "nowhere", "refused"] {
        let said = kubectl.ok(&["indexbuild", "cancel", name, "--yes", "--wait", "90s"]);
        assert!(said.contains("gone"), "{said}");
        assert!(kubectl.fails(&["indexbuild", "status", name]).contains("there is no build"));
    }
    fixture.until("what a deleted build asked to keep is shown", Duration::from_secs(60), |_| {
        let volumes = kubectl.json(&["indexbuild", "volumes", "stuck", "-o", "json"]);
        let kept = volumes.as_array().is_some_and(|all| {
            !all.is_empty() && all.iter().all(|volume| volume["state"] == "Retained" && volume["claimPhase"] == "Bound")
        });
        if kept { Ok(()) } else { Err(volumes.to_string()) }
    });
    assert!(kubectl.fails(&["indexbuild", "volumes", "refused"]).contains("there is no build"));
    phase(&fixture, "failing", "Failed", 60);

    // Who owned what, after the end: the volumes were kept, and their records with them.
    let timeline = kubectl.ok(&["indexbuild", "timeline", "orders"]);
    for part in ["node", "encode-", "the slot's first owner", "publish"] {
        assert!(timeline.contains(part), "{part}: {timeline}");
    }

    fixture.assert_within_rights();
    let stages = watch.stages();
    let missing: Vec<_> = judge::STAGES
        .iter()
        .map(|(stage, _, _)| *stage)
        .filter(|stage| !stages.iter().any(|(seen, _)| seen == stage))
        .collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
    if std::env::var_os("INDEXBUILD_RECORD").is_some() {
        record(&stages);
    }
    judge::judge(&tools.path("kstatus"), &stages);
}

/// What a person asks for while a build runs.
fn sees(kubectl: &Kubectl<'_>) {
    let list = kubectl.ok(&["indexbuild", "status"]);
    assert!(list.contains("NAME") && list.contains("orders") && list.contains("Encoding"), "{list}");
    let one = kubectl.ok(&["indexbuild", "status", "orders"]);
    for part in ["CONDITIONS", "SLOTS", "WHO OWNED WHAT", "encode-", "node", "Working"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let detail = kubectl.json(&["indexbuild", "status", "orders", "-o", "json"]);
    assert_eq!(detail["directories"].as_array().unwrap().len(), 2);
    assert!(detail["timeline"]["spans"].as_array().unwrap().iter().all(|span| span["claim"].is_string()));
    let yaml = kubectl.ok(&["indexbuild", "status", "-o", "yaml"]);
    assert!(yaml.contains("kind: IndexBuild"), "{yaml}");
    let volumes = kubectl.json(&["indexbuild", "volumes", "orders", "-o", "json"]);
    let volumes = volumes.as_array().unwrap();
    assert_eq!(volumes.len(), 2);
    assert!(volumes.iter().all(|volume| volume["state"] == "Owned" && volume["claimPhase"] == "Bound"), "{volumes:?}");
    let logs = kubectl.ok(&["indexbuild", "logs", "orders", "--slot", "1"]);
    assert!(logs.lines().count() > 0 && logs.lines().all(|line| line.contains("-1-e")), "{logs}");
    let followed = kubectl.fails(&["indexbuild", "logs", "orders", "--slot", "7"]);
    assert!(followed.contains("no pods of slot 7"), "{followed}");
    let missing = kubectl.fails(&["indexbuild", "status", "nobody"]);
    assert!(missing.contains("nobody") && missing.contains("--all-namespaces"), "{missing}");
    let picture = kubectl.ok(&["indexbuild", "timeline", "orders", "--format", "svg"]);
    assert!(picture.starts_with("<svg") && picture.contains("encode-"), "{picture}");
    let usage = kubectl.run(&["indexbuild", "status", "--nonsense"]);
    assert_eq!(usage.status.code(), Some(2));
    let complete = kubectl.ok(&["__complete", "indexbuild", "status", ""]);
    assert!(complete.contains("orders"), "{complete}");
}

/// The archive for a bug report holds what it should, and no secret.
fn reports(kubectl: &Kubectl<'_>) {
    // Inside the cluster's namespaces the current folder is another one.
    let archive = kubectl.folder.path().join("orders.tar.gz");
    let path = kubectl.ok(&["indexbuild", "report", "orders", "--out", archive.to_str().unwrap()]);
    assert_eq!(path.trim(), archive.to_str().unwrap());
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for part in
        ["build.yaml", "enginedirectories.yaml", "pods.yaml", "events.yaml", "nodes.yaml", "timeline.txt", ".log"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let all = Command::new("tar").arg("-xzOf").arg(&archive).output().unwrap();
    let text = String::from_utf8_lossy(&all.stdout);
    let (_, _, secret) = kubectl.fixture.cluster.object_store();
    assert!(text.contains("kind: IndexBuild") && text.contains("HINT"), "it holds the build");
    for hidden in [secret, "hunter2", "managedFields", "last-applied"] {
        assert!(!text.contains(hidden), "{hidden} is in the archive");
    }
}

/// `kubectl describe ib` and `kubectl get ed -o wide` alone tell what is waited for, until when, and what to do.
fn on_call(kubectl: &Kubectl<'_>, stalled: &Value) {
    let described = kubectl.ok(&["describe", "ib", "stuck"]);
    let records = kubectl.ok(&["get", "ed", "-o", "wide"]);
    let told = format!("{described}\n{records}\n{}", stalled["status"]);
    for part in [
        "the source's store, since",
        "the work goes on by itself: ends when the store does what it is asked",
        "WAITING",
    ] {
        assert!(told.contains(part), "{part} is not told:\n{told}");
    }
}

/// Writes what was seen, for the tests that need no cluster.
fn record(stages: &[(String, Value)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gitops");
    for (stage, build) in stages {
        let mut build = build.clone();
        build["metadata"].as_object_mut().unwrap().remove("managedFields");
        let text = serde_saphyr::to_string(&build).unwrap();
        let head = format!("# Recorded from a live build by scripts/record-gitops.sh: {stage}.\n");
        let mut file = std::fs::File::create(folder.join(format!("{stage}.yaml"))).unwrap();
        file.write_all(format!("{head}{text}").as_bytes()).unwrap();
    }
}
