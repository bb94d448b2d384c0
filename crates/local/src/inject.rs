//! Faults while a run goes on: which are due, and who is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indexbuild_api::WorkKind;

use crate::requested_fault::{Fault, When};

/// What happens to a slot's process now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// It is cut off for so long.
    Cut(Duration),
    Kill,
    /// It is stopped for so long.
    Freeze(Duration),
    /// It finds no space left for so long.
    FillDisk(Duration),
}

/// The faults of a run that have not happened yet, and the cuts that have.
#[derive(Debug, Default)]
pub(crate) struct Injector {
    pending: Vec<(u32, When, InjectedFault)>,
    at_birth: Vec<Fault>,
    born: BTreeSet<u32>,
    cuts: BTreeMap<String, Instant>,
    frozen: BTreeMap<String, Instant>,
    full: BTreeMap<u32, Instant>,
}

/// Faults whose time is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Over {
    /// UIDs of pods that are in contact again.
    pub healed: Vec<String>,
    /// UIDs of pods that are to go on.
    pub thawed: Vec<String>,
    /// Slots whose disk has room again.
    pub emptied: Vec<u32>,
}

impl Injector {
    /// Takes the faults of a run.
    #[must_use]
    pub(crate) fn new(faults: &[Fault]) -> Self {
        let pending = faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::Cut { slot, lasts, when } => Some((*slot, *when, InjectedFault::Cut(*lasts))),
                Fault::Kill { slot, when } => Some((*slot, *when, InjectedFault::Kill)),
                Fault::Freeze { slot, lasts, when } => Some((*slot, *when, InjectedFault::Freeze(*lasts))),
                Fault::FillDisk { slot, lasts, when } => Some((*slot, *when, InjectedFault::FillDisk(*lasts))),
                Fault::LeakEngine { .. } | Fault::FailWrite { .. } | Fault::KillPoint { .. } | Fault::Trace { .. } => {
                    None
                }
            })
            .collect();
        Self { pending, at_birth: faults.to_vec(), ..Self::default() }
    }

    /// What is due for the slot's owner, which has this work in hand, so far; each happens once.
    pub(crate) fn due(&mut self, slot: u32, kind: WorkKind, percent: u8) -> Vec<InjectedFault> {
        let mut due = Vec::new();
        self.pending.retain(|(of, when, strike)| {
            let now = *of == slot && when.is_now(kind, percent);
            if now {
                due.push(*strike);
            }
            !now
        });
        due
    }

    /// The faults of the process that is about to be born in a slot: those of its first one only.
    pub(crate) fn at_birth(&mut self, slot: u32) -> &[Fault] {
        if self.born.insert(slot) { &self.at_birth } else { &[] }
    }

    /// Whether a slot's disk is to fill up at some time.
    pub(crate) fn fills_disk(&self, slot: u32) -> bool {
        self.at_birth.iter().any(|fault| matches!(fault, Fault::FillDisk { slot: of, .. } if *of == slot))
    }

    pub(crate) fn cut(&mut self, pod_uid: &str, now: Instant, lasts: Duration) {
        self.cuts.insert(pod_uid.to_owned(), now + lasts);
    }

    /// Until when a pod is cut off, if it is.
    pub(crate) fn cut_until(&self, pod_uid: &str, now: Instant) -> Option<Instant> {
        self.cuts.get(pod_uid).copied().filter(|until| *until > now)
    }

    /// Notes that a pod is frozen.
    pub(crate) fn freeze(&mut self, pod_uid: &str, now: Instant, lasts: Duration) {
        self.frozen.insert(pod_uid.to_owned(), now + lasts);
    }

    /// Notes that a slot's disk is full.
    pub(crate) fn fill(&mut self, slot: u32, now: Instant, lasts: Duration) {
        self.full.insert(slot, now + lasts);
    }

    /// What is over since the last call.
    pub(crate) fn over(&mut self, now: Instant) -> Over {
        Over {
            healed: take_past(&mut self.cuts, now),
            thawed: take_past(&mut self.frozen, now),
            emptied: take_past(&mut self.full, now),
        }
    }

    pub(crate) fn end_all(&mut self, now: Instant) {
        for until in self.cuts.values_mut().chain(self.frozen.values_mut()).chain(self.full.values_mut()) {
            *until = now;
        }
    }

    pub(crate) fn next_over(&self) -> Option<Instant> {
        self.cuts.values().chain(self.frozen.values()).chain(self.full.values()).min().copied()
    }
}

fn take_past<K: Ord + Clone>(until: &mut BTreeMap<K, Instant>, now: Instant) -> Vec<K> {
    let past: Vec<K> = until.iter().filter(|(_, until)| **until <= now).map(|(key, _)| key.clone()).collect();
    for key in &past {
        until.remove(key);
    }
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injector(texts: &[&str]) -> Injector {
        let faults: Vec<Fault> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Injector::new(&faults)
    }

    #[test]
    fn a_fault_happens_once_to_its_slot_at_its_moment() {
        let mut injector = injector(&["cut:1:2s@encode:50%", "kill:0"]);
        assert_eq!(injector.due(1, WorkKind::Encode, 10), vec![]);
        assert_eq!(injector.due(0, WorkKind::Plan, 0), vec![InjectedFault::Kill]);
        assert_eq!(injector.due(1, WorkKind::Encode, 60), vec![InjectedFault::Cut(Duration::from_secs(2))]);
        assert_eq!(injector.due(1, WorkKind::Encode, 60), vec![]);
    }

    #[test]
    fn a_cut_is_of_one_process_and_ends() {
        let mut injector = injector(&[]);
        let now = Instant::now();
        injector.cut("a", now, Duration::from_secs(1));
        assert!(injector.cut_until("a", now).is_some());
        assert!(injector.cut_until("b", now).is_none(), "the process that takes its place is not cut off");
        assert_eq!(injector.over(now), Over::default());
        let later = now + Duration::from_secs(1);
        assert!(injector.cut_until("a", later).is_none());
        assert_eq!(injector.over(later).healed, vec!["a".to_owned()]);
        assert_eq!(injector.over(later), Over::default());
    }

    #[test]
    fn what_lasts_is_over_in_time_or_when_the_build_ends() {
        let mut injector = injector(&[]);
        let now = Instant::now();
        injector.freeze("a", now, Duration::from_secs(1));
        injector.fill(3, now, Duration::from_secs(9));
        assert_eq!(injector.next_over(), Some(now + Duration::from_secs(1)));
        assert_eq!(injector.over(now + Duration::from_secs(1)).thawed, vec!["a".to_owned()]);
        injector.end_all(now);
        assert_eq!(injector.over(now).emptied, vec![3]);
    }

    #[test]
    fn only_the_first_process_of_a_slot_is_born_with_faults() {
        let mut injector = injector(&["leak-engine:1", "fill-disk:0:1s"]);
        assert_eq!(injector.at_birth(1).len(), 2);
        assert!(injector.at_birth(1).is_empty());
        assert!(injector.fills_disk(0) && !injector.fills_disk(1));
    }
}
