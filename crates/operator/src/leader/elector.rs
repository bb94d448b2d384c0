//! Takes a Lease, renews it, and knows until when it holds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indexbuild_process::{between, chance};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::decide::{Attempt, Observed, Record, Step, Timing, What, step};

/// An election that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    #[error(
        "leader election of Lease {lease}: retry {retry:?} < renew deadline {deadline:?} < lease {length:?} must hold, \
         and all be at least 1 s; change the timing"
    )]
    Timing {
        /// `namespace/name`.
        lease: String,
        /// How long between two tries.
        retry: Duration,
        deadline: Duration,
        length: Duration,
    },
    #[error("leader election of Lease {0}: the identity is empty; set --identity, or POD_NAME and POD_UID")]
    Identity(String),
}

/// A call about the Lease that failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("Lease {lease}: no answer to {verb} within {within:?}")]
    Silent { lease: String, verb: &'static str, within: Duration },
    #[error("Lease {lease}: {verb} failed{}", hint(.source))]
    Failed { lease: String, verb: &'static str, source: Box<Error> },
}

fn hint(error: &Error) -> &'static str {
    match error {
        Error::Api(status) if status.code == 403 => {
            "; the service account needs get, create and patch on leases of coordination.k8s.io in this namespace"
        }
        Error::Api(status) if status.code == 404 => "; does the namespace exist?",
        _ => "",
    }
}

/// Time since the machine's start, the time that it slept included: a virtual machine that was paused comes back as a
/// leader whose deadline has passed, which the ordinary monotonic clock would not tell.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// For people, as exact as the API keeps it: a record that is read back is equal to the one that was written.
fn wall_clock() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or_default()
}

/// As the API keeps it. Rounded up: a promise is not cut short.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

/// A duration, up to a quarter shorter at random, so that candidates do not move in step.
fn jittered(duration: Duration) -> Duration {
    between(duration / 4 * 3, duration, chance())
}

/// The Lease as one process sees it: its own writes, and what it read last.
struct LeaseClient {
    api: Api<Lease>,
    /// `namespace/name`, for messages.
    full_name: String,
    name: String,
    /// The Helm release that the Lease is a part of.
    release: Option<String>,
    identity: String,
    timing: Timing,
    observed: Option<Observed>,
    /// Own writes that are, or may yet become, what the Lease says. A write that succeeded ends those before it:
    /// they name a version that is gone.
    attempts: Vec<Attempt>,
}

enum Wrote {
    /// It is written, and has this version.
    Done(String),
    /// Something else is there than was expected.
    Refused,
}

impl LeaseClient {
    /// How long one call may take: three fit into the deadline.
    fn call_limit(&self) -> Duration {
        self.timing.renew_deadline / 3
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        within: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallError> {
        let lease = || self.full_name.clone();
        match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(CallError::Failed { lease: lease(), verb, source: Box::new(source) }),
            Err(_) => Err(CallError::Silent { lease: lease(), verb, within }),
        }
    }

    /// Reads the Lease from the API server itself: no cache.
    async fn look(&mut self, within: Duration) -> Result<Step, CallError> {
        let found = self.call("get", within, self.api.get_opt(&self.name)).await?;
        let read = found.map(|lease| (record(&lease), lease.resource_version().unwrap_or_default()));
        let at = now();
        let observed = Observed::after(self.observed.as_ref(), read, at, self.timing);
        let next = step(&observed, &self.attempts, at, self.timing);
        if let What::There { record, version: _ } = &observed.what
            && let Some(place) = self.attempts.iter().position(|attempt| attempt.record == *record)
        {
            // The others stay known: one that is still on its way may arrive after this look.
            self.attempts.swap(0, place);
        }
        self.observed = Some(observed);
        Ok(next)
    }

