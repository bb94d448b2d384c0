//! Entries become spans, and spans become text. [`crate::picture`] draws them.

use std::collections::BTreeMap;
use std::fmt::Write;

use indexbuild_api::{Epoch, OwnerChangeReason};
use indexbuild_text::aligned;
use serde::{Deserialize, Serialize};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at: u64,
    pub slot: u32,
    pub what: SlotEvent,
}

/// What happened to a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SlotEvent {
    #[serde(rename_all = "camelCase")]
    Granted {
        epoch: Epoch,
        pod: String,
        work: Option<String>,
        volume: u32,
        /// Why the owner or the work changed.
        reason: OwnerChangeReason,
        /// The volume claim, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim: Option<String>,
    },
    /// The epoch's process is known, and with it the name of its directory.
    #[serde(rename_all = "camelCase")]
    Bound {
        epoch: Epoch,
        /// The process's boot nonce.
        boot_nonce: String,
        /// The node that it runs on, where there is more than one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// The epoch's work is done; its owner waits for the next one.
    #[serde(rename_all = "camelCase")]
    Done { epoch: Epoch },
    /// The slot has no owner any more.
    #[serde(rename_all = "camelCase")]
    Released { epoch: Epoch, why: String },
    /// A pod's process is gone.
    #[serde(rename_all = "camelCase")]
    Ended { pod: String, how: String },
    /// Something else worth a line.
    #[serde(rename_all = "camelCase")]
    Note { text: String },
}

/// One owner's time with one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    pub slot: u32,
    pub epoch: Epoch,
    /// `<epoch>-<boot nonce>`; only `<epoch>` when no process was ever bound to it.
    pub directory: String,
    pub pod: String,
    pub work: Option<String>,
    /// The generation of the slot's volume.
    pub volume: u32,
    /// The volume claim, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The node where the owner ran, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When the ownership begins, in milliseconds since the timeline's start.
    pub from: u64,
    /// When it ends, in milliseconds since the timeline's start.
    pub to: u64,
    pub reason: OwnerChangeReason,
    /// Since when its work was done, and its owner waited for the next one, where it waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_from: Option<u64>,
    /// Until when its process lived on, where that was longer than it owned the slot.
    pub lived_until: Option<u64>,
    /// How its process ended, where that ended the span.
    pub end: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    pub slot: u32,
    /// When, in milliseconds since the timeline's start.
    pub at: u64,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// When it begins, in milliseconds since 1970.
    pub start: u64,
    /// How long it is, in milliseconds.
    pub length: u64,
    /// Sorted by slot and time.
    pub spans: Vec<Span>,
    pub remarks: Vec<Remark>,
}

/// The timeline of a journal, whose entries may be of several runs of one build.
pub fn timeline(entries: &[Entry]) -> Timeline {
    timeline_until(entries, 0)
}

