//! The operator on real clusters: builds that become pods with volumes, and what becomes of them when nodes, the API
//! server or the object store are cut off. Scenarios share clusters where they do not disturb each other, and clusters run
//! side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

#[path = "operator/api_server_outage.rs"]
mod api_server_outage;
#[path = "operator/blocked_builds.rs"]
mod blocked_builds;
#[path = "operator/damage.rs"]
mod damage;
#[path = "operator/deletion.rs"]
mod deletion;
#[path = "operator/detached.rs"]
mod detached;
#[path = "operator/drain.rs"]
mod drain;
#[path = "operator/evictions.rs"]
mod evictions;
#[path = "operator/incident.rs"]
mod incident;
#[path = "operator/late_start.rs"]
mod late_start;
#[path = "../crates/operator/tests/scripted/later_version.rs"]
mod later_version;
#[path = "operator/many_nodes_lost.rs"]
mod many_nodes_lost;
#[path = "operator/partition.rs"]
mod partition;
#[path = "operator/resize.rs"]
mod resize;
#[path = "operator/restart.rs"]
mod restart;
#[path = "operator/rows_per_second.rs"]
mod rows_per_second;
#[path = "operator/short_timers.rs"]
mod short_timers;
#[path = "operator/skew.rs"]
mod skew;
#[path = "operator/store_outage.rs"]
mod store_outage;
#[path = "operator/mod.rs"]
mod support;

use indexbuild_testbed::tools_or_skip;

#[test]
fn a_hindrance_is_told_deletion_leaves_nothing_and_executors_outlast_the_api_server_i5_i9() {
    let Some(tools) = tools_or_skip("hindrances, deletion, and an API server that is away") else { return };
    api_server_outage::run(&tools);
}

#[test]
fn an_owner_that_begins_after_its_node_rebooted_is_not_proved_gone_i4() {
    let Some(tools) = tools_or_skip("a reboot between binding and start") else { return };
    late_start::run(&tools);
}

#[test]
fn a_detach_proves_an_owner_gone_only_of_a_driver_whose_detach_cuts_the_node_off_i4_i10() {
    let Some(tools) = tools_or_skip("volumes that are detached from a node that runs on, or crashed") else { return };
    detached::run(&tools);
}

#[test]
fn the_incident_on_real_nodes_loses_no_row_and_hardly_any_time_i1_i7_i10_g9() {
    let Some(tools) = tools_or_skip("the incident on real nodes") else { return };
    incident::run(&tools);
}

#[test]
fn owners_that_end_are_cut_off_or_return_lose_no_sealed_work_and_no_volume_is_destroyed_without_proof_i3_i4_i9() {
    let Some(tools) = tools_or_skip("disruptions at short clocks") else { return };
    short_timers::run(&tools);
}

#[test]
fn owners_that_are_drained_while_no_operator_runs_are_not_waited_for_i4_i9_i10() {
    let Some(tools) = tools_or_skip("drains of a node while the operator is away") else { return };
    drain::run(&tools);
}

#[test]
fn a_store_that_is_away_or_refuses_is_waited_for_told_and_never_counted_i5() {
    let Some(tools) = tools_or_skip("an object store that is away") else { return };
    store_outage::run(&tools);
}
