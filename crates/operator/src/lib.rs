//! The operator: observes builds on the Kubernetes API, asks the lifecycle what to do, and does it.
//!
//! [`controller::run`] is the process. A pass over a build is [`reconcile::reconcile`]: observe, plan, execute,
//! report; it decides nothing itself. Words: `docs/glossary.md`.

pub mod admin;
pub mod caches;
pub mod check;
pub mod client;
pub mod controller;
pub mod ended;
pub mod error;
pub mod events;
pub mod execute;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod objects;
pub mod observe;
mod orphans;
mod provide;
pub mod reconcile;
mod rim;
pub mod self_test;
pub mod shallow;
pub mod switches;
pub mod trouble;
pub mod unreadable;
pub mod views;

pub use controller::{OperatorConfig, RunError, run, run_with};
