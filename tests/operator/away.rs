//! What hinders a build, an API server that is away for three minutes, and at last deletion in each stage: on one
//! cluster of two nodes.

use std::time::Duration;

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::support::operator::OperatorOptions;
use crate::support::{NAMESPACE, World, switch, text};
use crate::{deletion, hindrance};

/// For how long the API server is away.
const AWAY: Duration = Duration::from_secs(180);
const ROWS: u64 = 100_000;

pub(crate) fn run(tools: &Tools) {
    let mut world = World::start(tools, Options { nodes: 2, ..Options::default() }, 12);
    world.table("orders", ROWS, 50, &["--columns", "id,k"]);
    world.table("small", 4_000, 1, &["--columns", "id,k"]);
    world.table("four", 100_000, 8, &[]);
    world.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    hindrance::start(&mut world);

    // They work during all that follows, and beyond.
    let made = [("away", "300s", 600), ("away-impatient", "30s", 600)].map(|(name, orphan_after, rate)| {
        let mut build = world.build(name, "orders", 2);
        build["spec"]["rowsPerSecond"] = json!(rate);
        build["spec"]["disruption"] = json!({"replaceAfter": "20s", "orphanAfter": orphan_after});
        switch(&mut build, &json!({"runBytes": 1}));
        build
    });
    world.cluster.apply(&made).unwrap();
    world.cluster.apply(&[world.build("four", "four", 4)]).unwrap();
    hindrance::check(&world);
    let four = world.complete("four", Duration::from_secs(100));
    assert_eq!(four["status"]["rows"], 100_000);
    world.assert_same_as_local(NAMESPACE, "four");
    api_server_away(&mut world);
    deletion::run(&world);
    world.assert_within_rights();
    world.say("done");
}

fn api_server_away(world: &mut World) {
    let owners = |world: &World, name: &str| [0, 1].map(|slot| world.at_work(NAMESPACE, name, slot, 1));
    let before = owners(world, "away");
    let impatient = owners(world, "away-impatient");
    let uid = text(&before[0], "/spec/buildUID").to_owned();
    let rows = world.witness.rows(&uid);
    world.cluster.stop_api_server();
    world.say(&format!("the API server is away; {rows} rows are sealed"));
    std::thread::sleep(AWAY);
    let meanwhile = world.witness.rows(&uid);
    world.cluster.start_api_server().unwrap();
    world.say(&format!("it is back; {meanwhile} rows are sealed"));
    assert!(meanwhile >= rows + 30_000, "executors work on: {rows} and then {meanwhile} rows");
    // The control has lost its processes; what is left of it need not be slow.
    let patch = json!({"spec": {"rowsPerSecond": null}}).to_string();
    world.kubectl(&["patch", "ib", "away-impatient", "--type=merge", "-p", &patch]);

    let build = world.complete("away", Duration::from_secs(240));
    let rebuilt = world.witness.rebuilt(&uid);
    let nonces: std::collections::BTreeSet<String> =
        world.witness.sealed(&uid).into_iter().map(|run| run.nonce).collect();
    world.say(&format!("away: {rebuilt} rows rebuilt, by {} processes", nonces.len()));
    assert_eq!(rebuilt, 0);
    assert_eq!(nonces.len(), 2, "the same two processes encoded it all");
    assert_eq!(build["status"]["failedAttempts"], Value::Null);
    world.assert_same_as_local(NAMESPACE, "away");

    // The control: executors that end without contact lose the time, though never the content.
    let uid = text(&impatient[0], "/spec/buildUID").to_owned();
    world.complete("away-impatient", Duration::from_secs(300));
    let nonces: std::collections::BTreeSet<String> =
        world.witness.sealed(&uid).into_iter().map(|run| run.nonce).collect();
    world.say(&format!("away-impatient: by {} processes", nonces.len()));
    assert!(nonces.len() > 2, "the control: its first processes have ended: {nonces:?}");
    world.assert_same_as_local(NAMESPACE, "away-impatient");
}
