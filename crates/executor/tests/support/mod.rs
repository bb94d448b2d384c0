//! A control plane in memory, tables on disk, and a parent that grants works one after another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use indexbuild_api::{
    Chosen, Claim, EngineDirectorySpec, EngineDirectoryStatus, Epoch, FormerVolume, Grant, IndexBuild, Release, Report,
    RunLocation, VolumeRef, Work, WorkError, WorkKind, WorkResult,
};
use indexbuild_executor::backoff::Pace;
use indexbuild_executor::control::{ContactError, ControlPlane, StageRead, WriteError};
use indexbuild_executor::machine::BOOT_ID_FILE;
use indexbuild_executor::plan_file::PlanFile;
use indexbuild_executor::results::{EncodeResult, SortResult};
use indexbuild_executor::{ExecutorConfig, ExitStatus, Site, StoreAccess, live};
use indexbuild_index::manifest::{Document, Manifest};
use indexbuild_lifecycle::admission::review_status;
use indexbuild_lifecycle::frozen::digest;
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::{Record, Stage};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Engine handles are counted per process: tests of whole lives take turns.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";
const PATIENCE: Duration = Duration::from_secs(120);

/// The record of one slot, and the frozen stages; admission is lifecycle's.
pub(crate) struct Parent {
    record: Mutex<Record>,
    stages: Mutex<Vec<Stage>>,
    stage_reads: AtomicUsize,
    reachable: AtomicBool,
    changed: Notify,
    /// The volume to look at when it is released, and how it was then.
    released_volume: Mutex<Option<PathBuf>>,
    at_release: Mutex<Option<Snapshot>>,
}

/// A volume at one moment: each file with its size and the time of its last change, and what this process has open there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub files: BTreeMap<PathBuf, (u64, std::time::SystemTime)>,
    pub open: Vec<PathBuf>,
}

impl Snapshot {
    pub(crate) fn of(volume: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![volume.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                let size = if metadata.is_file() { metadata.len() } else { 0 };
                files.insert(entry.path(), (size, metadata.modified().unwrap()));
            }
        }
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let open = open.filter(|path| path.starts_with(volume)).collect();
        Self { files, open }
    }
}

impl Parent {
    pub(crate) fn new() -> Arc<Self> {
        let spec = EngineDirectorySpec {
            build_name: "orders".into(),
            build_uid: UID.into(),
            renew_interval: indexbuild_api::Duration::from_millis(20),
            ..EngineDirectorySpec::default()
        };
        Arc::new(Self {
            record: Mutex::new(Record { spec, status: EngineDirectoryStatus::default(), version: "0".into() }),
            stages: Mutex::default(),
            stage_reads: AtomicUsize::new(0),
            reachable: AtomicBool::new(true),
            changed: Notify::new(),
            released_volume: Mutex::default(),
            at_release: Mutex::default(),
        })
    }

    fn write<T>(&self, act: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.record.lock().unwrap();
        let done = act(&mut record);
        record.version = (record.version.parse::<u64>().unwrap() + 1).to_string();
        drop(record);
        self.changed.notify_waiters();
        done
    }

    /// Grants a work to a pod: the next epoch.
    pub(crate) fn grant(&self, pod: &str, work: Work) -> Epoch {
        self.write(|record| {
            let before = record.spec.grant.clone().unwrap_or_default();
            let same = before.pod_uid == pod;
            let grant = Grant {
                epoch: before.epoch.next().unwrap(),
                pod_name: pod.into(),
                pod_uid: pod.into(),
                boot_nonce: if same { before.boot_nonce } else { String::new() },
                ..Grant::default()
            };
            let epoch = grant.epoch;
            record.spec.grant = Some(grant);
            record.spec.work = Some(work);
            epoch
        })
    }

    /// Takes the grant away: there is nothing left to do.
    pub(crate) fn revoke(&self) {
        self.write(|record| {
            record.spec.grant = None;
            record.spec.work = None;
        });
    }

    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn freeze(&self, name: &str, chosen: Vec<Chosen>) {
        self.stages.lock().unwrap().push(Stage { name: name.into(), chosen });
    }

