//! What the API server refused, told apart by its own words. Most of it comes with the one status 403, and each has another
//! way out: the operator's role is to blame for one of them alone.

use indexbuild_api::Reason;

/// Who refuses, or why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Webhook,
    /// A webhook that does not answer.
    WebhookAway,
    /// A `ValidatingAdmissionPolicy`.
    Policy,
    PodSecurity,
    /// OpenShift's security context constraints.
    SecurityContextConstraints,
    /// A quota that is used up.
    QuotaUsedUp,
    /// A quota of something that the object does not name.
    QuotaOfUnnamed,
    LimitRange,
    NoServiceAccount,
    NoPriorityClass,
    NamespaceEnds,
    /// The operator may not do it.
    Rights,
    /// Something else that the API server says is forbidden.
    Forbidden,
}

/// Each by the words that only it has. Those that pass on what others wrote come first: their words may be any.
const WORDS: [(Refusal, &[&str]); 13] = [
    (Refusal::Webhook, &["admission webhook", "denied the request"]),
    (Refusal::WebhookAway, &["failed calling webhook"]),
    (Refusal::Policy, &["ValidatingAdmissionPolicy"]),
    (Refusal::PodSecurity, &["violates PodSecurity"]),
    (Refusal::SecurityContextConstraints, &["security context constraint"]),
    (Refusal::QuotaUsedUp, &["exceeded quota"]),
    (Refusal::QuotaOfUnnamed, &["failed quota"]),
    (Refusal::LimitRange, &[" usage per "]),
    (Refusal::LimitRange, &[" limit to request ratio per "]),
    (Refusal::NoServiceAccount, &["error looking up service account"]),
    (Refusal::NoPriorityClass, &["no PriorityClass with name"]),
    (Refusal::NamespaceEnds, &["because it is being terminated"]),
    (Refusal::Rights, &["User ", " cannot "]),
];

impl Refusal {
    fn of(message: &str) -> Option<Self> {
        let said = |words: &&(Self, &[&str])| words.1.iter().all(|word| message.contains(word));
        let known = WORDS.iter().find(said).map(|(refusal, _)| *refusal);
        known.or_else(|| message.contains("forbidden").then_some(Self::Forbidden))
    }

    const fn way_out(self) -> &'static str {
        match self {
            Self::Webhook => {
                "it is made as soon as whoever runs that webhook lets it pass, or spec.executor asks for what it lets pass"
            }
            Self::WebhookAway => {
                "it is made as soon as that webhook answers, or its configuration is removed or ignores failures"
            }
            Self::Policy => "it is made as soon as that policy lets it pass, or the build asks for what it lets pass",
            Self::PodSecurity => {
                "it is made as soon as the namespace's label pod-security.kubernetes.io/enforce allows it; executors meet the level restricted, so that something added to the pod is refused"
            }
            Self::SecurityContextConstraints => {
                "it is made as soon as a constraint allows it: `spec.executor.securityContext: {}` leaves user and group to the platform, as restricted-v2 asks"
            }
            Self::QuotaUsedUp => "it is made as soon as the quota is raised or others give up what they use",
            Self::QuotaOfUnnamed => {
                "it is made as soon as spec.executor.resources names what the quota is of, or a LimitRange has a default for that"
            }
            Self::LimitRange => {
                "it is made as soon as the namespace's LimitRange allows that, or spec.executor.resources (of a claim: spec.volume.size) keeps to it"
            }
            Self::NoServiceAccount => {
                "it is made as soon as that service account is there, or spec.executor.serviceAccountName names one that is"
            }
            Self::NoPriorityClass => {
                "it is made as soon as that priority class is there, or spec.executor.priorityClassName names one that is"
            }
            Self::NamespaceEnds => {
                "nothing is made in a namespace that is being deleted: delete the build, or make it in another one"
            }
            Self::Rights | Self::Forbidden => {
                "it goes on as soon as the operator's role allows that, or whatever refused it does"
            }
        }
    }

    fn reason(self, message: &str) -> Reason {
        match self {
            Self::Rights | Self::Forbidden => Reason::MissingPermission,
            _ if message.starts_with("PersistentVolumeClaim ") => Reason::WaitingForVolume,
            Self::Webhook
            | Self::WebhookAway
            | Self::Policy
            | Self::PodSecurity
            | Self::SecurityContextConstraints
            | Self::QuotaUsedUp
            | Self::QuotaOfUnnamed
            | Self::LimitRange
            | Self::NoServiceAccount
            | Self::NoPriorityClass
            | Self::NamespaceEnds => Reason::WaitingForPod,
        }
    }
}

