//! Compressed CSV: the same rows as of the text itself, whatever the file is called; damage is told by name.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tempfile::tempdir;

use super::*;
use crate::files::Stores;
use crate::{CsvColumn, SplitPart};

fn text(rows: usize) -> String {
    let mut text = "\u{feff}id,v\n".to_owned();
    for row in 0..rows {
        text.push_str(&format!("{row},\"text, {row}\n of \"\"row\"\" {}\"\n", row * 7919 % 100_003));
    }
    text
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

/// In several members or frames, as programs that append or work in parallel write them.
fn pieces(text: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    text.chunks(text.len() / 3 + 1).flat_map(pack).collect()
}

fn options() -> CsvOptions {
    let columns = vec![CsvColumn { name: "id".to_owned(), column_type: "int64".to_owned() }];
    CsvOptions { columns, ..CsvOptions::default() }
}

fn rows(table: &Table) -> Vec<Row> {
    // Splits of a few KiB: a compressed file is one all the same.
    read_sized(table, &names(&["id", "v"]), 4 << 10, &ReadOptions::default()).unwrap()
}

#[test]
fn a_compressed_file_has_the_rows_of_its_text_in_one_split_whatever_it_is_called() {
    let text = text(20_000);
    let bytes = text.as_bytes();
    let folder = tempdir().unwrap();
    let plain = folder.path().join("t.csv");
    fs::write(&plain, bytes).unwrap();
    let plain = table(&csv_spec(&plain, options())).unwrap();
    let expected = rows(&plain);
    assert_eq!((expected.len(), plain.compressed_files()), (20_000, 0));
    for (name, content) in [
        ("a.csv.gz", gzip(bytes)),
        ("b.csv.zst", zstd(bytes)),
        ("c.csv", gzip(bytes)),
        ("d.gz", zstd(bytes)),
        ("e.csv.gz", pieces(bytes, gzip)),
        ("f.csv.zst", pieces(bytes, zstd)),
        ("g.csv.gz", bytes.to_vec()),
    ] {
        let packed = content != bytes;
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let table = table(&csv_spec(&path, options())).unwrap();
        assert_eq!(rows(&table), expected, "{name}");
        if packed {
            let splits = table.splits(&names(&["id"])).unwrap();
            let part = SplitPart::Bytes { start: 8, end: bytes.len() as u64 };
            assert_eq!(splits.iter().map(|split| split.part).collect::<Vec<_>>(), [part], "{name}");
            assert!(table.compressed_files() > 0);
        }
    }
}

#[test]
fn small_files_and_files_without_rows_or_header_are_read_too() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.csv.gz");
    let columns = vec![CsvColumn { name: "id".to_owned(), column_type: "int64".to_owned() }];
    let bare = CsvOptions { header: false, columns, ..CsvOptions::default() };
    for (text, options, count) in
        [("id,v\n", options(), 0), ("id,v\n1,a", options(), 1), ("1", bare.clone(), 1), ("", bare, 0)]
    {
        for pack in [gzip, zstd] {
            fs::write(&path, pack(text.as_bytes())).unwrap();
            let table = table(&csv_spec(&path, options.clone())).unwrap();
            assert_eq!(read_all(&table, &names(&["id"])).unwrap().len(), count, "{text:?}");
        }
    }
}

#[test]
fn a_line_of_an_error_is_that_of_the_text() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.csv.gz");
    let mut text = text(100_000);
    text.push_str("wrong,x\n");
    fs::write(&path, gzip(text.as_bytes())).unwrap();
    let table = table(&csv_spec(&path, options())).unwrap();
    let error = read_all(&table, &names(&["id"])).unwrap_err();
    assert!(matches!(&error, SourceError::Cell { line: 200_002, value, .. } if value == "wrong"), "{error}");
}

#[test]
fn a_damaged_or_foreign_file_is_named_when_the_build_is_planned() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let whole = text(5_000);
    let (gz, zst) = (gzip(whole.as_bytes()), zstd(whole.as_bytes()));
    let mut flipped = gz.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain("id,v\n1,2\n".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let unclosed = gzip(b"id,v\n1,\"a\n2,b\n");
    let long = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(whole.repeat(200).as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    for (content, part) in [
        (gz[..gz.len() - 1].to_vec(), "cut off"),
        (gz[..gz.len() / 2].to_vec(), "cut off"),
        (zst[..zst.len() / 2].to_vec(), "cut off"),
        (flipped, "gzip"),
        ([gz.as_slice(), b"rest"].concat(), "gzip"),
        (gzip(&gz), "compressed twice"),
        (utf16.clone(), "iconv"),
        (gzip(&utf16), "iconv"),
        (b"BZh91AY&SY...".to_vec(), "bzip2"),
        (unclosed, "never closed"),
        (long, "--long"),
    ] {
        fs::write(&path, content).unwrap();
        let error = table(&csv_spec(&path, options())).and_then(|table| table.splits(&[])).unwrap_err();
        assert!(!error.is_retryable());
        let message = error.to_string();
        assert!(message.contains(part) && message.contains("/t.csv"), "{part} in {message}");
    }
}

#[test]
fn files_in_object_stores_are_recognised_and_read_as_those_on_disks() {
    let text = text(50_000);
    let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (key, content) in [
        ("t/a.csv", text.clone().into_bytes()),
        ("t/b.csv.gz", gzip(text.as_bytes())),
        ("t/c.csv.zst", zstd(text.as_bytes())),
    ] {
        runtime.block_on(store.put(&Key::from(key), content.into())).unwrap();
    }
    let stores = Stores::with([("s3://lake".to_owned(), store)]);
    let spec = TableSpec::Csv { urls: vec!["s3://lake/t/*".to_owned()], options: options() };
    let snapshot = Table::pin_in(&spec, &stores).unwrap();
    let table = Table::open_in(&spec, &stores, &snapshot).unwrap();
    let rows = rows(&table);
    let of = |file: u32| -> Vec<_> {
        rows.iter().filter(|row| row.0 == file).map(|(_, place, cells)| (*place, cells.clone())).collect()
    };
    assert_eq!(rows.len(), 150_000);
    assert!(of(0) == of(1) && of(0) == of(2));
    assert_eq!(table.compressed_files(), 2);
}

#[test]
fn a_compressed_file_that_changed_since_the_plan_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.csv.gz");
    fs::write(&path, gzip(text(1_000).as_bytes())).unwrap();
    let table = table(&csv_spec(&path, options())).unwrap();
    let split = table.splits(&names(&["id"])).unwrap()[0].clone();
    fs::write(&path, gzip(text(900).as_bytes())).unwrap();
    let error = read_split(&table, &split, &names(&["id"]), &ReadOptions::default()).unwrap_err();
    assert!(matches!(error, SourceError::FileChanged { .. }), "{error}");
}
