//! Drains of a node while the operator is away: as when the leader's own pod goes with the executors of the same node. Pods
//! end well and are gone before anybody looks; what they have said in their records is there.

use std::time::Duration;

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::short_timers::{SMALL, slow};
use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, history, holds, prefer, switch, text};

const BUILDS: usize = 6;
const ROUNDS: usize = 5;
const NODE: &str = "node1";
/// Its executors do not say that they have released their volumes.
const MUTE: &str = "drained-mute";
/// Half of it is the longest pause after ends in a row: who waited for all of it would be replaced, on another volume.
const PATIENCE: &str = "60s";
/// Of the control.
const SHORT: &str = "25s";

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 2, ..Options::default() }, 8);
    fixture.table("small", SMALL, 10, &["--columns", "id,k"]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    let names: Vec<String> = (0..BUILDS).map(|number| format!("drained-{number}")).collect();
    let mut made: Vec<Value> = names.iter().map(|name| build(&fixture, name, PATIENCE)).collect();
    let mut mute = build(&fixture, MUTE, SHORT);
    switch(&mut mute, &json!({"runBytes": 1, "neverRelease": true}));
    made.push(mute);
    fixture.cluster.apply(&made).unwrap();

    for round in 1..=ROUNDS {
        let owners: Vec<(String, Value)> =
            names.iter().map(|name| (name.clone(), fixture.at_work(NAMESPACE, name, 0, 0))).collect();
        let mute = (round == 1).then(|| fixture.at_work(NAMESPACE, MUTE, 0, 0));
        fixture.stop_operator();
        fixture.cluster.drain(NODE, 90).unwrap();
        for (name, record) in &owners {
            assert_eq!(fixture.pods(NAMESPACE, name), Vec::<Value>::new(), "nobody can ask how they ended");
            let now = fixture.slots(NAMESPACE, name)[0].clone();
            let uid = text(record, "/spec/grant/podUID");
            assert_eq!(now["status"]["released"][uid]["epoch"], record["spec"]["grant"]["epoch"], "{now}");
        }
        fixture.cluster.cordon(NODE, false).unwrap();
        fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
        for (name, before) in &owners {
            fixture.until(
                &format!("{name} has another owner on the same volume"),
                Duration::from_secs(90),
                |fixture| {
                    let now = fixture.slots(NAMESPACE, name)[0].clone();
                    let another = now["spec"]["grant"]["podName"] != before["spec"]["grant"]["podName"];
                    let bound = !text(&now, "/spec/grant/bootNonce").is_empty();
                    let same = now["spec"]["volume"] == before["spec"]["volume"];
                    if another && bound && same { Ok(()) } else { Err(format!("{} {:?}", now["spec"], history(&now))) }
                },
            );
        }
        fixture.say(&format!("round {round}: all {BUILDS} slots went on at once"));
        if let Some(before) = mute {
            is_waited_for(&fixture, &before);
        }
    }
    for name in &names {
        fixture.kubectl(&["patch", "ib", name, "--type=merge", "-p", r#"{"spec":{"rowsPerSecond":null}}"#]);
    }
    for name in &names {
        let build = fixture.complete(name, Duration::from_secs(120));
        assert_eq!(build["status"]["rows"], SMALL);
        assert_eq!(build["status"].get("failedAttempts").and_then(Value::as_u64).unwrap_or(0), 0, "{name}");
        fixture.assert_same_as_local(NAMESPACE, name);
        fixture.until(&format!("{name} leaves no volume"), Duration::from_secs(60), |fixture| {
            let claims = fixture.claims(NAMESPACE, name);
            let held = holds(&fixture.read(name), "VolumesHeld");
            if claims.is_empty() && !held { Ok(()) } else { Err(format!("{claims:?}")) }
        });
    }
    fixture.assert_within_rights();
}

/// Work for some 200 s, on the node that is drained.
fn build(fixture: &Fixture, name: &str, patience: &str) -> Value {
    let mut build = slow(fixture, name, 1, 100);
    build["spec"]["disruption"] = json!({"replaceAfter": patience, "orphanAfter": "30m"});
    prefer(&mut build, NODE);
    build
}

/// The control: without the word nothing proves the owner gone. It is replaced on another volume when patience is over.
fn is_waited_for(fixture: &Fixture, before: &Value) {
    let now = fixture.until("the slot of the control is replaced", Duration::from_secs(90), |fixture| {
        let now = fixture.slots(NAMESPACE, MUTE)[0].clone();
        if history(&now).iter().any(|reason| reason == "Replaced") { Ok(now) } else { Err(now["spec"].to_string()) }
    });
    assert_eq!(now["status"]["released"], Value::Null);
    assert!(!history(&now).iter().any(|reason| reason == "Rebound"), "{:?}", history(&now));
    let former = &now["spec"]["formerVolumes"][0];
    assert_eq!((&former["claimUID"], &former["state"]), (&before["spec"]["volume"]["claimUID"], &json!("Stranded")));
    fixture.say("the control waited for replaceAfter, and its volume is stranded");
    fixture.kubectl(&["delete", "ib", MUTE, "--wait=false"]);
}
