//! What the parent knows, and how it answers its children.
//!
//! One lock around all of it: a child's write and the parent's own never interleave, and every write
//! is on the disk before the lock is given back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indexbuild_api::{Report, WorkKind};
use indexbuild_lifecycle::world::{Record, Stage};
use rustix::process::Signal;
use tokio::sync::Notify;

use crate::folder::Layout;
use crate::inject::{InjectedFault, Injector};
use crate::journal::Journal;
use crate::pods::Pods;
use crate::protocol::{Answer, PROTOCOL_VERSION, Request, RequestBody};
use crate::records::{Machine, RecordError, Records};
use crate::volumes::Volume;
use indexbuild_timeline::SlotEvent;

/// Everything that is observed and written.
#[derive(Debug)]
pub(crate) struct State {
    pub records: Records,
    pub pods: Pods,
    pub volumes: Vec<Volume>,
    pub stages: BTreeMap<String, Stage>,
    pub injector: Injector,
    pub journal: Journal,
}

/// The parent's shared state.
#[derive(Debug)]
pub(crate) struct Hub {
    pub layout: Layout,
    pub node: Machine,
    state: Mutex<State>,
    /// Something was observed: the parent looks again.
    pub wake: Notify,
    /// A record changed: children that wait for that look again.
    pub changed: Notify,
    pub healed: Notify,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is answered, then this happens to its sender.
    Answer(Box<Answer>, Vec<InjectedFault>),
    /// It is lost: its sender is cut off.
    Lost,
    /// It is answered when the record of the slot changed, or after the time.
    Wait(u32, String, Duration),
}

impl Hub {
    /// A hub around what was read from the state folder.
    #[must_use]
    pub(crate) fn new(layout: Layout, node: Machine, state: State) -> Self {
        Self {
            layout,
            node,
            state: Mutex::new(state),
            wake: Notify::new(),
            changed: Notify::new(),
            healed: Notify::new(),
        }
    }

    /// The state, for as long as the guard lives. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod is cut off now.
    pub(crate) fn is_cut(&self, pod_uid: &str) -> bool {
        self.state().injector.cut_until(pod_uid, Instant::now()).is_some()
    }

    /// Whether the slot's record changed since it was at this version.
    pub(crate) fn changed_since(&self, slot: u32, version: &str) -> bool {
        self.state().records.changed_since(slot, version)
    }

    /// Answers one request of the process `peer` (0: not known).
    pub(crate) fn answer(&self, request: Request, peer: i32) -> Outcome {
        let Request { version, pod_uid, ask } = request;
        let mut state = self.state();
        let unknown = |message: String| Outcome::Answer(Box::new(Answer::Unknown { message }), Vec::new());
        if version != PROTOCOL_VERSION {
            return unknown(format!("this parent speaks version {PROTOCOL_VERSION}, not {version}"));
        }
        let Some(pod) = state.pods.by_uid(&pod_uid) else {
            return unknown(format!("no pod of this run has the UID {pod_uid}"));
        };
        let slot = pod.file.slot;
        if let Some(pid) = pod.pid.filter(|pid| peer != 0 && *pid != peer) {
            return unknown(format!("pod {} is process {pid}, not {peer}", pod.file.name));
        }
        let now = Instant::now();
        if state.injector.cut_until(&pod_uid, now).is_some() {
            return Outcome::Lost;
        }
        match ask {
            RequestBody::Record => {
                let record = state.records.get(slot);
                let kind = record.as_ref().and_then(|record| in_hand(record, &pod_uid));
                let strikes = kind.map(|kind| state.injector.due(slot, kind, 0)).unwrap_or_default();
                Outcome::Answer(Box::new(Answer::Record(record.map(Box::new))), strikes)
            }
            RequestBody::Changed { version, within_ms } => {
                Outcome::Wait(slot, version, Duration::from_millis(within_ms))
            }
            RequestBody::Claim(claim) => {
                let written = state.records.claim(slot, &pod_uid, claim);
                self.written(&written);
                Outcome::Answer(Box::new(answer_of(written)), Vec::new())
            }
            RequestBody::Report(report) => {
                if let Some(pod) = state.pods.iter_mut().find(|pod| pod.file.uid == pod_uid) {
                    pod.measure();
                }
                let kind = state.records.get(slot).and_then(|record| in_hand(&record, &pod_uid));
                let strikes = kind.map(|kind| state.injector.due(slot, kind, percent(&report))).unwrap_or_default();
                drop(state);
                if !strikes.is_empty() {
                    self.strike(&pod_uid, &strikes);
                    if self.is_cut(&pod_uid) {
                        return Outcome::Lost;
                    }
                }
                let mut state = self.state();
                let done = report.result.as_ref().map(|result| result.epoch);
                let written = state.records.report(slot, &pod_uid, *report);
                // Only the first report of a result decides anything.
                if let (Some(epoch), Ok(true)) = (done, &written) {
                    state.journal.add(slot, SlotEvent::Done { epoch });
                }
                self.written(&written);
                Outcome::Answer(Box::new(answer_of(written)), Vec::new())
            }
            RequestBody::Release(word) => {
                let written = state.records.release(slot, &pod_uid, word);
                self.written(&written);
                Outcome::Answer(Box::new(answer_of(written)), Vec::new())
            }
            RequestBody::Stage { name } => {
                Outcome::Answer(Box::new(Answer::Stage(state.stages.get(&name).cloned())), Vec::new())
            }
        }
    }

