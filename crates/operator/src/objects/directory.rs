//! The record of a slot: its first form, and the operator's part of its status.

use indexbuild_api::{
    EngineDirectory, EngineDirectorySpec, EngineDirectoryStatus, HISTORY_LENGTH, OwnerChange, OwnerChangeReason,
    labels, names,
};
use indexbuild_lifecycle::NodeSeen;
use serde_json::{Value, json};

use super::{Owner, with_label};

/// A slot's record. It is owned by the build; a tombstone loses that (disruptions, row 26).
#[must_use]
pub fn directory(owner: &Owner, slot: u32, spec: EngineDirectorySpec) -> EngineDirectory {
    let metadata = owner.owned(names::directory(&owner.name, &owner.uid, slot));
    EngineDirectory { metadata: with_label(metadata, labels::SLOT, slot), spec, status: None }
}

/// The operator's part of a record's status, for server-side apply: what is absent is cleared. `claim` and
/// `report` are the owner's and never in it.
#[must_use]
pub fn status_patch(name: &str, status: &EngineDirectoryStatus) -> Value {
    let EngineDirectoryStatus {
        state,
        node_name,
        node_boot_id,
        node_system_uuid,
        conditions,
        history,
        claim: _,
        report: _,
    } = status;
    let mut part = json!({"state": state, "conditions": conditions, "history": history});
    for (key, value) in [("nodeName", node_name), ("nodeBootID", node_boot_id), ("nodeSystemUUID", node_system_uuid)] {
        if let Some(value) = value {
            part[key] = json!(value);
        }
    }
    json!({
        "apiVersion": "indexbuild.dev/v1alpha1",
        "kind": "EngineDirectory",
        "metadata": {"name": name},
        "status": part,
    })
}

/// The status after a change of the spec: node, state and history as the lifecycle says.
#[must_use]
pub fn status_after(
    before: &EngineDirectoryStatus,
    spec: &EngineDirectorySpec,
    state: indexbuild_api::DirectoryState,
    change: Option<OwnerChangeReason>,
    node: Option<&NodeSeen>,
    wall: &str,
) -> EngineDirectoryStatus {
    let mut status = with_node(before, node);
    status.state = state;
    let grant = spec.grant.clone().unwrap_or_default();
    if node.is_none() && grant.pod_uid.is_empty() {
        status.node_name = None;
        status.node_boot_id = None;
        status.node_system_uuid = None;
    }
    if let Some(reason) = change {
        status.history.push(OwnerChange {
            epoch: grant.epoch,
            pod_uid: grant.pod_uid,
            pod_name: grant.pod_name,
            reason,
            time: wall.to_owned(),
            volume_generation: spec.volume.as_ref().map_or(0, |volume| volume.generation),
        });
        let surplus = status.history.len().saturating_sub(HISTORY_LENGTH);
        status.history.drain(..surplus);
    }
    status
}

/// The status with the machine of a pod that is about to be bound.
#[must_use]
pub fn with_node(before: &EngineDirectoryStatus, node: Option<&NodeSeen>) -> EngineDirectoryStatus {
    let mut status = before.clone();
    if let Some(NodeSeen { name, boot_id, system_uuid }) = node {
        status.node_name = Some(name.clone());
        status.node_boot_id = Some(boot_id.clone());
        status.node_system_uuid = Some(system_uuid.clone());
    }
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use indexbuild_api::{Claim, DirectoryState, Grant, Report};

    use super::*;

    fn bound(pod_uid: &str) -> EngineDirectorySpec {
        EngineDirectorySpec {
            grant: Some(Grant {
                epoch: 4,
                pod_uid: pod_uid.to_owned(),
                pod_name: "p".to_owned(),
                boot_nonce: String::new(),
            }),
            ..EngineDirectorySpec::default()
        }
    }

    #[test]
    fn the_operator_never_writes_the_owners_part() {
        let status = EngineDirectoryStatus {
            claim: Some(Claim::default()),
            report: Some(Report::default()),
            ..EngineDirectoryStatus::default()
        };
        let patch = status_patch("d", &status);
        assert!(patch["status"].get("claim").is_none() && patch["status"].get("report").is_none());
    }

    #[test]
    fn the_machine_of_an_owner_is_remembered_until_nobody_is_granted() {
        let node = NodeSeen { name: "n".to_owned(), boot_id: "b".to_owned(), system_uuid: "s".to_owned() };
        let state = DirectoryState::Starting;
        let first = status_after(&EngineDirectoryStatus::default(), &bound("u"), state, None, Some(&node), "now");
        assert_eq!(first.node_boot_id.as_deref(), Some("b"));
        let kept = status_after(&first, &bound("u"), state, None, None, "now");
        assert_eq!(kept.node_boot_id.as_deref(), Some("b"));
        let cleared = status_after(&kept, &bound(""), state, Some(OwnerChangeReason::Replaced), None, "now");
        assert_eq!((cleared.node_name.as_deref(), cleared.history.len()), (None, 1));
    }

    #[test]
    fn the_history_keeps_its_last_entries() {
        let mut status = EngineDirectoryStatus::default();
        for _ in 0..HISTORY_LENGTH + 5 {
            status =
                status_after(&status, &bound("u"), DirectoryState::Idle, Some(OwnerChangeReason::NextWork), None, "t");
        }
        assert_eq!(status.history.len(), HISTORY_LENGTH);
    }
}
