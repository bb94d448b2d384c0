//! Stages of which somebody else makes, changes or removes the objects, where no admission policy stops him: nothing of his is
//! ever believed, the build says which object it is, and its deletion is not hindered. And the finalizer, which goes only
//! when the tombstone was read.

use std::time::{Duration, Instant};

use indexbuild_api::{
    Chosen, ConditionStatus, ConditionType, DirectoryState, EngineDirectory, Epoch, FrozenStage, IndexBuild, Reason,
    WorkKind, labels, names,
};
use indexbuild_faultproxy::{KubeProxy, RequestMatch, Rule, Times, Verb};
use indexbuild_lifecycle::frozen::digest;
use indexbuild_lifecycle::world::Stage;
use indexbuild_operator::TestSwitches;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scripted::bench::BUILD;
use crate::scripted::deputy::{Deputy, Order};
use crate::scripted::{Bench, Script};

const WITHIN: Duration = Duration::from_secs(60);
const FORGED: &str = "forged";

async fn until<F: Future<Output = Result<(), String>>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while let Err(still) = holds().await {
        assert!(start.elapsed() < WITHIN, "not within {WITHIN:?}: {what}: {still}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn maps(bench: &Bench, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(bench.admin.clone(), namespace)
}

async fn build(bench: &Bench, namespace: &str) -> IndexBuild {
    bench.builds(namespace).get(BUILD).await.unwrap()
}

fn said(build: &IndexBuild) -> Vec<FrozenStage> {
    build.status.clone().and_then(|status| status.frozen_stages).unwrap_or_default()
}

/// How somebody else would freeze a stage: just as the operator does, or as a plain object of that name.
fn forgery(build: &IndexBuild, stage: &str, work: &str, plain: bool) -> ConfigMap {
    let (name, uid) = (build.name_any(), build.uid().unwrap());
    let chosen = Chosen {
        work_id: work.to_owned(),
        epoch: Epoch::new(1),
        boot_nonce: FORGED.to_owned(),
        digest: FORGED.to_owned(),
        encode_works: Some(1),
        sort_works: Some(1),
        ..Chosen::default()
    };
    let text = Stage { name: stage.to_owned(), chosen: vec![chosen] }.text().unwrap();
    let mut labels = labels::of_build(&name, &uid);
    labels.insert(labels::STAGE.to_owned(), stage.to_owned());
    let owner = json!([{"apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild", "name": name, "uid": uid, "controller": true}]);
    let mut metadata = json!({"name": names::config_map(&name, &uid, stage)});
    if !plain {
        metadata["labels"] = json!(labels);
        metadata["ownerReferences"] = owner;
    }
    serde_json::from_value(json!({"metadata": metadata, "immutable": !plain, "data": {names::STAGE_KEY: text}}))
        .unwrap()
}

fn is_stalled(build: &IndexBuild, reason: Reason, name: &str) -> Result<(), String> {
    let stalled = build.status.as_ref().and_then(|status| status.condition(ConditionType::Stalled)).cloned();
    match stalled {
        Some(stalled)
            if stalled.status == ConditionStatus::True
                && stalled.reason == reason
                && stalled.message.contains(name) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    }
}

/// A build whose owners will be held at their first Encode.
async fn at_work(bench: &Bench, namespace: &str) {
    bench.namespace(namespace).await;
    bench.machine.script.hold(namespace, WorkKind::Encode);
    bench.build(namespace, BUILD, 2, |build| build["spec"]["disruption"]["replaceAfter"] = json!("9m")).await;
}

/// Waits until its owners are: its plan is frozen.
async fn held(bench: &Bench, namespace: &str) {
    let script = &bench.machine.script;
    let slots = usize::try_from(build(bench, namespace).await.spec.parallelism).unwrap();
    let held = bench.until(WITHIN, |_| script.in_hand(namespace, WorkKind::Encode) == slots).await;
    assert!(held.is_ok(), "{slots} owners are not at work in {namespace}");
}

async fn completes(bench: &Bench, namespace: &str) {
    let settled = bench.until(WITHIN, |bench| bench.is_settled(namespace)).await;
    let left = build(bench, namespace).await.status;
    assert!(settled.is_ok(), "{namespace} does not end: {left:?}\n{:?}", bench.objects(namespace).await);
    let state = bench.end_state(namespace).await;
    assert!(state.unreported.is_empty(), "somebody else's results count: {:?}", state.unreported);
    // Each stage holds what the status says, and that was said once.
    for FrozenStage { name, digest: said } in said(&build(bench, namespace).await) {
        let uid = build(bench, namespace).await.uid().unwrap();
        let map = maps(bench, namespace).get_opt(&names::config_map(BUILD, &uid, &name)).await.unwrap();
        let text = map.and_then(|map| map.data).map(|data| data[names::STAGE_KEY].clone());
        assert!(text.is_none_or(|text| digest(&text) == said), "{namespace}: {name} is not what was said");
    }
}

async fn operator(bench: &Bench, proxy: &KubeProxy, namespace: &str, switches: TestSwitches) -> Deputy {
    Deputy::start(Order {
        config: bench.through(proxy).await,
        namespaces: vec![namespace.to_owned()],
        lease_namespace: namespace.to_owned(),
        lease: "lease".to_owned(),
        tamper: None,
        switches,
    })
}

async fn end(operator: Deputy) {
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
}

/// From before the operator saw the build, and before the build reaches the stage: with labels and owner, and without.
async fn made_before(bench: &Bench, plain: bool) {
    let namespace = if plain { "plain" } else { "alike" };
    bench.namespace(namespace).await;
    bench.build(namespace, BUILD, 2, |_| {}).await;
    let there = build(bench, namespace).await;
    for (stage, work) in [("plan", "plan"), ("publish", "publish")] {
        maps(bench, namespace).create(&PostParams::default(), &forgery(&there, stage, work, plain)).await.unwrap();
    }
    let proxy = bench.proxy().await;
    let operator = operator(bench, &proxy, namespace, TestSwitches::default()).await;
    let uid = there.uid().unwrap();
    let plan = names::config_map(BUILD, &uid, "plan");
    until("it stalls by the stranger's, and the plan that was chosen is said", || async {
        let build = build(bench, namespace).await;
        is_stalled(&build, Reason::ForeignObject, if plain { &plan } else { "ConfigMap orders-" })?;
        let said = said(&build);
        if said.iter().any(|said| said.name == "plan") { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let script = &bench.machine.script;
    assert_eq!(script.in_hand(namespace, WorkKind::Encode), 0, "nothing is granted on a stranger's plan");
    assert_eq!(
        build(bench, namespace).await.status.unwrap().manifest,
        None,
        "nothing is published by a stranger's word"
    );
    for stage in ["plan", "publish"] {
        let name = names::config_map(BUILD, &uid, stage);
        maps(bench, namespace).delete(&name, &DeleteParams::default()).await.unwrap();
    }
    completes(bench, namespace).await;
    proxy.assert_no_forbidden();
    end(operator).await;
}

/// Removed; another one in its place; and what was there put back.
async fn removed_and_changed(bench: &Bench) {
    let namespace = "changed";
    let proxy = bench.proxy().await;
    at_work(bench, namespace).await;
    let operator = operator(bench, &proxy, namespace, TestSwitches::default()).await;
    held(bench, namespace).await;
    let there = build(bench, namespace).await;
    let (maps, name) = (maps(bench, namespace), names::config_map(BUILD, &there.uid().unwrap(), "plan"));
    let mut plan = maps.get(&name).await.unwrap();
    (plan.metadata.uid, plan.metadata.resource_version) = (None, None);
    maps.delete(&name, &DeleteParams::default()).await.unwrap();
    bench.machine.script.release(namespace, WorkKind::Encode);
    until("it stalls as its plan is gone", || async {
        is_stalled(&build(bench, namespace).await, Reason::StageLost, &name)
    })
    .await;
    maps.create(&PostParams::default(), &forgery(&there, "plan", "plan", false)).await.unwrap();
    until("it stalls by the stranger's", || async {
        is_stalled(&build(bench, namespace).await, Reason::ForeignObject, &name)
    })
    .await;
    let said: Vec<_> = said(&build(bench, namespace).await).into_iter().map(|said| said.name).collect();
    assert_eq!(said, ["plan"], "nothing is decided on a stranger's plan");
    maps.delete(&name, &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &plan).await.unwrap();
    completes(bench, namespace).await;
    proxy.assert_no_forbidden();
    end(operator).await;
}

/// The name by which a deletion knows that its Clean is over, and all others, are a stranger's.
async fn deleted_among_strangers(bench: &Bench, plain: bool) {
    let namespace = if plain { "deleted-plain" } else { "deleted-alike" };
    let proxy = bench.proxy().await;
    at_work(bench, namespace).await;
    let operator = operator(bench, &proxy, namespace, TestSwitches::default()).await;
    held(bench, namespace).await;
    let there = build(bench, namespace).await;
    for (stage, work) in [("encode", "encode-0"), ("publish", "publish"), ("clean", "clean"), ("clean-index", "clean")]
    {
        maps(bench, namespace).create(&PostParams::default(), &forgery(&there, stage, work, plain)).await.unwrap();
    }
    let begun = Instant::now();
    bench.delete(namespace, BUILD).await;
    until("the build is gone", || async {
        let left = bench.builds(namespace).get_opt(BUILD).await.unwrap();
        left.map_or(Ok(()), |left| Err(format!("{:?} {:#?}", left.finalizers(), left.status)))
    })
    .await;
    // Its Clean was done, and not given up when its time was over.
    let uid = there.uid().unwrap();
    assert!(bench.machine.script.store.commit(&uid).is_some(), "nothing was cleaned in {:?}", begun.elapsed());
    proxy.assert_no_forbidden();
    end(operator).await;
}

/// The control: an operator that believes a stage by its name is led by a stranger's.
async fn control(bench: &Bench) {
    let namespace = "credulous";
    bench.namespace(namespace).await;
    bench.machine.script.hold(namespace, WorkKind::Encode);
    bench.build(namespace, BUILD, 2, |_| {}).await;
    let there = build(bench, namespace).await;
    let forged = forgery(&there, "plan", "plan", false);
    maps(bench, namespace).create(&PostParams::default(), &forged).await.unwrap();
    let proxy = bench.proxy().await;
    let switches = serde_json::from_value(json!({"believeAnyStage": true})).unwrap();
    let operator = operator(bench, &proxy, namespace, switches).await;
    let led = bench.until(WITHIN, |bench| bench.machine.script.in_hand(namespace, WorkKind::Encode) > 0).await;
    assert!(led.is_ok(), "nothing is granted: {:?}", build(bench, namespace).await.status);
    assert_eq!(said(&build(bench, namespace).await), [], "and yet no plan was chosen");
    end(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_stage_is_never_believed_is_told_by_name_and_hinders_no_deletion() {
    let script = Script::new(2, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("stages of somebody else", script).await else { return };
    bench.unguard_stages().await;
    for plain in [true, false] {
        made_before(&bench, plain).await;
        deleted_among_strangers(&bench, plain).await;
    }
    removed_and_changed(&bench).await;
    control(&bench).await;
    bench.end().await;
}

/// I9: that a record outlives its build is read in the record itself, from the API server. Here such a read takes long: a
/// finalizer that goes by the decision that writes the tombstone does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_goes_by_a_pass_that_has_read_the_tombstone_and_not_by_the_one_that_writes_it() {
    const READ: Duration = Duration::from_secs(6);
    const NO_READ: Duration = Duration::from_secs(2);
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("the finalizer after the tombstone", script).await else { return };
    let namespace = "kept";
    bench.namespace(namespace).await;
    bench.machine.script.hold(namespace, WorkKind::Encode);
    let retain = json!({"whenPublished": "Delete", "whenFailed": "Delete", "whenDeleted": "Retain"});
    bench.build(namespace, BUILD, 1, |build| build["spec"]["volume"]["retention"] = retain).await;
    let proxy = bench.proxy().await;
    let operator = operator(&bench, &proxy, namespace, TestSwitches::default()).await;
    held(&bench, namespace).await;
    let records: Api<EngineDirectory> = Api::namespaced(bench.admin.clone(), namespace);
    let which = RequestMatch::verb(Verb::List).resource("indexbuild.dev", "enginedirectories").namespace(namespace);
    let _slow = proxy.add_rule(Rule::Delay { which, by: READ, times: Times::UntilLifted });
    let begun = Instant::now();
    bench.delete(namespace, BUILD).await;
    let mut written = None;
    loop {
        let left = bench.builds(namespace).get_opt(BUILD).await.unwrap();
        if left.as_ref().is_none_or(|build| build.finalizers().is_empty()) {
            break;
        }
        let all = records.list(&ListParams::default()).await.unwrap();
        let tombstone = |record: &EngineDirectory| {
            record.status.as_ref().is_some_and(|status| status.state == DirectoryState::Tombstone)
        };
        if written.is_none() && all.iter().all(tombstone) {
            assert!(all.iter().all(|record| record.owner_references().is_empty()), "it goes with its build: {all:?}");
            written = Some(Instant::now());
        }
        assert!(begun.elapsed() < 3 * WITHIN, "it is not let go: {left:?} {all:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = written.map(|written| written.elapsed());
    assert!(after.is_some_and(|after| after > NO_READ), "let go {after:?} after its record was made a tombstone");
    proxy.assert_no_forbidden();
    end(operator).await;
    bench.end().await;
}
