//! Watch streams: newline-delimited JSON, filtered event by event. No I/O.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    /// `BOOKMARK`: no change, only a resource version up to which everything was sent.
    Bookmark,
    /// `ERROR`, `410 Gone` say.
    Error,
}

impl EventType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADDED" => Self::Added,
            "MODIFIED" => Self::Modified,
            "DELETED" => Self::Deleted,
            "BOOKMARK" => Self::Bookmark,
            "ERROR" => Self::Error,
            _ => return None,
        })
    }
}

/// Which events are hidden.
///
/// With no types named, those of objects: added, modified, deleted. Bookmarks pass unless named, as they do past an
/// event that was really lost: the client then believes to be further than it is. Errors pass unless named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventMatch {
    types: Vec<EventType>,
    namespace: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    nth: Option<Nth>,
}

/// Counts what matches, over all streams that the rule is about.
#[derive(Debug, Clone)]
struct Nth {
    wanted: u64,
    matched: Arc<AtomicU64>,
}

impl PartialEq for Nth {
    fn eq(&self, other: &Self) -> bool {
        self.wanted == other.wanted
    }
}

impl Eq for Nth {}

impl EventMatch {
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Events of this type (too).
    #[must_use]
    pub fn event(mut self, event: EventType) -> Self {
        self.types.push(event);
        self
    }

    /// Only of objects of this kind, `ConfigMap` say.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// Only of objects in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only of objects of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only the `n`-th of those that match otherwise, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.nth = Some(Nth { wanted: n, matched: Arc::default() });
        self
    }

    /// Whether an event is meant. With [`EventMatch::nth`], to be asked once for each event.
    pub fn matches(&self, event: &WatchEvent) -> bool {
        let Self { types, namespace, name, kind, nth } = self;
        let typed = if types.is_empty() {
            matches!(event.event, EventType::Added | EventType::Modified | EventType::Deleted)
        } else {
            types.contains(&event.event)
        };
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
        let alike = typed && same(namespace, &event.namespace) && same(name, &event.name) && same(kind, &event.kind);
        let numbered = |nth: &Nth| nth.matched.fetch_add(1, Ordering::Relaxed).saturating_add(1) == nth.wanted;
        alike && nth.as_ref().is_none_or(numbered)
    }
}

/// The fields of an event that a filter reads. A field that the event lacks is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchEvent {
    pub event: EventType,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The object's resource version.
    pub resource_version: String,
    /// Whether it is the bookmark that ends the initial list of a streamed list.
    pub ends_initial: bool,
}

impl WatchEvent {
    /// Reads one line. `None` if it is no watch event.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(line).ok()?;
        let event = EventType::parse(value.get("type")?.as_str()?)?;
        let object = value.get("object")?;
        // `kubectl get -w` watches tables, in which the object stands in a row.
        let object = object.pointer("/rows/0/object").unwrap_or(object);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            event,
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            ends_initial: object.pointer("/metadata/annotations/k8s.io~1initial-events-end").and_then(Value::as_str)
                == Some("true"),
        })
    }
}

/// The events that were hidden, shared by all streams of a proxy: what was lost once stays lost, in whichever later
/// watch it would come again. Only a list shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostEvents(Arc<Mutex<BTreeSet<WatchEvent>>>);

impl LostEvents {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeSet<WatchEvent>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_lost(&self, event: &WatchEvent) -> bool {
        self.with(|lost| lost.contains(event))
    }

    fn lose(&self, event: &WatchEvent) {
        self.with(|lost| lost.insert(event.clone()));
    }
}

/// How a watch begins: decides whether its first events are a list in disguise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// From a resource version: every event is a change.
    At,
    /// Without a version, or from 0: what exists comes as `ADDED`, with nothing to tell where that ends.
    Any,
    /// `sendInitialEvents=true`: what exists comes as `ADDED`, up to a marked bookmark.
    Initial,
}

