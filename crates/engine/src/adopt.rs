//! Takes over what former attempts at the same work sealed.
//!
//! The listing of sealed sidecars is the checkpoint: there is no second log to disagree with it. A
//! file is adopted by a hard link, after its content was checked; a damaged one is kept aside and its
//! work done again (I3). The former attempt's folder is only read: it may still have an owner.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use indexbuild_index::FileDigest;
use indexbuild_text::chain;
use xxhash_rust::xxh3::xxh3_128;

use crate::attempt::{Attempt, Owner, ranges_in, runs_in};
use crate::error::{At as _, EngineError};
use crate::run::{PieceRef, ReadAt, RunTable, SealedRun, run_names, sidecar_of, sidecars};
use crate::sort::{RANGE_VERSION, RangeSidecar, SealedRange, read_sidecar};
use crate::volume::FoundAttempt;

#[derive(Clone, Debug)]
pub struct Adopted<T> {
    /// Checked, and linked into this attempt's folder.
    pub taken: Vec<T>,
    /// Damaged files, where they are kept, and why.
    pub quarantined: Vec<Quarantined>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub found: PathBuf,
    pub kept: PathBuf,
    pub why: String,
}

/// Takes over runs that cover some of these splits and no others, no split twice: the runs that
/// cover most first.
///
/// # Errors
/// Those of the file system. A damaged run is kept aside and a foreign one is skipped: neither is an error.
pub fn adopt_runs(attempt: &Attempt, from: &[FoundAttempt], splits: &[u32]) -> Result<Adopted<SealedRun>, EngineError> {
    let wanted: BTreeSet<u32> = splits.iter().copied().collect();
    let mut adopted = Adopted { taken: Vec::new(), quarantined: Vec::new() };
    let mut found: Vec<SealedRun> = Vec::new();
    for former in of_same_work(attempt.owner(), from) {
        for path in run_names(&runs_in(&former.dir))? {
            match SealedRun::found(&path) {
                Ok(run) if attempt.owner().is_at(&run.sidecar.work_id, &run.sidecar.inputs_digest) => found.push(run),
                Ok(_) => {}
                Err(error) => set_aside(attempt, &mut adopted.quarantined, &sidecar_of(&path), &chain(&error))?,
            }
        }
    }
    // One run may be linked into several attempts; its name says who made it.
    found.sort_by(|left, right| {
        right.sidecar.splits.len().cmp(&left.sidecar.splits.len()).then_with(|| left.name.cmp(&right.name))
    });
    found.dedup_by(|later, earlier| later.name == earlier.name);
    let mut covered: BTreeSet<u32> = BTreeSet::new();
    for run in found {
        let of_ours = run.sidecar.splits.iter().all(|split| wanted.contains(split) && !covered.contains(split));
        if !of_ours || run.sidecar.splits.is_empty() {
            continue;
        }
        if let Err(why) = verify_run(&run) {
            set_aside(attempt, &mut adopted.quarantined, &run.path, &why)?;
            continue;
        }
        let path = attempt.runs_dir().join(&run.name);
        link(&run.path, &path)?;
        let linked = SealedRun { path, ..run.clone() };
        link(&run.sidecar_path(), &linked.sidecar_path())?;
        covered.extend(&run.sidecar.splits);
        adopted.taken.push(linked);
    }
    Ok(adopted)
}

/// Takes over the sealed ranges of one index.
///
/// # Errors
/// Those of the file system. A damaged range is kept aside and a foreign one is skipped: neither is an error.
pub fn adopt_ranges(attempt: &Attempt, from: &[FoundAttempt], index: u32) -> Result<Adopted<SealedRange>, EngineError> {
    let mut adopted = Adopted { taken: Vec::new(), quarantined: Vec::new() };
    let mut have: BTreeSet<u32> = BTreeSet::new();
    for former in of_same_work(attempt.owner(), from) {
        let folder = ranges_in(&former.dir);
        for sidecar_path in sidecars(&folder)? {
            let sidecar = match read_sidecar(&sidecar_path) {
                Ok(sidecar) => sidecar,
                Err(error) => {
                    set_aside(attempt, &mut adopted.quarantined, &sidecar_path, &chain(&error))?;
                    continue;
                }
            };
            let RangeSidecar { version, work_id, inputs_digest, epoch: _, boot_nonce: _, index: of, sealed } = sidecar;
            if version != RANGE_VERSION
                || of != index
                || have.contains(&sealed.range)
                || !attempt.owner().is_at(&work_id, &inputs_digest)
            {
                continue;
            }
            if let Some((path, why)) = damage_of(&sealed, &folder) {
                set_aside(attempt, &mut adopted.quarantined, &path, &why)?;
                continue;
            }
            let mut linked = sealed.clone();
            for sst in &mut linked.files {
                sst.path = attempt.ranges_dir().join(&sst.name);
                link(&folder.join(&sst.name), &sst.path)?;
            }
            linked.sidecar = attempt.ranges_dir().join(sidecar_path.file_name().unwrap_or_default());
            link(&sidecar_path, &linked.sidecar)?;
            have.insert(linked.range);
            adopted.taken.push(linked);
        }
    }
    adopted.taken.sort_by_key(|range| range.range);
    Ok(adopted)
}

