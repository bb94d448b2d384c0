//! Whole builds in one process, with a scripted parent and real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use indexbuild_api::WorkErrorReason;
use indexbuild_executor::ExitStatus;
use indexbuild_index::manifest::{Document, Latest};
use support::{FILES, ROWS, Scene, TURN, UID, content};

/// I1, I6, I7.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_planned_encoded_sorted_published_and_cleaned() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    assert!(encodes >= 2 && sorts >= 2, "{encodes} {sorts}");
    scene.encode("pod-1", encodes).await;
    scene.sort("pod-1", sorts, &["plan", "encode"]).await;
    scene.done("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;

    let manifest = scene.manifest();
    let rows = u64::try_from(FILES * ROWS).unwrap();
    assert_eq!(manifest.source.rows, rows);
    assert!(manifest.indexes.iter().all(|index| index.entries == rows));
    assert_eq!(manifest.works.len() as u32, 1 + encodes + sorts, "one attempt per work");
    let latest = Latest::parse(&std::fs::read(scene.prefix().parent().unwrap().join("LATEST")).unwrap()).unwrap();
    assert_eq!(latest.build_uid, UID);

    scene.done("pod-1", scene.work("clean", &["plan", "encode", "sort", "publish"])).await;
    scene.parent.revoke();
    assert_eq!(child.exit().await, ExitStatus::Done);
    assert_eq!(indexbuild_engine::open_handles(), 0);

    let mut left: Vec<String> = Scene::files(&scene.prefix());
    for file in manifest.indexes.iter().flat_map(|index| &index.files) {
        let place = left.iter().position(|path| *path == file.path).expect("a file of the manifest");
        left.remove(place);
    }
    assert!(
        left.iter().all(|path| path == "manifest.json" || path == "plan.json" || path.ends_with("/result.json")),
        "{left:?}"
    );
    assert_eq!(left.len() as u32, 2 + 1 + encodes + sorts + 1, "{left:?}");
    assert_eq!(Scene::files(&scene.volume()), Vec::<String>::new(), "nothing stays on the volume");
}

/// I9: what becomes of a slot's volume is the policy's, also where its own process cleans.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_leaves_a_volume_that_is_to_stay_as_it_is() {
    let _turn = TURN.lock().await;
    for keeps_volume in [false, true] {
        let scene = Scene::new();
        let child = scene.child("pod-1");
        scene.plan("pod-1").await;
        let sealed = scene.volume().join(UID).join("1-former");
        std::fs::create_dir_all(&sealed).unwrap();
        std::fs::write(sealed.join("run"), b"sealed").unwrap();
        let clean = scene.work("clean", &["plan"]);
        scene.done("pod-1", indexbuild_api::Work { keeps_volume, ..clean }).await;
        scene.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
        assert!(matches!(scene.document(), Document::Tombstone(_)));
        assert_eq!(Scene::files(&scene.prefix()), ["manifest.json"], "in the store all goes");
        assert_eq!(sealed.join("run").exists(), keeps_volume);
    }
}

/// G5, I9: a build that is deleted with its index leaves the tombstone, and `LATEST` names it no more.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_goes_with_its_build_where_the_work_says_so_and_stays_where_it_does_not() {
    let _turn = TURN.lock().await;
    for removes_index in [false, true] {
        let scene = Scene::new();
        let child = scene.child("pod-1");
        let (encodes, sorts) = scene.plan("pod-1").await;
        scene.encode("pod-1", encodes).await;
        scene.sort("pod-1", sorts, &["plan", "encode"]).await;
        scene.done("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;
        let clean = scene.work("clean", &["plan", "encode", "sort", "publish"]);
        scene.done("pod-1", indexbuild_api::Work { removes_index, ..clean }).await;
        scene.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
        let latest = scene.prefix().parent().unwrap().join("LATEST");
        match scene.document() {
            Document::Tombstone(_) => {
                assert!(removes_index);
                assert_eq!(Scene::files(&scene.prefix()), ["manifest.json"]);
                assert!(Latest::parse(&std::fs::read(&latest).unwrap()).unwrap().is_none());
            }
            Document::Manifest(_) => {
                assert!(!removes_index);
                assert!(!Latest::parse(&std::fs::read(&latest).unwrap()).unwrap().is_none());
            }
        }
    }
}

