//! The control plane's part of a record's status, after a write of its spec: the state, the conditions, the history. It
//! tells people what the spec says already: nothing is decided by what of it may be lost.

use indexbuild_api::{
    Condition, DirectoryState, EngineDirectorySpec, EngineDirectoryStatus, HISTORY_LENGTH, OwnerChange,
    OwnerChangeReason,
};

/// What a write of a record says beside its spec: [`crate::Action::UpdateDirectory`].
#[derive(Clone, Copy, Debug)]
pub struct StatusChange<'a> {
    pub state: DirectoryState,
    /// Why the owner or its work changes, where it does.
    pub change: Option<OwnerChangeReason>,
    pub conditions: &'a [Condition],
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
    let StatusChange { state, change, conditions } = change;
    let mut status = before.clone();
    status.state = state;
    status.conditions = conditions.to_vec();
    // A record is made with its first owner, and without a status.
    if status.history.is_empty() {
        status.history.extend(owner_change(old, OwnerChangeReason::FirstOwner, wall));
    }
    // What the former owner's entry still lacks, as it could wait.
    fill_in(&mut status, old);
    // The report goes with its epoch: this write is the last that sees when the former work was done.
    end_work(&mut status);
    if let Some(reason) = change {
        status.history.extend(owner_change(spec, reason, wall));
        let surplus = status.history.len().saturating_sub(HISTORY_LENGTH);
        status.history.drain(..surplus);
    }
    fill_in(&mut status, spec);
    status
}

/// Whether two statuses differ at most in what is their slot's owner's to write.
#[must_use]
pub fn same_but_for_owner(one: &EngineDirectoryStatus, other: &EngineDirectoryStatus) -> bool {
    let EngineDirectoryStatus { state, conditions, history, claim: _, report: _, released: _ } = one;
    *state == other.state && *conditions == other.conditions && *history == other.history
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
        | DirectoryState::Tombstone
        | DirectoryState::Other(_) => false,
    }
}

/// Whether what a status says anew beside a spec that is written can wait for the record's next write: a state that
/// passes, the first owner, what of an owner is filled in and the spec has too. [`status_after`] adds it then.
#[must_use]
pub fn can_wait(before: &EngineDirectoryStatus, after: &EngineDirectoryStatus) -> bool {
    let mut same = after.clone();
    if is_passing(before.state) && is_passing(after.state) {
        same.state = before.state;
    }
    match (before.history.as_slice(), same.history.as_mut_slice()) {
        ([], [first]) if first.reason == OwnerChangeReason::FirstOwner => same.history.clear(),
        ([.., said], [.., last]) if said.epoch == last.epoch => {
            last.pod_uid.clone_from(&said.pod_uid);
            last.boot_nonce.clone_from(&said.boot_nonce);
            last.node_name.clone_from(&said.node_name);
            last.work_ended.clone_from(&said.work_ended);
        }
        _ => {}
    }
    same == *before
}

fn owner_change(spec: &EngineDirectorySpec, reason: OwnerChangeReason, wall: &str) -> Option<OwnerChange> {
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
        node_name: grant.node_name.clone(),
        work_id: spec.work.as_ref().map(|work| work.id.clone()).unwrap_or_default(),
        work_ended: None,
    })
}

/// When the last owner's work was done, as it has reported.
fn end_work(status: &mut EngineDirectoryStatus) {
    let result = status.report.as_ref().and_then(|report| report.result.as_ref());
    let Some(result) = result.filter(|result| result.finished.is_some()).cloned() else {
        return;
    };
    let of_it = |last: &&mut OwnerChange| last.epoch == result.epoch && last.work_id == result.work_id;
    if let Some(last) = status.history.last_mut().filter(of_it) {
        last.work_ended = result.finished;
    }
}

