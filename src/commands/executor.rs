//! `indexbuild executor`: one process of a build.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use indexbuild_local::ChildArgs;

/// One process of a build; started by `indexbuild run`
#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// The state folder of the local run
    #[arg(long, value_name = "DIR")]
    local: PathBuf,
    /// The pod that this process is
    #[arg(long, value_name = "NAME")]
    pod: String,
}

/// Runs the process's whole life.
pub fn run(args: ExecutorArgs) -> anyhow::Result<ExitCode> {
    let ExecutorArgs { local, pod } = args;
    // The threads that work are the executor's own; these only watch, report and move objects.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let code = runtime.block_on(indexbuild_local::child(ChildArgs { state: local, pod }));
    // What still hangs must not keep the process: its end is what others wait for.
    runtime.shutdown_background();
    Ok(code)
}
