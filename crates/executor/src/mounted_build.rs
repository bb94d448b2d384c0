//! The build as the operator gives it to its pods: a file. What may change while an executor works is read from it
//! again, for the process hears of it in no other way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indexbuild_api::IndexBuild;
use indexbuild_lifecycle::world::Millis;

/// How often the file is read again. The kubelet brings a changed one to a pod within a minute and a half.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads a build.
///
/// # Errors
/// [`BuildFileError`], which names the file.
pub fn read(file: &Path) -> Result<IndexBuild, BuildFileError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| BuildFileError::Unreadable { file: file.to_owned(), source })?;
    let build: IndexBuild =
        serde_json::from_str(&text).map_err(|source| BuildFileError::NotABuild { file: file.to_owned(), source })?;
    if build.metadata.uid.is_none() {
        return Err(BuildFileError::NoUid { file: file.to_owned() });
    }
    Ok(build)
}

/// A file that does not hold a build of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum BuildFileError {
    #[error("{} cannot be read: {source}; it is mounted from the build's ConfigMap, which the operator makes", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{} does not hold an IndexBuild: {source}; the operator and this executor may be of different versions", .file.display())]
    NotABuild { file: PathBuf, source: serde_json::Error },
    #[error("the build in {} has no UID: it was not read from a cluster", .file.display())]
    NoUid { file: PathBuf },
}

/// What of a build holds for an executor that is at work, as soon as it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `spec.rowsPerSecond`, of all executors together.
    pub rows_per_second: Option<u64>,
    /// Among how many they are shared.
    pub parallelism: u32,
    /// `spec.disruption.orphanAfter`: how long an owner goes on without contact.
    pub orphan_after: Millis,
}

impl Limits {
    #[must_use]
    pub fn of(build: &IndexBuild) -> Self {
        Self {
            rows_per_second: build.spec.rows_per_second,
            parallelism: build.spec.parallelism,
            orphan_after: build.spec.disruption_or_default().orphan_after.as_millis(),
        }
    }
}

/// A build's file that is looked at again and again.
#[derive(Debug)]
pub struct WatchedFile {
    file: PathBuf,
    looked: Instant,
    limits: Limits,
    failed: bool,
}

impl WatchedFile {
    /// A file whose limits were these when it was read at `now`.
    #[must_use]
    pub const fn new(file: PathBuf, limits: Limits, now: Instant) -> Self {
        Self { file, looked: now, limits, failed: false }
    }

    /// The limits, if they are others than before. What cannot be read changes nothing, and is told once.
    pub fn look(&mut self, now: Instant) -> Option<Limits> {
        if now.saturating_duration_since(self.looked) < LOOK_EVERY {
            return None;
        }
        self.looked = now;
        let limits = match read(&self.file) {
            Ok(build) => Limits::of(&build),
            Err(error) => {
                if !self.failed {
                    tracing::warn!(%error, "changes of the build are not seen; going on with what is known");
                }
                self.failed = true;
                return None;
            }
        };
        self.failed = false;
        let changed = limits != self.limits;
        self.limits = limits;
        changed.then_some(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, rows_per_second: Option<u64>, parallelism: u32, orphan_after: &str) {
        let build = serde_json::json!({
            "apiVersion": "indexbuild.dev/v1alpha1",
            "kind": "IndexBuild",
            "metadata": {"name": "orders", "uid": "0b7e1c9a"},
            "spec": {
                "source": {"parquet": {"urls": ["file:///table.parquet"]}},
                "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
                "output": {"url": "file:///out"},
                "rowsPerSecond": rows_per_second,
                "parallelism": parallelism,
                "disruption": {"orphanAfter": orphan_after},
            },
        });
        std::fs::write(file, build.to_string()).unwrap();
    }

    /// A file that was read at this time, and the folder that it is in.
    fn watched(rows_per_second: Option<u64>, parallelism: u32) -> (tempfile::TempDir, PathBuf, Instant, WatchedFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("build.json");
        write(&file, rows_per_second, parallelism, "30m");
        let start = Instant::now();
        let watched = WatchedFile::new(file.clone(), Limits::of(&read(&file).unwrap()), start);
        (folder, file, start, watched)
    }

    #[test]
    fn a_change_is_seen_once_and_a_file_that_cannot_be_read_changes_nothing() {
        let (_folder, file, start, mut watched) = watched(Some(100), 2);
        let mut looks = 0;
        let mut look = || {
            looks += 1;
            watched.look(start + LOOK_EVERY * looks)
        };
        assert_eq!(look(), None);
        write(&file, Some(100), 4, "30m");
        assert_eq!(look(), Some(Limits { rows_per_second: Some(100), parallelism: 4, orphan_after: 1_800_000 }));
        assert_eq!(look(), None);
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(look(), None);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(look(), None);
        write(&file, None, 4, "10s");
        assert_eq!(look(), Some(Limits { rows_per_second: None, parallelism: 4, orphan_after: 10_000 }));
    }

    #[test]
    fn it_is_not_read_all_the_time() {
        let (_folder, file, start, mut watched) = watched(Some(1), 1);
        write(&file, Some(2), 1, "30m");
        assert_eq!(watched.look(start + LOOK_EVERY / 2), None);
        assert!(watched.look(start + LOOK_EVERY).is_some());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("build.json");
        let told = |expected: &str| {
            let message = read(&file).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("build.json"), "{message}");
        };
        told("cannot be read");
        std::fs::write(&file, "[]").unwrap();
        told("does not hold an IndexBuild");
        write(&file, None, 1, "30m");
        let without = std::fs::read_to_string(&file).unwrap().replace("\"uid\"", "\"namespace\"");
        std::fs::write(&file, without).unwrap();
        told("has no UID");
    }
}
