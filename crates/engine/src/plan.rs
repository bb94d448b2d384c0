//! How one index is cut: ranges, lanes, files. The engine's part of the build's plan.

use std::sync::Arc;

use indexbuild_index::value::{from_hex, to_hex};
use indexbuild_index::{Compression, Encoder, Entries, Frame, IndexDefinition, Nulls, PackedLayout};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// Entries of a range at most, as stored, in bytes.
const LARGEST_RANGE: u64 = 64 << 20;
/// Entries of a range at least, where the table holds so much.
const SMALLEST_RANGE: u64 = 8 << 20;
/// A table is cut into about this many ranges before they reach their largest size.
const RANGES_OF_A_SMALL_TABLE: u64 = 16;
/// More would make the plan itself large.
const MOST_RANGES: u64 = 1 << 16;
const LANE_BYTES: u64 = 2_500_000_000;
/// A lane smaller than this is not worth a piece of work of its own.
const SMALL_LANE_BYTES: u64 = 256 << 20;
const MOST_LANES: u64 = 1000;

/// How one index is built. Frozen in the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexPlan {
    pub definition: IndexDefinition,
    /// Hex of stored keys (or prefixes of such), ascending: range `i` holds the keys from
    /// `boundaries[i - 1]` on and below `boundaries[i]`. There is one more range than boundaries.
    pub boundaries: Vec<String>,
    /// Neighbouring ranges that are one Sort work, together all ranges in order.
    pub lanes: Vec<Lane>,
    /// A file ends with the entry that makes its entries this many bytes, counted from its range's begin.
    pub target_file_bytes: u64,
    pub compression: Compression,
    /// Bits per key of each file's Bloom filter; 0: without one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bloom_bits_per_key: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks it so.
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Ranges that are one Sort work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    pub first_range: u32,
    pub ranges: u32,
}

impl IndexPlan {
    pub fn ranges(&self) -> u32 {
        u32::try_from(self.boundaries.len()).unwrap_or(u32::MAX - 1) + 1
    }

    /// The boundaries as stored-key bytes.
    ///
    /// # Errors
    /// `BadPlan` when they are not ascending hex, or when the lanes do not cover the ranges once, in order.
    pub fn checked_boundaries(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        let bad = |why: String| EngineError::BadPlan { index: self.definition.name.clone(), why };
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(self.boundaries.len());
        for text in &self.boundaries {
            let key = from_hex(text).ok_or_else(|| bad(format!("boundary {text:?} is not hex")))?;
            if keys.last().is_some_and(|before| *before >= key) {
                return Err(bad(format!("boundary {text} is not above the one before it")));
            }
            keys.push(key);
        }
        let mut next = 0;
        for lane in &self.lanes {
            if lane.first_range != next || lane.ranges == 0 {
                return Err(bad(format!("a lane begins at range {} where {next} is next", lane.first_range)));
            }
            next = next.saturating_add(lane.ranges);
        }
        if next != self.ranges() {
            return Err(bad(format!("the lanes cover {next} of {} ranges", self.ranges())));
        }
        if self.target_file_bytes == 0 {
            return Err(bad("files of no bytes".to_owned()));
        }
        Ok(keys)
    }

    /// The number of a lane of this plan.
    ///
    /// # Errors
    /// `BadPlan` when it is not a lane of this plan.
    pub fn lane_number(&self, lane: Lane) -> Result<u32, EngineError> {
        self.lanes.iter().position(|known| *known == lane).and_then(|number| u32::try_from(number).ok()).ok_or_else(
            || EngineError::BadPlan {
                index: self.definition.name.clone(),
                why: format!("it has no lane of {} ranges from {}", lane.ranges, lane.first_range),
            },
        )
    }
}

