//! I9: what becomes of the volumes of a deleted build, while its object is there and afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scene;

use indexbuild_api::*;
use indexbuild_lifecycle::record::{StatusChange, status_after};
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::*;
use scene::*;

/// Carries out a decision as an operator does, with the real rules of writing; what was done to claims is told.
fn act(world: &mut World, decision: &Decision) -> Vec<String> {
    let mut told = Vec::new();
    for action in &decision.actions {
        match action {
            Action::UpdateDirectory { slot, spec, state, change, conditions, version } => {
                let view = world.slots.iter_mut().find(|view| view.record.spec.slot == *slot).unwrap();
                assert_eq!(*version, view.record.version);
                admission::review_spec(&view.record.spec, spec).unwrap();
                if view.record.spec.grant != spec.grant {
                    view.grant_age = 0;
                }
                let says = StatusChange { state: *state, change: *change, conditions };
                view.record.status = status_after(&view.record.spec, &view.record.status, spec, says, "t");
                view.record.spec = spec.clone();
                view.record.version.push('+');
            }
            Action::FreezeStage { stage } => world.stages.push(stage.clone()),
            Action::DeleteClaim { name, .. } => {
                world.claims.retain(|claim| claim.name != *name);
                told.push(format!("deleted {name}"));
            }
            Action::KeepClaim { name, .. } => told.push(format!("kept {name}")),
            Action::DeleteDirectory { slot, .. } => world.slots.retain(|view| view.record.spec.slot != *slot),
            Action::StopPod { uid, .. } => {
                for pod in world.pods.iter_mut().filter(|pod| pod.uid == *uid) {
                    pod.deleting = true;
                }
            }
            Action::RemoveFinalizer => world.build.finalizer = false,
            Action::RecordStages { .. } => {}
            Action::AddFinalizer
            | Action::CreateDirectory { .. }
            | Action::CreateClaim { .. }
            | Action::CreatePod { .. } => panic!("{action:?} for a build that is deleted"),
        }
    }
    world.build.status = Some(decision.status.clone());
    know_stages(world);
    told
}

/// One step of time and one pass.
fn pass(world: &mut World) -> Vec<String> {
    world.now += 2_000;
    for slot in &mut world.slots {
        slot.grant_age += 2_000;
        slot.report_age += 2_000;
        slot.progress_age += 2_000;
    }
    if world.build.deleting && !world.build.gone {
        world.build.deletion_age += 2_000;
    }
    let decision = plan(world);
    let told = act(world, &decision);
    world.pods.retain(|pod| !(pod.deleting && matches!(pod.state, PodState::Terminated(_))));
    told
}

/// A build with one slot at work and these policies.
fn with(retention: VolumeRetention) -> World {
    let mut world = encoding();
    world.build.spec.parallelism = 1;
    world.slots.truncate(1);
    world.pods.truncate(1);
    world.claims.truncate(1);
    world.build.spec.volume = Some(VolumeSpec { retention: Some(retention), ..VolumeSpec::default() });
    world
}

const ALL_GO: VolumeRetention = VolumeRetention {
    when_published: Retention::Delete,
    when_failed: Retention::Delete,
    when_deleted: Retention::Delete,
};
const DELETED_STAYS: VolumeRetention = VolumeRetention { when_deleted: Retention::Retain, ..ALL_GO };

/// The build is deleted, and cleaned in its store; it is let go when all is settled or its time is over.
fn delete(world: &mut World) -> Vec<String> {
    world.build.deleting = true;
    if world.stage("clean").is_none() {
        world.stages.push(Stage { name: "clean".to_owned(), chosen: vec![] });
    }
    let mut told = Vec::new();
    for _ in 0..60 {
        told.extend(pass(world));
        if !world.build.finalizer {
            return told;
        }
    }
    panic!("it is not let go: {:?}", plan(world).waits);
}

/// Its object is gone: what is known of it is what its records say.
fn gone(mut world: World) -> World {
    let BuildView { uid, name, namespace, .. } = world.build;
    world.build = BuildView::gone(uid, name, namespace);
    world.stages.clear();
    world
}

/// Looks after what is left until nothing changes any more.
fn reap(world: &mut World) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..10 {
        told.extend(pass(world));
    }
    assert_eq!(plan(world).actions, vec![], "it rests");
    told
}

fn owner_ends(world: &mut World) {
    for pod in &mut world.pods {
        pod.state = terminated(0);
    }
}

fn state(world: &World) -> DirectoryState {
    world.slots[0].record.status.state
}

fn after_build(world: &World) -> Option<Retention> {
    world.slots[0].record.spec.after_build.map(|after| after.volumes)
}

