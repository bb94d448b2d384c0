//! The control plane's part of a record's status, after a write of its spec: the state, the conditions, the history. It
//! tells people what the spec says already: nothing is decided by what of it may be lost.

use indexbuild_api::{
    Condition, DirectoryState, EngineDirectorySpec, EngineDirectoryStatus, Epoch, HISTORY_LENGTH, OwnerChange,
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
    for change in untold(spec, &before.history).cloned() {
        match status.history.iter_mut().find(|told| told.epoch == change.epoch) {
            Some(told) => told.work_ended = change.work_ended,
            None => status.history.push(change),
        }
    }
    // An older version made a record with its first owner, and without a word of it.
    if status.history.is_empty() {
        status.history.extend(owner_change(old, OwnerChangeReason::FirstOwner, wall));
    }
    // What the former owner's entry still lacks, as it could wait.
    fill_in(&mut status.history, old);
    // The report goes with its epoch: this write is the last that sees when the former work was done.
    end_work(&mut status.history, before);
    if let Some(reason) = change
        && status.history.last().map(|last| last.epoch) != spec.grant.as_ref().map(|grant| grant.epoch)
    {
        status.history.extend(owner_change(spec, reason, wall));
    }
    let surplus = status.history.len().saturating_sub(HISTORY_LENGTH);
    status.history.drain(..surplus);
    fill_in(&mut status.history, spec);
    status
}

/// What of a record's changes its history does not tell: a change, or when the work of one that it tells was done.
pub(crate) fn untold<'a>(
    spec: &'a EngineDirectorySpec,
    history: &'a [OwnerChange],
) -> impl Iterator<Item = &'a OwnerChange> {
    let last = history.last().map_or(Epoch::NONE, |last| last.epoch);
    spec.untold.iter().filter(move |change| {
        let told = history.iter().find(|told| told.epoch == change.epoch);
        told.map_or(change.epoch > last, |told| told.work_ended.is_none() && change.work_ended.is_some())
    })
}

/// Notes in a spec that changes from `old` what changes with it, and forgets what the history tells by now.
pub(crate) fn note_change(
    old: &EngineDirectorySpec,
    spec: &mut EngineDirectorySpec,
    status: &EngineDirectoryStatus,
    change: Option<OwnerChangeReason>,
    wall: &str,
) {
    let history = &status.history;
    let mut news: Vec<OwnerChange> = untold(old, history).cloned().collect();
    if news.is_empty() && history.is_empty() {
        news.extend(owner_change(old, OwnerChangeReason::FirstOwner, wall));
    }
    fill_in(&mut news, old);
    // The report goes with its epoch: this write is the last that sees when the former work was done, also one that is told.
    let told = history.last().filter(|last| news.iter().all(|change| change.epoch > last.epoch)).cloned();
    let mut ended: Vec<OwnerChange> = told.into_iter().collect();
    end_work(&mut ended, status);
    if ended.first().map(|ended| &ended.work_ended) != history.last().map(|last| &last.work_ended) {
        news.splice(..0, ended);
    }
    end_work(&mut news, status);
    news.extend(change.and_then(|reason| owner_change(spec, reason, wall)));
    fill_in(&mut news, spec);
    let surplus = news.len().saturating_sub(HISTORY_LENGTH);
    news.drain(..surplus);
    spec.untold = news;
}

