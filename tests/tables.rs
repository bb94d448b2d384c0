//! Tables of several files that differ, and columns in the names of folders: whole commands, judged by DuckDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use common::{CommandOutput, Workspace, finish, python};
use serde_json::Value;

fn run_python(workspace: &Workspace, script: &str) -> String {
    let mut command = Command::new(python());
    command.args(["-c", script]).current_dir(workspace.path());
    finish(command, "python").succeeded("python").stdout
}

/// A build of these indexes, each as `columns` and what follows them in its line, over the files of a source.
fn build_yaml(name: &str, source: &str, indexes: &[(String, String)]) -> String {
    let mut yaml = format!(
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: {name}}}\nspec:\n  source: {source}\n  rowId: {{columns: [id]}}\n  indexes:\n"
    );
    for (index, rest) in indexes {
        writeln!(yaml, "    - {{name: {index}, columns: {rest}}}").unwrap();
    }
    yaml + "  output: {url: indexes}\n"
}

fn indexes(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(index, rest)| ((*index).to_owned(), (*rest).to_owned())).collect()
}

fn run(workspace: &Workspace, name: &str, yaml: &str) -> CommandOutput {
    workspace.write(&format!("{name}.yaml"), yaml);
    let state = format!("state-{name}");
    workspace.indexbuild(&["run", &format!("{name}.yaml"), "--state", &state, "--quiet"])
}

/// The entries of an index in its order: id, then the included columns as text.
fn scanned(workspace: &Workspace, name: &str, index: &str) -> Vec<Vec<String>> {
    let built = format!("indexes/default/{name}");
    let entries = workspace.indexbuild(&["scan", &built, "--index", index, "-o", "json"]).succeeded("scan").json();
    let text = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    let row = |entry: &Value| {
        // In the order of their names, as serde_json has them.
        let included: BTreeMap<_, _> = entry["include"].as_object().into_iter().flatten().collect();
        std::iter::once(text(&entry["rowId"]["id"])).chain(included.into_values().map(text)).collect()
    };
    entries.as_array().unwrap().iter().map(row).collect()
}

/// What DuckDB gives for queries of `id` and further columns: one list of rows for each.
fn asked(workspace: &Workspace, queries: &[String]) -> Vec<Vec<Vec<String>>> {
    let script = format!(
        r#"
import duckdb, json
def text(v):
    if v is None: return "NULL"
    if isinstance(v, bool): return "true" if v else "false"
    if isinstance(v, int): return str(v)
    if isinstance(v, float): return repr(v)
    return "'" + str(v) + "'"
print(json.dumps([[[text(v) for v in row] for row in duckdb.sql(query).fetchall()] for query in json.loads({:?})]))
"#,
        serde_json::to_string(queries).unwrap()
    );
    serde_json::from_str(&run_python(workspace, &script)).unwrap()
}

/// Three files: `a` has what later was wider, `b` lacks two columns, `c` has one in another place and one more; each has
/// NULLs, one has a column of nothing else, and one an empty text.
fn differing(workspace: &Workspace) {
    let script = r#"
import duckdb, os
os.makedirs("t", exist_ok=True)
a = """SELECT i AS id, CASE WHEN i % 5 = 0 THEN NULL ELSE (i * 7919 % 1000 - 500)::SMALLINT END AS k,
  CASE WHEN i % 3 = 0 THEN NULL WHEN i % 3 = 1 THEN '' ELSE 'text ' || i % 17 END AS v,
  CASE WHEN i % 7 = 0 THEN NULL ELSE (i % 100 / 8)::DECIMAL(5,2) END AS d,
  CASE WHEN i % 4 = 0 THEN NULL ELSE (i / 8)::FLOAT END AS f,
  TIMESTAMP_MS '2024-01-01 00:00:00.5' AS made, 1 AS unused FROM range(0, 1000) r(i)"""
b = """SELECT i AS id, CASE WHEN i % 5 = 0 THEN NULL ELSE (i * 104729 % 1000 - 500) * 10000000000 END::BIGINT AS k,
  CASE WHEN i % 7 = 0 THEN NULL ELSE (i % 100 / 16)::DECIMAL(20,4) END AS d,
  CASE WHEN i % 4 = 0 THEN NULL ELSE i / 10 END::DOUBLE AS f FROM range(1000, 2000) r(i)"""
c = """SELECT NULL::VARCHAR AS v, [1, 2] AS list, CASE WHEN i % 5 = 0 THEN NULL ELSE i % 128 END::TINYINT AS k, 'x' AS unused,
  (i % 10)::DECIMAL(5,2) AS d, TIMESTAMP '2023-12-31 23:59:59.123456' AS made, i AS id, NULL::FLOAT AS f FROM range(2000, 3000) r(i)"""
for name, query in [("a", a), ("b", b), ("c", c)]:
    duckdb.sql(f"COPY ({query}) TO 't/{name}.parquet' (ROW_GROUP_SIZE 2048)")
    # A list is no cell; and a CSV column has one type in all files.
    query = f"SELECT * EXCLUDE (list) FROM ({query})" if name == "c" else query
    duckdb.sql(f"COPY ({query}) TO 't/{name}.csv' (HEADER)")
"#;
    run_python(workspace, script);
}

