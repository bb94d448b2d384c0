#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use indexbuild_faultproxy::WebServer;
use rocksdb::{DB, DBCompressionType, Options};

use super::*;
use crate::codec::{DecodedEntry, RowIdValue};
use crate::manifest::{FORMAT_VERSION, Tombstone};
use crate::sst::tests::GAUGE;
use crate::sst::{DbError, open_handles};
use crate::testing::{Build, ROWS, UID, customer_of, email_of, entries_of};

fn open(build: &Build) -> IndexSet {
    IndexSet::open(&build.url(), &StoreOptions::default(), &build.cache()).unwrap()
}

/// For so long a client waits for an answer on a connection that does not move.
const HANGS: Duration = Duration::from_secs(30);

fn turn() -> std::sync::RwLockReadGuard<'static, ()> {
    GAUGE.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn rows_of(entries: ScanEntries) -> Vec<u64> {
    let row = |entry: Result<DecodedEntry, ReadError>| match entry.unwrap().row_id {
        RowIdValue::Position(position) => position.row(),
        RowIdValue::Columns(values) => match values[..] {
            [Value::Int(id)] => id.cast_unsigned(),
            _ => panic!("{values:?}"),
        },
    };
    entries.map(row).collect()
}

/// The rows of by_customer in the index's order, by a sort that knows nothing of bytes.
fn sorted_rows() -> Vec<u64> {
    let mut rows: Vec<u64> = (0..ROWS).collect();
    rows.sort_by_key(|row| {
        let customer = match customer_of(*row) {
            Value::Int(customer) => (false, customer),
            _ => (true, 0),
        };
        (customer, std::cmp::Reverse(row / 100), *row)
    });
    rows
}

#[test]
fn a_lookup_finds_the_rows_of_a_key_and_no_others() {
    let _turn = turn();
    let build = Build::new();
    let set = open(&build);
    let email = set.index("by_email").unwrap();
    for row in [1, 49, 1_234, ROWS - 1] {
        assert_eq!(rows_of(email.get(&[email_of(row)]).unwrap()), [row]);
    }
    assert_eq!(rows_of(email.get(&[Value::String("nobody".into())]).unwrap()), [0u64; 0]);
    assert_eq!(rows_of(email.get(&[Value::Null]).unwrap()).len() as u64, ROWS / 50);
    let customer = set.index("by_customer").unwrap();
    assert_eq!(rows_of(customer.get(&[Value::Int(7), Value::Int(12)]).unwrap()), [1_207]);
    let entry = customer.get(&[Value::Int(7), Value::Int(12)]).unwrap().next().unwrap().unwrap();
    assert_eq!(entry.included, [Value::String("note 1207".into())]);
    assert!(matches!(customer.get(&[Value::Int(7)]), Err(ReadError::Codec(_))));
    assert!(matches!(email.get(&[Value::Int(7)]), Err(ReadError::Codec(_))));
}

