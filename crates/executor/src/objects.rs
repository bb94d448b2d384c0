//! The build's prefix in the output store, for threads that may wait; every retry there is.
//!
//! A call that fails in a way that may pass is repeated, each time later. What such an outage may
//! last is counted only while the control plane answers: when it is silent too, this process is
//! cut off, and being cut off is no error. A full store is waited for, with the reason shown. A
//! call is cut short when the attempt must end at once.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indexbuild_api::{Reason, Waiting};
use indexbuild_index::store::{PutOutcome, Store, StoreError, Version};
use tokio::runtime::Handle;

use crate::pulse::{Ended, Pulse};
use crate::stats::{Meter, add_since};

/// For how long an outage of the store is waited for, while the control plane answers.
pub const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// An outage shorter than this is not worth a word in the report.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// Why a call on the store ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The attempt was told to end.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The store is out for too long.
    #[error("the object store has not answered for {} s; the last try: cannot {act} {path}", waited.as_secs())]
    Unavailable {
        /// What was tried.
        act: &'static str,
        /// On which object.
        path: String,
        /// For how long, while the control plane answered.
        waited: Duration,
        /// The last failure.
        source: StoreError,
    },
    /// The store says no.
    #[error("cannot {act} {path}")]
    Failed {
        /// What was tried.
        act: &'static str,
        /// On which object.
        path: String,
        /// The store's word.
        source: StoreError,
    },
}

impl ObjectError {
    /// Whether there is not even a bucket: then nothing of the build is in it.
    #[must_use]
    pub fn is_no_bucket(&self) -> bool {
        match self {
            Self::Failed { source: StoreError::NoBucket { .. }, .. } => true,
            Self::Failed { .. } | Self::Ended(_) | Self::Unavailable { .. } => false,
        }
    }

    /// Whether the object is not there, or shorter than what was asked for: no outage, but a loss.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Failed { source: StoreError::NotFound { .. } | StoreError::OutOfRange { .. }, .. } => true,
            Self::Failed { .. } | Self::Ended(_) | Self::Unavailable { .. } => false,
        }
    }
}

/// What a failure of the store means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It may pass.
    Passing,
    /// It passes when there is room.
    NoSpace,
    /// It will be the same.
    Final,
}

fn classify(error: &StoreError) -> Class {
    if matches!(error, StoreError::NoSpace { .. }) {
        Class::NoSpace
    } else if error.is_retryable() {
        Class::Passing
    } else {
        Class::Final
    }
}

/// The objects under one prefix. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Store,
    runtime: Handle,
    pulse: Arc<Pulse>,
    meter: Arc<Meter>,
    patience: Duration,
}

impl Objects {
    /// The objects under `store`'s prefix. `runtime` drives the calls.
    #[must_use]
    pub fn new(store: Store, runtime: Handle, pulse: Arc<Pulse>, meter: Arc<Meter>) -> Self {
        Self { store, runtime, pulse, meter, patience: PATIENCE }
    }

