//! Processes: how they are started, told to stop, and proved gone.
//!
//! A pod's process gets the pod's lock file, already locked, as its standard input. The lock belongs
//! to the open file, so it is held from before the process exists until the kernel has closed its
//! last file: whoever can take it has proof that the process is gone, also when the parent that
//! started it was killed in between.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::folder::try_lock;

#[derive(Debug)]
pub(crate) struct SpawnSpec<'a> {
    pub executable: &'a Path,
    pub arguments: Vec<std::ffi::OsString>,
    pub environment: Vec<(String, String)>,
    /// Variables it must not inherit.
    pub without: Vec<&'static str>,
    /// The lock that it holds for its life.
    pub lock: &'a Path,
    /// Where its standard streams go, appended.
    pub log: &'a Path,
}

/// Starts a process in a process group of its own (a Ctrl-C in the terminal is the parent's to
/// interpret), holding its lock.
pub(crate) fn start(birth: &SpawnSpec<'_>) -> io::Result<tokio::process::Child> {
    let SpawnSpec { executable, arguments, environment, without, lock, log } = birth;
    let lock_file = open_lock(lock)?;
    if !try_lock(&lock_file)? {
        return Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{} is held by another process", lock.display()),
        ));
    }
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    let out = OpenOptions::new().create(true).append(true).open(log).map_err(named(log))?;
    let err = out.try_clone()?;
    let mut command = Command::new(executable);
    command
        .args(arguments)
        .stdin(Stdio::from(lock_file))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .process_group(0);
    for name in without {
        command.env_remove(name);
    }
    for (name, value) in environment {
        command.env(name, value);
    }
    tokio::process::Command::from(command).spawn().map_err(named(executable))
}

/// Opens a pod's lock file, making it where it is missing.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Whether the process that held this lock is gone, whoever started it. A missing lock proves
/// nothing: `false`.
pub(crate) fn is_gone(lock: &Path) -> bool {
    OpenOptions::new().read(true).open(lock).is_ok_and(|file| try_lock(&file).unwrap_or(false))
}

/// A process writes its id into its own lock file, so that a later parent can signal it.
pub(crate) fn write_pid(lock: &Path) -> io::Result<()> {
    fs::write(lock, format!("{}\n", std::process::id()))
}

/// The id of the process that holds a lock, as it wrote it. While the lock is held, the id is its own.
pub(crate) fn holder(lock: &Path) -> Option<i32> {
    let pid = fs::read_to_string(lock).ok()?.trim().parse().ok()?;
    (!is_gone(lock)).then_some(pid)
}

/// Sends a signal. The caller knows that the id still belongs to the process: it is its own child,
/// not reaped yet, or holds its lock.
pub(crate) fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process id"))?;
    kill_process(pid, signal)?;
    Ok(())
}

/// How a process ended, to be read.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed (SIGKILL)".to_owned(),
        (None, Some(15)) => "ended by SIGTERM".to_owned(),
        (None, Some(6)) => "aborted (SIGABRT)".to_owned(),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_process::usage;

    use super::*;

    fn sleeper(folder: &Path) -> tokio::process::Child {
        start(&SpawnSpec {
            executable: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), "echo started; exec sleep 60".into()],
            environment: Vec::new(),
            without: vec![indexbuild_durable::test_switches::FAULTS],
            lock: &folder.join("lock"),
            log: &folder.join("log"),
        })
        .unwrap()
    }

    /// Evidence: a process's lock can be taken only once it is gone, also by somebody who is not its
    /// parent and cannot reap it.
    #[tokio::test]
    async fn a_lock_is_held_from_before_the_birth_until_the_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        assert!(!is_gone(&lock), "a missing lock proves nothing");
        let mut child = sleeper(folder.path());
        assert!(!is_gone(&lock));
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        assert!(usage(pid).is_some_and(|usage| usage.peak_rss > 0));
        signal(pid, Signal::STOP).unwrap();
        assert!(!is_gone(&lock), "a frozen process is not gone");
        signal(pid, Signal::KILL).unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(describe(status), "killed (SIGKILL)");
        assert!(is_gone(&lock));
        assert_eq!(usage(pid), None);
    }

    #[tokio::test]
    async fn a_lock_that_is_held_lets_no_second_process_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path());
        let second = start(&SpawnSpec {
            executable: Path::new("/bin/true"),
            arguments: Vec::new(),
            environment: Vec::new(),
            without: Vec::new(),
            lock: &folder.path().join("lock"),
            log: &folder.path().join("log"),
        });
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        child.kill().await.unwrap();
    }
}
