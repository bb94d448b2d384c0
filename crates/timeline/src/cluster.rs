//! The timeline of a build on a cluster, from its records: their history, and the ends of its pods.

use indexbuild_api::{EngineDirectory, Epoch, OwnerChange, OwnerChangeReason};

use crate::timeline::{Entry, SlotEvent, why};

/// The end of a pod, as its kubelet reported it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodEnd {
    pub slot: u32,
    pub pod: String,
    /// When (RFC 3339).
    pub at: String,
    pub how: String,
}

/// A warning about a slot: an event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotWarning {
    pub slot: u32,
    /// When (RFC 3339).
    pub at: String,
    pub text: String,
}

/// What is known of a build's owners. It grows with each record that is added: a record remembers only its last changes,
/// and is removed when no volume of its slot is held any more.
#[derive(Clone, Debug, Default)]
pub struct OwnershipHistory {
    changes: std::collections::BTreeMap<(u32, Epoch), OwnerChange>,
    ends: std::collections::BTreeSet<PodEnd>,
    warnings: std::collections::BTreeSet<SlotWarning>,
}

impl OwnershipHistory {
    /// Adds the owners that a record names.
    pub fn add_record(&mut self, record: &EngineDirectory) {
        let slot = record.spec.slot;
        for change in record.status.iter().flat_map(|status| &status.history) {
            self.changes.insert((slot, change.epoch), change.clone());
        }
        // What waits to be told there: a change, or the end of a work.
        for change in &record.spec.untold {
            let known = self.changes.entry((slot, change.epoch));
            known.and_modify(|known| fill_empty(known, change)).or_insert_with(|| change.clone());
        }
        if let Some(change) = present_owner(record) {
            // The time comes from the history; owner, nonce and node come from the grant, which is newer.
            let since = self.changes.get(&(slot, change.epoch)).map(|known| known.time.clone());
            let change = OwnerChange { time: since.unwrap_or_else(|| change.time.clone()), ..change };
            self.changes.entry((slot, change.epoch)).and_modify(|known| fill_empty(known, &change)).or_insert(change);
        }
    }

    pub fn add_pod_end(&mut self, end: PodEnd) {
        self.ends.insert(end);
    }

    pub fn add_warning(&mut self, warning: SlotWarning) {
        self.warnings.insert(warning);
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The slots whose earlier changes are lost, each with the first epoch that is known.
    pub fn incomplete(&self) -> Vec<(u32, Epoch)> {
        let mut first: Vec<(u32, Epoch, OwnerChangeReason)> = Vec::new();
        for ((slot, epoch), change) in &self.changes {
            if first.last().is_none_or(|(known, _, _)| known != slot) {
                first.push((*slot, *epoch, change.reason));
            }
        }
        let begun = |reason| reason == OwnerChangeReason::FirstOwner;
        first.into_iter().filter(|(_, _, reason)| !begun(*reason)).map(|(slot, epoch, _)| (slot, epoch)).collect()
    }

    /// The entries of the timeline, in their order.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut add = |at: &str, slot: u32, what: SlotEvent| {
            if let Some(at) = millis(at) {
                entries.push(Entry { at, slot, what });
            }
        };
        for ((slot, epoch), change) in &self.changes {
            let OwnerChange {
                epoch: _,
                pod_uid: _,
                pod_name,
                reason,
                time,
                volume_generation,
                claim_name,
                boot_nonce,
                node_name,
                work_id,
                work_ended,
            } = change;
            if work_id.is_empty() {
                let what = SlotEvent::Released { epoch: epoch.before(), why: why(*reason).to_owned() };
                add(time, *slot, what);
                continue;
            }
            let granted = SlotEvent::Granted {
                epoch: *epoch,
                pod: pod_name.clone(),
                work: Some(work_id.clone()),
                // A volume that came back has another number in the record than in its name.
                volume: volume_number(claim_name).unwrap_or(*volume_generation),
                reason: *reason,
                claim: Some(claim_name.clone()).filter(|name| !name.is_empty()),
            };
            add(time, *slot, granted);
            if !boot_nonce.is_empty() {
                let node = Some(node_name.clone()).filter(|name| !name.is_empty());
                add(time, *slot, SlotEvent::Bound { epoch: *epoch, boot_nonce: boot_nonce.clone(), node });
            }
            if let Some(ended) = work_ended {
                add(ended, *slot, SlotEvent::Done { epoch: *epoch });
            }
        }
        for PodEnd { slot, pod, at, how } in &self.ends {
            add(at, *slot, SlotEvent::Ended { pod: pod.clone(), how: how.clone() });
        }
        for SlotWarning { slot, at, text } in &self.warnings {
            add(at, *slot, SlotEvent::Note { text: text.clone() });
        }
        entries.sort_by_key(|entry| entry.at);
        entries
    }
}

