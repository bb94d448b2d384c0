//! The small file that makes a run exist.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use serde::{Deserialize, Serialize};

use crate::error::{At as _, EngineError};

/// Version of the sidecar and of the run it describes.
pub(crate) const RUN_VERSION: u32 = 1;

/// What is said about one index in a run's sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunIndex {
    pub entries: u64,
    /// Sum of their hashes, 32 hex digits (`SetHash`).
    pub hash: String,
}

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
    pub indexes: Vec<RunIndex>,
    pub epoch: u64,
    /// Nonce of the process that made it.
    pub boot_nonce: String,
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

    /// A run found by its sidecar, neither opened nor checked.
    ///
    /// # Errors
    /// Those of the file system, and a sidecar that cannot be understood.
    pub fn found(path: &Path) -> Result<Self, EngineError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, path: path.to_owned(), sidecar: read_sidecar(&sidecar_of(path))? })
    }

    pub(crate) fn seal_sidecar(&self) -> Result<(), EngineError> {
        let path = self.sidecar_path();
        let text = serde_json::to_vec_pretty(&self.sidecar).map_err(io::Error::from).at("write", &path)?;
        durable::write_atomic(&path, &text).at("write", &path)
    }
}

pub(crate) fn sidecar_of(run: &Path) -> PathBuf {
    run.with_extension("json")
}

pub(crate) fn read_sidecar(path: &Path) -> Result<RunSidecar, EngineError> {
    let text = fs::read(path).at("read", path)?;
    let sidecar: RunSidecar = serde_json::from_slice(&text).map_err(io::Error::from).at("understand", path)?;
    if sidecar.version != RUN_VERSION {
        let why = format!("version {} where {RUN_VERSION} is known", sidecar.version);
        return Err(EngineError::BadTable { path: path.to_owned(), why });
    }
    Ok(sidecar)
}

/// The runs in a folder that have a sidecar, by name.
pub(crate) fn run_names(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    with_sidecars(folder, "run")
}

/// Sidecars (`*.json`) in a folder, each as the path with another extension.
pub(crate) fn with_sidecars(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, EngineError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EngineError::io("list", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let path = entry.path();
        if !durable::is_temporary(&entry.file_name()) && path.extension().is_some_and(|extension| extension == "json") {
            found.push(path.with_extension(extension));
        }
    }
    found.sort();
    Ok(found)
}
