//! The process: finds the API server, waits to lead, watches, and looks at one build after the other until it is
//! told to stop or does not lead any more.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use indexbuild_api::{Guarded, IndexBuild};
use kube::api::ListParams;
use kube::runtime::Controller;
use kube::runtime::controller::Config as ControllerConfig;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, Health, Role};
use crate::budget::Budget;
use crate::caches::{self, Caches, Nodes};
use crate::client::{ClientError, client};
use crate::context::Context;
use crate::leader::{Leader, LeaderError, Timing};
use crate::metrics::Metrics;
use crate::objects::Image;
use crate::orphans;
use crate::reconcile::{after_error, reconcile};
use crate::reporting::Reporting;
use crate::self_test::SelfTest;
use crate::test_switches::TestSwitches;
use crate::turns::Turns;

/// After so long without a turn of its loop, a process is not alive.
const ALIVE: Duration = Duration::from_secs(60);
/// How often what is not triggered by a change is done: counting, tombstones, the self-test.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How long passes in hand have to end, when the process is told to stop.
const GRACE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// Where it looks for builds; empty: everywhere.
    pub watch_namespaces: Vec<String>,
    /// The image that executors run.
    pub image: Image,
    pub lease_namespace: String,
    pub lease_name: String,
    /// The Helm release that its Lease is a part of.
    pub helm_release: Option<String>,
    /// The name under which it leads: that of no other process.
    pub identity: String,
    /// Where probes and metrics are answered.
    pub bind: SocketAddr,
    /// How many builds are looked at at the same time.
    pub concurrency: u16,
    /// How many writes in a second all builds have together.
    pub writes_per_second: u32,
    /// The CSI drivers whose detach cuts a node off from the volume, so that it proves its owner gone.
    pub detaching_drivers: Vec<String>,
    /// Behaviour that only tests ask for.
    pub test: TestSwitches,
}

/// Why the operator ends without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Another process leads by now, or the API server could not be reached for too long: whatever was in hand may
    /// be in other hands.
    #[error("this process does not lead any more: it ends, and the next one begins to count anew")]
    NotLeading,
}

/// Runs until `stop` is cancelled, or leadership is lost.
pub async fn run(config: OperatorConfig, stop: CancellationToken) -> Result<(), RunError> {
    let metrics = Metrics::new();
    let client = client(&metrics).await?;
    run_with(client, metrics, config, stop).await
}

/// As [`run`], with a client that counts into these metrics.
pub fn run_with(
    client: Client,
    metrics: Metrics,
    config: OperatorConfig,
    stop: CancellationToken,
) -> BoxFuture<'static, Result<(), RunError>> {
    // Boxed: the whole operator is compiled once, in this crate, and not again in each program that runs it.
    Box::pin(operate(client, metrics, config, stop))
}

