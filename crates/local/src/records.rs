//! The records of ownership: one file per slot, which this process alone writes.
//!
//! What decides anything (a grant, a claim, a result, an error) is on the disk before anybody acts on
//! it. A renewal that says only how far its owner is stays in memory: losing it costs nothing, as a
//! parent that starts begins to count anew.

use std::collections::BTreeMap;
use std::path::Path;

use indexbuild_api::{
    Claim, Condition, DirectoryState, EngineDirectorySpec, EngineDirectoryStatus, Epoch, OwnerChangeReason, Report,
    WorkError, WorkResult,
};
use indexbuild_durable as durable;
use indexbuild_lifecycle::admission;
use indexbuild_lifecycle::record::{StatusChange, status_after};
use indexbuild_lifecycle::release::LastWord;
use indexbuild_lifecycle::world::Record;
use serde::{Deserialize, Serialize};

use crate::folder::{self, Layout, StateError};

/// This machine, as records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub name: String,
    pub boot_id: String,
    pub system_uuid: String,
}

pub(crate) fn this_machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Machine {
        name: if name.is_empty() { "localhost".to_owned() } else { name },
        boot_id: indexbuild_executor::machine::boot_id(Path::new(indexbuild_executor::machine::BOOT_ID_FILE)),
        system_uuid: read("/etc/machine-id"),
    }
}

/// Why a write of a record was not made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record is not any more what the writer looked at (G1).
    #[error("the record of slot {slot} was changed meanwhile")]
    Conflict { slot: u32 },
    #[error("the record of slot {slot} cannot be changed so: {message}")]
    Refused { slot: u32, message: String },
    #[error(transparent)]
    State(#[from] StateError),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OnDisk {
    resource_version: u64,
    spec: EngineDirectorySpec,
    status: EngineDirectoryStatus,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Rises with every write of the file.
    written: u64,
    renewed: u64,
    spec: EngineDirectorySpec,
    status: EngineDirectoryStatus,
}

impl Entry {
    /// `<written>` or `<written>.<renewed>`: a renewal that a crash forgets leaves no version behind
    /// that something else could get later.
    fn version(&self) -> String {
        match self.renewed {
            0 => self.written.to_string(),
            renewed => format!("{}.{renewed}", self.written),
        }
    }

    fn record(&self) -> Record {
        Record { spec: self.spec.clone(), status: self.status.clone(), version: self.version() }
    }
}

/// A change of the operator's part of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub spec: EngineDirectorySpec,
    pub state: DirectoryState,
    /// Why the owner or its work changes, where it does.
    pub change: Option<OwnerChangeReason>,
    pub conditions: Vec<Condition>,
}

#[derive(Debug)]
pub(crate) struct Records {
    layout: Layout,
    entries: BTreeMap<u32, Entry>,
}

