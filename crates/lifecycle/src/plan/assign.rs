//! Works belong to no slot: a free slot takes the next one.

use std::collections::BTreeSet;

use indexbuild_api::{Epoch, OwnerChangeReason, Reason};

use super::grants::{self, NextOwner, RecordDraft, VolumeMove};
use super::mode::Mode;
use super::stages::CLEAN_WORK;
use super::{Pass, SORT};
use crate::action::{Action, End};

impl Pass<'_> {
    /// Whether the slot is one that the build works with now.
    pub(super) fn wanted(&self, slot: u32) -> bool {
        match self.mode {
            Mode::Run | Mode::Suspend => slot < self.world.build.spec.parallelism,
            Mode::Clean(_) => self.cleaner() == slot,
            Mode::Disabled | Mode::Gone | Mode::Drain(_) => false,
        }
    }

    /// The slot that cleans: the one that has the work; else one whose owner is at hand; else any.
    fn cleaner(&self) -> u32 {
        let views = || self.world.slots.iter().filter(|view| view.record.spec.build_uid == self.world.build.uid);
        let cleaning = views().filter(|view| {
            let draft = RecordDraft::of(self.world, view);
            view.record.spec.work.as_ref().is_some_and(|work| work.id == CLEAN_WORK)
                && !self.is_done(&draft, CLEAN_WORK)
        });
        let at_hand = views().filter(|view| {
            let draft = RecordDraft::of(self.world, view);
            draft.in_contact() && draft.volume_is_sound()
        });
        cleaning
            .map(|view| view.record.spec.slot)
            .min()
            .or_else(|| at_hand.map(|view| view.record.spec.slot).min())
            .or_else(|| views().map(|view| view.record.spec.slot).min())
            .unwrap_or(0)
    }

    /// Works of the present stage that nobody has and whose result is not there.
    pub(super) fn unassigned(&self) -> Vec<String> {
        let taken: BTreeSet<&str> =
            self.drafts.values().filter_map(|draft| draft.spec.work.as_ref()).map(|work| work.id.as_str()).collect();
        let chosen: BTreeSet<&str> =
            self.drafts.values().flat_map(|draft| &draft.spec.chosen).map(|chosen| chosen.work_id.as_str()).collect();
        let (_, works) = self.stages.current();
        works
            .into_iter()
            .filter(|id| !self.stages.done(id) && !taken.contains(id.as_str()) && !chosen.contains(id.as_str()))
            .collect()
    }

    /// The one slot that Sort works can go to, while runs that they read are on its volume alone. Only the first
    /// slot of a build with one slot leaves runs on its volume.
    fn pinned(&self) -> Option<u32> {
        let draft = self.drafts.get(&0)?;
        let volume = draft.spec.volume.as_ref()?;
        let present = draft.volume_is_sound()
            && self.stages.on_volume().any(|chosen| chosen.epoch >= Epoch::new(volume.generation.into()));
        present.then_some(0)
    }

    /// The one slot that the present stage's works can go to, where there is only one.
    pub(super) fn only_slot(&self) -> Option<u32> {
        self.pinned().filter(|_| self.stages.current().0 == SORT)
    }

    /// Gives free slots the next works.
    pub(super) fn assign(&mut self) {
        match self.mode {
            Mode::Run => {
                let works = self.unassigned();
                self.hand_out(works);
            }
            Mode::Clean(end) => self.assign_clean(end),
            Mode::Disabled | Mode::Gone | Mode::Suspend | Mode::Drain(_) => {}
        }
    }

    fn hand_out(&mut self, works: Vec<String>) {
        let mut works = works.into_iter().peekable();
        let pinned = self.only_slot();
        let parallelism = self.world.build.spec.parallelism;
        // Those whose process is at hand first, then those that need one, then slots that are not there yet.
        let mut free: Vec<(bool, u32)> = self
            .drafts
            .values()
            .filter(|draft| draft.slot() < parallelism && self.is_free(draft))
            .map(|draft| (!draft.in_contact(), draft.slot()))
            .collect();
        free.sort_unstable();
        for (_, slot) in free {
            if pinned.is_some_and(|pinned| pinned != slot) {
                continue;
            }
            let Some(id) = works.peek() else {
                return;
            };
            let work = self.stages.work(id, &[]);
            if let Some(draft) = self.drafts.get_mut(&slot) {
                grant(draft, work, None);
                if draft.bumped() {
                    works.next();
                }
            }
        }
        if pinned.is_some() || self.is_queued() {
            return;
        }
        for slot in 0..parallelism {
            if self.drafts.contains_key(&slot) || self.world.slots.iter().any(|view| view.record.spec.slot == slot) {
                continue;
            }
            let Some(id) = works.next() else {
                return;
            };
            self.create_directory(slot, &id);
        }
    }

    fn create_directory(&mut self, slot: u32, work_id: &str) {
        let work = self.stages.work(work_id, &[]);
        let spec = grants::new_directory(self.world, slot, work);
        if !spec.former_volumes.is_empty() || spec.grant.as_ref().is_some_and(|grant| grant.epoch > Epoch::FIRST) {
            let platform = self.world.platform;
            let (pod, volumes) = (platform.pods(), platform.volumes());
            self.events.push(crate::action::Event {
                reason: Reason::OwnerReplaced,
                warning: true,
                message: format!(
                    "the record of slot {slot} is gone, though the slot had {pod} or {volumes}: it is made again with a higher epoch than theirs; {} {volumes} without a known owner are held",
                    spec.former_volumes.len()
                ),
            });
        }
        self.steps.push(Action::CreateDirectory { slot, spec });
    }

    /// Whether the slot can take a work: it has none to do, and its owner is at hand or certainly none.
    fn is_free(&self, draft: &RecordDraft<'_>) -> bool {
        !draft.bumped() && !self.work_open(draft) && (draft.in_contact() || !draft.claimed())
    }

    fn assign_clean(&mut self, end: End) {
        let slot = self.cleaner();
        let chosen = |draft: &RecordDraft<'_>| draft.spec.chosen.iter().any(|chosen| chosen.work_id == CLEAN_WORK);
        let just_done = self.drafts.values().any(|draft| chosen(draft) && self.is_done(draft, CLEAN_WORK));
        if just_done
            || self.stages.done(CLEAN_WORK)
            || self.drafts.values().any(|draft| {
                draft.spec.work.as_ref().is_some_and(|work| work.id == CLEAN_WORK) && !self.is_done(draft, CLEAN_WORK)
            })
        {
            return;
        }
        if end != End::Complete && !self.others_are_quiet(slot) {
            let timeouts = self.world.build.timeouts;
            let others = self.drafts.values().filter(|draft| draft.slot() != slot && !self.is_quiet(draft));
            let (slots, youngest) =
                others.fold((Vec::new(), timeouts.replace_after), |(mut slots, youngest), draft| {
                    slots.push(draft.slot().to_string());
                    (slots, youngest.min(draft.view.grant_age))
                });
            let left = timeouts.replace_after.saturating_sub(youngest).max(timeouts.renew_interval);
            let what = format!(
                "Clean waits until the revoked executors of slots {} have ended, so that none uploads behind it",
                slots.join(", ")
            );
            let ends_when = format!("their {} end, or replaceAfter is over", self.world.platform.pods());
            self.wait(Reason::WaitingForEvidence, None, left, what, &ends_when);
            return;
        }
        let work = self.stages.work(CLEAN_WORK, &[]);
        let reason = if end == End::Complete { None } else { Some(OwnerChangeReason::Aborted) };
        match self.drafts.get_mut(&slot) {
            Some(draft) if draft.bumped() => {}
            // Whoever works here gives way to the next epoch, be it his own.
            Some(draft) if draft.in_contact() || !draft.claimed() => grant(draft, work, reason),
            Some(draft) if draft.evidence().is_some() && draft.volume_is_sound() => {
                draft.bump(
                    reason.unwrap_or(OwnerChangeReason::OwnerEnded),
                    Some(work),
                    NextOwner::NewPod,
                    VolumeMove::Keep,
                );
            }
            Some(draft) if draft.silence() >= draft.timeouts().replace_after && !self.lost => {
                let state = indexbuild_api::VolumeState::Stranded;
                draft.bump(
                    reason.unwrap_or(OwnerChangeReason::Replaced),
                    Some(work),
                    NextOwner::NewPod,
                    VolumeMove::New(state),
                );
            }
            Some(draft) => {
                let left = draft.timeouts().replace_after.saturating_sub(draft.silence());
                self.wait(
                    Reason::OwnerSilent,
                    Some(slot),
                    left,
                    format!("the owner of slot {slot}, which is to clean, is silent"),
                    "it is heard from, is proved gone, or replaceAfter is over",
                );
            }
            None if !self.world.slots.iter().any(|view| view.record.spec.slot == slot) => {
                self.create_directory(slot, CLEAN_WORK);
            }
            None => {}
        }
    }

    /// Whether no revoked owner can still be uploading, or patience with those that cannot be reached is over.
    fn others_are_quiet(&self, cleaner: u32) -> bool {
        self.drafts.values().filter(|draft| draft.slot() != cleaner).all(|draft| self.is_quiet(draft))
    }

    fn is_quiet(&self, draft: &RecordDraft<'_>) -> bool {
        let patience_over = draft.view.grant_age >= draft.timeouts().replace_after;
        let formers_gone = draft
            .view
            .record
            .spec
            .former_volumes
            .iter()
            .all(|former| crate::evidence::Evidence::of_former(self.world, former).is_some());
        let owner_gone = !draft.claimed() || draft.evidence().is_some();
        !draft.bumped() && (patience_over || (formers_gone && owner_gone))
    }
}

/// Grants a work to a free slot: to the process that is there, else to a new pod.
fn grant(draft: &mut RecordDraft<'_>, work: indexbuild_api::Work, reason: Option<OwnerChangeReason>) {
    let first = draft.view.record.spec.grant.is_none();
    let usual = if first { OwnerChangeReason::FirstOwner } else { OwnerChangeReason::NextWork };
    let reason = reason.unwrap_or(usual);
    let sound = draft.volume_is_sound();
    if sound && draft.in_contact() {
        // G3: another work is another epoch, for the same process too.
        draft.bump(reason, Some(work), NextOwner::SameProcess, VolumeMove::Keep);
    } else if sound && draft.evidence().is_some() {
        draft.bump(reason, Some(work), NextOwner::NewPod, VolumeMove::Keep);
    } else {
        let state = draft.volume_state();
        draft.bump(reason, Some(work), NextOwner::NewPod, VolumeMove::New(state));
    }
}