async fn operate(
    client: Client,
    metrics: Metrics,
    config: OperatorConfig,
    stop: CancellationToken,
) -> Result<(), RunError> {
    if config.test != TestSwitches::default() {
        tracing::warn!(switches = ?config.test, "test switches are on: this process misbehaves on purpose");
    }
    let OperatorConfig {
        watch_namespaces,
        image: _,
        lease_namespace,
        lease_name,
        helm_release,
        identity,
        bind,
        concurrency: _,
        writes_per_second: _,
        detaching_drivers: _,
        test: _,
    } = &config;
    let health = Health::new(ALIVE);
    let admin = Admin::bind(*bind).await?;
    let end_of_admin = CancellationToken::new();
    let serving = tokio::spawn(admin.serve(health.clone(), metrics.clone(), end_of_admin.clone()));
    let scopes: Vec<Option<String>> = match watch_namespaces.as_slice() {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    let outcome = async {
        if !find_resources(&client, &scopes, &health, &stop).await {
            return Ok(());
        }
        health.set_role(Role::Standby);
        // Always: a process that loses its Lease knows that it was cut off, and begins to count patience anew.
        let candidate = Leader::new(client.clone(), lease_namespace, lease_name, identity, Timing::default())?
            .of_release(helm_release.as_deref());
        let Some(held) = wait_to_lead(candidate, &health, &stop).await else {
            return Ok(());
        };
        health.set_role(Role::Leading);
        metrics.set_leader(true);
        let lost = held.lost();
        let reporting =
            Arc::new(Reporting::new(client.clone(), metrics.clone(), identity, (lease_namespace, lease_name)));
        let end = lost.child_token();
        let leading =
            Leading { client: &client, scopes: &scopes, config: &config, reporting: &reporting, health: &health };
        let leading = leading.watch(end.clone());
        tokio::pin!(leading);
        tokio::select! {
            () = &mut leading => {}
            () = stop.cancelled() => {
                tracing::info!("told to stop: what is in hand is ended");
                end.cancel();
                if tokio::time::timeout(GRACE, &mut leading).await.is_err() {
                    tracing::warn!("passes in hand did not end in time");
                }
            }
            // Every side effect stops at once.
            () = lost.cancelled() => {}
        }
        metrics.set_leader(false);
        if lost.is_cancelled() {
            return Err(RunError::NotLeading);
        }
        // The last thing: nothing of this process writes any more.
        let released = held.release().await;
        tracing::info!(?released, "the lease is given up");
        Ok(())
    }
    .await;
    end_of_admin.cancel();
    // It ends by its token; one that does not is cut off with the process.
    let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    outcome
}

/// Waits until the API server knows the resources, whatever is in those that are there. `false`: told to stop.
async fn find_resources(client: &Client, scopes: &[Option<String>], health: &Health, stop: &CancellationToken) -> bool {
    loop {
        health.beat();
        let api: Api<Guarded<IndexBuild>> = match scopes.first() {
            Some(Some(namespace)) => Api::namespaced(client.clone(), namespace),
            Some(None) | None => Api::all(client.clone()),
        };
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => {
                health.set_crds_found(true);
                return true;
            }
            Err(error) => {
                tracing::warn!(%error, "builds cannot be listed; are the CRDs installed, and may this account list them?");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_secs(3)) => {}
        }
    }
}

async fn wait_to_lead(candidate: Leader, health: &Health, stop: &CancellationToken) -> Option<crate::leader::Held> {
    let acquiring = candidate.acquire(stop);
    tokio::pin!(acquiring);
    loop {
        tokio::select! {
            held = &mut acquiring => return held,
            () = tokio::time::sleep(HOUSEKEEPING) => health.beat(),
        }
    }
}

/// What a process that leads works with.
#[derive(Clone, Copy)]
struct Leading<'a> {
    client: &'a Client,
    /// The namespaces that are watched; `None`: all of them.
    scopes: &'a [Option<String>],
    config: &'a OperatorConfig,
    reporting: &'a Arc<Reporting>,
    health: &'a Health,
}

