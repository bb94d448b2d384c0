//! One bucket of a store: requests are repeated until it answers, or the retry policy gives up.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use indexbuild_store::{Asked, ClientError, Fault, Provider, Retries, answer, missing_right};
use object_store::ObjectStore;

use super::blocking::{self, Pending};
use super::location::Scheme;
use crate::error::{SourceError, of_list};
use crate::retry::{FailedRequest, Retry, RetryPolicy};

/// A request that takes longer is reported as slow: until it fails, nobody would know what is waited for.
const LONG: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(crate) struct Bucket {
    scheme: Scheme,
    /// `<scheme>://<authority>`
    base: String,
    policy: Arc<dyn RetryPolicy>,
    client: RwLock<Arc<dyn ObjectStore>>,
}

pub(crate) type PendingRequest<T> = Pending<object_store::Result<T>>;

impl Bucket {
    pub(super) fn open(scheme: Scheme, base: &str, policy: &Arc<dyn RetryPolicy>) -> Result<Self, SourceError> {
        let client = RwLock::new(client(scheme, base, policy.as_ref())?);
        Ok(Self { scheme, base: base.to_owned(), policy: Arc::clone(policy), client })
    }

    #[cfg(test)]
    pub(super) fn of(base: &str, client: Arc<dyn ObjectStore>, policy: Arc<dyn RetryPolicy>) -> Self {
        Self { scheme: Scheme::S3, base: base.to_owned(), policy, client: RwLock::new(client) }
    }

    fn client(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts a request; [`Self::finish`] waits for it.
    pub(super) fn start<T, F>(
        &self,
        url: &str,
        request: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<PendingRequest<T>, SourceError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        blocking::start(request(self.client())).map_err(|error| SourceError::from_io(url, error))
    }

    /// Makes a request until it is answered: done, or refused for good (the inner error).
    pub(super) fn ask<T, F>(
        &self,
        url: &str,
        asked: Asked,
        request: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<object_store::Result<T>, SourceError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.finish(url, asked, self.start(url, &request)?, request)
    }

    /// Waits for a request that was started, and makes it again as long as it is not answered.
    pub(super) fn finish<T, F>(
        &self,
        url: &str,
        asked: Asked,
        first: PendingRequest<T>,
        request: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<object_store::Result<T>, SourceError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let mut pending = first;
        let mut tries = 0_u32;
        loop {
            let outcome =
                pending.wait(LONG, || self.policy.slow(url)).map_err(|error| SourceError::from_io(url, error))?;
            let error = match outcome {
                Ok(value) => {
                    self.policy.answered();
                    return Ok(Ok(value));
                }
                Err(error) => error,
            };
            let fault = Fault::of(&error);
            match fault {
                Fault::NotFound => self.policy.answered(),
                Fault::Final => {}
                Fault::Outage | Fault::Refused | Fault::NoBucket => {
                    let right = missing_right(of_list(url, asked), asked, &error);
                    let (answer, right_told) = (answer(&error), right.as_deref());
                    let failure = FailedRequest { url, fault, answer: &answer, right: right_told, tries };
                    match self.policy.failed(&failure) {
                        again @ (Retry::NewClient | Retry::SameClient) => {
                            if matches!(again, Retry::NewClient) {
                                self.renew()?;
                            }
                            pending = self.start(url, &request)?;
                            tries = tries.saturating_add(1);
                            continue;
                        }
                        Retry::GiveUp => {}
                        Retry::Stop(cause) => {
                            let url = url.to_owned();
                            // Whether a store that refuses can be reached is no question.
                            return Err(match fault {
                                Fault::Refused => SourceError::Denied { url, right, source: cause },
                                _ => SourceError::Store { url, source: cause },
                            });
                        }
                    }
                }
            }
            return Ok(Err(error));
        }
    }

    fn renew(&self) -> Result<(), SourceError> {
        let fresh = client(self.scheme, &self.base, self.policy.as_ref())?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

/// The library retries only for seconds where the policy waits itself, and pauses briefly: after a partition, each pause is
/// time lost.
fn client(scheme: Scheme, base: &str, policy: &dyn RetryPolicy) -> Result<Arc<dyn ObjectStore>, SourceError> {
    let mut options = policy.settings()?;
    let plain = options.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    options.allow_http |= scheme == Scheme::Http || plain;
    let retries = if policy.waits() { Retries::WAITED_FOR } else { Retries::TABLE };
    let provider = match scheme {
        Scheme::S3 => Provider::S3,
        Scheme::Gs => Provider::Gcs,
        Scheme::Az => Provider::Azure,
        Scheme::Http | Scheme::Https => Provider::Http,
    };
    indexbuild_store::client(provider, base, &options, retries).map_err(|error| match error {
        ClientError::Runtime(error) => SourceError::from_io(base, error),
        error @ (ClientError::UnknownOption(_)
        | ClientError::Endpoint(_)
        | ClientError::Value(_)
        | ClientError::Store(_)) => SourceError::Settings { url: base.to_owned(), source: Box::new(error) },
    })
}