/// What is filled in within an epoch, once each, is filled in in its entry too.
fn fill_in(status: &mut EngineDirectoryStatus, spec: &EngineDirectorySpec) {
    let Some(grant) = spec.grant.as_ref().filter(|grant| !grant.pod_uid.is_empty()) else {
        return;
    };
    let Some(last) = status.history.last_mut().filter(|last| last.epoch == grant.epoch) else {
        return;
    };
    last.pod_uid.clone_from(&grant.pod_uid);
    last.boot_nonce.clone_from(&grant.boot_nonce);
    last.node_name.clone_from(&grant.node_name);
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Grant, Report, VolumeRef, Work, WorkResult};

    use super::*;

    fn granted(epoch: u64, pod_uid: &str, nonce: &str) -> EngineDirectorySpec {
        EngineDirectorySpec {
            grant: Some(Grant {
                epoch,
                pod_uid: pod_uid.to_owned(),
                pod_name: format!("p-e{epoch}"),
                boot_nonce: nonce.to_owned(),
                node_name: if pod_uid.is_empty() { String::new() } else { "n".to_owned() },
                ..Grant::default()
            }),
            volume: Some(VolumeRef { claim_name: "p-v1".to_owned(), generation: 1, ..VolumeRef::default() }),
            ..EngineDirectorySpec::default()
        }
    }

    fn change(change: Option<OwnerChangeReason>) -> StatusChange<'static> {
        StatusChange { state: DirectoryState::Starting, change, conditions: &[] }
    }

    #[test]
    fn the_first_owner_is_in_the_history_with_what_is_filled_in_later() {
        let made = granted(1, "", "");
        let first = status_after(&made, &EngineDirectoryStatus::default(), &made, change(None), "t1");
        assert_eq!((first.history.len(), first.history[0].reason), (1, OwnerChangeReason::FirstOwner));
        let bound = granted(1, "u", "");
        let second = status_after(&made, &first, &bound, change(None), "t2");
        let claimed = granted(1, "u", "nonce");
        let third = status_after(&bound, &second, &claimed, change(None), "t3");
        let entry = &third.history[0];
        let seen = [&entry.time, &entry.pod_uid, &entry.node_name, &entry.boot_nonce, &entry.claim_name];
        assert_eq!(seen.map(String::as_str), ["t1", "u", "n", "nonce", "p-v1"]);
    }

    /// I8: what a healthy slot's course changes is told by its next write, and is lost nowhere.
    #[test]
    fn what_can_wait_is_in_the_next_write() {
        let (made, bound, claimed) = (granted(1, "", ""), granted(1, "u", ""), granted(1, "u", "nonce"));
        let unsaid = EngineDirectoryStatus::default();
        let first = status_after(&made, &unsaid, &made, change(None), "t1");
        assert!(can_wait(&unsaid, &first), "the first owner is told with the next write");
        let second = status_after(&made, &unsaid, &bound, change(None), "t2");
        assert_eq!((second.history.len(), second.state), (1, DirectoryState::Starting));
        assert!(can_wait(&unsaid, &second), "the pod and its node are in the spec");
        assert!(can_wait(&first, &status_after(&made, &first, &bound, change(None), "t2")));
        let third = status_after(&bound, &second, &claimed, change(None), "t3");
        assert!(can_wait(&second, &third));
        // As if the second and third had not been written.
        let next = granted(2, "u", "nonce");
        let fourth = status_after(&claimed, &first, &next, change(Some(OwnerChangeReason::NextWork)), "t4");
        let told: Vec<_> = fourth.history.iter().map(|entry| [&entry.boot_nonce, &entry.node_name]).collect();
        assert_eq!(told, [["nonce", "n"], ["nonce", "n"]]);
        assert!(!can_wait(&second, &fourth), "a change of work is in the history at once");
        let silent = EngineDirectoryStatus { state: DirectoryState::Silent, ..second.clone() };
        assert!(!can_wait(&second, &silent) && !can_wait(&silent, &second), "a person is told at once");
    }

    #[test]
    fn the_node_of_an_owner_is_told_of_it_and_of_no_later_one() {
        let (made, bound, next) = (granted(4, "", ""), granted(4, "u", ""), granted(5, "", ""));
        let first = status_after(&made, &EngineDirectoryStatus::default(), &bound, change(None), "now");
        let second = status_after(&bound, &first, &next, change(Some(OwnerChangeReason::Replaced)), "now");
        let nodes: Vec<_> = second.history.iter().map(|entry| entry.node_name.as_str()).collect();
        assert_eq!(nodes, ["n", ""]);
    }

    #[test]
    fn the_owners_part_of_a_status_is_apart_from_the_control_planes() {
        let bound = granted(1, "u", "");
        let told = status_after(&bound, &EngineDirectoryStatus::default(), &bound, change(None), "t");
        let claimed = EngineDirectoryStatus { claim: Some(indexbuild_api::Claim::default()), ..told.clone() };
        assert!(same_but_for_owner(&told, &claimed));
        assert!(!same_but_for_owner(&told, &EngineDirectoryStatus::default()));
    }

    #[test]
    fn when_a_work_was_done_stands_in_the_history_once_the_next_one_is_granted() {
        let work = |id: &str| {
            serde_json::from_value::<Option<Work>>(serde_json::json!({"id": id, "kind": "Encode", "inputsDigest": ""}))
                .unwrap()
        };
        let first = EngineDirectorySpec { work: work("encode-0"), ..granted(1, "u", "n") };
        let next = EngineDirectorySpec { work: work("sort-0"), ..granted(2, "u", "n") };
        let done = |work_id: &str, epoch| {
            let finished = Some("2026-01-01T00:00:09Z".to_owned());
            let result = WorkResult { work_id: work_id.to_owned(), epoch, finished, ..WorkResult::default() };
            Some(Report { epoch, result: Some(result), ..Report::default() })
        };
        let change = |change| StatusChange { state: DirectoryState::Working, change, conditions: &[] };
        let begun = status_after(&first, &EngineDirectoryStatus::default(), &first, change(None), "t0");
        for (report, ended) in [
            (done("encode-0", 1), Some("2026-01-01T00:00:09Z")),
            // Of another epoch or work it says nothing.
            (done("encode-0", 7), None),
            (done("encode-9", 1), None),
            (None, None),
        ] {
            let before = EngineDirectoryStatus { report, ..begun.clone() };
            let after = status_after(&first, &before, &next, change(Some(OwnerChangeReason::NextWork)), "t1");
            let told: Vec<_> = after.history.iter().map(|entry| entry.work_ended.as_deref()).collect();
            assert_eq!(told, [ended, None]);
            let unchanged = status_after(&first, &before, &first, change(None), "t1");
            assert!(can_wait(&before, &unchanged), "it costs no write of its own");
        }
    }

    #[test]
    fn the_history_keeps_its_last_entries() {
        let mut status = EngineDirectoryStatus::default();
        for epoch in 1..30 {
            let (old, new) = (granted(epoch, "u", "n"), granted(epoch + 1, "u", "n"));
            status = status_after(&old, &status, &new, change(Some(OwnerChangeReason::NextWork)), "t");
        }
        assert_eq!(status.history.len(), HISTORY_LENGTH);
        assert_eq!(status.history.last().unwrap().epoch, 30);
    }
}
