//! A slot's record as this pass would leave it: grants, epochs, choices.

use indexbuild_api::{
    Attached, Chosen, Claim, Condition, DirectoryState, EngineDirectorySpec, Epoch, FormerVolume, Grant,
    OwnerChangeReason, Past, Report, VolumeRef, VolumeState, Work, WorkError, WorkResult, names,
};

use super::mode::after_build;
use super::past::past_after;
use crate::action::Action;
use crate::evidence::{Evidence, EvidenceKind, machine_of};
use crate::record::{first_owner, is_passing, note_change, untold};
use crate::world::{ClaimPhase, ClaimView, Millis, PodState, PodView, SlotView, Timeouts, World};
use crate::writes::{INTERVALS_OF_PATIENCE, patience};

/// The most volumes that a record remembers.
const MAX_FORMER: usize = 64;

/// What the history does not tell yet is written once its last entry is so old, where nothing else is; and so is a state that
/// passes, but that is written at the latest when a silence would be: a person finds a long work there, and short ones cost no write.
const TOLD_AFTER: Millis = 60_000;

/// Who gets the next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextOwner {
    /// A pod that does not exist yet.
    NewPod,
    /// The process that has the present one.
    SameProcess,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeMove {
    Keep,
    /// On a new one; the present one is held as this.
    New(VolumeState),
    /// On none; the present one is held as this.
    None(VolumeState),
    /// On one that the slot had; the present one is held as superseded.
    Back(Box<FormerVolume>),
}

/// A slot's record as this pass would leave it. Written by one compare-and-set (G1).
#[derive(Debug)]
pub(super) struct RecordDraft<'w> {
    world: &'w World,
    pub view: &'w SlotView,
    pub spec: EngineDirectorySpec,
    /// What the slot is doing, as far as this pass has said.
    pub state: Option<DirectoryState>,
    change: Option<OwnerChangeReason>,
}

impl<'w> RecordDraft<'w> {
    pub(super) fn of(world: &'w World, view: &'w SlotView) -> Self {
        let mut spec = view.record.spec.clone();
        // Of a build that is gone, the record says what holds.
        if !world.build.gone {
            spec.renew_interval = renew_interval(world);
            spec.after_build = Some(after_build(&world.build));
        }
        Self { world, view, spec, state: None, change: None }
    }

