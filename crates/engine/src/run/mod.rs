//! Runs: immutable files of encoded entries of whole splits, cut by lane.
//!
//! ```text
//! section*    pieces, by index, lane and kind; each with a digest in the table
//! table       which pieces there are (see `table`)
//! footer      where the table is, and its digest
//! ```
//! A small JSON sidecar is sealed last. A run without its sidecar does not exist.

mod sidecar;
mod table;
mod writer;

pub use self::sidecar::{RunSidecar, SealedRun};
pub use self::table::{EntrySum, PieceRef, ReadAt, RunTable, TableIndex};

pub(crate) use self::sidecar::{run_names, sidecar_of, sidecars};
pub(crate) use self::writer::{Counts, IndexShape, RunWriter};
