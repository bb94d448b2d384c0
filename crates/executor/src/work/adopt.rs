//! What older attempts at the same work uploaded, taken over by name after the same checks as what
//! is on the volume.

use std::collections::BTreeMap;

use indexbuild_engine::{BoxError, ReadAt, RunSidecar, RunTable};
use indexbuild_index::digest::SetHash;

use super::Job;
use crate::failure::WorkFailure;
use crate::names;
use crate::objects::{ObjectError, Objects};

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
        let Some(stem) = name.strip_suffix(".run") else { continue };
        let Some(sidecar) = objects.get(&format!("{stem}.json")) else { continue };
        let Some((bytes, _)) = job.objects.get(&sidecar.path)? else { continue };
        let Ok(sidecar) = serde_json::from_slice::<RunSidecar>(&bytes) else {
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
            Ok((table, digest)) => {
                let agrees =
                    digest == self.sidecar.table_digest
                        && table.indexes().len() == self.sidecar.indexes.len()
                        && table.indexes().iter().zip(&self.sidecar.indexes).all(|(table, said)| {
                            table.entries == said.entries && SetHash(table.hash).hex() == said.hash
                        });
                if !agrees {
                    tracing::warn!(path = %self.object.path, "an uploaded run's table is not its sidecar's; its splits are encoded again");
                }
                Ok(agrees)
            }
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
