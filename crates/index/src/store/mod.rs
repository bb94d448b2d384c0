//! Where indexes are kept: one prefix of an object store, or a folder.
//!
//! Two operations carry the commit protocol, and both backends hold to them: create-if-absent has
//! one winner, and put-if-match replaces only what was read.

mod local;
mod remote;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
pub use indexbuild_store::Fault;
use indexbuild_store::{Asked, missing_right};
pub use indexbuild_store::{BadCaFile, CaCertificates, Patience, StoreOptions};
use url::Url;

use self::local::LocalStore;
use self::remote::RemoteStore;

/// The URL schemes that are known.
pub const KNOWN_SCHEMES: &str = "file, s3, gs, az, http, https";

/// One prefix of a store. Cheap to clone.
///
/// Its operations need a Tokio runtime, which may be another one for each: connections live on one of their own. All paths
/// are relative, with `/` between their parts.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    prefix: String,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<LocalStore>),
    Remote(Arc<RemoteStore>),
}

/// The state of an object when it was read: its entity tag, or for files the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    e_tag: Option<String>,
    version: Option<String>,
}

/// How a conditional put ended. A lost reply is none of these but an error: the writer reads back
/// what stands there and compares the put-id inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The put succeeded.
    Created,
    /// Something else stands there (for put-if-match also: nothing).
    Exists,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store has this scheme.
    #[error("`{url}` has a scheme that is not known; known ones are {KNOWN_SCHEMES}")]
    UnknownScheme {
        /// The URL.
        url: String,
    },
    /// Not a URL of a store.
    #[error("`{url}` is not the URL of a store: {why}")]
    InvalidUrl {
        /// The URL.
        url: String,
        /// Why not.
        why: String,
    },
    /// A path with empty, hidden or upward parts.
    #[error("`{path}` cannot be the path of an object: {why}")]
    InvalidPath {
        /// The path.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// The object is not there.
    #[error("{url} does not exist")]
    NotFound {
        /// The object.
        url: String,
    },
    /// The bucket or folder that is to hold the object does not exist.
    #[error("the bucket of {url} does not exist; create it, or correct the URL")]
    NoBucket {
        /// The object.
        url: String,
    },
    /// The object is shorter than what was asked for.
    #[error("{url} has {size} bytes, and bytes {start} to {end} were asked for: it is cut off, or another object")]
    OutOfRange {
        /// The object.
        url: String,
        /// Its size.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// End of what was asked for.
        end: u64,
    },
    /// The file system does not allow it.
    #[error("{url}: permission denied; check the folder's owner and mode")]
    Denied {
        /// The object.
        url: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The remote store refuses, or cannot prove who it is.
    #[error(
        "{url}: the store refuses; {}",
        right.as_deref().unwrap_or("check the credentials and their rights, and which CA vouches for the store")
    )]
    Refused {
        /// The object.
        url: String,
        /// The right that is missing, where the refusal is about one.
        right: Option<String>,
        /// The store's words.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The disk is full.
    #[error("{url}: no space left")]
    NoSpace {
        /// The object.
        url: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Another failure of the file system.
    #[error("{url} cannot be used")]
    Io {
        /// The object.
        url: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Another failure of the remote store. After a put, what stands there is not known.
    #[error("{url} cannot be reached or used")]
    Remote {
        /// The object.
        url: String,
        /// The store's words.
        #[source]
        source: Box<object_store::Error>,
    },
}

impl StoreError {
    /// Whether the same operation may succeed later with nothing changed by hand.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownScheme { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidPath { .. }
            | Self::NotFound { .. }
            | Self::NoBucket { .. }
            | Self::OutOfRange { .. }
            | Self::Denied { .. }
            | Self::Refused { .. } => false,
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
            ),
            Self::Remote { source, .. } => Fault::of(source) == Fault::Outage,
        }
    }

    /// The kind of the store's failure. `None` for a failure of a folder.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::UnknownScheme { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidPath { .. }
            | Self::OutOfRange { .. } => Some(Fault::Final),
            Self::NotFound { .. } => Some(Fault::NotFound),
            Self::NoBucket { .. } => Some(Fault::NoBucket),
            Self::Refused { .. } => Some(Fault::Refused),
            Self::Remote { url: _, source } => Some(Fault::of(source)),
            Self::Denied { .. } | Self::NoSpace { .. } | Self::Io { .. } => None,
        }
    }

    /// The right that is missing, where the store's refusal is about one.
    #[must_use]
    pub fn missing_right(&self) -> Option<&str> {
        match self {
            Self::Refused { right, .. } => right.as_deref(),
            _ => None,
        }
    }

    /// An error of a remote store that was asked for this, classified.
    fn from_remote(url: String, asked: Asked, source: object_store::Error) -> Self {
        match Fault::of(&source) {
            Fault::NotFound => Self::NotFound { url },
            Fault::NoBucket => Self::NoBucket { url },
            Fault::Refused => {
                let right = missing_right(&url, asked, &source);
                Self::Refused { url, right, source: Box::new(source) }
            }
            Fault::Outage | Fault::Final => Self::Remote { url, source: Box::new(source) },
        }
    }

    /// An error of the file system, classified.
    fn from_io(url: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { url },
            io::ErrorKind::PermissionDenied => Self::Denied { url, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { url, source },
            _ => Self::Io { url, source },
        }
    }
}

