//! The loop of one owner's life: what [`indexbuild_lifecycle::owner::next`] says is done here, and
//! nothing is decided here.
//!
//! The loop never waits for the work: it reads the record, reports, and tells the attempt to end;
//! the attempt works on a thread of its own. Whatever the way out, the attempt is closed first and
//! no engine handle stays open (I7); a close that hangs ends the process (G11).

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use indexbuild_api::{Claim, Epoch, Work};
use indexbuild_index::manifest::BuildRef;
use indexbuild_lifecycle::owner::{Current, ExitReason, GiveWayReason, OwnerState, Seen, Step, next};
use indexbuild_lifecycle::world::{Millis, Record};

use crate::attempt::{Attempt, Process, StillRunning, retire};
use crate::attempt_state::EndRequest;
use crate::backoff::{Backoff, LONGEST_PAUSE, Pace, look_within};
use crate::config::ExecutorConfig;
use crate::control::{ContactError, ControlPlane, WriteError};
use crate::exit::ExitStatus;
use crate::failure::WorkFailure;
use crate::grace::{CLOSE_WITHIN, HANDLES_WITHIN, LAST_REPORT_WITHIN, RETIRE_WITHIN, SEAL_WITHIN};
use crate::machine;
use crate::memory_budget::Budget;
use crate::mounted_build::{Limits, WatchedFile};
use crate::rate::RateLimit;
use crate::release::{self, VolumeAccess, handles_closed};
use crate::test_switches::TestSwitches;
use crate::wake::{REPORTS_APART, WaitChange, WakeOn, wake};

/// How often to report, until the record tells.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest pause: what changes all the time must not make this loop spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// One owner's life, from drawing its nonce to the process's end. SIGTERM asks it to stop.
///
/// The process must end when this returns: what it could not close, only the kernel can.
pub fn run(config: ExecutorConfig, control: Arc<dyn ControlPlane>) -> BoxFuture<'static, ExitStatus> {
    // Boxed, as the next one: it is compiled once, in this crate, and not again in each program that runs it.
    Box::pin(until_terminated(config, control))
}

async fn until_terminated(config: ExecutorConfig, control: Arc<dyn ControlPlane>) -> ExitStatus {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            let stop = async move {
                terminate.recv().await;
            };
            live(config, control, stop).await
        }
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be listened to; this process cannot be asked to stop");
            ExitStatus::Unusable
        }
    }
}

/// As [`run`], with another way to be asked to stop.
pub fn live<'a>(
    config: ExecutorConfig,
    control: Arc<dyn ControlPlane>,
    stop: impl Future<Output = ()> + Send + 'a,
) -> BoxFuture<'a, ExitStatus> {
    Box::pin(until_stopped(config, control, Box::pin(stop)))
}

async fn until_stopped(mut config: ExecutorConfig, control: Arc<dyn ControlPlane>, stop: Stop<'_>) -> ExitStatus {
    let volume = VolumeAccess::take(&mut config.volume);
    let config = Arc::new(config);
    if config.test != TestSwitches::default() {
        tracing::warn!(switches = ?config.test, "test switches are on: this process misbehaves on purpose");
    }
    let metadata = &config.build.metadata;
    let (Some(namespace), Some(name), Some(uid)) =
        (metadata.namespace.clone(), metadata.name.clone(), metadata.uid.clone())
    else {
        tracing::error!("the build has no namespace, name or UID: nothing could be told apart");
        return ExitStatus::Unusable;
    };
    if let Err(error) = indexbuild_durable::create_dir_all(volume.root()) {
        tracing::error!(volume = %volume.root().display(), %error, "the volume cannot be used: check that it is mounted and writable");
        return ExitStatus::Unusable;
    }
    let born = Instant::now();
    let limits = Limits::of(&config.build);
    let build_file = config.build_file.clone().map(|file| WatchedFile::new(file, limits, born));
    let boot_nonce = uuid::Uuid::new_v4().to_string();
    let boot_id = machine::boot_id(&config.boot_id_file);
    tracing::info!(slot = config.slot, pod = %config.pod_name, pod_uid = %config.pod_uid, boot_nonce, boot_id, "executor starts");
    let state = OwnerState {
        pod_uid: config.pod_uid.clone(),
        boot_nonce: boot_nonce.clone(),
        orphan_after: limits.orphan_after,
        last_contact: 0,
        claimed: false,
        current: None,
        stop_requested: false,
    };
    let process = Process {
        budget: Budget::new(config.memory_limit, config.threads),
        rate: Arc::new(RateLimit::share(limits.rows_per_second, u64::from(limits.parallelism))),
        plans: Arc::new(OnceLock::new()),
        build: BuildRef { namespace, name, uid },
        boot_nonce,
        control,
        config,
    };
    let Pace { reads, watches, writes } = process.control.pace();
    let mut run_loop = RunLoop {
        process,
        volume,
        state,
        boot_id,
        build_file,
        born,
        attempt: None,
        interval: FIRST_INTERVAL,
        reported: Reported::default(),
        leaked: false,
        version: None,
        told: None,
        reading: Backoff::new(reads),
        watching: Backoff::new(watches),
        claiming: Backoff::new(writes),
        reporting: Backoff::new(writes),
    };
    let status = run_loop.live(stop).await;
    run_loop.leave(status).await;
    tracing::info!(code = status.code(), "executor ends: {status}");
    status
}

