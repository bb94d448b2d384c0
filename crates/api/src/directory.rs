//! `EngineDirectory`: the record of one slot. The operator's part.
// Several printer columns have a type or a priority in common.
#![allow(clippy::duplicated_attributes)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::shown_by_name;
use crate::directory_status::{EngineDirectoryStatus, OwnerChange};
use crate::duration::Duration;
use crate::vocabulary::Epoch;
use crate::volume::Retention;
use crate::word::Word;

/// The record of one slot: who owns its volume, what it works on, and which results count. Every write
/// of the spec is a compare-and-set on `resourceVersion` (G1).
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "indexbuild.dev",
    version = "v1alpha1",
    kind = "EngineDirectory",
    plural = "enginedirectories",
    singular = "enginedirectory",
    shortname = "ed",
    category = "indexing",
    namespaced,
    status = "EngineDirectoryStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The record of one slot of a build: who owns its volume, what it works on, and which results count. Written by the operator and by the slot's owner, never by people.",
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".spec.grant.epoch",
        description = "The current owner's number"
    ),
    printcolumn(
        name = "Owner",
        type_ = "string",
        json_path = ".spec.grant.podName",
        description = "The current owner's pod"
    ),
    printcolumn(name = "Work", type_ = "string", json_path = ".spec.work.id", description = "What it works on"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "What the slot is doing"),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".spec.grant.nodeName",
        description = "Where",
        priority = 1
    ),
    printcolumn(
        name = "Volume",
        type_ = "string",
        json_path = ".spec.volume.claimName",
        description = "The slot's volume",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Waiting",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Waiting\")].message",
        description = "What the slot waits for, until when, and what ends it",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.buildUID == oldSelf.buildUID && self.buildName == oldSelf.buildName && self.slot == oldSelf.slot")
        .message("the slot's identity is immutable"),
    validation = Rule::new("!has(oldSelf.grant) || (has(self.grant) && (self.grant == oldSelf.grant || self.grant.epoch == oldSelf.grant.epoch + 1 || (self.grant.epoch == oldSelf.grant.epoch && self.grant.podName == oldSelf.grant.podName && (oldSelf.grant.podUID == '' || self.grant.podUID == oldSelf.grant.podUID) && (oldSelf.grant.bootNonce == '' || self.grant.bootNonce == oldSelf.grant.bootNonce) && (oldSelf.grant.nodeName == '' || self.grant.nodeName == oldSelf.grant.nodeName) && (oldSelf.grant.bootID == '' || self.grant.bootID == oldSelf.grant.bootID) && (oldSelf.grant.systemUUID == '' || self.grant.systemUUID == oldSelf.grant.systemUUID))))")
        .message("the epoch rises by one with every change of owner; within an epoch podUID, bootNonce and the machine are set once")
        .field_path(".grant"),
    validation = Rule::new("!has(self.grant) || ((self.grant.nodeName == '' || self.grant.podUID != '') && (self.grant.bootID == '' || self.grant.bootNonce != '') && (self.grant.systemUUID == '' || (self.grant.nodeName != '' && self.grant.bootID != '')))")
        .message("the machine is that of a bound process: a node of its pod, a boot id of its nonce, a systemUUID of both")
        .field_path(".grant"),
    validation = Rule::new("!has(oldSelf.grant) || !has(self.grant) || (has(self.work) == has(oldSelf.work) && (!has(self.work) || self.work == oldSelf.work)) || self.grant.epoch == oldSelf.grant.epoch + 1")
        .message("a change of work raises the epoch")
        .field_path(".work"),
    validation = Rule::new("!has(self.work) || has(self.grant)")
        .message("work needs a grant")
        .field_path(".work"),
    validation = Rule::new("!has(self.volume) || !has(oldSelf.volume) || self.volume.generation > oldSelf.volume.generation || (self.volume.generation == oldSelf.volume.generation && (oldSelf.volume.claimUID == '' || self.volume.claimUID == oldSelf.volume.claimUID) && self.volume.claimName == oldSelf.volume.claimName)")
        .message("another volume has a higher generation; within a generation claimUID is set once")
        .field_path(".volume"),
    validation = Rule::new("!has(self.volume) || !has(oldSelf.volume) || self.volume.generation != oldSelf.volume.generation || !oldSelf.volume.condemned || self.volume.condemned")
        .message("a condemned volume stays condemned")
        .field_path(".volume"),
    validation = Rule::new("!has(self.volume) || !has(oldSelf.volume) || self.volume.generation != oldSelf.volume.generation || !oldSelf.volume.condemned || !has(self.grant) || (has(oldSelf.grant) && self.grant.epoch == oldSelf.grant.epoch)")
        .message("nothing is granted on a condemned volume")
        .field_path(".grant"),
    validation = Rule::new("!has(self.grant) || !has(self.grant.attached) || (has(oldSelf.grant) && (has(oldSelf.grant.attached) ? self.grant.attached == oldSelf.grant.attached && self.grant.podUID == oldSelf.grant.podUID && self.grant.bootNonce == oldSelf.grant.bootNonce : self.grant.epoch == oldSelf.grant.epoch && oldSelf.grant.bootNonce == '' && self.grant.bootNonce != ''))")
        .message("that a volume was attached is said in the write that binds the process, once, and goes with that process alone")
        .field_path(".grant")
)]
pub struct EngineDirectorySpec {
    /// The build's name.
    #[schemars(length(min = 1, max = 40))]
    pub build_name: String,
    /// The build's UID.
    #[serde(rename = "buildUID")]
    #[schemars(length(min = 1, max = 36))]
    pub build_uid: String,
    /// The slot's number, from 0.
    #[schemars(range(min = 0, max = 9999))]
    pub slot: u32,
    /// How often the owner renews its report.
    #[serde(default)]
    pub renew_interval: Duration,
    /// Who owns the slot. Absent: nobody yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub grant: Option<Grant>,
    /// What the owner works on. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub work: Option<Work>,
    /// The slot's current volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub volume: Option<VolumeRef>,
    /// Volumes that the slot had and that are not accounted for yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["claimName"]))]
    pub former_volumes: Vec<FormerVolume>,
    /// How many attempts of this slot failed and count against `backoffLimit`: raised in the write that ends
    /// the attempt, so that each is counted once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: u32,
    /// The works, not done yet, at which attempts of this slot failed: each is counted in the write that ends the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["workId"]))]
    pub work_failures: Vec<WorkFailures>,
    /// The results that count, by work; once the stage's `ConfigMap` exists, the record's next write empties it (G2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["workId"]))]
    pub chosen: Vec<Chosen>,
    /// What of the slot's past decides.
    #[serde(default, skip_serializing_if = "Past::is_unknown")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub past: Past,
    /// Changes of owner or work that `status.history` does not tell yet: written with the grant that they are about, so that a work
    /// that is soon done costs no other write, and told with the status' next one. They decide nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub untold: Vec<OwnerChange>,
    /// What decides about the slot's volumes once the build is gone. Absent (an older version wrote the record): they
    /// are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub after_build: Option<AfterBuild>,
}

