//! Interim.
use indexbuild_index::Compression;
use rocksdb::{BlockBasedOptions, DBCompressionType, Options};

pub(crate) fn sst_options(compression: Compression) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    table.set_block_size(16 << 10);
    table.set_checksum_type(rocksdb::ChecksumType::XXH3);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(match compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    });
    options
}
