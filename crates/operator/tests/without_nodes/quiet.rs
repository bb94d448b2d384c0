//! What an operator writes when there is nothing to do, and what happens when the one that leads is killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::scripted::bench::BUILD;
use crate::scripted::ledger::Kind;
use crate::scripted::{Bench, Script};
use futures::StreamExt as _;
use indexbuild_api::WorkKind;
use indexbuild_faultproxy::{KubeProxy, Verb};
use kube::api::{Patch, PatchParams};
use serde_json::json;

const QUIET: Duration = Duration::from_secs(60);

fn writes(proxy: &KubeProxy) -> BTreeMap<(Verb, String), u64> {
    proxy.counts().into_iter().filter(|((verb, _), _)| verb.mutates()).collect()
}

/// Writes since then, but for renewals of the Lease.
fn since(before: &BTreeMap<(Verb, String), u64>, after: &BTreeMap<(Verb, String), u64>) -> Vec<String> {
    after
        .iter()
        .filter_map(|(what, count)| {
            let more = count - before.get(what).copied().unwrap_or_default();
            let (verb, kind) = what;
            (more > 0 && kind != "coordination.k8s.io/leases").then(|| format!("{more} x {verb} {kind}"))
        })
        .collect()
}

/// Builds so many, one after the other in small groups, until all are complete.
async fn finish(bench: &Bench, namespace: &str, builds: usize) {
    let numbers = futures::stream::iter(0..builds);
    numbers
        .for_each_concurrent(8, |number| async move {
            let name = format!("{BUILD}-{number}");
            bench.build(namespace, &name, 1, |_| {}).await;
            let complete = || async {
                let build = bench.builds(namespace).get(&name).await.unwrap();
                let status = build.status.unwrap_or_default();
                status.phase == Some(indexbuild_api::Phase::Complete)
            };
            let start = Instant::now();
            while !complete().await {
                assert!(start.elapsed() < Duration::from_secs(180), "build {name} is not complete");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
    let kinds = [Kind::Pod, Kind::Claim, Kind::Directory];
    let settled = |bench: &Bench| bench.machine.ledger().count_left(namespace, &kinds) == 0;
    bench.until(Duration::from_secs(60), settled).await.unwrap();
}

/// Waits until what the last pass had in hand is written: nobody writes for a while, but for Leases.
async fn settle(proxies: &[&KubeProxy]) {
    let seen = || proxies.iter().map(|proxy| writes(proxy)).collect::<Vec<_>>();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut last, mut since_when) = (seen(), Instant::now());
    while since_when.elapsed() < Duration::from_secs(5) {
        assert!(Instant::now() < deadline, "writes do not end after all builds are complete: {last:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = seen();
        if last.iter().zip(&now).any(|(before, after)| !since(before, after).is_empty()) {
            since_when = Instant::now();
        }
        last = now;
    }
}

/// I8.
#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_to_do_an_operator_writes_nothing_but_its_lease() {
    let script = Script::new(1, 1, Duration::from_millis(20));
    let Some(bench) = Bench::start("nothing is written when there is nothing to do", script).await else { return };
    let mut watched = Vec::new();
    for builds in [0, 1, 50] {
        let namespace = format!("quiet-{builds}");
        bench.namespace(&namespace).await;
        let proxy = bench.proxy().await;
        let operator = bench.operator(&proxy, &namespace, "lease", None).await;
        let begun = Instant::now();
        finish(&bench, &namespace, builds).await;
        println!("{builds} builds are complete after {:?}", begun.elapsed());
        watched.push((builds, namespace, proxy, operator));
    }
    settle(&watched.iter().map(|(_, _, proxy, _)| proxy).collect::<Vec<_>>()).await;
    let before: Vec<_> = watched.iter().map(|(_, _, proxy, _)| writes(proxy)).collect();
    tokio::time::sleep(QUIET).await;
    for ((builds, _, proxy, operator), before) in watched.iter().zip(&before) {
        let after = writes(proxy);
        let wrote = since(before, &after);
        assert!(operator.is_running());
        assert!(wrote.is_empty(), "{builds} finished builds: {wrote:?} within {QUIET:?}");
        // The control of the count: the Lease was renewed, through the same proxy.
        let renewed: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
        println!("{builds} finished builds: {renewed} renewals of the Lease and no other write within {QUIET:?}");
        assert!(renewed >= 20, "{renewed}");
    }
    // The control of the silence: with something to do, the same operator writes at once.
    let (_, namespace, proxy, _) = &watched[1];
    let before = writes(proxy);
    bench.build(namespace, "another", 1, |_| {}).await;
    let start = Instant::now();
    while since(&before, &writes(proxy)).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing was written for a new build");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::task::spawn_blocking(move || drop(watched)).await.unwrap();
    bench.end().await;
}

/// G1, G10.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_costs_at_most_20_seconds_and_no_pod_is_made_twice() {
    const NAMESPACE: &str = "two";
    let script = Script::new(3, 2, Duration::from_millis(20));
    let Some(bench) = Bench::start("the leader of two is killed", script).await else { return };
    bench.namespace(NAMESPACE).await;
    let script = &bench.machine.script;
    script.hold(NAMESPACE, WorkKind::Encode);
    let (proxy_one, proxy_two) = (bench.proxy().await, bench.proxy().await);
    let one = bench.operator(&proxy_one, NAMESPACE, "lease", None).await;
    bench.build(NAMESPACE, BUILD, 3, |_| {}).await;
    bench.until(Duration::from_secs(30), |_| script.in_hand(NAMESPACE, WorkKind::Encode) == 3).await.unwrap();
    let two = bench.operator(&proxy_two, NAMESPACE, "lease", None).await;
    // It waits beside a leader that renews: it has looked at the Lease, and written nothing.
    let start = Instant::now();
    while proxy_two.count(Verb::Get, "coordination.k8s.io/leases") < 3 {
        assert!(start.elapsed() < Duration::from_secs(20), "the second operator does not look at the Lease");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy_two.mutating(), 0, "the second wrote while the first led");

    let killed = Instant::now();
    assert_eq!(tokio::task::spawn_blocking(move || one.kill()).await.unwrap(), None);
    // There is something to do right now: the owners report their results, and one slot is to go.
    script.release(NAMESPACE, WorkKind::Encode);
    let fewer = Patch::Merge(json!({"spec": {"parallelism": 2}}));
    bench.builds(NAMESPACE).patch(BUILD, &PatchParams::default(), &fewer).await.unwrap();
    let others = |proxy: &KubeProxy| {
        let all = writes(proxy);
        all.into_iter()
            .filter(|((_, kind), _)| kind != "coordination.k8s.io/leases")
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    while others(&proxy_two) == 0 {
        assert!(killed.elapsed() < Duration::from_secs(30), "the second operator never took over");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cost = killed.elapsed();
    println!("the first write of the second operator came {cost:?} after the first was killed");
    assert!(cost <= Duration::from_secs(20), "{cost:?}");
    bench.until(Duration::from_secs(60), |bench| bench.is_settled(NAMESPACE)).await.unwrap();
    let state = bench.end_state(NAMESPACE).await;
    assert!(state.duplicates.is_empty() && state.unreported.is_empty(), "{state:#?}");
    assert_eq!(state.tally.made[&Kind::Pod], 3, "each slot had one pod: {state:#?}");
    assert_eq!(state.tally.made[&Kind::Claim], 3, "{state:#?}");
    for proxy in [&proxy_one, &proxy_two] {
        proxy.assert_no_forbidden();
    }
    tokio::task::spawn_blocking(move || two.kill()).await.unwrap();
    bench.end().await;
}
