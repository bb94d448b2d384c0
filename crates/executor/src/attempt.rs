//! One attempt as the loop sees it: a thread that works, and how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indexbuild_api::{Epoch, Report, UnknownWork, Work, WorkId, WorkKind, WorkResult};
use indexbuild_index::manifest::BuildRef;
use indexbuild_index::store::Store;
use indexbuild_lifecycle::texts::Fitted as _;
use indexbuild_text::{chain, panic_words};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::attempt_state::{AttemptState, EndRequest, View, WaitsFor};
use crate::config::ExecutorConfig;
use crate::control::ControlPlane;
use crate::definitions::{output_lacks, output_options};
use crate::failure::WorkFailure;
use crate::memory_budget::Budget;
use crate::outage::{FIRST_ANSWER_WITHIN, FIRST_ANSWER_WITHIN_WHEN_CLEANING, Watch};
use crate::plan_file::PlanFile;
use crate::rate::RateLimit;
use crate::release::Lease;
use crate::results::AttemptName;
use crate::stats::Meter;
use crate::stored_objects::{Objects, OpenError};
use crate::work::{Job, clean, perform};

/// What outlives attempts in one process.
pub(crate) struct Process {
    /// What it was told at its birth.
    pub config: Arc<ExecutorConfig>,
    pub control: Arc<dyn ControlPlane>,
    pub build: BuildRef,
    /// The nonce that it drew.
    pub boot_nonce: String,
    pub budget: Budget,
    /// `spec.rowsPerSecond`, this process's share.
    pub rate: Arc<RateLimit>,
    pub plans: Arc<OnceLock<Arc<PlanFile>>>,
}

/// An attempt whose thread may still work.
pub(crate) struct Attempt {
    epoch: Epoch,
    boot_nonce: String,
    work_id: String,
    shared: Arc<AttemptState>,
    done: Option<oneshot::Receiver<Result<WorkResult, WorkFailure>>>,
    outcome: Option<Result<WorkResult, WorkFailure>>,
}

/// An attempt did not end within its time (G11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StillRunning;

impl Attempt {
    /// Starts to work, on a thread of its own.
    pub(crate) fn start(process: &Process, volume: Lease, epoch: Epoch, work: Work) -> Self {
        let shared = Arc::new(AttemptState::new());
        let (sender, done) = oneshot::channel();
        let attempt = Self {
            epoch,
            boot_nonce: process.boot_nonce.clone(),
            work_id: work.id.clone(),
            shared: Arc::clone(&shared),
            done: Some(done),
            outcome: None,
        };
        tracing::info!(epoch = epoch.get(), work = %work.id, "starting work");
        match job(process, volume, epoch, work, shared) {
            Err(failure) => {
                // The receiver is held above, so that this cannot fail.
                let _ = sender.send(Err(failure));
            }
            Ok(job) => {
                let spawned = std::thread::Builder::new().name("work".to_owned()).spawn(move || {
                    let outcome = outcome_of(|| perform(&job));
                    drop(job);
                    // Nobody listens any more only when the process is about to end.
                    let _ = sender.send(outcome);
                });
                if let Err(error) = spawned {
                    tracing::error!(%error, "no thread to work on");
                }
            }
        }
        attempt
    }

    /// The epoch that it works under.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its name, under which its objects stand.
    pub(crate) fn name(&self, build_uid: &str) -> AttemptName {
        Job::attempt_name(build_uid, &self.work_id, self.epoch, &self.boot_nonce)
    }

    /// What it shares with its thread.
    pub(crate) fn shared(&self) -> &Arc<AttemptState> {
        &self.shared
    }

    pub(crate) fn outcome(&self) -> Option<&Result<WorkResult, WorkFailure>> {
        self.outcome.as_ref()
    }

