//! Encode: splits become runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexbuild_api::{RunLocation, WorkError, WorkErrorReason, WorkResult};
use indexbuild_engine::{
    BoxError, EncodeJob, EncodeOutcome, EngineError, EntrySum, FoundAttempt, SealedRun, adopt_runs,
    encode as encode_splits, leak_engine, need_of_encode,
};
use indexbuild_source::Table;

use super::Job;
use super::adopt::{Former, TakenOver, UploadedRun, former_objects, object_path, uploaded_runs};
use super::disk::Workplace;
use super::reader::TableReader;
use super::room::Room;
use super::upload::{self, Upload, Uploads};
use crate::attempt_state::{EndRequest, WaitsFor};
use crate::definitions;
use crate::failure::WorkFailure;
use crate::memory_budget::run_bytes;
use crate::plan_file::PlanFile;
use crate::results::{EncodeResult, RunPlace, RunRef};
use crate::source_access;
use crate::stored_objects::PATIENCE;

const SOURCE_RETRY: Duration = Duration::from_secs(1);

/// Encodes the work's splits, but for what older attempts have sealed.
pub(crate) fn encode(job: &Job, round: u32, number: u32) -> Result<WorkResult, WorkFailure> {
    let plan = job.plan()?;
    let splits = splits_of(job, &plan, round, number)?;
    let place = Workplace::begin(job)?;
    if job.config.test.leak_engine_in_encode {
        leak_engine(&place.attempt)?;
    }
    job.shared.set_step(Some("taking over what is sealed"));
    let taken = take_over(job, &place, &splits)?;
    let (source, policy) = source_access::source(&job.config, &job.shared, EndRequest::Now)?;
    let table = Table::open_with(&source, policy, &plan.snapshot)?;
    job.shared.set_total(taken.rows_ahead(&plan, &splits));
    job.shared.set_step(None);

    let here: Vec<u32> = splits.iter().copied().filter(|split| !taken.elsewhere(*split)).collect();
    let outcome = match job.work.runs {
        // Of a place that is not known no work is begun (`perform`).
        RunLocation::Store | RunLocation::Other(_) => {
            upload::beside(job, |uploads| run(job, &plan, &place, &here, &taken, &table, Some(uploads)))?
        }
        RunLocation::Volume => run(job, &plan, &place, &here, &taken, &table, None)?,
    };
    job.shared.set_waiting(WaitsFor::Room, None);
    if !outcome.missing.is_empty() {
        return Err(WorkFailure::Ended);
    }

    let result = taken.result(job, &plan, &place, &splits, &outcome)?;
    let sealed = job.hand_over(&result)?;
    let on_volume = match job.work.runs {
        RunLocation::Store | RunLocation::Other(_) => false,
        RunLocation::Volume => true,
    };
    place.leave(on_volume)?;
    Ok(WorkResult {
        rows: result.rows,
        entries: result.indexes.iter().map(|index| index.entries).sum(),
        bytes: result.runs.iter().map(|run| run.bytes).sum(),
        on_volume,
        ..job.reported(sealed.digest)
    })
}

fn splits_of(job: &Job, plan: &PlanFile, round: u32, number: u32) -> Result<Vec<u32>, WorkFailure> {
    if round > 0 || !job.work.splits.is_empty() {
        return Ok(job.work.splits.clone());
    }
    usize::try_from(number)
        .ok()
        .and_then(|number| plan.encode_works.get(number))
        .cloned()
        .ok_or_else(|| WorkFailure::internal(format!("the plan has no Encode work {number}")))
}

