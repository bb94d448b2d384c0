//! A long-running process inside the namespaces, its output in a log.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{At as _, TestbedError};
use crate::namespace::{children_of, signal};

/// A process that was started through `nsenter`.
#[derive(Debug)]
pub(crate) struct Process {
    entering: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its output is added to `<logs>/<name>.log`.
    pub(crate) fn start(mut command: Command, name: &str, logs: &Path) -> Result<Self, TestbedError> {
        let log = logs.join(format!("{name}.log"));
        let open = || -> Result<File, TestbedError> {
            OpenOptions::new().create(true).append(true).open(&log).at("open", &log)
        };
        let entering = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(|source| TestbedError::Spawn { program: name.to_owned(), source })?;
        Ok(Self { entering, log })
    }

    pub(crate) fn ended(&mut self) -> bool {
        matches!(self.entering.try_wait(), Ok(Some(_)))
    }

    pub(crate) fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Sends a signal to the process itself; `nsenter` waits beside it.
    pub(crate) fn signal(&self, what: Signal) {
        // `nsenter` stops with its child, and does not go on with it. Stopped, it never reaps the child, and the kernel
        // waits for that before it ends the namespaces.
        if what == Signal::CONT {
            signal(self.entering.id(), Signal::CONT);
        }
        for pid in children_of(self.entering.id()) {
            signal(pid, what);
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(mut self) {
        let start = Instant::now();
        while !self.ended() && start.elapsed() < Duration::from_secs(10) {
            // A stopped `nsenter` would not notice the end of its child.
            signal(self.entering.id(), Signal::CONT);
            self.signal(Signal::KILL);
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.entering.kill();
        let _ = self.entering.wait();
    }
}
