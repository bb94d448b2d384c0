//! Cuts ranges into parts that fit in memory, and cuts a part again that does not.
//!
//! Cuts made here have no effect on the outcome: files are cut by what a range's writer counts.

use indexbuild_index::{Frame, PackedLayout};

use super::fetch::{Fetch, Piece};
use super::in_memory::memory_of;
use super::long_entries;
use super::part::{Part, each_frame, whole_packed};
use super::spill::SpillFolder;
use crate::buffers::Buffers;
use crate::error::EngineError;
use crate::frames::PieceKind;
use crate::packed;
use crate::route::{Cut, Router};

/// How much of the budget a part should take, in percent: samples are not exact.
const FILL: u64 = 60;
/// Parts that one part is cut into at most; each may be cut again.
const MOST_PARTS: u64 = 64;
/// A sample with fewer whole entries is too small to cut by.
const FEWEST_SAMPLED: u64 = 128;
const SAMPLED_PIECES: usize = 64;
const SAMPLED_BYTES: u64 = 64 << 10;
const SAMPLED_ENTRIES: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sampled {
    key: Vec<u8>,
    value: Vec<u8>,
    packed: Option<u128>,
}

impl Sampled {
    fn cut(&self, layout: Option<&PackedLayout>) -> Cut {
        let Self { key, value, packed } = self;
        let packed = packed.or_else(|| layout.and_then(|layout| layout.lower_bound(key)));
        Cut { packed, key: key.clone(), value: value.clone() }
    }

    fn after(&self, layout: Option<&PackedLayout>) -> Cut {
        Cut::after(&self.key, &self.value, self.packed, layout)
    }

    fn of_packed(entry: u128, layout: &PackedLayout, frame: &mut Frame) -> Self {
        layout.expand(entry, frame);
        Self { key: frame.key().to_vec(), value: frame.value().to_vec(), packed: Some(entry) }
    }
}

/// A few entries of pieces spread over all runs. Their digests are not checked: the sample decides only how much memory
/// parts take.
pub(crate) fn sample_pieces(fetch: &Fetch<'_, '_>, pieces: &[Piece]) -> Result<Vec<Sampled>, EngineError> {
    let mut sample = Vec::new();
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    let mut frame = Frame::new();
    let step = pieces.len().div_ceil(SAMPLED_PIECES).max(1);
    for piece in pieces.iter().step_by(step) {
        let width = fetch.layout.map_or(1, PackedLayout::width);
        fetch.read(piece, piece.at.len.min(SAMPLED_BYTES / width as u64 * width as u64), &mut bytes)?;
        match (piece.at.kind, fetch.layout) {
            (PieceKind::Packed, Some(layout)) => {
                entries.clear();
                packed::unpack(width, whole_packed(&bytes, width), &mut entries);
                let step = entries.len().div_ceil(SAMPLED_ENTRIES).max(1);
                sample.extend(entries.iter().step_by(step).map(|entry| Sampled::of_packed(*entry, layout, &mut frame)));
            }
            (PieceKind::Packed, None) => {}
            (PieceKind::General, _) => {
                let before = sample.len();
                each_frame(&bytes, |frame| {
                    sample.push(Sampled { key: frame.key.to_vec(), value: frame.value.to_vec(), packed: None });
                    Ok(())
                })?;
                thin(&mut sample, before, SAMPLED_ENTRIES);
            }
        }
    }
    sample.sort_unstable();
    Ok(sample)
}

/// Keeps about this many of those from `begin` on, evenly.
fn thin(sample: &mut Vec<Sampled>, begin: usize, most: usize) {
    let step = (sample.len() - begin).div_ceil(most).max(1);
    let mut at = 0;
    sample.retain(|_| {
        let keep = at < begin || (at - begin).is_multiple_of(step);
        at += 1;
        keep
    });
}

