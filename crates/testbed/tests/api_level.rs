//! The control plane alone: fake nodes on which pods run in the API only, volumes on demand, and the record of all calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indexbuild_testbed::{Cluster, ON_DEMAND, Options, Tools, objects, tools_or_skip};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn hundreds_of_pods_run_on_fake_nodes_and_every_call_is_recorded() {
    let Some(tools) = tools_or_skip("fake nodes, audit") else { return };
    let options = Options { nodes: 0, fake_nodes: 20, audit: true, ..Options::default() };
    let start = Instant::now();
    let cluster = Cluster::start(&tools, options).unwrap_or_else(|error| panic!("{error}"));
    println!("20 fake nodes after {:.1} s; clocks: {}", start.elapsed().as_secs_f64(), cluster.clocks());
    for (name, part) in [
        ("two hundred pods", pods as fn(&Cluster, &Tools)),
        ("volumes on demand", volumes),
        ("the record of calls", audit),
        ("kstatus", kstatus),
        ("the end state", end_state),
    ] {
        let start = Instant::now();
        part(&cluster, &tools);
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

/// How many pods there are of each phase.
fn phases(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for pod in cluster.get(&["pods"]).unwrap()["items"].as_array().into_iter().flatten() {
        *found.entry(pod["status"]["phase"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

fn wait_for_phases(cluster: &Cluster, what: &str, within: u64, expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> =
        expected.iter().map(|(phase, count)| ((*phase).to_owned(), *count)).collect();
    let waited = cluster.wait(what, Duration::from_secs(within), |cluster| {
        let seen = phases(cluster);
        Ok(if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) })
    });
    waited.unwrap_or_else(|error| panic!("{error}"));
}

fn pods(cluster: &Cluster, _: &Tools) {
    let pods: Vec<Value> = (0..200).map(|number| objects::pod(&format!("p{number}"), &["pause"])).collect();
    let start = Instant::now();
    cluster.apply(&pods).unwrap();
    let applied = start.elapsed().as_secs_f64();
    wait_for_phases(cluster, "all run", 30, &[("Running", 200)]);
    println!("  applied after {applied:.1} s, all run after {:.1} s", start.elapsed().as_secs_f64());
    let list = cluster.get(&["pods"]).unwrap();
    let nodes: BTreeMap<&str, usize> =
        list["items"].as_array().unwrap().iter().map(|pod| (pod["spec"]["nodeName"].as_str().unwrap(), 1)).collect();
    assert!(nodes.len() > 10, "the scheduler spread them: {nodes:?}");
    assert!(list["items"][0]["status"]["podIP"].is_string());

    cluster.end_fake_pod("p0", 0).unwrap();
    cluster.end_fake_pod("default/p1", 3).unwrap();
    wait_for_phases(cluster, "two have ended", 30, &[("Failed", 1), ("Running", 198), ("Succeeded", 1)]);
    let ended = cluster.get(&["pod", "p1"]).unwrap();
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    let start = Instant::now();
    // Without waiting: kubectl would wait for one after the other.
    cluster.kubectl(&["delete", "pods", "--all", "--wait=false"]).unwrap();
    wait_for_phases(cluster, "all are gone", 60, &[]);
    println!("  deleted after {:.1} s", start.elapsed().as_secs_f64());
}

fn volumes(cluster: &Cluster, _: &Tools) {
    let provisioner = cluster.provisioner().unwrap();
    let claim = |number: usize| {
        let mut claim = objects::claim(&format!("c{number}"), "unused");
        claim["spec"]["storageClassName"] = json!(ON_DEMAND);
        claim["spec"].as_object_mut().unwrap().remove("volumeName");
        claim
    };
    let with_claim =
        |number: usize| objects::with_claim(objects::pod(&format!("v{number}"), &["pause"]), &format!("c{number}"));
    let all: Vec<Value> = (0..30).flat_map(|number| [claim(number), with_claim(number)]).collect();
    cluster.apply(&all).unwrap();
    // Nobody's pod wants this one.
    cluster.apply(&[claim(99)]).unwrap();
    wait_for_phases(cluster, "pods with claims run", 60, &[("Running", 30)]);
    assert_eq!(cluster.get(&["pvc", "c99"]).unwrap()["status"]["phase"], "Pending");
    assert_eq!(cluster.get(&["pv"]).unwrap()["items"].as_array().unwrap().len(), 30);
    cluster.kubectl(&["delete", "pods,pvc", "--all", "--wait=false"]).unwrap();
    wait_for_phases(cluster, "the pods are gone", 60, &[]);
    let gone = cluster.wait("the volumes are gone", SOON, |cluster| {
        let left = cluster.get(&["pv"])?["items"].as_array().map_or(0, Vec::len);
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} left")) })
    });
    gone.unwrap_or_else(|error| panic!("{error}"));
    drop(provisioner);
}

fn audit(cluster: &Cluster, _: &Tools) {
    let account = "system:serviceaccount:default:reader";
    let named = |kind: &str, version: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "reader", "namespace": "default"}});
    let mut role = named("Role", "rbac.authorization.k8s.io/v1");
    role["rules"] = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "create"]}]);
    let mut binding = named("RoleBinding", "rbac.authorization.k8s.io/v1");
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]);
    cluster.apply(&[named("ServiceAccount", "v1"), role, binding]).unwrap();
    let token = cluster.kubectl(&["create", "token", "reader"]).unwrap();
    let as_reader = |arguments: &[&str]| {
        let token = format!("--token={}", token.trim());
        // Without the administrator's certificate, which would count for more than a token.
        let mut all =
            vec!["--kubeconfig=/dev/null", "--server=https://10.88.0.1:6443", "--insecure-skip-tls-verify", &token];
        all.extend_from_slice(arguments);
        cluster.kubectl(&all)
    };
    as_reader(&["get", "configmaps", "-n", "default"]).unwrap();
    as_reader(&["create", "configmap", "-n", "default", "mine"]).unwrap();
    let refused = as_reader(&["get", "secrets", "-n", "default"]).unwrap_err().to_string();
    assert!(refused.contains("Forbidden"), "{refused}");
    let calls: Vec<_> = cluster.audit().unwrap().into_iter().filter(|call| call.user == account).collect();
    let told: Vec<(&str, &str, &str, &str, bool)> = calls
        .iter()
        .filter(|call| !call.resource.is_empty())
        .map(|call| (&*call.verb, &*call.resource, &*call.namespace, &*call.name, call.allowed))
        .collect();
    assert_eq!(
        told,
        [
            ("list", "configmaps", "default", "", true),
            ("create", "configmaps", "default", "mine", true),
            ("list", "secrets", "default", "", false),
        ]
    );
    assert_eq!(calls.last().unwrap().code, 403);
    let all = cluster.audit().unwrap();
    assert!(all.iter().any(|call| call.user == "kwok" && call.subresource == "status" && call.verb == "patch"));
    let bound = |call: &&indexbuild_testbed::ApiCall| call.subresource == "binding" && call.code == 201;
    assert!(all.iter().filter(bound).count() >= 230, "each pod was bound to a node by one call");
}

