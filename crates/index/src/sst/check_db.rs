//! A scratch RocksDB that ingests SST files, and counts and checks them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rocksdb::{BlockBasedOptions, Cache, DB, IngestExternalFileOptions, LogLevel, Options, properties};

use super::error::DbError;
use super::raw;

const CACHE_BYTES: usize = 4 << 20;
const MAX_OPEN_FILES: i32 = 32;

static OPEN_HANDLES: AtomicUsize = AtomicUsize::new(0);

/// Number of RocksDB databases that this process has open through this crate (I7). A handle that is
/// leaked makes every later open fail with "lock hold by current process"
/// (pingcap/tidb#58776).
#[must_use]
pub fn open_handles() -> usize {
    OPEN_HANDLES.load(Ordering::SeqCst)
}

/// Counts one open database for as long as it lives. Declared after the database in a struct, so
/// that it is dropped after it.
#[derive(Debug)]
pub(crate) struct OpenHandle(());

impl OpenHandle {
    pub(crate) fn new() -> Self {
        OPEN_HANDLES.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for OpenHandle {
    fn drop(&mut self) {
        OPEN_HANDLES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a database holds, by its files' properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbCounts {
    /// Entries.
    pub entries: u64,
    /// Deletions; an index has none.
    pub deletions: u64,
    /// SST files.
    pub files: u64,
}

/// A RocksDB that shows that SST files are ingest-ready: they are hard-linked into it and ingested
/// as they are, then counted and checked. Nothing is ever put into it, and it compacts nothing.
#[derive(Debug)]
pub struct CheckDb {
    db: DB,
    path: PathBuf,
    _handle: OpenHandle,
}

impl CheckDb {
    /// Opens, or makes, the database in `folder`.
    ///
    /// # Errors
    /// [`DbError::LockHeldByThisProcess`] and [`DbError::LockHeldByAnotherProcess`] when it is open
    /// already; others of RocksDB.
    pub fn open(folder: &Path) -> Result<Self, DbError> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.create_if_missing(true);
        options.set_disable_auto_compactions(true);
        options.set_max_open_files(MAX_OPEN_FILES);
        options.set_write_buffer_size(1 << 20);
        options.set_keep_log_file_num(1);
        options.set_log_level(LogLevel::Error);
        let db = DB::open(&options, folder).map_err(|source| DbError::of(folder, "open", source))?;
        Ok(Self { db, path: folder.to_owned(), _handle: OpenHandle::new() })
    }

    /// Ingests finished SST files, which must not overlap with each other nor with what is there.
    /// They are hard-linked (copied to another file system), and neither changed nor taken away.
    ///
    /// # Errors
    /// [`DbError::Refused`] when RocksDB does not take a file as it is; others.
    pub fn ingest(&self, files: &[PathBuf]) -> Result<(), DbError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        if files.is_empty() {
            return Ok(());
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DbError::from_io(&path, source)
        };
        // RocksDB moves the files that it ingests: it gets links, so that the sealed files stay.
        let staging = self.path.join(format!("staging-{}", SERIAL.fetch_add(1, Ordering::Relaxed)));
        remove_if_there(&staging).map_err(io(&staging))?;
        fs::create_dir(&staging).map_err(io(&staging))?;
        let mut staged = Vec::with_capacity(files.len());
        for (number, file) in files.iter().enumerate() {
            let link = staging.join(format!("{number:06}.sst"));
            if fs::hard_link(file, &link).is_err() {
                fs::copy(file, &link).map_err(io(file))?;
            }
            staged.push(link);
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        // A file that needs a sequence number overlaps with another: that is always an error.
        options.set_allow_global_seqno(false);
        let ingested = self.db.ingest_external_file_opts(&options, staged);
        let removed = remove_if_there(&staging).map_err(io(&staging));
        ingested.map_err(|source| DbError::of(&self.path, "ingest files into", source))?;
        removed
    }

    /// Counts by the files' properties, without reading entries.
    ///
    /// # Errors
    /// [`DbError`] when RocksDB does not tell.
    pub fn counts(&self) -> Result<DbCounts, DbError> {
        let failed = |source| DbError::of(&self.path, "count", source);
        let files = self.db.live_files().map_err(failed)?.len() as u64;
        let text = self.db.property_value(properties::AGGREGATED_TABLE_PROPERTIES).map_err(failed)?;
        let text = text.unwrap_or_default();
        let property = |name: &str| {
            let mut parts = text.split(';').filter_map(|part| part.split_once('='));
            let value = parts.find(|(key, _)| key.trim() == name).and_then(|(_, value)| value.trim().parse().ok());
            value.ok_or_else(|| DbError::Refused {
                path: self.path.clone(),
                act: "count",
                message: format!("the table properties hold no `{name}`: {text}"),
            })
        };
        Ok(DbCounts { entries: property("# entries")?, deletions: property("# deletions")?, files })
    }

    /// Has RocksDB read every block of every file and compare its checksum.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn verify_checksums(&self) -> Result<(), DbError> {
        raw::verify_checksum(&self.db).map_err(|message| DbError::of_message(&self.path, "verify", message))
    }

    /// Closes the database; dropping it does the same.
    pub fn close(self) {
        drop(self);
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CheckDb {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
