//! What hinders a build outside of it, in words: an image that cannot be pulled, a pod that fits nowhere, a quota that is
//! used up. Said in the build's conditions, so that `kubectl describe` tells what is waited for.

use indexbuild_api::{ConditionStatus, Reason};

use super::Pass;
use super::refusals::failed_action;
use super::waits::describe_wait;
use crate::action::Event;
use crate::world::{Enforcement, Hindrance, Unstarted, Warning};

impl Pass<'_> {
    /// What hinders the build, if anything does: the reason, and what would end it. `said`: what was said of it last.
    pub(super) fn hindrance(&self, said: Option<&str>, ended: bool) -> Option<(Reason, String)> {
        let first = self.world.hindrances.iter().min_by_key(|hindrance| rank(hindrance))?;
        if self.is_over(ended) {
            return None;
        }
        let (reason, mut message) = describe(first);
        // Until when a pod is waited for, and what is done then.
        let slot = |name: &str| self.world.pods.iter().find(|pod| pod.name == name).map(|pod| pod.slot);
        if let Some(slot) = pod(first).map(slot) {
            let wait = self.waits.iter().find(|wait| wait.slot == slot && wait.reason == Reason::WaitingForPod);
            if let Some(wait) = wait {
                message = format!("{message}; {}", describe_wait(wait, self.world, said));
            }
        }
        Some((reason, message))
    }
}

/// The hindrance with the lowest is told: what is nearest to the cause. Of several alike, the first.
fn rank(hindrance: &Hindrance) -> (u8, u32) {
    match hindrance {
        // Its pod cannot start either, and says less.
        Hindrance::ClaimUnbound { .. } => (0, 0),
        Hindrance::ContainerStuck { .. } | Hindrance::PodGated { .. } | Hindrance::PodFitsNowhere { .. } => (1, 0),
        Hindrance::PodUnstarted { .. } => (2, 0),
        Hindrance::ActionFailed { slot, message: _ } => (3, slot.unwrap_or(u32::MAX)),
    }
}

/// The pod that is hindered, if one is.
fn pod(hindrance: &Hindrance) -> Option<&str> {
    match hindrance {
        Hindrance::ContainerStuck { pod, .. }
        | Hindrance::PodGated { pod, .. }
        | Hindrance::PodFitsNowhere { pod, .. }
        | Hindrance::PodUnstarted { pod, .. } => Some(pod),
        Hindrance::ClaimUnbound { .. } | Hindrance::ActionFailed { .. } => None,
    }
}

fn describe(hindrance: &Hindrance) -> (Reason, String) {
    let said = |text: &Option<String>| text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    match hindrance {
        Hindrance::ClaimUnbound { claim, warning: Warning { reason, message } } => (
            Reason::WaitingForVolume,
            format!("claim {claim} has no volume ({reason}): {message}; it is bound as soon as the cause is gone"),
        ),
        Hindrance::ContainerStuck { pod, reason, said: text } => (
            Reason::WaitingForPod,
            format!(
                "pod {pod} cannot start its container ({reason}){}; it starts as soon as the cause is gone",
                said(text)
            ),
        ),
        Hindrance::PodGated { pod, said: text } => (
            Reason::WaitingForPod,
            format!(
                "pod {pod} is held back{}; it starts once whoever set its scheduling gates has removed them",
                said(text)
            ),
        ),
        Hindrance::PodFitsNowhere { pod, said: text } => (
            Reason::WaitingForPod,
            format!("pod {pod} fits on no node{}; it starts as soon as one has room for it", said(text)),
        ),
        Hindrance::PodUnstarted { pod, why } => (Reason::WaitingForPod, unstarted(pod, why)),
        Hindrance::ActionFailed { slot: _, message } => failed_action(message),
    }
}

fn unstarted(pod: &str, why: &Unstarted) -> String {
    match why {
        Unstarted::NodeNotReady { node } => {
            format!("pod {pod} has not started: its node {node} is not ready; it starts when the node is back")
        }
        Unstarted::Warned(Warning { reason, message }) => {
            format!("pod {pod} cannot start ({reason}): {message}; it starts as soon as the cause is gone")
        }
        Unstarted::Unknown { secrets } => format!(
            "pod {pod} has not started on its node, which does not say why; it waits for what it mounts, of Secrets [{}]: one may be missing; `kubectl describe pod {pod}` tells more",
            secrets.join(", ")
        ),
    }
}

