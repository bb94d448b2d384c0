//! `LATEST`, beside the prefixes of all builds of one name: which of them is the index. Written by compare-and-set alone.

use std::cmp::Ordering;
use std::str::FromStr;

use bytes::Bytes;
use indexbuild_api::WorkErrorReason;
use indexbuild_index::manifest::{DocumentError, FORMAT_VERSION, Latest};
use indexbuild_index::store::PutOutcome;
use jiff::Timestamp;

use super::Job;
use crate::failure::WorkFailure;
use crate::names;
use crate::stored_objects::Objects;

/// What stands at `LATEST` is ours to replace: found out before the table is read, and before the commit, after which
/// a build cannot fail any more.
///
/// # Errors
/// It is not ours, or cannot be read.
pub(super) fn check(job: &Job) -> Result<(), WorkFailure> {
    let objects = name_folder(job);
    match objects.without_bucket().get(names::LATEST) {
        Err(error) if error.is_no_bucket() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(None) => Ok(()),
        Ok(Some((there, _))) => match Latest::parse(&there) {
            Ok(_) => Ok(()),
            Err(error) => Err(foreign(&objects, &error)),
        },
    }
}

/// The folder of all builds of this name, in which `LATEST` stands.
fn name_folder(job: &Job) -> Objects {
    job.objects.at(format!("{}/{}", job.build.namespace, job.build.name))
}

fn foreign(objects: &Objects, error: &DocumentError) -> WorkFailure {
    WorkFailure::failed(
        WorkErrorReason::OutputConflict,
        false,
        format!(
            "{} under {} is not ours: {error}; remove it, or choose another output.url or name",
            names::LATEST,
            objects.url()
        ),
    )
}

/// Points `LATEST` to this build, unless it points to one that was created later.
pub(super) fn point(job: &Job) -> Result<(), WorkFailure> {
    let objects = name_folder(job);
    let created =
        job.config.build.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    let ours = Latest { version: FORMAT_VERSION, build_uid: job.build.uid.clone(), created };
    let bytes = Bytes::from(ours.to_bytes().map_err(WorkFailure::internal)?);
    // A process that was killed here left its half of a write, which no later put may come to remove.
    objects.remove_unfinished_puts(names::LATEST)?;
    loop {
        job.shared.go_on()?;
        let outcome = match objects.get(names::LATEST)? {
            None => objects.put_if_absent(names::LATEST, &bytes)?,
            Some((there, version)) => match Latest::parse(&there) {
                Ok(there) if there == ours => return Ok(()),
                Ok(there) if newer(&there, &ours) => {
                    tracing::info!(latest = %there.build_uid, "LATEST points to a build that was created later, and stays");
                    return Ok(());
                }
                Ok(_) => objects.put_if_match(names::LATEST, &bytes, &version)?,
                Err(error) => return Err(foreign(&objects, &error)),
            },
        };
        match outcome {
            PutOutcome::Created => return Ok(()),
            // Somebody else wrote, or our own write whose reply was lost: look again.
            PutOutcome::Exists => {}
        }
    }
}

/// Makes `LATEST` name no build, if it names this one.
pub(super) fn forget(job: &Job) -> Result<(), WorkFailure> {
    let objects = name_folder(job);
    let none = Bytes::from(Latest::none().to_bytes().map_err(WorkFailure::internal)?);
    loop {
        job.shared.go_on()?;
        match objects.get(names::LATEST)? {
            Some((bytes, version)) if Latest::parse(&bytes).is_ok_and(|there| there.build_uid == job.build.uid) => {
                // Whatever the outcome: what stands there at the next look decides.
                objects.put_if_match(names::LATEST, &none, &version)?;
            }
            Some(_) | None => return Ok(()),
        }
    }
}

/// Whether the build that `there` names was created after ours; of two of the same instant, the
/// UIDs decide, so that all agree.
fn newer(there: &Latest, ours: &Latest) -> bool {
    let order = match (Timestamp::from_str(&there.created), Timestamp::from_str(&ours.created)) {
        (Ok(there), Ok(ours)) => there.cmp(&ours),
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Ok(_)) => Ordering::Less,
        (Err(_), Err(_)) => Ordering::Equal,
    };
    order.then_with(|| there.build_uid.cmp(&ours.build_uid)) == Ordering::Greater
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_never_goes_back_to_a_build_created_earlier() {
        let latest = |uid: &str, created: &str| Latest { version: 1, build_uid: uid.into(), created: created.into() };
        let old = latest("z", "2026-01-02T03:04:05Z");
        let new = latest("a", "2026-01-02T05:04:05+01:00");
        assert!(newer(&new, &old) && !newer(&old, &new));
        let twin = latest("b", "2026-01-02T04:04:05Z");
        assert!(newer(&twin, &new) != newer(&new, &twin), "one of two of the same instant stays");
    }
}
