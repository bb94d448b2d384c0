//! The child's side of the socket: the control plane, as an executor of a local run sees it.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use indexbuild_api::{Claim, Report};
use indexbuild_executor::backoff::Pace;
use indexbuild_executor::control::StageRead;
use indexbuild_executor::{ContactError, ControlPlane, WriteError};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::Record;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::protocol::{Answer, PROTOCOL_VERSION, Request, RequestBody, receive, send};

/// How long one call may take. A parent that is there answers within milliseconds; one that is cut
/// off never does.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Speaks to the parent of a local run. It holds no connection between calls: the next parent on
/// the same path is found without anybody telling.
#[derive(Clone, Debug)]
pub struct ParentClient {
    socket: PathBuf,
    pod_uid: String,
    limit: Duration,
}

impl ParentClient {
    /// A client for the pod `pod_uid` of the parent that answers on `socket`.
    #[must_use]
    pub fn new(socket: PathBuf, pod_uid: String) -> Self {
        Self { socket, pod_uid, limit: CALL_LIMIT }
    }

    /// With another limit for each call.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    async fn call(&self, ask: RequestBody, limit: Duration) -> Result<Answer, ContactError> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            let request = Request { version: PROTOCOL_VERSION, pod_uid: self.pod_uid.clone(), ask };
            send(&mut stream, &request).await?;
            receive(&mut stream).await
        };
        match timeout(limit, exchange).await {
            Ok(Ok(Answer::Unknown { message })) => Err(ContactError::Refused(message)),
            Ok(Ok(Answer::Failed { message })) => Err(ContactError::Unreachable(message)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ContactError::Unreachable(format!("{}: {error}", self.socket.display()))),
            Err(_) => Err(ContactError::Unreachable(format!("{}: no answer within {limit:?}", self.socket.display()))),
        }
    }

    async fn write(&self, ask: RequestBody) -> Result<(), WriteError> {
        match self.call(ask, self.limit).await? {
            Answer::Done => Ok(()),
            Answer::Refused { message } => Err(WriteError::Refused(message)),
            Answer::Conflict => Err(WriteError::Conflict),
            other @ (Answer::Record(_) | Answer::Stage(_) | Answer::Unknown { .. } | Answer::Failed { .. }) => {
                Err(WriteError::Contact(odd(&other)))
            }
        }
    }
}

fn odd(answer: &Answer) -> ContactError {
    ContactError::Unreachable(format!("the parent answered something else than was asked: {answer:?}"))
}

#[async_trait]
impl ControlPlane for ParentClient {
    async fn record(&self) -> Result<Option<Record>, ContactError> {
        match self.call(RequestBody::Record, self.limit).await? {
            Answer::Record(record) => Ok(record.map(|record| *record)),
            other => Err(odd(&other)),
        }
    }

    async fn changed(&self, version: &str, within: Duration) -> Result<(), ContactError> {
        // Never less than was asked for: an answer before its time would be one that tells of a change.
        let within_ms = u64::try_from(within.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
        let ask = RequestBody::Changed { version: version.to_owned(), within_ms };
        match self.call(ask, self.limit.saturating_add(within)).await? {
            Answer::Done => Ok(()),
            other => Err(odd(&other)),
        }
    }

    async fn claim(&self, claim: Claim) -> Result<(), WriteError> {
        self.write(RequestBody::Claim(claim)).await
    }

    async fn report(&self, report: Report) -> Result<(), WriteError> {
        self.write(RequestBody::Report(Box::new(report))).await
    }

    async fn release(&self, word: LastWord) -> Result<(), WriteError> {
        self.write(RequestBody::Release(word)).await
    }

    async fn stage(&self, name: &str) -> Result<Option<StageRead>, ContactError> {
        match self.call(RequestBody::Stage { name: name.to_owned() }, self.limit).await? {
            Answer::Stage(stage) => Ok(stage.map(StageRead::said)),
            other => Err(odd(&other)),
        }
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }
}
