//! What can go wrong on the data path.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_index::EncodeError;
use indexbuild_text::{causes, chain};
use thiserror::Error;

/// An error of something handed in (a reader, a callback).
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why an engine's job ended without its outcome. Every handle and lock is released by then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// G9: an attempt never enters a folder that is there already.
    #[error(
        "the attempt's folder {path} exists already: another process was given the same epoch and nonce; \
         this attempt must end, the next one gets a new epoch"
    )]
    AttemptExists { path: PathBuf },
    #[error("cannot {act} {path}")]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    /// The volume is full. Nothing sealed is lost; work can go on when there is room.
    #[error(
        "no space left on the volume at {path}; free some, or enlarge the volume: the work goes on from its sealed files"
    )]
    NoSpace {
        path: PathBuf,
        /// The system's or RocksDB's word.
        source: BoxError,
    },
    #[error(transparent)]
    NotAdmitted(#[from] NoSpace),
    #[error("cannot read split {split}")]
    Read { split: u32, source: BoxError },
    #[error("cannot encode split {split} for index {index:?}")]
    Encode { index: String, split: u32, source: EncodeError },
    #[error("index {index:?} cannot be built")]
    Definition { index: String, source: EncodeError },
    #[error("cannot fetch {len} bytes at {offset} of run {run}")]
    Fetch { run: String, offset: u64, len: u64, source: BoxError },
    #[error("cannot hand on what was sealed as {name}")]
    HandOn {
        /// The run's or range's name.
        name: String,
        source: BoxError,
    },
    /// I3: pieces of runs are not what was sealed. The splits must be encoded again.
    #[error("damaged: {what}; splits {splits:?} must be encoded again (runs {names:?} are kept for inspection)")]
    Damaged {
        /// Positions of the damaged runs in the job's list.
        runs: Vec<usize>,
        names: Vec<String>,
        splits: Vec<u32>,
        what: String,
    },
    #[error("the table of run {path} cannot be used: {why}")]
    BadTable { path: PathBuf, why: String },
    #[error("the plan of index {index:?} cannot be used: {why}")]
    BadPlan { index: String, why: String },
    #[error("RocksDB cannot {act} {path}")]
    Rocks { act: &'static str, path: PathBuf, source: BoxError },
    /// The incident: somebody has the engine's RocksDB open.
    #[error(
        "the engine at {path} is locked by {}; an attempt never waits for it: end this one, the next gets a folder of its own",
        if *.by_this_process { "this process" } else { "another process" }
    )]
    EngineLocked {
        path: PathBuf,
        /// Whether the handle is in this process.
        by_this_process: bool,
        source: BoxError,
    },
    #[error(
        "index {index:?} is not unique, yet two rows have the same key {key} with the same row id {row}: \
         `rowId` does not identify a row; name columns that do, or leave `rowId` out"
    )]
    DuplicateKeyOutsideUnique {
        index: String,
        /// The stored key, in words and as hex.
        key: String,
        /// The row id, in words.
        row: String,
    },
    /// Counts that must be equal are not (I6).
    #[error("{what}: {expected} expected, {found} found; nothing of this attempt may be used")]
    Disagrees {
        what: String,
        /// The count it should have.
        expected: u64,
        found: u64,
    },
    #[error("the work was cancelled")]
    Cancelled,
    #[error("a thread of the job panicked: {0}")]
    Panicked(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{} needed on the volume at {}, {} free: enlarge the volume by {} or free that much",
    at_least(*need), path.display(), at_least(*free), at_least(need.saturating_sub(*free))
)]
pub struct NoSpace {
    /// Bytes the work may need.
    pub need: u64,
    /// Bytes free now.
    pub free: u64,
    pub path: PathBuf,
}

/// Rounded up: who frees as much has freed enough.
fn at_least(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB { format!("{} MiB", bytes.div_ceil(MIB)) } else { format!("{bytes} B") }
}

impl EngineError {
    /// The error of a file operation; a full disk is told apart.
    pub(crate) fn io(act: &'static str, path: &Path, source: io::Error) -> Self {
        if io_is_no_space(&source) {
            Self::NoSpace { path: path.to_owned(), source: Box::new(source) }
        } else {
            Self::Io { act, path: path.to_owned(), source }
        }
    }

    pub(crate) fn rocks(act: &'static str, path: &Path, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        let text = chain(source.as_ref());
        let path = path.to_owned();
        if says_no_space(&text) { Self::NoSpace { path, source } } else { Self::Rocks { act, path, source } }
    }

    /// The error of a callback; a full disk below it is told apart.
    pub(crate) fn hand_on(name: &str, path: &Path, source: BoxError) -> Self {
        if is_no_space(source.as_ref()) {
            Self::NoSpace { path: path.to_owned(), source }
        } else {
            Self::HandOn { name: name.to_owned(), source }
        }
    }

    /// Whether room on the volume is all that is missing.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::NotAdmitted(_)) || is_no_space(self)
    }
}

/// Whether an error, or what caused it, is a full disk or an exhausted quota.
pub fn is_no_space(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(io_is_no_space)
            || error.is::<NoSpace>()
            || error.downcast_ref::<rocksdb::Error>().is_some_and(|error| says_no_space(error.as_ref()))
    })
}

/// RocksDB has no code for a full disk in its C API: its text says so.
fn says_no_space(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

fn io_is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives file operations their place in the error.
pub(crate) trait At<T> {
    fn at(self, act: &'static str, path: &Path) -> Result<T, EngineError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, act: &'static str, path: &Path) -> Result<T, EngineError> {
        self.map_err(|source| EngineError::io(act, path, source))
    }
}
