//! Writes that survive a crash.
//!
//! Every file that another process, or the same build after a crash, relies on is written through
//! this crate: under a temporary name, flushed, given its final name, and its folder flushed. A
//! file under its final name is therefore always whole. Each system call on that way is a
//! [`fault`] point, where tests kill the process or make the call fail.
//!
//! Words: `docs/glossary.md`.

pub mod fault;
pub mod test_switches;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fault::{Op, step};

/// The prefix of an unfinished file's name. Only the process that writes such a file uses it; it may be removed once
/// that process is known to be gone.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Mode of every sealed file. A hard link to a file of another mode is refused (`EACCES`) to a
/// user without privileges on kernels with `fs.protected_hardlinks`; 0444 was.
const SEALED_MODE: u32 = 0o644;

static FSYNCS: AtomicU64 = AtomicU64::new(0);

/// Number of `fsync` calls that this process made through this crate.
#[must_use]
pub fn fsyncs() -> u64 {
    FSYNCS.load(Ordering::Relaxed)
}

/// Whether this is the name of an unfinished file.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
}

/// The temporary name under which `path` is written: in the same folder, unlike any other
/// writer's, this process's other threads included.
///
/// # Errors
/// `InvalidInput` when `path` has no file name.
pub fn temporary_for(path: &Path) -> io::Result<PathBuf> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| invalid(path, "has no file name"))?;
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(format!("{TEMPORARY_PREFIX}{}-{serial}-", std::process::id()));
    temporary.push(name);
    Ok(path.with_file_name(temporary))
}

/// A file under its temporary name. Dropped without [`DurableFile::seal`], it is removed.
#[derive(Debug)]
pub struct DurableFile {
    file: Option<File>,
    temporary: PathBuf,
    target: PathBuf,
}

impl DurableFile {
    /// Begins the file that is to become `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        let temporary = temporary_for(target)?;
        let file = step(Op::Create, &temporary, || {
            OpenOptions::new().read(true).write(true).create_new(true).open(&temporary)
        })?;
        Ok(Self { file: Some(file), temporary, target: target.to_owned() })
    }

    /// The open file, for reads of what was written so far.
    ///
    /// # Errors
    /// Only after the file was sealed, which its type does not allow.
    pub fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| invalid(&self.target, "was sealed already"))
    }

    /// The name that it has until it is sealed.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Flushes the file and gives it its final name, replacing what stood there.
    ///
    /// # Errors
    /// Those of the file system, with the path. The temporary file is then gone.
    pub fn seal(mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            sync(&file, &self.temporary)?;
        }
        publish(&self.temporary, &self.target)
    }

    /// As [`DurableFile::seal`], but refuses to replace.
    ///
    /// # Errors
    /// `AlreadyExists` when the final name is taken, at the same instant for all who try.
    pub fn seal_new(mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            sync(&file, &self.temporary)?;
        }
        set_mode(&self.temporary)?;
        let linked = step(Op::Link, &self.target, || fs::hard_link(&self.temporary, &self.target));
        remove_file(&self.temporary)?;
        linked?;
        sync_parent(&self.target)
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { file, temporary, target } = self;
        let file = file.as_mut().ok_or_else(|| invalid(target, "was sealed already"))?;
        step(Op::Write, temporary, || file.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: a leftover is recognised by its name and swept later.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes `bytes` to `path`, replacing what stood there; a reader sees the old or the new content.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = DurableFile::create(path)?;
    file.write_all(bytes)?;
    file.seal()
}

/// Writes `bytes` to `path`, which must not exist; of several writers exactly one succeeds.
///
/// # Errors
/// `AlreadyExists` when `path` exists; those of the file system, with the path.
pub fn create_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = DurableFile::create(path)?;
    file.write_all(bytes)?;
    file.seal_new()
}

/// Seals a finished file that other code (RocksDB, say) has written: flushes it, renames it, flushes the folder.
pub fn seal(temporary: &Path, target: &Path) -> io::Result<()> {
    let file = step(Op::Open, temporary, || File::open(temporary))?;
    sync(&file, temporary)?;
    publish(temporary, target)
}

/// Makes `to` another name of the sealed file `from`.
///
/// # Errors
/// `AlreadyExists`, `CrossesDevices`, and the others of the file system, with the path.
pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    step(Op::Link, to, || fs::hard_link(from, to))?;
    sync_parent(to)
}

/// Renames a file or folder and flushes both folders.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(Op::Rename, to, || fs::rename(from, to))?;
    sync_parent(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_parent(from) }
}

/// Removes a file; one that is not there counts as removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    step(Op::Remove, path, || absent_is_fine(fs::remove_file(path)))
}

/// Removes a folder with all its content; one that is not there counts as removed.
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    step(Op::Remove, path, || absent_is_fine(fs::remove_dir_all(path)))
}

/// Makes a folder and its parents, each flushed into the one above.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_all(parent)?;
    }
    match create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome,
    }
}

/// Makes one folder, flushed into the one above.
///
/// # Errors
/// `AlreadyExists`, and the others of the file system, with the path.
pub fn create_dir(path: &Path) -> io::Result<()> {
    step(Op::CreateDir, path, || fs::create_dir(path))?;
    sync_parent(path)
}

/// Removes the unfinished files that writers who are gone left directly in `folder`. Call it only
/// where nobody else writes.
pub fn sweep_temporaries(folder: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder).map_err(|error| at(folder, "list", error))? {
        let entry = entry.map_err(|error| at(folder, "list", error))?;
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_dir_all(&path)?;
            } else {
                remove_file(&path)?;
            }
            swept += 1;
        }
    }
    Ok(swept)
}

fn publish(temporary: &Path, target: &Path) -> io::Result<()> {
    set_mode(temporary)?;
    step(Op::Rename, target, || fs::rename(temporary, target))?;
    sync_parent(target)
}

fn set_mode(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(SEALED_MODE))
        .map_err(|error| at(path, "set the mode of", error))
}

fn sync(file: &File, path: &Path) -> io::Result<()> {
    step(Op::Fsync, path, || file.sync_all())?;
    FSYNCS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    step(Op::Fsync, parent, || File::open(parent)?.sync_all())?;
    FSYNCS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn invalid(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} {what}", path.display()))
}

/// The error with the path and the act in it; its kind is kept, and its OS code stays in the text.
fn at(path: &Path, act: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), PathError { act: act.to_owned(), path: path.to_owned(), source: error })
}

#[derive(Debug)]
struct PathError {
    act: String,
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}: {}", self.act, self.path.display(), self.source)
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_creators_exactly_one_succeeds_and_no_temporary_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.json");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|n| {
                    scope.spawn({
                        let path = path.clone();
                        move || create_new(&path, &[n; 100])
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 100 && content.iter().all(|byte| *byte == content[0]), "one writer's content, whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unsealed_file_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = DurableFile::create(&folder.path().join("run")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_takes_unfinished_files_only() {
        let folder = tempfile::tempdir().unwrap();
        write_atomic(&folder.path().join("kept"), b"x").unwrap();
        fs::write(folder.path().join(".tmp-1-0-left"), b"y").unwrap();
        assert_eq!(sweep_temporaries(folder.path()).unwrap(), 1);
        assert!(folder.path().join("kept").exists());
    }

    #[test]
    fn an_error_names_the_path_and_keeps_its_kind() {
        let error = write_atomic(Path::new("/nonexistent-folder/file"), b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent-folder/"), "{error}");
    }
}
