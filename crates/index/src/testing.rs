//! A small committed build for tests, written straight with `SstFileWriter`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::SstFileWriter;

use crate::codec::{Position, RowIdValue, encode_entry};
use crate::definition::{ColumnType, Compression, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId};
use crate::digest::{ContentDigest, FileDigest, Frame, SetHash, entry_hash, hex};
use crate::manifest::{
    BuildRef, ChosenWork, Document, FORMAT_VERSION, IndexFile, IndexManifest, LATEST, Latest, MANIFEST, Manifest,
    SourceFile, SourceSummary,
};
use crate::sst::sst_options;
use crate::value::{Value, to_hex};

pub(crate) type Entry = (Vec<u8>, Vec<u8>);

pub(crate) const ROWS: u64 = 5_000;
pub(crate) const UID: &str = "0b8e6f0e-1111-4222-8333-444455556666";

pub(crate) fn write_sst(path: &Path, entries: &[Entry], compression: Compression) {
    let options = sst_options(compression);
    let mut writer = SstFileWriter::create(&options);
    writer.open(path).unwrap();
    for (key, value) in entries {
        writer.put(key, value).unwrap();
    }
    writer.finish().unwrap();
}

pub(crate) fn hash_of(entries: &[Entry]) -> SetHash {
    let mut frame = Frame::new();
    let mut hash = SetHash::default();
    for (key, value) in entries {
        frame.set(key, value);
        hash.add(entry_hash(frame.bytes()));
    }
    hash
}

/// Writes a file of an index, and what the manifest says of it.
pub(crate) fn write_file(root: &Path, path: &str, entries: &[Entry], compression: Compression) -> IndexFile {
    let target = root.join(path);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    if target.exists() {
        fs::remove_file(&target).unwrap();
    }
    write_sst(&target, entries, compression);
    let (bytes, file_digest) = FileDigest::of_file(&target).unwrap();
    let mut content = ContentDigest::new();
    let mut frame = Frame::new();
    for (key, value) in entries {
        frame.set(key, value);
        content.push(&frame);
    }
    IndexFile {
        path: path.to_owned(),
        range: 0,
        first_key: to_hex(&entries[0].0),
        last_key: to_hex(&entries[entries.len() - 1].0),
        entries: entries.len() as u64,
        bytes,
        entry_bytes: entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
        content_digest: hex(content.finish()),
        file_digest,
        writer_version: None,
    }
}

pub(crate) fn by_customer() -> IndexDefinition {
    let column = |name: &str, column_type, order| KeyColumn {
        name: name.into(),
        column_type,
        order,
        nulls: Nulls::default_for(order),
    };
    IndexDefinition {
        name: "by_customer".into(),
        unique: false,
        columns: vec![
            column("customer", ColumnType::Int64, Order::Asc),
            column("created", ColumnType::Date, Order::Desc),
        ],
        row_id: RowId::Position,
        include: vec![IncludedColumn { name: "note".into(), column_type: ColumnType::String }],
    }
}

pub(crate) fn by_email() -> IndexDefinition {
    let column =
        |name: &str, column_type| KeyColumn { name: name.into(), column_type, order: Order::Asc, nulls: Nulls::Last };
    IndexDefinition {
        name: "by_email".into(),
        unique: true,
        columns: vec![column("email", ColumnType::String)],
        row_id: RowId::Columns(vec![column("id", ColumnType::Int64)]),
        include: Vec::new(),
    }
}

/// Customer 0 to 99, fifty rows each; every 97th row has NULL instead.
pub(crate) fn customer_of(row: u64) -> Value {
    if row.is_multiple_of(97) { Value::Null } else { Value::Int((row % 100).cast_signed()) }
}

/// Every 50th row has no address.
pub(crate) fn email_of(row: u64) -> Value {
    if row.is_multiple_of(50) { Value::Null } else { Value::String(format!("user{row:05}@example.com")) }
}

