//! What a process is told at its birth.

use std::path::PathBuf;

use indexbuild_api::{IndexBuild, WorkKind};
use serde::{Deserialize, Serialize};

use crate::access::StoreAccess;
use crate::outage::Site;

/// The environment variable that sets [`TestSwitches`].
pub const TEST_SWITCHES_VARIABLE: &str = "INDEXBUILD_TEST_SWITCHES";

/// What one executor process needs to know; all else is in its record and in `plan.json`.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The build, with `metadata.uid`, `namespace` and `creationTimestamp` set.
    pub build: IndexBuild,
    /// The file that it was read from, where what may change of it reaches a process that is at work.
    pub build_file: Option<PathBuf>,
    /// The slot that this process was made for.
    pub slot: u32,
    pub pod_name: String,
    /// This pod's UID: the incarnation.
    pub pod_uid: String,
    /// Where the slot's volume is mounted.
    pub volume: PathBuf,
    /// Threads that read, encode, sort and write; at least 1.
    pub threads: usize,
    /// What the process may use at most, in bytes; see [`crate::memory`].
    pub memory_limit: u64,
    pub access: StoreAccess,
    pub site: Site,
    /// Behaviour that only tests ask for.
    pub test: TestSwitches,
}

/// Ways to misbehave, for tests and their negative controls. No product code sets them: they come
/// from the environment variable `INDEXBUILD_TEST_SWITCHES` alone (a JSON object), and a process
/// says at its start that one is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TestSwitches {
    /// All attempts on a volume work in one directory, `shared/`, and a failed Sort is tried again
    /// inside the same process: what the system of the incident did (G9 is off).
    pub share_attempt_directory: bool,
    /// A Sort does not close the RocksDB in its `engine/` (I7 is broken).
    pub leak_engine_handle: bool,
    /// An Encode opens a RocksDB in its `engine/` when it begins, and never closes it (I7 is broken).
    pub leak_engine_in_encode: bool,
    /// Nothing that older attempts sealed is taken over (adoption is off).
    pub adopt_nothing: bool,
    /// A process that sees that its slot has another owner works on, and reports (G11 is off).
    pub never_give_way: bool,
    /// A Sort takes what it reads of runs for what was sealed, without a look at the digests (I3 is off).
    pub trust_runs: bool,
    /// An attempt at a work of this kind (`Plan`, `Encode`, ...) does nothing until it is told to end.
    pub stand_still_in: Option<WorkKind>,
    /// An attempt at a work of this kind begins when a file `go` lies on the slot's volume.
    pub begin_when_told_in: Option<WorkKind>,
    /// A store that is away, or refuses, makes the attempt fail (waiting for stores is off).
    pub never_wait_for_stores: bool,
    /// Encode seals a run when it holds so many bytes: a small table then has many.
    pub run_bytes: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{TEST_SWITCHES_VARIABLE} is not understood: {source}; unset it (only tests set it), or write a JSON object such as {{\"leakEngineHandle\": true}}"
)]
pub struct BadSwitches {
    source: serde_json::Error,
}

impl TestSwitches {
    /// The switches that the environment asks for; none without the variable.
    ///
    /// # Errors
    /// When the variable is there and not understood: a fault that was asked for and not
    /// understood must not read as a test passed.
    pub fn from_environment() -> Result<Self, BadSwitches> {
        match std::env::var(TEST_SWITCHES_VARIABLE) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| BadSwitches { source }),
            Err(_) => Ok(Self::default()),
        }
    }
}
