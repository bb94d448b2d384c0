//! Blocks: entries with shared prefixes, and where a search may begin among them.

/// An entry so often has its whole key: a search goes by those, and reads on from there.
const RESTART_INTERVAL: usize = 16;

/// Memory that is kept from block to block.
const KEPT: usize = 1 << 20;

/// What RocksDB's keys end in: a put (1), with sequence number 0, which is what an ingested file has.
const TRAILER: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

/// How many bytes two keys have in common from their begin.
pub(super) fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    let mut shared = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        let (Ok(one), Ok(other)) = (<[u8; 8]>::try_from(one), <[u8; 8]>::try_from(other)) else { break };
        let differ = u64::from_le_bytes(one) ^ u64::from_le_bytes(other);
        if differ != 0 {
            return shared + differ.trailing_zeros() as usize / 8;
        }
        shared += 8;
    }
    let rest = one.iter().skip(shared).zip(other.iter().skip(shared));
    shared + rest.take_while(|(one, other)| one == other).count()
}

pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// A block of entries in the making.
#[derive(Debug, Default)]
pub(super) struct DataBlock {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    entries: usize,
}

impl DataBlock {
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many bytes it will have.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// Adds an entry. `shared` bytes of its key are those of the last one's.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], shared: usize) {
        let shared = if self.entries.is_multiple_of(RESTART_INTERVAL) {
            // A block past 4 GiB is a single entry's, and begins at 0.
            self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            0
        } else {
            shared
        };
        self.entries += 1;
        let own = key.get(shared..).unwrap_or_default();
        let lengths = [shared, own.len() + TRAILER.len(), value.len()];
        if lengths.iter().all(|length| *length < 0x80) {
            self.bytes.extend(lengths.map(|length| length.to_le_bytes()[0]));
        } else {
            for length in lengths {
                put_varint(&mut self.bytes, length as u64);
            }
        }
        self.bytes.extend_from_slice(own);
        self.bytes.extend_from_slice(&TRAILER);
        self.bytes.extend_from_slice(value);
    }

    /// The whole block.
    pub(super) fn finish(&mut self) -> &[u8] {
        end(&mut self.bytes, &self.restarts);
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        // Of a block of a single long entry.
        self.bytes.shrink_to(KEPT);
        self.restarts.clear();
        self.entries = 0;
    }
}

/// A block in which each entry has its whole key: the index, the properties.
#[derive(Debug, Default)]
pub(super) struct PlainBlock {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
}

impl PlainBlock {
    fn begin(&mut self, key: &[u8]) {
        self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        put_varint(&mut self.bytes, 0);
        put_varint(&mut self.bytes, key.len() as u64);
    }

    /// An entry with a value of any length.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.begin(key);
        put_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// An entry of the index: its value tells its own end.
    pub(super) fn put_handle(&mut self, key: &[u8], handle: Handle) {
        self.begin(key);
        self.bytes.extend_from_slice(key);
        handle.append(&mut self.bytes);
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    pub(super) fn finish(&mut self) -> &[u8] {
        if self.restarts.is_empty() {
            self.restarts.push(0);
        }
        end(&mut self.bytes, &self.restarts);
        &self.bytes
    }
}

fn end(bytes: &mut Vec<u8>, restarts: &[u32]) {
    for restart in restarts {
        bytes.extend_from_slice(&restart.to_le_bytes());
    }
    bytes.extend_from_slice(&u32::try_from(restarts.len()).unwrap_or(u32::MAX).to_le_bytes());
}

/// Where a block stands, without what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Handle {
    pub(super) fn append(self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.offset);
        put_varint(bytes, self.size);
    }
}

/// The shortest key that is at least `last`, and less than `next`: the index is searched by it. `last` itself where no
/// shorter one is easily found.
pub(super) fn separator<'k>(last: &'k [u8], next: &[u8], shorter: &'k mut Vec<u8>) -> &'k [u8] {
    let shared = shared_prefix(last, next);
    let (Some(low), Some(high)) = (last.get(shared), next.get(shared)) else {
        return last;
    };
    // The byte after it may be the other key's: then what follows decides.
    if low.checked_add(1).is_none_or(|above| above >= *high) || shared + 1 >= last.len() {
        return last;
    }
    shorter.clear();
    shorter.extend_from_slice(last.get(..shared).unwrap_or_default());
    shorter.push(low + 1);
    shorter
}
