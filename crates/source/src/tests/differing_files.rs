//! Files of one table that differ: columns that not all have, in other orders, in other types.

use std::fs;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, NullArray,
    StringArray, StringViewArray, Time32MillisecondArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    new_null_array,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::file::properties::WriterProperties;
use tempfile::{TempDir, tempdir};

use super::parquet_tables::write;
use super::*;
use crate::{ColumnRules, CsvColumn, MissingColumns, ReadColumns};

pub(super) fn rules(missing: MissingColumns, partitions: &[(&str, &str)]) -> ColumnRules {
    let column = |(name, of): &(&str, &str)| CsvColumn { name: (*name).to_owned(), column_type: (*of).to_owned() };
    ColumnRules { missing, partitions: partitions.iter().map(column).collect() }
}

/// The types that the columns have in all files together, and all rows, as a build finds and reads them.
pub(super) fn build_reads(
    table: &Table,
    columns: &[&str],
    rules: &ColumnRules,
) -> Result<(Vec<String>, Vec<Vec<String>>), SourceError> {
    let names = names(columns);
    let found = table.survey(&names, rules)?;
    let splits = table.splits(&names)?;
    let fields: Vec<Field> = names.iter().map(|name| found.field_with_name(name).unwrap().clone()).collect();
    let types = fields.iter().map(|field| field.data_type().to_string()).collect();
    let columns = ReadColumns { schema: Arc::new(Schema::new(fields)), missing: rules.missing };
    let read = |batch_rows| {
        let mut rows = Vec::new();
        for split in &splits {
            for batch in table.read_as(split, &columns, &ReadOptions { batch_rows, ..ReadOptions::default() })? {
                rows.extend(cells(rows_of(&batch?)));
            }
        }
        Ok::<_, SourceError>(rows)
    };
    let rows = read(ReadOptions::default().batch_rows)?;
    assert_eq!(read(1)?, rows, "in batches of one row");
    Ok((types, rows))
}

/// A table of Parquet files `a.parquet`, `b.parquet`, …, each with these columns.
fn parquet(files: &[Vec<(&str, ArrayRef)>]) -> (TempDir, Table) {
    let folder = tempdir().unwrap();
    for (columns, name) in files.iter().zip('a'..) {
        write(&folder.path().join(format!("{name}.parquet")), columns.clone(), WriterProperties::default());
    }
    let table = table(&parquet_spec(&folder.path().join("*.parquet"))).unwrap();
    (folder, table)
}

fn csv(files: &[&str], columns: &[(&str, &str)]) -> Result<(TempDir, Table), SourceError> {
    let folder = tempdir().unwrap();
    for (text, name) in files.iter().zip('a'..) {
        fs::write(folder.path().join(format!("{name}.csv")), text).unwrap();
    }
    let columns = rules(MissingColumns::Fail, columns).partitions;
    let options = CsvOptions { columns, ..CsvOptions::default() };
    let table = table(&csv_spec(&folder.path().join("*.csv"), options))?;
    Ok((folder, table))
}

fn ids(from: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![from, from + 1]))
}

fn texts() -> ArrayRef {
    Arc::new(StringArray::from(vec![Some("x"), None]))
}

