//! `indexbuild executor`: one process of a build.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use indexbuild_durable::test_switches;
use indexbuild_executor::kubernetes::{KubernetesControl, Place};
use indexbuild_executor::livez::{heartbeat, serve};
use indexbuild_executor::machine::BOOT_ID_FILE;
use indexbuild_executor::{ExecutorConfig, ExitStatus, Site, StoreAccess, mounted_build};
use indexbuild_local::ChildArgs;
use kube::ResourceExt as _;

/// One process of a build; started by `indexbuild run`, or by the operator in a pod
#[derive(Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// The state folder of the local run
    #[arg(
        long,
        value_name = "DIR",
        requires = "pod",
        conflicts_with = "kubernetes",
        required_unless_present = "kubernetes"
    )]
    local: Option<PathBuf>,
    /// The pod that this process is, of a local run
    #[arg(long, value_name = "NAME", requires = "local")]
    pod: Option<String>,
    /// In a pod: speak to the Kubernetes API
    #[arg(long, requires_all = ["build", "slot", "pod_name", "pod_uid", "volume"])]
    kubernetes: bool,
    /// The file that holds the build
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    build: Option<PathBuf>,
    /// The slot that the pod was made for
    #[arg(long, value_name = "NUMBER", requires = "kubernetes")]
    slot: Option<u32>,
    /// The pod's name
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pod_name: Option<String>,
    /// The pod's UID
    #[arg(long, value_name = "UID", requires = "kubernetes")]
    pod_uid: Option<String>,
    /// Where the slot's volume is mounted
    #[arg(long, value_name = "DIR", requires = "kubernetes")]
    volume: Option<PathBuf>,
    /// A PEM file of CA certificates that may vouch for the stores, beside the system's
    #[arg(long, value_name = "FILE", requires = "local")]
    ca_file: Option<PathBuf>,
    /// Threads that work
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    threads: usize,
    /// What the process may use, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = indexbuild_api::DEFAULT_MEMORY_BYTES)]
    memory_limit: u64,
    /// The folder with the stores' credentials: `source` and `output`, one file for each variable
    #[arg(long, value_name = "DIR", requires = "kubernetes")]
    credentials: Option<PathBuf>,
    /// The file that holds the boot id of this process's kernel
    #[arg(long, value_name = "FILE", default_value = BOOT_ID_FILE, hide = true)]
    boot_id_file: PathBuf,
    /// Where /livez is answered
    #[arg(long, value_name = "ADDRESS", requires = "kubernetes")]
    bind: Option<SocketAddr>,
}

pub(crate) fn run(args: ExecutorArgs) -> anyhow::Result<ExitCode> {
    // The threads that work are the executor's own; these only watch, report and move objects.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let code = runtime.block_on(run_process(args));
    // A thread that hangs must not keep the process alive: others wait for its end.
    runtime.shutdown_background();
    code
}

async fn run_process(args: ExecutorArgs) -> anyhow::Result<ExitCode> {
    let ExecutorArgs {
        local,
        pod,
        kubernetes: _,
        build,
        slot,
        pod_name,
        pod_uid,
        volume,
        ca_file,
        threads,
        memory_limit,
        credentials,
        boot_id_file,
        bind,
    } = args;
    if let (Some(state), Some(pod)) = (local, pod) {
        return Ok(indexbuild_local::child(ChildArgs { state, pod, ca_file, boot_id_file }).await);
    }
    let (Some(build), Some(slot), Some(pod_name), Some(pod_uid), Some(volume)) =
        (build, slot, pod_name, pod_uid, volume)
    else {
        anyhow::bail!("--kubernetes needs --build, --slot, --pod-name, --pod-uid and --volume");
    };
    let build_file = build;
    let build = match mounted_build::read(&build_file) {
        Ok(build) => build,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(ExitStatus::Unusable.into());
        }
    };
    let heartbeat = Arc::new(heartbeat());
    if let Some(bind) = bind {
        serve(bind, Arc::clone(&heartbeat)).await.with_context(|| format!("/livez cannot be answered on {bind}"))?;
    }
    let place = Place {
        namespace: build.namespace().unwrap_or_default(),
        build_name: build.name_any(),
        build_uid: build.uid().unwrap_or_default(),
        slot,
    };
    let control = KubernetesControl::in_pod(place, heartbeat)?;
    let config = ExecutorConfig {
        build,
        build_file: Some(build_file),
        slot,
        pod_name,
        pod_uid,
        volume,
        threads: threads.max(1),
        memory_limit,
        access: credentials.map(StoreAccess::in_folder).unwrap_or_default(),
        site: Site::Cluster,
        boot_id_file,
        test: test_switches::from_environment(test_switches::SWITCHES)?,
    };
    Ok(indexbuild_executor::run(config, Arc::new(control)).await.into())
}
