//! The control plane's part of a record's status, after a write of its spec: the machine, the state, the history.

use indexbuild_api::{
    Condition, DirectoryState, EngineDirectorySpec, EngineDirectoryStatus, HISTORY_LENGTH, OwnerChange,
    OwnerChangeReason,
};

use crate::action::NodeSeen;

/// What a write of a record says beside its spec: [`crate::Action::UpdateDirectory`].
#[derive(Clone, Copy, Debug)]
pub struct StatusChange<'a> {
    pub state: DirectoryState,
    /// Why the owner or its work changes, where it does.
    pub change: Option<OwnerChangeReason>,
    /// The machine of the pod that the write binds, where it binds one.
    pub node: Option<&'a NodeSeen>,
    pub conditions: &'a [Condition],
}

/// The status before the spec is written: the machine of a pod that is about to be bound is noted first, so that a
/// crash between the two writes loses nothing that protects a volume.
#[must_use]
pub fn status_noted(
    before: &EngineDirectoryStatus,
    spec: &EngineDirectorySpec,
    change: StatusChange<'_>,
    wall: &str,
) -> EngineDirectoryStatus {
    let mut status = before.clone();
    if let Some(NodeSeen { name, boot_id, system_uuid }) = change.node {
        status.state = change.state;
        // A record is made with its first owner, and without a status.
        if status.history.is_empty() {
            status.history.extend(owner_change(spec, before, OwnerChangeReason::FirstOwner, wall));
        }
        status.node_name = Some(name.clone());
        status.node_boot_id = Some(boot_id.clone());
        status.node_system_uuid = Some(system_uuid.clone());
        fill_in(&mut status, spec);
    }
    status
}

/// The status after the spec was changed from `old` to `spec`.
#[must_use]
pub fn status_after(
    old: &EngineDirectorySpec,
    before: &EngineDirectoryStatus,
    spec: &EngineDirectorySpec,
    change: StatusChange<'_>,
    wall: &str,
) -> EngineDirectoryStatus {
    let mut status = status_noted(before, spec, change, wall);
    let StatusChange { state, change, node, conditions } = change;
    status.state = state;
    status.conditions = conditions.to_vec();
    if status.history.is_empty() {
        status.history.extend(owner_change(old, before, OwnerChangeReason::FirstOwner, wall));
    }
    // What the former owner's entry still lacks, as it could wait.
    fill_in(&mut status, old);
    let bound = spec.grant.as_ref().is_some_and(|grant| !grant.pod_uid.is_empty());
    if node.is_none() && !bound {
        status.node_name = None;
        status.node_boot_id = None;
        status.node_system_uuid = None;
    }
    if let Some(reason) = change {
        let entry = owner_change(spec, &status, reason, wall);
        status.history.extend(entry);
        let surplus = status.history.len().saturating_sub(HISTORY_LENGTH);
        status.history.drain(..surplus);
    }
    fill_in(&mut status, spec);
    status
}

/// Whether a state is one of a healthy slot's course, which the next write tells soon enough.
#[must_use]
pub const fn is_passing(state: DirectoryState) -> bool {
    match state {
        DirectoryState::Starting | DirectoryState::Working | DirectoryState::Idle | DirectoryState::Finished => true,
        DirectoryState::Waiting
        | DirectoryState::BackingOff
        | DirectoryState::Silent
        | DirectoryState::Stopping
        | DirectoryState::Suspended
        | DirectoryState::Tombstone => false,
    }
}

/// Whether what a status says anew beside a spec that is written can wait for the record's next write: a state that
/// passes, the first owner, a nonce that the spec has too. [`status_after`] adds it then.
#[must_use]
pub fn can_wait(before: &EngineDirectoryStatus, after: &EngineDirectoryStatus) -> bool {
    let mut same = after.clone();
    if is_passing(before.state) && is_passing(after.state) {
        same.state = before.state;
    }
    match (before.history.as_slice(), same.history.as_mut_slice()) {
        ([], [first]) if first.reason == OwnerChangeReason::FirstOwner => same.history.clear(),
        ([.., said], [.., last]) if said.epoch == last.epoch => last.boot_nonce.clone_from(&said.boot_nonce),
        _ => {}
    }
    same == *before
}

fn owner_change(
    spec: &EngineDirectorySpec,
    status: &EngineDirectoryStatus,
    reason: OwnerChangeReason,
    wall: &str,
) -> Option<OwnerChange> {
    let grant = spec.grant.as_ref()?;
    let volume = spec.volume.as_ref();
    Some(OwnerChange {
        epoch: grant.epoch,
        pod_uid: grant.pod_uid.clone(),
        pod_name: grant.pod_name.clone(),
        reason,
        time: wall.to_owned(),
        volume_generation: volume.map_or(0, |volume| volume.generation),
        claim_name: volume.map(|volume| volume.claim_name.clone()).unwrap_or_default(),
        boot_nonce: grant.boot_nonce.clone(),
        node_name: status.node_name.clone().unwrap_or_default(),
        work_id: spec.work.as_ref().map(|work| work.id.clone()).unwrap_or_default(),
    })
}

