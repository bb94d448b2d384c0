//! Columns in the names of folders.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use parquet::file::properties::WriterProperties;
use tempfile::{TempDir, tempdir};

use super::differing_files::{build_reads, rules};
use super::parquet_tables::write;
use super::*;
use crate::MissingColumns::{Fail, Null};

/// A table of one file per folder, of both formats, with the column `id`: the file's number, from 0.
fn tables(folders: &[&str]) -> Vec<(TempDir, Table)> {
    ["parquet", "csv"]
        .map(|format| {
            let folder = tempdir().unwrap();
            for (inner, id) in folders.iter().zip(0..) {
                let inner = folder.path().join(inner);
                fs::create_dir_all(&inner).unwrap();
                let file = inner.join(format!("{id}.{format}"));
                if format == "csv" {
                    fs::write(file, format!("id\n{id}\n")).unwrap();
                } else {
                    let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
                    write(&file, vec![("id", ids)], WriterProperties::default());
                }
            }
            let files = folder.path().join("**").join(format!("*.{format}"));
            let spec = if format == "csv" { csv_spec(&files, CsvOptions::default()) } else { parquet_spec(&files) };
            (table(&spec).map(|table| (folder, table))).unwrap()
        })
        .into()
}

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}

#[test]
fn a_folder_s_name_is_a_column_of_text_or_of_the_type_that_it_is_given() {
    for (column_type, values) in [
        ("string", [("01", "01"), ("a%2Fb%20%C3%A4", "a/b ä"), ("", "")]),
        ("bool", [("true", "true"), ("0", "false"), ("F", "false")]),
        ("int8", [("-1", "-1"), ("01", "1"), ("127", "127")]),
        ("int16", [("1", "1"), ("2", "2"), ("3", "3")]),
        ("int32", [("2024", "2024"), ("2", "2"), ("3", "3")]),
        ("int64", [("9223372036854775807", "9223372036854775807"), ("2", "2"), ("3", "3")]),
        ("uint8", [("255", "255"), ("2", "2"), ("3", "3")]),
        ("uint16", [("1", "1"), ("2", "2"), ("3", "3")]),
        ("uint32", [("1", "1"), ("2", "2"), ("3", "3")]),
        ("uint64", [("18446744073709551615", "18446744073709551615"), ("2", "2"), ("3", "3")]),
        ("float32", [("1.5", "1.5"), ("-0.5", "-0.5"), ("2", "2.0")]),
        ("float64", [("1.5", "1.5"), ("-0.5", "-0.5"), ("2", "2.0")]),
        ("decimal(5,2)", [("1.5", "1.50"), ("2", "2.00"), ("-3.25", "-3.25")]),
        ("decimal(12,2)", [("1.5", "1.50"), ("2", "2.00"), ("-3.25", "-3.25")]),
        ("decimal(30,2)", [("1.5", "1.50"), ("2", "2.00"), ("-3.25", "-3.25")]),
        ("date", [("2024-02-29", "2024-02-29"), ("1969-12-31", "1969-12-31"), ("2024-01-01", "2024-01-01")]),
        ("time", [("10%3A30", "10:30:00"), ("23%3A59%3A59", "23:59:59"), ("00%3A00", "00:00:00")]),
        (
            "timestamp",
            [
                ("2024-01-01 00%3A00%3A01", "2024-01-01T00:00:01"),
                ("2024-01-01", "2024-01-01T00:00:00"),
                ("1969-12-31", "1969-12-31T00:00:00"),
            ],
        ),
        ("bytes", [("%00%FF", "00ff"), ("a", "61"), ("%41", "41")]),
    ] {
        let folders: Vec<String> = values.iter().map(|(text, _)| format!("p={text}")).collect();
        let mut folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        folders.push("p=__HIVE_DEFAULT_PARTITION__");
        let expected: Vec<Vec<String>> = values
            .iter()
            .map(|(_, shown)| *shown)
            .chain(["NULL"])
            .zip(0..)
            .map(|(shown, id): (_, i32)| vec![id.to_string(), shown.to_owned()])
            .collect();
        for (_folder, table) in tables(&folders) {
            let (_, rows) = build_reads(&table, &["id", "p"], &rules(Fail, &[("p", column_type)])).unwrap();
            assert_eq!(sorted(rows), expected, "{column_type}");
        }
    }
}

#[test]
fn folders_that_are_not_used_and_types_that_are_not_given_mean_nothing_but_text() {
    for (_folder, table) in tables(&["year=2024/month=01", "year=2024/month=1/x=1/x=2", "year=2023/month=01"]) {
        let (types, rows) = build_reads(&table, &["month", "id", "year"], &rules(Fail, &[("year", "int32")])).unwrap();
        assert_eq!((types[0].as_str(), types[2].as_str()), ("Utf8", "Int32"));
        assert_eq!(sorted(rows), [["01", "0", "2024"], ["01", "2", "2023"], ["1", "1", "2024"]]);
        // For the folders' names alone, no column of a file is read.
        let (_, rows) = build_reads(&table, &["year"], &rules(Fail, &[])).unwrap();
        assert_eq!(sorted(rows), [["2023"], ["2024"], ["2024"]]);
        let (_, rows) = build_reads(&table, &["id"], &rules(Fail, &[])).unwrap();
        assert_eq!(sorted(rows).concat(), ["0", "1", "2"]);
    }
}

