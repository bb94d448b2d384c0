//! How often a control plane that refuses is asked, and how soon contact is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/api.rs"]
mod api;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{Api, Ask, Asked, Mood, POD, UID, place};
use async_trait::async_trait;
use indexbuild_api::{Claim, Report, RunLocation, Work, WorkKind};
use indexbuild_executor::backoff::{LONGEST_PAUSE, Pace, Pauses};
use indexbuild_executor::control::StageRead;
use indexbuild_executor::kubernetes::{KubernetesControl, client};
use indexbuild_executor::livez::{Heartbeat, heartbeat, serve};
use indexbuild_executor::machine::BOOT_ID_FILE;
use indexbuild_executor::{
    ContactError, ControlPlane, ExecutorConfig, ExitStatus, Site, StoreAccess, WriteError, live,
};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::Record;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MINUTE: Duration = Duration::from_secs(60);
/// What an API server is asked at most in a minute, by an executor that it refuses.
const AT_MOST: u64 = 30;
/// What a machine that is busy may add to a time.
const SLACK: Duration = Duration::from_secs(2);
/// The loop turns within the longest pause and its calls' limit.
const TURNS_WITHIN: Duration = Duration::from_secs(18);
const PATIENCE: Duration = Duration::from_secs(60);

/// What an executor is at when the refusals begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing is granted to it.
    Nothing,
    /// Its grant comes when claims are refused already.
    Claim,
    /// An Encode that goes on.
    Work,
    /// An Encode that waits for the plan's choice.
    Stage,
}

fn work() -> Work {
    Work {
        id: "encode-0".into(),
        kind: WorkKind::Encode,
        inputs_digest: "d".into(),
        runs: RunLocation::Store,
        splits: Vec::new(),
        inputs: vec!["plan".into()],
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    }
}

struct Life {
    status: JoinHandle<ExitStatus>,
    stop: Option<oneshot::Sender<()>>,
    _folder: tempfile::TempDir,
}

