//! What rides on a write that is made anyway (I8): the course of a slot, and the condemnation of a volume that is to go. Nothing is
//! lost by it, and nothing is deleted before it was read that it may be (G7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{
    DirectoryState, EngineDirectorySpec, OwnerChange, OwnerChangeReason, Phase, Retention, VolumeRetention, VolumeSpec,
    VolumeState,
};
use indexbuild_lifecycle::record::{StatusChange, can_wait, status_after};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::World;
use indexbuild_lifecycle::{Action, Decision, EvidenceKind, plan};
use scene::*;

/// A build whose index is published and cleaned: its two owners are not needed any more.
fn cleaned(when_published: Retention) -> World {
    let mut world = settled(encoding());
    for (name, works) in [
        ("encode", vec!["encode-0", "encode-1"]),
        ("sort", vec!["sort-0", "sort-1"]),
        ("publish", vec!["publish"]),
        ("clean", vec!["clean"]),
    ] {
        world.stages.push(stage(name, &works));
    }
    let retention = VolumeRetention { when_published, ..VolumeRetention::default() };
    world.build.spec.volume = Some(VolumeSpec { retention: Some(retention), ..VolumeSpec::default() });
    world
}

fn former(spec: &EngineDirectorySpec) -> (VolumeState, bool) {
    let [former] = spec.former_volumes.as_slice() else { panic!("{spec:?}") };
    (former.state, former.condemned)
}

fn deleted(decision: &Decision) -> Option<(String, EvidenceKind)> {
    decision.actions.iter().find_map(|action| match action {
        Action::DeleteClaim { name, evidence, .. } => Some((name.clone(), evidence.kind())),
        _ => None,
    })
}

#[test]
fn the_write_that_revokes_an_owner_at_the_end_condemns_its_volume_where_that_is_to_go_g7() {
    let decision = plan(&cleaned(Retention::Delete));
    assert_eq!(former(update(&decision, 1).unwrap().0), (VolumeState::Stranded, true));
    assert_eq!(deleted(&decision), None, "not by the decision that condemns it");
    let kept = plan(&cleaned(Retention::Retain));
    assert_eq!(former(update(&kept, 1).unwrap().0), (VolumeState::Stranded, false));
    // While the build runs, a volume may return.
    let mut smaller = settled(encoding());
    smaller.build.spec.parallelism = 1;
    smaller.slots[1].record.spec.work = None;
    let decision = plan(&smaller);
    let (spec, _, change) = update(&decision, 1).unwrap();
    assert_eq!((change, former(spec)), (Some(OwnerChangeReason::ScaledDown), (VolumeState::Stranded, false)));
}

#[test]
fn a_volume_that_was_condemned_early_goes_with_proof_alone_and_by_the_owners_word_without_another_write() {
    let mut world = cleaned(Retention::Delete);
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    assert_eq!(deleted(&plan(&world)), None, "I4: its owner is alive");
    for view in &mut world.slots {
        let former = view.record.spec.former_volumes[0].clone();
        let word = LastWord::of(&view.record, &former.pod_uid, &former.boot_nonce).unwrap();
        word.write(&mut view.record.status.released);
    }
    assert_eq!(deleted(&plan(&world)), None, "its pod has it mounted");
    for pod in &mut world.pods {
        pod.state = terminated(0);
    }
    let decision = plan(&world);
    assert_eq!(deleted(&decision).unwrap().0, world.claims[0].name);
    assert!([0, 1].iter().all(|slot| update(&decision, *slot).is_none()), "{:#?}", decision.actions);
    world.pods.clear();
    assert_eq!(deleted(&plan(&world)).unwrap().1, EvidenceKind::Released, "the word stays where its pod is gone");
}

/// Without the owner's word the kubelet's is in the pod's object alone, which goes.
#[test]
fn a_proof_that_is_not_in_the_record_is_written_down_before_what_it_was_seen_in_goes_g8() {
    let mut world = cleaned(Retention::Delete);
    let decision = plan(&world);
    carry_out(&mut world, &decision);
    for pod in &mut world.pods {
        pod.state = terminated(0);
    }
    let decision = plan(&world);
    assert!([0, 1].iter().all(|slot| former(update(&decision, *slot).unwrap().0) == (VolumeState::Idle, true)));
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::StopPod { .. })), "{:#?}", decision.actions);
    carry_out(&mut world, &decision);
    world.pods.clear();
    assert_eq!(deleted(&plan(&world)).unwrap().1, EvidenceKind::Recorded);
}

fn reasons(changes: &[OwnerChange]) -> Vec<(u64, OwnerChangeReason)> {
    changes.iter().map(|change| (change.epoch.get(), change.reason)).collect()
}

/// As the operator writes a record: the spec, and the status where that cannot wait. How often the status was written.
fn write(world: &mut World, decision: &Decision) -> usize {
    let mut told = 0;
    for action in &decision.actions {
        let Action::UpdateDirectory { slot, spec, state, change, conditions, .. } = action else { continue };
        let view = world.slots.iter_mut().find(|view| view.record.spec.slot == *slot).unwrap();
        let record = &mut view.record;
        let says = StatusChange { state: *state, change: *change, conditions };
        let after = status_after(&record.spec, &record.status, spec, says, &world.wall);
        if *spec == record.spec || !can_wait(&record.status, &after) {
            record.status = after;
            told += 1;
        }
        if record.spec.grant != spec.grant {
            view.grant_age = 0;
        }
        record.spec = spec.clone();
        record.version.push('+');
    }
    world.build.status = Some(decision.status.clone());
    told
}

