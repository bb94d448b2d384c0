//! What a command leaves nowhere, whichever way it ends: by itself, by a signal, and, as far as the next one finds it, killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::Context;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// The names of temporary caches begin so.
const PREFIX: &str = "indexbuild-cache-";
/// In a temporary cache: the file whose lock its process holds for its life.
const LOCK: &str = "lock";

/// What is to be removed when a signal ends the process.
static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn left() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder that a signal removes as long as this lives.
pub(super) struct RemovedBySignal(PathBuf);

impl RemovedBySignal {
    pub(super) fn new(path: &Path) -> Self {
        listen();
        left().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for RemovedBySignal {
    fn drop(&mut self) {
        left().retain(|path| *path != self.0);
    }
}

/// A folder for fetched files, gone with the command.
pub(super) struct TemporaryCache {
    // Removed while the lock is still held: nobody else is to remove it too.
    folder: TempDir,
    _by_signal: RemovedBySignal,
    _lock: File,
}

impl TemporaryCache {
    pub(super) fn create() -> anyhow::Result<Self> {
        Self::create_in(&std::env::temp_dir())
            .context("cannot make a temporary folder for fetched files; name one with --cache")
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let by_signal = RemovedBySignal::new(folder.path());
        // Under its name the file is locked from its first instant on: whoever can lock it knows that its process is gone.
        let unnamed = folder.path().join("lock.new");
        let lock = OpenOptions::new().write(true).create_new(true).open(&unnamed)?;
        lock.try_lock().map_err(io::Error::from)?;
        fs::rename(&unnamed, folder.path().join(LOCK))?;
        sweep(parent, folder.path());
        Ok(Self { folder, _by_signal: by_signal, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the temporary caches of this user's processes that were killed. Whatever is not proved to be one stays.
fn sweep(parent: &Path, own: &Path) {
    let (Ok(entries), Ok(mine)) = (fs::read_dir(parent), fs::metadata(own)) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.metadata().is_ok_and(|metadata| metadata.uid() == mine.uid());
        if !is_one || path == own {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if lock.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::debug!(path = %path.display(), %error, "what a killed command left stays");
        }
    }
}

/// From now on Ctrl-C, SIGTERM and SIGHUP remove what is to be removed before they end the process.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (told, ready) = std::sync::mpsc::sync_channel(1);
        let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let code = runtime.block_on(async {
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return None };
                let _ = told.send(());
                let kind = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = hangup.recv() => SignalKind::hangup(),
                };
                Some(128 + kind.as_raw_value())
            });
            if let Some(code) = code {
                remove_all();
                indexbuild_process::exit_at_once(code);
            }
        });
        // What is made next is made when a signal no longer simply ends the process. Without the thread, it does.
        if spawned.is_ok() {
            let _ = ready.recv();
        }
    });
}

fn remove_all() {
    // Nobody ends by itself any more meanwhile: the list stays locked until the process is gone.
    let left = std::mem::ManuallyDrop::new(left());
    for path in left.iter() {
        remove(path);
    }
    indexbuild_index::reader::remove_scratch_folders();
}

/// Removes a file, or a folder in which other threads still make files: under another name, they no longer find it.
fn remove(path: &Path) {
    if !path.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = path.with_file_name(format!("{name}-ended"));
    let there = if fs::rename(path, &gone).is_ok() { &gone } else { path };
    if let Err(error) = fs::remove_dir_all(there) {
        tracing::debug!(path = %there.display(), %error, "it stays; the next command removes it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_of_a_process_that_is_gone_is_swept_and_any_other_folder_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("x.sst"), "x").unwrap();
            path
        };
        let gone = folder("indexbuild-cache-gone");
        fs::write(gone.join(LOCK), "").unwrap();
        let unproved = folder("indexbuild-cache-unproved");
        let other = folder("other");
        fs::write(other.join(LOCK), "").unwrap();
        let link = parent.path().join("indexbuild-cache-link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let live = TemporaryCache::create_in(parent.path()).unwrap();
        assert!(!gone.exists());
        let second = TemporaryCache::create_in(parent.path()).unwrap();
        for path in [&unproved, &other, &link, live.path(), second.path()] {
            assert!(path.exists(), "{}", path.display());
        }
        let path = live.path().to_owned();
        assert!(left().contains(&path));
        drop(live);
        assert!(!path.exists() && !left().contains(&path));
    }

    #[test]
    fn what_a_signal_removes_is_gone_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("cache");
        fs::create_dir_all(folder.join("db")).unwrap();
        fs::write(folder.join("db/x"), "x").unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        remove(&folder);
        remove(&file);
        remove(&file);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
