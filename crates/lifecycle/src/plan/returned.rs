//! The return of an owner that was replaced: its volume goes on where its replacement has not caught up.

use indexbuild_api::{FormerVolume, OwnerChangeReason, Reason, VolumeState};

use super::Pass;
use super::grants::{NextOwner, RecordDraft, VolumeMove};
use super::mode::Mode;
use crate::action::Event;
use crate::evidence::Evidence;
use crate::world::ClaimPhase;

/// A replacement that has reported this much of its work has caught up: what a cut-off owner had done before is
/// hardly worth doing its rest again.
const CAUGHT_UP: f64 = 0.5;

impl<'w> Pass<'w> {
    /// The volume of a cut-off owner that came back, gave way and ended, so that the volume is idle, before its
    /// replacement has caught up. A process that saw a higher epoch gives way and exits (G11); what comes back is
    /// its directory, with all that it has sealed. Only a volume that was stranded by a replacement returns, and
    /// only after evidence: so two volumes never take turns.
    pub(super) fn returnable(&self, draft: &RecordDraft<'w>) -> Option<FormerVolume> {
        if self.mode != Mode::Run || self.lost || draft.bumped() || caught_up(draft) {
            return None;
        }
        let record = &draft.view.record.spec;
        let former = record.former_volumes.iter().max_by_key(|volume| volume.epoch)?;
        if record.volume.as_ref().is_some_and(|volume| volume.claim_name == former.claim_name) {
            return None;
        }
        let claim = self.world.claim(&former.claim_name)?;
        let sound = !former.condemned
            && former.state == VolumeState::Stranded
            && claim.uid == former.claim_uid
            && !claim.foreign
            && claim.phase == ClaimPhase::Bound;
        (sound && Evidence::of_former(self.world, former).is_some()).then(|| former.clone())
    }

    pub(super) fn take_back(&mut self, draft: &mut RecordDraft<'w>, former: FormerVolume) {
        let work = self.same_work(draft);
        let (name, slot) = (former.claim_name.clone(), draft.slot());
        draft.bump(OwnerChangeReason::Returned, work, NextOwner::NewPod, VolumeMove::Back(Box::new(former)));
        if draft.bumped() {
            self.events.push(Event {
                reason: Reason::OwnerReturned,
                warning: false,
                message: format!("slot {slot} goes on with volume {name}, whose owner came back and gave way before its replacement had caught up"),
            });
        }
    }
}

/// Whether a replacement has caught up with the owner that it replaced: it has reported half of its work, or has
/// ended one work since. How far the other one was is not known any more: its last report is overwritten.
pub(super) fn caught_up(draft: &RecordDraft<'_>) -> bool {
    let record = &draft.view.record;
    let replaced_at = record.spec.former_volumes.iter().map(|volume| volume.epoch).max().unwrap_or_default();
    let went_on = record.spec.past.next_work_epoch > replaced_at;
    let half = draft.report().and_then(|report| report.progress).is_some_and(|progress| progress >= CAUGHT_UP);
    went_on || half || draft.result().is_some()
}