    /// What is frozen as a stage.
    pub(crate) fn frozen(&self, name: &str) -> Stage {
        self.stages.lock().unwrap().iter().find(|stage| stage.name == name).cloned().unwrap()
    }

    /// Puts a stage in the place of what was frozen.
    pub(crate) fn put_stage(&self, stage: Stage) {
        let mut stages = self.stages.lock().unwrap();
        stages.retain(|other| other.name != stage.name);
        stages.push(stage);
    }

    /// How often stages were read.
    pub(crate) fn reads(&self) -> usize {
        self.stage_reads.load(Ordering::SeqCst)
    }

    pub(crate) fn report(&self) -> Option<Report> {
        self.record.lock().unwrap().status.report.clone()
    }

    /// Looks at a volume at the moment in which it is released.
    pub(crate) fn watch_release_of(&self, volume: PathBuf) {
        *self.released_volume.lock().unwrap() = Some(volume);
    }

    pub(crate) fn at_release(&self) -> Option<Snapshot> {
        self.at_release.lock().unwrap().clone()
    }

    /// The volume that the slot's owners work on.
    pub(crate) fn set_volume(&self, claim_name: &str) {
        self.write(|record| {
            let claim_name = claim_name.to_owned();
            record.spec.volume = Some(VolumeRef { claim_name, generation: 1, ..VolumeRef::default() });
        });
    }

    /// The slot goes to another pod, on another volume: the present owner's is a former one.
    pub(crate) fn replace_owner(&self, pod: &str) {
        self.write(|record| {
            let (grant, volume) = (record.spec.grant.clone().unwrap(), record.spec.volume.take().unwrap());
            record.spec.former_volumes.push(FormerVolume {
                claim_name: volume.claim_name,
                pod_uid: grant.pod_uid,
                boot_nonce: grant.boot_nonce,
                epoch: grant.epoch,
                ..FormerVolume::default()
            });
            let epoch = grant.epoch.next().unwrap();
            record.spec.grant = Some(Grant { epoch, pod_name: pod.into(), pod_uid: pod.into(), ..Grant::default() });
        });
    }

    pub(crate) fn released(&self) -> BTreeMap<String, Release> {
        self.record.lock().unwrap().status.released.clone()
    }

    pub(crate) fn nonce(&self) -> String {
        self.record.lock().unwrap().spec.grant.clone().unwrap().boot_nonce
    }

    /// Waits for a report of this epoch that satisfies.
    pub(crate) async fn wait_for(&self, epoch: Epoch, what: &str, fits: impl Fn(&Report) -> bool) -> Report {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(report) = self.report().filter(|report| report.epoch == epoch && fits(report)) {
                    return report;
                }
                let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(report) => report,
            Err(_) => panic!("epoch {epoch} never reported {what}; its last report is {:#?}", self.report()),
        }
    }

    pub(crate) async fn outcome(&self, epoch: Epoch) -> Result<WorkResult, WorkError> {
        let report = self.wait_for(epoch, "an end", |report| report.result.is_some() || report.error.is_some()).await;
        match (report.result, report.error) {
            (Some(result), None) => Ok(result),
            (None, Some(error)) => Err(error),
            other => panic!("both or neither: {other:?}"),
        }
    }
}