/// Why an action failed, and what would end that, in the API server's words and ours.
pub(super) fn failed_action(message: &str) -> (Reason, String) {
    let refusal = Refusal::of(message);
    let reason = refusal.map_or(Reason::InternalError, |refusal| refusal.reason(message));
    let way_out = refusal.map_or("the operator's log says more", Refusal::way_out);
    (reason, format!("{message}; it is tried again: {way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a real API server words them: `crates/operator/tests/without_nodes/refused.rs` asks one. OpenShift's and a webhook's
    /// are from their sources.
    #[test]
    fn each_refusal_has_a_reason_and_a_way_out_of_its_own() {
        let pod = |why: &str| {
            format!("Pod orders-0b7e1c9a-0-e1 is not made: pods \"orders-0b7e1c9a-0-e1\" is forbidden: {why}")
        };
        let waits = Reason::WaitingForPod;
        for (message, reason, part) in [
            (pod("exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"), waits, "quota is raised"),
            (pod("failed quota: q: must specify limits.cpu for: executor"), waits, "spec.executor.resources names"),
            (pod("maximum memory usage per Container is 256Mi, but limit is 512Mi"), waits, "LimitRange"),
            (pod("cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"), waits, "LimitRange"),
            (pod("violates PodSecurity \"restricted:latest\": privileged"), waits, "pod-security.kubernetes.io/enforce"),
            (pod("unable to validate against any security context constraint: [provider restricted-v2: .spec.securityContext.fsGroup: Invalid value: []int64{65532}: 65532 is not an allowed group]"), waits, "spec.executor.securityContext: {}"),
            (pod("error looking up service account shop/mine: serviceaccount \"mine\" not found"), waits, "serviceAccountName"),
            (pod("no PriorityClass with name high was found"), waits, "priorityClassName"),
            (pod("unable to create new content in namespace shop because it is being terminated"), waits, "being deleted"),
            (pod("ValidatingAdmissionPolicy 'no' with binding 'no' denied request: exceeded quota"), waits, "that policy"),
            ("Pod p is not made: admission webhook \"images.example.com\" denied the request: exceeded quota".to_owned(), waits, "that webhook lets it pass"),
            ("Pod p is not made: Internal error occurred: failed calling webhook \"a.b.c\": connection refused".to_owned(), waits, "that webhook answers"),
            ("PersistentVolumeClaim c is not made: persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 10Gi".to_owned(), Reason::WaitingForVolume, "spec.volume.size"),
            ("PersistentVolumeClaim c is not made: persistentvolumeclaims \"c\" is forbidden: exceeded quota: q".to_owned(), Reason::WaitingForVolume, "quota is raised"),
            ("Pod p is not made: pods is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"pods\"".to_owned(), Reason::MissingPermission, "the operator's role"),
            (pod("not yet known to us"), Reason::MissingPermission, "whatever refused it"),
            ("Pod p is not made: the server is on fire".to_owned(), Reason::InternalError, "operator's log"),
        ] {
            let (found, said) = failed_action(&message);
            assert_eq!(found, reason, "{said}");
            assert!(said.starts_with(&message) && said[message.len()..].contains(part), "{part:?} is missing: {said}");
            let blamed = said[message.len()..].contains("operator's role");
            assert_eq!(blamed, reason == Reason::MissingPermission, "{said}");
        }
    }
}
