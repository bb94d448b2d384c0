//! Tells people what happened to a build, as events of the Kubernetes API.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexbuild_api::{IndexBuild, Unreadable};
use indexbuild_lifecycle::action::Event;
use indexbuild_lifecycle::plan::unreadable_event;
use indexbuild_text::bounded;
use k8s_openapi::Resource as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// The API refuses longer notes.
const LONGEST_NOTE: usize = 1024;
/// For how long an event that was sent is not sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(600);
/// How many events of one build are remembered; the oldest are forgotten, and may be sent again.
const REMEMBERED: usize = 64;
/// How long the API server has for one event: they are news, and not worth waiting for.
const SENDING: Duration = Duration::from_secs(10);

/// Publishes events. One for the whole process: what it remembers keeps repetitions away.
pub struct Announcer {
    recorder: Recorder,
    home: ObjectReference,
    sent: Mutex<Sent>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").finish_non_exhaustive()
    }
}

impl Announcer {
    /// Events from the operator's pod `instance`.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: "indexbuild-operator".to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), home: ObjectReference::default(), sent: Mutex::default() }
    }

    /// With the Lease by which the operator leads: what stands in its own namespace.
    pub(crate) fn led_by(self, namespace: &str, lease: &str) -> Self {
        let home = ObjectReference {
            api_version: Some(Lease::API_VERSION.to_owned()),
            kind: Some(Lease::KIND.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(lease.to_owned()),
            ..ObjectReference::default()
        };
        Self { home, ..self }
    }

    /// The Lease by which the operator leads, as `<namespace>/<name>`; empty: by none.
    pub(crate) fn lease(&self) -> String {
        let ObjectReference { namespace, name, .. } = &self.home;
        namespace.iter().zip(name).map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    /// Publishes, in the operator's own namespace, what is left of a build that goes: an event lives in the namespace of
    /// what it is about, and that of the build may be going too.
    pub(crate) async fn tell_at_home(&self, event: &Event) {
        self.publish_one(&self.home, event).await;
    }

    /// Publishes what is new of these events about a build. A failure is logged: nothing depends on an event.
    pub async fn publish(&self, build: &IndexBuild, events: &[Event]) {
        let reference = build.object_ref(&());
        for event in events {
            self.publish_one(&reference, event).await;
        }
    }

    /// Publishes an event about a volume's claim, for which no build is there any more.
    pub async fn tell_claim(&self, namespace: &str, name: &str, uid: &str, event: &Event) {
        let reference = ObjectReference {
            api_version: Some(PersistentVolumeClaim::API_VERSION.to_owned()),
            kind: Some(PersistentVolumeClaim::KIND.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        self.publish_one(&reference, event).await;
    }

    /// Publishes, about an object that cannot be read, that it cannot.
    pub async fn publish_unreadable(&self, unreadable: &Unreadable) {
        let Unreadable { kind, api_version, namespace, name, uid, why: _ } = unreadable.clone();
        let reference = ObjectReference {
            kind: Some(kind),
            api_version: Some(api_version),
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let event = unreadable_event(std::slice::from_ref(unreadable));
        self.publish_one(&reference, &event).await;
    }

    async fn publish_one(&self, reference: &ObjectReference, event: &Event) {
        let uid = reference.uid.as_deref().unwrap_or_default();
        let digest = digest(event);
        if !self.sent().is_due(uid, digest, Instant::now()) {
            return;
        }
        let note = note(event);
        let sending = self.recorder.publish(&note, reference);
        let failure = match tokio::time::timeout(SENDING, sending).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", SENDING.as_secs()),
        };
        let (namespace, name) = (reference.namespace.as_deref(), reference.name.as_deref());
        warn!(namespace, name, reason = %event.reason, failure, "an event was not published");
        self.sent().forget_one(uid, digest);
    }

    /// Forgets a build that is gone.
    pub fn forget(&self, uid: &str) {
        self.sent().builds.remove(uid);
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Sent {
    builds: HashMap<String, VecDeque<(u64, Instant)>>,
    swept: Option<Instant>,
}

impl Sent {
    /// Whether an event is to be sent; if so, it counts as sent.
    fn is_due(&mut self, uid: &str, digest: u64, now: Instant) -> bool {
        self.sweep(now);
        let events = self.builds.entry(uid.to_owned()).or_default();
        events.retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT_AFTER);
        if events.iter().any(|(other, _)| *other == digest) {
            return false;
        }
        if events.len() >= REMEMBERED {
            events.pop_front();
        }
        events.push_back((digest, now));
        true
    }

    fn forget_one(&mut self, uid: &str, digest: u64) {
        if let Some(events) = self.builds.get_mut(uid) {
            events.retain(|(other, _)| *other != digest);
        }
    }

    /// Forgets builds of which nothing was sent of late: their number has no other bound.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < REPEAT_AFTER) {
            return;
        }
        self.swept = Some(now);
        let fresh = |(_, at): &(u64, Instant)| now.saturating_duration_since(*at) < REPEAT_AFTER;
        self.builds.retain(|_, events| events.back().is_some_and(fresh));
    }
}

fn digest(event: &Event) -> u64 {
    let Event { reason, warning, message } = event;
    xxh3_64(format!("{reason}\0{warning}\0{message}").as_bytes())
}

fn note(event: &Event) -> events::Event {
    let Event { reason, warning, message } = event;
    events::Event {
        type_: if *warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_string(),
        note: Some(bounded(message, LONGEST_NOTE)),
        // kube's recorder, as Kubernetes' own, takes events that differ in their note alone for a repetition of the
        // first and drops the new note, which says what is missing and where. So each note is an action of its own.
        action: format!("{reason}-{:016x}", digest(event)),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use indexbuild_api::Reason;

    use super::*;

    fn event(message: &str) -> Event {
        Event { reason: Reason::OwnerSilent, warning: true, message: message.to_owned() }
    }

    #[test]
    fn an_event_is_sent_once_in_ten_minutes_and_another_message_is_another_event() {
        let (mut sent, start) = (Sent::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (digest(&event("slot 1")), digest(&event("slot 2")));
        assert!(sent.is_due("a", one, at(0)));
        assert!(!sent.is_due("a", one, at(599)));
        assert!(sent.is_due("a", two, at(1)));
        assert!(sent.is_due("b", one, at(1)), "another build");
        assert!(sent.is_due("a", one, at(600)));
        assert!(!sent.is_due("a", one, at(601)), "it was sent again, and is counted from then");
        sent.forget_one("a", one);
        assert!(sent.is_due("a", one, at(602)), "what could not be sent is due");
    }

    #[test]
    fn what_is_remembered_is_bounded_per_build_and_builds_that_are_quiet_are_forgotten() {
        let (mut sent, start) = (Sent::default(), Instant::now());
        for n in 0..10_000 {
            assert!(sent.is_due("a", n, start));
        }
        assert_eq!(sent.builds["a"].len(), REMEMBERED);
        for n in 0..1000 {
            sent.is_due(&format!("build-{n}"), 0, start);
        }
        assert_eq!(sent.builds.len(), 1001);
        assert!(sent.is_due("a", 0, start + REPEAT_AFTER));
        assert_eq!(sent.builds.len(), 1);
    }

    #[test]
    fn an_event_names_its_reason_and_warns_only_when_it_is_a_warning() {
        let warning = note(&event("slot 1"));
        assert_eq!((warning.type_, warning.reason.as_str()), (EventType::Warning, "OwnerSilent"));
        assert!(warning.action.len() <= 128 && warning.action != note(&event("slot 2")).action);
        let normal = note(&Event { warning: false, ..event("slot 1") });
        assert_eq!(normal.type_, EventType::Normal);
    }
}