#[async_trait]
impl ControlPlane for Parent {
    async fn record(&self) -> Result<Option<Record>, ContactError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(ContactError::Unreachable("cut".into()));
        }
        Ok(Some(self.record.lock().unwrap().clone()))
    }

    async fn changed(&self, version: &str, within: Duration) -> Result<(), ContactError> {
        let changed = self.changed.notified();
        if self.record.lock().unwrap().version == version {
            let _ = tokio::time::timeout(within, changed).await;
        }
        if self.reachable.load(Ordering::SeqCst) { Ok(()) } else { Err(ContactError::Unreachable("cut".into())) }
    }

    async fn claim(&self, claim: Claim) -> Result<(), WriteError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(ContactError::Unreachable("cut".into()).into());
        }
        self.write(|record| {
            let status = EngineDirectoryStatus { claim: Some(claim.clone()), ..record.status.clone() };
            review_status(record, &status, &claim.pod_uid)
                .map_err(|refusal| WriteError::Refused(refusal.to_string()))?;
            record.status = status;
            // The control plane binds the nonce at once.
            if let Some(grant) = record.spec.grant.as_mut().filter(|grant| grant.pod_uid == claim.pod_uid) {
                grant.boot_nonce.clone_from(&claim.boot_nonce);
            }
            Ok(())
        })
    }

    async fn report(&self, report: Report) -> Result<(), WriteError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(ContactError::Unreachable("cut".into()).into());
        }
        self.write(|record| {
            let caller = record.spec.grant.as_ref().map(|grant| grant.pod_uid.clone()).unwrap_or_default();
            let status = EngineDirectoryStatus { report: Some(report), ..record.status.clone() };
            review_status(record, &status, &caller).map_err(|refusal| WriteError::Refused(refusal.to_string()))?;
            record.status = status;
            Ok(())
        })
    }

    async fn release(&self, word: LastWord) -> Result<(), WriteError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(ContactError::Unreachable("cut".into()).into());
        }
        self.write(|record| {
            let caller = word.pod_uid.clone();
            let mut status = record.status.clone();
            word.write(&mut status.released);
            review_status(record, &status, &caller).map_err(|refusal| WriteError::Refused(refusal.to_string()))?;
            record.status = status;
            Ok::<(), WriteError>(())
        })?;
        if let Some(volume) = self.released_volume.lock().unwrap().as_ref() {
            *self.at_release.lock().unwrap() = Some(Snapshot::of(volume));
        }
        Ok(())
    }

    async fn stage(&self, name: &str) -> Result<Option<StageRead>, ContactError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(ContactError::Unreachable("cut".into()));
        }
        self.stage_reads.fetch_add(1, Ordering::SeqCst);
        let stages = self.stages.lock().unwrap();
        let stage = stages.iter().find(|stage| stage.name == name).cloned();
        let digest = |stage: &Stage| Some(digest(&stage.text().unwrap()));
        Ok(stage.map(|stage| StageRead { digest: digest(&stage), stage }))
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }
}

/// A table, an output, a volume and a parent.
pub(crate) struct Scene {
    pub dir: tempfile::TempDir,
    pub build: IndexBuild,
    pub build_file: Option<PathBuf>,
    pub parent: Arc<Parent>,
    pub threads: usize,
    pub memory: u64,
    /// Test switches, as JSON.
    pub switches: serde_json::Value,
}

pub(crate) struct Child {
    pub life: JoinHandle<ExitStatus>,
    stop: Option<oneshot::Sender<()>>,
}

impl Child {
    pub(crate) async fn exit(self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.life).await.expect("the process does not end").unwrap()
    }

    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.stop.take().unwrap().send(()).unwrap();
        self.exit().await
    }
}

/// Rows per file and number of files.
pub(crate) const ROWS: i64 = 20_000;
pub(crate) const FILES: i64 = 6;

/// Deterministic rows: an id, a number that repeats, a text.
pub(crate) fn write_table(folder: &Path, duplicate: bool) {
    std::fs::create_dir_all(folder).unwrap();
    for file in 0..FILES {
        let ids: Vec<i64> = (file * ROWS..(file + 1) * ROWS).collect();
        let mixed = |id: i64| (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let numbers: Vec<Option<i64>> =
            ids.iter().map(|id| (id % 50 != 0).then(|| (mixed(*id) % 40_000) as i64)).collect();
        let texts: Vec<String> = ids.iter().map(|id| format!("{:020}-{:040}", mixed(*id), id)).collect();
        let unique: Vec<i64> =
            ids.iter().map(|id| if duplicate && *id == FILES * ROWS - 1 { 3 } else { *id }).collect();
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            ("k", Arc::new(Int64Array::from(numbers)) as ArrayRef),
            ("c", Arc::new(StringArray::from(texts)) as ArrayRef),
            ("u", Arc::new(Int64Array::from(unique)) as ArrayRef),
        ])
        .unwrap();
        write_parquet(&folder.join(format!("part-{file}.parquet")), &batch);
    }
}

