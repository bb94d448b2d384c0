//! A build that becomes pods with volumes on three nodes, and is published.

use std::time::Duration;

use indexbuild_testbed::{Options, tools_or_skip};

use crate::support::operator::OperatorOptions;
use crate::support::{NAMESPACE, World};

/// I10: and the index is what a local run over the same source gives.
#[test]
fn a_build_of_four_slots_on_three_nodes_is_published() {
    let Some(tools) = tools_or_skip("a build on three nodes") else { return };
    let mut world = World::start(&tools, Options::default(), 6);
    world.table("orders", 100_000, 8, &[]);
    world.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    world.cluster.apply(&[world.build("orders", "orders", 4)]).unwrap();
    let build = world.complete("orders", Duration::from_secs(100));
    assert_eq!(build["status"]["rows"], 100_000);
    world.assert_same_as_local(NAMESPACE, "orders");
    world.assert_within_rights();
}
