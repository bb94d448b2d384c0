//! Checking a whole build against its manifest, with memory that does not grow with it.
//!
//! Each file is fetched anew (what is checked is the store, not the cache), into a scratch folder,
//! one per thread, and removed again.

use std::fmt;

use indexbuild_store::in_parallel;

use super::{FileKeys, Inner, ReadError};
use crate::codec::decode_entry;
use crate::definition::IndexDefinition;
use crate::digest::{ContentDigest, FileDigest, Frame, SetHash, entry_hash, hex};
use crate::sst::{CheckDb, DbError};
use crate::store::StoreError;
use crate::value::to_hex;

/// How to verify.
#[derive(Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    /// Files checked at once; 0 means one per core, four at most.
    pub threads: usize,
    /// Called after each file, from any of the threads.
    pub progress: Option<&'a (dyn Fn(&FileReport) + Sync)>,
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Per index of the manifest.
    pub indexes: Vec<IndexReport>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems().next().is_none()
    }

    /// All that is wrong: index, file (none: the index as a whole), problem.
    pub fn problems(&self) -> impl Iterator<Item = (&str, Option<&str>, &Problem)> {
        self.indexes.iter().flat_map(|index| {
            let name = index.name.as_str();
            let of_files = index.files.iter().flat_map(move |file| {
                file.problems.iter().map(move |problem| (name, Some(file.path.as_str()), problem))
            });
            index.problems.iter().map(move |problem| (name, None, problem)).chain(of_files)
        })
    }
}

/// One index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexReport {
    /// Its name.
    pub name: String,
    /// Entries that were read.
    pub entries: u64,
    /// Sum of their hashes.
    pub hash: SetHash,
    /// Its files.
    pub files: Vec<FileReport>,
    /// What is wrong with the index as a whole.
    pub problems: Vec<Problem>,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Its path in the build.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Entries that were read.
    pub entries: u64,
    /// Sum of their hashes.
    pub hash: SetHash,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Something that is not as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not there.
    #[error("the file is missing")]
    Missing,
    /// The file has another length.
    #[error("the file has {found} bytes instead of {expected}")]
    Length {
        /// In the manifest.
        expected: u64,
        /// In the store.
        found: u64,
    },
    /// The file has other bytes.
    #[error("the file's digest is {found} instead of {expected}: its bytes changed, or it is another file")]
    FileDigest {
        /// In the manifest.
        expected: String,
        /// In the store.
        found: String,
    },
    /// RocksDB cannot read it.
    #[error("RocksDB cannot use the file: {why}")]
    Unreadable {
        /// Its words.
        why: String,
    },
    /// A block's checksum does not match.
    #[error("RocksDB finds a damaged block: {why}")]
    Checksum {
        /// Its words.
        why: String,
    },
    /// A key is not greater than the one before it.
    #[error("the key {key} is not greater than the one before it")]
    Order {
        /// The key, hex.
        key: String,
    },
    /// An entry that is none of this index.
    #[error("the entry with key {key} is not of this index: {why}")]
    Entry {
        /// The key, hex.
        key: String,
        /// Why not.
        why: String,
    },
    /// Another first key.
    #[error("the first key is {found} instead of {expected}")]
    FirstKey {
        /// In the manifest.
        expected: String,
        /// In the file.
        found: String,
    },
    /// Another last key.
    #[error("the last key is {found} instead of {expected}")]
    LastKey {
        /// In the manifest.
        expected: String,
        /// In the file.
        found: String,
    },
    /// Another number of entries.
    #[error("there are {found} entries instead of {expected}")]
    Entries {
        /// In the manifest.
        expected: u64,
        /// Read.
        found: u64,
    },
    /// Another sum of lengths.
    #[error("the entries take {found} bytes instead of {expected}")]
    EntryBytes {
        /// In the manifest.
        expected: u64,
        /// Read.
        found: u64,
    },
    /// Other entries.
    #[error("the digest of the entries is {found} instead of {expected}")]
    ContentDigest {
        /// In the manifest.
        expected: String,
        /// Of what was read.
        found: String,
    },
    /// Two files share a part of the keys.
    #[error("the files {first} and {second} overlap, or are not in the order of their keys")]
    Overlap {
        /// One.
        first: String,
        /// The one that comes next in the manifest.
        second: String,
    },
    /// Other entries in the index than were encoded (I6).
    #[error("the sum of the entries' hashes is {found} instead of {expected}: an entry is missing, doubled or changed")]
    Hash {
        /// In the manifest.
        expected: String,
        /// Of what was read.
        found: String,
    },
    /// Not one entry per row of the source (I6).
    #[error("the source has {rows} rows, and the index {entries} entries")]
    Rows {
        /// Rows of the source.
        rows: u64,
        /// Entries read.
        entries: u64,
    },
}

/// Damaged files can make any number of problems; the first of a kind say enough.
const SHOWN_OF_A_KIND: usize = 3;

pub(super) fn verify(set: &Inner, options: &VerifyOptions<'_>) -> Result<VerifyReport, ReadError> {
    let jobs: Vec<(usize, &FileKeys)> =
        set.indexes.iter().enumerate().flat_map(|(index, files)| files.iter().map(move |file| (index, file))).collect();
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
        threads => threads,
    };
    let reports = in_parallel(&jobs, threads, |(index, file)| {
        let report = check_file(set, &set.manifest.indexes[*index].definition, file)?;
        if let Some(progress) = options.progress {
            progress(&report);
        }
        Ok::<_, ReadError>(report)
    })?;
    let mut reports = reports.into_iter();
    let indexes = set.manifest.indexes.iter().zip(&set.indexes).map(|(manifest, files)| {
        let reports: Vec<FileReport> = reports.by_ref().take(files.len()).collect();
        summarise(manifest, files, reports, set.manifest.source.rows)
    });
    Ok(VerifyReport { indexes: indexes.collect() })
}

