use std::io;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;

use crate::ca::CaCertificates;

/// Makes the HTTP clients of stores. Give it to each store's builder (`with_http_connector`).
#[derive(Clone, Debug)]
pub struct Connector {
    runtime: Handle,
    ca: CaCertificates,
}

impl Connector {
    /// A connector whose connections live on [`runtime`](crate::runtime()), to servers that the system's CA certificates or
    /// one of `ca` vouches for.
    ///
    /// # Errors
    /// As [`runtime`](crate::runtime()).
    pub fn new(ca: CaCertificates) -> io::Result<Self> {
        Ok(Self { runtime: crate::runtime()?.clone(), ca })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let Self { runtime, ca } = self;
        let client = ReqwestConnector::default().connect(&ca.added_to(options.clone())?)?;
        Ok(HttpClient::new(OnRuntime { client, runtime: runtime.clone() }))
    }
}

/// A client whose requests are made on a runtime, whoever polls them: what they start (the connection and the task that
/// drives it, timers) belongs to that one.
#[derive(Debug)]
struct OnRuntime {
    client: HttpClient,
    runtime: Handle,
}

#[async_trait]
impl HttpService for OnRuntime {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        TokioContext::new(self.client.execute(request), self.runtime.clone()).await
    }
}
