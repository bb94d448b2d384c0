//! Sort: a lane of all chosen runs becomes sorted files.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use indexbuild_api::{Reason, ReportedWait, StageName, WorkErrorReason, WorkId, WorkResult};
use indexbuild_engine::{
    Adopted, BoxError, EngineError, EntrySum, FoundAttempt, Lane, SealedRange, SortJob, SortOutcome, adopt_ranges,
    need_of_sort, sort as sort_lane,
};
use indexbuild_text::chain;

use super::Job;
use super::adopt::{Former, TakenOver, former_objects, object_path};
use super::disk::Workplace;
use super::runs::ChosenRuns;
use super::upload::{self, Upload, Uploads};
use crate::attempt_state::WaitsFor;
use crate::coverage::cover;
use crate::failure::WorkFailure;
use crate::plan_file::{PlanFile, SortWork};
use crate::results::{DuplicateSummary, EncodeResult, RangeResult, SortResult};

/// The object with pairs of rows that have equal keys.
const DUPLICATES: &str = "duplicates.jsonl";
/// Only with the test switch that makes attempts share a directory: how long until the next try.
const SHARED_RETRY: Duration = Duration::from_millis(300);

struct Task<'a> {
    job: &'a Job,
    plan: &'a PlanFile,
    work: SortWork,
    lane: Lane,
}

/// Sorts the work's lane, but for the ranges that older attempts have sealed.
pub(crate) fn sort(job: &Job, number: u32) -> Result<WorkResult, WorkFailure> {
    let plan = job.plan()?;
    let unknown = || WorkFailure::internal(format!("the plan has no Sort work {number}"));
    let work =
        usize::try_from(number).ok().and_then(|number| plan.sort_works.get(number)).copied().ok_or_else(unknown)?;
    let index_plan = usize::try_from(work.index).ok().and_then(|index| plan.indexes.get(index)).ok_or_else(unknown)?;
    let lane =
        usize::try_from(work.lane).ok().and_then(|lane| index_plan.lanes.get(lane)).copied().ok_or_else(unknown)?;
    let task = Task { job, plan: &plan, work, lane };

    job.shared.set_step(Some("reading the chosen results"));
    let results = task.encode_results()?;
    let coverage = cover(&plan, &results)
        .map_err(|error| WorkFailure::failed(WorkErrorReason::Verification, false, error.to_string()))?;
    let place = Workplace::begin(job)?;
    job.shared.set_step(Some("opening runs"));
    let runs = ChosenRuns::open(job, &place.volume, &coverage.runs, work.index, work.lane)?;
    job.shared.set_step(Some("taking over what is sealed"));
    let taken = take_over(&task, &place)?;
    job.shared.set_total(2 * runs.entries(work.index, work.lane));
    let bytes = runs.bytes(work.index, work.lane);
    place.admit(job, need_of_sort(bytes, bytes))?;
    job.shared.set_step(None);

    let outcome = upload::beside(job, |uploads| task.run(&place, &runs, &taken, uploads))?;
    job.shared.set_waiting(WaitsFor::Room, None);
    drop(runs);
    if !outcome.missing.is_empty() || outcome.check.is_none() {
        return Err(WorkFailure::Ended);
    }
    let result = task.result(&taken, &outcome)?;
    let sealed = job.hand_over(&result)?;
    place.leave(false)?;
    Ok(WorkResult {
        rows: result.sum.entries + result.duplicates.count,
        entries: result.sum.entries,
        bytes: result.ranges.iter().flat_map(|range| &range.files).map(|file| file.bytes).sum(),
        ..job.reported(sealed.digest)
    })
}

/// The ranges that older attempts at this lane have sealed.
fn take_over(task: &Task<'_>, place: &Workplace) -> Result<TakenOver<SealedRange>, WorkFailure> {
    let job = task.job;
    let objects = former_objects(job)?;
    let Adopted { taken, quarantined } = adopt_ranges(&place.attempt, &place.same_work, task.work.index)?;
    let mut sealed: Vec<SealedRange> = taken.into_iter().filter(|range| task.in_lane(range.range)).collect();
    let have: BTreeSet<u32> = sealed.iter().map(|range| range.range).collect();
    let fetched = fetch_ranges(task, place, &objects, &have)?;
    let Adopted { taken, quarantined: also } = adopt_ranges(&place.attempt, fetched.as_slice(), task.work.index)?;
    sealed.extend(taken.into_iter().filter(|range| task.in_lane(range.range) && !have.contains(&range.range)));
    if let Some(fetched) = fetched {
        indexbuild_durable::remove_dir_all(&fetched.dir).map_err(WorkFailure::internal)?;
    }
    for damaged in quarantined.iter().chain(&also) {
        tracing::warn!(file = %damaged.found.display(), why = %damaged.why, "a sealed file is damaged; its range is sorted again");
    }
    let mut counted: BTreeSet<u32> = sealed.iter().map(|range| range.range).collect();
    let all = place.same_work.iter().flat_map(FoundAttempt::sealed_ranges);
    let lost = all.filter(|range| task.in_lane(range.range) && counted.insert(range.range));
    let redone = lost.map(|range| range.entries).sum();
    Ok(TakenOver { sealed, stored: Vec::new(), objects, redone })
}

