//! The rules of the record of ownership: for each, one write that it takes and one that it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::{
    Attached, Chosen, Claim, Condition, ConditionStatus, ConditionType, DirectoryState, EngineDirectorySpec,
    EngineDirectoryStatus, Epoch, FormerVolume, Grant, OwnerChangeReason, Reason, Report, VolumeRef, Work, WorkKind,
    WorkResult,
};
use indexbuild_lifecycle::admission::{OPERATOR, Refusal, review_spec, review_status};
use indexbuild_lifecycle::world::Record;

const OWNER: &str = "pod-7";

fn grant(epoch: u64, pod_uid: &str, nonce: &str) -> Grant {
    Grant {
        epoch: Epoch::new(epoch),
        pod_name: format!("orders-0-e{epoch}"),
        pod_uid: pod_uid.to_owned(),
        boot_nonce: nonce.to_owned(),
        ..Grant::default()
    }
}

fn work(id: &str) -> Work {
    Work {
        id: id.to_owned(),
        kind: WorkKind::Encode,
        inputs_digest: "d".to_owned(),
        runs: indexbuild_api::RunLocation::Store,
        splits: vec![],
        inputs: vec![],
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    }
}

fn spec() -> EngineDirectorySpec {
    EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: "u".to_owned(),
        slot: 0,
        grant: Some(grant(7, OWNER, "n7")),
        work: Some(work("encode-1")),
        volume: Some(VolumeRef {
            claim_name: "v1".to_owned(),
            claim_uid: "c1".to_owned(),
            generation: 1,
            condemned: false,
        }),
        ..EngineDirectorySpec::default()
    }
}

fn report(epoch: u64, nonce: &str) -> Report {
    Report { epoch: Epoch::new(epoch), boot_nonce: nonce.to_owned(), ..Report::default() }
}

fn result(work_id: &str, epoch: u64) -> WorkResult {
    WorkResult {
        work_id: work_id.to_owned(),
        epoch: Epoch::new(epoch),
        digest: "r".to_owned(),
        ..WorkResult::default()
    }
}

fn record() -> Record {
    Record { spec: spec(), status: EngineDirectoryStatus::default(), version: "1".to_owned() }
}

fn status(change: impl FnOnce(&mut EngineDirectoryStatus)) -> EngineDirectoryStatus {
    let mut status = EngineDirectoryStatus::default();
    change(&mut status);
    status
}

/// G9.
#[test]
fn a_claim_is_taken_from_the_granted_pod_alone_and_names_it() {
    let claim =
        |uid: &str| Some(Claim { pod_uid: uid.to_owned(), boot_nonce: "n7".to_owned(), boot_id: "b".to_owned() });
    let unbound = Record { spec: EngineDirectorySpec { grant: Some(grant(7, OWNER, "")), ..spec() }, ..record() };
    assert_eq!(review_status(&unbound, &status(|s| s.claim = claim(OWNER)), OWNER), Ok(()));
    assert_eq!(review_status(&unbound, &status(|s| s.claim = claim("pod-8")), "pod-8"), Err(Refusal::NotOwner));
    assert_eq!(review_status(&unbound, &status(|s| s.claim = claim("pod-8")), OWNER), Err(Refusal::ForeignClaim));
    assert_eq!(review_status(&unbound, &status(|s| s.claim = claim(OWNER)), OPERATOR), Err(Refusal::NotOwner));
    let nobody = Record { spec: EngineDirectorySpec { grant: None, work: None, ..spec() }, ..record() };
    assert_eq!(review_status(&nobody, &status(|s| s.claim = claim(OWNER)), OWNER), Err(Refusal::NotOwner));
}

/// G9, failure-modes.md #11.
#[test]
fn a_second_nonce_under_one_pod_uid_is_refused_and_the_next_pod_may_claim() {
    let claim = |uid: &str, nonce: &str| {
        Some(Claim { pod_uid: uid.to_owned(), boot_nonce: nonce.to_owned(), boot_id: "b".to_owned() })
    };
    let mut claimed = record();
    claimed.status.claim = claim(OWNER, "n7");
    let another_kernel = status(|s| s.claim = claim(OWNER, "n7").map(|said| Claim { boot_id: "c".to_owned(), ..said }));
    assert_eq!(review_status(&claimed, &another_kernel, OWNER), Err(Refusal::SecondClaim), "its word stands");
    assert_eq!(review_status(&claimed, &status(|s| s.claim = claim(OWNER, "n8")), OWNER), Err(Refusal::SecondClaim));
    assert_eq!(review_status(&claimed, &status(|s| s.claim = None), OWNER), Err(Refusal::SecondClaim));
    claimed.status.claim = claim("pod-6", "n6");
    assert_eq!(review_status(&claimed, &status(|s| s.claim = claim(OWNER, "n7")), OWNER), Ok(()));
}

