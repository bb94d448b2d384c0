//! A small simulated world: a control plane whose truth is not what its observers see, nodes, kubelets,
//! executors that do what `owner::next` says, and an operator that does what `plan` says, with crashes,
//! stale reads and late messages. It asserts the protocol's invariants at every step, on the truth.

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{
    Claim, EngineDirectorySpec, EngineDirectoryStatus, HISTORY_LENGTH, IndexBuildSpec, IndexBuildStatus, OwnerChange,
    Report, Retention, VolumeRetention, VolumeSpec, WorkError, WorkErrorReason, WorkKind, WorkResult,
};
use indexbuild_lifecycle::admission::{self, OPERATOR};
use indexbuild_lifecycle::owner::{self, Current, OwnerState, Seen, Step};
use indexbuild_lifecycle::world::{
    BuildView, ClaimPhase, ClaimView, Clocks, NodeReady, NodeView, PodState, PodView, Record, SlotView, Stage,
    Termination, World,
};
use indexbuild_lifecycle::{Action, Decision, End, plan};

pub const TICK: u64 = 500;
pub const RENEW: u64 = 1_000;
pub const REPLACE: u64 = 10_000;
pub const ORPHAN: u64 = 30_000;
const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

/// A small deterministic generator (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What may go wrong, in percent per tick or per event.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub partition: u64,
    pub cut: u64,
    pub kill: u64,
    pub reboot: u64,
    pub node_gone: u64,
    pub drain: u64,
    pub freeze: u64,
    pub crash: u64,
    pub stale: u64,
    pub late: u64,
    pub fail: u64,
    pub permanent: u64,
    pub damage: u64,
    pub lose_claim: u64,
    pub scale: u64,
    pub suspend: u64,
}

impl Faults {
    pub const NONE: Self = Self {
        partition: 0,
        cut: 0,
        kill: 0,
        reboot: 0,
        node_gone: 0,
        drain: 0,
        freeze: 0,
        crash: 0,
        stale: 0,
        late: 0,
        fail: 0,
        permanent: 0,
        damage: 0,
        lose_claim: 0,
        scale: 0,
        suspend: 0,
    };
}

struct Entry {
    spec: EngineDirectorySpec,
    status: EngineDirectoryStatus,
    version: u64,
    report_seen: u64,
    progress_seen: u64,
    grant_seen: u64,
}

struct Node {
    name: String,
    boot: u64,
    connected: bool,
    reconnect_at: u64,
    gone: bool,
}

struct Process {
    name: String,
    uid: String,
    slot: u32,
    epoch: u64,
    claim_uid: String,
    node: usize,
    /// The object in the API.
    object: bool,
    deleting: bool,
    shown: PodState,
    /// The truth.
    alive: bool,
    exit_code: i32,
    born: u64,
    cut_until: u64,
    frozen_until: u64,
    remove_at: u64,
    owner: OwnerState,
    /// The attempt that it holds open: its directory on its volume.
    open: Option<(u64, String)>,
    todo: u64,
    outcome: Option<Result<WorkResult, WorkError>>,
    work: Option<indexbuild_api::Work>,
    sent: bool,
}

enum Message {
    Claim(u32, String, Claim),
    Report(u32, String, Report),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    Committed(Vec<Stage>),
    Tombstone,
}

pub struct Sim {
    pub rng: Rng,
    pub faults: Faults,
    pub now: u64,
    pub spec: IndexBuildSpec,
    pub status: Option<IndexBuildStatus>,
    pub finalizer: bool,
    pub deleting_since: Option<u64>,
    pub released: bool,
    pub stages: BTreeMap<String, Stage>,
    pub manifest: Option<Manifest>,
    entries: BTreeMap<u32, Entry>,
    processes: Vec<Process>,
    nodes: Vec<Node>,
    claims: BTreeMap<String, ClaimView>,
    /// Directories of attempts that were ever made, by volume.
    directories: BTreeSet<(String, u64, String)>,
    messages: Vec<(u64, Message)>,
    snapshots: Vec<World>,
    delayed: Option<(u64, Decision)>,
    next_id: u64,
    highest: BTreeMap<u32, u64>,
    pub created_pods: BTreeSet<String>,
    pub stray_claims: BTreeSet<String>,
    pub end: Option<End>,
    pub counts: BTreeMap<&'static str, u64>,
    pub plan_works: (u32, u32),
    pub permanent_injected: bool,
    pub log: Vec<String>,
}

