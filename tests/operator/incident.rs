//! The incident on real nodes: an executor's node is cut off for two minutes at Kubernetes' default clocks, with an
//! engine handle leaked in the executor (pingcap/tidb#58776). Once with the object store still reachable, once
//! without; beside each the same build undisturbed, and the build that hangs for ever where attempts share a
//! directory.

use std::time::{Duration, Instant};

use indexbuild_testbed::{Clocks, Direction, Options, Peer, Tools};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, message, switch, text};

/// For how long the nodes are cut off.
const CUT: Duration = Duration::from_secs(120);
const ROWS: u64 = 100_000;
/// Of the build that has the store all the time: its Encode outlasts the cut.
const SLOW: u64 = 560;
/// Of the build that is cut off from the store too.
const FAST: u64 = 2_000;

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 5, clocks: Clocks::DEFAULT, ..Options::default() }, 6);
    for (node, group) in [("node1", "a"), ("node2", "a"), ("node3", "b"), ("node4", "b"), ("node5", "c")] {
        fixture.kubectl(&["label", "node", node, &format!("group={group}")]);
    }
    // Each file is a split, and at these switches a run of its own.
    fixture.table("orders", ROWS, 50, &["--columns", "id,k"]);
    fixture.table("twice", 4_000, 1, &["--columns", "id,k,c"]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    let fixture = fixture;

    let leaking = json!({"leakEngineInEncode": true, "runBytes": 1});
    let whole = json!({"runBytes": 1});
    let builds = [
        ("cut", "a", SLOW, &leaking),
        ("cut-too", "b", FAST, &leaking),
        ("calm", "c", SLOW, &whole),
        ("calm-too", "c", FAST, &whole),
    ];
    let made = builds.map(|(name, group, rate, switches)| {
        let mut build = fixture.build(name, "orders", 2);
        build["spec"]["rowsPerSecond"] = json!(rate);
        build["spec"]["executor"]["nodeSelector"] = json!({"group": group});
        switch(&mut build, switches);
        build
    });
    fixture.cluster.apply(&made).unwrap();
    fixture.cluster.apply(&[stuck(&fixture)]).unwrap();

    // Both slots of each disturbed build are at work, on different nodes: one of them is lost.
    let before = fixture.at_work(NAMESPACE, "cut", 1, 1);
    let before_too = fixture.at_work(NAMESPACE, "cut-too", 1, 1);
    let lost = [&before, &before_too].map(|record| text(record, "/spec/grant/nodeName").to_owned());
    for (name, record) in [("cut", &before), ("cut-too", &before_too)] {
        let other = fixture.at_work(NAMESPACE, name, 0, 0);
        assert_ne!(
            text(&other, "/spec/grant/nodeName"),
            text(record, "/spec/grant/nodeName"),
            "{name} is on two nodes"
        );
        assert!(leaks(&fixture, record), "an engine is open in {name}'s slot 1: {record}");
    }
    for from in [Peer::Api, Peer::Nodes] {
        fixture.cluster.cut(&lost[0], from, Direction::Both).unwrap();
    }
    fixture.cluster.cut(&lost[1], Peer::Everything, Direction::Both).unwrap();
    let cut = Instant::now();
    fixture.say(&format!("{} is cut off from the API server and its peers, {} from everything", lost[0], lost[1]));

    // The negative control meanwhile: attempts that share a directory, retried in the leaking process.
    fixture.until("the build with a shared directory is refused its own lock", Duration::from_secs(90), |fixture| {
        let record = fixture.slots(NAMESPACE, "stuck").first().cloned().unwrap_or_default();
        let said = record["status"]["report"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
        if said.contains("lock hold by current process") { Ok(()) } else { Err(record["status"].to_string()) }
    });
    fixture.until("Kubernetes has noticed", Duration::from_secs(100), |fixture| {
        let node = fixture.cluster.get(&["node", &lost[0]]).map_err(|error| error.to_string())?;
        let ready = indexbuild_testbed::condition(&node, "Ready").to_owned();
        if ready == "Unknown" { Ok(()) } else { Err(ready) }
    });
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));

    // A partition shorter than the patience changes nothing.
    for (name, before) in [("cut", &before), ("cut-too", &before_too)] {
        let now = fixture.slots(NAMESPACE, name)[1].clone();
        assert_eq!(now["spec"]["grant"], before["spec"]["grant"], "{name}: the owner is kept");
        assert_eq!(now["spec"]["volume"], before["spec"]["volume"], "{name}: and its volume");
        let build = fixture.read(name);
        assert!(message(&build, "Ready").contains("silent"), "what is waited for is told: {}", build["status"]);
    }
    for node in &lost {
        fixture.cluster.heal(node).unwrap();
    }
    let length = cut.elapsed();
    fixture.say(&format!("healed after {:.1} s", length.as_secs_f64()));

    let ended = builds.map(|(name, ..)| fixture.complete(name, Duration::from_secs(180)));
    let [took, took_too, calm, calm_too] = ended.each_ref().map(duration);
    for (name, build, lasted, undisturbed, allowed) in [
        ("the store reachable", &ended[0], took, calm, calm.mul_f64(0.05)),
        ("the store not reachable", &ended[1], took_too, calm_too, length + Duration::from_secs(15)),
    ] {
        let rebuilt = fixture.watcher.rebuilt(text(build, "/metadata/uid"));
        let lost = lasted.saturating_sub(undisturbed);
        fixture.say(&format!(
            "{name}: {:.1} s, undisturbed {:.1} s, lost {:.1} s of {:.1} s allowed; {rebuilt} rows rebuilt",
            lasted.as_secs_f64(),
            undisturbed.as_secs_f64(),
            lost.as_secs_f64(),
            allowed.as_secs_f64()
        ));
        assert_eq!(fixture.watcher.rows(text(build, "/metadata/uid")), ROWS, "{name}: what was sealed is the table");
        assert_eq!(rebuilt, 0, "{name}: rows that were sealed are not encoded again");
        assert!(lost <= allowed, "{name}: {lost:?} were lost, {allowed:?} are allowed");
        assert_eq!(build["status"]["failedAttempts"], Value::Null, "{name}: nothing of it counts as a failure");
        assert_eq!(build["status"]["rows"], ROWS);
    }
    for (name, ..) in builds {
        fixture.assert_same_as_local(NAMESPACE, name);
    }
    let stuck = fixture.read("stuck");
    assert!(!crate::support::holds(&stuck, "Complete"), "the control ends: {}", stuck["status"]);
    let uid = text(&stuck, "/metadata/uid").to_owned();
    let refused = fixture.slots(NAMESPACE, "stuck")[0].clone();
    assert!(refused["status"]["report"].to_string().contains("lock hold by current process"), "{refused}");
    fixture.kubectl(&["delete", "ib", "stuck", "--wait=false"]);
    fixture.assert_gone(NAMESPACE, "stuck", &uid, Duration::from_secs(40));
    fixture.assert_within_rights();
    fixture.say("done");
}