impl Records {
    /// Reads all records of a state folder.
    pub(crate) fn load(layout: Layout) -> Result<Self, StateError> {
        let mut entries = BTreeMap::new();
        for name in folder::names(&layout, &layout.slots())? {
            let Some(slot) = name.strip_suffix(".json").and_then(|number| number.parse::<u32>().ok()) else {
                continue;
            };
            if let Some(OnDisk { resource_version, spec, status }) = folder::read(&layout, &layout.slot(slot))? {
                entries.insert(slot, Entry { written: resource_version, renewed: 0, spec, status });
            }
        }
        Ok(Self { layout, entries })
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.entries.keys().copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<Record> {
        self.entries.get(&slot).map(Entry::record)
    }

    /// Whether anything but its owner's renewals changed since the record was at `version`.
    pub(crate) fn changed_since(&self, slot: u32, version: &str) -> bool {
        let written = version.split('.').next();
        self.entries.get(&slot).map(|entry| entry.written.to_string()).as_deref() != written
    }

    /// Makes a slot's record.
    ///
    /// # Errors
    /// [`RecordError::Conflict`] when there is one.
    pub(crate) fn create(&mut self, slot: u32, spec: EngineDirectorySpec) -> Result<(), RecordError> {
        if self.entries.contains_key(&slot) {
            return Err(RecordError::Conflict { slot });
        }
        let entry = Entry { written: 0, renewed: 0, spec, status: EngineDirectoryStatus::default() };
        self.store(slot, entry)
    }

    /// Writes the operator's part by compare-and-set (G1): spec, state, and where an owner or its work
    /// changed, the history.
    pub(crate) fn update(&mut self, slot: u32, version: &str, change: Change, time: &str) -> Result<(), RecordError> {
        let Change { spec, state, change, conditions } = change;
        let entry = self.at(slot, version)?;
        admission::review_spec(&entry.spec, &spec)
            .map_err(|refusal| RecordError::Refused { slot, message: refusal.to_string() })?;
        let says = StatusChange { state, change, conditions: &conditions };
        let status = status_after(&entry.spec, &entry.status, &spec, says, time);
        let entry = Entry { spec, status, ..entry };
        self.store(slot, entry)
    }

    /// Removes a record by compare-and-set.
    pub(crate) fn delete(&mut self, slot: u32, version: &str) -> Result<(), RecordError> {
        self.at(slot, version)?;
        durable::remove_file(&self.layout.slot(slot))
            .map_err(|source| StateError::Io { folder: self.layout.root().to_owned(), source })?;
        self.entries.remove(&slot);
        Ok(())
    }

    /// Writes the claim of the pod `caller`, if admission allows it. Whether the record changed.
    pub(crate) fn claim(&mut self, slot: u32, caller: &str, claim: Claim) -> Result<bool, RecordError> {
        self.by_owner(slot, caller, |status| status.claim = Some(claim))
    }

    /// Replaces the report as a whole (G4), if admission allows it. Whether anything was written that
    /// decides: a result or an error.
    pub(crate) fn report(&mut self, slot: u32, caller: &str, report: Report) -> Result<bool, RecordError> {
        self.by_owner(slot, caller, |status| status.report = Some(report))
    }

    /// Writes down that the pod `caller` has closed everything of its volume, if admission allows it: it is proof, and
    /// on the disk before anybody acts on it.
    pub(crate) fn release(&mut self, slot: u32, caller: &str, word: LastWord) -> Result<bool, RecordError> {
        self.by_owner(slot, caller, |status| word.write(&mut status.released))
    }

    fn by_owner(
        &mut self,
        slot: u32,
        caller: &str,
        write: impl FnOnce(&mut EngineDirectoryStatus),
    ) -> Result<bool, RecordError> {
        let Some(entry) = self.entries.get(&slot) else {
            return Err(RecordError::Conflict { slot });
        };
        let mut status = entry.status.clone();
        write(&mut status);
        admission::review_status(&entry.record(), &status, caller)
            .map_err(|refusal| RecordError::Refused { slot, message: refusal.to_string() })?;
        if status == entry.status {
            return Ok(false);
        }
        let decides = status.claim != entry.status.claim
            || status.released != entry.status.released
            || outcome(&status) != outcome(&entry.status);
        let entry = Entry { status, ..entry.clone() };
        if decides {
            self.store(slot, entry)?;
        } else {
            self.entries.insert(slot, Entry { renewed: entry.renewed + 1, ..entry });
        }
        Ok(decides)
    }

    fn at(&self, slot: u32, version: &str) -> Result<Entry, RecordError> {
        self.entries
            .get(&slot)
            .filter(|entry| entry.version() == version)
            .cloned()
            .ok_or(RecordError::Conflict { slot })
    }

    /// On the disk first, then in memory: nobody acts on what a crash would take back.
    fn store(&mut self, slot: u32, entry: Entry) -> Result<(), RecordError> {
        let entry = Entry { written: entry.written + 1, renewed: 0, ..entry };
        let on_disk =
            OnDisk { resource_version: entry.written, spec: entry.spec.clone(), status: entry.status.clone() };
        folder::write(&self.layout, &self.layout.slot(slot), &on_disk)?;
        self.entries.insert(slot, entry);
        Ok(())
    }
}

/// The part of a report that decides anything: whose it is, and how the attempt ended.
type Outcome<'a> = (Epoch, &'a str, Option<&'a WorkResult>, Option<&'a WorkError>);

