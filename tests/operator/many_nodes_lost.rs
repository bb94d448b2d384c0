//! More than half of the nodes look lost: probably the operator itself is cut off. Nothing is destroyed or
//! replaced, and a condition says why.

use std::time::Duration;

use indexbuild_testbed::{Direction, Peer};
use serde_json::{Value, json};

use crate::support::{Fixture, NAMESPACE, history, message, switch, text};

/// Where the operator takes each node for ready.
pub(crate) const BLIND: &str = "blind";

const LOST: [&str; 3] = ["node2", "node3", "node4"];

pub(crate) fn run(fixture: &Fixture) {
    let made = [NAMESPACE, BLIND].map(|namespace| {
        let mut build = fixture.build("majority", "wide", 3);
        build["metadata"]["namespace"] = json!(namespace);
        build["spec"]["indexes"] = json!([{"name": "by_c", "columns": [{"name": "c"}]}]);
        build["spec"]["rowsPerSecond"] = json!(1_500);
        build["spec"]["disruption"] = json!({"replaceAfter": "25s", "orphanAfter": "300s"});
        switch(&mut build, &json!({"runBytes": 1}));
        build
    });
    fixture.cluster.apply(&made).unwrap();
    for namespace in [NAMESPACE, BLIND] {
        for slot in 0..3 {
            fixture.at_work(namespace, "majority", slot, 0);
        }
    }
    let before = objects(fixture);
    for node in LOST {
        fixture.cluster.cut(node, Peer::Api, Direction::Both).unwrap();
    }
    fixture.say("three of four nodes are cut off");
    fixture.until("a condition says why nothing is done", Duration::from_secs(60), |fixture| {
        let said = message(&fixture.read("majority"), "Stalled");
        if said.contains("MostNodesLost") && said.contains("half of the nodes") { Ok(()) } else { Err(said) }
    });
    fixture.until("the control replaces owners that live", Duration::from_secs(60), |fixture| {
        let records = fixture.slots(BLIND, "majority");
        let replaced =
            records.iter().filter(|record| history(record).iter().any(|reason| reason == "Replaced")).count();
        if replaced >= 1 { Ok(()) } else { Err(format!("{:?}", records.iter().map(history).collect::<Vec<_>>())) }
    });
    assert_eq!(objects(fixture), before, "nothing is destroyed, nothing is made");
    for node in LOST {
        fixture.cluster.heal(node).unwrap();
    }
    fixture.say("healed");
    let build = fixture.complete("majority", Duration::from_secs(150));
    let rebuilt = fixture.watcher.rebuilt(text(&build, "/metadata/uid"));
    assert_eq!(rebuilt, 0, "nothing of it is done twice");
    fixture.assert_same_as_local(NAMESPACE, "majority");
    let blind = fixture.complete_in(BLIND, "majority", Duration::from_secs(150));
    fixture.say(&format!(
        "majority: {rebuilt} rows rebuilt, {} where each node is taken for ready",
        fixture.watcher.rebuilt(text(&blind, "/metadata/uid"))
    ));
}

/// The build's pods and claims, by UID, and who owns its slots on which volume. Works go on where the node is there.
fn objects(fixture: &Fixture) -> Vec<String> {
    let uid = |object: &Value| text(object, "/metadata/uid").to_owned();
    let mut all: Vec<String> = fixture.pods(NAMESPACE, "majority").iter().map(uid).collect();
    all.extend(fixture.claims(NAMESPACE, "majority").iter().map(uid));
    let owners = fixture.slots(NAMESPACE, "majority");
    all.extend(owners.iter().map(|record| {
        format!("{} {} {}", record["spec"]["slot"], record["spec"]["grant"]["podUID"], record["spec"]["volume"])
    }));
    all
}
