//! `plan.json`: what a build reads and how it is cut, fixed once.
//!
//! Created if absent, and never changed: of several Plans the first one's stands, and the others
//! adopt it. Snapshot, splits and the indexes' boundaries are a pure function of the table and the
//! spec; only the grouping into works looks at `parallelism`, and has no effect on the index (I10).

use indexbuild_engine::IndexPlan;
use indexbuild_index::digest::digest_bytes;
use indexbuild_index::manifest::BuildRef;
use indexbuild_source::{Snapshot, Split};
use serde::{Deserialize, Serialize};

/// The version of the plan's format.
pub const PLAN_VERSION: u32 = 1;

/// The most works that a stage is cut into.
pub const MAX_WORKS: usize = 1_000;
/// The fewest works per slot, where there is that much to do: so that a slot that joins or leaves
/// finds its share, and a lost attempt costs little.
pub const WORKS_PER_SLOT: usize = 4;
/// Projected bytes below which an Encode work is not cut further.
const LEAST_WORK_BYTES: u64 = 1 << 20;
/// Projected bytes that one Encode work should not exceed while there are fewer than [`MAX_WORKS`].
const LARGEST_WORK_BYTES: u64 = 5 << 29;

/// A Sort work: one lane of one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SortWork {
    /// The index, by its number in the plan.
    pub index: u32,
    /// The lane, by its number in the index's plan.
    pub lane: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanFile {
    pub version: u32,
    pub build: BuildRef,
    /// Digest of what of the spec decides the index's content: source, row id, indexes, output.
    pub spec_digest: String,
    /// The table's files, as they were.
    pub snapshot: Snapshot,
    pub columns: Vec<String>,
    /// Rows of the table: from the files' metadata, or estimated from the sample. No result depends on it.
    pub estimated_rows: u64,
    /// Bytes of a row as it is read, on average, estimated. No result depends on it.
    pub estimated_row_bytes: u64,
    /// Entries of all indexes in bytes, estimated. No result depends on it.
    pub estimated_entry_bytes: u64,
    /// The pieces of the table; a split's id is its place here.
    pub splits: Vec<Split>,
    /// The indexes: definition, boundaries, lanes.
    pub indexes: Vec<IndexPlan>,
    /// The splits of each Encode work of round 0, by the splits' ids. Each split is in exactly one.
    pub encode_works: Vec<Vec<u32>>,
    pub sort_works: Vec<SortWork>,
}

/// A plan that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// The bytes are no plan.
    #[error("it is not understood ({0}): it was written by another version, or is damaged")]
    Json(#[from] serde_json::Error),
    #[error("its format has version {0}; this executor knows {PLAN_VERSION}")]
    Version(u32),
    #[error("it contradicts itself: {0}")]
    Inconsistent(String),
}

impl PlanFile {
    /// The bytes of `plan.json`: canonical, the same for equal plans.
    ///
    /// # Errors
    /// None in practice: a plan holds no maps with keys that are not text.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads `plan.json` and checks that works name each split once and each lane once.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadPlan> {
        let plan: Self = serde_json::from_slice(bytes)?;
        if plan.version != PLAN_VERSION {
            return Err(BadPlan::Version(plan.version));
        }
        plan.check()?;
        Ok(plan)
    }

    /// The digest of [`PlanFile::to_bytes`].
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        Ok(digest_bytes(&self.to_bytes()?))
    }

    fn check(&self) -> Result<(), BadPlan> {
        let inconsistent = |what: String| Err(BadPlan::Inconsistent(what));
        for (place, split) in self.splits.iter().enumerate() {
            if usize::try_from(split.id) != Ok(place) {
                return inconsistent(format!("split {} stands at place {place}", split.id));
            }
        }
        let mut named: Vec<u32> = self.encode_works.iter().flatten().copied().collect();
        named.sort_unstable();
        if !named.iter().copied().eq(self.splits.iter().map(|split| split.id)) {
            return inconsistent("its Encode works do not name each split once".to_owned());
        }
        if self.sort_works != sort_works(&self.indexes) {
            return inconsistent("its Sort works do not name each lane once".to_owned());
        }
        Ok(())
    }

    /// Bytes of one run's piece of everything these splits hold: what an Encode of them may write.
    pub fn estimated_run_bytes(&self, splits: &[u32]) -> u64 {
        let total: u64 = self.splits.iter().map(|split| split.bytes).sum();
        let share: u64 = splits
            .iter()
            .filter_map(|id| usize::try_from(*id).ok().and_then(|place| self.splits.get(place)))
            .map(|split| split.bytes)
            .sum();
        let estimate = u128::from(self.estimated_entry_bytes) * u128::from(share) / u128::from(total.max(1));
        u64::try_from(estimate).unwrap_or(u64::MAX)
    }
}

