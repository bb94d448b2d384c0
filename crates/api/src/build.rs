//! `IndexBuild`: what the user asks for.
// Several printer columns have a type or a priority in common.
#![allow(clippy::duplicated_attributes)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::build_status::IndexBuildStatus;
use crate::disruption::{DisruptionSpec, renew_interval};
use crate::duration::Duration;
use crate::executor::ExecutorSpec;
use crate::indexes::{IndexSpec, RowIdSpec};
use crate::output::OutputSpec;
use crate::source::SourceSpec;
use crate::volume::VolumeSpec;

/// The most characters that a build's name may have: the names of its parts embed it.
pub const MAX_BUILD_NAME: usize = 40;

/// Builds secondary indexes over a table: reads it once, and writes globally ordered, ingest-ready RocksDB SST files and one manifest.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "indexbuild.dev",
    version = "v1alpha1",
    kind = "IndexBuild",
    plural = "indexbuilds",
    singular = "indexbuild",
    shortname = "ib",
    category = "indexing",
    namespaced,
    status = "IndexBuildStatus",
    derive = "PartialEq",
    doc = "Builds secondary indexes over a table: reads it once, and writes globally ordered, ingest-ready RocksDB SST files and one manifest.",
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name must have at most 40 characters, as the names of the build's parts embed it: choose a shorter name"),
    validation = Rule::new("!self.metadata.name.contains('.')")
        .message("metadata.name must not contain dots, as the names of pods and volumes embed it: use hyphens"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the index is published"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "What the build is doing"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "How much of the work is done"),
    printcolumn(name = "Executors", type_ = "string", json_path = ".status.executors", description = "Executors that work, of those wanted"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.rows", description = "Rows read"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes", description = "Bytes of the index's files", priority = 1),
    printcolumn(name = "Volumes", type_ = "integer", json_path = ".status.volumes.held", description = "Volumes held", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "What is going on", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.source == oldSelf.source")
        .message("source is immutable: make a new build for another table")
        .field_path(".source"),
    validation = Rule::new("has(self.rowId) == has(oldSelf.rowId) && (!has(self.rowId) || self.rowId == oldSelf.rowId)")
        .message("rowId is immutable: make a new build to name rows otherwise")
        .field_path(".rowId"),
    validation = Rule::new("self.indexes == oldSelf.indexes")
        .message("indexes is immutable: make a new build for other indexes")
        .field_path(".indexes"),
    validation = Rule::new("self.output.url == oldSelf.output.url && has(self.output.endpoint) == has(oldSelf.output.endpoint) && (!has(self.output.endpoint) || self.output.endpoint == oldSelf.output.endpoint) && has(self.output.region) == has(oldSelf.output.region) && (!has(self.output.region) || self.output.region == oldSelf.output.region)")
        .message("the place of the output (url, endpoint, region) is immutable: make a new build to write elsewhere")
        .field_path(".output.url"),
    validation = Rule::new("self.output.compression == oldSelf.output.compression && self.output.targetFileSize == oldSelf.output.targetFileSize")
        .message("compression and targetFileSize are immutable: make a new build to write other files")
        .field_path(".output"),
    validation = Rule::new("(has(self.output.bloomBitsPerKey) ? self.output.bloomBitsPerKey : 0) == (has(oldSelf.output.bloomBitsPerKey) ? oldSelf.output.bloomBitsPerKey : 0)")
        .message("bloomBitsPerKey is immutable: make a new build to write other files")
        .field_path(".output"),
    validation = Rule::new("!has(self.output.bloomBitsPerKey) || self.output.bloomBitsPerKey == 0 || self.indexes.exists(index, has(index.unique) && index.unique)")
        .message("bloomBitsPerKey is for unique indexes, and no index is unique: say `unique: true` of the index that is, or leave bloomBitsPerKey out")
        .field_path(".output.bloomBitsPerKey"),
    validation = Rule::new("(has(self.volume) && has(self.volume.storageClassName) ? self.volume.storageClassName : '') == (has(oldSelf.volume) && has(oldSelf.volume.storageClassName) ? oldSelf.volume.storageClassName : '')")
        .message("volume.storageClassName is immutable: make a new build to use another class")
        .field_path(".volume"),
    validation = Rule::new("!has(self.disruption) || duration(self.disruption.replaceAfter) >= duration('15s')")
        .message("disruption.replaceAfter must be at least 15s, three renew intervals: a shorter patience would replace executors that are well")
        .field_path(".disruption.replaceAfter"),
    validation = Rule::new("!has(self.disruption) || duration(self.disruption.replaceAfter).getSeconds() * 1000 >= self.parallelism * 150")
        .message("disruption.replaceAfter must be at least three renew intervals, which is parallelism x 150ms: give a longer replaceAfter or a smaller parallelism")
        .field_path(".disruption.replaceAfter")
)]
pub struct IndexBuildSpec {
    /// Where the table is read from. Immutable.
    pub source: SourceSpec,
    /// What names a row; without it, its place in the source does. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_id: Option<RowIdSpec>,
    /// The indexes, all built in one scan of the table. Immutable.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub indexes: Vec<IndexSpec>,
    /// Where the indexes are written, and how. Its place and format are immutable.
    pub output: OutputSpec,
    /// How many executors work at the same time. May be changed while the build runs.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: u32,
    /// The volume of each executor. Its class is immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSpec>,
    /// How long the build is patient with an executor that is cut off. May be changed while the build runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<DisruptionSpec>,
    /// How many failed attempts at one work the build survives: the first work that fails more often fails it. May be changed while the build runs.
    #[serde(default = "default_backoff_limit_per_work")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit_per_work: u32,
    /// How many failed attempts the build survives, those of all works together; absent: any number. May be changed while the build runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub backoff_limit: Option<u32>,
    /// For how long the build may be active, in seconds of wall time since `status.startTime`; absent: any time. As a Job's: a pause stops it, and it begins anew afterwards; a committed index is never failed by it. May be changed while the build runs, to a longer or a shorter one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub active_deadline_seconds: Option<u64>,
    /// The most rows that all executors together read in a second; absent: unlimited. May be changed while the build runs: executors at work hear of it within two minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub rows_per_second: Option<u64>,
    /// Whether the build pauses: executors end, volumes stay. May be changed while the build runs.
    #[serde(default)]
    pub suspend: bool,
    /// The pods that executors run in. Changes hold from the next pod on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorSpec>,
}

