//! What can go wrong with a test cluster, each with the place where more is to be read.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A test cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    #[error("no test cluster can run here: {0}")]
    Unavailable(String),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{program} cannot be started: {source}; is it installed?")]
    Spawn { program: String, source: io::Error },
    #[error("{command} failed ({status}):\n{output}")]
    Command { command: String, status: String, output: String },
    #[error("{what} did not come to pass within {} s; last seen: {seen}\n{context}\nlogs: {}", within.as_secs(), logs.display())]
    Deadline {
        what: String,
        /// How long it was waited for.
        within: Duration,
        seen: String,
        /// Recent events, or the end of a log.
        context: String,
        logs: PathBuf,
    },
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
