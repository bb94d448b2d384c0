//! Sorts a part that fits in memory.

use super::part::{Part, each_frame, whole_packed};
use crate::error::EngineError;
use crate::frames::{FrameRef, first_frame};
use crate::packed;
use crate::route::prefix;

/// Memory per general entry besides its bytes.
const PER_GENERAL: u64 = size_of::<Place>() as u64;

/// Where an entry is in the arena, with the first bytes that tell it from the others.
#[derive(Clone, Copy, Debug)]
struct Place {
    prefix: u64,
    offset: u32,
}

/// Bytes of memory that a part takes to be sorted.
pub(crate) fn memory_of(part: &Part, width: usize) -> u64 {
    let per_packed = if width <= 8 { 8 } else { 16 };
    part.packed.entries * per_packed + part.general.bytes + part.general.entries * PER_GENERAL
}

/// A thread's memory for sorting: taken once, used for part after part.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    short: Vec<u64>,
    wide: Vec<u128>,
    arena: Vec<u8>,
    places: Vec<Place>,
}

impl Sorter {
    /// Loads a part, removes its spill file, and sorts it.
    pub(crate) fn load(&mut self, part: Part, width: usize, loaded: impl FnOnce()) -> Result<(), EngineError> {
        let Self { short, wide, arena, places } = self;
        short.clear();
        wide.clear();
        arena.clear();
        places.clear();
        let Part { packed, general, apart: _, identical: _ } = part;
        // Both fit in memory, as the caller knows.
        let entries = usize::try_from(packed.entries).unwrap_or(0);
        if width <= 8 {
            short.reserve_exact(entries);
        } else {
            wide.reserve_exact(entries);
        }
        packed.consume(|bytes| {
            let whole = whole_packed(bytes, width.max(1));
            if width <= 8 {
                packed::unpack_short(width, whole, short);
            } else {
                packed::unpack(width, whole, wide);
            }
            Ok(whole.len())
        })?;
        arena.reserve_exact(usize::try_from(general.bytes).unwrap_or(0));
        places.reserve_exact(usize::try_from(general.entries).unwrap_or(0));
        general.consume(|bytes| {
            each_frame(bytes, |frame| {
                // Budgets are below 4 GiB, so offsets are too.
                places.push(Place { prefix: 0, offset: u32::try_from(arena.len()).unwrap_or(u32::MAX) });
                arena.extend_from_slice(frame.bytes);
                Ok(())
            })
        })?;
        loaded();
        short.sort_unstable();
        wide.sort_unstable();
        sort_places(arena, places);
        Ok(())
    }

    /// The packed entries in order. Either kind is empty.
    pub(crate) fn packed(&self) -> (&[u64], &[u128]) {
        (&self.short, &self.wide)
    }

    /// The general entries in order.
    pub(crate) fn general(&self) -> impl Iterator<Item = FrameRef<'_>> {
        self.places.iter().filter_map(|place| first_frame(&self.arena[place.offset as usize..]))
    }
}

fn sort_places(arena: &[u8], places: &mut [Place]) {
    let entry = |place: &Place| {
        let frame = first_frame(&arena[place.offset as usize..]);
        frame.map_or((&[][..], &[][..]), |frame| (frame.key, frame.value))
    };
    let Some(first) = places.first().map(|place| entry(place).0) else { return };
    let common = places.iter().fold(first.len(), |common, place| {
        let key = entry(place).0;
        let common = common.min(key.len());
        if key[..common] == first[..common] {
            common
        } else {
            key.iter().zip(first).take_while(|(left, right)| left == right).count()
        }
    });
    for place in places.iter_mut() {
        place.prefix = prefix(&entry(place).0[common..]);
    }
    // Padding makes prefixes of keys of different length equal: then the keys decide, then the
    // values, so that the order of the rows of one key is always the same.
    places.sort_unstable_by(|left, right| left.prefix.cmp(&right.prefix).then_with(|| entry(left).cmp(&entry(right))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Chunk;
    use indexbuild_index::Frame;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn general_entries_come_in_the_order_of_key_then_value(
            mut entries in proptest::collection::vec(
                (proptest::collection::vec(0u8..3, 0..24), proptest::collection::vec(0u8..3, 0..3)), 0..200),
            prefix in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut part = Part::default();
            let mut frame = Frame::new();
            for (key, value) in &mut entries {
                let mut whole = prefix.clone();
                whole.append(key);
                *key = whole;
                frame.set(key, value);
                part.general.keep(vec![Chunk { bytes: frame.bytes().to_vec(), entries: 1 }]);
            }
            let mut sorter = Sorter::default();
            sorter.load(part, 0, || {}).unwrap();
            let sorted: Vec<_> = sorter.general().map(|frame| (frame.key.to_vec(), frame.value.to_vec())).collect();
            entries.sort();
            prop_assert_eq!(sorted, entries);
        }
    }
}
