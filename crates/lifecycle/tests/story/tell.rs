//! What is decided, in short lines: actions with what they change, the build's turns, waits that last, events.

use std::collections::BTreeMap;

use indexbuild_api::{
    Condition, ConditionStatus, ConditionType, EngineDirectorySpec, Epoch, FormerVolume, OwnerChangeReason, Phase,
    Reason, Work, names,
};
use indexbuild_lifecycle::world::{Millis, PodState, Record, World};
use indexbuild_lifecycle::{Action, Decision, End, Event, Wait};

use crate::sim::{Sim, UID};

/// A wait that is over sooner is not told.
const LASTS: Millis = 3_000;
/// The longest message that is told, in characters.
const LONGEST: usize = 120;

/// What people look at; the others say the same of a build, or its phase again.
const TOLD: [ConditionType; 4] =
    [ConditionType::Complete, ConditionType::Failed, ConditionType::Stalled, ConditionType::VolumesHeld];

#[derive(Clone)]
pub(crate) struct Teller {
    start: Millis,
    phase: Option<Phase>,
    conditions: BTreeMap<ConditionType, (ConditionStatus, Reason)>,
    /// Since when something is waited for, and whether that was told.
    waits: BTreeMap<(Reason, Option<u32>), (Millis, bool)>,
    /// What the pass before told: people hear of it once.
    events: Vec<Event>,
    end: Option<End>,
}

/// Names without what is the same in all of them.
fn short(text: &str) -> String {
    text.replace(&format!("{}-", names::executor_account("orders", UID)), "").replace(UID, "UID")
}

fn message(text: &str) -> String {
    let text = short(text);
    let cut: String = text.chars().take(LONGEST).collect();
    if cut == text { cut } else { format!("{cut}…") }
}

impl Teller {
    pub(crate) const fn new(start: Millis) -> Self {
        Self { start, phase: None, conditions: BTreeMap::new(), waits: BTreeMap::new(), events: Vec::new(), end: None }
    }

    fn clock(&self, at: Millis) -> String {
        let seconds = at.saturating_sub(self.start) / 1_000;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }

    /// What is new in a decision, headed by its time.
    pub(crate) fn pass(&mut self, world: &World, decision: &Decision) -> Vec<String> {
        let mut lines: Vec<String> = decision.actions.iter().map(|action| tell_action(world, action)).collect();
        // Of a build that is gone nothing is said any more.
        if !world.build.gone {
            self.status(decision, &mut lines);
        }
        for event in decision.events.iter().filter(|event| !self.events.contains(event)) {
            let kind = if event.warning { "warning" } else { "event" };
            lines.push(format!("{kind} {}: {}", event.reason, message(&event.message)));
        }
        self.events.clone_from(&decision.events);
        self.waits(world, decision, &mut lines);
        if decision.end != self.end {
            self.end = decision.end;
            lines.extend(decision.end.map(|end| format!("end {end:?}")));
        }
        let clock = self.clock(world.now);
        let head = |index: usize| if index == 0 { clock.as_str() } else { "" };
        lines.iter().enumerate().map(|(index, line)| format!("{:>5}  {line}", head(index))).collect()
    }

    fn status(&mut self, decision: &Decision, lines: &mut Vec<String>) {
        let status = &decision.status;
        if status.phase != self.phase {
            self.phase = status.phase;
            lines.extend(status.phase.map(|phase| format!("phase {phase:?}")));
        }
        for kind in TOLD {
            let Some(Condition { status, reason, message: why, .. }) = status.condition(kind) else {
                continue;
            };
            let before = self.conditions.insert(kind, (*status, *reason));
            let held = before.is_some_and(|(before, _)| before == ConditionStatus::True);
            match status {
                ConditionStatus::True if before != Some((*status, *reason)) => {
                    lines.push(format!("{kind} ({reason}): {}", message(why)));
                }
                ConditionStatus::False | ConditionStatus::Unknown | ConditionStatus::Other(_) if held => {
                    lines.push(format!("not {kind} any more"));
                }
                ConditionStatus::True
                | ConditionStatus::False
                | ConditionStatus::Unknown
                | ConditionStatus::Other(_) => {}
            }
        }
    }

