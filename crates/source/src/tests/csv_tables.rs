//! CSV: types, NULLs, quoting, splits, and each error's text.

use std::fs;

use proptest::prelude::*;
use tempfile::tempdir;

use super::*;
use crate::{CsvColumn, SplitPart};

fn typed(columns: &[(&str, &str)]) -> CsvOptions {
    let columns = columns
        .iter()
        .map(|(name, column_type)| CsvColumn { name: (*name).to_owned(), column_type: (*column_type).to_owned() })
        .collect();
    CsvOptions { columns, ..CsvOptions::default() }
}

fn of_text(text: impl AsRef<[u8]>, options: CsvOptions) -> Result<(tempfile::TempDir, Table), SourceError> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, text).unwrap();
    table(&csv_spec(&path, options)).map(|table| (folder, table))
}

/// The error of reading this text, without the folder's name.
fn error_of(text: impl AsRef<[u8]>, options: CsvOptions, columns: &[&str]) -> String {
    let (folder, table) = of_text(text, options).unwrap();
    let error = read_all(&table, &names(columns)).unwrap_err();
    assert!(!error.is_retryable());
    error.to_string().replace(&format!("file://{}/", folder.path().display()), "")
}

#[test]
fn every_type_is_read_and_a_null_is_an_unquoted_text_of_the_list() {
    let types = [
        ("b", "bool", "true"),
        ("i8", "int8", "-128"),
        ("i16", "int16", "-32768"),
        ("i32", "int32", "-2147483648"),
        ("i64", "int64", "-9223372036854775808"),
        ("u8", "uint8", "255"),
        ("u16", "uint16", "65535"),
        ("u32", "uint32", "4294967295"),
        ("u64", "uint64", "18446744073709551615"),
        ("f32", "float32", "1.5"),
        ("f64", "float64", "-0.25"),
        ("d", "decimal(5, 2)", "-123.45"),
        ("date", "date", "2024-02-29"),
        ("time", "time", "23:59:59.500"),
        ("ts", "timestamp", "1969-12-31T23:59:59.999999"),
        ("tz", "timestamptz", "2024-01-01T00:00:00Z"),
        ("s", "string", "täxt"),
    ];
    let header: Vec<&str> = types.iter().map(|(name, _, _)| *name).collect();
    let values: Vec<&str> = types.iter().map(|(_, _, value)| *value).collect();
    let nulls = vec!["\\N"; types.len()];
    let text = format!("{}\n{}\n{}\n", header.join(","), values.join(","), nulls.join(","));
    let columns: Vec<(&str, &str)> = types.iter().map(|(name, column_type, _)| (*name, *column_type)).collect();
    let options = CsvOptions { nulls: vec!["\\N".to_owned()], ..typed(&columns) };
    let (_folder, table) = of_text(text, options).unwrap();
    let rows = cells(read_all(&table, &all_columns(&table)).unwrap());
    assert_eq!(rows, [values.clone(), vec!["NULL"; types.len()]]);
}

