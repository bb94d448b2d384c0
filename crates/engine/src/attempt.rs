//! One attempt's folder: made once, and locked while the attempt lives.
//!
//! ```text
//! <root>/<build UID>/<epoch>-<nonce>/
//!   owner.json     who this is; created once
//!   runs/          sealed runs and their sidecars
//!   ranges/        sealed SST files, and one sidecar per range
//!   spill/         scattered entries of the ranges in work; of no use to another attempt
//!   engine/        the RocksDB that ingests the finished files
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use serde::{Deserialize, Serialize};

use crate::error::{At as _, EngineError};
use crate::test_switches::TestSwitches;

pub(crate) const OWNER_FILE: &str = "owner.json";

/// Who made an attempt's folder, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    #[serde(rename = "buildUID")]
    pub build_uid: String,
    pub work_id: String,
    /// Digest of the work's inputs: what was made from others is never adopted.
    pub inputs_digest: String,
    pub epoch: u64,
    pub boot_nonce: String,
    /// UID of the pod (or child process).
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Name of the pod (or child process).
    pub pod_name: String,
}

impl Owner {
    /// Whether it worked at this work, from these inputs: what it sealed may be taken over then.
    pub fn is_at(&self, work_id: &str, inputs_digest: &str) -> bool {
        self.work_id == work_id && self.inputs_digest == inputs_digest
    }

    /// `<epoch>-<nonce>`.
    pub fn attempt_name(&self) -> String {
        format!("{}-{}", self.epoch, self.boot_nonce)
    }

    /// The prefix of the names of this attempt's files: no other attempt has it.
    pub(crate) fn prefix(&self) -> String {
        let nonce: String = self.boot_nonce.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        format!("{}-{nonce}", self.epoch)
    }

    pub(crate) fn write_new(&self, dir: &Path) -> Result<(), EngineError> {
        let path = dir.join(OWNER_FILE);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from).at("write", &path)?;
        durable::create_new(&path, &text).at("write", &path)
    }

    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, EngineError> {
        let path = dir.join(OWNER_FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from).at("understand", &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("read", &path, error)),
        }
    }
}

/// An attempt that this process made. Dropping it releases the lock and removes the spill files; sealed files stay
/// for the next attempt.
#[derive(Debug)]
pub struct Attempt {
    dir: PathBuf,
    owner: Owner,
    pub(crate) test_switches: TestSwitches,
    _lock: Option<File>,
}

impl Attempt {
    pub(crate) fn new(
        dir: PathBuf,
        owner: Owner,
        test_switches: TestSwitches,
        lock: Option<File>,
    ) -> Result<Self, EngineError> {
        let attempt = Self { dir, owner, test_switches, _lock: lock };
        for folder in [attempt.runs_dir(), attempt.ranges_dir(), attempt.spill_dir()] {
            durable::create_dir_all(&folder).at("make", &folder)?;
        }
        Ok(attempt)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder's name in the build's folder: what [`crate::Volume::run_path`] finds its runs by.
    pub fn folder_name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    pub fn runs_dir(&self) -> PathBuf {
        runs_in(&self.dir)
    }

    /// Where SST files are sealed, a sidecar per range.
    pub fn ranges_dir(&self) -> PathBuf {
        ranges_in(&self.dir)
    }

    /// Where entries wait to be sorted.
    pub fn spill_dir(&self) -> PathBuf {
        self.dir.join("spill")
    }

    /// The RocksDB that ingests the finished files.
    pub fn engine_dir(&self) -> PathBuf {
        self.dir.join("engine")
    }

    /// Keeps a damaged file for inspection, with the reason beside it, in the build's folder on this volume.
    pub fn quarantine(&self, path: &Path, why: &str) -> Result<PathBuf, EngineError> {
        let folder = self.dir.parent().unwrap_or(&self.dir);
        crate::quarantine::quarantine(folder, path, why)
    }
}

/// Where an attempt's folder holds its sealed runs.
pub(crate) fn runs_in(attempt: &Path) -> PathBuf {
    attempt.join("runs")
}

/// Where an attempt's folder holds its sealed ranges.
pub(crate) fn ranges_in(attempt: &Path) -> PathBuf {
    attempt.join("ranges")
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Best effort: it is removed with the attempt at the latest.
        let _ = fs::remove_dir_all(self.spill_dir());
    }
}
