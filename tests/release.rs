//! The life of a release: installed by Helm, tried, at work, upgraded, uninstalled.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "chart/release.rs"]
mod release;
#[path = "chart/rights.rs"]
mod rights;
#[path = "chart/mod.rs"]
mod support;
