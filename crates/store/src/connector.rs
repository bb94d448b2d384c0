use std::io;

use async_trait::async_trait;
use object_store::ClientConfigKey;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;

use crate::ca::CaCertificates;
use crate::listed::{is_list, readable};
use crate::patience::{Patience, execute};

/// Makes the HTTP clients of stores. Give it to each store's builder (`with_http_connector`).
#[derive(Clone, Debug)]
pub struct Connector {
    runtime: Handle,
    ca: CaCertificates,
    patience: Patience,
}

impl Connector {
    /// A connector whose connections live on [`runtime`](crate::runtime()), to servers that the system's CA certificates or
    /// one of `ca` vouches for.
    ///
    /// # Errors
    /// As [`runtime`](crate::runtime()).
    pub fn new(ca: CaCertificates) -> io::Result<Self> {
        Ok(Self { runtime: crate::runtime()?.clone(), ca, patience: Patience::default() })
    }

    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let Self { runtime, ca, patience } = self;
        let mut options = ca.added_to(options.clone())?;
        // The library's own limit counts from a request's beginning, however well its bytes move. One that somebody asked for
        // stays.
        let limit = |options: &ClientOptions| options.get_config_value(&ClientConfigKey::Timeout);
        if limit(&options) == limit(&ClientOptions::default()) {
            options = options.with_timeout_disabled();
        }
        let client = ReqwestConnector::default().connect(&options)?;
        Ok(HttpClient::new(OnRuntime { client, runtime: runtime.clone(), patience: *patience }))
    }
}

/// A client whose requests are made on a runtime, whoever polls them: what they start (the connection and the task that
/// drives it, timers) belongs to that one.
#[derive(Debug)]
struct OnRuntime {
    client: HttpClient,
    runtime: Handle,
    patience: Patience,
}

#[async_trait]
impl HttpService for OnRuntime {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Self { client, runtime, patience } = self;
        let asked = async {
            let (parts, body) = request.into_parts();
            let lists = is_list(&parts);
            let answer = execute(client, runtime, *patience, HttpRequest::from_parts(parts, body)).await?;
            if !(lists && answer.status().is_success()) {
                return Ok(answer);
            }
            let (parts, body) = answer.into_parts();
            Ok::<_, HttpError>(HttpResponse::from_parts(parts, readable(body.bytes().await?).into()))
        };
        TokioContext::new(asked, runtime.clone()).await
    }
}
