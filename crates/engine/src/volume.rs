//! A slot's volume: the attempts on it, who holds them, what is damaged, how much room is left.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use indexbuild_durable as durable;
use rustix::fs::FlockOperation;

use crate::attempt::{Attempt, OWNER_FILE, Owner, ranges_in, runs_in};
use crate::error::{At as _, EngineError, NoSpace};
use crate::quarantine::{QUARANTINE, quarantine};
use crate::test_switches::TestSwitches;

const SHARED: &str = "shared";
const FETCHED: &str = "fetched";

/// The part of a volume that belongs to one build: `<root>/<build UID>/`.
#[derive(Clone, Debug)]
pub struct Volume {
    root: PathBuf,
    folder: PathBuf,
    test_switches: TestSwitches,
}

/// An attempt found on the volume, this process's own included.
#[derive(Clone, Debug)]
pub struct FoundAttempt {
    /// `<epoch>-<nonce>`.
    pub name: String,
    pub dir: PathBuf,
    /// Its owner; `None` when the process died before it wrote `owner.json`: then nothing in the folder counts.
    pub owner: Option<Owner>,
    /// Whether a living process holds its lock (seen at the listing).
    pub held: bool,
}

/// An attempt whose lock this process holds, which proves that nobody else does. Only such an attempt can be removed.
#[derive(Debug)]
pub struct LockedAttempt {
    dir: PathBuf,
    name: String,
    _lock: File,
}

impl FoundAttempt {
    /// A folder in `attempt`'s own for what former attempts at its work sealed and the volume does not hold: once it is
    /// fetched there, it passes the same checks as what was sealed here.
    pub fn fetched(attempt: &Attempt) -> Self {
        let (dir, owner) = (attempt.dir().join(FETCHED), Some(attempt.owner().clone()));
        Self { name: FETCHED.to_owned(), dir, owner, held: false }
    }

    pub fn ranges_dir(&self) -> PathBuf {
        ranges_in(&self.dir)
    }

    /// Takes the attempt's lock, if nobody holds it now.
    ///
    /// # Errors
    /// Those of the file system. `None` also for a folder that is gone.
    pub fn try_lock(&self) -> Result<Option<LockedAttempt>, EngineError> {
        match try_lock(&self.dir) {
            Ok(Some(lock)) => Ok(Some(LockedAttempt { dir: self.dir.clone(), name: self.name.clone(), _lock: lock })),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("lock", &self.dir, error)),
        }
    }
}

impl Volume {
    /// Opens (and makes, if needed) the build's folder on the volume, and ends removals that a
    /// crash interrupted.
    pub fn open(root: &Path, build_uid: &str) -> Result<Self, EngineError> {
        let folder = root.join(build_uid);
        durable::create_dir_all(&folder).at("make", &folder)?;
        durable::sweep_temporaries(&folder).at("sweep", &folder)?;
        Ok(Self { root: root.to_owned(), folder, test_switches: TestSwitches::default() })
    }

