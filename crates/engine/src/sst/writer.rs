//! Writes a file, entry by entry in order.

use std::io::{self, Write};

use indexbuild_index::FileDigest;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::block::{DataBlock, Handle, PlainBlock, separator, shared_prefix};
use super::compress::{BlockCompression, Stored};
use super::filter::{Filter, Keys};
use super::properties::{Totals, properties};

/// A block is full with so many bytes, before it is compressed: `docs/reading-an-index.md` tells it.
const BLOCK_BYTES: usize = 16 * 1024;
/// It is also full if the next entry would take it past that, and it is this full already.
const NEARLY_FULL: usize = BLOCK_BYTES / 10 * 9;
/// The memory of a block of so many bytes is not kept for the next one.
const LONG_BLOCK: usize = 1 << 20;
/// So much is handed to the kernel at once.
const WRITE_BYTES: usize = 256 * 1024;

const FORMAT_VERSION: u32 = 5;
const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
/// Where RocksDB looks for a filter of its own kinds, in every release.
const FILTER: &[u8] = b"fullfilter.rocksdb.BuiltinBloomFilter";
const CHECKSUM_XXH3: u8 = 4;
/// Kind of the checksum and both handles, padded.
const FOOTER_HEAD: usize = 41;

/// What decides a file's bytes beside its entries, their compression and the filter's bits per key: the layout, the size of
/// blocks, how often a key is whole, the compressors and their levels. Whatever changes a byte raises it, for two files that
/// differ must not have one name in RocksDB's cache, and a manifest tells by it which files are equal bit for bit (I10).
/// `the_bytes_of_files_are_those_of_the_writer_s_version` fails when it was forgotten.
pub(crate) const WRITER_VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("its entries are not in ascending order of their keys")]
    OutOfOrder,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The file, and what of it the kernel does not have yet.
struct Output<W> {
    file: W,
    buffer: Vec<u8>,
    /// Of what the kernel has.
    digest: FileDigest,
    /// Where the next block begins.
    offset: u64,
}