pub(crate) fn write_parquet(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(&serde_json::json!({}))
    }

    /// A scene whose spec is overridden by fields of `spec`.
    pub(crate) fn with(spec: &serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table");
        write_table(&table, spec.get("duplicate").is_some());
        let mut whole = serde_json::json!({
            "apiVersion": "indexbuild.dev/v1alpha1",
            "kind": "IndexBuild",
            "metadata": {"name": "orders", "namespace": "shop", "uid": UID, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {
                "source": {"parquet": {"urls": [format!("file://{}/*.parquet", table.display())]}},
                "rowId": {"columns": ["id"]},
                "indexes": [
                    {"name": "by_k", "columns": [{"name": "k"}]},
                    {"name": "by_c", "columns": [{"name": "c", "order": "Desc"}], "include": ["k"]},
                ],
                "output": {"url": format!("file://{}", dir.path().join("out").display()), "targetFileSize": "1Mi"},
                "parallelism": 2,
            },
        });
        for (name, value) in spec.as_object().unwrap().iter().filter(|(name, _)| *name != "duplicate") {
            whole["spec"][name] = value.clone();
        }
        let build = serde_json::from_value(whole).unwrap();
        Self {
            dir,
            build,
            build_file: None,
            parent: Parent::new(),
            threads: 2,
            memory: 256 << 20,
            switches: serde_json::json!({}),
        }
    }

    pub(crate) fn prefix(&self) -> PathBuf {
        self.dir.path().join("out/shop/orders").join(UID)
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    pub(crate) fn child(&self, pod: &str) -> Child {
        let config = ExecutorConfig {
            build: self.build.clone(),
            build_file: self.build_file.clone(),
            slot: 0,
            pod_name: pod.into(),
            pod_uid: pod.into(),
            volume: self.volume(),
            threads: self.threads,
            memory_limit: self.memory,
            access: StoreAccess::default(),
            site: Site::OneMachine,
            boot_id_file: BOOT_ID_FILE.into(),
            test: serde_json::from_value(self.switches.clone()).unwrap(),
        };
        let (stop, stopped) = oneshot::channel();
        let control: Arc<dyn ControlPlane> = Arc::<Parent>::clone(&self.parent);
        let life = tokio::spawn(live(config, control, async move {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Child { life, stop: Some(stop) }
    }

    fn runs(&self) -> RunLocation {
        if self.build.spec.parallelism == 1 { RunLocation::Volume } else { RunLocation::Store }
    }

    pub(crate) fn work(&self, id: &str, inputs: &[&str]) -> Work {
        let kind = match id {
            "plan" => WorkKind::Plan,
            "publish" => WorkKind::Publish,
            "clean" => WorkKind::Clean,
            id if id.starts_with("sort") => WorkKind::Sort,
            _ => WorkKind::Encode,
        };
        Work {
            id: id.into(),
            kind,
            inputs_digest: format!("inputs of {id}"),
            runs: self.runs(),
            splits: Vec::new(),
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            input_digests: Vec::new(),
            removes_index: false,
            keeps_volume: false,
        }
    }

    pub(crate) async fn done(&self, pod: &str, work: Work) -> Chosen {
        let epoch = self.parent.grant(pod, work.clone());
        match self.parent.outcome(epoch).await {
            Ok(result) => self.choose(&result),
            Err(error) => panic!("{} failed: {error:?}", work.id),
        }
    }

    pub(crate) async fn failed(&self, pod: &str, work: Work) -> WorkError {
        let epoch = self.parent.grant(pod, work);
        self.parent.outcome(epoch).await.expect_err("a failure")
    }

    pub(crate) fn choose(&self, result: &WorkResult) -> Chosen {
        Chosen {
            work_id: result.work_id.clone(),
            epoch: result.epoch,
            boot_nonce: self.parent.nonce(),
            digest: result.digest.clone(),
            rows: result.rows,
            entries: result.entries,
            bytes: result.bytes,
            on_volume: result.on_volume,
            encode_works: result.encode_works,
            sort_works: result.sort_works,
            committed: result.committed,
        }
    }

    /// Plan, frozen: how many works of each kind.
    pub(crate) async fn plan(&self, pod: &str) -> (u32, u32) {
        let chosen = self.done(pod, self.work("plan", &[])).await;
        let counts = (chosen.encode_works.unwrap(), chosen.sort_works.unwrap());
        self.parent.freeze("plan", vec![chosen]);
        counts
    }

    pub(crate) async fn encode(&self, pod: &str, works: u32) {
        let mut chosen = Vec::new();
        for number in 0..works {
            chosen.push(self.done(pod, self.work(&format!("encode-{number}"), &["plan"])).await);
        }
        self.parent.freeze("encode", chosen);
    }

    pub(crate) async fn sort(&self, pod: &str, works: u32, inputs: &[&str]) {
        let mut chosen = Vec::new();
        for number in 0..works {
            chosen.push(self.done(pod, self.work(&format!("sort-{number}"), inputs)).await);
        }
        self.parent.freeze("sort", chosen);
    }

    /// A whole build in one process, but for its Clean; the process has ended afterwards.
    pub(crate) async fn whole(&self) -> Manifest {
        let child = self.child("pod-1");
        let (encodes, sorts) = self.plan("pod-1").await;
        self.encode("pod-1", encodes).await;
        self.sort("pod-1", sorts, &["plan", "encode"]).await;
        self.done("pod-1", self.work("publish", &["plan", "encode", "sort"])).await;
        self.parent.revoke();
        assert_eq!(child.exit().await, ExitStatus::Done);
        self.manifest()
    }

    pub(crate) fn document(&self) -> Document {
        Document::parse(&std::fs::read(self.prefix().join("manifest.json")).unwrap()).unwrap()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        match self.document() {
            Document::Manifest(manifest) => manifest,
            Document::Tombstone(tombstone) => panic!("{tombstone:?}"),
        }
    }

    pub(crate) fn plan_file(&self) -> PlanFile {
        PlanFile::from_bytes(&std::fs::read(self.prefix().join("plan.json")).unwrap()).unwrap()
    }

    fn result_bytes(&self, chosen: &Chosen) -> Vec<u8> {
        let path = indexbuild_executor::names::result_path(&chosen.work_id, chosen.epoch, &chosen.boot_nonce);
        std::fs::read(self.prefix().join(path)).unwrap()
    }

    pub(crate) fn encode_result(&self, chosen: &Chosen) -> EncodeResult {
        indexbuild_executor::results::open(&self.result_bytes(chosen), &chosen.digest).unwrap()
    }

    pub(crate) fn sort_result(&self, chosen: &Chosen) -> SortResult {
        indexbuild_executor::results::open(&self.result_bytes(chosen), &chosen.digest).unwrap()
    }

    /// All files under a folder, relative to it.
    pub(crate) fn files(folder: &Path) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            let Ok(entries) = std::fs::read_dir(folder) else { return };
            for entry in entries.map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(folder, folder, &mut found);
        found.sort();
        found
    }
}

/// What must not depend on anything but table and spec (I10): of each file its bounds, entries, and the digests of its
/// entries and its bytes.
pub(crate) fn content(manifest: &Manifest) -> BTreeMap<String, Vec<(String, u64, [String; 2])>> {
    manifest
        .indexes
        .iter()
        .map(|index| {
            let files = index.files.iter().map(|file| {
                let digests = [file.content_digest.clone(), file.file_digest.clone()];
                (format!("{}..{}", file.first_key, file.last_key), file.entries, digests)
            });
            (index.definition.name.clone(), files.collect())
        })
        .collect()
}
