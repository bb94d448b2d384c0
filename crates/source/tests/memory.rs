//! What reading a table takes of memory, whatever its values look like and however they are encoded. A process of its own:
//! the peak of its resident set is measured.
#![allow(clippy::type_complexity, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use indexbuild_source::{CsvColumn, CsvOptions, ReadOptions, SourceError, StoreOptions, Table, TableSpec};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};

const MIB: u64 = 1 << 20;
const OPTIONS: ReadOptions =
    ReadOptions { batch_rows: 8192, batch_bytes: 2 * MIB, row_budget: 2 * MIB, page_budget: 3 * MIB };
/// Twice the page budget, a batch as it is decoded and as it is given out, and what an allocator keeps.
const MOST: u64 = 20 * MIB;

/// Memory is the process's: nothing else runs meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// The value of a row: its number, then as many letters as it is to be long.
fn value(row: usize, length: usize) -> String {
    format!("{row:08}{}", "x".repeat(length.saturating_sub(8)))
}

struct Case {
    name: &'static str,
    rows: usize,
    /// The length of each row's values; `None`: NULL.
    length: fn(usize) -> Option<usize>,
    /// The number that a row's values begin with.
    begin: fn(usize) -> usize,
    columns: &'static [&'static str],
    /// Writes some rows' columns.
    write: fn(&mut dyn FnMut(Vec<(&str, ArrayRef)>), &Case),
    properties: fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
}

impl Case {
    fn text(&self, row: usize) -> Option<String> {
        (self.length)(row).map(|length| value((self.begin)(row), length))
    }

    fn write(&self, path: &Path) {
        let properties = WriterProperties::builder().set_write_batch_size(1).set_data_page_size_limit(256 << 10);
        let properties = (self.properties)(properties).set_max_row_group_row_count(Some(1 << 20)).build();
        let mut writer = None;
        (self.write)(
            &mut |columns| {
                let batch = RecordBatch::try_from_iter_with_nullable(
                    columns.into_iter().map(|(name, array)| (name, array, true)),
                )
                .unwrap();
                let writer = writer.get_or_insert_with(|| {
                    let file = File::create(path).unwrap();
                    ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).unwrap()
                });
                writer.write(&batch).unwrap();
            },
            self,
        );
        writer.unwrap().close().unwrap();
    }
}

fn ids(rows: std::ops::Range<usize>) -> ArrayRef {
    Arc::new(rows.map(|row| i64::try_from(row).unwrap()).collect::<Int64Array>())
}

/// A few rows at a time: the test itself is not to need memory.
fn plainly(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    for begin in (0..case.rows).step_by(8) {
        let rows = begin..case.rows.min(begin + 8);
        let texts: StringArray = rows.clone().map(|row| case.text(row)).collect();
        write(vec![("id", ids(rows)), ("v", Arc::new(texts))]);
    }
}

/// All rows name one value.
fn dictionary(case: &Case) -> ArrayRef {
    let keys = (0..case.rows).map(|row| (case.length)(row).map(|_| 0)).collect::<Int32Array>();
    let length = (0..case.rows).find_map(case.length).unwrap();
    Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec![value((case.begin)(0), length)]))))
}

fn with_a_dictionary(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    write(vec![("id", ids(0..case.rows)), ("v", dictionary(case))]);
}

fn in_several_columns(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    let columns = case.columns.iter().map(|column| (*column, dictionary(case)));
    write(std::iter::once(("id", ids(0..case.rows))).chain(columns).collect());
}

fn in_a_struct(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    let texts = dictionary(case);
    let nulls: NullBuffer = (0..case.rows).map(|row| (case.length)(row).is_some()).collect();
    let field = Arc::new(Field::new("v", texts.data_type().clone(), true));
    let around = StructArray::new(vec![field].into(), vec![texts], Some(nulls));
    write(vec![("id", ids(0..case.rows)), ("s", Arc::new(around))]);
}

fn of_one_width(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    for begin in (0..case.rows).step_by(8) {
        let rows = begin..case.rows.min(begin + 8);
        let mut values = FixedSizeBinaryBuilder::new(100_000);
        for row in rows.clone() {
            match case.text(row) {
                Some(text) => values.append_value(text).unwrap(),
                None => values.append_null(),
            }
        }
        write(vec![("id", ids(rows)), ("v", Arc::new(values.finish()))]);
    }
}

fn as_binary(write: &mut dyn FnMut(Vec<(&str, ArrayRef)>), case: &Case) {
    for begin in (0..case.rows).step_by(8) {
        let rows = begin..case.rows.min(begin + 8);
        let mut values = BinaryBuilder::new();
        rows.clone().for_each(|row| values.append_option(case.text(row)));
        write(vec![("id", ids(rows)), ("v", Arc::new(values.finish()))]);
    }
}

