//! A leader that is frozen in the midst of its writes: they are on their way while another one leads, and arrive late. What
//! they say is not so any more, and decides: that a slot's owner is asked to stop, that a build has failed, which is final.

use std::sync::Mutex;
use std::time::Duration;

use http_body_util::BodyExt as _;
use indexbuild_api::{ConditionStatus, ConditionType, DirectoryState, EngineDirectory, IndexBuild, WorkKind};
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::scripted::{Bench, Script};

const NAMESPACE: &str = "former-leader";
const WITHIN: Duration = Duration::from_secs(60);
/// Its owner is asked to stop, as it is suspended for a moment.
const PAUSED: &str = "paused";
/// Its attempt fails, of which it may bear none at first.
const FAILING: [&str; 2] = ["failing", "failing-control"];

/// Writes of statuses that stay on their way.
static ON_THEIR_WAY: Mutex<Vec<Late>> = Mutex::new(Vec::new());

/// A write that is on its way.
#[derive(Clone)]
struct Late {
    parts: http::request::Parts,
    body: Value,
}

impl Late {
    fn is_of(&self, name: &str) -> bool {
        self.parts.uri.path().contains(name)
    }

    /// What it changes, each with its place.
    fn changes(&self) -> &[Value] {
        self.body.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// No build here fails for anything else, and of none is it said before.
    fn says_failed(&self) -> bool {
        self.body.to_string().contains("\"BackoffLimitExceeded\"")
    }

    fn says_stopping(&self) -> bool {
        self.changes().iter().any(|change| change["path"] == "/status/state" && change["value"] == "Stopping")
    }

    /// As somebody would write it who does not ask whether it is still so: what it puts there, whatever version that is of.
    fn unfenced(self) -> Self {
        let unfenced = |change: &&Value| change["path"] != "/metadata/resourceVersion" && change["op"] == "add";
        let body = self.changes().iter().filter(unfenced).cloned().collect();
        Self { body, ..self }
    }

    /// It arrives. What the API server answers.
    async fn arrive(self, client: &Client) -> http::StatusCode {
        let Self { mut parts, body } = self;
        parts.headers.remove(http::header::CONTENT_LENGTH);
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        client.send(http::Request::from_parts(parts, body)).await.unwrap().status()
    }
}

/// An operator that is frozen while it says that a build has failed, or that an owner is asked to stop.
fn freezes(client: Client) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let client = client.clone();
        async move {
            let tells = request.method() == http::Method::PATCH && request.uri().path().ends_with("/status");
            if !tells {
                return client.send(request).await;
            }
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes().to_vec();
            let late = Late { parts, body: serde_json::from_slice(&bytes).unwrap() };
            if !late.says_failed() && !late.says_stopping() {
                return client.send(http::Request::from_parts(late.parts, Body::from(bytes))).await;
            }
            ON_THEIR_WAY.lock().unwrap().push(late);
            std::future::pending().await
        }
    });
    Client::new(service, "default")
}

async fn on_its_way(bench: &Bench, what: &str, such: impl Fn(&Late) -> bool) -> Late {
    let found = || ON_THEIR_WAY.lock().unwrap().iter().find(|late| such(late)).cloned();
    let there = bench.until(WITHIN, |_| found().is_some()).await;
    assert!(there.is_ok(), "{what} is not written");
    found().unwrap()
}

async fn change(bench: &Bench, build: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    bench.builds(NAMESPACE).patch(build, &PatchParams::default(), &patch).await.unwrap();
}

fn is(build: &IndexBuild, wanted: ConditionType) -> bool {
    let condition = build.status.as_ref().and_then(|status| status.condition(wanted));
    condition.is_some_and(|condition| condition.status == ConditionStatus::True)
}

async fn until_build(bench: &Bench, name: &str, wanted: ConditionType) -> IndexBuild {
    let start = std::time::Instant::now();
    loop {
        let build = bench.builds(NAMESPACE).get(name).await.unwrap();
        if is(&build, wanted) {
            return build;
        }
        assert!(start.elapsed() < WITHIN, "build {name} is not {wanted:?}: {:?}", build.status);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// G1: whatever decides is written by compare-and-set.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_leader_says_late_of_a_slot_or_of_a_build_that_failed_is_refused_g1() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("a former leader's late writes", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    let (proxy_one, proxy_two) = (bench.proxy().await, bench.proxy().await);
    let one = bench.operator(&proxy_one, NAMESPACE, "lease", Some(freezes)).await;
    for name in FAILING {
        bench.build(NAMESPACE, name, 1, |build| build["spec"]["backoffLimitPerWork"] = json!(0)).await;
    }
    bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) == FAILING.len()).await.unwrap();

    script.containers.crash(NAMESPACE);
    let mut failed = Vec::new();
    for name in FAILING {
        let path = format!("/indexbuilds/{name}/status");
        let late = on_its_way(&bench, "that it has failed", |late| late.parts.uri.path().ends_with(&path)).await;
        assert!(late.says_failed(), "{}", late.body);
        failed.push(late);
    }
    bench.build(NAMESPACE, PAUSED, 1, |_| {}).await;
    bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) > FAILING.len()).await.unwrap();
    change(&bench, PAUSED, json!({"suspend": true})).await;
    let of_record = format!("/enginedirectories/{PAUSED}-");
    let stopping = on_its_way(&bench, "that it is asked to stop", |late| late.is_of(&of_record)).await;

    // Another one leads, and what was said is not so any more.
    assert_eq!(tokio::task::spawn_blocking(move || one.kill()).await.unwrap(), None);
    change(&bench, PAUSED, json!({"suspend": false})).await;
    for name in FAILING {
        change(&bench, name, json!({"backoffLimitPerWork": 6})).await;
    }
    let before = script.in_hand(NAMESPACE, WorkKind::Encode);
    let two = bench.operator(&proxy_two, NAMESPACE, "lease", None).await;
    bench.until(WITHIN, |_| script.in_hand(NAMESPACE, WorkKind::Encode) >= before + FAILING.len()).await.unwrap();
    let records: Api<EngineDirectory> = Api::namespaced(bench.admin.clone(), NAMESPACE);
    let name = stopping.parts.uri.path().rsplit('/').nth(1).unwrap().to_owned();

    // They arrive.
    let client = Client::try_from(bench.through(&proxy_two).await).unwrap();
    assert_eq!(stopping.arrive(&client).await, http::StatusCode::CONFLICT);
    let now = records.get(&name).await.unwrap().status.unwrap_or_default();
    assert_ne!(now.state, DirectoryState::Stopping, "what it said is not so");
    let [late, control] = failed.try_into().map_err(|_| "two builds").unwrap();
    assert_eq!(late.arrive(&client).await, http::StatusCode::CONFLICT);
    // The control: without its version it would count, and be final.
    let unfenced = control.clone().unfenced();
    assert_eq!(control.arrive(&client).await, http::StatusCode::CONFLICT);
    assert_eq!(unfenced.arrive(&client).await, http::StatusCode::OK);
    until_build(&bench, FAILING[1], ConditionType::Failed).await;

    script.release(NAMESPACE, WorkKind::Encode);
    for name in [FAILING[0], PAUSED] {
        let build = until_build(&bench, name, ConditionType::Complete).await;
        assert!(!is(&build, ConditionType::Failed));
    }
    proxy_two.assert_no_forbidden();
    tokio::task::spawn_blocking(move || two.kill()).await.unwrap();
    bench.end().await;
}
