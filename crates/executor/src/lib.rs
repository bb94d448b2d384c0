//! One owner's life: claim, work, report, give way.
//!
//! [`run`] is a process's whole life. What it may do next is decided by
//! [`indexbuild_lifecycle::owner`]; here it is done. Work runs on threads of its own; the loop that
//! watches the record never waits for it. Words: `docs/glossary.md`.

mod access;
mod assemble;
mod attempt;
mod attempt_state;
pub mod backoff;
mod config;
pub mod control;
mod coverage;
pub mod definitions;
mod exit;
pub mod failure;
mod grace;
pub mod kubernetes;
pub mod livez;
pub mod machine;
mod memory_budget;
pub mod mounted_build;
pub mod names;
mod outage;
pub mod plan_file;
mod rate;
mod release;
pub mod results;
mod retry_after;
mod run_loop;
mod source_access;
mod source_changes;
pub mod stats;
mod stored_objects;
mod test_switches;
mod wake;
mod work;

pub use access::{BadCa, StoreAccess};
pub use config::ExecutorConfig;
pub use control::{ContactError, ControlPlane, WriteError};
pub use exit::ExitStatus;
pub use outage::Site;
pub use run_loop::{live, run};
pub use source_changes::{SourceChanges, source_changes};
pub use test_switches::TestSwitches;
