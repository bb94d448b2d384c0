//! Values from a table's cells to the command line and back: what goes in is printed so that `get` finds it, what is not
//! a value is refused as a whole, and what a command prints is a document that ends when its reader does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, FixedSizeBinaryArray, Int64Array, RecordBatch, Time32MillisecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use common::{CommandOutput, INDEXBUILD, Workspace, build_yaml, finish};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// A build with an index `by_<column>` on each of these columns, over a table with a column `id`.
fn build(name: &str, source: &str, columns: &[&str], more: &str) -> String {
    build_yaml(name, columns, more).replace("parquet: {urls: [table.parquet]}", source)
}

fn csv_source(columns: &[(&str, &str)]) -> String {
    let typed: String = columns.iter().map(|(name, kind)| format!(", {{name: {name:?}, type: \"{kind}\"}}")).collect();
    format!("csv: {{urls: [table.csv], columns: [{{name: id, type: int64}}{typed}]}}")
}

/// Every cell in quotes; `None` is NULL.
fn csv(columns: &[(&str, Vec<Option<&str>>)]) -> String {
    let rows = columns.iter().map(|(_, cells)| cells.len()).max().unwrap();
    let mut text = "id".to_owned();
    columns.iter().for_each(|(name, _)| text.push_str(&format!(",{name}")));
    text.push('\n');
    for row in 0..rows {
        write!(text, "{row}").unwrap();
        for (_, cells) in columns {
            text.push(',');
            if let Some(Some(cell)) = cells.get(row) {
                write!(text, "\"{}\"", cell.replace('"', "\"\"")).unwrap();
            }
        }
        text.push('\n');
    }
    text
}

fn run(workspace: &Workspace, file: &str) {
    workspace.indexbuild(&["run", file, "--quiet"]).succeeded(file);
}

fn ids(found: &CommandOutput) -> Vec<u64> {
    found.json().as_array().unwrap().iter().map(|entry| entry["rowId"]["id"].as_u64().unwrap()).collect()
}

/// Equal, but for the last bit of a number: this reader of JSON does not round the way that one of YAML does.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= one.abs() * f64::EPSILON
        }
        (one, other) => one == other,
    }
}

/// Each value of a column, as the table for people and as JSON print it, is taken by `get`, which finds its row; one that
/// is there once finds nothing else.
fn assert_printed_values_are_found(workspace: &Workspace, place: &str, column: &str) {
    let index = format!("by_{column}");
    let scan = |more: &[&str]| {
        let mut arguments = vec!["scan", place, "--index", &index];
        arguments.extend_from_slice(more);
        workspace.indexbuild(&arguments).succeeded(column)
    };
    let get = |text: &str| {
        let found = workspace.indexbuild(&["get", place, "--index", &index, text, "-o", "json"]);
        ids(&found.succeeded(&format!("{column} {text}")))
    };
    let entries = scan(&["-o", "json"]).json();
    let entries = entries.as_array().unwrap();
    let of_yaml: Value = serde_saphyr::from_str(&scan(&["-o", "yaml"]).stdout).unwrap();
    assert!(same(&of_yaml, &Value::Array(entries.clone())), "{column}: {of_yaml} is not {entries:?}");
    let lines = scan(&[]).stdout;
    assert_eq!(lines.lines().count(), entries.len(), "an entry a line: {lines}");
    let mut nulls = 0;
    for (line, entry) in lines.lines().zip(entries) {
        let key = &entry["key"][column];
        let id = entry["rowId"]["id"].as_u64().unwrap();
        let (printed, row) = line.strip_prefix(&format!("{column}=")).unwrap().rsplit_once(" -> ").unwrap();
        assert_eq!(row, format!("id={id}"));
        if key.is_null() {
            nulls += 1;
            if nulls == 1 {
                assert_eq!(printed, "NULL");
                assert!(get(printed).contains(&id), "{column}: NULL");
            }
            continue;
        }
        assert_eq!(get(printed), [id], "{column}: {printed}");
        let json = key.to_string();
        if json != printed {
            assert_eq!(get(&json), [id], "{column}: {json}");
        }
    }
    assert!(entries.len() > nulls, "{column} has values");
}

