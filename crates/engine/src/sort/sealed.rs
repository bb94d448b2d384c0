//! Sealed ranges: their SST files, and the sidecar that makes them exist.

use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use indexbuild_index::SetHash;
use indexbuild_index::manifest::IndexFile;
use serde::{Deserialize, Serialize};

use super::duplicates::Duplicates;
use crate::attempt::Attempt;
use crate::error::{At as _, EngineError};

pub(crate) const RANGE_VERSION: u32 = 1;

/// An SST file that never changes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedSst {
    /// File name, unlike that of any other attempt's file.
    pub name: String,
    /// Where it is, in this attempt's folder.
    #[serde(skip)]
    pub path: PathBuf,
    /// First stored key, hex.
    pub first_key: String,
    /// Last stored key, hex.
    pub last_key: String,
    pub entries: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes of keys and values, as they go in.
    pub entry_bytes: u64,
    /// XXH3-128 over the stream of entries, 32 hex digits.
    pub content_digest: String,
    /// XXH3-128 of the file's bytes, 32 hex digits.
    pub file_digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedRange {
    /// Number of the range in the index's plan.
    pub range: u32,
    pub entries: u64,
    pub hash: SetHash,
    /// Keys that a unique index holds more than once; only the first row of each is in the files.
    #[serde(default)]
    pub duplicates: Duplicates,
    pub files: Vec<SealedSst>,
    /// Where its sidecar is, in this attempt's folder.
    #[serde(skip)]
    pub sidecar: PathBuf,
}

impl SealedSst {
    /// The file as the manifest names it, an object at `path`.
    pub fn in_manifest(&self, range: u32, path: String) -> IndexFile {
        let Self {
            name: _,
            path: _,
            first_key,
            last_key,
            entries,
            bytes,
            entry_bytes,
            content_digest,
            file_digest,
        } = self.clone();
        IndexFile { path, range, first_key, last_key, entries, bytes, entry_bytes, content_digest, file_digest }
    }
}

/// The file beside a range's SST files, sealed after all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeSidecar {
    pub(crate) version: u32,
    pub(crate) work_id: String,
    pub(crate) inputs_digest: String,
    pub(crate) epoch: u64,
    pub(crate) boot_nonce: String,
    pub(crate) index: u32,
    pub(crate) sealed: SealedRange,
}

impl SealedRange {
    /// Seals the range: from now on it exists.
    pub(crate) fn seal(&self, attempt: &Attempt, index: u32) -> Result<(), EngineError> {
        let owner = attempt.owner();
        let sidecar = RangeSidecar {
            version: RANGE_VERSION,
            work_id: owner.work_id.clone(),
            inputs_digest: owner.inputs_digest.clone(),
            epoch: owner.epoch,
            boot_nonce: owner.boot_nonce.clone(),
            index,
            sealed: self.clone(),
        };
        let text = serde_json::to_vec_pretty(&sidecar).map_err(io::Error::from).at("write", &self.sidecar)?;
        durable::write_atomic(&self.sidecar, &text).at("write", &self.sidecar)
    }

    /// What a sidecar says; `None`: it is not understood.
    pub fn parse(sidecar: &[u8]) -> Option<Self> {
        serde_json::from_slice::<RangeSidecar>(sidecar).ok().map(|sidecar| sidecar.sealed)
    }

    /// The range that a sidecar is of, by its file name; `None`: that is no sidecar's.
    pub fn of_sidecar(name: &str) -> Option<u32> {
        name.strip_suffix(".json")?.strip_prefix('r')?.split('-').next()?.parse().ok()
    }
}

/// Name of a range's n-th file.
pub(crate) fn sst_path(attempt: &Attempt, range: u32, number: usize) -> PathBuf {
    attempt.ranges_dir().join(format!("r{range:05}-{number:03}-{}.sst", attempt.owner().prefix()))
}

pub(crate) fn sidecar_path(attempt: &Attempt, range: u32) -> PathBuf {
    attempt.ranges_dir().join(format!("r{range:05}-{}.json", attempt.owner().prefix()))
}

pub(crate) fn read_sidecar(path: &Path) -> Result<RangeSidecar, EngineError> {
    let text = std::fs::read(path).at("read", path)?;
    serde_json::from_slice(&text).map_err(io::Error::from).at("understand", path)
}
