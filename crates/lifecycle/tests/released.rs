//! An owner's last word, that it has released its volume: who may say it, when it is believed, and what follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use std::collections::BTreeMap;

use indexbuild_api::{
    Claim, EngineDirectoryStatus, FormerVolume, OwnerChangeReason, Release, Report, VolumeState, WorkErrorReason,
};
use indexbuild_lifecycle::admission::{OPERATOR, Refusal, review_status};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::{NodeReady, PodState, Record, World};
use indexbuild_lifecycle::{Action, Evidence, EvidenceKind, plan};
use scene::{carry_out, changed, encoding, replaced, reports_error, silent, stranded, terminated, update};

/// The owner of a slot says that it has released its volume, as the record is.
fn release(world: &mut World, slot: usize) {
    let record = &mut world.slots[slot].record;
    let grant = record.spec.grant.clone().unwrap();
    let word = LastWord::of(record, &grant.pod_uid, &grant.boot_nonce).unwrap();
    word.write(&mut record.status.released);
}

fn said(record: &Record, change: impl FnOnce(&mut Release)) -> (String, Release) {
    let grant = record.spec.grant.clone().unwrap();
    let word = LastWord::of(record, &grant.pod_uid, &grant.boot_nonce).unwrap();
    let mut release = word.release;
    change(&mut release);
    (word.pod_uid, release)
}

fn with(record: &Record, (uid, release): (String, Release)) -> EngineDirectoryStatus {
    let mut status = record.status.clone();
    status.released.insert(uid, release);
    status
}

/// I4: it is proof, so that nobody says it for somebody else, nor of a volume that he has not.
#[test]
fn a_release_is_taken_from_the_last_owner_of_the_volume_alone_and_for_just_its_nonce_epoch_and_volume() {
    let record = &encoding().slots[0].record;
    let (owner, _) = said(record, |_| {});
    assert_eq!(review_status(record, &with(record, said(record, |_| {})), &owner), Ok(()));
    let foreign = Err(Refusal::ForeignRelease);
    for caller in ["pod-of-another", OPERATOR] {
        assert_eq!(review_status(record, &with(record, said(record, |_| {})), caller), foreign, "{caller:?}");
    }
    let wrong: [fn(&mut Release); 5] = [
        |release| release.epoch = release.epoch.before(),
        |release| release.epoch = release.epoch.next().unwrap(),
        |release| release.boot_nonce = "another".to_owned(),
        |release| release.boot_nonce = String::new(),
        |release| release.claim_name.push('x'),
    ];
    for wrong in wrong {
        assert_eq!(review_status(record, &with(record, said(record, wrong)), &owner), foreign);
    }
    let mut unbound = record.clone();
    unbound.spec.grant.as_mut().unwrap().boot_nonce.clear();
    assert_eq!(LastWord::of(&unbound, &owner, ""), None, "who was never bound has nothing to release");
}

/// The epoch was raised before it was heard: its word is about the volume that it had.
#[test]
fn a_former_owner_releases_the_volume_that_it_had_and_no_other() {
    let record = &replaced().slots[0].record;
    let FormerVolume { pod_uid, boot_nonce, epoch, claim_name, .. } = stranded(0);
    let word = LastWord::of(record, &pod_uid, &boot_nonce).unwrap();
    assert_eq!(word.release, Release { epoch, boot_nonce, claim_name });
    assert_eq!(review_status(record, &with(record, (pod_uid.clone(), word.release.clone())), &pod_uid), Ok(()));
    let present = record.spec.volume.as_ref().unwrap().claim_name.clone();
    let taken = Release { claim_name: present, ..word.release };
    let outcome = review_status(record, &with(record, (pod_uid.clone(), taken)), &pod_uid);
    assert_eq!(outcome, Err(Refusal::ForeignRelease));
}

#[test]
fn a_release_is_said_once_never_taken_back_and_nothing_of_that_owner_follows_it() {
    let mut record = encoding().slots[0].record.clone();
    let (owner, release) = said(&record, |_| {});
    record.status.released.insert(owner.clone(), release.clone());
    assert_eq!(LastWord::of(&record, &owner, &release.boot_nonce), None, "it is said");
    let again = Release { epoch: release.epoch.next().unwrap(), ..release.clone() };
    let outcome = review_status(&record, &with(&record, (owner.clone(), again)), &owner);
    assert_eq!(outcome, Err(Refusal::ForeignRelease));
    let taken_back = EngineDirectoryStatus { released: BTreeMap::new(), ..record.status.clone() };
    for caller in [owner.as_str(), OPERATOR, "somebody"] {
        assert_eq!(review_status(&record, &taken_back, caller), Err(Refusal::ReleaseTakenBack), "{caller:?}");
    }
    let report = Report { rows: Some(77), ..record.status.report.clone().unwrap() };
    let reported = EngineDirectoryStatus { report: Some(report), ..record.status.clone() };
    assert_eq!(review_status(&record, &reported, &owner), Err(Refusal::AfterRelease));
    let claim = Some(Claim { pod_uid: owner.clone(), boot_nonce: "another".to_owned(), ..Claim::default() });
    let claimed = EngineDirectoryStatus { claim, ..record.status.clone() };
    assert_eq!(review_status(&record, &claimed, &owner), Err(Refusal::AfterRelease));
    // The record knows that owner no more: its word may be forgotten, and is with the next one's.
    let mut next = record;
    let grant = next.spec.grant.as_mut().unwrap();
    (grant.epoch, grant.pod_uid, grant.boot_nonce) =
        (grant.epoch.next().unwrap(), "pod-new".to_owned(), "new".to_owned());
    let word = LastWord::of(&next, "pod-new", "new").unwrap();
    assert_eq!(word.outdated, [owner]);
    let mut status = next.status.clone();
    word.write(&mut status.released);
    assert_eq!(status.released.keys().collect::<Vec<_>>(), ["pod-new"], "so the record does not grow");
    assert_eq!(review_status(&next, &status, "pod-new"), Ok(()));
}

