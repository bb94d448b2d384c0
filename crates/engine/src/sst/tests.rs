//! Files of our writer, judged by RocksDB: opened, verified, ingested, read forwards, backwards and by key, and compared with
//! what its own `SstFileWriter` writes of the same entries.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use indexbuild_index::Compression;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, IngestExternalFileOptions, IteratorMode, Options, SstFileWriter,
};

use super::*;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn write(path: &Path, entries: &Entries, compression: Compression) -> Result<(), WriteError> {
    write_with(path, entries, compression, 0)
}

fn write_with(path: &Path, entries: &Entries, compression: Compression, bloom_bits: u32) -> Result<(), WriteError> {
    let file = File::create_new(path).unwrap();
    let mut writer = SstWriter::new(file, BlockCompression::new(compression).unwrap()).with_filter(bloom_bits);
    for (key, value) in entries {
        writer.put(key, value)?;
    }
    let Finished { file: _, bytes, digest } = writer.finish(digest(entries))?;
    assert_eq!((bytes, digest), indexbuild_index::FileDigest::of_file(path).unwrap());
    Ok(())
}

/// What stands for the digest of the entries: files of other entries have another.
fn digest(entries: &Entries) -> u128 {
    let mut bytes = Vec::new();
    for (key, value) in entries {
        for part in [key, value] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

fn ingest_options() -> IngestExternalFileOptions {
    let mut options = IngestExternalFileOptions::default();
    // As an index is ingested: its keys are new.
    options.set_allow_global_seqno(false);
    options
}

fn database(path: &Path, families: &[String]) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let families = families.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&options, path, families).unwrap()
}

/// Everything that RocksDB finds in a column family, forwards, backwards and key by key.
fn check(db: &DB, family: &str, entries: &Entries) {
    let family = db.cf_handle(family).unwrap();
    let read = |mode| {
        db.iterator_cf(family, mode).map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec()))
    };
    assert!(read(IteratorMode::Start).eq(entries.clone()));
    assert!(read(IteratorMode::End).eq(entries.clone().into_iter().rev()));
    for (key, value) in entries {
        assert_eq!(db.get_cf(family, key).unwrap().as_ref(), Some(value));
        // Right behind a key is the next one, whichever block that is in.
        let behind = [key.as_slice(), &[0]].concat();
        let next = entries.range(behind.clone()..).next().map(|(key, _)| key.clone());
        let found = db.iterator_cf(family, IteratorMode::From(&behind, rocksdb::Direction::Forward)).next();
        assert_eq!(found.map(|entry| entry.unwrap().0.to_vec()), next);
        if !entries.contains_key(&behind) {
            assert_eq!(db.get_cf(family, &behind).unwrap(), None);
        }
    }
}

/// Entries of every awkward shape: shared prefixes of all lengths, keys that are prefixes of others, empty and long ones.
fn entries(most: usize) -> impl Strategy<Value = Entries> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(254), Just(255), any::<u8>()];
    let key = prop_oneof![
        vec(byte.clone(), 1..6),
        (0..300_usize, vec(byte.clone(), 0..4)).prop_map(|(shared, rest)| [vec![7; shared + 1], rest].concat()),
        (any::<u32>(), vec(byte.clone(), 0..2)).prop_map(|(number, rest)| [&number.to_be_bytes()[..], &rest].concat()),
    ];
    let value = prop_oneof![Just(vec![]), vec(byte, 0..20), (0..3_000_usize).prop_map(|length| vec![b'v'; length])];
    btree_map(key, value, 1..most)
}