/// G3.
#[test]
fn a_report_speaks_for_the_granted_epoch_and_nonce() {
    let write = |report: Report, caller: &str| review_status(&record(), &status(|s| s.report = Some(report)), caller);
    assert_eq!(write(report(7, "n7"), OWNER), Ok(()));
    assert_eq!(write(report(6, "n7"), OWNER), Err(Refusal::StaleReport));
    assert_eq!(write(report(8, "n7"), OWNER), Err(Refusal::StaleReport));
    assert_eq!(write(report(7, "n6"), OWNER), Err(Refusal::StaleReport));
    assert_eq!(write(report(7, "n7"), "pod-6"), Err(Refusal::NotOwner));
    // The operator's own dry-run report, by which it finds out whether ownership is enforced.
    assert_eq!(write(report(7, "n7"), OPERATOR), Err(Refusal::NotOwner));
}

/// G3.
#[test]
fn a_result_is_of_the_granted_epoch_and_work_and_never_changes_within_it() {
    let write = |record: &Record, result: Option<WorkResult>| {
        review_status(record, &status(|s| s.report = Some(Report { result, ..report(7, "n7") })), OWNER)
    };
    assert_eq!(write(&record(), Some(result("encode-1", 7))), Ok(()));
    assert_eq!(write(&record(), Some(result("encode-1", 6))), Err(Refusal::StaleResult));
    assert_eq!(write(&record(), Some(result("encode-2", 7))), Err(Refusal::StaleResult));
    let idle = Record { spec: EngineDirectorySpec { work: None, ..spec() }, ..record() };
    assert_eq!(write(&idle, Some(result("encode-1", 7))), Err(Refusal::StaleResult));

    let mut reported = record();
    reported.status.report = Some(Report { result: Some(result("encode-1", 7)), rows: Some(1), ..report(7, "n7") });
    assert_eq!(write(&reported, Some(result("encode-1", 7))), Ok(()), "a renewal");
    assert_eq!(write(&reported, None), Err(Refusal::ResultChanged));
    let other = WorkResult { digest: "another".to_owned(), ..result("encode-1", 7) };
    assert_eq!(write(&reported, Some(other)), Err(Refusal::ResultChanged));
    assert_eq!(review_status(&reported, &status(|_| ()), OWNER), Err(Refusal::ResultChanged));

    reported.status.report = Some(Report { result: Some(result("encode-0", 6)), ..report(6, "n7") });
    assert_eq!(write(&reported, None), Ok(()), "the result of an older epoch gives way");
}

#[test]
fn the_operators_part_of_status_is_refused_to_owners_property_by_property() {
    let condition = Condition {
        condition_type: ConditionType::Waiting,
        status: ConditionStatus::True,
        reason: Reason::WaitingForSpace,
        message: String::new(),
        last_transition_time: None,
        observed_generation: None,
    };
    let change = scene::owner_change(1, OwnerChangeReason::FirstOwner);
    let parts = [
        status(|s| s.state = DirectoryState::Working),
        status(|s| s.conditions = vec![condition]),
        status(|s| s.history = vec![change]),
    ];
    for part in parts {
        assert_eq!(review_status(&record(), &part, OPERATOR), Ok(()), "{part:?}");
        assert_eq!(review_status(&record(), &part, OWNER), Err(Refusal::NotOperator), "{part:?}");
    }
}

fn written(change: impl FnOnce(&mut EngineDirectorySpec)) -> Result<(), Refusal> {
    let mut new = spec();
    change(&mut new);
    review_spec(&spec(), &new)
}

#[test]
fn a_slot_stays_the_slot_it_is() {
    assert_eq!(written(|_| ()), Ok(()));
    assert_eq!(written(|s| s.slot = 1), Err(Refusal::Identity));
    assert_eq!(written(|s| s.build_uid = "w".to_owned()), Err(Refusal::Identity));
    assert_eq!(written(|s| s.build_name = "w".to_owned()), Err(Refusal::Identity));
}

/// G1.
#[test]
fn the_epoch_rises_by_one_or_the_grant_stays() {
    assert_eq!(written(|s| s.grant = Some(grant(8, "", ""))), Ok(()));
    assert_eq!(written(|s| s.grant = Some(grant(9, "", ""))), Err(Refusal::Grant));
    assert_eq!(written(|s| s.grant = Some(grant(6, "", ""))), Err(Refusal::Grant));
    assert_eq!(written(|s| s.grant = Some(grant(7, "", ""))), Err(Refusal::Grant));
    assert_eq!(written(|s| (s.grant, s.work) = (None, None)), Err(Refusal::Grant));
    let last = EngineDirectorySpec { grant: Some(grant(u64::MAX, OWNER, "n")), ..spec() };
    let over = EngineDirectorySpec { grant: Some(grant(0, "", "")), ..spec() };
    assert_eq!(review_spec(&last, &over), Err(Refusal::Grant));
}

