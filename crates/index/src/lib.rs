//! The format of an index, byte by byte, and its reader.
//!
//! Writers use [`definition`], [`columnar`], [`digest`] and [`manifest`]; consumers of a finished
//! index need [`reader`] alone. The format is described in `docs/key-encoding.md` and
//! `docs/reading-an-index.md`. Words: `docs/glossary.md`.
#![warn(missing_docs)]

pub mod codec;
pub mod columnar;
pub mod definition;
pub mod digest;
pub mod manifest;
pub mod reader;
pub mod sst;
pub mod store;
pub mod value;

#[cfg(test)]
mod docs_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod value_tests;

pub use self::codec::{
    CodecError, DecodeError, DecodedEntry, MAX_KEY_BYTES, Position, RowIdValue, decode_entry, encode_entry,
    encode_key_prefix,
};
pub use self::columnar::{
    Arena, ArenaEntry, EncodeError, Encoder, Entries, LongEntry, PackedLayout, RowPositions, Rows,
};
pub use self::definition::{
    ColumnType, Compression, IncludedColumn, IndexDefinition, InvalidDefinition, KeyColumn, Nulls, Order, RowId,
    TimeUnit, UnsupportedType,
};
pub use self::digest::{ContentDigest, FileDigest, Frame, SetHash, digest_bytes, entry_hash};
pub use self::sst::{CheckDb, DbCounts, DbError, open_handles, sst_options, sst_options_with_filter};
pub use self::value::{ParseValueError, Value};
