//! Versions that meet on one build: an operator that writes a field and a word more than others know, then one that does not
//! know them, then the first again. Nothing becomes unreadable by it, nothing is lost by it, and what speaks of one owner does not
//! pass to the next. What a build asks for and nobody knows is told, and not built.

use std::time::{Duration, Instant};

use indexbuild_api::{
    ConditionStatus, ConditionType, EngineDirectory, IndexBuild, OwnerChangeReason, Reason, WorkKind, crds,
};
use indexbuild_faultproxy::KubeProxy;
use indexbuild_operator::TestSwitches;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::scripted::bench::BUILD;
use crate::scripted::deputy::{Deputy, Order};
use crate::scripted::later_version::{FIELD, WORD, later};
use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "skew";
const ASKING: &str = "asking";
const WITHIN: Duration = Duration::from_secs(60);

async fn define_later(bench: &Bench) {
    let api: Api<CustomResourceDefinition> = Api::all(bench.admin.clone());
    for crd in crds() {
        let mut crd = serde_json::to_value(&crd).unwrap();
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            later(&mut schema["properties"][part]);
        }
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("kubectl").force(), &Patch::Apply(crd)).await.unwrap();
    }
}

async fn operator(bench: &Bench, proxy: &KubeProxy, switches: Value) -> Deputy {
    Deputy::start(Order {
        config: bench.through(proxy).await,
        namespaces: vec![NAMESPACE.to_owned()],
        lease_namespace: NAMESPACE.to_owned(),
        lease: "lease".to_owned(),
        tamper: None,
        switches: serde_json::from_value::<TestSwitches>(switches).unwrap(),
    })
}

async fn end(operator: Deputy) {
    assert_eq!(tokio::task::spawn_blocking(move || operator.kill()).await.unwrap(), None, "it had ended by itself");
}

/// The records of a build as they stand, whatever a type of ours would read of them.
async fn records(bench: &Bench, build: &str) -> Vec<Value> {
    let resource = kube::core::ApiResource::erase::<EngineDirectory>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(bench.admin.clone(), NAMESPACE, &resource);
    let all = api.list(&ListParams::default()).await.unwrap();
    let ours = all.items.into_iter().map(|record| serde_json::to_value(record).unwrap());
    ours.filter(|record| record["spec"]["buildName"] == build).collect()
}

