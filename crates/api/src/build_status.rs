//! `IndexBuild`: what the operator says about it. Small, never one row per slot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{Condition, Reason, WorkErrorReason, shown_by_name};
use crate::word::Word;

/// What the operator says about a build.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IndexBuildStatus {
    /// The generation of the spec that this status was found for; 0: none yet.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// The build's conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the build is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How much is done, to be read: `37%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// How much is done, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// Executors that work, of those wanted, to be read: `3/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub executors: Option<String>,
    /// How many slots are in which state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotCounts>,
    /// How many works of the current stage are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works: Option<WorkCounts>,
    /// Rows read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Entries written, of all indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When the build began, or went on after its last pause; none while it pauses. `activeDeadlineSeconds` counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start_time: Option<String>,
    /// When the build will end, at the present rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub estimated_end_time: Option<String>,
    /// When the build ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finish_time: Option<String>,
    /// How many attempts failed, those of all works together, and were counted against `backoffLimitPerWork` and `backoffLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<u32>,
    /// The last error of an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What the build waited for last, whether or not it waits for it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wait: Option<LastWait>,
    /// The volumes held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeCounts>,
    /// The commit, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestStatus>,
    /// The stages that are frozen, each with the digest of what its `ConfigMap` holds. Written by compare-and-set, before
    /// that object is made: what stands in another one is not believed. Absent: an operator that kept no such list
    /// began the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub frozen_stages: Option<Vec<FrozenStage>>,
}

impl IndexBuildStatus {
    /// The condition of a type, if it is there.
    #[must_use]
    pub fn condition(&self, condition_type: crate::conditions::ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.condition_type == condition_type)
    }
}

/// What a build is doing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing has begun.
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
    /// It pauses.
    Suspended,
    /// It was aborted, and what it wrote is being removed.
    Aborting,
    /// The index is published.
    Complete,
    /// There will be no index.
    Failed,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

shown_by_name!(Phase);

/// How many slots are in which state.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SlotCounts {
    /// Slots wanted.
    #[serde(default)]
    pub desired: u32,
    /// Slots whose owner works.
    #[serde(default)]
    pub working: u32,
    /// Slots whose owner waits for something.
    #[serde(default)]
    pub waiting: u32,
    /// Slots whose owner is silent.
    #[serde(default)]
    pub silent: u32,
}

/// How many works of a stage are done.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkCounts {
    /// The stage: `plan`, `encode`, `encode-r1`, `sort`, `publish`, `clean`.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Works of the stage.
    pub total: u32,
    /// Works whose result is chosen.
    pub done: u32,
}

/// How many volumes are held, and why.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeCounts {
    /// All volumes of the build.
    #[serde(default)]
    pub held: u32,
    /// Of them, those whose former owner is not proved gone.
    #[serde(default)]
    pub stranded: u32,
    /// Of them, those kept by policy.
    #[serde(default)]
    pub retained: u32,
}

/// The last error of an attempt.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The work that failed.
    #[schemars(length(max = 64))]
    pub work_id: String,
    /// Why, in one word.
    pub reason: WorkErrorReason,
    /// What, where, and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// A stage that is frozen.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FrozenStage {
    /// `plan`, `encode`, `encode-r1`, `sort`, `publish`, `clean`, `clean-index`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// SHA-256 of the text under `stage.json`, in hexadecimal.
    #[schemars(length(min = 1, max = 64))]
    pub digest: String,
}

/// What a build waited for last.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastWait {
    /// Why, in one word.
    pub reason: Reason,
    /// For what, and what ends it.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when, as far as it waited for nothing else meanwhile.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

/// The commit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ManifestStatus {
    /// Where the manifest is.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// The digest of its content.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// The entries of all indexes.
    pub entries: u64,
    /// The bytes of all files.
    pub bytes: u64,
}
