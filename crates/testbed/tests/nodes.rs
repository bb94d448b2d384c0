//! What a real control plane and real nodes do when something breaks: the ground that promises about
//! partitions stand on. Each with its opposite as control, on a cluster of its own: they mostly wait for Kubernetes'
//! clocks, and as many run at once as the machine has processors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "nodes/faults.rs"]
mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indexbuild_testbed::{Cluster, Direction, Options, Peer, condition, objects, tools_or_skip};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// Beyond the grace period and the toleration of the short clocks.
const EVICTED: Duration = Duration::from_secs(120);

fn with_cluster(test: &str, act: impl FnOnce(&mut Cluster)) {
    let Some(tools) = tools_or_skip(test) else { return };
    let start = Instant::now();
    let mut cluster = Cluster::start(&tools, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    println!("{test}: three nodes after {:.1} s; clocks: {}", start.elapsed().as_secs_f64(), cluster.clocks());
    act(&mut cluster);
}

fn wait_for(cluster: &Cluster, what: &str, within: Duration, holds: impl Fn(&Cluster) -> bool) {
    let waited =
        cluster.wait(what, within, |cluster| Ok(if holds(cluster) { Ok(()) } else { Err("not yet".to_owned()) }));
    waited.unwrap_or_else(|error| panic!("{error}"));
}

fn pod(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&["pod", name, "--ignore-not-found"]).unwrap_or(Value::Null)
}

