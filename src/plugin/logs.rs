//! `kubectl indexbuild logs`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use indexbuild_api::labels;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::LogParams;

use crate::cluster::{Cluster, ClusterArgs, ask, note_unreadable};

/// Show what the executors of a build log
#[derive(Debug, Args)]
#[command(after_help = "\
Pods of a build, those that have ended too as long as their objects are there; each line begins with its pod's name.

Examples:
  kubectl indexbuild logs orders -n shop
  kubectl indexbuild logs orders -n shop --slot 2 --follow
  kubectl indexbuild logs orders -n shop --tail 20")]
pub(super) struct LogsArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    /// One slot alone
    #[arg(long, value_name = "N")]
    slot: Option<u32>,
    /// Go on as more is logged
    #[arg(short, long)]
    follow: bool,
    /// The last lines of each pod alone
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let LogsArgs { build, slot, follow, tail, cluster } = args;
    ask(&cluster, async |cluster: Cluster| {
        let found = cluster.build(&build).await?;
        let (pods, unreadable) = cluster.objects::<Pod>(&found, "the pods").await?;
        note_unreadable(&unreadable);
        let wanted = slot.map(|slot| slot.to_string());
        let pods: Vec<String> = pods
            .iter()
            .filter(|pod| wanted.is_none() || pod.labels().get(labels::SLOT) == wanted.as_ref())
            .map(kube::ResourceExt::name_any)
            .collect();
        if pods.is_empty() {
            let of = slot.map(|slot| format!(" of slot {slot}")).unwrap_or_default();
            bail!(
                "build {}/{build} has no pods{of} now; `kubectl indexbuild status {build}` says what it is doing",
                cluster.namespace
            );
        }
        let parameters = LogParams { follow, tail_lines: tail.map(i64::from), ..LogParams::default() };
        let mut lines = futures::stream::select_all(
            pods.into_iter().map(|pod| Box::pin(of_pod(&cluster, pod, parameters.clone()))),
        );
        while let Some(line) = lines.next().await {
            crate::output::text(&line)?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The lines of a pod. One whose log cannot be read says so, and hides no other.
fn of_pod(cluster: &Cluster, pod: String, parameters: LogParams) -> impl futures::Stream<Item = String> + use<> {
    let cluster = cluster.clone();
    let opened = async move {
        let opened = cluster.api::<Pod>().log_stream(&pod, &parameters).await;
        match opened {
            Ok(log) => {
                let said = move |line: std::io::Result<String>| match line {
                    Ok(line) => format!("{pod} {line}\n"),
                    Err(error) => format!("{pod} (its log ends here: {error})\n"),
                };
                log.lines().map(said).boxed_local()
            }
            Err(error) => {
                crate::output::note(&format!("{}", cluster.failed(&format!("read the log of pod {pod}"), &error)));
                futures::stream::empty().boxed_local()
            }
        }
    };
    futures::stream::once(opened).flatten()
}
