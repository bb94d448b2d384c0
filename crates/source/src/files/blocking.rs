//! Blocking code waits for the object store's futures here, and nowhere else.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::task::AbortHandle;

/// A future that runs on the stores' runtime. Dropped, it is cancelled.
pub(super) struct Pending<T> {
    answer: Receiver<T>,
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
        let _ = sender.send(future.await);
    });
    Ok(Pending { answer, task: task.abort_handle() })
}

impl<T> Pending<T> {
    /// Blocks until the answer is there; calls `say` once when that takes `long`.
    pub(super) fn wait(self, long: Duration, say: impl FnOnce()) -> io::Result<T> {
        let ended = || io::Error::other("the stores' runtime ended before it answered");
        match self.answer.recv_timeout(long) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                say();
                self.answer.recv().map_err(|_| ended())
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
