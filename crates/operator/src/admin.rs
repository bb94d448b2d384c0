//! `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use indexbuild_process::{Heartbeat, listen, probe};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{CONTENT_TYPE, Metrics};

/// How long connections that are open have when the server ends.
const ENDING: Duration = Duration::from_secs(5);

/// A server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{address} is in use by another process; stop it, or choose another address with --bind")]
    InUse {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen on {address} for /livez, /readyz and /metrics; choose another address with --bind")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It does not know yet whether it leads.
    Starting,
    /// Another one leads; this one is ready to.
    Standby,
    Leading,
}

/// What the probes tell. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    heartbeat: Heartbeat,
    crds_found: AtomicBool,
    caches_synced: AtomicBool,
    role: AtomicU8,
}

impl Health {
    /// Nothing is found yet. The process is alive while its controller's loop turns at least once in `limit`.
    #[must_use]
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Arc::new(Inner {
            heartbeat: Heartbeat::within(limit),
            crds_found: AtomicBool::new(false),
            caches_synced: AtomicBool::new(false),
            role: AtomicU8::new(Role::Starting as u8),
        }))
    }

    /// The controller's loop turns.
    pub(crate) fn beat(&self) {
        self.0.heartbeat.beat();
    }

    /// Whether the API server knows the resources.
    pub(crate) fn set_crds_found(&self, found: bool) {
        self.0.crds_found.store(found, Ordering::Relaxed);
    }

    /// Whether every cache was filled once.
    pub(crate) fn set_caches_synced(&self, synced: bool) {
        self.0.caches_synced.store(synced, Ordering::Relaxed);
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.0.role.store(role as u8, Ordering::Relaxed);
    }

    fn facts(&self) -> Facts {
        let Inner { heartbeat: _, crds_found, caches_synced, role } = &*self.0;
        let role = role.load(Ordering::Relaxed);
        Facts {
            crds_found: crds_found.load(Ordering::Relaxed),
            caches_synced: caches_synced.load(Ordering::Relaxed),
            role: if role == Role::Leading as u8 {
                Role::Leading
            } else if role == Role::Standby as u8 {
                Role::Standby
            } else {
                Role::Starting
            },
        }
    }
}

/// What readiness is answered by.
#[derive(Clone, Copy, Debug)]
struct Facts {
    crds_found: bool,
    caches_synced: bool,
    role: Role,
}

impl Facts {
    fn ready(self) -> Result<(), String> {
        let Self { crds_found, caches_synced, role } = self;
        if !crds_found {
            return Err("the API server does not know indexbuild.dev yet; are the CRDs installed?".to_owned());
        }
        match role {
            Role::Starting => Err("starting".to_owned()),
            Role::Standby => Ok(()),
            Role::Leading if caches_synced => Ok(()),
            Role::Leading => Err("the caches are being filled".to_owned()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Listens.
    ///
    /// # Errors
    /// An address that is in use, or not this machine's.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => AdminError::InUse { address, source },
            _ => AdminError::Bind { address, source },
        };
        let listener = listen(address).and_then(TcpListener::from_std).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        info!(%address, "serving /livez, /readyz and /metrics");
        Ok(Self { listener, address })
    }

    #[cfg(test)]
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, and a few seconds longer for what is open then.
    pub(crate) async fn serve(self, health: Health, metrics: Metrics, stop: CancellationToken) {
        let Self { listener, address } = self;
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .with_state((health, metrics));
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let ending = async {
            stop.cancelled().await;
            tokio::time::sleep(ENDING).await;
        };
        tokio::select! {
            served = async { serve.await } => {
                if let Err(error) = served {
                    warn!(%address, error = &error as &dyn std::error::Error, "probes and metrics are not served any more");
                }
            }
            () = ending => {}
        }
    }
}

type Shared = State<(Health, Metrics)>;

async fn livez(State((health, _)): Shared) -> (StatusCode, String) {
    probe(health.0.heartbeat.check())
}

async fn readyz(State((health, _)): Shared) -> (StatusCode, String) {
    probe(health.facts().ready())
}

async fn show_metrics(State((_, metrics)): Shared) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn ready_is_who_leads_with_full_caches_or_stands_by_and_nobody_without_the_resources() {
        for (crds_found, caches_synced, role, ready) in [
            (true, true, Role::Leading, true),
            (true, false, Role::Leading, false),
            (true, false, Role::Standby, true),
            (true, true, Role::Starting, false),
            (false, true, Role::Leading, false),
            (false, true, Role::Standby, false),
        ] {
            let facts = Facts { crds_found, caches_synced, role };
            assert_eq!(facts.ready().is_ok(), ready, "{facts:?}");
        }
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_metrics_are_served_until_the_stop_and_an_open_connection_does_not_hold_it_up() {
        let admin = Admin::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = admin.address();
        let (health, stop) = (Health::new(Duration::from_millis(200)), CancellationToken::new());
        let server = tokio::spawn(admin.serve(health.clone(), Metrics::new(), stop.clone()));

        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        health.set_crds_found(true);
        health.set_role(Role::Standby);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains(CONTENT_TYPE) && metrics.contains("indexbuild_leader 0"), "{metrics}");
        assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404"));

        let silent = async {
            while ask(address, "/livez").await.starts_with("HTTP/1.1 200") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), silent).await.expect("a loop that stands still is found out");
        health.beat();
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));

        let mut open = tokio::net::TcpStream::connect(address).await.unwrap();
        open.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        stop.cancel();
        tokio::time::timeout(ENDING + Duration::from_secs(5), server).await.expect("it ends").unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = Admin::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let error = Admin::bind(first.address()).await.unwrap_err();
        assert!(matches!(error, AdminError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&first.address().to_string()) && text.contains("--bind"), "{text}");
    }
}
