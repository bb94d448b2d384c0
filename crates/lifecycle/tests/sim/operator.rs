//! The operator: it does what `plan` says, and crashes, and comes late.

use indexbuild_lifecycle::record::{StatusChange, status_after};

use super::*;

impl Sim {
    pub(super) fn operator(&mut self, faulty: bool) {
        if faulty && self.now < self.away_until {
            return;
        }
        let stale = faulty && self.rng.percent(self.faults.stale);
        if let Some((at, decision)) = self.delayed.take() {
            if self.now >= at {
                // Another operator, which decided some time ago and acts only now.
                self.execute(decision, usize::MAX, true);
            } else {
                self.delayed = Some((at, decision));
            }
        }
        if stale {
            let world = self.stale_world();
            let decision = plan(&world);
            let at = self.now + self.rng.below(5_000);
            self.delayed = Some((at, decision));
            return;
        }
        let (world, decision) = self.decide();
        let crash = faulty && self.rng.percent(self.faults.crash);
        let limit = if crash { self.rng.below(decision.actions.len() as u64 + 1) as usize } else { usize::MAX };
        let (status, end) = (decision.status.clone(), decision.end);
        self.execute(decision, limit, false);
        if crash {
            // One that starts anew begins to count anew.
            self.count("crash");
            self.count_anew();
        } else {
            self.conclude(&world, status, end);
        }
    }

    /// An operator that starts anew has seen nothing before.
    pub(crate) fn count_anew(&mut self) {
        let now = self.now.max(self.away_until);
        for entry in self.entries.values_mut() {
            (entry.report_seen, entry.progress_seen, entry.grant_seen) = (now, now, now);
        }
    }

    pub(super) fn decide(&self) -> (World, Decision) {
        let world = self.world();
        self.check_belief(&world);
        let decision = plan(&world);
        assert_eq!(decision, plan(&world), "the same world, the same decision");
        (world, decision)
    }

    pub(super) fn conclude(&mut self, world: &World, status: IndexBuildStatus, end: Option<End>) {
        if world.build.gone {
            // Whoever let it go may have crashed before saying so.
            self.end.get_or_insert(End::Aborted);
        } else {
            self.status = Some(status);
            self.end = end;
        }
    }

    pub(super) fn execute(&mut self, decision: Decision, limit: usize, stale: bool) {
        let destructive = decision.actions.iter().filter(|action| action.is_destructive()).count();
        assert!(destructive <= 1, "one destructive action per pass");
        for action in decision.actions.into_iter().take(limit) {
            self.carry_out(action, stale);
        }
    }

