//! What hinders a build, an API server that is away for three minutes, and at last deletion in each stage: on one
//! cluster of two nodes.

use std::time::Duration;

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, switch, text};
use crate::{blocked_builds, deletion};

/// For how long the API server is away.
const AWAY: Duration = Duration::from_secs(180);
const ROWS: u64 = 100_000;

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 2, ..Options::default() }, 12);
    fixture.table("orders", ROWS, 50, &["--columns", "id,k"]);
    fixture.table("small", 4_000, 1, &["--columns", "id,k"]);
    fixture.table("four", 100_000, 8, &[]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    blocked_builds::start(&mut fixture);

    // They work during all that follows, and beyond.
    let made = [("away", "300s", 400), ("away-impatient", "30s", 400)].map(|(name, orphan_after, rate)| {
        let mut build = fixture.build(name, "orders", 2);
        build["spec"]["rowsPerSecond"] = json!(rate);
        build["spec"]["disruption"] = json!({"replaceAfter": "20s", "orphanAfter": orphan_after});
        switch(&mut build, &json!({"runBytes": 1}));
        build
    });
    fixture.cluster.apply(&made).unwrap();
    fixture.cluster.apply(&[fixture.build("four", "four", 4)]).unwrap();
    blocked_builds::check(&fixture);
    let four = fixture.complete("four", Duration::from_secs(100));
    assert_eq!(four["status"]["rows"], 100_000);
    fixture.assert_same_as_local(NAMESPACE, "four");
    api_server_away(&mut fixture);
    deletion::run(&fixture);
    fixture.assert_within_rights();
    fixture.say("done");
}

fn api_server_away(fixture: &mut Fixture) {
    let owners = |fixture: &Fixture, name: &str| [0, 1].map(|slot| fixture.at_work(NAMESPACE, name, slot, 1));
    let before = owners(fixture, "away");
    let impatient = owners(fixture, "away-impatient");
    let uid = text(&before[0], "/spec/buildUID").to_owned();
    let rows = fixture.watcher.rows(&uid);
    fixture.cluster.stop_api_server();
    fixture.say(&format!("the API server is away; {rows} rows are sealed"));
    std::thread::sleep(AWAY);
    let meanwhile = fixture.watcher.rows(&uid);
    fixture.cluster.start_api_server().unwrap();
    fixture.say(&format!("it is back; {meanwhile} rows are sealed"));
    assert!(meanwhile >= rows + 30_000, "executors work on: {rows} and then {meanwhile} rows");
    // The control has lost its processes; what is left of it need not be slow.
    let patch = json!({"spec": {"rowsPerSecond": null}}).to_string();
    fixture.kubectl(&["patch", "ib", "away-impatient", "--type=merge", "-p", &patch]);

    let build = fixture.complete("away", Duration::from_secs(240));
    let rebuilt = fixture.watcher.rebuilt(&uid);
    let nonces: std::collections::BTreeSet<String> =
        fixture.watcher.sealed(&uid).into_iter().map(|run| run.nonce).collect();
    fixture.say(&format!("away: {rebuilt} rows rebuilt, by {} processes", nonces.len()));
    assert_eq!(rebuilt, 0);
    assert_eq!(nonces.len(), 2, "the same two processes encoded it all");
    assert_eq!(build["status"]["failedAttempts"], Value::Null);
    fixture.assert_same_as_local(NAMESPACE, "away");

    // The control: executors that end without contact lose the time, though never the content.
    let uid = text(&impatient[0], "/spec/buildUID").to_owned();
    fixture.complete("away-impatient", Duration::from_secs(300));
    let nonces: std::collections::BTreeSet<String> =
        fixture.watcher.sealed(&uid).into_iter().map(|run| run.nonce).collect();
    fixture.say(&format!("away-impatient: by {} processes", nonces.len()));
    assert!(nonces.len() > 2, "the control: its first processes have ended: {nonces:?}");
    fixture.assert_same_as_local(NAMESPACE, "away-impatient");
}
