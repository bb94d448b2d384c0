//! Connections that a store keeps alive serve whoever asks next, on whichever runtime that is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use indexbuild_faultproxy::WebServer;
use indexbuild_store::{CaCertificates, Connector};
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::{Builder, Runtime};

/// Far longer than an answer takes, and far shorter than a client gives a request.
const PATIENCE: Duration = Duration::from_secs(5);

fn store(server: &WebServer, connector: impl HttpConnector) -> impl ObjectStore {
    HttpBuilder::new()
        .with_url(server.url())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(connector)
        .build()
        .unwrap()
}

/// As a worker's: nothing moves on it but while that waits for something.
fn workers_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks on one runtime, then on another while the first is still there. The second answer, or `None` in time.
fn asked_on_two(connector: impl HttpConnector) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("object"), "content").unwrap();
    let server = WebServer::start(folder.path()).unwrap();
    let store = store(&server, connector);
    let (first, second) = (workers_runtime(), workers_runtime());
    let read = async { store.get(&Path::from("object")).await?.bytes().await };
    assert_eq!(first.block_on(read).unwrap(), "content");
    let again = second.block_on(async {
        let read = async { store.get(&Path::from("object")).await?.bytes().await };
        tokio::time::timeout(PATIENCE, read).await
    });
    again.ok().map(|read| String::from_utf8(read.unwrap().to_vec()).unwrap())
}

#[test]
fn a_connection_that_one_runtime_opened_serves_another() {
    let answer = asked_on_two(Connector::new(CaCertificates::default()).unwrap());
    assert_eq!(answer.as_deref(), Some("content"));
}

/// The control: the server keeps connections alive, and a client that each runtime uses as it comes hangs.
#[test]
fn a_client_without_a_runtime_of_its_own_hangs_on_the_second_control() {
    assert_eq!(asked_on_two(ReqwestConnector::default()), None);
}

/// Nothing of a runtime that is gone is needed: each worker of a verification ends on its own.
#[test]
fn a_runtime_that_ends_takes_no_connection_with_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("object"), "content").unwrap();
    let server = WebServer::start(folder.path()).unwrap();
    let store = store(&server, Connector::new(CaCertificates::default()).unwrap());
    let ask_on_a_runtime_that_ends = || {
        let read = async { store.get(&Path::from("object")).await?.bytes().await };
        assert_eq!(workers_runtime().block_on(read).unwrap(), "content");
        server.connections()
    };
    let deadline = Instant::now() + PATIENCE;
    let mut before = ask_on_a_runtime_that_ends();
    loop {
        // A connection is free again a little after the last byte was read: now and then a request comes before.
        let after = ask_on_a_runtime_that_ends();
        if after == before {
            break;
        }
        assert!(Instant::now() < deadline, "each of {after} requests opened a connection of its own");
        before = after;
    }
}