const INDEXES: [(&str, &str, &str); 5] = [
    ("by_k", "[{name: k}], include: [d, k, made, v]", "k ASC NULLS LAST"),
    ("by_v", "[{name: v, order: Desc}], include: [d, k, made, v]", "v DESC NULLS FIRST"),
    (
        "by_d",
        "[{name: d, nulls: First}, {name: k, order: Desc}], include: [d, k, made, v]",
        "d ASC NULLS FIRST, k DESC NULLS FIRST",
    ),
    ("by_f", "[{name: f}], include: [d, k, made, v]", "f ASC NULLS LAST"),
    ("by_made", "[{name: made, order: Desc, nulls: Last}], include: [d, k, made, v]", "made DESC NULLS LAST"),
];

/// What the indexes should hold, of this table.
fn expected(workspace: &Workspace, table: &str) -> Vec<Vec<Vec<String>>> {
    // `made` as a scan writes it; ordered by the table's own column, not by that text.
    let made = "rtrim(rtrim(strftime(t.made, '%Y-%m-%dT%H:%M:%S.%f'), '0'), '.')";
    let query = |(_, _, order): &(&str, &str, &str)| {
        let order = order.replace("made ", "t.made ");
        format!("SELECT id, d, k, {made} AS made, v FROM {table} t ORDER BY {order}, id")
    };
    let queries: Vec<String> = INDEXES.iter().map(query).collect();
    asked(workspace, &queries)
}

fn built_indexes() -> Vec<(String, String)> {
    INDEXES.iter().map(|(index, rest, _)| ((*index).to_owned(), (*rest).to_owned())).collect()
}

/// Names, entries and hashes of a build's indexes, without where they are cut.
fn hashes(workspace: &Workspace, name: &str) -> Vec<String> {
    workspace.content(name).into_iter().filter(|line| line.contains("entries, hash")).collect()
}

