//! `rowsPerSecond` is raised while a build runs: the process at work follows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::short_timers::{SMALL, slow};
use crate::support::{Fixture, NAMESPACE, holds, prefer, text};

const HURRIED: &str = "hurried";
/// The control: nobody raises its limit.
const LEFT_ALONE: &str = "left-alone";

/// Builds that take half an hour, on a node that nothing happens to.
pub(crate) fn builds(fixture: &Fixture) -> Vec<Value> {
    let made = [HURRIED, LEFT_ALONE].map(|name| {
        let mut build = slow(fixture, name, 1, 10);
        prefer(&mut build, "node1");
        build
    });
    made.to_vec()
}

/// Raises the limit once both are at work. Returns the record of the process that is.
pub(crate) fn raise(fixture: &Fixture) -> Value {
    let [hurried, _] = [HURRIED, LEFT_ALONE].map(|name| fixture.at_work(NAMESPACE, name, 0, 0));
    let patch = json!({"spec": {"rowsPerSecond": 1_000_000}}).to_string();
    fixture.kubectl(&["patch", "ib", HURRIED, "--type=merge", "-p", &patch]);
    hurried
}

/// The kubelet brings a changed file to a pod within a minute and a half.
pub(crate) fn check(fixture: &Fixture, before: &Value) {
    let build = fixture.complete(HURRIED, Duration::from_secs(120));
    assert_eq!(build["status"]["rows"], SMALL);
    let attempts = fixture.watcher.results(text(before, "/spec/buildUID"), "encode-0");
    let nonce = text(before, "/spec/grant/bootNonce");
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert!(attempts.keys().all(|attempt| attempt.ends_with(nonce)), "the process that was at work: {attempts:?}");
    let control = fixture.read(LEFT_ALONE);
    assert!(!holds(&control, "Complete"), "{}", control["status"]);
    fixture.say(&format!("hurried: complete; the one left alone: {}", control["status"]["progress"]));
}