#[test]
fn what_is_printed_of_any_cell_of_a_csv_file_finds_its_row() {
    let most = "9".repeat(28) + ".9999999999";
    let columns: [(&str, &str, Vec<&str>); 13] = [
        ("b", "bool", vec!["true", "false"]),
        ("i", "int64", vec!["-9223372036854775808", "-1", "0", "9223372036854775807"]),
        ("u", "uint64", vec!["0", "18446744073709551615"]),
        ("d", "float64", vec!["inf", "-inf", "NaN", "-0", "1e300", "5e-324", "-1.5e-7", "0.1"]),
        ("f", "float32", vec!["-inf", "0.1", "3.4028235e38", "1e-45"]),
        ("n", "decimal(38,10)", vec![&most, "-0.0000000001", "0", "12.5"]),
        (
            "day",
            "date",
            vec![
                "9999-12-31",
                "+10000-01-01",
                "0001-01-01",
                "0000-02-29",
                "-0001-12-31",
                "+5881580-07-11",
                "-5877641-06-23",
            ],
        ),
        ("t", "time", vec!["23:59", "24:00", "-00:00:01", "2562047788:00:54.775807", "-2562047788:00:54.775808"]),
        (
            "ts",
            "timestamp",
            vec![
                "9999-12-31",
                "9999-12-31T23:59:59.999999",
                "+294247-01-10T04:00:54.775807",
                "-290308-12-21T19:59:05.224192",
            ],
        ),
        ("tz", "timestamptz", vec!["9999-12-31", "9999-12-31T23:59:59-01:00", "-0044-03-15 12:00+01", "1970-01-01"]),
        (
            "s",
            "string",
            vec![
                "NULL",
                "null",
                "",
                "Smith, John",
                "\"",
                "\"NULL\"",
                "a\nb",
                " a ",
                "\t",
                "-o",
                "--",
                "-5",
                "a\0b",
                "\\",
                "é\u{85}\u{feff}",
                "a=b -> id=7",
                "2026-01-31",
            ],
        ),
        ("y", "bytes", vec!["", "a\0b", "\u{ff}", "0123456789abcdef"]),
        ("plain", "string", vec!["a", "b"]),
    ];
    let workspace = Workspace::new();
    let cells: Vec<_> =
        columns.iter().map(|(name, _, values)| (*name, values.iter().map(|value| Some(*value)).collect())).collect();
    let types: Vec<_> = columns.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    workspace.write("table.csv", &csv(&cells)).write("build.yaml", &build("cells", &csv_source(&types), &names, ""));
    run(&workspace, "build.yaml");
    let place = "indexes/default/cells";
    names.iter().for_each(|column| assert_printed_values_are_found(&workspace, place, column));

    // As a person writes them, not as they are printed.
    for (column, text, id) in [
        ("s", "\"a\\u0000b\"", 12),
        ("s", "\"NULL\"", 0),
        ("s", "Smith, John", 3),
        ("y", "30313233-3435-3637-3839-616263646566", 3),
        ("y", "30313233343536373839616263646566", 3),
        ("tz", "9999-12-31T01:00:00+01:00", 0),
        ("ts", "9999-12-31", 0),
        ("t", "24:00:00.000", 1),
        ("d", "-Infinity", 1),
        ("d", "10e299", 4),
        ("i", "+0", 2),
    ] {
        let found = workspace
            .indexbuild(&["get", place, "--index", &format!("by_{column}"), text, "-o", "json"])
            .succeeded(text);
        assert_eq!(ids(&found), [id], "{column}: {text}");
    }
}

