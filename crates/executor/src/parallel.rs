//! The same small request for many objects: a few at once.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

const AT_ONCE: usize = 8;

/// Calls `act` for each item, a few at once; after a failure no further calls begin.
///
/// # Errors
/// One of the failures.
pub(crate) fn each<T: Sync, E: Send>(items: &[T], act: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = act(item) {
                        next.store(items.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        break;
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_visited_once_and_a_failure_is_returned() {
        let items: Vec<u64> = (1..=100).collect();
        let sum = Mutex::new(0);
        each(&items, |item| {
            *sum.lock().unwrap() += item;
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(*sum.lock().unwrap(), 5050);
        assert_eq!(each(&items, |item| if *item == 50 { Err(*item) } else { Ok(()) }), Err(50));
    }
}
