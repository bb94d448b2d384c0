//! Blocking code waits for the object store's futures here, and nowhere else.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::AbortHandle;

/// A future that runs on the stores' runtime. Dropped, it is cancelled.
pub(super) struct Pending<T> {
    answer: Receiver<io::Result<T>>,
    task: AbortHandle,
}

/// Starts a future on the stores' runtime.
///
/// It is not run on the caller's thread: a caller inside another runtime would panic there
/// ("Cannot start a runtime from within a runtime").
pub(super) fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> io::Result<Pending<T>> {
    let (sender, answer) = sync_channel(1);
    let task = indexbuild_store::runtime()?.spawn(async move {
        // The receiver is gone when the request was cancelled.
        let answer = AssertUnwindSafe(future).catch_unwind().await.map_err(|panic| {
            let words = indexbuild_text::panic_words(panic.as_ref());
            io::Error::other(format!("the request panicked: {words}"))
        });
        let _ = sender.send(answer);
    });
    Ok(Pending { answer, task: task.abort_handle() })
}

impl<T> Pending<T> {
    /// Blocks until the answer is there; calls `say` once when that takes `long`.
    pub(super) fn wait(self, long: Duration, say: impl FnOnce()) -> io::Result<T> {
        let ended = || io::Error::other("the stores' runtime ended before it answered");
        match self.answer.recv_timeout(long) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                say();
                self.answer.recv().map_err(|_| ended())?
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_panics_is_an_error_with_its_words() {
        for (long, sleeps) in [(Duration::from_secs(60), false), (Duration::ZERO, true)] {
            let pending = start(async move {
                if sleeps {
                    tokio::task::yield_now().await;
                }
                assert!(long.is_zero() && !sleeps, "the signer met a line break");
            });
            let error = pending.unwrap().wait(long, || {}).unwrap_err();
            assert!(error.to_string().contains("panicked: the signer met a line break"), "{error}");
        }
    }
}
