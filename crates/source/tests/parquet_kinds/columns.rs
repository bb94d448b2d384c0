//! The kinds of files that are read.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder, UInt64Builder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
    Int96, Int96Type,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::file::{File, change_footer, column};
use super::thrift::{Value, bytes_of, i32 as int32, i64 as int64, text};
use super::{Expected, Kind, kind};

const ROWS: i32 = 1000;

pub(crate) fn with(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, Arc::clone(&array), array.null_count() > 0)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A file of a column `v` of values as they are stored.
fn low<T: DataType>(column: &str, values: &[T::T], levels: Option<&[i16]>, encoding: Encoding) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {column}; }}")).unwrap());
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_encoding(encoding).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(values, levels, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// Every third row is NULL, if so asked.
fn some<T>(nulls: bool, value: impl Fn(i32) -> T) -> impl Iterator<Item = Option<T>> {
    (0..ROWS).map(move |row| (!nulls || row % 3 > 0).then(|| value(row)))
}

const COLUMNS: &[&str] =
    &["id", "bool", "i8", "i16", "i64", "u32", "u64", "f32", "f64", "date", "ms", "us", "d9", "d30", "s", "b", "f5"];

fn columns(nulls: bool) -> Vec<(&'static str, ArrayRef)> {
    let wide = |row: i32| i64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let words = ["", "a", "日本語", "ÄÖÜ 🦀", "the same", "the same and more"];
    let fixed = some(nulls, |row| row.to_be_bytes().repeat(2)[..5].to_vec());
    vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..ROWS))),
        ("bool", Arc::new(some(nulls, |row| row % 7 < 3).collect::<BooleanArray>())),
        ("i8", Arc::new(some(nulls, |row| (row % 256 - 128) as i8).collect::<Int8Array>())),
        ("i16", Arc::new(some(nulls, |row| (row * 60 - 30_000) as i16).collect::<Int16Array>())),
        ("i64", Arc::new(some(nulls, wide).collect::<Int64Array>())),
        ("u32", Arc::new(some(nulls, |row| u32::MAX - row.unsigned_abs()).collect::<UInt32Array>())),
        ("u64", Arc::new(some(nulls, |row| wide(row).cast_unsigned()).collect::<UInt64Array>())),
        ("f32", Arc::new(some(nulls, |row| row as f32 / 3.0).collect::<Float32Array>())),
        (
            "f64",
            Arc::new(
                some(nulls, |row| if row == 5 { f64::NAN } else { f64::from(row) / 7.0 }).collect::<Float64Array>(),
            ),
        ),
        ("date", Arc::new(some(nulls, |row| row * 40).collect::<Date32Array>())),
        ("ms", Arc::new(some(nulls, |row| wide(row) >> 20).collect::<TimestampMillisecondArray>())),
        ("us", Arc::new(some(nulls, |row| wide(row) >> 10).collect::<TimestampMicrosecondArray>())),
        (
            "d9",
            Arc::new(
                some(nulls, |row| i128::from(row * 1001))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        (
            "d30",
            Arc::new(
                some(nulls, |row| i128::from(wide(row)) * 1_000_003)
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(30, 4)
                    .unwrap(),
            ),
        ),
        ("s", Arc::new(some(nulls, |row| format!("{}{}", words[row as usize % 6], row / 50)).collect::<StringArray>())),
        ("b", Arc::new(some(nulls, |row| row.to_be_bytes().repeat(row as usize % 4)).collect::<BinaryArray>())),
        ("f5", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 5).unwrap())),
    ]
}

pub(crate) fn codecs() -> [Compression; 7] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
    ]
}

pub(crate) fn types() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for codec in codecs() {
            for (dictionary, nulls) in [(false, false), (false, true), (true, false), (true, true)] {
                let properties = WriterProperties::builder()
                    .set_writer_version(version)
                    .set_compression(codec)
                    .set_dictionary_enabled(dictionary)
                    .set_data_page_row_count_limit(300)
                    .set_write_batch_size(100)
                    .set_max_row_group_row_count(Some(700));
                let name = format!("all types: {version:?}, {codec}, dictionary {dictionary}, NULLs {nulls}");
                let bytes = with(columns(nulls), properties);
                kinds.push(kind(&name, bytes, Expected::AsTheLibrary(COLUMNS)));
            }
        }
        for (encoding, of) in [
            (Encoding::DELTA_BINARY_PACKED, ["id", "i64", "i16", "us"].as_slice()),
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, &["s", "b"]),
            (Encoding::DELTA_BYTE_ARRAY, &["s", "b", "f5"]),
            (Encoding::BYTE_STREAM_SPLIT, &["f32", "f64", "id", "i64", "f5"]),
            (Encoding::RLE, &["bool"]),
        ] {
            for nulls in [false, true] {
                let properties = WriterProperties::builder().set_writer_version(version).set_dictionary_enabled(false);
                let properties = of
                    .iter()
                    .fold(properties, |properties, column| properties.set_column_encoding((*column).into(), encoding));
                let name = format!("{encoding}: {version:?}, NULLs {nulls}");
                kinds.push(kind(&name, with(columns(nulls), properties), Expected::AsTheLibrary(COLUMNS)));
            }
        }
    }
    kinds.extend(low_types());
    kinds.extend(beside_nested());
    kinds
}

