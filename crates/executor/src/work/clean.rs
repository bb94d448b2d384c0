//! Clean: remove what no index needs.
//!
//! What stands at `manifest.json` decides, never what this process believes. A manifest: the build
//! is committed, and what it does not refer to goes. Nothing: the build is aborted, and before
//! anything goes a tombstone is created there (G5), so that no late Publish can ever commit files
//! that are gone. A tombstone: all else goes.

use std::collections::BTreeSet;

use bytes::Bytes;
use indexbuild_api::{Epoch, StageName, WorkErrorReason, WorkId, WorkResult};
use indexbuild_engine::Volume;
use indexbuild_index::manifest::{BuildRef, Document, FORMAT_VERSION, Manifest, Tombstone};
use indexbuild_index::store::Version;
use indexbuild_store::in_parallel;

use super::{Job, latest};
use crate::failure::WorkFailure;
use crate::names;
use crate::results::{AttemptName, CleanResult, seal};
use crate::stored_objects::{OBJECTS_AT_ONCE, ObjectError, Objects};

/// Removes what no index needs, in the store and, where nobody wants that, on this slot's volume.
pub(crate) fn clean(job: &Job) -> Result<WorkResult, WorkFailure> {
    job.shared.set_step(Some("looking for the manifest"));
    let settled = settle(job)?;
    let keep = match &settled {
        Settled::Committed(manifest) => Some(referred(manifest)),
        Settled::Tombstone => Some(BTreeSet::from([names::MANIFEST.to_owned()])),
        Settled::NoBucket => None,
    };
    let objects = match &keep {
        Some(keep) => {
            job.shared.set_step(Some("deleting objects"));
            sweep(job, keep)?
        }
        None => 0,
    };
    let tombstone = match &settled {
        Settled::Committed(_) => false,
        Settled::Tombstone | Settled::NoBucket => true,
    };
    let attempts_on_volume = if job.work.keeps_volume {
        0
    } else {
        job.shared.set_step(Some("removing attempts from the volume"));
        sweep_volume(job, tombstone)?
    };
    let statistics = job.meter.statistics();
    let result = CleanResult { attempt: job.attempt.clone(), tombstone, objects, attempts_on_volume, statistics };
    // Not uploaded: what cleans leaves nothing.
    let sealed = seal(&result).map_err(WorkFailure::internal)?;
    let reported = job.reported(sealed.digest);
    Ok(match settled {
        // Whoever was told that the build has failed learns that its Publish came first.
        Settled::Committed(manifest) => WorkResult {
            committed: true,
            rows: manifest.source.rows,
            entries: manifest.indexes.iter().map(|index| index.entries).sum(),
            bytes: manifest.indexes.iter().map(|index| index.bytes).sum(),
            ..reported
        },
        Settled::Tombstone | Settled::NoBucket => reported,
    })
}

/// What stands at `manifest.json`, and stays.
enum Settled {
    Committed(Box<Manifest>),
    Tombstone,
    /// There is not even a bucket, so that nothing is left and nobody can commit.
    NoBucket,
}

/// Decides what stays, by what stands at `manifest.json`; makes the tombstone where one is due.
fn settle(job: &Job) -> Result<Settled, WorkFailure> {
    let known_committed = job.work.inputs.iter().any(|stage| stage.parse() == Ok(StageName::Publish));
    let mut created = false;
    loop {
        job.shared.go_on()?;
        let standing = match standing(job) {
            Ok(standing) => standing,
            Err(Standing::NoBucket) => return Ok(Settled::NoBucket),
            Err(Standing::Failed(failure)) => return Err(failure),
        };
        match standing {
            Some((Document::Tombstone(_), _)) => {
                // Also where another process put the tombstone, and ended before it came to this.
                if job.work.removes_index {
                    latest::forget(job)?;
                }
                return Ok(Settled::Tombstone);
            }
            Some((Document::Manifest(manifest), version)) => {
                if !job.work.removes_index {
                    if !known_committed {
                        // The Publish that committed may have ended before it came to this.
                        latest::point(job)?;
                    }
                    return Ok(Settled::Committed(Box::new(manifest)));
                }
                let bytes = tombstone(job, "the build was deleted, and its index with it (deletionPolicy Delete)")?;
                job.objects.put_if_match(names::MANIFEST, &bytes, &version)?;
            }
            None if known_committed => {
                return Err(WorkFailure::failed(
                    WorkErrorReason::Verification,
                    false,
                    format!(
                        "the build is committed, but {} is not under {}: somebody deleted it; nothing was removed",
                        names::MANIFEST,
                        job.objects.url()
                    ),
                ));
            }
            None if created => return Err(super::lost(job, names::MANIFEST)),
            None => {
                let bytes = tombstone(job, "the build was aborted or deleted before it was committed")?;
                match job.objects.without_bucket().put_if_absent(names::MANIFEST, &bytes) {
                    Err(error) if error.is_no_bucket() => return Ok(Settled::NoBucket),
                    // A store that never creates on a condition was refused by Plan: without a plan nobody can commit. Without
                    // a tombstone a deletion would wait for it for ever.
                    Err(error) if error.is_final() && job.objects.get(names::PLAN)?.is_none() => {
                        job.objects.put(names::MANIFEST, &bytes)?;
                    }
                    outcome => drop(outcome?),
                };
                created = true;
            }
        }
        // Whatever the outcome of the request: what stands there now decides.
    }
}

