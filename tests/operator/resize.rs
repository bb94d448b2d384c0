//! Parallelism 4, 8, 2 while a build runs, and a slot that is to go is killed on its way: no sealed work is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::short_timers::{HALVES, WIDE};
use crate::support::{Fixture, NAMESPACE, switch, text};

const RESIZED: &str = "resized";
/// The control: nothing is taken over, so that the slot that is killed takes its work with it.
const BLIND: &str = "resized-blind";

pub(crate) fn builds(fixture: &Fixture) -> Vec<Value> {
    let mut resized = fixture.build(RESIZED, "wide", 4);
    resized["spec"]["indexes"] = json!([{"name": "by_c", "columns": [{"name": "c"}]}]);
    resized["spec"]["rowsPerSecond"] = json!(2_400);
    switch(&mut resized, &json!({"runBytes": 1}));
    let mut blind = fixture.build(BLIND, "halves", 2);
    blind["spec"]["rowsPerSecond"] = json!(4_000);
    switch(&mut blind, &json!({"runBytes": 1, "adoptNothing": true}));
    vec![resized, blind]
}

fn set(fixture: &Fixture, name: &str, slots: u32) {
    let patch = json!({"spec": {"parallelism": slots}}).to_string();
    fixture.kubectl(&["patch", "ib", name, "--type=merge", "-p", &patch]);
}

fn working(fixture: &Fixture, slots: usize) {
    fixture.until(&format!("{slots} slots work"), Duration::from_secs(90), |fixture| {
        let records = fixture.slots(NAMESPACE, RESIZED);
        let at_work = |record: &&Value| {
            !text(record, "/spec/grant/bootNonce").is_empty() && record["spec"]["work"]["kind"] == "Encode"
        };
        let count = records.iter().filter(at_work).count();
        if count >= slots { Ok(()) } else { Err(format!("{count} work")) }
    });
}

/// The control's slot that is not wanted is killed on its way.
pub(crate) fn lose_a_slot(fixture: &Fixture) {
    let leaving = fixture.at_work(NAMESPACE, BLIND, 1, 3);
    set(fixture, BLIND, 1);
    fixture.cluster.kill_container(text(&leaving, "/spec/grant/podName")).unwrap();
}

pub(crate) fn resize(fixture: &Fixture) {
    working(fixture, 4);
    set(fixture, RESIZED, 8);
    working(fixture, 6);
    // Left alone, it would end its work first.
    let leaving = fixture.at_work(NAMESPACE, RESIZED, 3, 1);
    // Its volume goes with it: others take over what is in the store, which a run is once its sidecar is, a moment after it
    // was sealed. It stands still from then on: what it sealed between this look and its end would be lost with it.
    let (uid, pod) = (text(&leaving, "/spec/buildUID"), text(&leaving, "/spec/grant/podName"));
    fixture.until("what it sealed is in the store", Duration::from_secs(30), |fixture| {
        fixture.cluster.freeze_container(pod, true).map_err(|error| error.to_string())?;
        let nonce = text(&leaving, "/spec/grant/bootNonce");
        let sealed = fixture.watcher.sealed(uid).into_iter().filter(|run| run.nonce == nonce);
        let missing: Vec<_> =
            sealed.filter(|run| fixture.watcher.in_store(uid, &format!("{}.json", run.name)).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        fixture.cluster.freeze_container(pod, false).map_err(|error| error.to_string())?;
        Err(format!("{missing:?}"))
    });
    set(fixture, RESIZED, 2);
    fixture.cluster.kill_container(pod).unwrap();
    fixture.until("the slots that are not wanted are gone", Duration::from_secs(150), |fixture| {
        let left: Vec<_> =
            fixture.slots(NAMESPACE, RESIZED).iter().map(|record| record["spec"]["slot"].clone()).collect();
        if left.len() <= 2 { Ok(()) } else { Err(format!("slots {left:?}")) }
    });
}

pub(crate) fn check(fixture: &Fixture) {
    for (name, rows) in [(RESIZED, WIDE), (BLIND, HALVES)] {
        let build = fixture.complete(name, Duration::from_secs(120));
        assert_eq!(build["status"]["rows"], rows);
        fixture.assert_same_as_local(NAMESPACE, name);
        let rebuilt = fixture.watcher.rebuilt(text(&build, "/metadata/uid"));
        fixture.say(&format!("{name}: {rebuilt} rows rebuilt"));
        if name == RESIZED {
            assert_eq!(rebuilt, 0, "what the slots that went had sealed is taken over");
        } else {
            assert!(rebuilt >= 6_000, "the control: it is encoded again, {rebuilt} rows");
        }
    }
}
