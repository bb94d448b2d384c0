//! Reading a finished index: the part of this crate that consumers need.
//!
//! Everything here blocks; call it from a thread that is not a Tokio worker.

mod cache;
mod error;
mod ingest;
mod scan;
mod verify;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use self::cache::Cache;
pub use self::cache::remove_scratch_folders;
pub use self::error::ReadError;
pub use self::ingest::{IngestOptions, IngestReport};
pub use self::scan::{Scan, ScanEntries};
pub use self::verify::{FileReport, IndexReport, Problem, VerifyOptions, VerifyReport};
use crate::definition::IndexDefinition;
use crate::manifest::{Document, IndexFile, IndexManifest, LATEST, Latest, MANIFEST, Manifest};
use crate::store::{Store, StoreOptions};
use crate::value::{Value, from_hex};

/// A committed build: its manifest and its indexes.
#[derive(Clone, Debug)]
pub struct IndexSet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    manifest: Manifest,
    indexes: Vec<Arc<Vec<FileKeys>>>,
    cache: Cache,
    runtime: BlockingRuntime,
}

/// A file of the manifest with its key bounds decoded.
#[derive(Clone, Debug)]
struct FileKeys {
    file: IndexFile,
    first: Vec<u8>,
    last: Vec<u8>,
}

/// One index of a committed build. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Index {
    set: Arc<Inner>,
    position: usize,
    files: Arc<Vec<FileKeys>>,
}

/// Waits for the store's answers, from any number of threads: the runtime is that of all stores' connections.
#[derive(Clone, Debug)]
struct BlockingRuntime(Handle);

