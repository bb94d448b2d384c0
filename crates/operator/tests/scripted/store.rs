//! The object store as far as the protocol looks at it: one object per build that is made once, the manifest or
//! the tombstone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What stands at `manifest.json` of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The index is published: its digest.
    Manifest(String),
    /// Nothing can ever be published.
    Tombstone,
}

/// The commits of all builds, by their UID.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<BTreeMap<String, Commit>>);

impl Store {
    /// Creates the manifest if nothing is there; what is there already is the truth.
    pub(crate) fn publish(&self, build_uid: &str, digest: &str) -> Commit {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(build_uid.to_owned()).or_insert_with(|| Commit::Manifest(digest.to_owned())).clone()
    }

    /// Creates the tombstone if nothing is there; a commit that was first is left alone.
    pub(crate) fn abort(&self, build_uid: &str) -> Commit {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(build_uid.to_owned()).or_insert(Commit::Tombstone).clone()
    }

    /// The index goes: the tombstone takes its place.
    pub(crate) fn remove(&self, build_uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(build_uid.to_owned(), Commit::Tombstone);
    }

    /// What is there.
    pub(crate) fn commit(&self, build_uid: &str) -> Option<Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(build_uid).cloned()
    }
}