/// Whether reports are accepted from the owner alone, as a condition says it.
pub(super) fn enforced(enforcement: &Enforcement) -> (ConditionStatus, Reason, String) {
    match enforcement {
        Enforcement::Enforced => {
            let message = "The API server refused a trial report that did not come from the slot's owner.";
            (ConditionStatus::True, Reason::Enforced, message.to_owned())
        }
        Enforcement::NotEnforced { message } => (ConditionStatus::False, Reason::NotEnforced, message.clone()),
        Enforcement::Unknown { why } => (ConditionStatus::Unknown, Reason::Pending, why.clone()),
    }
}

/// What people are told of it as an event: that a former owner is not stopped by the API server.
pub(super) fn unenforced(enforcement: Option<&Enforcement>) -> Option<Event> {
    match enforcement? {
        Enforcement::NotEnforced { message } => {
            Some(Event { reason: Reason::NotEnforced, warning: true, message: message.clone() })
        }
        Enforcement::Enforced | Enforcement::Unknown { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(hindrance: &Hindrance) -> String {
        describe(hindrance).1
    }

    #[test]
    fn what_hinders_a_pod_is_told_in_the_words_of_whoever_said_it_with_what_ends_it() {
        let (pod, text) = ("p".to_owned(), Some("0/3 nodes are available".to_owned()));
        let stuck =
            Hindrance::ContainerStuck { pod: pod.clone(), reason: "ErrImagePull".to_owned(), said: text.clone() };
        assert_eq!(
            said(&stuck),
            "pod p cannot start its container (ErrImagePull): 0/3 nodes are available; it starts as soon as the cause is gone"
        );
        let nowhere = Hindrance::PodFitsNowhere { pod: pod.clone(), said: text };
        assert!(said(&nowhere).contains("fits on no node: 0/3 nodes are available; "), "{}", said(&nowhere));
        let gated = Hindrance::PodGated { pod: pod.clone(), said: None };
        assert!(said(&gated).contains("is held back; it starts once"), "{}", said(&gated));
        let unstarted = |why| said(&Hindrance::PodUnstarted { pod: pod.clone(), why });
        let warning = || Warning { reason: "FailedMount".to_owned(), message: "secret \"lake\" not found".to_owned() };
        let told = unstarted(Unstarted::Warned(warning()));
        assert!(told.contains("FailedMount") && told.contains("secret \"lake\" not found"), "{told}");
        let told = unstarted(Unstarted::NodeNotReady { node: "n".to_owned() });
        assert!(told.contains("its node n is not ready"), "what it would mount is not to blame: {told}");
        let told = unstarted(Unstarted::Unknown { secrets: vec!["lake".to_owned()] });
        assert!(told.contains("[lake]") && told.contains("kubectl describe pod p"), "{told}");
        let (reason, told) = describe(&Hindrance::ClaimUnbound { claim: "c".to_owned(), warning: warning() });
        assert!(reason == Reason::WaitingForVolume && told.contains("not found"), "{told}");
    }

    #[test]
    fn a_claim_without_a_volume_is_told_before_its_pod_and_a_failed_action_last() {
        let failed = |slot| Hindrance::ActionFailed { slot, message: String::new() };
        let warning = Warning { reason: String::new(), message: String::new() };
        let claim = Hindrance::ClaimUnbound { claim: String::new(), warning };
        let pod = Hindrance::PodGated { pod: String::new(), said: None };
        let all = [failed(None), failed(Some(2)), failed(Some(1)), pod.clone(), claim.clone()];
        let first = |all: &[Hindrance]| all.iter().min_by_key(|one| rank(one)).cloned();
        assert_eq!(first(&all), Some(claim));
        assert_eq!(first(&all[..4]), Some(pod));
        assert_eq!(first(&all[..3]), Some(failed(Some(1))));
    }
}
