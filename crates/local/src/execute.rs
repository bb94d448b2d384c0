//! Execute: one action of the lifecycle, carried out on this machine.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use indexbuild_api::{ALLOCATOR, EngineDirectorySpec, Epoch, IndexBuildStatus, OwnerChangeReason};
use indexbuild_durable::test_switches::FAULTS;
use indexbuild_lifecycle::Action;
use rustix::process::Signal;
use uuid::Uuid;

use crate::build::StoredBuild;
use crate::folder::{self, StateError};
use crate::hub::{Hub, State};
use crate::pods::PodFile;
use crate::process::{self, SpawnSpec};
use crate::records::{Change, RecordError};
use crate::test_switches;
use crate::volumes;
use indexbuild_timeline::SlotEvent;

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the process of pod {pod} cannot be started: {source}")]
    Start { pod: String, source: io::Error },
}

impl ActionError {
    /// Whether somebody else wrote first, so that looking again is all there is to do.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Record(RecordError::Conflict { .. }))
    }
}

/// What processes are born with.
#[derive(Clone, Debug)]
pub(crate) struct ProcessSpecs {
    pub executable: PathBuf,
    pub threads: usize,
    /// What each may use, in bytes.
    pub memory_limit: u64,
    /// How long each goes on without contact, in milliseconds.
    pub orphan_after_ms: u64,
    /// A file of CA certificates that may vouch for the stores, beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// Carries out actions on this machine.
#[derive(Debug)]
pub(crate) struct ActionRunner<'a> {
    /// What is known and written.
    pub hub: &'a Arc<Hub>,
    pub build: &'a mut StoredBuild,
    /// What processes are born with.
    pub process_specs: &'a ProcessSpecs,
}

impl ActionRunner<'_> {
    /// Carries out one action. What it finds done already counts as done.
    ///
    /// # Errors
    /// [`ActionError`]: a conflict means to look again; everything else is for a person.
    pub(crate) fn carry_out(&mut self, action: Action) -> Result<(), ActionError> {
        let hub = Arc::clone(self.hub);
        let mut state = hub.state();
        tracing::debug!(?action, "an action");
        match action {
            Action::AddFinalizer => self.finalizer(true)?,
            Action::RemoveFinalizer => self.finalizer(false)?,
            Action::CreateDirectory { slot, spec } => match state.records.create(slot, spec.clone()) {
                Ok(()) => {
                    note_grant(&mut state, slot, None, &spec, Some(OwnerChangeReason::FirstOwner));
                }
                Err(RecordError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            },
            Action::UpdateDirectory { slot, version, spec, state: to, change, conditions } => {
                let old = state.records.get(slot).map(|record| record.spec);
                let time = jiff::Timestamp::now().to_string();
                let write = Change { spec: spec.clone(), state: to, change, conditions };
                state.records.update(slot, &version, write, &time)?;
                note_grant(&mut state, slot, old.as_ref(), &spec, change);
                hub.changed.notify_waiters();
            }
            Action::DeleteDirectory { slot, version } => {
                state.records.delete(slot, &version)?;
                hub.changed.notify_waiters();
            }
            Action::CreateClaim { slot, generation, name } => {
                let volume = volumes::create(&hub.layout, &name, slot, generation)?;
                if !state.volumes.contains(&volume) {
                    state.volumes.push(volume);
                }
            }
            Action::CreatePod { slot, epoch, name, claim } => {
                self.create_pod(&mut state, slot, epoch, &name, &claim)?;
            }
            Action::StopPod { name, uid, reason } => {
                let cut = state.injector.cut_until(&uid, Instant::now()).is_some();
                let Some(pod) = state.pods.get_mut(&name).filter(|pod| pod.file.uid == uid) else {
                    return Ok(());
                };
                pod.deleting = true;
                // A pod that is cut off hears nothing until it is in contact again.
                if cut {
                    return Ok(());
                }
                if pod.ended.is_some() {
                    state.pods.remove(&name)?;
                } else if pod.terminated_at.is_none() {
                    tracing::info!(pod = %name, ?reason, "a process is asked to stop");
                    pod.measure();
                    pod.signal(&hub.layout, Signal::TERM);
                    pod.terminated_at = Some(Instant::now());
                }
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                let Some(at) = state.volumes.iter().position(|volume| volume.name == name && volume.uid == uid) else {
                    return Ok(());
                };
                tracing::info!(volume = %name, ?condemned, ?evidence, "a volume is removed");
                volumes::remove(&hub.layout, &state.volumes[at])?;
                state.volumes.remove(at);
            }
            Action::KeepClaim { slot, name, uid, evidence } => {
                tracing::info!(slot, volume = %name, %uid, ?evidence, "a volume is kept");
            }
            Action::RecordStages { stages } => {
                let status = self.build.status.clone().unwrap_or_default();
                let status = IndexBuildStatus { frozen_stages: Some(stages), ..status };
                let changed = StoredBuild { status: Some(status), ..self.build.clone() };
                changed.store(&self.hub.layout)?;
                *self.build = changed;
                hub.changed.notify_waiters();
            }
            Action::FreezeStage { stage } => {
                let path = hub.layout.stage(&stage.name);
                let bytes = folder::encode(&stage);
                let io = |source| StateError::Io { folder: hub.layout.root().to_owned(), source };
                match bytes.and_then(|bytes| indexbuild_durable::create_new(&path, &bytes)) {
                    Ok(()) => {
                        state.stages.insert(stage.name.clone(), stage);
                    }
                    // What is frozen is the truth (G6).
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if let Some(frozen) = folder::read(&hub.layout, &path)? {
                            state.stages.insert(stage.name, frozen);
                        }
                    }
                    Err(error) => return Err(io(error).into()),
                }
                hub.changed.notify_waiters();
            }
        }
        Ok(())
    }

    fn finalizer(&mut self, finalizer: bool) -> Result<(), StateError> {
        let changed = StoredBuild { finalizer, ..self.build.clone() };
        changed.store(&self.hub.layout)?;
        *self.build = changed;
        Ok(())
    }

    fn create_pod(
        &self,
        state: &mut State,
        slot: u32,
        epoch: Epoch,
        name: &str,
        claim: &str,
    ) -> Result<(), ActionError> {
        let hub = self.hub;
        if state.pods.get(name).is_some() {
            return Ok(());
        }
        let generation = state.volumes.iter().find(|volume| volume.name == claim).map_or(0, |volume| volume.generation);
        let ProcessSpecs { executable, threads, memory_limit, orphan_after_ms, ca_file } = self.process_specs;
        let file = PodFile {
            name: name.to_owned(),
            uid: Uuid::new_v4().to_string(),
            slot,
            epoch,
            volume_generation: generation,
            threads: *threads,
            memory_limit: *memory_limit,
            orphan_after_ms: *orphan_after_ms,
        };
        let lock = state.pods.create(file)?;
        let mut arguments: Vec<OsString> = vec![
            "--log-format".into(),
            "json".into(),
            "executor".into(),
            "--local".into(),
            hub.layout.root().into(),
            "--pod".into(),
            name.into(),
        ];
        if let Some(file) = ca_file {
            arguments.extend(["--ca-file".into(), file.into()]);
        }
        let birth = SpawnSpec {
            executable,
            arguments,
            environment: environment(hub, state, slot),
            without: vec![FAULTS],
            lock: &lock,
            log: &hub.layout.log(name),
        };
        let mut child = process::start(&birth).map_err(|source| ActionError::Start { pod: name.to_owned(), source })?;
        if let Some(pod) = state.pods.get_mut(name) {
            pod.pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        }
        let hub = Arc::clone(hub);
        let name = name.to_owned();
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => {
                    let mut state = hub.state();
                    state.pods.reaped(&name, status, &jiff::Timestamp::now().to_string());
                    let how = state.pods.get(&name).and_then(|pod| pod.ended.as_ref()).map(|ended| ended.how.clone());
                    state.journal.add(slot, SlotEvent::Ended { pod: name, how: how.unwrap_or_default() });
                }
                Err(error) => tracing::error!(pod = %name, %error, "a process cannot be waited for"),
            }
            hub.wake.notify_one();
        });
        Ok(())
    }
}

