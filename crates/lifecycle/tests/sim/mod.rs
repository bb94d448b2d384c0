//! A small simulated world: a control plane whose truth is not what its observers see, nodes, kubelets,
//! executors that do what `owner::next` says, and an operator that does what `plan` says, with crashes,
//! stale reads and late messages. It asserts the protocol's invariants at every step, on the truth.
//! A test that steers it by hand ([`by_hand`]) says itself what happens.
#![allow(dead_code)] // each test file uses some

pub(crate) mod by_hand;
pub(crate) mod disks;
mod executor;
mod faults;
mod operator;
mod seen;
mod stages;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{
    Chosen, Claim, EngineDirectorySpec, EngineDirectoryStatus, Epoch, FrozenStage, IndexBuildSpec, IndexBuildStatus,
    Report, ReportedWait, Retention, VolumeRetention, VolumeSpec, WorkError, WorkErrorReason, WorkKind, WorkResult,
    names,
};
use indexbuild_lifecycle::admission::{self, OPERATOR};
use indexbuild_lifecycle::frozen::{StageObject, sort_out};
use indexbuild_lifecycle::owner::{self, Current, OwnerState, Seen, Step};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::{
    BuildView, ClaimPhase, ClaimView, Frozen, NodeReady, NodeView, PodState, PodView, Record, Share, SlotView, Stage,
    Termination, Timeouts, World,
};
use indexbuild_lifecycle::{Action, Decision, End, plan};

use disks::Driver;

pub(crate) const TICK: u64 = 500;
pub(crate) const RENEW: u64 = 1_000;
pub(crate) const REPLACE: u64 = 10_000;
pub(crate) const ORPHAN: u64 = 30_000;
pub(crate) const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

/// A small deterministic generator (splitmix64).
#[derive(Clone)]
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What may go wrong, in percent per tick or per event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub partition: u64,
    pub cut: u64,
    pub kill: u64,
    pub reboot: u64,
    pub node_gone: u64,
    /// A Node object is removed, and its machine runs on.
    pub node_removed: u64,
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
    /// Of pods, whose container begins some time after they are on their node.
    pub slow_start: u64,
    /// Of pods, in a sandbox with a kernel of its own.
    pub sandbox: u64,
    /// A process that ends in peace does not say so: of an older version, or cut off at that moment.
    pub mute: u64,
    /// The operator is away for a while.
    pub away: u64,
    /// Somebody else puts objects under the names of stages, or removes those that are there.
    pub forge: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        partition: 0,
        cut: 0,
        kill: 0,
        reboot: 0,
        node_gone: 0,
        node_removed: 0,
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
        slow_start: 0,
        sandbox: 0,
        mute: 0,
        away: 0,
        forge: 0,
    };
}

#[derive(Clone)]
struct Entry {
    spec: EngineDirectorySpec,
    status: EngineDirectoryStatus,
    version: u64,
    report_seen: u64,
    progress_seen: u64,
    grant_seen: u64,
}

#[derive(Clone)]
struct Node {
    name: String,
    boot: u64,
    connected: bool,
    reconnect_at: u64,
    /// When it was connected, or cut off, as it is now.
    changed_at: u64,
    gone: bool,
    detached: bool,
    out_of_service: bool,
}

#[derive(Clone)]
struct Process {
    name: String,
    uid: String,
    slot: u32,
    epoch: Epoch,
    claim_uid: String,
    node: usize,
    /// Whether the scheduler has put it on its node.
    scheduled: bool,
    /// The object in the API.
    object: bool,
    deleting: bool,
    shown: PodState,
    /// The truth.
    alive: bool,
    exit_code: i32,
    born: u64,
    /// When its container begins: a reboot of its node before that does not end it.
    starts_at: u64,
    /// Whether it is in a sandbox, with a kernel of its own.
    sandboxed: bool,
    /// The boots of its node when it was put there, and when it began.
    boots: (u64, Option<u64>),
    cut_until: u64,
    frozen_until: u64,
    remove_at: u64,
    owner: OwnerState,
    /// The attempt that it holds open: its directory on its volume.
    open: Option<(Epoch, String)>,
    todo: u64,
    /// What it reports of an attempt that is steered by hand.
    progress: f64,
    rows: u64,
    stuck: bool,
    waiting: Option<ReportedWait>,
    outcome: Option<Result<WorkResult, WorkError>>,
    work: Option<indexbuild_api::Work>,
    sent: bool,
    /// It does not say that it has released its volume.
    mute: bool,
    /// A mutant has said so, and works on; the exit code that it will have.
    leaves: Option<i32>,
}

