//! `kubectl indexbuild suspend` and `resume`: `spec.suspend`, and nothing else.

use std::process::ExitCode;

use clap::Args;
use indexbuild_api::{ConditionStatus, ConditionType, Guarded, IndexBuild};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, ClusterArgs, ask};

/// Pause a build: its executors end, its volumes stay
#[derive(Debug, Args)]
#[command(after_help = "\
It sets spec.suspend: true. Executors seal what they are at and end; their volumes stay, so that nothing sealed is lost.
A build that a GitOps tool applies is paused in its repository instead: the tool would undo this.

Examples:
  kubectl indexbuild suspend orders -n shop
  kubectl wait --for=jsonpath={.status.phase}=Suspended indexbuild/orders -n shop")]
pub(super) struct SuspendArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Let a paused build go on
#[derive(Debug, Args)]
#[command(after_help = "\
It sets spec.suspend: false. What was sealed is adopted from the volumes.

Examples:
  kubectl indexbuild resume orders -n shop")]
pub(super) struct ResumeArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn suspend(args: SuspendArgs) -> anyhow::Result<ExitCode> {
    let SuspendArgs { build, cluster } = args;
    set(&build, &cluster, true)
}

pub(super) fn resume(args: ResumeArgs) -> anyhow::Result<ExitCode> {
    let ResumeArgs { build, cluster } = args;
    set(&build, &cluster, false)
}

fn set(name: &str, cluster: &ClusterArgs, suspend: bool) -> anyhow::Result<ExitCode> {
    let said = ask(cluster, async |cluster: Cluster| {
        let build = cluster.build(name).await?;
        let place = format!("{}/{name}", cluster.namespace);
        let status = build.status.as_ref();
        let finished = status.and_then(|status| status.condition(ConditionType::Finished));
        if suspend && finished.is_some_and(|finished| finished.status == ConditionStatus::True) {
            anyhow::bail!(
                "build {place} has ended: there is nothing to pause; `kubectl describe ib {name} -n {}` says how",
                cluster.namespace
            );
        }
        if build.spec.suspend == suspend {
            return Ok(format!("build {place} {} already", if suspend { "is paused" } else { "is not paused" }));
        }
        // By UID: another build may have the name by now.
        let patch = json!({"metadata": {"uid": build.uid()}, "spec": {"suspend": suspend}});
        let parameters = PatchParams { field_manager: Some("kubectl-indexbuild".to_owned()), ..PatchParams::default() };
        let patched = cluster.api::<Guarded<IndexBuild>>().patch(name, &parameters, &Patch::Merge(patch)).await;
        patched.map_err(|error| cluster.failed(&format!("change spec.suspend of build {place}"), &error))?;
        Ok(if suspend {
            format!(
                "build {place} is paused: its executors end, its volumes stay; `kubectl indexbuild resume {name}` lets it go on"
            )
        } else {
            format!("build {place} goes on")
        })
    })?;
    crate::output::text(&format!("{said}\n"))?;
    Ok(ExitCode::SUCCESS)
}
