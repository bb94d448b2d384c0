//! Volumes and records that nobody needs any more: condemned, deleted, held, or kept by policy. And pods.

use indexbuild_api::{
    Condition, ConditionStatus, ConditionType, DirectoryState, FormerVolume, Phase, Reason, Retention, VolumeState,
};

use super::Pass;
use super::grants::RecordDraft;
use super::mode::Mode;
use super::returned::caught_up;
use super::waits::{SHOWN, some_of};
use crate::action::{Action, End, Event, StopReason};
use crate::evidence::{Condemned, Evidence, EvidenceKind, LastOwner, ways};
use crate::platform::Platform;
use crate::world::{BuildView, ClaimPhase, Millis, NodeReady, PodState, PodView, World};

/// What people are told about a volume that outlives its build: nothing else remembers why it is there.
#[must_use]
pub fn kept_claim(world: &World, slot: u32, claim: &str) -> Event {
    let BuildView { uid, name, namespace, .. } = &world.build;
    let record = world.slots.iter().map(|slot| &slot.record.spec).find(|record| record.slot == slot);
    let why = match record.and_then(|record| record.after_build) {
        Some(_) => "spec.volume.retention.whenDeleted of that build was Retain",
        None => "its record, which an older version wrote, does not say whether it was to go with that build",
    };
    let message = format!(
        "volume {claim} of build {name} (UID {uid}), which was deleted, is kept: {why}; its last owner is gone, and nothing uses it any more; `kubectl delete pvc -n {namespace} {claim}` removes it"
    );
    Event { reason: Reason::VolumesRetained, warning: false, message }
}

/// Of which class a volume is. Exhaustive: only `Idle` and `Superseded` may be reused or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeFate {
    /// Its claim is not there any more.
    Gone,
    Owned,
    /// Its owner is proved gone.
    Idle(Evidence),
    /// Another volume took its place, and its owner is proved gone.
    Superseded(Evidence),
    /// Nothing proves that its former owner is gone.
    Stranded,
    /// Its data is lost. Deleted with evidence only: a lost claim can still be mounted.
    Lost(Option<Evidence>),
    Terminating,
    /// It belongs to somebody else.
    Foreign,
}

pub(super) fn former_class(world: &World, volume: &FormerVolume) -> VolumeFate {
    let Some(claim) = world.claim(&volume.claim_name).filter(|claim| claim.uid == volume.claim_uid) else {
        return VolumeFate::Gone;
    };
    if claim.foreign {
        return VolumeFate::Foreign;
    }
    let evidence = Evidence::of_former(world, volume);
    match (claim.phase, evidence) {
        (ClaimPhase::Terminating, _) => VolumeFate::Terminating,
        (ClaimPhase::Lost, evidence) => VolumeFate::Lost(evidence),
        (ClaimPhase::Pending | ClaimPhase::Bound, Some(evidence)) => VolumeFate::Superseded(evidence),
        (ClaimPhase::Pending | ClaimPhase::Bound, None) => VolumeFate::Stranded,
    }
}

/// The class of the volume that a slot has as observed; `None`: it has none. Claim and evidence are both of the record
/// as observed: in the same pass another volume may take its place, which has another claim and no owner yet.
pub(super) fn current_class(draft: &RecordDraft<'_>) -> Option<VolumeFate> {
    let volume = draft.view.record.spec.volume.as_ref()?;
    let Some(claim) = draft.observed_claim() else {
        return Some(VolumeFate::Gone);
    };
    debug_assert_eq!(volume.claim_name, claim.name);
    if claim.foreign {
        return Some(VolumeFate::Foreign);
    }
    let evidence = draft.evidence();
    Some(match (claim.phase, evidence) {
        (ClaimPhase::Terminating, _) => VolumeFate::Terminating,
        (ClaimPhase::Lost, evidence) => VolumeFate::Lost(evidence),
        (ClaimPhase::Pending | ClaimPhase::Bound, Some(evidence)) => VolumeFate::Idle(evidence),
        (ClaimPhase::Pending | ClaimPhase::Bound, None) => VolumeFate::Owned,
    })
}