    fn waits(&mut self, world: &World, decision: &Decision, lines: &mut Vec<String>) {
        let key = |wait: &Wait| (wait.reason, wait.slot);
        self.waits.retain(|known, _| decision.waits.iter().any(|wait| key(wait) == *known));
        for wait in &decision.waits {
            let (since, told) = self.waits.entry(key(wait)).or_insert((world.now, false));
            if *told || world.now - *since < LASTS {
                continue;
            }
            *told = true;
            let until = if wait.acts { format!(" until {}", self.clock(wait.until)) } else { String::new() };
            lines.push(format!("wait {}{until}: {}", wait.reason, message(&wait.what)));
        }
    }

    /// What is there now, and what in truth becomes of processes.
    pub(crate) fn show(&self, sim: &Sim) -> Vec<String> {
        let world = sim.world();
        let mut lines = Vec::new();
        for view in &world.slots {
            let EngineDirectorySpec { slot, grant, work, volume, former_volumes, .. } = &view.record.spec;
            let mut parts =
                vec![format!("epoch {}", grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch)), of(work.as_ref())];
            parts.extend(volume.as_ref().map(|volume| format!("on {}", short(&volume.claim_name))));
            parts.extend(former_volumes.iter().map(tell_former));
            lines.push(format!("slot {slot} {:?}: {}", view.record.status.state, parts.join(", ")));
        }
        for pod in &world.pods {
            let state = match &pod.state {
                PodState::Terminated(end) => format!("terminated with {}", end.exit_code),
                state => format!("{state:?}"),
            };
            let truth = if sim.is_alive(&pod.uid) { "it runs" } else { "it has ended" };
            let node = pod.node.as_deref().unwrap_or("no node");
            lines.push(format!("pod {} on {node}: seen {state}; in truth {truth}", short(&pod.name)));
        }
        for claim in &world.claims {
            lines.push(format!("volume {} {:?}", short(&claim.name), claim.phase));
        }
        if lines.is_empty() {
            lines.push("no record, no pod, no volume".to_owned());
        }
        lines
    }
}

fn of(work: Option<&Work>) -> String {
    match work {
        None => "no work".to_owned(),
        Some(Work { id, splits, removes_index, inputs, .. }) => {
            let splits = if splits.is_empty() { String::new() } else { format!(" of splits {splits:?}") };
            let index = if *removes_index { " with the index" } else { "" };
            let repairs: String = inputs
                .iter()
                .filter(|input| input.starts_with("encode-r"))
                .map(|input| format!(" with {input}"))
                .collect();
            format!("{id}{splits}{index}{repairs}")
        }
    }
}

fn tell_former(volume: &FormerVolume) -> String {
    let condemned = if volume.condemned { " and condemned" } else { "" };
    format!("{} {:?}{condemned}", short(&volume.claim_name), volume.state)
}

fn tell_action(world: &World, action: &Action) -> String {
    let what = match action {
        Action::AddFinalizer | Action::RemoveFinalizer => String::new(),
        Action::CreateDirectory { slot, spec } => {
            let mut parts = vec![of(spec.work.as_ref())];
            parts.extend(spec.volume.as_ref().map(|volume| format!("on {}", short(&volume.claim_name))));
            parts.extend(spec.former_volumes.iter().map(tell_former));
            let epoch = spec.grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch);
            format!("slot {slot}: epoch {epoch}, {}", parts.join(", "))
        }
        Action::UpdateDirectory { slot, version: _, spec, state, change, conditions } => {
            let view = world.slots.iter().find(|view| view.record.spec.slot == *slot);
            let mut parts = view.map_or_else(Vec::new, |view| changes(&view.record, spec, *change, conditions));
            if view.is_some_and(|view| view.record.status.state != *state) {
                parts.push(format!("{state:?}"));
            }
            format!("slot {slot}: {}", parts.join(", "))
        }
        Action::DeleteDirectory { slot, version: _ } => format!("slot {slot}"),
        Action::CreateClaim { slot: _, generation: _, name } => short(name),
        Action::CreatePod { slot: _, epoch: _, name, claim } => format!("{} with {}", short(name), short(claim)),
        Action::StopPod { name, uid: _, reason } => format!("{}: {reason:?}", short(name)),
        Action::DeleteClaim { name, uid: _, condemned: _, evidence }
        | Action::KeepClaim { slot: _, name, uid: _, evidence } => {
            format!("{}, as {}", short(name), evidence.kind().describe(indexbuild_lifecycle::Platform::Kubernetes))
        }
        Action::RecordStages { stages } => {
            stages.last().map_or_else(|| "none yet".to_owned(), |stage| stage.name.clone())
        }
        Action::FreezeStage { stage } if stage.chosen.is_empty() => format!("{} without a choice", stage.name),
        Action::FreezeStage { stage } => {
            let chosen: Vec<_> =
                stage.chosen.iter().map(|chosen| format!("{} of epoch {}", chosen.work_id, chosen.epoch)).collect();
            format!("{}: {}", stage.name, chosen.join(", "))
        }
    };
    format!("{} {what}", action.name()).trim_end().to_owned()
}

