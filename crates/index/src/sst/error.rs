//! RocksDB's errors, told apart by its messages, here and nowhere else.

use std::io;
use std::path::{Path, PathBuf};

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// This process has it open already: a handle was not closed (pingcap/tidb#58776).
    #[error(
        "the database in {} is open in this process already, which has to close it or end: {message}",
        path.display()
    )]
    LockHeldByThisProcess {
        /// The database's folder.
        path: PathBuf,
        /// RocksDB's words.
        message: String,
    },
    /// Another process has it open.
    #[error("the database in {} is open in another process, which has to close it or end: {message}", path.display())]
    LockHeldByAnotherProcess {
        /// The database's folder.
        path: PathBuf,
        /// RocksDB's words.
        message: String,
    },
    /// A file is damaged.
    #[error("cannot {act} the database in {}, a file is damaged: {message}", path.display())]
    Corrupt {
        /// The database's folder.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// RocksDB's words.
        message: String,
    },
    /// The disk is full.
    #[error("cannot {act} the database in {}, no space left: {message}", path.display())]
    NoSpace {
        /// The database's folder.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// RocksDB's or the system's words.
        message: String,
    },
    /// Anything else that RocksDB refuses.
    #[error("cannot {act} the database in {}: {message}", path.display())]
    Refused {
        /// The database's folder.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// RocksDB's words.
        message: String,
    },
    /// A failure of the file system beside RocksDB.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

impl DbError {
    pub(crate) fn of(path: &Path, act: &'static str, source: rocksdb::Error) -> Self {
        Self::of_message(path, act, source.into_string())
    }

    /// RocksDB 11.8's words: `env/fs_posix.cc` ("lock hold by current process, acquire time …: No
    /// locks available", "While lock file: …: Resource temporarily unavailable"), `util/status.cc`.
    pub(crate) fn of_message(path: &Path, act: &'static str, message: String) -> Self {
        let path = path.to_owned();
        if message.contains("lock hold by current process") {
            Self::LockHeldByThisProcess { path, message }
        } else if message.contains("While lock file") && message.contains("Resource temporarily unavailable") {
            Self::LockHeldByAnotherProcess { path, message }
        } else if message.contains("No space left on device") {
            Self::NoSpace { path, act, message }
        } else if message.starts_with("Corruption") {
            Self::Corrupt { path, act, message }
        } else {
            Self::Refused { path, act, message }
        }
    }

    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path: path.to_owned(), act: "write to", message: source.to_string() }
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
