//! Writes one range, entry by entry in order: cuts files, digests, counts, notes duplicates.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use indexbuild_durable::fault::{self, Op};
use indexbuild_index::value::to_hex;
use indexbuild_index::{ContentDigest, Frame, IndexDefinition, PackedLayout, SetHash, entry_hash};
use rocksdb::{Options, SstFileWriter};

use super::duplicates::{Duplicates, describe};
use super::sealed::sst_path;
use crate::attempt::Attempt;
use crate::error::{At as _, EngineError};
use crate::frames::FrameRef;

/// A file with all its entries, still to be finished, flushed and sealed.
pub(crate) struct FullSst<'o> {
    pub(crate) file: OpenSst<'o>,
    pub(crate) content_digest: u128,
    pub(crate) first_key: String,
    pub(crate) last_key: String,
    pub(crate) entries: u64,
    pub(crate) entry_bytes: u64,
}

/// An SST file under its temporary name. Dropped, it is removed.
pub(crate) struct OpenSst<'o> {
    sst: SstFileWriter<'o>,
    temporary: PathBuf,
    target: PathBuf,
    sealed: bool,
}

impl<'o> OpenSst<'o> {
    fn create(options: &'o Options, target: PathBuf) -> Result<Self, EngineError> {
        let temporary = durable::temporary_for(&target).at("create", &target)?;
        fault::before(Op::Create, &temporary).at("create", &temporary)?;
        let sst = SstFileWriter::create(options);
        sst.open(&temporary).map_err(|error| EngineError::rocks("create", &temporary, error))?;
        fault::after(Op::Create, &temporary);
        Ok(Self { sst, temporary, target, sealed: false })
    }

    /// Writes what RocksDB still holds back, flushes, and gives the file its final name.
    pub(crate) fn finish(&mut self) -> Result<(), EngineError> {
        let Self { sst, temporary, target, sealed } = self;
        fault::before(Op::Write, temporary).at("write", temporary)?;
        sst.finish().map_err(|error| EngineError::rocks("finish", temporary, error))?;
        fault::after(Op::Write, temporary);
        durable::seal(temporary, target).at("seal", target)?;
        *sealed = true;
        Ok(())
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}

impl Drop for OpenSst<'_> {
    fn drop(&mut self) {
        if !self.sealed {
            // Best effort: a leftover is recognised by its name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

struct CurrentSst<'o> {
    file: OpenSst<'o>,
    content: ContentDigest,
    first_key: String,
    entries: u64,
    entry_bytes: u64,
}

/// The range of a writer, and its limits.
#[derive(Clone, Copy)]
pub(crate) struct RangeContext<'c> {
    pub(crate) attempt: &'c Attempt,
    pub(crate) definition: &'c IndexDefinition,
    pub(crate) range: u32,
    pub(crate) target_file_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeTotals {
    pub(crate) entries: u64,
    pub(crate) hash: SetHash,
    pub(crate) duplicates: Duplicates,
    pub(crate) files: usize,
}

/// Writes a range. Files are cut where their entries' bytes reach the target, counted here from the
/// range's begin: memory, threads and parts have no say in it (I10).
pub(crate) struct RangeWriter<'o, 'c, F> {
    context: RangeContext<'c>,
    options: &'o Options,
    current: Option<CurrentSst<'o>>,
    totals: RangeTotals,
    last: Frame,
    next: Frame,
    full: F,
}

impl<'o, 'c, F: FnMut(FullSst<'o>) -> Result<(), EngineError>> RangeWriter<'o, 'c, F> {
    /// `full` takes each file that has all its entries.
    pub(crate) fn new(context: RangeContext<'c>, options: &'o Options, full: F) -> Self {
        Self {
            context,
            options,
            current: None,
            totals: RangeTotals::default(),
            last: Frame::new(),
            next: Frame::new(),
            full,
        }
    }

    /// A packed entry's stored key.
    pub(crate) fn expand(&mut self, layout: &PackedLayout, entry: u128) -> &[u8] {
        layout.expand(entry, &mut self.next);
        self.next.key()
    }

    #[inline]
    pub(crate) fn put_packed(&mut self, layout: &PackedLayout, entry: u128) -> Result<(), EngineError> {
        layout.expand(entry, &mut self.next);
        self.put_next()
    }

    #[inline]
    pub(crate) fn put_frame(&mut self, frame: &FrameRef<'_>) -> Result<(), EngineError> {
        self.next.set(frame.key, frame.value);
        self.put_next()
    }

    #[inline]
    fn put_next(&mut self) -> Result<(), EngineError> {
        if self.totals.entries > 0 && self.next.key() == self.last.key() {
            return self.duplicate();
        }
        let current = match &mut self.current {
            Some(current) => current,
            none @ None => {
                let target = sst_path(self.context.attempt, self.context.range, self.totals.files);
                none.insert(CurrentSst {
                    file: OpenSst::create(self.options, target)?,
                    content: ContentDigest::new(),
                    first_key: to_hex(self.next.key()),
                    entries: 0,
                    entry_bytes: 0,
                })
            }
        };
        let (key, value) = (self.next.key(), self.next.value());
        if let Err(error) = current.file.sst.put(key, value) {
            // SstFileWriter forgets a refused put and would finish the file without it: drop it.
            let path = current.file.temporary.clone();
            self.current = None;
            return Err(EngineError::rocks("write", &path, error));
        }
        current.entries += 1;
        current.entry_bytes += (key.len() + value.len()) as u64;
        current.content.push(&self.next);
        self.totals.hash.add(entry_hash(self.next.bytes()));
        self.totals.entries += 1;
        mem::swap(&mut self.last, &mut self.next);
        if current.entry_bytes >= self.context.target_file_bytes { self.cut() } else { Ok(()) }
    }

    #[cold]
    fn duplicate(&mut self) -> Result<(), EngineError> {
        let definition = self.context.definition;
        if definition.unique {
            self.totals.duplicates.add(definition, self.last.key(), self.last.value(), self.next.value());
            return Ok(());
        }
        let (key, row) = describe(definition, self.next.key(), self.next.value());
        let key = format!("({key}; stored as {})", to_hex(self.next.key()));
        Err(EngineError::DuplicateKeyOutsideUnique { index: definition.name.clone(), key, row })
    }

    fn cut(&mut self) -> Result<(), EngineError> {
        let Some(CurrentSst { file, content, first_key, entries, entry_bytes }) = self.current.take() else {
            return Ok(());
        };
        self.totals.files += 1;
        (self.full)(FullSst {
            file,
            content_digest: content.finish(),
            first_key,
            last_key: to_hex(self.last.key()),
            entries,
            entry_bytes,
        })
    }

    /// Ends the range with its last file.
    pub(crate) fn finish(mut self) -> Result<RangeTotals, EngineError> {
        self.cut()?;
        Ok(self.totals)
    }
}