/// G5: a build that was said to have failed while its Publish was granted is what stands at `manifest.json`: its Clean says
/// which of the two came first, and finishes what a Publish began that ended right after its commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_that_finds_an_index_committed_says_so_and_one_that_put_a_tombstone_does_not() {
    let _turn = TURN.lock().await;
    for committed in [true, false] {
        let scene = Scene::new();
        let child = scene.child("pod-1");
        let (encodes, sorts) = scene.plan("pod-1").await;
        scene.encode("pod-1", encodes).await;
        scene.sort("pod-1", sorts, &["plan", "encode"]).await;
        let latest = scene.prefix().parent().unwrap().join("LATEST");
        if committed {
            scene.done("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;
            std::fs::remove_file(&latest).unwrap();
        }
        // Nobody chose the Publish: it is no input.
        let cleaned = scene.done("pod-1", scene.work("clean", &["plan", "encode", "sort"])).await;
        assert_eq!((cleaned.committed, latest.exists()), (committed, committed));
        match scene.document() {
            Document::Manifest(manifest) => {
                assert!(committed);
                let entries: u64 = manifest.indexes.iter().map(|index| index.entries).sum();
                assert_eq!((cleaned.entries, cleaned.rows), (entries, manifest.source.rows));
                assert_eq!(Latest::parse(&std::fs::read(&latest).unwrap()).unwrap().build_uid, UID);
            }
            Document::Tombstone(_) => assert!(!committed && cleaned.entries == 0),
        }
        scene.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
    }
}

/// I10: slots, threads and memory leave no trace in the index.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_table_gives_the_same_index_whatever_works_on_it() {
    let _turn = TURN.lock().await;
    let mut first = None;
    for (parallelism, threads, mib) in [(1, 1, 128), (2, 2, 256), (5, 2, 1024)] {
        let mut scene = Scene::with(&serde_json::json!({"parallelism": parallelism}));
        scene.threads = threads;
        scene.memory = mib << 20;
        let content = content(&scene.whole().await);
        assert!(content.values().all(|files| files.len() > 1), "several files, so that cuts are seen");
        match &first {
            None => first = Some(content),
            Some(first) => assert_eq!(*first, content, "{parallelism} slots, {threads} threads, {mib} MiB"),
        }
    }
}

/// `rowsPerSecond` may be changed: a process at work hears of it by the build's file. The first limit, which is
/// the control, would keep it for hours.
#[tokio::test(flavor = "multi_thread")]
async fn another_limit_on_reading_holds_for_the_work_in_hand() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::with(&serde_json::json!({"rowsPerSecond": 4, "parallelism": 2}));
    let file = scene.dir.path().join("build.json");
    let write = |scene: &Scene| std::fs::write(&file, serde_json::to_string(&scene.build).unwrap()).unwrap();
    write(&scene);
    scene.build_file = Some(file.clone());
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let epoch = scene.parent.grant("pod-1", scene.work("encode-0", &["plan"]));
    scene.parent.wait_for(epoch, "anything", |_| true).await;
    assert!(scene.parent.report().unwrap().result.is_none(), "it takes hours");
    scene.build.spec.rows_per_second = None;
    write(&scene);
    let result = scene.parent.outcome(epoch).await.unwrap();
    assert!(result.rows >= 10_000, "{result:?}");
    scene.parent.revoke();
    assert_eq!(child.exit().await, ExitStatus::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_gives_an_empty_valid_index() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let table = scene.dir.path().join("table");
    std::fs::remove_dir_all(&table).unwrap();
    std::fs::create_dir_all(&table).unwrap();
    let batch = arrow_array::RecordBatch::try_from_iter(["id", "k", "c"].map(|name| {
        let column: arrow_array::ArrayRef = if name == "c" {
            std::sync::Arc::new(arrow_array::StringArray::from(Vec::<String>::new()))
        } else {
            std::sync::Arc::new(arrow_array::Int64Array::from(Vec::<i64>::new()))
        };
        (name, column)
    }))
    .unwrap();
    support::write_parquet(&table.join("part-0.parquet"), &batch);
    let manifest = scene.whole().await;
    assert_eq!(manifest.source.rows, 0);
    assert!(manifest.indexes.iter().all(|index| index.entries == 0 && index.files.is_empty()));
}