#[test]
fn what_is_printed_of_any_value_of_a_parquet_file_finds_its_row() {
    const ENDS: [i64; 6] = [i64::MIN, -1, 0, 1, 253_402_300_800_000_000, i64::MAX];
    const NARROW: [i32; 6] = [i32::MIN, -1, 0, 86_400_000, 2_932_897, i32::MAX];
    let uuids: Vec<Vec<u8>> =
        (0..6_u8).map(|first| (0..16).map(|n| (first * 16).wrapping_add(n * 15)).collect()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..6))),
        ("day", Arc::new(Date32Array::from(NARROW.to_vec()))),
        ("t_ms", Arc::new(Time32MillisecondArray::from(NARROW.to_vec()))),
        ("t_ns", Arc::new(Time64NanosecondArray::from(ENDS.to_vec()))),
        ("ms", Arc::new(TimestampMillisecondArray::from(ENDS.to_vec()))),
        ("us", Arc::new(TimestampMicrosecondArray::from(ENDS.to_vec()).with_timezone("UTC"))),
        ("ns", Arc::new(TimestampNanosecondArray::from(ENDS.to_vec()))),
        ("uuid", Arc::new(FixedSizeBinaryArray::try_from_iter(uuids.iter()).unwrap())),
    ];
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).skip(1).collect();
    let workspace = Workspace::new();
    let batch = RecordBatch::try_from_iter(columns.clone()).unwrap();
    let file = std::fs::File::create(workspace.join("table.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    workspace.write("build.yaml", &build_yaml("units", &names, ""));
    run(&workspace, "build.yaml");
    names.iter().for_each(|column| assert_printed_values_are_found(&workspace, "indexes/default/units", column));

    let uuid = "202f3e4d-5c6b-7a89-98a7-b6c5d4e3f201";
    let found = workspace.indexbuild(&["get", "indexes/default/units", "--index", "by_uuid", uuid, "-o", "json"]);
    assert_eq!(ids(&found.succeeded(uuid)), [2]);
}

/// People: (name, born), with an index on both, one on the place and one on everything else that is asked for below.
fn people() -> Workspace {
    let workspace = Workspace::new();
    let types = [("name", "string"), ("born", "date"), ("seen", "timestamp"), ("at", "timestamptz"), ("t", "time")];
    let more =
        [("n", "int32"), ("d", "float64"), ("f", "float32"), ("m", "decimal(6,2)"), ("b", "bool"), ("y", "bytes")];
    let row = "\"Smith, John\",2024-01-02,2024-01-02T10:00:00,2024-01-02T09:00:00Z,10:00,5,1.5,1.5,1.50,true,ab";
    let types: Vec<_> = types.into_iter().chain(more).collect();
    let names: Vec<_> = types.iter().map(|(name, _)| *name).collect();
    workspace.write("table.csv", &format!("id,{}\n1,{row}\n2,Smith{}\n", names.join(","), ",".repeat(10)));
    let text =
        build("people", &csv_source(&types), &names, "").replace("{name: \"name\"}]", "{name: name}, {name: born}]");
    workspace.write("build.yaml", &text);
    run(&workspace, "build.yaml");
    workspace
}

#[test]
fn a_text_that_is_not_a_value_as_a_whole_is_refused_and_the_whole_one_is_found() {
    let workspace = people();
    let get = |column: &str, text: &str| {
        workspace.indexbuild(&["get", "indexes/default/people", "--index", &format!("by_{column}"), text, "-o", "json"])
    };
    for (column, right, wrong) in [
        (
            "seen",
            "2024-01-02T10:00:00",
            &["2024-01-02T10:00:00+01:00", "2024-01-02T10:00:00Z", "2024-01-02T10:00:00 "][..],
        ),
        ("at", "2024-01-02T10:00:00+01:00", &["2024-01-02T09:00:00", "2024-01-02T09:00:00Z x", "2024-01-02"]),
        ("t", "10:00:00", &["2024-01-02T10:00:00", "10:00:00Z", "10:00:00.0000001", "10"]),
        ("n", "5", &["5 ", "5x", "5.0", "2147483648"]),
        ("d", "1.5", &["1.5x", "1,5", "1e400", "-1e400", "1e-400"]),
        ("f", "1.5", &["1e39", "1.5f"]),
        ("m", "1.5", &["1.501", "1.5 ", "10000.00", "1e0"]),
        ("b", "true", &["true ", "truest", "1.0"]),
        ("y", "6162", &["6162 ", "616", "0x6162", "61-62"]),
        ("name", "\"Smith, John\"", &["\"Smith, John\" ", "\"Smith, John\"x", "\"Smith, John"]),
    ] {
        assert_eq!(ids(&get(column, right).succeeded(right)), [1], "{column}: {right}");
        for text in wrong {
            let refused = get(column, text).failed(text);
            assert_eq!(refused.code, Some(1), "{text}");
            assert_eq!(refused.stdout, "", "{text}");
            assert!(refused.stderr.contains(&format!("column {column}: ")), "{text}: {}", refused.stderr);
        }
    }
    let dated = |born: &str| {
        workspace.indexbuild(&[
            "get",
            "indexes/default/people",
            "--index",
            "by_name",
            "Smith, John",
            born,
            "-o",
            "json",
        ])
    };
    assert_eq!(ids(&dated("2024-01-02").succeeded("a date")), [1]);
    assert!(dated("2024-01-02T23:59").failed("a date-time").stderr.contains("column born"));
}

#[test]
fn a_bound_of_a_scan_is_one_value_per_option_and_a_comma_belongs_to_it() {
    let workspace = people();
    let scan = |more: &[&str]| {
        let mut arguments = vec!["scan", "indexes/default/people", "--index", "by_name", "-o", "json"];
        arguments.extend_from_slice(more);
        workspace.indexbuild(&arguments)
    };
    for (arguments, found) in [
        (&["--prefix", "Smith, John"][..], &[1][..]),
        (&["--prefix", "Smith"], &[2]),
        (&["--prefix", "Smith, John", "--prefix", "2024-01-02"], &[1]),
        (&["--prefix", "Smith", "--prefix", "NULL"], &[2]),
        (&["--prefix", "\"NULL\""], &[]),
        (&["--from", "Smith, John"], &[1]),
        (&["--from", "Smith", "--to", "Smith, John"], &[2]),
        (&["--from", "Smith, John", "--from", "-0001-12-31", "--to", "Smith, John", "--to", "+10000-01-01"], &[1]),
        (&["--from", "-x"], &[2, 1]),
    ] {
        assert_eq!(ids(&scan(arguments).succeeded(&arguments.join(" "))), found, "{arguments:?}");
    }
    let refused =
        scan(&["--prefix", "a", "--prefix", "2024-01-02", "--prefix", "c"]).failed("three values of two columns");
    for part in ["2 columns (name, born)", "3 values"] {
        assert!(refused.stderr.contains(part), "{part} is not told: {}", refused.stderr);
    }
    let refused = scan(&["--prefix", "Smith", "--prefix", "2024-01-02,x"]).failed("a list with a comma");
    assert!(refused.stderr.contains("one by one"), "{}", refused.stderr);
}

/// Two of them would be one key, and the second row a duplicate of the first.
#[test]
fn a_number_of_a_cell_that_no_float_holds_is_refused_with_its_place() {
    let workspace = Workspace::new();
    let text = build("floats", &csv_source(&[("d", "float64")]), &["d"], "")
        .replace("name: by_d,", "name: by_d, unique: true,");
    workspace.write("build.yaml", &text).write("table.csv", "id,d\n1,1e400\n2,2e400\n");
    let refused = workspace.indexbuild(&["run", "build.yaml", "--quiet"]).failed("numbers beyond the range");
    for part in ["table.csv", "line 2", "1e400", "float64"] {
        assert!(refused.stderr.contains(part), "{part} is not told: {}", refused.stderr);
    }
    workspace.write("table.csv", "id,d\n1,1e300\n2,2e300\n3,inf\n");
    run(&workspace, "build.yaml");
}

/// Some files of an index, and of another.
fn long_index() -> Workspace {
    let workspace = Workspace::new();
    workspace.sample(24_000, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "10000"]);
    let text = build_yaml("long", &["c", "k"], "  parallelism: 1\n");
    workspace.write(
        "build.yaml",
        &text.replace("output: {url: indexes}", "output: {url: indexes, targetFileSize: 1Mi, compression: None}"),
    );
    run(&workspace, "build.yaml");
    workspace
}

