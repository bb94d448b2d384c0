//! Pods are child processes.
//!
//! A pod exists as long as its folder has a `pod.json`, written before its process is started: a
//! parent that is killed in between leaves a pod whose lock nobody holds, which is a pod that ended.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Instant;

use indexbuild_api::Epoch;
use indexbuild_durable as durable;
use indexbuild_process::Usage;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::folder::{self, Layout, StateError};
use crate::process;

/// What a process is told at its birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodFile {
    pub name: String,
    /// Its UID: the incarnation.
    pub uid: String,
    pub slot: u32,
    pub epoch: Epoch,
    /// The generation of the slot's volume that it works on.
    pub volume_generation: u32,
    pub threads: usize,
    /// What it may use, in bytes.
    pub memory_limit: u64,
    /// How long it goes on without contact, in milliseconds.
    pub orphan_after_ms: u64,
}

/// How a pod's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code; -1 where only its lock told.
    pub code: i32,
    pub how: String,
    /// When that was seen (RFC 3339).
    pub at: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// What it was told at its birth.
    pub file: PodFile,
    /// Its process: known from its start, or from its lock once it wrote it there.
    pub pid: Option<i32>,
    /// Whether this parent started it, and so reaps it.
    pub own: bool,
    /// Whether it was asked to stop.
    pub deleting: bool,
    pub terminated_at: Option<Instant>,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// What it used so far.
    pub usage: Usage,
}

impl Pod {
    /// Whether its process may still run.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Sends a signal, if the process can be told and is not known to have ended.
    pub(crate) fn signal(&mut self, layout: &Layout, signal: Signal) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if !self.own {
            // Not ours to reap: the id is its own only while it holds its lock.
            self.pid = process::holder(&layout.pod_lock(&self.file.name));
        }
        match self.pid.map(|pid| process::signal(pid, signal)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::debug!(pod = %self.file.name, %error, ?signal, "a signal could not be sent");
                false
            }
            None => false,
        }
    }

    /// Reads what it used so far.
    pub(crate) fn measure(&mut self) {
        if let (None, Some(usage)) = (&self.ended, self.pid.and_then(indexbuild_process::usage)) {
            self.usage = Usage {
                peak_rss: self.usage.peak_rss.max(usage.peak_rss),
                cpu_ms: self.usage.cpu_ms.max(usage.cpu_ms),
            };
        }
    }
}

/// All pods of a state folder.
#[derive(Debug)]
pub(crate) struct Pods {
    layout: Layout,
    pods: BTreeMap<String, Pod>,
    /// Slots and what the processes that are gone and forgotten used at most.
    gone: Vec<(String, u32, Usage)>,
}

