//! An index into somebody's RocksDB.

use std::path::{Path, PathBuf};

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, Env, IngestExternalFileOptions, Options};

use super::{Index, ReadError};
use crate::sst::{DbError, OpenHandle};
use crate::value::to_hex;

const CACHE_BYTES: usize = 8 << 20;

/// Where in a RocksDB an index goes.
///
/// The database's own options file is used, so that it stays as it is. Its comparator must be the
/// bytewise one. Stored keys carry no name of their index: give each a column family of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestOptions {
    /// The column family; `default` when not said.
    pub column_family: Option<String>,
    /// Whether to create the column family if it is not there.
    pub create_column_family: bool,
    /// Whether to create the database if it is not there.
    pub create_database: bool,
}

/// What was ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestReport {
    /// Files.
    pub files: u64,
    /// Entries.
    pub entries: u64,
}

pub(super) fn ingest(index: &Index, database: &Path, options: &IngestOptions) -> Result<IngestReport, ReadError> {
    let set = &index.set;
    let mut paths = Vec::with_capacity(index.files.len());
    for file in index.files.iter() {
        paths.push(set.cache.fetch(&set.store, &set.runtime, file)?);
    }
    let name = options.column_family.as_deref().unwrap_or(DEFAULT_COLUMN_FAMILY_NAME);
    // Declared before the database, so that it is dropped after it.
    let _handle;
    let mut db = open(database, options.create_database)?;
    _handle = OpenHandle::new();
    if db.cf_handle(name).is_none() {
        if !options.create_column_family {
            let available = DB::list_cf(&Options::default(), database).unwrap_or_default().join(", ");
            return Err(ReadError::NoColumnFamily { path: database.to_owned(), name: name.to_owned(), available });
        }
        db.create_cf(name, &Options::default())
            .map_err(|source| DbError::of(database, "create a column family in", source))?;
    }
    refuse_occupied(index, &db, database, name)?;
    let outcome = ingest_all(&db, database, name, paths);
    db.cancel_all_background_work(true);
    outcome?;
    Ok(IngestReport { files: index.files.len() as u64, entries: index.manifest().entries })
}

fn open(database: &Path, create: bool) -> Result<DB, ReadError> {
    let failed = |source| DbError::of(database, "open", source);
    if !database.join("CURRENT").is_file() {
        if !create {
            return Err(ReadError::NoDatabase { path: database.to_owned() });
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        // By its name: a plain open gives no handle of the default column family.
        let family = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, Options::default());
        return Ok(DB::open_cf_descriptors(&options, database, [family]).map_err(failed)?);
    }
    let env = Env::new().map_err(failed)?;
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let (options, families) = match Options::load_latest(database, env, true, cache) {
        Ok(loaded) => loaded,
        // A database without its options file: RocksDB's defaults, as it would do itself.
        Err(_) => {
            let names = DB::list_cf(&Options::default(), database).map_err(failed)?;
            let descriptor = |name| ColumnFamilyDescriptor::new(name, Options::default());
            (Options::default(), names.into_iter().map(descriptor).collect())
        }
    };
    Ok(DB::open_cf_descriptors(&options, database, families).map_err(failed)?)
}

/// Refuses a database that holds keys within a file's bounds: some of them, or some of the index's, would be
/// hidden.
fn refuse_occupied(index: &Index, db: &DB, database: &Path, name: &str) -> Result<(), ReadError> {
    let Some(family) = db.cf_handle(name) else {
        return Ok(());
    };
    let (Some(first), Some(last)) = (index.files.first(), index.files.last()) else {
        return Ok(());
    };
    let mut iterator = db.raw_iterator_cf(family);
    iterator.seek(&first.first);
    iterator.status().map_err(|source| DbError::of(database, "read", source))?;
    match iterator.key() {
        Some(key) if key <= last.last.as_slice() => Err(ReadError::Occupied {
            path: database.to_owned(),
            column_family: name.to_owned(),
            what: format!("the key {}", to_hex(key)),
        }),
        Some(_) | None => Ok(()),
    }
}

fn ingest_all(db: &DB, database: &Path, name: &str, paths: Vec<PathBuf>) -> Result<(), ReadError> {
    let Some(family) = db.cf_handle(name).filter(|_| !paths.is_empty()) else {
        return Ok(());
    };
    let mut options = IngestExternalFileOptions::default();
    // The cache keeps its files; RocksDB copies them.
    options.set_move_files(false);
    // Deleted keys that are not compacted away yet cannot be seen by an iterator; RocksDB sees them and
    // would need a sequence number.
    options.set_allow_global_seqno(false);
    db.ingest_external_file_cf_opts(family, &options, paths).map_err(|source| {
        let message = source.into_string();
        if message.contains("Global seqno is required") {
            ReadError::Occupied {
                path: database.to_owned(),
                column_family: name.to_owned(),
                what: "deleted keys that are not compacted away yet".into(),
            }
        } else {
            DbError::of_message(database, "ingest into", message).into()
        }
    })
}
