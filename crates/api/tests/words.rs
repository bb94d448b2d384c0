//! Words of closed sets that a later version has: whoever does not know one reads the object all the same, and writes back what
//! it read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // the other test asks for more of it
mod edges;

use edges::{Step, all_places, good, put, schema, shown};
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, LONGEST_WORD, crds};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The places of a kind where a word of a closed set stands, with the kind's schema.
fn words_of(kind: &str) -> (Value, Vec<(Vec<Step>, Value)>) {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = schema(&crd);
    let places = all_places(&schema).into_iter().filter(|(_, inner)| inner.get("enum").is_some()).collect();
    (schema, places)
}

/// What stands at a place.
fn at<'v>(object: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item => value.get(0),
        Step::Key => value.get("key"),
    })
}

/// The object as it is written by whoever has read it.
fn rewritten(kind: &str, object: &Value) -> Result<Value, String> {
    let said = |error: serde_json::Error| error.to_string();
    match kind {
        "IndexBuild" => serde_json::from_value::<IndexBuild>(object.clone()).map_err(said).map(|read| json!(read)),
        _ => serde_json::from_value::<EngineDirectory>(object.clone()).map_err(said).map(|read| json!(read)),
    }
}

/// Of a build, what stands in its spec is another matter: it is told, and not carried out.
fn is_of_a_spec(kind: &str, path: &[Step]) -> bool {
    kind == "IndexBuild" && path.first() == Some(&Step::Field("spec".to_owned()))
}

fn carried(kind: &str, word: &str) {
    let (schema, places) = words_of(kind);
    let mut tried = 0;
    for (path, inner) in places.iter().filter(|(path, _)| !is_of_a_spec(kind, path)) {
        let mut object = good(kind).remove(0);
        put(&mut object, &schema, path, json!(word));
        let written = rewritten(kind, &object).unwrap_or_else(|error| panic!("{kind}{}: {error}", shown(path)));
        assert_eq!(at(&written, path), Some(&json!(word)), "{kind}{}", shown(path));
        for known in inner["enum"].as_array().unwrap() {
            put(&mut object, &schema, path, known.clone());
            let written = rewritten(kind, &object).unwrap();
            // What stands for an absence need not be written.
            assert!(at(&written, path).is_none_or(|word| word == known), "{kind}{}: {known}", shown(path));
        }
        tried += 1;
    }
    assert!(tried >= 5, "{kind} has {tried} words outside its spec");
}

#[test]
fn no_word_is_longer_than_one_that_an_older_version_can_carry() {
    for kind in ["IndexBuild", "EngineDirectory"] {
        for (path, inner) in words_of(kind).1 {
            for word in inner["enum"].as_array().unwrap() {
                let length = word.as_str().unwrap().len();
                assert!(length <= LONGEST_WORD, "{kind}{}: {word} has {length} bytes", shown(&path));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_word_that_is_not_known_is_carried_wherever_somebody_else_may_have_written_it(
        word in "[A-Z][A-Za-z0-9é]{0,15}"
    ) {
        carried("IndexBuild", &word);
        carried("EngineDirectory", &word);
    }
}

#[test]
fn a_word_that_is_not_known_in_what_a_build_asks_for_is_named_by_its_place() {
    let (schema, places) = words_of("IndexBuild");
    let of_spec: Vec<_> = places.iter().filter(|(path, _)| is_of_a_spec("IndexBuild", path)).collect();
    assert!(of_spec.len() >= 6, "{}", of_spec.len());
    for (path, _) in of_spec {
        let mut object = good("IndexBuild").remove(0);
        put(&mut object, &schema, path, json!("LaterVersion"));
        let read: Guarded<IndexBuild> = serde_json::from_value(object).unwrap();
        let said = read.read().expect_err(&shown(path)).to_string();
        let place = shown(path);
        let place = place.trim_start_matches('.');
        assert!(said.contains(place) && said.contains("LaterVersion"), "{place}: {said}");
    }
}
