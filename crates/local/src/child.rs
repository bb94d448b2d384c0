//! A child's life: what `indexbuild executor` does in a local run.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use indexbuild_api::{DisruptionSpec, Duration};
use indexbuild_durable::test_switches::{self, BadSwitches};
use indexbuild_executor::{ExecutorConfig, ExitStatus, Site, StoreAccess};

use crate::build::StoredBuild;
use crate::client::ParentClient;
use crate::folder::{self, Layout, StateError};
use crate::pods::PodFile;
use crate::process;

/// What a child is started with; all else is in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildArgs {
    pub state: PathBuf,
    pub pod: String,
    /// A file of CA certificates that may vouch for the stores, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The file that holds the boot id of this process's kernel.
    pub boot_id_file: PathBuf,
}

/// Why a child could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{what} is not in {}: this command is run by `indexbuild run`, with the folder that it made", .state.display())]
    Missing { what: &'static str, state: PathBuf },
    /// The pod's lock is not held: the process was not started by a parent.
    #[error("the lock of pod {pod} is not held: this command is run by `indexbuild run`, which hands the lock over")]
    NotHeld { pod: String },
    #[error(transparent)]
    Switches(#[from] BadSwitches),
}

/// Lives one owner's life under the parent that answers on the state folder's socket, or under the
/// next one.
pub fn child(args: ChildArgs) -> Pin<Box<dyn Future<Output = ExitCode> + Send>> {
    // Boxed: it is compiled once, in this crate, and not again in each program that runs it.
    Box::pin(live(args))
}

async fn live(args: ChildArgs) -> ExitCode {
    // The kernel sends SIGHUP to a stopped process whose parent dies, and a terminal to all when it closes. A
    // child outlives its parent: it goes on, and offers itself to the next one. A listener that was installed
    // once keeps the default action away for good.
    if let Err(error) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        tracing::warn!(%error, "SIGHUP cannot be ignored: this process ends with its terminal");
    }
    match begin(&args) {
        Ok((config, client)) => {
            let status = indexbuild_executor::run(config, Arc::new(client)).await;
            tracing::info!(pod = %args.pod, "the process ends: {status}");
            status.into()
        }
        Err(error) => {
            tracing::error!(pod = %args.pod, %error, "the process cannot begin");
            ExitStatus::Unusable.into()
        }
    }
}

fn begin(args: &ChildArgs) -> Result<(ExecutorConfig, ParentClient), ChildError> {
    let ChildArgs { state, pod, ca_file, boot_id_file } = args;
    let layout = Layout::new(state.clone());
    let missing = |what| ChildError::Missing { what, state: state.clone() };
    let file: PodFile = folder::read(&layout, &layout.pod_file(pod))?.ok_or_else(|| missing("pod.json"))?;
    let stored: StoredBuild = folder::read(&layout, &layout.build())?.ok_or_else(|| missing("build.json"))?;
    let lock = layout.pod_lock(pod);
    // The parent locked it before this process existed, and it is this process's standard input. Were
    // it free, the process would be taken for one that is gone.
    if process::is_gone(&lock) {
        return Err(ChildError::NotHeld { pod: pod.clone() });
    }
    process::write_pid(&lock).map_err(|source| StateError::Io { folder: state.clone(), source })?;
    let mut build = stored.to_build();
    let orphan_after = Duration::from_millis(file.orphan_after_ms);
    build.spec.disruption = Some(DisruptionSpec { orphan_after, ..build.spec.disruption_or_default() });
    let PodFile { name, uid, slot, epoch: _, volume_generation, threads, memory_limit, orphan_after_ms: _ } = file;
    let client = ParentClient::new(layout.socket(), uid.clone());
    let config = ExecutorConfig {
        build,
        build_file: None,
        slot,
        pod_name: name,
        pod_uid: uid,
        volume: layout.volume(slot, volume_generation),
        threads,
        memory_limit,
        access: StoreAccess::of_this_machine(ca_file.clone()),
        site: Site::OneMachine,
        boot_id_file: boot_id_file.clone(),
        test: test_switches::from_environment(test_switches::SWITCHES)?,
    };
    Ok((config, client))
}