/// Cuts within `[lower, upper)` that leave parts of about `FILL` percent of the budget.
pub(crate) fn cuts_within(
    sample: &[Sampled],
    memory_per_sample: f64,
    budget: u64,
    lower: Option<&Cut>,
    upper: Option<&Cut>,
    layout: Option<&PackedLayout>,
) -> Vec<Cut> {
    let below = |cut: &Cut| sample.partition_point(|entry| (&entry.key, &entry.value) < (&cut.key, &cut.value));
    let sample = &sample[lower.map_or(0, below)..upper.map_or(sample.len(), below)];
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let memory = (sample.len() as f64 * memory_per_sample) as u64;
    if memory <= budget * FILL / 100 {
        return Vec::new();
    }
    let parts = usize::try_from(memory.div_ceil((budget * FILL / 100).max(1))).unwrap_or(usize::MAX).min(sample.len());
    let mut cuts: Vec<Cut> = (1..parts).map(|part| sample[part * sample.len() / parts].cut(layout)).collect();
    cuts.dedup();
    cuts.retain(|cut| lower.is_none_or(|lower| lower < cut));
    cuts
}

/// Cuts a part that is over budget at quantiles of its own entries, into parts with spill files of
/// their own, in order. Each step separates something, so that at the end only parts of one and the
/// same entry are over budget.
pub(crate) fn cut_again(
    part: Part,
    layout: Option<&PackedLayout>,
    budget: u64,
    folder: &SpillFolder,
    spilled: &mut u64,
) -> Result<Vec<Part>, EngineError> {
    let width = layout.map_or(0, PackedLayout::width);
    let parts = memory_of(&part, width).div_ceil((budget * FILL / 100).max(1)).clamp(2, MOST_PARTS);
    let parts = usize::try_from(parts).unwrap_or(2);
    let sampled = budget / 8;
    let (cuts, identical) = if layout.is_none() && is_long(&part, sampled) {
        long_entries::cuts(&part, parts, sampled)?
    } else {
        quantiles(&sample_part(&part, layout, sampled)?, parts, layout)
    };
    let router = Router::new(&cuts, 0);
    let mut buffers = Buffers::new(router.destinations(), budget);
    let mut made: Vec<Part> = Vec::new();
    made.resize_with(router.destinations(), Part::default);
    for (part, identical) in made.iter_mut().zip(identical) {
        part.identical = identical;
    }
    let Part { packed, general, apart: _, identical: _ } = part;
    let mut entries = Vec::new();
    packed.consume(|bytes| {
        let whole = whole_packed(bytes, width.max(1));
        for some in whole.chunks(width.max(1) * 4096) {
            entries.clear();
            packed::unpack(width, some, &mut entries);
            packed::scatter(width, &entries, &router, &mut buffers);
        }
        if buffers.is_full() {
            *spilled += empty(&mut buffers, &mut made, folder)?;
        }
        Ok(whole.len())
    })?;
    general.consume(|bytes| {
        let used = each_frame(bytes, |frame| {
            buffers.push(router.general(frame.key, frame.value), PieceKind::General, frame.bytes);
            Ok(())
        })?;
        if buffers.is_full() {
            *spilled += empty(&mut buffers, &mut made, folder)?;
        }
        Ok(used)
    })?;
    *spilled += empty(&mut buffers, &mut made, folder)?;
    Ok(made)
}

/// Whether a sample of `sampled` bytes would hold too few entries to cut at.
fn is_long(part: &Part, sampled: u64) -> bool {
    part.general.bytes > part.general.entries.saturating_mul(sampled / FEWEST_SAMPLED)
}

fn empty(buffers: &mut Buffers, parts: &mut [Part], folder: &SpillFolder) -> Result<u64, EngineError> {
    let mut written = 0;
    for (destination, part) in parts.iter_mut().enumerate() {
        for kind in PieceKind::BOTH {
            let chunks = buffers.take(destination, kind);
            written += part.of(kind).spill(&chunks, kind, folder)?;
            buffers.recycle(chunks);
        }
    }
    Ok(written)
}

