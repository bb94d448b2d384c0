//! The build's prefix in the output store, for threads that may wait; every retry there is.
//!
//! A call that fails because the store is away, or refuses, is repeated for as long as that lasts ([`crate::outage`]); the
//! store is opened anew for it, with the credentials of then. A folder's failure that may pass is repeated too, but not
//! for ever: what it lasted is counted only while the control plane answers, since being cut off is no error. A full
//! store is waited for, with the reason shown. A call is cut short when the attempt must end at once.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indexbuild_api::{Reason, ReportedWait};
use indexbuild_index::store::{Fault, PutOutcome, Store, StoreError, Version};
use indexbuild_text::chain;
use tokio::runtime::Handle;

use crate::attempt_state::{AttemptState, Ended, WaitsFor};
use crate::outage::{Next, Watch, pause, reopens};
use crate::stats::{Meter, add_since};

/// So many small requests, each for another object, are made at once.
pub(crate) const OBJECTS_AT_ONCE: usize = 8;
/// For how long a folder's failure is waited for, while the control plane answers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// A folder's failure shorter than this is not worth a word in the report.
const SHOWN_AFTER: Duration = Duration::from_secs(2);
/// A request that is answered later is told of, and one with many bytes so much later.
const LONG: Duration = Duration::from_secs(8);
const SLOW_BYTES_PER_SECOND: u64 = 1 << 20;
/// The same for one whose bytes are not known before: files are of some 100 MiB.
const LARGE: Duration = Duration::from_secs(60);

/// Why a call on the store ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error("cannot {act} {path}: the store has not done it for {} s: {answer}; check its endpoint, its credentials, and that it can be reached", waited.as_secs())]
    Unavailable { act: &'static str, path: String, waited: Duration, answer: String },
    #[error("cannot {act} {path}: the store refuses, since {} s: {answer}; {}", waited.as_secs(), right.as_deref().unwrap_or("check its credentials, their rights, and which CA vouches for it"))]
    Refused { act: &'static str, path: String, waited: Duration, answer: String, right: Option<String> },
    #[error("cannot {act} {path}")]
    Failed { act: &'static str, path: String, source: StoreError },
}

impl ObjectError {
    /// Whether there is not even a bucket: then nothing of the build is in it.
    pub fn is_no_bucket(&self) -> bool {
        match self {
            Self::Failed { source: StoreError::NoBucket { .. }, .. } => true,
            Self::Failed { .. } | Self::Ended(_) | Self::Unavailable { .. } | Self::Refused { .. } => false,
        }
    }

    /// Whether the store will never do it, however often it is asked.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.fault() == Some(Fault::Final),
            Self::Ended(_) | Self::Unavailable { .. } | Self::Refused { .. } => false,
        }
    }

    /// Whether the object is not there, or shorter than what was asked for: no outage, but a loss.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Failed { source: StoreError::NotFound { .. } | StoreError::OutOfRange { .. }, .. } => true,
            Self::Failed { .. } | Self::Ended(_) | Self::Unavailable { .. } | Self::Refused { .. } => false,
        }
    }
}

/// The store cannot be asked.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The credentials or CA certificates that were named do not suffice; which do not.
    Lacking(String),
    /// Its address or settings are none.
    Store(StoreError),
}

type Open = dyn Fn() -> Result<Store, OpenError> + Send + Sync;

/// The output's store, opened when it is first asked, and anew when it does not do what it is asked.
struct Output {
    url: String,
    open: Box<Open>,
    store: Mutex<Option<Store>>,
    watch: Watch,
}

