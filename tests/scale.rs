//! Many builds at once, with a scripted owner for every slot: what an operator needs of memory and of the API server. It
//! guards the writes and requests that a slot costs, and that no pass waits for anything; not how fast a machine is.
//! `INDEXBUILD_SCALE=200` makes it the full size, which `make test-long` runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../crates/operator/tests/scripted/mod.rs"]
mod scripted;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use indexbuild_api::Phase;
use kube::api::ListParams;
use scripted::ledger::Kind;
use scripted::{Bench, Script};
use serde_json::json;

const SLOTS: u32 = 10;
const NAMESPACES: usize = 4;
const MEMORY: u64 = 150 << 20;
/// Writes for each slot, owners' reports not counted: more than this is a write that came back. By the course of a build of ten
/// slots that nothing disturbs: 6 make and remove a slot's record, its claim and its pod; 6.6 are its bindings, choices and grants,
/// each a compare-and-set (the pod, the process, two results, the second work, the end, with which its volume is condemned; the
/// slot that plans, publishes and cleans has six more); 2.2 are its share of the build's: six times the list of frozen stages, as a rule
/// with the turn that follows, and five stages, the finalizer, what executors need, a status for each other turn. The rest is what takes
/// longer than it should: states that last, numbers that change meanwhile (told after ten seconds, then twenty, then every forty), and
/// writes that lose against an owner's report and are made again.
const WRITES: f64 = 22.0;
/// Requests of any kind for each slot, reads included: more is a pass that is repeated for nothing.
const REQUESTS: f64 = 80.0;

