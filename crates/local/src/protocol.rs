//! What a child says to its parent over the unix socket, and what the parent answers.
//!
//! One connection carries one request and its answer, a line of JSON each: a call that is given up
//! leaves nothing behind that a later answer could be mistaken for, and a connection that outlived
//! its parent cannot reach the next one. Opening one costs some microseconds.

use std::io;

use indexbuild_api::{Claim, Report};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::{Record, Stage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// The version of the protocol; a parent refuses a child that speaks another.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// The longest line either side reads, in bytes: a stage of 1,000 works is some 300 KiB.
const MAX_LINE: u64 = 16 << 20;

/// One call of a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Request {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Which pod speaks. The parent checks it against the process at the other end.
    pub pod_uid: String,
    pub ask: RequestBody,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum RequestBody {
    Record,
    /// An answer as soon as the record is no longer at this version.
    Changed {
        /// The version that the child knows.
        version: String,
        /// How long to wait at most, in milliseconds.
        within_ms: u64,
    },
    Claim(Claim),
    Report(Box<Report>),
    /// Its last word: it has closed everything of its volume.
    Release(LastWord),
    /// A stage's frozen choices.
    Stage {
        name: String,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Answer {
    Record(Option<Box<Record>>),
    Stage(Option<Stage>),
    /// The write was taken, or the wait is over.
    Done,
    Refused {
        message: String,
    },
    Conflict,
    /// The caller is not known: what a refused token is on a cluster.
    Unknown {
        message: String,
    },
    /// The parent could not do it; the outcome of a write is open.
    Failed {
        message: String,
    },
}

pub(crate) async fn send<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

/// Reads one line.
///
/// # Errors
/// Those of the connection; `UnexpectedEof` when it ends before the line does; `InvalidData` for
/// what is not understood.
pub(crate) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(from.take(MAX_LINE)).read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the message did"));
    }
    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_arrives_whole_or_not_at_all() {
        let (mut here, mut there) = tokio::io::duplex(16);
        let request = Request {
            version: PROTOCOL_VERSION,
            pod_uid: "a\nb".to_owned(),
            ask: RequestBody::Changed { version: "17".to_owned(), within_ms: 250 },
        };
        let sent = request.clone();
        let sender = tokio::spawn(async move { send(&mut here, &sent).await });
        let got: Request = receive(&mut there).await.unwrap();
        assert_eq!(serde_json::to_value(&got).unwrap(), serde_json::to_value(&request).unwrap());
        sender.await.unwrap().unwrap();

        let (mut here, mut there) = tokio::io::duplex(1 << 10);
        here.write_all(br#"{"version":1,"podUid":"x","ask":"record"}"#).await.unwrap();
        drop(here);
        let error = receive::<Request>(&mut there).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_an_error_of_its_own() {
        let (mut here, mut there) = tokio::io::duplex(1 << 10);
        here.write_all(b"{\"version\":1,\"podUid\":\"x\",\"ask\":{\"delete\":{}}}\n").await.unwrap();
        let error = receive::<Request>(&mut there).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
