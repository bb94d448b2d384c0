//! A file by RocksDB's own writer, the oracle of ours: only with a test switch.

use std::fs;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use indexbuild_durable::fault::{self, Op};
use rocksdb::{Options, SstFileWriter};

use crate::error::{At as _, EngineError};

/// Under its temporary name. Dropped, it is removed.
pub(super) struct RocksDbFile<'o> {
    sst: SstFileWriter<'o>,
    temporary: PathBuf,
    sealed: bool,
}

impl<'o> RocksDbFile<'o> {
    pub(super) fn create(options: &'o Options, target: &Path) -> Result<Self, EngineError> {
        let temporary = durable::temporary_for(target).at("create", target)?;
        fault::before(Op::Create, &temporary).at("create", &temporary)?;
        let sst = SstFileWriter::create(options);
        sst.open(&temporary).map_err(|error| EngineError::rocks("create", &temporary, error))?;
        fault::after(Op::Create, &temporary);
        Ok(Self { sst, temporary, sealed: false })
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.sst.put(key, value).map_err(|error| EngineError::rocks("write", &self.temporary, error))
    }

    /// Writes what RocksDB still holds back, flushes, and gives the file its final name.
    pub(super) fn finish(mut self, target: &Path) -> Result<(), EngineError> {
        let Self { sst, temporary, sealed } = &mut self;
        fault::before(Op::Write, temporary).at("write", temporary)?;
        sst.finish().map_err(|error| EngineError::rocks("finish", temporary, error))?;
        fault::after(Op::Write, temporary);
        durable::seal(temporary, target).at("seal", target)?;
        *sealed = true;
        Ok(())
    }
}

impl Drop for RocksDbFile<'_> {
    fn drop(&mut self) {
        if !self.sealed {
            // Best effort: a leftover is recognised by its name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
