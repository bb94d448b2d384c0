//! The hash of a Bloom filter's keys: RocksDB's `Hash64`, which is XXH3 as of xxHash 0.7.2, before it was settled. The
//! final XXH3 gives other values for most lengths. Its source is `util/xxph3.h` in RocksDB (xxHash, copyright Yann Collet,
//! BSD 2-Clause); this is `XXPH3_64bits`, with the default secret and no seed.

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME32_2: u64 = 0x85EB_CA77;
const PRIME32_3: u64 = 0xC2B2_AE3D;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME64_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME64_5: u64 = 0x27D4_EB2F_1656_67C5;

/// So many bytes are taken in at once where a key is long.
const STRIPE: usize = 64;
/// So many bytes of the secret are passed with each of them.
const CONSUMED: usize = 8;
/// The part of the secret that shorter keys use, and where they begin in it once they have used its start.
const SHORTEST_SECRET: usize = 136;
const SECOND_ROUND: usize = 3;
const LAST_OF_SECOND_ROUND: usize = SHORTEST_SECRET - 17;

const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e,
];

/// The hash of a key of any length.
pub(super) fn hash(key: &[u8]) -> u64 {
    let len = key.len();
    match len {
        0 => fold(u64_at(&SECRET, 0), PRIME64_2),
        1..=3 => {
            let parts = [key[0], key[len / 2], key[len - 1], len.to_le_bytes()[0]];
            let keyed = u64::from(u32::from_le_bytes(parts) ^ u32_at(&SECRET, 0));
            avalanche(keyed.wrapping_mul(PRIME64_1))
        }
        4..=8 => {
            let whole = u64::from(u32_at(key, 0)) | (u64::from(u32_at(key, len - 4)) << 32);
            let keyed = whole ^ u64_at(&SECRET, 0);
            let mixed = (keyed ^ (keyed >> 51)).wrapping_mul(PRIME32_1).wrapping_add(len as u64);
            avalanche((mixed ^ (mixed >> 47)).wrapping_mul(PRIME64_2))
        }
        9..=16 => {
            let low = u64_at(key, 0) ^ u64_at(&SECRET, 0);
            let high = u64_at(key, len - 8) ^ u64_at(&SECRET, 8);
            avalanche((len as u64).wrapping_add(low).wrapping_add(high).wrapping_add(fold(low, high)))
        }
        17..=128 => {
            // From both ends towards the middle.
            let sum = (0..=(len - 1) / 32).fold((len as u64).wrapping_mul(PRIME64_1), |sum, pair| {
                sum.wrapping_add(mix(key, 16 * pair, 32 * pair)).wrapping_add(mix(
                    key,
                    len - 16 * (pair + 1),
                    32 * pair + 16,
                ))
            });
            avalanche(sum)
        }
        129..=240 => {
            let sum = (0..8)
                .fold((len as u64).wrapping_mul(PRIME64_1), |sum, at| sum.wrapping_add(mix(key, 16 * at, 16 * at)));
            let sum = (8..len / 16)
                .fold(avalanche(sum), |sum, at| sum.wrapping_add(mix(key, 16 * at, 16 * (at - 8) + SECOND_ROUND)));
            avalanche(sum.wrapping_add(mix(key, len - 16, LAST_OF_SECOND_ROUND)))
        }
        _ => long(key),
    }
}

fn long(key: &[u8]) -> u64 {
    const STRIPES: usize = (SECRET.len() - STRIPE) / CONSUMED;
    let mut sums = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1];
    for block in key.chunks(STRIPE * STRIPES) {
        for (number, stripe) in block.chunks_exact(STRIPE).enumerate() {
            accumulate(&mut sums, stripe, &SECRET[CONSUMED * number..]);
        }
        if block.len() == STRIPE * STRIPES {
            for (sum, at) in sums.iter_mut().zip((SECRET.len() - STRIPE..).step_by(8)) {
                *sum = (*sum ^ (*sum >> 47) ^ u64_at(&SECRET, at)).wrapping_mul(PRIME32_1);
            }
        }
    }
    if !key.len().is_multiple_of(STRIPE) {
        accumulate(&mut sums, &key[key.len() - STRIPE..], &SECRET[SECRET.len() - STRIPE - 7..]);
    }
    let start = (key.len() as u64).wrapping_mul(PRIME64_1);
    let merged = (0..4).fold(start, |merged, pair| {
        let secret = 11 + 16 * pair;
        let [one, other] = [sums[2 * pair] ^ u64_at(&SECRET, secret), sums[2 * pair + 1] ^ u64_at(&SECRET, secret + 8)];
        merged.wrapping_add(fold(one, other))
    });
    avalanche(merged)
}

fn accumulate(sums: &mut [u64; 8], stripe: &[u8], secret: &[u8]) {
    for (lane, sum) in sums.iter_mut().enumerate() {
        let value = u64_at(stripe, 8 * lane);
        let keyed = value ^ u64_at(secret, 8 * lane);
        *sum = sum.wrapping_add(value).wrapping_add((keyed & 0xffff_ffff).wrapping_mul(keyed >> 32));
    }
}

/// Sixteen bytes of a key under sixteen of the secret.
fn mix(key: &[u8], at: usize, secret: usize) -> u64 {
    fold(u64_at(key, at) ^ u64_at(&SECRET, secret), u64_at(key, at + 8) ^ u64_at(&SECRET, secret + 8))
}

/// Both halves of the product, as one.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    #[allow(clippy::cast_possible_truncation)] // The low half is meant.
    let low = product as u64;
    low ^ (product >> 64) as u64
}

fn avalanche(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 37)).wrapping_mul(PRIME64_3);
    mixed ^ (mixed >> 32)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
