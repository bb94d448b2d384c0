//! What can go wrong with a test cluster, each with the place where more is to be read.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A test cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// This machine cannot run one.
    #[error("no test cluster can run here: {0}")]
    Unavailable(String),
    /// A file of the cluster's folder.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program that cannot be started.
    #[error("{program} cannot be started: {source}; is it installed?")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A command that failed.
    #[error("{command} failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed.
        output: String,
    },
    /// Something did not come to pass in time.
    #[error("{what} did not come to pass within {} s; last seen: {seen}\n{context}\nlogs: {}", within.as_secs(), logs.display())]
    Deadline {
        /// The condition.
        what: String,
        /// How long it was waited for.
        within: Duration,
        /// What was there instead.
        seen: String,
        /// Recent events, or the end of a log.
        context: String,
        /// Where all logs are.
        logs: PathBuf,
    },
    /// A certificate that cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// kubectl's answer, or a record of the audit log, is not JSON.
    #[error("what kubectl printed, or a line of the audit log, is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Gives an error of the file system its place.
pub(crate) trait At<T> {
    /// Names what was tried, and with which file.
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, TestbedError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, TestbedError> {
        self.map_err(|source| TestbedError::Io { what, path: path.into(), source })
    }
}