fn phase(cluster: &Cluster, name: &str) -> String {
    pod(cluster, name)["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

fn terminating(cluster: &Cluster, name: &str) -> bool {
    pod(cluster, name)["metadata"]["deletionTimestamp"].is_string()
}

fn running(cluster: &Cluster, name: &str) {
    wait_for(cluster, &format!("pod {name} runs"), SOON, |cluster| phase(cluster, name) == "Running");
}

fn gone(cluster: &Cluster, name: &str) -> bool {
    cluster.kubectl(&["get", "pod", name, "--ignore-not-found"]).is_ok_and(|text| text.trim().is_empty())
}

fn node_ready(cluster: &Cluster, node: &str) -> String {
    cluster.get(&["node", node]).map(|node| condition(&node, "Ready").to_owned()).unwrap_or_default()
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Waits until a file grows.
fn grows(file: &Path) -> bool {
    let (before, start) = (lines(file), Instant::now());
    while start.elapsed() < Duration::from_secs(10) {
        if lines(file) > before {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A pod on a node that writes to a local volume. Returns the file that it writes.
fn writer(cluster: &Cluster, name: &str, node: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let folder = cluster.volume_folder(node, name).unwrap();
    let mut pod = objects::with_claim(objects::pod(name, &["write", "/data/lines"]), name);
    change(&mut pod);
    cluster
        .apply(&[
            objects::local_storage_class(),
            objects::local_volume(name, node, &folder, "Retain"),
            objects::claim(name, name),
            pod,
        ])
        .unwrap();
    folder.join("lines")
}

/// It takes as long as all others together: by its name it is among the first that begin.
#[test]
fn a_breakdown_of_each_kind_comes_and_is_mended_as_asked() {
    faults::run();
}

#[test]
fn a_pod_that_meets_restricted_runs_and_logs_and_one_that_does_not_is_refused() {
    with_cluster("restricted", |cluster| {
        cluster.kubectl(&["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
        cluster.apply(&[objects::pod("speaker", &["say", "good morning"])]).unwrap();
        running(cluster, "speaker");
        wait_for(cluster, "the pod's words are in its log", SOON, |cluster| {
            cluster.kubectl(&["logs", "speaker"]).is_ok_and(|log| log.trim() == "good morning")
        });
        let mut privileged = objects::pod("privileged", &["pause"]);
        privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        let refused = cluster.apply(&[privileged]).unwrap_err().to_string();
        assert!(refused.contains("violates PodSecurity"), "{refused}");
    });
}

/// Why a Terminating pod proves nothing: its container writes on, for as long as the node is cut off.
#[test]
fn a_cut_nodes_pod_is_terminating_while_its_container_writes_on_and_goes_after_healing() {
    with_cluster("partition", |cluster| {
        let cut = writer(cluster, "cut", "node2", |_| {});
        let loyal = writer(cluster, "loyal", "node2", |pod| {
            pod["spec"]["tolerations"] = json!([
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            ]);
        });
        let other = writer(cluster, "other", "node1", |_| {});
        for name in ["cut", "loyal", "other"] {
            running(cluster, name);
        }
        cluster.cut("node2", Peer::Everything, Direction::Both).unwrap();
        wait_for(cluster, "the cut node is Unknown", EVICTED, |cluster| node_ready(cluster, "node2") == "Unknown");
        wait_for(cluster, "its pod is Terminating", EVICTED, |cluster| terminating(cluster, "cut"));
        assert!(grows(&cut), "its container writes on");
        assert!(grows(&loyal) && grows(&other));
        assert!(!terminating(cluster, "loyal"), "it tolerates an unreachable node without limit");
        assert!(!terminating(cluster, "other"), "its node was not cut off");
        assert_eq!(node_ready(cluster, "node1"), "True");

        cluster.heal("node2").unwrap();
        wait_for(cluster, "the node is back", SOON, |cluster| node_ready(cluster, "node2") == "True");
        wait_for(cluster, "the pod's object is gone", SOON, |cluster| gone(cluster, "cut"));
        assert!(!grows(&cut), "and so is its container");
        assert_eq!(phase(cluster, "loyal"), "Running");
        assert!(grows(&loyal));
    });
}

#[test]
fn a_node_cut_off_from_the_api_alone_reaches_the_object_store_and_one_cut_off_from_all_does_not() {
    with_cluster("api-only cut", |cluster| {
        let bucket = cluster.bucket("cuts").unwrap();
        let (url, access, secret) = cluster.object_store();
        let to = |place: &str| format!("{}/cuts/{place}", url.replace("://", &format!("://{access}:{secret}@")));
        cluster.apply(&[objects::on_node(objects::pod("putter", &["put-each", &to("each")]), "node3")]).unwrap();
        running(cluster, "putter");
        let count = || fs::read_dir(bucket.join("each")).map_or(0, Iterator::count);
        let more = |within: Duration| {
            let (before, start) = (count(), Instant::now());
            while start.elapsed() < within && count() == before {
                std::thread::sleep(Duration::from_millis(50));
            }
            count() > before
        };
        assert!(more(SOON), "undisturbed");
        cluster.cut("node3", Peer::Api, Direction::Both).unwrap();
        wait_for(cluster, "the node is Unknown", EVICTED, |cluster| node_ready(cluster, "node3") == "Unknown");
        assert!(more(SOON), "the object store is another address");
        cluster.heal("node3").unwrap();
        cluster.cut("node3", Peer::Store, Direction::Both).unwrap();
        wait_for(cluster, "the node is Ready again", SOON, |cluster| node_ready(cluster, "node3") == "True");
        // A request on its way when the cut was made may still have arrived.
        assert!(!more(Duration::from_secs(3)), "cut off from the object store alone");
        cluster.heal("node3").unwrap();
        assert!(more(SOON), "healed");

        // If-None-Match: of eight pods on three nodes, exactly one creates the object.
        let racers: Vec<Value> = (0..8)
            .map(|n| {
                let pod = objects::pod(&format!("racer-{n}"), &["put", &to("once"), &n.to_string()]);
                objects::on_node(pod, ["node1", "node2", "node3"][n % 3])
            })
            .collect();
        cluster.apply(&racers).unwrap();
        let answers: Vec<String> = (0..8)
            .map(|n| {
                let name = format!("racer-{n}");
                wait_for(cluster, &format!("{name} ends"), SOON, |cluster| phase(cluster, &name) == "Succeeded");
                cluster.kubectl(&["logs", &name]).unwrap().trim().to_owned()
            })
            .collect();
        assert_eq!(answers.iter().filter(|answer| *answer == "200").count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| *answer == "412").count(), 7, "{answers:?}");
        let winner = answers.iter().position(|answer| answer == "200").unwrap();
        assert_eq!(fs::read_to_string(bucket.join("once")).unwrap(), winner.to_string());
    });
}

#[test]
fn a_crashed_node_comes_back_with_its_volumes_content_and_the_boot_id_that_was_asked_for() {
    with_cluster("crash", |cluster| {
        let file = writer(cluster, "crashed", "node1", |_| {});
        running(cluster, "crashed");
        assert!(grows(&file));
        let boot = |cluster: &Cluster| cluster.get(&["node", "node1"]).unwrap()["status"]["nodeInfo"]["bootID"].clone();
        let mut before = boot(cluster);
        for new_boot_id in [true, false] {
            cluster.crash_node("node1").unwrap();
            assert!(!grows(&file), "no process of the node lives");
            let kept = lines(&file);
            assert!(kept > 0);
            wait_for(cluster, "the node is Unknown", EVICTED, |cluster| node_ready(cluster, "node1") == "Unknown");
            cluster.boot_node("node1", new_boot_id).unwrap();
            wait_for(cluster, "the node is back", EVICTED, |cluster| node_ready(cluster, "node1") == "True");
            assert_eq!(lines(&file), kept, "its volume's content is what it was");
            let after = boot(cluster);
            assert_eq!(after != before, new_boot_id, "{before} {after}");
            before = after;
        }
        let folder = file.parent().unwrap();
        assert!(folder.exists());
    });
}

/// The API server tells pods of one service account apart, by the UID in their token.
#[test]
fn an_admission_policy_tells_pods_apart_by_the_uid_in_their_token() {
    with_cluster("admission policy", |cluster| {
        let body = json!({"data": {"written": "yes"}}).to_string();
        let path = |name: &str| format!("/api/v1/namespaces/default/configmaps/{name}");
        let named = |kind: &str, version: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}});
        let mut role = named("Role", "rbac.authorization.k8s.io/v1", "patcher");
        role["rules"] = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]);
        let mut binding = named("RoleBinding", "rbac.authorization.k8s.io/v1", "patcher");
        binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"});
        binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "owner"},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]},
                ]},
                "matchConditions": [{"name": "owned", "expression": "has(oldObject.metadata.labels) && 'owner' in oldObject.metadata.labels"}],
                "validations": [{
                    "expression": "'authentication.kubernetes.io/pod-uid' in request.userInfo.extra && request.userInfo.extra['authentication.kubernetes.io/pod-uid'][0] == oldObject.metadata.labels['owner']",
                    "message": "only the owner writes",
                }],
            },
        });
        let bound = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "owner"},
            "spec": {"policyName": "owner", "validationActions": ["Deny"]},
        });
        cluster.apply(&[role, binding, policy]).unwrap();
        // The owner is named by its UID, so it must be there first; it tries until its record is there.
        cluster.apply(&[objects::pod("owner", &["patch", &path("owned"), &body])]).unwrap();
        running(cluster, "owner");
        let answer = |name: &str| {
            wait_for(cluster, &format!("{name} ends"), SOON, |cluster| phase(cluster, name) == "Succeeded");
            cluster.kubectl(&["logs", name]).unwrap()
        };
        // A pod's answer to: patch this record.
        let try_from = |name: &str, record: &str, owner: Option<&str>| {
            let patching = objects::pod(name, &["patch", &path(record), &body]);
            let mut object = named("ConfigMap", "v1", record);
            if let Some(owner) = owner {
                object["metadata"]["labels"] = json!({"owner": owner});
            }
            cluster.apply(&[object, patching]).unwrap();
            answer(name)
        };
        let uid = pod(cluster, "owner")["metadata"]["uid"].as_str().unwrap().to_owned();
        let control = try_from("unbound", "without-binding", Some(&uid));
        assert!(control.starts_with("200 "), "without the binding everybody writes: {control}");
        cluster.apply(&[bound]).unwrap();
        // A binding takes effect a moment after it is stored: seen when the administrator is refused too.
        wait_for(cluster, "the policy is in effect", SOON, |cluster| {
            let patch = cluster.kubectl(&[
                "patch",
                "configmap",
                "without-binding",
                "--type=merge",
                "-p",
                r#"{"data":{"a":"b"}}"#,
            ]);
            patch.is_err_and(|error| error.to_string().contains("only the owner writes"))
        });
        let stranger = try_from("stranger", "owned", Some(&uid));
        assert!(stranger.starts_with("422 ") && stranger.contains("only the owner writes"), "{stranger}");
        let owner = answer("owner");
        assert!(owner.starts_with("200 "), "the owner writes: {owner}");
        let free = try_from("free", "unowned", None);
        assert!(free.starts_with("200 "), "the policy matches owned records alone: {free}");
    });
}