impl FoundAttempt {
    /// The runs that it sealed, as far as they can be understood, neither opened nor checked.
    pub fn sealed_runs(&self) -> Vec<SealedRun> {
        let paths = run_names(&runs_in(&self.dir)).unwrap_or_default();
        paths.iter().filter(|path| path.is_file()).filter_map(|path| SealedRun::found(path).ok()).collect()
    }

    /// The ranges that it sealed, as far as they can be understood, their files neither opened nor checked.
    pub fn sealed_ranges(&self) -> Vec<SealedRange> {
        let paths = sidecars(&ranges_in(&self.dir)).unwrap_or_default();
        paths.iter().filter_map(|path| read_sidecar(path).ok()).map(|sidecar| sidecar.sealed).collect()
    }
}

/// Checks a sealed run against its sidecar and its own table: length, table, every piece.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn verify_run(run: &SealedRun) -> Result<RunTable, String> {
    let read = |error: io::Error| format!("it cannot be read: {error}");
    let file = File::open(&run.path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length != run.sidecar.bytes {
        return Err(format!("its length is {length}, its sidecar says {}", run.sidecar.bytes));
    }
    let (table, digest) = RunTable::read_with_digest(&file).map_err(|error| error.to_string())?;
    run.sidecar.check(&table, &digest)?;
    let mut bytes = Vec::new();
    for (index, lane, PieceRef { offset, len, entries: _, kind: _, digest }) in table.all() {
        bytes.resize(usize::try_from(*len).map_err(|error| error.to_string())?, 0);
        file.read_at(*offset, &mut bytes).map_err(|error| error.to_string())?;
        if xxh3_128(&bytes) != *digest {
            return Err(format!(
                "{len} bytes at {offset} (index {index}, lane {lane}) are not what was sealed; splits {:?}",
                run.sidecar.splits
            ));
        }
    }
    Ok(table)
}

fn damage_of(range: &SealedRange, folder: &Path) -> Option<(PathBuf, String)> {
    let entries: u64 = range.files.iter().map(|sst| sst.entries).sum();
    if entries != range.entries || range.files.is_empty() {
        let why = format!("range {}: its files hold {entries} entries, it says {}", range.range, range.entries);
        return Some((folder.to_owned(), why));
    }
    range.files.iter().find_map(|sst| {
        let path = folder.join(&sst.name);
        let why = match FileDigest::of_file(&path) {
            Err(error) => format!("it cannot be read: {error}"),
            Ok((bytes, _)) if bytes != sst.bytes => {
                format!("its length is {bytes}, the sidecar of range {} says {}", range.range, sst.bytes)
            }
            Ok((_, digest)) if digest != sst.file_digest => {
                format!("its digest is {digest}, the sidecar of range {} says {}", range.range, sst.file_digest)
            }
            Ok(_) => return None,
        };
        Some((path, why))
    })
}

fn of_same_work<'a>(owner: &'a Owner, from: &'a [FoundAttempt]) -> impl Iterator<Item = &'a FoundAttempt> {
    from.iter().filter(|former| {
        former.name != owner.attempt_name()
            && former.owner.as_ref().is_some_and(|other| {
                other.build_uid == owner.build_uid && owner.is_at(&other.work_id, &other.inputs_digest)
            })
    })
}

fn set_aside(attempt: &Attempt, quarantined: &mut Vec<Quarantined>, path: &Path, why: &str) -> Result<(), EngineError> {
    let kept = match path.is_file() {
        true => attempt.quarantine(path, why)?,
        false => path.to_owned(),
    };
    quarantined.push(Quarantined { found: path.to_owned(), kept, why: why.to_owned() });
    Ok(())
}

/// A link that exists already is this attempt's: one that adopts twice (as a negative control does, which shares its
/// folder) finds it.
fn link(from: &Path, to: &Path) -> Result<(), EngineError> {
    match durable::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.at("link", to),
    }
}