/// How often attempts at a work failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkFailures {
    /// The work.
    #[schemars(length(min = 1, max = 63))]
    pub work_id: String,
    /// How many attempts of this slot failed at it, and count against `backoffLimitPerWork`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failed_attempts: u32,
}

/// What of a slot's past decides. It is written with the grant that it leads to, in one compare-and-set: the history in the
/// status tells the same to people, and decides nothing. All is 0 in a record that an older version wrote.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// The epoch that the record was made with; 0: not known.
    #[serde(default)]
    pub first_epoch: Epoch,
    /// The last epoch that a process got for its next work, as it had done the one before; 0: none.
    #[serde(default)]
    pub next_work_epoch: Epoch,
    /// How often the owner changed since the slot's work last advanced.
    #[serde(default)]
    pub tries: u32,
    /// How many of these changes followed an attempt that failed.
    #[serde(default)]
    pub failed_tries: u32,
    /// How many of the latest changes followed, one after the other, an attempt that failed.
    #[serde(default)]
    pub failures_in_a_row: u32,
    /// How many of the latest changes followed, one after the other, an end that was no failure.
    #[serde(default)]
    pub ends_in_a_row: u32,
    /// How many of the latest changes were, one after the other, replacements of a silent owner.
    #[serde(default)]
    pub replacements_in_a_row: u32,
}

