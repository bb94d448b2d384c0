//! Values at the edges of a schema, found by walking the schema itself: each field of a resource, and for each what is
//! just allowed and just not.
#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A place in an object: a field, an item of a list, a key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A named field.
    Field(String),
    /// The first item of a list.
    Item,
    /// A key of a map that has no names of its own.
    Key,
}

/// The way from the object's root.
pub(super) type Path = Vec<Step>;

/// A path as people write it.
pub(super) fn shown(path: &[Step]) -> String {
    let shown = path.iter().map(|step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item => "[0]".to_owned(),
        Step::Key => "['key']".to_owned(),
    });
    shown.collect()
}

/// All places of a schema below `path`, each with its own schema.
fn places(path: &Path, schema: &Value, into: &mut Vec<(Path, Value)>) {
    if !path.is_empty() {
        into.push((path.clone(), schema.clone()));
    }
    let below = |step: Step| [path.clone(), vec![step]].concat();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        places(&below(Step::Field(name.clone())), inner, into);
    }
    if let Some(items) = schema.get("items") {
        places(&below(Step::Item), items, into);
    }
    if let Some(inner) = schema.get("additionalProperties") {
        places(&below(Step::Key), inner, into);
    }
}

/// The least that a schema takes.
pub(super) fn least(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return json!("1Gi");
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| (name.to_owned(), least(&schema["properties"][name])));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Some("array") => {
            let items = schema["minItems"].as_u64().unwrap_or(0);
            Value::Array((0..items).map(|_| least(&schema["items"])).collect())
        }
        Some("integer" | "number") => schema.get("minimum").cloned().map_or(json!(0), whole),
        Some("boolean") => json!(false),
        _ => text(schema),
    }
}

/// Bounds are floating point in a definition.
fn whole(bound: Value) -> Value {
    bound.as_f64().filter(|bound| bound.fract() == 0.0).map_or(bound, |float| json!(float as i64))
}

/// A short text that a schema takes.
fn text(schema: &Value) -> Value {
    let candidates = ["s3://a/b", "a", "5m", "https://a", ",", "int64", "2026-01-01T00:00:00Z", ""];
    let fits = |text: &&&str| {
        let pattern = schema["pattern"].as_str();
        let length = text.chars().count() as u64;
        let long_enough = length >= schema["minLength"].as_u64().unwrap_or(0);
        let short_enough = schema["maxLength"].as_u64().is_none_or(|most| length <= most);
        let of_format = schema["format"] != "date-time" || text.contains('T');
        long_enough
            && short_enough
            && of_format
            && pattern.is_none_or(|pattern| regex::Regex::new(pattern).unwrap().is_match(text))
    };
    json!(candidates.iter().find(fits).unwrap_or_else(|| panic!("no text for {schema}")))
}

/// Values at the edges of a schema, allowed and not.
pub(super) fn edges(schema: &Value) -> Vec<Value> {
    let mut all = vec![Value::Null, least(schema)];
    if let Some(values) = schema["enum"].as_array() {
        all.extend(values.iter().cloned());
    }
    if schema["x-kubernetes-int-or-string"] == true {
        all.extend(integers(schema));
        all.extend(quantities());
        return all;
    }
    match schema["type"].as_str() {
        Some("integer") => all.extend(integers(schema)),
        Some("number") => {
            all.extend(integers(schema));
            all.extend([0.5, -0.0, 1e-300, 5e-324, 1e300, 0.999_999_999_999].map(|number| json!(number)));
        }
        Some("boolean") => all.push(json!(true)),
        Some("string") => all.extend(texts(schema)),
        Some("array") => {
            let item = least(&schema["items"]);
            let bounds = ["minItems", "maxItems"].map(|bound| schema[bound].as_u64().unwrap_or(1));
            let counts = bounds.into_iter().flat_map(|bound| [bound, bound + 1]).filter(|count| *count <= 64);
            all.extend(counts.map(|count| Value::Array(vec![item.clone(); usize::try_from(count).unwrap()])));
            all.push(json!([null]));
        }
        Some("object") => {
            all.push(json!({}));
            if let Some(inner) = schema.get("additionalProperties") {
                all.push(json!({"a": least(inner), "": least(inner), "ü/é.b": least(inner)}));
                all.push(json!({"a": null}));
            }
            if schema["x-kubernetes-preserve-unknown-fields"] == true {
                let nested = |depth: usize| {
                    (0..depth).fold(json!({"a": [1, -1.5e300, null, "x"]}), |inner, _| json!({"a": inner}))
                };
                all.extend([nested(1), nested(30)]);
            }
        }
        _ => {}
    }
    all
}