#[test]
fn what_the_build_does_not_use_is_not_compared() {
    let list = |nullable| new_null_array(&DataType::new_list(DataType::Int32, nullable), 2);
    let (_folder, table) = parquet(&[
        vec![("id", ids(1)), ("v", texts()), ("l", list(true))],
        vec![("further", texts()), ("id", ids(3)), ("v", ids(0)), ("l", list(false))],
        vec![("id", ids(5)), ("v", list(true)), ("l", ids(0))],
        vec![("id", ids(7))],
    ]);
    let (types, rows) = build_reads(&table, &["id"], &ColumnRules::default()).unwrap();
    assert_eq!(types, ["Int64"]);
    assert_eq!(rows.concat(), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let (_folder, table) =
        csv(&["id,v\n1,x\n", "v,further,id\n\"a,b\",\"\n\",2\n", "id\n3\n"], &[("id", "int32")]).unwrap();
    let (_, rows) = build_reads(&table, &["id"], &ColumnRules::default()).unwrap();
    assert_eq!(rows.concat(), ["1", "2", "3"]);
}

/// A value and NULL in a narrow type, the same in a wide one, and what comes of both.
#[allow(clippy::type_complexity)]
fn widening() -> Vec<(ArrayRef, ArrayRef, &'static str, [&'static str; 2])> {
    fn of<A: Array + 'static>(array: A) -> ArrayRef {
        Arc::new(array)
    }
    let decimal = |value: i128, precision, scale| {
        of(Decimal128Array::from(vec![Some(value), None]).with_precision_and_scale(precision, scale).unwrap())
    };
    let bytes = |width: i32, value: &[u8]| {
        of(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(value), None].into_iter(), width).unwrap())
    };
    let none: DictionaryArray<Int32Type> = [None::<&str>, None].into_iter().collect();
    let null = || of(NullArray::new(2));
    vec![
        (
            of(Int8Array::from(vec![Some(-128), None])),
            of(Int16Array::from(vec![Some(300), None])),
            "Int16",
            ["-128", "300"],
        ),
        (
            of(Int16Array::from(vec![Some(-5), None])),
            of(Int32Array::from(vec![Some(70_000), None])),
            "Int32",
            ["-5", "70000"],
        ),
        (
            of(Int32Array::from(vec![Some(i32::MIN), None])),
            of(Int64Array::from(vec![Some(i64::MAX), None])),
            "Int64",
            ["-2147483648", "9223372036854775807"],
        ),
        (
            of(UInt8Array::from(vec![Some(255), None])),
            of(Int8Array::from(vec![Some(-1), None])),
            "Int16",
            ["255", "-1"],
        ),
        (
            of(UInt16Array::from(vec![Some(65_535), None])),
            of(UInt64Array::from(vec![Some(u64::MAX), None])),
            "UInt64",
            ["65535", "18446744073709551615"],
        ),
        (
            of(UInt32Array::from(vec![Some(u32::MAX), None])),
            of(Int32Array::from(vec![Some(-1), None])),
            "Int64",
            ["4294967295", "-1"],
        ),
        (
            of(Float32Array::from(vec![Some(0.5), None])),
            of(Float64Array::from(vec![Some(0.1), None])),
            "Float64",
            ["0.5", "0.1"],
        ),
        (decimal(150, 5, 2), decimal(-12_345, 10, 4), "Decimal128(10, 4)", ["1.50", "-1.2345"]),
        (
            of(TimestampMillisecondArray::from(vec![Some(1), None])),
            of(TimestampMicrosecondArray::from(vec![Some(1), None])),
            "Timestamp(µs)",
            ["1970-01-01T00:00:00.001", "1970-01-01T00:00:00.000001"],
        ),
        (
            of(Date32Array::from(vec![Some(1), None])),
            of(TimestampMicrosecondArray::from(vec![Some(1), None])),
            "Timestamp(µs)",
            ["1970-01-02T00:00:00", "1970-01-01T00:00:00.000001"],
        ),
        (
            of(Time32MillisecondArray::from(vec![Some(1), None])),
            of(Time64MicrosecondArray::from(vec![Some(1), None])),
            "Time64(µs)",
            ["00:00:00.001", "00:00:00.000001"],
        ),
        (bytes(2, b"ab"), bytes(3, b"abc"), "Binary", ["6162", "616263"]),
        (bytes(2, b"ab"), of(BinaryArray::from(vec![Some(b"".as_slice()), None])), "Binary", ["6162", ""]),
        (
            of(StringViewArray::from(vec![Some("v"), None])),
            of(LargeStringArray::from(vec![Some(""), None])),
            "Utf8",
            ["v", ""],
        ),
        (of(none.clone()), texts(), "Utf8", ["NULL", "x"]),
        (of(StringViewArray::from(vec![None::<&str>, None])), texts(), "Utf8", ["NULL", "x"]),
        (null(), texts(), "Utf8", ["NULL", "x"]),
        (null(), of(none), "Utf8", ["NULL", "NULL"]),
        (null(), of(BooleanArray::from(vec![Some(false), None])), "Boolean", ["NULL", "false"]),
        (null(), of(Int64Array::from(vec![Some(0), None])), "Int64", ["NULL", "0"]),
        (null(), of(BinaryArray::from(vec![Some(b"".as_slice()), None])), "Binary", ["NULL", ""]),
        (null(), decimal(0, 20, 2), "Decimal128(20, 2)", ["NULL", "0.00"]),
        (
            null(),
            of(TimestampNanosecondArray::from(vec![Some(0), None])),
            "Timestamp(ns)",
            ["NULL", "1970-01-01T00:00:00"],
        ),
    ]
}

