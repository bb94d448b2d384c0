//! What the definitions take can be read: an object that the API server has stored and that no reader can read stands in
//! the way of all that are listed with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod edges;

use std::collections::BTreeSet;

use edges::{Case, all_places, cases, edges, good, leaves, put, schema};
use indexbuild_api::{EngineDirectory, IndexBuild, crds};
use indexbuild_check::{check_build, check_object};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

/// What a reader says to an object; `Ok` where it can be read.
fn read(kind: &str, object: Value) -> Result<(), String> {
    let read = match kind {
        "IndexBuild" => serde_json::from_value::<IndexBuild>(object).map(drop),
        "EngineDirectory" => serde_json::from_value::<EngineDirectory>(object).map(drop),
        other => panic!("{other} is not a kind of ours"),
    };
    read.map_err(|error| error.to_string())
}

/// The kinds, with their schemas.
fn kinds() -> Vec<(String, Value)> {
    crds().iter().map(|crd| (crd.spec.names.kind.clone(), schema(crd))).collect()
}

#[test]
fn each_field_at_each_of_its_edges_is_refused_by_the_definition_or_read() {
    for (kind, schema) in kinds() {
        let places = leaves(&schema);
        assert!(places.len() > 60, "{kind} has {} places", places.len());
        let (mut poison, mut taken) = (Vec::new(), BTreeSet::new());
        for good in good(&kind) {
            for Case { place, value, object } in cases(&good, &schema, &taken.clone()) {
                let Ok(stored) = check_object(&kind, &object) else { continue };
                if let Err(error) = read(&kind, stored) {
                    poison.push(format!("{kind}{place}: {value}: {error}"));
                }
                if !value.is_null() {
                    taken.insert(place);
                }
            }
        }
        assert!(poison.is_empty(), "{} values are taken and cannot be read:\n{}", poison.len(), poison.join("\n"));
        let never_taken: Vec<_> = places.difference(&taken).collect();
        assert!(never_taken.is_empty(), "{kind}: {never_taken:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    /// Several fields at once: a rule may only be asked where others hold.
    #[test]
    fn what_the_definition_takes_is_read(
        (kind, object) in select(kinds()).prop_flat_map(|(kind, schema)| {
            let change = select(all_places(&schema)).prop_flat_map(|(path, inner)| (Just(path), select(edges(&inner))));
            let (name, start) = (kind.clone(), select(good(&kind)));
            (start, prop::collection::vec(change, 1..4)).prop_map(move |(mut object, changes)| {
                for (path, value) in changes {
                    put(&mut object, &schema, &path, value);
                }
                (name.clone(), object)
            })
        })
    ) {
        if let Ok(stored) = check_object(&kind, &object) {
            prop_assert_eq!(read(&kind, stored), Ok(()), "{}", object);
        }
    }
}

/// By the way of a file, as a local run reads it.
#[test]
fn amounts_and_times_beyond_what_is_read_are_refused_by_the_definition() {
    let base = |more: &str| {
        format!(
            "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: orders}}\nspec:\n  source:\n    parquet: {{urls: ['s3://l/o.parquet']}}\n  indexes: [{{name: a, columns: [{{name: b}}]}}]\n  output: {{url: 's3://i/s'}}\n  {more}\n"
        )
    };
    let taken = [
        "volume: {size: 10Gi}",
        "volume: {size: 1Ei}",
        "volume: {size: 1152921504606846976}",
        "executor: {resources: {limits: {memory: 1Ei}}}",
        "executor: {resources: {requests: {cpu: '0.1'}}}",
        "executor: {tolerations: [{tolerationSeconds: 1000000000}]}",
        "disruption: {replaceAfter: 99999h, orphanAfter: 99999h999999m9999999s}",
        "disruption: {replaceAfter: 15s, orphanAfter: 99999h}",
    ];
    let refused = [
        "volume: {size: 100Ei}",
        "volume: {size: 16Ei}",
        "volume: {size: 15Ei}",
        "volume: {size: 99999999999999999Gi}",
        "volume: {size: 18446744073709551615}",
        "volume: {size: 9223372036854775807}",
        "volume: {size: 1152921504606846977Ki}",
        "volume: {size: '1152921504606846977'}",
        "executor: {resources: {limits: {memory: 100Ei}}}",
        "executor: {resources: {requests: {cpu: -1}}}",
        "executor: {resources: {limits: {cpu: -1}}}",
        "executor: {resources: {requests: {memory: -1}}}",
        "executor: {resources: {requests: {cpu: 100E}}}",
        "executor: {resources: {limits: {cpu: 9999999E}}}",
        "executor: {tolerations: [{tolerationSeconds: 9223372036854775807}]}",
        "executor: {tolerations: [{tolerationSeconds: -5}]}",
    ];
    for more in taken {
        check_build("f.yaml", &base(more)).unwrap_or_else(|error| panic!("{more}: {error}"));
    }
    let mut said = BTreeSet::new();
    for more in refused {
        let error = check_build("f.yaml", &base(more)).expect_err(more);
        assert!(error.problems.iter().all(|problem| !problem.path.is_empty()), "{more}: {error}");
        said.extend(error.problems.into_iter().map(|problem| problem.message));
    }
    assert!(said.iter().any(|message| message.contains("must not be more than 1Ei")), "{said:#?}");
}
