//! Sort: a lane of all chosen runs becomes sorted files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use indexbuild_api::{Reason, StageName, Waiting, WorkErrorReason, WorkId, WorkResult};
use indexbuild_engine::{
    Adopted, BoxError, EngineError, FormerAttempt, Lane, SealedRange, SortJob, SortOutcome, adopt_ranges, need_of_sort,
    sort as sort_lane,
};
use indexbuild_index::digest::SetHash;
use indexbuild_index::manifest::IndexFile;
use indexbuild_text::chain;

use super::Job;
use super::adopt::{Former, former_objects};
use super::disk::Workplace;
use super::runs::ChosenRuns;
use super::upload::{self, Upload, Uploads};
use crate::attempt_state::WaitsFor;
use crate::coverage::cover;
use crate::failure::WorkFailure;
use crate::plan_file::{PlanFile, SortWork};
use crate::results::{DuplicateSummary, EncodeResult, EntrySum, IngestCheck, RangeResult, SortResult};

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
    let taken = TakenOver::look(&task, &place)?;
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

/// Ranges that older attempts at this lane have sealed.
struct TakenOver {
    ranges: Vec<SealedRange>,
    /// Objects of older attempts: their files are not uploaded again.
    objects: BTreeMap<String, Former>,
    /// Entries that an older attempt had sealed here and that are sorted again.
    lost: u64,
}

impl TakenOver {
    fn look(task: &Task<'_>, place: &Workplace) -> Result<Self, WorkFailure> {
        let job = task.job;
        let objects = former_objects(job)?;
        let Adopted { taken, quarantined } = adopt_ranges(&place.attempt, &place.same_work, task.work.index)?;
        let mut ranges: Vec<SealedRange> = taken.into_iter().filter(|range| task.in_lane(range.range)).collect();
        let have: BTreeSet<u32> = ranges.iter().map(|range| range.range).collect();
        let fetched = fetch_ranges(task, place, &objects, &have)?;
        let Adopted { taken, quarantined: also } = adopt_ranges(&place.attempt, &fetched, task.work.index)?;
        ranges.extend(taken.into_iter().filter(|range| task.in_lane(range.range) && !have.contains(&range.range)));
        if !fetched.is_empty() {
            indexbuild_durable::remove_dir_all(&fetched_dir(place)).map_err(WorkFailure::internal)?;
        }
        for damaged in quarantined.iter().chain(&also) {
            tracing::warn!(file = %damaged.found.display(), why = %damaged.why, "a sealed file is damaged; its range is sorted again");
        }
        let lost = lost_entries(task, place, &ranges);
        Ok(Self { ranges, objects, lost })
    }

    /// The object that an older attempt made of this file.
    fn already_uploaded(&self, name: &str, bytes: u64) -> Option<&Former> {
        self.objects.get(name).filter(|object| object.bytes == bytes)
    }
}

fn fetched_dir(place: &Workplace) -> std::path::PathBuf {
    place.attempt.dir().join("fetched")
}

/// Fetches what older attempts uploaded of ranges that are not here: they then pass the same checks
/// as what is on the volume. A range without its sidecar does not exist.
fn fetch_ranges(
    task: &Task<'_>,
    place: &Workplace,
    objects: &BTreeMap<String, Former>,
    have: &BTreeSet<u32>,
) -> Result<Vec<FormerAttempt>, WorkFailure> {
    let job = task.job;
    let dir = fetched_dir(place);
    let folder = dir.join("ranges");
    let mut fetched = BTreeSet::new();
    for (name, sidecar) in objects {
        let Some(range) = range_of(name).filter(|_| name.ends_with(".json")) else { continue };
        if have.contains(&range) || !task.in_lane(range) || !fetched.insert(range) {
            continue;
        }
        indexbuild_durable::create_dir_all(&folder).map_err(WorkFailure::internal)?;
        let Some((bytes, _)) = job.objects.get(&sidecar.path)? else { continue };
        for file in files_named(&bytes) {
            if let Some(object) = objects.get(&file) {
                place.admit(job, object.bytes)?;
                job.objects.fetch_to(&object.path, &folder.join(&file))?;
            }
        }
        indexbuild_durable::write_atomic(&folder.join(name), &bytes).map_err(WorkFailure::internal)?;
    }
    if fetched.is_empty() {
        return Ok(Vec::new());
    }
    let owner = Some(place.attempt.owner().clone());
    Ok(vec![FormerAttempt { name: "fetched".to_owned(), dir, owner, held: false }])
}