/// Both rows are named and the count is exact; nothing is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_in_a_unique_index_is_an_error_that_names_both_rows() {
    let _turn = TURN.lock().await;
    let scene = Scene::with(&serde_json::json!({
        "duplicate": true,
        "indexes": [{"name": "by_u", "columns": [{"name": "u"}], "unique": true}],
    }));
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    scene.sort("pod-1", sorts, &["plan", "encode"]).await;
    let error = scene.failed("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::DuplicateKey, false));
    for part in ["by_u", "1 duplicate", "id = 3", &format!("id = {}", FILES * ROWS - 1), "duplicates.jsonl"] {
        assert!(error.message.contains(part), "{part} in {}", error.message);
    }
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
    assert!(!scene.prefix().join("manifest.json").exists());
    let pairs: Vec<_> =
        Scene::files(&scene.prefix()).into_iter().filter(|path| path.ends_with("duplicates.jsonl")).collect();
    assert_eq!(pairs.len(), 1);
    assert_eq!(std::fs::read_to_string(scene.prefix().join(&pairs[0])).unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_is_an_error_with_index_column_and_what_there_is() {
    let _turn = TURN.lock().await;
    let scene = Scene::with(&serde_json::json!({"indexes": [{"name": "by_x", "columns": [{"name": "nope"}]}]}));
    let child = scene.child("pod-1");
    let error = scene.failed("pod-1", scene.work("plan", &[])).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::MissingColumn, false));
    for part in ["by_x", "nope", "id", "k", "c"] {
        assert!(error.message.contains(part), "{part} in {}", error.message);
    }
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_since_the_plan_is_named() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let changed = scene.dir.path().join("table/part-0.parquet");
    let bytes = std::fs::read(scene.dir.path().join("table/part-1.parquet")).unwrap();
    std::fs::write(&changed, [bytes, vec![0]].concat()).unwrap();
    let error = scene.failed("pod-1", scene.work("encode-0", &["plan"])).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::SourceChanged, false));
    assert!(error.message.contains("part-0.parquet"), "{}", error.message);
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
}

/// The plan is fixed once; one of another spec is not followed.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_plan_is_adopted_if_it_is_of_this_spec_and_refused_if_not() {
    let _turn = TURN.lock().await;
    let mut scene = Scene::new();
    let child = scene.child("pod-1");
    scene.done("pod-1", scene.work("plan", &[])).await;
    let bytes = std::fs::read(scene.prefix().join("plan.json")).unwrap();
    scene.done("pod-1", scene.work("plan", &[])).await;
    assert_eq!(std::fs::read(scene.prefix().join("plan.json")).unwrap(), bytes);
    scene.parent.revoke();
    child.exit().await;

    scene.build.spec.indexes.pop();
    let child = scene.child("pod-2");
    let error = scene.failed("pod-2", scene.work("plan", &[])).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::OutputConflict, false));
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
}

/// G5, G6, I1.
#[tokio::test(flavor = "multi_thread")]
async fn an_equal_manifest_is_adopted_another_one_refused_and_a_tombstone_respected() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    scene.sort("pod-1", sorts, &["plan", "encode"]).await;
    let publish = scene.work("publish", &["plan", "encode", "sort"]);
    scene.done("pod-1", publish.clone()).await;
    let path = scene.prefix().join("manifest.json");
    let bytes = std::fs::read(&path).unwrap();
    scene.done("pod-1", publish.clone()).await;
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "adopted, not written again");

    let mut other = scene.manifest();
    other.works.pop();
    std::fs::write(&path, Document::Manifest(other).to_bytes().unwrap()).unwrap();
    let standing = std::fs::read(&path).unwrap();
    let error = scene.failed("pod-1", publish.clone()).await;
    assert_eq!(error.reason, WorkErrorReason::OutputConflict);
    assert_eq!(std::fs::read(&path).unwrap(), standing, "never overwritten");
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);

    // An abort: the tombstone is first, all else goes, and no late Publish can commit.
    std::fs::remove_file(&path).unwrap();
    let child = scene.child("pod-2");
    scene.done("pod-2", scene.work("clean", &["plan", "encode", "sort"])).await;
    assert!(matches!(scene.document(), Document::Tombstone(_)));
    assert_eq!(Scene::files(&scene.prefix()), ["manifest.json"]);
    let error = scene.failed("pod-2", publish).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::Tombstoned, false));
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
    assert!(matches!(scene.document(), Document::Tombstone(_)));
}