fn integers(schema: &Value) -> Vec<Value> {
    let bounds = ["minimum", "maximum"].into_iter().filter_map(|bound| schema[bound].as_f64());
    let mut all: Vec<Value> = bounds
        .filter(|bound| bound.fract() == 0.0)
        .flat_map(|bound| [bound as i64, (bound as i64).saturating_add(1), (bound as i64).saturating_sub(1)])
        .map(|number| json!(number))
        .collect();
    let powers = [8, 16, 31, 32, 53, 60, 62].map(|power| 1_i64 << power).into_iter().chain([i64::MAX]);
    all.extend(powers.flat_map(|power| [power, power - 1, -power]).map(|number| json!(number)));
    all.extend([0, 1, -1, 2, 100, i64::MIN].map(|number| json!(number)));
    all.extend([u64::MAX, 1 << 63].map(|number| json!(number)));
    // Numbers that are whole to some who read JSON, and not to others.
    all.extend(
        [1.0, 1.5, 1e3, 1.000_000_000_1, 1_000_000_000.1, 1e15, 1e16, 1e18, 1e19, 1e30].map(|number| json!(number)),
    );
    all
}

fn quantities() -> Vec<Value> {
    let numbers =
        ["0", "1", "15", "16", "9999999999999999999", "10000000000000000000", "0.000000001", "1.5", "-1", "1e3"];
    let suffixes = ["", "m", "Ki", "Gi", "E", "Ei", "n"];
    let all = numbers.iter().flat_map(|number| suffixes.map(|suffix| json!(format!("{number}{suffix}"))));
    let others = [
        "1.0000000001Ei",
        "1152921504606846976",
        "1152921504606846977",
        "18446744073709551615",
        "18446744073709551616",
        "1023.999Pi",
        "0.999999999Ei",
    ];
    all.chain(others.map(|text| json!(text))).collect()
}

