//! Our writer of RocksDB's block-based table, format version 5: what a consumer ingests. `SstFileWriter` writes the same
//! content at three times the cost, and puts the time, the host and a random session into each file; here a file is a
//! function of its entries and options (I10).
//!
//! ```text
//! file    = block(data)* block(filter)? block(properties) block(metaindex) block(index) footer
//! block   = bytes, compression: u8, checksum: u32          XXH3-64 of the bytes, its low half, changed by the compression
//! data    = entry* restart: u32* restarts: u32             entry = shared, unshared, length of the value: varint;
//!                                                          the key's unshared bytes; the value
//! key     = user key, 0x01, 0u8 * 7                        a put, sequence number 0
//! filter  = of whole keys; see filter.rs
//! index   = entry per data block                           key: at least all keys of the block, less than the next one's
//!                                                          value: offset, size: varint, without a length of its own
//! footer  = checksum kind: u8, handle(metaindex), handle(index): varints padded to 40 bytes, version: u32, magic: u64
//! ```
//! Integers are little-endian. RocksDB 6.27 and newer read it.

mod block;
mod compress;
mod filter;
mod properties;
mod writer;
mod xxph3;

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod tests;

pub(crate) use compress::BlockCompression;
pub(crate) use writer::{Finished, SstWriter, WRITER_VERSION, WriteError};