#[test]
fn a_scan_gives_any_part_of_the_index_in_either_direction() {
    let _turn = turn();
    let build = Build::new();
    let set = open(&build);
    let index = set.index("by_customer").unwrap();
    let sorted = sorted_rows();
    assert_eq!(rows_of(index.scan(Scan::default()).unwrap()), sorted);
    let both = |scan: Scan, expected: Vec<u64>| {
        assert_eq!(rows_of(index.scan(scan.clone()).unwrap()), expected, "{scan:?}");
        let limit = Some(7);
        let first: Vec<u64> = expected.iter().copied().take(7).collect();
        assert_eq!(rows_of(index.scan(Scan { limit, ..scan.clone() }).unwrap()), first, "{scan:?}");
        let reversed: Vec<u64> = expected.into_iter().rev().collect();
        let scan = Scan { reverse: true, ..scan };
        assert_eq!(rows_of(index.scan(scan.clone()).unwrap()), reversed, "{scan:?}");
        let last: Vec<u64> = reversed.into_iter().take(7).collect();
        assert_eq!(rows_of(index.scan(Scan { limit, ..scan.clone() }).unwrap()), last, "{scan:?}");
    };
    let of = |wanted: &dyn Fn(Option<i64>, i64) -> bool| -> Vec<u64> {
        let matches = |row: &&u64| {
            let customer = if let Value::Int(customer) = customer_of(**row) { Some(customer) } else { None };
            wanted(customer, (**row / 100).cast_signed())
        };
        sorted.iter().filter(matches).copied().collect()
    };
    let int = |value: i64| vec![Value::Int(value)];
    both(Scan::default(), sorted.clone());
    both(Scan { prefix: int(42), ..Scan::default() }, of(&|customer, _| customer == Some(42)));
    both(Scan { prefix: vec![Value::Null], ..Scan::default() }, of(&|customer, _| customer.is_none()));
    both(
        Scan { from: Bound::Included(int(10)), to: Bound::Excluded(int(12)), ..Scan::default() },
        of(&|customer, _| matches!(customer, Some(10 | 11))),
    );
    both(
        Scan { from: Bound::Excluded(int(10)), to: Bound::Included(int(12)), ..Scan::default() },
        of(&|customer, _| matches!(customer, Some(11 | 12))),
    );
    // NULL is last here, so that there is no upper end but it.
    both(
        Scan { from: Bound::Excluded(int(97)), ..Scan::default() },
        of(&|customer, _| customer.is_none_or(|c| c > 97)),
    );
    // The second column descends: from the greater to the lesser.
    both(
        Scan { prefix: int(3), from: Bound::Included(int(30)), to: Bound::Included(int(20)), ..Scan::default() },
        of(&|customer, day| customer == Some(3) && (20..=30).contains(&day)),
    );
    both(Scan { from: Bound::Included(int(12)), to: Bound::Excluded(int(10)), ..Scan::default() }, Vec::new());
    assert_eq!(rows_of(index.scan(Scan { limit: Some(0), ..Scan::default() }).unwrap()), [0u64; 0]);
}

#[test]
fn only_the_files_that_are_needed_are_fetched_and_none_twice() {
    let _turn = turn();
    let build = Build::new();
    let cached = || {
        fs::read_dir(build.cache())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".sst"))
            .count()
    };
    let set = open(&build);
    let first = Scan { limit: Some(3), ..Scan::default() };
    rows_of(set.index("by_customer").unwrap().scan(first.clone()).unwrap());
    assert_eq!(cached(), 1);
    drop(set);
    // A cached file serves although the store has it no more; a damaged one does not.
    fs::remove_file(build.file(0, 0)).unwrap();
    let set = open(&build);
    assert_eq!(rows_of(set.index("by_customer").unwrap().scan(first.clone()).unwrap()).len(), 3);
    drop(set);
    let path = build.cache().join(format!("{}.sst", build.manifest.indexes[0].files[0].file_digest));
    let content = fs::read(&path).unwrap();
    fs::write(&path, &content[..content.len() - 1]).unwrap();
    let error = open(&build).index("by_customer").unwrap().scan(first).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(error, ReadError::Store(crate::store::StoreError::NotFound { .. })), "{error}");
}

#[test]
fn a_fetched_file_that_is_not_the_manifests_is_refused() {
    let _turn = turn();
    let build = Build::new();
    fs::copy(build.file(0, 1), build.file(0, 0)).unwrap();
    let set = open(&build);
    let mut entries = set.index("by_customer").unwrap().scan(Scan::default()).unwrap();
    assert!(matches!(entries.next(), Some(Err(ReadError::Damaged { .. }))));
    assert!(entries.next().is_none(), "after an error it ends");
    let kept = fs::read_dir(build.cache())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".sst"));
    assert_eq!(kept.count(), 0);
}