    pub(super) const fn world(&self) -> &'w World {
        self.world
    }

    pub(super) fn slot(&self) -> u32 {
        self.spec.slot
    }

    /// Whether the epoch rises in this pass: then everything else waits for the next look.
    pub(super) const fn bumped(&self) -> bool {
        self.change.is_some()
    }

    /// Since the owner was heard from, or the grant changed, whichever is later.
    pub(super) fn silence(&self) -> Millis {
        self.view.report_age.min(self.view.grant_age)
    }

    /// Since the owner was seen to advance, or the grant changed, whichever is later: a new owner is not blamed for
    /// what the former one did not do.
    pub(super) fn stall(&self) -> Millis {
        self.view.progress_age.min(self.view.grant_age)
    }

    /// The pod of the grant: by UID once that is bound, by name before.
    pub(super) fn pod(&self) -> Option<&'w PodView> {
        let grant = self.spec.grant.as_ref()?;
        self.world.pods.iter().find(|pod| {
            if grant.pod_uid.is_empty() { pod.name == grant.pod_name && !pod.foreign } else { pod.uid == grant.pod_uid }
        })
    }

    /// Somebody else's pod at the name of the grant's, which was not made yet.
    pub(super) fn foreign_pod(&self) -> Option<&'w PodView> {
        let grant = self.spec.grant.as_ref().filter(|grant| grant.pod_uid.is_empty())?;
        self.world.pods.iter().find(|pod| pod.name == grant.pod_name && pod.foreign)
    }

    /// Whether a process is bound to the grant.
    pub(super) fn claimed(&self) -> bool {
        self.spec.grant.as_ref().is_some_and(|grant| !grant.boot_nonce.is_empty())
    }

    /// Whether the owner can be given something to do: it was heard from of late, nobody asked its pod to end, and it
    /// did not say itself that it ends, nor that it has released its volume (a grant to a process that is about to go is lost, and counts as a failure).
    pub(super) fn in_contact(&self) -> bool {
        let bound = self.spec.grant.as_ref().is_some_and(|grant| !grant.pod_uid.is_empty());
        self.claimed()
            && bound
            && self.silence() <= self.quiet_limit()
            && !self.report().is_some_and(|report| report.ending)
            && !self.evidence().is_some_and(|evidence| evidence.kind() == EvidenceKind::Released)
            && self.pod().is_some_and(|pod| {
                !pod.deleting
                    && pod.own_exit.is_none()
                    && matches!(pod.state, PodState::Running | PodState::Unknown | PodState::Pending)
            })
    }

    /// The times that hold for the slot: those of the build; of one that is gone, those that the record carries, and
    /// without them patience has no end. An owner that was told to report seldom is waited for as long as that takes.
    pub(super) fn timeouts(&self) -> Timeouts {
        let Timeouts { renew_interval, replace_after, orphan_after } = self.asked_clocks();
        let replace_after = patience(replace_after, self.view.longest_interval);
        Timeouts { renew_interval, replace_after, orphan_after: orphan_after.max(replace_after) }
    }

    fn asked_clocks(&self) -> Timeouts {
        if !self.world.build.gone {
            return self.world.build.timeouts;
        }
        let EngineDirectorySpec { renew_interval, after_build, .. } = &self.view.record.spec;
        Timeouts {
            renew_interval: renew_interval.as_millis(),
            replace_after: after_build.map_or(Millis::MAX, |after| after.replace_after.as_millis()),
            // No attempt is judged any more.
            orphan_after: Millis::MAX,
        }
    }

    /// After so long without progress an attempt is ended, whatever its owner says.
    pub(super) fn no_progress_limit(&self) -> Millis {
        self.timeouts().orphan_after
    }

    /// After so long without a word an owner counts as silent.
    pub(super) fn quiet_limit(&self) -> Millis {
        let interval = self.timeouts().renew_interval.max(self.view.longest_interval);
        interval.saturating_mul(INTERVALS_OF_PATIENCE)
    }

    /// So long after an owner's own last word its kubelet has to say how it ended.
    pub(super) fn kubelet_limit(&self) -> Millis {
        self.timeouts().renew_interval.saturating_mul(INTERVALS_OF_PATIENCE)
    }

    /// The proof that the record's present owner is gone, if there is one. One that has released its volume and ended, and
    /// beside which another container of its pod runs on, is not: its volume moves when that pod has ended, which has
    /// it mounted.
    pub(super) fn evidence(&self) -> Option<Evidence> {
        let runs_on = |pod: &PodView| pod.own_exit.is_some() && !matches!(pod.state, PodState::Terminated(_));
        let accompanied = self.pod().is_some_and(runs_on);
        Evidence::of_current(self.world, &self.view.record)
            .filter(|evidence| evidence.kind() != EvidenceKind::Released || !accompanied)
    }

    /// The report, if it speaks for the grant in the same object (G3).
    pub(super) fn report(&self) -> Option<&'w Report> {
        let grant = self.view.record.spec.grant.as_ref()?;
        let report = self.view.record.status.report.as_ref()?;
        let current = report.epoch == grant.epoch && report.boot_nonce == grant.boot_nonce;
        (current && !grant.boot_nonce.is_empty()).then_some(report)
    }

    /// The result of the granted work, if it was reported for the granted epoch, nonce and work (G3).
    pub(super) fn result(&self) -> Option<&'w WorkResult> {
        let grant = self.view.record.spec.grant.as_ref()?;
        let work = self.view.record.spec.work.as_ref()?;
        let result = self.report()?.result.as_ref()?;
        (result.epoch == grant.epoch && result.work_id == work.id).then_some(result)
    }

    /// Why the granted attempt failed, if it was reported so (G3) without a result.
    pub(super) fn error(&self) -> Option<&'w WorkError> {
        let report = self.report()?;
        if self.result().is_some() { None } else { report.error.as_ref() }
    }

    /// Takes the result for the one that counts: the first of the two steps (G2).
    pub(super) fn choose(&mut self, result: &WorkResult) {
        let Some(grant) = &self.spec.grant else {
            return;
        };
        let WorkResult {
            work_id,
            epoch,
            digest,
            rows,
            entries,
            bytes,
            on_volume,
            encode_works,
            sort_works,
            committed,
            finished: _,
        } = result;
        if self.spec.chosen.iter().any(|chosen| chosen.work_id == *work_id) {
            return;
        }
        self.spec.chosen.push(Chosen {
            work_id: work_id.clone(),
            epoch: *epoch,
            boot_nonce: grant.boot_nonce.clone(),
            digest: digest.clone(),
            rows: *rows,
            entries: *entries,
            bytes: *bytes,
            on_volume: *on_volume,
            encode_works: *encode_works,
            sort_works: *sort_works,
            committed: *committed,
        });
    }

    /// Fills in the pod's UID, once (G1, G10), and its node: that of a bound pod never changes.
    pub(super) fn bind_pod(&mut self, pod: &PodView) {
        let unbound = |grant: &&mut Grant| grant.pod_uid.is_empty() && !pod.uid.is_empty();
        if let Some(grant) = self.spec.grant.as_mut().filter(unbound) {
            grant.pod_uid.clone_from(&pod.uid);
            grant.node_name = pod.node.clone().unwrap_or_default();
        }
    }

    /// Fills in the nonce, once (G9): from then on the process may open the volume. With it, what it says of its kernel,
    /// and whether the volume is attached to its node: seen later, it might be attached for somebody else.
    pub(super) fn bind_nonce(&mut self, claim: &Claim) {
        let Claim { pod_uid: _, boot_nonce, boot_id } = claim;
        let attached = self.attached();
        if let Some(grant) = self.spec.grant.as_mut().filter(|grant| grant.boot_nonce.is_empty()) {
            grant.boot_nonce.clone_from(boot_nonce);
            grant.boot_id.clone_from(boot_id);
            grant.attached = attached;
        }
        self.see_machine();
    }

    /// Fills in what of a bound process's machine is seen since, once each: its node, where an older version bound the
    /// pod, and what the machine is, once its Node shows the kernel that the process has said.
    pub(super) fn see_machine(&mut self) {
        let pod = self.pod();
        let Some(grant) = self.spec.grant.as_mut().filter(|grant| !grant.pod_uid.is_empty()) else {
            return;
        };
        if grant.node_name.is_empty() {
            grant.node_name = pod.and_then(|pod| pod.node.clone()).unwrap_or_default();
        }
        if grant.system_uuid.is_empty()
            && let Some(machine) = machine_of(self.world, &grant.node_name, &grant.boot_id)
        {
            machine.clone_into(&mut grant.system_uuid);
        }
    }

    /// What attaches the present volume to the node of the grant's pod.
    fn attached(&self) -> Option<Attached> {
        let node = self.pod()?.node.as_deref()?;
        let claim = &self.volume_claim()?.name;
        let mut seen = self.world.attachments.seen.iter();
        seen.find(|seen| seen.claim == *claim && seen.attached.node == node).map(|seen| seen.attached.clone())
    }

    /// The claim of the present volume, if it is there and is the one that the record means.
    pub(super) fn volume_claim(&self) -> Option<&'w ClaimView> {
        claim_of(self.world, self.spec.volume.as_ref()?)
    }

    /// The claim of the volume that the slot has as observed, whatever this pass makes of it: what [`Self::evidence`]
    /// is about.
    pub(super) fn observed_claim(&self) -> Option<&'w ClaimView> {
        claim_of(self.world, self.view.record.spec.volume.as_ref()?)
    }

    /// Whether the present volume is more than a claim that waits for one.
    pub(super) fn is_bound(&self) -> bool {
        self.volume_claim().is_some_and(|claim| claim.phase == ClaimPhase::Bound)
    }

    /// Whether the present volume can be worked on.
    pub(super) fn volume_is_sound(&self) -> bool {
        let Some(volume) = &self.spec.volume else {
            return false;
        };
        let claim_is_sound = match self.volume_claim() {
            Some(claim) => {
                !claim.foreign
                    && match claim.phase {
                        ClaimPhase::Pending | ClaimPhase::Bound => true,
                        ClaimPhase::Lost | ClaimPhase::Terminating => false,
                    }
            }
            // It was not made yet; one that was bound once and is not there is gone.
            None => volume.claim_uid.is_empty() && self.world.claim(&volume.claim_name).is_none(),
        };
        !volume.condemned && claim_is_sound && !self.is_held(&volume.claim_name)
    }

    /// Whether a volume is among those that the slot had: then the present owner does not speak for it.
    pub(super) fn is_held(&self, claim_name: &str) -> bool {
        self.view.record.spec.former_volumes.iter().any(|volume| volume.claim_name == claim_name)
    }

    /// What becomes of the present volume if it is left now. `Idle` only with evidence: the record vouches for it.
    pub(super) fn volume_state(&self) -> VolumeState {
        match self.volume_claim() {
            Some(claim) if claim.foreign => VolumeState::Foreign,
            Some(claim) => match claim.phase {
                ClaimPhase::Lost => VolumeState::Lost,
                ClaimPhase::Terminating => VolumeState::Terminating,
                ClaimPhase::Pending | ClaimPhase::Bound if self.evidence().is_some() => VolumeState::Idle,
                ClaimPhase::Pending | ClaimPhase::Bound => VolumeState::Stranded,
            },
            None => VolumeState::Lost,
        }
    }

    /// Raises the epoch by one, and with it changes the owner, the work, the volume (G1, G3). At most once in
    /// a pass. The former owner loses its right to be chosen: always safe. Keeping the volume is for the caller
    /// to justify: evidence, or the same process.
    pub(super) fn bump(&mut self, reason: OwnerChangeReason, work: Option<Work>, next: NextOwner, place: VolumeMove) {
        if self.bumped() {
            return;
        }
        let build = &self.world.build;
        let old = self.spec.grant.clone();
        let Some(epoch) = old.as_ref().map_or(Some(self.first_epoch()), |grant| grant.epoch.next()) else {
            return;
        };
        let changes_volume = place != VolumeMove::Keep;
        if changes_volume && self.spec.volume.is_some() && self.spec.former_volumes.len() >= MAX_FORMER {
            return;
        }
        // G7: nothing is granted on a volume that is about to be deleted.
        if !changes_volume && self.spec.volume.as_ref().is_some_and(|volume| volume.condemned) {
            return;
        }
        let generation = match place {
            VolumeMove::Keep | VolumeMove::None(_) => 0,
            VolumeMove::New(_) | VolumeMove::Back(_) => {
                let Some(generation) = self.new_generation(epoch) else {
                    return;
                };
                generation
            }
        };
        match place {
            VolumeMove::Keep => {}
            VolumeMove::New(state) => {
                self.hold_volume(state);
                let claim_name = names::claim(&build.name, &build.uid, self.spec.slot, generation);
                self.spec.volume =
                    Some(VolumeRef { claim_name, claim_uid: String::new(), generation, condemned: false });
            }
            VolumeMove::None(state) => self.hold_volume(state),
            VolumeMove::Back(former) => {
                self.hold_volume(VolumeState::Superseded);
                self.spec.former_volumes.retain(|volume| volume.claim_name != former.claim_name);
                let FormerVolume { claim_name, claim_uid, .. } = *former;
                self.spec.volume = Some(VolumeRef { claim_name, claim_uid, generation, condemned: false });
            }
        }
        self.spec.grant = Some(match (next, old) {
            (NextOwner::SameProcess, Some(old)) => Grant { epoch, ..old },
            // G10: the name contains the epoch that the pod is made for.
            (NextOwner::SameProcess | NextOwner::NewPod, _) => Grant {
                epoch,
                pod_name: names::pod(&build.name, &build.uid, self.spec.slot, epoch),
                ..Grant::default()
            },
        });
        self.spec.past = past_after(&self.spec.past, epoch, reason, !changes_volume);
        self.spec.work = work;
        self.change = Some(reason);
    }

    /// The first epoch of a record without a grant: above any that is seen anywhere, so that a record deleted by
    /// hand does not begin again at 1 (failure-modes.md #31).
    fn first_epoch(&self) -> Epoch {
        first_epoch(self.world, self.spec.slot)
    }

    /// A volume's generation is the epoch that it was made for, unless that is taken: so an attempt's epoch tells
    /// whether its files can be on the present volume. `None`: there are no higher numbers.
    fn new_generation(&self, epoch: Epoch) -> Option<u32> {
        let held = self.view.record.spec.former_volumes.iter().map(|volume| volume.generation);
        let present = self.view.record.spec.volume.iter().map(|volume| volume.generation);
        let seen = self.world.claims.iter().filter(|claim| claim.slot == self.spec.slot).map(|claim| claim.generation);
        let least = match held.chain(present).chain(seen).max() {
            Some(highest) => highest.checked_add(1)?,
            None => 1,
        };
        (u32::try_from(epoch.get()).unwrap_or(1).max(least)..=u32::MAX).find(|generation| !self.is_taken(*generation))
    }

    /// Whether a volume or a claim has the name that a generation gives.
    fn is_taken(&self, generation: u32) -> bool {
        let build = &self.world.build;
        let name = names::claim(&build.name, &build.uid, self.spec.slot, generation);
        let observed = &self.view.record.spec;
        let held = observed.former_volumes.iter().any(|volume| volume.claim_name == name);
        let present = observed.volume.iter().any(|volume| volume.claim_name == name);
        held || present || self.world.claim(&name).is_some()
    }

    /// Puts the present volume among the former ones, with the owner it had. One that was never made, is gone,
    /// or belongs to somebody else, is not held.
    fn hold_volume(&mut self, state: VolumeState) {
        let Some(VolumeRef { claim_name, claim_uid, generation, condemned }) = self.spec.volume.take() else {
            return;
        };
        let Some(claim) = self.world.claim(&claim_name).filter(|claim| !claim.foreign) else {
            return;
        };
        if self.is_held(&claim_name) {
            return;
        }
        if !claim_uid.is_empty() && claim_uid != claim.uid {
            return;
        }
        let grant = self.view.record.spec.grant.clone().unwrap_or_default();
        self.spec.former_volumes.push(FormerVolume {
            claim_name,
            claim_uid: claim.uid.clone(),
            generation,
            condemned,
            pod_name: grant.pod_name,
            pod_uid: grant.pod_uid,
            boot_nonce: grant.boot_nonce,
            epoch: grant.epoch,
            node_name: grant.node_name,
            boot_id: grant.boot_id,
            system_uuid: grant.system_uuid,
            attached: grant.attached,
            state,
        });
    }

    /// Whether the owner changed only a moment ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.view.grant_age < self.timeouts().renew_interval
    }

    /// Whether the spec says something new. What changes nothing waits for the record's next write, as writes of its own
    /// would be the most frequent of all: a choice whose stage is frozen leaves, a claim that was made has its UID, owners are to
    /// report more or less often, the build asks for something else once it is gone.
    pub(super) fn changes_spec(&self) -> bool {
        let observed = &self.view.record.spec;
        let mut spec = self.spec.clone();
        if spec.chosen.iter().all(|chosen| observed.chosen.contains(chosen)) {
            spec.chosen.clone_from(&observed.chosen);
        }
        if spec.work_failures.iter().all(|work| observed.work_failures.contains(work)) {
            spec.work_failures.clone_from(&observed.work_failures);
        }
        if let (Some(volume), Some(before)) = (&mut spec.volume, &observed.volume)
            && before.claim_uid.is_empty()
            && volume.claim_name == before.claim_name
        {
            volume.claim_uid.clear();
        }
        spec.renew_interval = observed.renew_interval;
        // It is needed once the build is gone, and written at the latest when that begins.
        if !self.world.build.deleting {
            spec.after_build = observed.after_build;
        }
        spec != *observed
    }

    /// The write, if anything differs from what was observed (I8). That a slot is at work, or has nothing to do, is
    /// written once it lasts: until then the next grant says more.
    /// `stays`: nothing is left to do about the slot, and its record is kept; then its whole course is told.
    pub(super) fn into_action(self, conditions: Vec<Condition>, stays: bool) -> Option<Action> {
        let observed = &self.view.record;
        let said = observed.status.state;
        let state = self.state.unwrap_or(said);
        let lasts = self.quiet_limit().min(TOLD_AFTER);
        let passing = self.view.grant_age < lasts && is_passing(said) && is_passing(state);
        let history = &observed.status.history;
        let tells = untold(&observed.spec, history).next().is_some() && (stays || self.view.grant_age >= TOLD_AFTER);
        let changes_spec = self.changes_spec();
        let differs = changes_spec || tells || (state != said && !passing) || conditions != observed.status.conditions;
        let mut spec = if changes_spec { self.spec } else { observed.spec.clone() };
        if changes_spec {
            note_change(&observed.spec, &mut spec, &observed.status, self.change, &self.world.wall);
        }
        differs.then(|| Action::UpdateDirectory {
            slot: spec.slot,
            version: observed.version.clone(),
            spec,
            state,
            change: self.change,
            conditions,
        })
    }
}