/// The runs that older attempts at this work have sealed.
fn take_over(job: &Job, place: &Workplace, splits: &[u32]) -> Result<TakenOver<SealedRun>, WorkFailure> {
    let sealed = adopt_runs(&place.attempt, &place.same_work, splits)?.taken;
    let wanted: BTreeSet<u32> = splits.iter().copied().collect();
    let mut covered: BTreeSet<u32> = sealed.iter().flat_map(|run| run.sidecar.splits.iter().copied()).collect();
    let mut stored = Vec::new();
    let mut unused = Vec::new();
    let objects = match job.work.runs {
        RunLocation::Store | RunLocation::Other(_) => former_objects(job)?,
        RunLocation::Volume => BTreeMap::new(),
    };
    for run in uploaded_runs(job, &objects)? {
        let of_run = &run.sidecar.splits;
        let fits = of_run.iter().all(|split| wanted.contains(split) && !covered.contains(split));
        if fits && run.verify(job)? {
            covered.extend(of_run.iter().copied());
            stored.push(run);
        } else {
            unused.push(run.sidecar);
        }
    }
    unused.extend(place.same_work.iter().flat_map(FoundAttempt::sealed_runs).map(|run| run.sidecar));
    let mut redone = 0;
    for run in unused {
        if run.splits.iter().all(|split| wanted.contains(split) && !covered.contains(split)) {
            covered.extend(run.splits);
            redone += run.rows;
        }
    }
    Ok(TakenOver { sealed, stored, objects, redone })
}

impl TakenOver<SealedRun> {
    /// Whether the split is in a run that is in the store alone.
    fn elsewhere(&self, split: u32) -> bool {
        self.stored.iter().any(|run| run.sidecar.splits.contains(&split))
    }

    /// Rows that the engine will count: those of linked runs, and those to be read.
    fn rows_ahead(&self, plan: &PlanFile, splits: &[u32]) -> u64 {
        splits
            .iter()
            .filter(|split| !self.elsewhere(**split))
            .filter_map(|split| usize::try_from(*split).ok().and_then(|place| plan.splits.get(place)))
            .map(|split| split.rows.unwrap_or(split.bytes / plan.estimated_row_bytes.max(1)))
            .sum()
    }

    fn result(
        &self,
        job: &Job,
        plan: &PlanFile,
        place: &Workplace,
        splits: &[u32],
        outcome: &EncodeOutcome,
    ) -> Result<EncodeResult, WorkFailure> {
        let place_of = |run: &SealedRun| match job.work.runs {
            RunLocation::Volume => RunPlace::Volume { attempt: place.attempt.folder_name() },
            RunLocation::Store | RunLocation::Other(_) => {
                RunPlace::Store { path: object_path(job, self.uploaded_run(run), &run.name) }
            }
        };
        let mut runs: Vec<RunRef> =
            outcome.runs.iter().map(|run| RunRef::new(&run.name, place_of(run), &run.sidecar)).collect();
        let mut indexes: Vec<EntrySum> = outcome.indexes.clone();
        for UploadedRun { object, sidecar } in &self.stored {
            runs.push(RunRef::new(&object.name, RunPlace::Store { path: object.path.clone() }, sidecar));
            for (sum, of_run) in indexes.iter_mut().zip(&sidecar.indexes) {
                sum.merge(*of_run);
            }
        }
        runs.sort_by(|left, right| (&left.splits, &left.name).cmp(&(&right.splits, &right.name)));
        let stored_rows: u64 = self.stored.iter().map(|run| run.sidecar.rows).sum();
        let mut statistics = job.meter.statistics();
        statistics.add_steps(&outcome.stats);
        statistics.threads = job.budget.threads as u64;
        statistics.rows_adopted = stored_rows + self.sealed.iter().map(|run| run.sidecar.rows).sum::<u64>();
        statistics.rows_redone = self.redone;
        statistics.bytes_in = source_bytes(plan, splits, &self.covered());
        Ok(EncodeResult {
            attempt: job.attempt.clone(),
            plan_digest: Job::plan_digest(plan)?,
            splits: splits.to_vec(),
            rows: outcome.rows + stored_rows,
            indexes,
            runs,
            statistics,
        })
    }

    fn covered(&self) -> BTreeSet<u32> {
        let sealed = self.sealed.iter().flat_map(|run| &run.sidecar.splits);
        sealed.chain(self.stored.iter().flat_map(|run| &run.sidecar.splits)).copied().collect()
    }

    /// The object that an older attempt made of this run, with its sidecar.
    fn uploaded_run(&self, run: &SealedRun) -> Option<&Former> {
        let object = self.uploaded(&run.name, run.sidecar.bytes)?;
        self.objects.contains_key(&SealedRun::sidecar_name(&run.name)?).then_some(object)
    }
}