#[test]
fn a_used_column_has_the_least_type_that_holds_it_in_all_files_in_whatever_order_they_are() {
    for (narrow, wide, data_type, [of_narrow, of_wide]) in widening() {
        let expected = vec![vec![of_narrow], vec!["NULL"], vec![of_wide], vec!["NULL"]];
        let case = format!("{} and {}", narrow.data_type(), wide.data_type());
        let (_folder, table) = parquet(&[vec![("v", Arc::clone(&narrow))], vec![("v", Arc::clone(&wide))]]);
        let (types, rows) = build_reads(&table, &["v"], &ColumnRules::default()).unwrap();
        assert_eq!(types, [data_type], "{case}");
        assert_eq!(rows, expected, "{case}");
        // The other way round, with a third file that changes nothing.
        let (_folder, table) = parquet(&[vec![("v", Arc::clone(&wide))], vec![("v", wide)], vec![("v", narrow)]]);
        let (types, rows) = build_reads(&table, &["v"], &ColumnRules::default()).unwrap();
        assert_eq!(types, [data_type], "{case}, the other way round");
        assert_eq!(rows, [&expected[2..], &expected[2..], &expected[..2]].concat(), "{case}, the other way round");
    }
}

#[test]
fn types_that_no_type_holds_are_refused_with_column_both_files_and_both_types() {
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1, 2]));
    let double: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let instant: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"));
    let clock: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"x".as_slice(), b"y"]));
    let list = new_null_array(&DataType::new_list(DataType::Int32, true), 2);
    let pairs = [
        (ids(1), texts(), ["Int64", "Utf8"]),
        (ids(1), unsigned, ["Int64", "UInt64"]),
        (ids(1), double, ["Int64", "Float64"]),
        (instant, clock, ["Timestamp(µs, \"UTC\")", "Timestamp(µs)"]),
        (texts(), bytes, ["Utf8", "Binary"]),
        (ids(1), list, ["Int64", "List("]),
    ];
    for (one, two, types) in pairs {
        for (first, second, types) in [(&one, &two, types), (&two, &one, [types[1], types[0]])] {
            let (_folder, table) = parquet(&[
                vec![("id", ids(1)), ("v", Arc::clone(first))],
                // A file that has nothing but NULL agrees with both.
                vec![("id", ids(1)), ("v", Arc::new(NullArray::new(2)))],
                vec![("id", ids(1)), ("v", Arc::clone(second))],
            ]);
            let error = build_reads(&table, &["id", "v"], &ColumnRules::default()).unwrap_err();
            let text = error.to_string();
            assert!(matches!(&error, SourceError::TypeMismatch { column, .. } if column == "v"), "{text}");
            assert!(!error.is_retryable());
            let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
            assert!(at(types[0]) < at("a.parquet") && at("a.parquet") < at("c.parquet"), "{text}");
            at(types[1]);
            assert!(build_reads(&table, &["id"], &ColumnRules::default()).is_ok(), "the other column can be used");
        }
    }
}

#[test]
fn a_used_column_that_a_file_lacks_is_an_error_and_null_where_that_is_asked_for() {
    let null = rules(MissingColumns::Null, &[]);
    for (_, array, _, [_, shown]) in widening() {
        for lacking_first in [true, false] {
            let with = vec![("id", ids(1)), ("v", Arc::clone(&array))];
            let without = vec![("id", ids(3))];
            let of_with = [["1", shown], ["2", "NULL"]];
            let of_without = [["3", "NULL"], ["4", "NULL"]];
            let (files, expected) = if lacking_first {
                ([without, with], [of_without, of_with])
            } else {
                ([with, without], [of_with, of_without])
            };
            let (_folder, table) = parquet(&files);
            let error = build_reads(&table, &["id", "v"], &ColumnRules::default()).unwrap_err().to_string();
            let lacking = if lacking_first { "a.parquet" } else { "b.parquet" };
            assert!(error.contains(lacking) && error.contains("\"v\"") && error.contains("missingColumns"), "{error}");
            let (_, rows) = build_reads(&table, &["id", "v"], &null).unwrap();
            assert_eq!(rows, expected.concat(), "{}", array.data_type());
            let (_, alone) = build_reads(&table, &["v"], &null).unwrap();
            assert_eq!(alone.len(), 4, "read without any column of the file that lacks it");
        }
    }
}

#[test]
fn a_column_that_no_file_has_is_not_made_up() {
    let (_folder, table) = parquet(&[vec![("id", ids(1))], vec![("id", ids(3)), ("w", ids(3))]]);
    let null = rules(MissingColumns::Null, &[]);
    let found = table.survey(&names(&["id", "nope"]), &null).unwrap();
    assert!(found.field_with_name("nope").is_err(), "{found}");
    let error = table.splits(&names(&["id", "nope"])).unwrap_err().to_string();
    assert_eq!(error, "column \"nope\" is not in the table; its columns are id");
    assert_eq!(table.splits(&names(&["w"])).unwrap().len(), 2, "the second file has it");
}