    /// A volume on which attempts misbehave: for negative controls.
    #[must_use]
    pub fn with_test_switches(self, test_switches: TestSwitches) -> Self {
        Self { test_switches, ..self }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a run stands that the attempt of this folder name sealed.
    pub fn run_path(&self, attempt: &str, run: &str) -> PathBuf {
        runs_in(&self.folder.join(attempt)).join(run)
    }

    /// Begins an attempt in a folder of its own, and holds its lock (G9, I2).
    ///
    /// # Errors
    /// `AttemptExists` when the folder is there already; those of the file system.
    pub fn begin(&self, owner: &Owner) -> Result<Attempt, EngineError> {
        if self.test_switches.share_attempt_directory {
            return self.begin_shared(owner);
        }
        let dir = self.folder.join(owner.attempt_name());
        match durable::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(EngineError::AttemptExists { path: dir });
            }
            Err(error) => return Err(EngineError::io("make", &dir, error)),
        }
        let lock = try_lock(&dir).at("lock", &dir)?.ok_or_else(|| EngineError::AttemptExists { path: dir.clone() })?;
        owner.write_new(&dir)?;
        Attempt::new(dir, owner.clone(), self.test_switches, Some(lock))
    }

    /// A negative control for tests alone: an attempt that enters a folder shared by all attempts,
    /// without the guard G9 and without a lock. With it the incident happens again.
    fn begin_shared(&self, owner: &Owner) -> Result<Attempt, EngineError> {
        let dir = self.folder.join(SHARED);
        durable::create_dir_all(&dir).at("make", &dir)?;
        if !dir.join(OWNER_FILE).exists() {
            owner.write_new(&dir)?;
        }
        Attempt::new(dir, owner.clone(), self.test_switches, None)
    }

    /// All attempts of the build on this volume, oldest epoch first.
    ///
    /// # Errors
    /// Those of the file system, and an `owner.json` that cannot be understood.
    pub fn attempts(&self) -> Result<Vec<FoundAttempt>, EngineError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).at("list", &self.folder)? {
            let entry = entry.at("list", &self.folder)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((epoch, _)) = name.split_once('-') else { continue };
            let Ok(epoch) = epoch.parse::<u64>() else { continue };
            let dir = entry.path();
            let held = match try_lock(&dir) {
                Ok(lock) => lock.is_none(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(EngineError::io("lock", &dir, error)),
            };
            let owner = Owner::read(&dir)?;
            found.push((epoch, FoundAttempt { name, dir, owner, held }));
        }
        found.sort_by(|(left_epoch, left), (right_epoch, right)| {
            left_epoch.cmp(right_epoch).then_with(|| left.name.cmp(&right.name))
        });
        Ok(found.into_iter().map(|(_, attempt)| attempt).collect())
    }

    /// Removes an attempt: it is renamed first, so that the remains after a crash are recognised by their name.
    pub fn remove(&self, attempt: LockedAttempt) -> Result<(), EngineError> {
        let LockedAttempt { dir, name, _lock } = attempt;
        let condemned = self.folder.join(format!("{}removed-{name}", durable::TEMPORARY_PREFIX));
        durable::rename(&dir, &condemned).at("rename", &dir)?;
        durable::remove_dir_all(&condemned).at("remove", &condemned)
    }

    /// Removes the build's whole folder, if no attempt in it is held.
    ///
    /// # Errors
    /// Those of the file system. `Ok(false)`: somebody still holds an attempt, nothing of which was removed.
    pub fn remove_all(&self) -> Result<bool, EngineError> {
        let mut all = true;
        for attempt in self.attempts()? {
            match attempt.try_lock()? {
                Some(locked) => self.remove(locked)?,
                None => all &= !attempt.dir.exists(),
            }
        }
        if all {
            durable::remove_dir_all(&self.folder).at("remove", &self.folder)?;
        }
        Ok(all)
    }

    /// Keeps a damaged file for inspection, with the reason beside it (I3). The file stays where it
    /// was too: its folder may be another attempt's. Returns where it is kept.
    pub fn quarantine(&self, path: &Path, why: &str) -> Result<PathBuf, EngineError> {
        quarantine(&self.folder, path, why)
    }

    /// The files kept aside so far, reasons not included.
    pub fn quarantined(&self) -> Result<Vec<PathBuf>, EngineError> {
        let folder = self.folder.join(QUARANTINE);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(EngineError::io("list", &folder, error)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let path = entry.at("list", &folder)?.path();
            if path.extension().is_none_or(|extension| extension != "why") {
                kept.push(path);
            }
        }
        kept.sort();
        Ok(kept)
    }

    /// Bytes that this process may still write on the volume.
    pub fn free_bytes(&self) -> Result<u64, EngineError> {
        let stat = rustix::fs::statvfs(&self.folder).map_err(io::Error::from).at("measure", &self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Checks that there is room for work that may need this many bytes. Also tries a write: the file system's figures show
    /// neither a quota nor a read-only volume.
    ///
    /// # Errors
    /// `NoSpace` with both figures; those of the file system.
    pub fn admit(&self, need: u64) -> Result<(), EngineError> {
        let free = self.free_bytes()?;
        let refused = |free| EngineError::from(NoSpace { need, free, path: self.root.clone() });
        if free < need {
            return Err(refused(free));
        }
        let probe = self.folder.join("probe");
        let tried = durable::DurableFile::create(&probe).and_then(|mut file| file.write_all(b"?"));
        match tried.at("write", &probe) {
            Err(error) if error.is_no_space() => Err(refused(0)),
            outcome => outcome,
        }
    }
}

/// Bytes to ask for before an Encode: its runs, estimated.
pub fn need_of_encode(estimated_run_bytes: u64) -> u64 {
    estimated_run_bytes + estimated_run_bytes / 10 + (16 << 20)
}

/// Bytes to ask for before a Sort: the lane in hand, scattered once and perhaps cut again, and its
/// files (links for the check take no room).
pub fn need_of_sort(lane_bytes: u64, estimated_sst_bytes: u64) -> u64 {
    lane_bytes + lane_bytes / 4 + estimated_sst_bytes + (16 << 20)
}

/// The folder's advisory lock, or `None` when another open file holds it. The lock is on the folder
/// itself: it exists exactly as long as the attempt, and no file of it can be left over.
fn try_lock(dir: &Path) -> io::Result<Option<File>> {
    let folder = File::open(dir)?;
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