/// Every n-th entry of a part, in order: with `bytes` of general entries at most, unless that is a single one. Entries are
/// sampled whole, since a cut tells those of one key apart by their values; so of long ones there are few.
fn sample_part(part: &Part, layout: Option<&PackedLayout>, bytes: u64) -> Result<Vec<Sampled>, EngineError> {
    const SAMPLED_OF_A_PART: u64 = 4096;
    let mut sample = Vec::new();
    let mut frame = Frame::new();
    let every = usize::try_from(part.packed.entries / SAMPLED_OF_A_PART).unwrap_or(usize::MAX).max(1);
    let mut at = 0usize;
    if let Some(layout) = layout {
        let width = layout.width();
        let mut one = Vec::new();
        part.packed.read(|bytes| {
            let whole = whole_packed(bytes, width);
            for entry in whole.chunks_exact(width) {
                if at.is_multiple_of(every) {
                    one.clear();
                    packed::unpack(width, entry, &mut one);
                    sample.extend(one.iter().map(|entry| Sampled::of_packed(*entry, layout, &mut frame)));
                }
                at += 1;
            }
            Ok(whole.len())
        })?;
    }
    let mut every = usize::try_from(part.general.entries / SAMPLED_OF_A_PART).unwrap_or(usize::MAX).max(1);
    at = 0;
    let begin = sample.len();
    let mut sampled = 0;
    part.general.read(|found| {
        each_frame(found, |frame| {
            if at.is_multiple_of(every) {
                sample.push(Sampled { key: frame.key.to_vec(), value: frame.value.to_vec(), packed: None });
                sampled += frame.bytes.len() as u64;
                while sampled > bytes && sample.len() > begin + 1 {
                    let half = (sample.len() - begin).div_ceil(2);
                    thin(&mut sample, begin, half);
                    every = every.saturating_mul(2);
                    let general = sample.get(begin..).unwrap_or_default();
                    sampled = general.iter().map(|entry| (entry.key.len() + entry.value.len()) as u64).sum();
                }
            }
            at += 1;
            Ok(())
        })
    })?;
    sample.sort_unstable();
    Ok(sample)
}

/// Cuts at quantiles of a sample, and which of the parts between them hold one entry only. An entry
/// that stands at two quantiles, or is the least, gets a part of its own: so something is always
/// separated.
fn quantiles(sample: &[Sampled], parts: usize, layout: Option<&PackedLayout>) -> (Vec<Cut>, Vec<bool>) {
    let mut cuts: Vec<(Cut, bool)> = Vec::new();
    let picks: Vec<&Sampled> = (0..parts).filter_map(|part| sample.get(part * sample.len() / parts)).collect();
    for (number, pick) in picks.iter().enumerate() {
        if number > 0 && picks[number - 1] == *pick {
            continue;
        }
        let frequent = picks.get(number + 1).is_some_and(|next| next == pick);
        if frequent {
            cuts.push((pick.cut(layout), true));
            cuts.push((pick.after(layout), false));
        } else if number > 0 {
            cuts.push((pick.cut(layout), false));
        }
    }
    if cuts.is_empty()
        && let Some(least) = sample.first()
    {
        cuts.push((least.cut(layout), true));
        cuts.push((least.after(layout), false));
    }
    cuts.dedup_by(|later, earlier| later.0 == earlier.0);
    let mut identical = vec![false];
    identical.extend(cuts.iter().map(|(_, identical)| *identical));
    (cuts.into_iter().map(|(cut, _)| cut).collect(), identical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Chunk;

    #[test]
    fn a_sample_of_long_entries_takes_no_more_than_its_bytes_and_parts_hold_every_entry_once() {
        for (entries, length, bytes) in
            [(300_usize, 100_000_usize, 1_u64 << 20), (50, 2_000_000, 1 << 20), (5_000, 10, 1 << 20)]
        {
            let whole = || {
                let mut part = Part::default();
                let mut frame = Frame::new();
                for entry in 0..entries {
                    frame.set(&u32::try_from(entry).unwrap().to_be_bytes(), &vec![7; length]);
                    part.general.keep(vec![Chunk { bytes: frame.bytes().to_vec(), entries: 1 }]);
                }
                part
            };
            let sample = sample_part(&whole(), None, bytes).unwrap();
            let taken: usize = sample.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
            assert!(!sample.is_empty() && (sample.len() == 1 || taken as u64 <= bytes), "{} of {taken}", sample.len());

            let folder = tempfile::tempdir().unwrap();
            let spill = SpillFolder::new(folder.path().to_owned());
            let parts = cut_again(whole(), None, bytes * 8, &spill, &mut 0).unwrap();
            assert!(parts.len() > 1);
            let mut keys = Vec::new();
            for part in parts {
                let mut of_part = Vec::new();
                part.general
                    .consume(|found| {
                        each_frame(found, |frame| {
                            of_part.push(frame.key.to_vec());
                            Ok(())
                        })
                    })
                    .unwrap();
                of_part.sort();
                keys.append(&mut of_part);
            }
            assert!(keys.is_sorted() && keys.len() == entries);
        }
    }
}