/// Why what stands at `manifest.json` is not known.
enum Standing {
    NoBucket,
    /// It cannot be read, or is not this build's.
    Failed(WorkFailure),
}

fn standing(job: &Job) -> Result<Option<(Document, Version)>, Standing> {
    let (bytes, version) = match job.objects.without_bucket().get(names::MANIFEST) {
        Ok(Some(there)) => there,
        Ok(None) => return Ok(None),
        Err(error) if error.is_no_bucket() => return Err(Standing::NoBucket),
        Err(error) => return Err(Standing::Failed(error.into())),
    };
    let foreign = |why: String| {
        Standing::Failed(WorkFailure::failed(
            WorkErrorReason::OutputConflict,
            false,
            format!("{} under {} {why}; nothing was removed", names::MANIFEST, job.objects.url()),
        ))
    };
    let document = Document::parse(&bytes).map_err(|error| foreign(format!("cannot be understood: {error}")))?;
    if *document.build() != job.build {
        return Err(foreign(format!("belongs to another build ({})", document.build().uid)));
    }
    Ok(Some((document, version)))
}

fn tombstone(job: &Job, reason: &str) -> Result<Bytes, WorkFailure> {
    let tombstone = Tombstone {
        version: FORMAT_VERSION,
        put_id: format!("{}-{}", job.attempt.epoch, job.attempt.boot_nonce),
        build: job.build.clone(),
        reason: reason.to_owned(),
    };
    Document::Tombstone(tombstone).to_bytes().map(Bytes::from).map_err(WorkFailure::internal)
}

/// What a committed index needs: the manifest, its files, and where they come from (the plan and
/// the chosen results: small, and what `describe` and an inspection read).
pub(crate) fn referred(manifest: &Manifest) -> BTreeSet<String> {
    let mut keep = BTreeSet::from([names::MANIFEST.to_owned(), names::PLAN.to_owned()]);
    keep.extend(manifest.indexes.iter().flat_map(|index| &index.files).map(|file| file.path.clone()));
    keep.extend(
        manifest.works.iter().map(|work| names::result_path(&work.work_id, Epoch::new(work.epoch), &work.boot_nonce)),
    );
    keep
}

/// Removes what an attempt that gives way leaves in the store, if the build has ended meanwhile: its
/// Clean may be over, and nobody else would find what came late. As long as nothing stands at
/// `manifest.json`, all of it may still be adopted, and stays.
///
/// # Errors
/// [`ObjectError`]; then it is left to whoever deletes the prefix.
pub(crate) fn retire(objects: &Objects, build: &BuildRef, attempt: &AttemptName) -> Result<u64, ObjectError> {
    let Some((bytes, _)) = objects.get(names::MANIFEST)? else {
        return Ok(0);
    };
    let keep = match Document::parse(&bytes) {
        Ok(document) if document.build() != build => return Ok(0),
        // Whoever has chosen it may still read what it handed over.
        Ok(Document::Manifest(_)) if attempt.work_id.parse() == Ok(WorkId::Publish) => return Ok(0),
        Ok(Document::Manifest(manifest)) => referred(&manifest),
        Ok(Document::Tombstone(_)) => BTreeSet::new(),
        Err(error) => {
            tracing::warn!(%error, "what stands at manifest.json is not understood; nothing is removed");
            return Ok(0);
        }
    };
    let mut removed = 0;
    for (path, _) in objects.list(&attempt.prefix())? {
        if !keep.contains(&path) {
            objects.delete(&path)?;
            removed += 1;
        }
    }
    objects.remove_unfinished(&attempt.prefix())?;
    Ok(removed)
}

/// Deletes all objects under the build's prefix but those to keep and, after a commit, what Publish
/// handed over.
fn sweep(job: &Job, keep: &BTreeSet<String>) -> Result<u64, WorkFailure> {
    let committed = keep.contains(names::PLAN);
    let publish = format!("{}/", names::work_prefix(&WorkId::Publish.to_string()));
    let doomed: Vec<String> = job
        .objects
        .list("")?
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| !keep.contains(path))
        .filter(|path| !(committed && path.starts_with(&publish) && path.ends_with(names::RESULT)))
        .collect();
    job.shared.set_total(doomed.len() as u64);
    in_parallel(&doomed, OBJECTS_AT_ONCE, |path| {
        job.shared.go_on()?;
        job.objects.delete(path)?;
        job.shared.add_done(1);
        Ok::<(), WorkFailure>(())
    })?;
    job.objects.remove_unfinished("")?;
    Ok(doomed.len() as u64)
}

/// Removes the attempts that nobody holds from this slot's volume. What was kept aside for
/// inspection stays after a commit, and goes with an aborted build.
fn sweep_volume(job: &Job, all: bool) -> Result<u64, WorkFailure> {
    let volume = Volume::open(job.volume.root(), &job.build.uid)?;
    let mut removed = 0;
    for former in volume.attempts()? {
        if let Some(locked) = former.try_lock()? {
            volume.remove(locked)?;
            removed += 1;
        }
    }
    if all || volume.quarantined()?.is_empty() {
        volume.remove_all()?;
    }
    Ok(removed)
}
