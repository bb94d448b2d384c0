//! An API server of one record, on loopback, that refuses what a test says; and a client that counts what it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use indexbuild_api::{EngineDirectory, EngineDirectorySpec, EngineDirectoryStatus, Epoch, Grant, Release, Work, names};
use indexbuild_executor::kubernetes::{KubernetesControl, Place, client};
use indexbuild_executor::livez::Heartbeat;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";
pub(crate) const POD: &str = "pod-1";

/// What the server does to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Nobody listens.
    Away,
    /// All requests are answered so.
    Refuses(u16, Option<&'static str>),
    /// No request is answered.
    Silent,
    /// There is no record.
    Empty,
    /// Watches are answered so, all else is well.
    RefusesWatches(u16),
    /// Watches end at once.
    EndsWatches,
    /// Watches begin with the word that their version is too old.
    ExpiresWatches,
    /// Watches tell at once of a version that reads do not find.
    ReadsOld,
    /// Watches are not answered.
    SilentWatches,
    /// Writes are answered so.
    RefusesWrites(u16),
    /// Reads of stages are answered so.
    RefusesStages(u16),
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    Get,
    Watch,
    /// A claim or a report.
    Write,
    Stage,
}

struct Held {
    record: EngineDirectory,
    version: u64,
    mood: Mood,
    /// What bearers are let in; none: everybody is.
    token: Option<String>,
    frozen: bool,
    answered: BTreeMap<Ask, u64>,
}

/// The server.
pub(crate) struct Api {
    held: Mutex<Held>,
    version: watch::Sender<u64>,
    address: Mutex<Option<SocketAddr>>,
    runtime: Mutex<Option<Runtime>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// When each request was made, by a client that need not have reached anybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<(Instant, Ask)>>>);

impl Asked {
    /// Those from then on, within this time.
    pub(crate) fn within(&self, start: Instant, time: Duration) -> BTreeMap<Ask, u64> {
        let mut counts = BTreeMap::new();
        for (at, ask) in self.0.lock().unwrap().iter() {
            if *at >= start && at.duration_since(start) < time {
                *counts.entry(*ask).or_default() += 1;
            }
        }
        counts
    }

    /// When the last was made.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.lock().unwrap().last().map(|(at, _)| *at)
    }
}

impl Api {
    pub(crate) fn start() -> Arc<Self> {
        let spec = EngineDirectorySpec {
            build_name: "orders".into(),
            build_uid: UID.into(),
            renew_interval: indexbuild_api::renew_interval(1),
            ..EngineDirectorySpec::default()
        };
        let mut record = EngineDirectory::new(&names::directory("orders", UID, 0), spec);
        record.metadata.namespace = Some("shop".into());
        record.status = Some(EngineDirectoryStatus::default());
        let held = Held { record, version: 1, mood: Mood::Well, token: None, frozen: false, answered: BTreeMap::new() };
        let api = Arc::new(Self {
            held: Mutex::new(held),
            version: watch::Sender::new(1),
            address: Mutex::default(),
            runtime: Mutex::default(),
            open: Arc::default(),
            most: Arc::default(),
        });
        api.listen();
        api
    }

    /// On the address that it had before, if it had one.
    fn listen(self: &Arc<Self>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let before = *self.address.lock().unwrap();
        let wanted = before.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let (told, listening) = std::sync::mpsc::channel();
        let api = Arc::clone(self);
        runtime.spawn(async move {
            let listener = TcpListener::bind(wanted).await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let counted = Counted { listener, open: Arc::clone(&api.open), most: Arc::clone(&api.most) };
            let router = Router::new().fallback(answer).with_state(api);
            axum::serve(counted, router).await.unwrap();
        });
        *self.address.lock().unwrap() = Some(listening.recv().unwrap());
        *self.runtime.lock().unwrap() = Some(runtime);
    }