/// One stream's filter: bytes in, whole lines out.
#[derive(Debug)]
pub(crate) struct Filter {
    buffer: BytesMut,
    start: WatchStart,
    lost: LostEvents,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// To be sent on, newline included.
    Pass(Bytes),
    /// Hidden by the rule in this place of the list of rules asked.
    Hidden(usize, WatchEvent),
    /// Hidden because it was hidden before, in another stream.
    StillLost(WatchEvent),
}

impl Filter {
    #[must_use]
    pub(crate) fn new(start: WatchStart, lost: LostEvents) -> Self {
        Self { buffer: BytesMut::new(), start, lost }
    }

    /// Takes in bytes, gives out the lines that they complete. `rules` are asked in their order.
    pub(crate) fn push(&mut self, bytes: &[u8], rules: &[EventMatch]) -> Vec<Line> {
        self.buffer.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line = self.buffer.split_to(end + 1).freeze();
            lines.push(self.line(line, rules));
        }
        lines
    }

    /// The rest at the stream's end: a line without its newline. It passes.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn line(&mut self, line: Bytes, rules: &[EventMatch]) -> Line {
        let Some(event) = WatchEvent::parse(&line) else { return Line::Pass(line) };
        if self.start == WatchStart::Initial {
            // A list in the form of a stream is a list: it shows the truth, lost events included.
            if event.ends_initial {
                self.start = WatchStart::At;
            }
            return Line::Pass(line);
        }
        if self.start == WatchStart::At && self.lost.is_lost(&event) {
            return Line::StillLost(event);
        }
        if let Some(rule) = rules.iter().position(|r| r.matches(&event)) {
            if matches!(event.event, EventType::Added | EventType::Modified | EventType::Deleted) {
                self.lost.lose(&event);
            }
            return Line::Hidden(rule, event);
        }
        Line::Pass(line)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(event: &str, name: &str, version: &str) -> Vec<u8> {
        let mut text = json!({"type": event, "object": {"kind": "ConfigMap", "metadata":
            {"name": name, "namespace": "a", "uid": name, "resourceVersion": version}}})
        .to_string();
        text.push('\n');
        text.into_bytes()
    }
    fn passed(lines: &[Line]) -> Vec<String> {
        lines
            .iter()
            .filter_map(|l| match l {
                Line::Pass(bytes) => {
                    Some(WatchEvent::parse(bytes).map_or_else(|| "?".into(), |e| format!("{:?} {}", e.event, e.name)))
                }
                Line::Hidden(..) | Line::StillLost(_) => None,
            })
            .collect()
    }

    #[test]
    fn events_are_told_apart_by_type_kind_namespace_and_name() {
        let event = WatchEvent::parse(&line("MODIFIED", "c", "7")).unwrap();
        assert!(EventMatch::any().matches(&event));
        assert!(
            EventMatch::any().event(EventType::Modified).kind("ConfigMap").namespace("a").name("c").matches(&event)
        );
        assert!(!EventMatch::any().event(EventType::Added).matches(&event));
        assert!(!EventMatch::any().kind("Secret").matches(&event));
        assert!(!EventMatch::any().namespace("b").matches(&event));
        assert!(!EventMatch::any().name("d").matches(&event));
    }

    #[test]
    fn the_nth_of_the_events_that_match_is_hidden_and_no_other() {
        let second = [EventMatch::any().kind("ConfigMap").name("x").nth(2)];
        let lost = LostEvents::default();
        let mut one = Filter::new(WatchStart::At, lost.clone());
        let mut other = Filter::new(WatchStart::At, lost);
        assert_eq!(passed(&one.push(&line("ADDED", "y", "1"), &second)), ["Added y"]);
        assert_eq!(passed(&one.push(&line("ADDED", "x", "2"), &second)), ["Added x"]);
        assert!(passed(&other.push(&line("MODIFIED", "x", "3"), &second)).is_empty());
        assert_eq!(passed(&one.push(&line("MODIFIED", "x", "4"), &second)), ["Modified x"]);
    }

    #[test]
    fn bookmarks_and_errors_pass_unless_they_are_named() {
        for (text, event) in [("BOOKMARK", EventType::Bookmark), ("ERROR", EventType::Error)] {
            let mut filter = Filter::new(WatchStart::At, LostEvents::default());
            assert_eq!(passed(&filter.push(&line(text, "", "9"), &[EventMatch::any()])).len(), 1);
            assert!(passed(&filter.push(&line(text, "", "9"), &[EventMatch::any().event(event)])).is_empty());
            // Losing a bookmark is not losing a change: without the rule the same one passes.
            assert_eq!(passed(&filter.push(&line(text, "", "9"), &[])).len(), 1);
        }
    }

    #[test]
    fn an_event_split_over_chunks_is_one_event() {
        let all = [line("ADDED", "x", "1"), line("ADDED", "y", "2")].concat();
        for cut in 0..all.len() {
            let mut filter = Filter::new(WatchStart::At, LostEvents::default());
            let hide = [EventMatch::any().name("x")];
            let mut lines = filter.push(&all[..cut], &hide);
            lines.extend(filter.push(&all[cut..], &hide));
            assert_eq!(passed(&lines), ["Added y"], "cut at {cut}");
            assert!(filter.finish().is_empty());
        }
    }

    #[test]
    fn a_lost_event_stays_lost_in_later_streams_and_after_the_rule() {
        let lost = LostEvents::default();
        let mut first = Filter::new(WatchStart::At, lost.clone());
        let lines = first.push(&line("ADDED", "x", "1"), &[EventMatch::any()]);
        assert!(matches!(lines.as_slice(), [Line::Hidden(0, _)]));
        let mut second = Filter::new(WatchStart::At, lost);
        assert!(matches!(second.push(&line("ADDED", "x", "1"), &[]).as_slice(), [Line::StillLost(_)]));
        assert_eq!(passed(&second.push(&line("MODIFIED", "x", "2"), &[])), ["Modified x"]);
    }

    #[test]
    fn a_list_in_the_form_of_a_stream_shows_what_was_lost() {
        let lost = LostEvents::default();
        Filter::new(WatchStart::At, lost.clone()).push(&line("ADDED", "x", "1"), &[EventMatch::any()]);
        let mut list = Filter::new(WatchStart::Initial, lost.clone());
        assert_eq!(passed(&list.push(&line("ADDED", "x", "1"), &[EventMatch::any()])), ["Added x"]);
        let mut end = json!({"type": "BOOKMARK", "object": {"metadata":
            {"annotations": {"k8s.io/initial-events-end": "true"}}}})
        .to_string();
        end.push('\n');
        assert_eq!(passed(&list.push(end.as_bytes(), &[EventMatch::any().event(EventType::Bookmark)])).len(), 1);
        assert!(passed(&list.push(&line("MODIFIED", "x", "2"), &[EventMatch::any()])).is_empty());
        let mut any = Filter::new(WatchStart::Any, lost);
        assert_eq!(passed(&any.push(&line("ADDED", "x", "1"), &[])), ["Added x"]);
    }

    #[test]
    fn what_is_no_event_passes_and_so_does_an_unended_line() {
        let mut filter = Filter::new(WatchStart::At, LostEvents::default());
        assert_eq!(passed(&filter.push(b"{\"kind\":\"Status\"}\nnot json\nrest", &[EventMatch::any()])), ["?", "?"]);
        assert_eq!(filter.finish(), "rest");
    }

    #[test]
    fn a_row_of_a_table_is_read_as_its_object() {
        let text = json!({"type": "ADDED", "object": {"kind": "Table", "rows": [{"object": {"kind": "PartialObjectMetadata",
            "metadata": {"name": "p"}}}]}});
        assert_eq!(WatchEvent::parse(text.to_string().as_bytes()).unwrap().name, "p");
    }
}
