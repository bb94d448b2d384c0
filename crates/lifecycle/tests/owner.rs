//! What an executor may do, given what it saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use indexbuild_api::{Claim, EngineDirectorySpec, EngineDirectoryStatus, Epoch, Grant, RunLocation, Work, WorkKind};
use indexbuild_lifecycle::owner::{Current, ExitReason, GiveWayReason, OwnerState, Seen, Step, next};
use indexbuild_lifecycle::world::Record;

fn state() -> OwnerState {
    OwnerState {
        pod_uid: "me".to_owned(),
        boot_nonce: "mine".to_owned(),
        orphan_after: 30_000,
        last_contact: 1_000,
        claimed: false,
        current: None,
        stop_requested: false,
    }
}

fn working() -> OwnerState {
    OwnerState {
        claimed: true,
        current: Some(Current { epoch: Epoch::new(5), work_id: "encode-1".to_owned() }),
        ..state()
    }
}

fn work(id: &str) -> Work {
    Work {
        id: id.to_owned(),
        kind: WorkKind::Encode,
        inputs_digest: String::new(),
        runs: RunLocation::Store,
        splits: vec![],
        inputs: vec![],
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    }
}

fn record(epoch: u64, pod_uid: &str, nonce: &str, id: Option<&str>) -> Record {
    let (pod_uid, boot_nonce) = (pod_uid.to_owned(), nonce.to_owned());
    let grant = Grant { epoch: Epoch::new(epoch), pod_name: "p".to_owned(), pod_uid, boot_nonce, ..Grant::default() };
    let spec = EngineDirectorySpec { grant: Some(grant), work: id.map(work), ..EngineDirectorySpec::default() };
    Record { spec, status: EngineDirectoryStatus::default(), version: "1".to_owned() }
}

fn see(state: &OwnerState, record: &Record) -> Step {
    next(state, Seen::Record(record), 2_000)
}

#[test]
fn it_waits_for_its_grant_then_claims_then_waits_to_be_bound_then_starts() {
    let nobody = Record::default();
    assert_eq!(see(&state(), &nobody), Step::Wait);
    assert_eq!(see(&state(), &record(4, "", "", Some("encode-1"))), Step::Wait, "its pod is not bound yet");
    assert_eq!(see(&state(), &record(4, "other", "n", Some("encode-1"))), Step::Wait, "an older grant, read late");
    let mut mine = record(5, "me", "", Some("encode-1"));
    assert_eq!(see(&state(), &mine), Step::Claim);
    mine.status.claim = Some(Claim { pod_uid: "me".to_owned(), boot_nonce: "mine".to_owned(), boot_id: String::new() });
    assert_eq!(see(&OwnerState { claimed: true, ..state() }, &mine), Step::Wait);
    mine.spec.grant.as_mut().unwrap().boot_nonce = "mine".to_owned();
    assert_eq!(
        see(&OwnerState { claimed: true, ..state() }, &mine),
        Step::Start { epoch: Epoch::new(5), work: work("encode-1") }
    );
    assert_eq!(see(&working(), &mine), Step::Report);
}

/// G9, failure-modes.md #11.
#[test]
fn a_second_nonce_under_its_pod_uid_makes_it_exit() {
    let mut taken = record(5, "me", "", Some("encode-1"));
    taken.status.claim =
        Some(Claim { pod_uid: "me".to_owned(), boot_nonce: "another".to_owned(), boot_id: String::new() });
    assert_eq!(see(&state(), &taken), Step::Exit(ExitReason::SecondNonce));
    let bound = record(5, "me", "another", Some("encode-1"));
    assert_eq!(see(&state(), &bound), Step::Exit(ExitReason::SecondNonce));
    assert_eq!(see(&working(), &bound), Step::GiveWay(GiveWayReason::SecondNonce));
}

/// G3, G9: the next work is another epoch, so another directory.
#[test]
fn the_next_work_starts_under_its_own_epoch() {
    assert_eq!(
        see(&working(), &record(6, "me", "mine", Some("sort-0"))),
        Step::Start { epoch: Epoch::new(6), work: work("sort-0") }
    );
    assert_eq!(see(&working(), &record(5, "me", "mine", Some("sort-0"))), Step::GiveWay(GiveWayReason::WorkChanged));
}

/// G9: what a process has in hand is of the epoch that it was begun under. The same work under a higher one is another
/// attempt, in another directory, also where it had ended and was reported: that result is of an older epoch.
#[test]
fn the_same_work_under_a_higher_epoch_starts_anew() {
    for epoch in [6, 9] {
        let again = record(epoch, "me", "mine", Some("encode-1"));
        assert_eq!(see(&working(), &again), Step::Start { epoch: Epoch::new(epoch), work: work("encode-1") });
    }
    assert_eq!(see(&working(), &record(5, "me", "mine", Some("encode-1"))), Step::Report, "the control");
}

/// G11.
#[test]
fn a_stale_owner_gives_way_as_soon_as_it_sees_a_higher_epoch() {
    for (uid, nonce) in [("other", "n"), ("", ""), ("me", "")] {
        assert_eq!(
            see(&working(), &record(6, uid, nonce, Some("encode-1"))),
            Step::GiveWay(GiveWayReason::HigherEpoch),
            "{uid} {nonce}"
        );
    }
    assert_eq!(see(&working(), &record(6, "me", "mine", None)), Step::GiveWay(GiveWayReason::Revoked));
    assert_eq!(see(&working(), &Record::default()), Step::GiveWay(GiveWayReason::Revoked));
    let idle = OwnerState { claimed: true, ..state() };
    assert_eq!(see(&idle, &record(6, "other", "n", None)), Step::Exit(ExitReason::Superseded));
    assert_eq!(see(&idle, &Record::default()), Step::Exit(ExitReason::Superseded));
}

#[test]
fn an_older_record_read_late_changes_nothing() {
    assert_eq!(see(&working(), &record(4, "other", "n", Some("encode-0"))), Step::GoOn);
}

/// G11, failure-modes.md #30: 401, 403 and 404 mean as little as silence.
#[test]
fn cut_off_it_goes_on_and_ends_by_itself_after_orphan_after() {
    for seen in [Seen::Absent, Seen::Refused, Seen::Unreachable] {
        assert_eq!(next(&working(), seen, 30_999), Step::GoOn);
        assert_eq!(next(&working(), seen, 31_000), Step::GiveWay(GiveWayReason::Orphaned));
        assert_eq!(next(&state(), seen, 30_999), Step::Wait);
        assert_eq!(next(&state(), seen, 31_000), Step::Exit(ExitReason::Orphaned));
        assert_eq!(next(&working(), seen, 0), Step::GoOn, "a clock before the last contact is no time passed");
    }
}

#[test]
fn told_to_stop_it_stops_whatever_it_sees() {
    let stopping = OwnerState { stop_requested: true, ..working() };
    assert_eq!(see(&stopping, &record(5, "me", "mine", Some("encode-1"))), Step::GiveWay(GiveWayReason::StopRequested));
    let idle = OwnerState { stop_requested: true, ..state() };
    assert_eq!(next(&idle, Seen::Unreachable, 2_000), Step::Exit(ExitReason::StopRequested));
}
