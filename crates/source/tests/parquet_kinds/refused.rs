//! The kinds of files that are refused, and those with checksums.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array};
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterVersion};

use super::columns::{codecs, low_two, one, with};
use super::file::{File, change_footer, column};
use super::thrift::{Value, i32 as int32, text};
use super::{Expected, Kind, kind};

pub(crate) fn refused() -> Vec<Kind> {
    let ids = || -> ArrayRef { Arc::new(Int32Array::from_iter_values(0..10)) };
    let plain = with(vec![("id", ids()), ("v", ids())], WriterProperties::builder());
    let of_v = |words| Expected::Refused(&["v"], words);
    let footer = |change: &dyn Fn(&mut Value)| change_footer(&plain, |footer| change(footer));
    // AesGcmV1, with nothing said about it.
    let algorithm = || Value::Struct(vec![(1, Value::Struct(vec![]))]);
    let encrypted_v = footer(&|footer| {
        footer.set(8, algorithm());
        column(footer, 1).set(8, Value::Struct(vec![(1, Value::Struct(vec![]))]));
    });
    let mut encrypted_footer = plain.clone();
    let letters = encrypted_footer.len() - 4;
    encrypted_footer[letters..].copy_from_slice(b"PARE");
    let schema = |field: i16, code: i64| footer(&|footer| footer.get(2).elements()[2].set(field, int32(code)));
    let (texts, _) = one(false, WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED);
    let mut unknown_encoding = File::read(&texts);
    unknown_encoding.pages[1].0.get(5).set(2, int32(23));
    vec![
        kind(
            "an encrypted footer",
            encrypted_footer,
            Expected::Refused(&["id"], &["/t.parquet", "footer is encrypted", "without encryption"]),
        ),
        kind(
            "an encrypted column",
            encrypted_v.clone(),
            of_v(&["/t.parquet", "column \"v\" is encrypted", "leave out"]),
        ),
        kind("beside an encrypted column", encrypted_v, Expected::AsTheLibrary(&["id"])),
        kind(
            "LZO",
            footer(&|footer| column(footer, 1).get(3).set(4, int32(3))),
            of_v(&["column \"v\"", "row group 0", "LZO", "not supported"]),
        ),
        kind(
            "beside LZO",
            footer(&|footer| column(footer, 1).get(3).set(4, int32(3))),
            Expected::AsTheLibrary(&["id"]),
        ),
        kind(
            "a codec of later",
            footer(&|footer| column(footer, 1).get(3).set(4, int32(42))),
            of_v(&["codec number 42", "not supported"]),
        ),
        kind(
            "a physical type of later",
            schema(1, 11),
            of_v(&["column \"v\"", "physical type number 11", "not supported"]),
        ),
        kind(
            "a converted type of later",
            schema(6, 77),
            of_v(&["column \"v\"", "converted type number 77", "not supported"]),
        ),
        kind(
            "an encoding of later",
            unknown_encoding.bytes(|_, _| {}),
            of_v(&["page 1", "\"v\"", "row group 0", "encoding number 23", "not supported"]),
        ),
        kind(
            "a group without columns",
            footer(&|footer| {
                let schema = footer.get(2).elements();
                schema[0].set(5, int32(3));
                schema.push(Value::Struct(vec![(3, int32(1)), (4, text("nothing")), (5, int32(0))]));
            }),
            of_v(&["\"nothing\"", "group without columns", "not supported"]),
        ),
        kind(
            "a column that lies elsewhere",
            footer(&|footer| column(footer, 1).set(1, text("other.parquet"))),
            of_v(&["column \"v\"", "other.parquet", "not supported"]),
        ),
        kind(
            "an unannotated repeated column",
            low_two("repeated int32 v; required int32 w", &[1, 2], &[0, 1]),
            of_v(&["\"v\"", "lists and maps"]),
        ),
    ]
}

/// Pages with the checksums of their bytes; `damage` then changes bytes.
fn checked(
    dictionary: bool,
    version: WriterVersion,
    codec: Compression,
    damage: impl FnOnce(&mut File),
) -> (Vec<u8>, Expected) {
    let (bytes, expected) = one(dictionary, version, codec);
    let mut file = File::read(&bytes);
    for (header, stored) in &mut file.pages {
        let mut checksum = flate2::Crc::new();
        checksum.update(stored);
        header.set(4, int32(i64::from(checksum.sum().cast_signed())));
    }
    damage(&mut file);
    (file.bytes(|_, _| {}), expected)
}

pub(crate) fn checksums() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for codec in codecs() {
            for dictionary in [false, true] {
                let name = format!("{version:?}, {codec}, dictionary {dictionary}");
                let (right, expected) = checked(dictionary, version, codec, |_| {});
                kinds.push(kind(&format!("right: {name}"), right, expected));
                // The first data page but one; with a dictionary that one, too.
                let places: &[(usize, &'static [&'static str])] = if dictionary {
                    &[
                        (0, &["/t.parquet", "the dictionary of column \"v\"", "row group 0", "checksum", "damaged"]),
                        (2, &["/t.parquet", "page 1 of column \"v\"", "row group 0", "checksum", "damaged"]),
                    ]
                } else {
                    &[(1, &["/t.parquet", "page 1 of column \"v\"", "row group 0", "checksum", "damaged"])]
                };
                for (page, words) in places {
                    let (wrong, _) = checked(dictionary, version, codec, |file| {
                        let stored = &mut file.pages[*page].1;
                        let middle = stored.len() / 2;
                        stored[middle] ^= 1;
                    });
                    kinds.push(kind(&format!("wrong: {name}, page {page}"), wrong, Expected::Refused(&["v"], words)));
                }
            }
        }
    }
    kinds
}
