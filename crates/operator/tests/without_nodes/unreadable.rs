//! An object that cannot be read: it is there, so nothing is made, replaced or removed in its place; it is told by name;
//! it hinders no other build; and it goes on, or goes, once it is corrected or deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indexbuild_api::{
    ConditionStatus, ConditionType, EngineDirectory, Guarded, IndexBuild, Reason, WorkKind, crds, labels,
};
use indexbuild_faultproxy::{KubeProxy, Verb};
use indexbuild_operator::TestSwitches;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::scripted::bench::BUILD;
use crate::scripted::deputy::{Deputy, Order};
use crate::scripted::ledger::Kind;
use crate::scripted::{Bench, Script};

const WITHIN: Duration = Duration::from_secs(60);
/// A tenant's namespace, and that of everybody else.
const STORED: &str = "stored";
const WELL: &str = "well";
/// A time that Kubernetes holds, and this process does not.
const BEYOND: &str = "9999-12-31T23:59:59Z";

async fn until<F: Future<Output = Result<(), String>>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while let Err(still) = holds().await {
        assert!(start.elapsed() < WITHIN, "not within {WITHIN:?}: {what}: {still}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn ok(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The definitions as they were before there were bounds.
fn without_bounds(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
                fields.remove("maximum");
                fields.remove("minimum");
                if let Some(rules) = fields.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
                    rules.retain(|rule| !rule["message"].as_str().unwrap().starts_with("a quantity must not be more"));
                }
                if fields.get("x-kubernetes-validations") == Some(&json!([])) {
                    fields.remove("x-kubernetes-validations");
                }
            }
            if fields.get("maximum").and_then(Value::as_f64) == Some(f64::from(u32::MAX)) {
                fields.remove("maximum");
            }
            fields.values_mut().for_each(without_bounds);
        }
        Value::Array(items) => items.iter_mut().for_each(without_bounds),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn define(bench: &Bench, bounds: bool) {
    let api: Api<CustomResourceDefinition> = Api::all(bench.admin.clone());
    for crd in crds() {
        let mut crd = serde_json::to_value(&crd).unwrap();
        if !bounds {
            without_bounds(&mut crd);
        }
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("kubectl").force(), &Patch::Apply(crd)).await.unwrap();
    }
    // The API server takes them up a moment later.
    let poison = build("default", "tried", "100Ei");
    let dry = PostParams { dry_run: true, field_manager: None };
    until("the definitions hold", || async {
        let taken = create(&bench.admin, "default", &poison, &dry).await;
        ok(taken.is_ok() != bounds, || format!("{taken:?}"))
    })
    .await;
}

fn build(namespace: &str, name: &str, size: &str) -> Value {
    json!({
        "apiVersion": "indexbuild.dev/v1alpha1", "kind": "IndexBuild", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": {"parquet": {"urls": ["s3://lake/orders/*.parquet"]}},
            "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
            "output": {"url": "s3://indexes/shop"},
            "volume": {"size": size},
        },
    })
}

/// As somebody writes it whose client does not know our types.
async fn create(client: &Client, namespace: &str, object: &Value, parameters: &PostParams) -> kube::Result<String> {
    let requests = kube::core::Request::new(IndexBuild::url_path(&(), Some(namespace)));
    client.request_text(requests.create(parameters, object.to_string().into_bytes()).unwrap()).await
}

fn api<K>(client: &Client, namespace: &str) -> Api<Guarded<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone,
{
    Api::namespaced(client.clone(), namespace)
}

async fn change<K>(api: &Api<Guarded<K>>, name: &str, patch: Value)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

async fn change_status<K>(api: &Api<Guarded<K>>, name: &str, patch: Value)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patched = api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.unwrap_or_else(|error| panic!("{name}: {error}"));
}

async fn resize(bench: &Bench, namespace: &str, size: &str) {
    change(&api::<IndexBuild>(&bench.admin, namespace), BUILD, json!({"spec": {"volume": {"size": size}}})).await;
}

/// Whether the operator's metrics say so.
fn counts(operator: &Deputy, kind: &str, count: usize) -> Result<(), String> {
    let text = operator.metrics.text().unwrap();
    let line = format!("indexbuild_unreadable_objects{{kind=\"{kind}\"}} {count}");
    ok(text.lines().any(|other| other == line), || format!("{line} is not in:\n{text}"))
}

