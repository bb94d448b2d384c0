//! Disruptions at short clocks, on one cluster of four nodes: first what needs no partition, then a node that is cut
//! off and one that crashes, at last three of four nodes lost.

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, switch};
use crate::{damage, many_nodes_lost, partition, resize, restart, rows_per_second};

/// One Encode work of ten splits.
pub(crate) const SMALL: u64 = 20_000;
/// Two Encode works of 25 splits.
pub(crate) const HALVES: u64 = 100_000;
/// Some ten Encode works of five splits each.
pub(crate) const WIDE: u64 = 100_000;

pub(crate) fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 4, ..Options::default() }, 12);
    // Files of 2,000 rows: each is a split.
    fixture.table("small", SMALL, 10, &["--columns", "id,k"]);
    fixture.table("halves", HALVES, 50, &["--columns", "id,k"]);
    fixture.table("wide", WIDE, 50, &["--columns", "id,k,c"]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    for (port, namespace, switches) in [
        (8081, partition::FORGETFUL, json!({"forgetStranded": true})),
        (8082, partition::TRUSTING, json!({"trustSilence": true})),
        (8083, partition::CREDULOUS, json!({"takeAnyReport": true})),
        (8084, many_nodes_lost::BLIND, json!({"believeNodesReady": true})),
    ] {
        fixture.namespace(namespace);
        fixture.start_operator(OperatorOptions::of(namespace, port).with(switches));
    }
    fixture.say("operators run");

    let mut started = Vec::new();
    started.extend(resize::builds(&fixture));
    started.extend(damage::builds(&fixture));
    started.extend(restart::builds(&fixture));
    started.extend(rows_per_second::builds(&fixture));
    fixture.cluster.apply(&started).unwrap();
    // Side by side: each has to reach its build in the midst of its work, however slow the others' waits are.
    let hurried = std::thread::scope(|scope| {
        let hurried = scope.spawn(|| rows_per_second::raise(&fixture));
        scope.spawn(|| restart::kill(&fixture));
        scope.spawn(|| damage::hurt(&fixture));
        scope.spawn(|| resize::lose_a_slot(&fixture));
        resize::resize(&fixture);
        hurried.join().unwrap()
    });
    restart::check(&fixture);
    damage::check(&fixture);
    resize::check(&fixture);
    fixture.say("killed, damaged and resized builds are done");

    partition::run(&mut fixture);
    many_nodes_lost::run(&fixture);
    rows_per_second::check(&fixture, &hurried);
    fixture.assert_within_rights();
    fixture.say("done");
}

/// A build of the small table: one Encode work at so many rows a second, each split a run of its own.
pub(crate) fn slow(fixture: &Fixture, name: &str, slots: u32, rate: u32) -> Value {
    let mut build = fixture.build(name, "small", slots);
    // The limit is the build's, and divided among its slots; one of them has all the work.
    build["spec"]["rowsPerSecond"] = json!(rate * slots);
    build["spec"]["disruption"] = json!({"replaceAfter": "25s", "orphanAfter": "300s"});
    switch(&mut build, &json!({"runBytes": 1}));
    build
}