    /// Wakes whom a write concerns: the parent always (a renewal is an observation too), children
    /// only where something was decided.
    fn written(&self, written: &Result<bool, RecordError>) {
        match written {
            Ok(decides) => {
                if *decides {
                    self.changed.notify_waiters();
                }
                self.wake.notify_one();
            }
            Err(error) => tracing::debug!(%error, "a child's write was not taken"),
        }
    }

    /// Lets faults happen to a pod.
    pub(crate) fn strike(&self, pod_uid: &str, strikes: &[InjectedFault]) {
        let mut state = self.state();
        let Some((name, slot)) = state.pods.by_uid(pod_uid).map(|pod| (pod.file.name.clone(), pod.file.slot)) else {
            return;
        };
        for strike in strikes {
            let text = match strike {
                InjectedFault::Cut(lasts) => {
                    state.injector.cut(pod_uid, Instant::now(), *lasts);
                    format!("{name} is cut off for {} (asked for)", shown(*lasts))
                }
                InjectedFault::Kill => {
                    self.signal(&mut state, &name, Signal::KILL);
                    format!("{name} is killed (asked for)")
                }
                InjectedFault::Freeze(lasts) => {
                    self.signal(&mut state, &name, Signal::STOP);
                    state.injector.freeze(pod_uid, Instant::now(), *lasts);
                    format!("{name} is frozen for {} (asked for)", shown(*lasts))
                }
                InjectedFault::FillDisk(lasts) => {
                    if let Err(error) = std::fs::write(self.layout.no_space(slot), b"") {
                        tracing::warn!(%error, "the disk cannot be made to look full");
                    }
                    state.injector.fill(slot, Instant::now(), *lasts);
                    format!("the disk of slot {slot} is full for {} (asked for)", shown(*lasts))
                }
            };
            tracing::warn!(slot, "{text}");
            state.journal.add(slot, SlotEvent::Note { text });
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Sends a signal to a pod's process.
    pub(crate) fn signal(&self, state: &mut State, pod: &str, signal: Signal) -> bool {
        state.pods.get_mut(pod).is_some_and(|pod| pod.signal(&self.layout, signal))
    }
}

fn shown(lasts: Duration) -> indexbuild_api::Duration {
    lasts.into()
}

/// The kind of work that a pod has in hand: it is the bound owner, and there is work.
fn in_hand(record: &Record, pod_uid: &str) -> Option<WorkKind> {
    let grant = record.spec.grant.as_ref()?;
    let bound = grant.pod_uid == pod_uid && !grant.boot_nonce.is_empty();
    record.spec.work.as_ref().filter(|_| bound).map(|work| work.kind)
}

/// How far a report says its work is, 0 to 100.
fn percent(report: &Report) -> u8 {
    if report.result.is_some() {
        return 100;
    }
    let share = report.progress.unwrap_or(0.0).clamp(0.0, 1.0);
    // In range by the clamp.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let percent = (share * 100.0) as u8;
    percent
}

fn answer_of(written: Result<bool, RecordError>) -> Answer {
    match written {
        Ok(_) => Answer::Done,
        Err(RecordError::Conflict { .. }) => Answer::Conflict,
        Err(RecordError::Refused { message, .. }) => Answer::Refused { message },
        Err(RecordError::State(error)) => Answer::Failed { message: error.to_string() },
    }
}
