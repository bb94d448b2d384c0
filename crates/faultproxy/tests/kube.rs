//! A real kube-rs client and watcher and a real kube-apiserver, with the proxy between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use http::{Request, StatusCode, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use indexbuild_faultproxy::{
    Answer, DenyList, Effect, EventMatch, Identity, KubeProxy, RequestMatch, Rule, Times, Upstream, Verb, When,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, Error,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, reflector, watcher},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(30);

async fn proxy(api: &common::Api) -> (KubeProxy, Api<ConfigMap>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let upstream = Upstream {
        url: api.url.clone(),
        ca_pem: Some(api.ca_pem.clone()),
        identity: Identity::Certificate { cert_pem: api.cert_pem.clone(), key_pem: api.key_pem.clone() },
    };
    let proxy = KubeProxy::start(upstream, DenyList::default()).await.unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&proxy.kubeconfig(None)).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // One request is one request: the tests count them.
    config.default_retry = false;
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), "default");
    // The namespace is made by the server itself, shortly after it listens.
    let log = || std::fs::read_to_string(&api.log).unwrap_or_default();
    let ready = until(|| async { apply(&maps, "ready", "1").await.is_ok() }).await;
    assert!(ready, "{}", log());
    (proxy, maps)
}

async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) -> bool {
    let look = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.is_ok()
}

async fn apply(maps: &Api<ConfigMap>, name: &str, value: &str) -> Result<ConfigMap, Error> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}});
    maps.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await
}