/// Fetches what older attempts uploaded of ranges that are not here: they then pass the same checks
/// as what is on the volume. A range without its sidecar does not exist.
fn fetch_ranges(
    task: &Task<'_>,
    place: &Workplace,
    objects: &BTreeMap<String, Former>,
    have: &BTreeSet<u32>,
) -> Result<Option<FoundAttempt>, WorkFailure> {
    let job = task.job;
    let former = FoundAttempt::fetched(&place.attempt);
    let folder = former.ranges_dir();
    let mut fetched = BTreeSet::new();
    for (name, sidecar) in objects {
        let Some(range) = SealedRange::of_sidecar(name) else { continue };
        if have.contains(&range) || !task.in_lane(range) || !fetched.insert(range) {
            continue;
        }
        indexbuild_durable::create_dir_all(&folder).map_err(WorkFailure::internal)?;
        let Some((bytes, _)) = job.objects.get(&sidecar.path)? else { continue };
        for file in SealedRange::parse(&bytes).into_iter().flat_map(|range| range.files) {
            if let Some(object) = objects.get(&file.name) {
                place.admit(job, object.bytes)?;
                job.objects.fetch_to(&object.path, &folder.join(&object.name))?;
            }
        }
        indexbuild_durable::write_atomic(&folder.join(name), &bytes).map_err(WorkFailure::internal)?;
    }
    Ok((!fetched.is_empty()).then_some(former))
}