impl Sim {
    pub fn new(seed: u64, parallelism: u32, backoff_limit: u32, faults: Faults) -> Self {
        let mut rng = Rng(seed);
        let plan_works = (1 + rng.below(6) as u32, 1 + rng.below(5) as u32);
        let nodes = (0..4)
            .map(|index| Node { name: format!("node-{index}"), boot: 1, connected: true, reconnect_at: 0, gone: false })
            .collect();
        let spec = IndexBuildSpec {
            parallelism,
            backoff_limit,
            volume: Some(VolumeSpec {
                retention: Some(VolumeRetention {
                    when_published: Retention::Delete,
                    when_failed: if rng.percent(50) { Retention::Delete } else { Retention::Retain },
                    when_deleted: Retention::Delete,
                }),
                ..VolumeSpec::default()
            }),
            ..IndexBuildSpec::default()
        };
        Self {
            rng,
            faults,
            now: 1_000,
            spec,
            status: None,
            finalizer: false,
            deleting_since: None,
            released: false,
            stages: BTreeMap::new(),
            manifest: None,
            entries: BTreeMap::new(),
            processes: Vec::new(),
            nodes,
            claims: BTreeMap::new(),
            directories: BTreeSet::new(),
            messages: Vec::new(),
            snapshots: Vec::new(),
            delayed: None,
            next_id: 0,
            highest: BTreeMap::new(),
            created_pods: BTreeSet::new(),
            stray_claims: BTreeSet::new(),
            end: None,
            counts: BTreeMap::new(),
            plan_works,
            permanent_injected: false,
            log: Vec::new(),
        }
    }

    fn id(&mut self, what: &str) -> String {
        self.next_id += 1;
        format!("{what}-{:06}", self.next_id)
    }

    fn note(&mut self, text: String) {
        self.log.push(format!("{:>7} {text}", self.now));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    // ---- what an observer sees ----

    pub fn world(&self) -> World {
        let slots = self
            .entries
            .values()
            .map(|entry| SlotView {
                record: Record {
                    spec: entry.spec.clone(),
                    status: entry.status.clone(),
                    version: entry.version.to_string(),
                },
                report_age: self.now - entry.report_seen,
                progress_age: self.now - entry.progress_seen,
                grant_age: self.now - entry.grant_seen,
            })
            .collect();
        let pods = self
            .processes
            .iter()
            .filter(|process| process.object)
            .map(|process| PodView {
                name: process.name.clone(),
                uid: process.uid.clone(),
                slot: process.slot,
                epoch: process.epoch,
                node: Some(self.nodes[process.node].name.clone()),
                deleting: process.deleting,
                state: process.shown.clone(),
            })
            .collect();
        let nodes = self
            .nodes
            .iter()
            .map(|node| NodeView {
                name: node.name.clone(),
                boot_id: format!("boot-{}", node.boot),
                system_uuid: format!("machine-{}", node.name),
                ready: if node.connected { NodeReady::True } else { NodeReady::Unknown },
                unready_age: 0,
                out_of_service: false,
                gone: node.gone,
                volumes_detached: node.gone,
                cordoned: false,
            })
            .collect();
        World {
            now: self.now,
            wall: self.wall(),
            build: BuildView {
                uid: UID.to_owned(),
                name: "orders".to_owned(),
                namespace: "shop".to_owned(),
                generation: 1,
                spec: self.spec.clone(),
                status: self.status.clone(),
                deleting: self.deleting_since.is_some(),
                deletion_age: self.deleting_since.map_or(0, |since| self.now - since),
                finalizer: self.finalizer,
                reconcile_disabled: false,
                clocks: Clocks { renew_interval: RENEW, replace_after: REPLACE, orphan_after: ORPHAN },
                percent_per_second: None,
            },
            slots,
            pods,
            claims: self.claims.values().cloned().collect(),
            nodes,
            stages: self.stages.values().cloned().collect(),
        }
    }

    fn wall(&self) -> String {
        jiff::Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(self.now).unwrap()).unwrap().to_string()
    }