impl Past {
    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// What decides about a record's volumes once its build is gone. Each write of the record takes it from the build's spec,
/// at the latest the one that follows the build's deletion, so that nobody has to guess afterwards what was asked for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AfterBuild {
    /// What becomes of a volume whose last owner is proved gone: the build's `spec.volume.retention.whenDeleted`.
    pub volumes: Retention,
    /// After so long without a word from a pod of the slot, the record no longer waits for it: the build's
    /// `spec.disruption.replaceAfter`.
    pub replace_after: Duration,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// To whom the slot's current epoch belongs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The fencing token: rises by one with every change of owner or work.
    #[schemars(range(min = 1))]
    pub epoch: Epoch,
    /// The owner's pod.
    #[schemars(length(min = 1, max = 63))]
    pub pod_name: String,
    /// The pod's UID; empty until the pod exists.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 36))]
    pub pod_uid: String,
    /// The nonce of the pod's process; empty until it has claimed.
    #[schemars(length(max = 36))]
    pub boot_nonce: String,
    /// The node that the pod is on; empty until the pod is bound.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// The boot id of the kernel that the process runs on, as the process says itself; empty: it has not said.
    #[serde(rename = "bootID", default)]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// What the machine is, whatever its node is called (`systemUUID`): filled in when the Node, read after the process
    /// had spoken, shows the process's own boot id. Another boot id of this machine proves the process gone. Empty: the
    /// Node never showed it, as with a sandboxed runtime, which has a kernel of its own, and a reboot proves nothing.
    #[serde(rename = "systemUUID", default)]
    #[schemars(length(max = 64))]
    pub system_uuid: String,
    /// That the volume was attached to the process's node when the process was bound, as was read live in the pass that bound
    /// it. Absent (nothing attached it, or an older version bound it): that it is detached later proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
}

/// That a volume was attached to a node: a `VolumeAttachment` of it to that node said so (`status.attached`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The CSI driver that attached it; of a volume of an in-tree kind, the driver that Kubernetes migrates it to.
    #[schemars(length(min = 1, max = 63))]
    pub driver: String,
    /// The `PersistentVolume`.
    #[schemars(length(min = 1, max = 253))]
    pub volume: String,
    /// The node that it was attached to.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
}

/// One thing for a slot to do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// `plan`, `encode-<i>`, `encode-r<round>-<i>`, `sort-<i>`, `publish`, `clean`.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// Which kind of work.
    pub kind: WorkKind,
    /// The digest of what the work reads.
    #[schemars(length(max = 64))]
    pub inputs_digest: String,
    /// Where Encode leaves its runs.
    #[serde(default)]
    pub runs: RunLocation,
    /// In a repair round: the splits to encode again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "atomic"))]
    pub splits: Vec<u32>,
    /// The frozen stages that the work reads: `plan`, `encode`, `encode-r1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)), extend("x-kubernetes-list-type" = "atomic"))]
    pub inputs: Vec<String>,
    /// The digests of what those stages hold, in the same order: an executor believes no other text. Absent (an older
    /// operator granted the work, or a local parent speaks for them itself): they are taken as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)), extend("x-kubernetes-list-type" = "atomic"))]
    pub input_digests: Vec<String>,
    /// Of a Clean: whether a committed index goes too, because its build was deleted and its policy says so. The
    /// process that cleans may be older than the deletion, and does not know of it otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removes_index: bool,
    /// Of a Clean: whether the slot's own volume is wanted as it is (spec.volume.retention).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_volume: bool,
}

