//! Parquet pages of any size: what they take is known from their headers, and an error names what suffices.

use std::fs::File;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use tempfile::tempdir;

use super::*;

/// Texts that hardly pack, or pack to nothing.
fn texts(rows: usize, bytes: usize, packs: bool) -> Vec<String> {
    let mut state = 1_u64;
    let mut filling = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if packs { "xxxxxxxx".to_owned() } else { format!("{:08x}", state >> 32) }
    };
    (0..rows).map(|row| format!("{row:06}{}", (0..bytes / 8).map(|_| filling()).collect::<String>())).collect()
}

/// One page, or one dictionary, of all values.
fn in_one(version: WriterVersion, codec: Compression) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(codec)
        .set_dictionary_enabled(false)
        .set_write_batch_size(1 << 20)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .set_dictionary_page_size_limit(usize::MAX)
}

fn written(path: &Path, columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn read_with(table: &Table, columns: &[String], pages: u64) -> Result<Vec<Row>, SourceError> {
    let options = ReadOptions { batch_bytes: 1 << 20, ..ReadOptions::default() }.with_pages(pages);
    read_sized(table, columns, u64::MAX, &options)
}

/// Reads with too small a budget: refused from the header. What the error names suffices.
fn the_named_budget_suffices(table: &Table, columns: &[String], expected: &[Vec<String>], case: &str) {
    let Err(error) = read_with(table, columns, 20_000) else { panic!("{case}: its pages are smaller") };
    let needed = error.pages_needed().unwrap_or_else(|| panic!("{case}: {error}"));
    assert!(!error.is_retryable());
    let text = error.to_string();
    for part in ["/t.parquet", "row group 0", &format!("where {needed} suffice"), "give the executors more memory"] {
        assert!(text.contains(part), "{case}: {text}");
    }
    let rows = cells(read_with(table, columns, needed).unwrap_or_else(|error| panic!("{case}: {error}")));
    assert!(rows == expected, "{case}: the rows are others");
}

const VERSIONS: [WriterVersion; 2] = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];

#[test]
fn the_budget_that_a_refused_page_names_suffices_whatever_its_codec_encoding_and_version() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
    ];
    for (codec, version) in codecs.into_iter().flat_map(|codec| VERSIONS.map(|version| (codec, version))) {
        for (encoding, packs) in [
            (Some(Encoding::PLAIN), false),
            (Some(Encoding::PLAIN), true),
            (Some(Encoding::DELTA_LENGTH_BYTE_ARRAY), false),
            (Some(Encoding::DELTA_BYTE_ARRAY), false),
            (None, false),
        ] {
            let case = format!("{codec}, {version:?}, {encoding:?}, {packs}");
            let values = texts(120, 4000, packs);
            let properties = in_one(version, codec);
            let properties = match encoding {
                Some(encoding) => properties.set_column_encoding("v".into(), encoding),
                None => properties.set_column_dictionary_enabled("v".into(), true),
            };
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..120));
            written(&path, vec![("id", ids), ("v", Arc::new(StringArray::from(values.clone())))], properties);
            let table = table(&parquet_spec(&path)).unwrap();
            let expected: Vec<Vec<String>> =
                values.into_iter().zip(0..).map(|(value, id)| vec![id.to_string(), value]).collect();
            the_named_budget_suffices(&table, &names(&["id", "v"]), &expected, &case);
            assert_eq!(read_with(&table, &names(&["id"]), 20_000).unwrap().len(), 120, "{case}: other columns");
        }
    }
}

