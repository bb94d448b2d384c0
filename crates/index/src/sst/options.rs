//! The options of SST files.

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, ChecksumType, DBCompressionType, Options};

use crate::definition::Compression;

const BLOCK_BYTES: usize = 16 * 1024;
/// RocksDB's table format that RocksDB 7.5 and newer read; its own default is refused before 9.8.
const FORMAT_VERSION: i32 = 5;

/// The options with which an index's SST files are written: format version 5, XXH3 checksums,
/// binary-search index, blocks of 16 KiB, no filter, bytewise comparator.
#[must_use]
pub fn sst_options(compression: Compression) -> Options {
    sst_options_with_filter(compression, 0)
}

/// The same, with a full Bloom filter of whole keys, of so many bits per key; 0: without one.
#[must_use]
pub fn sst_options_with_filter(compression: Compression, bloom_bits_per_key: u32) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(FORMAT_VERSION);
    table.set_checksum_type(ChecksumType::XXH3);
    table.set_index_type(BlockBasedIndexType::BinarySearch);
    table.set_block_size(BLOCK_BYTES);
    table.disable_cache();
    if bloom_bits_per_key > 0 {
        table.set_bloom_filter(f64::from(bloom_bits_per_key), false);
        // Otherwise a filter is as large as the allocator happens to give memory.
        table.set_optimize_filters_for_memory(false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(match compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    });
    options
}