fn summarise(
    manifest: &crate::manifest::IndexManifest,
    files: &[FileKeys],
    reports: Vec<FileReport>,
    rows: u64,
) -> IndexReport {
    let mut problems = Vec::new();
    for pair in files.windows(2) {
        if let [first, second] = pair
            && first.last >= second.first
        {
            problems.push(Problem::Overlap { first: first.file.path.clone(), second: second.file.path.clone() });
        }
    }
    let entries = reports.iter().map(|report| report.entries).sum();
    let bytes: u64 = reports.iter().map(|report| report.bytes).sum();
    let mut hash = SetHash::default();
    reports.iter().for_each(|report| hash.merge(report.hash));
    if entries != manifest.entries {
        problems.push(Problem::Entries { expected: manifest.entries, found: entries });
    }
    if entries != rows {
        problems.push(Problem::Rows { rows, entries });
    }
    if bytes != manifest.bytes {
        problems.push(Problem::Length { expected: manifest.bytes, found: bytes });
    }
    if hash.hex() != manifest.hash {
        problems.push(Problem::Hash { expected: manifest.hash.clone(), found: hash.hex() });
    }
    IndexReport { name: manifest.definition.name.clone(), entries, hash, files: reports, problems }
}

fn check_file(set: &Inner, definition: &IndexDefinition, file: &FileKeys) -> Result<FileReport, ReadError> {
    let FileKeys { file: expected, .. } = file;
    let mut report = FileReport { path: expected.path.clone(), ..FileReport::default() };
    let scratch = set.cache.scratch()?;
    let path = scratch.path().join("file.sst");
    match set.runtime.run(set.store.fetch_to(&expected.path, &path)) {
        Ok(_) => {}
        Err(StoreError::NotFound { .. }) => {
            report.problems.push(Problem::Missing);
            return Ok(report);
        }
        Err(error) => return Err(error.into()),
    }
    let (bytes, digest) = FileDigest::of_file(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
    report.bytes = bytes;
    if bytes != expected.bytes {
        report.problems.push(Problem::Length { expected: expected.bytes, found: bytes });
    }
    if digest != expected.file_digest {
        report.problems.push(Problem::FileDigest { expected: expected.file_digest.clone(), found: digest });
    }
    let check = CheckDb::open(&scratch.path().join("db"))?;
    match check.ingest(&[path]) {
        Ok(()) => {}
        Err(error @ DbError::NoSpace { .. }) => return Err(error.into()),
        // Ingesting reads the first and the last block.
        Err(error @ DbError::Corrupt { .. }) => {
            report.problems.push(Problem::Checksum { why: error.to_string() });
            return Ok(report);
        }
        Err(error) => {
            report.problems.push(Problem::Unreadable { why: error.to_string() });
            return Ok(report);
        }
    }
    if let Err(error) = check.verify_checksums() {
        report.problems.push(Problem::Checksum { why: error.to_string() });
    }
    read_entries(&check, definition, file, &mut report);
    Ok(report)
}

fn read_entries(check: &CheckDb, definition: &IndexDefinition, file: &FileKeys, report: &mut FileReport) {
    let FileKeys { file: expected, first, last } = file;
    let mut content = ContentDigest::new();
    let mut frame = Frame::new();
    let mut previous: Vec<u8> = Vec::new();
    let mut first_found: Vec<u8> = Vec::new();
    let mut entry_bytes = 0;
    let mut complain = ProblemCounts::default();
    let mut iterator = check.db().raw_iterator();
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        if report.entries == 0 {
            first_found = key.to_vec();
        } else if key <= previous.as_slice() {
            complain.order(key, &mut report.problems);
        }
        if let Err(error) = decode_entry(definition, key, value) {
            complain.entry(key, error.to_string(), &mut report.problems);
        }
        frame.set(key, value);
        content.push(&frame);
        report.hash.add(entry_hash(frame.bytes()));
        report.entries += 1;
        entry_bytes += (key.len() + value.len()) as u64;
        previous.clear();
        previous.extend_from_slice(key);
        iterator.next();
    }
    let problems = &mut report.problems;
    if let Err(error) = iterator.status() {
        problems.push(Problem::Unreadable { why: error.into_string() });
    }
    if first_found != *first {
        problems.push(Problem::FirstKey { expected: to_hex(first), found: to_hex(&first_found) });
    }
    if previous != *last {
        problems.push(Problem::LastKey { expected: to_hex(last), found: to_hex(&previous) });
    }
    if report.entries != expected.entries {
        problems.push(Problem::Entries { expected: expected.entries, found: report.entries });
    }
    if entry_bytes != expected.entry_bytes {
        problems.push(Problem::EntryBytes { expected: expected.entry_bytes, found: entry_bytes });
    }
    let digest = hex(content.finish());
    if digest != expected.content_digest {
        problems.push(Problem::ContentDigest { expected: expected.content_digest.clone(), found: digest });
    }
}

#[derive(Default)]
struct ProblemCounts {
    order: usize,
    entry: usize,
}

impl ProblemCounts {
    fn order(&mut self, key: &[u8], problems: &mut Vec<Problem>) {
        self.order += 1;
        if self.order <= SHOWN_OF_A_KIND {
            problems.push(Problem::Order { key: to_hex(key) });
        }
    }

    fn entry(&mut self, key: &[u8], why: String, problems: &mut Vec<Problem>) {
        self.entry += 1;
        if self.entry <= SHOWN_OF_A_KIND {
            problems.push(Problem::Entry { key: to_hex(key), why });
        }
    }
}
