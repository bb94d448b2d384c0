//! `indexbuild operator`: the controller, in a cluster.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indexbuild_durable::test_switches;
use indexbuild_operator::objects::Image;
use indexbuild_operator::{OperatorConfig, WRITES_PER_SECOND, run as run_operator};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Watches IndexBuilds in a cluster and carries them out; started by the Helm chart
///
/// It finds the API server as kubectl does: by the pod's service account, or by KUBECONFIG. Of several, one leads
/// at a time, by a Lease; the others wait.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// The image that executors run: the operator's own, as a rule
    #[arg(long, value_name = "IMAGE")]
    executor_image: String,
    /// When that image is pulled
    #[arg(long, value_enum, default_value_t = PullPolicy::IfNotPresent)]
    executor_image_pull_policy: PullPolicy,
    /// A secret, in each build's namespace, to pull that image with; may be given several times
    #[arg(long, value_name = "NAME")]
    executor_image_pull_secret: Vec<String>,
    /// Look for builds in this namespace alone; may be given several times
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespace: Vec<String>,
    /// The namespace of the Lease by which one operator leads
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The name of that Lease
    #[arg(long, value_name = "NAME", default_value = "indexbuild-operator")]
    lease_name: String,
    /// The Helm release that the Lease is a part of: where it was removed, it is made again as that release's own
    #[arg(long, value_name = "NAME")]
    helm_release: Option<String>,
    /// The name under which this process leads: that of no other process. Absent: the pod's name and UID
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Where /livez, /readyz and /metrics are answered
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8080")]
    bind: SocketAddr,
    /// How many builds are looked at at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How many writes in a second all builds have together, for owners' reports and builds' status: owners report less often, and
    /// further builds wait, where more would be needed
    #[arg(long, value_name = "NUMBER", default_value_t = WRITES_PER_SECOND, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    writes_per_second: u32,
    /// A CSI driver whose detach cuts the node off from the volume, so that a volume it detached from a lost node goes on;
    /// may be given several times
    #[arg(long, value_name = "DRIVER")]
    detaching_driver: Vec<String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PullPolicy {
    /// When the node does not have it
    IfNotPresent,
    /// For each pod
    Always,
    /// Never: the node must have it
    Never,
}

/// Runs until it is told to stop, or does not lead any more.
pub(crate) fn run(args: OperatorArgs) -> anyhow::Result<ExitCode> {
    let OperatorArgs {
        executor_image,
        executor_image_pull_policy,
        executor_image_pull_secret,
        watch_namespace,
        lease_namespace,
        lease_name,
        helm_release,
        identity,
        bind,
        concurrency,
        writes_per_second,
        detaching_driver,
    } = args;
    let image = Image {
        reference: executor_image,
        pull_policy: match executor_image_pull_policy {
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Always => "Always",
            PullPolicy::Never => "Never",
        }
        .to_owned(),
        pull_secrets: executor_image_pull_secret,
    };
    let config = OperatorConfig {
        watch_namespaces: watch_namespace,
        image,
        lease_namespace,
        lease_name,
        helm_release,
        identity: identity.unwrap_or_else(own_identity),
        bind,
        concurrency,
        writes_per_second,
        detaching_drivers: detaching_driver,
        test: test_switches::from_environment(test_switches::SWITCHES)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        Ok::<_, anyhow::Error>(run_operator(config, stop).await?)
    });
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The pod's name and UID; else one that no other process draws.
fn own_identity() -> String {
    match (std::env::var("POD_NAME"), std::env::var("POD_UID")) {
        (Ok(name), Ok(uid)) => format!("{name}_{uid}"),
        _ => format!("indexbuild_{}", uuid::Uuid::new_v4()),
    }
}
