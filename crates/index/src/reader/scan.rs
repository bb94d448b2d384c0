//! Reading entries in order.

use std::collections::VecDeque;
use std::ops::Bound;

use rocksdb::ReadOptions;

use super::{Index, ReadError};
use crate::codec::{DecodedEntry, decode_entry, encode_key_prefix};
use crate::sst::DbError;
use crate::value::Value;

/// Entries read at once. Between two reads nothing is held open, so that an iterator may be left alone for
/// as long as its user likes.
const CHUNK_ENTRIES: usize = 1024;
const CHUNK_BYTES: usize = 1 << 20;

/// Which part of an index to read. The default is all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Values of the leading columns that every entry has.
    pub prefix: Vec<Value>,
    /// Where to begin, in the index's order: values of the columns after the prefix. Of a descending
    /// column that is the greater end.
    pub from: Bound<Vec<Value>>,
    /// Where to end, in the index's order: values of the columns after the prefix.
    pub to: Bound<Vec<Value>>,
    /// At most this many entries.
    pub limit: Option<u64>,
    /// From the end backwards.
    pub reverse: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { prefix: Vec::new(), from: Bound::Unbounded, to: Bound::Unbounded, limit: None, reverse: false }
    }
}

/// The entries of a [`Scan`], one after the other. After an error it ends.
#[derive(Debug)]
pub struct ScanEntries {
    index: Index,
    /// The stored keys still to be read: from here …
    lower: Vec<u8>,
    /// … to before here.
    upper: Vec<u8>,
    reverse: bool,
    remaining: Option<u64>,
    /// Files still to be read, in the order of reading.
    files: VecDeque<usize>,
    read: VecDeque<Stored>,
}

#[derive(Debug)]
struct Stored {
    key: Vec<u8>,
    value: Vec<u8>,
    file: usize,
}

/// The least bytes that are greater than all that begin with `prefix`. A stored key begins with its
/// version, which is not FF, so that there always are such.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < 0xFF {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

impl ScanEntries {
    pub(super) fn new(index: Index, scan: Scan) -> Result<Self, ReadError> {
        let Scan { prefix, from, to, limit, reverse } = scan;
        let encode = |more: &[Value]| {
            let values: Vec<Value> = prefix.iter().chain(more).cloned().collect();
            encode_key_prefix(index.definition(), &values)
        };
        let lower = match &from {
            Bound::Unbounded => encode(&[])?,
            Bound::Included(values) => encode(values)?,
            Bound::Excluded(values) => after(encode(values)?),
        };
        let upper = match &to {
            Bound::Unbounded => after(encode(&[])?),
            Bound::Included(values) => after(encode(values)?),
            Bound::Excluded(values) => encode(values)?,
        };
        let files = index.files.iter().enumerate();
        let wanted = files.filter(|(_, file)| file.last >= lower && file.first < upper).map(|(position, _)| position);
        let files: VecDeque<usize> = if reverse { wanted.rev().collect() } else { wanted.collect() };
        Ok(Self { index, lower, upper, reverse, remaining: limit, files, read: VecDeque::new() })
    }

    /// Reads the next chunk; afterwards nothing is read only if nothing is left.
    fn fill(&mut self) -> Result<(), ReadError> {
        while let Some(position) = self.files.front().copied() {
            if self.lower >= self.upper {
                self.files.clear();
                return Ok(());
            }
            let Self { index, lower, upper, reverse, remaining, files, read } = self;
            let file = &index.files[position];
            let mut end = file.last.clone();
            end.push(0);
            let low = lower.clone().max(file.first.clone());
            let high = upper.clone().min(end);
            let most = remaining.map_or(CHUNK_ENTRIES, |left| {
                usize::try_from(left).map_or(CHUNK_ENTRIES, |left| left.min(CHUNK_ENTRIES))
            });
            let set = &index.set;
            let exhausted = set.cache.read(&set.store, &set.runtime, index.position, file, |check| {
                let mut options = ReadOptions::default();
                options.set_iterate_lower_bound(low);
                options.set_iterate_upper_bound(high);
                let mut iterator = check.db().raw_iterator_opt(options);
                if *reverse {
                    iterator.seek_to_last();
                } else {
                    iterator.seek_to_first();
                }
                let mut bytes = 0;
                while let Some((key, value)) = iterator.item() {
                    if read.len() >= most || bytes > CHUNK_BYTES {
                        return Ok(false);
                    }
                    bytes += key.len() + value.len();
                    read.push_back(Stored { key: key.to_vec(), value: value.to_vec(), file: position });
                    if *reverse {
                        iterator.prev();
                    } else {
                        iterator.next();
                    }
                }
                let status = iterator.status();
                status.map_err(|source| DbError::of(check.path(), "read", source))?;
                Ok(true)
            })?;
            if exhausted {
                files.pop_front();
            }
            if let Some(last) = read.back() {
                if *reverse {
                    upper.clone_from(&last.key);
                } else {
                    lower.clone_from(&last.key);
                    lower.push(0);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<DecodedEntry>, ReadError> {
        if self.remaining == Some(0) {
            return Ok(None);
        }
        if self.read.is_empty() {
            self.fill()?;
        }
        let Some(Stored { key, value, file }) = self.read.pop_front() else {
            return Ok(None);
        };
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        let decoded = decode_entry(self.index.definition(), &key, &value);
        decoded.map(Some).map_err(|source| ReadError::Decode {
            url: format!("{}/{}", self.index.set.store.url(), self.index.files[file].file.path),
            source,
        })
    }
}

impl Iterator for ScanEntries {
    type Item = Result<DecodedEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if matches!(item, Some(Err(_))) {
            self.remaining = Some(0);
        }
        item
    }
}
