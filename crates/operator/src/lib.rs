//! The operator: observes builds on the Kubernetes API, asks the lifecycle what to do, and does it.

pub mod admin;
pub mod client;
pub mod events;
pub mod leader;
pub mod metrics;
pub mod self_test;