impl Life {
    fn start(control: Arc<dyn ControlPlane>, stands_still: bool, orphan_after: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let build = serde_json::from_value(serde_json::json!({
            "apiVersion": "indexbuild.dev/v1alpha1",
            "kind": "IndexBuild",
            "metadata": {"name": "orders", "namespace": "shop", "uid": UID, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {
                "source": {"parquet": {"urls": ["file:///nowhere/*.parquet"]}},
                "rowId": {"columns": ["id"]},
                "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
                "output": {"url": format!("file://{}", folder.path().join("out").display())},
                "disruption": {"replaceAfter": "1s", "orphanAfter": orphan_after},
            },
        }))
        .unwrap();
        let config = ExecutorConfig {
            build,
            build_file: None,
            slot: 0,
            pod_name: POD.into(),
            pod_uid: POD.into(),
            volume: folder.path().join("volume"),
            threads: 1,
            memory_limit: 256 << 20,
            access: StoreAccess::default(),
            site: Site::Cluster,
            boot_id_file: BOOT_ID_FILE.into(),
            test: serde_json::from_value(serde_json::json!({"standStillIn": stands_still.then_some(WorkKind::Encode)}))
                .unwrap(),
        };
        let (stop, stopped) = oneshot::channel();
        let status = tokio::spawn(live(config, control, async move {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { status, stop: Some(stop), _folder: folder }
    }

    async fn exit(self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.status).await.expect("the process does not end").unwrap()
    }

    async fn stop(mut self) -> ExitStatus {
        self.stop.take().unwrap().send(()).unwrap();
        self.exit().await
    }
}

/// Waits until it holds. How long that took.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

async fn is_alive(address: SocketAddr) -> bool {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200")
}

/// What came of a case.
#[derive(Debug)]
struct Told {
    mood: Mood,
    at: At,
    asked: BTreeMap<Ask, u64>,
    regained: Duration,
    connections: usize,
}

impl Told {
    fn of(&self, ask: Ask) -> u64 {
        self.asked.get(&ask).copied().unwrap_or(0)
    }

    fn all(&self) -> u64 {
        self.asked.values().sum()
    }
}

/// An executor that is at something, its API server in this mood for a minute, and well again.
async fn a_minute_of(mood: Mood, at: At) -> Told {
    let api = Api::start();
    let heartbeat = Arc::new(Heartbeat::within(TURNS_WITHIN));
    let livez = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&heartbeat)).await.unwrap();
    let (control, asked) = api.control(heartbeat);
    let life = Life::start(Arc::new(control), at != At::Stage, "30m");
    if matches!(at, At::Work | At::Stage) {
        api.grant(POD, work());
        until("a first report", || async { api.answered(Ask::Write) >= 2 }).await;
    } else {
        until("a first look", || async { api.answered(Ask::Get) >= 1 }).await;
    }
    api.set(mood);
    let start = Instant::now();
    if at == At::Claim {
        api.grant(POD, work());
    }
    while start.elapsed() < MINUTE {
        assert!(is_alive(livez).await, "{mood:?} {at:?}: the liveness probe fails");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let counts = asked.within(start, MINUTE);
    let connections = api.open_connections();

    let before = api.answered(Ask::Write);
    api.set(Mood::Well);
    if at == At::Nothing {
        api.grant(POD, work());
    }
    let regained = until("a write that is taken", || async { api.answered(Ask::Write) > before }).await;
    assert_eq!(life.stop().await, ExitStatus::Stopped, "{mood:?} {at:?}");
    Told { mood, at, asked: counts, regained, connections }
}

/// Whatever is refused, and however, an executor without contact is no burden; and it is back soon after.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_asks_an_api_server_that_refuses_at_most_thirty_times_a_minute_and_is_back_within_ten_seconds() {
    let refusals = [
        Mood::Away,
        Mood::Refuses(401, None),
        Mood::Refuses(403, None),
        Mood::Refuses(429, None),
        Mood::Refuses(429, Some("1")),
        Mood::Refuses(429, Some("7")),
        Mood::Refuses(503, None),
        Mood::Refuses(503, Some("3600")),
        Mood::Silent,
        Mood::Empty,
    ];
    let watches = [
        Mood::RefusesWatches(403),
        Mood::RefusesWatches(503),
        Mood::EndsWatches,
        Mood::ExpiresWatches,
        Mood::ReadsOld,
        Mood::SilentWatches,
    ];
    let mut cases = vec![(Mood::Well, At::Work)];
    for mood in refusals {
        cases.extend([(mood, At::Nothing), (mood, At::Work), (mood, At::Stage)]);
    }
    cases.extend(watches.into_iter().flat_map(|mood| [(mood, At::Nothing), (mood, At::Work)]));
    for code in [403, 409, 422, 429] {
        cases.extend([(Mood::RefusesWrites(code), At::Claim), (Mood::RefusesWrites(code), At::Work)]);
    }
    cases.extend([403, 503].map(|code| (Mood::RefusesStages(code), At::Stage)));

    let told = futures::future::join_all(cases.into_iter().map(|(mood, at)| tokio::spawn(a_minute_of(mood, at)))).await;
    let told: Vec<Told> = told.into_iter().map(Result::unwrap).collect();
    for case in &told {
        println!("{case:?}");
    }
    let well = told[0].all();
    for case in &told {
        assert!(case.regained <= LONGEST_PAUSE + SLACK, "{case:?}");
        assert!(case.connections <= 4, "connections are left open: {case:?}");
        match (case.mood, case.at) {
            (Mood::Well, _) => assert!(case.of(Ask::Write) >= 10, "its reports are renewed: {case:?}"),
            // It goes on to report every 5 s, and looks before it does.
            (
                Mood::RefusesWatches(_)
                | Mood::EndsWatches
                | Mood::ExpiresWatches
                | Mood::ReadsOld
                | Mood::SilentWatches
                | Mood::RefusesStages(_),
                At::Work | At::Stage,
            ) => {
                assert!(case.of(Ask::Write) >= 10, "its reports are renewed: {case:?}");
                let (refused, all) = match case.at {
                    At::Stage => (case.of(Ask::Stage), case.all() - case.of(Ask::Stage)),
                    At::Nothing | At::Claim | At::Work => (case.of(Ask::Watch), case.all()),
                };
                assert!(refused <= AT_MOST / 2, "{case:?}");
                // A report more or less is a matter of when the minute begins.
                assert!(all <= well + 5, "it asks more than one that is well, {well} times: {case:?}");
            }
            _ => assert!(case.all() <= AT_MOST, "{case:?}"),
        }
        match case.mood {
            Mood::Refuses(_, Some("7")) => assert!(case.all() <= 9, "{case:?}"),
            // Every ten seconds; the last of them may fall just after the minute. That no pause is longer, `regained` says.
            Mood::Refuses(_, Some("3600")) => assert!((5..=7).contains(&case.all()), "{case:?}"),
            _ => {}
        }
    }
}

/// A control plane whose callers pause otherwise, and that refuses what a test says.
struct Paced {
    inner: Arc<dyn ControlPlane>,
    pace: Pace,
    reports_refused: bool,
    reads: Mutex<Vec<Instant>>,
}

impl Paced {
    fn new(inner: Arc<dyn ControlPlane>, pace: Pace, reports_refused: bool) -> Arc<Self> {
        Arc::new(Self { inner, pace, reports_refused, reads: Mutex::default() })
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }
}

#[async_trait]
impl ControlPlane for Paced {
    async fn record(&self) -> Result<Option<Record>, ContactError> {
        self.reads.lock().unwrap().push(Instant::now());
        self.inner.record().await
    }