/// What a write of a record changes.
fn changes(
    before: &Record,
    spec: &EngineDirectorySpec,
    change: Option<OwnerChangeReason>,
    conditions: &[Condition],
) -> Vec<String> {
    let old = &before.spec;
    let mut parts = Vec::new();
    let volume = |spec: &EngineDirectorySpec| spec.volume.as_ref().map(|volume| short(&volume.claim_name));
    if let Some(change) = change {
        let (was, is) = (old.grant.clone().unwrap_or_default(), spec.grant.clone().unwrap_or_default());
        parts.push(format!("epoch {} ({change}), {}", is.epoch, of(spec.work.as_ref())));
        parts.push(if was.pod_name == is.pod_name { "the same process" } else { "a new pod" }.to_owned());
        parts.push(match volume(spec) {
            Some(name) if volume(old).as_ref() == Some(&name) => format!("on {name}"),
            Some(name) => format!("on another volume, {name}"),
            None => "on no volume".to_owned(),
        });
    } else {
        let uid = |spec: &EngineDirectorySpec| spec.grant.clone().unwrap_or_default().pod_uid;
        let nonce = |spec: &EngineDirectorySpec| spec.grant.clone().unwrap_or_default().boot_nonce;
        if uid(old) != uid(spec) {
            let node = spec.grant.clone().unwrap_or_default().node_name;
            parts.push(format!("its pod is bound, on {}", if node.is_empty() { "no node" } else { node.as_str() }));
        }
        if nonce(old) != nonce(spec) {
            parts.push("its process is bound".to_owned());
        }
        let machine = |spec: &EngineDirectorySpec| spec.grant.clone().unwrap_or_default().system_uuid;
        if machine(old) != machine(spec) && nonce(old) == nonce(spec) {
            parts.push("its machine is known".to_owned());
        }
        if let (Some(name), None) = (volume(old), volume(spec)) {
            parts.push(format!("{name} is accounted for"));
        }
        let condemned = |spec: &EngineDirectorySpec| spec.volume.as_ref().is_some_and(|volume| volume.condemned);
        if condemned(spec) && !condemned(old) {
            parts.push(format!("{} is condemned", volume(spec).unwrap_or_default()));
        }
    }
    for chosen in spec.chosen.iter().filter(|chosen| !old.chosen.contains(chosen)) {
        parts.push(format!("{} of epoch {} is chosen", chosen.work_id, chosen.epoch));
    }
    parts.extend(spec.former_volumes.iter().filter(|volume| !old.former_volumes.contains(volume)).map(tell_former));
    for former in &old.former_volumes {
        let there = |name: &str| {
            volume(spec).as_deref() == Some(&short(name))
                || spec.former_volumes.iter().any(|volume| volume.claim_name == name)
        };
        if !there(&former.claim_name) {
            parts.push(format!("{} is accounted for", short(&former.claim_name)));
        }
    }
    if spec.failed_attempts != old.failed_attempts {
        parts.push(format!("failed attempts: {}", spec.failed_attempts));
    }
    if let (Some(after), true) = (spec.after_build, spec.after_build != old.after_build) {
        parts.push(format!("after the build: {:?}", after.volumes));
    }
    let waiting = |conditions: &[Condition]| {
        let found = conditions.iter().find(|condition| condition.condition_type == ConditionType::Waiting);
        found.filter(|found| found.status == ConditionStatus::True).map(|found| found.reason)
    };
    match (waiting(&before.status.conditions), waiting(conditions)) {
        (was, Some(reason)) if was != Some(reason) => parts.push(format!("waits ({reason})")),
        (Some(_), None) => parts.push("waits no more".to_owned()),
        _ if before.status.conditions != conditions => parts.push("waits, in other words".to_owned()),
        _ => {}
    }
    parts
}
