//! Whole tables, read through the public interface.

mod csv_tables;
mod damage;
mod etags;
mod large_pages;
mod outages;
mod parquet_tables;
mod remote;
mod snapshot;
mod test_store;

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_cast::display::array_value_to_string;

use crate::{BatchRows, CsvOptions, ReadOptions, SourceBatch, SourceError, Split, StoreOptions, Table, TableSpec};

/// A row: file, place, cells.
type Row = (u32, u64, Vec<String>);

fn url(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn parquet_spec(path: &Path) -> TableSpec {
    TableSpec::Parquet { urls: vec![url(path)] }
}

fn csv_spec(path: &Path, options: CsvOptions) -> TableSpec {
    TableSpec::Csv { urls: vec![url(path)], options }
}

fn table(spec: &TableSpec) -> Result<Table, SourceError> {
    let settings = StoreOptions::default();
    let snapshot = Table::pin(spec, &settings)?;
    Table::open(spec, &settings, &snapshot)
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn all_columns(table: &Table) -> Vec<String> {
    table.schema().fields().iter().map(|field| field.name().clone()).collect()
}

fn rows_of(batch: &SourceBatch) -> Vec<Row> {
    let SourceBatch { batch, file, rows } = batch;
    (0..batch.num_rows())
        .map(|row| {
            let place = match rows {
                BatchRows::From(first) => first + row as u64,
                BatchRows::Each(places) => places[row],
            };
            let cells = batch
                .columns()
                .iter()
                .map(|array| if array.is_null(row) { "NULL".to_owned() } else { text(array, row) })
                .collect();
            (*file, place, cells)
        })
        .collect()
}

/// A value as text. Names of time zones would need a database of them.
fn text(array: &ArrayRef, row: usize) -> String {
    match array.as_primitive_opt::<TimestampMicrosecondType>().filter(|array| array.timezone() == Some("UTC")) {
        Some(array) => array_value_to_string(&array.clone().with_timezone("+00:00"), row).unwrap(),
        None => array_value_to_string(array, row).unwrap(),
    }
}

fn read_split(
    table: &Table,
    split: &Split,
    columns: &[String],
    options: &ReadOptions,
) -> Result<Vec<Row>, SourceError> {
    let mut rows = Vec::new();
    for batch in table.read(split, columns, options)? {
        let batch = batch?;
        assert!(batch.batch.num_rows() <= options.batch_rows);
        rows.extend(rows_of(&batch));
    }
    Ok(rows)
}

/// All rows, with splits of about this size.
fn read_sized(table: &Table, columns: &[String], target: u64, options: &ReadOptions) -> Result<Vec<Row>, SourceError> {
    let mut rows = Vec::new();
    for (split, id) in table.splits_of(columns, |_| target)?.iter().zip(0..) {
        assert_eq!(split.id, id);
        let of_split = read_split(table, split, columns, options)?;
        if let Some(expected) = split.rows {
            assert_eq!(of_split.len() as u64, expected);
        }
        rows.extend(of_split);
    }
    Ok(rows)
}

fn read_all(table: &Table, columns: &[String]) -> Result<Vec<Row>, SourceError> {
    read_sized(table, columns, u64::MAX, &ReadOptions::default())
}

fn cells(rows: Vec<Row>) -> Vec<Vec<String>> {
    rows.into_iter().map(|(_, _, cells)| cells).collect()
}
