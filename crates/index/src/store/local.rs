//! A folder as a store. Every change is crash-safe: `indexbuild_durable` does the writing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use indexbuild_durable as durable;
use indexbuild_durable::fault::{Op, step};
use rustix::fs::FlockOperation;

use super::{PutOutcome, StoreError, Version};
use crate::digest::digest_bytes;

/// How often a write is tried again after somebody removed its folder because it was empty.
const FOLDER_TRIES: usize = 16;

#[derive(Debug)]
pub(super) struct LocalStore {
    folder: PathBuf,
}

fn version_of(content: &[u8]) -> Version {
    Version { e_tag: Some(digest_bytes(content)), version: None }
}

impl LocalStore {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn url(&self, path: &str) -> String {
        indexbuild_store::file_url(&self.path(path))
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.folder.clone() } else { self.folder.join(path) }
    }

    /// Runs blocking work off the runtime's threads.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        path: String,
        act: impl FnOnce(&Self, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = Arc::clone(self);
        let url = self.url(&path);
        let outcome = tokio::task::spawn_blocking(move || act(&root, &root.path(&path))).await;
        match outcome {
            Ok(outcome) => outcome.map_err(|source| StoreError::from_io(url, source)),
            Err(source) => Err(StoreError::Io { url, source: io::Error::other(source) }),
        }
    }

    pub(super) async fn get(self: &Arc<Self>, path: String) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.run(path, |_, path| {
            Ok(absent_is_none(fs::read(path))?.map(|content| {
                let version = version_of(&content);
                (Bytes::from(content), version)
            }))
        })
        .await
    }

    pub(super) async fn get_range(self: &Arc<Self>, path: String, range: Range<u64>) -> Result<Bytes, StoreError> {
        let url = self.url(&path);
        let Range { start, end } = range;
        let read = self.run(path, move |_, path| {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            if start > end || end > size {
                return Ok(Err(size));
            }
            let length = usize::try_from(end - start).map_err(io::Error::other)?;
            let mut buffer = vec![0; length];
            file.read_exact_at(&mut buffer, start)?;
            Ok(Ok(Bytes::from(buffer)))
        });
        read.await?.map_err(|size| StoreError::OutOfRange { url, size, start, end })
    }

    pub(super) async fn size(self: &Arc<Self>, path: String) -> Result<Option<u64>, StoreError> {
        self.run(path, |_, path| {
            let metadata = absent_is_none(fs::metadata(path))?;
            Ok(metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
        })
        .await
    }

    pub(super) async fn put(self: &Arc<Self>, path: String, bytes: Bytes) -> Result<(), StoreError> {
        self.run(path, move |_, path| in_folder(path, || durable::write_atomic(path, &bytes))).await
    }

    pub(super) async fn put_if_absent(self: &Arc<Self>, path: String, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let create = move |path: &Path| {
            let _lock = lock_folder_of(path)?;
            sweep_of(path)?;
            durable::create_new(path, &bytes)
        };
        self.run(path, move |_, path| match in_folder(path, || create(path)) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(PutOutcome::Exists),
            Err(error) => Err(error),
        })
        .await
    }

    pub(super) async fn put_if_match(
        self: &Arc<Self>,
        path: String,
        bytes: Bytes,
        version: Version,
    ) -> Result<PutOutcome, StoreError> {
        self.run(path, move |_, path| {
            let Some(_lock) = lock_folder_of(path)? else {
                return Ok(PutOutcome::Exists);
            };
            let current = absent_is_none(fs::read(path))?;
            if current.is_none_or(|content| version_of(&content) != version) {
                return Ok(PutOutcome::Exists);
            }
            sweep_of(path)?;
            durable::write_atomic(path, &bytes)?;
            Ok(PutOutcome::Created)
        })
        .await
    }

    pub(super) async fn remove_unfinished_puts(self: &Arc<Self>, path: String) -> Result<usize, StoreError> {
        self.run(path, |_, path| match lock_folder_of(path)? {
            Some(_lock) => sweep_of(path),
            None => Ok(0),
        })
        .await
    }

    pub(super) async fn put_file(self: &Arc<Self>, path: String, file: PathBuf) -> Result<(), StoreError> {
        self.run(path, move |_, path| in_folder(path, || link_or_copy(&file, path))).await
    }

    pub(super) async fn fetch_to(self: &Arc<Self>, path: String, target: PathBuf) -> Result<u64, StoreError> {
        self.run(path, move |_, path| {
            link_or_copy(path, &target)?;
            Ok(fs::metadata(&target)?.len())
        })
        .await
    }

    pub(super) async fn list(self: &Arc<Self>, prefix: String) -> Result<Vec<(String, u64)>, StoreError> {
        self.run(prefix, |root, path| {
            let mut listed = Vec::new();
            walk(path, &mut |file, size| {
                if let Some(relative) = file.strip_prefix(&root.folder).ok().and_then(Path::to_str) {
                    listed.push((relative.to_owned(), size));
                }
            })?;
            Ok(listed)
        })
        .await
    }

    pub(super) async fn delete(self: &Arc<Self>, path: String) -> Result<(), StoreError> {
        self.run(path, |root, path| {
            durable::remove_file(path)?;
            let mut folder = path.parent();
            while let Some(empty) = folder.filter(|folder| *folder != root.folder && folder.starts_with(&root.folder)) {
                if !is_empty(empty)? || !remove_empty(empty)? {
                    break;
                }
                folder = empty.parent();
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_unfinished(self: &Arc<Self>, prefix: String) -> Result<usize, StoreError> {
        self.run(prefix, |_, path| sweep(path)).await
    }
}

fn absent_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes into the folder of `path`, which is made where it is missing. Somebody who deletes the
/// folder's last file may remove it between the two.
fn in_folder<T>(path: &Path, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        if let Some(folder) = path.parent() {
            durable::create_dir_all(folder).map_err(|error| match error.kind() {
                // A file stands where the folder would be: not to be taken for the object that exists.
                io::ErrorKind::AlreadyExists => io::Error::new(io::ErrorKind::NotADirectory, error),
                _ => error,
            })?;
        }
        tries += 1;
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < FOLDER_TRIES => {}
            outcome => return outcome,
        }
    }
}

/// Removes what killed writers left of conditional puts to `path`. All of these hold the folder's lock while
/// they write, and so does the caller: what is there now is nobody's.
fn sweep_of(path: &Path) -> io::Result<usize> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(0);
    };
    let target = format!("-{name}");
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let left = entry?.file_name();
        if durable::is_temporary(&left) && left.to_str().is_some_and(|left| left.ends_with(&target)) {
            durable::remove_file(&folder.join(left))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Takes the advisory lock on the folder of `path`: on the folder itself, so that a killed process
/// leaves nothing behind. `None` when there is no such folder.
fn lock_folder_of(path: &Path) -> io::Result<Option<File>> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let Some(file) = absent_is_none(File::open(folder))? else {
        return Ok(None);
    };
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    Ok(Some(file))
}

