//! Parquet: every row once, nested columns, pages over budget, files of one table.

use std::fs::File;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

pub(super) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, Arc::clone(&array), array.is_nullable())),
    )
    .unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn column(kind: u8, values: &[Option<i32>]) -> ArrayRef {
    let values = values.iter().copied();
    match kind {
        0 => Arc::new(values.map(|value| value.map(i64::from)).collect::<Int64Array>()),
        1 => Arc::new(values.collect::<Int32Array>()),
        2 => Arc::new(values.map(|value| value.map(|value| format!("text {value}"))).collect::<StringArray>()),
        3 => Arc::new(values.map(|value| value.map(|value| value % 2 == 0)).collect::<BooleanArray>()),
        4 => Arc::new(values.map(|value| value.map(f64::from)).collect::<Float64Array>()),
        5 => Arc::new(values.map(|value| value.map(|value| value.unsigned_abs().into())).collect::<UInt64Array>()),
        6 => Arc::new(values.collect::<Date32Array>()),
        7 => Arc::new(values.map(|value| value.map(i64::from)).collect::<TimestampMicrosecondArray>()),
        8 => Arc::new(
            values
                .map(|value| value.map(i128::from))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(20, 3)
                .unwrap(),
        ),
        9 => {
            let texts: Vec<Option<String>> = values.map(|value| value.map(|value| (value % 3).to_string())).collect();
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
        }
        _ => Arc::new(values.map(|value| value.map(i32::to_be_bytes)).collect::<BinaryArray>()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn splits_cover_every_row_once_whatever_the_file_looks_like(
        values in prop::collection::vec(any::<Option<i32>>(), 0..300),
        kinds in prop::collection::vec(0_u8..11, 1..4),
        row_group_rows in 1_usize..100,
        page_rows in 1_usize..40,
        codec in 0_usize..6,
        version_2: bool,
        dictionary: bool,
        target in 1_u64..2_000,
        batch_rows in 1_usize..64,
    ) {
        let codec = [
            Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()), Compression::GZIP(Default::default()), Compression::BROTLI(Default::default()),
        ][codec];
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group_rows))
            .set_data_page_row_count_limit(page_rows)
            .set_write_batch_size(page_rows)
            .set_compression(codec)
            .set_dictionary_enabled(dictionary)
            .set_writer_version(if version_2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 })
            .build();
        let folder = tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let columns: Vec<(String, ArrayRef)> =
            kinds.iter().enumerate().map(|(at, kind)| (format!("c{at}"), column(*kind, &values))).collect();
        write(&path, columns.iter().map(|(name, array)| (name.as_str(), Arc::clone(array))).collect(), properties);
        let table = table(&parquet_spec(&path)).unwrap();
        // In another order than the file's.
        let wanted: Vec<String> = columns.iter().rev().map(|(name, _)| name.clone()).collect();
        let options = ReadOptions { batch_rows, ..ReadOptions::default() };
        let rows = read_sized(&table, &wanted, target, &options).unwrap();
        prop_assert_eq!(rows.len(), values.len());
        for (row, (file, place, cells)) in rows.iter().enumerate() {
            prop_assert_eq!((*file, *place), (0, row as u64));
            for (cell, (_, array)) in cells.iter().zip(columns.iter().rev()) {
                let expected = if array.is_null(row) { "NULL".to_owned() } else { array_value_to_string(array, row).unwrap() };
                prop_assert_eq!(cell, &expected);
            }
        }
    }
}

#[test]
fn leaves_of_structs_are_columns_and_null_where_the_struct_is() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("zip", DataType::Int32, false)),
        Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef,
    )]);
    let fields = vec![
        Arc::new(Field::new("city", DataType::Utf8, false)),
        Arc::new(Field::new("place", inner.data_type().clone(), false)),
    ];
    let cities = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let address = StructArray::try_new(
        fields.into(),
        vec![cities, Arc::new(inner)],
        Some(NullBuffer::from(vec![true, false, true])),
    )
    .unwrap();
    let id = Arc::new(Int32Array::from(vec![7, 8, 9]));
    write(&path, vec![("address", Arc::new(address)), ("id", id)], WriterProperties::default());
    let table = table(&parquet_spec(&path)).unwrap();
    assert_eq!(all_columns(&table), ["address.city", "address.place.zip", "id"]);
    let rows = cells(read_all(&table, &names(&["id", "address.place.zip", "address.city"])).unwrap());
    assert_eq!(rows, [["7", "1", "a"], ["8", "NULL", "NULL"], ["9", "3", "c"]]);
}

