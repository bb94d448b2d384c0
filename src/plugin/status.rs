//! `kubectl indexbuild status`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indexbuild_api::{Condition, ConditionStatus, ConditionType, EngineDirectory, IndexBuild, IndexBuildStatus, apart};
use indexbuild_text::one_line;
use indexbuild_timeline::{Timeline, text};
use kube::ResourceExt as _;
use serde::Serialize;

use super::Output;
use super::table::{Cells, age, or_none, table};
use crate::cluster::{Cluster, ClusterArgs, Follow, ask, no_operator, note_unreadable, ownership};

/// Show builds, or one build with its slots and who owned what
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl indexbuild status
  kubectl indexbuild status --all-namespaces -o json
  kubectl indexbuild status orders -n shop")]
pub(super) struct StatusArgs {
    /// The build; without one, all builds of the namespace
    #[arg(value_name = "BUILD")]
    build: Option<String>,
    /// Builds of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["build", "namespace"])]
    all_namespaces: bool,
    /// The Lease by which the operator leads, where neither the build's records nor the cluster's Leases tell it
    #[arg(long, value_name = "NAMESPACE/NAME")]
    operator_lease: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    build: IndexBuild,
    directories: Vec<EngineDirectory>,
    timeline: Timeline,
    /// That no operator runs, where that is so and may be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_operator: Option<String>,
}

pub(super) fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let StatusArgs { build, all_namespaces, operator_lease, output, cluster } = args;
    let lease = operator_lease.as_deref();
    match build {
        None => {
            let builds = ask(&cluster, async |cluster: Cluster| {
                let builds = cluster.builds(all_namespaces).await?;
                if builds.is_empty() && !all_namespaces {
                    crate::output::note(&format!("no builds in namespace {}", cluster.namespace));
                }
                let (builds, unreadable) = apart(builds);
                note_unreadable(&unreadable);
                if let Some(said) = no_operator(&cluster, lease).await {
                    crate::output::note(&said);
                }
                Ok(builds.into_iter().map(Arc::unwrap_or_clone).collect::<Vec<_>>())
            })?;
            output.write(&builds, |builds, cells| list(builds, all_namespaces, cells))?;
        }
        Some(name) => {
            let detail = ask(&cluster, async |cluster: Cluster| {
                let build = cluster.build(&name).await?;
                let (directories, unreadable) = cluster.records(&build).await?;
                note_unreadable(&unreadable);
                let timeline = ownership(&cluster, &build, Follow::No, crate::output::note).await?;
                let no_operator = no_operator(&cluster, lease).await;
                Ok(Detail { build, directories, timeline, no_operator })
            })?;
            output.write(&detail, |detail, _| show(detail))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status_of(build: &IndexBuild) -> IndexBuildStatus {
    build.status.clone().unwrap_or_default()
}

fn ready(status: &IndexBuildStatus) -> Option<&Condition> {
    status.condition(ConditionType::Ready)
}

fn list(builds: &[IndexBuild], namespaces: bool, cells: Cells) -> String {
    let head = ["namespace", "name", "ready", "phase", "progress", "executors", "rows", "age", "message"];
    let rows = builds.iter().map(|build| {
        let status = status_of(build);
        let mut row = Vec::new();
        if namespaces {
            row.push(build.namespace().unwrap_or_default());
        }
        row.extend([
            build.name_any(),
            or_none(ready(&status).map(|ready| ready.status)),
            or_none(status.phase),
            or_none(status.progress.clone()),
            or_none(status.executors.clone()),
            or_none(status.rows),
            age(build.metadata.creation_timestamp.as_ref()),
            or_none(ready(&status).map(|ready| cells.message(&ready.message))),
        ]);
        row
    });
    table(if namespaces { &head } else { &head[1..] }, rows)
}

fn show(detail: &Detail) -> String {
    let Detail { build, directories, timeline, no_operator } = detail;
    let status = status_of(build);
    // What is cut here stands below in full.
    let mut out = list(std::slice::from_ref(build), true, Cells::Short);
    if let Some(said) = no_operator {
        out.push_str(&format!("\nATTENTION: {said}\n"));
    }
    out.push_str("\nCONDITIONS\n");
    let said = status.conditions.iter().filter(|condition| tells_something(condition));
    out.push_str(&table(
        &["type", "status", "reason", "message"],
        said.map(|condition| {
            let Condition { condition_type, status, reason, message, last_transition_time: _, observed_generation: _ } =
                condition;
            vec![condition_type.to_string(), status.to_string(), reason.to_string(), message.clone()]
        }),
    ));
    if let Some(manifest) = &status.manifest {
        out.push_str(&format!("\nThe index: {}\n", manifest.url));
    }
    if let Some(error) = &status.last_error {
        out.push_str(&format!("\nLast error, of {}: {}: {}\n", error.work_id, error.reason, one_line(&error.message)));
    }
    out.push_str("\nSLOTS\n");
    out.push_str(&table(
        &["slot", "epoch", "owner", "work", "state", "done", "node", "volume", "waits for"],
        directories.iter().map(slot),
    ));
    if !timeline.spans.is_empty() {
        out.push_str("\nWHO OWNED WHAT\n");
        out.push_str(&text(timeline));
    }
    out
}

/// Whether a condition says more than that nothing is wrong.
fn tells_something(condition: &Condition) -> bool {
    let Condition { condition_type, status, .. } = condition;
    match condition_type {
        ConditionType::Ready | ConditionType::OwnershipEnforced => true,
        ConditionType::Stalled
        | ConditionType::Failed
        | ConditionType::VolumesHeld
        | ConditionType::Complete
        | ConditionType::Waiting
        | ConditionType::Other(_) => *status == ConditionStatus::True,
        ConditionType::Reconciling | ConditionType::Finished | ConditionType::Progressing => false,
    }
}

fn slot(directory: &EngineDirectory) -> Vec<String> {
    let status = directory.status.clone().unwrap_or_default();
    let spec = &directory.spec;
    let grant = spec.grant.as_ref();
    let report = status.report.as_ref().filter(|report| grant.is_some_and(|grant| grant.epoch == report.epoch));
    let progress = report.and_then(|report| report.progress).map(|progress| format!("{:.0}%", progress * 100.0));
    let waiting = status.conditions.iter().find(|condition| {
        condition.condition_type == ConditionType::Waiting && condition.status == ConditionStatus::True
    });
    let of_owner = report.and_then(|report| report.waiting.as_ref()).map(|waiting| waiting.message.clone());
    vec![
        spec.slot.to_string(),
        or_none(grant.map(|grant| grant.epoch)),
        or_none(grant.map(|grant| grant.pod_name.clone())),
        or_none(spec.work.as_ref().map(|work| work.id.clone())),
        status.state.to_string(),
        or_none(progress),
        or_none(grant.map(|grant| grant.node_name.clone()).filter(|node| !node.is_empty())),
        or_none(spec.volume.as_ref().map(|volume| volume.claim_name.clone())),
        or_none(waiting.map(|waiting| waiting.message.clone()).or(of_owner)),
    ]
}