/// I4: exactly when it is proof.
#[test]
fn a_release_is_evidence_for_just_that_process_epoch_and_volume_whatever_is_seen_of_its_pod() {
    let of = |change: fn(&mut Release)| {
        let mut world = replaced();
        world.pods.clear();
        let FormerVolume { pod_uid, boot_nonce, epoch, claim_name, .. } = stranded(0);
        let mut release = Release { epoch, boot_nonce, claim_name };
        change(&mut release);
        world.slots[0].record.status.released.insert(pod_uid, release);
        Evidence::of_former(&world, &stranded(0)).map(|evidence| (evidence.kind(), evidence.exit_code()))
    };
    assert_eq!(of(|_| {}), Some((EvidenceKind::Released, None)));
    assert_eq!(
        of(|release| release.epoch = release.epoch.next().unwrap()),
        None,
        "a later grant of that process is another matter"
    );
    assert_eq!(of(|release| release.epoch = release.epoch.before()), None);
    assert_eq!(of(|release| release.boot_nonce.push('x')), None);
    assert_eq!(of(|release| release.claim_name.push('x')), None);
    let mut world = encoding();
    assert_eq!(Evidence::of_current(&world, &world.slots[0].record), None);
    release(&mut world, 0);
    let proof = Evidence::of_current(&world, &world.slots[0].record).unwrap();
    assert_eq!(proof.kind(), EvidenceKind::Released);
    assert_eq!(proof.claim_name(), world.slots[0].record.spec.volume.as_ref().unwrap().claim_name);
}

