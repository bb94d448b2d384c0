//! `kubectl indexbuild cancel`: the deletion of a build before its commit. There is no other way to give one up.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use indexbuild_api::{ConditionStatus, ConditionType, DeletionPolicy, Guarded, IndexBuild};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};

use crate::cluster::{Cluster, ClusterArgs, ask};

/// Give a build up before its commit: no index, and nothing of it stays
#[derive(Debug, Args)]
#[command(after_help = "\
It deletes the IndexBuild, as `kubectl delete indexbuild` does, but only if there is no index yet, and by its UID. The
operator then writes a tombstone, so that no late commit can revive the build, removes what was written, and ends the
executors; volumes go as spec.volume.retention.whenDeleted says. A pause, which keeps everything, is `suspend`.

Examples:
  kubectl indexbuild cancel orders -n shop
  kubectl indexbuild cancel orders -n shop --yes --wait 5m")]
pub(super) struct CancelArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Wait at most so long until it is gone, as 90s or 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn time(text: &str) -> Result<Duration, String> {
    text.parse::<indexbuild_api::Duration>()
        .map(|time| Duration::from_millis(time.as_millis()))
        .map_err(|error| format!("{error}: write 90s or 5m"))
}

pub(super) fn run(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let CancelArgs { build: name, yes, wait, cluster } = args;
    ask(&cluster, async |cluster: Cluster| {
        let build = cluster.build(&name).await?;
        let place = format!("{}/{name}", cluster.namespace);
        let status = build.status.clone().unwrap_or_default();
        let complete = status.condition(ConditionType::Complete);
        if complete.is_some_and(|complete| complete.status == ConditionStatus::True) {
            let policy = match build.spec.output.deletion_policy {
                DeletionPolicy::Retain => "keeps the index (spec.output.deletionPolicy: Retain)",
                DeletionPolicy::Delete => "also removes the index (spec.output.deletionPolicy: Delete)",
            };
            bail!(
                "build {place} is complete: there is nothing to cancel; `kubectl delete indexbuild {name} -n {}` {policy}",
                cluster.namespace
            );
        }
        if !yes && !confirmed(&place, status.progress.as_deref().unwrap_or("0%"))? {
            bail!("build {place} is not cancelled");
        }
        let uid = build.uid();
        let parameters =
            DeleteParams::background().preconditions(Preconditions { uid: uid.clone(), resource_version: None });
        let deleted = cluster.api::<Guarded<IndexBuild>>().delete(&name, &parameters).await;
        deleted.map_err(|error| cluster.failed(&format!("delete build {place}"), &error))?;
        let Some(limit) = wait else {
            return crate::output::text(&format!(
                "build {place} is cancelled: its executors end, and what it wrote is removed\n"
            ));
        };
        gone(&cluster, &name, uid.as_deref(), limit).await?;
        crate::output::text(&format!("build {place} is cancelled and gone\n"))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(place: &str, progress: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("cancelling build {place} ({progress} done) needs --yes where nobody can be asked");
    }
    let mut stderr = io::stderr();
    write!(stderr, "Cancel build {place}? {progress} of it is done, and nothing of it stays. [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn gone(cluster: &Cluster, name: &str, uid: Option<&str>, limit: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let found = cluster.api::<Guarded<IndexBuild>>().get_opt(name).await;
        let found = found.map_err(|error| cluster.failed("read the build", &error))?;
        let Some(build) = found.filter(|build| build.uid().as_deref() == uid) else {
            return Ok(());
        };
        if start.elapsed() >= limit {
            let said = match build.read() {
                Ok(build) => {
                    let status = build.status.clone().unwrap_or_default();
                    status.condition(ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default()
                }
                Err(unreadable) => unreadable.to_string(),
            };
            bail!("build {}/{name} is still being removed after {} s: {said}", cluster.namespace, limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
