//! The operator: observes builds on the Kubernetes API, asks the lifecycle what to do, and does it.
//!
//! [`controller::run`] is the process. A pass over a build is [`reconcile::reconcile`]: observe, plan, execute,
//! report; it decides nothing itself. Words: `docs/glossary.md`.

mod admin;
mod caches;
pub mod check;
pub mod client;
mod controller;
mod ended;
mod error;
pub mod events;
mod execute;
pub mod leader;
mod memory;
pub mod metrics;
pub mod objects;
mod observe;
mod orphans;
mod provide;
mod reconcile;
mod reporting;
pub mod self_test;
pub mod shallow;
mod test_switches;
mod trouble;
mod unreadable;
pub mod views;

pub use controller::{OperatorConfig, RunError, run, run_with};
pub use test_switches::TestSwitches;