/// Groups splits into Encode works: neighbours together, about equal bytes each. An empty table
/// has one work of nothing, so that every stage has a result.
pub fn encode_works(splits: &[Split], parallelism: u64) -> Vec<Vec<u32>> {
    let total: u64 = splits.iter().map(|split| split.bytes).sum();
    let at_least = |bytes: u64| usize::try_from(total.div_ceil(bytes)).unwrap_or(MAX_WORKS);
    let wished = usize::try_from(parallelism).unwrap_or(MAX_WORKS).saturating_mul(WORKS_PER_SLOT);
    let count =
        wished.max(at_least(LARGEST_WORK_BYTES)).min(at_least(LEAST_WORK_BYTES)).min(splits.len()).clamp(1, MAX_WORKS);
    let mut works = vec![Vec::new(); count];
    let mut before = 0u64;
    for (place, split) in splits.iter().enumerate() {
        // By the middle of the split on the line of all bytes; where all are empty, by place.
        let (at, of) = if total == 0 {
            (place as u128, splits.len() as u128)
        } else {
            (u128::from(before + split.bytes / 2), u128::from(total))
        };
        let work = usize::try_from(at * count as u128 / of.max(1)).unwrap_or(0).min(count - 1);
        if let Some(work) = works.get_mut(work) {
            work.push(split.id);
        }
        before += split.bytes;
    }
    works.retain(|work| !work.is_empty());
    if works.is_empty() {
        works.push(Vec::new());
    }
    works
}

/// The lanes of all indexes, in order.
pub fn sort_works(indexes: &[IndexPlan]) -> Vec<SortWork> {
    (0u32..)
        .zip(indexes)
        .flat_map(|(index, plan)| (0u32..).zip(&plan.lanes).map(move |(lane, _)| SortWork { index, lane }))
        .collect()
}

#[cfg(test)]
mod tests {
    use indexbuild_source::SplitPart;
    use proptest::prelude::*;

    use super::*;

    fn splits(bytes: &[u64]) -> Vec<Split> {
        (0u32..)
            .zip(bytes)
            .map(|(id, bytes)| Split {
                id,
                file: 0,
                part: SplitPart::RowGroups { first: id, count: 1 },
                rows: Some(1),
                bytes: *bytes,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn each_split_is_in_one_work_and_works_follow_the_bounds(
            bytes in proptest::collection::vec(0u64..200 << 20, 0..300),
            slots in 1u64..400,
        ) {
            let splits = splits(&bytes);
            let works = encode_works(&splits, slots);
            let named: Vec<u32> = works.iter().flatten().copied().collect();
            prop_assert_eq!(named, splits.iter().map(|split| split.id).collect::<Vec<_>>());
            prop_assert!(!works.is_empty() && works.len() <= MAX_WORKS);
            prop_assert!(works.len() == 1 || works.iter().all(|work| !work.is_empty()));
        }
    }

    #[test]
    fn a_slot_finds_four_works_where_there_is_that_much_and_small_tables_get_few() {
        assert_eq!(encode_works(&splits(&[64 << 20; 40]), 5).len(), 20);
        assert_eq!(encode_works(&splits(&[1 << 10; 40]), 5).len(), 1);
        assert_eq!(encode_works(&splits(&[64 << 20; 3]), 5).len(), 3);
        assert_eq!(encode_works(&[], 5), vec![Vec::<u32>::new()]);
    }
}
