//! The holder against an API server in memory whose answers get lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// What becomes of one write.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is done, and the answer is lost.
    Lost,
    /// It is done after the caller gave up, in so many milliseconds.
    Late(u64),
    /// It is not done: 503.
    Unavailable,
}

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    fates: VecDeque<Fate>,
    /// All requests get 503.
    down: bool,
    writes: u64,
}

#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| answer(api.clone(), request));
        Client::new(service, "default")
    }

    fn spec(&self) -> Value {
        self.with(|state| state.lease.as_ref().map_or(Value::Null, |lease| lease["spec"].clone()))
    }

    fn fate(&self, fate: Fate) {
        self.with(|state| state.fates.push_back(fate));
    }

    /// What another process, or a person, does.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        self.with(|state| {
            state.version += 1;
            let version = state.version.to_string();
            let lease = state.lease.as_mut().unwrap();
            change(lease);
            lease["metadata"]["resourceVersion"] = json!(version);
        });
    }
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "ServiceUnavailable",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": reason});
    (code, body)
}

impl State {
    fn write(&mut self, method: &Method, body: &Value) -> (u16, Value) {
        let found = self.lease.as_ref().map(|lease| &lease["metadata"]["resourceVersion"]);
        match (method.as_str(), found) {
            ("POST", Some(_)) => return status(409),
            ("PATCH", None) => return status(404),
            ("PATCH", Some(version)) if *version != body["metadata"]["resourceVersion"] => return status(409),
            _ => {}
        }
        self.version += 1;
        self.writes += 1;
        let metadata = json!({"name": "lease", "namespace": "default", "resourceVersion": self.version.to_string()});
        let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata,
            "spec": body["spec"]});
        self.lease = Some(lease.clone());
        (200, lease)
    }
}

async fn answer(api: FakeApi, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let (code, value) = if api.with(|state| state.down) {
        status(503)
    } else if parts.method == Method::GET {
        api.with(|state| state.lease.clone()).map_or_else(|| status(404), |lease| (200, lease))
    } else {
        let body: Value = serde_json::from_slice(&bytes)?;
        match api.with(|state| state.fates.pop_front()) {
            None => api.with(|state| state.write(&parts.method, &body)),
            Some(Fate::Unavailable) => status(503),
            Some(Fate::Lost) => {
                api.with(|state| state.write(&parts.method, &body));
                return Err("the connection was closed".into());
            }
            Some(Fate::Late(by)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(by)).await;
                    api.with(|state| state.write(&parts.method, &body));
                });
                return Err("the connection was closed".into());
            }
        }
    };
    Ok(Response::builder().status(code).body(Body::from(serde_json::to_vec(&value)?))?)
}

const TIMING: Timing =
    Timing { lease: Duration::from_secs(4), renew_deadline: Duration::from_secs(3), retry: Duration::from_secs(1) };

fn candidate(api: &FakeApi, identity: &str) -> Leader {
    Leader::new(api.client(), "default", "lease", identity, TIMING).unwrap()
}

async fn leads(api: &FakeApi, identity: &str) -> Held {
    let stop = CancellationToken::new();
    let acquiring = candidate(api, identity).acquire(&stop);
    tokio::time::timeout(Duration::from_secs(20), acquiring).await.expect("in time").expect("it was not stopped")
}

