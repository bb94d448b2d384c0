//! What a file says of itself. RocksDB refuses to ingest one without some of it.

use super::block::{PlainBlock, put_varint};

/// What is counted while a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) blocks: u64,
    /// Bytes of keys, each with the eight that RocksDB adds.
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    /// Bytes of data blocks as they are stored.
    pub(super) data_bytes: u64,
    pub(super) index_bytes: u64,
    /// Without what follows its block.
    pub(super) filter_bytes: u64,
    /// Keys in the filter; 0: there is none.
    pub(super) filter_entries: u64,
}

/// The properties, in the order of their names, in which a reader searches them.
///
/// Times are 0, and who wrote it is not said: a file is decided by its content alone. RocksDB's cache knows a block by
/// session, file number and offset: two files that differ in anything must differ in one of the first two, or they would
/// answer for each other.
pub(super) fn properties(totals: Totals, compression: &str, identity: u128) -> PlainBlock {
    let Totals { entries, blocks, key_bytes, value_bytes, data_bytes, index_bytes, filter_bytes, filter_entries } =
        totals;
    let number = |number: u64| {
        let mut bytes = Vec::with_capacity(10);
        put_varint(&mut bytes, number);
        bytes
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let (session, file) = names(identity);
    let mut block = PlainBlock::default();
    for (name, value) in [
        ("rocksdb.block.based.table.index.type", 0_u32.to_le_bytes().to_vec()),
        ("rocksdb.block.based.table.prefix.filtering", text("0")),
        ("rocksdb.block.based.table.whole.key.filtering", text("1")),
        // Of no column family yet.
        ("rocksdb.column.family.id", number(0x7fff_ffff)),
        ("rocksdb.comparator", text("leveldb.BytewiseComparator")),
        ("rocksdb.compression", text(compression)),
        ("rocksdb.creating.db.identity", text("indexbuild")),
        ("rocksdb.creating.session.identity", session),
        ("rocksdb.creation.time", number(0)),
        ("rocksdb.data.size", number(data_bytes)),
        ("rocksdb.deleted.keys", number(0)),
        ("rocksdb.external_sst_file.global_seqno", 0_u64.to_le_bytes().to_vec()),
        ("rocksdb.external_sst_file.version", 2_u32.to_le_bytes().to_vec()),
        ("rocksdb.file.creation.time", number(0)),
        // The name of RocksDB's policy; without a filter, it is not told.
        ("rocksdb.filter.policy", text("bloomfilter")),
        ("rocksdb.filter.size", number(filter_bytes)),
        ("rocksdb.fixed.key.length", number(0)),
        ("rocksdb.format.version", number(0)),
        ("rocksdb.index.key.is.user.key", number(1)),
        ("rocksdb.index.size", number(index_bytes)),
        ("rocksdb.index.value.is.delta.encoded", number(1)),
        ("rocksdb.merge.operands", number(0)),
        ("rocksdb.merge.operator", text("nullptr")),
        ("rocksdb.num.data.blocks", number(blocks)),
        ("rocksdb.num.entries", number(entries)),
        ("rocksdb.num.filter_entries", number(filter_entries)),
        ("rocksdb.num.range-deletions", number(0)),
        ("rocksdb.oldest.key.time", number(0)),
        ("rocksdb.original.file.number", number(file)),
        ("rocksdb.prefix.extractor.name", text("nullptr")),
        ("rocksdb.property.collectors", text("[]")),
        ("rocksdb.raw.key.size", number(key_bytes)),
        ("rocksdb.raw.value.size", number(value_bytes)),
    ] {
        if name != "rocksdb.filter.policy" || filter_entries > 0 {
            block.put(name.as_bytes(), &value);
        }
    }
    block
}

/// A session as RocksDB writes them, 20 digits of base 36, and a file number: 135 bits for 128.
fn names(mut identity: u128) -> (Vec<u8>, u64) {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut session = Vec::with_capacity(20);
    for _ in 0..20 {
        let digit = usize::try_from(identity % 36).unwrap_or_default();
        session.extend(DIGITS.get(digit));
        identity /= 36;
    }
    // 0 is no number of a file.
    (session, u64::try_from(identity).unwrap_or_default() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_identities_have_different_names() {
        let (session, file) = names(u128::MAX);
        assert_eq!((session.len(), file), (20, u64::try_from(u128::MAX / 36_u128.pow(20)).unwrap() + 1));
        assert_ne!(names(1), names(1 + 36_u128.pow(20)), "what the session has no room for is in the number");
        assert_eq!(names(0), (b"00000000000000000000".to_vec(), 1));
    }
}
