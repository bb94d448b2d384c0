//! A build on one machine: pods are child processes, volumes are folders, the record of ownership is
//! a file that the parent alone writes. The decisions are `indexbuild-lifecycle`'s; here is what is
//! observed for it, and what carries its actions out. Words: `docs/glossary.md`.

mod build;
pub mod child;
mod client;
mod collect;
mod execute;
mod folder;
mod hub;
mod inject;
mod journal;
mod observe;
mod options;
mod parent;
mod pods;
mod process;
pub mod progress;
mod protocol;
mod records;
mod requested_fault;
pub mod run;
mod server;
mod source_now;
pub mod summary;
mod test_switches;
mod view;
mod volumes;

pub use child::{ChildArgs, child};
pub use client::ParentClient;
pub use folder::StateError;
pub use options::{Overrides, RunError, RunOptions};
pub use progress::{Progress, ProgressSink, SlotProgress};
pub use requested_fault::{Fault, ParseFaultError};
pub use run::{run, state_folder};
pub use summary::{ChildSummary, RunSummary, StageSummary};
