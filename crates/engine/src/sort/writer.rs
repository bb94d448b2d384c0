//! Writes one range, entry by entry in order: cuts files, digests, counts, notes duplicates.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use indexbuild_durable::DurableFile;
use indexbuild_index::value::to_hex;
use indexbuild_index::{Compression, ContentDigest, Frame, IndexDefinition, PackedLayout, SetHash, entry_hash};
use rocksdb::Options;

use super::duplicates::{Duplicates, describe};
use super::kept_apart::{KeptApart, SortedApart};
use super::rocksdb_file::RocksDbFile;
use super::sealed::sst_path;
use crate::attempt::Attempt;
use crate::error::{At as _, EngineError};
use crate::frames::{FrameRef, LONG_ENTRY};
use crate::sst::{BlockCompression, Finished, SstWriter, WriteError};

/// A file with all its entries, still to be finished, flushed and sealed.
pub(crate) struct FullSst<'o> {
    pub(crate) file: OpenSst<'o>,
    pub(crate) content_digest: u128,
    pub(crate) first_key: String,
    pub(crate) last_key: String,
    pub(crate) entries: u64,
    pub(crate) entry_bytes: u64,
}

/// How files are written.
#[derive(Clone, Copy)]
pub(crate) enum FileFormat<'o> {
    Own {
        compression: Compression,
        /// 0: without a filter.
        bloom_bits_per_key: u32,
    },
    /// By RocksDB's `SstFileWriter`, the oracle: with a test switch.
    RocksDb(&'o Options),
}

/// An SST file under its temporary name. Dropped, it is removed.
pub(crate) struct OpenSst<'o> {
    writer: Writer<'o>,
    target: PathBuf,
}

enum Writer<'o> {
    Own(Box<SstWriter<DurableFile>>),
    RocksDb(RocksDbFile<'o>),
    Sealed,
}

impl<'o> OpenSst<'o> {
    fn create(format: FileFormat<'o>, target: PathBuf) -> Result<Self, EngineError> {
        let writer = match format {
            FileFormat::Own { compression, bloom_bits_per_key } => {
                let file = DurableFile::create(&target).at("create", &target)?;
                let compression = BlockCompression::new(compression).at("create", &target)?;
                Writer::Own(Box::new(SstWriter::new(file, compression).with_filter(bloom_bits_per_key)))
            }
            FileFormat::RocksDb(options) => Writer::RocksDb(RocksDbFile::create(options, &target)?),
        };
        Ok(Self { writer, target })
    }

    #[inline]
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        match &mut self.writer {
            Writer::Own(writer) => writer.put(key, value).map_err(|error| refused(&self.target, error)),
            Writer::RocksDb(file) => file.put(key, value),
            Writer::Sealed => Ok(()),
        }
    }

    /// No entry comes any more.
    fn end(&mut self) {
        if let Writer::Own(writer) = &mut self.writer {
            writer.end();
        }
    }

    /// Hands a long entry on at once, so that nothing of it stays in memory.
    fn end_long_entry(&mut self) -> Result<(), EngineError> {
        match &mut self.writer {
            Writer::Own(writer) => writer.end_long_entry().map_err(|error| refused(&self.target, error)),
            Writer::RocksDb(_) | Writer::Sealed => Ok(()),
        }
    }

    /// Writes what is held back, flushes, and gives the file its final name. Its length and digest, where they are known
    /// without reading it.
    pub(crate) fn finish(&mut self, content_digest: u128) -> Result<Option<(u64, String)>, EngineError> {
        match mem::replace(&mut self.writer, Writer::Sealed) {
            Writer::Own(writer) => {
                let Finished { file, bytes, digest } =
                    writer.finish(content_digest).map_err(|error| refused(&self.target, error))?;
                file.seal().at("seal", &self.target)?;
                Ok(Some((bytes, digest)))
            }
            Writer::RocksDb(file) => file.finish(&self.target).map(|()| None),
            Writer::Sealed => Ok(None),
        }
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}

