//! One owner's life: claim, work, report, give way.
//!
//! [`run`] is a process's whole life. What it may do next is decided by
//! [`indexbuild_lifecycle::owner`]; here it is done. Work runs on threads of its own; the loop that
//! watches the record never waits for it.

pub mod config;
pub mod control;
pub mod exit;
mod life;

pub use config::{BadSwitches, ExecutorConfig, TestSwitches};
pub use control::{ContactError, ControlPlane, WriteError};
pub use exit::ExitStatus;
pub use life::run;
