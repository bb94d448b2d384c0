//! A node reboots between the binding of a pod to it and the start of the pod's container. The owner that begins then runs
//! on the boot that is there: it is not proved gone. Where the boot of the binding is taken for its own, its volume is given
//! to another pod while it works.

use std::time::Duration;

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, history, prefer, switch, text};

/// Where the boot that a node had when a pod was bound to it is taken for its owner's.
const NOTING: &str = "noting";
const NODE: &str = "node2";
const BUILD: &str = "late";
/// What containers wait for.
const SECRET: &str = "late";

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 3, ..Options::default() }, 4);
    fixture.table("small", 10_000, 5, &["--columns", "id,k"]);
    let bound_at = boot_id(&fixture);
    fixture.namespace(NOTING);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    fixture.start_operator(OperatorOptions::of(NOTING, 8081).with(json!({"notedBoots": {NODE: bound_at}})));
    fixture.cluster.apply(&[NAMESPACE, NOTING].map(|namespace| build(&fixture, namespace))).unwrap();
    let before = [NAMESPACE, NOTING].map(|namespace| is_bound(&fixture, namespace));
    fixture.say(&format!("pods are bound to {NODE}, and wait for a Secret"));

    fixture.cluster.crash_node(NODE).unwrap();
    fixture.cluster.boot_node(NODE, true).unwrap();
    let booted = fixture.until("the node is back with another boot id", Duration::from_secs(90), |fixture| {
        let (now, node) = (boot_id(fixture), node(fixture));
        let ready = indexbuild_testbed::condition(&node, "Ready") == "True";
        if now != bound_at && ready { Ok(now) } else { Err(node["status"].to_string()) }
    });
    for namespace in [NAMESPACE, NOTING] {
        let record = &fixture.slots(namespace, BUILD)[0];
        assert_eq!(text(record, "/spec/grant/bootNonce"), "", "{namespace}: no process of it has begun");
    }
    let secrets = [NAMESPACE, NOTING].map(|namespace| secret(&fixture, namespace));
    fixture.cluster.apply(&secrets).unwrap();
    fixture.say("it has rebooted, and the Secret is there");

    let [ours, noted] = &before;
    let record = fixture.at_work(NAMESPACE, BUILD, 0, 2);
    let grant = &record["spec"]["grant"];
    assert_eq!(grant["podUID"], ours["spec"]["grant"]["podUID"], "the pod that waited works: {:?}", history(&record));
    assert_eq!((text(grant, "/nodeName"), text(grant, "/bootID")), (NODE, booted.as_str()), "its own word: {grant}");
    let machine = node(&fixture)["status"]["nodeInfo"]["systemUUID"].clone();
    assert_eq!(grant["systemUUID"], machine, "its Node has shown that boot: {grant}");
    let changes = history(&record);
    assert!(changes.iter().all(|reason| reason == "FirstOwner" || reason == "NextWork"), "nobody else: {changes:?}");

    // The control.
    fixture.until("its volume is given on while it works", Duration::from_secs(120), |fixture| {
        let now = fixture.slots(NOTING, BUILD)[0].clone();
        let (another, same) = (
            now["spec"]["grant"]["podUID"] != noted["spec"]["grant"]["podUID"],
            now["spec"]["volume"] == noted["spec"]["volume"],
        );
        let changes = history(&now);
        let rebound = changes.iter().any(|reason| reason == "Rebound");
        if another && same && rebound { Ok(()) } else { Err(format!("{} {changes:?}", now["spec"])) }
    });
    fixture.complete(BUILD, Duration::from_secs(180));
    fixture.assert_same_as_local(NAMESPACE, BUILD);
    fixture.assert_within_rights();
    fixture.say("done");
}

fn node(fixture: &Fixture) -> Value {
    fixture.cluster.get(&["node", NODE]).unwrap_or_else(|error| json!({"status": error.to_string()}))
}

fn boot_id(fixture: &Fixture) -> String {
    text(&node(fixture), "/status/nodeInfo/bootID").to_owned()
}

fn build(fixture: &Fixture, namespace: &str) -> Value {
    let mut build = fixture.build(BUILD, "small", 1);
    build["metadata"]["namespace"] = json!(namespace);
    build["spec"]["source"]["parquet"]["credentials"] = json!({"secretName": SECRET});
    // Nobody is replaced for patience while a node boots; and at work for some 40 s.
    build["spec"]["disruption"] = json!({"replaceAfter": "240s", "orphanAfter": "600s"});
    build["spec"]["rowsPerSecond"] = json!(250);
    prefer(&mut build, NODE);
    switch(&mut build, &json!({"runBytes": 1}));
    build
}

fn secret(fixture: &Fixture, namespace: &str) -> Value {
    let (_, key, secret) = fixture.cluster.object_store();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": namespace},
        "stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
    })
}

/// Waits until a pod is bound to its slot and node, and has not begun.
fn is_bound(fixture: &Fixture, namespace: &str) -> Value {
    fixture.until(&format!("{namespace}: a pod is bound"), Duration::from_secs(60), |fixture| {
        let Some(record) = fixture.slots(namespace, BUILD).first().cloned() else { return Err("no record".to_owned()) };
        let grant = &record["spec"]["grant"];
        let bound = !text(grant, "/podUID").is_empty() && text(grant, "/nodeName") == NODE;
        if bound && text(grant, "/bootNonce").is_empty() { Ok(record) } else { Err(record["spec"].to_string()) }
    })
}