/// The present owner, from the record's spec: the history may not have it yet.
fn present_owner(record: &EngineDirectory) -> Option<OwnerChange> {
    let grant = record.spec.grant.as_ref()?;
    let status = record.status.clone().unwrap_or_default();
    let volume = record.spec.volume.as_ref();
    let made = record.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    Some(OwnerChange {
        epoch: grant.epoch,
        pod_uid: grant.pod_uid.clone(),
        pod_name: grant.pod_name.clone(),
        reason: OwnerChangeReason::FirstOwner,
        time: made,
        volume_generation: volume.map_or(0, |volume| volume.generation),
        claim_name: volume.map(|volume| volume.claim_name.clone()).unwrap_or_default(),
        boot_nonce: grant.boot_nonce.clone(),
        node_name: grant.node_name.clone(),
        work_id: record.spec.work.as_ref().map(|work| work.id.clone()).unwrap_or_default(),
        work_ended: work_ended(record),
    })
    .filter(|change| {
        let noted = record.spec.untold.iter().any(|known| known.epoch == change.epoch);
        // The history gets its entry a moment after the grant. Until then, only a first owner's time is known: the record's
        // creation.
        noted || status.history.iter().any(|known| known.epoch == change.epoch) || status.history.is_empty()
    })
}

fn fill_empty(known: &mut OwnerChange, now: &OwnerChange) {
    for (known, now) in [
        (&mut known.pod_uid, &now.pod_uid),
        (&mut known.boot_nonce, &now.boot_nonce),
        (&mut known.node_name, &now.node_name),
    ] {
        if known.is_empty() {
            known.clone_from(now);
        }
    }
    known.work_ended = known.work_ended.take().or_else(|| now.work_ended.clone());
}

/// The number in a claim's name: `orders-0b7e1c9a-3-v2`.
fn volume_number(claim_name: &str) -> Option<u32> {
    claim_name.rsplit_once("-v")?.1.parse().ok()
}

/// When the present owner's work was done, if it is: the history has it once the next work is granted.
fn work_ended(record: &EngineDirectory) -> Option<String> {
    let result = record.status.as_ref()?.report.as_ref()?.result.as_ref()?;
    let present = record.spec.grant.as_ref().is_some_and(|grant| grant.epoch == result.epoch);
    result.finished.clone().filter(|_| present)
}

