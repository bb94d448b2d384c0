//! Cuts for a part whose entries are too long for a sample of whole entries.
//!
//! A sample of whole entries would hold one of them, and one cut that leaves a single entry on one side: to sort n
//! entries, the part would be read and written n times. Entries are told apart by the few bytes that follow what all
//! of them begin with, so that a sample of those takes little, whatever the length of keys and values.

use super::part::{Part, each_frame};
use crate::error::EngineError;
use crate::frames::FrameRef;
use crate::route::Cut;

/// Bytes after the shared ones by which entries are compared here.
const COMPARED_BYTES: usize = 64;
/// Entries that a sample holds, about.
const SAMPLED_ENTRIES: u64 = 4096;

/// The bytes that all entries of a part begin with.
enum CommonPrefix {
    /// Their keys differ after these bytes.
    OfKeys(Vec<u8>),
    /// They have this key, and their values differ after these bytes.
    OfValues(Vec<u8>, Vec<u8>),
    /// They are one and the same entry.
    Everything,
}

/// Cuts that separate something, within about `memory` bytes (a single one may take more), and which of the parts
/// between them hold one entry only.
pub(crate) fn cuts(part: &Part, parts: usize, memory: u64) -> Result<(Vec<Cut>, Vec<bool>), EngineError> {
    let shared = CommonPrefix::of(part)?;
    if matches!(shared, CommonPrefix::Everything) {
        return Ok((Vec::new(), vec![true]));
    }
    let every = (part.general.entries / SAMPLED_ENTRIES).max(1);
    let mut sample: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    part.general.read(|found| {
        each_frame(found, |frame| {
            if u64::is_multiple_of(at, every) {
                sample.push(shared.rest(&frame).to_vec());
            }
            at += 1;
            Ok(())
        })
    })?;
    sample.sort_unstable();
    if let Some(most) = sample.chunk_by(Vec::eq).max_by_key(|same| same.len())
        && most.len() * 2 > sample.len()
    {
        let pivot = middle(part, &shared, &most[0])?;
        return Ok((pivot.to_vec(), vec![false, true, false]));
    }
    let affordable = usize::try_from(memory / shared.bytes_of_a_cut()).unwrap_or(usize::MAX);
    let parts = parts.min(affordable.saturating_add(1)).max(2);
    let mut picks: Vec<&Vec<u8>> = (1..parts).filter_map(|part| sample.get(part * sample.len() / parts)).collect();
    picks.dedup();
    // A cut at the least entry separates nothing. It is not the only pick: less than half of the sample is the same.
    picks.retain(|pick| Some(*pick) != sample.first());
    let identical = vec![false; picks.len() + 1];
    Ok((picks.into_iter().map(|rest| shared.cut(rest)).collect(), identical))
}

/// The cuts before and after one of the entries that have this rest, whichever stands in the middle of the part: what
/// the rests do not tell apart is halved by it, whatever the entries look like further on.
fn middle(part: &Part, shared: &CommonPrefix, rest: &[u8]) -> Result<[Cut; 2], EngineError> {
    let mut at = 0;
    let mut pivot = None;
    part.general.read(|found| {
        each_frame(found, |frame| {
            let before = at <= part.general.entries / 2;
            if (before || pivot.is_none()) && shared.rest(&frame) == rest {
                let (key, value): &mut (Vec<u8>, Vec<u8>) = pivot.get_or_insert_default();
                key.clear();
                key.extend_from_slice(frame.key);
                value.clear();
                value.extend_from_slice(frame.value);
            }
            at += 1;
            Ok(())
        })
    })?;
    let (key, value) = pivot.unwrap_or_default();
    let after = Cut::after(&key, &value, None, None);
    Ok([Cut { packed: None, key, value }, after])
}

impl CommonPrefix {
    fn of(part: &Part) -> Result<Self, EngineError> {
        let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
        let (mut in_key, mut in_value) = (0, 0);
        let (mut one_key, mut one_value) = (true, true);
        part.general.read(|found| {
            each_frame(found, |frame| {
                let Some((key, value)) = &first else {
                    first = Some((frame.key.to_vec(), frame.value.to_vec()));
                    (in_key, in_value) = (frame.key.len(), frame.value.len());
                    return Ok(());
                };
                in_key = common(&key[..in_key], frame.key);
                one_key &= key == frame.key;
                if one_key {
                    in_value = common(&value[..in_value], frame.value);
                    one_value &= value == frame.value;
                }
                Ok(())
            })
        })?;
        let (mut key, mut value) = first.unwrap_or_default();
        if one_key && one_value {
            return Ok(Self::Everything);
        }
        key.truncate(in_key);
        if !one_key {
            return Ok(Self::OfKeys(key));
        }
        value.truncate(in_value);
        Ok(Self::OfValues(key, value))
    }

