//! The budget of writes to the API server that all builds have together: how often owners report, which builds may begin,
//! and how patient to be with an owner that was told to report seldom.
//!
//! What lasts as long as a build does is counted: its owners' reports, and its status. What a slot costs beside that, once for
//! each of its works, is bounded by how many passes are made at the same time.

use crate::world::{Millis, Queued, Share};

/// How often an owner reports, and a build's status is written, where nobody asks for less. Longer intervals are this one,
/// doubled.
pub const SHORTEST_INTERVAL: Millis = 5_000;

/// An owner that was not heard from for so many of its intervals may be taken for lost: one report may get lost, and the next
/// one be late.
pub const INTERVALS_OF_PATIENCE: Millis = 3;

/// How long after a turn of a build its numbers are told first, where they alone have changed. A short stage is followed closely; of a
/// long one each further word says less, and comes after twice the time.
const FIRST_NUMBERS: Millis = 10_000;

/// The longest time between two words about numbers.
const LAST_NUMBERS: Millis = 40_000;

/// How long after a build's status was written it is written again where numbers alone have changed: `told`, how often that was done
/// since anything else had; `interval`, what all builds together leave it.
#[must_use]
pub fn numbers_after(told: u32, interval: Millis) -> Millis {
    let doubled = 1_u64.checked_shl(told).map_or(LAST_NUMBERS, |times| FIRST_NUMBERS.saturating_mul(times));
    doubled.min(LAST_NUMBERS).max(interval)
}

/// So often may the interval be doubled: to 5 s × 2^14, nearly a day.
const DOUBLINGS: usize = 15;

/// What one build asks of the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asks {
    pub uid: String,
    /// When it was made (RFC 3339, in one time zone): the oldest comes first, and among equals the lowest UID.
    pub made: String,
    /// Whether it has begun. What has begun is not stopped again.
    pub begun: bool,
    /// How many owners report.
    pub owners: u32,
    /// How often they do where the budget does not ask for less.
    pub own_interval: Millis,
    pub replace_after: Millis,
}

/// What becomes of the builds that ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// At most so many writes in a second.
    pub budget: u32,
    /// The interval of reports that is told to owners; those of a build with many slots may have a longer one of its own.
    pub interval: Millis,
    /// What builds that may work write at that interval, in thousandths of a write in a second.
    pub milliwrites: u64,
    /// The UIDs of those that wait, in the order in which they will begin.
    pub waiting: Vec<String>,
}

impl Shares {
    /// What a build is told.
    #[must_use]
    pub fn of(&self, uid: &str) -> Share {
        let place = self.waiting.iter().position(|waiting| waiting == uid);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let queued = place.map(|place| Queued {
            number: count(place.saturating_add(1)),
            of: count(self.waiting.len()),
            budget: self.budget,
        });
        Share { interval: self.interval, queued }
    }
}

/// How long to be patient with an owner that may report at this interval. Whoever asks for less than that would replace
/// owners that are well.
#[must_use]
pub const fn patience(replace_after: Millis, longest_interval: Millis) -> Millis {
    let heard = longest_interval.saturating_mul(INTERVALS_OF_PATIENCE);
    if heard > replace_after { heard } else { replace_after }
}

/// Divides a budget of so many writes in a second. Builds that have begun go on, whatever that costs; further ones follow in
/// the order of their age, as long as all of them together stay within the budget at the longest interval that the least
/// patient of them allows. None overtakes an older one that waits: it would wait as long as smaller ones come. One that is too
/// large for the budget alone begins when no other is there.
#[must_use]
pub fn share(budget: u32, builds: &[Asks]) -> Shares {
    let mut together = Together::default();
    for asks in builds.iter().filter(|asks| asks.begun) {
        together.add(asks);
    }
    let mut queue: Vec<&Asks> = builds.iter().filter(|asks| !asks.begun).collect();
    queue.sort_by(|one, other| (&one.made, &one.uid).cmp(&(&other.made, &other.uid)));
    let mut waiting = Vec::new();
    for asks in queue {
        let mut with = together.clone();
        with.add(asks);
        if waiting.is_empty() && (together.builds == 0 || with.fits(budget)) {
            together = with;
        } else {
            waiting.push(asks.uid.clone());
        }
    }
    let step = together.step(budget);
    let milliwrites = together.milliwrites.get(step).copied().unwrap_or_default();
    Shares { budget, interval: interval(step), milliwrites, waiting }
}

/// The interval after so many doublings.
fn interval(step: usize) -> Millis {
    let doubled = u32::try_from(step).ok().and_then(|step| 1_u64.checked_shl(step)).unwrap_or(u64::MAX);
    SHORTEST_INTERVAL.saturating_mul(doubled)
}

/// What some builds write together, at each interval.
#[derive(Clone, Debug)]
struct Together {
    builds: usize,
    /// The shortest `replaceAfter` of them.
    replace_after: Millis,
    milliwrites: [u64; DOUBLINGS],
}

impl Default for Together {
    fn default() -> Self {
        Self { builds: 0, replace_after: Millis::MAX, milliwrites: [0; DOUBLINGS] }
    }
}

impl Together {
    fn add(&mut self, asks: &Asks) {
        self.builds = self.builds.saturating_add(1);
        self.replace_after = self.replace_after.min(asks.replace_after);
        for (step, sum) in self.milliwrites.iter_mut().enumerate() {
            let reports = each(asks.own_interval.max(interval(step))).saturating_mul(u64::from(asks.owners));
            *sum = sum.saturating_add(reports).saturating_add(each(interval(step)));
        }
    }

    /// The most doublings that the least patient of them allows.
    fn longest(&self) -> usize {
        let allowed = |step: &usize| interval(*step).saturating_mul(INTERVALS_OF_PATIENCE) <= self.replace_after;
        (0..DOUBLINGS).rev().find(allowed).unwrap_or(0)
    }

    /// As few doublings as the budget takes; as many as are allowed, where that is not enough.
    fn step(&self, budget: u32) -> usize {
        let longest = self.longest();
        (0..longest)
            .find(|step| self.milliwrites.get(*step).is_some_and(|sum| *sum <= milli(budget)))
            .unwrap_or(longest)
    }

    fn fits(&self, budget: u32) -> bool {
        self.milliwrites.get(self.longest()).is_some_and(|sum| *sum <= milli(budget))
    }
}

/// One write in each interval, in thousandths of a write in a second, rounded up.
fn each(interval: Millis) -> u64 {
    1_000_000_u64.div_ceil(interval.max(1))
}

fn milli(writes: u32) -> u64 {
    u64::from(writes).saturating_mul(1_000)
}
