//! The operator: observes builds on the Kubernetes API, asks the lifecycle what to do, and does it.
//!
//! [`controller::run`] is the process. A pass over a build is [`reconcile::reconcile`]: observe, plan, apply,
//! report; it decides nothing itself. Words: `docs/glossary.md`.

mod admin;
mod apply;
mod attachments;
mod budget;
mod caches;
mod changes;
pub mod check;
pub mod client;
mod context;
mod controller;
mod error;
pub mod events;
mod foreign;
mod hindrances;
pub mod leader;
mod memory;
pub mod metrics;
pub mod objects;
mod observe;
mod orphans;
mod plan;
mod pod_ends;
mod prerequisites;
mod reconcile;
mod report;
mod reporting;
pub mod self_test;
mod server_time;
pub mod shallow;
mod test_switches;
mod turns;
mod unreadable;
mod unstarted;
pub mod views;

pub use budget::WRITES_PER_SECOND;
pub use controller::{OperatorConfig, RunError, run, run_with};
pub use test_switches::TestSwitches;
