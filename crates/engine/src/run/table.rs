//! The binary table at the end of a run.
//!
//! ```text
//! header, 24 bytes  0 "ixrun\0\0\x01" │ 8 indexes u32 │ 12 zero u32 │ 16 pieces u64
//! index, 32 each    0 width u32 │ 4 lanes u32 │ 8 entries u64 │ 16 hash u128
//! piece, 56 each    0 index u32 │ 4 lane u32 │ 8 kind u32 │ 12 zero u32
//!                   16 offset u64 │ 24 length u64 │ 32 entries u64 │ 40 digest u128
//! footer, 40        0 table offset u64 │ 8 table length u64 │ 16 table digest u128 │ 32 "ixrunend"
//! ```
//! All little endian; offsets and lengths in bytes of the run; width: bytes of a packed entry, 0 without a packed
//! layout; kind: 0 packed, 1 general. Pieces are sorted by index, lane, kind and offset. The table is header, indexes
//! and pieces: its digest covers these.

use std::fs::File;
use std::os::unix::fs::FileExt;

use indexbuild_index::SetHash;
use indexbuild_index::digest::hex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::BoxError;
use crate::frames::{LONG_ENTRY, PieceKind};

const HEADER_MAGIC: [u8; 8] = *b"ixrun\0\0\x01";
const FOOTER_MAGIC: [u8; 8] = *b"ixrunend";
const HEADER: usize = 24;
const INDEX: usize = 32;
const PIECE: usize = 56;
/// Bytes of the footer: the last of the file.
const FOOTER: usize = 40;
/// A table larger than this is not one of ours.
const LARGEST_TABLE: u64 = 1 << 30;

/// One contiguous piece of a run: entries of one index, lane and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRef {
    /// Where it begins in the run, in bytes.
    pub offset: u64,
    /// Its length in bytes: at most a few MiB, unless a single entry is larger.
    pub len: u64,
    pub entries: u64,
    pub kind: PieceKind,
    /// XXH3-128 of its bytes.
    pub digest: u128,
}

impl PieceRef {
    /// Whether it is a single entry that is too long to be copied.
    pub(crate) fn is_long(&self) -> bool {
        self.entries == 1 && self.len > LONG_ENTRY as u64
    }
}

/// A place to read runs from: a file, an object.
#[allow(clippy::len_without_is_empty)] // A run is never empty.
pub trait ReadAt {
    /// Length in bytes.
    fn len(&self) -> Result<u64, BoxError>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Those of the place; less than `buf` holds is one.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BoxError>;
}

impl ReadAt for File {
    fn len(&self) -> Result<u64, BoxError> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        Ok(FileExt::read_exact_at(self, buf, offset)?)
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> Result<u64, BoxError> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let begin = usize::try_from(offset)?;
        let part = begin.checked_add(buf.len()).and_then(|end| self.get(begin..end));
        buf.copy_from_slice(part.ok_or("the end comes too early")?);
        Ok(())
    }
}

/// Entries of one index: how many, and the order-independent hash of their set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntrySum {
    pub entries: u64,
    pub hash: SetHash,
}

impl EntrySum {
    /// Adds other entries of the same index.
    pub fn merge(&mut self, other: Self) {
        self.entries += other.entries;
        self.hash.merge(other.hash);
    }
}

/// One index's part of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableIndex {
    /// Bytes per packed entry; 0 when the index has no packed layout.
    pub width: u32,
    /// Lanes that the run is cut into.
    pub lanes: u32,
    pub sum: EntrySum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    index: u32,
    lane: u32,
    piece: PieceRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RunTable {
    indexes: Vec<TableIndex>,
    records: Vec<Record>,
}

impl RunTable {
    pub(crate) fn new(indexes: Vec<TableIndex>, pieces: Vec<(u32, u32, PieceRef)>) -> Self {
        let mut records: Vec<Record> =
            pieces.into_iter().map(|(index, lane, piece)| Record { index, lane, piece }).collect();
        records.sort_unstable_by_key(|record| (record.index, record.lane, record.piece.kind, record.piece.offset));
        Self { indexes, records }
    }

    /// Reads and checks the table of a run.
    ///
    /// # Errors
    /// Those of the reader, and what is wrong with the table, in words.
    pub fn read(run: &(impl ReadAt + ?Sized)) -> Result<Self, BoxError> {
        Self::read_with_digest(run).map(|(table, _)| table)
    }

    /// As [`RunTable::read`], with the digest of the table as the sidecar names it.
    ///
    /// # Errors
    /// As of [`RunTable::read`].
    pub fn read_with_digest(run: &(impl ReadAt + ?Sized)) -> Result<(Self, String), BoxError> {
        let length = run.len()?;
        let footer_at = length.checked_sub(FOOTER as u64).ok_or("too short to be a run")?;
        let mut footer = [0; FOOTER];
        run.read_at(footer_at, &mut footer)?;
        let mut fields = Fields(&footer);
        let (offset, table_len, digest) = (fields.u64()?, fields.u64()?, fields.u128()?);
        if fields.take::<8>()? != FOOTER_MAGIC {
            return Err("it does not end as a run ends".into());
        }
        if table_len > LARGEST_TABLE || offset.checked_add(table_len) != Some(footer_at) {
            return Err("its footer names a table that is not there".into());
        }
        let mut bytes = vec![0; usize::try_from(table_len)?];
        run.read_at(offset, &mut bytes)?;
        if xxh3_128(&bytes) != digest {
            return Err("the digest of its table is wrong".into());
        }
        let table = Self::parse(&bytes)?;
        if table.records.iter().any(|record| record.piece.offset.saturating_add(record.piece.len) > offset) {
            return Err("its table names a piece that is not there".into());
        }
        Ok((table, hex(digest)))
    }

