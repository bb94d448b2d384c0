//! Writes one range, entry by entry in order: cuts files, digests, counts, notes duplicates.

use std::mem;
use std::path::{Path, PathBuf};

use indexbuild_durable::DurableFile;
use indexbuild_index::value::to_hex;
use indexbuild_index::{Compression, ContentDigest, Frame, IndexDefinition, PackedLayout, SetHash, entry_hash};
use rocksdb::Options;

use super::duplicates::{Duplicates, describe};
use super::rocksdb_file::RocksDbFile;
use super::sealed::sst_path;
use crate::attempt::Attempt;
use crate::error::{At as _, EngineError};
use crate::frames::FrameRef;
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
