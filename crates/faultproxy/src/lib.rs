//! Fault proxies: a Kubernetes API server and an S3 store that fail when a test says so.
//!
//! A proxy stands on loopback between a client under test and the real server. It forwards everything, watches
//! streamed, until a test adds a [`Rule`] (or a [`StoreRule`]). Adding one returns a [`RuleHandle`] that lifts it
//! (dropping the handle lifts it too), and each time it acts the proxy notes it in [`KubeProxy::log`], so that a test
//! asserts that what it asked for has happened. Words: `docs/glossary.md`.
//!
//! - [`KubeProxy`]: TLS on both sides, HTTP/1.1 and HTTP/2 to the client. See [`rules::Rule`] for what it can do, and
//!   [`deny_list`] for what fails a test whatever was asked: end each test with [`KubeProxy::assert_no_forbidden`].
//! - [`StoreProxy`]: plain HTTP/1.1; the `Host` header stays as the client sent it, so that its signature holds.
//! - [`WebServer`]: no proxy, but a folder behind plain HTTP/1.1 that keeps connections alive.
//!
//! Decisions are pure ([`rules::decide`], [`store_rules::decide`], [`watch::Filter`], [`deny_list::judge`]) and tested
//! without a network. Connection upgrades (`exec`, `port-forward`) are not carried.
//!
//! ```no_run
//! # async fn f(ca_pem: String, cert_pem: String, key_pem: String) -> Result<(), indexbuild_faultproxy::ProxyError> {
//! use indexbuild_faultproxy::{DenyList, Identity, KubeProxy, Rule, RequestMatch, Upstream, When};
//! let proxy = KubeProxy::start(
//!     Upstream { url: "https://127.0.0.1:6443".into(), ca_pem: Some(ca_pem), identity: Identity::Certificate { cert_pem, key_pem } },
//!     DenyList::default(),
//! )
//! .await?;
//! let stop = proxy.add_rule(Rule::StopAt { which: RequestMatch::mutating(), nth: 3, when: When::AfterForward });
//! // the client under test talks to proxy.url(), trusting proxy.ca_pem()
//! assert_eq!(stop.fired(), 1);
//! stop.lift();
//! proxy.assert_no_forbidden();
//! # Ok(()) }
//! ```

mod deny_list;
mod kube_proxy;
mod net;
mod request;
mod rule_handle;
mod rules;
mod store_proxy;
pub mod store_rules;
mod watch;
mod web_server;

pub use deny_list::DenyList;
pub use kube_proxy::{Effect, KubeProxy, LogEntry};
pub use net::ProxyError;
pub use net::{Identity, Upstream};
pub use request::{Forbidden, RequestInfo, RequestMatch, Verb};
pub use rule_handle::RuleHandle;
pub use rules::{Answer, Rule, RuleId, Times, When};
pub use store_proxy::{StoreLogEntry, StoreProxy};
pub use store_rules::{StoreEffect, StoreMatch, StoreOp, StoreRequest, StoreRule};
pub use watch::{EventMatch, EventType};
pub use web_server::WebServer;