#[test]
fn a_quoted_cell_is_never_null() {
    let (_folder, table) = of_text(
        "a,b\n,\"\"\nNULL,\"NULL\"\n",
        CsvOptions { nulls: vec![String::new(), "NULL".to_owned()], ..CsvOptions::default() },
    )
    .unwrap();
    let rows = cells(read_all(&table, &names(&["a", "b"])).unwrap());
    assert_eq!(rows, [["NULL", ""], ["NULL", "NULL"]]);
    let split = &table.splits(&[]).unwrap()[0];
    let batch = table.read(split, &names(&["a", "b"]), &ReadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((batch.batch.column(0).null_count(), batch.batch.column(1).null_count()), (2, 0));
}

#[test]
fn columns_come_in_the_order_asked_for_and_a_row_s_place_is_its_first_byte() {
    let (_folder, table) = of_text(
        "\u{feff}a;b;c\r\n1;'x;\n''y';2\r\n\r\n3;z;4",
        CsvOptions { delimiter: b';', quote: Some(b'\''), ..typed(&[("a", "int32")]) },
    )
    .unwrap();
    let rows = read_all(&table, &names(&["c", "a", "b", "a"])).unwrap();
    let expected = [(10, ["2", "1", "x;\n'y", "1"]), (26, ["4", "3", "z", "3"])];
    assert_eq!(rows, expected.map(|(place, cells)| (0, place, cells.map(str::to_owned).to_vec())));
}

#[test]
fn files_without_a_header_take_their_columns_from_the_list() {
    let options = CsvOptions { header: false, ..typed(&[("id", "int64"), ("name", "string")]) };
    let (_folder, table) = of_text("1,a\n2,b\n", options).unwrap();
    assert_eq!(cells(read_all(&table, &names(&["name", "id"])).unwrap()), [["a", "1"], ["b", "2"]]);
    let error = of_text("1,a\n", CsvOptions { header: false, ..CsvOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("name them in their order"), "{error}");
}

#[test]
fn a_table_without_rows_is_a_table() {
    let (_folder, table) = of_text("a,b\n", CsvOptions::default()).unwrap();
    assert_eq!(table.splits(&names(&["b"])).unwrap(), []);
    let options = CsvOptions { header: false, ..typed(&[("id", "int64")]) };
    let (_folder, table) = of_text("", options).unwrap();
    assert_eq!(read_all(&table, &names(&["id"])).unwrap(), []);
    let error = of_text("", CsvOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a header was expected"), "{error}");
}

#[test]
fn each_bad_input_is_named_with_its_place_and_the_way_out() {
    let options = || typed(&[("id", "int32")]);
    assert_eq!(
        error_of("id,v\n1,\"a\nb\"\n2x,c\n", options(), &["id"]),
        "t.csv, line 4, column \"id\": \"2x\" is not an int32 (-2147483648 to 2147483647); correct the cell, list it under nulls, or give the column another type"
    );
    assert_eq!(
        error_of("id,v\n\"\",a\n", options(), &["id"]),
        "t.csv, line 2, column \"id\": \"\" is not an int32 (-2147483648 to 2147483647); correct the cell, list it under nulls, or give the column another type"
    );
    assert_eq!(
        error_of(b"id,v\n1,\"\n\xff\"\n", options(), &["v"]),
        "t.csv, line 2, column \"v\": \"\\n\u{fffd}\" is not valid UTF-8 text; correct the cell, list it under nulls, or give the column another type"
    );
    assert_eq!(
        error_of("id,v\n1,a\n2\n", options(), &["id"]),
        "t.csv, line 3: the row has 1 cells, and the table 2 columns; correct the row, or the delimiter and quote of the source"
    );
    assert_eq!(
        error_of("id,v\n1,\"a\"b\n", options(), &["id"]),
        "t.csv, line 2: text follows a closing quote inside a cell (a quote in a quoted cell is written twice); correct the row, or the quote of the source"
    );
    assert_eq!(
        error_of("id,v\n1,a\n2,\"b\n3,c\n", options(), &["id"]),
        "t.csv, line 3: a quote that opens here is never closed; correct the row, or the quote of the source"
    );
    assert_eq!(error_of("id,v\n", options(), &["idd"]), "column \"idd\" is not in the table; its columns are id, v");
    let error = of_text("id,v\n", typed(&[("ID", "int32")])).unwrap_err();
    assert_eq!(error.to_string(), "column \"ID\" is not in the table; its columns are id, v");
    let error = of_text("id,v\n", typed(&[("id", "integer")])).unwrap_err();
    assert!(
        error.to_string().starts_with("column \"id\" has the type integer, which cannot be read; use bool, int8"),
        "{error}"
    );
}

/// What follows a value would be dropped, and what its type cannot hold would be another value.
#[test]
fn a_cell_is_a_value_as_a_whole_and_in_its_type_s_range_or_an_error_that_has_its_text() {
    for (column_type, right, wrong) in [
        ("bool", "T", &["true ", "yes", "2"][..]),
        ("int8", "-128", &["-129", "1.0", "1 "]),
        ("uint16", "65535", &["65536", "-1", "1e3"]),
        ("float32", "-inf", &["1e39", "-1e39", "1e-46", "1.5x"]),
        ("float64", "1e308", &["1e309", "1e400", "-1e400", "1e-400", "1.5 "]),
        ("decimal(4,2)", "99.990", &["100", "1.005", "1.5x", "1e1"]),
        ("date", "9999-12-31", &["2024-01-02T23:59", "2024-01-02 ", "+5881580-07-12", "10000-01-01"]),
        ("time", "24:00", &["23:59x", "2024-01-02T23:59", "23:59:59Z", "23:60"]),
        ("timestamp", "+10000-01-01", &["2024-01-02T10:00:00+01:00", "2024-01-02T10:00Z", "2024-01-02T10:00 x"]),
        ("timestamptz", "-0001-12-31 10:00", &["2024-01-02T10:00+01:00x", "2024-01-02T10:00 CET", "2024-01-02T"]),
    ] {
        let options = || typed(&[("v", column_type)]);
        let (_folder, table) = of_text(format!("id,v\n1,{right}\n"), options()).unwrap();
        assert_eq!(read_all(&table, &names(&["v"])).unwrap().len(), 1, "{right} is a {column_type}");
        for text in wrong {
            let error = error_of(format!("id,v\n1,{right}\n2,{text}\n"), options(), &["v"]);
            let told = format!("t.csv, line 3, column \"v\": {text:?} is not ");
            assert!(error.starts_with(&told), "{column_type}: {error}");
        }
    }
}

#[test]
fn a_row_over_the_budget_is_an_error_and_one_within_it_is_read() {
    let long = "x".repeat(3 << 20);
    let (_folder, table) = of_text(format!("id,v\n1,a\n2,{long}\n3,c\n"), typed(&[("id", "int32")])).unwrap();
    let columns = names(&["id", "v"]);
    let rows = cells(read_all(&table, &columns).unwrap());
    assert_eq!(rows, [["1", "a"], ["2", &long], ["3", "c"]]);
    let options = ReadOptions { page_budget: 2 << 20, ..ReadOptions::default() };
    let error = read_sized(&table, &columns, u64::MAX, &options).unwrap_err();
    assert!(matches!(error, SourceError::RowTooLarge { line: 3, bytes: 3_145_730, budget: 2_097_152, .. }), "{error}");
}

fn cell() -> impl Strategy<Value = (String, bool)> {
    ("[a-c\",;\r\n]{0,6}|x{30,60}", any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn splits_at_any_boundaries_give_exactly_the_rows_of_an_unsplit_read(
        rows in prop::collection::vec((any::<Option<i16>>(), cell(), cell()), 0..40),
        header: bool,
        crlf: bool,
        open_end: bool,
        target in 1_u64..80,
        batch_rows in 1_usize..9,
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = if header { format!("id,\"a\"\"\n\",b{end}") } else { String::new() };
        let mut expected = Vec::new();
        for (id, a, b) in &rows {
            let mut line = vec![id.map(|id| id.to_string()).unwrap_or_default()];
            let mut values = vec![id.map_or("NULL".to_owned(), |id| id.to_string())];
            for (value, quoted) in [a, b] {
                if *quoted || value.contains(['"', ',', '\r', '\n']) {
                    line.push(format!("\"{}\"", value.replace('"', "\"\"")));
                    values.push(value.clone());
                } else {
                    line.push(value.clone());
                    values.push(if value.is_empty() { "NULL".to_owned() } else { value.clone() });
                }
            }
            expected.push((0, text.len() as u64, values));
            text.push_str(&line.join(","));
            text.push_str(end);
        }
        if open_end && !rows.is_empty() {
            text.truncate(text.len() - end.len());
        }
        let a = if header { "a\"\n" } else { "a" };
        let options = CsvOptions { header, ..typed(&[("id", "int16"), (a, "string"), ("b", "string")]) };
        let (_folder, table) = of_text(&text, options).unwrap();
        let columns = all_columns(&table);
        let splits = table.splits_of(&columns, |_| target).unwrap();
        for pair in splits.windows(2) {
            let ends_meet = matches!((pair[0].part, pair[1].part),
                (SplitPart::Bytes { end, .. }, SplitPart::Bytes { start, .. }) if start == end);
            prop_assert!(ends_meet);
        }
        let options = ReadOptions { batch_rows, ..ReadOptions::default() };
        prop_assert_eq!(&read_sized(&table, &columns, target, &options).unwrap(), &expected);
        prop_assert_eq!(&read_all(&table, &columns).unwrap(), &expected);
    }

    #[test]
    fn splits_of_unquoted_files_are_at_line_breaks(
        lines in prop::collection::vec("[a\"]{1,9}", 1..60),
        target in 1_u64..60,
    ) {
        let text = lines.join("\n");
        let options = CsvOptions { header: false, quote: None, ..typed(&[("v", "string")]) };
        let (_folder, table) = of_text(&text, options).unwrap();
        let rows = read_sized(&table, &names(&["v"]), target, &ReadOptions::default()).unwrap();
        let expected: Vec<Vec<String>> = lines.iter().map(|line| vec![line.clone()]).collect();
        prop_assert_eq!(cells(rows), expected);
        prop_assert!(target > 20 || lines.len() < 20 || table.splits_of(&[], |_| target).unwrap().len() > 1);
    }
}