fn low_types() -> Vec<Kind> {
    let numbers = [0_i64, 1, -1, 123_456_789, -999_999_999];
    let decimals = || {
        let digits = |number: i64| {
            format!("{}{}.{:02}", if number < 0 { "-" } else { "" }, number.abs() / 100, number.abs() % 100)
        };
        Expected::Values(numbers.into_iter().map(digits).collect())
    };
    let short = numbers.map(|number| i32::try_from(number).unwrap());
    // The lowest bytes, as many as are asked for; and as few as suffice.
    let fixed = |width: usize| numbers.map(|number| i128::from(number).to_be_bytes()[16 - width..].to_vec());
    let least = numbers.map(|number| {
        let bytes = number.to_be_bytes();
        let filler = if number < 0 { 0xff } else { 0 };
        let skip = bytes
            .iter()
            .take(7)
            .zip(&bytes[1..])
            .take_while(|(byte, next)| **byte == filler && (**next ^ filler) < 0x80)
            .count();
        bytes[skip..].to_vec()
    });
    let arrays = |values: [Vec<u8>; 5]| values.map(ByteArray::from);
    let fixed_arrays = |values: [Vec<u8>; 5]| values.map(FixedLenByteArray::from);
    let mut at = Int96::new();
    // 1.5 s after midnight, 200,000 days after 1970: nanoseconds of 64 bits would not reach that far.
    at.set_data(1_500_000_000, 0, 2_440_588 + 200_000);
    let half = |bits: u16| FixedLenByteArray::from(bits.to_le_bytes().to_vec());
    vec![
        kind(
            "decimal, int32",
            low::<Int32Type>("required int32 v (DECIMAL(9,2))", &short, None, Encoding::PLAIN),
            decimals(),
        ),
        kind(
            "decimal, int64",
            low::<Int64Type>("required int64 v (DECIMAL(18,2))", &numbers, None, Encoding::PLAIN),
            decimals(),
        ),
        kind(
            "decimal, 5 bytes",
            low::<FixedLenByteArrayType>(
                "required fixed_len_byte_array(5) v (DECIMAL(11,2))",
                &fixed_arrays(fixed(5)),
                None,
                Encoding::PLAIN,
            ),
            decimals(),
        ),
        kind(
            "decimal, 16 bytes",
            low::<FixedLenByteArrayType>(
                "required fixed_len_byte_array(16) v (DECIMAL(38,2))",
                &fixed_arrays(fixed(16)),
                None,
                Encoding::PLAIN,
            ),
            decimals(),
        ),
        kind(
            "decimal, as few bytes as suffice",
            low::<ByteArrayType>("required binary v (DECIMAL(11,2))", &arrays(least), None, Encoding::PLAIN),
            decimals(),
        ),
        kind(
            "timestamps of 96 bits",
            low::<Int96Type>("optional int96 v", &[at], Some(&[1, 0]), Encoding::PLAIN),
            Expected::Values(vec!["2517-08-01T00:00:01.500".to_owned(), "NULL".to_owned()]),
        ),
        kind(
            "float16",
            low::<FixedLenByteArrayType>(
                "required fixed_len_byte_array(2) v (FLOAT16)",
                &[half(0x3c00), half(0xc000), half(0x7e00), half(0x7c00)],
                None,
                Encoding::PLAIN,
            ),
            Expected::Values(["1", "-2", "NaN", "inf"].map(str::to_owned).to_vec()),
        ),
        kind(
            "booleans of RLE",
            low::<BoolType>("optional boolean v", &[true, true, false, true], Some(&[1, 1, 0, 1, 1]), Encoding::RLE),
            Expected::Values(["true", "true", "NULL", "false", "true"].map(str::to_owned).to_vec()),
        ),
        kind("more pages than 16 bits count", many_pages(), Expected::AsTheLibrary(&["id"])),
    ]
}

