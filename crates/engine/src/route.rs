//! Which destination (lane, part of a range) an entry belongs to.

use indexbuild_index::PackedLayout;

/// The least entry of a destination: entries are ordered by stored key, then by value, so that even
/// the rows of one key of a unique index can be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Least packed entry at or above the cut; `None`: there is none.
    pub(crate) packed: Option<u128>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Cut {
    /// The cut before all entries of this stored key (or prefix of one).
    pub(crate) fn at_key(key: Vec<u8>, layout: Option<&PackedLayout>) -> Self {
        Self { packed: layout.and_then(|layout| layout.lower_bound(&key)), key, value: Vec::new() }
    }

    /// The cut right after an entry: nothing sorts between them.
    pub(crate) fn after(key: &[u8], value: &[u8], packed: Option<u128>, layout: Option<&PackedLayout>) -> Self {
        let mut next_value = value.to_vec();
        next_value.push(0);
        Self {
            packed: match packed {
                Some(packed) => packed.checked_add(1),
                None => layout.and_then(|layout| layout.lower_bound(key)),
            },
            key: key.to_vec(),
            value: next_value,
        }
    }

    fn order(&self) -> (&[u8], &[u8]) {
        (&self.key, &self.value)
    }
}

impl PartialOrd for Cut {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cut {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Finds an entry's destination among ascending cuts.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    packed: PackedCuts,
    general: GeneralCuts,
    first: usize,
}

impl Router {
    /// Destinations `first`, `first + 1`, …: one more than the ascending cuts.
    pub(crate) fn new(cuts: &[Cut], first: usize) -> Self {
        Self {
            // From the first cut on that no packed entry reaches, none reaches.
            packed: PackedCuts::new(cuts.iter().map_while(|cut| cut.packed).collect()),
            general: GeneralCuts::new(cuts.iter().map(|cut| (cut.key.clone(), cut.value.clone())).collect()),
            first,
        }
    }

    pub(crate) fn destinations(&self) -> usize {
        self.general.cuts.len() + 1
    }

    #[inline]
    pub(crate) fn packed(&self, entry: u128) -> usize {
        self.first + self.packed.below(entry)
    }

    #[inline]
    pub(crate) fn general(&self, key: &[u8], value: &[u8]) -> usize {
        self.first + self.general.below(key, value)
    }
}

/// Cuts of packed entries, with a table over their span, so that most look-ups need no binary search, which
/// costs a mispredicted branch or two per entry.
#[derive(Clone, Debug)]
struct PackedCuts {
    cuts: Vec<u128>,
    least: u128,
    shift: u32,
    /// Cuts at or below the begin of each bucket.
    buckets: Vec<u32>,
}

const BUCKETS: u32 = 1 << 12;

impl PackedCuts {
    fn new(cuts: Vec<u128>) -> Self {
        let least = cuts.first().copied().unwrap_or(0);
        let span = cuts.last().copied().unwrap_or(0) - least;
        let shift = (u128::BITS - span.leading_zeros()).saturating_sub(BUCKETS.ilog2());
        // The last bucket begins above all cuts.
        let buckets = (0..=(span >> shift) + 1)
            .map(|bucket| {
                let begin = bucket.checked_mul(1 << shift).and_then(|offset| offset.checked_add(least));
                let at_or_below = begin.map_or(cuts.len(), |begin| cuts.partition_point(|cut| *cut <= begin));
                u32::try_from(at_or_below).unwrap_or(u32::MAX)
            })
            .collect();
        Self { cuts, least, shift, buckets }
    }

    #[inline]
    fn below(&self, entry: u128) -> usize {
        let Some(offset) = entry.checked_sub(self.least) else { return 0 };
        let bucket = usize::try_from(offset >> self.shift).unwrap_or(usize::MAX);
        match (self.buckets.get(bucket), self.buckets.get(bucket.saturating_add(1))) {
            (Some(from), Some(to)) if from == to => *from as usize,
            (Some(from), Some(to)) => {
                let (from, to) = (*from as usize, *to as usize);
                from + self.cuts[from..to].partition_point(|cut| *cut <= entry)
            }
            _ => self.cuts.len(),
        }
    }
}

/// Cuts of general entries, with the bytes that follow their common prefix as integers.
#[derive(Clone, Debug)]
struct GeneralCuts {
    cuts: Vec<(Vec<u8>, Vec<u8>)>,
    common: Vec<u8>,
    prefixes: Vec<u64>,
}

impl GeneralCuts {
    fn new(cuts: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let mut common = cuts.first().map(|(key, _)| key.clone()).unwrap_or_default();
        for (key, _) in &cuts {
            let same = key.iter().zip(&common).take_while(|(left, right)| left == right).count();
            common.truncate(same);
        }
        let prefixes = cuts.iter().map(|(key, _)| prefix(&key[common.len()..])).collect();
        Self { cuts, common, prefixes }
    }

    #[inline]
    fn below(&self, key: &[u8], value: &[u8]) -> usize {
        let Some(rest) = key.strip_prefix(self.common.as_slice()) else {
            return if key < self.common.as_slice() { 0 } else { self.cuts.len() };
        };
        let prefix = prefix(rest);
        let from = self.prefixes.partition_point(|cut| *cut < prefix);
        // Equal prefixes say nothing: a short key is padded.
        let to = from + self.prefixes[from..].iter().take_while(|cut| **cut == prefix).count();
        from + self.cuts[from..to]
            .partition_point(|(cut_key, cut_value)| (cut_key.as_slice(), cut_value.as_slice()) <= (key, value))
    }
}

/// The first eight bytes as a number of the same order, shorter ones padded with zeros.
#[inline]
pub(crate) fn prefix(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_entries_find_the_place_that_a_plain_count_finds(
            mut cuts in proptest::collection::vec(prop_oneof![any::<u128>(), 0u128..300, Just(u128::MAX)], 0..40),
            entries in proptest::collection::vec(prop_oneof![any::<u128>(), 0u128..300, Just(u128::MAX)], 1..60),
        ) {
            cuts.sort_unstable();
            let found = PackedCuts::new(cuts.clone());
            for entry in entries.iter().chain(&cuts) {
                prop_assert_eq!(found.below(*entry), cuts.iter().filter(|cut| *cut <= entry).count());
            }
        }

        #[test]
        fn general_entries_find_the_place_that_a_plain_count_finds(
            common in proptest::collection::vec(0u8..3, 0..5),
            mut cuts in proptest::collection::vec(
                (proptest::collection::vec(0u8..3, 0..12), proptest::collection::vec(0u8..2, 0..2)), 0..30),
            entries in proptest::collection::vec(
                (proptest::collection::vec(0u8..3, 0..14), proptest::collection::vec(0u8..2, 0..2)), 1..60),
        ) {
            for (key, _) in &mut cuts {
                key.splice(0..0, common.iter().copied());
            }
            cuts.sort();
            let found = GeneralCuts::new(cuts.clone());
            for (key, value) in entries.iter().chain(&cuts) {
                let count = |key: &[u8]| {
                    cuts.iter().filter(|(cut, cut_value)| (cut.as_slice(), cut_value) <= (key, value)).count()
                };
                prop_assert_eq!(found.below(key, value), count(key));
                let within = [common.as_slice(), key].concat();
                prop_assert_eq!(found.below(&within, value), count(&within));
            }
        }
    }
}
