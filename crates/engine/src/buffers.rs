//! Entries on their way to a destination (a lane, or a part of a range), in chunks of memory.
//!
//! A thread has one set of buffers. Chunks come out of one share of memory and are recycled, so that a thousand
//! destinations need no more memory than one, and appending never copies earlier entries.

use std::mem;

use crate::frames::PieceKind;

const LARGEST_CHUNK: usize = 128 << 10;
const SMALLEST_CHUNK: usize = 4 << 10;

/// More per destination does not pay: pieces of this size are read and written as fast as larger ones.
const ENOUGH_PER_DESTINATION: u64 = 512 << 10;
const ENOUGH: u64 = 8 << 20;

/// Bytes of memory for this many destinations: the whole share, but not more than pays.
pub(crate) fn useful_bytes(destinations: usize, share: u64) -> u64 {
    share.min((destinations as u64 * ENOUGH_PER_DESTINATION).max(ENOUGH))
}

#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: u64,
}

#[derive(Debug, Default)]
struct List {
    full: Vec<Chunk>,
    open: Chunk,
}

/// How far each list was filled at some time, for [`Buffers::rewind`].
#[derive(Debug)]
pub(crate) struct Mark {
    lists: Vec<(usize, usize, u64)>,
}

/// A thread's chunks, by destination and kind.
#[derive(Debug)]
pub(crate) struct Buffers {
    lists: Vec<List>,
    spare: Vec<Vec<u8>>,
    chunk: usize,
    share: usize,
    used: usize,
}

impl Buffers {
    /// For this many destinations, within about `share` bytes.
    pub(crate) fn new(destinations: usize, share: u64) -> Self {
        let share = usize::try_from(share).unwrap_or(usize::MAX / 2).max(SMALLEST_CHUNK);
        let chunk = (share / (destinations.max(1) * 4)).clamp(SMALLEST_CHUNK, LARGEST_CHUNK);
        let mut lists = Vec::new();
        lists.resize_with(destinations * 2, List::default);
        Self { lists, spare: Vec::new(), chunk, share, used: 0 }
    }