/// Waits until people are told about an object by a warning that names it.
async fn is_told(bench: &Bench, namespace: &str, kind: &str, name: &str) -> String {
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), namespace);
    let ours = ListParams::default().fields("reportingController=indexbuild-operator");
    let start = Instant::now();
    loop {
        let events = events.list(&ours).await.unwrap();
        let about = events.iter().find_map(|event| {
            let regarding = event.regarding.clone()?;
            let is_it = regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name);
            (is_it && event.reason.as_deref() == Some("Unreadable")).then(|| event.note.clone())?
        });
        match about {
            Some(note) if note.contains(name) && note.contains("cannot be read") => return note,
            other => assert!(start.elapsed() < WITHIN, "{kind} {namespace}/{name} is not told: {other:?} {events:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the operator made for a build, and decided: names, UIDs, and the specs of records.
async fn made(bench: &Bench, namespace: &str) -> BTreeMap<String, String> {
    async fn all<K>(client: &Client, namespace: &str) -> Vec<(String, String)>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let ours = ListParams::default().labels(labels::BUILD_UID);
        let found = api::<K>(client, namespace).list(&ours).await.unwrap();
        let named = |object: &Guarded<K>| {
            let meta = object.meta();
            let decided =
                format!("{:?} generation {:?}, deleted {:?}", meta.uid, meta.generation, meta.deletion_timestamp);
            (format!("{} {}", K::kind(&()), object.name_any()), decided)
        };
        found.iter().map(named).collect()
    }
    let client = &bench.admin;
    let mut found: BTreeMap<_, _> = all::<EngineDirectory>(client, namespace).await.into_iter().collect();
    found.extend(all::<Pod>(client, namespace).await);
    found.extend(all::<PersistentVolumeClaim>(client, namespace).await);
    found.extend(all::<ConfigMap>(client, namespace).await);
    found
}

/// Waits until the operator has looked at things live so many times, of what this says.
async fn looks(proxy: &KubeProxy, times: u64) {
    let what = (Verb::Get, "indexbuild.dev/indexbuilds");
    let before = proxy.count(what.0, what.1);
    until("the operator looks", || async {
        let now = proxy.count(what.0, what.1);
        ok(now >= before + times, || format!("{now} of {before} + {times}: {:?}", proxy.counts()))
    })
    .await;
}

/// A build whose two owners are at work, and held there.
async fn at_work(bench: &Bench, namespace: &str) {
    bench.namespace(namespace).await;
    let script = &bench.machine.script;
    script.hold(namespace, WorkKind::Encode);
    bench.build(namespace, BUILD, 2, |build| build["spec"]["disruption"]["replaceAfter"] = json!("9m")).await;
    let held = bench.until(WITHIN, |_| script.in_hand(namespace, WorkKind::Encode) == 2).await;
    assert!(held.is_ok(), "two owners are not at work in {namespace}");
}

/// While something of the build cannot be read its owners report results, one of its pods is deleted, and it is to have
/// fewer slots: there is something to decide, and nothing is.
async fn nothing_is_decided(bench: &Bench, proxy: &KubeProxy, namespace: &str) {
    let before = made(bench, namespace).await;
    assert!(before.len() >= 6, "{before:?}");
    bench.machine.script.release(namespace, WorkKind::Encode);
    looks(proxy, 6).await;
    assert_eq!(made(bench, namespace).await, before, "something was decided in {namespace}");
}

/// It goes on, to its end.
async fn goes_on(bench: &Bench, namespace: &str) {
    let settled = bench.until(WITHIN, |bench| bench.is_settled(namespace)).await;
    let build = bench.builds(namespace).get(BUILD).await.unwrap();
    assert!(settled.is_ok(), "{namespace} does not end: {:?}\n{:?}", build.status, bench.objects(namespace).await);
    let state = bench.end_state(namespace).await;
    assert!(state.duplicates.is_empty() && state.unreported.is_empty(), "{state:#?}");
    assert_eq!(state.tally.made[&Kind::Claim], 2, "no volume was made anew: {state:#?}");
}

fn stalls(build: &IndexBuild, reason: Reason, name: &str) -> Result<(), String> {
    let stalled = build.status.as_ref().and_then(|status| status.condition(ConditionType::Stalled)).cloned();
    let says = |stalled: &indexbuild_api::Condition| {
        (stalled.status, stalled.reason) == (ConditionStatus::True, reason) && stalled.message.contains(name)
    };
    ok(stalled.as_ref().is_some_and(says), || format!("{stalled:?}"))
}

/// A build that becomes unreadable at work, a stage that holds nothing, and a record beyond bounds.
async fn parts(bench: &Bench, proxy: &KubeProxy, operator: &Deputy) {
    // The build itself.
    at_work(bench, "patched").await;
    resize(bench, "patched", "100Ei").await;
    until("both are counted", || async { counts(operator, "IndexBuild", 2) }).await;
    let note = is_told(bench, "patched", "IndexBuild", BUILD).await;
    assert!(note.contains("100Ei"), "{note}");
    nothing_is_decided(bench, proxy, "patched").await;
    resize(bench, "patched", "1Gi").await;
    goes_on(bench, "patched").await;

    // A frozen stage: immutable, so that somebody puts another one in its place.
    at_work(bench, "stage").await;
    let stages: Api<ConfigMap> = Api::namespaced(bench.admin.clone(), "stage");
    let stage = stages.list(&ListParams::default().labels(labels::STAGE)).await.unwrap().items.remove(0);
    let name = stage.name_any();
    let put = async |data: Option<BTreeMap<String, String>>| {
        let mut other = ConfigMap { data, ..stage.clone() };
        (other.metadata.uid, other.metadata.resource_version) = (None, None);
        stages.delete(&name, &DeleteParams::default()).await.unwrap();
        stages.create(&PostParams::default(), &other).await.unwrap();
    };
    put(Some(BTreeMap::from([("stage.json".to_owned(), "[]".to_owned())]))).await;
    let builds = bench.builds("stage");
    until("the build says so", || async { stalls(&builds.get(BUILD).await.unwrap(), Reason::ForeignObject, &name) })
        .await;
    nothing_is_decided(bench, proxy, "stage").await;
    put(stage.data.clone()).await;
    goes_on(bench, "stage").await;

    // A record, by who may write it.
    at_work(bench, "record").await;
    let operators = Client::try_from(bench.through(proxy).await).unwrap();
    let records = api::<EngineDirectory>(&operators, "record");
    let name = records.list(&ListParams::default()).await.unwrap().items[0].name_any();
    change(&records, &name, json!({"spec": {"failedAttempts": 1_u64 << 32}})).await;
    until("the record is counted", || async { counts(operator, "EngineDirectory", 1) }).await;
    is_told(bench, "record", "EngineDirectory", &name).await;
    let builds = bench.builds("record");
    until("the build says so", || async { stalls(&builds.get(BUILD).await.unwrap(), Reason::Unreadable, &name) }).await;
    nothing_is_decided(bench, proxy, "record").await;
    change(&records, &name, json!({"spec": {"failedAttempts": 0}})).await;
    goes_on(bench, "record").await;
    until("all can be read again", || async {
        counts(operator, "EngineDirectory", 0)?;
        counts(operator, "IndexBuild", 1)
    })
    .await;
}

/// A pod with the operator's label and a node, both with a time that this process cannot hold, and `managedFields` with
/// one: all that is listed with them is read.
async fn others(bench: &Bench, operator: &Deputy) {
    let pods: Api<Pod> = Api::namespaced(bench.admin.clone(), STORED);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "stranger"},
        "spec": {"containers": [{"name": "a", "image": "a"}], "schedulerName": "nobody"},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let condition =
        json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "lastTransitionTime": BEYOND}]}});
    let guarded = api::<Pod>(&bench.admin, STORED);
    change_status(&guarded, "stranger", condition).await;
    change(&guarded, "stranger", json!({"metadata": {"labels": {labels::MANAGED_BY: labels::MANAGED_BY_VALUE}}})).await;
    is_told(bench, STORED, "Pod", "stranger").await;
    let node: Api<Guarded<Node>> = Api::all(bench.admin.clone());
    let condition =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": BEYOND}]}});
    // The one where no slot of a small build comes to.
    change_status(&node, "scripted-3", condition).await;
    until("pod and node are counted", || async {
        counts(operator, "Pod", 1)?;
        counts(operator, "Node", 1)
    })
    .await;
}