#[test]
fn a_document_that_an_error_cuts_off_is_closed_and_one_of_nothing_is_empty() {
    let workspace = long_index();
    let manifest = workspace.manifest("long");
    let files = manifest["indexes"][0]["files"].as_array().unwrap();
    assert!(files.len() > 2, "{} files", files.len());
    let scan = |more: &[&str]| {
        let mut arguments = vec!["scan", "indexes/default/long", "--index", "by_c"];
        arguments.extend_from_slice(more);
        workspace.indexbuild(&arguments)
    };
    let parsed = |format: &str, text: &str| -> Vec<Value> {
        match format {
            "json" => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}")),
            _ => serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}")),
        }
    };
    for format in ["json", "yaml"] {
        let nothing = scan(&["-o", format, "--prefix", "nobody"]).succeeded("a scan without hits");
        assert_eq!(nothing.stdout, "[]\n", "{format}");
        let nothing = workspace.indexbuild(&["get", "indexes/default/long", "--index", "by_c", "nobody", "-o", format]);
        assert_eq!((nothing.stdout.as_str(), nothing.code), ("[]\n", Some(1)), "{format}");
        assert_eq!(parsed(format, &scan(&["-o", format, "--limit", "3"]).succeeded("three").stdout).len(), 3);
    }
    // The last file, so that others are read before it; then the first, so that none is.
    for (damaged, some) in [(files.last().unwrap(), true), (&files[0], false)] {
        let path = workspace.build_folder("long").join(damaged["path"].as_str().unwrap());
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).unwrap();
        for format in ["json", "yaml"] {
            let cut = scan(&["-o", format]).failed("a scan of a damaged index");
            assert_eq!(cut.code, Some(1));
            assert_eq!(parsed(format, &cut.stdout).is_empty(), !some, "{format}");
            assert!(cut.stderr.contains("damaged"), "{}", cut.stderr);
        }
    }
}

