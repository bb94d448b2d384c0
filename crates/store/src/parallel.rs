use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Calls `work` for each item on a few threads: what waits for a store costs its latency once and not for each item.
/// Answers in the order of the items. After a failure no further item is begun.
///
/// # Errors
/// The first by the order of the items.
///
/// # Panics
/// Where `work` panics, in its own words: a scope's own panic would have none of them.
pub fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = threads.min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = catch_unwind(AssertUnwindSafe(|| work(item)));
                    if !matches!(result, Ok(Ok(_))) {
                        // What follows is not needed any more; what came before is still finished, so that the error that
                        // is reported does not depend on the threads' timing.
                        next.fetch_max(items.len(), Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_visited_once_answers_keep_their_order_and_the_first_failure_is_returned() {
        let items: Vec<u64> = (1..=100).collect();
        let sum = Mutex::new(0);
        for threads in [1, 8, 1_000] {
            let doubled = in_parallel(&items, threads, |item| {
                *sum.lock().unwrap() += item;
                Ok::<_, ()>(item * 2)
            });
            assert!(doubled.unwrap().into_iter().eq((1..=100).map(|item| item * 2)));
            assert_eq!(std::mem::take(&mut *sum.lock().unwrap()), 5050);
            assert_eq!(in_parallel(&items, threads, |item| if *item >= 50 { Err(*item) } else { Ok(()) }), Err(50));
        }
    }

    #[test]
    fn a_panic_keeps_its_words_and_comes_in_its_place_among_the_failures() {
        let items: Vec<u64> = (1..=100).collect();
        for threads in [1, 8] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                in_parallel(&items, threads, |item| match *item {
                    20 => panic!("item {item} is cursed"),
                    90.. => Err(*item),
                    _ => Ok(()),
                })
            }));
            let words = indexbuild_text::panic_words(outcome.unwrap_err().as_ref());
            assert_eq!(words, "item 20 is cursed", "{threads} threads");
        }
        let first = in_parallel(&items, 8, |item| {
            if *item == 3 {
                Err("refused")
            } else {
                assert!(*item < 90);
                Ok(())
            }
        });
        assert_eq!(first, Err("refused"));
    }
}