#[test]
fn each_folder_that_says_nothing_clear_is_refused_with_its_file() {
    for (folders, used, typed, parts) in [
        (vec!["p=1", "p=x"], "p", vec![("p", "int32")], vec!["/p=x/1.", "\"p\" is \"x\"", "an int32", "partition"]),
        (vec!["p=1", "p="], "p", vec![("p", "int32")], vec!["/p=/1.", "\"\"", "an int32"]),
        (vec!["p=1", "p=%FF"], "p", vec![], vec!["/p=%", "1.", "valid UTF-8"]),
        (vec!["p=1", "p=1/p=2"], "p", vec![], vec!["/p=1/p=2/1.", "several folders p="]),
        (vec!["p=1", "other"], "p", vec![], vec!["/other/1.", "no column \"p\"", "missingColumns"]),
        (vec!["p=1", "id=3"], "id", vec![], vec!["\"id\"", "/id=3/1."]),
        (vec!["p=1", "p=2"], "p", vec![("P", "int32")], vec!["partition \"P\"", "no file's path", "P=..."]),
        (vec!["p=1", "p=2"], "id", vec![("P", "int32")], vec!["partition \"P\""]),
        (vec!["p=1", "p=2"], "p", vec![("p", "year")], vec!["\"p\"", "type year", "int32"]),
    ] {
        for (_folder, table) in tables(&folders) {
            let error = build_reads(&table, &["id", used], &rules(Fail, &typed)).unwrap_err();
            for part in &parts {
                assert!(error.to_string().contains(part), "{part} in {error}");
            }
            assert!(!error.is_retryable());
        }
    }
}

#[test]
fn a_file_outside_the_folders_has_null_where_that_is_asked_for() {
    for (_folder, table) in tables(&["p=1", "other", "p=__HIVE_DEFAULT_PARTITION__"]) {
        let (_, rows) = build_reads(&table, &["id", "p"], &rules(Null, &[("p", "int32")])).unwrap();
        assert_eq!(sorted(rows), [["0", "1"], ["1", "NULL"], ["2", "NULL"]]);
    }
}

#[test]
fn a_column_that_is_in_some_files_and_in_the_folders_of_others_is_refused_with_both() {
    let folder = tempdir().unwrap();
    for (path, text) in [("a/0.csv", "id,p\n0,x\n"), ("p=y/1.csv", "id\n1\n")] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let table = table(&csv_spec(&folder.path().join("*/*.csv"), CsvOptions::default())).unwrap();
    let error = build_reads(&table, &["p"], &rules(Null, &[])).unwrap_err().to_string();
    assert!(error.contains("a/0.csv") && error.contains("p=y/1.csv"), "{error}");
    assert!(build_reads(&table, &["id"], &rules(Fail, &[])).is_ok());
}

#[test]
fn folders_are_among_what_may_be_named() {
    for (_folder, table) in tables(&["year=1/month=2"]) {
        let found = table.survey(&names(&["year", "nope"]), &rules(Fail, &[])).unwrap();
        let found: Vec<&String> = found.fields().iter().map(|field| field.name()).collect();
        assert_eq!(found, ["id", "month", "year"]);
        let error = table.splits(&names(&["nope"])).unwrap_err().to_string();
        assert_eq!(error, "column \"nope\" is not in the table; its columns are id, month, year");
    }
}

#[test]
fn a_type_under_columns_and_one_under_partitions_is_one_too_many() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("p=1")).unwrap();
    fs::write(folder.path().join("p=1/a.csv"), "id,p\n1,2\n").unwrap();
    let columns = rules(Fail, &[("p", "int32")]).partitions;
    let options = CsvOptions { columns, ..CsvOptions::default() };
    let table = table(&csv_spec(&folder.path().join("*/*.csv"), options)).unwrap();
    let error = table.survey(&names(&["id"]), &rules(Fail, &[("p", "int32")])).unwrap_err().to_string();
    assert!(error.contains("\"p\" has a type under columns and one under partitions"), "{error}");
}

#[test]
fn a_table_that_is_read_for_its_folders_alone_is_cut_as_others_are() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("p=1")).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    write(&folder.path().join("p=1/a.parquet"), vec![("id", ids)], properties);
    let table = table(&parquet_spec(&folder.path().join("*/*.parquet"))).unwrap();
    let splits = table.splits_of(&names(&["p"]), |_| 1600).unwrap();
    assert_eq!(splits.len(), 5);
    assert_eq!(splits.iter().map(|split| split.rows.unwrap()).sum::<u64>(), 1000);
    let (_, rows) = build_reads(&table, &["p"], &rules(Fail, &[])).unwrap();
    assert_eq!(rows, vec![vec!["1"]; 1000]);
}
