//! Finishes and seals files in a thread beside those that sort: the last blocks, the flush, the digest of the bytes,
//! the seal, the range's sidecar, and the hand-on. A slow disk or upload then does not stop the sorting.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use indexbuild_index::FileDigest;
use indexbuild_index::digest::hex;

use super::SortJob;
use super::sealed::{SealedRange, SealedSst, sidecar_path};
use super::writer::{FullSst, RangeTotals};
use crate::control::{StepTimes, thread_cpu, timed};
use crate::error::{At as _, EngineError};
use crate::sst::WRITER_VERSION;

pub(crate) enum SealJob<'o> {
    /// A file of a range; those of one range come in order.
    File(u32, FullSst<'o>),
    Range(u32, RangeTotals),
}

/// Seals files and ranges until all senders are gone. Empty ranges are not among the sealed ones.
pub(crate) fn seal_files(
    job: &SortJob<'_>,
    jobs: Receiver<SealJob<'_>>,
    stats: &mut StepTimes,
) -> Result<Vec<SealedRange>, EngineError> {
    let mut open: BTreeMap<u32, Vec<SealedSst>> = BTreeMap::new();
    let mut sealed = Vec::new();
    for next in jobs {
        if job.control.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        match next {
            SealJob::File(range, full) => {
                let sst = timed(&mut stats.fsync, || seal_file(full))?;
                stats.bytes_written += sst.bytes;
                job.control.add_bytes(sst.bytes);
                open.entry(range).or_default().push(sst);
            }
            SealJob::Range(range, RangeTotals { entries, hash, duplicates, files }) => {
                let ssts = open.remove(&range).unwrap_or_default();
                if ssts.is_empty() {
                    continue;
                }
                if ssts.len() != files {
                    let what = format!("files of range {range}");
                    return Err(EngineError::Disagrees { what, expected: files as u64, found: ssts.len() as u64 });
                }
                let sidecar = sidecar_path(job.attempt, range);
                let range = SealedRange { range, entries, hash, duplicates, files: ssts, sidecar };
                timed(&mut stats.fsync, || range.seal(job.attempt, job.index))?;
                timed(&mut stats.hand_on, || hand_on(job, &range))?;
                sealed.push(range);
            }
        }
    }
    stats.cpu = thread_cpu();
    Ok(sealed)
}

pub(crate) fn hand_on(job: &SortJob<'_>, range: &SealedRange) -> Result<(), EngineError> {
    let name = format!("range {}", range.range);
    (job.on_sealed)(range).map_err(|source| EngineError::hand_on(&name, job.attempt.dir(), source))
}

fn seal_file(full: FullSst<'_>) -> Result<SealedSst, EngineError> {
    let FullSst { mut file, content_digest, first_key, last_key, entries, entry_bytes } = full;
    let written = file.finish(content_digest)?;
    let path = file.target().to_owned();
    let (bytes, file_digest, writer_version) = match written {
        Some((bytes, digest)) => (bytes, digest, Some(WRITER_VERSION)),
        None => {
            let (bytes, digest) = FileDigest::of_file(&path).at("read", &path)?;
            (bytes, digest, None)
        }
    };
    Ok(SealedSst {
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        path,
        first_key,
        last_key,
        entries,
        bytes,
        entry_bytes,
        content_digest: hex(content_digest),
        file_digest,
        writer_version,
    })
}
