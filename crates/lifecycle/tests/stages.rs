//! Frozen stages: which objects are believed, and what becomes of a build under whose names somebody else makes, changes or
//! removes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::Epoch;
use indexbuild_api::*;
use indexbuild_lifecycle::frozen::{StageObject, digest, sort_out};
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;

fn object(stage: &Stage) -> StageObject {
    StageObject {
        name: names::config_map("orders", UID, &stage.name),
        text: Some(stage.text().unwrap()),
        well_formed: true,
    }
}

/// A world that sees these objects.
fn seeing(mut world: World, objects: &[StageObject]) -> World {
    let records: Vec<_> = world.slots.iter().map(|slot| slot.record.spec.clone()).collect();
    let records: Vec<_> = records.iter().collect();
    (world.stages, world.frozen) = sort_out(&world.build, &records, objects);
    world
}

/// Two slots that encode, of a build that says this of its stages.
fn saying(said: Option<&[&Stage]>) -> World {
    let mut world = encoding();
    let frozen_stages = said.map(|said| said.iter().map(|stage| stage.frozen().unwrap()).collect());
    let start_time = Some("2026-01-01T00:00:00Z".to_owned());
    world.build.status = Some(IndexBuildStatus { frozen_stages, start_time, ..IndexBuildStatus::default() });
    world.stages.clear();
    world
}

fn forged(name: &str, work: &str) -> Stage {
    let chosen = vec![Chosen { boot_nonce: "forged".to_owned(), digest: "forged".to_owned(), ..choice(work) }];
    Stage { name: name.to_owned(), chosen }
}

fn freezes(decision: &Decision) -> Vec<&Stage> {
    let stages = decision.actions.iter().filter_map(|action| match action {
        Action::FreezeStage { stage } => Some(stage),
        _ => None,
    });
    stages.collect()
}

fn stalled(decision: &Decision) -> Option<(Reason, String)> {
    let stalled = decision.status.condition(ConditionType::Stalled).unwrap();
    (stalled.status == ConditionStatus::True).then(|| (stalled.reason, stalled.message.clone()))
}

/// G2, G6: labels, owner and form can be copied; the digest in the status cannot be written.
#[test]
fn g6_an_object_is_believed_by_the_digest_in_the_status_and_by_nothing_else() {
    let plan_stage = planned(2, 2);
    let world = seeing(saying(Some(&[&plan_stage])), &[object(&plan_stage), object(&forged("encode", "encode-0"))]);
    assert_eq!(world.stages, std::slice::from_ref(&plan_stage));
    assert_eq!(world.frozen.unproved[0].stage, "encode");
    // In its place, and altered by a space.
    let altered = StageObject { text: Some(format!("{} ", plan_stage.text().unwrap())), ..object(&plan_stage) };
    for other in [object(&planned(1, 1)), altered, StageObject { text: None, ..object(&plan_stage) }] {
        let world = seeing(saying(Some(&[&plan_stage])), &[other]);
        assert_eq!((world.stages.len(), world.frozen.lost.len(), world.frozen.unproved.len()), (0, 1, 1));
    }
    // Under a name that only reads as one, and with another stage's content.
    let elsewhere = StageObject { name: names::config_map("orders", UID, "encode-r01"), ..object(&plan_stage) };
    let world = seeing(saying(Some(&[&plan_stage])), &[elsewhere]);
    assert_eq!((world.stages.len(), world.frozen.unproved.len()), (0, 0));
}

#[test]
fn a_build_that_nobody_began_to_work_on_says_so_before_anything_else_and_believes_nothing_that_is_there() {
    let mut world = seeing(
        World { build: BuildView { finalizer: false, ..world().build }, ..world() },
        &[object(&forged("plan", "plan")), object(&forged("publish", "publish"))],
    );
    assert!(world.stages.is_empty());
    let decision = plan(&world);
    assert_eq!(decision.actions, [Action::RecordStages { stages: Vec::new() }]);
    // A crash, or a write that is refused: what is said else must not make it look as if an older operator had begun it.
    assert_eq!(decision.status.start_time, None);
    world.build.status = Some(IndexBuildStatus { frozen_stages: None, ..decision.status });
    let world = seeing(world, &[object(&forged("publish", "publish"))]);
    assert!(world.stages.is_empty());
    assert_eq!(plan(&world).actions, [Action::RecordStages { stages: Vec::new() }]);
}

