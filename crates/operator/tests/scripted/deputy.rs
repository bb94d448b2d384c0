//! An operator on a thread of its own: killed, nothing of it goes on, as when its process gets SIGKILL.

use std::thread::JoinHandle;

use indexbuild_operator::client::client_for;
use indexbuild_operator::metrics::Metrics;
use indexbuild_operator::objects::Image;
use indexbuild_operator::{OperatorConfig, TestSwitches, WRITES_PER_SECOND, run_with};
use kube::{Client, Config};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Changes what an operator sends: how a check is switched off for a control.
pub(crate) type Tamper = fn(Client) -> Client;

/// How an operator is started.
#[derive(Clone)]
pub(crate) struct Order {
    /// The way to the API server.
    pub config: Config,
    /// Where it looks; none: everywhere.
    pub namespaces: Vec<String>,
    /// The namespace of its Lease.
    pub lease_namespace: String,
    /// Its Lease.
    pub lease: String,
    /// A check that is switched off.
    pub tamper: Option<Tamper>,
    /// How it misbehaves.
    pub switches: TestSwitches,
}

/// A running operator.
pub(crate) struct Deputy {
    pub metrics: Metrics,
    pub identity: String,
    kill: Option<oneshot::Sender<()>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<Option<String>>>,
}

impl Deputy {
    /// Starts one.
    pub(crate) fn start(order: Order) -> Self {
        let metrics = Metrics::new();
        let identity = format!("deputy-{}", uuid::Uuid::new_v4());
        let (kill, killed) = oneshot::channel();
        let stop = CancellationToken::new();
        let (counted, name, told) = (metrics.clone(), identity.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let Order { config, namespaces, lease_namespace, lease, tamper, switches } = order;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = runtime.block_on(async move {
                let client = client_for(config, &counted).unwrap();
                let client = tamper.map_or_else(|| client.clone(), |tamper| tamper(client.clone()));
                let config = OperatorConfig {
                    watch_namespaces: namespaces,
                    image: Image {
                        reference: "testbed.local/indexbuild:1".to_owned(),
                        pull_policy: "Never".to_owned(),
                        pull_secrets: Vec::new(),
                    },
                    lease_namespace,
                    lease_name: lease,
                    helm_release: None,
                    identity: name,
                    bind: "127.0.0.1:0".parse().unwrap(),
                    concurrency: 8,
                    writes_per_second: WRITES_PER_SECOND,
                    detaching_drivers: vec![super::provisioner::DETACHES.to_owned()],
                    test: switches,
                };
                tokio::select! {
                    biased;
                    _ = killed => None,
                    ended = run_with(client, counted, config, told) => Some(format!("{ended:?}")),
                }
            });
            // Whatever was in hand is dropped where it stands.
            runtime.shutdown_background();
            ended
        });
        Self { metrics, identity, kill: Some(kill), stop, thread: Some(thread) }
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// SIGKILL. Returns how it had ended by itself before, if it had.
    pub(crate) fn kill(mut self) -> Option<String> {
        self.end()
    }

    /// SIGTERM, and waits.
    pub(crate) fn terminate(mut self) -> Option<String> {
        self.stop.cancel();
        self.thread.take().and_then(|thread| thread.join().unwrap())
    }

    fn end(&mut self) -> Option<String> {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
        self.thread.take().and_then(|thread| thread.join().unwrap())
    }
}

impl Drop for Deputy {
    fn drop(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