/// G1, G9.
#[test]
fn within_an_epoch_pod_uid_and_nonce_are_filled_in_once() {
    let old = |uid: &str, nonce: &str| EngineDirectorySpec { grant: Some(grant(7, uid, nonce)), ..spec() };
    assert_eq!(review_spec(&old("", ""), &old(OWNER, "")), Ok(()));
    assert_eq!(review_spec(&old(OWNER, ""), &old(OWNER, "n7")), Ok(()));
    assert_eq!(review_spec(&old(OWNER, ""), &old("pod-8", "")), Err(Refusal::Grant));
    assert_eq!(review_spec(&old(OWNER, "n7"), &old(OWNER, "n8")), Err(Refusal::Grant));
    assert_eq!(review_spec(&old(OWNER, "n7"), &old(OWNER, "")), Err(Refusal::Grant));
    let mut renamed = old(OWNER, "");
    renamed.grant.as_mut().unwrap().pod_name = "other".to_owned();
    assert_eq!(review_spec(&old(OWNER, ""), &renamed), Err(Refusal::Grant));
}

/// I4: what may prove an owner gone is filled in once, and is that of a process that is bound.
#[test]
fn within_an_epoch_the_machine_is_filled_in_once_and_is_a_bound_processs() {
    let machine = |node: &str, boot: &str, machine: &str| EngineDirectorySpec {
        grant: Some(Grant {
            node_name: node.to_owned(),
            boot_id: boot.to_owned(),
            system_uuid: machine.to_owned(),
            ..grant(7, OWNER, "n7")
        }),
        ..spec()
    };
    let steps = [machine("", "", ""), machine("node", "", ""), machine("node", "b", ""), machine("node", "b", "m")];
    for step in steps.windows(2) {
        assert_eq!(review_spec(&step[0], &step[1]), Ok(()));
        assert_eq!(review_spec(&step[1], &step[0]), Err(Refusal::Grant), "it is not taken back");
    }
    let all = machine("node", "b", "m");
    for other in [machine("another", "b", "m"), machine("node", "c", "m"), machine("node", "b", "another")] {
        assert_eq!(review_spec(&all, &other), Err(Refusal::Grant));
    }
    // The same process takes its next work.
    let mut next = all.clone();
    next.grant.as_mut().unwrap().epoch = Epoch::new(8);
    assert_eq!(review_spec(&all, &next), Ok(()));
    // Another process does not inherit it.
    let forged = |change: fn(&mut Grant)| {
        let mut forged = all.clone();
        change(forged.grant.as_mut().unwrap());
        review_spec(&all, &forged)
    };
    assert_eq!(forged(|grant| (grant.epoch, grant.boot_nonce) = (Epoch::new(8), String::new())), Err(Refusal::Machine));
    assert_eq!(forged(|grant| (grant.epoch, grant.pod_uid) = (Epoch::new(8), String::new())), Err(Refusal::Machine));
    assert_eq!(forged(|grant| (grant.epoch, grant.boot_id) = (Epoch::new(8), String::new())), Err(Refusal::Machine));
}

/// G3.
#[test]
fn a_change_of_work_raises_the_epoch() {
    assert_eq!(written(|s| s.work = Some(work("encode-2"))), Err(Refusal::Work));
    assert_eq!(written(|s| s.work = None), Err(Refusal::Work));
    assert_eq!(written(|s| (s.work, s.grant) = (Some(work("encode-2")), Some(grant(8, OWNER, "n7")))), Ok(()));
    let empty = EngineDirectorySpec { grant: None, work: None, ..spec() };
    assert_eq!(review_spec(&empty, &EngineDirectorySpec { grant: None, ..spec() }), Err(Refusal::WorkWithoutGrant));
    assert_eq!(review_spec(&empty, &spec()), Ok(()));
}

#[test]
fn another_volume_has_a_higher_generation() {
    let volume = |generation, name: &str, uid: &str| {
        Some(VolumeRef { claim_name: name.to_owned(), claim_uid: uid.to_owned(), generation, condemned: false })
    };
    assert_eq!(written(|s| s.volume = volume(2, "v2", "")), Ok(()));
    assert_eq!(written(|s| s.volume = volume(0, "v0", "")), Err(Refusal::Volume));
    assert_eq!(written(|s| s.volume = volume(1, "v2", "c1")), Err(Refusal::Volume));
    assert_eq!(written(|s| s.volume = volume(1, "v1", "c2")), Err(Refusal::Volume));
    assert_eq!(written(|s| s.volume = None), Ok(()));
}

