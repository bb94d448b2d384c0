//! The slot's volume: an attempt's folder, former attempts, room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indexbuild_api::{Reason, ReportedWait, WorkId};
use indexbuild_engine::{Attempt, EngineError, FoundAttempt, Owner, Volume};
use indexbuild_text::chain;

use super::Job;
use crate::attempt_state::WaitsFor;
use crate::failure::WorkFailure;

/// What an attempt needs to begin: its folders and its owner file.
const ROOM_TO_BEGIN: u64 = 1 << 20;
const ROOM_RETRY: Duration = Duration::from_millis(500);

/// The volume, this attempt's folder on it, and what older attempts left.
pub(super) struct Workplace {
    /// The build's part of the volume.
    pub volume: Volume,
    pub attempt: Attempt,
    /// Older attempts at the same work from the same inputs: what they sealed may be adopted.
    pub same_work: Vec<FoundAttempt>,
    /// Bytes that the work was admitted with: what it may need in all.
    need: AtomicU64,
}

impl Workplace {
    /// Makes the attempt's folder: a new one for each epoch (G9).
    pub(super) fn begin(job: &Job) -> Result<Self, WorkFailure> {
        let volume = open_with_room(job)?.with_test_switches(job.config.test.engine);
        let owner = Owner {
            build_uid: job.build.uid.clone(),
            work_id: job.work.id.clone(),
            inputs_digest: job.work.inputs_digest.clone(),
            epoch: job.attempt.epoch.get(),
            boot_nonce: job.attempt.boot_nonce.clone(),
            pod_uid: job.config.pod_uid.clone(),
            pod_name: job.config.pod_name.clone(),
        };
        let own = owner.attempt_name();
        let attempt = volume.begin(&owner)?;
        let same_work = volume
            .attempts()?
            .into_iter()
            .filter(|former| former.name != own && !job.config.test.adopt_nothing)
            .filter(|former| {
                former.owner.as_ref().is_some_and(|owner| owner.is_at(&job.work.id, &job.work.inputs_digest))
            })
            .collect();
        Ok(Self { volume, attempt, same_work, need: AtomicU64::new(ROOM_TO_BEGIN) })
    }

    /// Waits until the volume has room for so many bytes, with the figures in the report (I5): first
    /// by removing what nothing needs any more, then for a person.
    ///
    /// # Errors
    /// [`WorkFailure`]; not [`WorkFailure::NoSpace`].
    pub(super) fn admit(&self, job: &Job, need: u64) -> Result<(), WorkFailure> {
        self.need.store(need, Ordering::Relaxed);
        let mut swept = false;
        let outcome = loop {
            match self.volume.admit(need) {
                Ok(()) => break Ok(()),
                Err(error) if error.is_no_space() => {
                    if !swept {
                        swept = true;
                        self.sweep(job)?;
                        continue;
                    }
                    show(job, &chain(&error));
                }
                Err(error) => break Err(error.into()),
            }
            if let Err(ended) = job.shared.sleep(ROOM_RETRY) {
                break Err(ended.into());
            }
        };
        job.shared.set_waiting(WaitsFor::Room, None);
        outcome
    }

    /// Says that the volume is full, and waits a moment; the work then tries again.
    ///
    /// # Errors
    /// When the attempt was told to end.
    pub(super) fn wait_for_room(&self, job: &Job, message: &str) -> Result<(), WorkFailure> {
        self.sweep(job)?;
        let free = self.volume.free_bytes().map_or_else(|_| "unknown".to_owned(), |bytes| format!("{bytes} bytes"));
        let need = self.need.load(Ordering::Relaxed);
        show(job, &format!("{message} (free on the volume: {free}; the work needs up to {need} bytes in all)"));
        job.shared.sleep(ROOM_RETRY)?;
        Ok(())
    }

    /// Removes attempts that nobody holds and nothing needs: those at this very work (what they had
    /// sealed is linked into this attempt by now), and unfinished ones at others, whose work a slot
    /// can do again. An Encode at another work may have been chosen, with runs that are on this
    /// volume alone: it stays.
    fn sweep(&self, job: &Job) -> Result<(), WorkFailure> {
        for former in self.volume.attempts()? {
            let Some(owner) = &former.owner else { continue };
            if former.name == self.attempt.owner().attempt_name() {
                continue;
            }
            let disposable = match owner.work_id.parse::<WorkId>() {
                Ok(WorkId::Encode { .. }) => owner.work_id == job.work.id,
                Ok(WorkId::Sort { .. }) => true,
                Ok(WorkId::Plan | WorkId::Publish | WorkId::Clean) | Err(_) => false,
            };
            if disposable {
                remove(&self.volume, &former)?;
            }
        }
        Ok(())
    }

    /// Ends the attempt. Its folder goes if `keep` is false: all that counts is in the store then.
    /// Older attempts at the same work go in either case, unless somebody holds them: what they had
    /// sealed is linked here or in the store.
    pub(super) fn leave(self, keep: bool) -> Result<(), WorkFailure> {
        let Self { volume, attempt, same_work, need: _ } = self;
        let own = attempt.owner().attempt_name();
        drop(attempt);
        for former in &same_work {
            remove(&volume, former)?;
        }
        if !keep {
            for former in volume.attempts()?.into_iter().filter(|former| former.name == own) {
                remove(&volume, &former)?;
            }
        }
        Ok(())
    }
}

/// Opens the volume once it has room to begin at all: an attempt's folder can be made only once.
fn open_with_room(job: &Job) -> Result<Volume, WorkFailure> {
    let mut shown = false;
    let outcome = loop {
        let opened = Volume::open(job.volume.root(), &job.build.uid)
            .and_then(|volume| volume.admit(ROOM_TO_BEGIN).map(|()| volume));
        match opened {
            Err(error) if error.is_no_space() => {
                shown = true;
                show(job, &chain(&error));
            }
            Err(error) => break Err(error.into()),
            Ok(volume) => break Ok(volume),
        }
        if let Err(ended) = job.shared.sleep(ROOM_RETRY) {
            break Err(ended.into());
        }
    };
    if shown {
        job.shared.set_waiting(WaitsFor::Room, None);
    }
    outcome
}

fn remove(volume: &Volume, former: &FoundAttempt) -> Result<(), EngineError> {
    match former.try_lock()? {
        Some(locked) => volume.remove(locked),
        None => Ok(()),
    }
}

fn show(job: &Job, message: &str) {
    let message = message.to_owned();
    let waiting = ReportedWait { reason: Reason::WaitingForSpace, message, needs_help: false };
    job.shared.set_waiting(WaitsFor::Room, Some(waiting));
}
