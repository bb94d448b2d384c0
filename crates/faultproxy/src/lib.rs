//! Fault proxies: a Kubernetes API server and an S3 store that fail when a test says so.
//!
//! A proxy stands on loopback between a client under test and the real server. It forwards everything, watches
//! streamed, until a test sets a [`Perturbation`] (or a [`StoreFault`]). Setting one gives a [`Handle`] that lifts it
//! (dropping the handle lifts it too), and each time it acts the proxy notes it in [`KubeProxy::seen`], so that a test
//! asserts that what it asked for has happened. Words: `docs/glossary.md`.
//!
//! - [`KubeProxy`]: TLS on both sides, HTTP/1.1 and HTTP/2 to the client. See [`rules::Perturbation`] for what it can do, and
//!   [`forbidden`] for what fails a test whatever was asked: end each test with [`KubeProxy::assert_no_forbidden`].
//! - [`StoreProxy`]: plain HTTP/1.1; the `Host` header stays as the client sent it, so that its signature holds.
//! - [`WebServer`]: no proxy, but a folder behind plain HTTP/1.1 that keeps connections alive.
//!
//! What is decided is pure ([`rules::decide`], [`store::decide`], [`watch::Filter`], [`forbidden::judge`]) and tested
//! without a network. Connection upgrades (`exec`, `port-forward`) are not carried.
//!
//! ```no_run
//! # async fn f(ca_pem: String, cert_pem: String, key_pem: String) -> Result<(), indexbuild_faultproxy::ProxyError> {
//! use indexbuild_faultproxy::{DenyList, Identity, KubeProxy, Perturbation, RequestMatch, Upstream, When};
//! let proxy = KubeProxy::start(
//!     Upstream { url: "https://127.0.0.1:6443".into(), ca_pem: Some(ca_pem), identity: Identity::Certificate { cert_pem, key_pem } },
//!     DenyList::default(),
//! )
//! .await?;
//! let stop = proxy.perturb(Perturbation::StopAt { which: RequestMatch::mutating(), nth: 3, when: When::AfterForward });
//! // the client under test talks to proxy.url(), trusting proxy.ca_pem()
//! assert_eq!(stop.fired(), 1);
//! stop.lift();
//! proxy.assert_no_forbidden();
//! # Ok(()) }
//! ```

mod facts;
mod forbidden;
mod handle;
mod kube_proxy;
mod net;
mod rules;
pub mod store;
mod store_proxy;
mod watch;
mod web;

pub use facts::{Forbidden, RequestFacts, RequestMatch, Verb};
pub use forbidden::DenyList;
pub use handle::Handle;
pub use kube_proxy::{Happened, KubeProxy, Seen};
pub use net::ProxyError;
pub use net::{Identity, Upstream};
pub use rules::{Answer, Perturbation, RuleId, Times, When};
pub use store::{StoreEffect, StoreFacts, StoreFault, StoreMatch, StoreOp};
pub use store_proxy::{StoreProxy, StoreSeen};
pub use watch::{EventMatch, EventType};
pub use web::WebServer;
