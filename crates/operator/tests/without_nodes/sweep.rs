//! Every write of a build, swept: the operator is killed before and after each one, each watch event is hidden once,
//! reads are served stale. The end is that of an undisturbed run, with as many pods, claims and records made and
//! removed; and what nobody may do was not tried.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::scripted::bench::{BUILD, EndState};
use crate::scripted::deputy::Tamper;
use crate::scripted::{Bench, Script};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use indexbuild_faultproxy::{Answer, EventMatch, RequestMatch, Rule, Times, Verb, When};
use kube::Client;
use kube::client::Body;

/// Slots of the build that is swept.
const SLOTS: u32 = 2;
/// Builds that are disturbed at the same time, each with an operator and a namespace of its own.
const ABREAST: usize = 10;
/// What a disturbed build has for its end.
const PATIENCE: Duration = Duration::from_secs(120);

/// One disturbance.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    Nothing,
    /// The operator is killed at its n-th write, and another one started.
    Kill(u64, When),
    /// The answer to the n-th write is lost.
    NoAnswer(u64),
    /// The n-th event of a kind never comes.
    Hidden(&'static str, u64),
    /// From the n-th write on, some reads of a kind are answered as they were then.
    Stale(Reads, u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    All,
    Of(&'static str, &'static str),
}

impl Reads {
    fn which(self) -> RequestMatch {
        let reads = RequestMatch::verb(Verb::List).or_verb(Verb::Get);
        match self {
            Self::All => reads,
            Self::Of(group, resource) => reads.resource(group, resource),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("undisturbed"),
            Self::Kill(n, When::BeforeForward) => write!(f, "killed before write {n}"),
            Self::Kill(n, When::AfterForward) => write!(f, "killed after write {n}"),
            Self::NoAnswer(n) => write!(f, "no answer to write {n}"),
            Self::Hidden(kind, n) => write!(f, "event {n} of {kind} hidden"),
            Self::Stale(reads, n) => write!(f, "stale reads ({reads:?}) from write {n} on"),
        }
    }
}

struct Outcome {
    fault: Fault,
    /// Whether the disturbance came to pass.
    fired: bool,
    /// How it ended; `Err`: it did not.
    end: Result<EndState, String>,
    forbidden: Vec<String>,
    writes: u64,
    counts: BTreeMap<(Verb, String), u64>,
    took: Duration,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

async fn run(bench: &Bench, fault: Fault, tamper: Option<Tamper>) -> Outcome {
    let begun = Instant::now();
    let namespace = format!("s-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    bench.namespace(&namespace).await;
    let proxy = bench.proxy().await;
    let mut handle =
        match &fault {
            Fault::Nothing | Fault::Stale(..) => None,
            Fault::Kill(nth, when) => {
                Some(proxy.add_rule(Rule::StopAt { which: RequestMatch::mutating(), nth: *nth, when: *when }))
            }
            Fault::NoAnswer(nth) => Some(proxy.add_rule(Rule::Answer {
                which: RequestMatch::mutating(),
                answer: Answer::GatewayTimeoutAfterCommit,
                times: Times::Nth(*nth),
            })),
            Fault::Hidden(kind, nth) => Some(proxy.add_rule(Rule::HideEvents {
                which: RequestMatch::any(),
                events: EventMatch::any().kind(kind).nth(*nth),
            })),
        };
    let mut stale_until = None;
    let mut fired = false;
    let mut operators = vec![bench.operator(&proxy, &namespace, "lease-1", tamper).await];
    bench.build(&namespace, BUILD, SLOTS, |_| {}).await;
    let mut end = Err(());
    while begun.elapsed() < PATIENCE {
        if bench.is_settled(&namespace) {
            end = Ok(());
            break;
        }
        match &fault {
            Fault::Kill(..) if !fired && handle.as_ref().is_some_and(|handle| handle.fired() > 0) => {
                fired = true;
                let dead = operators.pop().unwrap();
                // Joining its thread takes a moment, and must not keep others waiting.
                let ended = tokio::task::spawn_blocking(move || dead.kill()).await.unwrap();
                assert_eq!(ended, None, "the operator had ended by itself");
                handle = None;
                operators.push(bench.operator(&proxy, &namespace, "lease-2", tamper).await);
            }
            Fault::Stale(reads, nth) if !fired && proxy.mutating() >= *nth => {
                fired = true;
                handle = Some(proxy.add_rule(Rule::OldVersion { which: reads.which() }));
                stale_until = Some(Instant::now() + Duration::from_millis(1_500));
            }
            Fault::Stale(..) if stale_until.is_some_and(|until| until < Instant::now()) => {
                handle = None;
                stale_until = None;
            }
            Fault::Nothing | Fault::Kill(..) | Fault::NoAnswer(_) | Fault::Hidden(..) | Fault::Stale(..) => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Some(handle) = &handle
        && matches!(fault, Fault::NoAnswer(_) | Fault::Hidden(..))
    {
        fired = handle.fired() > 0;
    }
    let state = bench.end_state(&namespace).await;
    let end = match end {
        Ok(()) => Ok(state),
        Err(()) => {
            let messages = bench.machine.ledger().read_build(&namespace).and_then(|build| build.status.clone());
            let messages = messages.map(|status| status.conditions.into_iter().map(|c| c.message).collect::<Vec<_>>());
            Err(format!("not settled within {PATIENCE:?}: {state:#?}\n{messages:#?}"))
        }
    };
    let outcome = Outcome {
        fired,
        end,
        forbidden: proxy.forbidden().iter().map(|(facts, what)| format!("{facts}: {what}")).collect(),
        writes: proxy.mutating(),
        counts: proxy.counts(),
        took: begun.elapsed(),
        fault,
    };
    tokio::task::spawn_blocking(move || drop(operators)).await.unwrap();
    outcome
}

/// What differs from the undisturbed run; `None`: nothing.
fn damage(outcome: &Outcome, reference: &EndState) -> Option<String> {
    let Outcome { fault, end, forbidden, .. } = outcome;
    if !forbidden.is_empty() {
        return Some(format!("{fault}: {forbidden:?}"));
    }
    match end {
        Ok(state) if state == reference => None,
        Ok(state) => Some(format!("{fault}: ended as\n{state:#?}\ninstead of\n{reference:#?}")),
        Err(stuck) => Some(format!("{fault}: {stuck}")),
    }
}

async fn sweep(bench: &Bench, what: &str, faults: Vec<Fault>, tamper: Option<Tamper>) -> Vec<Outcome> {
    let begun = Instant::now();
    let all = faults.len();
    let outcomes: Vec<Outcome> =
        futures::stream::iter(faults).map(|fault| run(bench, fault, tamper)).buffer_unordered(ABREAST).collect().await;
    let fired = outcomes.iter().filter(|outcome| outcome.fired).count();
    let longest = outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default();
    println!(
        "{what}: {fired} of {all} disturbances came to pass, {:?} in all, the longest build {longest:?}",
        begun.elapsed()
    );
    outcomes
}

fn assert_unharmed(what: &str, outcomes: &[Outcome], reference: &EndState) {
    let damaged: Vec<String> = outcomes.iter().filter_map(|outcome| damage(outcome, reference)).collect();
    assert!(damaged.is_empty(), "{what}: {} of {}\n{}", damaged.len(), outcomes.len(), damaged.join("\n\n"));
}

/// The undisturbed run: twice, so that what is compared is known not to differ by itself.
async fn reference(bench: &Bench) -> (EndState, u64, BTreeMap<(Verb, String), u64>) {
    let first = run(bench, Fault::Nothing, None).await;
    let second = run(bench, Fault::Nothing, None).await;
    let state = first.end.unwrap();
    assert_eq!(state, second.end.unwrap(), "two undisturbed runs differ");
    println!(
        "undisturbed: {:?} and {:?}, {} and {} writes\n{state:#?}",
        first.took, second.took, first.writes, second.writes
    );
    assert!(state.unreported.is_empty() && state.duplicates.is_empty(), "{state:#?}");
    for ((verb, kind), count) in first.counts.iter().filter(|((verb, _), _)| verb.mutates()) {
        println!("  {verb} {kind}: {count}");
    }
    (state, first.writes.max(second.writes), first.counts)
}

fn script() -> Script {
    Script::new(SLOTS, SLOTS, Duration::from_millis(30))
}

/// All writes, events and reads by `INDEXBUILD_SWEEP=full`, which `make test-long` sets; else every ninth or so.
fn every(full: usize, thinned: usize) -> usize {
    if std::env::var("INDEXBUILD_SWEEP").is_ok_and(|size| size == "full") { full } else { thinned }
}

/// Hides one event after the other of each kind, until there are no more.
async fn hide_each_event(bench: &Bench, reference: &EndState) {
    for kind in ["IndexBuild", "EngineDirectory", "Pod", "PersistentVolumeClaim", "ConfigMap"] {
        let what = format!("hidden events of {kind}");
        let (mut first, mut hidden) = (1, 0);
        loop {
            let step = every(1, 12);
            let last = first + u64::try_from(ABREAST * step).unwrap() - 1;
            let faults = (first..=last).step_by(step).map(|nth| Fault::Hidden(kind, nth)).collect();
            let outcomes = sweep(bench, &what, faults, None).await;
            assert_unharmed(&what, &outcomes, reference);
            hidden += outcomes.iter().filter(|outcome| outcome.fired).count();
            if outcomes.iter().any(|outcome| !outcome.fired) {
                break;
            }
            first = last + 1;
        }
        assert!(hidden > 0, "no event of {kind} was ever hidden");
    }
}

const READS: [Reads; 6] = [
    Reads::All,
    Reads::Of("indexbuild.dev", "indexbuilds"),
    Reads::Of("indexbuild.dev", "enginedirectories"),
    Reads::Of("", "pods"),
    Reads::Of("", "persistentvolumeclaims"),
    Reads::Of("", "configmaps"),
];

fn stale(reads: &[Reads], writes: u64, step: usize) -> Vec<Fault> {
    reads.iter().flat_map(|reads| (1..=writes).step_by(step).map(|nth| Fault::Stale(*reads, nth))).collect()
}

/// Names that never collide: what exists already is made once more under another name.
fn names_never_collide(client: Client) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let client = client.clone();
        async move {
            let makes_pod = request.method() == http::Method::POST && request.uri().path().ends_with("/pods");
            if !makes_pod {
                return client.send(request).await;
            }
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let answer = client.send(http::Request::from_parts(parts.clone(), Body::from(body.clone()))).await?;
            if answer.status() != http::StatusCode::CONFLICT {
                return Ok(answer);
            }
            let mut pod: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let suffix = uuid::Uuid::new_v4().simple().to_string();
            pod["metadata"]["name"] = format!("{name}-{}", &suffix[..5]).into();
            let body = serde_json::to_vec(&pod).unwrap();
            let mut again = http::Request::from_parts(parts, Body::from(body));
            again.headers_mut().remove(http::header::CONTENT_LENGTH);
            client.send(again).await
        }
    });
    Client::new(service, "default")
}

/// I1, I4, G1, G2, G10.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_operator_is_disturbed_at_any_write_event_or_read_ends_as_if_it_had_not_been() {
    let Some(bench) = Bench::start("the sweep of writes, events and reads", script()).await else { return };
    let (state, writes, _) = reference(&bench).await;
    for (first, when) in [(1, When::BeforeForward), (every(1, 5) as u64, When::AfterForward)] {
        let faults = (first..=writes).step_by(every(1, 9)).map(|nth| Fault::Kill(nth, when)).collect();
        let what = format!("killed {when:?}");
        let outcomes = sweep(&bench, &what, faults, None).await;
        assert_unharmed(&what, &outcomes, &state);
        let missed = outcomes.iter().filter(|outcome| !outcome.fired).count();
        assert!(missed < outcomes.len() / 4, "{missed} of {} writes were never reached", outcomes.len());
    }
    let lost = (2..=writes).step_by(every(1, 15)).map(Fault::NoAnswer).collect();
    let outcomes = sweep(&bench, "answers lost", lost, None).await;
    assert_unharmed("answers lost", &outcomes, &state);
    hide_each_event(&bench, &state).await;
    let outcomes = sweep(&bench, "stale reads", stale(&READS, writes, every(3, 60)), None).await;
    assert_unharmed("stale reads", &outcomes, &state);

    // The control: pods' names do not collide, which nobody notices as long as nothing disturbs.
    let undisturbed = run(&bench, Fault::Nothing, Some(names_never_collide)).await;
    assert_eq!(damage(&undisturbed, &state), None);
    let pods = stale(&[Reads::Of("", "pods")], writes / 2, every(1, 6));
    let outcomes = sweep(&bench, "control: names that never collide", pods, Some(names_never_collide)).await;
    let twice =
        outcomes.iter().filter_map(|outcome| outcome.end.as_ref().ok()).filter(|end| !end.duplicates.is_empty());
    assert!(
        twice.count() > 0,
        "with pods' names that never collide, stale reads made no pod twice: the sweep sees nothing"
    );
    bench.machine.ledger().assert_whole();
    bench.end().await;
}
