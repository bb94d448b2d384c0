//! I9: a build that is deleted right after any write, and in any stage, leaves nothing behind but what its retention
//! keeps; and nothing can be published behind its tombstone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::scripted::bench::BUILD;
use crate::scripted::store::Commit;
use crate::scripted::{Bench, Script};
use futures::StreamExt as _;
use indexbuild_api::{Phase, WorkKind};
use indexbuild_faultproxy::{RequestMatch, Rule, When};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

const SLOTS: u32 = 2;
const ABREAST: usize = 10;
const PATIENCE: Duration = Duration::from_secs(90);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// When the build is deleted.
#[derive(Clone, Debug)]
enum Moment {
    /// Right after the operator's n-th write.
    Write(u64),
    /// While a work of this kind is in hand.
    During(WorkKind),
    /// While it pauses.
    Suspended,
    /// After its end, when the index stays.
    Complete,
    /// After its end, when the index goes with it.
    CompleteWithIndex,
    /// While it encodes; and the operator is killed at its n-th write after that.
    Killed(u64, When),
}

struct Left {
    moment: Moment,
    /// Whether the moment came, and the kill with it.
    fired: bool,
    objects: Vec<String>,
    wrong: Option<String>,
    took: Duration,
}

async fn run(bench: &Bench, moment: Moment) -> Left {
    let namespace = format!("d-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    bench.namespace(&namespace).await;
    let proxy = bench.proxy().await;
    let script = &bench.machine.script;
    let held = match &moment {
        Moment::During(kind) => Some(*kind),
        Moment::Suspended | Moment::Killed(..) => Some(WorkKind::Encode),
        Moment::Write(_) | Moment::Complete | Moment::CompleteWithIndex => None,
    };
    if let Some(kind) = held {
        script.hold(&namespace, kind);
    }
    let mut operators = vec![bench.operator(&proxy, &namespace, "lease-1", None).await];
    let with_index = matches!(moment, Moment::CompleteWithIndex);
    bench
        .build(&namespace, BUILD, SLOTS, |build| {
            if with_index {
                build["spec"]["output"]["deletionPolicy"] = json!("Delete");
            }
        })
        .await;
    let phase = |bench: &Bench, phase: Phase| {
        let build = bench.machine.ledger().read_build(&namespace);
        build.and_then(|build| build.status.clone()?.phase) == Some(phase)
    };
    let reached = match &moment {
        Moment::Write(nth) => {
            let start = Instant::now();
            while proxy.mutating() < *nth && start.elapsed() < PATIENCE && !bench.is_settled(&namespace) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        }
        Moment::During(kind) => bench.until(PATIENCE, |_| script.in_hand(&namespace, *kind) > 0).await,
        Moment::Killed(..) => bench.until(PATIENCE, |_| script.in_hand(&namespace, WorkKind::Encode) > 0).await,
        Moment::Suspended => {
            bench.until(PATIENCE, |_| script.in_hand(&namespace, WorkKind::Encode) > 0).await.unwrap();
            let pause = Patch::Merge(json!({"spec": {"suspend": true}}));
            bench.builds(&namespace).patch(BUILD, &PatchParams::default(), &pause).await.unwrap();
            bench.until(PATIENCE, |bench| phase(bench, Phase::Suspended)).await
        }
        Moment::Complete => bench.until(PATIENCE, |bench| bench.is_settled(&namespace)).await,
        // The finalizer stays.
        Moment::CompleteWithIndex => bench.until(PATIENCE, |bench| phase(bench, Phase::Complete)).await,
    };
    let mut wrong = reached.is_err().then(|| "the moment did not come".to_owned());
    let uid = bench.builds(&namespace).get(BUILD).await.unwrap().uid().unwrap();
    let published = matches!(script.store.commit(&uid), Some(Commit::Manifest(_)));
    let mut fired = reached.is_ok();
    let stop = match &moment {
        Moment::Killed(nth, when) => {
            fired = false;
            Some(proxy.add_rule(Rule::StopAt { which: RequestMatch::mutating(), nth: *nth, when: *when }))
        }
        Moment::Write(_) | Moment::During(_) | Moment::Suspended | Moment::Complete | Moment::CompleteWithIndex => None,
    };
    let begun = Instant::now();
    bench.delete(&namespace, BUILD).await;
    if matches!(held, Some(WorkKind::Clean)) {
        script.release(&namespace, WorkKind::Clean);
    }
    let mut stop = stop;
    // The garbage collector takes what the build owned, at its own pace.
    let mut objects;
    let mut there;
    loop {
        if stop.as_ref().is_some_and(|stop| stop.fired() > 0) {
            fired = true;
            let dead = operators.pop().unwrap();
            tokio::task::spawn_blocking(move || dead.kill()).await.unwrap();
            stop = None;
            operators.push(bench.operator(&proxy, &namespace, "lease-2", None).await);
        }
        there = bench.builds(&namespace).get_opt(BUILD).await.unwrap();
        objects = everything(bench, &namespace).await;
        if (there.is_none() && objects.is_empty()) || begun.elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = begun.elapsed();
    // What was on its way when the build went has arrived when its operator is gone.
    tokio::task::spawn_blocking(move || drop(operators)).await.unwrap();
    if objects.is_empty() {
        objects = everything(bench, &namespace).await;
    }
    if script.has_begun(&uid) && script.store.commit(&uid).is_none() {
        wrong =
            Some("owners have worked, and neither a commit nor a tombstone stands at the manifest's place".to_owned());
    }
    if with_index && published && script.store.commit(&uid) != Some(Commit::Tombstone) {
        wrong = Some("the index was to go with its build, and is still published".to_owned());
    }
    let forbidden = proxy.forbidden();
    if !forbidden.is_empty() {
        wrong = Some(format!("{forbidden:?}"));
    }
    if !objects.is_empty() {
        let records = bench.records(&namespace).await;
        wrong = Some(format!("{} {records}", wrong.unwrap_or_default()));
    }
    if let Some(build) = there {
        wrong = Some(format!("not gone within {PATIENCE:?}: {:?} {:#?}", build.finalizers(), build.status));
    }
    Left { moment, fired, objects, wrong, took }
}

async fn everything(bench: &Bench, namespace: &str) -> Vec<String> {
    let mut all = bench.objects(namespace).await;
    let volumes: Api<PersistentVolume> = Api::all(bench.admin.clone());
    let volumes = volumes.list(&ListParams::default().labels("scripted=yes")).await.unwrap();
    let of_namespace = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claim.and_then(|claim| claim.namespace.as_deref()) == Some(namespace)
    };
    all.extend(
        volumes.items.iter().filter(|volume| of_namespace(volume)).map(|volume| format!("PV {}", volume.name_any())),
    );
    all
}

async fn sweep(bench: &Bench, what: &str, moments: Vec<Moment>) -> usize {
    let begun = Instant::now();
    let all: Vec<Left> =
        futures::stream::iter(moments).map(|moment| run(bench, moment)).buffer_unordered(ABREAST).collect().await;
    let longest = all.iter().max_by_key(|left| left.took).map(|left| format!("{:?}: {:?}", left.moment, left.took));
    let fired = all.iter().filter(|left| left.fired).count();
    println!("{what}: {} deletions ({fired} as meant) in {:?}, the longest {longest:?}", all.len(), begun.elapsed());
    let bad: Vec<String> = all
        .iter()
        .filter(|left| !left.objects.is_empty() || left.wrong.is_some())
        .map(|left| format!("{:?}: left {:?} {}", left.moment, left.objects, left.wrong.as_deref().unwrap_or_default()))
        .collect();
    assert!(bad.is_empty(), "{what}: {} of {}\n{}", bad.len(), all.len(), bad.join("\n"));
    fired
}

/// All writes by `INDEXBUILD_SWEEP=full`, which `make test-long` sets; else every tenth or so.
fn every(full: usize, thinned: usize) -> usize {
    if std::env::var("INDEXBUILD_SWEEP").is_ok_and(|size| size == "full") { full } else { thinned }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_deleted_after_any_write_and_in_any_stage_leaves_nothing_behind() {
    let script = Script::new(SLOTS, SLOTS, Duration::from_millis(30));
    let Some(bench) = Bench::start("deletions at any moment", script).await else { return };
    // How many writes there are.
    bench.namespace("whole").await;
    let proxy = bench.proxy().await;
    let operator = bench.operator(&proxy, "whole", "lease", None).await;
    bench.build("whole", BUILD, SLOTS, |_| {}).await;
    bench.until(PATIENCE, |bench| bench.is_settled("whole")).await.unwrap();
    let writes = proxy.mutating();
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();

    let stages = [WorkKind::Plan, WorkKind::Encode, WorkKind::Sort, WorkKind::Publish, WorkKind::Clean];
    let mut moments: Vec<Moment> = stages.into_iter().map(Moment::During).collect();
    moments.extend([Moment::Suspended, Moment::Complete, Moment::CompleteWithIndex]);
    let all = moments.len();
    assert_eq!(sweep(&bench, "in each stage", moments).await, all);
    sweep(&bench, "after each write", (1..=writes).step_by(every(1, 10)).map(Moment::Write).collect()).await;

    // The operator is killed while it cleans up, around each of its writes, until there are no more.
    for when in [When::BeforeForward, When::AfterForward] {
        let mut first = 1;
        loop {
            let step = every(1, 5);
            let last = first + 10 * step as u64 - 1;
            let moments: Vec<Moment> = (first..=last).step_by(step).map(|nth| Moment::Killed(nth, when)).collect();
            let fired =
                sweep(&bench, &format!("killed {when:?} a write of the clean-up, {first} to {last}"), moments).await;
            if fired < 10 {
                assert!(first > 1 || fired > 1, "the clean-up has {fired} writes only");
                break;
            }
            first = last + 1;
        }
    }

    // The control: without its finalizer a deleted build is gone before anything is cleaned.
    bench.namespace("control").await;
    let script = &bench.machine.script;
    script.hold("control", WorkKind::Encode);
    let proxy = bench.proxy().await;
    let operator = bench.operator(&proxy, "control", "lease", None).await;
    bench.build("control", BUILD, SLOTS, |_| {}).await;
    bench.until(PATIENCE, |_| script.in_hand("control", WorkKind::Encode) == 2).await.unwrap();
    let uid = bench.machine.ledger().read_build("control").unwrap().uid().unwrap();
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    // In this order: the operator puts it back on a build that stays.
    bench.delete("control", BUILD).await;
    bench.builds("control").patch(BUILD, &PatchParams::default(), &bare).await.unwrap();
    let gone = bench.until(Duration::from_secs(15), |bench| bench.is_gone("control")).await;
    let left = everything(&bench, "control").await;
    assert!(gone.is_err() && !left.is_empty(), "without its finalizer nothing was left over: {left:?}");
    assert_eq!(script.store.commit(&uid), None, "nobody could write a tombstone");
    tokio::task::spawn_blocking(move || operator.kill()).await.unwrap();
    bench.end().await;
}
