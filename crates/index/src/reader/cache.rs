//! The folder that fetched files are kept in, and scratch folders beside them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use indexbuild_durable::TEMPORARY_PREFIX;
use rustix::fs::FlockOperation;

use super::{BlockingRuntime, FileKeys, ReadError};
use crate::digest::FileDigest;
use crate::sst::CheckDb;
use crate::store::Store;

/// A file is kept under its digest, so that builds share what they have in common and a name can
/// never mean two contents.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Files whose digest this process has checked already.
    checked: Mutex<HashSet<String>>,
    /// Per index of the build, since indexes share key space.
    reading: Mutex<BTreeMap<usize, ScanDb>>,
}

/// The database that scans read from; files are ingested into it when they are first needed.
#[derive(Debug)]
struct ScanDb {
    // Closed before its folder is removed.
    db: CheckDb,
    ingested: HashSet<String>,
    _scratch: ScratchFolder,
}

impl Cache {
    pub(super) fn open(folder: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        ScratchFolder::sweep(folder).map_err(io)?;
        Ok(Self { folder: folder.to_owned(), checked: Mutex::default(), reading: Mutex::default() })
    }

    /// A scratch folder, removed when it is dropped.
    pub(super) fn scratch(&self) -> Result<ScratchFolder, ReadError> {
        ScratchFolder::create(&self.folder).map_err(|source| ReadError::Io { path: self.folder.clone(), source })
    }

    /// The file, fetched if need be, with its digest checked.
    pub(super) fn fetch(
        &self,
        store: &Store,
        runtime: &BlockingRuntime,
        file: &FileKeys,
    ) -> Result<PathBuf, ReadError> {
        let digest = &file.file.file_digest;
        // The manifest comes from outside: a digest that is none must not become a path.
        if digest.len() != 32 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = format!("`{digest}` is no file digest");
            return Err(ReadError::Manifest { url: store.url(), why });
        }
        let path = self.folder.join(format!("{digest}.sst"));
        let io = |source| ReadError::Io { path: path.clone(), source };
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.contains(digest) && path.exists() {
            return Ok(path);
        }
        if path.exists() {
            let (_, found) = FileDigest::of_file(&path).map_err(io)?;
            if found == *digest {
                checked.insert(digest.clone());
                return Ok(path);
            }
            // The file is cut off or has changed; another process may have removed it already.
            indexbuild_durable::remove_file(&path).map_err(io)?;
        }
        // Under a lock until it is whole: what a killed reader leaves can be told from what another one fetches.
        let scratch = self.scratch()?;
        let fetched = scratch.path().join("fetched.sst");
        let found_bytes = runtime.run(store.fetch_to(&file.file.path, &fetched))?;
        let (_, found) = FileDigest::of_file(&fetched).map_err(io)?;
        if found != *digest {
            return Err(ReadError::Damaged {
                url: format!("{}/{}", store.url(), file.file.path),
                expected: digest.clone(),
                found,
                expected_bytes: file.file.bytes,
                found_bytes,
            });
        }
        indexbuild_durable::rename(&fetched, &path).map_err(io)?;
        checked.insert(digest.clone());
        Ok(path)
    }

    /// Reads from a database that holds this file of an index, and maybe others of it.
    pub(super) fn read<T>(
        &self,
        store: &Store,
        runtime: &BlockingRuntime,
        index: usize,
        file: &FileKeys,
        read: impl FnOnce(&CheckDb) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = match reading.entry(index) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let scratch = self.scratch()?;
                let db = CheckDb::open(&scratch.path().join("db"))?;
                vacant.insert(ScanDb { db, ingested: HashSet::new(), _scratch: scratch })
            }
        };
        if !reading.ingested.contains(&file.file.file_digest) {
            let path = self.fetch(store, runtime, file)?;
            reading.db.ingest(&[path])?;
            reading.ingested.insert(file.file.file_digest.clone());
        }
        read(&reading.db)
    }
}

/// A folder of this process's own, under an advisory lock while it lives.
#[derive(Debug)]
pub(super) struct ScratchFolder {
    path: PathBuf,
    _lock: File,
}

const SCRATCH: &str = "scratch-";

/// The scratch folders of this process.
static OWN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes the scratch folders of this process, which a signal is about to end.
pub fn remove_scratch_folders() {
    for path in OWN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // Best effort: what stays is removed by the next reader of the same cache.
        let _ = fs::remove_dir_all(path);
    }
}

impl ScratchFolder {
    fn create(parent: &Path) -> io::Result<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{TEMPORARY_PREFIX}{SCRATCH}{}-{serial}", std::process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                outcome => outcome?,
            }
            // Before the lock is taken, another process may remove the folder or lock it: then another is made.
            let Ok(lock) = File::open(&path) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && path.exists() {
                OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Removes the scratch folders of processes that are gone: those whose lock can be taken.
    fn sweep(parent: &Path) -> io::Result<()> {
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|name| name.starts_with(SCRATCH)) {
                continue;
            }
            let Ok(lock) = File::open(entry.path()) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                match fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch folder stays behind; the next reader removes it");
        }
    }
}
