//! Runs: immutable files of encoded entries of whole splits, cut by lane.
//!
//! ```text
//! 0                                            table offset   length - 40   length: bytes
//! ┌───────┬───────┬───┬───────┬───────┬───┬───┬──────────────┬─────────────┐
//! │ piece │ piece │ … │ piece │ piece │ … │ … │ table        │ footer      │
//! └───────┴───────┴───┴───────┴───────┴───┴───┴──────────────┴─────────────┘
//!  section 0, by       section 1, one per      where each piece is, and its
//!  index, lane, kind   full memory             digest: see `table`
//!
//! a packed piece     entry [width], entry [width], …                               big endian
//! a general piece    key length u32, key, value length u32, value, …     lengths little endian
//! ```
//! A small JSON sidecar is sealed last. A run without its sidecar does not exist.

mod sidecar;
mod table;
mod writer;

pub use self::sidecar::{RunSidecar, SealedRun};
pub use self::table::{EntrySum, PieceRef, ReadAt, RunTable, TableIndex};

pub(crate) use self::sidecar::{run_names, sidecar_of, sidecars};
pub(crate) use self::writer::{Counts, IndexShape, RunWriter};
