//! How an executor talks to the control plane: one small trait, with two implementations (the
//! Kubernetes API, and the parent process of a local run).
//!
//! The executor never trusts an answer to mean more than it says: a refusal, an absence and
//! silence all mean "unknown" as long as the process may still own its epoch.

use std::time::Duration;

use async_trait::async_trait;
use indexbuild_api::{Claim, Report};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::{Record, Stage};

use crate::backoff::Pace;

/// The control plane, as one executor sees it.
///
/// Every call has a time limit of its own, in the implementation: a call that hangs must not keep
/// the owner from noticing that it is cut off.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// The record of this executor's slot, read live. `None`: there is no such record.
    ///
    /// # Errors
    /// [`ContactError`]: neither outcome says anything about the record.
    async fn record(&self) -> Result<Option<Record>, ContactError>;

    /// Returns when the record is no longer at `version`, or after `within`, whichever is first.
    ///
    /// # Errors
    /// [`ContactError`]: it was not told either, and returns early. Nothing follows from that but that it is asked again
    /// after a pause; the next [`ControlPlane::record`] tells what holds.
    async fn changed(&self, version: &str, within: Duration) -> Result<(), ContactError>;

    /// Claims the grant for this process: writes `status.claim`.
    async fn claim(&self, claim: Claim) -> Result<(), WriteError>;

    /// Replaces `status.report` as a whole (G4).
    async fn report(&self, report: Report) -> Result<(), WriteError>;

    /// Says that this process has closed everything of its volume: the last that it writes.
    async fn release(&self, word: LastWord) -> Result<(), WriteError>;

    /// A stage's frozen choices. `None`: the stage is not frozen yet.
    async fn stage(&self, name: &str) -> Result<Option<StageRead>, ContactError>;

    /// How its callers pause after failures. They do, and not the calls, so that a pause can be cut short.
    fn pace(&self) -> Pace;

    /// For how long the control plane asked all its callers to stay away; zero when it did not. At most
    /// [`LONGEST_PAUSE`](crate::backoff::LONGEST_PAUSE).
    fn hold_off(&self) -> Duration {
        Duration::ZERO
    }
}

/// A stage's frozen choices, as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRead {
    pub stage: Stage,
    /// The digest of the text that it was read from, where that was an object that others may have made. `None`: the
    /// control plane itself said it.
    pub digest: Option<String>,
}

impl StageRead {
    /// What the control plane itself says.
    #[must_use]
    pub const fn said(stage: Stage) -> Self {
        Self { stage, digest: None }
    }
}

/// Why the control plane did not answer a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContactError {
    /// Nobody answered in time, or with an error of the control plane's own.
    #[error("the control plane cannot be reached: {0}")]
    Unreachable(String),
    /// 401 or 403: the token is refused. It is read again before the next call; a deleted pod's
    /// token is refused within seconds, while the process still owns its directory.
    #[error("the control plane refuses this process: {0}")]
    Refused(String),
}

/// Why the control plane did not take a write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Admission refused the write: it is not this process's to make.
    #[error("the write was refused: {0}")]
    Refused(String),
    /// Somebody else wrote first; look again.
    #[error("the record changed meanwhile")]
    Conflict,
    /// No answer. The write may have been taken.
    #[error(transparent)]
    Contact(#[from] ContactError),
}
