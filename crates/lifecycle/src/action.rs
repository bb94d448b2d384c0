//! What may be done: an ordered, closed set. What destroys something takes its proof as an argument.

use indexbuild_api::{
    Condition, DirectoryState, EngineDirectorySpec, Epoch, FrozenStage, IndexBuildStatus, OwnerChangeReason, Reason,
};

use crate::evidence::{Condemned, Evidence};
use crate::world::{Millis, Stage};

/// What to do next about a build.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The actions, in their order. One that fails does not hinder the others; the next pass looks again.
    pub actions: Vec<Action>,
    pub status: IndexBuildStatus,
    /// After how long to look again, at the latest.
    pub requeue: Millis,
    /// Set when nothing is left to do.
    pub end: Option<End>,
    /// What is waited for, each with its deadline (I5).
    pub waits: Vec<Wait>,
    pub events: Vec<Event>,
    /// What the build leaves behind that nobody looks after any more, where it is let go by this decision: one of the
    /// events, to be told before.
    pub leaves: Option<Event>,
    /// Where it writes the list of frozen stages: the status that is true once that is written, and may be said in that write, so that
    /// a turn of the build costs one. `None`: it writes none, or what follows is told by an event too, after it was read.
    pub said_with_stages: Option<IndexBuildStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Complete,
    Failed,
    /// The build was deleted or cancelled.
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub reason: Reason,
    pub slot: Option<u32>,
    /// What is waited for, and for which object.
    pub what: String,
    /// When the wait is over, on the observer's clock.
    pub until: Millis,
    /// Whether something else is done then; if not, it is looked at again, and waited for on.
    pub acts: bool,
    /// What ends it, and what is done at the deadline.
    pub ends_when: String,
    /// Whether the build needs somebody's help, whatever others do meanwhile.
    pub stalls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub reason: Reason,
    /// Whether somebody may want to act on it.
    pub warning: bool,
    /// What, about which object, and what would end it.
    pub message: String,
}

/// Why a pod is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// A higher epoch took its place.
    Superseded,
    Suspended,
    /// The slot is not wanted any more.
    ScaledDown,
    /// Its work does not advance.
    NoProgress,
    /// Our container in it has ended, and another one runs on.
    OwnerEnded,
    /// The build has ended, or is being aborted.
    BuildEnded,
    /// It has ended already; only its object is removed, as nothing refers to it.
    Ended,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer on the build.
    AddFinalizer,
    RemoveFinalizer,
    /// Make the record of a slot. If there is one, nothing happens.
    CreateDirectory {
        slot: u32,
        spec: EngineDirectorySpec,
    },
    /// Change the record of a slot by compare-and-set (G1).
    UpdateDirectory {
        slot: u32,
        /// The `resourceVersion` that was looked at.
        version: String,
        spec: EngineDirectorySpec,
        /// The new `status.state`. `Tombstone`: the record outlives its build, and loses its owner reference first.
        state: DirectoryState,
        /// Appended to `status.history` when the owner or its work changes.
        change: Option<OwnerChangeReason>,
        /// The new `status.conditions`.
        conditions: Vec<Condition>,
    },
    /// Remove the record of a slot, none of whose volumes is unaccounted for.
    DeleteDirectory {
        slot: u32,
        /// The `resourceVersion` that was looked at.
        version: String,
    },
    /// Make a volume's claim.
    CreateClaim {
        slot: u32,
        generation: u32,
        name: String,
    },
    /// Make an owner's pod, or process.
    CreatePod {
        slot: u32,
        epoch: Epoch,
        /// Its name: contains the epoch (G10).
        name: String,
        claim: String,
    },
    /// Ask a pod to stop, by UID, with its full grace period. Never by force.
    StopPod {
        name: String,
        /// Its UID: a precondition.
        uid: String,
        reason: StopReason,
    },
    /// Delete a volume's claim, by UID. Cannot be made without the proofs (G7, I4).
    DeleteClaim {
        name: String,
        /// Its UID: a precondition.
        uid: String,
        /// The proof that the record says so already.
        condemned: Condemned,
        /// The proof that its former owner can no longer write it.
        evidence: Evidence,
    },
    /// Leave a volume's claim to whoever wants its data, as the policy of its build, which is gone, says: no record
    /// refers to it any more, and people are told where it is.
    KeepClaim {
        slot: u32,
        name: String,
        uid: String,
        /// The proof that its former owner can no longer write it.
        evidence: Evidence,
    },
    /// Say in the build's status, by compare-and-set, which stages are frozen: all of them, with their digests (G2).
    RecordStages {
        stages: Vec<FrozenStage>,
    },
    /// Make the immutable `ConfigMap` of a stage whose digest the build's status has: create-if-absent (G6).
    FreezeStage {
        stage: Stage,
    },
}

impl Action {
    /// What it is called in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "AddFinalizer",
            Self::RemoveFinalizer => "RemoveFinalizer",
            Self::CreateDirectory { .. } => "CreateDirectory",
            Self::UpdateDirectory { .. } => "UpdateDirectory",
            Self::DeleteDirectory { .. } => "DeleteDirectory",
            Self::CreateClaim { .. } => "CreateClaim",
            Self::CreatePod { .. } => "CreatePod",
            Self::StopPod { .. } => "StopPod",
            Self::DeleteClaim { .. } => "DeleteClaim",
            Self::KeepClaim { .. } => "KeepClaim",
            Self::RecordStages { .. } => "RecordStages",
            Self::FreezeStage { .. } => "FreezeStage",
        }
    }
}

impl Action {
    /// Whether it takes something away. At most one of these is in a decision.
    #[must_use]
    pub const fn is_destructive(&self) -> bool {
        match self {
            Self::StopPod { .. } | Self::DeleteClaim { .. } | Self::DeleteDirectory { .. } => true,
            Self::AddFinalizer
            | Self::RemoveFinalizer
            | Self::CreateDirectory { .. }
            | Self::UpdateDirectory { .. }
            | Self::CreateClaim { .. }
            | Self::CreatePod { .. }
            | Self::KeepClaim { .. }
            | Self::RecordStages { .. }
            | Self::FreezeStage { .. } => false,
        }
    }
}