#[test]
fn i7_a_reader_leaves_neither_handles_nor_scratch_folders() {
    let _alone = GAUGE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let build = Build::new();
    let before = open_handles();
    let set = open(&build);
    rows_of(set.index("by_email").unwrap().scan(Scan::default()).unwrap());
    assert!(set.verify(&VerifyOptions::default()).unwrap().is_ok());
    assert_eq!(open_handles(), before + 1);
    drop(set);
    assert_eq!(open_handles(), before);
    let temporary = |build: &Build| {
        let entries = fs::read_dir(build.cache()).unwrap();
        entries.filter(|entry| indexbuild_durable::is_temporary(&entry.as_ref().unwrap().file_name())).count()
    };
    assert_eq!(temporary(&build), 0);
    // What a killed reader left, the next one removes.
    fs::create_dir(build.cache().join(".tmp-scratch-4194305-0")).unwrap();
    drop(open(&build));
    assert_eq!(temporary(&build), 0);
}

#[test]
fn where_no_index_is_the_reader_says_what_there_is_instead() {
    let build = Build::new();
    let open = |url: &str| IndexSet::open(url, &StoreOptions::default(), &build.cache());
    assert_eq!(open(&format!("{}/{UID}", build.url())).unwrap().manifest(), &build.manifest);
    assert_eq!(open(&format!("{}/{UID}/{MANIFEST}", build.url())).unwrap().manifest(), &build.manifest);
    assert!(matches!(open("file:///nonexistent"), Err(ReadError::NoIndex { .. })));
    let error = open(&build.url()).unwrap().index("by_name").unwrap_err();
    assert!(error.to_string().contains("by_customer, by_email"), "{error}");
    // G5: a tombstone is a document like the manifest.
    build.put(&Document::Tombstone(Tombstone {
        version: FORMAT_VERSION,
        put_id: "t".into(),
        build: build.manifest.build.clone(),
        reason: "the build was deleted".into(),
    }));
    let error = open(&build.url()).unwrap_err();
    assert!(matches!(&error, ReadError::Tombstone { .. }) && error.to_string().contains("was deleted"), "{error}");
    fs::remove_file(build.prefix().join(MANIFEST)).unwrap();
    assert!(matches!(open(&build.url()), Err(ReadError::NoManifest { .. })));
}

/// What verify finds in a build; the negative control is that it found nothing before.
fn found_after(damage: impl FnOnce(&mut Build)) -> VerifyReport {
    let _turn = turn();
    let mut build = Build::new();
    let sound = open(&build).verify(&VerifyOptions::default()).unwrap();
    assert!(sound.is_ok(), "{:?}", sound.problems().collect::<Vec<_>>());
    assert_eq!(sound.indexes.iter().map(|index| index.entries).sum::<u64>(), 2 * ROWS);
    damage(&mut build);
    let report = open(&build).verify(&VerifyOptions { threads: 2, progress: None }).unwrap();
    assert!(!report.is_ok());
    report
}

fn problems(report: &VerifyReport, index: usize, file: usize) -> &[Problem] {
    &report.indexes[index].files[file].problems
}

#[test]
fn verify_finds_a_flipped_byte() {
    // In the first block, which ingesting reads, and in a later one, which only the checks read.
    for at in [1_000, 8_000] {
        let report = found_after(|build| {
            let file = fs::File::options().read(true).write(true).open(build.file(0, 2)).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        });
        let found = problems(&report, 0, 2);
        assert!(found.iter().any(|problem| matches!(problem, Problem::FileDigest { .. })), "{found:?}");
        assert!(found.iter().any(|problem| matches!(problem, Problem::Checksum { .. })), "{found:?}");
        assert!(report.problems().all(|(name, file, _)| {
            name == "by_customer" && file.is_none_or(|file| file.ends_with("by_customer-2.sst"))
        }));
    }
}

