//! How the table is reached: with the credentials of the moment, and with all the patience that its store needs.

use std::sync::Arc;

use indexbuild_source::{FailedRequest, Retry, RetryPolicy, SourceError, StoreOptions, TableSpec};
use indexbuild_store::Fault;

use crate::attempt_state::{AttemptState, EndRequest, Ended, WaitsFor};
use crate::config::ExecutorConfig;
use crate::definitions::{self, DefinitionError};
use crate::outage::{FIRST_ANSWER_WITHIN, Next, Watch, pause, reopens};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("it has not answered once: {0}; check its endpoint, its credentials, and that it can be reached")]
    Silent(String),
    #[error("it has refused whatever it was asked: {0}")]
    Refused(String),
}

/// The table of a build, and how its store is waited for while an attempt reads it. Reads end as soon as the attempt is to
/// end in the way `ends_at`: who seals what is whole reads on until then.
pub(crate) fn source(
    config: &Arc<ExecutorConfig>,
    shared: &Arc<AttemptState>,
    ends_at: EndRequest,
) -> Result<(TableSpec, Arc<dyn RetryPolicy>), DefinitionError> {
    let source = definitions::source(&config.build.spec)?;
    let watch = Watch::new(WaitsFor::Source, config.site, Arc::clone(shared), FIRST_ANSWER_WITHIN);
    Ok((source, Arc::new(Access { config: Arc::clone(config), shared: Arc::clone(shared), watch, ends_at })))
}

#[derive(Debug)]
struct Access {
    config: Arc<ExecutorConfig>,
    shared: Arc<AttemptState>,
    watch: Watch,
    ends_at: EndRequest,
}

impl Access {
    fn urls(&self) -> String {
        let urls: Vec<&str> =
            self.config.build.spec.source.files().flat_map(|files| files.urls).map(String::as_str).collect();
        urls.join(", ")
    }

    /// What follows a request that failed, after the pause that it asks for.
    fn after(&self, failure: &FailedRequest<'_>) -> Retry {
        let FailedRequest { url, fault, answer, right, tries } = *failure;
        let told = right.map_or_else(|| answer.to_owned(), |right| format!("{answer}; {right}"));
        match self.watch.failed(&format!("cannot read {url}"), fault, &told) {
            Next::Wait { needs_help: _ } => match self.shared.sleep(pause(tries)) {
                Ok(()) if reopens(fault, tries) => Retry::NewClient,
                Ok(()) => Retry::SameClient,
                Err(ended) => Retry::Stop(Box::new(ended)),
            },
            Next::End => match fault {
                Fault::Outage => Retry::Stop(Box::new(Unanswered::Silent(answer.to_owned()))),
                Fault::Refused => Retry::Stop(Box::new(Unanswered::Refused(answer.to_owned()))),
                Fault::NoBucket | Fault::NotFound | Fault::Final => Retry::GiveUp,
            },
        }
    }
}

impl RetryPolicy for Access {
    fn settings(&self) -> Result<StoreOptions, SourceError> {
        let mut tries = 0;
        loop {
            let ExecutorConfig { build, access, .. } = &*self.config;
            let answer = match definitions::source_settings(&build.spec, access) {
                Ok(mut settings) => match definitions::source_lacks(&build.spec, access, &settings) {
                    None => {
                        settings.extra.retain(|name, _| indexbuild_store::is_known(name));
                        return Ok(settings);
                    }
                    Some(lacking) => lacking,
                },
                Err(bad) => bad.to_string(),
            };
            let url = self.urls();
            match self.after(&FailedRequest { url: &url, fault: Fault::Refused, answer: &answer, right: None, tries }) {
                Retry::NewClient | Retry::SameClient => tries = tries.saturating_add(1),
                Retry::GiveUp => return Err(SourceError::Unusable { url, answer }),
                Retry::Stop(cause) => return Err(SourceError::Denied { url, right: None, source: cause }),
            }
        }
    }

    fn waits(&self) -> bool {
        true
    }

    fn answered(&self) {
        self.watch.answered();
    }

    fn go_on(&self, url: &str) -> Result<(), SourceError> {
        if self.shared.ending() < self.ends_at {
            return Ok(());
        }
        Err(SourceError::Store { url: url.to_owned(), source: Box::new(Ended) })
    }

    fn slow(&self, url: &str) {
        self.watch.silent(&format!("reading {url}"));
    }

    fn failed(&self, failure: &FailedRequest<'_>) -> Retry {
        if self.config.test.never_wait_for_stores { Retry::GiveUp } else { self.after(failure) }
    }
}
