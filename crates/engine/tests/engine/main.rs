//! The data path from rows to files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adoption;
mod content;
mod faults;
mod support;
mod volumes;