    /// Whether the share is used up: time to write the content somewhere.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.share
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.iter().all(|list| list.full.is_empty() && list.open.entries == 0)
    }

    /// Memory taken by chunks in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    #[inline]
    pub(crate) fn push(&mut self, destination: usize, kind: PieceKind, entry: &[u8]) {
        let open = &mut self.lists[destination * 2 + kind as usize].open;
        if open.bytes.capacity() - open.bytes.len() < entry.len() {
            self.open_chunk(destination * 2 + kind as usize, entry.len());
        }
        let open = &mut self.lists[destination * 2 + kind as usize].open;
        open.bytes.extend_from_slice(entry);
        open.entries += 1;
    }

    /// Appends the `W` low bytes of a packed entry.
    #[inline]
    pub(crate) fn push_packed<const W: usize>(&mut self, destination: usize, packed: u128) {
        let bytes = packed.to_be_bytes();
        let open = &mut self.lists[destination * 2].open;
        if open.bytes.capacity() - open.bytes.len() < W {
            self.open_chunk(destination * 2, W);
        }
        let open = &mut self.lists[destination * 2].open;
        open.bytes.extend_from_slice(&bytes[16 - W..]);
        open.entries += 1;
    }

    pub(crate) fn push_all_packed<const W: usize>(&mut self, destination: usize, mut entries: &[u128]) {
        let list = destination * 2;
        while !entries.is_empty() {
            let room = |open: &Chunk| (open.bytes.capacity() - open.bytes.len()) / W;
            if room(&self.lists[list].open) == 0 {
                self.open_chunk(list, W);
            }
            let open = &mut self.lists[list].open;
            let (now, later) = entries.split_at(room(open).min(entries.len()));
            let begin = open.bytes.len();
            open.bytes.resize(begin + now.len() * W, 0);
            for (place, entry) in open.bytes[begin..].as_chunks_mut::<W>().0.iter_mut().zip(now) {
                place.copy_from_slice(&entry.to_be_bytes()[16 - W..]);
            }
            open.entries += now.len() as u64;
            entries = later;
        }
    }

    #[cold]
    fn open_chunk(&mut self, list: usize, need: usize) {
        let fresh = match self.spare.pop() {
            Some(spare) if spare.capacity() >= need => spare,
            Some(_) | None => Vec::with_capacity(self.chunk.max(need)),
        };
        self.used += fresh.capacity();
        let list = &mut self.lists[list];
        let mut before = mem::replace(&mut list.open, Chunk { bytes: fresh, entries: 0 });
        if before.entries > 0 {
            // A long entry may fill only a little more than half of a chunk: the other half is given back.
            let capacity = before.bytes.capacity();
            if capacity - before.bytes.len() > capacity / 4 {
                before.bytes.shrink_to_fit();
                self.used -= capacity - before.bytes.capacity();
            }
            list.full.push(before);
        } else {
            self.used -= before.bytes.capacity();
        }
    }

    pub(crate) fn take(&mut self, destination: usize, kind: PieceKind) -> Vec<Chunk> {
        let list = &mut self.lists[destination * 2 + kind as usize];
        let mut chunks = mem::take(&mut list.full);
        let open = mem::take(&mut list.open);
        if open.entries > 0 {
            chunks.push(open);
        } else {
            self.used -= open.bytes.capacity();
        }
        self.used -= chunks.iter().map(|chunk| chunk.bytes.capacity()).sum::<usize>();
        chunks
    }

    /// Gives chunks back for further use.
    pub(crate) fn recycle(&mut self, chunks: Vec<Chunk>) {
        for Chunk { mut bytes, .. } in chunks {
            if bytes.capacity() <= self.chunk * 2 {
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }

    /// Remembers how far each destination is filled. Valid until something is taken.
    pub(crate) fn mark(&self) -> Mark {
        let lists = self.lists.iter().map(|list| (list.full.len(), list.open.bytes.len(), list.open.entries)).collect();
        Mark { lists }
    }

    /// Drops what was appended since the mark.
    pub(crate) fn rewind(&mut self, mark: &Mark) {
        for (list, (full, bytes, entries)) in self.lists.iter_mut().zip(&mark.lists) {
            if list.full.len() > *full {
                // The chunk that was open at the mark is the first of those filled since.
                for dropped in list.full.drain(*full + 1..) {
                    self.used -= dropped.bytes.capacity();
                }
                if let Some(reopened) = list.full.pop() {
                    self.used -= list.open.bytes.capacity();
                    list.open = reopened;
                }
            }
            list.open.bytes.truncate(*bytes);
            list.open.entries = *entries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(buffers: &mut Buffers, destination: usize, kind: PieceKind) -> (Vec<u8>, u64) {
        let chunks = buffers.take(destination, kind);
        (
            chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect(),
            chunks.iter().map(|chunk| chunk.entries).sum(),
        )
    }

    #[test]
    fn going_back_to_a_mark_leaves_exactly_what_was_there() {
        for before in [0u32, 1, 700, 1024, 5000] {
            for after in [0u32, 1, 900, 1024, 7000] {
                let mut buffers = Buffers::new(3, 1 << 16);
                for number in 0..before {
                    buffers.push(1, PieceKind::General, &number.to_le_bytes());
                }
                let mark = buffers.mark();
                for number in 0..after {
                    buffers.push(1, PieceKind::General, &(number + before).to_le_bytes());
                    buffers.push_packed::<5>(2, u128::from(number));
                }
                buffers.rewind(&mark);
                let (bytes, entries) = content(&mut buffers, 1, PieceKind::General);
                let expected: Vec<u8> = (0..before).flat_map(u32::to_le_bytes).collect();
                assert_eq!((bytes, entries), (expected, u64::from(before)), "{before} then {after}");
                assert_eq!(content(&mut buffers, 2, PieceKind::Packed), (Vec::new(), 0));
                assert!(buffers.is_empty());
                assert_eq!(buffers.used(), 0, "memory is accounted for: {before} then {after}");
            }
        }
    }

    #[test]
    fn entries_that_do_not_share_a_chunk_take_little_more_than_their_bytes() {
        for length in [1_000, 10_000, 40_000, 66_000, 100_000, 1_000_000] {
            let mut buffers = Buffers::new(1, 4 << 20);
            let entry = vec![7_u8; length];
            let entries = (8 << 20) / length;
            for _ in 0..entries {
                buffers.push(0, PieceKind::General, &entry);
            }
            let used = buffers.used();
            let (bytes, found) = content(&mut buffers, 0, PieceKind::General);
            assert_eq!((bytes.len(), found), (entries * length, entries as u64));
            let most = bytes.len() / 3 * 4 + LARGEST_CHUNK;
            assert!(used <= most, "{} bytes of entries of {length} bytes take {used}", bytes.len());
            assert_eq!(buffers.used(), 0);
        }
    }

    #[test]
    fn an_entry_larger_than_a_chunk_is_kept_whole() {
        let mut buffers = Buffers::new(1, 1 << 14);
        let large = vec![7u8; 100_000];
        buffers.push(0, PieceKind::General, b"small");
        buffers.push(0, PieceKind::General, &large);
        buffers.push(0, PieceKind::General, b"after");
        let chunks = buffers.take(0, PieceKind::General);
        assert!(chunks.iter().any(|chunk| chunk.bytes == large));
        assert_eq!(chunks.iter().map(|chunk| chunk.entries).sum::<u64>(), 3);
    }
}
