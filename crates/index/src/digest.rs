//! Digests: of one entry, of a set of entries, of a stream of entries, of a file.
//!
//! An entry is hashed as its *frame*, lengths little endian:
//!
//! ```text
//! byte  0                      4       4 + k                      8 + k     8 + k + v
//!       │ key length k: u32    │ key   │ value length v: u32      │ value   │
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const LENGTH: usize = 4;
/// How much a streaming digest gathers before it hashes: an update of a few bytes costs ten times
/// more per byte than one of a few KiB.
const GATHER: usize = 32 * 1024;
const READ: usize = 256 * 1024;

/// A reusable buffer that holds one entry as its frame.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    key_len: usize,
    /// The template that the bytes come from; 0: none.
    template: u64,
}

impl Frame {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it the frame of this entry. Keys and values are far below 4 GiB each
    /// ([`crate::codec::MAX_KEY_BYTES`]; an [`crate::columnar::Arena`] is addressed by 32 bits).
    #[inline]
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&length(key));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&length(value));
        self.bytes.extend_from_slice(value);
        self.key_len = key.len();
        self.template = 0;
    }

    /// Makes it the frame that `template` holds, whose key has `key_len` bytes, and gives the bytes
    /// out to be filled in. A frame that already holds this template keeps its bytes: the caller
    /// fills in all bytes that differ between two entries.
    #[inline]
    pub(crate) fn start_from(&mut self, id: u64, template: &[u8], key_len: usize) -> &mut [u8] {
        if self.template != id {
            self.bytes.clear();
            self.bytes.extend_from_slice(template);
            self.key_len = key_len;
            self.template = id;
        }
        &mut self.bytes
    }

    /// Makes it the frame that these bytes are, whose key has `key_len` bytes; nothing is copied.
    pub fn replace(&mut self, bytes: Vec<u8>, key_len: usize) {
        *self = Self { bytes, key_len, template: 0 };
    }

    /// Keeps of the value the first bytes only, and no more memory than those take.
    pub fn shorten(&mut self, value_bytes: usize) {
        let (key, value) = (self.key().to_vec(), self.value());
        let value = value.get(..value_bytes).unwrap_or(value).to_vec();
        *self = Self::new();
        self.set(&key, &value);
    }

    /// The stored key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.bytes.get(LENGTH..LENGTH + self.key_len).unwrap_or_default()
    }

    /// The stored value.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.bytes.get(LENGTH + self.key_len + LENGTH..).unwrap_or_default()
    }

    /// The whole frame.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[inline]
fn length(bytes: &[u8]) -> [u8; LENGTH] {
    debug_assert!(u32::try_from(bytes.len()).is_ok());
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// XXH3-128 of an entry's frame.
#[must_use]
#[inline]
pub fn entry_hash(frame_bytes: &[u8]) -> u128 {
    xxh3_128(frame_bytes)
}

/// A digest as it stands in documents: 32 hex digits.
#[must_use]
pub fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

/// XXH3-128 of some bytes, as 32 hex digits.
#[must_use]
pub fn digest_bytes(bytes: &[u8]) -> String {
    hex(xxh3_128(bytes))
}

/// The hash of a set of entries, whatever their order: the sum modulo 2¹²⁸ of the entries' hashes.
/// A sum and not XOR, under which a doubled entry and a missing pair leave no trace. In JSON: 32 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetHash(pub u128);

impl SetHash {
    /// Adds an entry by its [`entry_hash`].
    #[inline]
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// Adds all entries of another set.
    #[inline]
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// As 32 hex digits.
    #[must_use]
    pub fn hex(self) -> String {
        hex(self.0)
    }

    /// From 32 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for SetHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SetHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| de::Error::custom(format_args!("{text:?} is no hash of 32 hex digits")))
    }
}

/// XXH3-128 over a stream of frames: the same for files that hold the same entries, though their
/// bytes differ (RocksDB writes a random session id into each).
#[derive(Clone)]
pub struct ContentDigest {
    hasher: Box<Xxh3>,
    gathered: Vec<u8>,
}

impl Default for ContentDigest {
    fn default() -> Self {
        Self { hasher: Box::default(), gathered: Vec::with_capacity(GATHER) }
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentDigest").finish_non_exhaustive()
    }
}

impl ContentDigest {
    /// The digest of no entry yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next entry.
    #[inline]
    pub fn push(&mut self, frame: &Frame) {
        self.push_bytes(frame.bytes());
    }

    /// Adds bytes: whole frames or pieces of them.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHER {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
        if bytes.len() >= GATHER {
            self.hasher.update(bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
        }
    }

    /// The digest of all entries.
    #[must_use]
    pub fn finish(mut self) -> u128 {
        self.hasher.update(&self.gathered);
        self.hasher.digest128()
    }
}

/// XXH3-128 of a file's bytes, as they come.
#[derive(Clone, Debug, Default)]
pub struct FileDigest(ContentDigest);

impl FileDigest {
    /// The digest of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.push_bytes(bytes);
    }

    /// As 32 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex(self.0.finish())
    }

    /// Length in bytes and digest of a file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn of_file(path: &Path) -> io::Result<(u64, String)> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; READ];
        let mut digest = Self::new();
        let mut bytes = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                return Ok((bytes, digest.finish()));
            }
            bytes += read as u64;
            digest.update(&buffer[..read]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_back_its_parts() {
        let mut frame = Frame::new();
        assert_eq!((frame.key(), frame.value()), (&b""[..], &b""[..]));
        frame.set(b"key", b"v");
        assert_eq!(frame.bytes(), b"\x03\0\0\0key\x01\0\0\0v");
        assert_eq!((frame.key(), frame.value()), (&b"key"[..], &b"v"[..]));
        frame.set(b"", b"");
        assert_eq!((frame.key(), frame.value()), (&b""[..], &b""[..]));
    }

    #[test]
    fn a_content_digest_does_not_depend_on_how_its_stream_was_cut() {
        let stream: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for piece in [1, 13, 4096, GATHER - 1, GATHER, GATHER + 1, stream.len()] {
            let mut digest = ContentDigest::new();
            stream.chunks(piece).for_each(|bytes| digest.push_bytes(bytes));
            assert_eq!(digest.finish(), xxh3_128(&stream), "pieces of {piece}");
        }
    }

    /// I6: XOR would call the doubled pair an empty set.
    #[test]
    fn a_set_hash_ignores_order_and_sees_doubled_entries() {
        let hashes = [b"a", b"b", b"c"].map(|entry| entry_hash(entry));
        let of = |entries: &[u128]| {
            let mut set = SetHash::default();
            entries.iter().for_each(|hash| set.add(*hash));
            set
        };
        assert_eq!(of(&hashes), of(&[hashes[2], hashes[0], hashes[1]]));
        assert_ne!(of(&hashes), of(&[hashes[0], hashes[1], hashes[2], hashes[2], hashes[2]]));
        let mut merged = of(&hashes[..1]);
        merged.merge(of(&hashes[1..]));
        assert_eq!(merged, of(&hashes));
        assert_eq!(SetHash::from_hex(&merged.hex()), Some(merged));
        assert_eq!(SetHash::from_hex("12"), None);
    }

    #[test]
    fn a_files_digest_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &content).unwrap();
        assert_eq!(FileDigest::of_file(&path).unwrap(), (1_000_000, digest_bytes(&content)));
    }
}
