//! `result.json`: what an attempt hands over, one per attempt, written last.
//!
//! A result's digest is that of its bytes. It is what the report carries and what is chosen; whoever
//! reads a result checks it first. Paths are relative to the build's prefix in the output store.

use indexbuild_api::Epoch;
use indexbuild_engine::{EngineCheck, EntrySum, RunSidecar};
use indexbuild_index::digest::digest_bytes;
use indexbuild_index::manifest::IndexFile;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::names;
use crate::stats::Statistics;

pub const RESULT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttemptName {
    pub version: u32,
    pub build_uid: String,
    pub work_id: String,
    pub epoch: Epoch,
    /// The process's boot nonce.
    pub boot_nonce: String,
}

impl AttemptName {
    /// Where the attempt's objects stand.
    pub fn prefix(&self) -> String {
        names::attempt_prefix(&self.work_id, self.epoch, &self.boot_nonce)
    }
}

/// A Plan's result. The plan itself is `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanResult {
    pub attempt: AttemptName,
    /// Digest of `plan.json`.
    pub plan_digest: String,
    pub encode_works: u32,
    pub sort_works: u32,
    pub statistics: Statistics,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RunPlace {
    /// An object: its path.
    Store {
        /// Relative to the build's prefix.
        path: String,
    },
    /// A file on the volume of the slot that encoded it.
    Volume {
        /// The attempt's folder, `<epoch>-<nonce>`, in the build's folder on the volume.
        attempt: String,
    },
}

/// A run, as the result names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRef {
    pub name: String,
    pub place: RunPlace,
    /// The splits whose rows it holds, all of each.
    pub splits: Vec<u32>,
    pub rows: u64,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Digest of the run's table, which holds the digests of its pieces.
    pub table_digest: String,
    /// Per index of the plan.
    pub indexes: Vec<EntrySum>,
}

impl RunRef {
    /// The run that the engine sealed under this name with this sidecar, at `place`.
    pub(crate) fn new(name: &str, place: RunPlace, sidecar: &RunSidecar) -> Self {
        let RunSidecar {
            version: _,
            work_id: _,
            inputs_digest: _,
            splits,
            rows,
            bytes,
            table_digest,
            indexes,
            epoch: _,
            boot_nonce: _,
        } = sidecar.clone();
        Self { name: name.to_owned(), place, splits, rows, bytes, table_digest, indexes }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncodeResult {
    pub attempt: AttemptName,
    pub plan_digest: String,
    /// The splits that were encoded; the runs cover exactly these.
    pub splits: Vec<u32>,
    pub rows: u64,
    /// Per index of the plan.
    pub indexes: Vec<EntrySum>,
    /// The runs, in the order of their first split.
    pub runs: Vec<RunRef>,
    pub statistics: Statistics,
}

/// Rows with equal keys in a unique index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DuplicateSummary {
    /// Entries whose key an earlier entry has; exact.
    pub count: u64,
    /// The object with up to 100 pairs of them, as JSON lines; none without duplicates.
    pub file: Option<String>,
    /// The first pair, for a message: the key and both rows.
    pub example: Option<String>,
}

/// One range of a sorted lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RangeResult {
    /// The range's number in the index's plan.
    pub range: u32,
    pub sum: EntrySum,
    /// Its files, in the order of their keys; none without entries.
    pub files: Vec<IndexFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SortResult {
    pub attempt: AttemptName,
    pub plan_digest: String,
    /// The index, by its number in the plan.
    pub index: u32,
    /// The lane, by its number in the index's plan.
    pub lane: u32,
    pub sum: EntrySum,
    /// The lane's ranges, all of them, in order.
    pub ranges: Vec<RangeResult>,
    /// Rows with equal keys, in a unique index.
    pub duplicates: DuplicateSummary,
    /// Entries and files that the RocksDB of the attempt counted after it had ingested the files.
    pub ingested: EngineCheck,
    pub statistics: Statistics,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishResult {
    pub attempt: AttemptName,
    /// Digest of `manifest.json`.
    pub manifest_digest: String,
    /// What identifies the manifest's content.
    pub put_id: String,
    /// Whether this attempt created the manifest; else it found an equal one.
    pub created: bool,
    pub rows: u64,
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Figures of all chosen results together.
    pub works: Statistics,
    pub statistics: Statistics,
}

/// A Clean's result. It is not uploaded after an abort: nothing of the attempts stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CleanResult {
    pub attempt: AttemptName,
    /// Whether a tombstone stands at `manifest.json`.
    pub tombstone: bool,
    pub objects: u64,
    /// Attempts removed from this slot's volume.
    pub attempts_on_volume: u64,
    pub statistics: Statistics,
}

/// A result's bytes and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub bytes: Vec<u8>,
    /// Its digest, 32 hex digits.
    pub digest: String,
}

/// The bytes that are uploaded, and their digest.
///
/// # Errors
/// None in practice: results hold no maps with keys that are not text.
pub fn seal<T: Serialize>(result: &T) -> Result<Sealed, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(result)?;
    bytes.push(b'\n');
    let digest = digest_bytes(&bytes);
    Ok(Sealed { bytes, digest })
}

/// Why an object that should be a result is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadResult {
    /// Its bytes are not those that were chosen.
    #[error("its digest is {is}, but {chosen} was chosen: the object was changed or damaged")]
    Digest { is: String, chosen: String },
    #[error("it is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads a result whose digest was chosen.
pub fn open<T: DeserializeOwned>(bytes: &[u8], chosen: &str) -> Result<T, BadResult> {
    let is = digest_bytes(bytes);
    if is != chosen {
        return Err(BadResult::Digest { is, chosen: chosen.to_owned() });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// What the attempt cost whose result of any kind was chosen.
pub fn statistics(bytes: &[u8], chosen: &str) -> Result<Statistics, BadResult> {
    #[derive(Deserialize)]
    struct OfAnyKind {
        statistics: Statistics,
    }
    open(bytes, chosen).map(|OfAnyKind { statistics }| statistics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten<T: Serialize + DeserializeOwned>(recorded: &str) -> String {
        let result: T = open(recorded.as_bytes(), &digest_bytes(recorded.as_bytes())).unwrap();
        String::from_utf8(seal(&result).unwrap().bytes).unwrap()
    }

    #[test]
    fn recorded_results_are_read_and_written_byte_for_byte() {
        let encode = include_str!("../tests/recorded/encode_result.json");
        assert_eq!(rewritten::<EncodeResult>(encode), encode);
        let sort = include_str!("../tests/recorded/sort_result.json");
        assert_eq!(rewritten::<SortResult>(sort), sort);
    }

    #[test]
    fn the_figures_of_a_result_are_read_if_it_is_the_one_chosen() {
        let recorded = include_bytes!("../tests/recorded/sort_result.json");
        assert_eq!(statistics(recorded, &digest_bytes(recorded)).unwrap().rows, 3);
        assert!(matches!(statistics(recorded, "another"), Err(BadResult::Digest { .. })));
    }
}
