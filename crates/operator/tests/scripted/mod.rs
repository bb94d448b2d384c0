//! What the tests of the operator on a control plane without nodes share: a scripted kubelet and scripted owners,
//! which follow the protocol by the same writes as real ones, and a ledger of everything that was made and removed.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod bench;
mod containers;
pub(crate) mod deputy;
pub(crate) mod later_version;
pub(crate) mod ledger;
pub(crate) mod machine;
pub(crate) mod owner;
pub(crate) mod provisioner;
pub(crate) mod release;
pub(crate) mod store;

pub(crate) use bench::Bench;
pub(crate) use machine::Script;