/// A block of each kind of end: at 16 KiB, before it, by one entry that is larger than all that.
fn large() -> Entries {
    let mut entries = Entries::new();
    for row in 0..20_000_u32 {
        entries.insert([b"row".as_slice(), &(row * 3).to_be_bytes()].concat(), row.to_le_bytes().to_vec());
    }
    for (row, length) in [(0_u8, 16_000_usize), (1, 16_384), (2, 20_000), (3, 1 << 20), (4, 0), (5, 130), (6, 16_384)] {
        entries.insert(vec![b'x', row], (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect());
    }
    // Nothing that compresses.
    let mut state = 1_u64;
    let noise = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    for row in 0..300_u32 {
        entries.insert([b"z".as_slice(), &row.to_be_bytes()].concat(), (0..200).map(|_| noise(&mut state)).collect());
    }
    entries
}

/// How many random sets of entries are written: `make test-long` asks for a million.
fn sets() -> usize {
    std::env::var("INDEXBUILD_SST_SETS").map_or(10_000, |sets| sets.parse().unwrap())
}

/// One set after the other, each the only file of one database, with and without a filter.
#[test]
fn rocksdb_finds_in_many_random_files_what_was_put_into_them() {
    // In memory: each file is synced several times on its way.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_log_level(rocksdb::LogLevel::Error);
    let family = ColumnFamilyDescriptor::new("default", options.clone());
    let db = DB::open_cf_descriptors(&options, folder.path().join("db"), [family]).unwrap();
    let mut ingest = ingest_options();
    ingest.set_move_files(true);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // One in ten has many blocks; the others cost a quarter.
    let (many, few) = (entries(200), entries(40));
    let path = folder.path().join("set.sst");
    for number in 0..sets() {
        let set = match number % 10 {
            0 => many.new_tree(&mut runner).unwrap().current(),
            _ => few.new_tree(&mut runner).unwrap().current(),
        };
        let bloom_bits = [0, 10, 3][number % 3];
        write_with(&path, &set, COMPRESSIONS[number / 3 % COMPRESSIONS.len()], bloom_bits).unwrap();
        db.ingest_external_file_opts(&ingest, vec![&path]).unwrap();
        check(&db, "default", &set);
        // The whole file goes, and the next one finds an empty database.
        db.delete_file_in_range_cf(
            db.cf_handle("default").unwrap(),
            set.first_key_value().unwrap().0,
            set.last_key_value().unwrap().0,
        )
        .unwrap();
        assert!(db.live_files().unwrap().is_empty(), "set {number}");
    }
}

#[test]
fn files_of_each_compression_are_read_beside_each_other_from_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let entries = large();
    let names: Vec<String> = COMPRESSIONS.iter().map(|compression| format!("{compression:?}")).collect();
    let mut families = vec!["default".to_owned()];
    families.extend(names.iter().cloned());
    let db = database(&folder.path().join("db"), &families);
    let mut sizes = Vec::new();
    for (compression, name) in COMPRESSIONS.iter().zip(&names) {
        let path = folder.path().join(name);
        write(&path, &entries, *compression).unwrap();
        sizes.push(fs::metadata(&path).unwrap().len());
        db.ingest_external_file_cf_opts(db.cf_handle(name).unwrap(), &ingest_options(), vec![path]).unwrap();
    }
    for name in &names {
        check(&db, name, &entries);
    }
    assert!(sizes[1] < sizes[0] && sizes[2] < sizes[1], "{sizes:?}");
    for family in &names {
        db.compact_range_cf(db.cf_handle(family).unwrap(), None::<&[u8]>, None::<&[u8]>);
        check(&db, family, &entries);
    }
}

/// I10: the same entries and options, the same bytes; any other of them, another name in RocksDB's cache.
#[test]
fn a_file_is_decided_by_its_entries_and_its_compression() {
    let folder = tempfile::tempdir().unwrap();
    let entries = large();
    let mut other = entries.clone();
    other.insert(b"row".to_vec(), vec![]);
    let mut files = Vec::new();
    for (number, (set, compression)) in
        COMPRESSIONS.iter().flat_map(|compression| [(&entries, compression), (&other, compression)]).enumerate()
    {
        let paths = ["a", "b"].map(|copy| folder.path().join(format!("{number}{copy}")));
        for path in &paths {
            write(path, set, *compression).unwrap();
        }
        let [one, same] = paths.map(|path| fs::read(path).unwrap());
        assert!(one == same, "{compression:?}");
        files.push(one);
    }
    let session = |file: &[u8]| {
        let name = b"rocksdb.creating.session.identity";
        let at = file.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        file[at..at + 20].to_vec()
    };
    let mut sessions: Vec<_> = files.iter().map(|file| session(file)).collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), files.len());
}