#[derive(Clone)]
enum Message {
    Claim(u32, String, Claim),
    Report(u32, String, Box<Report>),
    Release(u32, LastWord),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    Committed(Vec<Stage>),
    Tombstone,
}

#[derive(Clone)]
pub(crate) struct Sim {
    pub rng: Rng,
    pub faults: Faults,
    pub now: u64,
    pub tick: u64,
    pub timeouts: Timeouts,
    /// Whether works end, and how, as somebody says, and not by themselves.
    by_hand: bool,
    /// Whether a volume is found for a new claim.
    claims_bind: bool,
    /// Whether no container of a new pod begins, as when an image is on its way.
    containers_wait: bool,
    pub spec: IndexBuildSpec,
    pub status: Option<IndexBuildStatus>,
    pub finalizer: bool,
    pub deleting_since: Option<u64>,
    pub released: bool,
    /// The stages that operators have frozen, wherever their objects are.
    pub stages: BTreeMap<String, Stage>,
    /// What the build's status says of stages: written by compare-and-set alone.
    pub said: Option<Vec<FrozenStage>>,
    /// Objects of somebody else under the names of stages: they hide what stood there.
    strangers: BTreeMap<String, Stage>,
    /// Stages whose objects somebody has removed.
    removed: BTreeSet<String>,
    /// All that was ever chosen in a record, and each stage as it was believed first.
    ever_chosen: Vec<Chosen>,
    believed: RefCell<BTreeMap<String, Stage>>,
    pub manifest: Option<Manifest>,
    entries: BTreeMap<u32, Entry>,
    processes: Vec<Process>,
    nodes: Vec<Node>,
    claims: BTreeMap<String, ClaimView>,
    /// Which driver each claim's volume has, by the claim's UID.
    drivers: BTreeMap<String, Driver>,
    /// The one that all have.
    driver: Option<Driver>,
    /// Whose detach is believed.
    believed_drivers: BTreeSet<&'static str>,
    /// Directories of attempts that were ever made, by volume.
    directories: BTreeSet<(String, Epoch, String)>,
    messages: Vec<(u64, Message)>,
    snapshots: Vec<World>,
    delayed: Option<(u64, Decision)>,
    /// Until then no operator looks.
    away_until: u64,
    /// A mutant: executors say that they have released their volume, and work on.
    pub writes_after_release: bool,
    next_id: u64,
    highest: BTreeMap<u32, Epoch>,
    pub created_pods: BTreeSet<String>,
    pub stray_claims: BTreeSet<String>,
    /// Claims that were left to others, as their policy says.
    pub kept_claims: BTreeSet<String>,
    pub end: Option<End>,
    pub counts: BTreeMap<&'static str, u64>,
    pub plan_works: (u32, u32),
    pub permanent_injected: bool,
    pub log: Vec<String>,
}

