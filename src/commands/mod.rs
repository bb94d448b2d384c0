//! The commands, a file each.

pub mod check;
pub mod completions;
pub mod crd;
mod entries;
pub mod executor;
pub mod exit;
pub mod get;
pub mod ingest;
mod location;
pub mod operator;
pub mod run;
pub mod scan;
pub mod timeline;
pub mod verify;