/// What the machine shows of a cluster: processes (by namespaces and cgroups), mounts, cgroups, folders.
fn traces(id: &str, namespaces: &[PathBuf]) -> Vec<String> {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    };
    let mut seen: Vec<String> = names("/tmp").into_iter().filter(|name| name.contains(id)).collect();
    for hierarchy in names("/sys/fs/cgroup") {
        seen.extend(names(&hierarchy).into_iter().filter(|name| name.contains(&format!("/tb-{id}"))));
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    seen.extend(mounts.lines().filter(|line| line.contains(id)).map(str::to_owned));
    for process in names("/proc") {
        let inside = ["pid", "net"].iter().any(|kind| {
            fs::read_link(format!("{process}/ns/{kind}")).is_ok_and(|namespace| namespaces.contains(&namespace))
        });
        let cgroups = fs::read_to_string(format!("{process}/cgroup")).unwrap_or_default();
        if inside || cgroups.contains(&format!("/tb-{id}")) {
            seen.push(format!("process {}", fs::read_to_string(format!("{process}/comm")).unwrap_or_default().trim()));
        }
    }
    seen
}

/// Processes, mounts, interfaces and rules go with the namespaces; folders and cgroups are removed. What is seen
/// is told apart by the cluster, so that others on this machine may come and go.
#[test]
fn a_cluster_leaves_nothing_and_another_beside_it_lives_on() {
    let Some(tools) = tools_or_skip("leaves nothing") else { return };
    let host = || {
        let entries = ["/run/netns", "/sys/class/net"].into_iter().flat_map(fs::read_dir).flatten().flatten();
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        names.sort();
        names
    };
    let before = host();
    let start = Instant::now();
    let api_only = Options { nodes: 0, ..Options::default() };
    let beside = Cluster::start(&tools, api_only).unwrap_or_else(|error| panic!("{error}"));
    println!("leaves nothing: API server alone after {:.1} s", start.elapsed().as_secs_f64());
    let cluster = Cluster::start(&tools, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    cluster.apply(&[objects::pod("left", &["pause"])]).unwrap();
    running(&cluster, "left");

    let folder = cluster.logs().parent().unwrap().to_owned();
    let id = folder.file_name().unwrap().to_str().unwrap().trim_start_matches("indexbuild-testbed-").to_owned();
    let init = cluster.init_pid();
    let namespaces = ["pid", "net"].map(|kind| fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap());
    let seen = traces(&id, &namespaces);
    for part in ["process kubelet", "process kube-apiserver", "process workload", "/tmp/", "/sys/fs/cgroup/"] {
        assert!(seen.iter().any(|trace| trace.starts_with(part)), "while it runs, {part} is seen: {seen:?}");
    }
    drop(cluster);
    // The kernel takes a moment to end what it has killed.
    let start = Instant::now();
    while !traces(&id, &namespaces).is_empty() && start.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(traces(&id, &namespaces), Vec::<String>::new());
    assert_eq!(host(), before, "interfaces and named network namespaces of the machine");
    assert_eq!(beside.kubectl(&["get", "--raw", "/readyz"]).unwrap(), "ok", "the other cluster lives on");
}
