//! Ends that are nobody's fault, and their controls, on a cluster of two nodes: a kubelet that evicts for want of room on its
//! disk, four drains of a slot that cleans; and pods that are to blame themselves: one above its own limit of ephemeral
//! storage, one that is killed as for memory, one that finds no way to the API server.

use std::time::Duration;

use indexbuild_testbed::{Options, Tools, tools_or_skip};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, history, holds, message, prefer, switch, text};

/// Ten splits, each a run of its own.
const ROWS: u64 = 20_000;
const WITHIN: Duration = Duration::from_secs(120);
/// A namespace whose pods have a small limit of ephemeral storage.
const LIMITED: &str = "limited";
const EVICTED: &str = "evicted";
const KILLED: &str = "killed";
const GREEDY: &str = "greedy";
const UNHEARD: &str = "unheard";
const MISSPELT: &str = "misspelt";

#[test]
fn evictions_and_drains_are_nobodys_fault_and_a_pod_above_its_own_limit_or_out_of_reach_is() {
    let Some(tools) = tools_or_skip("evictions and drains on real nodes") else { return };
    run(&tools);
}

fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 2, ..Options::default() }, 12);
    fixture.table("small", ROWS, 10, &["--columns", "id,k"]);
    fixture.namespace(LIMITED);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    fixture.start_operator(OperatorOptions::of(LIMITED, 8081));
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": LIMITED},
        "spec": {"limits": [{
            "type": "Container",
            "default": {"ephemeral-storage": "4Mi"}, "defaultRequest": {"ephemeral-storage": "1Mi"},
        }]},
    });
    fixture.cluster.apply(&[limits]).unwrap();

    let slow = |namespace: &str, name: &str| {
        let mut build = fixture.build(name, "small", 1);
        build["metadata"]["namespace"] = json!(namespace);
        build["spec"]["rowsPerSecond"] = json!(200);
        build["spec"]["disruption"] = json!({"replaceAfter": "20s", "orphanAfter": "300s"});
        prefer(&mut build, "node2");
        switch(&mut build, &json!({"runBytes": 1}));
        build
    };
    let (killed, greedy) = (slow(NAMESPACE, KILLED), slow(LIMITED, GREEDY));
    let mut unheard = slow(NAMESPACE, UNHEARD);
    unheard["spec"]["executor"]["env"] = json!([{"name": "KUBERNETES_SERVICE_HOST", "value": "192.0.2.1"}]);
    let mut misspelt = slow(NAMESPACE, MISSPELT);
    misspelt["spec"]["indexes"][0]["columns"] = json!([{"name": "kk"}]);
    switch(&mut misspelt, &json!({"beginWhenToldIn": "Clean"}));
    let mut evicted = slow(NAMESPACE, EVICTED);
    prefer(&mut evicted, "node1");
    fixture.cluster.apply(&[killed, greedy, unheard, misspelt]).unwrap();

    to_blame(&fixture);
    out_of_reach(&fixture);
    drains_of_a_clean(&fixture);
    fixture.cluster.apply(&[evicted]).unwrap();
    node_pressure(&mut fixture);
    for (namespace, name) in [(NAMESPACE, KILLED), (LIMITED, GREEDY), (NAMESPACE, UNHEARD), (NAMESPACE, EVICTED)] {
        fixture.complete_in(namespace, name, Duration::from_secs(240));
        fixture.assert_same_as_local(namespace, name);
    }
    fixture.assert_within_rights();
    fixture.say("done");
}

fn failed_attempts(build: &Value) -> u64 {
    build["status"]["failedAttempts"].as_u64().unwrap_or_default()
}

/// The node of a build's one pod that runs and has claimed its grant.
fn owner(fixture: &Fixture, namespace: &str, name: &str) -> (String, Value) {
    fixture.until(&format!("{namespace}/{name} has an owner"), WITHIN, |fixture| {
        let records = fixture.slots(namespace, name);
        let record = records.first().ok_or("no record")?;
        let bound = !text(record, "/spec/grant/bootNonce").is_empty();
        let node = text(record, "/spec/grant/nodeName");
        if bound && !node.is_empty() { Ok((node.to_owned(), record.clone())) } else { Err(record["spec"].to_string()) }
    })
}

/// Four drains of the slot that cleans after a failure use up none of its tries: it cleans when it is let.
fn drains_of_a_clean(fixture: &Fixture) {
    fixture.until(&format!("{MISSPELT} has failed"), WITHIN, |fixture| {
        let build = fixture.read(MISSPELT);
        if holds(&build, "Failed") { Ok(()) } else { Err(build["status"].to_string()) }
    });
    let cleans = |fixture: &Fixture| {
        fixture.until(&format!("a pod of {MISSPELT} cleans"), WITHIN, |fixture| {
            let (node, record) = owner(fixture, NAMESPACE, MISSPELT);
            if text(&record, "/spec/work/id") == "clean" { Ok((node, record)) } else { Err(record["spec"].to_string()) }
        })
    };
    for drain in 1..=4 {
        let (node, before) = cleans(fixture);
        fixture.cluster.drain(&node, 90).unwrap();
        fixture.cluster.cordon(&node, false).unwrap();
        fixture.until(&format!("drain {drain}: another pod is to clean"), WITHIN, |fixture| {
            let now = fixture.slots(NAMESPACE, MISSPELT);
            let now = now.first().ok_or("no record: cleaning was given up")?;
            let another = now["spec"]["grant"]["podName"] != before["spec"]["grant"]["podName"];
            if another { Ok(()) } else { Err(now["spec"].to_string()) }
        });
    }
    let (node, record) = cleans(fixture);
    let build = fixture.read(MISSPELT);
    let uid = text(&build, "/metadata/uid");
    let prefix = fixture.cluster.bucket("indexes").unwrap().join("shop").join(NAMESPACE).join(MISSPELT).join(uid);
    assert!(!prefix.join("manifest.json").exists(), "it was not let clean yet");
    let claim = text(&record, "/spec/volume/claimName").to_owned();
    let claim = fixture.cluster.get(&["pvc", &claim]).unwrap();
    let folder = fixture.cluster.volume_folder(&node, text(&claim, "/spec/volumeName")).unwrap();
    std::fs::write(folder.join("go"), "").unwrap();
    fixture.until("its tombstone stands", WITHIN, |_| {
        let document = std::fs::read_to_string(prefix.join("manifest.json")).map_err(|error| error.to_string())?;
        if document.contains("Tombstone") { Ok(()) } else { Err(document) }
    });
    // I9: whenFailed is Retain, if nobody says otherwise, also of the volume of the slot that cleaned.
    fixture.until("it rests", WITHIN, |fixture| {
        let build = fixture.read(MISSPELT);
        if build["status"]["phase"] == "Failed" && fixture.pods(NAMESPACE, MISSPELT).is_empty() {
            Ok(())
        } else {
            Err(build["status"].to_string())
        }
    });
    assert!(folder.join("go").exists(), "the volume is as it was");
    assert_eq!(fixture.claims(NAMESPACE, MISSPELT).len(), 1);
    fixture.say("four drains have used up no try of a clean-up");
}

