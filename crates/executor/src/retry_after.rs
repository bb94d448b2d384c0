//! `Retry-After`, as the API server (or what stands before it) says it. kube makes an error of an answer's body alone, so
//! that its headers are seen on their way, by a service around the client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, StatusCode, header};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Service};

use crate::backoff::{LONGEST_PAUSE, later};

/// Until when a server asked not to be asked; shared by all clients of one control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<Option<Instant>>>);

impl Asked {
    /// How long is left of it, at most [`LONGEST_PAUSE`]; zero when it asked for nothing.
    pub(crate) fn left(&self) -> Duration {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn note(&self, pause: Duration) {
        let until = Instant::now().checked_add(later(pause));
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = (*noted).max(until);
    }

    /// A client that takes note of what its server asks for.
    pub(crate) fn by(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        Client::new(Noting { client, asked: self.clone() }, namespace)
    }
}

/// The pause that an answer asks for, in seconds or as a date; one that asks for more than [`LONGEST_PAUSE`] gets that.
fn wanted(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST_PAUSE,
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[derive(Clone)]
struct Noting {
    client: Client,
    asked: Asked,
}

impl Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each request waits for the client's readiness by itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { client, asked } = self.clone();
        Box::pin(async move {
            let answer = client.send(request).await?;
            if let Some(pause) = wanted(answer.status(), answer.headers(), Timestamp::now()) {
                tracing::debug!(status = %answer.status(), ?pause, "the API server asks for a pause");
                asked.note(pause);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_pause_is_taken_in_both_spellings_from_refusals_alone_and_never_longer_than_the_longest() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let asked = |code: u16, text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            wanted(StatusCode::from_u16(code).unwrap(), &headers, now).map(|pause| pause.as_secs())
        };
        for (code, text, expected) in [
            (429, "1", Some(1)),
            (503, " 7 ", Some(7)),
            (500, "0", Some(0)),
            (429, "3600", Some(10)),
            (429, "99999999999999999999999", Some(10)),
            (503, "Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            (503, "Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            (503, "Mon, 07 Nov 1994 08:49:37 GMT", Some(10)),
            (429, "soon", None),
            (429, "-1", None),
            (429, "", None),
            (200, "5", None),
            (301, "5", None),
        ] {
            assert_eq!(asked(code, text), expected, "{code} {text:?}");
        }
        assert_eq!(wanted(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), now), None);
    }

    #[test]
    fn a_shorter_wish_does_not_end_a_longer_one() {
        let asked = Asked::default();
        assert_eq!(asked.left(), Duration::ZERO);
        asked.note(Duration::from_secs(8));
        asked.note(Duration::from_secs(1));
        assert!(asked.left() > Duration::from_secs(6) && asked.left() <= LONGEST_PAUSE, "{asked:?}");
    }
}
