//! What becomes of a request that a store did not answer as it should: who reads a table decides how long to wait.

use std::error::Error;
use std::fmt::Debug;

use indexbuild_store::{Fault, StoreOptions};

use crate::error::SourceError;

/// How a store is signed in to, and what is done when it does not answer. It is asked from the threads that read, and
/// may block them.
pub trait Patience: Debug + Send + Sync {
    /// How the store is reached. Asked anew when a client is made anew: credentials change.
    ///
    /// # Errors
    /// When there is no use in waiting for settings that work.
    fn settings(&self) -> Result<StoreOptions, SourceError>;

    /// Whether the library's own retries end soon, because [`Patience::failed`] waits better: it can say so.
    fn waits(&self) -> bool;

    fn answered(&self);

    /// A request has been under way for long.
    fn silent(&self, url: &str);

    /// A request has failed in a way that may pass. Returns when it is to be made again.
    fn failed(&self, failure: &Failure<'_>) -> Verdict;
}

/// A request that failed in a way that may pass.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The file or bucket that was asked for.
    pub url: &'a str,
    /// What it means; neither [`Fault::NotFound`] nor [`Fault::Final`].
    pub fault: Fault,
    pub answer: &'a str,
    /// How often the same request has failed before.
    pub tries: u32,
}

/// What becomes of a request that failed.
#[derive(Debug)]
pub enum Verdict {
    /// It is made again, by a client that is made anew: with fresh credentials and connections.
    Again,
    /// It is made again, by the same client.
    AgainAsIs,
    /// Its failure is the reader's error.
    GiveUp,
    /// This is the reader's error.
    Stop(Box<dyn Error + Send + Sync>),
}

/// The library's own retries, and no more.
#[derive(Debug)]
pub(crate) struct Impatient(pub(crate) StoreOptions);

impl Patience for Impatient {
    fn settings(&self) -> Result<StoreOptions, SourceError> {
        Ok(self.0.clone())
    }

    fn waits(&self) -> bool {
        false
    }

    fn answered(&self) {}

    fn silent(&self, _: &str) {}

    fn failed(&self, _: &Failure<'_>) -> Verdict {
        Verdict::GiveUp
    }
}
