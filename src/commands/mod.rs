//! The commands, a file each.

pub(crate) mod check;
mod cleanup;
pub(crate) mod completions;
pub(crate) mod crd;
mod entries;
pub(crate) mod executor;
pub(crate) mod exit;
pub(crate) mod get;
mod index_location;
pub(crate) mod ingest;
pub(crate) mod operator;
pub(crate) mod run;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod timeline;
pub(crate) mod verify;
