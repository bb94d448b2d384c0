//! Filters of our files, judged by RocksDB: by the bytes of those that it writes itself, and by what it looks up through ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use indexbuild_index::{Compression, sst_options_with_filter};
use rocksdb::statistics::Ticker;
use rocksdb::{BlockBasedOptions, DB, IngestExternalFileOptions, Options, SstFileWriter};

use super::*;

type Keys = BTreeSet<Vec<u8>>;

fn ours(path: &Path, keys: &Keys, bloom_bits_per_key: u32) {
    let file = File::create_new(path).unwrap();
    let compression = BlockCompression::new(Compression::Lz4).unwrap();
    let mut writer = SstWriter::new(file, compression).with_filter(bloom_bits_per_key);
    for key in keys {
        writer.put(key, b"v").unwrap();
    }
    writer.end();
    writer.finish(7).unwrap();
}

fn theirs(path: &Path, keys: &Keys, bloom_bits_per_key: u32) {
    let options = sst_options_with_filter(Compression::Lz4, bloom_bits_per_key);
    let mut writer = SstFileWriter::create(&options);
    writer.open(path).unwrap();
    for key in keys {
        writer.put(key, b"v").unwrap();
    }
    writer.finish().unwrap();
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

type Block = BTreeMap<Vec<u8>, Vec<u8>>;

fn part<'f>(file: &'f [u8], handle: &mut &[u8]) -> &'f [u8] {
    let [offset, size] = [(); 2].map(|()| usize::try_from(varint(handle)).unwrap());
    &file[offset..offset + size]
}

/// The entries of a block that is not compressed.
fn entries(block: &[u8]) -> Block {
    let (rest, restarts) = block.split_at(block.len() - 4);
    let restarts = u32::from_le_bytes(restarts.try_into().unwrap()) as usize;
    let mut rest = &rest[..rest.len() - 4 * restarts];
    let mut found = Block::new();
    let mut key = Vec::new();
    while !rest.is_empty() {
        let [shared, own, value] = [(); 3].map(|()| usize::try_from(varint(&mut rest)).unwrap());
        key.truncate(shared);
        key.extend_from_slice(&rest[..own]);
        found.insert(key.clone(), rest[own..own + value].to_vec());
        rest = &rest[own + value..];
    }
    found
}

/// A file's metaindex and properties, found as a reader finds them.
fn said(file: &[u8]) -> (Block, Block) {
    let metaindex = entries(part(file, &mut &file[file.len() - 52..]));
    let properties = entries(part(file, &mut metaindex[b"rocksdb.properties".as_slice()].as_slice()));
    (metaindex, properties)
}

/// The filter's block, and the properties that speak of it: policy, size, entries.
fn filter(path: &Path) -> Option<(Vec<u8>, Vec<u8>, u64, u64)> {
    let file = fs::read(path).unwrap();
    let (metaindex, properties) = said(&file);
    let mut handle = metaindex.get(b"fullfilter.rocksdb.BuiltinBloomFilter".as_slice())?.as_slice();
    let property = |name: &str| properties[name.as_bytes()].clone();
    let number = |name: &str| varint(&mut property(name).as_slice());
    Some((
        part(&file, &mut handle).to_vec(),
        property("rocksdb.filter.policy"),
        number("rocksdb.filter.size"),
        number("rocksdb.num.filter_entries"),
    ))
}

/// Bytes without a pattern, the same each time.
fn noise(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56).to_le_bytes()[0]
}

