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
        Hindrance::ClaimUnbound { .. } | Hindrance::NoDefaultClass { .. } => (0, 0),
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
        Hindrance::ClaimUnbound { .. } | Hindrance::NoDefaultClass { .. } | Hindrance::ActionFailed { .. } => None,
    }
}

fn describe(hindrance: &Hindrance) -> (Reason, String) {
    let said = |text: &Option<String>| text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    match hindrance {
        Hindrance::ClaimUnbound { claim, warning: Warning { reason, message } } => (
            Reason::WaitingForVolume,
            format!("claim {claim} has no volume ({reason}): {message}; {}", claim_ends_when(message)),
        ),
        Hindrance::NoDefaultClass { claim } => (
            Reason::WaitingForVolume,
            format!(
                "claim {claim} has no volume: it names no storage class, and there is no default StorageClass: set `volume.storageClassName` in a new build, or mark one as default (annotation storageclass.kubernetes.io/is-default-class: \"true\"), which the claim takes by itself"
            ),
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
        Hindrance::PodFitsNowhere { pod, said: text } => {
            let (reason, what, ends_when) = unscheduled(text.as_deref().unwrap_or_default());
            (reason, format!("pod {pod} {what}{}; it starts as soon as {ends_when}", said(text)))
        }
        Hindrance::PodUnstarted { pod, why } => (Reason::WaitingForPod, unstarted(pod, why)),
        Hindrance::ActionFailed { slot: _, message } => failed_action(message),
    }
}

/// What ends that a claim is not bound, by what was said of it.
fn claim_ends_when(message: &str) -> &'static str {
    let says = |word: &str| message.contains(word);
    if says("storageclass") && says("not found") {
        "it is bound as soon as that StorageClass is made; a claim's class cannot be changed, and another one takes a new build"
    } else {
        "it is bound as soon as the cause is gone"
    }
}

/// What keeps the scheduler from giving a pod a node, in its own words (of several, the first of these), and what ends that.
/// Most of them say nothing of room, and who makes some waits for nothing.
fn unscheduled(said: &str) -> (Reason, &'static str, &'static str) {
    const NOWHERE: &str = "fits on no node";
    const UNBOUND: &str = "waits for its volume";
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["unbound immediate PersistentVolumeClaims"]) {
        let ends_when = "its claim is bound (`kubectl describe pvc` tells what that waits for)";
        (Reason::WaitingForVolume, UNBOUND, ends_when)
    } else if says(&["storageclass", "StorageClass"]) {
        (Reason::WaitingForVolume, UNBOUND, "the StorageClass of its claim is there")
    } else if says(&["persistentvolumeclaim"]) {
        (Reason::WaitingForVolume, UNBOUND, "its claim is there and bound")
    } else if says(&["Insufficient ", "Too many pods"]) {
        (Reason::WaitingForPod, NOWHERE, "one has room for it")
    } else if says(&[
        "available persistent volumes",
        "volume node affinity conflict",
        "did not have enough free storage",
    ]) {
        (Reason::WaitingForVolume, NOWHERE, "one is there on which its volume can be used or made")
    } else if says(&["node affinity/selector", "untolerated taint", "were unschedulable", "no nodes available"]) {
        let ends_when =
            "one is there that takes it: by its taints and labels, and by spec.executor's nodeSelector and tolerations";
        (Reason::WaitingForPod, NOWHERE, ends_when)
    } else {
        (Reason::WaitingForPod, NOWHERE, "one has room for it")
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
        Enforcement::Unknown { why } | Enforcement::Untried { why } => {
            (ConditionStatus::Unknown, Reason::Pending, why.clone())
        }
    }
}

/// What people are told of it as an event: that a former owner is not stopped by the API server.
pub(super) fn unenforced(enforcement: Option<&Enforcement>) -> Option<Event> {
    match enforcement? {
        Enforcement::NotEnforced { message } => {
            Some(Event { reason: Reason::NotEnforced, warning: true, message: message.clone() })
        }
        Enforcement::Enforced | Enforcement::Unknown { .. } | Enforcement::Untried { .. } => None,
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

    /// Room helps the third of them alone.
    #[test]
    fn what_the_scheduler_says_decides_what_ends_it() {
        let (volume, node) = (Reason::WaitingForVolume, Reason::WaitingForPod);
        for (said, reason, part) in [
            (
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
                volume,
                "its claim is bound",
            ),
            (
                "0/3 nodes are available: storageclass.storage.k8s.io \"fast\" not found.",
                volume,
                "StorageClass of its claim is there",
            ),
            (
                "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {a: b}.",
                node,
                "has room for it",
            ),
            (
                "0/3 nodes are available: persistentvolumeclaim \"orders-0-v1\" not found.",
                volume,
                "its claim is there and bound",
            ),
            ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", volume, "its volume can be used"),
            (
                "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.",
                volume,
                "its volume can be used or made",
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
                node,
                "nodeSelector and tolerations",
            ),
            ("0/3 nodes are available: 3 node(s) were unschedulable.", node, "that takes it"),
            ("something else", node, "has room for it"),
        ] {
            let pod = "p".to_owned();
            let (found, told) = describe(&Hindrance::PodFitsNowhere { pod, said: Some(said.to_owned()) });
            assert_eq!(found, reason, "{told}");
            assert!(told.contains(said) && told.rsplit(';').next().unwrap().contains(part), "{part}: {told}");
            assert_eq!(told.contains("room"), part.contains("room"), "{told}");
        }
    }

    #[test]
    fn a_class_that_is_missing_is_told_by_what_makes_the_claim_bound() {
        let claim = "c".to_owned();
        let (reason, told) = describe(&Hindrance::NoDefaultClass { claim: claim.clone() });
        assert_eq!(reason, Reason::WaitingForVolume);
        for part in ["no default StorageClass: set `volume.storageClassName`", "mark one as default"] {
            assert!(told.contains(part), "{told}");
        }
        let message = "storageclass.storage.k8s.io \"fast\" not found".to_owned();
        let warning = Warning { reason: "ProvisioningFailed".to_owned(), message };
        let (_, told) = describe(&Hindrance::ClaimUnbound { claim, warning });
        assert!(told.contains("as soon as that StorageClass is made"), "{told}");
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