fn no_dictionary(properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    properties.set_dictionary_enabled(false)
}

/// Short values, and in the middle some long ones: the average says nothing.
fn mostly_short(row: usize) -> Option<usize> {
    Some(if (6_000..6_060).contains(&row) { 1 << 20 } else { 9 })
}

const CASES: &[Case] = &[
    Case {
        name: "a dictionary of one long text",
        rows: 3_000,
        length: |_| Some(100_000),
        begin: |_| 7,
        columns: &["v"],
        write: with_a_dictionary,
        properties: |properties| properties,
    },
    Case {
        name: "a dictionary of one text as long as a row may be",
        rows: 120,
        length: |_| Some(1 << 20),
        begin: |_| 7,
        columns: &["v"],
        write: with_a_dictionary,
        properties: |properties| properties.set_writer_version(WriterVersion::PARQUET_2_0),
    },
    Case {
        name: "dictionaries of several columns at once, with NULLs, packed",
        rows: 2_000,
        length: |row| (row % 3 > 0).then_some(64 << 10),
        begin: |_| 7,
        columns: &["a", "b", "c", "d"],
        write: in_several_columns,
        properties: |properties| properties.set_compression(Compression::ZSTD(ZstdLevel::default())),
    },
    Case {
        name: "a dictionary inside a struct that is NULL in places",
        rows: 2_000,
        length: |row| (row % 5 > 0).then_some(64 << 10),
        begin: |_| 7,
        columns: &["s.v"],
        write: in_a_struct,
        properties: |properties| properties,
    },
    Case {
        name: "texts that have nearly all in common with the one before",
        rows: 600,
        length: |_| Some(100_000),
        begin: |_| 7,
        columns: &["v"],
        write: plainly,
        properties: |properties| no_dictionary(properties).set_column_encoding("v".into(), Encoding::DELTA_BYTE_ARRAY),
    },
    Case {
        name: "long texts among short ones, plain",
        rows: 8_000,
        length: mostly_short,
        begin: |row| row,
        columns: &["v"],
        write: plainly,
        properties: no_dictionary,
    },
    Case {
        name: "long bytes among short ones, packed to next to nothing",
        rows: 8_000,
        length: mostly_short,
        begin: |row| row,
        columns: &["v"],
        write: as_binary,
        properties: |properties| no_dictionary(properties).set_compression(Compression::ZSTD(ZstdLevel::default())),
    },
    Case {
        name: "long texts among short ones, lengths first",
        rows: 8_000,
        length: mostly_short,
        begin: |row| row,
        columns: &["v"],
        write: plainly,
        properties: |properties| {
            no_dictionary(properties).set_column_encoding("v".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        },
    },
    Case {
        name: "a dictionary of wide values of one length",
        rows: 2_000,
        length: |row| (row % 7 > 0).then_some(100_000),
        begin: |_| 7,
        columns: &["v"],
        write: of_one_width,
        properties: |properties| properties,
    },
];

fn table(spec: &TableSpec) -> Table {
    let settings = StoreOptions::default();
    let snapshot = Table::pin(spec, &settings).unwrap();
    Table::open(spec, &settings, &snapshot).unwrap()
}

fn parquet(path: &Path) -> Table {
    table(&TableSpec::Parquet { urls: vec![path.to_str().unwrap().to_owned()] })
}

fn bytes_of(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(row),
        other => panic!("{other}"),
    })
}

/// Reads all rows, and checks each. What the process took meanwhile, besides what it had.
fn read(table: &Table, case: &Case) -> u64 {
    let mut columns = vec!["id".to_owned()];
    columns.extend(case.columns.iter().map(|column| (*column).to_owned()));
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let mut row = 0;
    for split in table.splits(&columns).unwrap() {
        for batch in table.read(&split, &columns, &OPTIONS).unwrap() {
            let batch = batch.unwrap().batch;
            let bytes = batch.get_array_memory_size() as u64;
            assert!(batch.num_rows() == 1 || bytes <= OPTIONS.batch_bytes + 4096, "{}: {bytes} bytes", case.name);
            for at in 0..batch.num_rows() {
                assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(at), i64::try_from(row).unwrap());
                let expected = case.text(row);
                for column in batch.columns().iter().skip(1) {
                    assert!(
                        bytes_of(column, at) == expected.as_ref().map(String::as_bytes),
                        "{}: row {row} is another",
                        case.name
                    );
                }
                row += 1;
            }
        }
    }
    assert_eq!(row, case.rows, "{}", case.name);
    memory("VmHWM:").saturating_sub(before)
}

