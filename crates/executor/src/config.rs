//! What a process is told at its birth.

use std::path::PathBuf;

use indexbuild_api::IndexBuild;

use crate::access::StoreAccess;
use crate::outage::Site;
use crate::test_switches::TestSwitches;

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
    /// What the process may use at most, in bytes; see [`crate::memory_budget`].
    pub memory_limit: u64,
    pub access: StoreAccess,
    pub site: Site,
    /// The file that holds the boot id of this process's kernel.
    pub boot_id_file: PathBuf,
    /// Behaviour that only tests ask for.
    pub test: TestSwitches,
}