/// Standard output of a reader that is gone before the command begins.
fn without_reader(mut command: Command, what: &str) -> CommandOutput {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let errors = tempfile::NamedTempFile::new().unwrap();
    let mut child = command.stdout(writer).stderr(errors.reopen().unwrap()).spawn().expect(what);
    // The command keeps the pipe's end that was given to it.
    drop(command);
    let code = child.wait().unwrap().code();
    CommandOutput { code, stdout: String::new(), stderr: std::fs::read_to_string(errors.path()).unwrap() }
}

#[test]
fn a_command_whose_reader_is_gone_ends_quietly_as_a_signal_would_end_it() {
    let workspace = long_index();
    let place = "indexes/default/long";
    for arguments in [
        &["scan", place, "--index", "by_c"][..],
        &["scan", place, "--index", "by_c", "-o", "json"],
        &["scan", place, "--index", "by_c", "-o", "yaml", "--prefix", "nobody"],
        &["get", place, "--index", "by_k", "7", "-o", "json"],
        &["verify", place],
        &["verify", place, "-o", "json"],
        &["run", "build.yaml", "--quiet"],
        &["run", "build.yaml", "--quiet", "-o", "yaml"],
        &["ingest", place, "--index", "by_k", "--into", "db", "--create"],
        &["crd"],
        &["completions", "bash"],
    ] {
        let what = arguments.join(" ");
        let ended = without_reader(workspace.command(arguments), &what);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(141), ""), "{what}");
    }
    // The control: what writes nothing there, does its work; what fails for another reason, says so.
    let sample = ["sample", "--rows", "10", "--out", "other.parquet"];
    assert_eq!(without_reader(workspace.command(&sample), "sample").code, Some(0));
    let failed = without_reader(workspace.command(&["get", place, "--index", "by_k", "x"]), "a wrong value");
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("column k"), "{}", failed.stderr);
}

/// As of `scan … | head -1`: of some megabytes no more is written than the pipe holds.
#[test]
fn a_scan_ends_when_its_reader_has_seen_enough() {
    let workspace = long_index();
    let mut command = workspace.command(&["scan", "indexes/default/long", "--index", "by_c", "--cache", "cache"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 100];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    // Files are fetched when the scan comes to them.
    let fetched =
        common::files_below(&workspace.join("cache")).into_keys().filter(|file| file.ends_with(".sst")).count();
    let files = workspace.manifest("long")["indexes"][0]["files"].as_array().unwrap().len();
    assert!((1..files).contains(&fetched), "{fetched} of {files} files were read");
}

/// An API server that has no builds: it answers every request with an empty list.
fn api_without_builds() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                request.push(byte[0]);
            }
            let body = r#"{"apiVersion":"indexbuild.dev/v1alpha1","kind":"IndexBuildList","metadata":{"resourceVersion":"1"},"items":[]}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
            // A client that is gone is another test's business.
            let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

#[test]
fn the_plugin_prints_documents_too_and_ends_with_its_reader() {
    let workspace = Workspace::new();
    let server = api_without_builds();
    workspace.write(
        "kubeconfig",
        &format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        ),
    );
    let plugin = workspace.join("kubectl-indexbuild");
    std::os::unix::fs::symlink(INDEXBUILD, &plugin).unwrap();
    let command = |format: &str| {
        let mut command = Command::new(&plugin);
        command.args(["status", "--kubeconfig", "kubeconfig", "-o", format]).current_dir(workspace.path());
        command.stdin(Stdio::null());
        command
    };
    for format in ["json", "yaml"] {
        let listed = finish(command(format), format).succeeded("the status of no builds");
        assert_eq!(listed.stdout.trim_end(), "[]", "{format}");
        let ended = without_reader(command(format), format);
        assert_eq!(ended.code, Some(141), "{format}: {}", ended.stderr);
        assert!(!ended.stderr.contains("error"), "{format}: {}", ended.stderr);
    }
}
