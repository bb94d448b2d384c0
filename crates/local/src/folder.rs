//! The folder that a run's state lives in.
//!
//! | path | written by | what |
//! |---|---|---|
//! | `lock` | the parent | an advisory lock: one parent at a time; its process id |
//! | `build.json` | the parent | the build as the control plane knows it: uid, creation, spec, status |
//! | `slots/<n>.json` | the parent | the record of ownership |
//! | `stages/<name>.json` | the parent, once | a stage's frozen choices |
//! | `volumes/<slot>-<generation>/` | its owner | a volume; `claim.json` in it is the parent's |
//! | `kept/<uid>/<slot>-<generation>/` | nobody | a volume of a build that has ended, which was to stay |
//! | `pods/<name>/` | the parent | `pod.json` and the `lock` that the process holds for its life |
//! | `logs/<name>.log` | the process | what it wrote to its standard streams |
//!
//! Every file carries a version; one of another version is refused, never guessed at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the files in a state folder.
pub(crate) const STATE_VERSION: u32 = 1;

/// The longest path that a unix socket takes (`sun_path` holds 108 bytes, one of them the end).
const MAX_SOCKET_PATH: usize = 107;

/// What can be wrong with a state folder.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A system call failed; the error names the act and the path.
    #[error(
        "the state folder {} cannot be used: {source}; make it readable and writable, or choose another with --state",
        .folder.display()
    )]
    Io { folder: PathBuf, source: io::Error },
    #[error(
        "another run holds the state folder {} ({}); wait for it or stop it, or choose another folder with --state",
        .folder.display(), .pid.map_or_else(|| "its process id is unknown".to_owned(), |pid| format!("process {pid}"))
    )]
    Held { folder: PathBuf, pid: Option<i32> },
    #[error(
        "{} is of version {found}, and this program reads version {STATE_VERSION}: go on with the program that wrote it, or choose another folder with --state",
        .path.display()
    )]
    Version { path: PathBuf, found: u32 },
    #[error("{} is damaged: {source}; choose another folder with --state (sealed work in this one is lost to the build)", .path.display())]
    Damaged {
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the folder `root`, which need not exist. `root` must be absolute.
    #[must_use]
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn build(&self) -> PathBuf {
        self.root.join("build.json")
    }

    /// The folder of the records.
    pub(crate) fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    pub(crate) fn slot(&self, slot: u32) -> PathBuf {
        self.slots().join(format!("{slot}.json"))
    }

    /// The folder of frozen stages.
    pub(crate) fn stages(&self) -> PathBuf {
        self.root.join("stages")
    }

    pub(crate) fn stage(&self, name: &str) -> PathBuf {
        self.stages().join(format!("{name}.json"))
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn volume(&self, slot: u32, generation: u32) -> PathBuf {
        self.volumes().join(format!("{slot}-{generation}"))
    }

    /// Where the volumes of a build that has ended stay when another one begins in the folder.
    pub(crate) fn kept(&self, build_uid: &str) -> PathBuf {
        self.root.join("kept").join(build_uid)
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, name: &str) -> PathBuf {
        self.pods().join(name)
    }

    /// The lock that a pod's process holds for its life.
    pub(crate) fn pod_lock(&self, name: &str) -> PathBuf {
        self.pod(name).join("lock")
    }

    /// What a pod was told at its birth.
    pub(crate) fn pod_file(&self, name: &str) -> PathBuf {
        self.pod(name).join("pod.json")
    }

    /// What a pod's process wrote to its standard streams.
    pub(crate) fn log(&self, pod: &str) -> PathBuf {
        self.root.join("logs").join(format!("{pod}.log"))
    }

    /// While this file exists, a slot's processes find no space left: a fault that was asked for.
    pub(crate) fn no_space(&self, slot: u32) -> PathBuf {
        self.root.join(format!("no-space-{slot}"))
    }

    /// Changes of owners and works, a JSON line each.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("timeline.jsonl")
    }

    /// The socket on which the parent answers: in the folder, or, where that path is longer than a
    /// unix socket takes, a short one that is derived from it, so that the next parent finds it too.
    pub(crate) fn socket(&self) -> PathBuf {
        let here = self.root.join("parent.sock");
        if here.as_os_str().len() <= MAX_SOCKET_PATH {
            return here;
        }
        let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
        let name = format!("indexbuild-{:016x}.sock", fnv1a(self.root.as_os_str().as_bytes()));
        folder
            .map(|folder| folder.join(&name))
            .filter(|path| path.as_os_str().len() <= MAX_SOCKET_PATH)
            .unwrap_or_else(|| Path::new("/tmp").join(name))
    }
}