fn many_pages() -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_write_batch_size(1)
        .set_data_page_row_count_limit(1);
    with(vec![("id", Arc::new(Int32Array::from_iter_values(0..33_000)))], properties)
}

/// Flat columns are read, whatever stands beside them.
fn beside_nested() -> Vec<Kind> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), UInt64Builder::new());
    for row in 0..ROWS {
        (0..row % 4).for_each(|_| lists.values().append_value("x".repeat(100)));
        lists.append(row % 5 > 0);
        maps.keys().append_value("key".repeat(200));
        maps.values().append_value(row.unsigned_abs().into());
        maps.append(true).unwrap();
    }
    let (lists, maps): (ArrayRef, ArrayRef) = (Arc::new(lists.finish()), Arc::new(maps.finish()));
    let mut all = vec![("list", lists), ("map", maps)];
    all.extend(columns(true));
    let nested = with(all, WriterProperties::builder().set_compression(Compression::BROTLI(BrotliLevel::default())));
    vec![
        kind("flat columns beside lists and maps", nested.clone(), Expected::AsTheLibrary(COLUMNS)),
        kind(
            "a list",
            nested.clone(),
            Expected::Refused(&["id", "list"], &["\"list\"", "lists and maps", "leave the column out"]),
        ),
        kind("a map", nested, Expected::Refused(&["map"], &["\"map\"", "lists and maps", "leave the column out"])),
    ]
}

/// One column of texts, in one row group; of several pages, with a dictionary or without.
pub(crate) fn one(dictionary: bool, version: WriterVersion, codec: Compression) -> (Vec<u8>, Expected) {
    let texts: Vec<Option<String>> =
        (0..ROWS).map(|row| (row % 11 > 0).then(|| format!("text {}", row % 40))).collect();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionary)
        .set_writer_version(version)
        .set_compression(codec)
        .set_write_batch_size(100)
        .set_data_page_row_count_limit(300);
    let bytes = with(vec![("v", Arc::new(texts.iter().cloned().collect::<StringArray>()))], properties);
    let values = texts.into_iter().map(|text| text.unwrap_or_else(|| "NULL".to_owned())).collect();
    (bytes, Expected::Values(values))
}

/// ... changed in its pages, and in its footer at last.
fn changed(
    name: &str,
    dictionary: bool,
    codec: Compression,
    pages: impl FnOnce(&mut File),
    last: impl FnOnce(&mut Value, &File),
) -> Kind {
    let (bytes, expected) = one(dictionary, WriterVersion::PARQUET_1_0, codec);
    let mut file = File::read(&bytes);
    pages(&mut file);
    kind(name, file.bytes(last), expected)
}

fn nothing(_: &mut File) {}

fn group_without_rows(footer: &mut Value, offset: i64) -> Value {
    let mut group = footer.get(4).elements()[0].clone();
    group.set(3, int64(0));
    for chunk in group.get(1).elements() {
        (4..=7).for_each(|index| chunk.remove(index));
        let meta = chunk.get(3);
        meta.set(5, int64(0));
        meta.set(6, int64(0));
        meta.set(7, int64(0));
        meta.set(9, int64(offset));
        meta.remove(11);
        meta.remove(12);
    }
    group
}

