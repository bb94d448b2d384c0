//! A pod that has not begun: what keeps it from that is told until it is mended, and nothing is gained by another one
//! that would wait for the same. Another one is made where it would not.

use indexbuild_api::{OwnerChangeReason, Reason, VolumeState};

use super::Pass;
use super::grants::{NextOwner, RecordDraft, VolumeMove};
use super::mode::Mode;
use crate::action::{End, Event};
use crate::world::{Millis, NodeReady, NodeView, PodState, PodView};

/// What keeps a pod that has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It is asked for otherwise by now.
    Outdated,
    /// The claim that it waits for, which no volume is bound to, is asked for in another size by now.
    ByAnOutdatedClaim,
    /// Its object does not say what it was made from, and it has had its time: an older version made it.
    OfUnknownMaking,
    /// Its own volume holds it at nodes that take no pod, or not this one (failure-modes.md #29). For so long another one is
    /// not made yet.
    ByItsVolume(Millis),
    /// The node that it is bound to is lost. For so long another one is not made yet.
    ByALostNode(Millis),
    /// Something that would keep another one as well: an image, a quota, a class, room on the nodes.
    ByWhatLasts,
    /// Nobody has looked at it yet.
    Queued,
}

impl<'w> Pass<'w> {
    /// The grant's pod is there, and its process was not started, as far as anybody said.
    pub(super) fn unstarted(&mut self, draft: &mut RecordDraft<'w>, pod: &'w PodView) {
        let kept = self.kept(draft, pod);
        let place = match kept {
            _ if self.lost => None,
            Kept::Outdated | Kept::OfUnknownMaking => Some(VolumeMove::Keep),
            // The volume is idle: nobody claimed it.
            Kept::ByAnOutdatedClaim => Some(VolumeMove::New(VolumeState::Idle)),
            Kept::ByItsVolume(0) | Kept::ByALostNode(0) if draft.is_bound() => Some(VolumeMove::New(VolumeState::Idle)),
            Kept::ByALostNode(0) => Some(VolumeMove::Keep),
            Kept::ByItsVolume(_) | Kept::ByALostNode(_) | Kept::ByWhatLasts | Kept::Queued => None,
        };
        match place {
            Some(place) => {
                let work = self.same_work(draft);
                draft.bump(OwnerChangeReason::Replaced, work, NextOwner::NewPod, place);
            }
            None => self.wait_for_start(draft, pod, kept),
        }
    }

    /// Somebody else's pod has the name that the grant's is to have. It is nobody's business here: neither taken for ours, which
    /// would let its process claim, nor removed. The next epoch has another name (G10).
    pub(super) fn name_is_taken(&mut self, draft: &mut RecordDraft<'w>, foreign: &PodView) {
        let work = self.same_work(draft);
        draft.bump(OwnerChangeReason::Replaced, work, NextOwner::NewPod, VolumeMove::Keep);
        if draft.bumped() {
            let next = draft.spec.grant.as_ref().map(|grant| grant.pod_name.clone()).unwrap_or_default();
            self.events.push(Event {
                reason: Reason::ForeignObject,
                warning: true,
                message: format!(
                    "pod {} (UID {}) is not this build's and has the name that slot {} was to give its own; it is left alone, and the slot's pod is called {next} instead; whoever made it removes it",
                    foreign.name,
                    foreign.uid,
                    draft.slot()
                ),
            });
        }
    }

    fn kept(&self, draft: &RecordDraft<'w>, pod: &PodView) -> Kept {
        let patience = draft.timeouts().replace_after;
        let left = patience.saturating_sub(draft.view.grant_age);
        let unbound = draft.volume_claim().filter(|_| !draft.is_bound());
        match (pod.as_asked, &pod.node) {
            _ if unbound.is_some_and(|claim| claim.outdated) => Kept::ByAnOutdatedClaim,
            (Some(false), _) => Kept::Outdated,
            (None, _) if left == 0 => Kept::OfUnknownMaking,
            (_, Some(name)) => match self.world.node(name) {
                Some(node) if node.ready == NodeReady::True && !node.gone => Kept::ByWhatLasts,
                // It is not blamed for the time in which its node was well.
                Some(node) if !node.gone => Kept::ByALostNode(left.max(patience.saturating_sub(node.readiness_age))),
                Some(_) | None => Kept::ByALostNode(left),
            },
            (_, None) if pod.state == PodState::Queued => Kept::Queued,
            (_, None) if self.is_held_by_its_volume(draft, pod) => Kept::ByItsVolume(left),
            (_, None) => Kept::ByWhatLasts,
        }
    }

    /// Whether a pod that the scheduler finds no node for would find one, or could be given one, but for its volume: none of
    /// the nodes that this can be used on takes pods, or another one would take it.
    fn is_held_by_its_volume(&self, draft: &RecordDraft<'w>, pod: &PodView) -> bool {
        let Some(nodes) = draft.volume_claim().and_then(|claim| claim.nodes.as_ref()).filter(|_| draft.is_bound())
        else {
            return false;
        };
        let mut open = self.world.nodes.iter().filter(|node| node.is_open());
        let of_volume = |node: &NodeView| nodes.contains(&node.name);
        let closed = !self.world.nodes.iter().any(|node| node.is_open() && of_volume(node));
        closed || open.any(|node| !of_volume(node) && pod.suited.contains(&node.name))
    }

    fn wait_for_start(&mut self, draft: &mut RecordDraft<'w>, pod: &PodView, kept: Kept) {
        let slot = draft.slot();
        let platform = self.world.platform;
        let place = match &pod.node {
            Some(node) => format!("has not begun on node {node}"),
            None if kept == Kept::Queued => "was not looked at by the scheduler yet".to_owned(),
            None => "is on no node yet".to_owned(),
        };
        let what = format!("{} {} of slot {slot} {place} ({})", platform.pod(), pod.name, platform.tells_why());
        let again = draft.timeouts().replace_after;
        match kept {
            Kept::ByItsVolume(left) | Kept::ByALostNode(left) if !self.lost => {
                let ends_when = if matches!(kept, Kept::ByItsVolume(_)) {
                    "one of the nodes that its volume is bound to takes it; after replaceAfter another one is made on a new volume"
                } else {
                    "its node is back and starts it; after replaceAfter another one is made, on a new volume where this one is bound"
                };
                let look_again = left.max(draft.timeouts().renew_interval);
                self.wait(Reason::WaitingForPod, Some(slot), look_again, what, ends_when);
            }
            Kept::Queued => {
                let ends_when = "the scheduler finds it a node, or says that none has room for it";
                self.wait_on(Reason::WaitingForPod, Some(slot), again, what, ends_when);
            }
            Kept::ByItsVolume(_)
            | Kept::ByALostNode(_)
            | Kept::ByWhatLasts
            | Kept::ByAnOutdatedClaim
            | Kept::Outdated
            | Kept::OfUnknownMaking => {
                let ends_when =
                    "what keeps it is gone, or the build asks for another pod (spec.executor), which is made at once";
                self.wait_on(Reason::WaitingForPod, Some(slot), again, what, ends_when);
            }
        }
        // Nobody mends what nobody knows of; a build that others work for goes on, and one that is published lacks nothing.
        let late = draft.view.grant_age >= draft.timeouts().replace_after && self.mode != Mode::Clean(End::Complete);
        let mut others = self.world.slots.iter().map(|view| RecordDraft::of(self.world, view));
        if late
            && !others.any(|other| other.in_contact())
            && let Some(wait) = self.waits.last_mut()
        {
            wait.stalls = true;
        }
    }
}
