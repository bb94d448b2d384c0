//! Sealed ranges: their SST files, and the sidecar that makes them exist.
//!
//! ```text
//! ranges/r<range, 5 digits>-<file, 3 digits>-<epoch>-<nonce, 12 letters>.sst     in key order
//! ranges/r<range, 5 digits>-<epoch>-<nonce, 12 letters>.json                     the sidecar
//! ```

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
    /// Which version of our writer made it; none: RocksDB's own, or a release that did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_version: Option<u32>,
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
            writer_version,
        } = self.clone();
        IndexFile {
            path,
            range,
            first_key,
            last_key,
            entries,
            bytes,
            entry_bytes,
            content_digest,
            file_digest,
            writer_version,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_sidecar_is_read_and_written_byte_for_byte() {
        let recorded = include_str!("../../tests/recorded/range.json").trim_end();
        let sidecar: RangeSidecar = serde_json::from_str(recorded).unwrap();
        assert_eq!((sidecar.sealed.hash, sidecar.sealed.duplicates.count), (SetHash(u128::MAX), 1));
        assert_eq!(serde_json::to_string_pretty(&sidecar).unwrap(), recorded);
        assert_eq!(SealedRange::parse(recorded.as_bytes()), Some(sidecar.sealed));
        assert_eq!(SealedRange::parse(b"{}"), None);
    }

    #[test]
    fn a_sidecars_name_tells_its_range() {
        assert_eq!(SealedRange::of_sidecar("r00007-4-n1.json"), Some(7));
        let others = ["r00007-000-4-n1.sst", "4-n1-00000.json", "result.json", "rest.json"];
        assert_eq!(others.map(SealedRange::of_sidecar), [None; 4]);
    }

    #[test]
    fn the_manifest_names_a_file_as_it_was_sealed() {
        let recorded = include_bytes!("../../tests/recorded/range.json");
        let mut sealed = SealedRange::parse(recorded).unwrap().files.remove(0);
        let file = sealed.in_manifest(7, "o.sst".to_owned());
        let expected = r#"{"path":"o.sst","range":7,"firstKey":"0101","lastKey":"0102","entries":2,"bytes":900,"entryBytes":30,"contentDigest":"c0","fileDigest":"f1"}"#;
        assert_eq!(serde_json::to_string(&file).unwrap(), expected, "of a release that did not tell its writer");
        sealed.writer_version = Some(7);
        let file = sealed.in_manifest(7, "o.sst".to_owned());
        assert_eq!(serde_json::to_string(&file).unwrap(), expected.replace('}', r#","writerVersion":7}"#));
    }
}