/// The way from an older operator: records hold the choices no more.
#[test]
fn what_an_older_operator_froze_is_believed_once_by_what_it_looks_like_and_then_by_its_digest() {
    let (old, twin) = (planned(2, 2), stage("encode", &["encode-0", "encode-1"]));
    let mut before = saying(None);
    let world = seeing(before.clone(), &[object(&old), object(&twin)]);
    assert_eq!(world.stages.len(), 2);
    let decision = plan(&world);
    let said: Vec<_> = [&old, &twin].iter().map(|stage| stage.frozen().unwrap()).collect();
    assert_eq!(decision.actions, [Action::RecordStages { stages: said.clone() }], "before anything is decided on them");
    assert_eq!(decision.status.frozen_stages, Some(said));
    // Not what looks otherwise, nor what a record contradicts.
    let unlike = StageObject { well_formed: false, ..object(&twin) };
    assert_eq!(seeing(before.clone(), &[object(&old), unlike]).stages, std::slice::from_ref(&old));
    before.slots[0].record.spec.chosen = vec![Chosen { epoch: Epoch::new(9), ..choice("encode-0") }];
    assert_eq!(seeing(before, &[object(&old), object(&twin)]).stages, [old]);
}

/// A rolled back operator froze it and could not say so: what records still say all of is taken.
#[test]
fn an_object_of_which_each_entry_stands_in_a_record_is_said_as_it_is() {
    let plan_stage = planned(2, 2);
    let mut before = saying(Some(&[&plan_stage]));
    for (slot, id) in ["encode-0", "encode-1"].into_iter().enumerate() {
        before.slots[slot].record.spec.chosen = vec![choice(id)];
    }
    let spaced = format!("{} ", stage("encode", &["encode-0", "encode-1"]).text().unwrap());
    let offered = StageObject { text: Some(spaced.clone()), ..object(&stage("encode", &[])) };
    let decision = plan(&seeing(before.clone(), &[object(&plan_stage), offered]));
    let said = decision.status.frozen_stages.clone().unwrap();
    assert_eq!(said.last().unwrap(), &FrozenStage { name: "encode".to_owned(), digest: digest(&spaced) });
    assert_eq!(stalled(&decision), None);
    // One of them forged, or one missing: the records' own choices are said.
    for other in [stage("encode", &["encode-0"]), forged("encode", "encode-1")] {
        let decision = plan(&seeing(before.clone(), &[object(&plan_stage), object(&other)]));
        let own = stage("encode", &["encode-0", "encode-1"]).frozen();
        assert_eq!(decision.status.frozen_stages.unwrap().last(), own.as_ref());
    }
}

/// An object that is in the way: told by name with the way out, never taken, and the build goes on as far as it can.
#[test]
fn a_strangers_object_stalls_the_build_by_name_from_before_its_stage_until_it_is_removed() {
    let plan_stage = planned(2, 2);
    let stranger = object(&forged("encode", "encode-0"));
    let mut world = seeing(saying(Some(&[&plan_stage])), &[object(&plan_stage), stranger.clone()]);
    let (reason, message) = stalled(&plan(&world)).unwrap();
    assert_eq!(reason, Reason::ForeignObject);
    for part in ["orders-0b7e1c9a-encode", "kubectl delete configmap orders-0b7e1c9a-encode -n shop", "goes on"] {
        assert!(message.contains(part), "{message}");
    }
    reports_result(&mut world, 0);
    reports_result(&mut world, 1);
    let mut said = Vec::new();
    for _ in 0..6 {
        let decision = plan(&world);
        said.extend(records_stages(&decision));
        assert!(freezes(&decision).is_empty(), "its name is taken");
        carry_out(&mut world, &decision);
        world = seeing(world, &[object(&plan_stage), stranger.clone()]);
        assert_eq!(world.stages, std::slice::from_ref(&plan_stage), "it is not believed");
    }
    assert_eq!(said, ["plan", "encode"], "what the records say is said, whoever has the name");
    let decision = plan(&world);
    let (reason, message) = stalled(&decision).unwrap();
    assert!(reason == Reason::ForeignObject && message.contains("nothing is decided"), "{message}");
    // It is removed: made from the records, and the build goes on.
    let world = seeing(world, &[object(&plan_stage)]);
    let decision = plan(&world);
    let made = freezes(&decision)[0].clone();
    assert_eq!((made.name.as_str(), made.chosen[0].digest.as_str()), ("encode", "r"));
    assert_eq!(stalled(&decision), None);
    let world = seeing(world, &[object(&plan_stage), object(&made)]);
    let (spec, ..) = update(&plan(&world), 0).map(|(spec, state, change)| (spec.clone(), state, change)).unwrap();
    assert_eq!((spec.work.unwrap().id.as_str(), spec.chosen.len()), ("sort-0", 0));
}

