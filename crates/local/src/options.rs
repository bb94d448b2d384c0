//! What a run is told, and why it may end without its index.

use std::path::PathBuf;
use std::time::Duration;

use indexbuild_api::IndexBuild;

use crate::build::BuildError;
use crate::execute::ActionError;
use crate::folder::StateError;
use crate::progress::ProgressSink;
use crate::requested_fault::Fault;

/// How often an owner of a local run renews its report: the parent is near.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_millis(250);

pub struct RunOptions {
    pub build: IndexBuild,
    pub state: PathBuf,
    /// What the command line says instead of the build.
    pub overrides: Overrides,
    pub faults: Vec<Fault>,
    /// The program that is the executor: this one.
    pub executable: PathBuf,
    pub progress: Box<dyn ProgressSink>,
    /// Volumes stay at the end.
    pub keep_volumes: bool,
    /// A build of this folder that has ended is forgotten, and a new one begun.
    pub fresh: bool,
    /// The build is given up: no index, and nothing of it stays.
    pub abort: bool,
    /// Whether Ctrl-C and SIGTERM are taken: only one run of a process can.
    pub signals: bool,
    /// A file of CA certificates that may vouch for the source's and the output's store, beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// What the command line says instead of the build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub parallelism: Option<u32>,
    pub threads: Option<usize>,
    /// What each process may use, in bytes.
    pub memory: Option<u64>,
    /// After so long without a word from a slot's owner, another takes its place.
    pub replace_after: Option<Duration>,
    /// After so long without contact, a process ends by itself.
    pub orphan_after: Option<Duration>,
    /// For how long the build may be active.
    pub active_deadline: Option<Duration>,
    /// How often an owner renews its report.
    pub renew_interval: Option<Duration>,
}

/// Why a run ended without its index.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Socket(std::io::Error),
    #[error(transparent)]
    Action(#[from] ActionError),
    #[error("the build failed: {message}{essentials}")]
    Failed {
        message: String,
        /// What the last process that failed wrote, each line indented.
        essentials: String,
    },
    #[error("interrupted: everything finished is sealed in {}; the same command goes on from there", .state.display())]
    Interrupted { state: PathBuf },
    #[error("spec.suspend is true: the build pauses; set it to false to go on")]
    Suspended,
    #[error("the build is complete: there is nothing to give up; remove {} to forget the run", .state.display())]
    CompleteAlready { state: PathBuf },
    #[error("the build in {} has not ended: give it up first (--abort), or go on without --fresh", .state.display())]
    NotEnded { state: PathBuf },
    #[error("faults of the run itself were asked for after its first write: give them to the first run of the process")]
    FaultsTooLate,
}