/// The timeline of entries until a moment (milliseconds since 1970), or until the last of them if that is later:
/// who owns something then owns it up to there.
pub fn timeline_until(entries: &[Entry], until: u64) -> Timeline {
    let start = entries.iter().map(|entry| entry.at).min().unwrap_or(0);
    let last = entries.iter().map(|entry| entry.at).max();
    let end = last.map_or(start, |last| last.max(until));
    let mut open: BTreeMap<u32, Span> = BTreeMap::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut remarks = Vec::new();
    for entry in entries {
        let at = entry.at.saturating_sub(start);
        let slot = entry.slot;
        match &entry.what {
            SlotEvent::Granted { epoch, pod, work, volume, reason, claim } => {
                end_span(&mut spans, open.remove(&slot), at);
                let span = Span {
                    slot,
                    epoch: *epoch,
                    directory: epoch.to_string(),
                    pod: pod.clone(),
                    work: work.clone(),
                    volume: *volume,
                    claim: claim.clone(),
                    node: None,
                    from: at,
                    to: at,
                    reason: *reason,
                    idle_from: None,
                    lived_until: None,
                    end: None,
                };
                open.insert(slot, span);
            }
            SlotEvent::Bound { epoch, boot_nonce, node } => {
                if let Some(span) = open.get_mut(&slot).filter(|span| span.epoch == *epoch) {
                    span.directory = format!("{epoch}-{boot_nonce}");
                    span.node.clone_from(node);
                }
            }
            SlotEvent::Done { epoch } => {
                if let Some(span) = open.get_mut(&slot).filter(|span| span.epoch == *epoch) {
                    span.idle_from = span.idle_from.or(Some(at));
                }
            }
            SlotEvent::Released { epoch, why } => {
                if let Some(mut span) = open.remove(&slot).filter(|span| span.epoch == *epoch) {
                    span.end = Some(why.clone());
                    end_span(&mut spans, Some(span), at);
                }
            }
            SlotEvent::Ended { pod, how } => {
                if let Some(span) = open.get_mut(&slot).filter(|span| span.pod == *pod) {
                    span.end = Some(how.clone());
                } else if let Some(span) = spans.iter_mut().rev().find(|span| span.pod == *pod && span.slot == slot) {
                    // An owner that idles between its last work and its end did not live on.
                    let replaced = open.get(&slot).is_some_and(|owner| owner.pod != *pod);
                    span.lived_until = replaced.then_some(at).filter(|at| *at > span.to);
                    span.end = Some(how.clone());
                }
                remarks.push(Remark { slot, at, text: format!("{pod}: {how}") });
            }
            SlotEvent::Note { text } => remarks.push(Remark { slot, at, text: text.clone() }),
        }
    }
    for (_, span) in open {
        end_span(&mut spans, Some(span), end.saturating_sub(start));
    }
    spans.sort_by_key(|span| (span.slot, span.from, span.epoch));
    Timeline { start, length: end.saturating_sub(start), spans, remarks }
}

fn end_span(spans: &mut Vec<Span>, span: Option<Span>, at: u64) {
    if let Some(mut span) = span {
        span.to = at.max(span.from);
        // Of two machines' clocks one may be ahead.
        span.idle_from = span.idle_from.map(|from| from.clamp(span.from, span.to)).filter(|from| *from < span.to);
        spans.push(span);
    }
}

/// A wait between two works that is shorter than this share of the whole is no more than the way of a grant.
const SHORTEST_WAIT: u64 = 100;

/// Since when an owner waited for its next work, where that is long enough to be seen.
pub fn idle_from(timeline: &Timeline, span: &Span) -> Option<u64> {
    span.idle_from.filter(|from| (span.to - from).saturating_mul(SHORTEST_WAIT) >= timeline.length)
}

/// Why an owner or a work changed, in words.
pub const fn why(reason: OwnerChangeReason) -> &'static str {
    match reason {
        OwnerChangeReason::FirstOwner => "the slot's first owner",
        OwnerChangeReason::NextWork => "same process, next work",
        OwnerChangeReason::Rebound => "the former owner is proved gone; same volume",
        OwnerChangeReason::Replaced => "the former owner was silent too long; new volume",
        OwnerChangeReason::Returned => "a former owner came back in time",
        OwnerChangeReason::AttemptFailed => "the last attempt failed",
        OwnerChangeReason::NoProgress => "the last owner's work did not advance",
        OwnerChangeReason::OwnerEnded => "the last owner's process ended",
        OwnerChangeReason::Suspended => "the build paused",
        OwnerChangeReason::Resumed => "the build goes on",
        OwnerChangeReason::ScaledDown => "the slot is not wanted any more",
        OwnerChangeReason::Revoked => "its work is not wanted any more",
        OwnerChangeReason::Aborted => "the build was aborted",
        OwnerChangeReason::Other(_) => "for a reason that a later version knows",
    }
}

/// Milliseconds as seconds.
pub fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1_000, milliseconds % 1_000)
}

/// A directory's name, short enough for a table: the nonce's first eight characters.
pub fn short(directory: &str) -> String {
    match directory.split_once('-') {
        Some((epoch, nonce)) => format!("{epoch}-{}", nonce.chars().take(8).collect::<String>()),
        None => directory.to_owned(),
    }
}

