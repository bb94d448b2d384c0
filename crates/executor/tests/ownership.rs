//! Losing contact, giving way, stopping, taking over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indexbuild_api::{Epoch, WorkErrorReason};
use indexbuild_engine::{RunSidecar, Volume};
use indexbuild_executor::ExitStatus;
use indexbuild_index::manifest::{Document, Tombstone};
use support::{Scene, TURN, UID, content};

/// So slow that one Encode takes a second and more: its first batches are free, its next ones wait.
const SLOW: u64 = 40_000;

/// So slow that no Encode ends while a test looks on.
const STANDING: u64 = 2_000;

fn slow() -> Scene {
    Scene::with(&serde_json::json!({"rowsPerSecond": SLOW, "parallelism": 2}))
}

fn held(scene: &Scene) -> bool {
    Volume::open(&scene.volume(), UID).unwrap().attempts().unwrap().iter().any(|attempt| attempt.held)
}

/// Starts a work and cuts its owner off while it is at it.
async fn cut_off_at_work(scene: &Scene) -> Epoch {
    let epoch = scene.parent.grant("pod-1", scene.work("encode-0", &["plan"]));
    scene.parent.wait_for(epoch, "anything", |_| true).await;
    scene.parent.set_reachable(false);
    assert!(scene.parent.report().unwrap().result.is_none(), "it had ended before it was cut off");
    epoch
}

/// G11, I7: a stale owner closes everything and ends in bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_sees_a_higher_epoch_gives_way_and_holds_nothing() {
    let _turn = TURN.lock().await;
    let scene = Scene::with(&serde_json::json!({"rowsPerSecond": STANDING, "parallelism": 2}));
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    scene.parent.grant("pod-1", scene.work("encode-0", &["plan"]));
    let start = Instant::now();
    while !held(&scene) {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "while it works it holds its attempt: {:#?}",
            scene.parent.report()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let start = Instant::now();
    scene.parent.grant("pod-2", scene.work("encode-0", &["plan"]));
    assert_eq!(child.exit().await, ExitStatus::GaveWay);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(indexbuild_engine::open_handles(), 0);
    assert!(!held(&scene));
    let volume = Volume::open(&scene.volume(), UID).unwrap();
    assert!(volume.remove_all().unwrap(), "nobody holds anything");
}

/// Being cut off harms nobody, and the result is accepted afterwards if the epoch is still its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_goes_on_and_its_result_is_accepted_afterwards() {
    let _turn = TURN.lock().await;
    let scene = slow();
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let epoch = cut_off_at_work(&scene).await;
    // Its result stands in its own prefix while nobody can be told.
    let results = || {
        Scene::files(&scene.prefix())
            .iter()
            .any(|path| path.starts_with("attempts/encode-0/") && path.ends_with("result.json"))
    };
    let start = Instant::now();
    while !results() {
        assert!(start.elapsed() < Duration::from_secs(60), "it stopped when it was cut off");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(scene.parent.report().unwrap().result.is_none());
    scene.parent.set_reachable(true);
    let result = scene.parent.outcome(epoch).await.unwrap();
    let chosen = scene.choose(&result);
    assert!(scene.encode_result(&chosen).rows > 0);
    scene.parent.revoke();
    assert_eq!(child.exit().await, ExitStatus::Done);
}

/// G2: what stands under the name of a stage is believed by the digest in the grant, and by nothing else. It waits as long
/// as it takes, and counts no failure: whoever put it there is told of by the control plane.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_reads_no_stage_but_the_one_whose_digest_its_grant_names() {
    let _turn = TURN.lock().await;
    let scene = slow();
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let frozen = scene.parent.frozen("plan");
    let mut forged = frozen.clone();
    forged.chosen[0].boot_nonce = "forged".to_owned();
    scene.parent.put_stage(forged.clone());
    let digest = frozen.frozen().unwrap().digest;
    let work = indexbuild_api::Work { input_digests: vec![digest], ..scene.work("encode-0", &["plan"]) };
    let reads = scene.parent.reads();
    let epoch = scene.parent.grant("pod-2", work);
    // Another process: it has read no plan yet. The first one had done its work.
    assert_eq!(child.exit().await, ExitStatus::Done);
    let second = scene.child("pod-2");
    let start = Instant::now();
    while scene.parent.reads() < reads + 3 {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not look again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = scene.parent.report();
    assert!(
        report.is_none_or(|report| report.result.is_none() && report.error.is_none()),
        "it went on by a forged plan"
    );
    scene.parent.put_stage(frozen);
    assert!(scene.parent.outcome(epoch).await.is_ok());
    scene.parent.revoke();
    assert_eq!(second.exit().await, ExitStatus::Done);
    // The control: where the grant names none, it is led by what is there.
    scene.parent.put_stage(forged);
    let third = scene.child("pod-3");
    let error = scene.failed("pod-3", scene.work("encode-0", &["plan"])).await;
    assert!(error.reason == WorkErrorReason::Verification && error.message.contains("forged"), "{error:?}");
    third.exit().await;
}

