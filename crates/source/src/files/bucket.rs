//! One bucket of a store: asked until it answers, or until who reads has no more patience.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use indexbuild_store::{ClientError, Fault, Provider, Retries, answer};
use object_store::ObjectStore;

use super::blocking::{self, Pending};
use super::location::Scheme;
use crate::error::SourceError;
use crate::patience::{Failure, Patience, Verdict};

/// A request that takes longer is told of: until it fails, nobody would know what is waited for.
const LONG: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(crate) struct Bucket {
    scheme: Scheme,
    /// `<scheme>://<authority>`
    base: String,
    patience: Arc<dyn Patience>,
    client: RwLock<Arc<dyn ObjectStore>>,
}

/// An answer that is under way.
pub(crate) type Asked<T> = Pending<object_store::Result<T>>;

impl Bucket {
    pub(super) fn open(scheme: Scheme, base: &str, patience: &Arc<dyn Patience>) -> Result<Self, SourceError> {
        let client = RwLock::new(client(scheme, base, patience.as_ref())?);
        Ok(Self { scheme, base: base.to_owned(), patience: Arc::clone(patience), client })
    }

    #[cfg(test)]
    pub(super) fn of(base: &str, client: Arc<dyn ObjectStore>, patience: Arc<dyn Patience>) -> Self {
        Self { scheme: Scheme::S3, base: base.to_owned(), patience, client: RwLock::new(client) }
    }

    fn client(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts a request. Its outcome is for [`Self::finish`].
    pub(super) fn start<T, F>(
        &self,
        url: &str,
        request: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<Asked<T>, SourceError>
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
        request: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<object_store::Result<T>, SourceError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.finish(url, self.start(url, &request)?, request)
    }

    /// Waits for a request that was started, and makes it again as long as it is not answered.
    pub(super) fn finish<T, F>(
        &self,
        url: &str,
        first: Asked<T>,
        request: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<object_store::Result<T>, SourceError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let mut asked = first;
        let mut tries = 0_u32;
        loop {
            let outcome =
                asked.wait(LONG, || self.patience.silent(url)).map_err(|error| SourceError::from_io(url, error))?;
            let error = match outcome {
                Ok(value) => {
                    self.patience.answered();
                    return Ok(Ok(value));
                }
                Err(error) => error,
            };
            let fault = Fault::of(&error);
            match fault {
                Fault::NotFound => self.patience.answered(),
                Fault::Final => {}
                Fault::Outage | Fault::Refused | Fault::NoBucket => {
                    let failure = Failure { url, fault, answer: &answer(&error), tries };
                    match self.patience.failed(&failure) {
                        again @ (Verdict::Again | Verdict::AgainAsIs) => {
                            if matches!(again, Verdict::Again) {
                                self.renew()?;
                            }
                            asked = self.start(url, &request)?;
                            tries = tries.saturating_add(1);
                            continue;
                        }
                        Verdict::GiveUp => {}
                        Verdict::Stop(cause) => {
                            return Err(SourceError::Store { url: url.to_owned(), source: cause });
                        }
                    }
                }
            }
            return Ok(Err(error));
        }
    }

    fn renew(&self) -> Result<(), SourceError> {
        let fresh = client(self.scheme, &self.base, self.patience.as_ref())?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn client(scheme: Scheme, base: &str, patience: &dyn Patience) -> Result<Arc<dyn ObjectStore>, SourceError> {
    let mut options = patience.settings()?;
    let plain = options.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    options.allow_http |= scheme == Scheme::Http || plain;
    let retries = if patience.waits() { Retries::WAITED_FOR } else { Retries::TABLE };
    let provider = match scheme {
        Scheme::S3 => Provider::S3,
        Scheme::Gs => Provider::Gcs,
        Scheme::Az => Provider::Azure,
        Scheme::Http | Scheme::Https => Provider::Http,
    };
    indexbuild_store::client(provider, base, &options, retries).map_err(|error| match error {
        ClientError::Runtime(error) => SourceError::from_io(base, error),
        error @ (ClientError::UnknownOption(_) | ClientError::Endpoint(_) | ClientError::Store(_)) => {
            SourceError::Settings { url: base.to_owned(), source: Box::new(error) }
        }
    })
}
