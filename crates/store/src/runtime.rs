use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Requests wait more than they compute; the second thread is for what TLS costs.
const THREADS: usize = 2;

/// The runtime of this process on which connections to object stores live. It has threads of its own, so that they move
/// while nobody waits for them, and is there until the process ends.
///
/// # Errors
/// The system's, where it gives no thread or no descriptor for it.
pub fn runtime() -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Result<Runtime, (io::ErrorKind, String)>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("store-io")
                .enable_all()
                .build()
                .map_err(|error| (error.kind(), error.to_string()))
        })
        .as_ref()
        .map(Runtime::handle)
        .map_err(|(kind, message)| io::Error::new(*kind, format!("no runtime for the object store: {message}")))
}