#[test]
fn a_name_that_a_file_has_twice_is_refused_where_it_is_used() {
    let (_folder, table) = csv(&["id,v\n1,x\n", "v,id,v\nx,2,y\n"], &[]).unwrap();
    let error = build_reads(&table, &["id", "v"], &ColumnRules::default()).unwrap_err().to_string();
    assert!(error.contains("b.csv has several columns named \"v\""), "{error}");
    assert_eq!(build_reads(&table, &["id"], &ColumnRules::default()).unwrap().1.concat(), ["1", "2"]);
}

#[test]
fn a_value_that_the_common_type_has_no_place_for_is_named_not_changed() {
    // Nanoseconds end in 2262.
    let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 9_300_000_000_000_000]));
    let fine: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![0, 1]));
    let (_folder, table) = parquet(&[vec![("v", fine)], vec![("v", far)]]);
    let error = build_reads(&table, &["v"], &ColumnRules::default()).unwrap_err();
    assert!(matches!(error, SourceError::DoesNotFit { place: 1, .. }), "{error}");
    for part in ["b.parquet, row at 1, column \"v\"", "2264-", "Timestamp(ns)"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
}

/// Every type of a CSV column: in one file a value, in others an empty cell, no cell, and no column.
#[test]
fn null_is_null_in_every_type_of_a_csv_column_whether_its_cell_or_its_column_is_missing() {
    for (column_type, value, shown) in [
        ("bool", "true", "true"),
        ("int8", "-1", "-1"),
        ("int16", "0", "0"),
        ("int32", "0", "0"),
        ("int64", "0", "0"),
        ("uint8", "0", "0"),
        ("uint16", "0", "0"),
        ("uint32", "0", "0"),
        ("uint64", "0", "0"),
        ("float32", "0.5", "0.5"),
        ("float64", "0.5", "0.5"),
        ("decimal(5,2)", "0.5", "0.50"),
        ("decimal(12,2)", "0.5", "0.50"),
        ("decimal(30,2)", "0.5", "0.50"),
        ("date", "1970-01-01", "1970-01-01"),
        ("time", "00:00", "00:00:00"),
        ("timestamp", "1970-01-01", "1970-01-01T00:00:00"),
        ("timestamptz", "1970-01-01", "1970-01-01T00:00:00Z"),
        ("string", "\"\"", ""),
        ("bytes", "\"\"", ""),
    ] {
        let with = format!("v,id\n{value},1\n,2\n");
        let (_folder, table) =
            csv(&["id\n0\n", &with, "more,id,v\nx,3,\n", "id,more\n4,y\n"], &[("id", "int64"), ("v", column_type)])
                .unwrap();
        let null = rules(MissingColumns::Null, &[]);
        let (_, rows) = build_reads(&table, &["v", "id", "v"], &null).unwrap();
        let expected = ["NULL", shown, "NULL", "NULL", "NULL"].into_iter().zip(0..);
        let expected: Vec<Vec<String>> =
            expected.map(|(value, id): (&str, i32)| vec![value.to_owned(), id.to_string(), value.to_owned()]).collect();
        assert_eq!(rows, expected, "{column_type}");
        let error = build_reads(&table, &["id", "v"], &ColumnRules::default()).unwrap_err().to_string();
        assert!(error.contains("a.csv has no column \"v\"") && error.contains("missingColumns"), "{error}");
    }
}

#[test]
fn the_columns_of_csv_files_are_found_by_name_in_each_of_them() {
    let (_folder, table) = csv(
        &["id,v\n1,a\n", "v,id\nb,2\n", "x,id,y,v\n\"1\n\",3,,c\n", "\u{feff}v;w,v,id\n9,d,4\n"],
        &[("id", "int32")],
    )
    .unwrap();
    let (types, rows) = build_reads(&table, &["v", "id"], &ColumnRules::default()).unwrap();
    assert_eq!(types, ["Utf8", "Int32"]);
    assert_eq!(rows, [["a", "1"], ["b", "2"], ["c", "3"], ["d", "4"]]);
    // The number of cells is that of each file's own header.
    let (_folder, table) = csv(&["id,v\n1,a\n", "id,v,w\n1,a\n"], &[]).unwrap();
    let error = build_reads(&table, &["id"], &ColumnRules::default()).unwrap_err().to_string();
    assert!(error.contains("b.csv, line 2: the row has 2 cells, and the table 3 columns"), "{error}");
}

#[test]
fn a_type_for_a_csv_column_that_no_file_has_is_a_slip_and_one_that_some_file_has_is_none() {
    assert!(csv(&["id\n1\n", "id,v\n1,2\n"], &[("v", "int32")]).is_ok());
    let error = csv(&["id\n1\n", "id,v\n1,2\n"], &[("V", "int32")]).unwrap_err().to_string();
    assert_eq!(error, "column \"V\" is not in the table; its columns are id");
}