/// G6: deleted by hand, it is made again as it was, or not at all.
#[test]
fn g6_a_removed_stage_is_made_again_as_it_was_or_nothing_is_decided_until_it_is_put_back() {
    let (plan_stage, encode) = (planned(2, 2), stage("encode", &["encode-0", "encode-1"]));
    let mut there = saying(Some(&[&plan_stage, &encode]));
    for (slot, id) in ["encode-0", "encode-1"].into_iter().enumerate() {
        there.slots[slot].record.spec.chosen = vec![choice(id)];
    }
    let decision = plan(&seeing(there.clone(), &[object(&plan_stage)]));
    assert_eq!(freezes(&decision), [&encode]);
    // The choices are gone, or others: another attempt's result would be another index.
    let mut gone = there.clone();
    gone.slots[0].record.spec.chosen.clear();
    there.slots[0].record.spec.chosen[0].epoch = Epoch::new(9);
    for mut world in [gone, there] {
        reports_result(&mut world, 1);
        let decision = plan(&seeing(world, &[object(&plan_stage)]));
        assert_eq!(decision.actions, Vec::new());
        let (reason, message) = stalled(&decision).unwrap();
        let digest = encode.frozen().unwrap().digest;
        assert_eq!(reason, Reason::StageLost);
        assert!(message.contains("orders-0b7e1c9a-encode") && message.contains(&digest), "{message}");
    }
    // Put back, it is believed again.
    let world = seeing(saying(Some(&[&plan_stage, &encode])), &[object(&plan_stage), object(&encode)]);
    assert_eq!((world.stages.len(), stalled(&plan(&world))), (2, None));
}

/// Whatever stands there, or does not: a deletion reads no stage.
#[test]
fn neither_a_strangers_nor_a_lost_stage_hinders_a_deletion_or_a_complete_build() {
    let stages = [planned(2, 2), stage("encode", &["encode-0"]), stage("sort", &["sort-0"])];
    for lost in [true, false] {
        let mut world = saying(Some(&stages.each_ref()));
        world.build.deleting = true;
        world.build.deletion_age = 100;
        world.slots.truncate(1);
        world.pods.truncate(1);
        world.claims.truncate(1);
        let strangers = ["plan", "encode", "sort", "publish", "clean"].map(|name| object(&forged(name, name)));
        let objects: &[StageObject] = if lost { &[] } else { &strangers };
        for _ in 0..12 {
            world = seeing(world, objects);
            let decision = plan(&world);
            for action in &decision.actions {
                match action {
                    Action::DeleteClaim { name, .. } => world.claims.retain(|claim| claim.name != *name),
                    Action::DeleteDirectory { slot, .. } => {
                        world.slots.retain(|view| view.record.spec.slot != *slot);
                    }
                    Action::StopPod { uid, .. } => {
                        world.pods.iter_mut().filter(|pod| pod.uid == *uid).for_each(|pod| pod.deleting = true);
                        world.pods.retain(|pod| !pod.deleting || !matches!(pod.state, PodState::Terminated(_)));
                    }
                    Action::RemoveFinalizer => world.build.finalizer = false,
                    Action::FreezeStage { stage } => assert!(lost, "{stage:?} is made over a stranger's"),
                    _ => {}
                }
            }
            carry_out(&mut world, &decision);
            if world
                .slots
                .first()
                .is_some_and(|slot| slot.record.spec.work.as_ref().is_some_and(|work| work.id == "clean"))
            {
                let record = &mut world.slots[0].record;
                let grant = record.spec.grant.clone().unwrap();
                record.status.report =
                    Some(Report { epoch: grant.epoch, boot_nonce: grant.boot_nonce, ..Report::default() });
                reports_result(&mut world, 0);
            }
            for pod in &mut world.pods {
                if pod.deleting || world.slots.first().is_none_or(|slot| slot.record.spec.work.is_none()) {
                    pod.state = terminated(0);
                }
            }
        }
        assert!(!world.build.finalizer, "lost: {lost}, it does not end: {:#?}", plan(&world));
        assert!(world.build.deletion_age < world.build.timeouts.orphan_after, "and not for want of time");
    }
    // A commit outlives what holds it.
    let all = [&stages[0], &stages[1], &stages[2], &stage("publish", &["publish"]), &stage("clean", &["clean"])];
    let mut world = saying(Some(&all));
    (world.slots, world.pods, world.claims) = (Vec::new(), Vec::new(), Vec::new());
    let decision = plan(&seeing(world, &[object(&forged("publish", "publish"))]));
    assert_eq!((decision.end, stalled(&decision)), (Some(End::Complete), None));
    assert_eq!(freezes(&decision), Vec::<&Stage>::new());
}