/// G7.
#[test]
fn a_condemned_volume_stays_condemned_and_is_granted_to_nobody() {
    let mut old = spec();
    old.volume.as_mut().unwrap().condemned = true;
    let mut new = old.clone();
    new.grant = Some(grant(8, "", ""));
    assert_eq!(review_spec(&old, &new), Err(Refusal::GrantOnCondemned));
    assert_eq!(review_spec(&old, &spec()), Err(Refusal::Pardon));
    new.volume =
        Some(VolumeRef { claim_name: "v8".to_owned(), claim_uid: String::new(), generation: 8, condemned: false });
    assert_eq!(review_spec(&old, &new), Ok(()));
    let former = |condemned| FormerVolume {
        claim_name: "v0".to_owned(),
        claim_uid: "c0".to_owned(),
        condemned,
        ..FormerVolume::default()
    };
    let with = |condemned| EngineDirectorySpec { former_volumes: vec![former(condemned)], ..spec() };
    assert_eq!(review_spec(&with(false), &with(true)), Ok(()));
    assert_eq!(review_spec(&with(true), &with(false)), Err(Refusal::Pardon));
    assert_eq!(review_spec(&with(true), &spec()), Ok(()), "once it is gone it is forgotten");
}

/// Said later, or carried to another process, it would be false evidence about who writes the volume.
#[test]
fn that_a_volume_was_attached_is_said_once_with_the_process_and_goes_with_it_alone() {
    let attached = |node: &str| {
        Some(Attached { driver: "ebs.csi.aws.com".to_owned(), volume: "pv-1".to_owned(), node: node.to_owned() })
    };
    let granted = |epoch, nonce: &str, attached| EngineDirectorySpec {
        grant: Some(Grant { attached, ..Grant { pod_name: "p".to_owned(), ..grant(epoch, OWNER, nonce) } }),
        ..spec()
    };
    let unbound = granted(7, "", None);
    let bound = granted(7, "n7", attached("n1"));
    assert_eq!(review_spec(&unbound, &bound), Ok(()));
    assert_eq!(review_spec(&unbound, &granted(7, "n7", None)), Ok(()), "nothing attached it");
    assert_eq!(review_spec(&unbound, &granted(7, "", attached("n1"))), Err(Refusal::Attached), "of nobody");
    assert_eq!(review_spec(&unbound, &granted(8, "n7", attached("n1"))), Err(Refusal::Attached));
    assert_eq!(review_spec(&granted(7, "n7", None), &bound), Err(Refusal::Attached), "too late");
    assert_eq!(review_spec(&bound, &granted(7, "n7", attached("n2"))), Err(Refusal::Attached));
    assert_eq!(review_spec(&bound, &granted(8, "n7", attached("n1"))), Ok(()), "its next work");
    assert_eq!(review_spec(&bound, &granted(8, "n7", attached("n2"))), Err(Refusal::Attached));
    assert_eq!(review_spec(&bound, &granted(8, "", attached("n1"))), Err(Refusal::Attached), "another process");
    assert_eq!(review_spec(&bound, &granted(8, "", None)), Ok(()));
    assert_eq!(review_spec(&bound, &granted(7, "n7", None)), Ok(()), "an older version forgets it");
    let nobody = EngineDirectorySpec { grant: None, work: None, ..spec() };
    assert_eq!(review_spec(&nobody, &bound), Err(Refusal::Attached));

    let former = |pod: &str, attached| EngineDirectorySpec {
        former_volumes: vec![FormerVolume {
            claim_name: "v0".to_owned(),
            claim_uid: "c0".to_owned(),
            pod_uid: pod.to_owned(),
            attached,
            ..FormerVolume::default()
        }],
        ..spec()
    };
    let was = former("p", attached("n1"));
    assert_eq!(review_spec(&spec(), &was), Ok(()));
    assert_eq!(review_spec(&was, &was), Ok(()));
    assert_eq!(review_spec(&was, &former("p", None)), Ok(()));
    assert_eq!(review_spec(&was, &former("p", attached("n2"))), Err(Refusal::Attached));
    assert_eq!(review_spec(&former("p", None), &was), Err(Refusal::Attached));
    assert_eq!(review_spec(&former("q", None), &was), Ok(()), "of another owner");
}

/// G2.
#[test]
fn what_was_chosen_never_changes_but_may_leave_once_it_is_frozen() {
    let chosen = |epoch| Chosen { work_id: "encode-0".to_owned(), epoch: Epoch::new(epoch), ..Chosen::default() };
    let with = |chosen| EngineDirectorySpec { chosen, ..spec() };
    assert_eq!(review_spec(&with(vec![]), &with(vec![chosen(3)])), Ok(()));
    assert_eq!(review_spec(&with(vec![chosen(3)]), &with(vec![chosen(4)])), Err(Refusal::Choice));
    assert_eq!(review_spec(&with(vec![chosen(3)]), &with(vec![])), Ok(()));
}