fn millis(time: &str) -> Option<u64> {
    u64::try_from(time.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{EngineDirectorySpec, EngineDirectoryStatus, Grant, VolumeRef, Work, WorkKind};

    use super::*;
    use crate::timeline::{text, timeline_until};

    fn change(epoch: u64, second: u32, reason: OwnerChangeReason, work: &str, claim: &str, node: &str) -> OwnerChange {
        OwnerChange {
            epoch: Epoch::new(epoch),
            pod_uid: format!("uid-{epoch}"),
            pod_name: format!("o-1-e{epoch}"),
            reason,
            time: format!("2026-01-01T00:00:{second:02}Z"),
            volume_generation: u32::try_from(epoch).unwrap(),
            claim_name: claim.to_owned(),
            boot_nonce: format!("{epoch}{epoch}{epoch}{epoch}-nonce"),
            node_name: node.to_owned(),
            work_id: work.to_owned(),
            work_ended: None,
        }
    }

    fn record(history: Vec<OwnerChange>, epoch: u64, nonce: &str) -> EngineDirectory {
        let spec = EngineDirectorySpec {
            build_name: "o".to_owned(),
            build_uid: "b".to_owned(),
            slot: 1,
            grant: Some(Grant {
                epoch: Epoch::new(epoch),
                pod_name: format!("o-1-e{epoch}"),
                boot_nonce: nonce.to_owned(),
                ..Grant::default()
            }),
            work: Some(Work {
                id: "encode-1".to_owned(),
                kind: WorkKind::Encode,
                inputs_digest: String::new(),
                runs: indexbuild_api::RunLocation::Store,
                splits: Vec::new(),
                inputs: Vec::new(),
                input_digests: Vec::new(),
                removes_index: false,
                keeps_volume: false,
            }),
            volume: Some(VolumeRef { claim_name: format!("o-1-v{epoch}"), ..VolumeRef::default() }),
            ..EngineDirectorySpec::default()
        };
        let mut record = EngineDirectory::new("o-1", spec);
        record.status = Some(EngineDirectoryStatus { history, ..EngineDirectoryStatus::default() });
        record
    }

    /// Cut off, replaced on another node, and given back to the first volume.
    fn returned() -> Vec<OwnerChange> {
        vec![
            change(1, 0, OwnerChangeReason::FirstOwner, "encode-1", "o-1-v1", "node1"),
            change(2, 20, OwnerChangeReason::Replaced, "encode-1", "o-1-v2", "node2"),
            change(3, 30, OwnerChangeReason::Returned, "encode-1", "o-1-v1", "node1"),
            change(4, 40, OwnerChangeReason::OwnerEnded, "", "", ""),
        ]
    }

    #[test]
    fn a_records_history_reads_as_a_table_with_node_pod_and_volume() {
        let mut ownership = OwnershipHistory::default();
        let mut record = record(returned(), 4, "");
        record.spec.work = None;
        ownership.add_record(&record);
        ownership.add_pod_end(PodEnd {
            slot: 1,
            pod: "o-1-e1".to_owned(),
            at: "2026-01-01T00:00:28Z".to_owned(),
            how: "gave way to a newer owner".to_owned(),
        });
        let expected = "\
slot     from       to  directory  work      volume  node   pod     why
1      0.000s  20.000s  1-1111-non  encode-1  o-1-v1  node1  o-1-e1  the slot's first owner (its process lived on until 28.000s: gave way to a newer owner)
1     20.000s  30.000s  2-2222-non  encode-1  o-1-v2  node2  o-1-e2  the former owner was silent too long; new volume
1     28.000s                                                       * o-1-e1: gave way to a newer owner
1     30.000s  40.000s  3-3333-non  encode-1  o-1-v1  node1  o-1-e3  a former owner came back in time
";
        let words = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(words(&text(&timeline_until(&ownership.entries(), 0))), words(expected));
        assert!(ownership.incomplete().is_empty());
    }

    #[test]
    fn a_volume_that_came_back_has_its_own_row_again() {
        let mut ownership = OwnershipHistory::default();
        ownership.add_record(&record(returned(), 4, ""));
        let volumes: Vec<u32> = timeline_until(&ownership.entries(), 0).spans.iter().map(|span| span.volume).collect();
        assert_eq!(volumes[..3], [1, 2, 1]);
    }

    #[test]
    fn what_a_record_forgets_is_kept_from_earlier_reads_and_is_reported_otherwise() {
        let mut ownership = OwnershipHistory::default();
        ownership.add_record(&record(returned()[2..].to_vec(), 4, ""));
        assert_eq!(ownership.incomplete(), vec![(1, Epoch::new(3))]);
        ownership.add_record(&record(returned()[..2].to_vec(), 2, ""));
        assert!(ownership.incomplete().is_empty());
        assert_eq!(timeline_until(&ownership.entries(), 0).spans.len(), 3);
    }

    #[test]
    fn a_first_owner_is_there_before_the_history_says_so_and_gets_its_nonce_later() {
        let mut ownership = OwnershipHistory::default();
        let mut fresh = record(Vec::new(), 1, "");
        fresh.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
        ownership.add_record(&fresh);
        fresh.spec.grant.as_mut().unwrap().boot_nonce = "late".to_owned();
        ownership.add_record(&fresh);
        let now = u64::try_from("2026-01-01T00:00:05Z".parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap();
        let timeline = timeline_until(&ownership.entries(), now);
        assert_eq!(timeline.spans[0].directory, "1-late");
        assert_eq!(timeline.spans[0].to, 5_000);
    }
}