#[test]
fn of_several_volumes_each_is_kept_as_its_own_owner_is_proved_gone() {
    let mut world = replaced();
    world.build.spec.parallelism = 1;
    world.slots.truncate(1);
    world.claims.retain(|claim| claim.slot == 0);
    world.pods.retain(|pod| pod.slot == 0);
    world.build.spec.volume = with(DELETED_STAYS).build.spec.volume;
    // The present owner ends at once, the stranded one is cut off.
    world.pods.iter_mut().find(|pod| pod.uid == "pod-0").unwrap().state = terminated(0);
    delete(&mut world);
    let mut left = gone(world);
    let present = names::claim("orders", UID, 0, 1);
    let former = stranded(0).claim_name;
    assert_eq!(reap(&mut left), vec![format!("kept {present}")]);
    let spec = &left.slots[0].record.spec;
    assert_eq!(spec.volume, None);
    assert_eq!(spec.former_volumes.iter().map(|volume| &volume.claim_name).collect::<Vec<_>>(), vec![&former]);
    owner_ends(&mut left);
    assert_eq!(reap(&mut left), vec![format!("kept {former}")]);
    assert_eq!((left.slots, left.claims.len()), (vec![], 2));
}

/// A crash between two actions loses nothing: a volume is told of before its record lets go of it.
#[test]
fn people_are_told_of_a_volume_that_stays_before_its_record_goes() {
    let mut world = with(DELETED_STAYS);
    delete(&mut world);
    let mut left = gone(world);
    owner_ends(&mut left);
    for _ in 0..10 {
        let decision = plan(&left);
        let of = |which: fn(&Action) -> bool| decision.actions.iter().position(which);
        if let Some(told) = of(|action| matches!(action, Action::KeepClaim { .. })) {
            let lets_go =
                of(|action| matches!(action, Action::UpdateDirectory { .. } | Action::DeleteDirectory { .. }));
            assert!(lets_go.is_some_and(|lets_go| told < lets_go), "{:?}", decision.actions);
            return;
        }
        pass(&mut left);
    }
    panic!("nobody is told: {:?}", plan(&left));
}

/// A record that an older version wrote does not say what its build asked for: whoever does not know destroys nothing.
#[test]
fn a_tombstone_that_does_not_say_what_was_asked_for_keeps_its_volumes() {
    for condemned in [false, true] {
        let mut world = with(ALL_GO);
        let name = world.claims[0].name.clone();
        delete(&mut world);
        let spec = &mut world.slots[0].record.spec;
        spec.after_build = None;
        // By an older version's clean-up, which may have taken a default for what was asked for.
        spec.former_volumes.iter_mut().for_each(|volume| volume.condemned = condemned);
        let mut left = gone(world);
        assert_eq!(reap(&mut left), Vec::<String>::new(), "not without proof");
        owner_ends(&mut left);
        assert_eq!(reap(&mut left), vec![format!("kept {name}")]);
        assert_eq!((left.slots, left.claims.len()), (vec![], 1));
    }
}

/// What the build asked for last counts, also where that was after its deletion began. Until that begins it takes no
/// write of its own (I8).
#[test]
fn the_record_follows_what_the_build_asks_for_until_it_is_gone() {
    for (first, last) in [(ALL_GO, DELETED_STAYS), (DELETED_STAYS, ALL_GO)] {
        let mut world = settled(with(first));
        assert_eq!(plan(&world).actions, vec![], "I8");
        world.build.deleting = true;
        pass(&mut world);
        assert_eq!(after_build(&world), Some(first.when_deleted));
        world.build.spec.volume = with(last).build.spec.volume;
        let before = world.claims.len();
        delete(&mut world);
        assert_eq!(after_build(&world), Some(last.when_deleted));
        let mut left = gone(world);
        owner_ends(&mut left);
        reap(&mut left);
        let expected = if last.when_deleted == Retention::Retain { before } else { 0 };
        assert_eq!(left.claims.len(), expected, "{last:?}");
    }
}

/// It stands in the record in the write that makes it a tombstone, and the build is not let go before that write is
/// seen: a record without it never stands alone.
#[test]
fn what_was_asked_for_is_in_the_record_before_the_build_is_let_go() {
    let mut world = with(DELETED_STAYS);
    // As an older version made it.
    world.slots[0].record.spec.after_build = None;
    owner_ends(&mut world);
    world.build.deleting = true;
    world.stages.push(Stage { name: "clean".to_owned(), chosen: vec![] });
    for _ in 0..20 {
        let decision = plan(&world);
        for action in &decision.actions {
            match action {
                Action::UpdateDirectory { spec, .. } => {
                    assert_eq!(spec.after_build.map(|after| after.volumes), Some(Retention::Retain));
                }
                Action::RemoveFinalizer => assert_eq!(after_build(&world), Some(Retention::Retain), "not seen yet"),
                _ => {}
            }
        }
        pass(&mut world);
    }
    assert!(!world.build.finalizer);
}