impl Pods {
    /// Reads the pods that a former parent left.
    pub(crate) fn load(layout: Layout) -> Result<Self, StateError> {
        let mut pods = BTreeMap::new();
        for name in folder::names(&layout, &layout.pods())? {
            if let Some(file) = folder::read::<PodFile>(&layout, &layout.pod_file(&name))? {
                let pod = Pod {
                    pid: process::holder(&layout.pod_lock(&name)),
                    file,
                    own: false,
                    deleting: false,
                    terminated_at: None,
                    ended: None,
                    usage: Usage::default(),
                };
                pods.insert(name, pod);
            } else {
                // Its file is the first thing written into it: no process was ever started here.
                durable::remove_dir_all(&layout.pod(&name))
                    .map_err(|source| StateError::Io { folder: layout.root().to_owned(), source })?;
            }
        }
        Ok(Self { layout, pods, gone: Vec::new() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pod> {
        self.pods.values_mut()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Pod> {
        self.pods.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.get_mut(name)
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.file.uid == uid)
    }

    /// Writes a pod down; its process is started after this.
    pub(crate) fn create(&mut self, file: PodFile) -> Result<PathBuf, StateError> {
        let folder = self.layout.pod(&file.name);
        durable::create_dir_all(&folder)
            .map_err(|source| StateError::Io { folder: self.layout.root().to_owned(), source })?;
        let lock = self.layout.pod_lock(&file.name);
        process::open_lock(&lock).map_err(|source| StateError::Io { folder: self.layout.root().to_owned(), source })?;
        folder::write(&self.layout, &self.layout.pod_file(&file.name), &file)?;
        let pod = Pod {
            pid: None,
            own: true,
            deleting: false,
            terminated_at: None,
            ended: None,
            usage: Usage::default(),
            file,
        };
        self.pods.insert(pod.file.name.clone(), pod);
        Ok(lock)
    }

    /// This parent's child was reaped.
    pub(crate) fn reaped(&mut self, name: &str, status: ExitStatus, at: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
            pod.ended = Some(Ended { code, how: process::describe(status), at: at.to_owned() });
        }
    }

    /// Looks which processes of former parents are gone: their locks can be taken. Names of those
    /// that were not known to be gone.
    pub(crate) fn look_for_ends(&mut self, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        for pod in self.pods.values_mut().filter(|pod| !pod.own && pod.ended.is_none()) {
            if process::is_gone(&self.layout.pod_lock(&pod.file.name)) {
                pod.ended = Some(Ended {
                    code: -1,
                    how: "ended under a former parent (its lock is free)".to_owned(),
                    at: at.to_owned(),
                });
                found.push(pod.file.name.clone());
            }
        }
        found
    }

    /// Forgets a pod whose process has ended.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), StateError> {
        let Some(pod) = self.pods.get(name).filter(|pod| pod.ended.is_some()) else {
            return Ok(());
        };
        let (slot, usage) = (pod.file.slot, pod.usage);
        let io = |source| StateError::Io { folder: self.layout.root().to_owned(), source };
        durable::remove_file(&self.layout.pod_file(name)).map_err(io)?;
        durable::remove_dir_all(&self.layout.pod(name)).map_err(io)?;
        self.pods.remove(name);
        self.gone.push((name.to_owned(), slot, usage));
        Ok(())
    }

    /// What each process of this run used, by pod: slot, peak memory, processor time.
    pub(crate) fn usages(&self) -> Vec<(String, u32, Usage)> {
        let here = self.pods.values().map(|pod| (pod.file.name.clone(), pod.file.slot, pod.usage));
        let mut all: Vec<_> = self.gone.iter().cloned().chain(here).collect();
        all.sort();
        all
    }
}

/// The lines of a process's log that say why it ended: warnings and errors, and whatever is no log
/// line (a panic, say); the last few.
pub(crate) fn essential_lines(log: &str) -> Vec<String> {
    const MOST: usize = 6;
    let mut found: Vec<String> = Vec::new();
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => {
                let level = value.get("level").and_then(|level| level.as_str()).unwrap_or("");
                if level != "ERROR" && level != "WARN" {
                    continue;
                }
                let fields = value.get("fields").unwrap_or(&value);
                let of = |name: &str| fields.get(name).and_then(|text| text.as_str()).unwrap_or("").to_owned();
                let (message, error) = (of("message"), of("error"));
                if error.is_empty() { message } else { format!("{message}: {error}") }
            }
            Err(_) => line.to_owned(),
        };
        if found.last() != Some(&text) {
            found.push(text);
        }
    }
    found.split_off(found.len().saturating_sub(MOST))
}

/// The essential lines of a pod's log.
pub(crate) fn essential_lines_of(layout: &Layout, pod: &str) -> Vec<String> {
    fs::read(layout.log(pod)).map(|bytes| essential_lines(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PodFile {
        PodFile {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            slot: 0,
            epoch: Epoch::new(1),
            volume_generation: 1,
            threads: 1,
            memory_limit: 1 << 28,
            orphan_after_ms: 1_000,
        }
    }

    fn layout(folder: &std::path::Path) -> Layout {
        let layout = Layout::new(folder.to_owned());
        fs::create_dir_all(layout.pods()).unwrap();
        layout
    }

    #[test]
    fn a_pod_that_was_written_down_and_never_started_counts_as_ended() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        Pods::load(layout.clone()).unwrap().create(file("p")).unwrap();
        let mut pods = Pods::load(layout.clone()).unwrap();
        assert_eq!(pods.look_for_ends("now"), vec!["p".to_owned()]);
        assert!(pods.look_for_ends("now").is_empty(), "told once");
        pods.remove("p").unwrap();
        assert_eq!(fs::read_dir(layout.pods()).unwrap().count(), 0);
        assert_eq!(pods.usages().len(), 1);
    }

    #[test]
    fn a_pod_whose_process_may_run_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let mut pods = Pods::load(layout.clone()).unwrap();
        let lock = pods.create(file("p")).unwrap();
        let held = process::open_lock(&lock).unwrap();
        assert!(folder::try_lock(&held).unwrap());
        let mut pods = Pods::load(layout).unwrap();
        assert!(pods.look_for_ends("now").is_empty());
        pods.remove("p").unwrap();
        assert!(pods.get("p").is_some());
    }

    #[test]
    fn the_essential_lines_are_what_went_wrong() {
        let log = r#"{"level":"INFO","fields":{"message":"started"}}
{"level":"ERROR","fields":{"message":"the work failed","error":"no such column"}}
{"level":"ERROR","fields":{"message":"the work failed","error":"no such column"}}
thread 'main' panicked at x.rs:1:1
"#;
        assert_eq!(
            essential_lines(log),
            vec!["the work failed: no such column".to_owned(), "thread 'main' panicked at x.rs:1:1".to_owned()]
        );
    }
}
