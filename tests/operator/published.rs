//! A build that becomes pods with volumes on three nodes, and is published.

use std::time::Duration;

use indexbuild_testbed::{Options, tools_or_skip};

use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE};

/// I10: and the index is what a local run over the same source gives.
#[test]
fn a_build_of_four_slots_on_three_nodes_is_published() {
    let Some(tools) = tools_or_skip("a build on three nodes") else { return };
    let mut fixture = Fixture::start(&tools, Options::default(), 6);
    fixture.table("orders", 100_000, 8, &[]);
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    fixture.cluster.apply(&[fixture.build("orders", "orders", 4)]).unwrap();
    let build = fixture.complete("orders", Duration::from_secs(100));
    assert_eq!(build["status"]["rows"], 100_000);
    fixture.assert_same_as_local(NAMESPACE, "orders");
    fixture.assert_within_rights();
}