#[test]
fn an_index_over_files_that_differ_is_what_duckdb_makes_of_them_in_whatever_order_they_are() {
    let workspace = Workspace::new();
    differing(&workspace);
    let source = r#"{parquet: {urls: ["t/*.parquet"], missingColumns: "Null"}}"#;
    run(&workspace, "first", &build_yaml("first", source, &built_indexes())).succeeded("the build");
    let expected = expected(&workspace, "read_parquet('t/*.parquet', union_by_name=true)");
    for ((index, _, _), expected) in INDEXES.iter().zip(&expected) {
        let found = scanned(&workspace, "first", index);
        assert_eq!((found.len(), expected.len()), (3000, 3000));
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "{index}, entry {place}");
        }
    }
    let manifest = workspace.manifest("first");
    let types =
        manifest["indexes"].as_array().unwrap().iter().map(|index| index["definition"]["columns"][0]["type"].clone());
    let types: Vec<Value> = types.collect();
    assert_eq!(types[0], "int64");
    assert_eq!(types[2], serde_json::json!({"decimal": {"precision": 20, "scale": 4}}));
    assert_eq!(types[3], "float64");
    workspace
        .indexbuild(&["verify", "indexes/default/first", "--source", "first.yaml"])
        .succeeded("verify reads the table in the index's types");

    // Each file in another one's place.
    for (from, to) in [("a", "x"), ("b", "a"), ("c", "b"), ("x", "c")] {
        std::fs::rename(workspace.join(&format!("t/{from}.parquet")), workspace.join(&format!("t/{to}.parquet")))
            .unwrap();
    }
    run(&workspace, "again", &build_yaml("again", source, &built_indexes())).succeeded("the build of other names");
    assert_eq!(hashes(&workspace, "again"), hashes(&workspace, "first"));
    // And in the order of the URLs in the spec, and cut otherwise.
    let source = r#"{parquet: {urls: ["t/c.parquet", "t/a.parquet", "t/b.parquet"], missingColumns: "Null"}}"#;
    let yaml = build_yaml("third", source, &built_indexes()) + "  parallelism: 3\n";
    run(&workspace, "third", &yaml).succeeded("the build of other URLs");
    assert_eq!(hashes(&workspace, "third"), hashes(&workspace, "first"));
}

#[test]
fn csv_files_that_differ_give_the_index_that_parquet_files_give() {
    let workspace = Workspace::new();
    differing(&workspace);
    let source = r#"{csv: {urls: ["t/*.csv"], missingColumns: "Null", columns: [{name: id, type: int64}, {name: k, type: int64}, {name: d, type: "decimal(20,4)"}, {name: f, type: float64}, {name: made, type: timestamp}]}}"#;
    run(&workspace, "csv", &build_yaml("csv", source, &built_indexes())).succeeded("the build");
    let source = r#"{parquet: {urls: ["t/*.parquet"], missingColumns: "Null"}}"#;
    run(&workspace, "parquet", &build_yaml("parquet", source, &built_indexes())).succeeded("the build");
    assert_eq!(hashes(&workspace, "csv"), hashes(&workspace, "parquet"));
    // Both are compared with DuckDB besides, lest they be wrong alike.
    let expected = expected(&workspace, "read_parquet('t/*.parquet', union_by_name=true)");
    for ((index, _, _), expected) in INDEXES.iter().zip(&expected) {
        assert_eq!(&scanned(&workspace, "csv", index), expected, "{index}");
    }
}

#[test]
fn what_cannot_be_one_table_is_said_before_any_work_with_files_column_and_way_out() {
    let workspace = Workspace::new();
    differing(&workspace);
    std::fs::create_dir_all(workspace.join("t/year=2024/month=x")).unwrap();
    std::fs::copy(workspace.join("t/a.parquet"), workspace.join("t/year=2024/month=x/p.parquet")).unwrap();
    let cases: [(&str, &str, &str, &[&str]); 7] = [
        (
            "lacks",
            r#"{parquet: {urls: ["t/*.parquet"]}}"#,
            "[{name: v}]",
            &["t/b.parquet has no column \"v\"", "missingColumns"],
        ),
        (
            "types",
            r#"{parquet: {urls: ["t/?.parquet"]}}"#,
            "[{name: unused}]",
            &["\"unused\" is Int32 in ", "a.parquet", "Utf8 in ", "c.parquet"],
        ),
        (
            "nowhere",
            r#"{parquet: {urls: ["t/year=*/*/*.parquet"]}}"#,
            "[{name: day}]",
            &["\"day\"", "year", "month", "unused"],
        ),
        (
            "nowhere-null",
            r#"{parquet: {urls: ["t/*.parquet"], missingColumns: "Null"}}"#,
            "[{name: day}]",
            &["\"day\" of index", "is not in the table"],
        ),
        (
            "value",
            r#"{parquet: {urls: ["t/year=*/*/*.parquet"], partitions: [{name: month, type: int8}]}}"#,
            "[{name: month}]",
            &["t/year=2024/month=x/p.parquet", "\"month\" is \"x\"", "int8"],
        ),
        (
            "unused-partition",
            r#"{parquet: {urls: ["t/year=*/*/*.parquet"], partitions: [{name: Year, type: int8}]}}"#,
            "[{name: year}]",
            &["partition \"Year\""],
        ),
        (
            "outside",
            r#"{parquet: {urls: ["t/*.parquet", "t/year=*/*/*.parquet"]}}"#,
            "[{name: year}]",
            &["t/a.parquet has no column \"year\"", "missingColumns"],
        ),
    ];
    for (name, source, columns, parts) in cases {
        let output = run(&workspace, name, &build_yaml(name, source, &indexes(&[("i", columns)]))).failed(name);
        for part in parts {
            assert!(output.text().contains(part), "{name}: {part} in {}", output.text());
        }
    }
}