fn texts(schema: &Value) -> Vec<Value> {
    let length = |bound: &str| schema[bound].as_u64().map(|length| usize::try_from(length).unwrap());
    let mut all: Vec<Value> = ["", "a", "\u{0}", "🦀", "a b", "true", "null", "1"].map(|text| json!(text)).into();
    for length in [length("minLength"), length("maxLength")].into_iter().flatten() {
        for length in [length.saturating_sub(1), length, length + 1] {
            all.extend(["a", "é", "🦀", "9"].map(|letter| json!(letter.repeat(length))));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        all.extend(matching(pattern).map(Value::from));
    }
    if schema["format"] == "date-time" {
        let times = [
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "2026-01-01T00:00:00.123456789+14:00",
            "2016-12-31T23:59:60Z",
        ];
        all.extend(times.map(|time| json!(time)));
    }
    all
}

/// Texts that a pattern takes, the same in each run: also the longest of bounded repetitions.
fn matching(pattern: &str) -> impl Iterator<Item = String> + use<> {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let inner = pattern.trim_start_matches('^').trim_end_matches('$');
    let strategy = proptest::string::string_regex(inner).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let nines =
        [("[0-9]{1,5}", "99999"), ("[0-9]{1,6}", "999999"), ("[0-9]{1,7}", "9999999"), ("[0-9]{1,8}", "99999999")];
    let longest = nines.iter().fold(inner.to_owned(), |text, (digits, nines)| text.replace(digits, nines));
    let longest = (longest != inner).then(|| longest.replace(['(', ')', '?'], ""));
    let drawn: Vec<String> = (0..24).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    drawn.into_iter().chain(longest)
}

/// Puts a value at a place, and what the schema asks for on the way there.
pub(super) fn put(object: &mut Value, schema: &Value, path: &[Step], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    match step {
        Step::Field(name) => {
            let inner = &schema["properties"][name];
            if !object.is_object() {
                *object = least(schema);
            }
            if object.get(name).is_none_or(Value::is_null) {
                object[name] = least(inner);
            }
            put(&mut object[name], inner, rest, value);
        }
        Step::Item => {
            let inner = &schema["items"];
            if object.as_array().is_none_or(Vec::is_empty) {
                *object = json!([least(inner)]);
            }
            put(&mut object[0], inner, rest, value);
        }
        Step::Key => {
            let inner = &schema["additionalProperties"];
            if !object.is_object() {
                *object = json!({});
            }
            let mut there = least(inner);
            put(&mut there, inner, rest, value);
            object["key"] = there;
        }
    }
}

/// The schema of a definition's one version: what it says of `spec` and `status`.
pub(super) fn schema(
    crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
) -> Value {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    serde_json::to_value(schema).unwrap()
}

/// Good objects of a kind, from which single fields are changed.
pub(super) fn good(kind: &str) -> Vec<Value> {
    let head = |spec: Value, status: Value| {
        json!({"apiVersion": "indexbuild.dev/v1alpha1", "kind": kind, "metadata": {"name": "edges", "namespace": "default"},
            "spec": spec, "status": status})
    };
    let status = json!({"observedGeneration": 1});
    match kind {
        "IndexBuild" => {
            let build = |source: Value| {
                json!({"source": source, "indexes": [{"name": "a", "columns": [{"name": "b"}]}],
                    "output": {"url": "s3://indexes/s"},
                    "disruption": {"replaceAfter": "10m", "orphanAfter": "99999h"}})
            };
            let parquet = build(json!({"parquet": {"urls": ["s3://lake/a"]}}));
            let csv = build(json!({"csv": {"urls": ["s3://lake/a"], "columns": [{"name": "a", "type": "int64"}]}}));
            // Limits that are high leave requests free.
            let mut large = parquet.clone();
            large["executor"] = json!({"resources": {"limits": {"cpu": "1Ei", "memory": "1Ei"}}});
            // A variable comes from a value or from a secret.
            let mut secret = parquet.clone();
            secret["executor"] = json!({"env": [{"name": "A", "secret": {"name": "a", "key": "b"}}]});
            let mut value = parquet.clone();
            value["executor"] = json!({"env": [{"name": "A", "value": "b"}]});
            [parquet, csv, large, secret, value].map(|spec| head(spec, status.clone())).into()
        }
        "EngineDirectory" => {
            let spec = json!({"buildName": "orders", "buildUID": "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e", "slot": 0,
                "grant": {"epoch": 1, "podName": "p", "podUID": "", "bootNonce": ""}});
            vec![head(spec, json!({"state": "Idle"}))]
        }
        other => panic!("{other} is not a kind of ours"),
    }
}

/// A good object with one value at the edge of what its place takes.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Which place.
    pub place: String,
    /// Which value.
    pub value: Value,
    /// The object.
    pub object: Value,
}

/// All places of a schema but those where something was taken already, each with each of its edges, in one good object.
pub(super) fn cases(good: &Value, schema: &Value, taken: &BTreeSet<String>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, inner) in all_places(schema) {
        let place = shown(&path);
        if taken.contains(&place) {
            continue;
        }
        for value in edges(&inner) {
            let mut object = good.clone();
            put(&mut object, schema, &path, value.clone());
            cases.push(Case { place: place.clone(), value, object });
        }
    }
    cases
}

/// The places of a schema that hold a value, and not fields of their own: something must be taken at each, else nothing
/// was tried there.
pub(super) fn leaves(schema: &Value) -> BTreeSet<String> {
    let leaves = all_places(schema).into_iter().filter(|(_, inner)| inner.get("properties").is_none());
    leaves.map(|(path, _)| shown(&path)).collect()
}

/// All places of a schema.
pub(super) fn all_places(schema: &Value) -> Vec<(Path, Value)> {
    let mut all = Vec::new();
    places(&Path::new(), schema, &mut all);
    all
}