/// What the control plane knows of the attempt in hand.
#[derive(Debug, Default)]
struct Reported {
    at: Option<Instant>,
    outcome: bool,
    waiting: bool,
}

type Stop<'a> = BoxFuture<'a, ()>;

struct RunLoop {
    process: Process,
    volume: VolumeAccess,
    state: OwnerState,
    /// That of its kernel, as it says when it registers.
    boot_id: String,
    build_file: Option<WatchedFile>,
    born: Instant,
    attempt: Option<Attempt>,
    interval: Duration,
    reported: Reported,
    /// An attempt that ended has left an engine handle open.
    leaked: bool,
    /// The record as it was last seen; none while there is no contact.
    version: Option<String>,
    /// The version of which a watch said that it is over, and when that watch was begun.
    told: Option<(String, Instant)>,
    reading: Backoff,
    watching: Backoff,
    claiming: Backoff,
    reporting: Backoff,
}

impl RunLoop {
    async fn live(&mut self, mut stop: Stop<'_>) -> ExitStatus {
        loop {
            self.look_at_limits();
            self.hold_off(&mut stop).await;
            let begun = Instant::now();
            let answer = self.ask(&mut stop).await;
            if let Some(answer) = &answer {
                self.note(answer, begun);
            }
            let seen = match &answer {
                None => Seen::Unreachable, // asked to stop meanwhile: that decides
                Some(Ok(Some(record))) => Seen::Record(record),
                Some(Ok(None)) => Seen::Absent,
                Some(Err(ContactError::Refused(_))) => Seen::Refused,
                Some(Err(ContactError::Unreachable(_))) => Seen::Unreachable,
            };
            let now = self.now();
            let (due, wake_on) = match next(&self.state, seen, now) {
                Step::Wait | Step::GoOn => (None, WakeOn::End),
                Step::Claim => (self.claim_if_due().await, WakeOn::End),
                Step::Start { epoch, work } => {
                    if let Err(status) = self.start(epoch, work).await {
                        return status;
                    }
                    (Some(Duration::ZERO), WakeOn::End)
                }
                Step::Report => {
                    if let Some(status) = self.report_if_due().await {
                        return status;
                    }
                    (Some(self.report_due_in()), WakeOn::News)
                }
                Step::GiveWay(GiveWayReason::HigherEpoch | GiveWayReason::Revoked)
                | Step::Exit(ExitReason::Superseded)
                    if self.process.config.test.never_give_way =>
                {
                    if let Some(status) = self.report_if_due().await {
                        return status;
                    }
                    (Some(self.report_due_in()), WakeOn::News)
                }
                Step::GiveWay(reason) => {
                    if self.process.config.test.release_too_early {
                        let closed = self.volume.claim_to_have_closed();
                        release::say(self.process.control.as_ref(), &self.state, closed).await;
                        tokio::time::sleep(Duration::from_secs(2)).await;
                    }
                    return self.give_way(reason).await;
                }
                Step::Exit(reason) => return self.exit(reason).await,
            };
            self.pause(&mut stop, due, wake_on).await;
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.born.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Some of the build's spec may change while the work goes on.
    fn look_at_limits(&mut self) {
        let now = Instant::now();
        let Some(limits) = self.build_file.as_mut().and_then(|file| file.look(now)) else { return };
        let Limits { rows_per_second, parallelism, orphan_after } = limits;
        tracing::info!(
            ?rows_per_second,
            parallelism,
            orphan_after_ms = orphan_after,
            "the build's limits have changed"
        );
        self.process.rate.change(rows_per_second, u64::from(parallelism), now);
        self.state.orphan_after = orphan_after;
    }

    /// Reads the record; `None` when asked to stop before that or meanwhile.
    async fn ask(&mut self, stop: &mut Stop<'_>) -> Option<Result<Option<Record>, ContactError>> {
        if self.state.stop_requested {
            return None;
        }
        tokio::select! {
            biased;
            () = stop.as_mut() => {
                self.stop_requested();
                None
            }
            answer = self.process.control.record() => Some(answer),
        }
    }

    fn stop_requested(&mut self) {
        tracing::info!("asked to stop");
        self.state.stop_requested = true;
    }

    /// Takes note of what was seen by a read that was begun then: contact, the record's version, how often to report.
    fn note(&mut self, answer: &Result<Option<Record>, ContactError>, begun: Instant) {
        let silence = match answer {
            Ok(Some(record)) => {
                self.state.last_contact = self.now();
                self.interval = record.spec.renew_interval.to_std().max(Duration::from_millis(10));
                self.reading.succeeded();
                match self.told.take() {
                    // A read from before what the watch told: old news do not become new by asking in a hurry.
                    Some((version, watched)) if version == record.version => self.watching.failed(watched),
                    Some(_) => self.watching.succeeded(),
                    None => {}
                }
                self.version = Some(record.version.clone());
                None
            }
            Ok(None) => Some("there is no record of this slot".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(silence) = &silence {
            self.version = None;
            self.reading.failed(begun);
            tracing::debug!(again_in = ?self.reading.left(), "no contact: {silence}");
        }
        let Some(attempt) = &self.attempt else { return };
        match &silence {
            Some(silence) if attempt.shared().in_contact() => tracing::warn!(
                epoch = attempt.epoch().get(),
                "no contact with the control plane; going on with the work: {silence}"
            ),
            None if !attempt.shared().in_contact() => {
                tracing::info!(epoch = attempt.epoch().get(), "contact with the control plane again");
            }
            Some(_) | None => {}
        }
        attempt.shared().set_contact(silence.is_none());
    }

    /// Stays away for as long as the control plane asks all its callers to.
    async fn hold_off(&mut self, stop: &mut Stop<'_>) {
        let asked = self.process.control.hold_off().min(LONGEST_PAUSE).min(self.patience_left());
        if !asked.is_zero() && !self.state.stop_requested {
            self.rest(stop, asked, WakeOn::Nothing).await;
        }
    }

    /// How long until this process ends by itself for want of contact.
    fn patience_left(&self) -> Duration {
        let silence = self.now().saturating_sub(self.state.last_contact);
        Duration::from_millis(self.state.orphan_after.saturating_sub(silence))
    }

    /// Waits until there may be something to do: the record changed, there is news of the attempt, something is due by
    /// itself, a call that failed may be made again, or somebody asks to stop.
    async fn pause(&mut self, stop: &mut Stop<'_>, due: Option<Duration>, wake_on: WakeOn) {
        let Some(version) = self.version.clone() else {
            return self.rest(stop, self.reading.left().min(self.patience_left()), WakeOn::Nothing).await;
        };
        let orphan_after = Duration::from_millis(self.state.orphan_after);
        let within = look_within(due.unwrap_or(self.interval), self.interval, orphan_after);
        if within > SHORTEST_PAUSE && self.watching.left().is_zero() {
            let begun = Instant::now();
            match self.watch(stop, &version, within, wake_on).await {
                None => return,
                Some(Ok(())) if begun.elapsed().saturating_add(SHORTEST_PAUSE) >= within => {
                    self.watching.succeeded();
                    return;
                }
                // Whether something has changed, the next read tells.
                Some(Ok(())) => {
                    self.told = Some((version, begun));
                    return;
                }
                Some(Err(error)) => {
                    self.watching.failed(begun);
                    tracing::debug!(%error, again_in = ?self.watching.left(), "the record cannot be watched");
                }
            }
        }
        let again = self.watching.left();
        let wait = match due {
            Some(due) if again.is_zero() => due,
            Some(due) => due.min(again),
            None => again,
        };
        self.rest(stop, wait, wake_on).await;
    }

    /// Waits for a change of the record; `None` when there is news of the attempt or somebody asks to stop.
    async fn watch(
        &mut self,
        stop: &mut Stop<'_>,
        version: &str,
        within: Duration,
        wake_on: WakeOn,
    ) -> Option<Result<(), ContactError>> {
        let wait = self.wait_to_tell(wake_on);
        let control = Arc::clone(&self.process.control);
        let changed = async move {
            let floor = tokio::time::sleep(SHORTEST_PAUSE);
            let answer = control.changed(version, within).await;
            floor.await;
            answer
        };
        tokio::select! {
            () = stop.as_mut(), if !self.state.stop_requested => {
                self.stop_requested();
                None
            }
            () = wake(&mut self.attempt, wait) => None,
            answer = changed => Some(answer),
        }
    }

    /// Waits for so long, or until what is to be heeded.
    async fn rest(&mut self, stop: &mut Stop<'_>, time: Duration, wake_on: WakeOn) {
        let over = tokio::time::sleep(time.max(SHORTEST_PAUSE));
        tokio::pin!(over);
        let wait = self.wait_to_tell(wake_on);
        loop {
            tokio::select! {
                () = stop.as_mut(), if !self.state.stop_requested => return self.stop_requested(),
                () = wake(&mut self.attempt, wait) => if wake_on != WakeOn::Nothing { return },
                () = &mut over => return,
            }
        }
    }

    /// Claims the grant, unless that failed lately. How long until the next try; none when it was taken.
    async fn claim_if_due(&mut self) -> Option<Duration> {
        let left = self.claiming.left();
        if !left.is_zero() {
            return Some(left);
        }
        let OwnerState { pod_uid, boot_nonce, .. } = &self.state;
        let claim = Claim { pod_uid: pod_uid.clone(), boot_nonce: boot_nonce.clone(), boot_id: self.boot_id.clone() };
        let begun = Instant::now();
        match self.process.control.claim(claim).await {
            Ok(()) => {
                self.state.claimed = true;
                self.claiming.succeeded();
                None
            }
            // Whether it was taken after all, or another process's, the record tells.
            Err(error) => {
                self.claiming.failed(begun);
                let left = self.claiming.left();
                tracing::warn!(%error, again_in = ?left, "the claim was not taken");
                Some(left)
            }
        }
    }

    /// How long until the next report: at once where none was taken yet, or after the pause that its refusal is given.
    fn report_due_in(&self) -> Duration {
        let due = self.reported.at.map_or(Duration::ZERO, |at| self.interval.saturating_sub(at.elapsed()));
        due.max(self.reporting.left())
    }

    /// What of a wait is to be told, and how soon it may be.
    fn wait_to_tell(&self, wake_on: WakeOn) -> Option<WaitChange> {
        match wake_on {
            WakeOn::News => Some(WaitChange { wanted: !self.reported.waiting, apart: self.wait_report_due_in() }),
            WakeOn::End | WakeOn::Nothing => None,
        }
    }

    fn wait_report_due_in(&self) -> Duration {
        let apart = self.reported.at.map_or(Duration::ZERO, |at| REPORTS_APART.saturating_sub(at.elapsed()));
        apart.max(self.reporting.left())
    }

    /// Begins a granted work, after the one in hand was ended and closed.
    async fn start(&mut self, epoch: Epoch, work: Work) -> Result<(), ExitStatus> {
        self.state.claimed = true;
        self.close(EndRequest::Now).await;
        if self.leaked {
            return Err(ExitStatus::HandleLeaked);
        }
        self.state.current = Some(Current { epoch, work_id: work.id.clone() });
        self.reported = Reported::default();
        self.attempt = Some(Attempt::start(&self.process, self.volume.lease(), epoch, work));
        Ok(())
    }

    /// Reports when the time has come, or when there is news. A status: the process is to end.
    async fn report_if_due(&mut self) -> Option<ExitStatus> {
        let (ended, failed, waiting) = match &self.attempt {
            Some(attempt) => (
                attempt.has_ended(),
                matches!(attempt.outcome(), Some(Err(WorkFailure::Failed(_) | WorkFailure::NoSpace(_)))),
                attempt.shared().view().waiting.is_some(),
            ),
            None => return None,
        };
        if ended {
            self.look_for_leaks().await;
        }
        let waits = waiting != self.reported.waiting && self.wait_report_due_in().is_zero();
        let news = (ended && !self.reported.outcome) || waits;
        let due = self.reported.at.is_none_or(|at| at.elapsed() >= self.interval);
        if (!news && !due) || !self.reporting.left().is_zero() {
            return None;
        }
        let mut report = self.attempt.as_ref()?.report();
        report.ending = ended && (failed || self.leaked);
        let begun = Instant::now();
        match self.process.control.report(report).await {
            Ok(()) => {
                self.reporting.succeeded();
                self.reported.at = Some(begun);
                self.reported.waiting = waiting;
                self.reported.outcome = ended;
                if ended && failed {
                    // The kernel closes everything; the next attempt is another process.
                    self.close(EndRequest::Now).await;
                    return Some(if self.leaked { ExitStatus::HandleLeaked } else { ExitStatus::WorkFailed });
                }
                if ended && self.leaked {
                    tracing::error!("the result is reported; this process ends because of the open handle");
                    return Some(ExitStatus::HandleLeaked);
                }
            }
            // The record tells what is true, before the next try.
            Err(error @ (WriteError::Conflict | WriteError::Refused(_) | WriteError::Contact(_))) => {
                self.reporting.failed(begun);
                self.reported.at = None;
                tracing::warn!(%error, again_in = ?self.reporting.left(), "the report was not taken");
            }
        }
        None
    }

    /// After an attempt its process holds no engine handle (I7).
    async fn look_for_leaks(&mut self) {
        if self.leaked || self.process.config.test.engine.share_attempt_directory {
            return;
        }
        if !handles_closed(HANDLES_WITHIN).await {
            tracing::error!(
                handles = indexbuild_engine::open_handles(),
                "engine handles stay open after an attempt; no further work is taken, the process ends"
            );
            self.leaked = true;
        }
    }

    /// Ends the attempt in hand and waits for it. One that hangs ends the process, here and now.
    async fn close(&mut self, ending: EndRequest) {
        let Some(mut attempt) = self.attempt.take() else {
            return;
        };
        if !attempt.has_ended()
            && let Err(StillRunning) = attempt.close(ending, SEAL_WITHIN, CLOSE_WITHIN).await
        {
            tracing::error!(epoch = attempt.epoch().get(), "the attempt does not close; the process ends under it");
            indexbuild_process::exit_at_once(i32::from(ExitStatus::CloseHung.code()));
        }
        self.attempt = Some(attempt);
        self.look_for_leaks().await;
    }

    async fn give_way(&mut self, reason: GiveWayReason) -> ExitStatus {
        let finished = self.reported.outcome;
        tracing::info!(?reason, finished, "giving way");
        let (ending, status) = match reason {
            GiveWayReason::StopRequested => (EndRequest::Seal, ExitStatus::Stopped),
            GiveWayReason::Orphaned => (EndRequest::Now, ExitStatus::Orphaned),
            GiveWayReason::SecondNonce => (EndRequest::Now, ExitStatus::ClaimRefused),
            GiveWayReason::HigherEpoch | GiveWayReason::Revoked | GiveWayReason::WorkChanged => {
                (EndRequest::Now, if finished { ExitStatus::Done } else { ExitStatus::GaveWay })
            }
        };
        self.close(ending).await;
        match status {
            // A build that was deleted while this process was cut off takes its pods with it: then the kubelet's SIGTERM
            // is the first that it hears, and its Clean was over before its last uploads.
            ExitStatus::Stopped => {
                tokio::join!(self.last_report(), self.retire());
            }
            ExitStatus::GaveWay | ExitStatus::Orphaned => self.retire().await,
            ExitStatus::Done
            | ExitStatus::WorkFailed
            | ExitStatus::ClaimRefused
            | ExitStatus::HandleLeaked
            | ExitStatus::CloseHung
            | ExitStatus::Unusable => {}
        }
        if self.leaked { ExitStatus::HandleLeaked } else { status }
    }

    async fn retire(&self) {
        if let Some(attempt) = &self.attempt {
            retire(&self.process, attempt.name(&self.process.build.uid), RETIRE_WITHIN).await;
        }
    }

    async fn exit(&mut self, reason: ExitReason) -> ExitStatus {
        self.close(EndRequest::Now).await;
        let status = match reason {
            ExitReason::StopRequested => ExitStatus::Stopped,
            ExitReason::Orphaned => ExitStatus::Orphaned,
            ExitReason::Superseded => ExitStatus::Done,
            ExitReason::SecondNonce => ExitStatus::ClaimRefused,
        };
        if self.leaked { ExitStatus::HandleLeaked } else { status }
    }

    /// The last report of a process that was asked to stop.
    async fn last_report(&self) {
        let Some(attempt) = &self.attempt else { return };
        let report = self.process.control.report(attempt.last_report());
        match tokio::time::timeout(LAST_REPORT_WITHIN, report).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last report was not taken"),
            Err(_) => tracing::warn!("the last report was not answered"),
        }
    }

    /// The last write of a process that ends in peace. It takes the loop with it: nothing is begun afterwards.
    async fn leave(self, status: ExitStatus) {
        let Self { process, volume, state, attempt, leaked, .. } = self;
        let ended = attempt.is_none_or(|attempt| attempt.has_ended());
        if !state.claimed || !ended || leaked || !release::ends_in_peace(status) || process.config.test.never_release {
            return;
        }
        match volume.give_up().await {
            Some(closed) => release::say(process.control.as_ref(), &state, closed).await,
            None => tracing::error!("something of the volume is still open: that it is released is not said"),
        }
    }
}