    /// An older world, or one in which some records are older than others.
    fn stale_world(&mut self) -> World {
        let mut world = self.world();
        if let Some(old) = (!self.snapshots.is_empty()).then(|| {
            let index = self.rng.below(self.snapshots.len() as u64) as usize;
            self.snapshots[index].clone()
        }) {
            if self.rng.percent(50) {
                return old;
            }
            for slot in &mut world.slots {
                if self.rng.percent(50)
                    && let Some(before) = old.slots.iter().find(|view| view.record.spec.slot == slot.record.spec.slot)
                {
                    *slot = before.clone();
                }
            }
        }
        world
    }

    // ---- one tick ----

    pub fn tick(&mut self, faulty: bool) {
        self.now += TICK;
        if faulty {
            self.inject();
        } else {
            self.heal();
        }
        self.deliver();
        self.kubelets();
        for index in 0..self.processes.len() {
            self.executor(index, faulty);
        }
        self.operator(faulty);
        let world = self.world();
        self.snapshots.push(world);
        if self.snapshots.len() > 6 {
            self.snapshots.remove(0);
        }
    }

    fn inject(&mut self) {
        let faults = self.faults;
        for index in 0..self.nodes.len() {
            if self.nodes[index].gone {
                continue;
            }
            if self.nodes[index].connected && self.rng.percent(faults.partition) {
                self.nodes[index].connected = false;
                self.nodes[index].reconnect_at = self.now + self.rng.below(40_000);
                self.note(format!("partition of node {index}"));
                self.count("partition");
            } else if !self.nodes[index].connected && self.now >= self.nodes[index].reconnect_at {
                self.nodes[index].connected = true;
            }
            if self.rng.percent(faults.reboot) {
                self.nodes[index].boot += 1;
                self.die(index, 137);
                self.note(format!("reboot of node {index}"));
                self.count("reboot");
            }
            if self.rng.percent(faults.node_gone) && self.nodes.iter().filter(|node| !node.gone).count() > 3 {
                self.nodes[index].gone = true;
                self.die(index, 137);
                for process in self.processes.iter_mut().filter(|process| process.node == index) {
                    process.object = false;
                }
                self.note(format!("node {index} gone"));
                self.count("node gone");
            }
        }
        for index in 0..self.processes.len() {
            if !self.processes[index].alive {
                continue;
            }
            if self.rng.percent(faults.cut) {
                self.processes[index].cut_until = self.now + self.rng.below(40_000);
                self.note(format!("cut {}", self.processes[index].name));
                self.count("cut");
            }
            if self.rng.percent(faults.freeze) {
                self.processes[index].frozen_until = self.now + self.rng.below(40_000);
                self.count("freeze");
            }
            if self.rng.percent(faults.kill) {
                self.end_process(index, 137);
                self.note(format!("kill {}", self.processes[index].name));
                self.count("kill");
            }
            if self.rng.percent(faults.drain) {
                self.processes[index].deleting = true;
                self.note(format!("drain {}", self.processes[index].name));
                self.count("drain");
            }
        }
        if self.rng.percent(faults.lose_claim) {
            let names: Vec<String> = self.claims.keys().cloned().collect();
            if !names.is_empty() {
                let name = names[self.rng.below(names.len() as u64) as usize].clone();
                self.note(format!("claim {name} lost"));
                self.claims.get_mut(&name).unwrap().phase = ClaimPhase::Lost;
                self.count("claim lost");
            }
        }
        if self.rng.percent(faults.scale) {
            self.spec.parallelism = 1 + self.rng.below(4) as u32;
            self.note(format!("parallelism {}", self.spec.parallelism));
            self.count("scale");
        }
        if self.rng.percent(faults.suspend) {
            self.spec.suspend = !self.spec.suspend;
            self.count("suspend");
        }
    }

    /// Faults stop.
    fn heal(&mut self) {
        self.spec.suspend = false;
        for node in &mut self.nodes {
            node.connected = true;
        }
        for process in &mut self.processes {
            process.cut_until = 0;
            process.frozen_until = 0;
        }
    }

    fn die(&mut self, node: usize, code: i32) {
        for index in 0..self.processes.len() {
            if self.processes[index].node == node && self.processes[index].alive {
                self.end_process(index, code);
            }
        }
    }

