//! An object store that is away for three minutes, refuses for one, or is not there yet: nobody's fault. What is waited for
//! is told, nothing is counted, nothing sealed is lost, and builds go on by themselves (I5).

use std::time::{Duration, Instant};

use indexbuild_testbed::{Direction, Options, Peer, Tools};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, holds, message, switch, text};

/// For how long the store is away.
const AWAY: Duration = Duration::from_secs(180);
/// For how long it refuses.
const REFUSED: Duration = Duration::from_secs(65);
/// A request into nowhere is told of after six seconds, at once, where a read asks every two or three. This is for a machine
/// that other tests share.
const TOLD: Duration = Duration::from_secs(20);
/// A changed secret reaches a pod within the kubelet's sync period and its cache's.
const SECRET_ARRIVES: Duration = Duration::from_secs(180);

/// Held in Encode, Sort and Publish: eight slots in all.
const HELD: [(&str, &str, u32); 3] =
    [("out-encode", "Encode", 4), ("out-sort", "Sort", 2), ("out-publish", "Publish", 2)];

const REFUSED_BUILDS: [&str; 3] = ["rotated", "misnamed", "bucketless"];

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 2, ..Options::default() }, 8);
    // So many bytes that there is work for four slots, and so many files that each asks the store every few seconds.
    fixture.table("orders", 400_000, 400, &["--columns", "id,k"]);
    fixture.table("small", 4_000, 1, &["--columns", "id,k"]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    refused_or_not_there_yet(&fixture);
    let begun = Instant::now();
    hold(&fixture);
    std::thread::sleep(REFUSED.saturating_sub(begun.elapsed()));
    set_right(&fixture);
    away(&fixture);
    for name in REFUSED_BUILDS {
        let build = fixture.complete(name, SECRET_ARRIVES);
        assert_eq!(build["status"]["failedAttempts"], Value::Null, "{name}: nothing is counted");
        fixture.say(&format!("{name} went on by itself"));
    }
    fixture.assert_within_rights();
    fixture.say("done");
}

/// With less patience than the outage lasts.
fn impatient(build: &mut Value) {
    build["spec"]["disruption"] = json!({"replaceAfter": "20s", "orphanAfter": "170s"});
}

/// Builds that are held in their stages, and one in which waiting is off.
fn hold(fixture: &Fixture) {
    let made = HELD.map(|(name, stage, slots)| {
        let mut build = fixture.build(name, "orders", slots);
        impatient(&mut build);
        if stage == "Encode" {
            build["spec"]["rowsPerSecond"] = json!(1_000);
            switch(&mut build, &json!({"runBytes": 1}));
        } else {
            switch(&mut build, &json!({"beginWhenToldIn": stage}));
        }
        build
    });
    let mut control = fixture.build("out-control", "orders", 1);
    impatient(&mut control);
    control["spec"]["rowsPerSecond"] = json!(1_000);
    switch(&mut control, &json!({"neverWaitForStores": true, "runBytes": 1}));
    fixture.cluster.apply(&made).unwrap();
    fixture.cluster.apply(&[control]).unwrap();
    let working = |name: &'static str, stage: &'static str| {
        fixture.until(&format!("{name} is at {stage}"), Duration::from_secs(180), move |fixture| {
            let records = fixture.slots(NAMESPACE, name);
            let at = |record: &&Value| {
                record["spec"]["work"]["kind"] == stage && !text(record, "/spec/grant/bootNonce").is_empty()
            };
            if records.iter().any(|record| at(&record)) { Ok(()) } else { Err(format!("{records:?}")) }
        });
    };
    working("out-sort", "Sort");
    working("out-publish", "Publish");
    for slot in 0..4 {
        fixture.at_work(NAMESPACE, "out-encode", slot, 1);
    }
    fixture.at_work(NAMESPACE, "out-control", 0, 1);
}