#[test]
fn verify_finds_a_missing_file() {
    let report = found_after(|build| fs::remove_file(build.file(1, 3)).unwrap());
    assert_eq!(problems(&report, 1, 3), [Problem::Missing]);
    assert!(report.indexes[1].problems.iter().any(|problem| matches!(problem, Problem::Rows { .. })));
}

#[test]
fn verify_finds_swapped_files() {
    let report = found_after(|build| {
        let aside = build.prefix().join("aside");
        fs::rename(build.file(0, 0), &aside).unwrap();
        fs::rename(build.file(0, 1), build.file(0, 0)).unwrap();
        fs::rename(aside, build.file(0, 1)).unwrap();
    });
    for file in [0, 1] {
        let found = problems(&report, 0, file);
        assert!(found.iter().any(|problem| matches!(problem, Problem::FileDigest { .. })), "{found:?}");
        assert!(found.iter().any(|problem| matches!(problem, Problem::FirstKey { .. })), "{found:?}");
        assert!(found.iter().any(|problem| matches!(problem, Problem::ContentDigest { .. })), "{found:?}");
    }
}

/// The manifest describes each file as it is, so that only counts and hash of the whole tell (I6).
#[test]
fn i6_verify_finds_a_missing_row_in_files_that_are_sound() {
    let report = found_after(|build| {
        let mut entries = build.entries_of_file(0, 1);
        entries.remove(17);
        build.rewrite(0, 1, &entries);
    });
    assert_eq!(problems(&report, 0, 1), []);
    let found = &report.indexes[0].problems;
    assert!(found.contains(&Problem::Rows { rows: ROWS, entries: ROWS - 1 }), "{found:?}");
    assert!(found.contains(&Problem::Entries { expected: ROWS, found: ROWS - 1 }), "{found:?}");
    assert!(found.iter().any(|problem| matches!(problem, Problem::Hash { .. })), "{found:?}");
    assert!(report.indexes[1].problems.is_empty());
}

#[test]
fn i6_verify_finds_a_doubled_row_in_files_that_are_sound() {
    let report = found_after(|build| {
        let mut entries = build.entries_of_file(0, 1);
        entries.insert(0, build.entries_of_file(0, 0).pop().unwrap());
        build.rewrite(0, 1, &entries);
    });
    assert_eq!(problems(&report, 0, 1), []);
    let found = &report.indexes[0].problems;
    assert!(found.iter().any(|problem| matches!(problem, Problem::Overlap { .. })), "{found:?}");
    assert!(found.contains(&Problem::Rows { rows: ROWS, entries: ROWS + 1 }), "{found:?}");
    assert!(found.iter().any(|problem| matches!(problem, Problem::Hash { .. })), "{found:?}");
}

/// One row missing and another doubled: the count is right, and only the hash tells.
#[test]
fn i6_verify_finds_a_row_in_the_place_of_another() {
    let report = found_after(|build| {
        let mut entries = build.entries_of_file(0, 1);
        let other = entries_of(&build.manifest.indexes[0].definition).len() - 1;
        let value = entries_of(&build.manifest.indexes[0].definition)[other].1.clone();
        entries[5].1 = value;
        build.rewrite(0, 1, &entries);
    });
    assert_eq!(problems(&report, 0, 1), []);
    assert!(matches!(report.indexes[0].problems[..], [Problem::Hash { .. }]), "{:?}", report.indexes[0].problems);
}

#[test]
fn verify_checks_the_store_and_not_the_cache() {
    let report = found_after(|build| {
        let set = open(build);
        rows_of(set.index("by_customer").unwrap().scan(Scan::default()).unwrap());
        let content = fs::read(build.file(0, 0)).unwrap();
        fs::remove_file(build.file(0, 0)).unwrap();
        fs::write(build.file(0, 0), &content[..content.len() - 100]).unwrap();
    });
    assert!(problems(&report, 0, 0).iter().any(|problem| matches!(problem, Problem::Length { .. })));
}