fn outcome(status: &EngineDirectoryStatus) -> Option<Outcome<'_>> {
    let report = status.report.as_ref()?;
    let (result, error) = (report.result.as_ref(), report.error.as_ref());
    (result.is_some() || error.is_some()).then_some((report.epoch, &report.boot_nonce, result, error))
}

#[cfg(test)]
pub(crate) mod tests {
    use indexbuild_api::{Grant, HISTORY_LENGTH, VolumeRef, Work, WorkKind};

    use super::*;

    pub(crate) fn spec(epoch: u64, pod_uid: &str, nonce: &str) -> EngineDirectorySpec {
        EngineDirectorySpec {
            build_name: "orders".to_owned(),
            build_uid: "b".to_owned(),
            slot: 0,
            grant: Some(Grant {
                epoch: Epoch::new(epoch),
                pod_name: format!("orders-b-0-e{epoch}"),
                pod_uid: pod_uid.to_owned(),
                boot_nonce: nonce.to_owned(),
                ..Grant::default()
            }),
            work: Some(Work {
                id: "plan".to_owned(),
                kind: WorkKind::Plan,
                inputs_digest: "d".to_owned(),
                runs: indexbuild_api::RunLocation::Store,
                splits: Vec::new(),
                inputs: Vec::new(),
                input_digests: Vec::new(),
                removes_index: false,
                keeps_volume: false,
            }),
            volume: Some(VolumeRef {
                claim_name: "orders-b-0-v1".to_owned(),
                claim_uid: "c".to_owned(),
                generation: 1,
                condemned: false,
            }),
            ..EngineDirectorySpec::default()
        }
    }

    fn report(epoch: u64, nonce: &str, rows: u64) -> Report {
        Report {
            epoch: Epoch::new(epoch),
            boot_nonce: nonce.to_owned(),
            renew_time: "2026-01-01T00:00:00Z".to_owned(),
            rows: Some(rows),
            ..Report::default()
        }
    }

    fn open(folder: &std::path::Path) -> Records {
        let layout = Layout::new(folder.to_owned());
        std::fs::create_dir_all(layout.slots()).unwrap();
        Records::load(layout).unwrap()
    }

    fn change(spec: EngineDirectorySpec, change: Option<OwnerChangeReason>) -> Change {
        Change { spec, state: DirectoryState::Starting, change, conditions: Vec::new() }
    }

    fn claimed_by(nonce: &str) -> Claim {
        Claim { pod_uid: "pod-a".to_owned(), boot_nonce: nonce.to_owned(), boot_id: "boot".to_owned() }
    }

    fn owned(folder: &std::path::Path) -> Records {
        let mut records = open(folder);
        records.create(0, spec(1, "pod-a", "")).unwrap();
        records.claim(0, "pod-a", claimed_by("n1")).unwrap();
        let version = records.get(0).unwrap().version;
        records.update(0, &version, change(spec(1, "pod-a", "n1"), None), "").unwrap();
        records
    }

