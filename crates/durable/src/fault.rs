//! The points at which tests break a write.
//!
//! A process counts its durable steps: two points each, one before the step and one after it. What
//! they suffer is a [`Faults`] of its environment; without one, a step costs one relaxed load.
//! Nothing here decides anything in an undisturbed run.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::test_switches::{FAULTS, Faults, from_environment};

/// `ENOSPC`: no space left on device.
const NO_SPACE: i32 = 28;
/// `EIO`: input/output error.
const INPUT_OUTPUT: i32 = 5;

/// The kinds of durable step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create,
    /// A finished file is opened to be flushed.
    Open,
    /// Bytes are written.
    Write,
    /// A file or folder is flushed to the disk.
    Fsync,
    /// A file gets its final name.
    Rename,
    /// A file gets another name.
    Link,
    CreateDir,
    /// A file or folder is removed.
    Remove,
    Upload,
    /// An object is created if absent, or replaced if unchanged.
    ConditionalPut,
    Delete,
}

impl Op {
    const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Write => "write",
            Self::Fsync => "flush",
            Self::Rename => "rename to",
            Self::Link => "link",
            Self::CreateDir => "make the folder",
            Self::Remove => "remove",
            Self::Upload => "upload",
            Self::ConditionalPut => "put",
            Self::Delete => "delete",
        }
    }

    const fn needs_space(self) -> bool {
        match self {
            Self::Create | Self::Write | Self::CreateDir => true,
            Self::Open
            | Self::Fsync
            | Self::Rename
            | Self::Link
            | Self::Remove
            | Self::Upload
            | Self::ConditionalPut
            | Self::Delete => false,
        }
    }
}

struct Active {
    faults: Faults,
    points: AtomicU64,
    writes: AtomicU64,
}

impl Active {
    const fn new(faults: Faults) -> Self {
        Self { faults, points: AtomicU64::new(0), writes: AtomicU64::new(0) }
    }
}

static ACTIVE: OnceLock<Option<Active>> = OnceLock::new();

/// Sets the faults of this process, instead of the environment. Returns whether it was in time: the first durable step
/// settles them.
#[must_use]
pub fn arm(faults: Faults) -> bool {
    ACTIVE.set(Some(Active::new(faults))).is_ok()
}

fn active() -> Option<&'static Active> {
    ACTIVE
        .get_or_init(|| {
            let faults: Faults = from_environment(FAULTS).unwrap_or_else(|error| {
                tracing::error!(%error, "the process ends");
                std::process::exit(64);
            });
            (faults != Faults::default()).then(|| Active::new(faults))
        })
        .as_ref()
}

/// Performs one durable step between its two points. The error names the step and the path, and
/// keeps the kind of the system's error.
///
/// # Errors
/// Those of `act`, and those that were asked for.
pub fn step<T>(op: Op, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let named = |error| super::at(path, op.verb(), error);
    before(op, path).map_err(named)?;
    let done = act().map_err(named)?;
    after(op, path);
    Ok(done)
}

/// The point before a step that is not a plain function call (an upload, say).
///
/// # Errors
/// Those that were asked for.
pub fn before(op: Op, path: &Path) -> io::Result<()> {
    let Some(active) = active() else {
        return Ok(());
    };
    active.pass(op, "before", path);
    if op.needs_space() && active.faults.no_space_while.as_deref().is_some_and(Path::exists) {
        return Err(io::Error::from_raw_os_error(NO_SPACE));
    }
    if op == Op::Write {
        let write = active.writes.fetch_add(1, Ordering::SeqCst);
        if active.faults.fail_write == Some(write) {
            return Err(io::Error::from_raw_os_error(INPUT_OUTPUT));
        }
    }
    Ok(())
}

/// The point after a step.
pub fn after(op: Op, path: &Path) {
    if let Some(active) = active() {
        active.pass(op, "after", path);
    }
}

impl Active {
    fn pass(&self, op: Op, moment: &str, path: &Path) {
        let point = self.points.fetch_add(1, Ordering::SeqCst);
        if let Some(trace) = &self.faults.trace {
            let line = format!("{point} {moment} {op:?} {}\n", path.display());
            let written = OpenOptions::new()
                .create(true)
                .append(true)
                .open(trace)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(error) = written {
                tracing::warn!(%error, trace = %trace.display(), "the trace of durable steps cannot be written");
            }
        }
        if self.faults.kill_at == Some(point) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is delivered before the call returns; nothing may be done after it.
            loop {
                std::thread::park();
            }
        }
    }
}