/// Cuts an index into ranges by a sample of its entries, and groups these into lanes.
///
/// Boundaries are a pure function of definition, sample and estimates: whoever plans again gets the
/// same. Only how ranges are grouped into lanes depends on the number of slots. `estimated_bytes` is of stored entries
/// (keys and values); 0: entries × the sample's mean. The plan is without filters.
///
/// # Errors
/// `Definition` when the index cannot be encoded.
pub fn plan_index(
    definition: IndexDefinition,
    sample: &Entries,
    estimated_entries: u64,
    estimated_bytes: u64,
    target_file_bytes: u64,
    compression: Compression,
    slots: u32,
) -> Result<IndexPlan, EngineError> {
    let encoder = Encoder::new(Arc::new(definition.clone()))
        .map_err(|source| EngineError::Definition { index: definition.name.clone(), source })?;
    let sampled = SampledKeys::of(sample, encoder.packed());
    let bytes = if estimated_bytes > 0 {
        estimated_bytes
    } else {
        estimated_entries.saturating_mul(sampled.entry_bytes).checked_div(sampled.spans.len() as u64).unwrap_or(0)
    };
    let range_bytes = (bytes / RANGES_OF_A_SMALL_TABLE).clamp(SMALLEST_RANGE, LARGEST_RANGE);
    let ranges = bytes.div_ceil(range_bytes).clamp(1, MOST_RANGES);

    let mut boundaries = sampled.quantiles(usize::try_from(ranges).unwrap_or(1));
    // NULLs and values of the leading column never share a range: a range of NULLs alone, or of
    // values alone, sorts as fast as its kind can.
    boundaries.push(null_boundary(&definition));
    boundaries.sort_unstable();
    boundaries.dedup();
    let ranges = boundaries.len() as u64 + 1;
    Ok(IndexPlan {
        lanes: group(ranges, bytes, slots),
        boundaries: boundaries.iter().map(|key| to_hex(key)).collect(),
        definition,
        target_file_bytes,
        compression,
        bloom_bits_per_key: 0,
    })
}

/// The first stored key after the values of the leading column, or after its NULLs: its version and flag.
fn null_boundary(definition: &IndexDefinition) -> Vec<u8> {
    let nulls = definition.columns.first().map_or(Nulls::Last, |column| column.nulls);
    match nulls {
        Nulls::First => vec![0x01, 0x01],
        Nulls::Last => vec![0x01, 0x02],
    }
}

fn group(ranges: u64, bytes: u64, slots: u32) -> Vec<Lane> {
    let slots = u64::from(slots.max(1));
    let by_size = bytes.div_ceil(LANE_BYTES);
    let by_slots = (bytes / SMALL_LANE_BYTES).clamp(slots, slots * 4);
    // The boundary of NULLs makes one range more, which is mostly empty.
    let lanes = by_size.max(by_slots).min(MOST_LANES).min(ranges.saturating_sub(1)).max(1);
    (0..lanes)
        .map(|lane| {
            let (first, end) = (lane * ranges / lanes, (lane + 1) * ranges / lanes);
            // Both fit: there are at most 2^16 + 1 ranges.
            Lane {
                first_range: u32::try_from(first).unwrap_or(u32::MAX),
                ranges: u32::try_from(end - first).unwrap_or(u32::MAX),
            }
        })
        .collect()
}

/// Stored keys of a sample, in order.
struct SampledKeys {
    bytes: Vec<u8>,
    /// Begin and end of each key in `bytes`, ascending by key.
    spans: Vec<(usize, usize)>,
    entry_bytes: u64,
}

impl SampledKeys {
    fn of(sample: &Entries, packed: Option<&PackedLayout>) -> Self {
        let mut keys = Self { bytes: Vec::new(), spans: Vec::new(), entry_bytes: 0 };
        if let Some(layout) = packed {
            let mut frame = Frame::new();
            for entry in &sample.packed {
                layout.expand(*entry, &mut frame);
                keys.push(frame.key(), frame.value().len());
            }
        }
        for entry in &sample.general.entries {
            let begin = entry.offset as usize;
            let key = sample.general.bytes.get(begin..begin + entry.key_len as usize).unwrap_or_default();
            keys.push(key, entry.value_len as usize);
        }
        let Self { bytes, spans, .. } = &mut keys;
        spans.sort_unstable_by(|left, right| bytes[left.0..left.1].cmp(&bytes[right.0..right.1]));
        keys
    }

