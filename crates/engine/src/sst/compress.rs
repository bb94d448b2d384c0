//! Blocks compressed: the raw size as a varint, then what the algorithm makes.

use std::io;

use indexbuild_index::Compression;

use super::block::put_varint;

/// zstd's own default, and RocksDB's.
const ZSTD_LEVEL: i32 = 3;
/// A block that shrinks by less than an eighth is stored as it is, as RocksDB does: it is cheaper to read.
const WORTH: (usize, usize) = (7, 8);
/// LZ4 takes no more at once; RocksDB compresses nothing larger than what fits an `int`.
const MOST: usize = 0x7e00_0000;

/// How a block is stored: RocksDB's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stored {
    Raw = 0,
    Lz4 = 4,
    Zstd = 7,
}

/// Compresses blocks, one after the other, within one buffer.
pub(crate) struct BlockCompression {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

enum Algorithm {
    None,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl BlockCompression {
    /// # Errors
    /// zstd's, if it finds no memory.
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let algorithm = match compression {
            Compression::None => Algorithm::None,
            Compression::Lz4 => Algorithm::Lz4,
            Compression::Zstd => Algorithm::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Self { algorithm, bytes: Vec::new() })
    }

    /// Frees what a long block took.
    pub(super) fn free(&mut self) {
        self.bytes = Vec::new();
    }

    /// As `rocksdb.compression` names it.
    pub(super) const fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::None => "NoCompression",
            Algorithm::Lz4 => "LZ4",
            Algorithm::Zstd(_) => "ZSTD",
        }
    }

    /// The bytes to store for a block, and how they are stored.
    pub(super) fn compress<'b>(&'b mut self, raw: &'b [u8]) -> io::Result<(&'b [u8], Stored)> {
        if raw.len() > MOST || matches!(self.algorithm, Algorithm::None) {
            return Ok((raw, Stored::Raw));
        }
        self.bytes.clear();
        put_varint(&mut self.bytes, raw.len() as u64);
        let head = self.bytes.len();
        let (most, stored) = match &self.algorithm {
            Algorithm::Lz4 => (lz4_flex::block::get_maximum_output_size(raw.len()), Stored::Lz4),
            Algorithm::Zstd(_) => (zstd::zstd_safe::compress_bound(raw.len()), Stored::Zstd),
            Algorithm::None => (0, Stored::Raw),
        };
        self.bytes.resize(head + most, 0);
        let place = self.bytes.get_mut(head..).unwrap_or_default();
        let size = match &mut self.algorithm {
            Algorithm::Lz4 => lz4_flex::block::compress_into(raw, place).map_err(io::Error::other)?,
            Algorithm::Zstd(compressor) => compressor.compress_to_buffer(raw, place)?,
            Algorithm::None => 0,
        };
        self.bytes.truncate(head + size);
        let (part, of) = WORTH;
        if self.bytes.len() > raw.len() / of * part {
            return Ok((raw, Stored::Raw));
        }
        Ok((&self.bytes, stored))
    }
}

impl std::fmt::Debug for BlockCompression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