/// Waits until the holder has written again, and again.
async fn goes_on(api: &FakeApi, held: &Held) {
    let (start, before) = (Instant::now(), api.with(|state| state.writes));
    while api.with(|state| state.writes) < before + 3 {
        assert!(held.holds(), "it lost the Lease");
        assert!(start.elapsed() < Duration::from_secs(20), "it writes no more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_lease_is_made_kept_and_given_up() {
    let api = FakeApi::default();
    let held = leads(&api, "a").await;
    assert_eq!(api.spec()["holderIdentity"], "a");
    assert_eq!(api.spec()["leaseDurationSeconds"], 4);
    goes_on(&api, &held).await;
    assert_eq!(held.release().await, Released::Yes);
    assert_eq!(api.spec()["holderIdentity"], "");
    let next = leads(&api, "b").await;
    assert_eq!(api.spec()["leaseTransitions"], 1);
    drop(next);
    let start = Instant::now();
    let after = leads(&api, "c").await;
    assert!(start.elapsed() > Duration::from_secs(3), "what was dropped and not released runs out");
    assert!(after.holds());
}

#[tokio::test]
async fn answers_that_are_lost_do_not_undo_what_was_done() {
    let api = FakeApi::default();
    api.fate(Fate::Lost);
    let start = Instant::now();
    let held = leads(&api, "a").await;
    assert!(start.elapsed() < Duration::from_secs(3), "its own Lease is not waited for");
    assert_eq!(api.spec()["leaseTransitions"], 0, "nor taken from itself");
    for fate in [Fate::Lost, Fate::Unavailable, Fate::Late(100), Fate::Late(600), Fate::Lost] {
        api.fate(fate);
        goes_on(&api, &held).await;
    }
    api.fate(Fate::Lost);
    assert_eq!(held.release().await, Released::Yes);
    assert_eq!(api.spec()["holderIdentity"], "");
}

#[tokio::test]
async fn a_version_that_somebody_changed_is_no_loss_and_a_holder_that_somebody_changed_is() {
    let api = FakeApi::default();
    let held = leads(&api, "a").await;
    api.change(|lease| lease["metadata"]["labels"] = json!({"x": "y"}));
    goes_on(&api, &held).await;
    let start = Instant::now();
    api.change(|lease| lease["spec"]["holderIdentity"] = json!("b"));
    tokio::time::timeout(Duration::from_secs(10), held.lost().cancelled()).await.expect("it notices");
    assert!(start.elapsed() < TIMING.renew_deadline, "at its next renewal, and not at its deadline");
    assert!(!held.holds());
    assert_eq!(held.release().await, Released::NotHeld);
    assert_eq!(api.spec()["holderIdentity"], "b");
}

#[tokio::test]
async fn a_lease_that_is_deleted_ends_the_leading_and_is_not_made_anew_by_the_leader() {
    let api = FakeApi::default();
    let held = leads(&api, "a").await;
    api.with(|state| state.lease = None);
    tokio::time::timeout(Duration::from_secs(10), held.lost().cancelled()).await.expect("it notices");
    assert!(api.spec().is_null());
}

#[tokio::test]
async fn without_renewals_leading_ends_at_the_deadline_and_nothing_is_written_after_it() {
    let api = FakeApi::default();
    let held = leads(&api, "a").await;
    goes_on(&api, &held).await;
    api.with(|state| state.down = true);
    let start = Instant::now();
    tokio::time::timeout(Duration::from_secs(10), held.lost().cancelled()).await.expect("it ends");
    let took = start.elapsed();
    assert!(!held.holds());
    assert!(took <= TIMING.renew_deadline + Duration::from_millis(200), "{took:?}");
    assert!(took >= TIMING.renew_deadline - TIMING.retry - Duration::from_millis(200), "{took:?}");
    let writes = api.with(|state| {
        state.down = false;
        state.writes
    });
    tokio::time::sleep(2 * TIMING.retry).await;
    assert_eq!(api.with(|state| state.writes), writes);
    assert_eq!(held.release().await, Released::NotHeld);
    assert_eq!(api.with(|state| state.writes), writes);
}

#[tokio::test]
async fn a_namesake_does_not_lead_beside_the_leader() {
    let api = FakeApi::default();
    let held = leads(&api, "a").await;
    let stop = CancellationToken::new();
    let namesake = candidate(&api, "a").acquire(&stop);
    assert!(tokio::time::timeout(TIMING.lease * 2, namesake).await.is_err());
    assert!(held.holds());
}

#[tokio::test]
async fn clocks_that_contradict_each_other_and_candidates_without_a_name_are_refused() {
    let client = || FakeApi::default().client();
    let seconds = Duration::from_secs;
    for (lease, renew_deadline, retry) in [(15, 15, 2), (15, 10, 10), (15, 10, 0), (5, 10, 2)] {
        let timing = Timing { lease: seconds(lease), renew_deadline: seconds(renew_deadline), retry: seconds(retry) };
        let error = Leader::new(client(), "ns", "lease", "a", timing).unwrap_err();
        assert!(matches!(error, LeaderError::Timing { .. }));
        assert!(error.to_string().contains("ns/lease"));
    }
    let error = Leader::new(client(), "ns", "lease", "", Timing::default()).unwrap_err();
    assert!(matches!(error, LeaderError::Identity(_)) && error.to_string().contains("--identity"));
}