#[test]
fn pages_of_numbers_and_of_several_columns_are_refused_and_accepted_like_those_of_texts() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    for version in VERSIONS {
        for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
            let factor = 0x9e37_79b9_7f4a_7c15_u64.cast_signed();
            // Mixed, so that their differences pack no better than they do.
            let mixed = |row: i64| (row.wrapping_mul(factor) ^ (row.wrapping_mul(factor) >> 29)).wrapping_mul(factor);
            let numbers: Vec<i64> = (0..50_000_i64).map(mixed).collect();
            let column = || -> ArrayRef { Arc::new(Int64Array::from(numbers.clone())) };
            written(&path, vec![("v", column()), ("w", column())], in_one(version, codec));
            let table = table(&parquet_spec(&path)).unwrap();
            let expected: Vec<Vec<String>> = numbers.iter().map(|value| vec![value.to_string(); 2]).collect();
            the_named_budget_suffices(&table, &names(&["w", "v"]), &expected, &format!("{version:?} {codec}"));
        }
    }
}

#[test]
fn what_a_file_s_largest_row_group_needs_is_named_at_its_first_one() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let batch = |rows: usize| {
        let texts: ArrayRef = Arc::new(StringArray::from(texts(rows, 4000, false)));
        RecordBatch::try_from_iter([("v", texts)]).unwrap()
    };
    let properties = in_one(WriterVersion::PARQUET_1_0, Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch(1).schema(), Some(properties)).unwrap();
    for rows in [60, 30, 200, 10] {
        writer.write(&batch(rows)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let table = table(&parquet_spec(&path)).unwrap();
    let columns = names(&["v"]);
    let error = read_with(&table, &columns, 150_000).unwrap_err();
    assert!(matches!(&error, SourceError::PageTooLarge { row_group: 0, .. }), "{error}");
    assert_eq!(read_with(&table, &columns, error.pages_needed().unwrap()).unwrap().len(), 300);
}

/// Texts that hardly pack: their page is unpacked as it is read, so that it takes little more than its own size.
#[test]
fn a_page_of_80_mb_takes_little_more_than_its_size() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let rows = 20_000;
    for (codec, version, dictionary) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0, false),
        (Compression::SNAPPY, WriterVersion::PARQUET_2_0, false),
        (Compression::SNAPPY, WriterVersion::PARQUET_1_0, true),
    ] {
        let values: ArrayRef = Arc::new(StringArray::from(texts(rows, 4000, false)));
        let values: ArrayRef = if dictionary {
            let keys: Int32Array = (0..).take(rows).collect();
            Arc::new(DictionaryArray::new(keys, values))
        } else {
            values
        };
        let properties = in_one(version, codec).set_column_dictionary_enabled("v".into(), dictionary);
        written(&path, vec![("v", values)], properties);
        let table = table(&parquet_spec(&path)).unwrap();
        let columns = names(&["v"]);
        let split = &table.splits(&columns).unwrap()[0];
        let rows_with = |pages: u64| -> Result<usize, SourceError> {
            let options = ReadOptions { batch_bytes: 1 << 20, ..ReadOptions::default() }.with_pages(pages);
            table.read(split, &columns, &options)?.map(|batch| Ok(batch?.batch.num_rows())).sum()
        };
        let error = rows_with(70 << 20).unwrap_err();
        let needed = error.pages_needed().unwrap();
        assert!((80_000_000..90 << 20).contains(&needed), "{codec}: {error}");
        assert_eq!(rows_with(needed).unwrap(), rows, "{codec}");
    }
}

/// A page that says that it has more bytes than its chunk is refused without any of them.
#[test]
fn a_page_beyond_its_chunk_is_damaged() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let values: ArrayRef = Arc::new(BinaryArray::from(vec![b"abc".as_slice(); 3]));
    written(&path, vec![("v", values)], in_one(WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED));
    let mut bytes = std::fs::read(&path).unwrap();
    // Type 0, then the unpacked size of 21 bytes and the stored one.
    let at = bytes.windows(6).position(|found| found == [0x15, 0, 0x15, 42, 0x15, 42]).unwrap();
    bytes[at + 5] = 0x7e;
    std::fs::write(&path, &bytes).unwrap();
    let table = table(&parquet_spec(&path)).unwrap();
    let error = read_all(&table, &names(&["v"])).unwrap_err().to_string();
    assert!(error.contains("reaches beyond the column's chunk") && error.contains("page 0"), "{error}");
}