fn source_bytes(plan: &PlanFile, splits: &[u32], without: &BTreeSet<u32>) -> u64 {
    splits
        .iter()
        .filter(|split| !without.contains(split))
        .filter_map(|split| usize::try_from(*split).ok().and_then(|place| plan.splits.get(place)))
        .map(|split| split.bytes)
        .sum()
}

/// Encodes what is not covered, again and again while all that is missing is room on the volume, or
/// the source's store for a while.
fn run(
    job: &Job,
    plan: &PlanFile,
    place: &Workplace,
    splits: &[u32],
    taken: &TakenOver<SealedRun>,
    table: &Table,
    uploads: Option<&Uploads>,
) -> Result<EncodeOutcome, WorkFailure> {
    let covered = taken.covered();
    let open: Vec<u32> = splits.iter().copied().filter(|split| !covered.contains(split)).collect();
    place.admit(job, need_of_encode(plan.estimated_run_bytes(&open)))?;
    let run_bytes = match job.config.test.run_bytes {
        Some(bytes) => bytes,
        None => run_bytes(plan.estimated_entry_bytes, place.volume.free_bytes()?),
    };
    let sealed: Mutex<BTreeMap<String, SealedRun>> = Mutex::default();
    let on_sealed = |run: &SealedRun| -> Result<(), BoxError> {
        let new = sealed.lock().unwrap_or_else(PoisonError::into_inner).insert(run.name.clone(), run.clone()).is_none();
        if let Some(uploads) = uploads
            && new
            && taken.uploaded_run(run).is_none()
        {
            uploads.queue(upload_of(run)?)?;
        }
        Ok(())
    };
    let mut already = taken.sealed.clone();
    let mut outage: Option<(usize, Duration)> = None;
    let mut room = Room::of(job);
    let definitions = plan.indexes.iter().map(|index| &index.definition);
    let columns = definitions::read_columns(&job.config.build.spec, definitions);
    loop {
        let batch_rows = job.rate.batch_rows(room.budget.batch_rows(plan.estimated_row_bytes));
        let options = room.options(batch_rows, room.budget.batch);
        let reader = TableReader { job, plan, table: table.clone(), columns: columns.clone(), options };
        let outcome = encode_splits(EncodeJob {
            attempt: &place.attempt,
            indexes: &plan.indexes,
            splits,
            already: already.clone(),
            reader: &reader,
            threads: room.budget.threads,
            memory: room.budget.encode,
            run_bytes,
            control: job.shared.control(),
            on_sealed: &on_sealed,
        });
        let error = match outcome {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        already = sealed.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if room.grow(&error) {
            continue;
        }
        match failure(plan, &error) {
            WorkFailure::NoSpace(message) => place.wait_for_room(job, &message)?,
            WorkFailure::Failed(WorkError {
                reason: WorkErrorReason::SourceUnreadable,
                retryable: true,
                message,
                ..
            }) => {
                // An outage ends where anything new is sealed.
                let waited = match outage {
                    Some((runs, waited)) if runs == already.len() => waited,
                    Some(_) | None => Duration::ZERO,
                };
                if waited >= PATIENCE {
                    return Err(failure(plan, &error));
                }
                let start = Instant::now();
                tracing::warn!("the source cannot be read; trying again: {message}");
                job.shared.sleep(SOURCE_RETRY)?;
                let counted = if job.shared.in_contact() { start.elapsed() } else { Duration::ZERO };
                outage = Some((already.len(), waited + counted));
            }
            WorkFailure::Failed(failed) => {
                return Err(WorkFailure::Failed(WorkError { message: room.told(&error, failed.message), ..failed }));
            }
            WorkFailure::Ended => return Err(WorkFailure::Ended),
        }
    }
}

/// The failure, with the URL of the file that it is about.
fn failure(plan: &PlanFile, error: &EngineError) -> WorkFailure {
    WorkFailure::about(error, |file| {
        usize::try_from(file).ok().and_then(|file| plan.snapshot.files.get(file)).map(|file| file.url.clone())
    })
}

fn upload_of(run: &SealedRun) -> Result<Upload, BoxError> {
    let whole = (run.name.clone(), run.path.clone(), run.sidecar.bytes);
    Ok(Upload { files: vec![whole, upload::file_at(&run.sidecar_path())?] })
}
