//! A container that is killed: a new pod on the same volume takes over what is sealed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::short_timers::{SMALL, slow};
use crate::support::{Fixture, NAMESPACE, history, switch, text};

const KILLED: &str = "killed";
/// The control: nothing is taken over.
const BLIND: &str = "killed-blind";

pub(crate) fn builds(fixture: &Fixture) -> Vec<Value> {
    let killed = slow(fixture, KILLED, 1, 500);
    let mut blind = slow(fixture, BLIND, 1, 500);
    switch(&mut blind, &json!({"runBytes": 1, "adoptNothing": true}));
    vec![killed, blind]
}

pub(crate) fn kill(fixture: &Fixture) {
    let at_work = [KILLED, BLIND].map(|name| {
        let record = fixture.at_work(NAMESPACE, name, 0, 3);
        fixture.cluster.kill_container(text(&record, "/spec/grant/podName")).unwrap();
        (name, record)
    });
    for (name, record) in at_work {
        fixture.until(&format!("{name} has a new owner on the same volume"), Duration::from_secs(60), |fixture| {
            let now = fixture.slots(NAMESPACE, name)[0].clone();
            let another = now["spec"]["grant"]["podName"] != record["spec"]["grant"]["podName"];
            let same = now["spec"]["volume"] == record["spec"]["volume"];
            if another && same { Ok(()) } else { Err(format!("{} {:?}", now["spec"], history(&now))) }
        });
    }
}

pub(crate) fn check(fixture: &Fixture) {
    let [killed, blind] = [KILLED, BLIND].map(|name| {
        let build = fixture.complete(name, Duration::from_secs(120));
        assert_eq!(build["status"]["rows"], SMALL);
        fixture.assert_same_as_local(NAMESPACE, name);
        fixture.watcher.rebuilt(text(&build, "/metadata/uid"))
    });
    fixture.say(&format!("killed: {killed} rows rebuilt, {blind} where nothing is taken over"));
    assert_eq!(killed, 0, "sealed runs are taken over");
    assert!(blind >= 3 * SMALL / 10, "the control: what was sealed is encoded again, {blind} rows");
}
