//! The proxy before an S3 store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{self, Body, BoxError, ConnectionCut, Identity, Outcome, ProxyError, Upstream, UpstreamClient},
    rule_handle::{RuleHandle, RuleKeeper},
    rules::RuleId,
    store_rules::{StoreEffect, StoreRequest, StoreRule, decide},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLogEntry {
    pub rule: RuleId,
    pub info: StoreRequest,
    pub effect: StoreEffect,
    /// The store's own status code, where it was asked and its answer withheld.
    pub withheld: Option<u16>,
}

#[derive(Default)]
struct State {
    rules: BTreeMap<RuleId, StoreRule>,
    matched: BTreeMap<RuleId, u64>,
    next: u64,
    log: Vec<StoreLogEntry>,
    counts: BTreeMap<String, u64>,
}

struct Shared {
    state: Mutex<State>,
    base: String,
    client: UpstreamClient,
}

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RuleKeeper for Shared {
    fn lift(&self, rule: RuleId) {
        self.with(|s| {
            s.rules.remove(&rule);
            s.matched.remove(&rule);
        });
    }

    fn fired(&self, rule: RuleId) -> u64 {
        self.with(|s| s.log.iter().filter(|entry| entry.rule == rule).count() as u64)
    }
}

/// A proxy before an S3 store. Dropping it closes every connection.
pub struct StoreProxy {
    shared: Arc<Shared>,
    url: String,
    ended: CancellationToken,
}

impl StoreProxy {
    /// Starts on a free port of 127.0.0.1 before the store at `url` (`http://host:port`).
    ///
    /// # Errors
    /// [`ProxyError`] for an address that cannot be used, or when there is no free port.
    pub async fn start(url: &str) -> Result<Self, ProxyError> {
        let base = url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(ProxyError::Address(base));
        }
        let upstream = Upstream { url: base.clone(), ca_pem: None, identity: Identity::PassThrough };
        let client = net::upstream_client(&upstream)?;
        let (listener, address) = net::listen().await?;
        let shared = Arc::new(Shared { state: Mutex::default(), base, client });
        let ended = CancellationToken::new();
        let handler = {
            let shared = shared.clone();
            move |request| handle(shared.clone(), request)
        };
        tokio::spawn(net::serve(listener, None, ended.clone(), handler));
        Ok(Self { shared, url: format!("http://{address}"), ended })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds a rule; it is in force until its handle is lifted or dropped.
    pub fn add_rule(&self, rule: StoreRule) -> RuleHandle {
        let id = self.shared.with(|s| {
            s.next += 1;
            s.rules.insert(RuleId(s.next), rule);
            RuleId(s.next)
        });
        RuleHandle { rule: id, keeper: self.shared.clone() }
    }

    /// Everything that was done to requests, in order.
    pub fn log(&self) -> Vec<StoreLogEntry> {
        self.shared.with(|s| s.log.clone())
    }

    /// How many requests came in, by HTTP method.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.with(|s| s.counts.clone())
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Outcome {
    let (mut parts, incoming) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let info = StoreRequest::parse(parts.method.as_str(), &target);
    let act = shared.with(|s| {
        *s.counts.entry(parts.method.to_string()).or_insert(0) += 1;
        let (counted, act) = decide(&s.rules, &info, &s.matched);
        for rule in counted {
            *s.matched.entry(rule).or_insert(0) += 1;
        }
        act
    });
    let note = |withheld| {
        if let Some((rule, effect)) = act {
            shared.with(|s| s.log.push(StoreLogEntry { rule, info: info.clone(), effect, withheld }));
        }
    };
    net::strip_hop_by_hop(&mut parts.headers);
    // Host stays as it came: the client signed it. The address that is connected to is in the URI.
    parts.uri = format!("{}{target}", shared.base).parse().ok()?;
    parts.version = http::Version::HTTP_11;
    let upload = parts.method == http::Method::PUT;
    let effect = act.map(|(_, effect)| effect);
    if effect == Some(StoreEffect::SlowDown) {
        // Taken in first, so that a client that writes before it reads gets the answer and no broken pipe.
        let _ = incoming.collect().await;
        note(None);
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        return Some(net::plain(StatusCode::SERVICE_UNAVAILABLE, "application/xml", body.to_owned()));
    }
    let body = match effect {
        Some(StoreEffect::CutAfter(most)) if upload => cut_after(incoming, most),
        _ => incoming.map_err(BoxError::from).boxed_unsync(),
    };
    let answered = shared.client.request(Request::from_parts(parts, body)).await;
    if let Some(StoreEffect::CutAfter(_)) = effect
        && upload
    {
        note(answered.ok().map(|r| r.status().as_u16()));
        return None;
    }
    let mut response = answered.ok()?;
    net::strip_hop_by_hop(response.headers_mut());
    match effect {
        Some(StoreEffect::LoseReply) => {
            let status = response.status().as_u16();
            let _ = response.into_body().collect().await;
            note(Some(status));
            None
        }
        Some(StoreEffect::CutAfter(most)) => {
            note(Some(response.status().as_u16()));
            Some(response.map(|b| cut_after(b, most)))
        }
        Some(StoreEffect::SlowDown) | None => Some(response.map(|b| b.map_err(BoxError::from).boxed_unsync())),
    }
}

/// The first bytes of a body, then an error: whoever sends it on closes the connection.
fn cut_after(body: Incoming, most: u64) -> Body {
    let frames = futures::stream::unfold(Some((body, most)), |state| async move {
        let (mut body, left) = state?;
        if left == 0 {
            return Some((Err(ConnectionCut.into()), None));
        }
        let frame: Result<Frame<Bytes>, BoxError> = match body.frame().await? {
            Ok(frame) => match frame.into_data() {
                Ok(data) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    return Some((Ok(Frame::data(data.slice(..take))), Some((body, left - take as u64))));
                }
                Err(trailers) => Ok(trailers),
            },
            Err(error) => Err(error.into()),
        };
        Some((frame, Some((body, left))))
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}