/// What may still prove that the owners of held volumes are gone, and who could supply it; and what somebody can do who
/// knows more than the cluster does.
pub(super) fn proofs(world: &World, owners: &[LastOwner<'_>]) -> String {
    if world.platform == Platform::OneMachine {
        return format!("{}; the build does not wait for it", EvidenceKind::awaited_on_one_machine());
    }
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for owner in owners {
        let ways = ways(world, *owner);
        match groups.iter_mut().find(|(known, _)| *known == ways) {
            Some((_, claims)) => claims.push(owner.claim_name()),
            None => groups.push((ways, vec![owner.claim_name()])),
        }
    }
    let one = groups.len() == 1;
    let mut told: Vec<String> = Vec::new();
    for (ways, claims) in groups.iter().filter(|(ways, _)| !ways.is_empty()) {
        let of = if one { String::new() } else { format!("of {}: ", some_of(claims)) };
        told.push(format!("{of}{ways}"));
    }
    let claims: Vec<&str> = owners.iter().map(LastOwner::claim_name).collect();
    let by_hand = by_hand(&world.build.namespace, &claims);
    told.push(by_hand);
    let told = told.join("; ");
    let whys: Vec<_> = owners.iter().map(|owner| owner.why_detach_proves_nothing(world)).collect();
    let proofs = format!("{told}; the build does not wait for it");
    match whys.iter().flatten().next() {
        Some(why) if whys.iter().any(Option::is_none) => format!("{proofs}. Of some of them {why}"),
        Some(why) => format!("{proofs}: {why}"),
        None => proofs,
    }
}

/// What ends the hold of volumes by somebody's own knowledge.
fn by_hand(namespace: &str, claims: &[&str]) -> String {
    let shown = claims.iter().take(SHOWN).copied().collect::<Vec<_>>().join(" ");
    let more = if claims.len() > SHOWN { " …" } else { "" };
    let whose = if claims.len() == 1 {
        "its machine is down removes the claim"
    } else {
        "their machines are down removes the claims"
    };
    format!("whoever knows that {whose} by hand: `kubectl delete pvc -n {namespace} {shown}{more}`")
}

/// The last owner of a volume, in words.
pub(super) fn former_owner(platform: Platform, volume: &FormerVolume) -> String {
    if volume.pod_name.is_empty() {
        return "whoever had it is unknown, as its record was removed".to_owned();
    }
    if platform == Platform::OneMachine {
        return format!("process {} (UID {})", volume.pod_name, volume.pod_uid);
    }
    let node = if volume.node_name.is_empty() { "an unknown node" } else { volume.node_name.as_str() };
    // Without this, somebody reboots the node, and waits for ever.
    let unseen = if volume.boot_id.is_empty() {
        ", whose process has not said on which kernel it runs: a reboot proves nothing"
    } else if volume.system_uuid.is_empty() {
        ", which never showed the boot id that the process has said (a sandboxed runtime has a kernel of its own): a reboot proves nothing"
    } else {
        ""
    };
    format!("pod {} (UID {}) on {node}{unseen}", volume.pod_name, volume.pod_uid)
}

/// So long has an owner whose epoch is over to give way by itself (G11) before its pod is asked to end.
const GIVE_WAY: Millis = 5_000;

fn is_alive(pod: &PodView) -> bool {
    match &pod.state {
        PodState::Queued | PodState::Pending | PodState::Running | PodState::Unknown => true,
        PodState::Terminated(_) => false,
    }
}

impl<'w> Pass<'w> {
    /// What is to be done about the slot's volumes, and about its record when none is left.
    pub(super) fn volumes(&mut self, draft: &mut RecordDraft<'w>) {
        self.former_volumes(draft);
        let leaving = !self.wanted(draft.slot()) && !matches!(self.mode, Mode::Suspend);
        if leaving && !draft.bumped() {
            self.present_volume(draft);
            self.record(draft);
        }
    }

    fn former_volumes(&mut self, draft: &mut RecordDraft<'w>) {
        let observed = &draft.view.record;
        let world = self.world;
        // Those of which nothing is left are accounted for.
        draft.spec.former_volumes.retain(|volume| former_class(world, volume) != VolumeFate::Gone);
        // Of a slot that nobody needs nothing returns: the proof is written down, before what it was seen in is gone.
        let returnable = self.returnable(draft).filter(|_| self.wanted(draft.slot()));
        let mut kept = Vec::new();
        for index in 0..draft.spec.former_volumes.len() {
            let volume = draft.spec.former_volumes[index].clone();
            let present = observed.spec.volume.as_ref().is_some_and(|present| present.claim_name == volume.claim_name);
            // Of a state that is not known nothing is known that could be written over it.
            let unknown = matches!(volume.state, VolumeState::Other(_));
            if present
                || unknown
                || !observed.spec.former_volumes.contains(&volume)
                || returnable.as_ref() == Some(&volume)
            {
                continue;
            }
            let (state, evidence) = match former_class(world, &volume) {
                VolumeFate::Gone => continue,
                VolumeFate::Owned | VolumeFate::Stranded => (VolumeState::Stranded, None),
                VolumeFate::Idle(evidence) | VolumeFate::Superseded(evidence) => (VolumeState::Idle, Some(evidence)),
                VolumeFate::Lost(evidence) => (VolumeState::Lost, evidence),
                VolumeFate::Terminating => (VolumeState::Terminating, None),
                VolumeFate::Foreign => (VolumeState::Foreign, None),
            };
            let unused = !self.used(draft.slot(), &volume.pod_uid, &volume.pod_name);
            let Some(evidence) = evidence else {
                if matches!(state, VolumeState::Lost | VolumeState::Terminating | VolumeState::Foreign) {
                    draft.spec.former_volumes[index].state = state;
                }
                continue;
            };
            // A pause ends; what is stranded may still return then.
            if self.lost || self.mode == Mode::Suspend {
                continue;
            }
            let said = Evidence::is_in_record(world, &volume);
            let (name, uid) = (volume.claim_name, volume.claim_uid);
            match self.retention(draft) {
                Retention::Delete if unused => {
                    if let Some(condemned) = Condemned::of(observed, &name, &uid) {
                        self.destructive.push(Action::DeleteClaim { name, uid, condemned, evidence });
                        if !said {
                            // Condemned before it was proved: what that was seen in may go before the claim does.
                            draft.spec.former_volumes[index].state = VolumeState::Idle;
                        }
                        continue;
                    }
                    // G7: said in the record first.
                    draft.spec.former_volumes[index].condemned = true;
                }
                Retention::Retain | Retention::Other(_) if unused && world.build.gone => {
                    kept.push(name.clone());
                    self.steps.push(Action::KeepClaim { slot: draft.slot(), name, uid, evidence });
                    continue;
                }
                // Its own word stands in the record as long as the volume does: it is condemned in one write, once its pod
                // has ended too.
                Retention::Delete if evidence.kind() == EvidenceKind::Released && !self.wanted(draft.slot()) => {
                    continue;
                }
                Retention::Delete | Retention::Retain | Retention::Other(_) => {}
            }
            // The proof is written down: what it was seen in may go.
            draft.spec.former_volumes[index].state = VolumeState::Idle;
        }
        draft.spec.former_volumes.retain(|volume| !kept.contains(&volume.claim_name));
    }

    /// Where the build has ended, nothing returns to the volume of an owner that is revoked: it is condemned in the same write
    /// (G7), where it is to go, and deleted when that owner is proved gone.
    pub(super) fn condemn_early(&self, draft: &mut RecordDraft<'_>) {
        let ends = matches!(self.mode, Mode::Clean(_) | Mode::Drain(_));
        if !ends || !draft.bumped() || self.retention(draft) != Retention::Delete {
            return;
        }
        let left = draft.view.record.spec.volume.as_ref().map(|volume| volume.claim_name.as_str());
        let mut formers = draft.spec.former_volumes.iter_mut();
        if let Some(former) = formers.find(|former| Some(former.claim_name.as_str()) == left) {
            former.condemned = true;
        }
    }

    /// What becomes of a volume of the slot that nobody needs, and whose owner is proved gone.
    pub(super) fn retention(&self, draft: &RecordDraft<'_>) -> Retention {
        self.mode.retention(&self.world.build, draft.view.record.spec.after_build.as_ref())
    }

    /// Whether a pod that has not ended may still have a volume mounted.
    fn used(&self, slot: u32, pod_uid: &str, pod_name: &str) -> bool {
        let named = |pod: &PodView| pod.slot == slot && pod.name == pod_name && !pod.foreign;
        let theirs = |pod: &&PodView| pod.uid == pod_uid || named(pod);
        self.world.pods.iter().filter(theirs).any(is_alive)
    }

    /// The present volume of a slot that is not wanted any more.
    fn present_volume(&mut self, draft: &mut RecordDraft<'w>) {
        let observed = &draft.view.record;
        let Some(class) = current_class(draft) else {
            return;
        };
        let evidence = match class {
            VolumeFate::Gone => {
                draft.spec.volume = None;
                return;
            }
            VolumeFate::Idle(evidence) | VolumeFate::Superseded(evidence) | VolumeFate::Lost(Some(evidence)) => {
                evidence
            }
            VolumeFate::Foreign => {
                // Never ours to touch: the record lets go of the name.
                draft.spec.volume = None;
                return;
            }
            VolumeFate::Owned | VolumeFate::Stranded | VolumeFate::Terminating | VolumeFate::Lost(None) => return,
        };
        let grant = observed.spec.grant.clone().unwrap_or_default();
        let held = observed.spec.volume.as_ref().is_some_and(|volume| draft.is_held(&volume.claim_name));
        if self.lost || held || (self.work_open(draft) && matches!(self.mode, Mode::Run)) {
            return;
        }
        if self.used(draft.slot(), &grant.pod_uid, &grant.pod_name) {
            return;
        }
        let Some(volume) = observed.spec.volume.as_ref() else {
            return;
        };
        match self.retention(draft) {
            Retention::Delete => {}
            // The record holds it as long as the build is there to say so.
            Retention::Retain | Retention::Other(_) if !self.world.build.gone => return,
            Retention::Retain | Retention::Other(_) => {
                let uid = draft.observed_claim().map(|claim| claim.uid.clone()).unwrap_or_default();
                draft.spec.volume = None;
                let (slot, name) = (draft.slot(), volume.claim_name.clone());
                self.steps.push(Action::KeepClaim { slot, name, uid, evidence });
                return;
            }
        }
        if let Some(condemned) = Condemned::of(observed, &volume.claim_name, &volume.claim_uid) {
            let (name, uid) = (volume.claim_name.clone(), volume.claim_uid.clone());
            self.destructive.push(Action::DeleteClaim { name, uid, condemned, evidence });
        } else if let Some(volume) = draft.spec.volume.as_mut() {
            // G7: said in the record first; from then on no grant can land on it.
            volume.condemned = true;
        }
    }

    /// The record of a slot that is not wanted any more: removed when all its volumes are accounted for.
    fn record(&mut self, draft: &mut RecordDraft<'w>) {
        // Of this pass: what was seen to be gone is accounted for, and its removal needs no write of its own.
        let spec = &draft.spec;
        let empty = spec.volume.is_none() && spec.former_volumes.is_empty();
        let settled = spec.chosen.is_empty() && !self.work_open(draft);
        let draining = matches!(self.mode, Mode::Drain(_));
        let needed = spec.chosen.iter().any(|chosen| self.stages.makes_a_clean(chosen));
        let (slot, version) = (draft.slot(), draft.view.record.version.clone());
        let mut pods = self.world.pods.iter().filter(|pod| pod.slot == slot && !pod.foreign);
        let alive = pods.any(|pod| is_alive(pod) && !self.given_up(draft));
        // What failed here stays counted while the build runs, whoever goes on with the work.
        let counts = draft.spec.failed_attempts > 0 && !draining;
        if empty && (settled || (draining && !needed)) && !alive && !counts {
            self.destructive.push(Action::DeleteDirectory { slot, version });
        } else if self.mode == Mode::Drain(End::Aborted) && !empty {
            // Whatever its pod does: a record that is none yet when the build is let go would go with it.
            draft.state = Some(DirectoryState::Tombstone);
        } else if draft.state.is_none() || (draining && draft.state != Some(DirectoryState::Stopping)) {
            draft.state = Some(DirectoryState::Finished);
        }
    }

    /// Whether patience with the slot's pods is over: they are unreachable, and not waited for any more.
    fn given_up(&self, draft: &RecordDraft<'_>) -> bool {
        draft.silence() >= draft.timeouts().replace_after
    }

    /// Pods of older epochs: they are asked to end, but for one whose volume may still return (failure-modes.md #13).
    /// And the objects of pods that ended, once no record needs them as evidence.
    pub(super) fn superseded_pods(&mut self) {
        let mut pods: Vec<&PodView> = self.world.pods.iter().filter(|pod| !pod.foreign).collect();
        pods.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        let mut ended = Vec::new();
        for pod in pods {
            let (name, uid) = (pod.name.clone(), pod.uid.clone());
            let Some(draft) = self.drafts.get(&pod.slot) else {
                let unrecorded = !self.world.slots.iter().any(|view| view.record.spec.slot == pod.slot);
                let reason = match self.mode {
                    Mode::Clean(_) | Mode::Drain(_) => StopReason::BuildEnded,
                    Mode::Disabled | Mode::Gone | Mode::Run | Mode::Suspend => StopReason::ScaledDown,
                };
                if !unrecorded || (self.wanted(pod.slot) && is_alive(pod)) {
                    continue;
                }
                // One that is deleted already is the kubelet's to finish.
                match (is_alive(pod), pod.deleting) {
                    (_, true) => {}
                    (true, false) => self.destructive.push(Action::StopPod { name, uid, reason }),
                    (false, false) => ended.push(Action::StopPod { name, uid, reason: StopReason::Ended }),
                }
                continue;
            };
            let observed = &draft.view.record.spec;
            let grant = observed.grant.clone().unwrap_or_default();
            let current = if grant.pod_uid.is_empty() { pod.name == grant.pod_name } else { pod.uid == grant.pod_uid };
            if current || draft.bumped() || pod.epoch > grant.epoch {
                continue;
            }
            let former = observed.former_volumes.iter().find(|volume| volume.pod_uid == pod.uid);
            if !is_alive(pod) {
                // Its end is no longer needed as evidence once the record says it, or the claim is being deleted: then
                // the claim waits for the pod's object to go (pvc-protection), and would for ever.
                let needed = former.is_some_and(|volume| {
                    let told = matches!(volume.state, VolumeState::Idle | VolumeState::Terminating);
                    !(told || volume.condemned && Evidence::is_in_record(self.world, volume))
                });
                if !needed && !pod.deleting {
                    ended.push(Action::StopPod { name, uid, reason: StopReason::Ended });
                }
                continue;
            }
            let may_return = self.mode == Mode::Run
                && self.wanted(pod.slot)
                && former.is_some_and(|volume| volume.state == VolumeState::Stranded && !volume.boot_nonce.is_empty())
                && !caught_up(draft);
            let in_time = former.is_some_and(|volume| !volume.boot_nonce.is_empty())
                && draft.view.grant_age < GIVE_WAY
                && !self.wanted(pod.slot);
            if !may_return && !in_time && !pod.deleting {
                self.destructive.push(Action::StopPod { name, uid, reason: StopReason::Superseded });
            }
        }
        self.destructive.extend(ended);
    }

    /// Whether nothing is left to do about a slot while its build ends: its record is kept for volumes that are
    /// held without proof, or by policy.
    pub(super) fn is_settled(&self, draft: &RecordDraft<'_>) -> bool {
        let observed = &draft.view.record.spec;
        let rests = self.was_at_rest();
        let retains = self.retention(draft) == Retention::Retain;
        let formers = observed.former_volumes.iter().map(|volume| match former_class(self.world, volume) {
            VolumeFate::Gone => false,
            VolumeFate::Foreign => true,
            VolumeFate::Stranded | VolumeFate::Owned | VolumeFate::Lost(None) => {
                rests || self.gave_up_on(draft, &volume.pod_uid)
            }
            VolumeFate::Idle(_) | VolumeFate::Superseded(_) | VolumeFate::Lost(Some(_)) => {
                let used = || self.used(draft.slot(), &volume.pod_uid, &volume.pod_name);
                retains || ((rests || self.given_up(draft)) && used())
            }
            VolumeFate::Terminating => rests || self.given_up(draft),
        });
        let present = current_class(draft).map(|class| match class {
            VolumeFate::Gone | VolumeFate::Foreign => false,
            VolumeFate::Owned | VolumeFate::Stranded | VolumeFate::Lost(None) | VolumeFate::Terminating => {
                rests || self.given_up(draft)
            }
            VolumeFate::Idle(_) | VolumeFate::Superseded(_) | VolumeFate::Lost(Some(_)) => retains,
        });
        let mut all = formers.chain(present).peekable();
        // A record without volumes is removed, and until then not settled.
        all.peek().is_some() && all.all(|settled| settled)
    }

    /// Whether the build was said to have ended as it ends now: patience with all that held it up was over then. An
    /// observer that begins to count anew does not ask for it again, or each restart would say that the build is cleaning,
    /// and some minutes later that it is not (I8).
    pub(super) fn was_at_rest(&self) -> bool {
        let ended = match self.mode {
            Mode::Drain(End::Complete) => Phase::Complete,
            Mode::Drain(End::Failed) => Phase::Failed,
            _ => return false,
        };
        self.world.build.status.as_ref().and_then(|status| status.phase) == Some(ended)
    }

    /// Whether people were told of a volume that it is held: once is enough, whoever looks at it (I8). `held`: how many are.
    fn was_told(&self, draft: &RecordDraft<'_>, claim: &str, held: usize) -> bool {
        let named = format!("{claim} ");
        let says = |condition: &&Condition| {
            condition.status == ConditionStatus::True && condition.reason == Reason::VolumesStranded
        };
        let status = self.world.build.status.as_ref();
        let of_build = status.and_then(|status| status.condition(ConditionType::VolumesHeld)).filter(says);
        let of_slot = draft.view.record.status.conditions.iter().filter(says);
        // The build's condition names the first few, and counts the others.
        let counted = status.and_then(|status| status.volumes).map_or(0, |volumes| volumes.stranded);
        let counted = usize::try_from(counted).unwrap_or(usize::MAX);
        (held > SHOWN && of_build.is_some() && counted >= held)
            || of_build.into_iter().chain(of_slot).any(|condition| condition.message.contains(&named))
    }

    /// Whether an unproved former owner is not waited for any more: it is stranded since longer than patience
    /// lasts, or its pod is not there to be heard of, and what was seen of its end has had the time to arrive.
    fn gave_up_on(&self, draft: &RecordDraft<'_>, pod_uid: &str) -> bool {
        let unheard = !self.world.pods.iter().any(|pod| pod.uid == pod_uid);
        self.given_up(draft) || (unheard && draft.view.grant_age >= draft.timeouts().renew_interval)
    }

    /// Whether the last owner of a volume, which nothing proves gone yet, is on its way out: nobody needs its slot, or
    /// it was superseded or asked to end; its pod is there on a node that answers, and patience with it is not over. It
    /// is no reason for an alarm.
    pub(super) fn gives_way(&self, draft: &RecordDraft<'_>, volume: &FormerVolume) -> bool {
        let answers = |pod: &PodView| {
            let node = pod.node.as_deref().and_then(|name| self.world.node(name));
            node.is_none_or(|node| node.ready == NodeReady::True)
        };
        !self.lost
            && !self.was_at_rest()
            && draft.view.grant_age < draft.timeouts().replace_after
            && self.world.pods.iter().any(|pod| {
                let superseded = pod.deleting || volume.state == VolumeState::Superseded;
                let leaves = superseded || !self.wanted(draft.slot());
                pod.uid == volume.pod_uid && leaves && is_alive(pod) && answers(pod)
            })
    }

    pub(super) fn volume_waits(&mut self) {
        let mut held = Vec::new();
        let mut leaving = Vec::new();
        for draft in self.drafts.values() {
            for volume in &draft.view.record.spec.former_volumes {
                if former_class(self.world, volume) != VolumeFate::Stranded {
                    continue;
                }
                if self.gives_way(draft, volume) {
                    let age = draft.view.grant_age;
                    let end = if age < GIVE_WAY { GIVE_WAY } else { draft.timeouts().replace_after };
                    leaving.push((draft.slot(), volume.pod_name.clone(), end.saturating_sub(age)));
                } else {
                    let proofs = proofs(self.world, &[LastOwner::former(volume)]);
                    held.push((
                        draft.slot(),
                        volume.claim_name.clone(),
                        former_owner(self.world.platform, volume),
                        proofs,
                    ));
                }
            }
        }
        for (slot, pod, left) in leaving {
            let platform = self.world.platform;
            let what = format!("{} {pod} of slot {slot} gives way, as it is not needed any more", platform.pod());
            let ends_when =
                format!("it ends by itself; after some seconds it is asked to, and {}", platform.terminated());
            self.wait(Reason::WaitingForEvidence, Some(slot), left.max(1), what, &ends_when);
        }
        let again = self.world.build.timeouts.orphan_after;
        let count = held.len();
        for (slot, name, owner, proofs) in held {
            let volume = self.world.platform.volume();
            let what = format!("{volume} {name} is held, as nothing proves that its former owner is gone: {owner}");
            if !self.drafts.get(&slot).is_some_and(|draft| self.was_told(draft, &name, count)) {
                self.events.push(Event {
                    reason: Reason::VolumeReleaseBlocked,
                    warning: true,
                    message: format!("slot {slot}: {what}: it goes when {proofs}"),
                });
            }
            self.wait_on(Reason::VolumesStranded, Some(slot), again, what, &proofs);
        }
    }
}
