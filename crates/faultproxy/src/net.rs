//! What both proxies share: listening, certificates, the client to the upstream server, bodies.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the proxy could not listen on a loopback port; are there free ports?")]
    Listen(#[source] io::Error),
    #[error("the proxy could not make a certificate for itself")]
    Certificate(#[source] rcgen::Error),
    #[error("the proxy could not use a certificate or key; check the CA and identity given for the upstream")]
    Tls(#[source] rustls::Error),
    #[error("the PEM text given as the upstream's {what} cannot be read")]
    Pem {
        what: &'static str,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("the upstream address {0:?} is not of the form http(s)://host:port")]
    Address(String),
}

/// An error inside a body: the connection is closed, the client sees a broken stream.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type UpstreamClient = Client<hyper_rustls::HttpsConnector<HttpConnector>, Body>;

#[derive(Debug, thiserror::Error)]
#[error("cut by the fault proxy")]
pub(crate) struct ConnectionCut;

/// As whom the proxy calls the upstream server.
#[derive(Clone)]
pub enum Identity {
    /// One client certificate for all; a client's token is dropped.
    Certificate { cert_pem: String, key_pem: String },
    /// Nobody: the `Authorization` header is passed on as it came.
    PassThrough,
}

#[derive(Clone)]
pub struct Upstream {
    /// `https://127.0.0.1:6443`; `http://` for a server without TLS.
    pub url: String,
    /// The CA that its certificate is checked against, PEM.
    pub ca_pem: Option<String>,
    pub identity: Identity,
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|e: Infallible| match e {}).boxed_unsync()
}

pub(crate) fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Removes the headers that are about one connection only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

pub(crate) struct OwnTls {
    pub(crate) ca_pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

pub(crate) fn own_tls() -> Result<OwnTls, ProxyError> {
    let make = || -> Result<(String, CertificateDer<'static>, Vec<u8>), rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key)?;
        let issuer = Issuer::from_params(&params, &ca_key);
        let key = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok((ca.pem(), certificate.der().clone(), key.serialize_der()))
    };
    let (ca_pem, certificate, key) = make().map_err(ProxyError::Certificate)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ProxyError::Tls)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .map_err(ProxyError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(OwnTls { ca_pem, acceptor: TlsAcceptor::from(Arc::new(config)) })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The client to the upstream server. It speaks HTTP/1.1: each watch has a connection, which closes with it.
pub(crate) fn upstream_client(upstream: &Upstream) -> Result<UpstreamClient, ProxyError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &upstream.ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|source| ProxyError::Pem { what: "CA", source })?;
            roots.add(certificate).map_err(ProxyError::Tls)?;
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ProxyError::Tls)?
        .with_root_certificates(roots);
    let config = match &upstream.identity {
        Identity::PassThrough => builder.with_no_client_auth(),
        Identity::Certificate { cert_pem, key_pem } => {
            let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| ProxyError::Pem { what: "client certificate", source })?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|source| ProxyError::Pem { what: "client key", source })?;
            builder.with_client_auth_cert(chain, key).map_err(ProxyError::Tls)?
        }
    };
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(5)).build(connector))
}

pub(crate) async fn listen() -> Result<(TcpListener, SocketAddr), ProxyError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ProxyError::Listen)?;
    let address = listener.local_addr().map_err(ProxyError::Listen)?;
    Ok((listener, address))
}

/// A handler's answer; `None` closes the connection without one.
pub(crate) type Outcome = Option<Response<Body>>;

/// Accepts until `ended`. Each request runs in a task of its own, so that what was forwarded is carried through when
/// its client's connection is closed: "after it was forwarded" would else be a matter of luck.
pub(crate) async fn serve<H, F>(listener: TcpListener, tls: Option<TlsAcceptor>, ended: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    loop {
        let stream = tokio::select! {
            () = ended.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let (tls, ended, handler) = (tls.clone(), ended.clone(), handler.clone());
        tokio::spawn(async move { connection(stream, tls, ended, handler).await });
    }
}

async fn connection<H, F>(stream: TcpStream, tls: Option<TlsAcceptor>, ended: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let close = ended.child_token();
    // Nagle's wait would be a delay that nobody asked for.
    let _ = stream.set_nodelay(true);
    let on_request = {
        let close = close.clone();
        service_fn(move |request| {
            let task = tokio::spawn(handler(request));
            let close = close.clone();
            async move {
                match task.await {
                    Ok(Some(response)) => Ok(response),
                    // On HTTP/2 an error would end one stream only; the whole connection goes.
                    Ok(None) | Err(_) => {
                        close.cancel();
                        Err::<Response<Body>, _>(ConnectionCut)
                    }
                }
            }
        })
    };
    let server = auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        () = close.cancelled() => {}
        () = async {
            // The client sees how its connection ends; here nobody needs to be told.
            if let Some(acceptor) = tls {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = server.serve_connection(TokioIo::new(stream), on_request).await;
                }
            } else {
                let _ = server.serve_connection(TokioIo::new(stream), on_request).await;
            }
        } => {}
    }
}
