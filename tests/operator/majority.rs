//! More than half of the nodes look lost: it is probably the operator that is cut off. Nothing is destroyed or
//! replaced, and a condition says why.

use std::time::Duration;

use indexbuild_testbed::{Direction, Peer};
use serde_json::{Value, json};

use crate::support::{NAMESPACE, World, history, message, switch, text};

/// Where the operator takes each node for ready.
pub(crate) const BLIND: &str = "blind";

const LOST: [&str; 3] = ["node2", "node3", "node4"];

pub(crate) fn run(world: &World) {
    let made = [NAMESPACE, BLIND].map(|namespace| {
        let mut build = world.build("majority", "wide", 3);
        build["metadata"]["namespace"] = json!(namespace);
        build["spec"]["indexes"] = json!([{"name": "by_c", "columns": [{"name": "c"}]}]);
        build["spec"]["rowsPerSecond"] = json!(1_500);
        build["spec"]["disruption"] = json!({"replaceAfter": "25s", "orphanAfter": "300s"});
        switch(&mut build, &json!({"runBytes": 1}));
        build
    });
    world.cluster.apply(&made).unwrap();
    for namespace in [NAMESPACE, BLIND] {
        for slot in 0..3 {
            world.at_work(namespace, "majority", slot, 0);
        }
    }
    let before = objects(world);
    for node in LOST {
        world.cluster.cut(node, Peer::Api, Direction::Both).unwrap();
    }
    world.say("three of four nodes are cut off");
    world.until("a condition says why nothing is done", Duration::from_secs(60), |world| {
        let said = message(&world.read("majority"), "Stalled");
        if said.contains("MostNodesLost") && said.contains("half of the nodes") { Ok(()) } else { Err(said) }
    });
    world.until("the control replaces owners that live", Duration::from_secs(60), |world| {
        let records = world.slots(BLIND, "majority");
        let replaced =
            records.iter().filter(|record| history(record).iter().any(|reason| reason == "Replaced")).count();
        if replaced >= 1 { Ok(()) } else { Err(format!("{:?}", records.iter().map(history).collect::<Vec<_>>())) }
    });
    assert_eq!(objects(world), before, "nothing is destroyed, nothing is made");
    for node in LOST {
        world.cluster.heal(node).unwrap();
    }
    world.say("healed");
    let build = world.complete("majority", Duration::from_secs(150));
    let rebuilt = world.witness.rebuilt(text(&build, "/metadata/uid"));
    assert_eq!(rebuilt, 0, "nothing of it is done twice");
    world.assert_same_as_local(NAMESPACE, "majority");
    let blind = world.complete_in(BLIND, "majority", Duration::from_secs(150));
    world.say(&format!(
        "majority: {rebuilt} rows rebuilt, {} where each node is taken for ready",
        world.witness.rebuilt(text(&blind, "/metadata/uid"))
    ));
}

/// The build's pods and claims, by UID, and who owns its slots on which volume. Works go on where the node is there.
fn objects(world: &World) -> Vec<String> {
    let uid = |object: &Value| text(object, "/metadata/uid").to_owned();
    let mut all: Vec<String> = world.pods(NAMESPACE, "majority").iter().map(uid).collect();
    all.extend(world.claims(NAMESPACE, "majority").iter().map(uid));
    let owners = world.slots(NAMESPACE, "majority");
    all.extend(owners.iter().map(|record| {
        format!("{} {} {}", record["spec"]["slot"], record["spec"]["grant"]["podUID"], record["spec"]["volume"])
    }));
    all
}