    fn push(&mut self, key: &[u8], value_len: usize) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.spans.push((begin, self.bytes.len()));
        self.entry_bytes += (key.len() + value_len) as u64;
    }

    fn key(&self, at: usize) -> &[u8] {
        let (begin, end) = self.spans[at];
        &self.bytes[begin..end]
    }

    /// Keys that cut the sample into this many equal parts, each shortened to what tells it from the
    /// key before it.
    fn quantiles(&self, parts: usize) -> Vec<Vec<u8>> {
        let count = self.spans.len();
        let mut cuts: Vec<Vec<u8>> = Vec::new();
        for part in 1..parts {
            let at = part * count / parts;
            if at == 0 || at >= count {
                continue;
            }
            let (before, key) = (self.key(at - 1), self.key(at));
            let common = before.iter().zip(key).take_while(|(left, right)| left == right).count();
            let cut = key[..key.len().min(common + 1)].to_vec();
            if before != key && cuts.last() != Some(&cut) {
                cuts.push(cut);
            }
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexbuild_index::{ColumnType, KeyColumn, Order, RowId, RowPositions, Rows};

    fn definition(nulls: Nulls) -> IndexDefinition {
        IndexDefinition {
            name: "by_k".to_owned(),
            unique: false,
            columns: vec![KeyColumn { name: "k".to_owned(), column_type: ColumnType::Int64, order: Order::Asc, nulls }],
            row_id: RowId::Position,
            include: Vec::new(),
        }
    }

    fn sample(definition: &IndexDefinition, values: impl Iterator<Item = Option<i64>>) -> Entries {
        let column: arrow_array::Int64Array = values.collect();
        let columns: Vec<(&str, arrow_array::ArrayRef)> = vec![("k", Arc::new(column))];
        let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
        let mut entries = Entries::default();
        let mut encoder = Encoder::new(Arc::new(definition.clone())).unwrap();
        encoder.encode(&batch, &RowPositions { file: 0, rows: Rows::From(0) }, &mut entries).unwrap();
        entries
    }

    fn planned(nulls: Nulls, bytes: u64, slots: u32) -> IndexPlan {
        let definition = definition(nulls);
        let sample = sample(&definition, (0..20_000).map(|n| (n % 10 != 0).then_some(n * 7919 % 20_000)));
        plan_index(definition, &sample, 1_000_000, bytes, 64 << 20, Compression::Lz4, slots).unwrap()
    }

    #[test]
    fn i10_slots_group_ranges_and_never_move_a_boundary() {
        for bytes in [1 << 20, 1 << 30, 40 << 30, 5 << 40] {
            let one = planned(Nulls::Last, bytes, 1);
            for slots in [2, 5, 64, 5000] {
                let many = planned(Nulls::Last, bytes, slots);
                assert_eq!(many.boundaries, one.boundaries);
                assert!(many.lanes.len() >= one.lanes.len() && many.lanes.len() <= 1000);
                many.checked_boundaries().unwrap();
            }
            one.checked_boundaries().unwrap();
        }
    }

    #[test]
    fn ranges_follow_the_size_of_the_table_and_lanes_that_of_the_ranges() {
        assert_eq!(planned(Nulls::Last, 1 << 20, 8).ranges(), 2, "one for values and one for NULLs");
        let ranges = planned(Nulls::Last, 256 << 20, 1).ranges();
        assert!((16..=18).contains(&ranges), "{ranges}");
        let ranges = planned(Nulls::Last, 6400 << 20, 1).ranges();
        assert!((100..=102).contains(&ranges), "{ranges}");
        let large = planned(Nulls::Last, 250_000_000_000, 1);
        assert_eq!(large.lanes.len(), 100);
    }

    #[test]
    fn nulls_and_values_of_the_leading_column_never_share_a_range() {
        for (nulls, boundary) in [(Nulls::First, "0101"), (Nulls::Last, "0102")] {
            let plan = planned(nulls, 256 << 20, 1);
            assert!(plan.boundaries.iter().any(|found| found == boundary), "{:?}", plan.boundaries);
        }
    }

    #[test]
    fn a_plan_that_does_not_hold_together_is_refused() {
        let good = planned(Nulls::Last, 256 << 20, 2);
        let bad = |change: fn(&mut IndexPlan)| {
            let mut plan = good.clone();
            change(&mut plan);
            assert!(matches!(plan.checked_boundaries(), Err(EngineError::BadPlan { .. })));
        };
        bad(|plan| plan.boundaries.swap(0, 1));
        bad(|plan| plan.boundaries[0] = "xy".to_owned());
        bad(|plan| plan.lanes[1].first_range += 1);
        bad(|plan| plan.lanes.truncate(1));
        bad(|plan| plan.target_file_bytes = 0);
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<IndexPlan>(&text).unwrap(), good);
    }
}
