//! Where a job's entries go that do not fit in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::frames::PieceKind;

/// A file of this job alone. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct SpillFile(PathBuf);

impl SpillFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // Best effort: the attempt removes its whole spill folder when it ends.
        let _ = fs::remove_file(&self.0);
    }
}

/// Where a job's spill files go.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    folder: PathBuf,
    next: AtomicU32,
}

impl SpillFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, next: AtomicU32::new(0) }
    }

    /// A file that is not there yet.
    pub(crate) fn file(&self, kind: PieceKind) -> SpillFile {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        SpillFile(self.folder.join(match kind {
            PieceKind::Packed => format!("{number:06}.packed"),
            PieceKind::General => format!("{number:06}.general"),
        }))
    }
}
