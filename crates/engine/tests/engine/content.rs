//! What comes out: the same whatever it was made with, in the right order, with nothing lost.

use indexbuild_engine::{EngineError, JobControl};
use indexbuild_index::{ColumnType, IncludedColumn, IndexDefinition, Nulls, Order, RowIdValue, Value};

use crate::support::{
    LaneJob, Means, PLENTY, Place, Row, TINY, Table, build, column, encode_with, entries, mixed, on_c, on_k, plan,
    sort_with,
};

fn as_int(value: &Value) -> Option<i64> {
    match value {
        Value::Null => None,
        Value::Int(value) => Some(*value),
        other => panic!("{other:?} in an integer column"),
    }
}

fn unique_on_k() -> IndexDefinition {
    IndexDefinition { name: "unique_k".to_owned(), unique: true, ..on_k(Order::Asc, Nulls::Last) }
}

#[test]
fn i10_contents_cuts_and_bytes_do_not_depend_on_lanes_threads_memory_or_the_size_of_runs() {
    let table = Table::mixed(30_000);
    for definition in [on_k(Order::Asc, Nulls::Last), on_k(Order::Desc, Nulls::First), on_c()] {
        let (expected, _, _place) = build(&definition, &table, 5, PLENTY);
        assert!(expected.files.len() > 5, "ranges are cut into files: {}", expected.files.len());
        for (lanes, threads, memory, run_bytes) in [
            (1, 1, 256 << 10, 64 << 10),
            (1, 2, 1 << 20, 1 << 30),
            (2, 1, 64 << 20, 100_000),
            (2, 2, 256 << 10, 1 << 30),
            (5, 1, 1 << 20, 64 << 10),
            (5, 2, 64 << 20, 64 << 10),
            (5, 2, 64 << 10, 1 << 30),
        ] {
            let means = Means { lanes, threads, memory, run_bytes };
            let (content, _, _place) = build(&definition, &table, 5, means);
            assert_eq!(content, expected, "{} with {means:?}", definition.name);
        }
    }
}

#[test]
fn the_stream_is_in_the_order_of_an_independent_sort() {
    let table = Table::mixed(12_000);
    for (order, nulls) in
        [(Order::Asc, Nulls::Last), (Order::Asc, Nulls::First), (Order::Desc, Nulls::First), (Order::Desc, Nulls::Last)]
    {
        let definition = on_k(order, nulls);
        let (_, outcomes, _place) = build(&definition, &table, 4, TINY);
        let found: Vec<(Option<i64>, i64)> = entries(&definition, &outcomes)
            .into_iter()
            .map(|entry| match entry.row_id {
                RowIdValue::Columns(id) => (as_int(&entry.columns[0]), as_int(&id[0]).unwrap()),
                RowIdValue::Position(_) => panic!("the row id is a column"),
            })
            .collect();
        let mut expected: Vec<(Option<i64>, i64)> =
            table.rows.iter().map(|row| (row.k.map(i64::from), row.id)).collect();
        expected.sort_by_key(|(k, id)| {
            let null = (k.is_none() == (nulls == Nulls::Last), k.is_none());
            let k = k.unwrap_or(0);
            (null.0 && null.1, !(null.1 && nulls == Nulls::First), if order == Order::Asc { k } else { -k }, *id)
        });
        assert_eq!(found, expected, "{order:?}, NULLs {nulls:?}");
    }
    let (_, outcomes, _place) = build(&on_c(), &table, 4, TINY);
    let found: Vec<(Option<String>, u64)> = entries(&on_c(), &outcomes)
        .into_iter()
        .map(|entry| {
            let text = match &entry.columns[0] {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => panic!("{other:?} in a text column"),
            };
            match entry.row_id {
                RowIdValue::Position(position) => (text, position.row()),
                RowIdValue::Columns(_) => panic!("the row id is the position"),
            }
        })
        .collect();
    let mut expected: Vec<(Option<String>, u64)> =
        table.rows.iter().zip(0..).map(|(row, position)| (row.c.clone(), position)).collect();
    expected.sort_by(|left, right| (left.0.is_none(), left).cmp(&(right.0.is_none(), right)));
    assert_eq!(found, expected);
}

/// With the texts in the entries.
fn including_c(definition: IndexDefinition) -> IndexDefinition {
    let include = vec![IncludedColumn { name: "c".to_owned(), column_type: ColumnType::String }];
    IndexDefinition { include, ..definition }
}

