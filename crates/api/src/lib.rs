//! The resources of `indexbuild`: what a user asks for (`IndexBuild`) and the record of one slot
//! (`EngineDirectory`), with the rules that the API server and local runs both check them by (`crates/check`).
//!
//! No client and no decisions: types, schemas, names and labels. Words: `docs/glossary.md`.
#![warn(missing_docs)]
// What is derived for a resource is public and in modules that are not.
#![allow(unreachable_pub)]

mod build;
mod build_status;
mod conditions;
mod crd;
mod directory;
mod directory_status;
mod disruption;
mod duration;
mod executor;
mod guarded;
mod indexes;
pub mod labels;
pub mod names;
mod output;
mod quantity;
mod raw;
mod reference;
mod source;
mod unknown;
mod vocabulary;
mod volume;
mod word;
mod work_id;

pub use build::{IndexBuild, IndexBuildSpec, MAX_BUILD_NAME};
pub use build_status::{
    FrozenStage, IndexBuildStatus, LastError, LastWait, ManifestStatus, Phase, SlotCounts, VolumeCounts, WorkCounts,
};
pub use conditions::{Condition, ConditionStatus, ConditionType, Reason, WorkErrorReason};
pub use crd::{crd_yaml, crds, schema_of};
pub use directory::{
    AfterBuild, Attached, Chosen, EngineDirectory, EngineDirectorySpec, FormerVolume, Grant, Past, RunLocation,
    VolumeRef, VolumeState, Work, WorkFailures, WorkKind,
};
pub use directory_status::{
    Claim, DirectoryState, EngineDirectoryStatus, HISTORY_LENGTH, OwnerChange, OwnerChangeReason, Release, Report,
    ReportedWait, WorkError, WorkResult,
};
pub use disruption::{DisruptionSpec, renew_interval};
pub use duration::{DURATION_PATTERN, Duration, ParseDurationError};
pub use executor::{
    ALLOCATOR, DEFAULT_MEMORY_BYTES, EnvVar, ExecutorResources, ExecutorSecurityContext, ExecutorSpec, MAX_THREADS,
    PodMetadata, ResourceAmounts, SecretKeyRef, TaintEffect, Toleration, TolerationOperator, TopologySpreadConstraint,
    WhenUnsatisfiable,
};
pub use guarded::{Guarded, Unreadable, apart};
pub use indexes::{IndexColumn, IndexSpec, Nulls, Order, RowIdSpec};
pub use output::{Compression, DeletionPolicy, OutputSpec};
pub use quantity::{MAX_QUANTITY, QUANTITY_PATTERN, Quantity, QuantityError, parse_quantity};
pub use raw::RawObject;
pub use reference::reference_markdown;
pub use source::{
    Credentials, CsvColumn, CsvSource, MissingColumns, ParquetSource, SecretRef, SourceFiles, SourceFormat, SourceSpec,
};
pub use unknown::unknown_in_spec;
pub use vocabulary::Epoch;
pub use volume::{Retention, VolumeRetention, VolumeSpec};
pub use word::{LONGEST_WORD, Word};
pub use work_id::{StageName, UnknownStage, UnknownWork, WorkId};
