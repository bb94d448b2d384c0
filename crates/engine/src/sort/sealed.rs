//! Sealed ranges: their SST files, and the sidecar that makes them exist.

use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use indexbuild_index::SetHash;
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
    #[serde(with = "set_hash")]
    pub hash: SetHash,
    /// Keys that a unique index holds more than once; only the first row of each is in the files.
    #[serde(default)]
    pub duplicates: Duplicates,
    pub files: Vec<SealedSst>,
}

mod set_hash {
    use super::SetHash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &SetHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SetHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        SetHash::from_hex(&text).ok_or_else(|| D::Error::custom("not 32 hex digits"))
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
        let path = sidecar_path(attempt, self.range);
        let text = serde_json::to_vec_pretty(&sidecar).map_err(io::Error::from).at("write", &path)?;
        durable::write_atomic(&path, &text).at("write", &path)
    }
}

/// Name of a range's n-th file.
pub(crate) fn sst_path(attempt: &Attempt, range: u32, number: usize) -> PathBuf {
    attempt.ranges_dir().join(format!("r{range:05}-{number:03}-{}.sst", attempt.owner().prefix()))
}

fn sidecar_path(attempt: &Attempt, range: u32) -> PathBuf {
    attempt.ranges_dir().join(format!("r{range:05}-{}.json", attempt.owner().prefix()))
}

pub(crate) fn read_sidecar(path: &Path) -> Result<RangeSidecar, EngineError> {
    let text = std::fs::read(path).at("read", path)?;
    serde_json::from_slice(&text).map_err(io::Error::from).at("understand", path)
}
