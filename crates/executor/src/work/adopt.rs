//! What older attempts at the same work uploaded, taken over by name after the same checks as what
//! is on the volume.

use std::collections::BTreeMap;

use indexbuild_engine::{BoxError, ReadAt, RunSidecar, RunTable, SealedRun};

use super::Job;
use crate::failure::WorkFailure;
use crate::names;
use crate::stored_objects::{ObjectError, Objects};

/// What older attempts at this work left, and what of it is used: runs, or ranges.
pub(super) struct TakenOver<T> {
    /// Checked, and linked into this attempt's folder.
    pub sealed: Vec<T>,
    /// Runs that are used from where they are in the store; ranges are fetched.
    pub stored: Vec<UploadedRun>,
    /// All their objects, by name: a linked file that is among them is not uploaded again.
    pub objects: BTreeMap<String, Former>,
    /// Rows (entries) that an older attempt had sealed and that are worked on again.
    pub redone: u64,
}

impl<T> TakenOver<T> {
    /// The object that an older attempt made of this file.
    pub(super) fn uploaded(&self, name: &str, bytes: u64) -> Option<&Former> {
        self.objects.get(name).filter(|object| object.bytes == bytes)
    }
}

/// Where a sealed file stands in the store: where an older attempt put it, or else under this attempt's prefix.
pub(super) fn object_path(job: &Job, uploaded: Option<&Former>, name: &str) -> String {
    uploaded.map_or_else(|| format!("{}/{name}", job.attempt.prefix()), |former| former.path.clone())
}

/// An object of an older attempt at this work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    /// Relative to the build's prefix.
    pub path: String,
    /// The file's name alone.
    pub name: String,
    pub bytes: u64,
}

/// All objects of older attempts at this work, by the files' names (each attempt's are unlike any
/// other's), but their results.
pub(super) fn former_objects(job: &Job) -> Result<BTreeMap<String, Former>, WorkFailure> {
    let own = format!("{}/", job.attempt.prefix());
    let mut found = BTreeMap::new();
    if job.config.test.adopt_nothing {
        return Ok(found);
    }
    for (path, bytes) in job.objects.list(&names::work_prefix(&job.work.id))? {
        let Some((_, name)) = path.rsplit_once('/') else { continue };
        if path.starts_with(&own) || name == names::RESULT {
            continue;
        }
        let name = name.to_owned();
        found.insert(name.clone(), Former { path, name, bytes });
    }
    Ok(found)
}

/// A run that an older attempt uploaded, with its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UploadedRun {
    pub object: Former,
    pub sidecar: RunSidecar,
}

/// The runs among `objects` whose sidecar is there too and fits: this work, these inputs, this
/// length. Their content is checked by [`UploadedRun::verify`].
pub(super) fn uploaded_runs(job: &Job, objects: &BTreeMap<String, Former>) -> Result<Vec<UploadedRun>, WorkFailure> {
    let mut runs = Vec::new();
    for (name, object) in objects {
        let Some(sidecar) = SealedRun::sidecar_name(name).and_then(|sidecar| objects.get(&sidecar)) else { continue };
        let Some((bytes, _)) = job.objects.get(&sidecar.path)? else { continue };
        let Ok(sidecar) = RunSidecar::parse(&bytes) else {
            tracing::warn!(path = %sidecar.path, "a sidecar cannot be understood; its run is not taken over");
            continue;
        };
        let fits = sidecar.work_id == job.work.id
            && sidecar.inputs_digest == job.work.inputs_digest
            && sidecar.bytes == object.bytes;
        if fits {
            runs.push(UploadedRun { object: object.clone(), sidecar });
        } else {
            tracing::warn!(path = %object.path, "an uploaded run does not fit its sidecar or this work; it is not taken over");
        }
    }
    Ok(runs)
}

impl UploadedRun {
    /// Reads the run's table from the store and checks it against the sidecar. The table holds the
    /// digests of the pieces, which a Sort checks as it reads them (I3).
    ///
    /// # Errors
    /// Those of the store. `Ok(false)`: it is damaged, and not taken over.
    pub(super) fn verify(&self, job: &Job) -> Result<bool, WorkFailure> {
        let run = StoredRun { objects: &job.objects, path: &self.object.path, bytes: self.object.bytes };
        match RunTable::read_with_digest(&run) {
            Ok((table, digest)) => match self.sidecar.check(&table, &digest) {
                Ok(()) => Ok(true),
                Err(why) => {
                    tracing::warn!(path = %self.object.path, why, "an uploaded run is damaged; its splits are encoded again");
                    Ok(false)
                }
            },
            Err(error) => match error.downcast::<ObjectError>() {
                Ok(error) => Err((*error).into()),
                Err(error) => {
                    tracing::warn!(path = %self.object.path, %error, "an uploaded run's table cannot be used; its splits are encoded again");
                    Ok(false)
                }
            },
        }
    }
}

pub(super) struct StoredRun<'a> {
    pub objects: &'a Objects,
    pub path: &'a str,
    pub bytes: u64,
}

impl ReadAt for StoredRun<'_> {
    fn len(&self) -> Result<u64, BoxError> {
        Ok(self.bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let bytes = self.objects.get_range(self.path, offset..offset + buf.len() as u64)?;
        if bytes.len() != buf.len() {
            return Err(format!(
                "{} of {} bytes at {offset}: the object is shorter than its sidecar says",
                bytes.len(),
                buf.len()
            )
            .into());
        }
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}