/// I9: what an owner uploads after its build has ended is removed by itself when it gives way, or is told to stop
/// while it is still cut off; while the build goes on, nothing of it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_is_removed_when_the_build_has_ended_and_kept_while_it_goes_on() {
    let _turn = TURN.lock().await;
    for (ended, told_to_stop) in [(false, false), (true, false), (false, true), (true, true)] {
        let scene = slow();
        let child = scene.child("pod-1");
        scene.plan("pod-1").await;
        cut_off_at_work(&scene).await;
        let late = || {
            let files = Scene::files(&scene.prefix());
            files.into_iter().filter(|path| path.starts_with("attempts/encode-0/")).collect::<Vec<_>>()
        };
        let start = Instant::now();
        while !late().iter().any(|path| path.ends_with("result.json")) {
            assert!(start.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if ended {
            let tombstone = Document::Tombstone(Tombstone {
                version: 1,
                put_id: "by another".into(),
                build: scene.plan_file().build,
                reason: "aborted meanwhile".into(),
            });
            std::fs::write(scene.prefix().join("manifest.json"), tombstone.to_bytes().unwrap()).unwrap();
        }
        if told_to_stop {
            assert_eq!(child.stop().await, ExitStatus::Stopped);
        } else {
            scene.parent.grant("pod-2", scene.work("encode-1", &["plan"]));
            scene.parent.set_reachable(true);
            assert_eq!(child.exit().await, ExitStatus::GaveWay);
        }
        assert_eq!(late().is_empty(), ended, "{:?}", late());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_contact_ends_after_orphan_after() {
    let _turn = TURN.lock().await;
    let scene = Scene::with(&serde_json::json!({
        "rowsPerSecond": STANDING,
        "disruption": {"replaceAfter": "500ms", "orphanAfter": "1s"},
    }));
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let epoch = scene.parent.grant("pod-1", scene.work("encode-0", &["plan"]));
    scene.parent.wait_for(epoch, "anything", |_| true).await;
    scene.parent.set_reachable(false);
    assert_eq!(child.exit().await, ExitStatus::Orphaned);
    assert!(!held(&scene));
}

/// SIGTERM: what is whole is sealed, and the next incarnation takes all of it over: no sealed work
/// is done twice (counted from all attempts' sidecars).
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_owner_sealed_is_taken_over_and_none_of_it_done_again() {
    let _turn = TURN.lock().await;
    for parallelism in [1, 2] {
        let mut scene = Scene::with(&serde_json::json!({
            "rowsPerSecond": SLOW,
            "parallelism": parallelism,
            "indexes": [{"name": "by_k", "columns": [{"name": "k"}]}],
        }));
        scene.threads = 1;
        let child = scene.child("pod-1");
        scene.plan("pod-1").await;
        let plan = scene.plan_file();
        // A round names its splits itself: here all of them, so that some are whole and some are not.
        let splits: Vec<u32> = plan.splits.iter().map(|split| split.id).collect();
        let id = "encode-r1-0";
        let work = indexbuild_api::Work { splits: splits.clone(), ..scene.work(id, &["plan"]) };
        let first = plan.splits[0].rows.unwrap();
        let epoch = scene.parent.grant("pod-1", work.clone());
        scene.parent.wait_for(epoch, "a split", |report| report.rows.unwrap_or(0) > first).await;
        assert_eq!(child.stop().await, ExitStatus::Stopped);
        assert!(!held(&scene));
        let report = scene.parent.report().unwrap();
        assert!(report.result.is_none() && report.error.is_none(), "stopping is no failure: {report:?}");

        scene.build.spec.rows_per_second = None;
        let child = scene.child("pod-2");
        let chosen = scene.done("pod-2", work).await;
        let result = scene.encode_result(&chosen);
        let statistics = &result.statistics;
        assert!(statistics.rows_adopted >= first, "{statistics:?}");
        assert_eq!(statistics.rows_redone, 0, "{statistics:?}");
        assert_eq!(statistics.rows + statistics.rows_adopted, result.rows);

        let mut sealed: BTreeMap<u32, String> = BTreeMap::new();
        for root in [scene.prefix().join("attempts").join(id), scene.volume().join(UID)] {
            for path in Scene::files(&root).into_iter().filter(|path| path.ends_with(".run")) {
                let sidecar = root.join(&path).with_extension("json");
                let sidecar: RunSidecar = serde_json::from_slice(&std::fs::read(sidecar).unwrap()).unwrap();
                let name = path.rsplit('/').next().unwrap().to_owned();
                for split in sidecar.splits {
                    let other = sealed.insert(split, name.clone());
                    assert!(other.is_none_or(|other| other == name), "split {split} was sealed twice");
                }
            }
        }
        assert_eq!(sealed.keys().copied().collect::<Vec<_>>(), splits);
        scene.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
    }
}

/// A volume that is gone costs nothing that was uploaded.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_new_volume_what_was_uploaded_is_taken_over_from_the_store() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    let first = scene.done("pod-1", scene.work("encode-0", &["plan"])).await;
    assert_eq!(scene.encode_result(&first).statistics.rows, 0, "all of it was sealed before");
    let sorted = scene.done("pod-1", scene.work("sort-0", &["plan", "encode"])).await;
    std::fs::remove_dir_all(scene.volume()).unwrap();
    let again = scene.done("pod-1", scene.work("sort-0", &["plan", "encode"])).await;
    let (before, after) = (scene.sort_result(&sorted), scene.sort_result(&again));
    assert_eq!(before.ranges, after.ranges, "the same objects, by name");
    assert_eq!((after.statistics.rows, after.statistics.rows_adopted), (0, after.sum.entries));
    assert!(sorts >= 1);
    scene.parent.revoke();
    child.exit().await;
}

/// I3: a damaged run is found at the read, kept aside, and its splits alone are encoded again; the
/// index is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_run_sends_its_splits_back_and_the_index_is_the_same() {
    let _turn = TURN.lock().await;
    let undisturbed = content(&Scene::new().whole().await);
    for parallelism in [1, 2] {
        let scene = Scene::with(&serde_json::json!({"parallelism": parallelism}));
        let child = scene.child("pod-1");
        let (encodes, sorts) = scene.plan("pod-1").await;
        scene.encode("pod-1", encodes).await;
        let root = if parallelism == 1 { scene.volume() } else { scene.prefix() };
        let run = Scene::files(&root).into_iter().find(|path| path.ends_with(".run")).unwrap();
        let path = root.join(&run);
        let sidecar: RunSidecar = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let error = scene.failed("pod-1", scene.work("sort-0", &["plan", "encode"])).await;
        assert_eq!(error.reason, WorkErrorReason::DamagedInput, "{}", error.message);
        assert_eq!(error.damaged_splits, sidecar.splits);
        assert_eq!(child.exit().await, ExitStatus::WorkFailed);
        if parallelism == 1 {
            let kept = Volume::open(&scene.volume(), UID).unwrap().quarantined().unwrap();
            assert_eq!(kept.len(), 1, "kept for inspection");
        }

        let child = scene.child("pod-2");
        let repair =
            indexbuild_api::Work { splits: error.damaged_splits.clone(), ..scene.work("encode-r1-0", &["plan"]) };
        let chosen = scene.done("pod-2", repair).await;
        assert_eq!(scene.encode_result(&chosen).splits, sidecar.splits, "its splits and no others");
        scene.parent.freeze("encode-r1", vec![chosen]);
        scene.sort("pod-2", sorts, &["plan", "encode", "encode-r1"]).await;
        scene.done("pod-2", scene.work("publish", &["plan", "encode", "encode-r1", "sort"])).await;
        assert_eq!(content(&scene.manifest()), undisturbed);
        scene.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
    }
}

/// I7: a handle that stays open ends the process, after its result was handed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_engine_handle_ends_the_process() {
    // Last in this file by name would not help: the leaked handle stays for the test process's
    // life, so this test runs in a process of its own.
    if std::env::var_os("INDEXBUILD_LEAK_HERE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_leaked_engine_handle_ends_the_process", "--nocapture"])
            .env("INDEXBUILD_LEAK_HERE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mut scene = Scene::new();
    scene.switches = serde_json::json!({"leakEngineHandle": true});
    let child = scene.child("pod-1");
    let (encodes, _) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    scene.done("pod-1", scene.work("sort-0", &["plan", "encode"])).await;
    assert_eq!(child.exit().await, ExitStatus::HandleLeaked);
    assert_eq!(indexbuild_engine::open_handles(), 1);
}

