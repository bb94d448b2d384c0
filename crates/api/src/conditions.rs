//! Conditions and their closed sets of types and reasons.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::word::Word;

/// One condition of a resource. `lastTransitionTime` changes only when `status` does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition speaks of.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: Reason,
    /// What, about which object, and what would end it.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
    /// The generation of the spec that it was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// What a condition speaks of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The index is published.
    Ready,
    /// The build is being worked on (abnormal when true).
    Reconciling,
    /// The build cannot go on without somebody's help (abnormal when true).
    Stalled,
    /// The build has ended well.
    Complete,
    /// The build has ended without an index.
    Failed,
    /// The build has ended, either way.
    Finished,
    /// Rows, bytes or works have advanced of late.
    Progressing,
    /// Volumes wait for evidence or for a policy's end.
    VolumesHeld,
    /// The API server refuses reports from anybody but the owner.
    OwnershipEnforced,
    /// Of a slot: something is waited for.
    Waiting,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

/// Whether a condition holds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    #[default]
    Unknown,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

/// Why a condition, or an event, is as it is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No controller has seen the build yet, or nothing has begun.
    #[default]
    Pending,
    /// The plan is being made.
    Planning,
    /// The table is being read.
    Encoding,
    /// Ranges are being sorted.
    Sorting,
    /// The result is being checked and committed.
    Publishing,
    /// What is not needed any more is being removed.
    Cleaning,
    /// The index is published.
    Published,
    /// Nothing is wrong.
    AsExpected,
    /// The build's spec says suspend.
    Suspended,
    /// The annotation `indexbuild.dev/reconcile: disabled` is set.
    ReconcileDisabled,
    /// The build is being deleted.
    Deleting,
    /// The build was aborted before its commit.
    Aborted,
    /// More attempts failed than `backoffLimitPerWork` or `backoffLimit` allows.
    BackoffLimitExceeded,
    /// The build was active for longer than `activeDeadlineSeconds` allows.
    DeadlineExceeded,
    /// The spec cannot be carried out where it is (a `file://` URL on a cluster, say).
    UnsupportedSpec,
    /// A pod is waited for.
    WaitingForPod,
    /// A volume is waited for.
    WaitingForVolume,
    /// Room on a volume or in the store is waited for.
    WaitingForSpace,
    /// The object store is waited for.
    WaitingForStore,
    /// Proof that a former owner is gone is waited for.
    WaitingForEvidence,
    /// A retry is waited for.
    BackingOff,
    /// The build waits for its turn, as all builds together would write to the API server more often than they may.
    WaitingForBudget,
    /// A slot's owner is silent.
    OwnerSilent,
    /// A silent owner was heard from again.
    OwnerReturned,
    /// A silent owner is replaced.
    OwnerReplaced,
    /// An owner reports, but its work does not advance.
    NoProgress,
    /// An owner's pod ended.
    PodEnded,
    /// More than half of the nodes look lost: nothing is destroyed meanwhile.
    MostNodesLost,
    /// An attempt failed and is repeated.
    WorkFailed,
    /// Damaged runs were found; their splits are encoded again.
    Repairing,
    /// Volumes are kept by policy.
    VolumesRetained,
    /// Volumes are kept because nothing proves that their former owner is gone.
    VolumesStranded,
    /// A volume is kept because nothing proves that its former owner is gone: which proof is missing, and who could supply it.
    VolumeReleaseBlocked,
    /// No volume is held.
    NoVolumes,
    /// An object of the expected name belongs to somebody else.
    ForeignObject,
    /// A stage was frozen, and the object that held it is gone.
    StageLost,
    /// A permission is missing.
    MissingPermission,
    /// The refusal was tried and held.
    Enforced,
    /// The refusal was tried and did not hold: the fence is advisory.
    NotEnforced,
    /// The time allowed for cleaning up is over.
    CleanupTimedOut,
    /// The build's namespace is being deleted: nothing can be made in it any more, not even to clean up.
    NamespaceDeleted,
    /// The source is not any more what the plan pinned.
    SourceChanged,
    /// The source cannot be read.
    SourceUnreadable,
    /// A value of the source does not parse.
    InvalidData,
    /// A column is not in the source.
    MissingColumn,
    /// A column's type cannot be indexed.
    UnsupportedType,
    /// Two rows have one key in a unique index.
    DuplicateKey,
    /// Two rows have one row id.
    DuplicateRowId,
    /// A row id is NULL.
    NullRowId,
    /// A key is longer than the limit.
    KeyTooLong,
    /// The output belongs to another build.
    OutputConflict,
    /// The build's place holds a tombstone.
    Tombstoned,
    /// The result did not add up.
    VerificationFailed,
    /// An object is there and cannot be read: nothing is decided about its build until it can be.
    Unreadable,
    /// Something went wrong inside.
    InternalError,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