pub(crate) fn entries_of(def: &IndexDefinition) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..ROWS)
        .map(|row| {
            if def.unique {
                let row_id = RowIdValue::Columns(vec![Value::Int(row.cast_signed())]);
                encode_entry(def, &[email_of(row)], &row_id, &[]).unwrap()
            } else {
                let keys = [customer_of(row), Value::Int((row / 100).cast_signed())];
                let row_id = RowIdValue::Position(Position::new(0, row).unwrap());
                encode_entry(def, &keys, &row_id, &[Value::String(format!("note {row}"))]).unwrap()
            }
        })
        .collect();
    entries.sort();
    entries
}

/// A build in a folder: `<root>/default/orders/<uid>/`, with `LATEST`.
pub(crate) struct Build {
    root: tempfile::TempDir,
    pub(crate) manifest: Manifest,
}

impl Build {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let prefix = root.path().join("default/orders").join(UID);
        let mut indexes = Vec::new();
        for (def, compression) in [(by_customer(), Compression::Lz4), (by_email(), Compression::Zstd)] {
            let entries = entries_of(&def);
            let files: Vec<IndexFile> = entries
                .chunks(entries.len().div_ceil(4))
                .enumerate()
                .map(|(n, part)| {
                    write_file(&prefix, &format!("attempts/sort-{n}/1-a/{}-{n}.sst", def.name), part, compression)
                })
                .collect();
            indexes.push(IndexManifest {
                entries: ROWS,
                hash: hash_of(&entries).hex(),
                bytes: files.iter().map(|file| file.bytes).sum(),
                definition: def,
                files,
            });
        }
        let manifest = Manifest {
            version: FORMAT_VERSION,
            put_id: "put".into(),
            build: BuildRef { namespace: "default".into(), name: "orders".into(), uid: UID.into() },
            plan_digest: hex(0),
            source: SourceSummary {
                files: vec![SourceFile { url: "file:///orders.parquet".into(), size: 1, etag: None, mtime: None }],
                rows: ROWS,
            },
            indexes,
            works: vec![ChosenWork { work_id: "plan".into(), epoch: 1, boot_nonce: "a".into(), digest: hex(0) }],
        };
        let build = Self { root, manifest };
        build.commit();
        let latest = Latest { version: FORMAT_VERSION, build_uid: UID.into(), created: "2026-01-02T03:04:05Z".into() };
        fs::write(build.name_folder().join(LATEST), latest.to_bytes().unwrap()).unwrap();
        build
    }

    /// Writes the manifest as it is now.
    pub(crate) fn commit(&self) {
        self.put(&Document::Manifest(self.manifest.clone()));
    }

    pub(crate) fn put(&self, document: &Document) {
        fs::write(self.prefix().join(MANIFEST), document.to_bytes().unwrap()).unwrap();
    }

    pub(crate) fn name_folder(&self) -> PathBuf {
        self.root.path().join("default/orders")
    }

    pub(crate) fn prefix(&self) -> PathBuf {
        self.name_folder().join(UID)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.name_folder().display())
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub(crate) fn file(&self, index: usize, file: usize) -> PathBuf {
        self.prefix().join(&self.manifest.indexes[index].files[file].path)
    }

    /// The entries that one of the files was written with.
    pub(crate) fn entries_of_file(&self, index: usize, file: usize) -> Vec<Entry> {
        let entries = entries_of(&self.manifest.indexes[index].definition);
        entries.chunks(entries.len().div_ceil(4)).nth(file).unwrap().to_vec()
    }

    /// Rewrites a file with other entries and has the manifest say so of the file, so that only what
    /// is said of the whole index can tell.
    pub(crate) fn rewrite(&mut self, index: usize, file: usize, entries: &[Entry]) {
        let path = self.manifest.indexes[index].files[file].path.clone();
        let prefix = self.prefix();
        let entry = &mut self.manifest.indexes[index];
        entry.files[file] = write_file(&prefix, &path, entries, Compression::Lz4);
        entry.bytes = entry.files.iter().map(|file| file.bytes).sum();
        self.commit();
    }
}
