//! The parent's loop: observe, plan, execute, report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexbuild_api::{IndexBuildStatus, Phase};
use indexbuild_durable as durable;
use indexbuild_executor::StoreAccess;
use indexbuild_lifecycle::observer::Observer;
use indexbuild_lifecycle::world::{Stage, Timeouts};
use indexbuild_lifecycle::{Decision, End, World, plan};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::build::StoredBuild;
use crate::collect::Collector;
use crate::execute::{ActionRunner, ProcessSpecs};
use crate::folder::{self, Folder, StateError};
use crate::hub::{Hub, State};
use crate::inject::{Injector, Over};
use crate::journal::Journal;
use crate::observe::{RunSettings, millis, observe};
use crate::options::{RENEW_INTERVAL, RunError, RunOptions};
use crate::pods::{Pods, essential_lines_of};
use crate::progress::ProgressSink;
use crate::records::{Records, this_machine};
use crate::server;
use crate::summary::{ChildSummary, RunSummary};
use crate::view::progress;
use crate::volumes;
use indexbuild_timeline::{SlotEvent, timeline};

/// How long a process that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How often processes of a former parent are looked at: nobody tells when they end.
const LOOK_AT_FORMER: Duration = Duration::from_millis(100);

/// The longest time between two looks, as a backstop: everything that matters wakes the loop.
const BACKSTOP: Duration = Duration::from_secs(1);

pub(crate) struct Parent {
    hub: Arc<Hub>,
    build: StoredBuild,
    process_specs: ProcessSpecs,
    settings: RunSettings,
    progress: Box<dyn ProgressSink>,
    collector: Collector,
    observer: Observer,
    said: BTreeSet<String>,
    started: Instant,
    signals: bool,
    /// When it was asked to stop, and how often.
    interrupted: Option<Instant>,
    failed_pod: Option<String>,
}

impl Parent {
    /// Reads what the state folder holds of the build.
    pub(crate) fn new(folder: &Folder, build: StoredBuild, options: RunOptions) -> Result<Self, RunError> {
        let RunOptions {
            build: _,
            state: _,
            overrides,
            faults,
            executable,
            progress,
            keep_volumes,
            fresh: _,
            abort,
            signals,
            ca_file,
        } = options;
        let layout = folder.layout().clone();
        let disruption = build.spec.disruption_or_default();
        let timeouts = Timeouts {
            renew_interval: millis(overrides.renew_interval.unwrap_or(RENEW_INTERVAL)),
            replace_after: overrides.replace_after.map_or_else(|| disruption.replace_after.as_millis(), millis),
            orphan_after: overrides.orphan_after.map_or_else(|| disruption.orphan_after.as_millis(), millis),
        };
        let process_specs = ProcessSpecs {
            executable,
            threads: overrides.threads.unwrap_or_else(|| threads(&build)),
            memory_limit: overrides.memory.unwrap_or_else(|| build.spec.memory_limit_bytes()),
            orphan_after_ms: timeouts.orphan_after,
            ca_file: ca_file.clone(),
        };
        let mut build = build;
        if build.keep_volumes != keep_volumes {
            build.keep_volumes = keep_volumes;
            build.store(&layout)?;
        }
        if abort {
            if build.status.as_ref().and_then(|status| status.phase) == Some(Phase::Complete) {
                return Err(RunError::CompleteAlready { state: layout.root().to_owned() });
            }
            if !build.deleting {
                build.deleting = true;
                build.store(&layout)?;
            }
        }
        let mut stages = BTreeMap::new();
        for name in folder::names(&layout, &layout.stages())? {
            if let Some(stage) = folder::read::<Stage>(&layout, &layout.stages().join(name))? {
                stages.insert(stage.name.clone(), stage);
            }
        }
        let records = Records::load(layout.clone())?;
        let now = Instant::now();
        for slot in records.slots() {
            // A disk that a former run filled up has room again.
            durable::remove_file(&layout.no_space(slot))
                .map_err(|source| StateError::Io { folder: layout.root().to_owned(), source })?;
        }
        let state = State {
            pods: Pods::load(layout.clone())?,
            volumes: volumes::load(&layout)?,
            stages,
            injector: Injector::new(&faults),
            journal: Journal::open(&layout.journal()),
            records,
        };
        let collector = Collector::new(&build, &StoreAccess::of_this_machine(ca_file));
        Ok(Self {
            hub: Arc::new(Hub::new(layout, this_machine(), state)),
            build,
            process_specs,
            settings: RunSettings { timeouts, suspend: false, keep_volumes },
            progress,
            collector,
            observer: Observer::default(),
            said: BTreeSet::new(),
            started: now,
            signals,
            interrupted: None,
            failed_pod: None,
        })
    }

