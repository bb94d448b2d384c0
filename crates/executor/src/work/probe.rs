//! Whether the output's store has what a commit stands on: create-if-absent, and replace-if-unchanged.
//!
//! Some stores take the condition and do not look at it (s3rver): of two commits the later one stood, and one that came late
//! replaced a tombstone. Others refuse it with 501. Neither is seen in the course of a build that nothing disturbs, so each is
//! asked before any work, with objects of the attempt's own.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use indexbuild_api::WorkErrorReason;
use indexbuild_index::store::{PutOutcome, Version};
use indexbuild_store::in_parallel;
use indexbuild_text::chain;
use uuid::Uuid;

use super::Job;
use crate::failure::WorkFailure;
use crate::stored_objects::{ObjectError, Objects};

/// So many creators race for one object.
const CREATORS: usize = 8;

const TWO_CREATES: &str = "create-if-absent (If-None-Match: *) refuses a second creator";
const ONE_CREATES: &str = "create-if-absent (If-None-Match: *) lets a first creator create";
const ONE_WINNER: &str = "of several who create one object at once, exactly one succeeds";
const STALE: &str = "replace-if-unchanged (If-Match) refuses an etag that is not the object's any more";
const RIGHT: &str = "replace-if-unchanged (If-Match) takes the object's etag";
const VISIBLE: &str = "what was written is read back at once";

/// Finds out whether the store can hold an index.
///
/// # Errors
/// A permanent failure that names the condition which does not hold. An outage is waited for as ever.
pub(super) fn conditional_writes(job: &Job) -> Result<(), WorkFailure> {
    if job.objects.are_files() {
        return Ok(());
    }
    job.shared.set_step(Some("asking the output's store for conditional writes"));
    probe(&job.objects, &job.attempt.prefix())?;
    job.shared.set_step(None);
    Ok(())
}

/// Asks with objects under `prefix`, each time others: who probes beside is not disturbed. They are removed; what stays where
/// an end comes in between goes with the attempt's other objects, when the build is cleaned.
fn probe(objects: &Objects, prefix: &str) -> Result<(), WorkFailure> {
    let place = format!("{prefix}/probe-{}", Uuid::new_v4());
    let [single, race] = ["single", "race"].map(|name| format!("{place}/{name}"));
    let found = one_after_another(objects, &single).and_then(|()| at_once(objects, &race));
    let removed = [&single, &race].map(|path| objects.delete(path));
    found.map_err(|lacking| lacking.failure(objects))?;
    for outcome in removed {
        outcome?;
    }
    Ok(())
}

/// Why the probe ended.
enum Lacking {
    /// A condition that does not hold, and what happened instead.
    Condition(&'static str, String),
    Other(ObjectError),
}

impl Lacking {
    /// A request with a condition that failed: one that the store will never do does not have the condition.
    fn of(condition: &'static str, error: ObjectError) -> Self {
        if error.is_final() { Self::Condition(condition, chain(&error)) } else { Self::Other(error) }
    }

    fn failure(self, objects: &Objects) -> WorkFailure {
        match self {
            Self::Other(error) => error.into(),
            Self::Condition(condition, instead) => WorkFailure::failed(
                WorkErrorReason::StoreUnavailable,
                false,
                format!(
                    "the store of {} cannot hold an index, for a commit could replace another: it does not hold there that {condition}: {instead}; give the build an output.url in a store that has conditional writes (docs/stores.md lists some), or switch them on there; to read tables from, the store is good enough",
                    objects.url()
                ),
            ),
        }
    }
}

fn content(name: &str) -> Bytes {
    Bytes::from(format!("{name} of a test of conditional writes"))
}

/// What stands at `path`.
fn standing(objects: &Objects, path: &str) -> Result<Option<(Bytes, Version)>, Lacking> {
    objects.get(path).map_err(Lacking::Other)
}

/// What stands there must be `expected`; its version.
fn must_be(objects: &Objects, path: &str, expected: &Bytes, condition: &'static str) -> Result<Version, Lacking> {
    match standing(objects, path)? {
        Some((there, version)) if there == *expected => Ok(version),
        Some(_) => Err(Lacking::Condition(condition, "another writer's object stands there".to_owned())),
        None => Err(Lacking::Condition(VISIBLE, "an object that was written is not there".to_owned())),
    }
}

fn one_after_another(objects: &Objects, path: &str) -> Result<(), Lacking> {
    let [first, second, third, fourth] = ["first", "second", "third", "fourth"].map(content);
    // Refused or not, what stands there decides: a reply may have been lost, and the try that followed it was refused.
    objects.put_if_absent(path, &first).map_err(|error| Lacking::of(ONE_CREATES, error))?;
    let stale = must_be(objects, path, &first, ONE_CREATES)?;
    let created = objects.put_if_absent(path, &second).map_err(|error| Lacking::of(TWO_CREATES, error))?;
    if created == PutOutcome::Created {
        return Err(Lacking::Condition(TWO_CREATES, "the second was told that it had created the object".to_owned()));
    }
    must_be(objects, path, &first, TWO_CREATES)?;
    objects.put_if_match(path, &third, &stale).map_err(|error| Lacking::of(RIGHT, error))?;
    must_be(objects, path, &third, RIGHT)?;
    let replaced = objects.put_if_match(path, &fourth, &stale).map_err(|error| Lacking::of(STALE, error))?;
    if replaced == PutOutcome::Created {
        return Err(Lacking::Condition(STALE, "it was taken".to_owned()));
    }
    must_be(objects, path, &third, STALE).map(|_| ())
}

fn at_once(objects: &Objects, path: &str) -> Result<(), Lacking> {
    let creators: Vec<Bytes> = (0..CREATORS).map(|number| content(&format!("creator {number}"))).collect();
    let outcomes = in_parallel(&creators, CREATORS, |content| objects.put_if_absent(path, content));
    let outcomes = outcomes.map_err(|error| Lacking::of(ONE_WINNER, error))?;
    let winners: Vec<&Bytes> = creators
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| *outcome == PutOutcome::Created)
        .map(|(who, _)| who)
        .collect();
    match winners.as_slice() {
        [winner] => must_be(objects, path, winner, ONE_WINNER).map(|_| ()),
        // The winner's reply was lost, and its next try refused: then its object stands there.
        [] => match standing(objects, path)? {
            Some((there, _)) if creators.contains(&there) => Ok(()),
            Some(_) => Err(Lacking::Condition(ONE_WINNER, "another writer's object stands there".to_owned())),
            None => Err(Lacking::Condition(ONE_WINNER, "nobody did".to_owned())),
        },
        several => Err(Lacking::Condition(ONE_WINNER, format!("{} of {CREATORS} did", several.len()))),
    }
}