    async fn changed(&self, version: &str, within: Duration) -> Result<(), ContactError> {
        self.inner.changed(version, within).await
    }

    async fn claim(&self, claim: Claim) -> Result<(), WriteError> {
        self.inner.claim(claim).await
    }

    async fn report(&self, report: Report) -> Result<(), WriteError> {
        if self.reports_refused && report.progress.is_some() {
            return Err(WriteError::Conflict);
        }
        self.inner.report(report).await
    }

    async fn release(&self, word: LastWord) -> Result<(), WriteError> {
        self.inner.release(word).await
    }

    async fn stage(&self, name: &str) -> Result<Option<StageRead>, ContactError> {
        self.inner.stage(name).await
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn hold_off(&self) -> Duration {
        self.inner.hold_off()
    }
}

/// An executor at work, paced so, and its API server.
async fn at_work(pace: Pace, orphan_after: &str, reports_refused: bool) -> (Arc<Api>, Arc<Paced>, Asked, Life) {
    let api = Api::start();
    let (control, asked) = api.control(Arc::new(heartbeat()));
    let control = Paced::new(Arc::new(control), pace, reports_refused);
    let life = Life::start(Arc::<Paced>::clone(&control), true, orphan_after);
    api.grant(POD, work());
    // A claim, and then what it reports.
    let wanted = if reports_refused { 1 } else { 2 };
    until("it is at work", || async { api.answered(Ask::Write) >= wanted }).await;
    (api, control, asked, life)
}

/// The control: without pauses, a minute's requests are made within seconds, whatever it is that fails.
#[tokio::test(flavor = "multi_thread")]
async fn without_pauses_an_executor_asks_all_the_time() {
    let none = Pauses { first: Duration::ZERO, longest: Duration::ZERO };
    let none = Pace { reads: none, watches: none, writes: none };
    for mood in [Mood::Away, Mood::Refuses(503, None), Mood::Empty, Mood::ReadsOld, Mood::RefusesWrites(429)] {
        let (api, _, asked, life) = at_work(none, "30m", false).await;
        api.set(mood);
        is_asked_all_the_time(&asked).await;
        api.set(Mood::Well);
        assert_eq!(life.stop().await, ExitStatus::Stopped, "{mood:?}");
    }
    for mood in [Mood::EndsWatches, Mood::RefusesWatches(403)] {
        let api = Api::start();
        let (control, asked) = api.control(Arc::new(heartbeat()));
        api.set(mood);
        let life = Life::start(Paced::new(Arc::new(control), none, false), true, "30m");
        is_asked_all_the_time(&asked).await;
        assert_eq!(life.stop().await, ExitStatus::Stopped, "{mood:?}");
    }
}

async fn is_asked_all_the_time(asked: &Asked) {
    let start = Instant::now();
    let all = || asked.within(start, Duration::from_secs(10)).values().sum::<u64>();
    until("more requests in 10 s than in two good minutes", || async { all() > 2 * AT_MOST }).await;
}

/// A child process of a local run whose parent is gone looks for it a few times a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_its_parent_does_not_spin() {
    let (api, control, _, life) = at_work(Pace::LOCAL, "30m", false).await;
    api.set(Mood::Away);
    let before = control.reads();
    until("eight reads that fail", || async { control.reads() >= before + 8 }).await;
    let before = control.reads();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let reads = control.reads() - before;
    assert!((3..=12).contains(&reads), "{reads} in 5 s");
    assert_eq!(life.stop().await, ExitStatus::Stopped);
}

/// SIGTERM, and `orphanAfter`, do not wait for the end of a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_cut_short_by_sigterm_and_by_the_end_of_patience() {
    for mood in [Mood::Refuses(503, None), Mood::Refuses(429, Some("10"))] {
        let (api, control, _, life) = at_work(Pace::API_SERVER, "30m", false).await;
        api.set(mood);
        let before = control.reads();
        until("a refusal", || async { control.reads() > before + usize::from(mood == Mood::Refuses(503, None)) }).await;
        let start = Instant::now();
        assert_eq!(life.stop().await, ExitStatus::Stopped);
        assert!(start.elapsed() < SLACK, "{mood:?}: {:?}", start.elapsed());

        let (api, control, _, life) = at_work(Pace::API_SERVER, "8s", false).await;
        let last = Instant::now();
        api.set(mood);
        assert_eq!(life.exit().await, ExitStatus::Orphaned);
        let alone = last.elapsed();
        // It may have been heard from shortly after; and it looks once more before it ends.
        assert!(alone >= Duration::from_secs(6) && alone < Duration::from_secs(8) + SLACK, "{mood:?}: {alone:?}");
        assert!(control.reads() < 20, "{}", control.reads());
    }
}