/// G5: the tombstone takes the manifest's place before anything of a committed index goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_goes_with_its_build_leaves_a_tombstone_and_nothing_else() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    scene.sort("pod-1", sorts, &["plan", "encode"]).await;
    scene.done("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;
    let latest = scene.prefix().parent().unwrap().join("LATEST");
    assert!(latest.exists());
    let clean = scene.work("clean", &["plan", "encode", "sort", "publish"]);
    scene.done("pod-1", indexbuild_api::Work { removes_index: true, ..clean }).await;
    assert!(matches!(scene.document(), Document::Tombstone(_)));
    assert_eq!(Scene::files(&scene.prefix()), ["manifest.json"]);
    let named = || Latest::parse(&std::fs::read(&latest).unwrap()).unwrap();
    assert!(named().is_none(), "it named the index that is gone");
    // A process that put the tombstone and was killed then left LATEST as it was: the next Clean finishes it.
    let ours = Latest { version: 1, build_uid: UID.to_owned(), created: String::new() };
    std::fs::write(&latest, ours.to_bytes().unwrap()).unwrap();
    let clean = scene.work("clean", &["plan", "encode", "sort", "publish"]);
    scene.done("pod-1", indexbuild_api::Work { removes_index: true, ..clean.clone() }).await;
    assert!(named().is_none(), "a retry finishes what the first one began");
    // Controls: that of another build stays, and so does what is not understood.
    let other = Latest { build_uid: "another".to_owned(), ..ours };
    for stays in [other.to_bytes().unwrap(), b"not ours".to_vec()] {
        std::fs::write(&latest, &stays).unwrap();
        scene.done("pod-1", indexbuild_api::Work { removes_index: true, ..clean.clone() }).await;
        assert_eq!(std::fs::read(&latest).unwrap(), stays);
    }
    scene.parent.revoke();
    assert_eq!(child.exit().await, ExitStatus::Done);
}

/// What stands at `LATEST` and is not ours fails a build before its table is read, and before its commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_latest_that_is_not_ours_is_seen_before_the_table_is_read_and_before_the_commit() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let latest = scene.prefix().parent().unwrap().join("LATEST");
    let child = scene.child("pod-1");
    let (encodes, sorts) = scene.plan("pod-1").await;
    scene.encode("pod-1", encodes).await;
    scene.sort("pod-1", sorts, &["plan", "encode"]).await;
    std::fs::write(&latest, "somebody's notes").unwrap();
    let error = scene.failed("pod-1", scene.work("publish", &["plan", "encode", "sort"])).await;
    assert_eq!((error.reason, error.retryable), (WorkErrorReason::OutputConflict, false));
    assert!(error.message.contains("LATEST") && error.message.contains("remove it"), "{}", error.message);
    assert!(!scene.prefix().join("manifest.json").exists(), "nothing was committed");
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
    let child = scene.child("pod-2");
    let error = scene.failed("pod-2", scene.work("plan", &[])).await;
    assert_eq!(error.reason, WorkErrorReason::OutputConflict);
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
    // Control: one that names no build any more is replaced.
    std::fs::write(&latest, Latest::none().to_bytes().unwrap()).unwrap();
    let child = scene.child("pod-3");
    scene.done("pod-3", scene.work("publish", &["plan", "encode", "sort"])).await;
    assert_eq!(Latest::parse(&std::fs::read(&latest).unwrap()).unwrap().build_uid, UID);
    scene.parent.revoke();
    assert_eq!(child.exit().await, ExitStatus::Done);
}

/// A Clean that was granted after the commit and finds no manifest destroys nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_after_the_commit_does_not_take_a_lost_manifest_for_an_abort() {
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let child = scene.child("pod-1");
    scene.plan("pod-1").await;
    let before = Scene::files(&scene.prefix());
    let error = scene.failed("pod-1", scene.work("clean", &["plan", "publish"])).await;
    assert_eq!(error.reason, WorkErrorReason::Verification);
    assert_eq!(Scene::files(&scene.prefix()), before);
    assert_eq!(child.exit().await, ExitStatus::WorkFailed);
}