/// What Flux and Helm would say.
fn kstatus(cluster: &Cluster, tools: &Tools) {
    let program = tools.optional("kstatus").unwrap_or_else(|error| panic!("{error}"));
    let judge = |object: &Value| {
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap_or_default().to_owned()
    };
    let mut pod = objects::pod("judged", &["pause"]);
    pod["spec"]["nodeSelector"] = json!({"no-node": "has-this"});
    cluster.apply(&[pod, objects::pod("well", &["pause"])]).unwrap();
    wait_for_phases(cluster, "one of two runs", 30, &[("Pending", 1), ("Running", 1)]);
    assert_eq!(judge(&cluster.get(&["pod", "well"]).unwrap()), "Current");
    assert_eq!(judge(&cluster.get(&["pod", "judged"]).unwrap()), "InProgress");
    let mut own = json!({
        "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "generation": 2},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Stalled", "status": "True", "message": "no"}]},
    });
    assert_eq!(judge(&own), "Failed");
    own["status"]["conditions"][0]["status"] = json!("False");
    assert_eq!(judge(&own), "Current");
    own["metadata"]["generation"] = json!(3);
    assert_eq!(judge(&own), "InProgress", "nobody has looked at it yet");
    cluster.kubectl(&["delete", "pods", "--all", "--timeout=60s"]).unwrap();
    assert!(tools.optional("no-such-tool").unwrap_err().to_string().contains("make tools"));
}

fn end_state(cluster: &Cluster, _: &Tools) {
    let kinds = ["pods", "configmaps"];
    let run = |argument: &str| {
        cluster.apply(&[objects::pod("one", &[argument])]).unwrap();
        wait_for_phases(cluster, "it runs", 30, &[("Running", 1)]);
        let forget = ["status.podIP", "status.podIPs", "spec.nodeName", "spec.volumes", "spec.containers.volumeMounts"];
        let seen = cluster.end_state(&kinds, &forget).unwrap();
        cluster.kubectl(&["delete", "pod", "one", "--timeout=30s"]).unwrap();
        seen
    };
    let (first, second, other) = (run("pause"), run("pause"), run("otherwise"));
    assert!(first.contains_key("Pod default/one"));
    assert_eq!(first, second, "two runs that ended alike");
    assert_ne!(first, other, "a run that did something else");
}