async fn becomes(bench: &Bench, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let now = records(bench, BUILD).await;
        if holds(&now) {
            return now;
        }
        assert!(start.elapsed() < WITHIN, "{what} within {WITHIN:?}: {}", json!(now));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn epoch(record: &Value) -> u64 {
    record["spec"]["grant"]["epoch"].as_u64().unwrap_or_default()
}

fn is_later(record: &Value) -> bool {
    let history = record["status"]["history"].as_array().cloned().unwrap_or_default();
    record["spec"][FIELD].is_string()
        && record["spec"]["grant"][FIELD].is_string()
        && record["status"][FIELD].is_string()
        && !history.is_empty()
        && history.iter().all(|change| change["reason"] == WORD)
}

fn stalled(build: &IndexBuild) -> Option<(ConditionStatus, Reason, String)> {
    let condition = build.status.as_ref()?.condition(ConditionType::Stalled)?;
    Some((condition.status, condition.reason, condition.message.clone()))
}

async fn until_stalled(bench: &Bench, holds: impl Fn(&(ConditionStatus, Reason, String)) -> bool) {
    let start = Instant::now();
    loop {
        let build = bench.builds(NAMESPACE).get(ASKING).await.unwrap();
        if stalled(&build).as_ref().is_some_and(&holds) {
            return;
        }
        assert!(start.elapsed() < WITHIN, "{:?}", build.status);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A build that asks for what only a later version knows: told by field, not begun, not failed; and begun without it.
async fn asks_for_what_nobody_knows(bench: &Bench) {
    let resource = kube::core::ApiResource::erase::<IndexBuild>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(bench.admin.clone(), NAMESPACE, &resource);
    bench.build(NAMESPACE, ASKING, 1, |build| build["spec"]["suspend"] = json!(true)).await;
    let ask = json!({"spec": {"volume": {FIELD: "fast"}, "suspend": false}});
    api.patch(ASKING, &PatchParams::default(), &Patch::Merge(ask)).await.unwrap();
    until_stalled(bench, |(status, reason, message)| {
        *status == ConditionStatus::True
            && *reason == Reason::Unreadable
            && message.contains(&format!("spec.volume.{FIELD}"))
    })
    .await;
    assert!(records(bench, ASKING).await.is_empty(), "it is begun all the same");
    let build = bench.builds(NAMESPACE).get(ASKING).await.unwrap();
    let failed = build.status.as_ref().and_then(|status| status.condition(ConditionType::Failed));
    assert!(failed.is_none_or(|failed| failed.status != ConditionStatus::True), "{failed:?}");
    let leave = json!({"spec": {"volume": {FIELD: null}}});
    api.patch(ASKING, &PatchParams::default(), &Patch::Merge(leave)).await.unwrap();
    until_stalled(bench, |(status, ..)| *status == ConditionStatus::False).await;
    let start = Instant::now();
    while records(bench, ASKING).await.is_empty() {
        assert!(start.elapsed() < WITHIN, "it is not begun once it can be read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.delete(NAMESPACE, ASKING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_of_two_versions_take_turns_on_a_build_and_neither_stops_or_robs_the_other() {
    let script = Script::new(2, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("operators of two versions", script).await else { return };
    define_later(&bench).await;
    bench.namespace(NAMESPACE).await;
    let proxy = bench.proxy().await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);

    // The later one begins.
    let first = operator(&bench, &proxy, json!({"laterVersion": true})).await;
    bench.build(NAMESPACE, BUILD, 2, |build| build["spec"]["disruption"]["replaceAfter"] = json!("9m")).await;
    bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 2).await.unwrap();
    let before =
        becomes(&bench, "a later version's words stand there", |all| all.len() == 2 && all.iter().any(is_later)).await;
    end(first).await;

    // One that does not know what it wrote: its owners crash, and go on.
    let second = operator(&bench, &proxy, json!({})).await;
    script.containers.crash(NAMESPACE);
    let after = becomes(&bench, "each slot has another owner at work", |all| {
        let risen = |now: &Value| {
            let was = before.iter().find(|was| was["metadata"]["name"] == now["metadata"]["name"]);
            was.is_some_and(|was| epoch(now) > epoch(was)) && now["spec"]["grant"]["bootNonce"] != ""
        };
        all.len() == 2 && all.iter().all(risen)
    })
    .await;
    for record in &after {
        let of_the_owner = ["grant", "work", "volume"].map(|part| record["spec"][part].get(FIELD).cloned());
        assert_eq!(of_the_owner, [None, None, None], "what spoke of the former owner speaks of the next: {record}");
    }
    let was = before.iter().find(|record| is_later(record)).unwrap();
    let now = after.iter().find(|now| now["metadata"]["name"] == was["metadata"]["name"]).unwrap();
    assert_eq!(now["spec"][FIELD], was["spec"][FIELD], "what it does not know stays");
    assert_eq!(now["status"][FIELD], was["status"][FIELD]);
    let typed: EngineDirectory = serde_json::from_value(now.clone()).unwrap();
    let told: Vec<_> = typed.status.unwrap().history.iter().map(|change| change.reason.to_string()).collect();
    assert!(told.iter().any(|reason| reason == WORD), "its words are gone: {told:?}");
    assert!(told.contains(&OwnerChangeReason::AttemptFailed.to_string()), "and none of its own are told: {told:?}");
    asks_for_what_nobody_knows(&bench).await;
    end(second).await;

    // And the later one again, to the end.
    let third = operator(&bench, &proxy, json!({"laterVersion": true})).await;
    script.release(NAMESPACE, WorkKind::Encode);
    let start = Instant::now();
    let ended = loop {
        let build = bench.builds(NAMESPACE).get(BUILD).await.unwrap();
        let complete = build.status.as_ref().and_then(|status| status.condition(ConditionType::Complete));
        if complete.is_some_and(|complete| complete.status == ConditionStatus::True) && build.finalizers().is_empty() {
            break build;
        }
        assert!(start.elapsed() < WITHIN, "{:?}\n{:?}", build.status, bench.objects(NAMESPACE).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let reason = |condition: &indexbuild_api::Condition| condition.reason.to_string() == WORD;
    assert!(ended.status.unwrap().conditions.iter().any(reason), "the control: it was the later one");
    let state = bench.end_state(NAMESPACE).await;
    assert!(state.duplicates.is_empty() && state.unreported.is_empty(), "{state:#?}");
    proxy.assert_no_forbidden();
    end(third).await;
    bench.end().await;
}
