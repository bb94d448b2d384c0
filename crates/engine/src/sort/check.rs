//! The RocksDB in an attempt's `engine/` folder: it ingests the finished files, which shows that they
//! are ingest-ready, and counts and checks them.
//!
//! It is the engine whose lock the incident was about (pingcap/tidb#58776): opened by one attempt
//! only, in a folder that no other attempt ever enters, and closed on every way out (I7).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use indexbuild_index::sst::{CheckDb, DbCounts, DbError};
use serde::{Deserialize, Serialize};

use super::SealedRange;
use crate::attempt::Attempt;
use crate::error::EngineError;
use crate::test_switches::TestSwitches;

/// RocksDB's counts of a lane's finished files, whose checksums it has verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EngineCheck {
    /// Entries, by the files' own properties.
    pub entries: u64,
    pub files: u64,
}

/// The open engine. Dropped, it is closed.
pub(crate) struct EngineHandle {
    db: CheckDb,
}

impl EngineHandle {
    pub(crate) fn open(attempt: &Attempt) -> Result<Self, EngineError> {
        Ok(Self { db: CheckDb::open(&attempt.engine_dir())? })
    }

    /// Ingests the files of all ranges, counts them and verifies their checksums; then closes.
    pub(crate) fn check(&self, ranges: &[SealedRange]) -> Result<EngineCheck, EngineError> {
        let files: Vec<PathBuf> =
            ranges.iter().flat_map(|range| range.files.iter().map(|sst| sst.path.clone())).collect();
        self.db.ingest(&files)?;
        let DbCounts { entries, deletions, files: live } = self.db.counts()?;
        for (what, expected, found) in [
            ("files that RocksDB holds", files.len() as u64, live),
            ("entries of its files by RocksDB's properties", ranges.iter().map(|range| range.entries).sum(), entries),
            ("deletions in them", 0, deletions),
        ] {
            if expected != found {
                return Err(EngineError::Disagrees { what: what.to_owned(), expected, found });
            }
        }
        self.db.verify_checksums()?;
        Ok(EngineCheck { entries, files: live })
    }

    /// Closes the engine, unless a test repeats the incident: then the handle stays open in this process for ever.
    pub(crate) fn close(self, switches: TestSwitches) {
        if switches.leak_engine_handle {
            self.leak();
        } else {
            self.db.close();
        }
    }

    fn leak(self) {
        static LEAKED: Mutex<Vec<CheckDb>> = Mutex::new(Vec::new());
        let Self { db } = self;
        LEAKED.lock().unwrap_or_else(PoisonError::into_inner).push(db);
    }
}

/// For tests: opens a RocksDB in the attempt's `engine/`, and keeps it open for as long as this process lives.
pub fn leak_engine(attempt: &Attempt) -> Result<(), EngineError> {
    EngineHandle::open(attempt)?.leak();
    Ok(())
}

impl From<DbError> for EngineError {
    fn from(error: DbError) -> Self {
        match &error {
            DbError::LockHeldByThisProcess { path, message: _ } => {
                Self::EngineLocked { path: path.clone(), by_this_process: true, source: Box::new(error) }
            }
            DbError::LockHeldByAnotherProcess { path, message: _ } => {
                Self::EngineLocked { path: path.clone(), by_this_process: false, source: Box::new(error) }
            }
            DbError::NoSpace { path, act: _, message: _ } => {
                Self::NoSpace { path: path.clone(), source: Box::new(error) }
            }
            DbError::Corrupt { path, act, message: _ } | DbError::Refused { path, act, message: _ } => {
                Self::Rocks { act, path: path.clone(), source: Box::new(error) }
            }
            DbError::Io { path, source: _ } => Self::Rocks { act: "use", path: path.clone(), source: Box::new(error) },
        }
    }
}