/// Attempts that share one directory, and a retry in the process that leaks: what the system of the incident did.
fn stuck(fixture: &Fixture) -> Value {
    let mut build = fixture.build("stuck", "twice", 1);
    build["spec"]["indexes"] =
        json!([{"name": "by_k", "columns": [{"name": "k"}]}, {"name": "by_c", "columns": [{"name": "c"}]}]);
    build["spec"]["executor"]["nodeSelector"] = json!({"group": "c"});
    switch(&mut build, &json!({"shareAttemptDirectory": true, "leakEngineHandle": true}));
    build
}

/// Whether an engine is open in the attempt in hand: its folder is on the volume.
fn leaks(fixture: &Fixture, record: &Value) -> bool {
    let files = fixture.watcher.files_of_volumes(text(record, "/spec/buildUID"));
    let attempt =
        format!("/{}-{}/engine/LOCK", record["spec"]["grant"]["epoch"], text(record, "/spec/grant/bootNonce"));
    files.iter().any(|file| file.ends_with(&attempt))
}

/// From a build's first status to its end.
fn duration(build: &Value) -> Duration {
    let at = |field: &str| {
        let output = std::process::Command::new("date").args(["+%s.%N", "-d", text(&build["status"], field)]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().parse::<f64>().unwrap()
    };
    Duration::from_secs_f64(at("/finishTime") - at("/startTime"))
}
