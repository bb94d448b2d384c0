//! Why an index cannot be read.

use std::io;
use std::path::PathBuf;

use crate::codec::{CodecError, DecodeError};
use crate::manifest::DocumentError;
use crate::sst::DbError;
use crate::store::StoreError;

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database that the files are read with, or the user's.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Values that do not match the index's columns.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Entries that are none of this index.
    #[error("{url} holds entries that are not of this index; run verify")]
    Decode {
        /// The file.
        url: String,
        /// Which, and why.
        #[source]
        source: DecodeError,
    },
    /// A document that cannot be read.
    #[error("{url} cannot be read")]
    Document {
        /// The document.
        url: String,
        /// Why not.
        #[source]
        source: DocumentError,
    },
    /// A manifest that contradicts itself.
    #[error("the manifest of {url} is not valid: {why}")]
    Manifest {
        /// The build.
        url: String,
        /// Why not.
        why: String,
    },
    /// The build was aborted or deleted.
    #[error("the index at {url} is deleted, or its build was aborted: {reason}")]
    Tombstone {
        /// The build.
        url: String,
        /// Why, in the tombstone's words.
        reason: String,
    },
    /// Neither a manifest nor `LATEST`.
    #[error(
        "there is no index at {url}: neither manifest.json nor LATEST; give <output>/<namespace>/<name>, \
         and see whether the build is complete"
    )]
    NoIndex {
        /// The place.
        url: String,
    },
    /// `LATEST` names no build.
    #[error("there is no index at {url}: the last build there was deleted with its index (deletionPolicy Delete)")]
    NoLatest {
        /// The place.
        url: String,
    },
    /// `LATEST` names a build without a manifest.
    #[error("LATEST names the build at {url}, which has no manifest.json; it was removed by hand")]
    NoManifest {
        /// The build.
        url: String,
    },
    /// No index of this name.
    #[error("the build at {url} has no index `{name}`; it has {available}")]
    UnknownIndex {
        /// The name.
        name: String,
        /// The build.
        url: String,
        /// The names that there are.
        available: String,
    },
    /// A file that is not the one of the manifest.
    #[error(
        "{url} is damaged: the manifest has {expected_bytes} bytes with digest {expected}, and it has {found_bytes} \
         with {found}; run verify, and build the index again"
    )]
    Damaged {
        /// The file.
        url: String,
        /// Digest in the manifest.
        expected: String,
        /// Digest of the file.
        found: String,
        /// Length in the manifest.
        expected_bytes: u64,
        /// Length of the file.
        found_bytes: u64,
    },
    /// No database there.
    #[error("there is no RocksDB in {}; give the folder of one, or ask for it to be created (--create on the command line)", path.display())]
    NoDatabase {
        /// The folder.
        path: PathBuf,
    },
    /// No such column family.
    #[error(
        "the RocksDB in {} has no column family `{name}`; it has {available}; name one, or ask for it to be created",
        path.display()
    )]
    NoColumnFamily {
        /// The database.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that there are.
        available: String,
    },
    /// Something is where the index would go.
    #[error(
        "the column family `{column_family}` of {} holds {what} within the index's bounds; \
         use an empty column family for each index",
        path.display()
    )]
    Occupied {
        /// The database.
        path: PathBuf,
        /// The column family.
        column_family: String,
        /// What is there.
        what: String,
    },
    /// The cache folder.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}