/// The incident's negative control, within one process: attempts that share a directory, and a
/// handle that was leaked, show RocksDB's own words again and again, and the work never ends.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_share_a_directory_wait_for_a_lock_of_their_own_process_for_ever() {
    if std::env::var_os("INDEXBUILD_LEAK_HERE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "attempts_that_share_a_directory_wait_for_a_lock_of_their_own_process_for_ever",
                "--nocapture",
            ])
            .env("INDEXBUILD_LEAK_HERE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mut scene = Scene::new();
    scene.switches = serde_json::json!({"leakEngineHandle": true, "shareAttemptDirectory": true});
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    assert!(sorts >= 2);
    scene.encode("pod-1", encodes).await;
    scene.done("pod-1", scene.work("sort-0", &["plan", "encode"])).await;
    let epoch = scene.parent.grant("pod-1", scene.work("sort-1", &["plan", "encode"]));
    let says = |report: &indexbuild_api::Report| {
        report.waiting.as_ref().is_some_and(|waiting| waiting.message.contains("lock hold by current process"))
    };
    scene.parent.wait_for(epoch, "the lock", says).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = scene.parent.report().unwrap();
    assert!(says(&report) && report.result.is_none(), "still: {report:?}");
    scene.parent.grant("pod-2", scene.work("sort-1", &["plan", "encode"]));
    child.exit().await;
}
