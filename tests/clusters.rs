//! On real clusters, two tests at once: the chart and its release, who may write what, the plugin, and a build that is
//! published. One program, as they wait for most of their time, and as each program takes long to compile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chart;
mod common;
#[path = "gitops/judge.rs"]
mod judge;
mod ownership;
#[path = "operator/plugin.rs"]
mod plugin;
#[path = "operator/published.rs"]
mod published;
#[path = "operator/mod.rs"]
mod support;