/// The first owner of a record that is about to be made.
pub(crate) fn first_owner(spec: &EngineDirectorySpec, wall: &str) -> Vec<OwnerChange> {
    owner_change(spec, OwnerChangeReason::FirstOwner, wall).into_iter().collect()
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

/// A status is written at the latest when it does not tell so many changes of owner or work: half of what it remembers.
const MOST_UNTOLD: usize = HISTORY_LENGTH / 2;

/// Whether what a status says anew beside a spec that is written can wait for the record's next write: a state that
/// passes, changes of a healthy slot's course, what of an owner is filled in. The spec has all of it
/// ([`EngineDirectorySpec::untold`]), and [`status_after`] adds it then.
#[must_use]
pub fn can_wait(before: &EngineDirectoryStatus, after: &EngineDirectoryStatus) -> bool {
    let mut same = after.clone();
    if is_passing(before.state) && is_passing(after.state) {
        same.state = before.state;
    }
    let told = before.history.last().map_or(Epoch::NONE, |last| last.epoch);
    let news: Vec<&OwnerChange> = after.history.iter().filter(|change| change.epoch > told).collect();
    if news.len() > MOST_UNTOLD || !news.iter().all(|change| is_of_course(change.reason)) {
        return false;
    }
    same.history.clone_from(&before.history);
    same == *before
}

/// Whether a change is one of a healthy slot's course, of which nobody needs to hear at once.
const fn is_of_course(reason: OwnerChangeReason) -> bool {
    match reason {
        OwnerChangeReason::FirstOwner | OwnerChangeReason::NextWork | OwnerChangeReason::Revoked => true,
        OwnerChangeReason::Rebound
        | OwnerChangeReason::Replaced
        | OwnerChangeReason::Returned
        | OwnerChangeReason::AttemptFailed
        | OwnerChangeReason::NoProgress
        | OwnerChangeReason::OwnerEnded
        | OwnerChangeReason::Suspended
        | OwnerChangeReason::Resumed
        | OwnerChangeReason::ScaledDown
        | OwnerChangeReason::Aborted
        | OwnerChangeReason::Other(_) => false,
    }
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
fn end_work(history: &mut [OwnerChange], status: &EngineDirectoryStatus) {
    let result = status.report.as_ref().and_then(|report| report.result.as_ref());
    let Some(result) = result.filter(|result| result.finished.is_some()) else {
        return;
    };
    let of_it = |last: &&mut OwnerChange| last.epoch == result.epoch && last.work_id == result.work_id;
    if let Some(last) = history.iter_mut().rev().find(of_it) {
        last.work_ended.clone_from(&result.finished);
    }
}

/// What is filled in within an epoch, once each, is filled in in its entry too.
fn fill_in(history: &mut [OwnerChange], spec: &EngineDirectorySpec) {
    let Some(grant) = spec.grant.as_ref().filter(|grant| !grant.pod_uid.is_empty()) else {
        return;
    };
    let Some(entry) = history.iter_mut().rev().find(|entry| entry.epoch == grant.epoch) else {
        return;
    };
    entry.pod_uid.clone_from(&grant.pod_uid);
    entry.boot_nonce.clone_from(&grant.boot_nonce);
    entry.node_name.clone_from(&grant.node_name);
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{Grant, Report, VolumeRef, Work, WorkResult};

    use super::*;

    fn granted(epoch: u64, pod_uid: &str, nonce: &str) -> EngineDirectorySpec {
        EngineDirectorySpec {
            grant: Some(Grant {
                epoch: Epoch::new(epoch),
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
        assert!(can_wait(&second, &fourth), "the next work of the same process");
        let failed = status_after(&claimed, &first, &next, change(Some(OwnerChangeReason::AttemptFailed)), "t4");
        assert!(!can_wait(&second, &failed), "what went wrong is in the history at once");
        let silent = EngineDirectoryStatus { state: DirectoryState::Silent, ..second.clone() };
        assert!(!can_wait(&second, &silent) && !can_wait(&silent, &second), "a person is told at once");
    }

    /// The works of a slot, each soon done, cost no write but that of the spec; all of them are told at last, each with its time, its
    /// process and its node, be it after half of them were told already.
    #[test]
    fn no_change_is_lost_that_waited_for_the_next_write_of_the_status() {
        let at = |epoch: u64| format!("t{epoch}");
        for told_between in [0, 3, 100] {
            let mut spec = granted(1, "", "");
            spec.untold = first_owner(&spec, &at(1));
            let mut status = EngineDirectoryStatus::default();
            let mut written = 0;
            let mut write = |spec: &mut EngineDirectorySpec, mut next: EngineDirectorySpec, reason, wall: &str| {
                next.untold.clone_from(&spec.untold);
                note_change(spec, &mut next, &status, reason, wall);
                let after = status_after(spec, &status, &next, change(reason), wall);
                *spec = next;
                if told_between == 100
                    || !can_wait(&status, &after)
                    || spec.grant.as_ref().unwrap().epoch == told_between
                {
                    (status, written) = (after, written + 1);
                }
                status.history.len()
            };
            write(&mut spec, granted(1, "u", ""), None, "bound");
            write(&mut spec, granted(1, "u", "nonce"), None, "claimed");
            for epoch in 2..=8 {
                let next = granted(epoch, "u", "nonce");
                write(&mut spec, next, Some(OwnerChangeReason::NextWork), &at(epoch));
            }
            let gone = granted(9, "", "");
            assert_eq!(write(&mut spec, gone, Some(OwnerChangeReason::OwnerEnded), &at(9)), 9, "that is told at once");
            let epochs: Vec<_> = status.history.iter().map(|entry| (entry.epoch.get(), entry.time.clone())).collect();
            assert_eq!(epochs, (1..=9).map(|epoch| (epoch, at(epoch))).collect::<Vec<_>>(), "{told_between}");
            assert!(status.history[..8].iter().all(|entry| entry.boot_nonce == "nonce" && entry.node_name == "n"));
            assert_eq!(untold(&spec, &status.history).count(), 0);
            assert_eq!(
                written,
                match told_between {
                    0 => 1,
                    3 => 2,
                    _ => 10,
                }
            );
        }
    }

    #[test]
    fn more_than_half_of_what_is_remembered_is_never_left_untold() {
        let mut spec = granted(1, "u", "nonce");
        let status = EngineDirectoryStatus::default();
        let waited = (2..=30).take_while(|epoch| {
            let mut next = granted(*epoch, "u", "nonce");
            note_change(&spec, &mut next, &status, Some(OwnerChangeReason::NextWork), "t");
            let after = status_after(&spec, &status, &next, change(Some(OwnerChangeReason::NextWork)), "t");
            spec = next;
            can_wait(&status, &after)
        });
        assert_eq!(waited.count() + 1, MOST_UNTOLD);
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
            let result =
                WorkResult { work_id: work_id.to_owned(), epoch: Epoch::new(epoch), finished, ..WorkResult::default() };
            Some(Report { epoch: Epoch::new(epoch), result: Some(result), ..Report::default() })
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