impl Leading<'_> {
    /// Watches and looks until `end`.
    async fn watch(self, end: CancellationToken) {
        let Self { client, scopes, config, reporting, health: _ } = self;
        let mut tasks = JoinSet::new();
        let (nodes, node_stream) = caches::watch_nodes(client);
        let (node_changes, _) = broadcast::channel::<()>(16);
        let sender = node_changes.clone();
        tasks.spawn(until(end.clone(), async move {
            let mut stream = node_stream;
            while let Some(node) = stream.next().await {
                if let Err(error) = node {
                    tracing::debug!(%error, "the watch of nodes is begun anew");
                }
                // Nobody listens: then nobody has builds.
                let _ = sender.send(());
            }
        }));
        let mut contexts = Vec::new();
        let watched: Vec<_> = scopes.iter().map(|scope| caches::watch(client, scope.as_deref())).collect();
        let all_builds = watched.iter().map(|watched| watched.caches.builds.clone()).collect();
        let budget = Arc::new(Budget::new(config.writes_per_second, reporting.metrics.clone(), all_builds));
        let turns = Arc::new(Turns::new(config.concurrency));
        for caches::Watched { caches, builds, parts } in watched {
            let context =
                Context::new(client.clone(), config.image.clone(), caches, nodes.clone(), Arc::clone(reporting));
            let context = context.with_detaching_drivers(&config.detaching_drivers);
            let context = context.sharing(Arc::clone(&budget), Arc::clone(&turns));
            let context = Arc::new(context.with_switches(config.test.clone()));
            contexts.push(Arc::clone(&context));
            // Caches fill, whether or not a pass waits.
            let (forward, received) = futures::channel::mpsc::unbounded();
            tasks.spawn(until(end.clone(), async move {
                let mut parts = parts;
                while let Some(part) = parts.next().await {
                    let _ = forward.unbounded_send(part);
                }
            }));
            let of_nodes = node_changes.subscribe();
            let controller = watch_builds(context, builds, received, of_nodes, end.clone());
            tasks.spawn(controller);
        }
        self.housekeeping(&contexts, &nodes, &budget, end.clone()).await;
        while tasks.join_next().await.is_some() {}
    }

    /// What no change triggers. Its turns are the process's sign of life.
    async fn housekeeping(self, contexts: &[Arc<Context>], nodes: &Nodes, budget: &Budget, end: CancellationToken) {
        let Self { client, scopes: _, config: _, reporting, health } = self;
        let mut test = SelfTest::new();
        let mut memories: Vec<BTreeMap<_, _>> = contexts.iter().map(|_| BTreeMap::new()).collect();
        let all: Vec<Caches> = contexts.iter().map(|context| context.caches.clone()).collect();
        let mut filled = false;
        loop {
            health.beat();
            if !filled {
                filled = all.iter().all(is_filled);
                health.set_caches_synced(filled);
            }
            if filled {
                reporting.count(&all);
                budget.look();
                reporting.try_ownership(&mut test, client, &all).await;
                for (context, memories) in contexts.iter().zip(&mut memories) {
                    let uids: HashSet<String> =
                        context.caches.builds.state().iter().filter_map(|build| build.uid()).collect();
                    context.forget_all_but(&uids);
                    reporting.tell_unreadable(&context.caches.unreadable()).await;
                    orphans::reap(context, memories).await;
                }
                reporting.tell_unreadable(&caches::unreadable(nodes)).await;
                reporting.forget_readable();
                tracing::trace!(nodes = nodes.len(), "a turn");
            }
            let pause = if filled { HOUSEKEEPING } else { Duration::from_millis(200) };
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn until(end: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = end.cancelled() => {}
    }
}

async fn watch_builds(
    context: Arc<Context>,
    builds: futures::stream::BoxStream<'static, Result<Guarded<IndexBuild>, kube::runtime::watcher::Error>>,
    parts: futures::channel::mpsc::UnboundedReceiver<kube::runtime::reflector::ObjectRef<Guarded<IndexBuild>>>,
    of_nodes: broadcast::Receiver<()>,
    end: CancellationToken,
) {
    let caches = context.caches.clone();
    // A cache that was never filled is not looked at: what is absent from it means nothing.
    let filled = async {
        let Caches { builds: _, directories, pods, claims, stages, ended: _ } = &caches;
        let all = futures::join!(
            directories.wait_until_ready(),
            pods.wait_until_ready(),
            claims.wait_until_ready(),
            stages.wait_until_ready(),
        );
        tracing::debug!(?all, "caches are filled");
    };
    tokio::select! {
        () = filled => {}
        () = end.cancelled() => return,
    }
    let store = caches.builds.clone();
    let concerned = futures::stream::unfold(of_nodes, |mut changes| async move {
        match changes.recv().await {
            Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => Some(((), changes)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
    .flat_map(move |()| futures::stream::iter(caches::unfinished(&store)));
    let (graceful, turns) = (end.clone(), Arc::clone(&context.turns));
    Controller::for_stream(builds, caches.builds.clone())
        // How many passes are made at the same time is limited in their order, in each of them.
        .with_config(ControllerConfig::default())
        .reconcile_on(parts)
        .reconcile_on(concerned)
        .graceful_shutdown_on(async move {
            graceful.cancelled().await;
            turns.end();
        })
        .run(reconcile, after_error, context)
        .for_each(|_| std::future::ready(()))
        .await;
}

fn is_filled(caches: &Caches) -> bool {
    use futures::FutureExt as _;
    let Caches { builds, directories, pods, claims, stages, ended: _ } = caches;
    builds.wait_until_ready().now_or_never().is_some()
        && directories.wait_until_ready().now_or_never().is_some()
        && pods.wait_until_ready().now_or_never().is_some()
        && claims.wait_until_ready().now_or_never().is_some()
        && stages.wait_until_ready().now_or_never().is_some()
}
