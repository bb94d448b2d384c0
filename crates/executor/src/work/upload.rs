//! Uploads on a thread of their own, beside the work that seals what they take.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use indexbuild_engine::BoxError;
use indexbuild_text::panic_words;

use super::Job;
use crate::failure::WorkFailure;

/// Sealed files that belong together, in the order in which they go: what makes the others exist
/// (a sidecar) comes last.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// Name, path and length of each.
    pub files: Vec<(String, PathBuf, u64)>,
}

/// Name, path and length of a file as [`Upload`] takes it.
pub(super) fn file_at(path: &Path) -> io::Result<(String, PathBuf, u64)> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, path.to_owned(), path.metadata()?.len()))
}

pub(super) struct Uploads {
    sender: Sender<Upload>,
}

/// The thread that uploads has failed; its own error says why.
#[derive(Debug, thiserror::Error)]
#[error("an upload of what was sealed before failed")]
pub(super) struct UploadFailed;

impl Uploads {
    /// Queues sealed files. They stay where they are until the attempt ends.
    ///
    /// # Errors
    /// [`UploadFailed`]: there is no use in going on.
    pub(super) fn queue(&self, upload: Upload) -> Result<(), BoxError> {
        self.sender.send(upload).map_err(|_| UploadFailed.into())
    }
}

/// Does `work` while another thread uploads what it queues; returns when both are done. A file that
/// is queued twice is uploaded once. What was queued is uploaded even when the work ends early
/// (SIGTERM), unless it must end at once.
///
/// # Errors
/// The upload's failure, if there is one: it explains the work's. Else the work's.
pub(super) fn beside<T>(job: &Job, work: impl FnOnce(&Uploads) -> Result<T, WorkFailure>) -> Result<T, WorkFailure> {
    let (sender, receiver) = channel();
    let (outcome, uploaded) = std::thread::scope(|scope| {
        let thread = scope.spawn(move || upload_all(job, &receiver));
        let uploads = Uploads { sender };
        let outcome = work(&uploads);
        drop(uploads);
        let uploaded = thread.join().unwrap_or_else(|panic| {
            Err(WorkFailure::internal(format!("the thread that uploads panicked: {}", panic_words(panic.as_ref()))))
        });
        (outcome, uploaded)
    });
    uploaded?;
    outcome
}

fn upload_all(job: &Job, queue: &Receiver<Upload>) -> Result<(), WorkFailure> {
    let prefix = job.attempt.prefix();
    let mut done: BTreeMap<String, u64> = BTreeMap::new();
    for Upload { files } in queue {
        for (name, path, bytes) in files {
            if done.get(&name) != Some(&bytes) {
                job.objects.put_file(&format!("{prefix}/{name}"), &path, bytes)?;
                done.insert(name, bytes);
            }
        }
    }
    Ok(())
}
