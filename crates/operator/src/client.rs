//! The way to the Kubernetes API: nothing on it waits for ever, and every request is counted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Service};

use crate::metrics::{Code, Metrics, Verb};
use crate::shallow::shallow;

/// How long connecting may take, name resolution and TLS included.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long the API server may be silent in the middle of an ordinary call.
pub const READ: Duration = Duration::from_secs(30);
/// After how long the API server is asked to end a watch (`caches.rs`). One that goes silent unnoticed (a cut without a
/// reset) then hides events for about a minute, and not for the five of the default.
pub(crate) const WATCH_SECONDS: u32 = 60;
/// How long a watch may be silent: longer than it lives, so that this ends only those whose server is gone.
pub const WATCH_READ: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 15);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no access to a Kubernetes API: neither a kubeconfig (KUBECONFIG, ~/.kube/config) nor a service account of a \
         pod was found; set KUBECONFIG, or run in a pod"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    #[error("the configuration for the Kubernetes API at {url} cannot be used")]
    Client {
        url: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client by the configuration that is found: a kubeconfig, or the pod's service account.
///
/// # Errors
/// No configuration, or one that cannot be used.
pub async fn client(metrics: &Metrics) -> Result<Client, ClientError> {
    let config = Config::infer().await.map_err(|error| ClientError::Config(Box::new(error)))?;
    client_for(config, metrics)
}

/// A client by this configuration, with the timeouts of this module.
///
/// # Errors
/// A configuration that cannot be used.
pub fn client_for(config: Config, metrics: &Metrics) -> Result<Client, ClientError> {
    with_limits(config, metrics, READ, WATCH_READ)
}

fn with_limits(
    mut config: Config,
    metrics: &Metrics,
    read: Duration,
    watch_read: Duration,
) -> Result<Client, ClientError> {
    let url = config.cluster_url.to_string();
    let failed = |source| ClientError::Client { url: url.clone(), source: Box::new(source) };
    let agent = concat!("indexbuild-operator/", env!("CARGO_PKG_VERSION"));
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(agent)));
    // kube's own retries repeat a POST for minutes after a 503 or 504 that may have taken effect; the passes of the
    // controller look first and then repeat.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(read);
    config.read_timeout = Some(read);
    // Else the time that a connection sat in the pool counts as silence of the server.
    config.reset_reader_on_write = true;
    let mut watching = config.clone();
    watching.read_timeout = Some(watch_read);
    let namespace = config.default_namespace.clone();
    let made = |config| ClientBuilder::try_from(config).map(ClientBuilder::build).map_err(failed);
    let (ordinary, watching) = (made(config)?, made(watching)?);
    let valid_until = *ordinary.valid_until();
    let counted = Counted { ordinary, watching, metrics: metrics.clone() };
    Ok(ClientBuilder::new(counted, namespace).with_valid_until(valid_until).build())
}

/// The body of an answer, cut where it is too deep.
type ShallowBody = UnsyncBoxBody<Bytes, kube::Error>;

/// Counts requests, takes note of the time that answers tell, and sends watches by connections of their own: how long silence is allowed is a property of a
/// connection, and a watch is rightly silent for longer than an answer.
#[derive(Clone)]
struct Counted {
    ordinary: Client,
    watching: Client,
    metrics: Metrics,
}

impl Service<Request<Body>> for Counted {
    type Response = Response<ShallowBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ShallowBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = Call::of(request.method(), request.uri());
        let client = if what.verb == Verb::Watch { self.watching.clone() } else { self.ordinary.clone() };
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let answer = client.send(request).await;
            let code = answer.as_ref().map_or(Code::None, |response| Code::Status(response.status().as_u16()));
            metrics.api_request(what.verb, &what.kind, code);
            if let Ok(response) = &answer {
                metrics.answered(response.headers());
            }
            answer.map(shallow).map_err(BoxError::from)
        })
    }
}

/// What a request is about, without names of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    verb: Verb,
    /// The resource's plural, with its subresource (`pods`, `enginedirectories/status`); `-` for what is no resource.
    kind: String,
}

impl Call {
    fn of(method: &Method, uri: &Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let (kind, named) = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => resource(rest),
            _ => ("-".to_owned(), true),
        };
        let watches = || {
            let query = uri.query().unwrap_or_default();
            query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
        };
        let verb = match *method {
            Method::GET if watches() => Verb::Watch,
            Method::GET | Method::HEAD if named => Verb::Get,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if named => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => Verb::Other,
        };
        Self { verb, kind }
    }
}

/// The kind that the end of a path names, and whether it names one object.
fn resource(path: &[&str]) -> (String, bool) {
    match path {
        [] => ("-".to_owned(), true),
        ["namespaces"] => ("namespaces".to_owned(), false),
        ["namespaces", _] => ("namespaces".to_owned(), true),
        // Two parts below a namespace's name are its own subresources.
        ["namespaces", _, sub @ ("status" | "finalize")] => (format!("namespaces/{sub}"), true),
        ["namespaces", _, rest @ ..] => resource_of(rest),
        rest => resource_of(rest),
    }
}