/// The claim of a volume, if it is there and is the one that the record means.
fn claim_of<'w>(world: &'w World, volume: &VolumeRef) -> Option<&'w ClaimView> {
    let claim = world.claim(&volume.claim_name)?;
    (volume.claim_uid.is_empty() || volume.claim_uid == claim.uid).then_some(claim)
}

/// How often an owner that is told now is to report.
fn renew_interval(world: &World) -> indexbuild_api::Duration {
    let build = &world.build;
    indexbuild_api::Duration::from_millis(build.timeouts.renew_interval.max(build.share.interval))
}

/// The first epoch of a slot: above any that its pods, its claims' generations or any choice show.
pub(super) fn first_epoch(world: &World, slot: u32) -> Epoch {
    // What somebody else's pod says of its epoch is anybody's word.
    let pods = world.pods.iter().filter(|pod| pod.slot == slot && !pod.foreign).map(|pod| pod.epoch);
    let claims =
        world.claims.iter().filter(|claim| claim.slot == slot).map(|claim| Epoch::new(claim.generation.into()));
    pods.chain(claims).max().map_or(Epoch::FIRST, |seen| seen.next().unwrap_or(seen))
}

/// The record of a slot that has none: its first grant, on its first volume.
pub(super) fn new_directory(world: &World, slot: u32, work: Work) -> EngineDirectorySpec {
    let build = &world.build;
    let epoch = first_epoch(world, slot);
    let generation = u32::try_from(epoch.get()).unwrap_or(u32::MAX);
    // Claims that no record accounts for: the record was deleted by hand. Whoever owned them is unknown, so that
    // nothing can prove it gone: they are held until somebody who knows removes them.
    let unaccounted = world.claims.iter().filter(|claim| claim.slot == slot && !claim.foreign);
    let former_volumes = unaccounted
        .take(MAX_FORMER)
        .map(|claim| FormerVolume {
            claim_name: claim.name.clone(),
            claim_uid: claim.uid.clone(),
            generation: claim.generation,
            condemned: false,
            pod_name: String::new(),
            pod_uid: UNKNOWN_OWNER.to_owned(),
            boot_nonce: UNKNOWN_OWNER.to_owned(),
            epoch: Epoch::NONE,
            node_name: String::new(),
            boot_id: String::new(),
            system_uuid: String::new(),
            attached: None,
            state: VolumeState::Stranded,
        })
        .collect();
    let mut spec = EngineDirectorySpec {
        build_name: build.name.clone(),
        build_uid: build.uid.clone(),
        slot,
        renew_interval: renew_interval(world),
        grant: Some(Grant { epoch, pod_name: names::pod(&build.name, &build.uid, slot, epoch), ..Grant::default() }),
        work: Some(work),
        volume: Some(VolumeRef {
            claim_name: names::claim(&build.name, &build.uid, slot, generation),
            claim_uid: String::new(),
            generation,
            condemned: false,
        }),
        former_volumes,
        failed_attempts: 0,
        work_failures: Vec::new(),
        chosen: Vec::new(),
        past: Past { first_epoch: epoch, ..Past::default() },
        untold: Vec::new(),
        after_build: Some(after_build(build)),
    };
    spec.untold = first_owner(&spec, &world.wall);
    spec
}

/// Stands for an owner that nobody remembers. No pod has this UID, no process this nonce.
pub(super) const UNKNOWN_OWNER: &str = "unknown";
