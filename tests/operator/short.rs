//! Disruptions at short clocks, on one cluster of four nodes: first what needs no partition, then a node that is cut
//! off and one that crashes, at last three of four nodes lost.

use indexbuild_testbed::{Options, Tools};
use serde_json::{Value, json};

use crate::support::operator::OperatorOptions;
use crate::support::{NAMESPACE, World, switch};
use crate::{cut, damage, limit, majority, resize, restart};

/// One Encode work of ten splits.
pub(crate) const SMALL: u64 = 20_000;
/// Two Encode works of 25 splits.
pub(crate) const HALVES: u64 = 100_000;
/// Some ten Encode works of five splits each.
pub(crate) const WIDE: u64 = 100_000;

pub(crate) fn run(tools: &Tools) {
    let mut world = World::start(tools, Options { nodes: 4, ..Options::default() }, 12);
    // Files of 2,000 rows: each is a split.
    world.table("small", SMALL, 10, &["--columns", "id,k"]);
    world.table("halves", HALVES, 50, &["--columns", "id,k"]);
    world.table("wide", WIDE, 50, &["--columns", "id,k,c"]);
    world.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    for (port, namespace, switches) in [
        (8081, cut::FORGETFUL, json!({"forgetStranded": true})),
        (8082, cut::TRUSTING, json!({"trustSilence": true})),
        (8083, cut::CREDULOUS, json!({"takeAnyReport": true})),
        (8084, majority::BLIND, json!({"believeNodesReady": true})),
    ] {
        world.namespace(namespace);
        world.start_operator(OperatorOptions::of(namespace, port).with(switches));
    }
    world.say("operators run");

    let mut started = Vec::new();
    started.extend(resize::builds(&world));
    started.extend(damage::builds(&world));
    started.extend(restart::builds(&world));
    started.extend(limit::builds(&world));
    world.cluster.apply(&started).unwrap();
    // Side by side: each has to reach its build in the midst of its work, however slow the others' waits are.
    let hurried = std::thread::scope(|scope| {
        let hurried = scope.spawn(|| limit::raise(&world));
        scope.spawn(|| restart::kill(&world));
        scope.spawn(|| damage::hurt(&world));
        scope.spawn(|| resize::lose_a_slot(&world));
        resize::resize(&world);
        hurried.join().unwrap()
    });
    restart::check(&world);
    damage::check(&world);
    resize::check(&world);
    world.say("killed, damaged and resized builds are done");

    cut::run(&mut world);
    majority::run(&world);
    limit::check(&world, &hurried);
    world.assert_within_rights();
    world.say("done");
}

/// A build of the small table: one Encode work at so many rows a second, each split a run of its own.
pub(crate) fn slow(world: &World, name: &str, slots: u32, rate: u32) -> Value {
    let mut build = world.build(name, "small", slots);
    // The limit is the build's, and divided among its slots; one of them has all the work.
    build["spec"]["rowsPerSecond"] = json!(rate * slots);
    build["spec"]["disruption"] = json!({"replaceAfter": "25s", "orphanAfter": "300s"});
    switch(&mut build, &json!({"runBytes": 1}));
    build
}
