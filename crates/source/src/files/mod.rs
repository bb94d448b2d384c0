//! Files on disks and in object stores, read by position, always in the state that the snapshot pins.

mod blocking;
mod bucket;
mod listing;
mod location;
mod overlap;
mod pinned;
mod stores;
mod walk;
mod window;

pub(crate) use listing::list;
pub(crate) use location::path_bytes;
pub use overlap::{file_under, pattern_over};
pub(crate) use pinned::{OpenFile, PinnedFile};
pub(crate) use stores::Stores;
pub(crate) use window::Window;

/// How many files are looked at at once: enough to hide a store's latency.
pub(crate) const FILES_AT_ONCE: usize = 16;
