//! What may be done in a world, judged by the world alone.

use std::collections::BTreeSet;

use indexbuild_api::*;
use indexbuild_lifecycle::admission::review_spec;
use indexbuild_lifecycle::world::*;
use indexbuild_lifecycle::{Action, plan};

use super::gone::{current_owner, former_owner, proved_gone};

fn most_lost(world: &World) -> bool {
    let known: Vec<_> = world.nodes.iter().filter(|node| !node.gone).collect();
    known.iter().filter(|node| node.ready != NodeReady::True).count() * 2 > known.len()
}

fn record_of(world: &World, slot: u32) -> &Record {
    &world.slots.iter().find(|view| view.record.spec.slot == slot).unwrap().record
}

/// What becomes of a record's volumes, as docs/lifecycle.md says: the build decides while it is there, the record
/// afterwards, and who does not know keeps them.
fn policy(world: &World, record: &Record) -> Retention {
    let build = &world.build;
    if build.gone {
        return record.spec.after_build.map_or(Retention::Retain, |after| after.volumes);
    }
    let policy = build.spec.volume.clone().unwrap_or_default().retention.unwrap_or_default();
    let failed = build.status.as_ref().is_some_and(|status| {
        let conditions = &status.conditions;
        conditions.iter().any(|c| c.condition_type == ConditionType::Failed && c.status == ConditionStatus::True)
    });
    let published = world.stages.iter().any(|stage| match stage.name.as_str() {
        "publish" => true,
        "clean" => stage.chosen.iter().any(|chosen| chosen.committed),
        _ => false,
    });
    // It is frozen, whatever became of the object that says what was chosen (G6).
    let published = published || world.frozen.lost.iter().any(|lost| lost.name == "publish");
    if build.deleting {
        policy.when_deleted
    } else if failed && !published {
        policy.when_failed
    } else {
        policy.when_published
    }
}

/// Whether a record has a claim, as the present volume or as a former one, and its last owner there is proved gone.
/// `also` is asked about the UID that the record knows the claim by, and whether it condemns it.
fn is_free(world: &World, record: &Record, name: &str, also: impl Fn(&str, bool) -> bool) -> bool {
    let spec = &record.spec;
    let current = spec.volume.as_ref().is_some_and(|volume| {
        also(&volume.claim_uid, volume.condemned)
            && volume.claim_name == name
            && current_owner(record).is_none_or(|owner| proved_gone(world, &owner))
    });
    let former = spec.former_volumes.iter().any(|volume| {
        also(&volume.claim_uid, volume.condemned)
            && volume.claim_name == name
            && proved_gone(world, &former_owner(volume))
    });
    current || former
}

/// A claim is left to others only when nobody decides about it any more, its record does not say that it goes, and its
/// last owner is proved gone.
fn check_keep(world: &World, name: &str, uid: &str) {
    assert!(world.build.gone, "{name} is given up while its build is there");
    let this = |known: &str, _| known == uid || known.is_empty();
    let mut records = world.slots.iter().map(|view| &view.record);
    let allowed =
        records.any(|record| is_free(world, record, name, this) && policy(world, record) == Retention::Retain);
    assert!(allowed, "{name} ({uid}) is given up without proof, or against its policy");
    assert!(world.claims.iter().any(|claim| claim.name == name && claim.uid == uid && !claim.foreign));
    assert!(!claim_is_used(world, name), "a pod that has not ended may use {name}");
}

/// I4, G7, G8: a claim is deleted only if the record condemns it and its last owner is proved gone.
fn check_delete(world: &World, name: &str, uid: &str) {
    let this = |known: &str, condemned: bool| condemned && known == uid;
    let records = world.slots.iter().map(|view| &view.record);
    let condemning: Vec<_> = records.filter(|record| is_free(world, record, name, this)).collect();
    assert!(!condemning.is_empty(), "{name} ({uid}) is deleted without proof");
    let goes = condemning.iter().any(|record| policy(world, record) == Retention::Delete);
    assert!(goes, "I9: {name} ({uid}) is deleted, and was to be kept");
    let claim =
        world.claims.iter().find(|claim| claim.name == name && claim.uid == uid).expect("what is deleted was seen");
    assert!(!claim.foreign, "{name} is somebody else's");
    assert!(!claim_is_used(world, name), "a pod that has not ended may use {name}");
}