/// Pods that were drained while no operator ran: their objects are gone.
#[test]
fn a_slot_whose_owner_has_released_its_volume_does_not_wait_and_keeps_the_volume() {
    let mut world = encoding();
    let volume = world.slots[0].record.spec.volume.clone();
    world.pods.retain(|pod| pod.slot != 0);
    assert_eq!(changed(&plan(&world), 0), None, "the control: a pod that is not there proves nothing");
    release(&mut world, 0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_eq!(change, Some(OwnerChangeReason::Rebound));
    assert_eq!((spec.volume.clone(), spec.failed_attempts, spec.former_volumes.len()), (volume, 0, 0));
    // And not twice: the next owner's grant is not released.
    carry_out(&mut world, &decision);
    assert_eq!(
        Evidence::of_current(&world, &world.slots[0].record).map(|proof| proof.kind()),
        Some(EvidenceKind::NeverClaimed)
    );
}

/// A former owner's volume does not stay stranded: the proof is written down, and the volume goes.
#[test]
fn a_volume_that_its_former_owner_has_released_is_condemned_and_deleted() {
    let mut world = replaced();
    world.pods.retain(|pod| pod.uid != stranded(0).pod_uid);
    let FormerVolume { pod_uid, boot_nonce, claim_name, .. } = stranded(0);
    let word = LastWord::of(&world.slots[0].record, &pod_uid, &boot_nonce).unwrap();
    word.write(&mut world.slots[0].record.status.released);
    let decision = plan(&world);
    let (spec, ..) = update(&decision, 0).unwrap();
    let former = spec.former_volumes.iter().find(|volume| volume.claim_name == claim_name).unwrap();
    assert_eq!((former.state, former.condemned), (VolumeState::Idle, true));
    carry_out(&mut world, &decision);
    let deleted = plan(&world).actions.into_iter().find_map(|action| match action {
        Action::DeleteClaim { name, evidence, .. } => Some((name, evidence.kind())),
        _ => None,
    });
    assert_eq!(deleted, Some((claim_name, EvidenceKind::Released)));
}

/// Nothing is granted to a process that is about to be gone.
#[test]
fn an_owner_that_has_released_its_volume_is_given_nothing_more_to_do() {
    let mut world = encoding();
    scene::reports_result(&mut world, 0);
    world.stages[0] = scene::planned(3, 2);
    release(&mut world, 0);
    let decision = plan(&world);
    let (spec, _, change) = update(&decision, 0).unwrap();
    assert_ne!(change, Some(OwnerChangeReason::NextWork));
    let old = world.slots[0].record.spec.grant.clone().unwrap();
    assert_ne!(spec.grant.as_ref().unwrap().boot_nonce, old.boot_nonce, "{spec:?}");
    assert_eq!(spec.chosen[0].work_id, "encode-0", "its result counts");
}

/// What fails counts as it does without the word, and what is stopped as it was asked to does not.
#[test]
fn a_release_hides_no_failure() {
    let mut failed = encoding();
    reports_error(&mut failed, 0, WorkErrorReason::Internal, true, vec![]);
    release(&mut failed, 0);
    let decision = plan(&failed);
    assert_eq!(changed(&decision, 0), Some(OwnerChangeReason::AttemptFailed));
    assert_eq!(update(&decision, 0).unwrap().0.failed_attempts, 1);

    // Asked to end because it did not advance: it gave way in peace, and its attempt failed all the same.
    let mut stuck = encoding();
    stuck.pods[0].deleting = true;
    stuck.slots[0].progress_age = 31_000;
    stuck.slots[0].grant_age = 40_000;
    release(&mut stuck, 0);
    let decision = plan(&stuck);
    assert_eq!(changed(&decision, 0), Some(OwnerChangeReason::NoProgress));
    assert_eq!(update(&decision, 0).unwrap().0.failed_attempts, 1);

    let mut drained = encoding();
    drained.pods[0].deleting = true;
    release(&mut drained, 0);
    let decision = plan(&drained);
    assert_eq!(changed(&decision, 0), Some(OwnerChangeReason::Rebound));
    assert_eq!(update(&decision, 0).unwrap().0.failed_attempts, 0);
}

/// A kubelet ends a pod above its own limit of ephemeral storage by a signal, and says nothing of it in the pod: as ours ends
/// in peace, its phase is `Succeeded`. The owner's own word comes first; the kubelet's tells whether the cluster had a reason.
#[test]
fn an_owner_that_nobody_asked_to_end_is_judged_by_its_kubelets_word_and_not_by_its_own() {
    let mut world = encoding();
    release(&mut world, 0);
    let decision = plan(&world);
    assert_eq!(changed(&decision, 0), None, "its pod is seen to run, and nobody asked it to end");
    assert!(decision.waits.iter().any(|wait| wait.slot == Some(0) && wait.what.contains("nobody is seen")));
    let judged = |change: fn(&mut World)| {
        let mut world = world.clone();
        world.pods[0].state = terminated(0);
        change(&mut world);
        let decision = plan(&world);
        (changed(&decision, 0), update(&decision, 0).unwrap().0.failed_attempts)
    };
    let (failed, innocent) = ((Some(OwnerChangeReason::AttemptFailed), 1), (Some(OwnerChangeReason::Rebound), 0));
    assert_eq!(judged(|_| {}), failed);
    assert_eq!(judged(|world| world.pods[0].deleting = true), innocent, "a drain");
    assert_eq!(judged(|world| world.pods[0].disrupted = true), innocent, "a node under pressure");
    assert_eq!(judged(|world| world.nodes[0].boot_id = "boot-2".to_owned()), innocent, "a reboot");
    assert_eq!(judged(|world| world.nodes[0].ready = NodeReady::Unknown), innocent, "a node that nobody hears of");
    assert_eq!(judged(|world| world.slots[0].record.spec.grant.as_mut().unwrap().boot_id.clear()), innocent);

    // The kubelet's word is not waited for longer than a silence takes to show, nor where it cannot be expected.
    silent(&mut world, 0, 4_000);
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Rebound));
    let mut away = encoding();
    away.nodes[0].ready = NodeReady::Unknown;
    release(&mut away, 0);
    assert_eq!(changed(&plan(&away), 0), Some(OwnerChangeReason::Rebound));
}

/// A container that a webhook has added runs on beside ours: the pod is asked to end, and has the volume until then.
#[test]
fn the_volume_of_an_owner_that_is_survived_by_its_pod_moves_when_the_pod_has_ended() {
    let mut world = encoding();
    world.pods[0].own_exit = Some(0);
    release(&mut world, 0);
    let decision = plan(&world);
    assert_eq!(changed(&decision, 0), None);
    let name = world.pods[0].name.clone();
    assert!(decision.actions.iter().any(|action| matches!(action, Action::StopPod { name: pod, .. } if *pod == name)));
    world.pods[0].deleting = true;
    world.pods[0].state = terminated(0);
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Rebound));
    world.pods.remove(0);
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Rebound), "or when its object is gone");
}

/// Patience is over before anybody hears of it: the word is no less true then.
#[test]
fn a_silent_owner_that_has_released_its_volume_is_not_replaced_but_rebound() {
    let mut world = encoding();
    silent(&mut world, 0, 11_000);
    world.pods[0].state = PodState::Unknown;
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Replaced));
    release(&mut world, 0);
    assert_eq!(changed(&plan(&world), 0), Some(OwnerChangeReason::Rebound));
}
