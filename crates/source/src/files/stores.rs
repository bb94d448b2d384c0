//! The buckets of a table's files, each opened once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use indexbuild_store::StoreOptions;
#[cfg(test)]
use object_store::ObjectStore;

use super::bucket::Bucket;
use super::location::Scheme;
use crate::error::SourceError;
use crate::retry::{LibraryRetries, RetryPolicy};

/// Opens buckets, and keeps them: connections and credentials are shared by all readers of one.
pub(crate) struct Stores {
    policy: Arc<dyn RetryPolicy>,
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
}

impl Stores {
    pub(crate) fn new(settings: &StoreOptions) -> Self {
        Self::with_policy(Arc::new(LibraryRetries(settings.clone())))
    }

    pub(crate) fn with_policy(policy: Arc<dyn RetryPolicy>) -> Self {
        Self { policy, buckets: Mutex::default() }
    }

    /// With these clients, by base URL (`s3://bucket`).
    #[cfg(test)]
    pub(crate) fn with(clients: impl IntoIterator<Item = (String, Arc<dyn ObjectStore>)>) -> Self {
        Self::with_policy_and_clients(Arc::new(LibraryRetries(StoreOptions::default())), clients)
    }

    #[cfg(test)]
    pub(crate) fn with_policy_and_clients(
        policy: Arc<dyn RetryPolicy>,
        clients: impl IntoIterator<Item = (String, Arc<dyn ObjectStore>)>,
    ) -> Self {
        let bucket = |(base, client): (String, _)| {
            let bucket = Arc::new(Bucket::of(&base, client, Arc::clone(&policy)));
            (base, bucket)
        };
        let buckets = Mutex::new(clients.into_iter().map(bucket).collect());
        Self { policy, buckets }
    }

    pub(super) fn policy(&self) -> Arc<dyn RetryPolicy> {
        Arc::clone(&self.policy)
    }

    /// An error as soon as the caller is to end.
    pub(super) fn go_on(&self, url: &str) -> Result<(), SourceError> {
        self.policy.go_on(url)
    }

    /// The bucket `<scheme>://<authority>`.
    pub(super) fn bucket(&self, scheme: Scheme, base: &str) -> Result<Arc<Bucket>, SourceError> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(base) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Arc::new(Bucket::open(scheme, base, &self.policy)?);
        buckets.insert(base.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }
}
