//! The build, as the control plane of a local run keeps it.

use indexbuild_api::{
    ConditionStatus, ConditionType, IndexBuild, IndexBuildSpec, IndexBuildStatus, Retention, VolumeRetention,
};
use indexbuild_check::{CheckError, check_update};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::folder::{self, Folder, Layout, StateError};

/// What `build.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredBuild {
    pub namespace: String,
    pub name: String,
    /// The build's UID, given once.
    pub uid: String,
    /// When the build was first asked for (RFC 3339).
    pub creation_timestamp: String,
    /// Rises with every change of the spec.
    pub generation: i64,
    /// Whether a clean-up is still to be done.
    pub finalizer: bool,
    /// Whether the build was given up.
    pub deleting: bool,
    pub spec: IndexBuildSpec,
    /// Whether its volumes stay at the end, whatever the spec says (`--keep-volumes`).
    #[serde(default)]
    pub keep_volumes: bool,
    /// What was found, as far as it decides anything at the next start.
    pub status: Option<IndexBuildStatus>,
}

/// The namespace of a build that names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// Why a build cannot go on in a state folder.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the state folder {} belongs to the build {theirs}, not to {ours}: choose another folder with --state", .folder.display())]
    Other { folder: std::path::PathBuf, theirs: String, ours: String },
    #[error(
        "the build in {} was begun with another spec:\n{source}\nundo the change, or begin a new build with --fresh or another metadata.name",
        .folder.display()
    )]
    Immutable { folder: std::path::PathBuf, source: CheckError },
}

impl StoredBuild {
    /// Begins a build, or goes on with the one that the folder holds, with what may change changed.
    pub(crate) fn begin(folder: &Folder, build: &IndexBuild, now: &str) -> Result<Self, BuildError> {
        let layout = folder.layout();
        let namespace = build.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let name = build.metadata.name.clone().unwrap_or_default();
        let Some(stored) = Self::load(layout)? else {
            let stored = Self {
                namespace,
                name,
                uid: Uuid::new_v4().to_string(),
                creation_timestamp: now.to_owned(),
                generation: 1,
                finalizer: false,
                deleting: false,
                keep_volumes: false,
                spec: build.spec.clone(),
                status: None,
            };
            stored.store(layout)?;
            return Ok(stored);
        };
        if (&stored.namespace, &stored.name) != (&namespace, &name) {
            return Err(BuildError::Other {
                folder: layout.root().to_owned(),
                theirs: format!("{}/{}", stored.namespace, stored.name),
                ours: format!("{namespace}/{name}"),
            });
        }
        if stored.spec == build.spec {
            return Ok(stored);
        }
        let mut wanted = stored.to_build();
        wanted.spec = build.spec.clone();
        check_update(&stored.to_build(), &wanted)
            .map_err(|source| BuildError::Immutable { folder: layout.root().to_owned(), source })?;
        let changed = Self { generation: stored.generation + 1, spec: build.spec.clone(), ..stored };
        changed.store(layout)?;
        Ok(changed)
    }

    /// Whether the build has ended, either way.
    pub(crate) fn has_ended(&self) -> bool {
        self.holds(ConditionType::Finished)
    }

    /// Whether the build has ended without an index.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_ended() && self.holds(ConditionType::Failed)
    }

    /// Whether the build has ended with its index.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_ended() && !self.has_failed() && !self.deleting
    }

    /// Whether its volumes stay at its end.
    pub(crate) fn keeps_volumes(&self) -> bool {
        let VolumeRetention { when_published, when_failed, when_deleted } =
            self.spec.volume_or_default().retention.unwrap_or_default();
        let asked = if self.deleting {
            when_deleted
        } else if self.has_failed() {
            when_failed
        } else {
            when_published
        };
        self.keep_volumes || asked == Retention::Retain
    }

    fn holds(&self, condition_type: ConditionType) -> bool {
        self.status
            .as_ref()
            .and_then(|status| status.condition(condition_type))
            .is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// The build of a state folder, if there is one.
    pub(crate) fn load(layout: &Layout) -> Result<Option<Self>, StateError> {
        folder::read(layout, &layout.build())
    }

    pub(crate) fn store(&self, layout: &Layout) -> Result<(), StateError> {
        folder::write(layout, &layout.build(), self)
    }

    /// As the resource that executors know.
    pub(crate) fn to_build(&self) -> IndexBuild {
        let mut build = IndexBuild::new(&self.name, self.spec.clone());
        build.metadata.namespace = Some(self.namespace.clone());
        build.metadata.uid = Some(self.uid.clone());
        build.metadata.generation = Some(self.generation);
        build.metadata.creation_timestamp = self.creation_timestamp.parse().ok().map(Time);
        build.status.clone_from(&self.status);
        build
    }
}