/// A text of more than a MiB, too long to be copied from buffer to buffer, with this end.
fn long(end: &str) -> String {
    format!("{}{end}", "x".repeat(1_200_000))
}

#[test]
fn long_values_stand_where_they_belong_among_short_ones_whatever_the_memory() {
    let rows = (0..90)
        .map(|n| {
            let c = if n % 4 == 1 { long(&n.to_string().repeat(n)) } else { format!("short-{n}") };
            let k = (n % 11 > 0).then(|| i32::try_from(n * 37 % 90).unwrap());
            Row { k, c: (n != 7).then_some(c), id: i64::try_from(n).unwrap() }
        })
        .collect();
    let table = Table::of(rows);
    let definition = including_c(on_k(Order::Asc, Nulls::Last));
    let (expected, outcomes, _place) = build(&definition, &table, 3, PLENTY);
    let found: Vec<(Value, Value)> = entries(&definition, &outcomes)
        .into_iter()
        .map(|mut entry| (entry.columns.remove(0), entry.included.remove(0)))
        .collect();
    let mut sorted: Vec<&Row> = table.rows.iter().collect();
    sorted.sort_by_key(|row| (row.k.is_none(), row.k, row.id));
    let sorted: Vec<(Value, Value)> = sorted
        .into_iter()
        .map(|row| {
            let k = row.k.map_or(Value::Null, |k| Value::Int(i64::from(k)));
            (k, row.c.clone().map_or(Value::Null, Value::String))
        })
        .collect();
    assert!(found == sorted, "not every row once, in order");
    for means in [TINY, Means { lanes: 3, threads: 2, ..PLENTY }, Means { lanes: 1, memory: 8 << 20, ..TINY }] {
        assert_eq!(build(&definition, &table, 3, means).0, expected, "{means:?}");
    }
}

#[test]
fn of_long_rows_with_one_key_the_least_is_kept_however_late_they_differ() {
    let row = |k, c: String, id| Row { k: Some(k), c: Some(c), id };
    let rows = vec![
        row(1, long("c"), 5),
        row(1, long("a"), 5),
        row(1, long("b"), 5),
        row(2, "short".to_owned(), 9),
        row(2, long(""), 8),
        row(3, long(""), 8),
        row(3, "short".to_owned(), 7),
    ];
    let table = Table::of(rows);
    let definition = including_c(unique_on_k());
    let (expected, outcomes, _place) = build(&definition, &table, 1, PLENTY);
    let kept: Vec<Value> =
        entries(&definition, &outcomes).into_iter().map(|mut entry| entry.included.remove(0)).collect();
    assert!(kept == [long("a"), long(""), "short".to_owned()].map(Value::String), "others were kept");
    let pairs = expected.duplicates.pairs.iter();
    let pairs: Vec<_> = pairs.map(|pair| (pair.decoded.as_str(), pair.first.as_str(), pair.second.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("k = 1", "id = 5", "id = 5"),
            ("k = 1", "id = 5", "id = 5"),
            ("k = 2", "id = 8", "id = 9"),
            ("k = 3", "id = 7", "id = 8"),
        ]
    );
    assert_eq!(build(&definition, &table, 1, TINY).0, expected);
}

#[test]
fn a_key_that_nine_rows_of_ten_hold_is_cut_by_row_id_and_sorts_like_any_other() {
    let mut table = Table::mixed(30_000);
    for row in &mut table.rows {
        if !mixed(u64::try_from(row.id).unwrap() + 77).is_multiple_of(10) {
            row.k = Some(7);
            row.c = Some("the one that nearly all have".to_owned());
        }
    }
    for definition in [on_k(Order::Asc, Nulls::Last), on_c()] {
        // The ranges' boundaries know nothing of the skew: one range holds nearly all.
        let blind = |lanes| {
            let mut plan = plan(definition.clone(), &Table::mixed(30_000), 5, lanes);
            plan.target_file_bytes = 50_000;
            plan
        };
        let mut contents = Vec::new();
        for means in [PLENTY, TINY, Means { lanes: 5, ..TINY }] {
            let place = Place::default();
            let plan = blind(means.lanes);
            let control = JobControl::new();
            let attempt = place.begin("encode-0");
            let encoded =
                encode_with(&attempt, std::slice::from_ref(&plan), &table, means, Vec::new(), &control, &|_| Ok(()))
                    .unwrap();
            let outcomes: Vec<_> = (0..plan.lanes.len())
                .map(|lane| {
                    let attempt = place.begin(&format!("sort-{lane}"));
                    let job = LaneJob {
                        attempt: &attempt,
                        plan: &plan,
                        lane,
                        runs: &encoded.runs,
                        already: Vec::new(),
                        means,
                    };
                    sort_with(job, &control, &|_| Ok(())).unwrap()
                })
                .collect();
            let content = crate::support::content(&outcomes);
            assert_eq!(content.hash, encoded.indexes[0].hash.hex());
            contents.push(content);
        }
        assert_eq!(contents[0], contents[1]);
        assert_eq!(contents[0], contents[2]);
    }
}

