//! Leader election against a real API server: one leads, a leader that is cut off stops before the next one begins,
//! and one that goes hands over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indexbuild_operator::client;
use indexbuild_operator::leader::{Held, Leader, Released, Timing};
use indexbuild_operator::metrics::Metrics;
use indexbuild_testbed::{Cluster, Options, PortForward, tools_or_skip};
use k8s_openapi::api::coordination::v1::Lease;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "default";
const LEASE: &str = "indexbuild-operator";

/// One candidate's way to the API server. Cut, it takes bytes and passes none on: nothing is closed or refused, as
/// when a network swallows packets.
struct Way {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Way {
    async fn to(api: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let Ok(to) = TcpStream::connect(api).await else { return };
                    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                    tokio::join!(pass(from_read, to_write, seen.clone()), pass(to_read, from_write, seen));
                });
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        self.open.send_replace(false);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn client(forward: &PortForward, way: &Way) -> Client {
    let kubeconfig = Kubeconfig::read_from(forward.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.cluster_url = format!("https://{}", way.address).parse().unwrap();
    client::client_for(config, &Metrics::new()).unwrap()
}

fn candidate(client: Client, identity: &str) -> Leader {
    Leader::new(client, NAMESPACE, LEASE, identity, Timing::default()).unwrap()
}

fn leads(held: &Held) -> bool {
    !held.lost().is_cancelled()
}

async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

fn cluster(test: &str) -> Option<(Cluster, PortForward)> {
    let tools = tools_or_skip(test)?;
    let options = Options { nodes: 0, ..Options::default() };
    let cluster = Cluster::start(&tools, options).unwrap_or_else(|error| panic!("{error}"));
    let forward = cluster.forward_api().unwrap();
    Some((cluster, forward))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_a_leader_that_is_cut_off_stops_before_the_next_begins_and_one_that_goes_hands_over() {
    let test = "leader election against a real API server";
    let Some((cluster, forward)) = tokio::task::spawn_blocking(move || cluster(test)).await.unwrap() else { return };
    let api = forward.address();
    let (way_one, way_two, way_three) = (Way::to(api).await, Way::to(api).await, Way::to(api).await);
    let stop = CancellationToken::new();

    let one = candidate(client(&forward, &way_one).await, "one");
    let one: Held = within("the first leads at once", Duration::from_secs(5), one.acquire(&stop)).await.unwrap();
    assert!(leads(&one));

    // The second waits beside a leader that renews, for longer than a lease.
    let two = candidate(client(&forward, &way_two).await, "two");
    let stop_two = stop.clone();
    let mut two = tokio::spawn(async move { (two.acquire(&stop_two).await, Instant::now()) });
    assert!(tokio::time::timeout(Duration::from_secs(17), &mut two).await.is_err(), "two lead");
    assert!(leads(&one));

    way_one.cut();
    let cut = Instant::now();
    let lost = one.lost();
    within("the first stops by its deadline", Duration::from_millis(10_500), lost.cancelled()).await;
    let stopped = Instant::now();
    assert!(!leads(&one));
    assert!(!two.is_finished(), "the second began before the first had stopped");
    let (two, began) = within("the second takes over", Duration::from_secs(20), two).await.unwrap();
    let two = two.unwrap();
    println!("stopped {:?} and taken over {:?} after the cut", stopped - cut, began - cut);
    assert!(began > stopped && leads(&two));
    assert!(began - cut <= Duration::from_secs(20), "{:?}", began - cut);
    assert_eq!(one.release().await, Released::NotHeld, "who does not lead writes nothing");

    // A third waits; the second goes.
    let leases: Api<Lease> = Api::namespaced(client(&forward, &way_three).await, NAMESPACE);
    let holder = |lease: Lease| lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    assert_eq!(holder(leases.get(LEASE).await.unwrap()), "two");
    let three = candidate(client(&forward, &way_three).await, "three");
    let stop_three = stop.clone();
    let three = tokio::spawn(async move { (three.acquire(&stop_three).await, Instant::now()) });
    // It has looked at least once, and waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!three.is_finished() && leads(&two));
    let gone = Instant::now();
    assert_eq!(two.release().await, Released::Yes);
    let (three, began) = within("the third takes over", Duration::from_secs(5), three).await.unwrap();
    let three = three.unwrap();
    println!("handed over in {:?}", began - gone);
    assert!(began - gone <= Duration::from_secs(3), "{:?}", began - gone);
    assert!(leads(&three));
    let spec = leases.get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("three"), Some(2)));

    // Somebody who takes it by hand ends the leading, without waiting for a deadline.
    let patch = serde_json::json!({"spec": {"holderIdentity": "somebody"}});
    leases.patch(LEASE, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    within("the third notices", Duration::from_secs(8), three.lost().cancelled()).await;
    assert_eq!(three.release().await, Released::NotHeld);
    assert_eq!(holder(leases.get(LEASE).await.unwrap()), "somebody");

    // A candidate that is told to stop holds nothing.
    let four = candidate(client(&forward, &way_three).await, "four");
    stop.cancel();
    assert!(within("it stops", Duration::from_secs(2), four.acquire(&stop)).await.is_none());

    tokio::task::spawn_blocking(move || drop((forward, cluster))).await.unwrap();
}
