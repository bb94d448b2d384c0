//! What the loop that watches the record and the threads that work share: progress in one
//! direction, the wish to end in the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indexbuild_api::ReportedWait;
use indexbuild_engine::{JobControl, Step};
use tokio::sync::watch;

/// Whether an attempt is to end, and how soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndRequest {
    #[default]
    No,
    /// It seals what is whole, uploads it, and ends (SIGTERM).
    Seal,
    /// It closes everything and ends at once (a higher epoch, G11).
    Now,
}

/// What a wait is for. Of each, one thing is said at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WaitsFor {
    Source,
    Output,
    /// Room, on the volume or in the store.
    Room,
    /// Another engine's lock: only with a test switch.
    Engine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attempt was told to end")]
pub struct Ended;

/// What is shown of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Per mille of the work in hand.
    pub per_mille: u64,
    /// Rows encoded, or entries sorted.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
    pub step: String,
    /// Why it stands still, if it does (I5).
    pub waiting: Option<ReportedWait>,
}

/// One attempt's shared state.
#[derive(Debug)]
pub(crate) struct AttemptState {
    control: Arc<JobControl>,
    ending: watch::Sender<EndRequest>,
    bell: Condvar,
    ended: Mutex<EndRequest>,
    shown: Mutex<CurrentState>,
    waits: watch::Sender<bool>,
    in_contact: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Debug, Default)]
struct CurrentState {
    step: Option<&'static str>,
    waiting: BTreeMap<WaitsFor, ReportedWait>,
}

impl Default for AttemptState {
    fn default() -> Self {
        Self::new()
    }
}

impl AttemptState {
    /// An attempt that goes on.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            control: Arc::new(JobControl::new()),
            ending: watch::Sender::new(EndRequest::No),
            bell: Condvar::new(),
            ended: Mutex::new(EndRequest::No),
            shown: Mutex::new(CurrentState::default()),
            waits: watch::Sender::new(false),
            in_contact: AtomicBool::new(true),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    /// What the engine looks at.
    pub(crate) fn control(&self) -> &JobControl {
        &self.control
    }

    /// Tells the attempt to end. A sooner end replaces a later one, never the other way round.
    pub(crate) fn end(&self, ending: EndRequest) {
        {
            let mut ended = lock(&self.ended);
            if *ended >= ending {
                return;
            }
            *ended = ending;
        }
        match ending {
            EndRequest::No => {}
            EndRequest::Seal => self.control.stop_after_seal(),
            EndRequest::Now => self.control.cancel(),
        }
        self.ending.send_replace(ending);
        self.bell.notify_all();
    }

    /// Whether and how the attempt is to end.
    pub(crate) fn ending(&self) -> EndRequest {
        *lock(&self.ended)
    }

    /// Ends the attempt's own doing where it was told to end, in whatever way.
    pub(crate) fn go_on(&self) -> Result<(), Ended> {
        if self.ending() == EndRequest::No { Ok(()) } else { Err(Ended) }
    }

    /// Waits, on a thread of the attempt's own.
    ///
    /// # Errors
    /// [`Ended`], as soon as the attempt was told to end.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Ended> {
        let until = Instant::now() + time;
        let mut ended = lock(&self.ended);
        loop {
            if *ended != EndRequest::No {
                return Err(Ended);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            ended = self.bell.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Completes when the attempt must end at once.
    pub(crate) async fn cancelled(&self) {
        let mut ending = self.ending.subscribe();
        // An error means that the sender is gone, and with it the attempt.
        let _ = ending.wait_for(|ending| *ending == EndRequest::Now).await;
    }

    /// Whether the control plane answered lately: time during a partition counts against nothing.
    pub(crate) fn in_contact(&self) -> bool {
        self.in_contact.load(Ordering::Relaxed)
    }

    /// Notes whether the control plane answers.
    pub(crate) fn set_contact(&self, in_contact: bool) {
        self.in_contact.store(in_contact, Ordering::Relaxed);
    }

    /// Names what is being done, over the engine's own step; `None`: the engine's.
    pub(crate) fn set_step(&self, step: Option<&'static str>) {
        lock(&self.shown).step = step;
    }

    /// Says how much the engine will count in this work.
    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Adds to what was done outside the engine.
    pub(crate) fn add_done(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Says why the work stands still, or that it goes on.
    pub(crate) fn set_waiting(&self, what: WaitsFor, waiting: Option<ReportedWait>) {
        let mut shown = lock(&self.shown);
        if shown.waiting.get(&what) == waiting.as_ref() {
            return;
        }
        match waiting {
            Some(waiting) => {
                tracing::warn!(reason = ?waiting.reason, "waiting: {}", waiting.message);
                shown.waiting.insert(what, waiting);
            }
            None => {
                tracing::info!("going on");
                shown.waiting.remove(&what);
            }
        }
        self.waits.send_replace(!shown.waiting.is_empty());
    }

    /// Completes when the work waits for something, or no longer does.
    pub(crate) async fn waits(&self, wanted: bool) {
        let mut waits = self.waits.subscribe();
        // An error means that the sender is gone, and with it the attempt.
        let _ = waits.wait_for(|waits| *waits == wanted).await;
    }

    pub(crate) fn view(&self) -> View {
        let shown = lock(&self.shown);
        let rows = self.control.rows() + self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let per_mille = if total == 0 { 0 } else { (u128::from(rows) * 1_000 / u128::from(total)).min(999) };
        let step = shown.step.unwrap_or(match self.control.step() {
            Step::Idle => "starting",
            Step::Encode => "encoding",
            Step::Fetch => "fetching",
            Step::Sort => "sorting",
            Step::Check => "checking",
        });
        View {
            per_mille: u64::try_from(per_mille).unwrap_or(999),
            rows,
            bytes: self.control.bytes(),
            step: step.to_owned(),
            // What needs somebody comes first.
            waiting: shown.waiting.values().rev().max_by_key(|waiting| waiting.needs_help).cloned(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_end_cuts_a_wait_short_and_is_never_taken_back() {
        let shared = Arc::new(AttemptState::new());
        let waiter = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.sleep(Duration::from_secs(600))
        });
        shared.end(EndRequest::Now);
        assert_eq!(waiter.join().unwrap(), Err(Ended));
        shared.end(EndRequest::Seal);
        assert_eq!(shared.ending(), EndRequest::Now);
        assert!(shared.control().is_cancelled());
    }

    #[tokio::test]
    async fn that_a_wait_begins_or_ends_is_heard_at_once() {
        let shared = Arc::new(AttemptState::new());
        shared.waits(false).await;
        let waiting = |message: &str| ReportedWait {
            reason: indexbuild_api::Reason::WaitingForStore,
            message: message.to_owned(),
            needs_help: false,
        };
        let heard = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { shared.waits(true).await }
        });
        shared.set_waiting(WaitsFor::Source, Some(waiting("the source")));
        heard.await.unwrap();
        shared.set_waiting(WaitsFor::Output, Some(waiting("the output")));
        shared.set_waiting(WaitsFor::Source, None);
        shared.waits(true).await;
        shared.set_waiting(WaitsFor::Output, None);
        shared.waits(false).await;
    }

    #[tokio::test]
    async fn sealing_does_not_cancel_what_is_on_its_way() {
        let shared = AttemptState::new();
        shared.end(EndRequest::Seal);
        assert!(shared.control().is_stopping() && !shared.control().is_cancelled());
        tokio::select! {
            biased;
            () = shared.cancelled() => panic!("cancelled"),
            () = std::future::ready(()) => {}
        }
        shared.end(EndRequest::Now);
        shared.cancelled().await;
    }
}
