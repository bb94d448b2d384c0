//! Files on disks and in object stores, read by position, always in the state that the snapshot pins.

mod blocking;
mod bucket;
mod listing;
mod location;
mod pinned;
mod stores;
mod window;

pub(crate) use listing::list;
pub(crate) use pinned::{OpenFile, PinnedFile};
pub(crate) use stores::Stores;
pub(crate) use window::Window;

use crate::error::SourceError;

/// How many files are looked at at once: enough to hide a store's latency.
pub(crate) const FILES_AT_ONCE: usize = 16;

/// Calls `work` for each item on a few threads; answers in the order of the items, the first error by that order.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, SourceError> + Sync,
) -> Result<Vec<R>, SourceError> {
    let threads = threads.min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    if result.is_err() {
                        // Later items are skipped. Earlier ones are finished, so that the reported error does not depend
                        // on the threads' timing.
                        next.fetch_max(items.len(), std::sync::atomic::Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