#[test]
fn an_index_is_ingested_once_into_a_database_and_read_there() {
    let _turn = turn();
    let build = Build::new();
    let set = open(&build);
    let index = set.index("by_email").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let into =
        |name: Option<&str>| IngestOptions { column_family: name.map(str::to_owned), ..IngestOptions::default() };
    assert!(matches!(index.ingest(&path, &into(None)), Err(ReadError::NoDatabase { .. })));
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, &path).unwrap();
    db.put(b"mine", b"kept").unwrap();
    let error = index.ingest(&path, &into(None)).unwrap_err();
    assert!(matches!(error, ReadError::Db(DbError::LockHeldByThisProcess { .. })), "{error}");
    drop(db);
    let error = index.ingest(&path, &into(Some("emails"))).unwrap_err();
    assert!(matches!(&error, ReadError::NoColumnFamily { available, .. } if available == "default"), "{error}");
    let report = index.ingest(&path, &into(None)).unwrap();
    assert_eq!(report, IngestReport { files: 4, entries: ROWS });
    let create = IngestOptions { create_column_family: true, ..into(Some("emails")) };
    index.ingest(&path, &create).unwrap();
    for again in [into(None), create] {
        assert!(matches!(index.ingest(&path, &again), Err(ReadError::Occupied { .. })));
    }
    let db = DB::open_cf(&Options::default(), &path, ["default", "emails"]).unwrap();
    assert_eq!(db.get(b"mine").unwrap().unwrap(), b"kept");
    for (key, value) in entries_of(index.definition()) {
        assert_eq!(db.get(&key).unwrap().unwrap(), value);
        assert_eq!(db.get_cf(db.cf_handle("emails").unwrap(), &key).unwrap().unwrap(), value);
    }
}

/// A database of RocksDB's stock options compresses with Snappy, older ones and those of other builds with zlib; bzip2 needs
/// a library that hardly anybody links.
#[test]
fn an_index_is_ingested_into_a_database_of_any_usual_compression_and_its_options_stay() {
    let _turn = turn();
    let build = Build::new();
    let index = open(&build).index("by_email").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (compression, name) in [
        (DBCompressionType::None, "kNoCompression"),
        (DBCompressionType::Snappy, "kSnappyCompression"),
        (DBCompressionType::Zlib, "kZlibCompression"),
        (DBCompressionType::Lz4, "kLZ4Compression"),
        (DBCompressionType::Lz4hc, "kLZ4HCCompression"),
        (DBCompressionType::Zstd, "kZSTD"),
    ] {
        let path = folder.path().join(name);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(compression);
        let db = DB::open(&options, &path).unwrap();
        // More than a block, and compressible: what is stored is read by that library.
        for row in 0..2_000_u32 {
            db.put([b"~mine".as_slice(), &row.to_be_bytes()].concat(), [b'x'; 100]).unwrap();
        }
        db.flush().unwrap();
        drop(db);
        index.ingest(&path, &IngestOptions::default()).unwrap();
        let written = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let newest = written.filter(|path| path.to_string_lossy().contains("/OPTIONS-")).max().unwrap();
        let options = std::fs::read_to_string(newest).unwrap();
        assert!(options.lines().any(|line| line.trim() == format!("compression={name}")), "{name}: {options}");
        let db = DB::open(&Options::default(), &path).unwrap();
        db.compact_range(None::<&[u8]>, None::<&[u8]>);
        for (key, value) in entries_of(index.definition()).into_iter().take(50) {
            assert_eq!(db.get(&key).unwrap().unwrap(), value, "{name}");
        }
        assert_eq!(db.get([b"~mine".as_slice(), &7_u32.to_be_bytes()].concat()).unwrap().unwrap(), [b'x'; 100]);
    }
}