pub(crate) fn otherwise() -> Vec<Kind> {
    const NONE: Compression = Compression::UNCOMPRESSED;
    const SNAPPY: Compression = Compression::SNAPPY;
    let gzip = Compression::GZIP(GzipLevel::default());
    let empty = |columns: Vec<(&str, ArrayRef)>| with(columns, WriterProperties::builder());
    let no_rows = empty(vec![("v", Arc::new(StringArray::from(Vec::<&str>::new())))]);
    vec![
        changed("put together again", true, SNAPPY, nothing, |_, _| {}),
        changed("a dictionary at 0, and none", false, SNAPPY, nothing, |footer, _| {
            column(footer, 0).get(3).set(11, int64(0));
        }),
        changed("a dictionary at 0, where the data should be", true, SNAPPY, nothing, |footer, _| {
            let meta = column(footer, 0).get(3);
            meta.set(9, int64(4));
            meta.set(11, int64(0));
        }),
        changed("a dictionary that is not named", true, SNAPPY, nothing, |footer, _| {
            let meta = column(footer, 0).get(3);
            meta.set(9, int64(4));
            meta.remove(11);
        }),
        changed("a length without the dictionary's header", true, SNAPPY, nothing, |footer, file| {
            let header = i64::try_from(bytes_of(&file.pages[0].0).len()).unwrap();
            let meta = column(footer, 0).get(3);
            let length = meta.get(7).int();
            meta.set(7, int64(length - header));
        }),
        changed("no statistics, no order of columns, no writer's name", true, NONE, nothing, |footer, _| {
            (6..=7).for_each(|field| footer.remove(field));
            let meta = column(footer, 0).get(3);
            (12..=17).for_each(|field| meta.remove(field));
        }),
        changed("statistics that make no sense", true, NONE, nothing, |footer, _| {
            let nan = || Value::Binary(f64::NAN.to_le_bytes().to_vec());
            let fields = vec![(1, nan()), (2, nan()), (3, int64(-7)), (5, nan()), (6, nan())];
            column(footer, 0).get(3).set(12, Value::Struct(fields));
        }),
        changed("metadata of its own", false, NONE, nothing, |footer, _| {
            let entry = |key: &str, value: Option<&str>| {
                Value::Struct(
                    [Some((1, text(key))), value.map(|value| (2, text(value)))].into_iter().flatten().collect(),
                )
            };
            footer.set(5, Value::List(12, vec![entry("ARROW:schema", Some("no schema")), entry("k", None)]));
            footer.set(40, text("a field of later"));
        }),
        changed(
            "an index among the pages",
            true,
            SNAPPY,
            |file| {
                let index =
                    Value::Struct(vec![(1, int32(1)), (2, int32(3)), (3, int32(3)), (6, Value::Struct(vec![]))]);
                file.pages.insert(2, (index, b"abc".to_vec()));
            },
            |_, _| {},
        ),
        changed(
            "long statistics in the headers",
            false,
            SNAPPY,
            |file| {
                for (header, _) in &mut file.pages {
                    let long = || Value::Binary(vec![b'x'; 5000]);
                    header.get(5).set(5, Value::Struct(vec![(1, long()), (2, long())]));
                }
            },
            |_, _| {},
        ),
        changed(
            "two members of gzip",
            false,
            gzip,
            |file| {
                for (header, stored) in &mut file.pages {
                    let mut page = Vec::new();
                    std::io::copy(&mut flate2::read::MultiGzDecoder::new(stored.as_slice()), &mut page).unwrap();
                    assert_eq!(page.len() as i64, header.get(2).int());
                    *stored = page
                        .chunks(page.len() / 2 + 1)
                        .flat_map(|part| {
                            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                            member.write_all(part).unwrap();
                            member.finish().unwrap()
                        })
                        .collect();
                }
            },
            |_, _| {},
        ),
        changed(
            "two blocks of Hadoop's LZ4",
            false,
            Compression::LZ4,
            |file| {
                for (_, stored) in &mut file.pages {
                    let page = lz4_flex::block::decompress(&stored[8..], 1 << 20).unwrap();
                    *stored = page
                        .chunks(page.len() / 2 + 1)
                        .flat_map(|part| {
                            let packed = lz4_flex::block::compress(part);
                            let lengths =
                                [part.len(), packed.len()].map(|length| u32::try_from(length).unwrap().to_be_bytes());
                            [lengths.concat(), packed].concat()
                        })
                        .collect();
                }
            },
            |_, _| {},
        ),
        changed("row groups without rows", true, SNAPPY, nothing, |footer, _| {
            let (before, after) = (group_without_rows(footer, 0), group_without_rows(footer, -1));
            let groups = footer.get(4).elements();
            groups.insert(0, before);
            groups.push(after);
        }),
        kind("no rows", no_rows.clone(), Expected::Values(vec![])),
        kind(
            "no row groups",
            change_footer(&no_rows, |footer| footer.set(4, Value::List(12, vec![]))),
            Expected::Values(vec![]),
        ),
        kind(
            "a repeated column without an annotation, beside",
            low_two("repeated int32 w; required int32 v", &[1, 2], &[0, 1]),
            Expected::Values(vec!["7".to_owned()]),
        ),
        kind(
            "an old list",
            low_two("optional group w (LIST) { repeated int32 array; } required int32 v", &[1, 2], &[0, 1]),
            Expected::Values(vec!["7".to_owned()]),
        ),
    ]
}

/// A row with two values of a repeated column, and then a column of 7.
pub(crate) fn low_two(columns: &str, values: &[i32], repetition: &[i16]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {columns}; }}")).unwrap());
    let most = if columns.starts_with("optional") { 2 } else { 1 };
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(values, Some(&vec![most; values.len()]), Some(repetition)).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(&[7], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}