/// Entries of ranges that older attempts sealed on this volume, and that were not taken over.
fn lost_entries(task: &Task<'_>, place: &Workplace, taken: &[SealedRange]) -> u64 {
    let mut counted: BTreeSet<u32> = taken.iter().map(|range| range.range).collect();
    let mut entries = 0;
    for former in &place.same_work {
        let Ok(folder) = std::fs::read_dir(former.dir.join("ranges")) else { continue };
        for path in folder.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(range) = range_of(&name).filter(|range| name.ends_with(".json") && task.in_lane(*range)) else {
                continue;
            };
            let sealed =
                std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            let sealed = sealed.as_ref().and_then(|value| value.pointer("/sealed/entries")?.as_u64());
            if let Some(sealed) = sealed
                && counted.insert(range)
            {
                entries += sealed;
            }
        }
    }
    entries
}

/// The range that a file or sidecar is of, by its name `r<range>-…`.
fn range_of(name: &str) -> Option<u32> {
    name.strip_prefix('r')?.split('-').next()?.parse().ok()
}

/// The files that a range's sidecar names.
fn files_named(sidecar: &[u8]) -> Vec<String> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(sidecar) else {
        return Vec::new();
    };
    let files = value.pointer("/sealed/files").and_then(serde_json::Value::as_array);
    let names = files.into_iter().flatten().filter_map(|file| file.get("name")?.as_str());
    names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
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
        taken: &TakenOver,
        uploads: &Uploads,
    ) -> Result<SortOutcome, WorkFailure> {
        let job = self.job;
        let sealed: Mutex<BTreeMap<u32, SealedRange>> = Mutex::default();
        let on_sealed = |range: &SealedRange| -> Result<(), BoxError> {
            let new =
                sealed.lock().unwrap_or_else(PoisonError::into_inner).insert(range.range, range.clone()).is_none();
            if new { uploads.queue(upload_of(place.attempt.ranges_dir().as_path(), range, taken)?) } else { Ok(()) }
        };
        let mut already = taken.ranges.clone();
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
                    let waiting = Waiting { reason: Reason::InternalError, message, needs_help: false };
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

    fn result(&self, taken: &TakenOver, outcome: &SortOutcome) -> Result<SortResult, WorkFailure> {
        let job = self.job;
        let prefix = job.attempt.prefix();
        let path_of = |name: &str, bytes| {
            taken.already_uploaded(name, bytes).map_or_else(|| format!("{prefix}/{name}"), |former| former.path.clone())
        };
        let duplicates = self.duplicates(outcome)?;
        let ranges = (self.lane.first_range..self.lane.first_range.saturating_add(self.lane.ranges))
            .map(|number| {
                let sealed = outcome.ranges.iter().find(|sealed| sealed.range == number);
                let (entries, hash) = sealed.map_or((0, SetHash(0)), |sealed| (sealed.entries, sealed.hash));
                RangeResult {
                    range: number,
                    sum: EntrySum { entries, hash: hash.hex() },
                    files: sealed
                        .into_iter()
                        .flat_map(|sealed| &sealed.files)
                        .map(|file| IndexFile {
                            path: path_of(&file.name, file.bytes),
                            range: number,
                            first_key: file.first_key.clone(),
                            last_key: file.last_key.clone(),
                            entries: file.entries,
                            bytes: file.bytes,
                            entry_bytes: file.entry_bytes,
                            content_digest: file.content_digest.clone(),
                            file_digest: file.file_digest.clone(),
                        })
                        .collect(),
                }
            })
            .collect();
        let adopted: u64 = taken.ranges.iter().map(|range| range.entries).sum();
        let mut statistics = job.meter.statistics();
        statistics.add_steps(&outcome.stats);
        statistics.threads = job.budget.threads as u64;
        statistics.rows = outcome.entries.saturating_sub(adopted);
        statistics.rows_adopted = adopted;
        statistics.rows_redone = taken.lost;
        Ok(SortResult {
            attempt: job.attempt.clone(),
            plan_digest: Job::plan_digest(self.plan)?,
            index: self.work.index,
            lane: self.work.lane,
            sum: EntrySum { entries: outcome.entries, hash: outcome.hash.hex() },
            ranges,
            duplicates,
            ingested: outcome
                .check
                .map(|check| IngestCheck { entries: check.entries, files: check.files })
                .unwrap_or_default(),
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
        || source.downcast_ref::<crate::objects::ObjectError>().is_some_and(crate::objects::ObjectError::is_loss);
    match runs.inputs.iter().find(|input| input.name == *run) {
        Some(input) if gone => WorkFailure::damaged(input.splits.clone(), chain(error)),
        Some(_) | None => otherwise,
    }
}

/// A range's files, and then the sidecar that makes them exist.
fn upload_of(folder: &Path, range: &SealedRange, taken: &TakenOver) -> Result<Upload, BoxError> {
    let mut files: Vec<_> = range
        .files
        .iter()
        .filter(|file| taken.already_uploaded(&file.name, file.bytes).is_none())
        .map(|file| (file.name.clone(), file.path.clone(), file.bytes))
        .collect();
    if files.is_empty() {
        return Ok(Upload { files });
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if range_of(&name) == Some(range.range) && name.ends_with(".json") {
            files.push((name, entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(Upload { files })
}