#[test]
fn folders_are_columns_of_an_index_as_duckdb_reads_them() {
    let workspace = Workspace::new();
    let script = r#"
import duckdb, os
values = [("2023", "a%2Fb"), ("2024", "Z%C3%BCrich"), ("0999", "__HIVE_DEFAULT_PARTITION__"), ("__HIVE_DEFAULT_PARTITION__", "x y"), ("-5", ""), ("2024", "a")]
for n, (year, city) in enumerate(values):
    for format in ["parquet", "csv"]:
        folder = f"{format}/year={year}/city={city}"
        os.makedirs(folder)
        duckdb.sql(f"COPY (SELECT i AS id, i % 7 AS k FROM range({n} * 100, {n} * 100 + 100) r(i)) TO '{folder}/{n}.{format}' (FORMAT {format}{', HEADER' if format == 'csv' else ''})")
"#;
    run_python(&workspace, script);
    let more = "include: [city, year]";
    let built = indexes(&[
        ("by_year", &format!("[{{name: year}}, {{name: k, order: Desc}}], {more}")),
        ("by_city", &format!("[{{name: city, order: Desc}}, {{name: year, nulls: First}}], {more}")),
        ("by_k", &format!("[{{name: k}}], {more}")),
    ]);
    let orders =
        ["year ASC NULLS LAST, k DESC NULLS FIRST", "city DESC NULLS FIRST, year ASC NULLS FIRST", "k ASC NULLS LAST"];
    for (typed, year) in [(true, "year: INTEGER"), (false, "year: VARCHAR")] {
        let table = format!(
            "read_parquet('parquet/**/*.parquet', hive_partitioning=true, hive_types={{{year}, city: VARCHAR}})"
        );
        let queries: Vec<String> =
            orders.iter().map(|order| format!("SELECT id, city, year FROM {table} ORDER BY {order}, id")).collect();
        let expected = asked(&workspace, &queries);
        for format in ["parquet", "csv"] {
            let partitions = if typed { "partitions: [{name: year, type: int32}], " } else { "" };
            let columns =
                if format == "csv" { "columns: [{name: id, type: int64}, {name: k, type: int64}], " } else { "" };
            let source = format!("{{{format}: {{{partitions}{columns}urls: [\"{format}/year=*/**/*.{format}\"]}}}}");
            let name = format!("{format}-{typed}");
            run(&workspace, &name, &build_yaml(&name, &source, &built)).succeeded("the build");
            for ((index, _), expected) in built.iter().zip(&expected) {
                assert_eq!(&scanned(&workspace, &name, index), expected, "{name}, {index}");
            }
            let built = format!("indexes/default/{name}");
            workspace.indexbuild(&["verify", &built, "--source", &format!("{name}.yaml")]).succeeded("verify");
        }
    }
}

