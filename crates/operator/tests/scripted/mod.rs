//! What the tests of the operator on a control plane without nodes share: a scripted kubelet and scripted owners,
//! which follow the protocol by the same writes as real ones, and a ledger of everything that was made and removed.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod bench;
pub mod deputy;
pub mod ledger;
pub mod machine;
pub mod owner;
pub mod provisioner;
pub mod release;
pub mod store;

pub use bench::Bench;
pub use machine::Script;
