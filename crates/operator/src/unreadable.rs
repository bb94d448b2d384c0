//! What is there and cannot be read: known by name while it is so, told once, counted as long as it lasts.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use indexbuild_api::Unreadable;

/// For how long an object that nobody met again counts as unreadable: some of the passes that would meet it.
const REMEMBERED: Duration = Duration::from_secs(30);
/// After so long it is told anew.
const AGAIN: Duration = Duration::from_secs(600);
/// So many are told at once; the others with the next look. Somebody may have made thousands, and each is an event that
/// whoever looks waits for.
pub(crate) const AT_ONCE: usize = 16;

/// What is there of a build and cannot be read, so that nothing may be decided about it: at least one object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub(crate) struct UnreadableObjects(pub Vec<Unreadable>);

/// Objects that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seen: HashMap<Unreadable, Times>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    seen: Instant,
    told: Option<Instant>,
}

impl Known {
    /// Takes note of some; of them, those to be told now.
    pub(crate) fn see(&mut self, unreadable: &[Unreadable], now: Instant) -> Vec<Unreadable> {
        let mut due = Vec::new();
        for one in unreadable {
            let times = self.seen.entry(one.clone()).or_insert(Times { seen: now, told: None });
            times.seen = now;
            let is_due = times.told.is_none_or(|told| now.saturating_duration_since(told) >= AGAIN);
            if is_due && due.len() < AT_ONCE {
                times.told = Some(now);
                due.push(one.clone());
            }
        }
        due
    }

    /// Forgets what nobody met of late; gives it.
    pub(crate) fn forget(&mut self, now: Instant) -> Vec<Unreadable> {
        let fresh = |times: &Times| now.saturating_duration_since(times.seen) < REMEMBERED;
        self.seen.extract_if(|_, times| !fresh(times)).map(|(one, _)| one).collect()
    }

    pub(crate) fn count(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for Unreadable { kind, .. } in self.seen.keys() {
            *counts.entry(kind.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(why: &str) -> Unreadable {
        Unreadable {
            kind: "IndexBuild".to_owned(),
            api_version: "indexbuild.dev/v1alpha1".to_owned(),
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            uid: "u".to_owned(),
            why: why.to_owned(),
        }
    }

    #[test]
    fn it_is_told_once_counted_while_it_lasts_and_forgotten_when_nobody_meets_it_any_more() {
        let (mut known, start) = (Known::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(known.see(&[build("a")], at(0)), [build("a")]);
        assert!(known.see(&[build("a")], at(5)).is_empty(), "it was told");
        assert_eq!(known.count()["IndexBuild"], 1);
        assert!(known.forget(at(34)).is_empty());
        assert_eq!(known.forget(at(35)), [build("a")]);
        assert!(known.count().is_empty());
        assert_eq!(known.see(&[build("a")], at(40)), [build("a")], "it is new again");
        for seconds in (45..=640).step_by(5) {
            let told = known.see(&[build("a")], at(seconds));
            assert_eq!(!told.is_empty(), seconds == 640, "{seconds}");
        }
    }

    #[test]
    fn thousands_are_told_some_at_a_time_and_all_of_them_in_the_end() {
        let mut known = Known::default();
        let all: Vec<_> = (0..100).map(|number| build(&number.to_string())).collect();
        let told: Vec<_> = (0..10).map(|_| known.see(&all, Instant::now()).len()).collect();
        assert_eq!(told, [16, 16, 16, 16, 16, 16, 4, 0, 0, 0]);
        assert_eq!(known.count()["IndexBuild"], 100);
    }
}
