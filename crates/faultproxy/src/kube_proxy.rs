//! The proxy before a Kubernetes API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    deny_list::{self, DenyList},
    net::{self, Body, BoxError, ConnectionCut, Identity, Outcome, ProxyError, Upstream, UpstreamClient},
    request::{Forbidden, RequestInfo, RequestMatch, Verb},
    rule_handle::{RuleHandle, RuleKeeper},
    rules::{Act, Answer, Counters, Rule, RuleId, Rules, decide},
    watch::{EventMatch, Filter, Line, LostEvents, WatchEvent, WatchStart},
};

/// The largest body of a write; etcd takes a tenth of it.
const MAX_WRITE: usize = 16 << 20;

/// What a rule did to a request or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A rule acted on the request in this way.
    Acted(Act),
    /// The request had to wait.
    Delayed,
    Hidden(WatchEvent),
    /// An event hidden earlier was kept from coming again.
    StillLost(WatchEvent),
    /// The first answer was recorded, to be given again.
    Recorded,
    WatchCut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The rule that did it; none for the deny-list and for [`KubeProxy::cut_watches`].
    pub rule: Option<RuleId>,
    pub info: RequestInfo,
    pub effect: Effect,
}

struct OpenWatch {
    info: RequestInfo,
    cut: CancellationToken,
}

#[derive(Clone)]
struct Record {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct State {
    rules: Rules,
    counters: Counters,
    next: u64,
    log: Vec<LogEntry>,
    counts: BTreeMap<(Verb, String), u64>,
    watches: BTreeMap<u64, OpenWatch>,
    records: BTreeMap<(RuleId, String), Record>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    lost: LostEvents,
    list: DenyList,
    upstream: Upstream,
    base: String,
    client: UpstreamClient,
}

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, rule: Option<RuleId>, info: &RequestInfo, effect: Effect) {
        self.with(|s| s.log.push(LogEntry { rule, info: info.clone(), effect }));
        self.changed.notify_waiters();
    }
}

impl RuleKeeper for Shared {
    fn lift(&self, rule: RuleId) {
        self.with(|s| {
            s.rules.remove(&rule);
            s.counters.forget(rule);
            s.records.retain(|(r, _), _| *r != rule);
        });
    }

    fn fired(&self, rule: RuleId) -> u64 {
        self.with(|s| s.log.iter().filter(|entry| entry.rule == Some(rule)).count() as u64)
    }
}

/// A proxy before an API server. Dropping it closes every connection.
pub struct KubeProxy {
    shared: Arc<Shared>,
    url: String,
    ca_pem: String,
    ended: CancellationToken,
}

