//! A thread that records every run that any attempt seals, on volumes and in the store, and every result: tests ask for
//! them after they are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// A sealed run, by its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub name: String,
    pub work: String,
    pub epoch: u64,
    pub nonce: String,
    pub splits: Vec<u64>,
    pub rows: u64,
}

#[derive(Default)]
struct Seen {
    /// By build and name: a run that is linked or uploaded keeps its name.
    runs: BTreeMap<(String, String), Run>,
    /// By build, work and attempt.
    results: BTreeMap<(String, String, String), Value>,
}

/// Dropping it ends the thread.
pub(crate) struct SealWatcher {
    seen: Arc<Mutex<Seen>>,
    volumes: Vec<PathBuf>,
    indexes: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SealWatcher {
    /// Of the bucket with the builds' output, and of volumes.
    pub(crate) fn of(indexes: PathBuf, volumes: Vec<PathBuf>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (remembered, stopped, places, store) =
            (Arc::clone(&seen), Arc::clone(&stop), volumes.clone(), indexes.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                look(&store, &places, &remembered);
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        Self { seen, volumes, indexes, stop, thread: Some(thread) }
    }

    /// Every run of a build that was ever sealed.
    pub(crate) fn sealed(&self, uid: &str) -> Vec<Run> {
        look(&self.indexes, &self.volumes, &self.seen);
        let seen = self.seen.lock().unwrap();
        seen.runs.iter().filter(|((build, _), _)| build == uid).map(|(_, run)| run.clone()).collect()
    }

    /// Rows that were encoded again though a sealed run held them: of the sidecars of all attempts.
    pub(crate) fn rebuilt(&self, uid: &str) -> u64 {
        let mut once: BTreeMap<u64, u64> = BTreeMap::new();
        let mut again = 0;
        for run in self.sealed(uid) {
            let each = run.rows / (run.splits.len().max(1) as u64);
            for split in run.splits {
                if once.insert(split, each).is_some() {
                    again += each;
                }
            }
        }
        again
    }

    /// Splits that are in more than one run.
    pub(crate) fn twice(&self, uid: &str) -> BTreeSet<u64> {
        let mut seen = BTreeSet::new();
        let all = self.sealed(uid);
        all.iter().flat_map(|run| &run.splits).filter(|split| !seen.insert(**split)).copied().collect()
    }

    /// Rows in sealed runs.
    pub(crate) fn rows(&self, uid: &str) -> u64 {
        self.sealed(uid).iter().map(|run| run.rows).sum()
    }

    /// The files of a build on the volumes now.
    pub(crate) fn files_of_volumes(&self, uid: &str) -> Vec<String> {
        let of = |volume: &PathBuf| {
            let folder = volume.join(uid);
            let there = folder.exists().then(|| folder.display().to_string());
            there.into_iter().chain(crate::common::files_below(&folder).into_keys().map(|file| format!("{uid}/{file}")))
        };
        self.volumes.iter().flat_map(of).collect()
    }

    /// The place of a run's file on a volume now.
    pub(crate) fn on_volume(&self, uid: &str, run: &str) -> Option<PathBuf> {
        self.volumes.iter().find_map(|volume| {
            let folder = volume.join(uid);
            crate::common::files_below(&folder)
                .into_keys()
                .find(|file| file.ends_with(run))
                .map(|file| folder.join(file))
        })
    }

    /// The place of a run's object now.
    pub(crate) fn in_store(&self, uid: &str, run: &str) -> Option<PathBuf> {
        let of_build = |file: &String| file.contains(uid) && file.ends_with(run);
        crate::common::files_below(&self.indexes).into_keys().find(of_build).map(|file| self.indexes.join(file))
    }

    /// The results of attempts at a work of a build that were ever in the store, by attempt (`<epoch>-<nonce>`).
    pub(crate) fn results(&self, uid: &str, work: &str) -> BTreeMap<String, Value> {
        look(&self.indexes, &self.volumes, &self.seen);
        let seen = self.seen.lock().unwrap();
        let of_work = seen.results.iter().filter(|((build, of, _), _)| build == uid && of == work);
        of_work.map(|((_, _, attempt), result)| (attempt.clone(), result.clone())).collect()
    }
}

impl Drop for SealWatcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(indexes: &Path, volumes: &[PathBuf], seen: &Mutex<Seen>) {
    let mut found = Vec::new();
    for file in crate::common::files_below(indexes).into_keys() {
        // shop/<namespace>/<name>/<uid>/attempts/<work>/<epoch>-<nonce>/<run>.json
        let parts: Vec<&str> = file.split('/').collect();
        if let [.., uid, "attempts", work, attempt, name] = parts.as_slice()
            && work.starts_with("encode-")
        {
            if is_sidecar(name) {
                found.push(((*uid).to_owned(), (*name).to_owned(), indexes.join(&file)));
            } else if *name == "result.json" {
                let key = ((*uid).to_owned(), (*work).to_owned(), (*attempt).to_owned());
                let content = std::fs::read(indexes.join(&file)).ok();
                if let Some(result) = content.and_then(|content| serde_json::from_slice(&content).ok()) {
                    seen.lock().unwrap().results.entry(key).or_insert(result);
                }
            }
        }
    }
    for volume in volumes {
        for file in crate::common::files_below(volume).into_keys() {
            // <uid>/<epoch>-<nonce>/runs/<run>.json
            let parts: Vec<&str> = file.split('/').collect();
            if let [uid, _, "runs", name] = parts.as_slice()
                && is_sidecar(name)
            {
                found.push(((*uid).to_owned(), (*name).to_owned(), volume.join(&file)));
            }
        }
    }
    for (uid, name, path) in found {
        let key = (uid, name);
        if seen.lock().unwrap().runs.contains_key(&key) {
            continue;
        }
        // A sidecar that is being written is read by the next pass; one that is being removed was read by the last one.
        let Some(run) = std::fs::read(&path).ok().and_then(|bytes| parse_sidecar(&key.1, &bytes)) else { continue };
        seen.lock().unwrap().runs.insert(key, run);
    }
}

fn is_sidecar(name: &str) -> bool {
    name.ends_with(".json") && name != "result.json" && !name.starts_with('.')
}

fn parse_sidecar(name: &str, bytes: &[u8]) -> Option<Run> {
    let sidecar: Value = serde_json::from_slice(bytes).ok()?;
    Some(Run {
        name: name.strip_suffix(".json")?.to_owned(),
        work: sidecar["workId"].as_str()?.to_owned(),
        epoch: sidecar["epoch"].as_u64()?,
        nonce: sidecar["bootNonce"].as_str()?.to_owned(),
        splits: sidecar["splits"].as_array()?.iter().filter_map(Value::as_u64).collect(),
        rows: sidecar["rows"].as_u64()?,
    })
}
