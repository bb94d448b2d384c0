//! Volumes are folders.
//!
//! A claim is a folder with a `claim.json` in it; both appear and disappear in one rename.

use std::path::PathBuf;

use indexbuild_durable as durable;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::folder::{self, Layout, StateError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Volume {
    pub name: String,
    /// The claim's UID: another volume of the same name has another.
    pub uid: String,
    pub slot: u32,
    /// The number of this volume among the slot's.
    pub generation: u32,
}

impl Volume {
    pub(crate) fn path(&self, layout: &Layout) -> PathBuf {
        layout.volume(self.slot, self.generation)
    }
}

pub(crate) fn load(layout: &Layout) -> Result<Vec<Volume>, StateError> {
    let mut volumes = Vec::new();
    for name in folder::names(layout, &layout.volumes())? {
        if let Some(volume) = folder::read(layout, &layout.volumes().join(name).join("claim.json"))? {
            volumes.push(volume);
        }
    }
    Ok(volumes)
}

/// Makes a volume. One that is there already is returned as it is.
pub(crate) fn create(layout: &Layout, name: &str, slot: u32, generation: u32) -> Result<Volume, StateError> {
    let path = layout.volume(slot, generation);
    if let Some(volume) = folder::read(layout, &path.join("claim.json"))? {
        return Ok(volume);
    }
    let volume = Volume { name: name.to_owned(), uid: Uuid::new_v4().to_string(), slot, generation };
    let io = |source| StateError::Io { folder: layout.root().to_owned(), source };
    let temporary = durable::temporary_for(&path).map_err(io)?;
    durable::create_dir_all(&temporary).map_err(io)?;
    folder::write(layout, &temporary.join("claim.json"), &volume)?;
    durable::rename(&temporary, &path).map_err(io)?;
    Ok(volume)
}

/// Removes a volume with all that is in it. The caller has proof that its last owner is gone, and
/// wrote into the record that it is condemned (G7).
pub(crate) fn remove(layout: &Layout, volume: &Volume) -> Result<(), StateError> {
    let io = |source| StateError::Io { folder: layout.root().to_owned(), source };
    let path = volume.path(layout);
    if !path.exists() {
        return Ok(());
    }
    let condemned = durable::temporary_for(&path).map_err(io)?;
    durable::rename(&path, &condemned).map_err(io)?;
    durable::remove_dir_all(&condemned).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once_and_removed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        std::fs::create_dir_all(layout.volumes()).unwrap();
        let first = create(&layout, "v", 3, 1).unwrap();
        assert_eq!(create(&layout, "v", 3, 1).unwrap(), first, "made once");
        assert_eq!(load(&layout).unwrap(), vec![first.clone()]);
        std::fs::write(first.path(&layout).join("run"), b"x").unwrap();
        remove(&layout, &first).unwrap();
        remove(&layout, &first).unwrap();
        assert_eq!(std::fs::read_dir(layout.volumes()).unwrap().count(), 0);
        assert_ne!(create(&layout, "v", 3, 1).unwrap().uid, first.uid, "another volume of the same name");
    }
}