/// A file is equal to one that was written elsewhere, by another build of this program too. Where a digest changes, be it by a
/// compressor's new release, the writer's version is raised, and the new digests stand here with it.
#[test]
fn the_bytes_of_files_are_those_of_the_writer_s_version() {
    let folder = tempfile::tempdir().unwrap();
    let entries = large();
    let digests = COMPRESSIONS.map(|compression| {
        let path = folder.path().join(format!("{compression:?}"));
        write(&path, &entries, compression).unwrap();
        indexbuild_index::FileDigest::of_file(&path).unwrap().1
    });
    let filtered = folder.path().join("filtered");
    write_with(&filtered, &entries, Compression::None, 10).unwrap();
    let filtered = indexbuild_index::FileDigest::of_file(&filtered).unwrap().1;
    let recorded =
        ["263723f4f24c9f9b2f95d0a00bed5c51", "16fed47c07cad5d24a0a0c539ea3541a", "756ac29945bb4aa670f0b6aab2c505c4"];
    assert_eq!((WRITER_VERSION, digests), (1, recorded.map(str::to_owned)));
    assert_eq!(filtered, "987b000872f4939b8e59d9fd39260365");
}

#[test]
fn entries_out_of_order_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (last, next)) in
        [("b", "a"), ("b", "b"), ("bb", "b"), ("", ""), ("abcdefgh1", "abcdefgh0"), ("abcdefghi", "abcdefgh")]
            .into_iter()
            .enumerate()
    {
        let file = File::create_new(folder.path().join(number.to_string())).unwrap();
        let mut writer = SstWriter::new(file, BlockCompression::new(Compression::Lz4).unwrap());
        writer.put(last.as_bytes(), b"v").unwrap();
        assert!(matches!(writer.put(next.as_bytes(), b"v"), Err(WriteError::OutOfOrder)), "{last:?}, {next:?}");
    }
}

/// Reads a file as a consumer would: `None` if RocksDB refuses it at any point.
fn read(folder: &Path, path: &Path) -> Option<Entries> {
    let place = folder.join("read");
    let _ = fs::remove_dir_all(&place);
    let db = database(&place, &["default".to_owned()]);
    let mut options = ingest_options();
    options.set_move_files(false);
    db.ingest_external_file_opts(&options, vec![path.to_path_buf()]).ok()?;
    db.iterator(IteratorMode::Start)
        .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect::<Result<_, _>>()
        .ok()
}

#[test]
fn a_changed_byte_and_a_cut_are_found_or_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Entries = (0..40_u8).map(|row| (vec![b'k', row], vec![row; 5])).collect();
    let path = folder.path().join("whole");
    write(&path, &entries, Compression::Lz4).unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(read(folder.path(), &path), Some(entries.clone()));
    let damaged = folder.path().join("damaged");
    let mut found = 0;
    // Each region is there: data, properties, metaindex, index, footer.
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&damaged, &bytes).unwrap();
        match read(folder.path(), &damaged) {
            None => found += 1,
            Some(read) => assert_eq!(read, entries, "byte {at}"),
        }
    }
    assert!(found * 7 > whole.len() * 9 / 10, "{found} of {} were found", whole.len() / 7);
    for length in [0, 1, 52, 53, whole.len() / 2, whole.len() - 1] {
        fs::write(&damaged, &whole[..length]).unwrap();
        assert_eq!(read(folder.path(), &damaged), None, "{length}");
    }
}

/// The oracle: the same content, the same number of entries told, and a size that is not worse.
#[test]
fn a_file_holds_what_rocksdb_s_own_writer_puts_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let entries = large();
    for compression in COMPRESSIONS {
        let ours = folder.path().join(format!("ours-{compression:?}"));
        write(&ours, &entries, compression).unwrap();
        let theirs = folder.path().join(format!("theirs-{compression:?}"));
        let options = indexbuild_index::sst_options(compression);
        let mut writer = SstFileWriter::create(&options);
        writer.open(&theirs).unwrap();
        for (key, value) in &entries {
            writer.put(key, value).unwrap();
        }
        writer.finish().unwrap();
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        assert!(size(&ours) <= size(&theirs) * 102 / 100, "{} and {}", size(&ours), size(&theirs));
        assert_eq!(read(folder.path(), &ours), read(folder.path(), &theirs));
    }
}