impl Sim {
    pub(crate) fn new(seed: u64, parallelism: u32, backoff_limit: u32, faults: Faults) -> Self {
        let mut rng = Rng(seed);
        let plan_works = (1 + rng.below(6) as u32, 1 + rng.below(5) as u32);
        let nodes = (0..4)
            .map(|index| Node {
                name: format!("node-{index}"),
                boot: 1,
                connected: true,
                reconnect_at: 0,
                changed_at: 0,
                gone: false,
                detached: false,
                out_of_service: false,
            })
            .collect();
        let spec = IndexBuildSpec {
            parallelism,
            backoff_limit: Some(backoff_limit),
            backoff_limit_per_work: 1_000,
            volume: Some(VolumeSpec {
                retention: Some(VolumeRetention {
                    when_published: Retention::Delete,
                    when_failed: if rng.percent(50) { Retention::Delete } else { Retention::Retain },
                    when_deleted: if (seed / 1_000).is_multiple_of(2) { Retention::Delete } else { Retention::Retain },
                }),
                ..VolumeSpec::default()
            }),
            ..IndexBuildSpec::default()
        };
        Self {
            rng,
            faults,
            now: 1_000,
            tick: TICK,
            timeouts: Timeouts { renew_interval: RENEW, replace_after: REPLACE, orphan_after: ORPHAN },
            by_hand: false,
            claims_bind: true,
            containers_wait: false,
            spec,
            status: None,
            finalizer: false,
            deleting_since: None,
            released: false,
            stages: BTreeMap::new(),
            said: None,
            strangers: BTreeMap::new(),
            removed: BTreeSet::new(),
            ever_chosen: Vec::new(),
            believed: RefCell::default(),
            manifest: None,
            entries: BTreeMap::new(),
            processes: Vec::new(),
            nodes,
            claims: BTreeMap::new(),
            drivers: BTreeMap::new(),
            driver: None,
            believed_drivers: [Driver::Detaches.name()].into(),
            directories: BTreeSet::new(),
            messages: Vec::new(),
            snapshots: Vec::new(),
            delayed: None,
            away_until: 0,
            writes_after_release: false,
            next_id: 0,
            highest: BTreeMap::new(),
            created_pods: BTreeSet::new(),
            stray_claims: BTreeSet::new(),
            kept_claims: BTreeSet::new(),
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

    fn note(&mut self, text: impl std::fmt::Display) {
        self.log.push(format!("{:>7} {text}", self.now));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    // ---- what an observer sees ----

    /// The status as it stands: what is said of stages is written apart.
    fn status(&self) -> Option<IndexBuildStatus> {
        let status = self.status.clone().or_else(|| self.said.is_some().then(IndexBuildStatus::default));
        status.map(|status| IndexBuildStatus { frozen_stages: self.said.clone(), ..status })
    }

    fn claims(&self) -> Vec<ClaimView> {
        self.claims.values().cloned().collect()
    }

    /// What was asked for of volumes when the build is deleted.
    pub(crate) fn when_deleted(&self) -> Retention {
        self.spec.volume_or_default().retention.unwrap_or_default().when_deleted
    }

    fn active_age(&self) -> u64 {
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let start = self.status.as_ref().and_then(|status| status.start_time.as_deref());
        start.map_or(0, |start| u64::try_from(time(&self.wall()) - time(start)).unwrap_or(0))
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

    pub(crate) fn tick(&mut self, faulty: bool) {
        self.now += self.tick;
        if faulty {
            self.inject();
        } else {
            self.heal();
        }
        self.live(faulty);
        self.operator(faulty);
        let world = self.world();
        self.snapshots.push(world);
        if self.snapshots.len() > 6 {
            self.snapshots.remove(0);
        }
    }

    /// What happens without the operator.
    fn live(&mut self, faulty: bool) {
        self.deliver();
        self.kubelets();
        for index in 0..self.processes.len() {
            self.executor(index, faulty);
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
                    self.write_status(slot, &caller, |status| status.report = Some(*report))
                }
                Message::Release(slot, word) => {
                    let caller = word.pod_uid.clone();
                    let taken = self.write_status(slot, &caller, |status| word.write(&mut status.released));
                    self.count(if taken { "released" } else { "release refused" });
                    taken
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

    // ---- the end ----

    pub(crate) fn explain(&self) -> String {
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

    pub(crate) fn records(&self) -> impl Iterator<Item = &EngineDirectorySpec> {
        self.entries.values().map(|entry| &entry.spec)
    }

    pub(crate) fn claim_names(&self) -> Vec<String> {
        self.claims.keys().cloned().collect()
    }

    pub(crate) fn living(&self) -> usize {
        self.processes.iter().filter(|process| process.alive).count()
    }
}