/// The variables of a slot's next process.
fn environment(hub: &Hub, state: &mut State, slot: u32) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    if std::env::var_os(ALLOCATOR.0).is_none() {
        variables.push((ALLOCATOR.0.to_owned(), ALLOCATOR.1.to_owned()));
    }
    let no_space_while = state.injector.fills_disk(slot).then(|| hub.layout.no_space(slot));
    variables.extend(test_switches::variables(slot, state.injector.at_birth(slot), no_space_while));
    variables
}

/// Writes into the journal what changed about a slot's owner.
fn note_grant(
    state: &mut State,
    slot: u32,
    old: Option<&EngineDirectorySpec>,
    new: &EngineDirectorySpec,
    change: Option<OwnerChangeReason>,
) {
    let before = old.and_then(|old| old.grant.as_ref());
    let Some(grant) = &new.grant else {
        return;
    };
    let fresh = before.is_none_or(|before| before.epoch != grant.epoch);
    match (&new.work, before) {
        (Some(work), _) if fresh => {
            let granted = SlotEvent::Granted {
                epoch: grant.epoch,
                pod: grant.pod_name.clone(),
                work: Some(work.id.clone()),
                volume: new.volume.as_ref().map_or(0, |volume| volume.generation),
                reason: change.unwrap_or(OwnerChangeReason::NextWork),
                claim: None,
            };
            state.journal.add(slot, granted);
        }
        (None, Some(before)) if fresh => {
            let why = change.map_or("no work for it", indexbuild_timeline::why).to_owned();
            state.journal.add(slot, SlotEvent::Released { epoch: before.epoch, why });
        }
        (Some(_) | None, _) => {}
    }
    if new.work.is_none() {
        return;
    }
    let bound = before.is_none_or(|before| before.epoch != grant.epoch || before.boot_nonce.is_empty());
    if bound && !grant.boot_nonce.is_empty() {
        state
            .journal
            .add(slot, SlotEvent::Bound { epoch: grant.epoch, boot_nonce: grant.boot_nonce.clone(), node: None });
    }
}
