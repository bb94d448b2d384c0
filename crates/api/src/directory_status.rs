//! `EngineDirectory`: what is reported of a slot. One part is the operator's, one the owner's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{Condition, Reason, WorkErrorReason, shown_by_name};
use crate::vocabulary::Epoch;
use crate::word::Word;

/// What is reported of a slot: `claim` and `report` by its owner, everything else by the operator.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EngineDirectoryStatus {
    /// What the slot is doing.
    #[serde(default)]
    pub state: DirectoryState,
    /// The slot's conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last changes of owner, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<OwnerChange>,
    /// Which process of the granted pod claims the slot. Written by the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub claim: Option<Claim>,
    /// How far the owner is. Replaced as a whole (G4). Written by the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub report: Option<Report>,
    /// Which owners have ended in peace, by the UID of their pods. Each one's last word, written by itself, once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub released: BTreeMap<String, Release>,
}

/// An owner's word that it has closed everything of its volume and opens nothing of it any more.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The epoch that it had the volume with.
    #[schemars(range(min = 1))]
    pub epoch: Epoch,
    /// The nonce of its process.
    #[schemars(length(min = 1, max = 36))]
    pub boot_nonce: String,
    /// The claim of the volume.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// The number of owner changes that a record remembers.
pub const HISTORY_LENGTH: usize = 20;

/// What a slot is doing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectoryState {
    /// It has no owner and no work.
    #[default]
    Idle,
    /// It has a grant; its pod or process is on the way.
    Starting,
    /// Its owner works.
    Working,
    /// Its owner waits for something it named.
    Waiting,
    /// Its owner is silent, within the build's patience.
    Silent,
    /// Its owner is asked to stop.
    Stopping,
    /// The build pauses.
    Suspended,
    /// It waits before the next attempt.
    BackingOff,
    /// The build has no more work for it.
    Finished,
    /// The build is gone; a volume is not accounted for.
    Tombstone,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip, !untagged)]
    Other(Word),
}

shown_by_name!(DirectoryState);

/// A change of owner.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OwnerChange {
    /// The new owner's epoch.
    pub epoch: Epoch,
    /// The new owner's pod UID; empty when the pod did not exist yet.
    #[serde(rename = "podUID", default)]
    #[schemars(length(max = 36))]
    pub pod_uid: String,
    /// The new owner's pod.
    #[schemars(length(max = 63))]
    pub pod_name: String,
    /// Why the owner changed.
    pub reason: OwnerChangeReason,
    /// When.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// The volume that the new owner works on.
    #[serde(default)]
    pub volume_generation: u32,
    /// The claim of that volume; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub claim_name: String,
    /// The nonce of the new owner's process; empty until it has claimed. With the epoch, it names the directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36))]
    pub boot_nonce: String,
    /// The node where the new owner runs; empty until its pod is bound.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// What the new owner works on; empty when there is nothing for the slot to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub work_id: String,
    /// When that work was done, by the owner's clock: from then on it waited for the next one. For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub work_ended: Option<String>,
}

/// Why a slot's owner, or its work, changed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerChangeReason {
    /// The slot's first owner.
    FirstOwner,
    /// The same process takes its next work.
    NextWork,
    /// The former owner is proved gone; its volume goes on with a new one.
    Rebound,
    /// The former owner was silent for too long; a new one works on a new volume.
    Replaced,
    /// A former owner came back before its replacement had caught up.
    Returned,
    /// The former owner's attempt failed.
    AttemptFailed,
    /// The former owner's work did not advance.
    NoProgress,
    /// The former owner's process ended.
    OwnerEnded,
    /// The build pauses.
    Suspended,
    /// The build goes on after a pause.
    Resumed,
    /// The slot is not wanted any more.
    ScaledDown,
    /// The slot's work is not wanted any more.
    Revoked,
    /// The build was aborted.
    Aborted,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip, !untagged)]
    Other(Word),
}

shown_by_name!(OwnerChangeReason);

/// Which process of the granted pod claims the slot.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The caller's pod UID.
    #[serde(rename = "podUID")]
    #[schemars(length(min = 1, max = 36))]
    pub pod_uid: String,
    /// The nonce that the process drew at its start.
    #[schemars(length(min = 1, max = 36))]
    pub boot_nonce: String,
    /// The boot id of the kernel that the process runs on, as it reads it itself; empty: it could not, or is older.
    #[serde(rename = "bootID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
}

/// How far an owner is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The epoch that the report speaks for.
    #[schemars(range(min = 1))]
    pub epoch: Epoch,
    /// The process that it speaks for.
    #[schemars(length(max = 36))]
    pub boot_nonce: String,
    /// When the owner wrote it, by its own clock (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub renew_time: String,
    /// How much of the work is done, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub progress: Option<f64>,
    /// Rows read, or entries sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The step of the work that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub step: Option<String>,
    /// What the owner waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<ReportedWait>,
    /// The work's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<WorkResult>,
    /// Why the attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkError>,
    /// The owner's process ends after this report: it takes no further work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// What an owner waits for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReportedWait {
    /// Why, in one word.
    pub reason: Reason,
    /// For what, and what would end it.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Whether it goes on only when somebody does something; without it, it may pass by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_help: bool,
}

/// The result of an attempt at a work.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkResult {
    /// The work.
    #[schemars(length(min = 1, max = 64))]
    pub work_id: String,
    /// The attempt's epoch.
    pub epoch: Epoch,
    /// The digest of the attempt's `result.json`.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// Rows read.
    #[serde(default)]
    pub rows: u64,
    /// Entries written.
    #[serde(default)]
    pub entries: u64,
    /// Bytes written.
    #[serde(default)]
    pub bytes: u64,
    /// Whether what it wrote is on the slot's volume alone.
    #[serde(default)]
    pub on_volume: bool,
    /// Of a Plan: how many Encode works there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encode_works: Option<u32>,
    /// Of a Plan: how many Sort works there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_works: Option<u32>,
    /// Of a Clean: whether it found a committed index, which it left as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub committed: bool,
    /// When it was done, by the owner's clock. For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished: Option<String>,
}

/// Why an attempt failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkError {
    /// Why, in one word.
    pub reason: WorkErrorReason,
    /// What, where, and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Whether another attempt may succeed.
    #[serde(default)]
    pub retryable: bool,
    /// The splits whose runs are damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "atomic"))]
    pub damaged_splits: Vec<u32>,
}
