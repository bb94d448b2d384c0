//! Whose turn it is: passes over builds, a few at a time, in the order in which they were asked for.
//!
//! The scheduler of kube keeps what is due in a hash set: where it limits how many passes are made, those that wait come in any
//! order, and some may wait for as long as others come.

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// So many at a time.
    pub(crate) fn new(at_a_time: u16) -> Self {
        Self(Semaphore::new(usize::from(at_a_time)))
    }

    /// Waits for its turn, which ends when what is given is dropped. `None`: there are no more turns.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }

    /// Whoever waits does not wait any more; turns that were given go on.
    pub(crate) fn end(&self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;

    use super::*;

    /// Each of many builds gets its pass in the order of asking, whatever their names are, and however the runtime polls
    /// those that wait.
    #[tokio::test]
    async fn passes_are_made_in_the_order_in_which_they_were_asked_for() {
        let (turns, order) = (Turns::new(1), Mutex::new(Vec::new()));
        let busy = turns.take().await;
        let mut asked: Vec<_> = (0..500_u32)
            .map(|number| {
                let (turns, order) = (&turns, &order);
                Box::pin(async move {
                    let turn = turns.take().await;
                    order.lock().unwrap().push(number);
                    tokio::task::yield_now().await;
                    drop(turn);
                })
            })
            .collect();
        for pass in &mut asked {
            assert!(pass.as_mut().now_or_never().is_none(), "it waits");
        }
        drop(busy);
        // The last that asked are polled first.
        asked.reverse();
        let all = futures::future::join_all(asked);
        tokio::time::timeout(std::time::Duration::from_secs(20), all).await.unwrap();
        assert_eq!(*order.lock().unwrap(), (0..500).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn whoever_waits_when_the_operator_is_told_to_stop_does_not_begin() {
        let turns = Arc::new(Turns::new(1));
        let first = turns.take().await.unwrap();
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take().await.is_some() }
        });
        turns.end();
        assert!(!waiting.await.unwrap());
        drop(first);
        assert!(turns.take().await.is_none());
    }
}