    /// Returns when the thread has ended; at once where that is known.
    pub(crate) async fn ended(&mut self) {
        if let Some(done) = &mut self.done {
            // A thread that ends without a word was never started.
            let mut outcome =
                done.await.unwrap_or_else(|_| Err(WorkFailure::internal("the thread that works ended without a word")));
            if outcome == Err(WorkFailure::Ended) && self.shared.ending() == EndRequest::No {
                outcome = Err(WorkFailure::internal("the work ended early, and nobody had told it to"));
            }
            match &outcome {
                Ok(result) => {
                    tracing::info!(epoch = self.epoch.get(), work = %result.work_id, digest = %result.digest, "work done");
                }
                Err(WorkFailure::Ended) => tracing::info!(epoch = self.epoch.get(), "work ended as told"),
                Err(WorkFailure::NoSpace(message)) => tracing::error!(epoch = self.epoch.get(), "no space: {message}"),
                Err(WorkFailure::Failed(error)) => {
                    tracing::error!(epoch = self.epoch.get(), reason = %error.reason, "work failed: {}", error.message);
                }
            }
            self.done = None;
            self.outcome = Some(outcome);
        }
    }

    /// Whether the thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.done.is_none()
    }

    /// Ends the attempt and waits for it, at most so long; one that may seal gets `grace` for that
    /// before it must end at once.
    ///
    /// # Errors
    /// [`StillRunning`]: the thread still works, or hangs in a close.
    pub(crate) async fn close(
        &mut self,
        ending: EndRequest,
        grace: Duration,
        within: Duration,
    ) -> Result<(), StillRunning> {
        self.shared.end(ending);
        if ending == EndRequest::Seal && tokio::time::timeout(grace, self.ended()).await.is_err() {
            tracing::warn!("sealing takes too long; ending at once");
        }
        self.shared.end(EndRequest::Now);
        tokio::time::timeout(within, self.ended()).await.map_err(|_| StillRunning)
    }

    pub(crate) fn report(&self) -> Report {
        let View { per_mille, rows, bytes, step, waiting } = self.shared.view();
        let mut report = Report {
            epoch: self.epoch,
            boot_nonce: self.boot_nonce.clone(),
            renew_time: jiff::Timestamp::now().to_string(),
            #[allow(clippy::cast_precision_loss)] // at most 1000
            progress: Some(per_mille as f64 / 1_000.0),
            rows: Some(rows),
            bytes: Some(bytes),
            step: Some(step),
            waiting,
            result: None,
            error: None,
            ending: false,
        };
        match &self.outcome {
            None | Some(Err(WorkFailure::Ended)) => {}
            Some(Ok(result)) => {
                report.progress = Some(1.0);
                report.rows = Some(result.rows);
                report.bytes = Some(result.bytes);
                report.step = Some("done".to_owned());
                report.result = Some(result.clone());
            }
            Some(Err(failure @ (WorkFailure::NoSpace(_) | WorkFailure::Failed(_)))) => {
                report.step = Some("failed".to_owned());
                report.error = failure.error();
            }
        }
        report.fitted()
    }

    /// The last report of a process that was asked to stop: how far it came, or its result after all.
    pub(crate) fn last_report(&self) -> Report {
        let mut report = Report { ending: true, ..self.report() };
        if report.result.is_none() && report.error.is_none() {
            report.step = Some("stopped: what is whole is sealed".to_owned());
        }
        report
    }
}

/// What comes of a work. A panic is a failure like any other, in its own words: without them nobody would know what to mend.
fn outcome_of(work: impl FnOnce() -> Result<WorkResult, WorkFailure>) -> Result<WorkResult, WorkFailure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(WorkFailure::internal(format!("the work panicked: {}; report it", panic_words(panic.as_ref()))))
    })
}