fn claim_is_used(world: &World, name: &str) -> bool {
    world.slots.iter().map(|view| &view.record.spec).any(|spec| {
        let users = spec
            .former_volumes
            .iter()
            .filter(|volume| volume.claim_name == name)
            .map(|volume| volume.pod_uid.as_str())
            .chain(
                spec.volume
                    .iter()
                    .filter(|volume| volume.claim_name == name)
                    .filter_map(|_| spec.grant.as_ref().map(|grant| grant.pod_uid.as_str())),
            );
        users
            .filter(|uid| !uid.is_empty())
            .any(|uid| world.pods.iter().any(|pod| pod.uid == uid && !matches!(pod.state, PodState::Terminated(_))))
    })
}

/// Whoever is bound has said of his volume what is seen then, of his own node.
fn check_attached(world: &World, slot: u32, new: &EngineDirectorySpec) {
    let old = &record_of(world, slot).spec;
    let (Some(before), Some(after)) = (&old.grant, &new.grant) else { return };
    if !before.boot_nonce.is_empty() || after.boot_nonce.is_empty() {
        return;
    }
    let node = world.pods.iter().find(|pod| pod.uid == after.pod_uid).and_then(|pod| pod.node.clone());
    let volume = new.volume.as_ref();
    let there = volume.filter(|volume| {
        let same = |claim: &ClaimView| volume.claim_uid.is_empty() || claim.uid == volume.claim_uid;
        world.claims.iter().any(|claim| claim.name == volume.claim_name && same(claim))
    });
    let seen: Vec<_> = world
        .attachments
        .seen
        .iter()
        .filter(|seen| there.is_some_and(|volume| volume.claim_name == seen.claim))
        .filter(|seen| node.as_ref() == Some(&seen.attached.node))
        .map(|seen| &seen.attached)
        .collect();
    match &after.attached {
        Some(attached) => assert!(seen.contains(&attached), "{attached:?} is not seen: {seen:?}"),
        None => assert!(seen.is_empty(), "it is attached, and nobody says so: {seen:?}"),
    }
}