    /// Writes the record, if the Lease still has this version, or if there is none. The attempt is remembered first:
    /// an answer that is lost does not undo what was done.
    async fn write(&mut self, record: Record, version: Option<&str>, within: Duration) -> Result<Wrote, CallError> {
        let spec = spec(&record);
        self.attempts.push(Attempt { record, sent: now() });
        let written = match version {
            Some(version) => {
                // A merge patch that names a version is refused with 409 when the Lease has another one.
                let patch = serde_json::json!({"metadata": {"resourceVersion": version}, "spec": spec});
                let patch = Patch::Merge(patch);
                let params = PatchParams::default();
                self.call("patch", within, self.api.patch(&self.name, &params, &patch)).await
            }
            None => {
                let lease = Lease { metadata: self.metadata(), spec: Some(spec) };
                let params = PostParams::default();
                self.call("create", within, self.api.create(&params, &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                let last = self.attempts.len().saturating_sub(1);
                self.attempts.drain(..last);
                Ok(Wrote::Done(lease.resource_version().unwrap_or_default()))
            }
            Err(CallError::Failed { lease, verb, source }) => {
                let code = if let Error::Api(status) = &*source { status.code } else { 0 };
                // 404 to a create means that the namespace is missing.
                let changed = code == 409 || (code == 404 && version.is_some());
                if changed { Ok(Wrote::Refused) } else { Err(CallError::Failed { lease, verb, source }) }
            }
            Err(error @ CallError::Silent { .. }) => Err(error),
        }
    }

    /// Of a Lease that is made again. Helm does not remove what is not marked as its own, and refuses to install over
    /// it: without the marks, a release whose Lease was removed once could not be installed a second time.
    fn metadata(&self) -> ObjectMeta {
        let mut metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        if let Some(release) = &self.release {
            let namespace = self.full_name.split('/').next().unwrap_or_default();
            metadata.labels = Some([("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())].into());
            let marks =
                [("meta.helm.sh/release-name", release.as_str()), ("meta.helm.sh/release-namespace", namespace)];
            metadata.annotations = Some(marks.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        }
        metadata
    }

    /// What to write to become the holder after what was read last.
    fn taken(&self) -> Record {
        let before = match self.observed.as_ref().map(|observed| &observed.what) {
            Some(What::There { record, version: _ }) => Some(record),
            Some(What::Absent { held_for: _ }) | None => None,
        };
        let time = wall_clock();
        Record {
            holder: Some(self.identity.clone()),
            lease: Some(whole_seconds(self.timing.lease)),
            acquired: Some(time),
            renewed: Some(time),
            transitions: before.map_or(0, |record| record.transitions.saturating_add(1)),
        }
    }

    /// The attempt that the Lease is known to have said last.
    fn last(&self) -> Option<&Attempt> {
        self.attempts.first()
    }
}

pub struct Leader(LeaseClient);

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leader({} of {})", self.0.identity, self.0.full_name)
    }
}

impl Leader {
    /// A candidate for a Lease, under a name that no other process has at the same time.
    ///
    /// # Errors
    /// Clocks that contradict each other; an empty name.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> Result<Self, LeaderError> {
        let full_name = format!("{namespace}/{name}");
        let Timing { lease, renew_deadline, retry } = timing;
        if retry < Duration::from_secs(1) || renew_deadline <= retry || lease <= renew_deadline {
            return Err(LeaderError::Timing { lease: full_name, retry, deadline: renew_deadline, length: lease });
        }
        if identity.is_empty() {
            return Err(LeaderError::Identity(full_name));
        }
        Ok(Self(LeaseClient {
            api: Api::namespaced(client, namespace),
            full_name,
            name: name.to_owned(),
            release: None,
            identity: identity.to_owned(),
            timing,
            observed: None,
            attempts: Vec::new(),
        }))
    }

    /// A Lease that is missing is made as a part of this Helm release.
    #[must_use]
    pub fn of_release(mut self, release: Option<&str>) -> Self {
        self.0.release = release.map(str::to_owned);
        self
    }

    /// Waits until this process leads. `None` when `stop` came first: then nothing is held, or what may be held by an
    /// answer that was lost runs out by itself.
    ///
    /// An API server that does not answer, and permissions that are missing, are waited for and logged: both are
    /// usual while a cluster or a release is being set up.
    pub async fn acquire(self, stop: &CancellationToken) -> Option<Held> {
        let Self(mut lease_client) = self;
        info!(lease = lease_client.full_name, identity = lease_client.identity, "waiting to lead");
        loop {
            let got = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                got = try_once(&mut lease_client) => got,
            };
            let pause = match got {
                Ok(Tried::Held { sent, version }) => {
                    info!(lease = lease_client.full_name, identity = lease_client.identity, "leading");
                    return Some(Held::start(lease_client, sent, version));
                }
                Ok(Tried::Wait(pause)) => pause,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "leader election goes on trying");
                    jittered(lease_client.timing.retry)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

enum Tried {
    Held { sent: Duration, version: String },
    Wait(Duration),
}

async fn try_once(lease_client: &mut LeaseClient) -> Result<Tried, CallError> {
    let limit = lease_client.call_limit();
    let retry = jittered(lease_client.timing.retry);
    let version = match lease_client.look(limit).await? {
        Step::Hold { sent, version } => return Ok(Tried::Held { sent, version }),
        Step::Wait { until } => {
            debug!(lease = lease_client.full_name, "held by somebody else");
            return Ok(Tried::Wait(until.saturating_sub(now()).clamp(Duration::from_millis(10), retry)));
        }
        Step::Create => None,
        Step::Acquire { version } => Some(version),
    };
    let record = lease_client.taken();
    let wrote = lease_client.write(record, version.as_deref(), limit).await?;
    match (wrote, lease_client.last()) {
        (Wrote::Done(version), Some(attempt)) => Ok(Tried::Held { sent: attempt.sent, version }),
        // Another was faster, or this process's own earlier write arrived: the next look tells.
        (Wrote::Refused | Wrote::Done(_), _) => Ok(Tried::Wait(retry)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The Lease says that nobody holds it: the next one begins at once.
    Yes,
    NotHeld,
    /// The API server did not confirm it; the Lease runs out by itself.
    Unconfirmed,
}

/// What a leader has, until [`Held::lost`]. It is no fence: what writes of this process must not undo, their preconditions
/// keep. Dropping it ends the renewals, and with them the leading.
pub struct Held {
    lost: CancellationToken,
    stop: CancellationToken,
    until: Arc<AtomicU64>,
    task: Option<JoinHandle<(LeaseClient, String)>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("lost", &self.lost.is_cancelled()).finish_non_exhaustive()
    }
}

impl Held {
    fn start(lease_client: LeaseClient, sent: Duration, version: String) -> Self {
        let until = Arc::new(AtomicU64::new(0));
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let renewal =
            Renewal { lease_client, version, until: Arc::clone(&until), lost: lost.clone(), stop: stop.clone() };
        renewal.held_from(sent);
        Self { lost, stop, until, task: Some(tokio::spawn(renewal.run())) }
    }

    /// Cancelled when this process does not lead any more: another one does, or no renewal was confirmed for
    /// [`Timing::renew_deadline`]. Then every side effect stops, and the process ends: it never leads again.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Whether the Lease is still this process's to give up, by the clock: a process that was stopped and goes on finds
    /// out here before its timers have had their turn.
    pub(super) fn holds(&self) -> bool {
        !self.lost.is_cancelled() && now() < Duration::from_millis(self.until.load(Ordering::Acquire))
    }

    /// Gives the Lease up, so that the next one begins at once. Only when nothing of this process writes any more:
    /// the last thing that it does.
    pub async fn release(mut self) -> Released {
        self.stop.cancel();
        let Some(task) = self.task.take() else { return Released::NotHeld };
        let ended = task.await;
        let held = self.holds();
        self.lost.cancel();
        match ended {
            Ok((lease_client, version)) if held => give_up(lease_client, version).await,
            Ok(_) | Err(_) => Released::NotHeld,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
        self.lost.cancel();
    }
}

async fn give_up(mut lease_client: LeaseClient, mut version: String) -> Released {
    let limit = lease_client.call_limit();
    for _ in 0..3 {
        let Some(last) = lease_client.last() else { return Released::NotHeld };
        let free = Record { holder: None, renewed: Some(wall_clock()), ..last.record.clone() };
        match lease_client.write(free, Some(&version), limit).await {
            Ok(Wrote::Done(_)) => {
                info!(lease = lease_client.full_name, "released");
                return Released::Yes;
            }
            Ok(Wrote::Refused) => {}
            Err(error) => warn!(error = &error as &dyn std::error::Error, "the Lease is not released yet"),
        }
        match lease_client.look(limit).await {
            // One of this process's own writes arrived late, perhaps the release itself.
            Ok(Step::Hold { sent: _, version: found } | Step::Acquire { version: found }) => {
                if lease_client.is_free() {
                    return Released::Yes;
                }
                version = found;
            }
            Ok(Step::Create | Step::Wait { .. }) => return Released::NotHeld,
            Err(error) => warn!(error = &error as &dyn std::error::Error, "the Lease is not released yet"),
        }
    }
    Released::Unconfirmed
}

impl LeaseClient {
    fn is_free(&self) -> bool {
        match self.observed.as_ref().map(|observed| &observed.what) {
            Some(What::There { record, version: _ }) => record.holder.is_none(),
            Some(What::Absent { held_for: _ }) | None => true,
        }
    }
}

struct Renewal {
    lease_client: LeaseClient,
    version: String,
    until: Arc<AtomicU64>,
    lost: CancellationToken,
    stop: CancellationToken,
}

impl Renewal {
    fn held_from(&self, sent: Duration) {
        let until = sent.saturating_add(self.lease_client.timing.renew_deadline).as_millis();
        self.until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    fn remaining(&self) -> Duration {
        Duration::from_millis(self.until.load(Ordering::Acquire)).saturating_sub(now())
    }

    async fn run(mut self) -> (LeaseClient, String) {
        let mut pause = jittered(self.lease_client.timing.retry);
        // After a write without an answer, what is there is read before it is written again.
        let mut look_first = false;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return (self.lease_client, self.version),
                () = tokio::time::sleep(pause.min(self.remaining())) => {}
            }
            let remaining = self.remaining();
            if remaining.is_zero() {
                return self.lose("no renewal was confirmed in time");
            }
            let limit = self.lease_client.call_limit().min(remaining);
            let stop = self.stop.clone();
            let turn = self.turn(look_first, limit);
            let turn = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                turn = turn => Some(turn),
            };
            match turn {
                None => return (self.lease_client, self.version),
                Some(Ok(Turn::Renewed)) => {
                    look_first = false;
                    pause = jittered(self.lease_client.timing.retry);
                }
                Some(Ok(Turn::LookAgain)) => {
                    look_first = true;
                    pause = Duration::ZERO;
                }
                Some(Ok(Turn::WriteAgain)) => {
                    look_first = false;
                    pause = jittered(self.lease_client.timing.retry / 4);
                }
                Some(Ok(Turn::Lost)) => return self.lose("somebody else changed it"),
                Some(Err(error)) => {
                    let left = self.remaining();
                    warn!(error = &error as &dyn std::error::Error, ?left, "the Lease is not renewed yet");
                    look_first = true;
                    pause = jittered(self.lease_client.timing.retry / 4);
                }
            }
        }
    }

    async fn turn(&mut self, look_first: bool, limit: Duration) -> Result<Turn, CallError> {
        if look_first {
            return Ok(match self.lease_client.look(limit).await? {
                Step::Hold { sent, version } => {
                    // A write that had no answer has taken effect after all: it counts from when it was sent.
                    self.held_from(sent);
                    self.version = version;
                    Turn::WriteAgain
                }
                Step::Acquire { .. } | Step::Create | Step::Wait { .. } => Turn::Lost,
            });
        }
        let Some(last) = self.lease_client.last() else { return Ok(Turn::Lost) };
        let record = Record { renewed: Some(wall_clock()), ..last.record.clone() };
        let version = self.version.clone();
        Ok(match self.lease_client.write(record, Some(&version), limit).await? {
            Wrote::Done(version) => {
                self.version = version;
                if let Some(sent) = self.lease_client.last().map(|attempt| attempt.sent) {
                    self.held_from(sent);
                }
                Turn::Renewed
            }
            Wrote::Refused => Turn::LookAgain,
        })
    }

    fn lose(self, why: &str) -> (LeaseClient, String) {
        self.until.store(0, Ordering::Release);
        warn!(lease = self.lease_client.full_name, why, "not leading any more: everything stops");
        self.lost.cancel();
        (self.lease_client, self.version)
    }
}

enum Turn {
    Renewed,
    LookAgain,
    WriteAgain,
    Lost,
}

fn record(lease: &Lease) -> Record {
    let Some(spec) = &lease.spec else { return Record::default() };
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.clone().filter(|holder| !holder.is_empty()),
        lease: seconds.map(Duration::from_secs),
        acquired: spec.acquire_time.as_ref().map(|time| time.0),
        renewed: spec.renew_time.as_ref().map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

fn spec(record: &Record) -> LeaseSpec {
    let Record { holder, lease, acquired, renewed, transitions } = record;
    LeaseSpec {
        holder_identity: Some(holder.clone().unwrap_or_default()),
        lease_duration_seconds: lease.map(|lease| i32::try_from(lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: acquired.map(MicroTime),
        renew_time: renewed.map(MicroTime),
        lease_transitions: Some(*transitions),
        ..LeaseSpec::default()
    }
}