    fn parse(bytes: &[u8]) -> Result<Self, BoxError> {
        let mut fields = Fields(bytes);
        if fields.take::<8>()? != HEADER_MAGIC {
            return Err("its table is of another kind or version".into());
        }
        let (indexes, _reserved, pieces) = (fields.u32()?, fields.u32()?, fields.u64()?);
        let expected = (indexes as usize)
            .checked_mul(INDEX)
            .zip(usize::try_from(pieces)?.checked_mul(PIECE))
            .and_then(|(indexes, pieces)| indexes.checked_add(pieces)?.checked_add(HEADER));
        if expected != Some(bytes.len()) {
            return Err("its table has another length than it says".into());
        }
        let mut table = Self::default();
        for _ in 0..indexes {
            table.indexes.push(TableIndex {
                width: fields.u32()?,
                lanes: fields.u32()?,
                sum: EntrySum { entries: fields.u64()?, hash: SetHash(fields.u128()?) },
            });
        }
        for _ in 0..pieces {
            let (index, lane) = (fields.u32()?, fields.u32()?);
            let kind = match fields.u32()? {
                0 => PieceKind::Packed,
                1 => PieceKind::General,
                _ => return Err("its table names a kind of piece that this version does not know".into()),
            };
            let _reserved = fields.u32()?;
            let (offset, len, entries) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let digest = fields.u128()?;
            table.records.push(Record { index, lane, piece: PieceRef { offset, len, entries, kind, digest } });
        }
        Ok(table)
    }

    /// The table and its footer as they are written, and the table's digest.
    pub(crate) fn to_bytes(&self, offset: u64) -> (Vec<u8>, String) {
        let Self { indexes, records } = self;
        let mut bytes = Vec::with_capacity(HEADER + indexes.len() * INDEX + records.len() * PIECE + FOOTER);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&u32::try_from(indexes.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&(records.len() as u64).to_le_bytes());
        for TableIndex { width, lanes, sum: EntrySum { entries, hash: SetHash(hash) } } in indexes {
            bytes.extend_from_slice(&width.to_le_bytes());
            bytes.extend_from_slice(&lanes.to_le_bytes());
            bytes.extend_from_slice(&entries.to_le_bytes());
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        for Record { index, lane, piece: PieceRef { offset, len, entries, kind, digest } } in records {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&lane.to_le_bytes());
            bytes.extend_from_slice(&(*kind as u32).to_le_bytes());
            bytes.extend_from_slice(&0u32.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&entries.to_le_bytes());
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        let digest = xxh3_128(&bytes);
        let length = bytes.len() as u64;
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&digest.to_le_bytes());
        bytes.extend_from_slice(&FOOTER_MAGIC);
        (bytes, hex(digest))
    }

    /// The indexes that the run holds entries of.
    pub fn indexes(&self) -> &[TableIndex] {
        &self.indexes
    }

    /// The pieces of one lane of one index, packed ones first, by offset.
    pub fn pieces(&self, index: u32, lane: u32) -> impl Iterator<Item = &PieceRef> {
        let begin = self.records.partition_point(|record| (record.index, record.lane) < (index, lane));
        self.records[begin..]
            .iter()
            .take_while(move |record| (record.index, record.lane) == (index, lane))
            .map(|record| &record.piece)
    }

    /// All pieces, with their index and lane.
    pub fn all(&self) -> impl Iterator<Item = (u32, u32, &PieceRef)> {
        self.records.iter().map(|record| (record.index, record.lane, &record.piece))
    }

    /// The same table without what belongs to other lanes: what a Sort keeps in memory of each of
    /// thousands of runs.
    #[must_use]
    pub fn only(mut self, index: u32, lane: u32) -> Self {
        self.records.retain(|record| (record.index, record.lane) == (index, lane));
        self.records.shrink_to_fit();
        self
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BoxError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or("its table ends too early")?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, BoxError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, BoxError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn u128(&mut self) -> Result<u128, BoxError> {
        Ok(u128::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RunTable {
        let piece = |offset, kind| PieceRef { offset, len: 10, entries: 2, kind, digest: u128::from(offset) << 70 };
        RunTable::new(
            vec![
                TableIndex { width: 12, lanes: 3, sum: EntrySum { entries: 6, hash: SetHash(u128::MAX - 5) } },
                TableIndex { width: 0, lanes: 1, sum: EntrySum { entries: 2, hash: SetHash(9) } },
            ],
            vec![
                (1, 0, piece(30, PieceKind::General)),
                (0, 2, piece(20, PieceKind::General)),
                (0, 2, piece(10, PieceKind::Packed)),
                (0, 0, piece(0, PieceKind::Packed)),
            ],
        )
    }

    fn run() -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes.extend(table().to_bytes(40).0);
        bytes
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let (read, digest) = RunTable::read_with_digest(run().as_slice()).unwrap();
        assert_eq!(read, table());
        assert_eq!(digest, table().to_bytes(40).1);
        assert_eq!(read.pieces(0, 2).map(|piece| piece.offset).collect::<Vec<_>>(), [10, 20]);
        assert_eq!(read.pieces(0, 1).count(), 0);
        assert_eq!(read.clone().only(1, 0).pieces(1, 0).count(), 1);
        assert_eq!(read.only(1, 0).pieces(0, 2).count(), 0);
    }

    #[test]
    fn i3_any_flipped_byte_or_cut_of_a_table_is_noticed() {
        let whole = run();
        for at in 40..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            assert!(RunTable::read(flipped.as_slice()).is_err(), "byte {at}");
        }
        for length in 0..whole.len() {
            assert!(RunTable::read(&whole[..length]).is_err(), "length {length}");
        }
    }
}