fn away(fixture: &Fixture) {
    let cut = Instant::now();
    for node in ["node1", "node2"] {
        fixture.cluster.cut(node, Peer::Store, Direction::Both).unwrap();
        for number in 1..=8 {
            let folder = fixture.cluster.volume_folder(node, &format!("v{}-{number}", &node[4..])).unwrap();
            std::fs::write(folder.join("go"), "").unwrap();
        }
    }
    fixture.say("the store is away");
    for (name, _, _) in HELD {
        fixture.until(&format!("{name} says what it waits for"), TOLD.saturating_sub(cut.elapsed()), |fixture| {
            let build = fixture.read(name);
            let said = message(&build, "Ready");
            let column = fixture
                .slots(NAMESPACE, name)
                .iter()
                .any(|record| message(record, "Waiting").starts_with("\"WaitingForStore\""));
            if said.contains("store, since 2") && column { Ok(()) } else { Err(said) }
        });
        let events = fixture.kubectl(&[
            "get",
            "events",
            "-n",
            NAMESPACE,
            "--field-selector",
            &format!("involvedObject.name={name}"),
        ]);
        assert!(events.contains("WaitingForStore"), "an event of {name}: {events}");
        fixture.say(&format!("{name} told after {:.1} s", cut.elapsed().as_secs_f64()));
    }
    for (name, _, _) in HELD {
        fixture.until(&format!("{name} is stalled"), Duration::from_secs(60), |fixture| {
            let said = message(&fixture.read(name), "Stalled");
            if said.starts_with("\"WaitingForStore\"") { Ok(()) } else { Err(said) }
        });
    }
    // The control, in which waiting is off: the same outage ends it.
    fixture.until("the control has failed", Duration::from_secs(100), |fixture| {
        let build = fixture.read("out-control");
        if holds(&build, "Failed") { Ok(()) } else { Err(build["status"].to_string()) }
    });
    std::thread::sleep(AWAY.saturating_sub(cut.elapsed()));
    for node in ["node1", "node2"] {
        fixture.cluster.heal(node).unwrap();
    }
    fixture.say("the store is back");
    let patch = json!({"spec": {"rowsPerSecond": null}}).to_string();
    fixture.kubectl(&["patch", "ib", "out-encode", "--type=merge", "-p", &patch]);
    for (name, _, slots) in HELD {
        let build = fixture.complete(name, Duration::from_secs(150));
        assert_eq!(build["status"]["failedAttempts"], Value::Null, "{name}: nothing is counted");
        assert!(!holds(&build, "Stalled"), "{name}");
        let uid = text(&build, "/metadata/uid");
        assert_eq!(fixture.watcher.rebuilt(uid), 0, "{name}: nothing sealed is done twice");
        let nonces: std::collections::BTreeSet<String> =
            fixture.watcher.sealed(uid).into_iter().map(|run| run.nonce).collect();
        assert!(nonces.len() <= slots as usize, "{name}: the same processes went on: {nonces:?}");
        fixture.assert_same_as_local(NAMESPACE, name);
    }
}

/// A key that was rotated, a secret whose key has another name, and a bucket that somebody makes later.
fn refused_or_not_there_yet(fixture: &Fixture) {
    let (_, key, secret) = fixture.cluster.object_store();
    let secret_of = |name: &str, keys: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": keys,
        })
    };
    let rotated = secret_of("rotated", json!({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "of-yesterday"}));
    let misnamed = secret_of("misnamed", json!({"AWS_ACCESS_KEY": key, "AWS_SECRET_ACCESS_KEY": secret}));
    fixture.cluster.apply(&[rotated, misnamed]).unwrap();
    let made = REFUSED_BUILDS.map(|name| {
        let mut build = fixture.build(name, "small", 1);
        impatient(&mut build);
        match name {
            "bucketless" => build["spec"]["output"]["url"] = json!("s3://made-later/shop"),
            secret => build["spec"]["source"]["parquet"]["credentials"]["secretName"] = json!(secret),
        }
        build
    });
    fixture.cluster.apply(&made).unwrap();
    for (name, parts) in [
        ("rotated", &["the source's store, since 2", "403 Forbidden"][..]),
        ("misnamed", &["secret misnamed has no AWS_ACCESS_KEY_ID; it has AWS_ACCESS_KEY"]),
        ("bucketless", &["the bucket of s3://made-later/shop", "does not exist; create it"]),
    ] {
        fixture.until(&format!("what {name} waits for is told"), Duration::from_secs(60), |fixture| {
            let said = message(&fixture.read(name), "Stalled");
            let told = said.starts_with("\"WaitingForStore\"") && parts.iter().all(|part| said.contains(part));
            if told { Ok(()) } else { Err(said) }
        });
        fixture.say(&format!("{name} is told"));
    }
}

/// What was missing is supplied; no build is edited.
fn set_right(fixture: &Fixture) {
    let (_, key, secret) = fixture.cluster.object_store();
    for name in ["rotated", "misnamed"] {
        let patch = json!({"stringData": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}}).to_string();
        fixture.kubectl(&["patch", "secret", name, "-n", NAMESPACE, "--type=merge", "-p", &patch]);
    }
    fixture.cluster.bucket("made-later").unwrap();
    fixture.say("keys and bucket are there");
}