    /// With another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The prefix's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.store.url()
    }

    /// Removes what killed writers left of conditional puts to `path`.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn remove_unfinished_puts(&self, path: &str) -> Result<usize, ObjectError> {
        self.call("sweep", path, &self.meter.counters.puts, || self.store.remove_unfinished_puts(path))
    }

    /// Removes what writers who are gone left unfinished under a prefix.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn remove_unfinished(&self, prefix: &str) -> Result<usize, ObjectError> {
        self.call("sweep", prefix, &self.meter.counters.puts, || self.store.remove_unfinished(prefix))
    }

    /// Another prefix, with the same patience.
    #[must_use]
    pub fn at(&self, store: Store) -> Self {
        Self { store, ..self.clone() }
    }

    /// An object and its version. `None`: there is none.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn get(&self, path: &str) -> Result<Option<(Bytes, Version)>, ObjectError> {
        let got = self.call("read", path, &self.meter.counters.gets, || self.store.get(path))?;
        if let Some((bytes, _)) = &got {
            self.meter.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(got)
    }

    /// A part of an object.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let bytes = self.call("read", path, &self.meter.counters.gets, || self.store.get_range(path, range.clone()))?;
        self.meter.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// An object's size. `None`: there is none.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn size(&self, path: &str) -> Result<Option<u64>, ObjectError> {
        self.call("look at", path, &self.meter.counters.gets, || self.store.size(path))
    }

    /// The objects under a prefix, with their sizes.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.call("list", prefix, &self.meter.counters.gets, || self.store.list(prefix))
    }

    /// Writes an object whose name is this attempt's own.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn put(&self, path: &str, bytes: &Bytes) -> Result<(), ObjectError> {
        self.counted_upload(bytes.len() as u64, || {
            self.call("write", path, &self.meter.counters.puts, || self.store.put(path, bytes.clone()))
        })
    }

    /// Uploads a sealed file under a name that is this attempt's own.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn put_file(&self, path: &str, file: &Path, bytes: u64) -> Result<(), ObjectError> {
        self.counted_upload(bytes, || {
            self.call("upload", path, &self.meter.counters.puts, || self.store.put_file(path, file))
        })
    }

    /// Creates an object if there is none. `Exists` may also mean that an own try, whose reply was
    /// lost, succeeded: read back and compare.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn put_if_absent(&self, path: &str, bytes: &Bytes) -> Result<PutOutcome, ObjectError> {
        self.call("create", path, &self.meter.counters.puts, || self.store.put_if_absent(path, bytes.clone()))
    }

    /// Replaces an object if it is still at `version`. `Exists` may also mean that an own try
    /// succeeded: read back and compare.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn put_if_match(&self, path: &str, bytes: &Bytes, version: &Version) -> Result<PutOutcome, ObjectError> {
        self.call("replace", path, &self.meter.counters.puts, || self.store.put_if_match(path, bytes.clone(), version))
    }

    /// Fetches an object into a file.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn fetch_to(&self, path: &str, file: &Path) -> Result<u64, ObjectError> {
        let bytes = self.call("fetch", path, &self.meter.counters.gets, || self.store.fetch_to(path, file))?;
        self.meter.counters.bytes_fetched.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Deletes an object; one that is not there counts as deleted.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn delete(&self, path: &str) -> Result<(), ObjectError> {
        self.call("delete", path, &self.meter.counters.puts, || self.store.delete(path))
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
        mut request: impl FnMut() -> F,
    ) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut delay = FIRST_DELAY;
        let mut waited = Duration::ZERO;
        let mut shown = false;
        let outcome = loop {
            counter.fetch_add(1, Ordering::Relaxed);
            let start = Instant::now();
            let outcome = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = self.pulse.cancelled() => None,
                    outcome = request() => Some(outcome),
                }
            });
            let error = match outcome {
                None => break Err(Ended.into()),
                Some(Ok(value)) => break Ok(value),
                Some(Err(error)) => error,
            };
            let class = classify(&error);
            match class {
                Class::Final => {
                    break Err(ObjectError::Failed { act, path: path.to_owned(), source: error });
                }
                Class::NoSpace => {
                    shown = true;
                    self.show(Reason::WaitingForSpace, act, path, &error, "free some room there, or enlarge it");
                }
                Class::Passing => {
                    if waited >= self.patience {
                        break Err(ObjectError::Unavailable { act, path: path.to_owned(), waited, source: error });
                    }
                    tracing::debug!(act, path, error = %crate::failure::chain(&error), "the store fails; trying again");
                    if waited >= SHOWN_AFTER {
                        shown = true;
                        self.show(Reason::WaitingForStore, act, path, &error, "it is tried again and again");
                    }
                }
            }
            if let Err(ended) = self.pulse.sleep(delay) {
                break Err(ended.into());
            }
            if class == Class::Passing && self.pulse.in_contact() {
                waited += start.elapsed();
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        };
        if shown {
            self.pulse.set_waiting(None);
        }
        outcome
    }

    fn show(&self, reason: Reason, act: &str, path: &str, error: &StoreError, way_out: &str) {
        let url = self.store.url();
        let message = format!("cannot {act} {path} under {url}: {}; {way_out}", crate::failure::chain(error));
        self.pulse.set_waiting(Some(Waiting { reason, message }));
    }
}