fn check_update(
    world: &World,
    slot: u32,
    new: &EngineDirectorySpec,
    change: Option<OwnerChangeReason>,
    kept: &BTreeSet<&str>,
) {
    let record = record_of(world, slot);
    let old = &record.spec;
    review_spec(old, new).unwrap_or_else(|refusal| panic!("{refusal}\n{old:?}\n{new:?}"));
    check_attached(world, slot, new);
    let epoch = |spec: &EngineDirectorySpec| spec.grant.as_ref().map_or(0, |grant| grant.epoch.get());
    // G1, G3: by exactly one, with every change of owner or work, and never down.
    let owner = |spec: &EngineDirectorySpec| spec.grant.as_ref().map(|grant| (grant.pod_name.clone(), grant.epoch));
    assert_eq!(change.is_some(), owner(old) != owner(new) || old.work != new.work);
    if old.grant.is_some() {
        assert_eq!(epoch(new), epoch(old) + u64::from(change.is_some()));
    }
    if change.is_some() {
        let grant = new.grant.as_ref().unwrap();
        let same_process = old.grant.as_ref().is_some_and(|old| {
            old.pod_uid == grant.pod_uid && !grant.pod_uid.is_empty() && old.boot_nonce == grant.boot_nonce
        });
        if !same_process {
            // G10, G9: a name of its own, and nobody bound yet.
            assert!(grant.pod_name.ends_with(&format!("-e{}", grant.epoch)));
            assert_eq!((grant.pod_uid.as_str(), grant.boot_nonce.as_str()), ("", ""));
            // I4: another owner on a volume that somebody had only after proof that he is gone.
            if let Some(volume) = &new.volume {
                let had = old.volume.as_ref().is_some_and(|old| old.claim_name == volume.claim_name);
                if had && let Some(owner) = current_owner(record) {
                    assert!(proved_gone(world, &owner), "{} is given on without proof", volume.claim_name);
                }
                for former in old.former_volumes.iter().filter(|former| former.claim_name == volume.claim_name) {
                    assert!(!former.condemned && proved_gone(world, &former_owner(former)));
                }
            }
        }
    }
    check_machine(world, record, new);
    // No volume that is there and ours is forgotten.
    let forgotten = old
        .volume
        .iter()
        .map(|volume| (&volume.claim_name, &volume.claim_uid))
        .chain(old.former_volumes.iter().map(|volume| (&volume.claim_name, &volume.claim_uid)));
    for (name, uid) in forgotten {
        let there = world.claims.iter().any(|claim| claim.name == *name && claim.uid == *uid && !claim.foreign);
        let held = new.volume.iter().any(|volume| volume.claim_name == *name)
            || new.former_volumes.iter().any(|volume| volume.claim_name == *name);
        assert!(!there || held || kept.contains(name.as_str()), "{name} is forgotten");
    }
    // What was asked for is in the record before it stands alone, and is not changed by who only reads it there.
    let asked = world.build.spec.volume.clone().unwrap_or_default().retention.unwrap_or_default().when_deleted;
    if world.build.gone {
        assert_eq!((new.after_build, new.renew_interval), (old.after_build, old.renew_interval));
    } else if world.build.deleting || new != old {
        assert_eq!(new.after_build.map(|after| after.volumes), Some(asked));
    }
    // G3: only a result of the granted epoch, nonce and work is chosen.
    for chosen in new.chosen.iter().filter(|chosen| !old.chosen.contains(chosen)) {
        let (grant, report) = (old.grant.as_ref().unwrap(), record.status.report.as_ref().unwrap());
        let result = report.result.as_ref().unwrap();
        assert_eq!(
            (chosen.epoch, chosen.boot_nonce.as_str(), chosen.work_id.as_str()),
            (grant.epoch, grant.boot_nonce.as_str(), old.work.as_ref().unwrap().id.as_str())
        );
        assert_eq!(
            (report.epoch, report.boot_nonce.as_str(), result.epoch, result.work_id.as_str()),
            (grant.epoch, grant.boot_nonce.as_str(), grant.epoch, chosen.work_id.as_str())
        );
    }
    // G2: a choice leaves the record only when its stage is frozen, and its object there; that of a Clean, which nobody
    // reads, when its digest stands.
    for chosen in old.chosen.iter().filter(|chosen| !new.chosen.contains(chosen)) {
        let id = chosen.work_id.as_str();
        let stage = match id {
            "encode-r1-0" => "encode-r1",
            _ if id.starts_with("encode") => "encode",
            _ if id.starts_with("sort") => "sort",
            _ => id,
        };
        let alone = |name: &str| Stage { name: name.to_owned(), chosen: vec![chosen.clone()] }.frozen();
        let unmakeable = |name: &str| {
            world.build.deleting || world.build.gone || world.frozen.unproved.iter().any(|other| other.stage == name)
        };
        let said = |lost: &FrozenStage| {
            lost.name.starts_with("clean") && (unmakeable(&lost.name) || alone(&lost.name).as_ref() != Some(lost))
        };
        let said = id == "clean" && world.frozen.lost.iter().any(said);
        let frozen = said || world.stages.iter().any(|frozen| frozen.name == stage || frozen.chosen.contains(chosen));
        assert!(frozen, "{id} is dropped before {stage} is frozen");
    }
}

/// I4: whose machine it is, its process says itself; which machine that is, its Node, and only once it shows the same boot.
fn check_machine(world: &World, record: &Record, new: &EngineDirectorySpec) {
    let Some(grant) = &new.grant else { return };
    let old = record.spec.grant.clone().unwrap_or_default();
    if grant.boot_id != old.boot_id && !grant.boot_id.is_empty() {
        let claim = record.status.claim.as_ref().unwrap();
        let word = (claim.pod_uid.as_str(), claim.boot_nonce.as_str(), claim.boot_id.as_str());
        assert_eq!(word, (grant.pod_uid.as_str(), grant.boot_nonce.as_str(), grant.boot_id.as_str()));
    }
    if grant.system_uuid != old.system_uuid && !grant.system_uuid.is_empty() {
        let node = world.nodes.iter().find(|node| node.name == grant.node_name).unwrap();
        assert!(!node.gone && node.boot_id == grant.boot_id && node.system_uuid == grant.system_uuid);
    }
    if grant.node_name != old.node_name && !grant.node_name.is_empty() {
        let on = |pod: &PodView| pod.uid == grant.pod_uid && pod.node.as_deref() == Some(&grant.node_name);
        assert!(world.pods.iter().any(on));
    }
}

