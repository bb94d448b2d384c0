//! Publish: prove that all adds up, then commit.

use std::str::FromStr;

use bytes::Bytes;
use indexbuild_api::{WorkErrorReason, WorkId, WorkResult};
use indexbuild_index::manifest::{Document, IndexFile, Manifest};
use indexbuild_index::store::PutOutcome;
use indexbuild_store::in_parallel;

use super::{Job, latest, plan};
use crate::assemble::{AssembleError, ChosenResults, assemble};
use crate::failure::WorkFailure;
use crate::names;
use crate::results::PublishResult;
use crate::stats::Statistics;
use crate::stored_objects::OBJECTS_AT_ONCE;

/// Commits the build: what is chosen, and nothing else (I1).
pub(crate) fn publish(job: &Job) -> Result<WorkResult, WorkFailure> {
    let standing = plan::check_output(job)?;
    let plan = job.plan()?;
    let plan_digest = Job::plan_digest(&plan)?;
    job.shared.set_step(Some("reading the chosen results"));
    let (results, works) = read_results(job)?;
    job.shared.set_step(Some("proving that all adds up"));
    let manifest = assemble(&plan, &plan_digest, &results).map_err(|error| refused(job, &error))?;
    job.shared.set_step(Some("looking for each file"));
    check_files(job, &manifest)?;
    job.shared.set_step(Some("committing"));
    let document = Document::Manifest(manifest.clone());
    let bytes = Bytes::from(document.to_bytes().map_err(WorkFailure::internal)?);
    let created = match standing {
        Some(standing) => adopt(job, &manifest, &standing)?,
        None => {
            latest::check(job)?;
            commit(job, &manifest, &bytes)?
        }
    };
    latest::point(job)?;

    let entries = manifest.indexes.iter().map(|index| index.entries).sum();
    let file_bytes = manifest.indexes.iter().map(|index| index.bytes).sum();
    let result = PublishResult {
        attempt: job.attempt.clone(),
        manifest_digest: indexbuild_index::digest::digest_bytes(&bytes),
        put_id: manifest.put_id.clone(),
        created,
        rows: manifest.source.rows,
        entries,
        bytes: file_bytes,
        works,
        statistics: job.meter.statistics(),
    };
    let sealed = job.hand_over(&result)?;
    Ok(WorkResult { rows: result.rows, entries, bytes: file_bytes, ..job.reported(sealed.digest) })
}

/// The results of all frozen stages that the work names, and their figures together.
fn read_results(job: &Job) -> Result<(ChosenResults, Statistics), WorkFailure> {
    let mut results = ChosenResults { chosen: Vec::new(), encode: Vec::new(), sort: Vec::new() };
    let mut figures = Statistics::default();
    for name in &job.work.inputs {
        results.chosen.extend(job.stage(name)?.chosen);
    }
    job.shared.set_total(results.chosen.len() as u64);
    for chosen in &results.chosen {
        job.shared.go_on()?;
        match WorkId::from_str(&chosen.work_id).map_err(WorkFailure::internal)? {
            WorkId::Plan => {}
            WorkId::Encode { .. } => {
                let result: crate::results::EncodeResult = job.result(chosen)?;
                figures.merge(&result.statistics);
                results.encode.push(result);
            }
            WorkId::Sort { .. } => {
                let result: crate::results::SortResult = job.result(chosen)?;
                figures.merge(&result.statistics);
                results.sort.push(result);
            }
            WorkId::Publish | WorkId::Clean => {
                return Err(WorkFailure::internal(format!("{} is no input of publish", chosen.work_id)));
            }
        }
        job.shared.add_done(1);
    }
    results.chosen.sort_by_key(|chosen| WorkId::from_str(&chosen.work_id).ok());
    Ok((results, figures))
}

fn refused(job: &Job, error: &AssembleError) -> WorkFailure {
    match error {
        AssembleError::Duplicates(_) => WorkFailure::failed(
            WorkErrorReason::DuplicateKey,
            false,
            format!("{error} (paths are under {})", job.objects.url()),
        ),
        AssembleError::Coverage(_)
        | AssembleError::OtherPlan { .. }
        | AssembleError::Lanes(_)
        | AssembleError::Disagree { .. }
        | AssembleError::Contradiction { .. }
        | AssembleError::Json(_) => WorkFailure::failed(WorkErrorReason::Verification, false, error.to_string()),
    }
}

/// Each file exists with its size.
fn check_files(job: &Job, manifest: &Manifest) -> Result<(), WorkFailure> {
    let files: Vec<&IndexFile> = manifest.indexes.iter().flat_map(|index| &index.files).collect();
    job.shared.set_total((manifest.works.len() + files.len()) as u64);
    in_parallel(&files, OBJECTS_AT_ONCE, |file| {
        job.shared.go_on()?;
        let found = job.objects.size(&file.path)?;
        job.shared.add_done(1);
        if found == Some(file.bytes) {
            return Ok(());
        }
        let found =
            found.map_or_else(|| "is not there".to_owned(), |size| format!("has {size} bytes, not {}", file.bytes));
        Err(WorkFailure::failed(
            WorkErrorReason::Verification,
            false,
            format!(
                "{} under {} {found}: it was deleted or overwritten after it was chosen",
                file.path,
                job.objects.url()
            ),
        ))
    })?;
    Ok(())
}

/// The commit. Whatever the outcome of the request, what stands there afterwards decides.
fn commit(job: &Job, manifest: &Manifest, bytes: &Bytes) -> Result<bool, WorkFailure> {
    job.shared.go_on()?;
    let outcome = job.objects.put_if_absent(names::MANIFEST, bytes)?;
    match plan::check_output(job)? {
        Some(standing) => {
            adopt(job, manifest, &standing)?;
            Ok(outcome == PutOutcome::Created)
        }
        None => Err(super::lost(job, names::MANIFEST)),
    }
}

/// An existing manifest is the truth (G6): taken if it says the same, refused if not.
fn adopt(job: &Job, ours: &Manifest, standing: &Document) -> Result<bool, WorkFailure> {
    let same = match standing {
        Document::Manifest(standing) => standing == ours,
        Document::Tombstone(_) => false,
    };
    if same {
        return Ok(false);
    }
    Err(WorkFailure::failed(
        WorkErrorReason::OutputConflict,
        false,
        format!(
            "another manifest (put id {}) stands at {} under {} than the chosen results make (put id {}): it is the truth and stays; this build does not match it",
            standing.put_id(),
            names::MANIFEST,
            job.objects.url(),
            ours.put_id
        ),
    ))
}