    /// Runs the build to its end.
    pub(crate) async fn run(mut self) -> Result<RunSummary, RunError> {
        let socket = self.hub.layout.socket();
        let listener = server::listen(&socket).map_err(RunError::Socket)?;
        let serving = tokio::spawn(server::serve(Arc::clone(&self.hub), listener));
        let (stop, mut stops) = mpsc::unbounded_channel();
        let listening = self.signals.then(|| tokio::spawn(listen_for_signals(stop)));
        let outcome = self.watch_over(&mut stops).await;
        self.progress.finish();
        let outcome = match outcome {
            Ok((world, end)) => self.ended(&world, end).await,
            Err(error) => {
                // Nobody is there to grant them anything: they seal what they have, and end.
                self.end_processes();
                Err(error)
            }
        };
        serving.abort();
        if let Some(listening) = listening {
            listening.abort();
        }
        // A socket that nobody answers on says nothing that its absence does not say.
        let _ = std::fs::remove_file(&socket);
        outcome
    }

    async fn watch_over(&mut self, stops: &mut mpsc::UnboundedReceiver<()>) -> Result<(World, End), RunError> {
        loop {
            self.look_after_processes();
            let world = self.observe();
            let decision = plan(&world);
            let changed = self.execute(&decision)?;
            self.report(&world, &decision)?;
            if let Some(end) = decision.end.filter(|_| !changed) {
                // Also what proves nothing to the lifecycle any more must not outlive this run; what a
                // process's end proves, the lifecycle then acts on.
                if self.end_processes() {
                    return Ok((world, end));
                }
            }
            if self.interrupted.is_some() && self.hub.state().pods.iter().all(|pod| !pod.is_alive()) {
                return Err(RunError::Interrupted { state: self.hub.layout.root().to_owned() });
            }
            if changed {
                continue;
            }
            let pause = self.pause(&decision);
            let hub = Arc::clone(&self.hub);
            tokio::select! {
                () = hub.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some(()) = stops.recv() => self.interrupt()?,
            }
        }
    }

    fn observe(&mut self) -> World {
        let Self { hub, build, settings, observer, started, .. } = self;
        observe(hub, &hub.state(), build, settings, observer, *started)
    }