/// Controls: what a pod does to itself is counted.
fn to_blame(fixture: &Fixture) {
    for (namespace, name) in [(NAMESPACE, KILLED), (LIMITED, GREEDY)] {
        let record = fixture.at_work(namespace, name, 0, 2);
        let pod = text(&record, "/spec/grant/podName").to_owned();
        if name == KILLED {
            fixture.cluster.kill_container(&pod).unwrap();
        } else {
            // More than its limit, where only it writes.
            let pod = fixture.cluster.get(&["pod", &pod, "-n", namespace]).unwrap();
            let (node, uid) = (text(&pod, "/spec/nodeName"), text(&pod, "/metadata/uid"));
            let folder = fixture.cluster.pod_folder(node, uid).unwrap().join("volumes/kubernetes.io~empty-dir/tmp");
            std::fs::write(folder.join("large"), vec![7; 16 << 20]).unwrap();
        }
        fixture.until(&format!("{namespace}/{name} has failed once"), WITHIN, |fixture| {
            let build = fixture.read_in(namespace, name);
            if failed_attempts(&build) == 1 { Ok(()) } else { Err(build["status"].to_string()) }
        });
    }
    fixture.say("a pod above its own limit and one that was killed are counted");
}

/// A pod that runs and never registers is told within two minutes, and counted; it is mended by an edit.
fn out_of_reach(fixture: &Fixture) {
    fixture.until(&format!("{UNHEARD} is told"), WITHIN, |fixture| {
        let build = fixture.read(UNHEARD);
        let said = message(&build, "Stalled");
        let told = said.contains("has not registered") && said.contains("NetworkPolicy");
        if holds(&build, "Stalled") && told { Ok(()) } else { Err(build["status"].to_string()) }
    });
    fixture.until(&format!("{UNHEARD} has failed once"), WITHIN, |fixture| {
        let build = fixture.read(UNHEARD);
        if failed_attempts(&build) >= 1 { Ok(()) } else { Err(build["status"].to_string()) }
    });
    let patch = json!({"spec": {"executor": {"env": null}, "rowsPerSecond": null}}).to_string();
    fixture.kubectl(&["patch", "ib", UNHEARD, "--type=merge", "-p", &patch]);
    fixture.say("a pod that finds no way to the API server is told and counted");
}

/// The kubelet of one node finds too little room, evicts all pods, and takes no new ones: nobody has failed, and as the
/// volume is that node's, another one takes its place elsewhere.
fn node_pressure(fixture: &mut Fixture) {
    let record = fixture.at_work(NAMESPACE, EVICTED, 0, 2);
    assert_eq!(text(&record, "/spec/grant/nodeName"), "node1");
    let pod = text(&record, "/spec/grant/podName").to_owned();
    fixture.cluster.press_disk("node1", true).unwrap();
    let how = fixture.until("the kubelet evicts the pod", WITHIN, |fixture| {
        let now = fixture.slots(NAMESPACE, EVICTED).first().cloned().ok_or("no record")?;
        // The history follows the grant, in a write of its own.
        let told = |now: &Value| {
            now["status"]["history"]
                .as_array()
                .is_some_and(|all| all.last().is_some_and(|last| last["epoch"] == now["spec"]["grant"]["epoch"]))
        };
        let another = text(&now, "/spec/grant/podName") != pod && told(&now);
        if another { Ok(history(&now)) } else { Err(now.to_string()) }
    });
    assert_eq!(how.last().map(String::as_str), Some("Rebound"), "an end that is nobody's fault: {how:?}");
    let evictions = fixture.cluster.get(&["events", "-n", NAMESPACE, "--field-selector", "reason=Evicted"]).unwrap();
    assert!(!evictions["items"].as_array().unwrap().is_empty(), "the kubelet itself evicted it");
    fixture.until("it works on the other node", WITHIN, |fixture| {
        let record = fixture.slots(NAMESPACE, EVICTED).first().cloned().ok_or("no record")?;
        let works =
            text(&record, "/spec/grant/nodeName") == "node2" && !text(&record, "/spec/grant/bootNonce").is_empty();
        if works { Ok(()) } else { Err(record.to_string()) }
    });
    assert_eq!(failed_attempts(&fixture.read(EVICTED)), 0);
    fixture.say("a pod that was evicted for want of room on its node has not failed");
}