impl From<WorkErrorReason> for Reason {
    fn from(value: WorkErrorReason) -> Self {
        match value {
            WorkErrorReason::SourceChanged => Self::SourceChanged,
            WorkErrorReason::SourceUnreadable => Self::SourceUnreadable,
            WorkErrorReason::InvalidData => Self::InvalidData,
            WorkErrorReason::MissingColumn => Self::MissingColumn,
            WorkErrorReason::UnsupportedType => Self::UnsupportedType,
            WorkErrorReason::DuplicateKey => Self::DuplicateKey,
            WorkErrorReason::DuplicateRowId => Self::DuplicateRowId,
            WorkErrorReason::NullRowId => Self::NullRowId,
            WorkErrorReason::KeyTooLong => Self::KeyTooLong,
            WorkErrorReason::DamagedInput => Self::Repairing,
            WorkErrorReason::NoSpace => Self::WaitingForSpace,
            WorkErrorReason::Volume => Self::WaitingForVolume,
            WorkErrorReason::OutputConflict => Self::OutputConflict,
            WorkErrorReason::Tombstoned => Self::Tombstoned,
            WorkErrorReason::Verification => Self::VerificationFailed,
            WorkErrorReason::StoreUnavailable => Self::WaitingForStore,
            // Another set of words: what is one of that need not be one of this.
            WorkErrorReason::EngineLocked | WorkErrorReason::Internal | WorkErrorReason::Other(_) => {
                Self::InternalError
            }
        }
    }
}

/// Why an attempt at a work failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkErrorReason {
    /// The source is not any more what the plan pinned.
    SourceChanged,
    /// The source cannot be read.
    SourceUnreadable,
    /// A value of the source does not parse.
    InvalidData,
    /// A column is not in the source.
    MissingColumn,
    /// A column's type cannot be indexed.
    UnsupportedType,
    /// Two rows have one key in a unique index.
    DuplicateKey,
    /// Two rows have one row id.
    DuplicateRowId,
    /// A row id is NULL.
    NullRowId,
    /// A key is longer than the limit.
    KeyTooLong,
    /// A run or file that the work reads is damaged.
    DamagedInput,
    /// The volume is full.
    NoSpace,
    /// The volume cannot be read or written.
    Volume,
    /// The engine's lock is held by somebody else.
    EngineLocked,
    /// The output belongs to another build.
    OutputConflict,
    /// The build's place holds a tombstone.
    Tombstoned,
    /// The result did not add up.
    Verification,
    /// The object store does not answer.
    StoreUnavailable,
    /// Something went wrong inside.
    Internal,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

macro_rules! shown_by_name {
    ($($type:ty),+) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    Self::Other(word) => std::fmt::Display::fmt(word, f),
                    known => std::fmt::Debug::fmt(known, f),
                }
            }
        }
    )+};
}
pub(crate) use shown_by_name;

shown_by_name!(ConditionType, ConditionStatus, Reason, WorkErrorReason);
