//! One file of the snapshot: its state is checked whenever it is read.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use indexbuild_store::{Asked, Fault, Patience, download_bytes};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use rustix::fs::{Mode, OFlags};

use super::bucket::{Bucket, PendingRequest};
use super::location::Location;
use super::stores::Stores;
use super::walk::no_file;
use crate::error::SourceError;
use crate::retry::RetryPolicy;
use crate::snapshot::{FileStamp, opaque_tag};

/// A file and the state in which it must be.
#[derive(Debug)]
pub(crate) struct PinnedFile {
    stamp: FileStamp,
    place: Place,
    policy: Arc<dyn RetryPolicy>,
}

#[derive(Clone, Debug)]
enum Place {
    Local(PathBuf),
    Remote { bucket: Arc<Bucket>, path: Path },
}

impl PinnedFile {
    /// The file of a stamp. Nothing is looked at yet.
    pub(crate) fn new(stamp: &FileStamp, stores: &Stores) -> Result<Self, SourceError> {
        let place = match Location::parse(&stamp.url)? {
            Location::Local(place) => Place::Local(place.path),
            Location::Remote { scheme, base, key, pattern: _ } => Place::Remote {
                bucket: stores.bucket(scheme, &base)?,
                path: Path::parse(&key)
                    .map_err(|error| SourceError::InvalidUrl { url: stamp.url.clone(), why: error.to_string() })?,
            },
        };
        Ok(Self { stamp: stamp.clone(), place, policy: stores.policy() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.stamp.url
    }

    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// An error if the file is not in the pinned state any more.
    pub(crate) fn check(&self) -> Result<(), SourceError> {
        self.policy.go_on(self.url())?;
        match &self.place {
            Place::Local(path) => match std::fs::metadata(path) {
                Ok(metadata) => self.compare(&local_stamp(self.url(), &metadata)),
                Err(error) => Err(self.missing_or(error)),
            },
            Place::Remote { bucket, path } => {
                let meta = head(self.url(), bucket, path)?.map_err(|error| self.gone_or(error))?;
                self.compare(&remote_stamp(self.url(), &meta))
            }
        }
    }

    fn compare(&self, now: &FileStamp) -> Result<(), SourceError> {
        if self.stamp.same_state(now) { Ok(()) } else { Err(self.changed(&now.to_string())) }
    }

    fn changed(&self, is: &str) -> SourceError {
        SourceError::FileChanged { url: self.url().to_owned(), was: self.stamp.to_string(), is: is.to_owned() }
    }

    fn missing_or(&self, error: std::io::Error) -> SourceError {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            self.changed("gone")
        } else {
            SourceError::from_io(self.url(), error)
        }
    }

    fn gone_or(&self, error: object_store::Error) -> SourceError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            self.changed("gone")
        } else {
            SourceError::from_store(self.url(), Asked::Read, error)
        }
    }

    /// Opens it for reading. What is opened is in the pinned state.
    pub(crate) fn open(self: &Arc<Self>) -> Result<OpenFile, SourceError> {
        let local = match &self.place {
            Place::Local(path) => {
                let file = opened(path).map_err(|error| self.missing_or(error))?;
                let metadata = file.metadata().map_err(|error| SourceError::from_io(self.url(), error))?;
                self.compare(&local_stamp(self.url(), &metadata))?;
                Some(file)
            }
            Place::Remote { .. } => None,
        };
        Ok(OpenFile { file: Arc::clone(self), local })
    }
}

/// A file that is open for reads by position.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: Arc<PinnedFile>,
    local: Option<File>,
}

/// A read of an object that is under way.
pub(crate) struct PendingRead {
    asked: PendingRequest<(ObjectMeta, Bytes)>,
    start: u64,
    length: usize,
}

impl OpenFile {
    pub(crate) fn file(&self) -> &Arc<PinnedFile> {
        &self.file
    }

    /// Whether a read costs a round trip through a network, so that the next one should be under way before it is needed.
    pub(crate) fn is_remote(&self) -> bool {
        self.local.is_none()
    }

    /// Exactly these bytes of the file.
    pub(crate) fn read(&self, start: u64, length: usize) -> Result<Bytes, SourceError> {
        let mut bytes = Vec::new();
        if self.local.is_none() && length > 0 {
            return self.finish(self.start(start, length)?);
        }
        self.append(start, length, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Appends exactly these bytes of the file.
    pub(crate) fn append(&self, start: u64, length: usize, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        self.file.policy.go_on(self.file.url())?;
        let Some(file) = &self.local else {
            if length > 0 {
                bytes.extend_from_slice(&self.read(start, length)?);
            }
            return Ok(());
        };
        bytes.reserve_exact(length);
        let wanted = bytes.len() + length;
        let mut at = start;
        while bytes.len() < wanted {
            let before = bytes.len();
            let target = rustix::buffer::spare_capacity(bytes);
            // More may have been allocated than was asked for; what is read beyond is cut off below.
            match rustix::io::pread(file, target, at) {
                Ok(0) => return Err(self.short(at)),
                Ok(_) => at += (bytes.len() - before) as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(SourceError::from_io(self.file.url(), error.into())),
            }
        }
        bytes.truncate(wanted);
        Ok(())
    }

    fn remote(&self) -> Result<(&Bucket, &Path), SourceError> {
        match &self.file.place {
            Place::Remote { bucket, path } => Ok((bucket, path)),
            Place::Local(_) => Err(SourceError::Internal {
                url: self.file.url().to_owned(),
                detail: "a local file was read as if it were remote".to_owned(),
            }),
        }
    }

    /// Starts to read an object; [`Self::finish`] waits for it.
    pub(crate) fn start(&self, start: u64, length: usize) -> Result<PendingRead, SourceError> {
        self.file.policy.go_on(self.file.url())?;
        let (bucket, path) = self.remote()?;
        let asked = bucket.start(self.file.url(), |store| read(store, path.clone(), start, length))?;
        Ok(PendingRead { asked, start, length })
    }

    /// The bytes of a read that was started. Every answer says which state of the object it comes from; that is compared
    /// here, so that bytes of two states never meet.
    pub(crate) fn finish(&self, pending: PendingRead) -> Result<Bytes, SourceError> {
        let PendingRead { asked, start, length } = pending;
        let (bucket, path) = self.remote()?;
        let answer =
            bucket.finish(self.file.url(), Asked::Read, asked, |store| read(store, path.clone(), start, length))?;
        let (meta, bytes) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // A shorter object answers "range not satisfiable": say that it changed instead.
                let error = self.file.gone_or(error);
                return Err(match self.file.check() {
                    Err(changed @ SourceError::FileChanged { .. }) => changed,
                    _ => error,
                });
            }
        };
        self.file.compare(&remote_stamp(self.file.url(), &meta))?;
        if bytes.len() != length {
            return Err(SourceError::Store {
                url: self.file.url().to_owned(),
                source: format!("the store sent {} bytes where {length} were asked for", bytes.len()).into(),
            });
        }
        Ok(bytes)
    }