#[test]
fn lists_are_refused_by_name_when_they_are_asked_for_and_only_then() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("x"), Some("y")]);
    tags.append_value([None::<&str>]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("tags", Arc::new(tags.finish())), ("id", Arc::new(Int32Array::from(vec![1, 2])))];
    write(&path, columns, WriterProperties::default());
    let table = table(&parquet_spec(&path)).unwrap();
    assert_eq!(cells(read_all(&table, &names(&["id"])).unwrap()), [["1"], ["2"]]);
    let error = table.splits(&names(&["id", "tags"])).unwrap_err();
    assert!(matches!(&error, SourceError::UnsupportedType { column, .. } if column == "tags"), "{error}");
    assert!(error.to_string().contains("leave the column out"), "{error}");
}

#[test]
fn timestamps_of_96_bits_are_read_as_microseconds() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let schema = Arc::new(parse_message_type("message m { required int96 at; optional int32 id; }").unwrap());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let mut at = Int96::new();
    // 1.5 s after midnight of a day whose nanoseconds since 1970 do not fit into 64 bits.
    let julian = 2_440_588 + 200_000;
    at.set_data(1_500_000_000, 0, julian);
    column.typed::<Int96Type>().write_batch(&[at], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int32Type>().write_batch(&[5], Some(&[1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let table = table(&parquet_spec(&path)).unwrap();
    assert_eq!(table.schema().field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(cells(read_all(&table, &names(&["at", "id"])).unwrap()), [["2517-08-01T00:00:01.500", "5"]]);
}

#[test]
fn long_values_make_small_batches() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let texts: Vec<String> = (0..100).map(|row| format!("{row:010000}")).collect();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(5)
        .set_write_batch_size(5)
        .build();
    write(&path, vec![("v", Arc::new(StringArray::from(texts)))], properties);
    let table = table(&parquet_spec(&path)).unwrap();
    let columns = names(&["v"]);
    let split = &table.splits(&columns).unwrap()[0];
    let options = ReadOptions { batch_rows: 8192, batch_bytes: 200_000, ..ReadOptions::default() };
    let batches = table.read(split, &columns, &options).unwrap();
    let rows: Vec<usize> = batches.map(|batch| batch.unwrap().batch.num_rows()).collect();
    assert_eq!(rows.iter().sum::<usize>(), 100);
    assert!(rows.iter().all(|rows| (1..=20).contains(rows)), "{rows:?}");
}

#[test]
fn files_of_one_table_may_order_their_columns_but_not_change_them() {
    let folder = tempdir().unwrap();
    let numbers = |from: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![from, from + 1])) };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    write(
        &folder.path().join("a.parquet"),
        vec![("id", numbers(1)), ("v", Arc::clone(&texts))],
        WriterProperties::default(),
    );
    write(&folder.path().join("b.parquet"), vec![("v", texts), ("id", numbers(3))], WriterProperties::default());
    let all = table(&parquet_spec(&folder.path().join("?.parquet"))).unwrap();
    let rows = read_all(&all, &names(&["id", "v"])).unwrap();
    let places: Vec<(u32, u64)> = rows.iter().map(|(file, place, _)| (*file, *place)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(cells(rows), [["1", "x"], ["2", "y"], ["3", "x"], ["4", "y"]]);

    write(&folder.path().join("c.parquet"), vec![("id", numbers(1)), ("v", numbers(1))], WriterProperties::default());
    let error = table(&parquet_spec(&folder.path().join("*.parquet"))).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SourceError::SchemaMismatch { .. }), "{text}");
    for part in ["a.parquet", "c.parquet", "\"v\" is Utf8 there and Int32 here"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_file_without_row_groups_is_an_empty_table() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    write(&path, vec![("id", Arc::new(Int32Array::from(Vec::<i32>::new())))], WriterProperties::default());
    let table = table(&parquet_spec(&path)).unwrap();
    assert_eq!(read_all(&table, &names(&["id"])).unwrap(), []);
    assert_eq!(all_columns(&table), ["id"]);
    let error = table.splits(&names(&["x"])).unwrap_err().to_string();
    assert_eq!(error, "column \"x\" is not in the table; its columns are id");
}

#[test]
fn a_sample_is_a_split_s_first_rows() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    write(&path, vec![("id", Arc::new(Int64Array::from_iter_values(0..1000)))], WriterProperties::default());
    let table = table(&parquet_spec(&path)).unwrap();
    let columns = names(&["id"]);
    let split = &table.splits(&columns).unwrap()[0];
    let sample =
        table.sample(split, &columns, &ReadOptions { batch_rows: 10, ..ReadOptions::default() }).unwrap().unwrap();
    assert_eq!(rows_of(&sample).len(), 10);
    assert_eq!(sample.rows, BatchRows::From(0));
}