/// A column of the table: its head, and whether its cells align to the right.
type Column = (&'static str, bool);

/// The timeline as a table of text, a line per span, remarks between them. Where several nodes are known, it has
/// columns for node and pod.
pub fn text(timeline: &Timeline) -> String {
    let several_nodes = timeline.spans.iter().any(|span| span.node.is_some());
    let mut columns: Vec<Column> = vec![("slot", false), ("from", true), ("to", true), ("directory", false)];
    columns.extend([("work", false), ("volume", false)]);
    if several_nodes {
        columns.extend([("node", false), ("pod", false)]);
    }
    columns.push(("why", false));
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect()];
    let mut slots: Vec<u32> = timeline.spans.iter().map(|span| span.slot).collect();
    slots.extend(timeline.remarks.iter().map(|remark| remark.slot));
    slots.sort_unstable();
    slots.dedup();
    for slot in slots {
        let spans = timeline.spans.iter().filter(|span| span.slot == slot);
        let spans = spans.flat_map(|span| {
            let idle = idle_from(timeline, span);
            let row = (span.from, 0, span_row(span, idle, several_nodes));
            std::iter::once(row).chain(idle.map(|from| (from, 0, idle_row(span, from, several_nodes))))
        });
        let remarks = timeline.remarks.iter().filter(|remark| remark.slot == slot);
        let remarks = remarks.map(|remark| (remark.at, 1, remark_row(remark, columns.len())));
        let mut of_slot: Vec<(u64, u8, Vec<String>)> = spans.chain(remarks).collect();
        of_slot.sort_by_key(|(at, kind, _)| (*at, *kind));
        rows.extend(of_slot.into_iter().map(|(_, _, row)| row));
    }
    aligned(rows, (0, 2), |column| columns.get(column).is_some_and(|(_, right)| *right))
}

fn span_row(span: &Span, idle: Option<u64>, several_nodes: bool) -> Vec<String> {
    let mut reason = why(span.reason).to_owned();
    if let Some(until) = span.lived_until {
        let end = span.end.as_deref().unwrap_or("ended");
        let _ = write!(reason, " (its process lived on until {}: {end})", seconds(until));
    }
    let work = span.work.clone().unwrap_or_else(|| "-".to_owned());
    row(span, (span.from, idle.unwrap_or(span.to)), work, several_nodes, reason)
}

/// An owner that holds its slot, and has nothing to do: other slots' works are not done yet.
fn idle_row(span: &Span, from: u64, several_nodes: bool) -> Vec<String> {
    row(span, (from, span.to), "idle".to_owned(), several_nodes, "no work is left to hand out yet".to_owned())
}

fn row(span: &Span, (from, to): (u64, u64), work: String, several_nodes: bool, reason: String) -> Vec<String> {
    let mut row = vec![
        span.slot.to_string(),
        seconds(from),
        seconds(to),
        short(&span.directory),
        work,
        span.claim.clone().unwrap_or_else(|| format!("{}-{}", span.slot, span.volume)),
    ];
    if several_nodes {
        row.extend([span.node.clone().unwrap_or_else(|| "-".to_owned()), span.pod.clone()]);
    }
    row.push(reason);
    row
}

