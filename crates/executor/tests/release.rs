//! The last word of a process: that it has released its volume.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use indexbuild_api::Epoch;
use indexbuild_engine::Volume;
use indexbuild_executor::ExitStatus;
use support::{Scene, Snapshot, TURN, UID};

const POD: &str = "pod-1";
const CLAIM: &str = "orders-0-v1";

/// So slow that no Encode ends while a test looks on, and yet it seals runs all the time.
fn at_work_for_long() -> Scene {
    let mut scene = Scene::with(&serde_json::json!({"rowsPerSecond": 2_000, "parallelism": 2}));
    scene.switches = serde_json::json!({"runBytes": 1});
    scene
}

async fn works(scene: &Scene) -> Epoch {
    scene.parent.set_volume(CLAIM);
    scene.plan(POD).await;
    let epoch = scene.parent.grant(POD, scene.work("encode-0", &["plan"]));
    scene.parent.watch_release_of(scene.volume());
    scene.parent.wait_for(epoch, "rows", |report| report.rows.unwrap_or(0) > 0).await;
    epoch
}

/// Whether something of the volume was open when it was released, or was written afterwards.
fn touched(scene: &Scene) -> Option<String> {
    let then = scene.parent.at_release().expect("it was released");
    let now = Snapshot::of(&scene.volume());
    if !then.open.is_empty() {
        return Some(format!("open: {:?}", then.open));
    }
    (now.files != then.files).then(|| "it was written to".to_owned())
}

/// I4: what is said is so. The control: with the guard off, the word comes before the end of the attempt, and what is
/// written after it is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_releases_its_volume_and_touches_it_no_more() {
    let _turn = TURN.lock().await;
    for guarded in [true, false] {
        let mut scene = at_work_for_long();
        if !guarded {
            scene.switches["releaseTooEarly"] = serde_json::json!(true);
        }
        let child = scene.child(POD);
        let epoch = works(&scene).await;
        let nonce = scene.parent.nonce();
        assert_eq!(child.stop().await, ExitStatus::Stopped);
        let released = scene.parent.released();
        let word = &released[POD];
        assert_eq!((word.epoch, &word.boot_nonce, word.claim_name.as_str()), (epoch, &nonce, CLAIM));
        let touched = touched(&scene);
        assert_eq!(touched.is_none(), guarded, "{touched:?}");
        if guarded {
            let report = scene.parent.report().unwrap();
            assert!(report.ending && report.step.unwrap().starts_with("stopped"), "the last report comes before");
        }
    }
}

/// Its epoch was raised: its word is about the volume that it had, and the next owner's grant stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gives_way_releases_its_former_volume() {
    let _turn = TURN.lock().await;
    let scene = at_work_for_long();
    let child = scene.child(POD);
    let epoch = works(&scene).await;
    scene.parent.replace_owner("pod-2");
    assert_eq!(child.exit().await, ExitStatus::GaveWay);
    let released = scene.parent.released();
    assert_eq!((released.len(), released[POD].epoch, released[POD].claim_name.as_str()), (1, epoch, CLAIM));
    assert_eq!(touched(&scene), None);
}

/// Also a process that has ended a work well, and one whose work has failed, which ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_nothing_left_to_do_or_has_failed_releases_its_volume() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    scene.parent.set_volume(CLAIM);
    let child = scene.child(POD);
    scene.plan(POD).await;
    scene.parent.replace_owner("pod-2");
    assert_eq!(child.exit().await, ExitStatus::Done);
    assert!(scene.parent.released().contains_key(POD));

    let scene = Scene::new();
    scene.parent.set_volume(CLAIM);
    let child = scene.child(POD);
    scene.plan(POD).await;
    // A stage that is frozen, and whose one result is not there.
    let gone = indexbuild_api::Chosen {
        work_id: "encode-0".into(),
        epoch: Epoch::new(1),
        ..indexbuild_api::Chosen::default()
    };
    scene.parent.freeze("encode", vec![gone]);
    scene.failed(POD, scene.work("sort-0", &["plan", "encode"])).await;
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
    assert!(scene.parent.released().contains_key(POD));
}

/// The kubelet's grace ends, with or without the word.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_away_holds_up_no_end_and_nothing_is_said_then() {
    let _turn = TURN.lock().await;
    let scene = at_work_for_long();
    let child = scene.child(POD);
    works(&scene).await;
    scene.parent.set_reachable(false);
    let start = Instant::now();
    assert_eq!(child.stop().await, ExitStatus::Stopped);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(scene.parent.released().is_empty());
}

/// For controls on clusters.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_the_switch_says_nothing() {
    let _turn = TURN.lock().await;
    let mut scene = at_work_for_long();
    scene.switches["neverRelease"] = serde_json::json!(true);
    let child = scene.child(POD);
    works(&scene).await;
    assert_eq!(child.stop().await, ExitStatus::Stopped);
    assert!(scene.parent.released().is_empty());
}

/// G9: the same process, the same work, a higher epoch: another attempt in a directory of its own, and what the first one
/// held is closed before.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_work_under_a_higher_epoch_is_done_in_a_new_directory_by_the_same_process() {
    let _turn = TURN.lock().await;
    let scene = at_work_for_long();
    let child = scene.child(POD);
    let first = works(&scene).await;
    let nonce = scene.parent.nonce();
    let second = scene.parent.grant(POD, scene.work("encode-0", &["plan"]));
    scene.parent.wait_for(second, "anything", |_| true).await;
    let start = Instant::now();
    let own = format!("{second}-{nonce}");
    // A directory is there a moment before its lock is held.
    loop {
        let attempts = Volume::open(&scene.volume(), UID).unwrap().attempts().unwrap();
        let held: Vec<String> =
            attempts.into_iter().filter(|attempt| attempt.held).map(|attempt| attempt.name).collect();
        if held.contains(&own) {
            assert_eq!(held, [own], "of epoch {first} nothing is held any more");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{own} is not held, but {held:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(child.stop().await, ExitStatus::Stopped);
}