/// The trap: a work that is soon done was left out of the history to save its write, and the course of a record that was kept
/// lacked it for good.
#[test]
fn a_works_change_is_in_the_write_that_grants_it_and_is_told_in_the_status_of_a_record_that_stays() {
    let made = plan(&world()).actions.into_iter().find_map(|action| match action {
        Action::CreateDirectory { spec, .. } => Some(spec),
        _ => None,
    });
    assert_eq!(reasons(&made.unwrap().untold), [(1, OwnerChangeReason::FirstOwner)]);

    let mut world = encoding();
    world.stages[0] = planned(3, 2);
    world.build.spec.volume = cleaned(Retention::Retain).build.spec.volume;
    for view in &mut world.slots {
        view.grant_age = 1_000;
    }
    reports_result(&mut world, 0);
    let decision = plan(&world);
    assert_eq!(write(&mut world, &decision), 0, "{:#?}", decision.actions);
    let record = &world.slots[0].record;
    assert_eq!(reasons(&record.spec.untold), [(3, OwnerChangeReason::FirstOwner), (4, OwnerChangeReason::NextWork)]);
    assert_eq!((record.status.history.len(), &record.spec.untold[1].work_id[..]), (0, "encode-2"));
    assert_eq!(record.spec.untold[1].boot_nonce, "nonce-0");

    // A long work is told after a while, by a write of the status alone.
    let mut long = world.clone();
    long.slots[0].grant_age = 60_000;
    let decision = plan(&long);
    let spec = update(&decision, 0).unwrap().0;
    assert_eq!(spec, &long.slots[0].record.spec);
    write(&mut long, &decision);
    assert_eq!(reasons(&long.slots[0].record.status.history).len(), 2);
    let again = plan(&long);
    assert!(update(&again, 0).is_none(), "I8: it is told once: {:#?}", again.actions);

    // The build ends, the owners give way, and the volumes are kept: so are the records, with all of their course.
    for (name, works) in [
        ("encode", vec!["encode-0", "encode-1", "encode-2"]),
        ("sort", vec!["sort-0", "sort-1"]),
        ("publish", vec!["publish"]),
        ("clean", vec!["clean"]),
    ] {
        world.stages.push(stage(name, &works));
    }
    let decision = plan(&world);
    write(&mut world, &decision);
    for pod in &mut world.pods {
        pod.state = terminated(0);
    }
    for _ in 0..4 {
        let decision = plan(&world);
        write(&mut world, &decision);
        for action in &decision.actions {
            if let Action::StopPod { uid, .. } = action {
                world.pods.retain(|pod| pod.uid != *uid);
            }
        }
    }
    let decision = plan(&world);
    assert!(decision.end.is_some() && decision.actions.is_empty(), "{:#?}", decision.actions);
    let record = &world.slots[0].record;
    let course = [OwnerChangeReason::FirstOwner, OwnerChangeReason::NextWork, OwnerChangeReason::Revoked];
    assert_eq!(record.status.history.iter().map(|change| change.reason).collect::<Vec<_>>(), course);
    assert_eq!(record.status.state, DirectoryState::Finished);
}

/// What a person should hear of is in the history at once, with all that waited.
#[test]
fn what_went_wrong_is_told_at_once_and_with_it_what_waited() {
    let mut world = encoding();
    world.stages[0] = planned(3, 2);
    reports_result(&mut world, 0);
    let decision = plan(&world);
    write(&mut world, &decision);
    world.pods[0].state = terminated(1);
    let decision = plan(&world);
    assert_eq!(write(&mut world, &decision), 1);
    let told: Vec<_> = world.slots[0].record.status.history.iter().map(|change| change.reason).collect();
    let course = [OwnerChangeReason::FirstOwner, OwnerChangeReason::NextWork, OwnerChangeReason::AttemptFailed];
    assert_eq!(told, course);
}

/// A build of six turns has four writes less. What people are told by an event too is told by the pass that has read the list: before, its
/// write may be refused, as another operator's came first.
#[test]
fn the_stage_that_follows_is_said_in_the_write_that_freezes_the_one_before_g2() {
    let mut world = settled(encoding());
    world.stages[0] = planned(2, 2);
    know_stages(&mut world);
    for slot in 0..2 {
        world.slots[slot].record.spec.chosen.push(choice(&format!("encode-{slot}")));
    }
    let decision = plan(&world);
    assert_eq!(records_stages(&decision).last().map(String::as_str), Some("encode"), "{:#?}", decision.actions);
    let said = decision.said_with_stages.clone().unwrap();
    assert_eq!((decision.status.phase, said.phase), (Some(Phase::Encoding), Some(Phase::Sorting)));
    assert_eq!(said.frozen_stages, decision.status.frozen_stages);
    // The next pass, which makes the object, has nothing to say.
    world.build.status = Some(said.clone());
    know_stages(&mut world);
    let next = plan(&world);
    assert!(matches!(next.actions[..], [Action::FreezeStage { .. }]), "{:#?}", next.actions);
    assert_eq!((next.status, next.said_with_stages), (said, None));

    // The commit is told by an event.
    world.stages.extend([stage("encode", &["encode-0", "encode-1"]), stage("sort", &["sort-0", "sort-1"])]);
    world.slots[0].record.spec.chosen = vec![choice("publish")];
    let all = world.stages.iter().map(|stage| stage.frozen().unwrap()).collect();
    world.build.status.as_mut().unwrap().frozen_stages = Some(all);
    know_stages(&mut world);
    let decision = plan(&world);
    assert_eq!(records_stages(&decision).last().map(String::as_str), Some("publish"), "{:#?}", decision.actions);
    assert_eq!(decision.said_with_stages, None);
}
