//! Ways in which the engine misbehaves, for negative controls. No product code sets them.

use serde::{Deserialize, Serialize};

/// What attempts on a volume do that asks for it ([`crate::Volume::with_test_switches`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestSwitches {
    /// All attempts on a volume work in one directory, `shared/`, without a lock: what the system of the incident did
    /// (G9 is off).
    pub share_attempt_directory: bool,
    /// A Sort does not close the RocksDB in its `engine/`: what the incident began with (I7 is broken).
    pub leak_engine_handle: bool,
    /// A Sort takes what it reads of runs for what was sealed, without a look at the digests (I3 is off).
    pub trust_runs: bool,
    /// Files are written by RocksDB's `SstFileWriter`, which is the oracle of our own writer: the same entries, and other
    /// bytes in each file (of I10 the digests hold, not the bytes).
    pub rocksdb_writes_files: bool,
}
