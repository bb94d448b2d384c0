//! The record of a slot: its first form.

use indexbuild_api::{EngineDirectory, EngineDirectorySpec, labels, names};

use super::{Owner, with_label};

/// A slot's record. It is owned by the build; a tombstone loses that (failure-modes.md #26).
pub fn directory(owner: &Owner, slot: u32, spec: EngineDirectorySpec) -> EngineDirectory {
    let metadata = owner.owned(names::directory(&owner.name, &owner.uid, slot));
    EngineDirectory { metadata: with_label(metadata, labels::SLOT, slot), spec, status: None }
}