fn resource_of(path: &[&str]) -> (String, bool) {
    match path {
        [] => ("-".to_owned(), true),
        [kind] => ((*kind).to_owned(), false),
        [kind, _] => ((*kind).to_owned(), true),
        [kind, _, sub, ..] => (format!("{kind}/{sub}"), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_verb_and_kind_and_never_by_names() {
        let core = "/api/v1";
        let own = "/apis/indexbuild.dev/v1alpha1/namespaces/shop";
        for (method, path, verb, kind) in [
            (Method::GET, format!("{core}/pods?limit=500"), Verb::List, "pods"),
            (Method::GET, format!("{core}/pods?&watch=true&timeoutSeconds=60"), Verb::Watch, "pods"),
            (Method::GET, format!("{core}/namespaces/shop/pods/secret-name"), Verb::Get, "pods"),
            (Method::GET, format!("{core}/namespaces/shop/pods/secret-name/log"), Verb::Get, "pods/log"),
            (Method::GET, format!("{core}/nodes/node1"), Verb::Get, "nodes"),
            (Method::GET, format!("{core}/namespaces"), Verb::List, "namespaces"),
            (Method::GET, format!("{core}/namespaces/shop"), Verb::Get, "namespaces"),
            (Method::PATCH, format!("{own}/enginedirectories/a/status"), Verb::Patch, "enginedirectories/status"),
            (Method::POST, format!("{own}/enginedirectories"), Verb::Create, "enginedirectories"),
            (Method::DELETE, format!("{own}/enginedirectories/a"), Verb::Delete, "enginedirectories"),
            (Method::DELETE, format!("{own}/enginedirectories"), Verb::DeleteCollection, "enginedirectories"),
            (Method::PUT, format!("{own}/indexbuilds/a"), Verb::Update, "indexbuilds"),
            (Method::GET, "/version".to_owned(), Verb::Get, "-"),
            (Method::GET, "/apis".to_owned(), Verb::Get, "-"),
            (Method::GET, "/apis/indexbuild.dev/v1alpha1".to_owned(), Verb::Get, "-"),
        ] {
            let uri: Uri = format!("https://10.96.0.1{path}").parse().unwrap();
            assert_eq!(Call::of(&method, &uri), Call { verb, kind: kind.to_owned() }, "{method} {path}");
        }
    }

    #[test]
    fn a_watch_may_be_silent_for_longer_than_it_lives_and_other_calls_may_not() {
        assert!(WATCH_READ > Duration::from_secs(u64::from(WATCH_SECONDS)));
        assert!(READ < WATCH_READ);
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_counted_and_its_error_stays_what_it_was() {
        let metrics = Metrics::new();
        // Bound and dropped: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
        let client = client_for(config, &metrics).unwrap();
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client, "default");
        let error = pods.get("a").await.unwrap_err();
        assert!(!matches!(error, kube::Error::Api(_)), "{error:?}");
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"indexbuild_api_requests_total{verb="get",kind="pods",code="none"} 1"#), "{text}");
    }

    /// Whoever judges an age asks the clock that wrote its beginning, and not this machine's.
    #[tokio::test]
    async fn the_time_is_that_of_the_servers_answers_and_none_where_they_tell_none() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for (date, year) in
            [("Date: Thu, 01 Jan 2032 12:00:00 GMT\r\n", Some(2032)), ("", None), ("Date: soon\r\n", None)]
        {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 16 << 10];
                let _ = stream.read(&mut request).await;
                let answer = format!("HTTP/1.1 404 Not Found\r\n{date}Content-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let metrics = Metrics::new();
            let client = client_for(Config::new(format!("http://{address}").parse().unwrap()), &metrics).unwrap();
            let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client, "default");
            pods.get("a").await.unwrap_err();
            let told = metrics.server_time().map(|time| time.to_zoned(jiff::tz::TimeZone::UTC).year());
            assert_eq!(told, year, "{date:?}");
        }
    }

    /// kube has no read timeout of its own: <https://github.com/kube-rs/kube/issues/1791>.
    #[tokio::test]
    async fn a_server_that_takes_requests_and_never_answers_is_given_up_on_and_on_watches_later() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let (short, long) = (Duration::from_millis(200), Duration::from_millis(1500));
        let client = with_limits(config, &Metrics::new(), short, long).unwrap();
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client, "default");
        let start = std::time::Instant::now();
        let ordinary = async {
            pods.get("a").await.unwrap_err();
            start.elapsed()
        };
        let watch = async {
            assert!(pods.watch(&kube::api::WatchParams::default(), "0").await.is_err());
            start.elapsed()
        };
        let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(ordinary, watch) });
        let (ordinary, watch) = both.await.expect("neither waits for ever");
        assert!(ordinary >= short && ordinary < long, "{ordinary:?}");
        assert!(watch >= long, "{watch:?}");
    }
}