/// The control: an operator that takes what cannot be read for absent, or any stage for its own, decides.
async fn control(bench: &Bench, proxy: &KubeProxy) {
    let operator = Deputy::start(Order {
        config: bench.through(proxy).await,
        namespaces: vec!["control".to_owned()],
        lease_namespace: "control".to_owned(),
        lease: "lease".to_owned(),
        tamper: None,
        switches: serde_json::from_value(json!({"forgetUnreadable": true, "believeAnyStage": true})).unwrap(),
    });
    at_work(bench, "control").await;
    let stages: Api<ConfigMap> = Api::namespaced(bench.admin.clone(), "control");
    let stage = stages.list(&ListParams::default().labels(labels::STAGE)).await.unwrap().items.remove(0);
    // Of another plan: as many works, by somebody else's word.
    let text = stage.data.clone().unwrap()["stage.json"].replace("\"bootNonce\":\"", "\"bootNonce\":\"f");
    let put = ConfigMap {
        data: Some(BTreeMap::from([("stage.json".to_owned(), text)])),
        metadata: kube::core::ObjectMeta { uid: None, resource_version: None, ..stage.metadata.clone() },
        ..stage.clone()
    };
    stages.delete(&stage.name_any(), &DeleteParams::default()).await.unwrap();
    stages.create(&PostParams::default(), &put).await.unwrap();
    let before = made(bench, "control").await;
    bench.machine.script.release("control", WorkKind::Encode);
    until("an operator that believes it decides", || async {
        ok(made(bench, "control").await != before, || "nothing was decided".to_owned())
    })
    .await;
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_never_absent_is_told_by_name_and_hinders_no_other_build() {
    let script = Script::new(2, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("objects that cannot be read", script).await else { return };
    bench.unguard_stages().await;
    define(&bench, false).await;
    for namespace in [STORED, WELL, "large"] {
        bench.namespace(namespace).await;
    }
    create(&bench.admin, STORED, &build(STORED, BUILD, "100Ei"), &PostParams::default()).await.unwrap();
    // The control: who lists without a guard reads none.
    let unguarded = Api::<IndexBuild>::all(bench.admin.clone()).list(&ListParams::default()).await;
    assert!(matches!(unguarded, Err(kube::Error::SerdeError(_))), "{unguarded:?}");

    // It leads, and builds, in all namespaces.
    let proxy = bench.proxy().await;
    let operator = Deputy::start(Order {
        config: bench.through(&proxy).await,
        namespaces: Vec::new(),
        lease_namespace: WELL.to_owned(),
        lease: "lease".to_owned(),
        tamper: None,
        switches: TestSwitches::default(),
    });
    bench.build(WELL, BUILD, 1, |_| {}).await;
    let built = bench.until(WITHIN, |bench| bench.is_settled(WELL)).await;
    assert!(built.is_ok(), "a build beside one that cannot be read does not end");
    let note = is_told(&bench, STORED, "IndexBuild", BUILD).await;
    assert!(note.contains("100Ei") && note.contains("kubectl edit"), "{note}");
    counts(&operator, "IndexBuild", 1).unwrap();

    parts(&bench, &proxy, &operator).await;
    others(&bench, &operator).await;

    // One that can be read and is beyond the bounds to come: at work, with the finalizer.
    bench.machine.script.hold("large", WorkKind::Encode);
    bench.build("large", BUILD, 2, |build| build["spec"]["volume"]["size"] = json!("2Ei")).await;
    let script = &bench.machine.script;
    let held = bench.until(WITHIN, |_| script.in_hand("large", WorkKind::Encode) == 2).await;
    assert!(held.is_ok(), "a build beside pods and nodes that cannot be read does not begin");
    // One that cannot be read, and has the finalizer: from when it could be.
    let stored = api::<IndexBuild>(&bench.admin, STORED);
    change(&stored, BUILD, json!({"metadata": {"finalizers": [labels::FINALIZER]}})).await;

    // The bounds come. What is there can be written and deleted all the same.
    define(&bench, true).await;
    let before = bench.builds("large").get(BUILD).await.unwrap();
    assert!(before.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER));
    bench.delete("large", BUILD).await;
    let gone = bench.until(WITHIN, |bench| bench.is_gone("large")).await;
    let left = bench.builds("large").get_opt(BUILD).await.unwrap();
    assert!(gone.is_ok(), "a build beyond the bounds is not deleted: {left:?}");

    stored.delete(BUILD, &DeleteParams::default()).await.map(drop).unwrap();
    looks(&proxy, 3).await;
    let left = stored.get(BUILD).await.unwrap();
    assert_eq!(left.finalizers(), [labels::FINALIZER], "nothing is decided about one that cannot be read");
    // Corrected, it goes by itself.
    resize(&bench, STORED, "1Gi").await;
    until("a corrected build is deleted", || async {
        let left = stored.get_opt(BUILD).await.unwrap();
        ok(left.is_none(), || format!("{left:?}"))
    })
    .await;
    until("nothing is counted that is gone", || async { counts(&operator, "IndexBuild", 0) }).await;
    assert!(operator.is_running());
    proxy.assert_no_forbidden();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    control(&bench, &proxy).await;
    bench.end().await;
}
