//! The record of a slot: its first form.

use indexbuild_api::{EngineDirectory, EngineDirectorySpec, labels, names};

use super::{Owner, with_label};

/// A slot's record. It is owned by the build; a tombstone loses that (failure-modes.md #26).
/// `lease`: by which the operator leads, as `<namespace>/<name>`; empty: by none.
pub fn directory(owner: &Owner, slot: u32, spec: EngineDirectorySpec, lease: &str) -> EngineDirectory {
    let mut metadata = owner.owned(names::directory(&owner.name, &owner.uid, slot));
    if !lease.is_empty() {
        metadata.annotations.get_or_insert_default().insert(labels::OPERATOR_LEASE.to_owned(), lease.to_owned());
    }
    EngineDirectory { metadata: with_label(metadata, labels::SLOT, slot), spec, status: None }
}
