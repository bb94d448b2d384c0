//! The engine directory: where rows become the sorted files of an index.
//!
//! An [`Attempt`] is one process's try at one piece of work, in a folder of its own on a slot's
//! [`Volume`]. [`encode()`] turns splits of the table into runs; [`sort()`] turns a lane of all runs into
//! SST files that RocksDB can ingest. Both work in a budget of memory, seal what they finish, and
//! take over ([`adopt_runs`], [`adopt_ranges`]) what former attempts sealed.
//!
//! This crate knows no object store, source or control plane: callers pass them as traits.
//! Words: `docs/glossary.md`.

pub use indexbuild_index::open_handles;

mod adopt;
mod attempt;
mod buffers;
mod control;
mod encode;
mod error;
mod frames;
mod packed;
mod plan;
mod quarantine;
mod route;
mod run;
mod sort;
mod sst;
mod test_switches;
mod threads;
mod volume;

pub use self::adopt::{Adopted, Quarantined, adopt_ranges, adopt_runs, verify_run};
pub use self::attempt::{Attempt, Owner};
pub use self::control::{JobControl, Step, StepTimes};
pub use self::encode::{Batches, EncodeJob, EncodeOutcome, InputBatch, InputRows, SplitReader, encode};
pub use self::error::{BoxError, EngineError, NoSpace, is_no_space};
pub use self::frames::PieceKind;
pub use self::plan::{IndexPlan, Lane, plan_index};
pub use self::run::{EntrySum, PieceRef, ReadAt, RunSidecar, RunTable, SealedRun, TableIndex};
pub use self::sort::{
    DuplicatePair, Duplicates, MOST_PAIRS, PieceReader, RunInput, SealedRange, SealedSst, SortJob, SortOutcome, sort,
};
pub use self::sort::{EngineCheck, leak_engine};
pub use self::test_switches::TestSwitches;
pub use self::volume::{FoundAttempt, LockedAttempt, Volume, need_of_encode, need_of_sort};