    /// Carries out the actions in their order. Whether anything was done: then it is time to look again.
    fn execute(&mut self, decision: &Decision) -> Result<bool, RunError> {
        let mut changed = false;
        let Self { hub, build, process_specs, .. } = self;
        let mut hands = ActionRunner { hub, build, process_specs };
        for action in decision.actions.iter().cloned() {
            match hands.carry_out(action) {
                Ok(()) => changed = true,
                Err(error) if error.is_conflict() => {
                    tracing::debug!(%error, "looking again");
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }

    fn report(&mut self, world: &World, decision: &Decision) -> Result<(), RunError> {
        let Decision { actions: _, status, requeue: _, end: _, waits, events, leaves: _, said_with_stages: _ } =
            decision;
        let elapsed = self.started.elapsed();
        self.observer.see_percent(status.percent.unwrap_or(0), millis(elapsed));
        let shown = progress(world, status, elapsed);
        self.progress.show(&shown);
        for event in events {
            // Told once: the same thing is seen at every look.
            if self.said.insert(event.message.clone()) && (event.warning || self.said.len() < 1_000) {
                self.progress.say(&event.message, event.warning);
            }
        }
        for wait in waits {
            tracing::debug!(reason = ?wait.reason, slot = wait.slot, what = %wait.what, ends = %wait.ends_when, "a wait");
        }
        for chosen in world.slots.iter().flat_map(|slot| &slot.record.spec.chosen) {
            self.collector.see(chosen);
        }
        for chosen in world.stages.iter().flat_map(|stage| &stage.chosen) {
            self.collector.see(chosen);
        }
        if let Some(slot) = world
            .slots
            .iter()
            .find(|slot| slot.record.status.report.as_ref().is_some_and(|report| report.error.is_some()))
        {
            self.failed_pod = slot.record.spec.grant.as_ref().map(|grant| grant.pod_name.clone());
        }
        let decides = decides(self.build.status.as_ref()) != decides(Some(status));
        self.build.status = Some(status.clone());
        if decides {
            self.build.store(&self.hub.layout)?;
        }
        Ok(())
    }

    /// Notices what nobody tells: ended cuts, ended processes of a former parent, processes that do
    /// not stop.
    fn look_after_processes(&mut self) {
        let hub = Arc::clone(&self.hub);
        let mut state = hub.state();
        let now = Instant::now();
        for name in state.pods.look_for_ends(&jiff::Timestamp::now().to_string()) {
            if let Some((slot, how)) =
                state.pods.get(&name).and_then(|pod| Some((pod.file.slot, pod.ended.as_ref()?.how.clone())))
            {
                state.journal.add(slot, SlotEvent::Ended { pod: name, how });
            }
        }
        // Once nothing that they do can matter, processes that are cut off or frozen are told to end:
        // they are this run's own children, and their end is what lets their volumes be cleaned.
        let phase = self.build.status.as_ref().and_then(|status| status.phase);
        if phase.is_some_and(|phase| matches!(phase, Phase::Cleaning | Phase::Complete | Phase::Failed)) {
            let cut: Vec<String> = state
                .pods
                .iter()
                .filter(|pod| pod.is_alive() && state.injector.cut_until(&pod.file.uid, now).is_some())
                .map(|pod| pod.file.name.clone())
                .collect();
            for name in cut {
                ask_to_end(&hub, &mut state, &name, now);
            }
            state.injector.end_all(now);
        }
        faults_over(&hub, &mut state, now);
        for pod in state.pods.iter_mut() {
            if pod.is_alive() && pod.terminated_at.is_some_and(|at| now - at >= GRACE) {
                tracing::warn!(pod = %pod.file.name, "a process does not stop; it is killed");
                pod.signal(&hub.layout, Signal::KILL);
                pod.terminated_at = Some(now);
            }
        }
    }

    /// Until the next look, where nothing happens before.
    fn pause(&self, decision: &Decision) -> Duration {
        let state = self.hub.state();
        let now = Instant::now();
        let mut pause = BACKSTOP.min(Duration::from_millis(decision.requeue.max(10)));
        if state.pods.iter().any(|pod| pod.is_alive() && !pod.own) {
            pause = pause.min(LOOK_AT_FORMER);
        }
        if let Some(heal) = state.injector.next_over() {
            pause = pause.min(heal.saturating_duration_since(now) + Duration::from_millis(1));
        }
        for at in state.pods.iter().filter(|pod| pod.is_alive()).filter_map(|pod| pod.terminated_at) {
            pause = pause.min((at + GRACE).saturating_duration_since(now) + Duration::from_millis(1));
        }
        pause
    }

    /// The first time: everything is sealed, processes end. The second time: at once.
    fn interrupt(&mut self) -> Result<(), RunError> {
        let hub = Arc::clone(&self.hub);
        let mut state = hub.state();
        let now = Instant::now();
        if self.interrupted.is_some() {
            for pod in state.pods.iter_mut() {
                pod.signal(&hub.layout, Signal::KILL);
            }
            return Err(RunError::Interrupted { state: hub.layout.root().to_owned() });
        }
        self.interrupted = Some(now);
        self.settings.suspend = true;
        state.injector.end_all(now);
        let alive: Vec<String> =
            state.pods.iter().filter(|pod| pod.is_alive()).map(|pod| pod.file.name.clone()).collect();
        for name in alive {
            ask_to_end(&hub, &mut state, &name, now);
        }
        drop(state);
        self.progress.say("stopping: what is finished is being sealed; once more to stop at once", false);
        Ok(())
    }

    /// Asks the processes to end that are left after the build's end. Whether none is left.
    fn end_processes(&self) -> bool {
        let mut state = self.hub.state();
        let now = Instant::now();
        let alive: Vec<String> =
            state.pods.iter().filter(|pod| pod.is_alive()).map(|pod| pod.file.name.clone()).collect();
        for name in &alive {
            ask_to_end(&self.hub, &mut state, name, now);
        }
        alive.is_empty()
    }

    async fn ended(self, world: &World, end: End) -> Result<RunSummary, RunError> {
        let Self { hub, build, process_specs, collector, started, failed_pod, .. } = self;
        let status = build.status.clone().unwrap_or_default();
        if end == End::Failed {
            let message = failure(&status);
            let lines = failed_pod.map(|pod| essential_lines_of(&hub.layout, &pod)).unwrap_or_default();
            let essentials = lines
                .iter()
                .filter(|line| !message.contains(line.as_str()))
                .map(|line| format!("\n    {line}"))
                .collect();
            return Err(RunError::Failed { message, essentials });
        }
        let stages = collector.finish().await;
        let state = hub.state();
        let manifest = status.manifest.clone();
        let children = state
            .pods
            .usages()
            .into_iter()
            .map(|(pod_name, slot, usage)| ChildSummary {
                pod_name,
                slot,
                peak_rss_bytes: usage.peak_rss,
                cpu_ms: usage.cpu_ms,
            })
            .collect();
        Ok(RunSummary {
            namespace: build.namespace.clone(),
            name: build.name.clone(),
            uid: build.uid.clone(),
            outcome: match end {
                End::Complete => "Complete",
                End::Aborted => "Aborted",
                End::Failed => "Failed",
            }
            .to_owned(),
            rows: rows(world, &status),
            entries: manifest.as_ref().map_or(0, |manifest| manifest.entries),
            bytes: manifest.as_ref().map_or(0, |manifest| manifest.bytes),
            manifest,
            wall_ms: millis(started.elapsed()),
            failed_attempts: status.failed_attempts.unwrap_or(0),
            stages,
            memory_limit: process_specs.memory_limit,
            children,
            timeline: timeline(state.journal.entries()),
        })
    }
}

/// Threads of each process where nobody says: the cores that the build asks for, else this
/// machine's, divided among the slots.
fn threads(build: &StoredBuild) -> usize {
    let executor = build.spec.executor_or_default();
    let asks = executor.resources.as_ref().is_some_and(|resources| {
        let cpu = |amounts: &Option<indexbuild_api::ResourceAmounts>| {
            amounts.as_ref().is_some_and(|amounts| amounts.cpu.is_some())
        };
        cpu(&resources.requests) || cpu(&resources.limits)
    });
    if asks {
        return executor.threads();
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = usize::try_from(build.spec.parallelism).unwrap_or(1).max(1);
    (cores / slots).clamp(1, indexbuild_api::MAX_THREADS)
}

/// Ends the faults whose time is over.
fn faults_over(hub: &Hub, state: &mut State, now: Instant) {
    let Over { healed, thawed, emptied } = state.injector.over(now);
    let named = |state: &State, uid: &str| state.pods.by_uid(uid).map(|pod| (pod.file.name.clone(), pod.file.slot));
    for uid in &healed {
        if let Some((name, slot)) = named(state, uid) {
            state.journal.add(slot, SlotEvent::Note { text: format!("{name} is in contact again") });
            let told = state.pods.get(&name).is_some_and(|pod| pod.deleting && pod.terminated_at.is_none());
            if told {
                ask_to_end(hub, state, &name, now);
            }
        }
    }
    for uid in &thawed {
        if let Some((name, slot)) = named(state, uid) {
            hub.signal(state, &name, Signal::CONT);
            state.journal.add(slot, SlotEvent::Note { text: format!("{name} is frozen no more") });
        }
    }
    for slot in emptied {
        match std::fs::remove_file(hub.layout.no_space(slot)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, slot, "the disk still looks full");
            }
            Ok(()) | Err(_) => state.journal.add(slot, SlotEvent::Note { text: "the disk has room again".to_owned() }),
        }
    }
    if !healed.is_empty() {
        hub.healed.notify_waiters();
    }
}

/// Asks a process to end: SIGTERM, and SIGKILL when its grace is over. A frozen one goes on for that.
fn ask_to_end(hub: &Hub, state: &mut State, name: &str, now: Instant) {
    if let Some(pod) = state.pods.get_mut(name) {
        pod.measure();
        pod.deleting = true;
        if pod.terminated_at.is_none() {
            pod.signal(&hub.layout, Signal::TERM);
            pod.signal(&hub.layout, Signal::CONT);
            pod.terminated_at = Some(now);
        }
    }
}

/// The part of the status that decides anything at the next start, and is worth a write.
fn decides(status: Option<&IndexBuildStatus>) -> Option<(Option<Phase>, u32, bool, bool, bool)> {
    status.map(|status| {
        (
            status.phase,
            status.failed_attempts.unwrap_or(0),
            status.start_time.is_some(),
            status.finish_time.is_some(),
            status.manifest.is_some(),
        )
    })
}

/// Rows of the table: those of the chosen Encodes.
fn rows(world: &World, status: &IndexBuildStatus) -> u64 {
    let encoded: u64 = world
        .stages
        .iter()
        .filter(|stage| stage.name == "encode")
        .flat_map(|stage| &stage.chosen)
        .map(|chosen| chosen.rows)
        .sum();
    if encoded > 0 { encoded } else { status.rows.unwrap_or(0) }
}

fn failure(status: &IndexBuildStatus) -> String {
    let condition = status.condition(indexbuild_api::ConditionType::Failed).map(|condition| condition.message.clone());
    match (&status.last_error, condition) {
        (Some(last), Some(message)) if !message.contains(&last.message) && !message.is_empty() => {
            format!("{message}: {} ({}): {}", last.work_id, last.reason, last.message)
        }
        (Some(last), None) => format!("{} ({}): {}", last.work_id, last.reason, last.message),
        (_, Some(message)) => message,
        (None, None) => "no reason was given".to_owned(),
    }
}

async fn listen_for_signals(stop: mpsc::UnboundedSender<()>) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        tracing::warn!(
            "signals cannot be taken: a Ctrl-C ends this process at once, and its children go on for a while"
        );
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if stop.send(()).is_err() {
            return;
        }
    }
}