/// Numbers that look random, and are the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// By column: its type in one file, in the other, and values that are easily misplaced, of the first and of both.
const AWKWARD: [(&str, &str, &str, &str, &str); 20] = [
    ("c_bool", "BOOLEAN", "BOOLEAN", "true|false", ""),
    ("c_i8", "TINYINT", "SMALLINT", "-128|-1|0|1|127", "-32768|-129|128|32767"),
    ("c_i16", "SMALLINT", "INTEGER", "-32768|-1|0|1|255|256", "-2147483648|65536|2147483647"),
    (
        "c_i32",
        "INTEGER",
        "BIGINT",
        "-2147483648|-1|0|1|65535|2147483647",
        "-9223372036854775808|9223372036854775807|4294967296",
    ),
    ("c_i64", "BIGINT", "BIGINT", "-9223372036854775808|-256|-1|0|1|255|9223372036854775807", ""),
    ("c_u8", "UTINYINT", "UINTEGER", "0|1|127|128|255", "256|4294967295"),
    ("c_u32", "UINTEGER", "BIGINT", "0|1|2147483647|2147483648|4294967295", "-1|-9223372036854775808|4294967296"),
    ("c_u64", "UBIGINT", "UBIGINT", "0|1|9223372036854775807|9223372036854775808|18446744073709551615", ""),
    (
        "c_f32",
        "FLOAT",
        "DOUBLE",
        "0|-0.0|1|-1|1e-45|-1e-45|3.4e38|inf|-inf|nan|0.1",
        "0.1|5e-324|-5e-324|1.7e308|-1.7e308",
    ),
    ("c_f64", "DOUBLE", "DOUBLE", "0|-0.0|1|-1|5e-324|-5e-324|1.7e308|-1.7e308|inf|-inf|nan", ""),
    (
        "c_dec",
        "DECIMAL(5,2)",
        "DECIMAL(20,4)",
        "0|-0.01|0.01|999.99|-999.99|1",
        "9999999999999999.9999|-9999999999999999.9999|0.0001|-0.0001",
    ),
    (
        "c_wide",
        "DECIMAL(38,10)",
        "DECIMAL(38,10)",
        "0|-0.0000000001|0.0000000001|9999999999999999999999999999.9999999999|-9999999999999999999999999999.9999999999",
        "",
    ),
    ("c_date", "DATE", "DATE", "1970-01-01|1969-12-31|0001-01-01|9999-12-31|2024-02-29", ""),
    ("c_time", "TIME", "TIME", "00:00:00|00:00:00.000001|12:00:00|23:59:59.999999", ""),
    (
        "c_ts",
        "TIMESTAMP_MS",
        "TIMESTAMP",
        "1970-01-01 00:00:00|1969-12-31 23:59:59.999|2024-02-29 12:00:00.001",
        "1969-12-31 23:59:59.999999|1970-01-01 00:00:00.000001|0001-01-01 00:00:00|9999-12-31 23:59:59",
    ),
    (
        "c_day",
        "DATE",
        "TIMESTAMP",
        "1970-01-01|1969-12-31|2024-02-29",
        "1969-12-31 23:59:59.999999|1970-01-01 00:00:00.000001",
    ),
    (
        "c_ns",
        "TIMESTAMP_NS",
        "TIMESTAMP_NS",
        "1970-01-01 00:00:00.000000001|1969-12-31 23:59:59.999999999|1970-01-01 00:00:00",
        "",
    ),
    (
        "c_tz",
        "TIMESTAMPTZ",
        "TIMESTAMPTZ",
        "1970-01-01 00:00:00+00|1969-12-31 23:59:59.999999+00|2024-02-29 12:00:00+01",
        "",
    ),
    (
        "c_text",
        "VARCHAR",
        "VARCHAR",
        "|\\x00|\\x00\\x00|\\x00\\x01|\\x01|a|a\\x00|a\\x00b|ab|A|z|ä|€|\\U0001f600|\\uffff|\\ue000|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "",
    ),
    ("c_blob", "BLOB", "BLOB", "|\\x00|\\x00\\x00|\\x00\\xff|\\x00\\x01|\\xff|\\xff\\xff|\\xff\\x00|a|a\\x00", ""),
];

const ROWS: usize = 300;