impl Store {
    /// Opens the store at `url`: `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`,
    /// `http(s)://…`. Nothing is read or written yet. Percent-encoding is undone in `file://` and `http(s)://`, once; the
    /// prefix in a bucket is taken literally, as keys of a source are.
    ///
    /// # Errors
    /// [`StoreError::UnknownScheme`], [`StoreError::InvalidUrl`], or that of an option which the store
    /// does not know.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let invalid = |why: String| StoreError::InvalidUrl { url: url.to_owned(), why };
        if indexbuild_store::is_file_url(url) {
            let folder = indexbuild_store::path_of_file_url(url).map_err(|error| invalid(error.to_string()))?;
            return Ok(Self { backend: Backend::Local(Arc::new(LocalStore::new(folder))), prefix: String::new() });
        }
        let parsed = Url::parse(url).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => {
                invalid("it has no scheme; a folder is written file:///the/folder".into())
            }
            error => invalid(error.to_string()),
        })?;
        let (root, prefix) = RemoteStore::open(url, &parsed, options)?;
        Ok(Self { backend: Backend::Remote(Arc::new(root)), prefix })
    }

    /// The store under a further part of the path.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let prefix = match (self.prefix.is_empty(), path.is_empty()) {
            (_, true) => self.prefix.clone(),
            (true, false) => path.to_owned(),
            (false, false) => format!("{}/{path}", self.prefix),
        };
        Self { backend: self.backend.clone(), prefix }
    }

    /// The URL of the prefix.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.backend {
            Backend::Local(root) => root.url(&self.prefix),
            Backend::Remote(root) => root.url(&self.prefix),
        }
    }

    /// Whether it is a folder of this machine, whose files can be linked instead of copied.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.backend {
            Backend::Local(_) => true,
            Backend::Remote(_) => false,
        }
    }

    /// The object's whole path in its backend.
    fn full(&self, path: &str) -> Result<String, StoreError> {
        let refuse = |why| Err(StoreError::InvalidPath { path: path.to_owned(), why });
        if path.is_empty() {
            return refuse("it is empty");
        }
        for part in path.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return refuse("a part of it is empty, `.` or `..`");
            }
            if part.starts_with(indexbuild_durable::TEMPORARY_PREFIX) {
                return refuse("such names are those of unfinished files");
            }
        }
        Ok(if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) })
    }

    /// An object and its version; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, path: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.get(path).await,
            Backend::Remote(root) => root.get(&path).await,
        }
    }

    /// Exactly these bytes of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OutOfRange`], and others.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.get_range(path, range).await,
            Backend::Remote(root) => root.get_range(&path, range).await,
        }
    }

    /// An object's size; `None` when there is none. The object is not read, whatever the backend: asking this of
    /// all files of an index takes no memory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.size(path).await,
            Backend::Remote(root) => root.size(&path).await,
        }
    }

    /// Puts an object under a path that nobody else writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.put(path, bytes).await,
            Backend::Remote(root) => root.put(&path, bytes).await,
        }
    }

    /// Creates an object; of all who try, one succeeds (G6).
    ///
    /// # Errors
    /// [`StoreError`]; after one that [`StoreError::is_retryable`], what stands there is not known, and
    /// is to be read back.
    pub async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.put_if_absent(path, bytes).await,
            Backend::Remote(root) => root.put_if_absent(&path, bytes).await,
        }
    }

    /// Replaces an object that still has this version.
    ///
    /// # Errors
    /// As [`Store::put_if_absent`].
    pub async fn put_if_match(&self, path: &str, bytes: Bytes, version: &Version) -> Result<PutOutcome, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.put_if_match(path, bytes, version.clone()).await,
            Backend::Remote(root) => root.put_if_match(&path, bytes, version).await,
        }
    }

    /// Puts a sealed file. A folder on the same file system links it, so that it must never be
    /// changed afterwards; remotely one of more than 8 MiB goes up in parts of as much, two at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_file(&self, path: &str, file: &Path) -> Result<(), StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.put_file(path, file.to_owned()).await,
            Backend::Remote(root) => root.put_file(&path, file).await,
        }
    }

    /// Fetches an object to `target`, which is complete when it is there, and returns its length. A
    /// folder's file on the same file system is linked.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NotFound`] when there is none.
    pub async fn fetch_to(&self, path: &str, target: &Path) -> Result<u64, StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.fetch_to(path, target.to_owned()).await,
            Backend::Remote(root) => root.fetch_to(&path, target).await,
        }
    }

    /// All objects under `prefix` (a folder's path; empty: all), with their sizes, sorted by path. The
    /// paths are relative to this store. Unfinished files are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = prefix.trim_matches('/');
        let full = if prefix.is_empty() { self.prefix.clone() } else { self.full(prefix)? };
        let mut listed = match &self.backend {
            Backend::Local(root) => root.list(full).await?,
            Backend::Remote(root) => root.list(&full).await?,
        };
        if !self.prefix.is_empty() {
            for (path, _) in &mut listed {
                if let Some(relative) = path.strip_prefix(&self.prefix) {
                    *path = relative.trim_start_matches('/').to_owned();
                }
            }
        }
        listed.sort();
        Ok(listed)
    }

    /// Deletes an object; one that is not there counts as deleted. In a folder, folders that have
    /// become empty go too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let path = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.delete(path).await,
            Backend::Remote(root) => root.delete(&path).await,
        }
    }

    /// Removes what killed writers left of conditional puts to `path`; those that run are waited for.
    /// Object stores show no unfinished objects; there it does nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_unfinished_puts(&self, path: &str) -> Result<usize, StoreError> {
        let full = self.full(path)?;
        match &self.backend {
            Backend::Local(root) => root.remove_unfinished_puts(full).await,
            Backend::Remote(_) => Ok(0),
        }
    }

    /// Removes what crashed writers left unfinished under `prefix`, and folders that are empty. Call it
    /// only where nobody writes any more. Object stores show no unfinished objects; there it does
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_unfinished(&self, prefix: &str) -> Result<usize, StoreError> {
        let prefix = prefix.trim_matches('/');
        let full = if prefix.is_empty() { self.prefix.clone() } else { self.full(prefix)? };
        match &self.backend {
            Backend::Local(root) => root.remove_unfinished(full).await,
            Backend::Remote(_) => Ok(0),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}