impl KubeProxy {
    /// Starts on a free port of 127.0.0.1, with a CA of its own.
    ///
    /// # Errors
    /// [`ProxyError`] for certificates or an address that cannot be used.
    pub async fn start(upstream: Upstream, list: DenyList) -> Result<Self, ProxyError> {
        let base = upstream.url.trim_end_matches('/').to_owned();
        if base.parse::<Uri>().ok().and_then(|u| u.authority().cloned()).is_none() {
            return Err(ProxyError::Address(base));
        }
        let tls = net::own_tls()?;
        let client = net::upstream_client(&upstream)?;
        let (listener, address) = net::listen().await?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            lost: LostEvents::default(),
            list,
            upstream,
            base,
            client,
        });
        let ended = CancellationToken::new();
        let handler = {
            let shared = shared.clone();
            move |request| handle(shared.clone(), request)
        };
        tokio::spawn(net::serve(listener, Some(tls.acceptor), ended.clone(), handler));
        Ok(Self { shared, url: format!("https://{address}"), ca_pem: tls.ca_pem, ended })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The CA that clients trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig (JSON, which is YAML) for a client without identity, or with this token.
    pub fn kubeconfig(&self, token: Option<&str>) -> String {
        let user = token.map_or_else(|| json!({}), |t| json!({"token": t}));
        let ca = self.ca_file_data();
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url, "certificate-authority-data": ca}}],
            "users": [{"name": "proxy", "user": user}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}]})
        .to_string()
    }

    fn ca_file_data(&self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in self.ca_pem.as_bytes().chunks(3) {
            let word = chunk.iter().fold(0_u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let six = ((word >> (18 - 6 * i)) & 63) as usize;
                out.push(if i <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
            }
        }
        out
    }

    /// Adds a rule; it is in force until its handle is lifted or dropped.
    pub fn add_rule(&self, rule: Rule) -> RuleHandle {
        let id = self.shared.with(|s| {
            s.next += 1;
            let id = RuleId(s.next);
            s.rules.insert(id, rule);
            id
        });
        RuleHandle { rule: id, keeper: self.shared.clone() }
    }

    /// Closes all watches that match, in the middle of the stream. Returns how many were open.
    pub fn cut_watches(&self, which: &RequestMatch) -> usize {
        let cut: Vec<OpenWatch> = self.shared.with(|s| {
            let ids: Vec<u64> = s.watches.iter().filter(|(_, w)| which.matches(&w.info)).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| s.watches.remove(id)).collect()
        });
        for watch in &cut {
            watch.cut.cancel();
            self.shared.note(None, &watch.info, Effect::WatchCut);
        }
        cut.len()
    }

    pub fn open_watches(&self) -> usize {
        self.shared.with(|s| s.watches.len())
    }

    /// Everything that was done to requests and events, in order.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.with(|s| s.log.clone())
    }

    /// Waits until an entry of the log matches. Returns it, or `None` after `deadline`.
    pub async fn wait_logged(&self, deadline: Duration, wanted: impl Fn(&LogEntry) -> bool) -> Option<LogEntry> {
        let look = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                // Registered before the look, so that nothing done between look and wait is missed.
                changed.as_mut().enable();
                if let Some(entry) = self.shared.with(|s| s.log.iter().find(|entry| wanted(entry)).cloned()) {
                    return entry;
                }
                changed.await;
            }
        };
        tokio::time::timeout(deadline, look).await.ok()
    }

    /// How many requests of each verb and kind ([`RequestInfo::kind`]) came in, those refused included.
    pub fn counts(&self) -> BTreeMap<(Verb, String), u64> {
        self.shared.with(|s| s.counts.clone())
    }

    /// How many requests of one verb and kind came in.
    pub fn count(&self, verb: Verb, kind: &str) -> u64 {
        self.shared.with(|s| s.counts.get(&(verb, kind.to_owned())).copied().unwrap_or(0))
    }

    /// How many requests came in that may change something.
    pub fn mutating(&self) -> u64 {
        self.shared.with(|s| s.counts.iter().filter(|((v, _), _)| v.mutates()).map(|(_, n)| n).sum())
    }

    /// What the deny-list refused.
    pub fn forbidden(&self) -> Vec<(RequestInfo, Forbidden)> {
        let found = |entry: &LogEntry| match &entry.effect {
            Effect::Acted(Act::Forbid(what)) => Some((entry.info.clone(), what.clone())),
            _ => None,
        };
        self.shared.with(|s| s.log.iter().filter_map(found).collect())
    }

    /// # Panics
    /// If the deny-list refused anything; the message lists it.
    pub fn assert_no_forbidden(&self) {
        let list: Vec<String> = self.forbidden().iter().map(|(info, what)| format!("  {info}: {what}")).collect();
        assert!(list.is_empty(), "requests that no controller may make:\n{}", list.join("\n"));
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        self.ended.cancel();
        self.shared.with(|s| s.watches.values().for_each(|w| w.cut.cancel()));
    }
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16()});
    net::plain(code, "application/json", body.to_string())
}