#[test]
fn an_empty_table_makes_an_empty_index_without_files() {
    let table = Table::of(Vec::new());
    for means in [PLENTY, TINY] {
        let (content, outcomes, _place) = build(&on_c(), &table, 3, means);
        assert_eq!(content.entries, 0);
        assert!(content.files.is_empty());
        assert!(outcomes.iter().all(|outcome| outcome.check.unwrap().files == 0));
    }
}

#[test]
fn duplicates_of_a_unique_index_are_counted_exactly_and_named_with_both_rows() {
    // Every third row repeats the key of the row before it; NULLs are no duplicates.
    let rows: Vec<Row> = (0..30_000i32)
        .map(|n| Row { k: (n % 50 != 0).then_some(if n % 3 == 2 { n - 1 } else { n }), c: None, id: i64::from(n) })
        .collect();
    let expected =
        rows.iter().filter(|row| row.k.is_some_and(|k| i64::from(k) != row.id) && (row.id - 1) % 50 != 0).count();
    let table = Table::of(rows);
    let (content, _, _place) = build(&unique_on_k(), &table, 5, PLENTY);
    assert_eq!(content.duplicates.count, expected as u64);
    assert_eq!(content.duplicates.pairs.len(), 100);
    let first = &content.duplicates.pairs[0];
    assert_eq!((first.decoded.as_str(), first.first.as_str(), first.second.as_str()), ("k = 1", "id = 1", "id = 2"));
    for means in [TINY, Means { lanes: 5, threads: 1, ..TINY }] {
        assert_eq!(build(&unique_on_k(), &table, 5, means).0, content, "{means:?}");
    }
}

#[test]
fn one_key_in_all_rows_beyond_the_budget_is_counted_whatever_the_memory() {
    // The same row id too in half of them: nothing tells these entries apart.
    for key in ["k", "c"] {
        let rows: Vec<Row> = (0..40_000i64)
            .map(|n| Row {
                k: Some(3),
                c: Some("the only text there is in this column".to_owned()),
                id: if n % 2 == 0 { 5 } else { n },
            })
            .collect();
        let definition = match key {
            "k" => unique_on_k(),
            _ => IndexDefinition {
                columns: vec![column("c", indexbuild_index::ColumnType::String, Order::Asc, Nulls::Last)],
                ..unique_on_k()
            },
        };
        let table = Table::of(rows);
        let (plenty, _, _place) = build(&definition, &table, 1, PLENTY);
        assert_eq!((plenty.entries, plenty.duplicates.count), (1, 39_999));
        let (tiny, outcomes, _place) = build(&definition, &table, 1, TINY);
        assert_eq!(tiny, plenty);
        assert!(outcomes[0].stats.cut_again > 0, "it was over budget, and cut until only equal entries resisted");
    }
}

#[test]
fn two_rows_with_one_row_id_are_an_error_that_names_it() {
    let mut table = Table::mixed(5000);
    table.rows[4000] = table.rows[17].clone();
    for means in [PLENTY, TINY] {
        let place = Place::default();
        let definition = IndexDefinition {
            columns: vec![column("c", indexbuild_index::ColumnType::String, Order::Asc, Nulls::Last)],
            ..on_k(Order::Asc, Nulls::Last)
        };
        let plan = plan(definition, &table, 1, 1);
        let control = JobControl::new();
        let attempt = place.begin("encode-0");
        let encoded =
            encode_with(&attempt, std::slice::from_ref(&plan), &table, means, Vec::new(), &control, &|_| Ok(()))
                .unwrap();
        let attempt = place.begin("sort-0");
        let job = LaneJob { attempt: &attempt, plan: &plan, lane: 0, runs: &encoded.runs, already: Vec::new(), means };
        let error = sort_with(job, &control, &|_| Ok(())).unwrap_err();
        assert!(matches!(error, EngineError::DuplicateKeyOutsideUnique { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("id = 17") && text.contains("rowId"), "{text}");
    }
}