/// Makes `to` the same content as the sealed file `from`: another name of it where the file system
/// allows that, else a copy. What stood at `to` is replaced.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match durable::hard_link(from, to) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A put that was tried before, or another content: replaced as a whole.
            let temporary = durable::temporary_for(to)?;
            if durable::hard_link(from, &temporary).is_ok() {
                let renamed = durable::rename(&temporary, to);
                // A rename of one name of a file to another of its names does nothing.
                durable::remove_file(&temporary)?;
                return renamed;
            }
        }
        // Another file system, or one without hard links, or the kernel's protection of other users' files.
        Err(_) => {}
    }
    let mut source = File::open(from)?;
    let mut copy = durable::DurableFile::create(to)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut source, &mut buffer) {
            Ok(0) => break,
            Ok(read) => copy.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    copy.seal()
}

fn walk(folder: &Path, found: &mut impl FnMut(PathBuf, u64)) -> io::Result<()> {
    let Some(entries) = absent_is_none(fs::read_dir(folder))? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if durable::is_temporary(&entry.file_name()) {
            continue;
        }
        // An entry that is gone was deleted since the folder was listed.
        let Some(kind) = absent_is_none(entry.file_type())? else {
            continue;
        };
        if kind.is_dir() {
            walk(&entry.path(), found)?;
        } else if kind.is_file()
            && let Some(metadata) = absent_is_none(entry.metadata())?
        {
            found(entry.path(), metadata.len());
        }
    }
    Ok(())
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(match absent_is_none(fs::read_dir(folder))? {
        Some(mut entries) => entries.next().is_none(),
        None => false,
    })
}

/// Removes a folder if it is empty; whether it was.
fn remove_empty(folder: &Path) -> io::Result<bool> {
    match step(Op::Remove, folder, || fs::remove_dir(folder)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn sweep(folder: &Path) -> io::Result<usize> {
    let Some(entries) = absent_is_none(fs::read_dir(folder))? else {
        return Ok(0);
    };
    let mut swept = durable::sweep_temporaries(folder)?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !durable::is_temporary(&entry.file_name()) {
            swept += sweep(&entry.path())?;
            if is_empty(&entry.path())? {
                remove_empty(&entry.path())?;
            }
        }
    }
    Ok(swept)
}