/// A record that still has its owner reference goes with its build, and with it all that is known of its volumes.
#[test]
fn a_build_is_let_go_only_after_its_records_were_seen_to_be_tombstones() {
    for retention in [ALL_GO, DELETED_STAYS] {
        // One whose owner is cut off, and one whose pod never began, on a node that is cut off too.
        for unclaimed in [false, true] {
            let mut world = with(retention);
            if unclaimed {
                let grant = world.slots[0].record.spec.grant.as_mut().unwrap();
                *grant = Grant {
                    boot_nonce: String::new(),
                    boot_id: String::new(),
                    system_uuid: String::new(),
                    ..grant.clone()
                };
                world.slots[0].record.status.claim = None;
                world.slots[0].record.status.report = None;
                world.pods[0].state = PodState::Pending;
            }
            world.build.deleting = true;
            world.stages.push(Stage { name: "clean".to_owned(), chosen: vec![] });
            let mut seen = state(&world);
            for _ in 0..60 {
                if !world.build.finalizer {
                    break;
                }
                seen = state(&world);
                pass(&mut world);
            }
            assert!(!world.build.finalizer, "{retention:?} {unclaimed}");
            assert_eq!(
                seen,
                DirectoryState::Tombstone,
                "as the pass that let it go observed it: {retention:?} {unclaimed}"
            );
        }
    }
}

/// A build that has ended, and keeps volumes for that, is deleted: from then on the policy of a deletion decides.
#[test]
fn what_an_ended_build_kept_goes_or_stays_as_its_deletion_says() {
    let published = VolumeRetention { when_published: Retention::Retain, ..ALL_GO };
    let failed = VolumeRetention { when_failed: Retention::Retain, ..ALL_GO };
    for (ended, when_deleted) in [
        (published, Retention::Delete),
        (published, Retention::Retain),
        (failed, Retention::Delete),
        (failed, Retention::Retain),
    ] {
        let mut world = with(VolumeRetention { when_deleted, ..ended });
        if ended.when_published == Retention::Retain {
            world.stages.extend([
                stage("encode", &["encode-0", "encode-1"]),
                stage("sort", &["sort-0", "sort-1"]),
                stage("publish", &["publish"]),
            ]);
        } else {
            reports_error(&mut world, 0, WorkErrorReason::DuplicateKey, false, vec![]);
        }
        world.stages.push(Stage { name: "clean".to_owned(), chosen: vec![] });
        pass(&mut world);
        owner_ends(&mut world);
        for _ in 0..10 {
            pass(&mut world);
        }
        let kept = world.build.status.as_ref().unwrap().condition(ConditionType::VolumesHeld).unwrap();
        assert_eq!((kept.reason, world.claims.len()), (Reason::VolumesRetained, 1), "while it is there");
        assert!(world.build.finalizer, "its deletion is not missed");
        delete(&mut world);
        let (mut left, before) = (gone(world.clone()), world.claims.len());
        let told = reap(&mut left);
        let stays = when_deleted == Retention::Retain;
        assert_eq!((before, left.claims.len()), (usize::from(stays), usize::from(stays)), "{ended:?} {when_deleted:?}");
        assert_eq!((told.len(), left.slots.len()), (usize::from(stays), 0));
    }
}

/// A volume that was held for want of a proof when the index was published is in the same case.
#[test]
fn what_an_ended_build_could_not_delete_goes_or_stays_as_its_deletion_says() {
    for when_deleted in [Retention::Delete, Retention::Retain] {
        let mut world = with(VolumeRetention { when_deleted, ..ALL_GO });
        world.stages.extend([
            stage("encode", &["encode-0", "encode-1"]),
            stage("sort", &["sort-0", "sort-1"]),
            stage("publish", &["publish"]),
            Stage { name: "clean".to_owned(), chosen: vec![] },
        ]);
        for _ in 0..10 {
            pass(&mut world);
        }
        assert_eq!(world.slots[0].record.spec.former_volumes[0].state, VolumeState::Stranded);
        delete(&mut world);
        let mut left = gone(world);
        owner_ends(&mut left);
        let told = reap(&mut left);
        let stays = when_deleted == Retention::Retain;
        assert_eq!((left.slots.len(), left.claims.len()), (0, usize::from(stays)), "{when_deleted:?}: {told:?}");
    }
}

/// The record waits for a pod that may still run as long as its own build would have, and not by a default.
#[test]
fn the_patience_of_a_build_that_is_gone_is_its_records() {
    let patience = |after_build: Option<u64>| {
        let mut world = with(ALL_GO);
        delete(&mut world);
        let spec = &mut world.slots[0].record.spec;
        spec.after_build =
            after_build.map(|age| AfterBuild { volumes: Retention::Delete, replace_after: Duration::from_millis(age) });
        // Somebody removed the claim by hand; the pod is on a node that is cut off.
        world.claims.clear();
        let mut left = gone(world);
        left.slots[0].grant_age = 0;
        let begun = left.now;
        while left.slots.len() == 1 && left.now - begun < 7_200_000 {
            pass(&mut left);
        }
        (left.slots.is_empty(), left.now - begun)
    };
    assert_eq!(patience(Some(20_000)), (true, 20_000));
    assert_eq!(patience(Some(3_600_000)), (true, 3_600_000));
    assert!(!patience(None).0, "it does not say: its pod is waited for");
}

