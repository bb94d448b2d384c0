//! What is read: the files and their states at the time of the plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The pinned list of files, sorted by URL. A file's number is its position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The files.
    pub files: Vec<FileStamp>,
}

impl Snapshot {
    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// A file and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStamp {
    /// Its absolute URL, without patterns.
    pub url: String,
    /// Its length in bytes.
    pub size: u64,
    /// The store's etag, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Where there is no etag: when it was last modified, RFC 3339, local files to the nanosecond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
}

impl FileStamp {
    /// Whether both describe the same state of a file.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        let Self { url: _, size, etag, mtime } = self;
        *size == other.size && *etag == other.etag && *mtime == other.mtime
    }
}

/// The state in words: `123 bytes, etag "..."`.
impl fmt::Display for FileStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)?;
        if let Some(etag) = &self.etag {
            write!(f, ", etag {etag}")?;
        }
        if let Some(mtime) = &self.mtime {
            write!(f, ", modified {mtime}")?;
        }
        Ok(())
    }
}