fn answer(what: Answer) -> Response<Body> {
    let said = |code, reason| status(code, reason, "answered by the fault proxy");
    match what {
        Answer::Conflict => said(StatusCode::CONFLICT, "Conflict"),
        Answer::TooManyRequests { retry_after } => {
            let mut response = said(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
            response
        }
        Answer::InternalError => said(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Answer::Unavailable => said(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        Answer::GatewayTimeoutAfterCommit => said(StatusCode::GATEWAY_TIMEOUT, "Timeout"),
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Outcome {
    let (mut parts, incoming) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut info = RequestInfo::parse(parts.method.as_str(), &target);
    net::strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(header::HOST);
    if matches!(shared.upstream.identity, Identity::Certificate { .. }) {
        parts.headers.remove(header::AUTHORIZATION);
    }
    let Ok(body) = Limited::new(incoming, MAX_WRITE).collect().await.map(http_body_util::Collected::to_bytes) else {
        return Some(status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "body broken or too large for the fault proxy",
        ));
    };
    if info.verb.mutates() {
        let current =
            if deny_list::needs_current(&info) { current(&shared, &info, &parts.headers).await } else { None };
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        info.forbidden = deny_list::judge(&shared.list, &info, content_type, &body, current.as_ref());
    }
    // One lock for counting and deciding: the n-th request is one request, however many come at once.
    let decision = shared.with(|s| {
        *s.counts.entry((info.verb, info.kind())).or_insert(0) += 1;
        let decision = decide(&s.rules, &info, &s.counters);
        s.counters.apply(&decision);
        decision
    });
    for rule in &decision.delays {
        shared.note(Some(*rule), &info, Effect::Delayed);
    }
    if !decision.delay.is_zero() {
        tokio::time::sleep(decision.delay).await;
    }
    let forward = || send(&shared, parts.method.clone(), &target, parts.headers.clone(), body.clone());
    let act = decision.act.clone();
    match act {
        Act::Forward => {
            let response = forward().await?;
            Some(if info.verb == Verb::Watch && response.status().is_success() {
                stream(shared.clone(), info, response)
            } else {
                response.map(|b| b.map_err(BoxError::from).boxed_unsync())
            })
        }
        Act::Refuse(rule) => {
            shared.note(Some(rule), &info, Effect::Acted(act));
            None
        }
        Act::Forbid(ref what) => {
            let message = format!("the fault proxy's deny-list: {what}");
            shared.note(None, &info, Effect::Acted(act));
            Some(status(StatusCode::FORBIDDEN, "Forbidden", &message))
        }
        Act::StopBefore(rule) => {
            shared.note(Some(rule), &info, Effect::Acted(act));
            cut_all(&shared);
            None
        }
        Act::StopAfter(rule) => {
            let _ = forward().await?.into_body().collect().await;
            shared.note(Some(rule), &info, Effect::Acted(act));
            cut_all(&shared);
            None
        }
        Act::Answer(rule, what) => {
            shared.note(Some(rule), &info, Effect::Acted(act));
            Some(answer(what))
        }
        Act::ForwardThenAnswer(rule, what) => {
            let _ = forward().await?.into_body().collect().await;
            shared.note(Some(rule), &info, Effect::Acted(act));
            Some(answer(what))
        }
        Act::OldVersion(rule) => {
            let key = (rule, format!("{} {target}", parts.method));
            let kept = shared.with(|s| s.records.get(&key).cloned());
            let (record, effect) = if let Some(record) = kept {
                (record, Effect::Acted(act))
            } else {
                let (head, body) = forward().await?.into_parts();
                let body = body.collect().await.ok()?.to_bytes();
                let record = Record { status: head.status, headers: head.headers, body };
                if record.status.is_success() || record.status == StatusCode::NOT_FOUND {
                    shared.with(|s| s.records.insert(key, record.clone()));
                }
                (record, Effect::Recorded)
            };
            shared.note(Some(rule), &info, effect);
            let mut response = Response::new(net::full(record.body));
            *response.status_mut() = record.status;
            *response.headers_mut() = record.headers;
            Some(response)
        }
    }
}

fn cut_all(shared: &Shared) {
    shared.with(|s| std::mem::take(&mut s.watches)).into_values().for_each(|w| w.cut.cancel());
}

/// Forwards; `None` when the server cannot be reached: the client then sees a closed connection, as it would without a proxy.
async fn send(
    shared: &Shared,
    method: Method,
    target: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Option<Response<Incoming>> {
    let mut request = Request::new(net::full(body));
    *request.method_mut() = method;
    *request.uri_mut() = format!("{}{target}", shared.base).parse().ok()?;
    *request.headers_mut() = headers;
    let mut response = shared.client.request(request).await.ok()?;
    net::strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = http::Version::default();
    Some(response)
}

/// The object that a write is about, read with the writer's own rights.
async fn current(shared: &Shared, info: &RequestInfo, headers: &HeaderMap) -> Option<Value> {
    let path = info.target.split('?').next()?;
    let mut own = HeaderMap::new();
    own.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        own.insert(header::AUTHORIZATION, token.clone());
    }
    let response = send(shared, Method::GET, path, own, Bytes::new()).await?;
    if !response.status().is_success() {
        return None;
    }
    serde_json::from_slice(&response.into_body().collect().await.ok()?.to_bytes()).ok()
}

/// A watch's answer, event by event, until either side ends it or it is cut.
fn stream(shared: Arc<Shared>, info: RequestInfo, response: Response<Incoming>) -> Response<Body> {
    let (mut parts, mut upstream) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(16);
    let cut = CancellationToken::new();
    let id = shared.with(|s| {
        s.next += 1;
        s.watches.insert(s.next, OpenWatch { info: info.clone(), cut: cut.clone() });
        // A stop may have tripped since this request was decided on.
        if s.counters.tripped().is_some() {
            cut.cancel();
        }
        s.next
    });
    let version = info.query("resourceVersion").unwrap_or_default();
    let start = if info.query("sendInitialEvents").as_deref() == Some("true") {
        WatchStart::Initial
    } else if version.is_empty() || version == "0" {
        WatchStart::Any
    } else {
        WatchStart::At
    };
    let mut filter = Filter::new(start, shared.lost.clone());
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                () = cut.cancelled() => {
                    let _ = sender.send(Err(ConnectionCut.into())).await;
                    break;
                }
                () = sender.closed() => break,
                frame = upstream.frame() => frame,
            };
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    let _ = sender.send(Err(error.into())).await;
                    break;
                }
                None => {
                    let rest = filter.finish();
                    if !rest.is_empty() {
                        let _ = sender.send(Ok(Frame::data(rest))).await;
                    }
                    break;
                }
            };
            // Rules are looked up per event, so that one set later hides events of a watch that is already open.
            let rules: Vec<(RuleId, EventMatch)> = shared.with(|s| hiding(&s.rules, &info));
            let events: Vec<EventMatch> = rules.iter().map(|(_, e)| e.clone()).collect();
            for line in filter.push(&data, &events) {
                match line {
                    Line::Pass(bytes) => {
                        if sender.send(Ok(Frame::data(bytes))).await.is_err() {
                            break;
                        }
                    }
                    Line::Hidden(rule, event) => {
                        shared.note(rules.get(rule).map(|(id, _)| *id), &info, Effect::Hidden(event));
                    }
                    Line::StillLost(event) => shared.note(None, &info, Effect::StillLost(event)),
                }
            }
        }
        shared.with(|s| s.watches.remove(&id));
    });
    let frames = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|f| (f, r)) });
    Response::from_parts(parts, StreamBody::new(frames.boxed()).boxed_unsync())
}

fn hiding(rules: &Rules, info: &RequestInfo) -> Vec<(RuleId, EventMatch)> {
    let hides = |(id, rule): (&RuleId, &Rule)| match rule {
        Rule::HideEvents { which, events } => which.matches(info).then(|| (*id, events.clone())),
        Rule::StopAt { .. } | Rule::Answer { .. } | Rule::Delay { .. } | Rule::OldVersion { .. } => None,
    };
    rules.iter().filter_map(hides).collect()
}
