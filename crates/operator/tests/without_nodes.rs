//! The operator on a control plane without nodes, with scripted owners: what it writes when there is nothing to do, at
//! each of its writes, and when builds are deleted. One program, as each takes minutes to compile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "without_nodes/deletion.rs"]
mod deletion;
#[path = "without_nodes/former_leader.rs"]
mod former_leader;
#[path = "without_nodes/late_start.rs"]
mod late_start;
#[path = "without_nodes/lost_node.rs"]
mod lost_node;
#[path = "without_nodes/quiet.rs"]
mod quiet;
#[path = "without_nodes/readable.rs"]
mod readable;
#[path = "without_nodes/refused.rs"]
mod refused;
#[path = "without_nodes/released.rs"]
mod released;
#[path = "without_nodes/restart.rs"]
mod restart;
mod scripted;
#[path = "without_nodes/stages.rs"]
mod stages;
#[path = "without_nodes/sweep.rs"]
mod sweep;
#[path = "without_nodes/times.rs"]
mod times;
#[path = "without_nodes/unreadable.rs"]
mod unreadable;
