use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use indexbuild_api::WorkError;
use indexbuild_index::store::{Store, StoreOptions};
use tokio::runtime::Runtime;

use super::*;
use crate::attempt_state::{AttemptState, WaitsFor};
use crate::outage::{Site, Watch};
use crate::stats::Meter;
use crate::stored_objects::OpenError;

/// How a store takes conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Sound,
    /// As s3rver.
    IgnoresIfNoneMatch,
    /// As Alibaba's OSS.
    RefusesIfNoneMatchAsUnknown,
    /// It looks first and writes then.
    CreatesInTwoSteps,
    /// It says that it refused, and has written.
    ReplacesAndRefuses,
    IgnoresIfMatch,
    RefusesIfMatchAsUnknown,
    RefusesEachIfMatch,
    LosesObjects,
}

struct Fake {
    manner: Manner,
    /// Each object, and how often anything was written before it: its etag.
    objects: Mutex<BTreeMap<String, (String, u64)>>,
    writes: Mutex<u64>,
}

impl Fake {
    fn write(&self, path: &str, body: String) -> Response {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        if self.manner != Manner::LosesObjects {
            self.objects.lock().unwrap().insert(path.to_owned(), (body, *writes));
        }
        ([("etag", format!("\"{writes}\""))], "").into_response()
    }

    fn tag(&self, path: &str) -> Option<String> {
        self.objects.lock().unwrap().get(path).map(|(_, tag)| format!("\"{tag}\""))
    }

    async fn put(&self, path: &str, headers: &HeaderMap, body: String) -> Response {
        let refused = || StatusCode::PRECONDITION_FAILED.into_response();
        let unknown = || StatusCode::NOT_IMPLEMENTED.into_response();
        let asks = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        if asks("if-none-match").is_some() {
            return match self.manner {
                Manner::IgnoresIfNoneMatch => self.write(path, body),
                Manner::RefusesIfNoneMatchAsUnknown => unknown(),
                Manner::ReplacesAndRefuses if self.tag(path).is_some() => {
                    self.write(path, body);
                    refused()
                }
                Manner::CreatesInTwoSteps if self.tag(path).is_none() => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    self.write(path, body)
                }
                _ => {
                    // One lock for the look and the write.
                    let mut writes = self.writes.lock().unwrap();
                    let mut objects = self.objects.lock().unwrap();
                    if objects.contains_key(path) {
                        return refused();
                    }
                    *writes += 1;
                    if self.manner != Manner::LosesObjects {
                        objects.insert(path.to_owned(), (body, *writes));
                    }
                    ([("etag", format!("\"{writes}\""))], "").into_response()
                }
            };
        }
        match (asks("if-match"), self.manner) {
            (Some(_), Manner::RefusesIfMatchAsUnknown) => unknown(),
            (Some(_), Manner::RefusesEachIfMatch) => refused(),
            (Some(tag), manner) if manner != Manner::IgnoresIfMatch && self.tag(path) != Some(tag.clone()) => refused(),
            _ => self.write(path, body),
        }
    }
}

async fn serve(State(fake): State<Arc<Fake>>, method: Method, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let path = uri.path().to_owned();
    match method {
        Method::PUT => fake.put(&path, &headers, body).await,
        Method::GET => match fake.objects.lock().unwrap().get(&path) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some((body, tag)) => {
                let headers =
                    [("etag", format!("\"{tag}\"")), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned())];
                (headers, body.clone()).into_response()
            }
        },
        Method::DELETE => {
            fake.objects.lock().unwrap().remove(&path);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn start(runtime: &Runtime, manner: Manner) -> (Arc<Fake>, Objects) {
    let fake = Arc::new(Fake { manner, objects: Mutex::default(), writes: Mutex::default() });
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(serve).with_state(Arc::clone(&fake));
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let shared = Arc::new(AttemptState::new());
    let watch = Watch::new(WaitsFor::Output, Site::OneMachine, Arc::clone(&shared), Duration::from_secs(60));
    let open = move || {
        let extra = [("aws_skip_signature".to_owned(), "true".to_owned())].into();
        let options = StoreOptions { endpoint: Some(endpoint.clone()), extra, ..StoreOptions::default() };
        Store::open("s3://lake/indexes", &options).map_err(OpenError::Store)
    };
    let (handle, meter) = (runtime.handle().clone(), Arc::new(Meter::start()));
    let objects = Objects::new("s3://lake/indexes", "shop/orders/uid".to_owned(), open, watch, handle, shared, meter);
    (fake, objects)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_store_without_conditional_writes_is_refused_by_the_condition_that_does_not_hold_and_keeps_no_probe() {
    let runtime = runtime();
    for (manner, condition) in [
        (Manner::Sound, None),
        (Manner::IgnoresIfNoneMatch, Some(TWO_CREATES)),
        (Manner::RefusesIfNoneMatchAsUnknown, Some(ONE_CREATES)),
        (Manner::CreatesInTwoSteps, Some(ONE_WINNER)),
        (Manner::ReplacesAndRefuses, Some(TWO_CREATES)),
        (Manner::IgnoresIfMatch, Some(STALE)),
        (Manner::RefusesIfMatchAsUnknown, Some(RIGHT)),
        (Manner::RefusesEachIfMatch, Some(RIGHT)),
        (Manner::LosesObjects, Some(VISIBLE)),
    ] {
        let (fake, objects) = start(&runtime, manner);
        match (probe(&objects, "attempts/plan/1-nonce"), condition) {
            (Ok(()), None) => {}
            (Err(WorkFailure::Failed(WorkError { reason, retryable, message, .. })), Some(condition)) => {
                assert_eq!((reason, retryable), (WorkErrorReason::StoreUnavailable, false), "{manner:?}: {message}");
                for part in
                    [condition, "s3://lake/indexes/shop/orders/uid", "give the build an output.url", "docs/stores.md"]
                {
                    assert!(message.contains(part), "{manner:?}: {part} in {message}");
                }
            }
            (outcome, _) => panic!("{manner:?}: {outcome:?}"),
        }
        let left = fake.objects.lock().unwrap();
        assert!(left.is_empty(), "{manner:?}: {left:?}");
        assert!(*fake.writes.lock().unwrap() > 0 || manner == Manner::RefusesIfNoneMatchAsUnknown);
    }
}

#[test]
fn probes_at_once_do_not_disturb_each_other_nor_what_stands_beside_them() {
    let runtime = runtime();
    let (fake, objects) = start(&runtime, Manner::Sound);
    let beside = content("neighbour");
    objects.put("attempts/plan/1-nonce/result.json", &beside).unwrap();
    let probes = [(); 4];
    in_parallel(&probes, probes.len(), |()| probe(&objects, "attempts/plan/1-nonce")).unwrap();
    let left: Vec<String> = fake.objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(left, ["/lake/indexes/shop/orders/uid/attempts/plan/1-nonce/result.json"]);
}
