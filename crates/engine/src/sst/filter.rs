//! A Bloom filter of a file's whole keys, as RocksDB's `BloomFilterPolicy` makes it for format version 5
//! (`FastLocalBloomBitsBuilder` in `table/block_based/filter_policy.cc`).
//!
//! ```text
//! filter  = line: [u8; 64]*  0xff, 0: this kind of filter, probes: u8, 0, 0
//! key     -> hash: u64       its low half chooses the line, its high half the bits within it, one per probe
//! ```

use super::xxph3;

/// The bits of a key are all within one line of a processor's cache.
const LINE_BYTES: usize = 64;
/// RocksDB makes none larger.
const MOST_BYTES: u64 = 0xffff_ffc0;
/// The hashes stand in blocks of so many, so that a growing list is never there twice.
const HASHES: usize = 8 << 10;

/// The keys of a file while it is written, as their hashes: how large the filter is, is known at the end.
#[derive(Debug)]
pub(super) struct Keys {
    bits_per_key: u32,
    hashes: Vec<Vec<u64>>,
    last: Option<u64>,
    count: u64,
}

/// A filter with all its keys.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
}

impl Keys {
    pub(super) const fn new(bits_per_key: u32) -> Self {
        Self { bits_per_key, hashes: Vec::new(), last: None, count: 0 }
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        let hash = xxph3::hash(key);
        // As RocksDB counts: what repeats needs no more room.
        if self.last == Some(hash) {
            return;
        }
        self.last = Some(hash);
        self.count += 1;
        match self.hashes.last_mut().filter(|block| block.len() < HASHES) {
            Some(block) => block.push(hash),
            None => {
                let mut block = Vec::with_capacity(HASHES);
                block.push(hash);
                self.hashes.push(block);
            }
        }
    }

    /// The filter of all keys.
    pub(super) fn filter(self) -> Filter {
        let Self { bits_per_key, hashes, last: _, count } = self;
        let wanted = (count * u64::from(bits_per_key)).div_ceil(8).min(MOST_BYTES);
        let lines = wanted.div_ceil(LINE_BYTES as u64);
        let probes = probes(bits_per_key);
        let mut bytes = vec![0; usize::try_from(lines).unwrap_or_default() * LINE_BYTES];
        for hash in hashes.into_iter().flatten() {
            let (low, high) = (hash & 0xffff_ffff, hash >> 32);
            // Both fit: the product of a number below the lines' with 2^32, and its upper half.
            let line = usize::try_from((low * lines) >> 32).unwrap_or_default() * LINE_BYTES;
            let Some(line) = bytes.get_mut(line..line + LINE_BYTES) else { continue };
            let mut bits = u32::try_from(high).unwrap_or_default();
            for _ in 0..probes {
                // The upper 9 of 32 bits are the place among the line's 512.
                let place = bits >> 23;
                line[place as usize / 8] |= 1 << (place % 8);
                bits = bits.wrapping_mul(0x9e37_79b9);
            }
        }
        bytes.extend([0xff, 0, probes, 0, 0]);
        Filter { bytes, entries: count }
    }
}

/// How many bits of a line stand for a key: RocksDB's choice, by its measurements.
const fn probes(bits_per_key: u32) -> u8 {
    match bits_per_key {
        0..=2 => 1,
        3 => 2,
        4..=5 => 3,
        6 => 4,
        7..=8 => 5,
        9..=10 => 6,
        11 => 7,
        12..=14 => 8,
        15..=16 => 9,
        17..=18 => 10,
        19..=22 => 11,
        23..=25 => 12,
        26 => 11,
        27..=28 => 12,
        29..=30 => 13,
        // A spec asks for 32 at most.
        _ => 14,
    }
}
