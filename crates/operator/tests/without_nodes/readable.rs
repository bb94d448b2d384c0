//! What a real API server takes can be read: its schema's edges, each tried by a dry run, as the local check tries them.

#[path = "../../../api/tests/edges/mod.rs"]
mod edges;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use edges::{Case, cases, good, leaves, schema};
use futures::StreamExt as _;
use indexbuild_api::{EngineDirectory, Guarded, IndexBuild, Unreadable, crds};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};

use crate::scripted::{Bench, Script};

const ABREAST: usize = 16;
const NAME: &str = "edges";

fn dry() -> PostParams {
    PostParams { dry_run: true, field_manager: None }
}

fn requests(kind: &str) -> Request {
    let namespace = Some("default");
    Request::new(match kind {
        "IndexBuild" => <IndexBuild as kube::Resource>::url_path(&(), namespace),
        "EngineDirectory" => <EngineDirectory as kube::Resource>::url_path(&(), namespace),
        other => panic!("{other} is not a kind of ours"),
    })
}

/// What would be stored; `None`: it is refused.
async fn taken(client: &Client, kind: &str, version: &str, case: &Case) -> Option<String> {
    let mut object = case.object.clone();
    let request = if case.place.starts_with(".status") {
        object["metadata"]["resourceVersion"] = json!(version);
        requests(kind).replace_subresource("status", NAME, &dry(), object.to_string().into_bytes())
    } else {
        object["metadata"]["name"] = json!("tried");
        requests(kind).create(&dry(), object.to_string().into_bytes())
    };
    match client.request_text(request.unwrap()).await {
        Ok(text) => Some(text),
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => None,
        Err(error) => panic!("{}: {}: {error}", case.place, case.value),
    }
}

fn read(kind: &str, text: &str) -> Result<(), Unreadable> {
    match kind {
        "IndexBuild" => serde_json::from_str::<Guarded<IndexBuild>>(text).unwrap().read().map(drop),
        "EngineDirectory" => serde_json::from_str::<Guarded<EngineDirectory>>(text).unwrap().read().map(drop),
        other => panic!("{other} is not a kind of ours"),
    }
}

/// Makes one that is there, so that its status can be tried; once no policy refuses that any more. Gives its version.
async fn exists(client: &Client, kind: &str, object: &Value) -> String {
    let start = Instant::now();
    loop {
        let request = requests(kind).create(&PostParams::default(), object.to_string().into_bytes()).unwrap();
        match client.request_text(request).await {
            Ok(made) => {
                let made: Value = serde_json::from_str(&made).unwrap();
                return made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            }
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{kind}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_at_each_of_its_edges_is_refused_by_the_api_server_or_read() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("what an API server takes is read", script).await else { return };
    // They say who may write a record, and nothing of what it may hold.
    let cluster = bench.cluster().clone();
    let policies = ["delete", "validatingadmissionpolicybindings", "--all"];
    tokio::task::spawn_blocking(move || cluster.kubectl(&policies).unwrap()).await.unwrap();
    for crd in crds() {
        let (kind, schema) = (crd.spec.names.kind.as_str(), schema(&crd));
        let places = leaves(&schema);
        let version = exists(&bench.admin, kind, &good(kind)[0]).await;
        let (mut poison, mut tried, mut found) = (Vec::new(), 0, BTreeSet::new());
        for good in good(kind) {
            let cases = cases(&good, &schema, &found);
            tried += cases.len();
            let (client, version) = (&bench.admin, version.as_str());
            let answers = futures::stream::iter(cases).map(|case| async move {
                let text = taken(client, kind, version, &case).await;
                (case, text)
            });
            let answers: Vec<_> = answers.buffer_unordered(ABREAST).collect().await;
            for (Case { place, value, object: _ }, text) in answers {
                let Some(text) = text else { continue };
                if let Err(error) = read(kind, &text) {
                    poison.push(format!("{kind}{place}: {value}: {error}"));
                }
                if value.is_f64() {
                    println!("{kind}{place} takes {value}");
                }
                if !value.is_null() {
                    found.insert(place);
                }
            }
        }
        poison.sort();
        assert!(poison.is_empty(), "{} values are taken and cannot be read:\n{}", poison.len(), poison.join("\n"));
        let never_taken: Vec<_> = places.difference(&found).collect();
        assert!(never_taken.is_empty(), "{kind}: {never_taken:?}");
        println!("{kind}: {tried} values at {} places", places.len());
    }
    bench.end().await;
}
