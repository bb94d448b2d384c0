//! The works, a module each, and what they all need.

pub(crate) mod clean;
pub(crate) mod encode;
mod latest;
pub(crate) mod plan;
mod probe;
pub(crate) mod publish;
pub(crate) mod sort;

mod adopt;
mod disk;
mod reader;
mod room;
mod runs;
mod upload;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indexbuild_api::{Chosen, Epoch, RunLocation, StageName, Work, WorkErrorReason, WorkId, WorkKind, WorkResult};
use indexbuild_index::digest::digest_bytes;
use indexbuild_index::manifest::BuildRef;
use indexbuild_lifecycle::world::Stage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::attempt_state::AttemptState;
use crate::backoff::Backoff;
use crate::config::ExecutorConfig;
use crate::control::{ContactError, ControlPlane, StageRead};
use crate::failure::WorkFailure;
use crate::memory_budget::Budget;
use crate::names;
use crate::plan_file::PlanFile;
use crate::rate::RateLimit;
use crate::release::Lease;
use crate::results::{self, AttemptName, PlanResult, RESULT_VERSION, Sealed};
use crate::stats::Meter;
use crate::stored_objects::Objects;

/// How long a stage that a work names may be missing before that is an error.
const STAGE_PATIENCE: Duration = Duration::from_secs(30);
/// How often a work that waits to read one looks whether it may.
const STAGE_LOOK: Duration = Duration::from_millis(200);

/// One attempt at one work, and all that it needs.
pub(crate) struct Job {
    /// What the process was told at its birth.
    pub config: Arc<ExecutorConfig>,
    /// The slot's volume. Given back with the job, before anybody hears of the attempt's end.
    pub volume: Lease,
    pub build: BuildRef,
    pub work: Work,
    pub name: WorkId,
    pub attempt: AttemptName,
    /// The build's prefix in the output store.
    pub objects: Objects,
    /// What is shared with the loop that watches the record.
    pub shared: Arc<AttemptState>,
    pub meter: Arc<Meter>,
    /// The process's memory, divided.
    pub budget: Budget,
    /// `spec.rowsPerSecond`.
    pub rate: Arc<RateLimit>,
    pub control: Arc<dyn ControlPlane>,
    pub runtime: Handle,
    /// The build's plan, once this process has read it.
    pub plans: Arc<OnceLock<Arc<PlanFile>>>,
}

/// Does the work, to its result in the output store.
///
/// # Errors
/// [`WorkFailure`]. All engine handles and locks are released by then, whatever the outcome.
pub(crate) fn perform(job: &Job) -> Result<WorkResult, WorkFailure> {
    let fits = |kind| if job.work.kind == kind { Ok(()) } else { Err(WorkFailure::internal(misfit(&job.work))) };
    // Whoever does not know where runs are wanted leaves none.
    if let RunLocation::Other(place) = job.work.runs {
        return Err(WorkFailure::internal(format!(
            "the runs of work {:?} are wanted at {place}: the control plane and this executor are of different versions",
            job.work.id
        )));
    }
    if job.config.test.stand_still_in == Some(job.work.kind) {
        loop {
            job.shared.sleep(STAGE_LOOK)?;
        }
    }
    while job.config.test.begin_when_told_in == Some(job.work.kind) && !job.volume.root().join("go").exists() {
        job.shared.sleep(STAGE_LOOK)?;
    }
    match job.name {
        WorkId::Plan => fits(WorkKind::Plan).and_then(|()| plan::plan(job)),
        WorkId::Encode { round, number } => fits(WorkKind::Encode).and_then(|()| encode::encode(job, round, number)),
        WorkId::Sort { number } => fits(WorkKind::Sort).and_then(|()| sort::sort(job, number)),
        WorkId::Publish => fits(WorkKind::Publish).and_then(|()| publish::publish(job)),
        WorkId::Clean => fits(WorkKind::Clean).and_then(|()| clean::clean(job)),
    }
}

/// An object was created and is not there. Nothing is concluded from its absence, and nothing is removed.
fn lost(job: &Job, path: &str) -> WorkFailure {
    WorkFailure::failed(
        WorkErrorReason::Verification,
        true,
        format!("{path} was created under {} and is not there: the store loses objects", job.objects.url()),
    )
}

fn misfit(work: &Work) -> String {
    format!(
        "work {:?} is said to be of kind {}: the control plane and this executor are of different versions",
        work.id, work.kind
    )
}

impl Job {
    /// The attempt's name, as results carry it.
    pub(crate) fn attempt_name(build_uid: &str, work_id: &str, epoch: Epoch, boot_nonce: &str) -> AttemptName {
        AttemptName {
            version: RESULT_VERSION,
            build_uid: build_uid.to_owned(),
            work_id: work_id.to_owned(),
            epoch,
            boot_nonce: boot_nonce.to_owned(),
        }
    }