    fn rest<'f>(&self, frame: &FrameRef<'f>) -> &'f [u8] {
        let rest = match self {
            Self::OfKeys(shared) => frame.key.get(shared.len()..),
            Self::OfValues(_, shared) => frame.value.get(shared.len()..),
            Self::Everything => None,
        };
        let rest = rest.unwrap_or_default();
        &rest[..rest.len().min(COMPARED_BYTES)]
    }

    fn cut(&self, rest: &[u8]) -> Cut {
        let (key, value) = match self {
            Self::OfKeys(shared) => ([shared, rest].concat(), Vec::new()),
            Self::OfValues(key, shared) => (key.clone(), [shared, rest].concat()),
            Self::Everything => (Vec::new(), Vec::new()),
        };
        Cut { packed: None, key, value }
    }

    fn bytes_of_a_cut(&self) -> u64 {
        let shared = match self {
            Self::OfKeys(shared) => shared.len(),
            Self::OfValues(key, shared) => key.len() + shared.len(),
            Self::Everything => 0,
        };
        // The router keeps a copy.
        2 * (shared + COMPARED_BYTES) as u64
    }
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use indexbuild_index::Frame;

    use super::*;
    use crate::buffers::Chunk;
    use crate::sort::in_memory::memory_of;
    use crate::sort::recut::cut_again;
    use crate::sort::spill::SpillFolder;

    type Entry = (Vec<u8>, Vec<u8>);
    type Shape = fn(u32) -> Entry;

    const BUDGET: u64 = 256 << 10;

    fn part(entries: &[Entry]) -> Part {
        let mut part = Part::default();
        let mut frame = Frame::new();
        for (key, value) in entries {
            frame.set(key, value);
            part.general.keep(vec![Chunk { bytes: frame.bytes().to_vec(), entries: 1 }]);
        }
        part
    }

    fn entries(part: Part) -> Vec<Entry> {
        let mut entries = Vec::new();
        let take = |found: &[u8]| {
            each_frame(found, |frame| {
                entries.push((frame.key.to_vec(), frame.value.to_vec()));
                Ok(())
            })
        };
        part.general.consume(take).unwrap();
        entries
    }

    /// Cuts until every part fits or is one entry many times, as a range's sorter does.
    fn cut_until_it_fits(part: Part, folder: &SpillFolder, spilled: &mut u64) -> Vec<Entry> {
        if memory_of(&part, 0) > BUDGET && !part.identical {
            let parts = cut_again(part, None, BUDGET, folder, spilled).unwrap();
            return parts.into_iter().flat_map(|part| cut_until_it_fits(part, folder, spilled)).collect();
        }
        let identical = part.identical;
        let mut entries = entries(part);
        assert!(!identical || entries.iter().all(|entry| entry == &entries[0]));
        entries.sort();
        entries
    }

    #[test]
    fn long_entries_are_written_a_few_times_however_many_there_are_and_wherever_they_differ() {
        fn number(number: u32) -> Vec<u8> {
            number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec()
        }
        fn long(byte: u8) -> Vec<u8> {
            vec![byte; 20_000]
        }
        let shapes: [(&str, Shape); 7] = [
            ("keys differ", |at| (number(at), long(7))),
            ("keys differ after a long prefix", |at| ([long(7), number(at)].concat(), Vec::new())),
            ("one key, values differ", |at| (vec![1], [number(at), long(7)].concat())),
            ("one key, values differ at their end", |at| (vec![1], [long(7), number(at)].concat())),
            ("a key is the begin of another", |at| (vec![7; at as usize * 100], Vec::new())),
            ("most are one and the same", |at| (number(if at % 10 == 0 { at } else { 10 }), long(7))),
            ("all are one and the same", |_| (vec![1], long(7))),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, shape) in shapes {
            let mut all: Vec<Entry> = (0..600).map(shape).collect();
            let whole = part(&all);
            let bytes = whole.general.bytes;
            let mut spilled = 0;
            let sorted = cut_until_it_fits(whole, &SpillFolder::new(folder.path().to_owned()), &mut spilled);
            all.sort();
            assert!(sorted == all, "{name}: not every entry once, in order");
            assert!(spilled <= 8 * bytes, "{name}: {spilled} bytes were written to sort {bytes}");
        }
    }
}