/// While its writes are refused, and it pauses between them, an owner still sees at once that it is one no longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_reports_are_refused_gives_way_at_once() {
    let (api, control, _, life) = at_work(Pace::API_SERVER, "30m", true).await;
    let before = control.reads();
    until("reports that are refused", || async { control.reads() >= before + 4 }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    api.grant("pod-2", work());
    assert_eq!(life.exit().await, ExitStatus::GaveWay);
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

/// The end of an attempt is reported at once, although the record cannot be watched, and its next look is far off.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_in_a_pause_is_reported_at_once() {
    let api = Api::start();
    api.change(|record| record.spec.renew_interval = indexbuild_api::renew_interval(1_000));
    let (control, asked) = api.control(Arc::new(heartbeat()));
    let life = Life::start(Arc::new(control), false, "30m");
    let start = Instant::now();
    api.set(Mood::RefusesWatches(503));
    // At work as long as its stage is missing.
    api.grant(POD, work());
    until("four watches that are refused", || async {
        asked.within(start, PATIENCE).get(&Ask::Watch).is_some_and(|watches| *watches >= 4)
    })
    .await;
    api.freeze_nothing();
    until("its stage is read", || async { api.answered(Ask::Stage) >= 1 }).await;
    let told = || api.record().status.and_then(|status| status.report?.error);
    let late = until("its end is told", || async { told().is_some() }).await;
    assert!(late < SLACK, "{late:?}");
    assert_eq!(life.exit().await, ExitStatus::WorkFailed);
}

/// A token that was refused is read again before the next call; the clients that were made for that leave no connections
/// behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_read_again_and_no_connection_stays() {
    let api = Api::start();
    api.let_in("new");
    let token = Arc::new(Mutex::new("old".to_owned()));
    let (config, read) = (api.config(), Arc::clone(&token));
    let connect = move || {
        let mut config = config.clone();
        config.headers.push((http::header::AUTHORIZATION, format!("Bearer {}", read.lock().unwrap()).parse().unwrap()));
        client(config)
    };
    let control = KubernetesControl::connecting(place(), Arc::new(heartbeat()), connect).unwrap();
    for _ in 0..50 {
        assert!(matches!(control.record().await, Err(ContactError::Refused(_))));
        let watched = control.changed("1", Duration::from_secs(5)).await;
        assert!(matches!(watched, Err(ContactError::Refused(_))), "{watched:?}");
    }
    assert!(api.most_connections() <= 5, "{} at one time", api.most_connections());
    "new".clone_into(&mut token.lock().unwrap());
    assert!(control.record().await.unwrap().is_some(), "it is let in by the very next call");
    until("the former clients' connections are closed", || async { api.open_connections() <= 1 }).await;
}