/// What it is called, what leads to it, and the policy that is to hold then.
type WayOut = (&'static str, fn(&mut World), fn(&mut VolumeRetention));

/// How a build comes to its end.
const WAYS_OUT: [WayOut; 4] = [
    (
        "published",
        |world| {
            world.stages.extend([stage("encode", &["encode-0"]), stage("sort", &["sort-0"])]);
            world.stages.push(stage("publish", &["publish"]));
        },
        |policy| policy.when_published = Retention::Retain,
    ),
    ("failed", fails, |policy| policy.when_failed = Retention::Retain),
    ("deleted", |world| world.build.deleting = true, |policy| policy.when_deleted = Retention::Retain),
    (
        "failed, then deleted before it was cleaned",
        |world| {
            fails(world);
            world.build.deleting = true;
        },
        |policy| policy.when_deleted = Retention::Retain,
    ),
];

fn fails(world: &mut World) {
    let failed = Condition {
        condition_type: ConditionType::Failed,
        status: ConditionStatus::True,
        reason: Reason::BackoffLimitExceeded,
        message: "it failed".to_owned(),
        last_transition_time: None,
        observed_generation: None,
    };
    world.build.status = Some(IndexBuildStatus { conditions: vec![failed], ..IndexBuildStatus::default() });
}

/// The slot cleans, its process ends, and all is settled. Whether its process was told to leave its own volume as it is, and
/// whether the volume is there afterwards.
fn cleaned(mut world: World) -> (bool, bool) {
    let mut told = None;
    for _ in 0..60 {
        pass(&mut world);
        let Some(slot) = world.slots.first_mut() else { break };
        let grant = slot.record.spec.grant.clone().unwrap_or_default();
        if let Some(work) = slot.record.spec.work.as_ref().filter(|work| work.id == "clean") {
            told = Some(work.keeps_volume);
            let result = WorkResult { work_id: "clean".to_owned(), epoch: grant.epoch, ..WorkResult::default() };
            let report = Report { epoch: grant.epoch, boot_nonce: grant.boot_nonce, ..Report::default() };
            slot.record.status.report = Some(Report { result: Some(result), ..report });
            (slot.report_age, slot.progress_age) = (0, 0);
        } else if world.is_frozen("clean") {
            owner_ends(&mut world);
        }
    }
    (told.expect("it cleans"), !world.claims.is_empty())
}

/// I9. The slot that cleans has a volume too.
#[test]
fn on_every_way_out_the_volume_of_the_slot_that_cleans_stays_as_it_is_where_the_policy_says_so() {
    for (way, leads_out, retains) in WAYS_OUT {
        let mut only_this = ALL_GO;
        retains(&mut only_this);
        let all_others = VolumeRetention {
            when_published: opposite(only_this.when_published),
            when_failed: opposite(only_this.when_failed),
            when_deleted: opposite(only_this.when_deleted),
        };
        for (policy, stays) in [(only_this, true), (all_others, false)] {
            let mut world = with(policy);
            leads_out(&mut world);
            assert_eq!(cleaned(world), (stays, stays), "{way}: {policy:?}");
        }
    }
}

const fn opposite(retention: Retention) -> Retention {
    match retention {
        Retention::Retain => Retention::Delete,
        Retention::Delete | Retention::Other(_) => Retention::Retain,
    }
}

/// I9: while a build runs, what a slot leaves has the fate of a build that ends well.
#[test]
fn the_volume_of_a_slot_that_is_not_wanted_any_more_stays_where_the_policy_says_so() {
    for stays in [false, true] {
        let mut world = encoding();
        world.build.spec.parallelism = 1;
        let when_published = if stays { Retention::Retain } else { Retention::Delete };
        let policy = VolumeRetention { when_published, when_failed: opposite(when_published), ..ALL_GO };
        world.build.spec.volume = Some(VolumeSpec { retention: Some(policy), ..VolumeSpec::default() });
        world.stages.push(stage("encode", &["encode-0", "encode-1"]));
        for round in 0..20 {
            pass(&mut world);
            world.slots[0].report_age = 0;
            if round == 3 {
                world.pods.iter_mut().filter(|pod| pod.slot == 1).for_each(|pod| pod.state = terminated(0));
            }
        }
        assert_eq!(world.claims.iter().any(|claim| claim.slot == 1), stays);
    }
}