impl BlockingRuntime {
    fn new() -> Result<Self, ReadError> {
        let runtime = indexbuild_store::runtime();
        runtime.map(|runtime| Self(runtime.clone())).map_err(|source| ReadError::Io { path: PathBuf::new(), source })
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

impl IndexSet {
    /// Opens the build at `url`: `<output>/<namespace>/<name>`, whose `LATEST` says which, or one
    /// build's `<output>/<namespace>/<name>/<uid>`, or that one's `manifest.json` as a build's status
    /// gives it. Files are fetched when they are needed, to `cache`, and kept there.
    ///
    /// # Errors
    /// [`ReadError::Tombstone`] for a deleted or aborted build, [`ReadError::NoIndex`] where there is
    /// none, and others.
    pub fn open(url: &str, options: &StoreOptions, cache: &Path) -> Result<Self, ReadError> {
        let folder = url.strip_suffix(MANIFEST).and_then(|url| url.strip_suffix('/')).unwrap_or(url);
        Self::open_store(Store::open(folder, options)?, cache)
    }

    /// As [`IndexSet::open`], in a store that is open already.
    ///
    /// # Errors
    /// As [`IndexSet::open`].
    pub fn open_store(store: Store, cache: &Path) -> Result<Self, ReadError> {
        let runtime = BlockingRuntime::new()?;
        let (store, manifest) = runtime.run(find(store))?;
        let decode = |index: &IndexManifest| {
            let files = index.files.iter().map(|file| match (from_hex(&file.first_key), from_hex(&file.last_key)) {
                (Some(first), Some(last)) => Ok(FileKeys { file: file.clone(), first, last }),
                (None, _) | (_, None) => Err(ReadError::Manifest {
                    url: store.url(),
                    why: format!("the key bounds of {} are not hex", file.path),
                }),
            });
            files.collect::<Result<Vec<_>, _>>().map(Arc::new)
        };
        let indexes = manifest.indexes.iter().map(decode).collect::<Result<_, _>>()?;
        let cache = Cache::open(cache)?;
        Ok(Self { inner: Arc::new(Inner { store, manifest, indexes, cache, runtime }) })
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The URL of the build's prefix.
    #[must_use]
    pub fn url(&self) -> String {
        self.inner.store.url()
    }

    /// One of its indexes, by name.
    ///
    /// # Errors
    /// [`ReadError::UnknownIndex`], with the names that there are.
    pub fn index(&self, name: &str) -> Result<Index, ReadError> {
        let indexes = &self.inner.manifest.indexes;
        let position = indexes.iter().position(|index| index.definition.name == name);
        let position = position.ok_or_else(|| ReadError::UnknownIndex {
            name: name.to_owned(),
            url: self.url(),
            available: indexes.iter().map(|index| index.definition.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        let files = self.inner.indexes.get(position).cloned().unwrap_or_default();
        Ok(Index { set: Arc::clone(&self.inner), position, files })
    }

    /// All its indexes.
    ///
    /// # Errors
    /// Never.
    pub fn indexes(&self) -> Result<Vec<Index>, ReadError> {
        self.inner.manifest.indexes.iter().map(|index| self.index(&index.definition.name)).collect()
    }

    /// Checks every file and every entry of the build against the manifest, with memory that does not
    /// grow with the index. What is wrong is in the report; an error means that the check could not be
    /// done.
    ///
    /// # Errors
    /// [`ReadError`]: the store cannot be reached, the cache folder not written.
    pub fn verify(&self, options: &VerifyOptions<'_>) -> Result<VerifyReport, ReadError> {
        verify::verify(&self.inner, options)
    }
}

async fn find(store: Store) -> Result<(Store, Manifest), ReadError> {
    let document = |url: String| move |source| ReadError::Document { url, source };
    let (store, bytes) = if let Some((bytes, _)) = store.get(MANIFEST).await? {
        (store, bytes)
    } else if let Some((bytes, _)) = store.get(LATEST).await? {
        let latest = Latest::parse(&bytes).map_err(document(format!("{}/{LATEST}", store.url())))?;
        if latest.is_none() {
            return Err(ReadError::NoLatest { url: store.url() });
        }
        let build = store.child(&latest.build_uid);
        let Some((bytes, _)) = build.get(MANIFEST).await? else {
            return Err(ReadError::NoManifest { url: build.url() });
        };
        (build, bytes)
    } else {
        return Err(ReadError::NoIndex { url: store.url() });
    };
    match Document::parse(&bytes).map_err(document(format!("{}/{MANIFEST}", store.url())))? {
        Document::Manifest(manifest) => Ok((store, manifest)),
        Document::Tombstone(tombstone) => Err(ReadError::Tombstone { url: store.url(), reason: tombstone.reason }),
    }
}

impl Index {
    /// What the manifest says of it.
    #[must_use]
    pub fn manifest(&self) -> &IndexManifest {
        &self.set.manifest.indexes[self.position]
    }

    /// Its definition.
    #[must_use]
    pub fn definition(&self) -> &IndexDefinition {
        &self.manifest().definition
    }

    /// The entries whose key columns have these values, all of them. In a unique index there is one
    /// at most, unless one of the values is NULL.
    ///
    /// # Errors
    /// [`ReadError::Codec`] for values that do not match the columns; later ones come from the iterator.
    pub fn get(&self, values: &[Value]) -> Result<ScanEntries, ReadError> {
        let columns = self.definition().columns.len();
        if values.len() != columns {
            return Err(ReadError::Codec(crate::codec::CodecError::WrongNumber {
                index: self.definition().name.clone(),
                columns,
                values: values.len(),
            }));
        }
        self.scan(Scan { prefix: values.to_vec(), ..Scan::default() })
    }

    /// The entries of a part of the index, in its order or in reverse. Only the files that hold
    /// some are fetched, each when the iterator comes to it.
    ///
    /// # Errors
    /// [`ReadError::Codec`] for values that do not match the columns; later ones come from the iterator.
    pub fn scan(&self, scan: Scan) -> Result<ScanEntries, ReadError> {
        ScanEntries::new(self.clone(), scan)
    }

    /// Ingests the index into a RocksDB, all of it or nothing. See [`IngestOptions`].
    ///
    /// # Errors
    /// [`ReadError::Occupied`] when keys within the index's bounds are there, [`ReadError::NoDatabase`],
    /// [`ReadError::NoColumnFamily`], a [`ReadError::Db`] when it is open elsewhere, and others.
    pub fn ingest(&self, database: &Path, options: &IngestOptions) -> Result<IngestReport, ReadError> {
        ingest::ingest(self, database, options)
    }
}