/// A stranger's `clean` hides who cleaned; the index of a deleted build is cleaned all the same, and by a Clean of its own.
#[test]
fn g5_a_clean_of_the_commit_is_never_taken_for_that_of_the_index() {
    let clean = Chosen {
        epoch: Epoch::new(3),
        boot_nonce: "nonce-0".to_owned(),
        digest: "r".to_owned(),
        rows: 0,
        entries: 0,
        bytes: 0,
        ..choice("clean")
    };
    let clean = Stage { name: "clean".to_owned(), chosen: vec![clean] };
    let all = [
        &planned(2, 2),
        &stage("encode", &["encode-0"]),
        &stage("sort", &["sort-0"]),
        &stage("publish", &["publish"]),
        &clean,
    ];
    let mut world = saying(Some(&all));
    world.slots.truncate(1);
    world.slots[0].record.spec.work = Some(work("clean"));
    reports_result(&mut world, 0);
    for still_in_record in [false, true] {
        let mut world = world.clone();
        if still_in_record {
            world.slots[0].record.spec.chosen.clone_from(&clean.chosen);
        }
        world.build.spec.output.deletion_policy = DeletionPolicy::Delete;
        world.build.deleting = true;
        world.build.deletion_age = 100;
        world.build.spec.parallelism = 1;
        let mut objects: Vec<_> = all[..4].iter().map(|stage| object(stage)).collect();
        objects.push(object(&forged("clean", "clean")));
        let mut granted = false;
        for _ in 0..4 {
            world = seeing(world, &objects);
            let decision = plan(&world);
            assert!(!records_stages(&decision).contains(&"clean-index".to_owned()), "nobody has removed the index");
            carry_out(&mut world, &decision);
            granted |= world.slots[0].record.spec.work.as_ref().is_some_and(|work| work.removes_index);
        }
        assert!(granted, "still in the record: {still_in_record}");
    }
}

/// What an executor is to find stands in its grant.
#[test]
fn a_grant_names_the_digests_of_what_its_work_reads() {
    let (plan_stage, encode) = (planned(2, 2), stage("encode", &["encode-0", "encode-1"]));
    let world = seeing(saying(Some(&[&plan_stage, &encode])), &[object(&plan_stage), object(&encode)]);
    let mut world = World { slots: Vec::new(), pods: Vec::new(), claims: Vec::new(), ..world };
    let granted = |world: &World| {
        plan(world).actions.into_iter().find_map(|action| match action {
            Action::CreateDirectory { spec, .. } => spec.work,
            _ => None,
        })
    };
    let work = granted(&world).unwrap();
    assert_eq!(work.inputs, ["plan", "encode"]);
    assert_eq!(work.input_digests, [&plan_stage, &encode].map(|stage| stage.frozen().unwrap().digest));
    // Where nothing is said, nothing is asked for.
    world.build.status = None;
    assert_eq!(granted(&world).unwrap().input_digests, Vec::<String>::new());
}