impl Task<'_> {
    fn in_lane(&self, range: u32) -> bool {
        (self.lane.first_range..self.lane.first_range.saturating_add(self.lane.ranges)).contains(&range)
    }

    fn encode_results(&self) -> Result<Vec<EncodeResult>, WorkFailure> {
        let mut results = Vec::new();
        for name in &self.job.work.inputs {
            let stage = StageName::from_str(name).map_err(WorkFailure::internal)?;
            if !matches!(stage, StageName::Encode | StageName::Repair(_)) {
                continue;
            }
            for chosen in &self.job.stage(name)?.chosen {
                self.job.shared.go_on()?;
                match WorkId::from_str(&chosen.work_id).map_err(WorkFailure::internal)? {
                    WorkId::Encode { .. } => results.push(self.job.result(chosen)?),
                    other @ (WorkId::Plan | WorkId::Sort { .. } | WorkId::Publish | WorkId::Clean) => {
                        return Err(WorkFailure::internal(format!("stage {name} holds a result of {other}")));
                    }
                }
            }
        }
        Ok(results)
    }

    /// Sorts what is not sealed, again and again while all that is missing is room on the volume.
    fn run(
        &self,
        place: &Workplace,
        runs: &ChosenRuns<'_>,
        taken: &TakenOver<SealedRange>,
        uploads: &Uploads,
    ) -> Result<SortOutcome, WorkFailure> {
        let job = self.job;
        let sealed: Mutex<BTreeMap<u32, SealedRange>> = Mutex::default();
        let on_sealed = |range: &SealedRange| -> Result<(), BoxError> {
            let new =
                sealed.lock().unwrap_or_else(PoisonError::into_inner).insert(range.range, range.clone()).is_none();
            if new { uploads.queue(upload_of(range, taken)?) } else { Ok(()) }
        };
        let mut already = taken.sealed.clone();
        loop {
            let outcome = sort_lane(SortJob {
                attempt: &place.attempt,
                index_plan: &self.plan.indexes[self.work.index as usize],
                index: self.work.index,
                lane: self.lane,
                runs: &runs.inputs,
                reader: runs,
                already: already.clone(),
                threads: job.budget.threads,
                memory: job.budget.sort,
                control: job.shared.control(),
                on_sealed: &on_sealed,
            });
            let error = match outcome {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            already = sealed.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            match &error {
                EngineError::Damaged { runs: damaged, .. } => {
                    runs.keep_aside(&place.volume, damaged, &error.to_string());
                    return Err(error.into());
                }
                EngineError::EngineLocked { .. } if job.config.test.engine.share_attempt_directory => {
                    // What the system of the incident did, for the negative control: wait, and try the
                    // same directory again.
                    let message = chain(&error);
                    tracing::error!("{message}");
                    let waiting = ReportedWait { reason: Reason::InternalError, message, needs_help: false };
                    job.shared.set_waiting(WaitsFor::Engine, Some(waiting));
                    job.shared.sleep(SHARED_RETRY)?;
                }
                _ => match WorkFailure::from_error(&error) {
                    WorkFailure::NoSpace(message) => place.wait_for_room(job, &message)?,
                    other @ (WorkFailure::Ended | WorkFailure::Failed(_)) => return Err(lost_run(&error, runs, other)),
                },
            }
        }
    }

    fn result(&self, taken: &TakenOver<SealedRange>, outcome: &SortOutcome) -> Result<SortResult, WorkFailure> {
        let job = self.job;
        let duplicates = self.duplicates(outcome)?;
        let ranges = (self.lane.first_range..self.lane.first_range.saturating_add(self.lane.ranges))
            .map(|number| {
                let sealed = outcome.ranges.iter().find(|sealed| sealed.range == number);
                let sum = sealed.map(|sealed| EntrySum { entries: sealed.entries, hash: sealed.hash });
                let files = sealed.into_iter().flat_map(|sealed| &sealed.files).map(|file| {
                    file.in_manifest(number, object_path(job, taken.uploaded(&file.name, file.bytes), &file.name))
                });
                RangeResult { range: number, sum: sum.unwrap_or_default(), files: files.collect() }
            })
            .collect();
        let adopted: u64 = taken.sealed.iter().map(|range| range.entries).sum();
        let mut statistics = job.meter.statistics();
        statistics.add_steps(&outcome.stats);
        statistics.threads = job.budget.threads as u64;
        statistics.rows = outcome.entries.saturating_sub(adopted);
        statistics.rows_adopted = adopted;
        statistics.rows_redone = taken.redone;
        Ok(SortResult {
            attempt: job.attempt.clone(),
            plan_digest: Job::plan_digest(self.plan)?,
            index: self.work.index,
            lane: self.work.lane,
            sum: EntrySum { entries: outcome.entries, hash: outcome.hash },
            ranges,
            duplicates,
            ingested: outcome.check.unwrap_or_default(),
            statistics,
        })
    }

    /// Uploads the pairs of rows with equal keys, a JSON line each, and says where they are.
    fn duplicates(&self, outcome: &SortOutcome) -> Result<DuplicateSummary, WorkFailure> {
        let found = &outcome.duplicates;
        if found.count == 0 {
            return Ok(DuplicateSummary::default());
        }
        let mut lines = Vec::new();
        for pair in &found.pairs {
            serde_json::to_writer(&mut lines, pair).map_err(WorkFailure::internal)?;
            lines.push(b'\n');
        }
        let path = format!("{}/{DUPLICATES}", self.job.attempt.prefix());
        self.job.objects.put(&path, &Bytes::from(lines))?;
        let example =
            found.pairs.first().map(|pair| format!("{} in {} and in {}", pair.decoded, pair.first, pair.second));
        Ok(DuplicateSummary { count: found.count, file: Some(path), example })
    }
}

/// A run that vanished while it was read is as good as damaged: its splits are encoded again.
fn lost_run(error: &EngineError, runs: &ChosenRuns<'_>, otherwise: WorkFailure) -> WorkFailure {
    let EngineError::Fetch { run, source, .. } = error else {
        return otherwise;
    };
    let gone = source
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof))
        || source
            .downcast_ref::<crate::stored_objects::ObjectError>()
            .is_some_and(crate::stored_objects::ObjectError::is_loss);
    match runs.inputs.iter().find(|input| input.name == *run) {
        Some(input) if gone => WorkFailure::damaged(input.splits.clone(), chain(error)),
        Some(_) | None => otherwise,
    }
}

/// A range's files, and then the sidecar that makes them exist.
fn upload_of(range: &SealedRange, taken: &TakenOver<SealedRange>) -> Result<Upload, BoxError> {
    let mut files: Vec<_> = range
        .files
        .iter()
        .filter(|file| taken.uploaded(&file.name, file.bytes).is_none())
        .map(|file| (file.name.clone(), file.path.clone(), file.bytes))
        .collect();
    if !files.is_empty() {
        files.push(upload::file_at(&range.sidecar)?);
    }
    Ok(Upload { files })
}