impl<W: Write> Output<W> {
    fn block(&mut self, bytes: &[u8], stored: Stored) -> Result<Handle, WriteError> {
        let handle = Handle { offset: self.offset, size: bytes.len() as u64 };
        if bytes.len() > WRITE_BYTES {
            // Not copied once more.
            self.flush()?;
            self.file.write_all(bytes)?;
            self.digest.update(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.buffer.push(stored as u8);
        self.buffer.extend_from_slice(&checksum(bytes, stored as u8).to_le_bytes());
        self.offset += bytes.len() as u64 + 5;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(handle)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.file.write_all(&self.buffer)?;
        self.digest.update(&self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

/// A file that has all its bytes, to be flushed and sealed.
pub(crate) struct Finished<W> {
    pub(crate) file: W,
    pub(crate) bytes: u64,
    /// Of all its bytes.
    pub(crate) digest: String,
}

/// A file of RocksDB's format in the making.
pub(crate) struct SstWriter<W> {
    output: Output<W>,
    compression: BlockCompression,
    block: DataBlock,
    index: PlainBlock,
    /// The last block, which the index has once the next key is known.
    unindexed: Option<Handle>,
    last_key: Vec<u8>,
    shorter: Vec<u8>,
    totals: Totals,
    /// 0: without a filter.
    bloom_bits_per_key: u32,
    keys: Option<Keys>,
    filter: Option<Filter>,
}

impl<W: Write> SstWriter<W> {
    pub(crate) fn new(file: W, compression: BlockCompression) -> Self {
        let buffer = Vec::with_capacity(WRITE_BYTES + 2 * BLOCK_BYTES);
        Self {
            output: Output { file, buffer, digest: FileDigest::new(), offset: 0 },
            compression,
            block: DataBlock::default(),
            index: PlainBlock::default(),
            unindexed: None,
            last_key: Vec::new(),
            shorter: Vec::new(),
            totals: Totals::default(),
            bloom_bits_per_key: 0,
            keys: None,
            filter: None,
        }
    }

    /// With a Bloom filter of all keys that are put from now on; 0: without one.
    #[must_use]
    pub(crate) fn with_filter(mut self, bloom_bits_per_key: u32) -> Self {
        self.bloom_bits_per_key = bloom_bits_per_key;
        self.keys = (bloom_bits_per_key > 0).then(|| Keys::new(bloom_bits_per_key));
        self
    }

    /// Adds an entry, whose key is greater than the last one's.
    ///
    /// # Errors
    /// [`WriteError`]: then the file is of no use.
    #[inline]
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let shared = shared_prefix(&self.last_key, key);
        if self.totals.entries > 0 {
            let ascends = match (self.last_key.get(shared), key.get(shared)) {
                (Some(last), Some(next)) => last < next,
                (None, Some(_)) => true,
                (Some(_) | None, None) => false,
            };
            if !ascends {
                return Err(WriteError::OutOfOrder);
            }
        }
        let size = self.block.size();
        if size >= BLOCK_BYTES
            || (size >= NEARLY_FULL
                && size + key.len() - shared + value.len() + 16 > BLOCK_BYTES
                && !self.block.is_empty())
        {
            self.end_block()?;
        }
        if let Some(handle) = self.unindexed.take() {
            self.index.put_handle(separator(&self.last_key, key, &mut self.shorter), handle);
        }
        self.block.put(key, value, shared);
        if let Some(keys) = &mut self.keys {
            keys.add(key);
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(key.get(shared..).unwrap_or_default());
        self.totals.entries += 1;
        self.totals.key_bytes += key.len() as u64 + 8;
        self.totals.value_bytes += value.len() as u64;
        Ok(())
    }

    /// Ends the block if a long entry filled it, and frees what that took. The next entry would end it in any case.
    pub(crate) fn end_long_entry(&mut self) -> Result<(), WriteError> {
        if self.block.size() >= LONG_BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), WriteError> {
        let (bytes, stored) = self.compression.compress(self.block.finish())?;
        let handle = self.output.block(bytes, stored)?;
        if self.block.size() >= LONG_BLOCK {
            self.compression.free();
        }
        self.block.clear();
        self.totals.blocks += 1;
        self.totals.data_bytes = self.output.offset;
        self.unindexed = Some(handle);
        Ok(())
    }

    /// No entry comes any more: the filter is made of the keys, which take many times as much memory while a file waits to
    /// be finished.
    pub(crate) fn end(&mut self) {
        if let Some(keys) = self.keys.take() {
            self.filter = Some(keys.filter());
        }
    }

    /// Writes what is held back, and all that stands behind the entries. The content digest is that of the entries.
    ///
    /// # Errors
    /// [`WriteError`]: then the file is of no use.
    pub(crate) fn finish(mut self, content_digest: u128) -> Result<Finished<W>, WriteError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        if let Some(handle) = self.unindexed.take() {
            self.index.put_handle(&self.last_key, handle);
        }
        self.end();
        let filter = match self.filter.take() {
            Some(Filter { bytes, entries }) => {
                self.totals.filter_bytes = bytes.len() as u64;
                self.totals.filter_entries = entries;
                Some(self.output.block(&bytes, Stored::Raw)?)
            }
            None => None,
        };
        self.totals.index_bytes = self.index.size() as u64 + 5;
        let compression = self.compression.name();
        let identity = {
            let mut decides = content_digest.to_le_bytes().to_vec();
            decides.extend_from_slice(&WRITER_VERSION.to_le_bytes());
            decides.extend_from_slice(compression.as_bytes());
            if self.bloom_bits_per_key > 0 {
                decides.extend_from_slice(b", bloom ");
                decides.extend_from_slice(&self.bloom_bits_per_key.to_le_bytes());
            }
            xxh3_128(&decides)
        };
        let mut block = properties(self.totals, compression, identity);
        let properties = self.output.block(block.finish(), Stored::Raw)?;
        let mut metaindex = PlainBlock::default();
        // In the order of their names.
        for (name, block) in [(FILTER, filter), (b"rocksdb.properties".as_slice(), Some(properties))] {
            let mut handle = Vec::new();
            if let Some(block) = block {
                block.append(&mut handle);
                metaindex.put(name, &handle);
            }
        }
        let metaindex = self.output.block(metaindex.finish(), Stored::Raw)?;
        let index = self.output.block(self.index.finish(), Stored::Raw)?;
        let mut footer = vec![CHECKSUM_XXH3];
        metaindex.append(&mut footer);
        index.append(&mut footer);
        footer.resize(FOOTER_HEAD, 0);
        footer.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        footer.extend_from_slice(&MAGIC.to_le_bytes());
        self.output.buffer.extend_from_slice(&footer);
        self.output.flush()?;
        let Output { file, buffer: _, digest, offset } = self.output;
        Ok(Finished { file, bytes: offset + footer.len() as u64, digest: digest.finish() })
    }
}

/// XXH3's low half, changed by the byte that follows the block as if that were hashed too.
fn checksum(bytes: &[u8], last: u8) -> u32 {
    let [a, b, c, d, ..] = xxh3_64(bytes).to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from(last).wrapping_mul(0x6b90_83d9)
}