fn code(result: Result<ConfigMap, Error>) -> u16 {
    match result {
        Err(Error::Api(status)) => status.code,
        other => panic!("not answered by the API: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_meets_each_rule_and_what_was_committed_is_there() {
    let Some(api) = common::Api::start("apply through the proxy") else { return };
    let (proxy, maps) = proxy(&api).await;
    let which = || RequestMatch::verb(Verb::Patch).resource("", "configmaps");
    for (n, (answer, expected)) in [
        (Answer::Conflict, 409),
        (Answer::TooManyRequests { retry_after: 1 }, 429),
        (Answer::InternalError, 500),
        (Answer::Unavailable, 503),
        (Answer::GatewayTimeoutAfterCommit, 504),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("answer-{n}");
        let handle = proxy.add_rule(Rule::Answer { which: which(), answer, times: Times::First(1) });
        assert_eq!(code(apply(&maps, &name, "x").await), expected);
        assert_eq!(handle.fired(), 1);
        let there = maps.get_opt(&name).await.unwrap().is_some();
        assert_eq!(there, answer == Answer::GatewayTimeoutAfterCommit, "{answer:?}");
        apply(&maps, &name, "x").await.unwrap();
    }

    for (when, name, committed) in [(When::BeforeForward, "before", false), (When::AfterForward, "after", true)] {
        let stop = proxy.add_rule(Rule::StopAt { which: RequestMatch::mutating(), nth: 2, when });
        apply(&maps, "first", name).await.unwrap();
        assert!(!matches!(apply(&maps, name, "x").await, Ok(_) | Err(Error::Api(_))));
        assert!(maps.get("first").await.is_err(), "everything after the stop is refused");
        assert!(stop.fired() >= 2);
        stop.lift();
        assert_eq!(maps.get_opt(name).await.unwrap().is_some(), committed, "{when:?}");
    }

    apply(&maps, "old", "1").await.unwrap();
    let old = proxy.add_rule(Rule::OldVersion { which: RequestMatch::any().name("old") });
    let value = |m: ConfigMap| m.data.unwrap()["v"].clone();
    assert_eq!(value(maps.get("old").await.unwrap()), "1");
    apply(&maps, "old", "2").await.unwrap();
    assert_eq!(value(maps.get("old").await.unwrap()), "1");
    old.lift();
    assert_eq!(value(maps.get("old").await.unwrap()), "2");

    let by = Duration::from_millis(300);
    let delay = proxy.add_rule(Rule::Delay { which: which(), by, times: Times::First(1) });
    let start = std::time::Instant::now();
    apply(&maps, "old", "3").await.unwrap();
    assert!(start.elapsed() >= by);
    assert_eq!(delay.fired(), 1);

    proxy.assert_no_forbidden();
    assert!(proxy.count(Verb::Patch, "configmaps") >= 15);
    let finalized = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    maps.patch("old", &PatchParams::default(), &Patch::Merge(finalized)).await.unwrap();
    let stripped = json!({"metadata": {"finalizers": null}});
    assert_eq!(code(maps.patch("old", &PatchParams::default(), &Patch::Merge(stripped)).await), 403);
    assert_eq!(proxy.forbidden().len(), 1);
    maps.delete("first", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_recovers_from_cut_watches_and_from_a_hidden_event_only_by_a_list() {
    let Some(api) = common::Api::start("watcher through the proxy") else { return };
    let (proxy, maps) = proxy(&api).await;
    let watch = |maps: Api<ConfigMap>| {
        let (store, writer) = reflector::store();
        let stream = reflector(writer, watcher(maps, watcher::Config::default())).default_backoff();
        let task = tokio::spawn(stream.for_each(|_| async {}));
        (store, task)
    };
    let has = |store: &reflector::Store<ConfigMap>, name: &str| {
        store.get(&reflector::ObjectRef::new(name).within("default")).is_some()
    };
    let (store, task) = watch(maps.clone());
    assert!(until(|| async { has(&store, "ready") && proxy.open_watches() == 1 }).await);
    apply(&maps, "a", "1").await.unwrap();
    assert!(until(|| async { has(&store, "a") }).await, "events are streamed");

    assert_eq!(proxy.cut_watches(&RequestMatch::any()), 1);
    assert!(proxy.log().iter().any(|s| s.effect == Effect::WatchCut));
    apply(&maps, "b", "1").await.unwrap();
    assert!(until(|| async { has(&store, "b") }).await, "the watcher comes back");

    let hide = proxy.add_rule(Rule::HideEvents {
        which: RequestMatch::any().resource("", "configmaps"),
        events: EventMatch::any().kind("ConfigMap").name("hidden"),
    });
    apply(&maps, "hidden", "1").await.unwrap();
    let rule = hide.rule();
    assert!(proxy.wait_logged(DEADLINE, |s| s.rule == Some(rule)).await.is_some());
    hide.lift();
    apply(&maps, "c", "1").await.unwrap();
    assert!(until(|| async { has(&store, "c") }).await);
    assert!(!has(&store, "hidden"), "a later event does not bring back the lost one");
    proxy.cut_watches(&RequestMatch::any());
    apply(&maps, "d", "1").await.unwrap();
    assert!(until(|| async { has(&store, "d") }).await);
    assert!(!has(&store, "hidden"), "nor does a new watch");
    task.abort();

    let (relisted, task) = watch(maps.clone());
    assert!(until(|| async { has(&relisted, "hidden") }).await, "a list shows it");
    task.abort();
    proxy.assert_no_forbidden();
}

/// What a client sees that speaks this version: the negotiated protocol, and the answer's status.
async fn ask(proxy: &KubeProxy, version: Version) -> (Option<Vec<u8>>, Version, StatusCode) {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(proxy.ca_pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let wanted: &[u8] = if version == Version::HTTP_2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![wanted.to_vec()];
    let url = Uri::try_from(format!("{}/api/v1/namespaces/default/configmaps", proxy.url())).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", url.port_u16().unwrap())).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let negotiated = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let request = Request::get(url.clone()).header("host", url.authority().unwrap().as_str());
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let io = TokioIo::new(stream);
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    (negotiated, response.version(), response.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_spoken_and_broken() {
    let Some(api) = common::Api::start("HTTP/1.1 and HTTP/2") else { return };
    let (proxy, _) = proxy(&api).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (negotiated, spoken, status) = ask(&proxy, version).await;
        let wanted: &[u8] = if version == Version::HTTP_2 { b"h2" } else { b"http/1.1" };
        assert_eq!(negotiated.as_deref(), Some(wanted));
        assert_eq!((spoken, status), (version, StatusCode::OK));
        let refused = proxy.add_rule(Rule::Answer {
            which: RequestMatch::any(),
            answer: Answer::Unavailable,
            times: Times::First(1),
        });
        assert_eq!(ask(&proxy, version).await.2, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.fired(), 1);
        refused.lift();
        assert_eq!(ask(&proxy, version).await.2, StatusCode::OK);
    }
}
