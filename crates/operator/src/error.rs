//! What can go wrong in a pass over a build, and whether looking again is all there is to do.

use crate::objects::BadPodPart;
use crate::unreadable::UnreadableObjects;

/// The cause that the API server names where it makes nothing in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// Why an action was not carried out, or a pass not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    /// The API server did not answer, or refused.
    #[error("{what}: {source}")]
    Api {
        /// What was being done, to which object.
        what: String,
        source: Box<kube::Error>,
    },
    #[error("{kind} {name} exists and is not this build's: remove it, or name the build otherwise")]
    Foreign { kind: &'static str, name: String },
    #[error("build {name} is gone: nothing is made for it any more")]
    Gone { name: String },
    #[error(
        "the API server does not keep status.frozenStages of build {name}: its definition of IndexBuild is older than this \
         operator; install that of this version (crds.install, or crds/)"
    )]
    OldDefinition { name: String },
    #[error(transparent)]
    PodPart(#[from] BadPodPart),
    #[error(transparent)]
    UnreadableObjects(#[from] UnreadableObjects),
    #[error("{what} cannot be written as JSON: {source}")]
    Json { what: &'static str, source: serde_json::Error },
}

impl OperatorError {
    /// Names what was being done.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }

    /// Whether somebody else wrote first, so that looking again is all there is to do.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Api { what: _, source } => is_status(source, 409),
            Self::Foreign { .. }
            | Self::OldDefinition { .. }
            | Self::Gone { .. }
            | Self::PodPart(_)
            | Self::UnreadableObjects(_)
            | Self::Json { .. } => false,
        }
    }

    /// Whether nothing can be made in the namespace any more, as it is being deleted.
    pub(crate) fn is_end_of_namespace(&self) -> bool {
        let Self::Api { what: _, source } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 403 && causes.into_iter().any(|cause| cause.reason == NAMESPACE_TERMINATING)
    }

    /// The message for people: the API server's own, without how it was transported.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Api { what, source } => match source.as_ref() {
                kube::Error::Api(status) => format!("{what}: {}", status.message),
                other => format!("{what}: {other}"),
            },
            other => other.to_string(),
        }
    }
}

/// Whether the API server answered with this status.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