/// Kinds of work.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkKind {
    /// Pin the snapshot, list splits, sample, fix the ranges.
    Plan,
    /// Read splits, encode entries, scatter them into runs.
    Encode,
    /// Collect a lane, sort its ranges, write files.
    Sort,
    /// Check that everything adds up, then commit.
    Publish,
    /// Remove what is not needed any more; of an aborted build: tombstone first.
    Clean,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip, !untagged)]
    Other(Word),
}

/// Where Encode leaves its runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RunLocation {
    /// In the object store.
    #[default]
    Store,
    /// On the slot's volume alone: with one slot, which also sorts them.
    Volume,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip, !untagged)]
    Other(Word),
}

/// The current volume of a slot.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRef {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The claim's UID; empty until it exists.
    #[serde(rename = "claimUID", default)]
    #[schemars(length(max = 36))]
    pub claim_uid: String,
    /// The number of this volume among the slot's.
    #[serde(default)]
    pub generation: u32,
    /// Whether it is about to be deleted (G7): written here before it is.
    #[serde(default)]
    pub condemned: bool,
}

/// A volume that a slot had, and the owner it had it with.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.claimUID != oldSelf.claimUID || !oldSelf.condemned || self.condemned")
        .message("a condemned volume stays condemned"),
    validation = Rule::new("self.claimUID != oldSelf.claimUID || self.podUID != oldSelf.podUID || !has(self.attached) || (has(oldSelf.attached) && self.attached == oldSelf.attached)")
        .message("that a volume was attached is said in the write that binds the process, once, and goes with that process alone")
)]
pub struct FormerVolume {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The claim's UID.
    #[serde(rename = "claimUID")]
    #[schemars(length(max = 36))]
    pub claim_uid: String,
    /// The number of this volume among the slot's.
    pub generation: u32,
    /// Whether it is about to be deleted (G7).
    pub condemned: bool,
    /// The pod of its last owner.
    #[schemars(length(max = 63))]
    pub pod_name: String,
    /// That pod's UID.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 36))]
    pub pod_uid: String,
    /// The nonce of its last owner's process.
    #[schemars(length(max = 36))]
    pub boot_nonce: String,
    /// The epoch of its last owner.
    pub epoch: Epoch,
    /// The node where that pod ran.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// The boot id of the kernel that its process ran on, as it said itself. What an older version wrote as `nodeBootID`
    /// was the node's when the pod was bound: it is not read, as the node may have rebooted before the pod began.
    #[serde(rename = "bootID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub boot_id: String,
    /// What the machine is, whatever its node is called (`systemUUID`); empty: its Node never showed that boot id, and a
    /// reboot proves nothing.
    #[serde(rename = "systemUUID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub system_uuid: String,
    /// That it was attached to that owner's node (`grant.attached`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
    /// What is known of the volume.
    pub state: VolumeState,
}

/// What is known of a volume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VolumeState {
    /// An owner works on it.
    #[default]
    Owned,
    /// Its owner is proved gone.
    Idle,
    /// Nothing proves that its former owner is gone.
    Stranded,
    /// Another volume took its place.
    Superseded,
    /// Its data is lost.
    Lost,
    /// It is being deleted.
    Terminating,
    /// It belongs to somebody else.
    Foreign,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip, !untagged)]
    Other(Word),
}

shown_by_name!(WorkKind, RunLocation, VolumeState);

/// The result of a work that counts. Never changes (G2): the API server compares entries by their work.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("what was chosen for a work never changes")
)]
pub struct Chosen {
    /// The work.
    #[schemars(length(min = 1, max = 64))]
    pub work_id: String,
    /// The attempt's epoch.
    pub epoch: Epoch,
    /// The attempt's nonce.
    #[schemars(length(max = 36))]
    pub boot_nonce: String,
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
}