    /// Closes the port, and all connections with it.
    pub(crate) fn close(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn set(self: &Arc<Self>, mood: Mood) {
        if mood == Mood::Away {
            self.close();
        } else if self.runtime.lock().unwrap().is_none() {
            self.listen();
        }
        self.held.lock().unwrap().mood = mood;
        // Watches that are open end, as with a server's restart: what follows is what the new mood makes of them.
        self.version.send_modify(|_| {});
    }

    pub(crate) fn let_in(&self, token: &str) {
        self.held.lock().unwrap().token = Some(token.to_owned());
    }

    pub(crate) fn config(&self) -> Config {
        let address = self.address.lock().unwrap().unwrap();
        Config::new(format!("http://{address}").parse().unwrap())
    }

    /// A control plane for the slot, and what it asks.
    pub(crate) fn control(&self, heartbeat: Arc<Heartbeat>) -> (KubernetesControl, Asked) {
        let asked = Asked::default();
        let (config, counting) = (self.config(), asked.clone());
        let connect = move || Ok(counted(client(config.clone())?, counting.clone()));
        (KubernetesControl::connecting(place(), heartbeat, connect).unwrap(), asked)
    }

    pub(crate) fn change(&self, act: impl FnOnce(&mut EngineDirectory)) {
        let mut held = self.held.lock().unwrap();
        act(&mut held.record);
        held.version += 1;
        let version = held.version;
        drop(held);
        self.version.send_replace(version);
    }

    pub(crate) fn grant(&self, pod: &str, work: Work) {
        self.change(|record| {
            let epoch = record.spec.grant.as_ref().map_or(Epoch::FIRST, |grant| grant.epoch.next().unwrap());
            let grant = Grant { epoch, pod_name: pod.into(), pod_uid: pod.into(), ..Grant::default() };
            record.spec.grant = Some(grant);
            record.spec.work = Some(work);
        });
    }

    pub(crate) fn record(&self) -> EngineDirectory {
        self.held.lock().unwrap().record.clone()
    }

    /// From now on each stage is frozen, with no choice in it: who reads one, fails.
    pub(crate) fn freeze_nothing(&self) {
        self.held.lock().unwrap().frozen = true;
    }

    /// How many of these it has answered well.
    pub(crate) fn answered(&self, ask: Ask) -> u64 {
        self.held.lock().unwrap().answered.get(&ask).copied().unwrap_or(0)
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn most_connections(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn place() -> Place {
    Place { namespace: "shop".into(), build_name: "orders".into(), build_uid: UID.into(), slot: 0 }
}

fn counted(client: Client, asked: Asked) -> Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let ask = ask_of(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
        asked.0.lock().unwrap().push((Instant::now(), ask));
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, "shop")
}

fn ask_of(method: &Method, path: &str, query: &str) -> Ask {
    if path.contains("/configmaps/") {
        Ask::Stage
    } else if method == Method::PATCH {
        Ask::Write
    } else if query.contains("watch=true") {
        Ask::Watch
    } else {
        Ask::Get
    }
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let ask = ask_of(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let (mood, token) = {
        let held = api.held.lock().unwrap();
        (held.mood, held.token.clone())
    };
    if let Some(token) = token
        && parts.headers.get(header::AUTHORIZATION).is_none_or(|found| *found != format!("Bearer {token}"))
    {
        return refused(401, None);
    }
    match (mood, ask) {
        (Mood::Silent, _) | (Mood::SilentWatches, Ask::Watch) => std::future::pending().await,
        (Mood::Refuses(code, retry_after), _) => refused(code, retry_after),
        (Mood::Empty, Ask::Get) => refused(404, None),
        (Mood::RefusesWatches(code), Ask::Watch)
        | (Mood::RefusesWrites(code), Ask::Write)
        | (Mood::RefusesStages(code), Ask::Stage) => refused(code, None),
        (Mood::EndsWatches, Ask::Watch) => Body::empty().into_response(),
        (Mood::ExpiresWatches, Ask::Watch) => line(&json!({"type": "ERROR", "object": status(410)})).into_response(),
        (Mood::ReadsOld, Ask::Watch) => line(&event(&api, 1_000_000)).into_response(),
        (_, Ask::Watch) => watched(&api, parts.uri.query().unwrap_or_default()),
        (_, Ask::Get) => well(&api, ask),
        (_, Ask::Write) => {
            let operations: Value = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap();
            written(&api, &operations)
        }
        (_, Ask::Stage) => stage(&api),
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "refused by the test",
        "reason": "Refused", "code": code})
}

fn refused(code: u16, retry_after: Option<&'static str>) -> Response {
    let mut response = (StatusCode::from_u16(code).unwrap(), status(code).to_string()).into_response();
    if let Some(text) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, text.parse().unwrap());
    }
    response
}

fn shown(held: &Held) -> EngineDirectory {
    let mut record = held.record.clone();
    record.metadata.resource_version = Some(held.version.to_string());
    record
}

fn well(api: &Api, ask: Ask) -> Response {
    let mut held = api.held.lock().unwrap();
    *held.answered.entry(ask).or_default() += 1;
    serde_json::to_string(&shown(&held)).unwrap().into_response()
}

fn stage(api: &Api) -> Response {
    let mut held = api.held.lock().unwrap();
    if !held.frozen {
        return refused(404, None);
    }
    *held.answered.entry(Ask::Stage).or_default() += 1;
    let nothing = json!({"name": "plan", "chosen": []}).to_string();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stage"}, "data": {"stage.json": nothing}})
        .to_string()
        .into_response()
}

/// Writes a claim, and binds its nonce at once; or a report; or a last word, by a merge patch.
fn written(api: &Api, operations: &Value) -> Response {
    if let Some(said) = operations.pointer("/status/released").and_then(Value::as_object) {
        api.change(|record| {
            let released = &mut record.status.get_or_insert_default().released;
            for (uid, release) in said {
                match serde_json::from_value::<Option<Release>>(release.clone()).unwrap() {
                    Some(release) => drop(released.insert(uid.clone(), release)),
                    None => drop(released.remove(uid)),
                }
            }
        });
        return well(api, Ask::Write);
    }
    let of_status = |operation: &&Value| operation["path"].as_str().unwrap().starts_with("/status");
    let operation = operations.as_array().unwrap().iter().find(of_status).unwrap();
    let path = operation["path"].as_str().unwrap();
    // To what is not there, nothing can be added.
    if (path == "/status") != api.held.lock().unwrap().record.status.is_none() {
        return refused(422, None);
    }
    let fields = if path == "/status" {
        operation["value"].as_object().unwrap().clone()
    } else {
        [(path.trim_start_matches("/status/").to_owned(), operation["value"].clone())].into_iter().collect()
    };
    api.change(|record| {
        let status = record.status.get_or_insert_default();
        for (field, value) in fields {
            match field.as_str() {
                "claim" => {
                    let nonce = value["bootNonce"].as_str().unwrap().to_owned();
                    record.spec.grant.as_mut().unwrap().boot_nonce = nonce;
                    status.claim = Some(serde_json::from_value(value).unwrap());
                }
                "report" => status.report = Some(serde_json::from_value(value).unwrap()),
                other => panic!("{other}"),
            }
        }
    });
    well(api, Ask::Write)
}

fn event(api: &Api, later: u64) -> Value {
    let held = api.held.lock().unwrap();
    let mut record = shown(&held);
    record.metadata.resource_version = Some((held.version + later).to_string());
    json!({"type": "MODIFIED", "object": record})
}

fn line(event: &Value) -> Body {
    Body::from(format!("{event}\n"))
}

/// One event when the record is another one than asked about, and no end before that.
fn watched(api: &Arc<Api>, query: &str) -> Response {
    let from: u64 =
        query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).and_then(|v| v.parse().ok()).unwrap();
    let mut version = api.version.subscribe();
    let api = Arc::clone(api);
    let events = stream::once(async move {
        if *version.borrow_and_update() == from {
            // The server keeps its own sender: it cannot be gone.
            version.changed().await.unwrap();
        }
        let text = if *version.borrow() == from { String::new() } else { format!("{}\n", event(&api, 0)) };
        Ok::<_, Infallible>(Bytes::from(text))
    });
    Body::from_stream(events).into_response()
}

/// Counts connections.
struct Counted {
    listener: TcpListener,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl axum::serve::Listener for Counted {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = self.listener.accept().await.unwrap();
        let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        (Connection { stream, open: Arc::clone(&self.open) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    open: Arc<AtomicUsize>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