fn remark_row(remark: &Remark, columns: usize) -> Vec<String> {
    let mut row = vec![remark.slot.to_string(), seconds(remark.at)];
    row.resize(columns.saturating_sub(1), String::new());
    row.push(format!("* {}", remark.text));
    row
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn granted(at: u64, slot: u32, epoch: u64, pod: &str, work: &str, volume: u32, reason: OwnerChangeReason) -> Entry {
        let what = SlotEvent::Granted {
            epoch: epoch.into(),
            pod: pod.to_owned(),
            work: Some(work.to_owned()),
            volume,
            reason,
            claim: None,
        };
        Entry { at, slot, what }
    }

    /// A slot that is cut off, replaced, and gives way; another that is left alone.
    pub(crate) fn incident() -> Vec<Entry> {
        let bound = |at, slot, epoch, nonce: &str| Entry {
            at,
            slot,
            what: SlotEvent::Bound { epoch: Epoch::new(epoch), boot_nonce: nonce.to_owned(), node: None },
        };
        let note = |at, slot, text: &str| Entry { at, slot, what: SlotEvent::Note { text: text.to_owned() } };
        vec![
            granted(1_000, 0, 1, "o-0-e1", "plan", 1, OwnerChangeReason::FirstOwner),
            bound(1_010, 0, 1, "aaaaaaaa-1111"),
            granted(1_200, 0, 2, "o-0-e1", "encode-0", 1, OwnerChangeReason::NextWork),
            bound(1_200, 0, 2, "aaaaaaaa-1111"),
            granted(1_200, 1, 1, "o-1-e1", "encode-1", 1, OwnerChangeReason::FirstOwner),
            bound(1_230, 1, 1, "bbbbbbbb-2222"),
            note(1_300, 1, "cut off (a fault that was asked for)"),
            granted(3_300, 1, 2, "o-1-e2", "encode-1", 2, OwnerChangeReason::Replaced),
            bound(3_330, 1, 2, "cccccccc-3333"),
            note(4_300, 1, "in contact again"),
            Entry {
                at: 4_350,
                slot: 1,
                what: SlotEvent::Ended { pod: "o-1-e1".to_owned(), how: "gave way to a newer owner".to_owned() },
            },
            Entry {
                at: 5_000,
                slot: 0,
                what: SlotEvent::Released { epoch: Epoch::new(2), why: "nothing left to do".to_owned() },
            },
            Entry {
                at: 5_000,
                slot: 1,
                what: SlotEvent::Released { epoch: Epoch::new(2), why: "nothing left to do".to_owned() },
            },
        ]
    }

    #[test]
    fn a_timeline_reads_as_a_table() {
        let expected = "\
slot    from      to  directory   work      volume  why
0     0.000s  0.200s  1-aaaaaaaa  plan      0-1     the slot's first owner
0     0.200s  4.000s  2-aaaaaaaa  encode-0  0-1     same process, next work
1     0.200s  2.300s  1-bbbbbbbb  encode-1  1-1     the slot's first owner (its process lived on until 3.350s: gave way to a newer owner)
1     0.300s                                        * cut off (a fault that was asked for)
1     2.300s  4.000s  2-cccccccc  encode-1  1-2     the former owner was silent too long; new volume
1     3.300s                                        * in contact again
1     3.350s                                        * o-1-e1: gave way to a newer owner
";
        assert_eq!(text(&timeline(&incident())), expected);
    }

    /// A slot that waits for others between two works, and hardly at all before the next.
    pub(crate) fn idle() -> Timeline {
        let done = |at, slot, epoch| Entry { at, slot, what: SlotEvent::Done { epoch: Epoch::new(epoch) } };
        let entries = [
            granted(1_000, 0, 1, "p", "encode-0", 1, OwnerChangeReason::FirstOwner),
            done(2_000, 0, 1),
            // Of an epoch that is over: it says nothing of the present one.
            granted(3_000, 0, 2, "p", "sort-0", 1, OwnerChangeReason::NextWork),
            done(3_100, 0, 1),
            // Between two works a moment passes, which is no waiting.
            done(4_990, 0, 2),
            granted(5_000, 0, 3, "p", "sort-1", 1, OwnerChangeReason::NextWork),
        ];
        timeline_until(&entries, 6_000)
    }

    #[test]
    fn an_owner_that_waits_for_other_slots_is_idle() {
        let text = text(&idle());
        let told: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().skip(1).take(4).collect()).collect();
        let expected = [
            ["0.000s", "1.000s", "1", "encode-0"],
            ["1.000s", "2.000s", "1", "idle"],
            ["2.000s", "4.000s", "2", "sort-0"],
            ["4.000s", "5.000s", "3", "sort-1"],
        ];
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn who_owns_something_at_the_end_owns_it_until_now() {
        let entries = [granted(1_000, 0, 1, "p", "plan", 1, OwnerChangeReason::FirstOwner)];
        let spans = timeline_until(&entries, 5_000).spans;
        assert_eq!((spans[0].from, spans[0].to), (0, 4_000));
        assert_eq!(timeline_until(&[], 5_000).length, 0);
    }

    #[test]
    fn an_empty_journal_is_an_empty_timeline() {
        assert_eq!(timeline(&[]), Timeline::default());
    }

    #[test]
    fn an_owner_that_idles_before_its_end_did_not_live_on() {
        let entries = [
            granted(0, 0, 1, "p", "plan", 1, OwnerChangeReason::FirstOwner),
            Entry { at: 10, slot: 0, what: SlotEvent::Released { epoch: Epoch::new(1), why: "done".to_owned() } },
            Entry { at: 20, slot: 0, what: SlotEvent::Ended { pod: "p".to_owned(), how: "exit code 0".to_owned() } },
        ];
        assert_eq!(timeline(&entries).spans[0].lived_until, None);
    }
}
