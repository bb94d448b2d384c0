//! The chart: what it renders, and which rights it gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/rendered.rs"]
mod rendered;
#[path = "chart/rights.rs"]
mod rights;
#[path = "chart/schemas.rs"]
mod schemas;
#[path = "chart/mod.rs"]
mod support;