    /// G1.
    #[test]
    fn a_write_on_an_older_version_is_a_conflict_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = owned(folder.path());
        let stale = records.get(0).unwrap().version;
        records.report(0, "pod-a", report(1, "n1", 5)).unwrap();
        let before = records.get(0).unwrap();
        let rebound = change(spec(2, "pod-b", ""), Some(OwnerChangeReason::Rebound));
        let outcome = records.update(0, &stale, rebound, "");
        assert!(matches!(outcome, Err(RecordError::Conflict { slot: 0 })));
        assert_eq!(records.get(0).unwrap().spec, before.spec);
    }

    #[test]
    fn admission_refuses_reports_of_strangers_and_of_older_epochs() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = owned(folder.path());
        for (caller, sent) in
            [("pod-b", report(1, "n1", 1)), ("pod-a", report(1, "n2", 1)), ("pod-a", report(2, "n1", 1))]
        {
            let outcome = records.report(0, caller, sent);
            assert!(matches!(outcome, Err(RecordError::Refused { .. })), "{caller}");
        }
        assert!(matches!(records.claim(0, "pod-a", claimed_by("n2")), Err(RecordError::Refused { .. })));
    }

    #[test]
    fn a_result_survives_a_crash_and_a_renewal_alone_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = owned(folder.path());
        let version = records.get(0).unwrap().version;
        assert!(!records.report(0, "pod-a", report(1, "n1", 7)).unwrap());
        assert!(!records.changed_since(0, &version), "its owner's renewal wakes nobody");
        assert_ne!(records.get(0).unwrap().version, version, "but it is another version");
        assert_eq!(open(folder.path()).get(0).unwrap().status.report, None, "and it is not on the disk");

        let mut done = report(1, "n1", 9);
        done.result = Some(WorkResult {
            work_id: "plan".to_owned(),
            epoch: Epoch::new(1),
            digest: "x".to_owned(),
            ..WorkResult::default()
        });
        assert!(records.report(0, "pod-a", done.clone()).unwrap());
        assert!(records.changed_since(0, &version));
        assert_eq!(open(folder.path()).get(0).unwrap().status.report, Some(done));
    }

    /// I4: it is proof, so that it stands on the disk before the volume goes to anybody else, also of a former owner.
    #[test]
    fn a_release_survives_a_crash_and_is_taken_from_the_last_owner_of_the_volume_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = owned(folder.path());
        let version = records.get(0).unwrap().version;
        let word = LastWord::of(&records.get(0).unwrap(), "pod-a", "n1").unwrap();
        assert_eq!(LastWord::of(&records.get(0).unwrap(), "pod-a", "n2"), None, "another process of that pod");
        let outcome = records.release(0, "pod-b", word.clone());
        assert!(matches!(outcome, Err(RecordError::Refused { .. })), "{outcome:?}");
        assert!(records.release(0, "pod-a", word.clone()).unwrap());
        assert!(records.changed_since(0, &version), "the parent's write on what it saw before is a conflict");
        let kept = open(folder.path()).get(0).unwrap().status.released;
        assert_eq!(kept, [("pod-a".to_owned(), word.release)].into());
        assert!(matches!(records.report(0, "pod-a", report(1, "n1", 3)), Err(RecordError::Refused { .. })));
    }

    #[test]
    fn the_history_remembers_the_last_changes_of_owner_with_their_pod() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = open(folder.path());
        records.create(0, spec(1, "", "")).unwrap();
        for epoch in 2..30 {
            let version = records.get(0).unwrap().version;
            let time = format!("2026-01-01T00:00:{epoch:02}Z");
            let rebound = change(spec(epoch, "", ""), Some(OwnerChangeReason::Rebound));
            records.update(0, &version, rebound, &time).unwrap();
        }
        let version = records.get(0).unwrap().version;
        let mut bound = spec(29, "pod", "");
        bound.grant.as_mut().unwrap().node_name = "here".to_owned();
        records.update(0, &version, change(bound, None), "").unwrap();
        let status = records.get(0).unwrap().status;
        assert_eq!(status.history.len(), HISTORY_LENGTH);
        let last = status.history.last().unwrap();
        assert_eq!((last.epoch, last.pod_uid.as_str(), last.volume_generation), (Epoch::new(29), "pod", 1));
        assert_eq!(last.node_name, "here");
    }
}