/// Two files of awkward values, and the order of their rows by each of these clauses.
fn orders(workspace: &Workspace, seed: u64, clauses: &[String]) -> Vec<Vec<Vec<String>>> {
    let columns: Vec<_> = AWKWARD.iter().map(|(name, one, two, values, more)| [name, one, two, values, more]).collect();
    let script = format!(
        r#"
import codecs, duckdb, json, random
columns = json.loads(r'''{}''')
rng = random.Random({seed})
def cells(column, number):
    name, one, two, values, more = column
    values = values.split("|") + (more.split("|") if number and more else [])
    type = two if number else one
    if type == "BLOB": values = [codecs.escape_decode(v.encode())[0] for v in values]
    elif type == "VARCHAR": values = [json.loads('"' + v.replace("\\x", "\\u00").replace("\\U0001f600", "\\ud83d\\ude00") + '"') for v in values]
    return type, values
for number in [0, 1]:
    made = [cells(column, number) for column in columns]
    duckdb.sql("DROP TABLE IF EXISTS t")
    texts = ", ".join(f"{{c[0]}} {{'BLOB' if t == 'BLOB' else 'VARCHAR'}}" for c, (t, _) in zip(columns, made))
    duckdb.sql(f"CREATE TABLE t (id BIGINT, {{texts}})")
    rows = [[i] + [rng.choice(v + [None]) for _, v in made] for i in range(number * {ROWS}, (number + 1) * {ROWS})]
    # In one statement: row by row it takes a hundred times as long.
    places = ", ".join("(" + ", ".join("?" * (len(columns) + 1)) + ")" for _ in rows)
    duckdb.execute(f"INSERT INTO t VALUES {{places}}", [value for row in rows for value in row])
    cast = ", ".join(f"{{c[0]}}::{{t}} AS {{c[0]}}" for c, (t, _) in zip(columns, made))
    duckdb.sql(f"COPY (SELECT id, {{cast}} FROM t) TO 'random/{{number}}.parquet'")
"#,
        serde_json::to_string(&columns).unwrap()
    );
    std::fs::create_dir_all(workspace.join("random")).unwrap();
    run_python(workspace, &script);
    let table = "read_parquet('random/*.parquet', union_by_name=true)";
    let queries: Vec<String> =
        clauses.iter().map(|clause| format!("SELECT id FROM {table} ORDER BY {clause}, id")).collect();
    asked(workspace, &queries)
}

#[test]
fn random_definitions_over_awkward_values_of_every_type_sort_as_duckdb_does() {
    const AT_ONCE: usize = 16;
    let wanted: usize = std::env::var("INDEXBUILD_DEFINITIONS").map_or(100, |text| text.parse().unwrap());
    for (first, seed) in (0..wanted).step_by(AT_ONCE).zip(1_u64..) {
        println!("seed {seed}: definitions {first} to {}", (first + AT_ONCE).min(wanted));
        let workspace = Workspace::new();
        let mut numbers = Numbers(seed);
        let mut built = Vec::new();
        let mut clauses = Vec::new();
        for number in first..(first + AT_ONCE).min(wanted) {
            let mut columns = Vec::new();
            let mut clause = Vec::new();
            // Each column leads an index in turn; the others are by chance.
            let mut places = vec![number % AWKWARD.len()];
            for _ in 0..numbers.below(4) {
                let place = numbers.below(AWKWARD.len());
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            for place in places {
                let name = AWKWARD[place].0;
                let (order, sql) = [("Asc", "ASC"), ("Desc", "DESC")][numbers.below(2)];
                let nulls = ["First", "Last"][numbers.below(2)];
                columns.push(format!("{{name: {name}, order: {order}, nulls: {nulls}}}"));
                clause.push(format!("{name} {sql} NULLS {}", nulls.to_uppercase()));
            }
            built.push((format!("i{number}"), format!("[{}]", columns.join(", "))));
            clauses.push(clause.join(", "));
        }
        let expected = orders(&workspace, seed, &clauses);
        let source = r#"{parquet: {urls: ["random/*.parquet"]}}"#;
        run(&workspace, "random", &build_yaml("random", source, &built)).succeeded(&format!("seed {seed}"));
        for (((index, definition), clause), expected) in built.iter().zip(&clauses).zip(&expected) {
            let found = scanned(&workspace, "random", index);
            assert_eq!(expected.len(), 2 * ROWS);
            let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
            assert!(
                found.len() == expected.len() && differs.is_none(),
                "seed {seed}, {definition}: not ORDER BY {clause}, from entry {differs:?} on"
            );
        }
    }
}
