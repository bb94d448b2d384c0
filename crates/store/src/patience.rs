//! How long a store may be silent. Of a download the last byte counts that came, not when the request began: a link of
//! 200 KB/s takes 40 seconds for 8 MB, and whoever counted from the beginning would begin anew for ever. An upload has
//! the time besides that its bytes take on the slowest link: which of them the other side has, only the kernel knows.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{Method, request};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use object_store::PutPayload;
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequestBody, HttpResponse, HttpResponseBody};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

/// Google's condition of a put; the others have HTTP's own.
const GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// How long a store may be silent, and how a request goes on whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For so long no byte may come before a request is given up whose own bytes may all be there.
    pub silence: Duration,
    /// A link is no slower than so many bytes in a second for a request: so long its own bytes may be on their way.
    pub slowest: u64,
    /// How often in a row a download goes on without a further byte.
    pub fruitless: u32,
    /// An upload that was under way for longer when its connection broke is made again at once. The client's own retries
    /// count from its beginning, and would be over.
    pub long: Duration,
    /// ... and so often at most.
    pub repeats: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            slowest: 64 << 10,
            fruitless: 5,
            long: Duration::from_secs(5),
            repeats: 8,
        }
    }
}

impl Patience {
    /// For how long no answer may come to so many bytes.
    fn for_an_answer_to(&self, bytes: u64) -> Duration {
        self.silence + Duration::from_secs(bytes / self.slowest.max(1))
    }
}

/// Nothing came for too long.
#[derive(Debug)]
struct Silent(Duration);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store was silent for {} s: no byte came", self.0.as_secs_f64())
    }
}

impl std::error::Error for Silent {}

fn silent(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Silent(limit))
}

/// Makes a request, and waits for its answer as long as its bytes may take.
pub(crate) async fn execute(
    client: &HttpClient,
    runtime: &Handle,
    patience: Patience,
    request: object_store::client::HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let (parts, body) = request.into_parts();
    let content = Content::of(body).await?;
    let mut repeats = 0;
    loop {
        let begun = Instant::now();
        let error = match once(client, patience, &parts, &content).await {
            Ok(answer) => return Ok(answer.map(|body| watched(body, runtime, patience.silence))),
            Err(error) => error,
        };
        let broke = !matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Decode);
        if !(broke && is_plain_put(&parts) && begun.elapsed() > patience.long && repeats < patience.repeats) {
            return Err(error);
        }
        repeats += 1;
        tracing::debug!(%error, repeats, "an upload broke off on its way; sending it again");
    }
}

/// Whether a request may be made twice without harm: it is what stands there in the end, whatever the first has done.
fn is_plain_put(parts: &request::Parts) -> bool {
    let conditions = [IF_MATCH.as_str(), IF_NONE_MATCH.as_str(), GENERATION_MATCH];
    parts.method == Method::PUT && !conditions.iter().any(|condition| parts.headers.contains_key(*condition))
}

/// A body's bytes; they are not copied.
enum Content {
    /// A document, whose length the connection tells by itself.
    Document(Bytes),
    /// An object's content, whose length stands in a header.
    Object(Vec<Bytes>),
}

impl Content {
    async fn of(mut body: HttpRequestBody) -> Result<Self, HttpError> {
        if let Some(whole) = body.as_bytes() {
            return Ok(Self::Document(whole.clone()));
        }
        let mut content = Vec::new();
        while let Some(frame) = body.frame().await {
            content.extend(frame?.into_data());
        }
        Ok(Self::Object(content))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Document(bytes) => bytes.len(),
            Self::Object(parts) => parts.iter().map(Bytes::len).sum(),
        }
    }

    fn body(&self) -> HttpRequestBody {
        match self {
            Self::Document(bytes) => bytes.clone().into(),
            Self::Object(parts) => parts.iter().cloned().collect::<PutPayload>().into(),
        }
    }
}

async fn once(
    client: &HttpClient,
    patience: Patience,
    parts: &request::Parts,
    content: &Content,
) -> Result<HttpResponse, HttpError> {
    let limit = patience.for_an_answer_to(content.bytes() as u64);
    let answer = client.execute(http::Request::from_parts(parts.clone(), content.body()));
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(silent(limit)))
}

fn watched(body: HttpResponseBody, runtime: &Handle, silence: Duration) -> HttpResponseBody {
    HttpResponseBody::new(Watched { body, runtime: runtime.clone(), silence, waits: None })
}

/// The body of an answer, whose next byte comes in time.
struct Watched {
    body: HttpResponseBody,
    /// Where its timer lives: whoever reads may have a runtime without timers, or one that is driven now and then.
    runtime: Handle,
    silence: Duration,
    /// Runs while a byte is waited for: a reader that takes its time is no silence of the store's.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Self { body, runtime, silence, waits } = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            *waits = None;
            return Poll::Ready(frame);
        }
        let _entered = runtime.enter();
        let sleep = waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(*silence)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => {
                *waits = None;
                Poll::Ready(Some(Err(silent(*silence))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
