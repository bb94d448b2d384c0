//! The one place where blocking code waits for the object store's futures.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, (io::ErrorKind, String)>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("source-io")
                .enable_all()
                .build()
                .map_err(|error| (error.kind(), error.to_string()))
        })
        .as_ref()
        .map_err(|(kind, message)| io::Error::new(*kind, message.clone()))
}

/// A future that runs on the I/O thread. Dropped, it is cancelled.
pub(super) struct Pending<T> {
    answer: Receiver<T>,
    task: AbortHandle,
}

/// Starts a future on the I/O thread.
///
/// It is not run on the caller's thread: a caller inside another runtime would panic there
/// ("Cannot start a runtime from within a runtime").
pub(super) fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> io::Result<Pending<T>> {
    let (sender, answer) = sync_channel(1);
    let task = runtime()?.spawn(async move {
        // The receiver is gone when nobody wants the answer any more.
        let _ = sender.send(future.await);
    });
    Ok(Pending { answer, task: task.abort_handle() })
}

impl<T> Pending<T> {
    /// Blocks until the answer is there; says so once when that takes `long`.
    pub(super) fn wait(self, long: Duration, say: impl FnOnce()) -> io::Result<T> {
        let ended = || io::Error::other("the I/O thread ended before it answered");
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