    pub(super) fn carry_out(&mut self, action: Action, stale: bool) {
        let now = self.now;
        match action {
            Action::AddFinalizer => self.finalizer = self.deleting_since.is_none() || self.finalizer,
            Action::RemoveFinalizer => {
                if self.deleting_since.is_some() {
                    self.released = true;
                }
                self.finalizer = false;
            }
            Action::CreateDirectory { slot, spec } => {
                if self.entries.contains_key(&slot) || self.released {
                    return;
                }
                self.see_epoch(slot, spec.grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch), true);
                let text =
                    format!("create directory {slot}: {:?} {:?}", spec.grant, spec.work.as_ref().map(|work| &work.id));
                self.note(text);
                self.entries.insert(
                    slot,
                    Entry {
                        spec,
                        status: EngineDirectoryStatus::default(),
                        version: 1_000 * now,
                        report_seen: now,
                        progress_seen: now,
                        grant_seen: now,
                    },
                );
            }
            Action::UpdateDirectory { slot, version, spec, state, change, conditions } => {
                let wall = self.wall();
                let Some(entry) = self.entries.get_mut(&slot).filter(|entry| entry.version.to_string() == version)
                else {
                    // G1: who lost looks again.
                    self.count("conflict");
                    return;
                };
                admission::review_spec(&entry.spec, &spec)
                    .unwrap_or_else(|refusal| panic!("an illegal write: {refusal}: {:?} -> {spec:?}", entry.spec));
                let says = StatusChange { state, change, conditions: &conditions };
                let status = status_after(&entry.spec, &entry.status, &spec, says, &wall);
                let record = Record { spec: entry.spec.clone(), status: entry.status.clone(), version };
                admission::review_status(&record, &status, OPERATOR).unwrap();
                if entry.spec.grant != spec.grant {
                    entry.grant_seen = now;
                }
                let epochs = (
                    entry.spec.grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch),
                    spec.grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch),
                );
                let new = spec.chosen.iter().filter(|chosen| !entry.spec.chosen.contains(chosen));
                self.ever_chosen.extend(new.cloned());
                entry.spec = spec;
                entry.status = status;
                entry.version += 1;
                if epochs.0 != epochs.1 {
                    self.see_epoch(slot, epochs.1, false);
                    let entry = &self.entries[&slot];
                    let text = format!(
                        "slot {slot} epoch {} {change:?}: {:?} on {:?}",
                        epochs.1,
                        entry.spec.work.as_ref().map(|work| &work.id),
                        entry.spec.volume.as_ref().map(|volume| &volume.claim_name)
                    );
                    self.note(text);
                    if let Some(change) = change {
                        self.count(match change {
                            indexbuild_api::OwnerChangeReason::Rebound => "rebound",
                            indexbuild_api::OwnerChangeReason::Replaced => "replaced",
                            indexbuild_api::OwnerChangeReason::Returned => "returned",
                            indexbuild_api::OwnerChangeReason::AttemptFailed => "attempt failed",
                            indexbuild_api::OwnerChangeReason::NoProgress => "no progress",
                            indexbuild_api::OwnerChangeReason::ScaledDown => "scaled down",
                            _ => "other change",
                        });
                    }
                }
            }
            Action::DeleteDirectory { slot, version } => {
                if self.entries.get(&slot).is_some_and(|entry| entry.version.to_string() == version) {
                    self.entries.remove(&slot);
                    self.note(format!("delete directory {slot}"));
                }
            }
            Action::CreateClaim { slot, generation, name } => {
                if !self.claims.contains_key(&name) {
                    let uid = self.id("claim");
                    if stale {
                        self.stray_claims.insert(name.clone());
                    }
                    let driver = self.driver.unwrap_or_else(|| Driver::any(&mut self.rng));
                    self.drivers.insert(uid.clone(), driver);
                    self.claims.insert(
                        name.clone(),
                        ClaimView {
                            name,
                            uid,
                            slot,
                            generation,
                            phase: if self.claims_bind { ClaimPhase::Bound } else { ClaimPhase::Pending },
                            foreign: false,
                            nodes: None,
                            outdated: false,
                        },
                    );
                }
            }
            Action::CreatePod { slot, epoch, name, claim } => {
                // G10.
                assert!(name.ends_with(&format!("-e{epoch}")), "{name}");
                if self.processes.iter().any(|process| process.object && process.name == name) {
                    assert!(stale, "a pod of the name {name} exists");
                    return;
                }
                let Some(claim_uid) = self.claims.get(&claim).map(|claim| claim.uid.clone()) else {
                    return;
                };
                let (uid, nonce) = (self.id("pod"), self.id("nonce"));
                let usable: Vec<usize> = (0..self.nodes.len())
                    .filter(|index| self.nodes[*index].connected && !self.nodes[*index].gone)
                    .collect();
                if usable.is_empty() {
                    return;
                }
                // By hand, each slot has a node of its own while that one is there.
                let place = if self.by_hand { u64::from(slot) } else { self.rng.below(usable.len() as u64) };
                let node = usable[place as usize % usable.len()];
                let bound = self.claims[&claim].phase == ClaimPhase::Bound;
                self.created_pods.insert(name.clone());
                let Faults { slow_start, sandbox, .. } = self.faults;
                let slow = slow_start > 0 && self.rng.percent(slow_start);
                let starts_at = if self.containers_wait {
                    u64::MAX
                } else if slow {
                    now + self.rng.below(8_000)
                } else {
                    now
                };
                let sandboxed = sandbox > 0 && self.rng.percent(sandbox);
                self.note(format!("create {name} on node {node}"));
                self.processes.push(Process {
                    name,
                    uid: uid.clone(),
                    slot,
                    epoch,
                    claim_uid,
                    node,
                    scheduled: bound || !self.by_hand,
                    object: true,
                    deleting: false,
                    shown: PodState::Pending,
                    alive: true,
                    exit_code: 0,
                    born: now,
                    starts_at,
                    sandboxed,
                    boots: (self.nodes[node].boot, None),
                    cut_until: 0,
                    frozen_until: 0,
                    remove_at: 0,
                    owner: OwnerState {
                        pod_uid: uid,
                        boot_nonce: nonce,
                        orphan_after: self.timeouts.orphan_after,
                        last_contact: now,
                        claimed: false,
                        current: None,
                        stop_requested: false,
                    },
                    open: None,
                    todo: 0,
                    progress: 0.0,
                    rows: 0,
                    stuck: false,
                    waiting: None,
                    outcome: None,
                    work: None,
                    sent: false,
                    mute: false,
                    leaves: None,
                });
            }
            Action::StopPod { name, uid, reason } => {
                self.note(format!("stop {name}: {reason:?}"));
                for process in self.processes.iter_mut().filter(|process| process.object && process.uid == uid) {
                    process.deleting = true;
                    if matches!(process.shown, PodState::Terminated(_)) {
                        process.object = false;
                    }
                }
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                assert_eq!(condemned.claim_uid(), uid);
                assert_eq!(evidence.claim_name(), name);
                if self.claims.get(&name).is_some_and(|claim| claim.uid == uid) {
                    // I9: what is to be kept is, whoever decides about it.
                    let asks = self.released && self.when_deleted() == Retention::Retain;
                    assert!(!asks || stale, "{name} is deleted, and was to be kept\n{}", self.log.join("\n"));
                    // I4, on the truth: nobody who lives holds the volume.
                    let holder = self
                        .processes
                        .iter()
                        .find(|process| process.alive && process.claim_uid == uid && process.open.is_some());
                    assert!(
                        holder.is_none(),
                        "{name} is deleted under {}\n{}",
                        holder.unwrap().name,
                        self.log.join("\n")
                    );
                    self.note(format!("delete claim {name}"));
                    self.claims.remove(&name);
                    self.count("claim deleted");
                }
            }
            Action::KeepClaim { slot: _, name, uid, evidence } => {
                assert_eq!(evidence.claim_name(), name);
                assert!(self.released && self.when_deleted() == Retention::Retain, "{name} is given up");
                if self.claims.get(&name).is_some_and(|claim| claim.uid == uid) {
                    self.note(format!("keep claim {name}"));
                    self.kept_claims.insert(name);
                    self.count("claim kept");
                }
            }
            Action::RecordStages { stages } => {
                // By compare-and-set: it says one more than what stood there when it was decided.
                let extends = match &self.said {
                    None => stages.is_empty(),
                    Some(said) => stages.split_last().is_some_and(|(_, before)| before == said),
                };
                assert!(extends || stale, "what was said is not said any more: {:?} {stages:?}", self.said);
                if extends {
                    self.note(format!("say that {:?} is frozen", stages.last().map(|stage| &stage.name)));
                    self.said = Some(stages);
                } else {
                    self.count("conflict");
                }
            }
            Action::FreezeStage { stage } => {
                // G2: its digest was said before.
                let said = self.said.as_ref().unwrap().iter().find(|said| said.name == stage.name);
                assert_eq!(said, stage.frozen().as_ref());
                // G6: create-once.
                if self.strangers.contains_key(&stage.name) {
                    self.count("occupied");
                } else if let Some(before) = self.stages.get(&stage.name) {
                    assert_eq!(*before, stage, "another choice\n{}", self.log.join("\n"));
                    if self.removed.remove(&stage.name) {
                        self.count("made again");
                    }
                } else {
                    self.note(format!("freeze {} ({} works)", stage.name, stage.chosen.len()));
                    self.stages.insert(stage.name.clone(), stage);
                }
            }
        }
    }

    pub(super) fn see_epoch(&mut self, slot: u32, epoch: Epoch, new: bool) {
        let highest = self.highest.entry(slot).or_default();
        // A record that was removed because all was accounted for may begin again; one that stands never falls.
        assert!(new || epoch > *highest || *highest == 0, "slot {slot}: epoch {epoch} after {highest}");
        *highest = epoch;
    }
}