#[test]
fn a_reader_keeps_to_its_budget_whatever_the_values_and_their_encoding() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for case in CASES {
        let path = folder.path().join("t.parquet");
        case.write(&path);
        let taken = read(&parquet(&path), case);
        println!("{}: {} KiB", case.name, taken >> 10);
        assert!(taken < MOST, "{}: reading took {} MiB", case.name, taken / MIB);
    }

    let case = Case {
        name: "cells as long as a row may be, and short ones",
        rows: 60,
        length: |row| Some(if row % 3 == 0 { 2_000_000 } else { 20 }),
        begin: |row| row,
        columns: &["v"],
        write: plainly,
        properties: |properties| properties,
    };
    let path = folder.path().join("t.csv");
    let lines = (0..case.rows).map(|row| format!("{row},{}\n", case.text(row).unwrap())).collect::<String>();
    std::fs::write(&path, format!("id,v\n{lines}")).unwrap();
    drop(lines);
    let id = CsvColumn { name: "id".to_owned(), column_type: "int64".to_owned() };
    let options = CsvOptions { columns: vec![id], ..CsvOptions::default() };
    let taken = read(&table(&TableSpec::Csv { urls: vec![path.to_str().unwrap().to_owned()], options }), &case);
    println!("{}: {} KiB", case.name, taken >> 10);
    assert!(taken < MOST, "{}: reading took {} MiB", case.name, taken / MIB);
}

/// A value over the budget is refused by name, before it is copied; without that column the table can be read.
#[test]
fn a_value_over_the_budget_is_refused_with_its_place() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (encoding, length, write) in [
        (None, 2_500_000, with_a_dictionary as fn(&mut dyn FnMut(Vec<(&str, ArrayRef)>), &Case)),
        (Some(Encoding::PLAIN), 2_500_000, plainly),
        (Some(Encoding::DELTA_LENGTH_BYTE_ARRAY), 2_500_000, plainly),
        (Some(Encoding::DELTA_BYTE_ARRAY), 2_500_000, plainly),
    ] {
        let path = folder.path().join("t.parquet");
        let properties = WriterProperties::builder().set_write_batch_size(1).set_data_page_size_limit(256 << 10);
        let properties = match encoding {
            Some(encoding) => no_dictionary(properties).set_column_encoding("v".into(), encoding),
            None => properties,
        };
        let long = Case {
            name: "long",
            rows: 3,
            length: |_| Some(2_500_000),
            begin: |_| 7,
            columns: &["v"],
            write,
            properties: |properties| properties,
        };
        let mut batches = Vec::new();
        (long.write)(&mut |columns| batches.push(RecordBatch::try_from_iter(columns).unwrap()), &long);
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batches[0].schema(), Some(properties.build())).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();

        let table = parquet(&path);
        let columns = ["id", "v"].map(str::to_owned);
        let split = &table.splits(&columns).unwrap()[0];
        let error = table.read(split, &columns, &OPTIONS).unwrap().find_map(Result::err).unwrap();
        match &error {
            SourceError::ValueTooLarge { url, row_group: 0, column, bytes, budget } => {
                assert!(url.ends_with("t.parquet") && column == "v", "{error}");
                assert!(*bytes >= length && *budget == OPTIONS.row_budget, "{error}");
            }
            other => panic!("{encoding:?}: {other}"),
        }
        assert!(!error.is_retryable() && error.to_string().contains("leave the column out"), "{error}");
        let rows: usize =
            table.read(split, &columns[..1], &OPTIONS).unwrap().map(|batch| batch.unwrap().batch.num_rows()).sum();
        assert_eq!(rows, 3);
    }
}

/// Each column's pages fit, all of them together do not: that is said, instead of taking the memory.
#[test]
fn pages_of_many_columns_that_do_not_fit_together_are_refused_by_name() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let text: ArrayRef = Arc::new(StringArray::from(vec![value(0, 1 << 20)]));
    let batch = RecordBatch::try_from_iter(names.iter().map(|name| (name.as_str(), Arc::clone(&text)))).unwrap();
    let properties = no_dictionary(WriterProperties::builder()).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let table = parquet(&path);
    let split = &table.splits(&names).unwrap()[0];
    let options = ReadOptions { row_budget: 64 * MIB, ..OPTIONS };
    let error = table.read(split, &names, &options).unwrap().find_map(Result::err).unwrap();
    assert!(
        matches!(&error, SourceError::PagesTooLarge { row_group: 0, column, columns: 8, .. } if column == "c5"),
        "{error}"
    );
    let some = &names[..4];
    assert_eq!(
        table.read(split, some, &options).unwrap().map(|batch| batch.unwrap().batch.num_rows()).sum::<usize>(),
        1
    );
}