impl Output {
    fn store(&self) -> Result<Store, OpenError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        Ok(store.insert((self.open)()?).clone())
    }

    fn reopen(&self) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The objects under one prefix. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Objects {
    output: Arc<Output>,
    prefix: String,
    runtime: Handle,
    shared: Arc<AttemptState>,
    meter: Arc<Meter>,
    waits: bool,
    needs_bucket: bool,
    /// How many bytes a request writes: what a store that has no room lacks at least.
    writes: Option<u64>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Objects {
    /// The objects under a prefix of the store that `open` opens, at `url`. `runtime` drives the calls.
    #[must_use]
    pub(crate) fn new(
        url: &str,
        prefix: String,
        open: impl Fn() -> Result<Store, OpenError> + Send + Sync + 'static,
        watch: Watch,
        runtime: Handle,
        shared: Arc<AttemptState>,
        meter: Arc<Meter>,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let output = Arc::new(Output { url, open: Box::new(open), store: Mutex::default(), watch });
        Self { output, prefix, runtime, shared, meter, waits: true, needs_bucket: true, writes: None }
    }

    /// For a process that is about to end: what fails has failed.
    #[must_use]
    pub(crate) fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// For who cleans: where there is no bucket there is nothing of the build, and nothing to wait for.
    #[must_use]
    pub(crate) fn without_bucket(&self) -> Self {
        Self { needs_bucket: false, ..self.clone() }
    }

    fn writing(&self, bytes: u64) -> Self {
        Self { writes: Some(bytes), ..self.clone() }
    }

    /// Whether the output is a folder, which creates and replaces under a lock of its own.
    pub(crate) fn are_files(&self) -> bool {
        self.output.url.starts_with("file:")
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.output.url, self.prefix)
    }

    /// Another prefix of the same store.
    #[must_use]
    pub(crate) fn at(&self, prefix: String) -> Self {
        Self { prefix, ..self.clone() }
    }

    /// Removes what killed writers left of conditional puts to `path`.
    pub(crate) fn remove_unfinished_puts(&self, path: &str) -> Result<usize, ObjectError> {
        self.call("sweep", path, &self.meter.counters.puts, LONG, |store| async move {
            store.remove_unfinished_puts(path).await
        })
    }

    /// Removes what writers who are gone left unfinished under a prefix.
    pub(crate) fn remove_unfinished(&self, prefix: &str) -> Result<usize, ObjectError> {
        self.call("sweep", prefix, &self.meter.counters.puts, LONG, |store| async move {
            store.remove_unfinished(prefix).await
        })
    }

    /// An object and its version. `None`: there is none.
    pub(crate) fn get(&self, path: &str) -> Result<Option<(Bytes, Version)>, ObjectError> {
        let got =
            self.call("read", path, &self.meter.counters.gets, LONG, |store| async move { store.get(path).await })?;
        if let Some((bytes, _)) = &got {
            self.meter.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(got)
    }

    pub(crate) fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let bytes = self.call("read", path, &self.meter.counters.gets, LONG, |store| {
            let range = range.clone();
            async move { store.get_range(path, range).await }
        })?;
        self.meter.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// An object's size. `None`: there is none.
    pub(crate) fn size(&self, path: &str) -> Result<Option<u64>, ObjectError> {
        self.call("look at", path, &self.meter.counters.gets, LONG, |store| async move { store.size(path).await })
    }

    /// The objects under a prefix, with their sizes.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.call("list", prefix, &self.meter.counters.gets, LONG, |store| async move { store.list(prefix).await })
    }

    /// Writes an object whose name is this attempt's own.
    pub(crate) fn put(&self, path: &str, bytes: &Bytes) -> Result<(), ObjectError> {
        self.counted_upload(bytes.len() as u64, || {
            let counter = &self.meter.counters.puts;
            self.writing(bytes.len() as u64).call("write", path, counter, long(bytes.len() as u64), |store| {
                let bytes = bytes.clone();
                async move { store.put(path, bytes).await }
            })
        })
    }

    /// Uploads a sealed file under a name that is this attempt's own.
    pub(crate) fn put_file(&self, path: &str, file: &Path, bytes: u64) -> Result<(), ObjectError> {
        self.counted_upload(bytes, || {
            self.writing(bytes).call("upload", path, &self.meter.counters.puts, long(bytes), |store| async move {
                store.put_file(path, file).await
            })
        })
    }

    /// Creates an object if there is none. `Exists` may also mean that an own try, whose reply was
    /// lost, succeeded: read back and compare.
    pub(crate) fn put_if_absent(&self, path: &str, bytes: &Bytes) -> Result<PutOutcome, ObjectError> {
        self.writing(bytes.len() as u64).call("create", path, &self.meter.counters.puts, LONG, |store| {
            let bytes = bytes.clone();
            async move { store.put_if_absent(path, bytes).await }
        })
    }

    /// Replaces an object if it is still at `version`. `Exists` may also mean that an own try
    /// succeeded: read back and compare.
    pub(crate) fn put_if_match(&self, path: &str, bytes: &Bytes, version: &Version) -> Result<PutOutcome, ObjectError> {
        self.writing(bytes.len() as u64).call("replace", path, &self.meter.counters.puts, LONG, |store| {
            let bytes = bytes.clone();
            async move { store.put_if_match(path, bytes, version).await }
        })
    }

    pub(crate) fn fetch_to(&self, path: &str, file: &Path) -> Result<u64, ObjectError> {
        let gets = &self.meter.counters.gets;
        let bytes = self.call("fetch", path, gets, LARGE, |store| async move { store.fetch_to(path, file).await })?;
        self.meter.counters.bytes_fetched.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Deletes an object; one that is not there counts as deleted.
    pub(crate) fn delete(&self, path: &str) -> Result<(), ObjectError> {
        self.call("delete", path, &self.meter.counters.puts, LONG, |store| async move { store.delete(path).await })
    }

    fn counted_upload(&self, bytes: u64, upload: impl FnOnce() -> Result<(), ObjectError>) -> Result<(), ObjectError> {
        let start = Instant::now();
        upload()?;
        add_since(&self.meter.counters.upload_ns, start);
        self.meter.counters.bytes_uploaded.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn call<T, F>(
        &self,
        act: &'static str,
        path: &str,
        counter: &AtomicU64,
        long: Duration,
        mut request: impl FnMut(Store) -> F,
    ) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let size = self.writes.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"));
        let what = || format!("cannot {act} {path}{size} under {}", self.url());
        let begun = Instant::now();
        let mut tries = 0_u32;
        let mut counted = Duration::ZERO;
        let mut shown = false;
        let outcome = loop {
            counter.fetch_add(1, Ordering::Relaxed);
            let start = Instant::now();
            let outcome = self.runtime.block_on(async {
                let request = async {
                    let store = self.output.store()?.child(&self.prefix);
                    request(store).await.map_err(OpenError::Store)
                };
                tokio::select! {
                    biased;
                    () = self.shared.cancelled() => None,
                    outcome = told_if_long(request, long, || self.output.watch.silent(&what())) => Some(outcome),
                }
            });
            let error = match outcome {
                None => break Err(Ended.into()),
                Some(Ok(value)) => {
                    self.output.watch.answered();
                    break Ok(value);
                }
                Some(Err(error)) => error,
            };
            let failed = |source| ObjectError::Failed { act, path: path.to_owned(), source };
            let right = match &error {
                OpenError::Store(error) => error.missing_right().map(ToOwned::to_owned),
                OpenError::Lacking(_) => None,
            };
            let (fault, answer, error) = match error {
                OpenError::Lacking(answer) => (Fault::Refused, answer, None),
                OpenError::Store(error) => match error.fault() {
                    Some(fault) => (fault, indexbuild_store::answer(&error), Some(error)),
                    None if matches!(error, StoreError::NoSpace { .. }) => {
                        shown = true;
                        self.show(Reason::WaitingForSpace, &what(), &error, "free some room there, or enlarge it");
                        if let Err(ended) = self.shared.sleep(pause(tries)) {
                            break Err(ended.into());
                        }
                        tries = tries.saturating_add(1);
                        continue;
                    }
                    // A folder's failure, which may pass.
                    None if error.is_retryable() && self.waits && counted < PATIENCE => {
                        tracing::debug!(act, path, error = %chain(&error), "the folder fails; trying again");
                        if counted >= SHOWN_AFTER {
                            shown = true;
                            self.show(Reason::WaitingForStore, &what(), &error, "it is tried again and again");
                        }
                        if let Err(ended) = self.shared.sleep(pause(tries)) {
                            break Err(ended.into());
                        }
                        if self.shared.in_contact() {
                            counted += start.elapsed();
                        }
                        tries = tries.saturating_add(1);
                        continue;
                    }
                    None => break Err(failed(error)),
                },
            };
            if fault == Fault::NotFound {
                self.output.watch.answered();
            }
            let waits = self.waits && (self.needs_bucket || fault != Fault::NoBucket);
            let told = right.as_ref().map_or_else(|| answer.clone(), |right| format!("{answer}; {right}"));
            let next = if waits { self.output.watch.failed(&what(), fault, &told) } else { Next::End };
            match (next, error) {
                (Next::Wait { needs_help: _ }, _) => {
                    tracing::debug!(act, path, answer, "the store does not do it; trying again");
                    if reopens(fault, tries) {
                        self.output.reopen();
                    }
                    if let Err(ended) = self.shared.sleep(pause(tries)) {
                        break Err(ended.into());
                    }
                    tries = tries.saturating_add(1);
                }
                (Next::End, Some(error)) if !matches!(fault, Fault::Outage | Fault::Refused) => {
                    break Err(failed(error));
                }
                (Next::End, _) => {
                    let (path, waited) = (path.to_owned(), begun.elapsed());
                    break Err(match fault {
                        Fault::Refused => ObjectError::Refused { act, path, waited, answer, right },
                        _ => ObjectError::Unavailable { act, path, waited, answer },
                    });
                }
            }
        };
        if shown {
            self.shared.set_waiting(WaitsFor::Room, None);
        }
        outcome
    }

    fn show(&self, reason: Reason, what: &str, error: &StoreError, way_out: &str) {
        let message = format!("{what}: {}; {way_out}", chain(error));
        self.shared.set_waiting(WaitsFor::Room, Some(ReportedWait { reason, message, needs_help: false }));
    }
}

/// How long a request with so many bytes may take before it is told of.
fn long(bytes: u64) -> Duration {
    LONG + Duration::from_secs(bytes / SLOW_BYTES_PER_SECOND)
}

/// Waits for a request; says so once when it takes long.
async fn told_if_long<T>(request: impl Future<Output = T>, long: Duration, say: impl FnOnce()) -> T {
    tokio::pin!(request);
    tokio::select! {
        biased;
        outcome = &mut request => return outcome,
        () = tokio::time::sleep(long) => say(),
    }
    request.await
}

#[cfg(test)]
mod tests {
    use indexbuild_index::store::StoreOptions;

    use super::*;
    use crate::outage::Site;

    #[test]
    fn a_store_without_room_is_told_with_the_bytes_that_it_refused_and_the_work_goes_on_by_itself() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let shared = Arc::new(AttemptState::new());
        let watch = Watch::new(WaitsFor::Output, Site::Cluster, Arc::clone(&shared), LONG);
        let at = url.clone();
        let open = move || Store::open(&at, &StoreOptions::default()).map_err(OpenError::Store);
        let (handle, meter) = (runtime.handle().clone(), Arc::new(Meter::start()));
        let objects = Objects::new(&url, "p".to_owned(), open, watch, handle, Arc::clone(&shared), meter);
        let mut told = Vec::new();
        let written = objects.writing(1_234).call("upload", "a", &AtomicU64::new(0), LONG, |_| {
            told.push(shared.view().waiting);
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let full = StoreError::NoSpace { url: url.clone(), source };
            let outcome = if told.len() < 3 { Err(full) } else { Ok(()) };
            async move { outcome }
        });
        written.unwrap();
        for waiting in &told[1..] {
            let waiting = waiting.as_ref().unwrap();
            assert_eq!(waiting.reason, Reason::WaitingForSpace);
            assert!(waiting.message.contains("cannot upload a (1234 bytes) under file://"), "{}", waiting.message);
            assert!(waiting.message.contains("free some room there"), "{}", waiting.message);
        }
        assert_eq!(shared.view().waiting, None, "it waits no more");
    }
}
