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

/// Finds destinations by binary search over their cuts.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    packed: Vec<u128>,
    general: Vec<(Vec<u8>, Vec<u8>)>,
    first: usize,
}

impl Router {
    /// Destinations `first`, `first + 1`, …: one more than the ascending cuts.
    pub(crate) fn new(cuts: &[Cut], first: usize) -> Self {
        Self {
            // From the first cut on that no packed entry reaches, none reaches.
            packed: cuts.iter().map_while(|cut| cut.packed).collect(),
            general: cuts.iter().map(|cut| (cut.key.clone(), cut.value.clone())).collect(),
            first,
        }
    }

    /// Destinations that it knows.
    pub(crate) fn destinations(&self) -> usize {
        self.general.len() + 1
    }

    #[inline]
    pub(crate) fn packed(&self, entry: u128) -> usize {
        self.first + self.packed.partition_point(|cut| *cut <= entry)
    }

    #[inline]
    pub(crate) fn general(&self, key: &[u8], value: &[u8]) -> usize {
        self.first
            + self
                .general
                .partition_point(|(cut_key, cut_value)| (cut_key.as_slice(), cut_value.as_slice()) <= (key, value))
    }
}
