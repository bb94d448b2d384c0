//! How requests to a store are retried: the caller decides how long to wait for a store.

use std::error::Error;
use std::fmt::Debug;

use indexbuild_store::{Fault, StoreOptions};

use crate::error::SourceError;

/// The settings of a store, and what is done when it does not answer. It is called from the threads that read, and may
/// block them.
pub trait RetryPolicy: Debug + Send + Sync {
    /// How the store is reached. Called again for each new client: credentials change.
    ///
    /// # Errors
    /// When there is no use in waiting for settings that work.
    fn settings(&self) -> Result<StoreOptions, SourceError>;

    /// Whether the library's own retries end soon, because [`RetryPolicy::failed`] waits itself and reports it.
    fn waits(&self) -> bool;

    fn answered(&self);

    /// Asked before each read and while files are listed: an error, which is then the reader's, ends it.
    ///
    /// # Errors
    /// When nobody waits for what is read any more.
    fn go_on(&self, url: &str) -> Result<(), SourceError> {
        let _ = url;
        Ok(())
    }

    /// A request has been under way for long.
    fn slow(&self, url: &str);

    /// A request has failed in a way that may pass. Returns when it is to be made again.
    fn failed(&self, failure: &FailedRequest<'_>) -> Retry;
}

/// A request that failed in a way that may pass.
#[derive(Clone, Copy, Debug)]
pub struct FailedRequest<'a> {
    /// The file or bucket that was asked for.
    pub url: &'a str,
    /// Neither [`Fault::NotFound`] nor [`Fault::Final`].
    pub fault: Fault,
    pub answer: &'a str,
    /// The right that is missing, where a refusal is about one.
    pub right: Option<&'a str>,
    /// How often the same request has failed before.
    pub tries: u32,
}

/// How a request that failed is repeated, if it is.
#[derive(Debug)]
pub enum Retry {
    /// By a new client, with fresh credentials and connections.
    NewClient,
    SameClient,
    /// The failure is the reader's error.
    GiveUp,
    /// This is the reader's error.
    Stop(Box<dyn Error + Send + Sync>),
}

/// The library's own retries, and no more.
#[derive(Debug)]
pub(crate) struct LibraryRetries(pub(crate) StoreOptions);

impl RetryPolicy for LibraryRetries {
    fn settings(&self) -> Result<StoreOptions, SourceError> {
        Ok(self.0.clone())
    }

    fn waits(&self) -> bool {
        false
    }

    fn answered(&self) {}

    fn slow(&self, _: &str) {}

    fn failed(&self, _: &FailedRequest<'_>) -> Retry {
        Retry::GiveUp
    }
}
