//! The small file that makes a run exist: `<run's name>.json` beside `<run's name>.run`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use serde::{Deserialize, Serialize};

use super::table::{EntrySum, RunTable};
use crate::error::{At as _, EngineError};

/// Version of the sidecar and of the run it describes.
pub(crate) const RUN_VERSION: u32 = 1;

const RUN: &str = "run";
const SIDECAR: &str = "json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSidecar {
    pub version: u32,
    pub work_id: String,
    /// Digest of that work's inputs.
    pub inputs_digest: String,
    /// The splits that it covers, each as a whole, ascending.
    pub splits: Vec<u32>,
    pub rows: u64,
    /// Length of the run in bytes.
    pub bytes: u64,
    /// XXH3-128 of the run's table, 32 hex digits; the table holds the digests of the pieces.
    pub table_digest: String,
    /// By index, in the plan's order.
    pub indexes: Vec<EntrySum>,
    pub epoch: u64,
    /// Nonce of the process that made it.
    pub boot_nonce: String,
}

impl RunSidecar {
    /// # Errors
    /// Text that is no sidecar, or one of a version that is not known.
    pub fn parse(text: &[u8]) -> io::Result<Self> {
        let sidecar: Self = serde_json::from_slice(text)?;
        match sidecar.version {
            RUN_VERSION => Ok(sidecar),
            other => Err(io::Error::other(format!("version {other} where {RUN_VERSION} is known"))),
        }
    }

    /// Checks a run's table, of which `digest` is the digest, against what was sealed.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(&self, table: &RunTable, digest: &str) -> Result<(), &'static str> {
        if digest != self.table_digest {
            return Err("its table is another than its sidecar says");
        }
        if !table.indexes().iter().map(|index| index.sum).eq(self.indexes.iter().copied()) {
            return Err("its table counts other entries than its sidecar says");
        }
        Ok(())
    }
}

/// A run that never changes again, in this attempt's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRun {
    /// File name, unlike that of any other attempt's run.
    pub name: String,
    pub path: PathBuf,
    pub sidecar: RunSidecar,
}

impl SealedRun {
    pub fn sidecar_path(&self) -> PathBuf {
        sidecar_of(&self.path)
    }

    /// The sidecar's file name, by the name of the run; `None`: that is no run's.
    pub fn sidecar_name(run: &str) -> Option<String> {
        Some(format!("{}.{SIDECAR}", run.strip_suffix(RUN)?.strip_suffix('.')?))
    }

    /// A run found by its sidecar, neither opened nor checked.
    ///
    /// # Errors
    /// Those of the file system, and a sidecar that cannot be understood.
    pub fn found(path: &Path) -> Result<Self, EngineError> {
        let sidecar = sidecar_of(path);
        let text = fs::read(&sidecar).at("read", &sidecar)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, path: path.to_owned(), sidecar: RunSidecar::parse(&text).at("understand", &sidecar)? })
    }

    pub(crate) fn seal_sidecar(&self) -> Result<(), EngineError> {
        let path = self.sidecar_path();
        let text = serde_json::to_vec_pretty(&self.sidecar).map_err(io::Error::from).at("write", &path)?;
        durable::write_atomic(&path, &text).at("write", &path)
    }
}

pub(crate) fn sidecar_of(run: &Path) -> PathBuf {
    run.with_extension(SIDECAR)
}

/// The runs in a folder that have a sidecar, by name.
pub(crate) fn run_names(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    Ok(sidecars(folder)?.into_iter().map(|sidecar| sidecar.with_extension(RUN)).collect())
}

/// The sidecars in a folder, of runs or of ranges, by name.
pub(crate) fn sidecars(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EngineError::io("list", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let path = entry.path();
        if !durable::is_temporary(&entry.file_name()) && path.extension().is_some_and(|extension| extension == SIDECAR)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use indexbuild_index::SetHash;

    use super::*;

    #[test]
    fn a_recorded_sidecar_is_read_and_written_byte_for_byte() {
        let recorded = include_str!("../../tests/recorded/run.json").trim_end();
        let sidecar = RunSidecar::parse(recorded.as_bytes()).unwrap();
        assert_eq!(sidecar.indexes, [EntrySum { entries: 3, hash: SetHash(0x0123_4567_89ab_cdef) }]);
        assert_eq!(serde_json::to_string_pretty(&sidecar).unwrap(), recorded);
        let later = recorded.replace("\"version\": 1", "\"version\": 2");
        assert!(RunSidecar::parse(later.as_bytes()).unwrap_err().to_string().contains("version 2"));
    }

    #[test]
    fn a_run_and_its_sidecar_are_named_alike() {
        assert_eq!(SealedRun::sidecar_name("4-n1-00000.run").as_deref(), Some("4-n1-00000.json"));
        assert_eq!(sidecar_of(Path::new("runs/4-n1-00000.run")), Path::new("runs/4-n1-00000.json"));
        assert_eq!(
            ["4-n1-00000.json", "4-n1-00000run", "r00007-4-n1.sst"].map(SealedRun::sidecar_name),
            [None, None, None]
        );
    }
}