#[cold]
fn refused(target: &Path, error: WriteError) -> EngineError {
    match error {
        WriteError::Io(error) => EngineError::io("write", target, error),
        WriteError::OutOfOrder => EngineError::rocks("write", target, error),
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
    /// Held by the thread that has a long entry in memory.
    pub(crate) alone: &'c Mutex<()>,
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
    format: FileFormat<'o>,
    current: Option<CurrentSst<'o>>,
    totals: RangeTotals,
    last: Frame,
    next: Frame,
    /// The last entry in words, where it was too long to be kept whole and another row may have its key.
    last_long: Option<(String, String)>,
    /// Long entries of the part in hand that were not written yet.
    apart: SortedApart,
    full: F,
}

impl<'o, 'c, F: FnMut(FullSst<'o>) -> Result<(), EngineError>> RangeWriter<'o, 'c, F> {
    /// `full` takes each file that has all its entries.
    pub(crate) fn new(context: RangeContext<'c>, format: FileFormat<'o>, full: F) -> Self {
        Self {
            context,
            format,
            current: None,
            totals: RangeTotals::default(),
            last: Frame::new(),
            next: Frame::new(),
            last_long: None,
            apart: SortedApart::default(),
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
        while !self.apart.is_empty() && self.apart.is_before(frame.key, frame.value)? {
            self.put_long()?;
        }
        self.next.set(frame.key, frame.value);
        self.put_next()
    }

    /// Begins a part, whose long entries are written where they belong among the others.
    pub(crate) fn begin_part(&mut self, apart: KeptApart) -> Result<(), EngineError> {
        self.apart = apart.sorted()?;
        Ok(())
    }

    /// Writes the long entries that stand behind all others of the part.
    pub(crate) fn end_part(&mut self) -> Result<(), EngineError> {
        while !self.apart.is_empty() {
            self.put_long()?;
        }
        Ok(())
    }

    #[cold]
    fn put_long(&mut self) -> Result<(), EngineError> {
        let alone = self.context.alone;
        let _alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
        self.apart.read_next(&mut self.next)?;
        let Self { context: RangeContext { definition, .. }, next, .. } = self;
        let words = definition.unique.then(|| describe(definition, next.key(), next.value()));
        let written = self.totals.entries;
        let outcome = self.put_next();
        if self.totals.entries > written {
            self.last_long = words;
        }
        if self.next.bytes().len() > LONG_ENTRY {
            // It was a duplicate.
            self.next = Frame::new();
        }
        outcome
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
                    file: OpenSst::create(self.format, target)?,
                    content: ContentDigest::new(),
                    first_key: to_hex(self.next.key()),
                    entries: 0,
                    entry_bytes: 0,
                })
            }
        };
        let (key, value) = (self.next.key(), self.next.value());
        if let Err(error) = current.file.put(key, value) {
            // SstFileWriter forgets a refused put and would finish the file without it: drop it.
            self.current = None;
            return Err(error);
        }
        current.entries += 1;
        current.entry_bytes += (key.len() + value.len()) as u64;
        current.content.push(&self.next);
        self.totals.hash.add(entry_hash(self.next.bytes()));
        self.totals.entries += 1;
        mem::swap(&mut self.last, &mut self.next);
        self.last_long = None;
        if self.last.bytes().len() > LONG_ENTRY {
            self.last.shorten(0);
            current.file.end_long_entry()?;
        }
        if current.entry_bytes >= self.context.target_file_bytes { self.cut() } else { Ok(()) }
    }

    #[cold]
    fn duplicate(&mut self) -> Result<(), EngineError> {
        let definition = self.context.definition;
        if definition.unique {
            let (key, value) = (self.last.key(), self.last.value());
            let first = || self.last_long.clone().unwrap_or_else(|| describe(definition, key, value));
            self.totals.duplicates.add(definition, key, first, self.next.value());
            return Ok(());
        }
        let (key, row) = describe(definition, self.next.key(), self.next.value());
        let key = format!("({key}; stored as {})", to_hex(self.next.key()));
        Err(EngineError::DuplicateKeyOutsideUnique { index: definition.name.clone(), key, row })
    }

    fn cut(&mut self) -> Result<(), EngineError> {
        let Some(CurrentSst { mut file, content, first_key, entries, entry_bytes }) = self.current.take() else {
            return Ok(());
        };
        file.end();
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