    fn short(&self, at: u64) -> SourceError {
        match self.file.check() {
            Err(error) => error,
            Ok(()) => SourceError::Corrupt {
                url: self.file.url().to_owned(),
                format: "complete",
                detail: format!("it ends at byte {at}, before what it refers to"),
                source: None,
            },
        }
    }
}

pub(super) fn local_stamp(url: &str, metadata: &Metadata) -> FileStamp {
    let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let mtime = jiff::Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| nanoseconds.to_string(), |timestamp| format!("{timestamp:.9}"));
    FileStamp { url: url.to_owned(), size: metadata.len(), etag: None, mtime: Some(mtime) }
}

/// The state of an object, as one answer of its store tells it.
pub(super) fn remote_stamp(url: &str, meta: &ObjectMeta) -> FileStamp {
    FileStamp {
        url: url.to_owned(),
        size: meta.size,
        // A store may have none for a file that was put beside it (versitygw lists it as empty).
        etag: meta.e_tag.clone().filter(|etag| opaque_tag(Some(etag)).is_some()),
        mtime: Some(meta.last_modified.to_rfc3339()),
    }
}

/// The state of the file at a local path. What is no file is refused by its kind, and at once: a pipe would be waited for.
pub(super) fn file_at(url: &str, path: &std::path::Path) -> Result<Metadata, SourceError> {
    let invalid = |why: String| SourceError::InvalidUrl { url: url.to_owned(), why };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => SourceError::NoFiles { url: url.to_owned() },
        ErrorKind::NotADirectory => {
            invalid("it leads through a file as if that were a folder; correct the path".to_owned())
        }
        _ => SourceError::from_io(url, error),
    })?;
    if metadata.is_dir() {
        return Err(invalid("it is a folder; add a pattern such as /*.parquet".to_owned()));
    }
    match no_file(metadata.file_type()) {
        Some(what) => Err(invalid(format!("it is {what}, which cannot be read as a file; write the rows into a file"))),
        None => Ok(metadata),
    }
}

/// Opens a file without waiting: a pipe that took its place has nobody at its other end.
fn opened(path: &std::path::Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Exactly these bytes of an object, and its state.
async fn read(
    store: Arc<dyn ObjectStore>,
    path: Path,
    start: u64,
    length: usize,
) -> object_store::Result<(ObjectMeta, Bytes)> {
    download_bytes(store.as_ref(), &path, Some(start..start + length as u64), Patience::default()).await
}

fn head(url: &str, bucket: &Bucket, path: &Path) -> Result<object_store::Result<ObjectMeta>, SourceError> {
    bucket.ask(url, Asked::Read, |store| {
        let path = path.clone();
        async move { store.head(&path).await }
    })
}

pub(super) fn objects(url: &str, bucket: &Bucket, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>, SourceError> {
    let listed = bucket.ask(url, Asked::List, |store| {
        let prefix = prefix.cloned();
        async move { store.list(prefix.as_ref()).try_collect::<Vec<_>>().await }
    });
    listed?.map_err(|error| SourceError::from_store(url, Asked::List, error))
}

pub(super) fn object(url: &str, bucket: &Bucket, path: &Path) -> Result<ObjectMeta, SourceError> {
    let error = match head(url, bucket, path)? {
        Ok(meta) => return Ok(meta),
        Err(error) => error,
    };
    if Fault::of(&error) == Fault::NotFound {
        // The answer to this question has no body that would tell a missing bucket from a missing object; that to a list
        // has. One that may not be listed, or is a plain web server, leaves it at that.
        let folder = path.clone();
        let listed = bucket.ask(url, Asked::List, |store| {
            let folder = folder.clone();
            async move {
                match store.list(Some(&folder)).try_next().await {
                    Err(error) if Fault::of(&error) == Fault::NoBucket => Err(error),
                    Ok(_) | Err(_) => Ok(()),
                }
            }
        });
        listed?.map_err(|error| SourceError::from_store(url, Asked::List, error))?;
    }
    Err(SourceError::from_store(url, Asked::Read, error))
}
