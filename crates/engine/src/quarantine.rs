//! Damaged files are kept aside for inspection, with the reason beside them (I3).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;

use crate::error::{At as _, EngineError};

/// The folder in a build's folder on the volume.
pub(crate) const QUARANTINE: &str = "quarantine";

pub(crate) fn quarantine(build_folder: &Path, path: &Path, why: &str) -> Result<PathBuf, EngineError> {
    let folder = build_folder.join(QUARANTINE);
    durable::create_dir_all(&folder).at("make", &folder)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut number = 0u32;
    let kept = loop {
        let target = folder.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
        match durable::hard_link(path, &target) {
            Ok(()) => break target,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if same_file(path, &target) {
                    return Ok(target);
                }
                number += 1;
            }
            Err(error) => return Err(EngineError::io("keep aside", path, error)),
        }
    };
    let mut reason = kept.clone().into_os_string();
    reason.push(".why");
    let reason = PathBuf::from(reason);
    durable::write_atomic(&reason, format!("{}\n{why}\n", path.display()).as_bytes()).at("write", &reason)?;
    tracing::warn!(file = %path.display(), kept = %kept.display(), why, "a damaged file is kept aside");
    Ok(kept)
}

fn same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(left), fs::metadata(right)) {
        (Ok(left), Ok(right)) => left.dev() == right.dev() && left.ino() == right.ino(),
        _ => false,
    }
}