#[test]
fn deleted_keys_within_the_bounds_are_in_doubt_and_refused() {
    let _turn = turn();
    let build = Build::new();
    let index = open(&build).index("by_email").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let entries = entries_of(index.definition());
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_disable_auto_compactions(true);
    let db = DB::open(&options, &path).unwrap();
    db.delete(&entries[3].0).unwrap();
    db.flush().unwrap();
    drop(db);
    let error = index.ingest(&path, &IngestOptions::default()).unwrap_err();
    assert!(matches!(&error, ReadError::Occupied { what, .. } if what.contains("deleted")), "{error}");
    let created = IngestOptions { create_database: true, ..IngestOptions::default() };
    index.ingest(&folder.path().join("new"), &created).unwrap();
}

#[test]
fn an_empty_index_is_a_valid_one() {
    let _turn = turn();
    let mut build = Build::new();
    for index in &mut build.manifest.indexes {
        index.files.clear();
        index.entries = 0;
        index.bytes = 0;
        index.hash = crate::digest::SetHash::default().hex();
    }
    build.manifest.source.rows = 0;
    build.commit();
    let set = open(&build);
    assert!(set.verify(&VerifyOptions::default()).unwrap().is_ok());
    let index = set.index("by_email").unwrap();
    assert_eq!(rows_of(index.scan(Scan::default()).unwrap()), [0u64; 0]);
    let folder = tempfile::tempdir().unwrap();
    let created = IngestOptions { create_database: true, ..IngestOptions::default() };
    assert_eq!(index.ingest(&folder.path().join("db"), &created).unwrap(), IngestReport { files: 0, entries: 0 });
}

/// What a reader asks of a build: every file checked by that many threads at once, then a row, a part, and an ingest.
fn read_all_ways(set: &IndexSet, threads: usize, database: &Path) {
    let report = set.verify(&VerifyOptions { threads, progress: None }).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems().collect::<Vec<_>>());
    let email = set.index("by_email").unwrap();
    assert_eq!(rows_of(email.get(&[email_of(1)]).unwrap()), [1]);
    assert_eq!(rows_of(email.scan(Scan::default()).unwrap()).len() as u64, ROWS);
    let options = IngestOptions { create_database: true, ..IngestOptions::default() };
    assert_eq!(email.ingest(database, &options).unwrap().entries, ROWS);
}

/// Of a store that keeps connections alive, each answer comes at once, however many threads ask. A request that was sent
/// on a connection which nobody drives would take its client's 30 s, and all would then begin again.
#[test]
fn a_build_in_a_store_that_keeps_connections_alive_is_read_by_many_threads() {
    let _turn = turn();
    let build = Build::new();
    let server = WebServer::start(&build.name_folder()).unwrap();
    let set = IndexSet::open(&server.url(), &StoreOptions::default(), &build.cache()).unwrap();
    let begun = Instant::now();
    read_all_ways(&set, 8, &build.cache().join("db"));
    let took = begun.elapsed();
    assert!(took < HANGS, "it took {took:?}, as long as a request that hangs");
    // Connections are used again, or this would prove nothing.
    let (connections, requests) = (server.connections(), server.requests());
    assert!(requests > connections, "{requests} requests over {connections} connections");
}

/// A store that was opened and used on a runtime of its user's is read by the same rules.
#[test]
fn a_store_that_another_runtime_has_used_is_read() {
    let _turn = turn();
    let build = Build::new();
    let server = WebServer::start(&build.name_folder()).unwrap();
    let users = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(&server.url(), &StoreOptions::default()).unwrap();
    assert!(users.block_on(store.get(LATEST)).unwrap().is_some());
    let begun = Instant::now();
    let set = IndexSet::open_store(store.clone(), &build.cache()).unwrap();
    read_all_ways(&set, 2, &build.cache().join("db"));
    assert!(users.block_on(store.get(LATEST)).unwrap().is_some());
    assert!(begun.elapsed() < HANGS, "{:?}", begun.elapsed());
}
