//! The volumes that executors work on.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::shown_by_name;
use crate::quantity::Quantity;
use crate::word::Word;

/// The volume of each slot. A local run uses folders instead.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSpec {
    /// The storage class; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// The size of a slot's volume; a change holds for volumes made from then on.
    #[serde(default = "default_size")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity('64Mi')) >= 0")
            .message("size must be at least 64Mi: a volume holds the encoded runs and one lane's files")
    )]
    pub size: Quantity,
    /// What becomes of the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<VolumeRetention>,
}

impl VolumeSpec {
    /// The size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size.ceil()
    }
}

impl Default for VolumeSpec {
    fn default() -> Self {
        Self { storage_class_name: None, size: default_size(), retention: None }
    }
}

fn default_size() -> Quantity {
    Quantity::from_bytes(10 << 30)
}

/// What becomes of a build's volumes at its end.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRetention {
    /// When the index is published.
    #[serde(default = "delete")]
    pub when_published: Retention,
    /// When the build has failed.
    #[serde(default = "retain")]
    pub when_failed: Retention,
    /// When the build is deleted, whether it had ended or not.
    #[serde(default = "delete")]
    pub when_deleted: Retention,
}

impl Default for VolumeRetention {
    fn default() -> Self {
        Self { when_published: delete(), when_failed: retain(), when_deleted: delete() }
    }
}

fn delete() -> Retention {
    Retention::Delete
}

fn retain() -> Retention {
    Retention::Retain
}

/// What becomes of a volume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retention {
    /// It stays.
    Retain,
    /// It is deleted, once its owner is proved gone.
    Delete,
    /// A word that a later version has and this one does not know. It is carried as it is, and proves nothing.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(Word),
}

shown_by_name!(Retention);