    fn end_process(&mut self, index: usize, code: i32) {
        let process = &mut self.processes[index];
        process.alive = false;
        process.exit_code = code;
        process.open = None;
    }

    fn kubelets(&mut self) {
        for index in 0..self.processes.len() {
            let node = &self.nodes[self.processes[index].node];
            if !node.connected || node.gone {
                continue;
            }
            let (now, wall) = (self.now, self.wall());
            let process = &mut self.processes[index];
            if !process.object {
                // A pod whose object vanished is torn down as an orphan.
                if process.alive && process.born + TICK < now {
                    process.owner.stop_requested = true;
                }
                continue;
            }
            if process.alive {
                process.shown = PodState::Running;
                if process.deleting {
                    process.owner.stop_requested = true;
                    if process.frozen_until > now + 5_000 {
                        // SIGKILL after the grace period.
                        process.alive = false;
                        process.exit_code = 137;
                        process.open = None;
                    }
                }
            } else if !matches!(process.shown, PodState::Terminated(_)) {
                process.shown = PodState::Terminated(Termination {
                    exit_code: process.exit_code,
                    finished_at: wall,
                    kubelet_written: true,
                    container_id_present: true,
                    restart_never: true,
                });
                process.remove_at = now + 1_000;
            } else if process.deleting && now >= process.remove_at {
                process.object = false;
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|(at, _)| *at <= now);
        self.messages = later;
        for (_, message) in due {
            match message {
                Message::Claim(slot, caller, claim) => {
                    self.write_status(slot, &caller, |status| status.claim = Some(claim))
                }
                Message::Report(slot, caller, report) => {
                    self.write_status(slot, &caller, |status| status.report = Some(report))
                }
            };
        }
    }

    fn write_status(&mut self, slot: u32, caller: &str, write: impl FnOnce(&mut EngineDirectoryStatus)) -> bool {
        let now = self.now;
        let Some(entry) = self.entries.get_mut(&slot) else {
            return false;
        };
        let record =
            Record { spec: entry.spec.clone(), status: entry.status.clone(), version: entry.version.to_string() };
        let mut status = entry.status.clone();
        write(&mut status);
        if admission::review_status(&record, &status, caller).is_err() {
            return false;
        }
        if status.report != entry.status.report {
            entry.report_seen = now;
            let step = |status: &EngineDirectoryStatus| {
                status.report.as_ref().map(|report| (report.rows, report.progress.map(f64::to_bits)))
            };
            if step(&status) != step(&entry.status) {
                entry.progress_seen = now;
            }
        }
        if status != entry.status {
            entry.version += 1;
        }
        entry.status = status;
        true
    }

    // ---- an executor ----

    fn executor(&mut self, index: usize, faulty: bool) {
        let now = self.now;
        let node = &self.nodes[self.processes[index].node];
        let reachable = node.connected && self.processes[index].cut_until <= now;
        let process = &mut self.processes[index];
        if !process.alive || process.frozen_until > now || process.born + TICK > now {
            return;
        }
        let slot = process.slot;
        let record = self.entries.get(&slot).map(|entry| Record {
            spec: entry.spec.clone(),
            status: entry.status.clone(),
            version: entry.version.to_string(),
        });
        // A pod object that is gone: its token is refused.
        let refused = !process.object;
        let seen = match (&record, reachable) {
            (_, false) => Seen::Unreachable,
            (_, true) if refused => Seen::Refused,
            (None, true) => Seen::Absent,
            (Some(record), true) => Seen::Record(record),
        };
        if matches!(seen, Seen::Record(_)) {
            process.owner.last_contact = now;
        }
        let step = owner::next(&process.owner, seen, now);
        match step {
            Step::Wait => {}
            Step::Claim => {
                let claim =
                    Claim { pod_uid: process.owner.pod_uid.clone(), boot_nonce: process.owner.boot_nonce.clone() };
                let caller = process.uid.clone();
                process.owner.claimed = true;
                self.send(Message::Claim(slot, caller, claim), faulty);
            }
            Step::Start { epoch, work } => self.start(index, epoch, work, faulty),
            Step::GoOn => self.work(index),
            Step::Report => {
                self.work(index);
                self.report(index, faulty);
            }
            Step::GiveWay(owner::GiveWayReason::Orphaned) | Step::Exit(owner::ExitReason::Orphaned) => {
                self.end_process(index, 11)
            }
            Step::GiveWay(_) | Step::Exit(_) => {
                let text = format!("{} ends: {step:?}", self.processes[index].name);
                self.note(text);
                self.end_process(index, 0);
            }
        }
    }

    fn send(&mut self, message: Message, faulty: bool) {
        let late = faulty && self.rng.percent(self.faults.late);
        let at = if late { self.now + self.rng.below(15_000) } else { self.now };
        self.messages.push((at, message));
        if !late {
            self.deliver();
        }
    }

    fn start(&mut self, index: usize, epoch: u64, work: indexbuild_api::Work, faulty: bool) {
        let (volume, nonce) = (self.processes[index].claim_uid.clone(), self.processes[index].owner.boot_nonce.clone());
        self.processes[index].open = None;
        // I2, I4: nobody else who lives holds an attempt on this volume.
        for (other, process) in self.processes.iter().enumerate() {
            assert!(
                other == index || process.claim_uid != volume || process.open.is_none(),
                "two processes on volume {volume}: {} and {}\n{}",
                process.name,
                self.processes[index].name,
                self.log.join("\n")
            );
        }
        // G9: a new directory, always.
        assert!(
            self.directories.insert((volume.clone(), epoch, nonce.clone())),
            "directory {epoch}-{nonce} exists on {volume}"
        );
        let fails = faulty && self.rng.percent(self.faults.fail);
        let permanent = faulty && work.kind != WorkKind::Clean && self.rng.percent(self.faults.permanent);
        let damaged = faulty && work.kind == WorkKind::Sort && self.rng.percent(self.faults.damage);
        let error = |reason, retryable, splits: Vec<u32>| WorkError {
            reason,
            message: "injected".to_owned(),
            retryable,
            damaged_splits: splits,
        };
        let result = WorkResult {
            work_id: work.id.clone(),
            epoch,
            digest: format!("{}-{epoch}-{nonce}", work.id),
            rows: 10,
            entries: 10,
            bytes: 100,
            on_volume: work.kind == WorkKind::Encode && work.runs == indexbuild_api::RunLocation::Volume,
            encode_works: (work.kind == WorkKind::Plan).then_some(self.plan_works.0),
            sort_works: (work.kind == WorkKind::Plan).then_some(self.plan_works.1),
        };
        // Runs that were on a volume which is gone are damage to whoever reads them.
        let missing = work.kind == WorkKind::Sort && {
            let encodes: Vec<_> = self.stages.values().filter(|stage| stage.name.starts_with("encode")).collect();
            let repaired = encodes.iter().any(|stage| stage.name != "encode");
            let lost = encodes.iter().flat_map(|stage| &stage.chosen).any(|chosen| {
                chosen.on_volume
                    && !self.directories.contains(&(volume.clone(), chosen.epoch, chosen.boot_nonce.clone()))
            });
            lost && !repaired
        };
        let outcome = if permanent {
            self.permanent_injected = true;
            Err(error(WorkErrorReason::DuplicateKey, false, Vec::new()))
        } else if damaged || missing {
            self.count("damage");
            Err(error(WorkErrorReason::DamagedInput, true, vec![3, 1, 3]))
        } else if fails {
            self.count("fail");
            Err(error(WorkErrorReason::StoreUnavailable, true, Vec::new()))
        } else {
            Ok(result)
        };
        let todo = 1 + self.rng.below(8);
        let process = &mut self.processes[index];
        process.open = Some((epoch, nonce));
        process.owner.current = Some(Current { epoch, work_id: work.id.clone() });
        process.todo = todo;
        process.outcome = Some(outcome);
        process.work = Some(work);
        process.sent = false;
        let text =
            format!("{} starts {} at epoch {epoch}", process.name, process.owner.current.as_ref().unwrap().work_id);
        self.note(text);
    }

    fn work(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.todo == 0 {
            return;
        }
        process.todo -= 1;
        if process.todo > 0 {
            return;
        }
        let Some(work) = process.work.clone() else {
            return;
        };
        if matches!(process.outcome, Some(Err(_)) | None) {
            return;
        }
        // The store is reached from anywhere: a partition from the control plane is none from the store.
        match work.kind {
            WorkKind::Publish => match &self.manifest {
                None => {
                    let inputs = work.inputs.iter().filter_map(|name| self.stages.get(name).cloned()).collect();
                    self.manifest = Some(Manifest::Committed(inputs));
                }
                Some(Manifest::Committed(_)) => {}
                Some(Manifest::Tombstone) => {
                    process.outcome = Some(Err(WorkError {
                        reason: WorkErrorReason::Tombstoned,
                        message: "a tombstone is there".to_owned(),
                        retryable: false,
                        damaged_splits: Vec::new(),
                    }));
                }
            },
            // G5: tombstone first, and only where nothing was committed.
            WorkKind::Clean if self.manifest.is_none() => self.manifest = Some(Manifest::Tombstone),
            WorkKind::Clean | WorkKind::Plan | WorkKind::Encode | WorkKind::Sort => {}
        }
    }

    fn report(&mut self, index: usize, faulty: bool) {
        let process = &self.processes[index];
        let Some(current) = process.owner.current.clone() else {
            return;
        };
        let mut report = Report {
            epoch: current.epoch,
            boot_nonce: process.owner.boot_nonce.clone(),
            renew_time: self.wall(),
            progress: Some(1.0 / (1.0 + process.todo as f64)),
            rows: Some(100 - process.todo),
            ..Report::default()
        };
        let mut exits = false;
        if process.todo == 0 {
            match &process.outcome {
                Some(Ok(result)) => report.result = Some(result.clone()),
                Some(Err(error)) => {
                    report.error = Some(error.clone());
                    exits = process.sent;
                }
                None => {}
            }
        }
        let (slot, caller) = (process.slot, process.uid.clone());
        self.processes[index].sent |= report.error.is_some();
        self.send(Message::Report(slot, caller, report), faulty);
        if exits {
            self.end_process(index, 10);
        }
    }

    // ---- the operator ----

    fn operator(&mut self, faulty: bool) {
        if self.released && self.end.is_some() {
            return;
        }
        let stale = faulty && self.rng.percent(self.faults.stale);
        if let Some((at, decision)) = self.delayed.take() {
            if self.now >= at {
                // Another operator, which decided some time ago and acts only now.
                self.execute(decision, usize::MAX, true);
            } else {
                self.delayed = Some((at, decision));
            }
        }
        if stale {
            let world = self.stale_world();
            let decision = plan(&world);
            let at = self.now + self.rng.below(5_000);
            self.delayed = Some((at, decision));
            return;
        }
        let world = self.world();
        let decision = plan(&world);
        assert_eq!(decision, plan(&world), "the same world, the same decision");
        let crash = faulty && self.rng.percent(self.faults.crash);
        let limit = if crash { self.rng.below(decision.actions.len() as u64 + 1) as usize } else { usize::MAX };
        let (status, end) = (decision.status.clone(), decision.end);
        self.execute(decision, limit, false);
        if crash {
            // One that starts anew begins to count anew.
            self.count("crash");
            for entry in self.entries.values_mut() {
                entry.report_seen = self.now;
                entry.progress_seen = self.now;
                entry.grant_seen = self.now;
            }
        } else {
            self.status = Some(status);
            self.end = end;
        }
    }

    fn execute(&mut self, decision: Decision, limit: usize, stale: bool) {
        let destructive = decision.actions.iter().filter(|action| action.is_destructive()).count();
        assert!(destructive <= 1, "one destructive action per pass");
        for action in decision.actions.into_iter().take(limit) {
            self.carry_out(action, stale);
        }
    }

    fn carry_out(&mut self, action: Action, stale: bool) {
        let now = self.now;
        match action {
            Action::AddFinalizer => self.finalizer = self.deleting_since.is_none() || self.finalizer,
            Action::RemoveFinalizer => {
                if self.deleting_since.is_some() {
                    self.released = true;
                }
                self.finalizer = false;
            }
            Action::CreateDirectory { slot, spec } => {
                if self.entries.contains_key(&slot) || self.released {
                    return;
                }
                self.see_epoch(slot, spec.grant.as_ref().map_or(0, |grant| grant.epoch), true);
                let text =
                    format!("create directory {slot}: {:?} {:?}", spec.grant, spec.work.as_ref().map(|work| &work.id));
                self.note(text);
                self.entries.insert(
                    slot,
                    Entry {
                        spec,
                        status: EngineDirectoryStatus::default(),
                        version: 1_000 * now,
                        report_seen: now,
                        progress_seen: now,
                        grant_seen: now,
                    },
                );
            }
            Action::UpdateDirectory { slot, version, spec, state, change, node } => {
                let wall = self.wall();
                let Some(entry) = self.entries.get_mut(&slot).filter(|entry| entry.version.to_string() == version)
                else {
                    // G1: who lost looks again.
                    self.count("conflict");
                    return;
                };
                admission::review_spec(&entry.spec, &spec)
                    .unwrap_or_else(|refusal| panic!("an illegal write: {refusal}: {:?} -> {spec:?}", entry.spec));
                let mut status = entry.status.clone();
                status.state = state;
                if let Some(grant) = &spec.grant {
                    if let Some(reason) = change {
                        status.history.push(OwnerChange {
                            epoch: grant.epoch,
                            pod_uid: grant.pod_uid.clone(),
                            pod_name: grant.pod_name.clone(),
                            reason,
                            time: wall,
                            volume_generation: spec.volume.as_ref().map_or(0, |volume| volume.generation),
                        });
                        let surplus = status.history.len().saturating_sub(HISTORY_LENGTH);
                        status.history.drain(..surplus);
                    }
                    if grant.pod_uid.is_empty() {
                        (status.node_name, status.node_boot_id, status.node_system_uuid) = (None, None, None);
                    } else if let Some(node) = node {
                        (status.node_name, status.node_boot_id, status.node_system_uuid) =
                            (Some(node.name), Some(node.boot_id), Some(node.system_uuid));
                    }
                }
                let record = Record { spec: entry.spec.clone(), status: entry.status.clone(), version };
                admission::review_status(&record, &status, OPERATOR).unwrap();
                if entry.spec.grant != spec.grant {
                    entry.grant_seen = now;
                }
                let epochs = (
                    entry.spec.grant.as_ref().map_or(0, |grant| grant.epoch),
                    spec.grant.as_ref().map_or(0, |grant| grant.epoch),
                );
                entry.spec = spec;
                entry.status = status;
                entry.version += 1;
                if epochs.0 != epochs.1 {
                    self.see_epoch(slot, epochs.1, false);
                    let entry = &self.entries[&slot];
                    let text = format!(
                        "slot {slot} epoch {} {change:?}: {:?} on {:?}",
                        epochs.1,
                        entry.spec.work.as_ref().map(|work| &work.id),
                        entry.spec.volume.as_ref().map(|volume| &volume.claim_name)
                    );
                    self.note(text);
                    if let Some(change) = change {
                        self.count(match change {
                            indexbuild_api::OwnerChangeReason::Rebound => "rebound",
                            indexbuild_api::OwnerChangeReason::Replaced => "replaced",
                            indexbuild_api::OwnerChangeReason::Returned => "returned",
                            indexbuild_api::OwnerChangeReason::AttemptFailed => "attempt failed",
                            indexbuild_api::OwnerChangeReason::NoProgress => "no progress",
                            indexbuild_api::OwnerChangeReason::ScaledDown => "scaled down",
                            _ => "other change",
                        });
                    }
                }
            }
            Action::DeleteDirectory { slot, version } => {
                if self.entries.get(&slot).is_some_and(|entry| entry.version.to_string() == version) {
                    self.entries.remove(&slot);
                    self.note(format!("delete directory {slot}"));
                }
            }
            Action::CreateClaim { slot, generation, name } => {
                if !self.claims.contains_key(&name) {
                    let uid = self.id("claim");
                    if stale {
                        self.stray_claims.insert(name.clone());
                    }
                    self.claims.insert(
                        name.clone(),
                        ClaimView {
                            name,
                            uid,
                            slot,
                            generation,
                            phase: ClaimPhase::Bound,
                            foreign: false,
                            lock_taken: None,
                        },
                    );
                }
            }
            Action::CreatePod { slot, epoch, name, claim } => {
                // G10.
                assert!(name.ends_with(&format!("-e{epoch}")), "{name}");
                if self.processes.iter().any(|process| process.object && process.name == name) {
                    assert!(stale, "a pod of the name {name} exists");
                    return;
                }
                let Some(claim_uid) = self.claims.get(&claim).map(|claim| claim.uid.clone()) else {
                    return;
                };
                let (uid, nonce) = (self.id("pod"), self.id("nonce"));
                let usable: Vec<usize> = (0..self.nodes.len())
                    .filter(|index| self.nodes[*index].connected && !self.nodes[*index].gone)
                    .collect();
                if usable.is_empty() {
                    return;
                }
                let node = usable[self.rng.below(usable.len() as u64) as usize];
                self.created_pods.insert(name.clone());
                self.note(format!("create {name} on node {node}"));
                self.processes.push(Process {
                    name,
                    uid: uid.clone(),
                    slot,
                    epoch,
                    claim_uid,
                    node,
                    object: true,
                    deleting: false,
                    shown: PodState::Pending,
                    alive: true,
                    exit_code: 0,
                    born: now,
                    cut_until: 0,
                    frozen_until: 0,
                    remove_at: 0,
                    owner: OwnerState {
                        pod_uid: uid,
                        boot_nonce: nonce,
                        orphan_after: ORPHAN,
                        last_contact: now,
                        claimed: false,
                        current: None,
                        stop_requested: false,
                    },
                    open: None,
                    todo: 0,
                    outcome: None,
                    work: None,
                    sent: false,
                });
            }
            Action::StopPod { name, uid, reason } => {
                self.note(format!("stop {name}: {reason:?}"));
                for process in self.processes.iter_mut().filter(|process| process.object && process.uid == uid) {
                    process.deleting = true;
                    if matches!(process.shown, PodState::Terminated(_)) {
                        process.object = false;
                    }
                }
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                assert_eq!(condemned.claim_uid(), uid);
                assert_eq!(evidence.claim_name(), name);
                if self.claims.get(&name).is_some_and(|claim| claim.uid == uid) {
                    // I4, on the truth: nobody who lives holds the volume.
                    let holder = self
                        .processes
                        .iter()
                        .find(|process| process.alive && process.claim_uid == uid && process.open.is_some());
                    assert!(
                        holder.is_none(),
                        "{name} is deleted under {}\n{}",
                        holder.unwrap().name,
                        self.log.join("\n")
                    );
                    self.note(format!("delete claim {name}"));
                    self.claims.remove(&name);
                    self.count("claim deleted");
                }
            }
            Action::FreezeStage { stage } => {
                // G6: create-once.
                if !self.stages.contains_key(&stage.name) {
                    self.note(format!("freeze {} ({} works)", stage.name, stage.chosen.len()));
                    self.stages.insert(stage.name.clone(), stage);
                }
            }
        }
    }

    fn see_epoch(&mut self, slot: u32, epoch: u64, new: bool) {
        let highest = self.highest.entry(slot).or_default();
        // A record that was removed because all was accounted for may begin again; one that stands never falls.
        assert!(new || epoch > *highest || *highest == 0, "slot {slot}: epoch {epoch} after {highest}");
        *highest = epoch;
    }

    // ---- the end ----

    pub fn explain(&self) -> String {
        let mut text = self.log.iter().rev().take(80).rev().cloned().collect::<Vec<_>>().join("\n");
        for entry in self.entries.values() {
            text.push_str(&format!("\n{:#?}\n{:?}", entry.spec, entry.status));
        }
        for process in &self.processes {
            if process.object || process.alive {
                text.push_str(&format!(
                    "\n{} object {} alive {} deleting {} {:?} owner {:?}",
                    process.name, process.object, process.alive, process.deleting, process.shown, process.owner
                ));
            }
        }
        let decision = plan(&self.world());
        text.push_str(&format!("\nclaims {:?}\nnext {:#?}", self.claims, decision));
        text
    }

    pub fn records(&self) -> impl Iterator<Item = &EngineDirectorySpec> {
        self.entries.values().map(|entry| &entry.spec)
    }

    pub fn claim_names(&self) -> Vec<String> {
        self.claims.keys().cloned().collect()
    }

    pub fn living(&self) -> usize {
        self.processes.iter().filter(|process| process.alive).count()
    }
}