fn job(
    process: &Process,
    volume: Lease,
    epoch: Epoch,
    work: Work,
    shared: Arc<AttemptState>,
) -> Result<Job, WorkFailure> {
    let Process { config, control, build, boot_nonce, budget, rate, plans } = process;
    let name: WorkId = work.id.parse().map_err(|error: UnknownWork| WorkFailure::internal(error))?;
    let meter = Arc::new(Meter::start());
    let runtime = Handle::current();
    let first_answer_within = match work.kind {
        WorkKind::Plan | WorkKind::Encode | WorkKind::Sort | WorkKind::Publish | WorkKind::Other(_) => {
            FIRST_ANSWER_WITHIN
        }
        WorkKind::Clean => FIRST_ANSWER_WITHIN_WHEN_CLEANING,
    };
    let mut objects = objects(config, build, &shared, &meter, first_answer_within);
    if config.test.never_wait_for_stores {
        objects = objects.without_waiting();
    }
    Ok(Job {
        attempt: Job::attempt_name(&build.uid, &work.id, epoch, boot_nonce),
        config: Arc::clone(config),
        volume,
        build: build.clone(),
        work,
        name,
        objects,
        shared,
        meter,
        budget: *budget,
        rate: Arc::clone(rate),
        control: Arc::clone(control),
        runtime,
        plans: Arc::clone(plans),
    })
}

/// The build's prefix in the output store.
fn objects(
    config: &Arc<ExecutorConfig>,
    build: &BuildRef,
    shared: &Arc<AttemptState>,
    meter: &Arc<Meter>,
    first_answer_within: Duration,
) -> Objects {
    let prefix = format!("{}/{}/{}", build.namespace, build.name, build.uid);
    let watch = Watch::new(WaitsFor::Output, config.site, Arc::clone(shared), first_answer_within);
    let url = &config.build.spec.output.url;
    let config = Arc::clone(config);
    let open = move || {
        let spec = &config.build.spec;
        // Neither is the build's fault, and both end when somebody corrects a secret.
        let mut options = output_options(spec, &config.access).map_err(|bad| OpenError::Lacking(bad.to_string()))?;
        match output_lacks(spec, &config.access, &options) {
            Some(lacking) => Err(OpenError::Lacking(lacking)),
            None => {
                options.extra.retain(|name, _| indexbuild_store::is_known(name));
                Store::open(&spec.output.url, &options).map_err(OpenError::Store)
            }
        }
    };
    Objects::new(url, prefix, open, watch, Handle::current(), Arc::clone(shared), Arc::clone(meter))
}

/// Removes what an attempt that gave way left in the store, if the build has ended meanwhile. In
/// bounded time: what is not removed by then is left to whoever deletes the prefix.
pub(crate) async fn retire(process: &Process, attempt: AttemptName, within: Duration) {
    let build = process.build.clone();
    let shared = Arc::new(AttemptState::new());
    let meter = Arc::new(Meter::start());
    let objects = objects(&process.config, &build, &shared, &meter, Duration::ZERO).without_waiting();
    let retiring = tokio::task::spawn_blocking(move || clean::retire(&objects, &build, &attempt));
    match tokio::time::timeout(within, retiring).await {
        Ok(Ok(Ok(0))) => {}
        Ok(Ok(Ok(objects))) => tracing::info!(objects, "the build has ended meanwhile; what came late is removed"),
        Ok(Ok(Err(error))) => tracing::warn!("what came late may stay in the store: {}", chain(&error)),
        Ok(Err(error)) => tracing::warn!(%error, "what came late may stay in the store"),
        Err(_) => {
            shared.end(EndRequest::Now);
            tracing::warn!("what came late may stay in the store: it does not answer in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::WorkErrorReason;
    use indexbuild_store::in_parallel;

    use super::*;

    #[test]
    fn a_work_that_panics_fails_with_the_words_of_the_panic_on_whichever_thread_it_was() {
        let direct = outcome_of(|| panic!("row {} has no end", 7));
        let beside = outcome_of(|| {
            in_parallel(&[1, 2, 3], 3, |item| if *item == 2 { panic!("row 7 has no end") } else { Ok(()) })
                .map(|_: Vec<()>| WorkResult::default())
        });
        for outcome in [direct, beside] {
            let Err(WorkFailure::Failed(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!((error.reason, error.retryable), (WorkErrorReason::Internal, true));
            assert!(error.message.contains("panicked: row 7 has no end"), "{}", error.message);
        }
        let done = outcome_of(|| Ok(WorkResult { rows: 3, ..WorkResult::default() }));
        assert_eq!(done.unwrap().rows, 3);
    }
}
