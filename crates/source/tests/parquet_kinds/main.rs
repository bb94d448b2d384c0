//! Files of the kinds that writers make, as those collected in apache/parquet-testing: made here, and read as another reader
//! reads them, or refused by the name of what is in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod columns;
mod file;
mod refused;
mod thrift;

use std::path::Path;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use bytes::Bytes;
use indexbuild_source::{ReadOptions, SourceError, StoreOptions, Table, TableSpec};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What must come of a file.
enum Expected {
    /// These columns have the values that the library's own reader finds, in every row.
    AsTheLibrary(&'static [&'static str]),
    /// The column `v` has these values, which another reader may not find.
    Values(Vec<String>),
    /// Reading these columns is refused, and the message has these words; never "damaged" besides.
    Refused(&'static [&'static str], &'static [&'static str]),
}

struct Kind {
    name: String,
    bytes: Vec<u8>,
    expected: Expected,
}

fn kind(name: &str, bytes: Vec<u8>, expected: Expected) -> Kind {
    Kind { name: name.to_owned(), bytes, expected }
}

fn read(path: &Path, columns: &[String]) -> Result<Vec<Vec<String>>, SourceError> {
    let spec = TableSpec::Parquet { urls: vec![path.to_str().unwrap().to_owned()] };
    let settings = StoreOptions::default();
    let snapshot = Table::pin(&spec, &settings)?;
    let table = Table::open(&spec, &settings, &snapshot)?;
    let mut rows = Vec::new();
    // Few rows at a time, so that batches end inside pages and row groups.
    let options = ReadOptions { batch_rows: 100, ..ReadOptions::default() };
    for split in table.splits(columns)? {
        let before = rows.len();
        for batch in table.read(&split, columns, &options)? {
            rows.extend(texts(&batch?.batch));
        }
        assert_eq!(split.rows, Some((rows.len() - before) as u64));
    }
    Ok(rows)
}

/// Cells as texts. Times are compared in the unit in which they are read here.
fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<ArrayRef> = batch.columns().iter().map(|array| comparable(array)).collect();
    let formats: Vec<_> = columns.iter().map(|array| ArrayFormatter::try_new(array, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| formats.iter().map(|format| format.value(row).to_string()).collect()).collect()
}

fn comparable(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => cast(array, &DataType::Timestamp(*unit, None)).unwrap(),
        DataType::Utf8View | DataType::LargeUtf8 => cast(array, &DataType::Utf8).unwrap(),
        DataType::BinaryView | DataType::LargeBinary => cast(array, &DataType::Binary).unwrap(),
        _ => array.clone(),
    }
}

/// What the library's reader finds, in the order of the columns asked for.
fn as_the_library(bytes: &[u8], columns: &[String]) -> Vec<Vec<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).unwrap();
    let wanted = ProjectionMask::columns(builder.parquet_schema(), columns.iter().map(String::as_str));
    let reader = builder.with_projection(wanted).build().unwrap();
    reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let places: Vec<usize> = columns.iter().map(|column| batch.schema().index_of(column).unwrap()).collect();
            texts(&batch.project(&places).unwrap())
        })
        .collect()
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

/// What is wrong with a kind, if anything.
fn wrong(path: &Path, kind: &Kind) -> Option<String> {
    std::fs::write(path, &kind.bytes).unwrap();
    match &kind.expected {
        Expected::AsTheLibrary(columns) => {
            let columns = names(columns);
            let expected = as_the_library(&kind.bytes, &columns);
            compared(read(path, &columns), &expected)
        }
        Expected::Values(values) => {
            let expected: Vec<Vec<String>> = values.iter().map(|value| vec![value.clone()]).collect();
            compared(read(path, &names(&["v"])), &expected)
        }
        Expected::Refused(columns, words) => match read(path, &names(columns)) {
            Ok(rows) => Some(format!("{} rows were read", rows.len())),
            Err(error) => {
                let text = error.to_string();
                let lacks =
                    words.iter().find(|word| !text.contains(**word)).map(|word| format!("{word:?} lacks in: {text}"));
                let damaged = text.contains("damaged or not") && !words.contains(&"damaged");
                lacks
                    .or_else(|| damaged.then(|| format!("called damaged: {text}")))
                    .or_else(|| error.is_retryable().then(|| format!("it would be tried again: {text}")))
            }
        },
    }
}

fn compared(found: Result<Vec<Vec<String>>, SourceError>, expected: &[Vec<String>]) -> Option<String> {
    match found {
        Err(error) => Some(error.to_string()),
        Ok(found) if found.len() != expected.len() => {
            Some(format!("{} rows instead of {}", found.len(), expected.len()))
        }
        Ok(found) => found
            .iter()
            .zip(expected)
            .position(|(found, expected)| found != expected)
            .map(|row| format!("row {row} is {:?} instead of {:?}", found[row], expected[row])),
    }
}

fn all_right(kinds: Vec<Kind>) {
    assert!(!kinds.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let wrong: Vec<String> =
        kinds.iter().filter_map(|kind| wrong(&path, kind).map(|wrong| format!("{}: {wrong}", kind.name))).collect();
    assert!(wrong.is_empty(), "{} of {} kinds are wrong:\n{}", wrong.len(), kinds.len(), wrong.join("\n"));
}

#[test]
fn every_type_is_read_in_every_encoding_codec_and_version() {
    all_right(columns::types());
}

#[test]
fn what_other_writers_say_otherwise_is_understood() {
    all_right(columns::otherwise());
}

#[test]
fn what_cannot_be_read_is_called_by_its_name() {
    all_right(refused::refused());
}

#[test]
fn a_page_with_a_checksum_is_read_only_if_its_bytes_are_those() {
    all_right(refused::checksums());
}