/// A stable hash of a path (FNV-1a, 64 bits); not for anything that must not collide by intent.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A state folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    layout: Layout,
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing and takes its lock.
    pub(crate) fn hold(layout: Layout) -> Result<Self, StateError> {
        let io = |source| StateError::Io { folder: layout.root.clone(), source };
        durable::create_dir_all(&layout.root).map_err(io)?;
        let path = layout.lock();
        let named = |error: io::Error| io(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        let mut lock =
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path).map_err(named)?;
        if !try_lock(&lock).map_err(named)? {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(StateError::Held { folder: layout.root, pid });
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(named)?;
        for folder in [layout.slots(), layout.stages(), layout.volumes(), layout.pods(), layout.root.join("logs")] {
            durable::create_dir_all(&folder).map_err(io)?;
        }
        // Only a parent writes directly in these folders, and there is none but this one.
        for folder in [layout.root.clone(), layout.slots(), layout.stages(), layout.volumes(), layout.pods()] {
            durable::sweep_temporaries(&folder).map_err(io)?;
        }
        Ok(Self { layout, _lock: lock })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Takes the advisory lock of an open file, if nobody has it. The lock belongs to the open file
/// description: a process that was given the file keeps it for its life.
///
/// # Errors
/// Those of the system, but for somebody else's lock.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    content: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Deserialize)]
struct Read<T> {
    content: T,
}

/// The bytes of a file of the state folder.
///
/// # Errors
/// Those of serde, which the types in use do not have.
pub(crate) fn encode<T: Serialize>(content: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(&Written { version: STATE_VERSION, content })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file of the state folder. `None`: it is not there.
pub(crate) fn read<T: DeserializeOwned>(layout: &Layout, path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let source = io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
            return Err(StateError::Io { folder: layout.root.clone(), source });
        }
    };
    let damaged = |source| StateError::Damaged { path: path.to_owned(), source };
    let VersionOnly { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version != STATE_VERSION {
        return Err(StateError::Version { path: path.to_owned(), found: version });
    }
    let Read { content } = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(Some(content))
}

/// Writes a file of the state folder: durable before it returns.
pub(crate) fn write<T: Serialize>(layout: &Layout, path: &Path, content: &T) -> Result<(), StateError> {
    encode(content)
        .and_then(|bytes| durable::write_atomic(path, &bytes))
        .map_err(|source| StateError::Io { folder: layout.root.clone(), source })
}

/// Names of the entries of a folder, sorted; unfinished files are left out.
pub(crate) fn names(layout: &Layout, folder: &Path) -> Result<Vec<String>, StateError> {
    let io = |error: io::Error| StateError::Io {
        folder: layout.root.clone(),
        source: io::Error::new(error.kind(), format!("cannot list {}: {error}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with(durable::TEMPORARY_PREFIX)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_parent_at_a_time_holds_a_folder_and_the_other_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("a/b"));
        let held = Folder::hold(layout.clone()).unwrap();
        let error = Folder::hold(layout.clone()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        Folder::hold(layout).unwrap();
    }

    #[test]
    fn a_file_of_another_version_is_refused_and_a_damaged_one_named() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let path = layout.build();
        write(&layout, &path, &vec![1, 2, 3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&layout, &path).unwrap(), Some(vec![1, 2, 3]));
        fs::write(&path, r#"{"version": 2, "content": {"new": true}}"#).unwrap();
        let error = read::<Vec<u32>>(&layout, &path).unwrap_err();
        assert!(matches!(error, StateError::Version { found: 2, .. }), "{error}");
        fs::write(&path, r#"{"version": 1, "content": [1, 2"#).unwrap();
        let error = read::<Vec<u32>>(&layout, &path).unwrap_err();
        assert!(error.to_string().contains("build.json is damaged"), "{error}");
        assert_eq!(read::<Vec<u32>>(&layout, &layout.slot(7)).unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_way_out() {
        let error = Folder::hold(Layout::new(PathBuf::from("/proc/indexbuild"))).unwrap_err().to_string();
        assert!(error.contains("/proc/indexbuild") && error.contains("--state"), "{error}");
    }

    #[test]
    fn a_socket_path_always_fits_and_is_found_again() {
        let short = Layout::new(PathBuf::from("/tmp/state"));
        assert_eq!(short.socket(), PathBuf::from("/tmp/state/parent.sock"));
        let long = Layout::new(PathBuf::from(format!("/tmp/{}", "x".repeat(200))));
        assert!(long.socket().as_os_str().len() <= MAX_SOCKET_PATH);
        assert_eq!(long.socket(), long.socket());
        assert_ne!(long.socket(), Layout::new(PathBuf::from(format!("/tmp/{}", "y".repeat(200)))).socket());
    }

    #[test]
    fn a_new_parent_sweeps_what_the_last_one_left_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        drop(Folder::hold(layout.clone()).unwrap());
        fs::write(layout.slots().join(".tmp-1-0-0.json"), b"half").unwrap();
        fs::create_dir(layout.volumes().join(".tmp-removed-0-1")).unwrap();
        drop(Folder::hold(layout.clone()).unwrap());
        assert_eq!(fs::read_dir(layout.slots()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(layout.volumes()).unwrap().count(), 0);
    }
}