/// What is filled in within an epoch, once each, is filled in in its entry too.
fn fill_in(status: &mut EngineDirectoryStatus, spec: &EngineDirectorySpec) {
    let node = status.node_name.clone().unwrap_or_default();
    let Some(grant) = spec.grant.as_ref().filter(|grant| !grant.pod_uid.is_empty()) else {
        return;
    };
    let Some(last) = status.history.last_mut().filter(|last| last.epoch == grant.epoch) else {
        return;
    };
    last.pod_uid.clone_from(&grant.pod_uid);
    last.boot_nonce.clone_from(&grant.boot_nonce);
    last.node_name = node;
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Grant, VolumeRef};

    use super::*;

    fn granted(epoch: u64, pod_uid: &str, nonce: &str) -> EngineDirectorySpec {
        EngineDirectorySpec {
            grant: Some(Grant {
                epoch,
                pod_uid: pod_uid.to_owned(),
                pod_name: format!("p-e{epoch}"),
                boot_nonce: nonce.to_owned(),
                ..Grant::default()
            }),
            volume: Some(VolumeRef { claim_name: "p-v1".to_owned(), generation: 1, ..VolumeRef::default() }),
            ..EngineDirectorySpec::default()
        }
    }

    fn change(change: Option<OwnerChangeReason>, node: Option<&NodeSeen>) -> StatusChange<'_> {
        StatusChange { state: DirectoryState::Starting, change, node, conditions: &[] }
    }

    #[test]
    fn the_first_owner_is_in_the_history_with_what_is_filled_in_later() {
        let node = NodeSeen { name: "n".to_owned(), boot_id: "b".to_owned(), system_uuid: "s".to_owned() };
        let made = granted(1, "", "");
        let first = status_after(&made, &EngineDirectoryStatus::default(), &made, change(None, None), "t1");
        assert_eq!((first.history.len(), first.history[0].reason), (1, OwnerChangeReason::FirstOwner));
        let bound = granted(1, "u", "");
        let second = status_after(&made, &first, &bound, change(None, Some(&node)), "t2");
        assert_eq!(second, status_noted(&first, &bound, change(None, Some(&node)), "t2"), "one write says it all");
        let claimed = granted(1, "u", "nonce");
        let third = status_after(&bound, &second, &claimed, change(None, None), "t3");
        let entry = &third.history[0];
        let seen = [&entry.time, &entry.pod_uid, &entry.node_name, &entry.boot_nonce, &entry.claim_name];
        assert_eq!(seen.map(String::as_str), ["t1", "u", "n", "nonce", "p-v1"]);
    }

    /// I8: what a healthy slot's course changes is told by its next write, and is lost nowhere.
    #[test]
    fn what_can_wait_is_in_the_next_write() {
        let node = NodeSeen { name: "n".to_owned(), boot_id: "b".to_owned(), system_uuid: "s".to_owned() };
        let (made, bound, claimed) = (granted(1, "", ""), granted(1, "u", ""), granted(1, "u", "nonce"));
        let unsaid = EngineDirectoryStatus::default();
        let first = status_after(&made, &unsaid, &made, change(None, None), "t1");
        assert!(can_wait(&unsaid, &first), "the first owner is told with its machine");
        let second = status_noted(&unsaid, &bound, change(None, Some(&node)), "t2");
        assert_eq!((second.history.len(), second.state), (1, DirectoryState::Starting));
        assert!(!can_wait(&unsaid, &second), "the machine is evidence");
        let third = status_after(&bound, &second, &claimed, change(None, None), "t3");
        assert!(can_wait(&second, &third));
        // As if the third had not been written.
        let next = granted(2, "u", "nonce");
        let fourth = status_after(&claimed, &second, &next, change(Some(OwnerChangeReason::NextWork), None), "t4");
        assert_eq!(
            fourth.history.iter().map(|entry| entry.boot_nonce.as_str()).collect::<Vec<_>>(),
            ["nonce", "nonce"]
        );
        assert!(!can_wait(&second, &fourth), "a change of work is in the history at once");
        let silent = EngineDirectoryStatus { state: DirectoryState::Silent, ..second.clone() };
        assert!(!can_wait(&second, &silent) && !can_wait(&silent, &second), "a person is told at once");
    }

    #[test]
    fn the_machine_of_an_owner_is_remembered_until_nobody_is_granted() {
        let node = NodeSeen { name: "n".to_owned(), boot_id: "b".to_owned(), system_uuid: "s".to_owned() };
        let (made, bound) = (granted(4, "", ""), granted(4, "u", ""));
        let first = status_after(&made, &EngineDirectoryStatus::default(), &bound, change(None, Some(&node)), "now");
        assert_eq!(first.node_boot_id.as_deref(), Some("b"));
        let kept = status_after(&bound, &first, &bound, change(None, None), "now");
        assert_eq!(kept.node_boot_id.as_deref(), Some("b"));
        let next = granted(5, "", "");
        let cleared = status_after(&bound, &kept, &next, change(Some(OwnerChangeReason::Replaced), None), "now");
        assert_eq!((cleared.node_name.as_deref(), cleared.history.len()), (None, 2));
        assert_eq!(cleared.history[1].node_name, "");
        assert_eq!(cleared.history[0].node_name, "n", "what was is not touched");
    }

    #[test]
    fn the_history_keeps_its_last_entries() {
        let mut status = EngineDirectoryStatus::default();
        for epoch in 1..30 {
            let (old, new) = (granted(epoch, "u", "n"), granted(epoch + 1, "u", "n"));
            status = status_after(&old, &status, &new, change(Some(OwnerChangeReason::NextWork), None), "t");
        }
        assert_eq!(status.history.len(), HISTORY_LENGTH);
        assert_eq!(status.history.last().unwrap().epoch, 30);
    }
}