/// The hash is right for keys of every length, or a bit of a large filter would stand elsewhere.
#[test]
fn a_filter_is_rocksdb_s_own_bit_for_bit_whatever_keys_and_bits_per_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1;
    let mut key = |length: usize| (0..length).map(|_| noise(&mut state)).collect::<Vec<u8>>();
    let every_length: Keys = (0..=300).flat_map(|length| [length; 5]).map(&mut key).collect();
    let long: Keys = [1023, 1024, 1025, 1087, 1088, 1089, 2047, 2048, 2049, 5000, 70_000].map(&mut key).into();
    let sorted: Keys = (0..20_000_u32).map(|row| [b"row".as_slice(), &row.to_be_bytes()].concat()).collect();
    let mut sets: Vec<(String, Keys, u32)> = vec![("long".to_owned(), long, 10), ("sorted".to_owned(), sorted, 10)];
    sets.extend((0..=300).map(|length| (format!("{length} bytes"), [key(length)].into(), 32)));
    sets.extend((1..=32).map(|bits| (format!("{bits} bits a key"), every_length.clone(), bits)));
    for (number, (what, keys, bits)) in sets.iter().enumerate() {
        let paths = ["ours", "theirs"].map(|whose| folder.path().join(format!("{number}-{whose}")));
        ours(&paths[0], keys, *bits);
        theirs(&paths[1], keys, *bits);
        let [ours, theirs] = paths.map(|path| filter(&path).unwrap());
        assert!(ours == theirs, "{what}");
        assert_eq!((ours.2, ours.3), (ours.0.len() as u64, keys.len() as u64), "{what}");
    }
}

/// RocksDB looks up every key, and as many absent ones between them. How many of each, and how many of the absent ones the
/// filter kept from the file's blocks.
fn looked_up(path: &Path, rows: u32) -> (u32, u32, u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.enable_statistics();
    let db = DB::open(&options, folder.path()).unwrap();
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_allow_global_seqno(false);
    db.ingest_external_file_opts(&ingest, vec![path.to_path_buf()]).unwrap();
    let found = |odd: u32| {
        let keys = (0..rows).map(|row| (2 * row + odd).to_be_bytes());
        u32::try_from(keys.filter(|key| db.get(key).unwrap().is_some()).count()).unwrap()
    };
    let present = found(0);
    assert_eq!(options.get_ticker_count(Ticker::BloomFilterUseful), 0, "a key that is there is never kept away");
    (present, found(1), options.get_ticker_count(Ticker::BloomFilterUseful))
}

#[test]
fn each_key_is_found_through_a_filter_and_few_of_those_that_are_absent_pass_it() {
    const ROWS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    // The greatest is beyond all that are looked for: no absent one is refused by the file's bounds.
    let keys: Keys = (0..=ROWS).map(|row| (2 * row).to_be_bytes().to_vec()).collect();
    for (bits, most) in [(10, ROWS * 15 / 1000), (20, ROWS / 1000)] {
        let path = folder.path().join(bits.to_string());
        ours(&path, &keys, bits);
        let (present, absent, kept) = looked_up(&path, ROWS);
        assert_eq!((present, absent), (ROWS, 0));
        let passed = u64::from(ROWS) - kept;
        assert!(passed < u64::from(most), "{passed} of {ROWS} absent keys pass a filter of {bits} bits a key");
        assert!(passed > 0 || bits > 10, "a filter that lets nothing pass was not asked");
    }
    // Control: without a filter, nothing is kept.
    let path = folder.path().join("none");
    ours(&path, &keys, 0);
    assert_eq!(filter(&path), None);
    assert_eq!(looked_up(&path, ROWS), (ROWS, 0, 0));
}

/// The identity, by which RocksDB's cache knows a file, knows the filter too.
#[test]
fn files_with_another_filter_have_another_identity_and_the_same_one_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Keys = (0..2000_u32).map(|row| row.to_be_bytes().to_vec()).collect();
    let mut files = Vec::new();
    for bits in [0, 9, 10] {
        let [one, same] = ["a", "b"].map(|copy| {
            let path = folder.path().join(format!("{bits}{copy}"));
            ours(&path, &keys, bits);
            fs::read(path).unwrap()
        });
        assert!(one == same, "{bits}");
        files.push(one);
    }
    // 9 and 10 bits have as many probes.
    let sessions = files.iter().map(|file| said(file).1[b"rocksdb.creating.session.identity".as_slice()].clone());
    assert_eq!(sessions.collect::<BTreeSet<_>>().len(), 3);
}