impl IndexBuildSpec {
    /// The patience that holds, with what is absent filled in.
    #[must_use]
    pub fn disruption_or_default(&self) -> DisruptionSpec {
        self.disruption.unwrap_or_default()
    }

    /// The volume that holds, with what is absent filled in.
    #[must_use]
    pub fn volume_or_default(&self) -> VolumeSpec {
        self.volume.clone().unwrap_or_default()
    }

    /// The pods that hold, with what is absent filled in.
    #[must_use]
    pub fn executor_or_default(&self) -> ExecutorSpec {
        self.executor.clone().unwrap_or_default()
    }

    /// The one memory figure: what an executor may use, in bytes.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> u64 {
        self.executor_or_default().memory_limit_bytes()
    }

    /// How many threads work in an executor.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.executor_or_default().threads()
    }

    /// How often an owner renews its report.
    #[must_use]
    pub fn renew_interval(&self) -> Duration {
        renew_interval(self.parallelism)
    }
}

impl Default for IndexBuildSpec {
    fn default() -> Self {
        Self {
            source: SourceSpec::default(),
            row_id: None,
            indexes: Vec::new(),
            output: OutputSpec::default(),
            parallelism: default_parallelism(),
            volume: None,
            disruption: None,
            backoff_limit_per_work: default_backoff_limit_per_work(),
            backoff_limit: None,
            active_deadline_seconds: None,
            rows_per_second: None,
            suspend: false,
            executor: None,
        }
    }
}

fn default_parallelism() -> u32 {
    1
}

fn default_backoff_limit_per_work() -> u32 {
    6
}