struct Operator {
    process: Child,
    bind: SocketAddr,
    log: tempfile::NamedTempFile,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Operator {
    fn start(bench: &Bench) -> Self {
        let bind = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kubeconfig.path(), bench.kubeconfig()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_indexbuild"))
            .env("KUBECONFIG", kubeconfig.path())
            .env("INDEXBUILD_LOG", std::env::var("INDEXBUILD_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .args(["--log-format=json", "operator", "--executor-image", "testbed.local/indexbuild:1"])
            .args(["--bind", &bind.to_string(), "--lease-namespace", bench.lease_namespace()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { process, bind, log, _kubeconfig: kubeconfig }
    }

    /// Bytes of physical memory: now, and the most so far.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() << 10
        };
        (kib("VmRSS:"), kib("VmHWM:"))
    }

    /// Seconds of CPU time.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        // USER_HZ, in which the kernel tells it, whatever its own clock is.
        (ticks(11) + ticks(12)) / 100.0
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.bind).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The value of each line of a metric, by its labels.
fn values(metrics: &str, name: &str) -> BTreeMap<String, f64> {
    metrics
        .lines()
        .filter_map(|line| {
            let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
            Some((labels.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// How many passes took at most so long, and how many there were.
fn passes(metrics: &str, seconds: &str) -> (f64, f64) {
    let buckets = values(metrics, "indexbuild_reconcile_duration_seconds_bucket");
    let of = |le: &str| buckets.get(&format!("le=\"{le}\"")).copied().unwrap_or_default();
    (of(seconds), of("+Inf"))
}

/// All requests of an operator.
fn requests(metrics: &str) -> f64 {
    values(metrics, "indexbuild_api_requests_total").values().sum()
}

/// Requests of an operator that change something, but for the Lease: by verb and kind.
fn writes(metrics: &str) -> BTreeMap<String, f64> {
    let mut writes: BTreeMap<String, f64> = BTreeMap::new();
    for (labels, count) in values(metrics, "indexbuild_api_requests_total") {
        let label = |key: &str| {
            let rest = labels.split_once(&format!("{key}=\"")).map(|(_, rest)| rest).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        let (verb, kind) = (label("verb"), label("kind"));
        if matches!(verb.as_str(), "create" | "update" | "patch" | "delete") && kind != "leases" {
            *writes.entry(format!("{verb} {kind}")).or_default() += count;
        }
    }
    writes
}

/// Of these, those that came too late: by verb, kind and code of the answer.
fn refused(metrics: &str) -> BTreeMap<String, f64> {
    let of_writes = |labels: &str| {
        ["create", "update", "patch", "delete"].iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    };
    let all = values(metrics, "indexbuild_api_requests_total").into_iter();
    all.filter(|(labels, _)| of_writes(labels) && !labels.contains("kind=\"leases\"") && !labels.contains("code=\"2"))
        .collect()
}

async fn phases(bench: &Bench) -> BTreeMap<String, usize> {
    let mut phases = BTreeMap::new();
    for number in 0..NAMESPACES {
        for build in bench.builds(&format!("scale-{number}")).list(&ListParams::default()).await.unwrap() {
            let phase = build.status.and_then(|status| status.phase).unwrap_or(Phase::Pending);
            *phases.entry(format!("{phase:?}")).or_default() += 1;
        }
    }
    phases
}

#[tokio::test(flavor = "multi_thread")]
async fn many_builds_at_once_stay_within_the_operators_memory_and_its_share_of_the_api_server() {
    let builds: usize = std::env::var("INDEXBUILD_SCALE").ok().and_then(|number| number.parse().ok()).unwrap_or(20);
    let limit = Duration::from_secs(60 + 6 * builds as u64);
    let script = Script::new(SLOTS, SLOTS, Duration::from_secs(2));
    let Some(bench) = Bench::start("many builds at once", script).await else { return };
    for number in 0..NAMESPACES {
        bench.namespace(&format!("scale-{number}")).await;
    }
    let operator = Operator::start(&bench);
    let begun = Instant::now();
    futures::stream::iter(0..builds)
        .for_each_concurrent(4, |number| {
            let bench = &bench;
            let namespace = format!("scale-{}", number % NAMESPACES);
            async move {
                let patience = json!({"replaceAfter": "10m", "orphanAfter": "30m"});
                let name = format!("orders-{number}");
                bench.build(&namespace, &name, SLOTS, |build| build["spec"]["disruption"] = patience).await;
            }
        })
        .await;
    let applied = begun.elapsed();
    let mut most = 0;
    let mut slots_at_once = 0;
    loop {
        let seen = phases(&bench).await;
        let there =
            |kind| (0..NAMESPACES).map(|n| bench.machine.ledger().count_left(&format!("scale-{n}"), &[kind])).sum();
        let (pods, records): (usize, usize) = (there(Kind::Pod), there(Kind::Directory));
        most = most.max(operator.memory().0);
        slots_at_once = slots_at_once.max(pods);
        println!(
            "{:>4} s: {seen:?}, {pods} pods, {records} records, {} MiB",
            begun.elapsed().as_secs(),
            operator.memory().0 >> 20
        );
        if seen.get("Complete") == Some(&builds) && pods == 0 && records == 0 {
            break;
        }
        assert!(begun.elapsed() < limit, "not complete within {limit:?}: {seen:?}\n{}", operator.log());
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let took = begun.elapsed();
    let metrics = operator.metrics();
    let (resident, peak) = operator.memory();
    let cpu = operator.cpu();
    let slots = (builds as u32 * SLOTS) as f64;
    let writes = writes(&metrics);
    let all: f64 = writes.values().sum();
    let requests = requests(&metrics);
    let (fast, passes_in_all) = passes(&metrics, "1.0");
    let (in_time, _) = passes(&metrics, "10.0");
    println!(
        "{builds} builds of {SLOTS} slots: applied in {applied:?}, all complete and clean after {took:?}; {slots_at_once} pods at once"
    );
    println!(
        "operator: {} MiB at the end, {} MiB at most, {cpu:.1} s of CPU, {:.1} ms for each slot",
        resident >> 20,
        peak >> 20,
        cpu * 1e3 / slots
    );
    println!("operator: {all} writes, {:.1} for each slot; {:.1} requests of any kind", all / slots, requests / slots);
    for (what, count) in &writes {
        println!("  {what}: {count} ({:.2} for each slot)", count / slots);
    }
    let refused = refused(&metrics);
    println!("operator: {:.2} of them for each slot refused: {refused:?}", refused.values().sum::<f64>() / slots);
    let counts = &bench.machine.script.written;
    println!(
        "owners: {} claims, {} results, {} reports of progress (heartbeats)",
        counts.claims.load(Ordering::Relaxed),
        counts.results.load(Ordering::Relaxed),
        counts.heartbeats.load(Ordering::Relaxed),
    );
    println!("passes: {passes_in_all}, of them {:.3} % within 1 s", fast * 100.0 / passes_in_all);
    for (bucket, count) in values(&metrics, "indexbuild_reconcile_duration_seconds_bucket") {
        println!("  {bucket}: {count}");
    }
    for namespace in (0..NAMESPACES).map(|number| format!("scale-{number}")) {
        let tally = bench.machine.ledger().tally(&namespace);
        assert_eq!(tally.made[&Kind::Pod], tally.made[&Kind::Directory], "each slot had one pod: {tally:?}");
        assert_eq!(bench.machine.ledger().duplicates(&namespace), Vec::<String>::new(), "a pod was made twice");
    }
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
    // How much is asked of the API server is counted, which no machine makes more or less.
    assert!(all / slots <= WRITES, "{:.1} writes for each slot: {writes:?}", all / slots);
    assert!(requests / slots <= REQUESTS, "{:.1} requests for each slot", requests / slots);
    // How fast that is depends on the machine, and is printed. A pass of 10 s is not slow: it waited for a call's limit,
    // or for another pass, and would hold up a quarter of all builds.
    assert!(in_time >= passes_in_all, "{in_time} of {passes_in_all} passes within 10 s");
    drop(operator);
    bench.end().await;
}
