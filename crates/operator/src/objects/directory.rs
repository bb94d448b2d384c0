//! The record of a slot: its first form, and the operator's part of its status.

use indexbuild_api::{EngineDirectory, EngineDirectorySpec, EngineDirectoryStatus, labels, names};
use serde_json::{Value, json};

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

/// The operator's part of a record's status, for server-side apply of a record that is still at `version`: what is absent
/// is cleared. `claim`, `report` and `released` are the owners' and never in it.
pub fn status_patch(name: &str, version: &str, status: &EngineDirectoryStatus) -> Value {
    let EngineDirectoryStatus { state, conditions, history, claim: _, report: _, released: _ } = status;
    json!({
        "apiVersion": "indexbuild.dev/v1alpha1",
        "kind": "EngineDirectory",
        "metadata": {"name": name, "resourceVersion": version},
        "status": {"state": state, "conditions": conditions, "history": history},
    })
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Claim, Release, Report};

    use super::*;

    #[test]
    fn the_operator_never_writes_the_owners_part() {
        let status = EngineDirectoryStatus {
            claim: Some(Claim::default()),
            report: Some(Report::default()),
            released: [("pod".to_owned(), Release::default())].into(),
            ..EngineDirectoryStatus::default()
        };
        let patch = status_patch("d", "7", &status);
        assert_eq!(patch["metadata"]["resourceVersion"], "7", "a late write is refused");
        for field in ["claim", "report", "released"] {
            assert!(patch["status"].get(field).is_none(), "{field}");
        }
    }
}