pub(crate) fn check(world: &World) {
    let decision = plan(world);
    assert_eq!(decision, plan(world));
    let lost = most_lost(world);
    assert!(
        decision.actions.iter().filter(|action| action.is_destructive()).count() <= 1,
        "one destructive action per pass"
    );
    let mut written = BTreeSet::new();
    let kept: BTreeSet<&str> = decision
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::KeepClaim { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    for action in &decision.actions {
        // failure-modes.md #23.
        assert!(!(lost && action.is_destructive()), "{action:?} while most nodes are lost");
        match action {
            // Of a build that is gone, only records, pods and claims are left.
            Action::AddFinalizer
            | Action::RemoveFinalizer
            | Action::CreateDirectory { .. }
            | Action::CreateClaim { .. }
            | Action::CreatePod { .. }
            | Action::RecordStages { .. }
            | Action::FreezeStage { .. }
                if world.build.gone =>
            {
                panic!("{action:?} for a build that is gone")
            }
            Action::AddFinalizer => assert!(!world.build.finalizer && !world.build.deleting),
            Action::RemoveFinalizer => assert!(world.build.finalizer),
            Action::CreateDirectory { slot, spec } => {
                assert!(world.slots.iter().all(|view| view.record.spec.slot != *slot));
                assert!(written.insert(*slot));
                let grant = spec.grant.as_ref().unwrap();
                // failure-modes.md #31: above whatever is seen of the slot.
                assert!(
                    world
                        .pods
                        .iter()
                        .filter(|pod| pod.slot == *slot)
                        .all(|pod| pod.epoch < grant.epoch || pod.epoch == u64::MAX)
                );
            }
            Action::UpdateDirectory { slot, version, spec, state: _, change, conditions: _ } => {
                assert_eq!(*version, record_of(world, *slot).version);
                assert_eq!(record_of(world, *slot).spec.build_uid, world.build.uid, "another build's record");
                assert!(written.insert(*slot), "one write per record and pass");
                check_update(world, *slot, spec, *change, &kept);
                assert!(
                    !lost
                        || !matches!(change, Some(OwnerChangeReason::Replaced))
                        || world.pods.is_empty()
                        || !is_mass_replacement(world, *slot, spec),
                    "replaced while most nodes are lost"
                );
            }
            Action::DeleteDirectory { slot, version } => {
                let record = record_of(world, *slot);
                assert_eq!(*version, record.version);
                let there = |name: &str, uid: &str| {
                    let ours = |claim: &ClaimView| !claim.foreign && (uid.is_empty() || claim.uid == uid);
                    !kept.contains(name) && world.claims.iter().any(|claim| claim.name == name && ours(claim))
                };
                let present = record.spec.volume.iter().any(|volume| there(&volume.claim_name, &volume.claim_uid));
                // A volume is held under the UID of its claim: another claim of that name is not it.
                let mut held = record.spec.former_volumes.iter().filter(|volume| !volume.claim_uid.is_empty());
                let former = held.any(|volume| there(&volume.claim_name, &volume.claim_uid));
                assert!(!present && !former, "volumes unaccounted for");
            }
            Action::CreateClaim { name, .. } => assert!(world.claims.iter().all(|claim| claim.name != *name)),
            Action::CreatePod { slot, epoch, name, claim } => {
                // G10.
                assert!(world.pods.iter().all(|pod| pod.name != *name), "{name} exists");
                assert!(name.ends_with(&format!("-e{epoch}")));
                let spec = &record_of(world, *slot).spec;
                let (grant, volume) = (spec.grant.as_ref().unwrap(), spec.volume.as_ref().unwrap());
                assert_eq!((grant.epoch, &grant.pod_name, grant.pod_uid.as_str()), (*epoch, name, ""));
                assert!(volume.claim_name == *claim && !volume.condemned, "G7");
                assert!(
                    !world.build.spec.suspend
                        || world.build.deleting
                        || decision
                            .status
                            .conditions
                            .iter()
                            .any(|c| c.condition_type == ConditionType::Finished && c.status == ConditionStatus::True),
                    "a pod is made while the build pauses"
                );
            }
            Action::StopPod { name, uid, .. } => {
                assert!(world.pods.iter().any(|pod| pod.name == *name && pod.uid == *uid));
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                check_delete(world, name, uid);
                assert_eq!(
                    (condemned.claim_name(), condemned.claim_uid(), evidence.claim_name()),
                    (name.as_str(), uid.as_str(), name.as_str())
                );
            }
            Action::KeepClaim { slot, name, uid, evidence } => {
                assert!(record_of(world, *slot).spec.build_uid == world.build.uid, "another build's");
                check_keep(world, name, uid);
                assert_eq!(evidence.claim_name(), name);
                assert!(!lost, "{name} is given up while most nodes are lost");
            }
            Action::RecordStages { stages } => {
                let said = world.build.status.as_ref().and_then(|status| status.frozen_stages.clone());
                if world.frozen.unsaid.is_some() {
                    assert_eq!(
                        (world.frozen.unsaid.as_ref(), decision.actions.len()),
                        (Some(stages), 1),
                        "first of all"
                    );
                    continue;
                }
                // G6: what was said stays said, and each stage is said once.
                let (new, before) = stages.split_last().unwrap();
                assert_eq!(before, said.unwrap_or_default());
                assert!(
                    !before.iter().chain(&world.frozen.lost).any(|said| said.name == new.name),
                    "{} twice",
                    new.name
                );
                assert!(world.stages.iter().all(|frozen| frozen.name != new.name), "{} exists", new.name);
                // G2: what somebody offers is taken only where records say all of it.
                let unproved = world.frozen.unproved.iter().filter_map(|unproved| unproved.holds.as_ref());
                for (stage, _) in unproved.filter(|(stage, digest)| stage.name == new.name && *digest == new.digest) {
                    for chosen in &stage.chosen {
                        let said = world.slots.iter().any(|view| view.record.spec.chosen.contains(chosen));
                        assert!(said, "{chosen:?} is in no record");
                    }
                }
            }
            Action::FreezeStage { stage } => {
                // G2: as it was said, where nothing else stands.
                assert!(world.frozen.lost.contains(&stage.frozen().unwrap()), "{} was not said so", stage.name);
                assert!(world.frozen.unproved.iter().all(|unproved| unproved.stage != stage.name));
                // G6.
                assert!(world.stages.iter().all(|frozen| frozen.name != stage.name), "{} exists", stage.name);
                // G2: in a record first, and there in the world as observed.
                for chosen in &stage.chosen {
                    assert!(
                        world.slots.iter().any(|view| view.record.spec.chosen.contains(chosen)),
                        "{chosen:?} is in no record"
                    );
                }
            }
        }
    }
    no_work_twice(world, &decision.actions);
    let status = world.build.status.as_ref();
    let failed = status.and_then(|status| status.condition(ConditionType::Failed));
    let committed = |stage: &Stage| stage.name == "clean" && stage.chosen.iter().any(|chosen| chosen.committed);
    let running = !world.build.gone
        && !world.stages.iter().any(committed)
        && !world.build.deleting
        && !failed.is_some_and(|failed| failed.status == ConditionStatus::True)
        && !world.stages.iter().any(|stage| stage.name == "publish")
        && !world.frozen.lost.iter().any(|lost| lost.name == "publish");
    if running && !world.frozen.lost.is_empty() {
        let only = |action: &Action| {
            matches!(action, Action::FreezeStage { .. } | Action::RecordStages { .. } | Action::AddFinalizer)
        };
        assert!(decision.actions.iter().all(only), "decided without a stage that is frozen: {:?}", decision.actions);
    }
    // I5.
    for wait in &decision.waits {
        assert!(wait.until >= world.now && !wait.what.is_empty() && !wait.ends_when.is_empty());
    }
    assert!(decision.requeue > 0);
    if world.build.reconcile_disabled && !world.build.gone {
        assert_eq!(decision.actions, Vec::new());
    }
    // I8: the same world with this status has nothing new to say, if nothing was done.
    if decision.actions.is_empty() {
        let mut next = world.clone();
        let failed_before = world.build.status.as_ref().is_some_and(|status| {
            status
                .conditions
                .iter()
                .any(|c| c.condition_type == ConditionType::Failed && c.status == ConditionStatus::True)
        });
        next.build.status = Some(decision.status.clone());
        next.wall = "2026-01-01T00:00:01Z".to_owned();
        let again = plan(&next);
        let failed_now =
            decision.status.condition(ConditionType::Failed).is_some_and(|c| c.status == ConditionStatus::True);
        if failed_before == failed_now {
            assert_eq!(again.status, decision.status);
        }
    }
}

/// A replacement of an owner that is only silent: what failure-modes.md #23 forbids.
fn is_mass_replacement(world: &World, slot: u32, new: &EngineDirectorySpec) -> bool {
    let record = record_of(world, slot);
    let sound = record.spec.volume.as_ref().is_some_and(|volume| {
        !volume.condemned
            && world.claims.iter().any(|claim| {
                claim.name == volume.claim_name
                    && (volume.claim_uid.is_empty() || claim.uid == volume.claim_uid)
                    && !claim.foreign
                    && claim.phase == ClaimPhase::Bound
            })
    });
    let moved = new.volume.as_ref().map(|volume| &volume.claim_name)
        != record.spec.volume.as_ref().map(|volume| &volume.claim_name);
    sound && moved && current_owner(record).is_some_and(|owner| !proved_gone(world, &owner))
}

/// Never two grants for one work by one decision, nor one for a work that another slot still has the right to.
fn no_work_twice(world: &World, actions: &[Action]) {
    let mut after: Vec<(u32, Option<Work>, bool)> = Vec::new();
    for view in &world.slots {
        let spec = &view.record.spec;
        if spec.build_uid == world.build.uid {
            let update = actions.iter().find_map(|action| match action {
                Action::UpdateDirectory { slot, spec, change, .. } if *slot == view.record.spec.slot => {
                    Some((spec.work.clone(), change.is_some()))
                }
                _ => None,
            });
            let (work, granted) = update.unwrap_or((spec.work.clone(), false));
            after.push((spec.slot, work, granted));
        }
    }
    for action in actions {
        if let Action::CreateDirectory { slot, spec } = action {
            after.push((*slot, spec.work.clone(), true));
        }
    }
    for (slot, work, granted) in &after {
        let Some(work) = work.as_ref().filter(|_| *granted) else {
            continue;
        };
        let had_it = world.slots.iter().any(|view| {
            view.record.spec.slot == *slot && view.record.spec.work.as_ref().is_some_and(|had| had.id == work.id)
        });
        for (other, theirs, _) in &after {
            if other != slot && !had_it && theirs.as_ref().is_some_and(|theirs| theirs.id == work.id) {
                let freed = world.slots.iter().find(|view| view.record.spec.slot == *other).is_some_and(|view| {
                    // A Clean that was done once may be granted again elsewhere, and a done work's name stands until the next.
                    let id = &work.id;
                    view.record.spec.chosen.iter().any(|chosen| chosen.work_id == *id)
                        || world.stages.iter().any(|stage| stage.chosen.iter().any(|chosen| chosen.work_id == *id))
                        // A first Clean that is frozen is done, though nobody can read any more who did it.
                        || (id == "clean" && world.frozen.lost.iter().any(|lost| lost.name == *id))
                });
                assert!(freed, "{} is granted to slots {slot} and {other}", work.id);
            }
        }
    }
}

/// Nothing that is decided about what a build left depends on what an observer makes up for the build that it cannot
/// read any more.
pub(crate) fn check_gone(world: &World) {
    let mut told = world.clone();
    told.build.gone = true;
    let BuildView { uid, name, namespace, .. } = told.build.clone();
    let bare = World {
        build: BuildView::gone(uid, name, namespace),
        stages: vec![],
        frozen: Frozen::default(),
        ..told.clone()
    };
    check(&bare);
    assert_eq!(plan(&bare).actions, plan(&told).actions);
}