    /// A frozen stage. Waits while the control plane is silent; a work is granted only when its
    /// inputs are frozen, so that one that stays absent is an error. Where the grant says what it holds, no other text is
    /// believed: anybody may have put it there, and whoever does puts back, or deletes, what the control plane tells of.
    fn stage(&self, name: &str) -> Result<Stage, WorkFailure> {
        let expected = self.expected_digest(name);
        let mut waited = Duration::ZERO;
        let mut backoff = Backoff::new(self.control.pace().reads);
        loop {
            self.shared.go_on()?;
            // While there is no contact, the loop that watches the record asks for both.
            let pause = if self.shared.in_contact() { self.control.hold_off().max(backoff.left()) } else { STAGE_LOOK };
            if !pause.is_zero() {
                self.shared.sleep(pause.min(STAGE_LOOK))?;
                continue;
            }
            let begun = Instant::now();
            let answer = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = self.shared.cancelled() => None,
                    answer = self.control.stage(name) => Some(answer),
                }
            });
            match answer {
                None => {}
                Some(Ok(Some(StageRead { stage, digest }))) => {
                    if digest.is_none() || expected.is_none() || digest.as_deref() == expected {
                        return Ok(stage);
                    }
                    tracing::warn!(stage = name, ?digest, ?expected, "another stage stands in place of the frozen one");
                    backoff.failed(begun);
                }
                Some(Ok(None)) if waited >= STAGE_PATIENCE && expected.is_none() => {
                    return Err(WorkFailure::failed(
                        WorkErrorReason::Internal,
                        true,
                        format!("stage {name}, which {} reads, is not frozen", self.work.id),
                    ));
                }
                Some(Ok(None)) => {
                    backoff.failed(begun);
                    waited += backoff.left();
                }
                Some(Err(error @ (ContactError::Unreachable(_) | ContactError::Refused(_)))) => {
                    backoff.failed(begun);
                    tracing::debug!(stage = name, %error, again_in = ?backoff.left(), "a stage cannot be read");
                }
            }
        }
    }

    /// What a stage holds, as the grant says it.
    fn expected_digest(&self, name: &str) -> Option<&str> {
        let mut inputs = self.work.inputs.iter().zip(&self.work.input_digests);
        inputs.find(|(input, _)| *input == name).map(|(_, digest)| digest.as_str())
    }

    /// The chosen result of a work, its digest checked.
    fn result<T: DeserializeOwned>(&self, chosen: &Chosen) -> Result<T, WorkFailure> {
        let path = names::result_path(&chosen.work_id, chosen.epoch, &chosen.boot_nonce);
        let Some((bytes, _)) = self.objects.get(&path)? else {
            return Err(WorkFailure::failed(
                WorkErrorReason::Verification,
                false,
                format!(
                    "the chosen result {path} is not under {}: somebody deleted it; nothing that was chosen may be deleted before the build has ended",
                    self.objects.url()
                ),
            ));
        };
        results::open(&bytes, &chosen.digest).map_err(|error| {
            WorkFailure::failed(
                WorkErrorReason::Verification,
                false,
                format!("the chosen result {path} under {} cannot be used: {error}", self.objects.url()),
            )
        })
    }

    /// The build's plan, as it was chosen.
    fn plan(&self) -> Result<Arc<PlanFile>, WorkFailure> {
        if let Some(plan) = self.plans.get() {
            return Ok(Arc::clone(plan));
        }
        self.shared.set_step(Some("reading the plan"));
        let stage = self.stage(&StageName::Plan.to_string())?;
        let chosen = stage.chosen.first().ok_or_else(|| WorkFailure::internal("stage plan names no result"))?;
        let result: PlanResult = self.result(chosen)?;
        let unusable = |why: String| {
            WorkFailure::failed(
                WorkErrorReason::Verification,
                false,
                format!("{} under {} cannot be used: {why}", names::PLAN, self.objects.url()),
            )
        };
        let (bytes, _) = self.objects.get(names::PLAN)?.ok_or_else(|| unusable("it is not there".to_owned()))?;
        let digest = digest_bytes(&bytes);
        if digest != result.plan_digest {
            return Err(unusable(format!("its digest is {digest}, that of the plan chosen is {}", result.plan_digest)));
        }
        let plan = Arc::new(PlanFile::from_bytes(&bytes).map_err(|error| unusable(error.to_string()))?);
        self.shared.set_step(None);
        Ok(Arc::clone(self.plans.get_or_init(|| plan)))
    }

    /// Digest of the plan that the attempt follows.
    fn plan_digest(plan: &PlanFile) -> Result<String, WorkFailure> {
        plan.digest().map_err(WorkFailure::internal)
    }

    /// Uploads `result.json`, the attempt's last object.
    fn hand_over<T: Serialize>(&self, result: &T) -> Result<Sealed, WorkFailure> {
        let sealed = results::seal(result).map_err(WorkFailure::internal)?;
        let path = format!("{}/{}", self.attempt.prefix(), names::RESULT);
        self.objects.put(&path, &Bytes::from(sealed.bytes.clone()))?;
        Ok(sealed)
    }

    fn reported(&self, digest: String) -> WorkResult {
        WorkResult {
            work_id: self.attempt.work_id.clone(),
            epoch: self.attempt.epoch,
            digest,
            finished: Some(jiff::Timestamp::now().to_string()),
            ..WorkResult::default()
        }
    }
}
