//! Long entries of a part, kept apart in a file: only their keys are sorted, and one at a time is read to be written.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use indexbuild_durable::fault::{self, Op};
use indexbuild_index::Frame;

use super::spill::{SpillFile, SpillFolder};
use crate::error::{At as _, EngineError};
use crate::frames::{FrameRef, PieceKind};

/// Bytes of a value that are kept to sort by: of several rows with one key, those of their row ids.
const KEPT_OF_VALUE: usize = 256;
/// Bytes of values that are compared at once where those do not tell them apart.
const COMPARED: usize = 64 << 10;

#[derive(Debug)]
struct Place {
    key: Vec<u8>,
    /// Where the value begins.
    begin: Vec<u8>,
    /// Where the frame is in the file, and its length.
    offset: u64,
    len: usize,
}

/// Long entries and their file.
#[derive(Debug, Default)]
pub(crate) struct KeptApart {
    places: Vec<Place>,
    bytes: u64,
    file: Option<SpillFile>,
}

impl KeptApart {
    pub(crate) fn entries(&self) -> u64 {
        self.places.len() as u64
    }

    /// Bytes written to the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends an entry to the file, which is opened anew each time, as there are many.
    pub(crate) fn add(&mut self, frame: &FrameRef<'_>, folder: &SpillFolder) -> Result<(), EngineError> {
        let path = self.file.get_or_insert_with(|| folder.file(PieceKind::General)).path();
        let mut file = fault::step(Op::Create, path, || OpenOptions::new().append(true).create(true).open(path))
            .at("create", path)?;
        fault::step(Op::Write, path, || file.write_all(frame.bytes)).at("write", path)?;
        let begin = frame.value.get(..KEPT_OF_VALUE).unwrap_or(frame.value).to_vec();
        self.places.push(Place { key: frame.key.to_vec(), begin, offset: self.bytes, len: frame.bytes.len() });
        self.bytes += frame.bytes.len() as u64;
        Ok(())
    }

    /// Puts the entries in the order of key, then value.
    pub(crate) fn sorted(self) -> Result<SortedApart, EngineError> {
        let Self { mut places, bytes: _, file } = self;
        let Some(file) = file else { return Ok(SortedApart::default()) };
        let open = File::open(file.path()).at("open", file.path())?;
        places.sort_unstable_by(|one, other| (&one.key, &one.begin).cmp(&(&other.key, &other.begin)));
        // One row twice: what follows the row id decides, which is in the file.
        let mut failed = Ok(());
        for same in places.chunk_by_mut(|one, other| one.key == other.key && one.begin == other.begin) {
            if same.len() > 1 {
                same.sort_unstable_by(|one, other| {
                    let [mut one, mut other] = [one, other].map(|place| place.rest(&open));
                    compared(&mut one, &mut other).unwrap_or_else(|error| {
                        failed = Err(error);
                        Ordering::Equal
                    })
                });
            }
        }
        failed.at("read", file.path())?;
        places.reverse();
        Ok(SortedApart { places, file: Some((file, open)) })
    }
}

/// Long entries in order, to be taken one by one.
#[derive(Debug, Default)]
pub(crate) struct SortedApart {
    /// The last one first.
    places: Vec<Place>,
    file: Option<(SpillFile, File)>,
}

impl SortedApart {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the next entry stands before this one.
    pub(crate) fn is_before(&self, key: &[u8], value: &[u8]) -> Result<bool, EngineError> {
        let (Some(next), Some((path, file))) = (self.places.last(), &self.file) else { return Ok(false) };
        let (begin, rest) = value.split_at(value.len().min(next.begin.len()));
        let order = match (next.key.as_slice(), next.begin.as_slice()).cmp(&(key, begin)) {
            Ordering::Equal => compared(&mut next.rest(file), &mut &*rest).at("read", path.path())?,
            order => order,
        };
        Ok(order == Ordering::Less)
    }

    /// Reads the next entry into memory, and takes it.
    pub(crate) fn read_next(&mut self, frame: &mut Frame) -> Result<(), EngineError> {
        let (Some(Place { key, begin: _, offset, len }), Some((path, file))) = (self.places.pop(), &self.file) else {
            return Ok(());
        };
        let mut bytes = vec![0; len];
        read_at(path.path(), file, offset, &mut bytes)?;
        frame.replace(bytes, key.len());
        Ok(())
    }
}

fn read_at(path: &Path, file: &File, offset: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
    file.read_exact_at(bytes, offset).at("read", path)
}

impl Place {
    /// What follows the begin of the value.
    fn rest<'f>(&self, file: &'f File) -> Rest<'f> {
        let value = self.len as u64 - self.key.len() as u64 - 8;
        let end = self.offset + self.len as u64;
        Rest { file, at: end - value + self.begin.len() as u64, end }
    }
}

/// A part of a file.
struct Rest<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Rest<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(target.len());
        let read = self.file.read_at(&mut target[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The order of what both give.
fn compared(one: &mut impl Read, other: &mut impl Read) -> io::Result<Ordering> {
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    loop {
        of_one.clear();
        of_other.clear();
        one.by_ref().take(COMPARED as u64).read_to_end(&mut of_one)?;
        other.by_ref().take(COMPARED as u64).read_to_end(&mut of_other)?;
        let order = of_one.cmp(&of_other);
        if order.is_ne() || of_one.is_empty() {
            return Ok(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::first_frame;

    #[test]
    fn long_entries_come_in_the_order_of_key_then_value_however_late_they_differ() {
        let folder = tempfile::tempdir().unwrap();
        let spill = SpillFolder::new(folder.path().to_owned());
        let long = |end: &[u8]| [&[7_u8; 200_000][..], end].concat();
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"b".to_vec(), long(b"2")),
            (b"b".to_vec(), long(b"1")),
            (b"b".to_vec(), long(b"")),
            (b"a".to_vec(), b"short".to_vec()),
            (b"bb".to_vec(), long(b"0")),
            (b"b".to_vec(), vec![7; 300]),
            (b"b".to_vec(), long(b"1")),
            (b"".to_vec(), long(b"3")),
        ];
        let mut apart = KeptApart::default();
        for (key, value) in &entries {
            let mut frame = Frame::new();
            frame.set(key, value);
            apart.add(&first_frame(frame.bytes()).unwrap(), &spill).unwrap();
        }
        assert_eq!(apart.entries(), 8);
        let mut sorted = apart.sorted().unwrap();
        entries.sort();
        for (place, entry) in entries.iter().enumerate() {
            for other in &entries {
                assert_eq!(sorted.is_before(&other.0, &other.1).unwrap(), entry < other, "{place}");
            }
            let mut frame = Frame::new();
            sorted.read_next(&mut frame).unwrap();
            assert!((frame.key(), frame.value()) == (entry.0.as_slice(), entry.1.as_slice()), "{place}");
        }
        assert!(sorted.is_empty());
        drop(sorted);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file is removed");
    }
}
