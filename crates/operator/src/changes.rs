//! What a write of ours changes of an object: the fields that this version knows, one by one, so that what another version
//! has put beside them stays as it is.

use indexbuild_api::{EngineDirectorySpec, EngineDirectoryStatus, FrozenStage, IndexBuildStatus};
use json_patch::jsonptr::{Pointer, PointerBuf};
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde_json::{Map, Value, json};

/// Lists whose items are known by a field: an item stays the same one, with all that stands in it, wherever it is in the list.
const KEYED: [(&str, &str); 6] = [
    ("chosen", "workId"),
    ("conditions", "type"),
    ("formerVolumes", "claimName"),
    ("frozenStages", "name"),
    ("history", "epoch"),
    ("workFailures", "workId"),
];

/// What of a record goes with its epoch. Whatever another version wrote there speaks of that owner, that work, that volume as it
/// was then: beside the next one's it would be false evidence.
const OF_THE_EPOCH: [&str; 3] = ["grant", "volume", "work"];

/// What a write of a record's spec changes, of a record that still is as `before`.
pub(crate) fn of_spec(before: &EngineDirectorySpec, after: &EngineDirectorySpec) -> Vec<PatchOperation> {
    let epoch = |spec: &EngineDirectorySpec| spec.grant.as_ref().map(|grant| grant.epoch);
    let same_owner = epoch(before) == epoch(after);
    let (mut before, mut after) = (json!(before), json!(after));
    let mut operations = Vec::new();
    let at = place("/spec");
    if !same_owner {
        for part in OF_THE_EPOCH {
            match (take(&mut before, part), take(&mut after, part)) {
                (_, Some(value)) => operations.push(add(below(&at, part), value)),
                (Some(_), None) => operations.push(remove(below(&at, part))),
                (None, None) => {}
            }
        }
    }
    differ(&at, &before, &after, &mut operations);
    operations
}

/// What a write of the operator's part of a record's status changes. `before`: the status there; `None`: there is none. `claim`,
/// `report` and `released` are the owners', and are never in it.
pub(crate) fn of_record_status(
    before: Option<&EngineDirectoryStatus>,
    after: &EngineDirectoryStatus,
) -> Vec<PatchOperation> {
    let ours = |status: &EngineDirectoryStatus| {
        let EngineDirectoryStatus { state, conditions, history, claim: _, report: _, released: _ } = status.clone();
        json!(EngineDirectoryStatus { state, conditions, history, ..EngineDirectoryStatus::default() })
    };
    of_status(before.map(ours), ours(after))
}

/// What a write of a build's status changes, but for the list of frozen stages, which has writes of its own.
pub(crate) fn of_build_status(before: Option<&IndexBuildStatus>, after: &IndexBuildStatus) -> Vec<PatchOperation> {
    let told = |status: &IndexBuildStatus| json!(IndexBuildStatus { frozen_stages: None, ..status.clone() });
    of_status(before.map(told), told(after))
}

/// What a write of the list of frozen stages changes of a build's status.
pub(crate) fn of_stages(before: Option<&IndexBuildStatus>, stages: &[FrozenStage]) -> Vec<PatchOperation> {
    let list = |stages: Option<&[FrozenStage]>| {
        let field = stages.map(|stages| ("frozenStages".to_owned(), json!(stages)));
        Value::Object(field.into_iter().collect::<Map<_, _>>())
    };
    of_status(before.map(|before| list(before.frozen_stages.as_deref())), list(Some(stages)))
}

fn of_status(before: Option<Value>, after: Value) -> Vec<PatchOperation> {
    let at = place("/status");
    let Some(before) = before else {
        return vec![add(at, after)];
    };
    let mut operations = Vec::new();
    differ(&at, &before, &after, &mut operations);
    operations
}

/// What makes one value of the other, as this version writes both. A value is put where it belongs by `add`, which replaces what is
/// there; what is removed is there, as it is not the value that an absence stands for.
fn differ(at: &Pointer, before: &Value, after: &Value, operations: &mut Vec<PatchOperation>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                operations.push(remove(below(at, name)));
            }
            for (name, value) in after {
                match before.get(name) {
                    Some(before) => differ(&below(at, name), before, value, operations),
                    None => operations.push(add(below(at, name), value.clone())),
                }
            }
        }
        (Value::Array(items), Value::Array(wanted)) => match of_items(at, items, wanted) {
            Some(changes) => operations.extend(changes),
            None => operations.push(add(at.to_owned(), after.clone())),
        },
        _ => operations.push(add(at.to_owned(), after.clone())),
    }
}

/// What makes one list of the other, item by item. `None`: its items are not known by anything, or change places.
fn of_items(at: &Pointer, before: &[Value], after: &[Value]) -> Option<Vec<PatchOperation>> {
    let list = at.last()?.decoded().into_owned();
    let key = KEYED.iter().find(|(name, _)| *name == list)?.1;
    let ids = |items: &[Value]| -> Option<Vec<Value>> {
        let ids: Vec<Value> = items.iter().map(|item| item.get(key).cloned()).collect::<Option<_>>()?;
        let unique = ids.iter().enumerate().all(|(index, id)| !ids.iter().take(index).any(|other| other == id));
        unique.then_some(ids)
    };
    let (there, wanted) = (ids(before)?, ids(after)?);
    let mut operations = Vec::new();
    let mut present: Vec<(&Value, &Value)> = there.iter().zip(before).collect();
    // From the last to the first, so that the places of those that are still to go are what they were.
    for index in (0..there.len()).rev().filter(|index| !wanted.contains(&there[*index])) {
        operations.push(remove(below(at, &index.to_string())));
        present.remove(index);
    }
    for (index, (id, item)) in wanted.iter().zip(after).enumerate() {
        let place = below(at, &index.to_string());
        match present.get(index) {
            Some((there, before)) if *there == id => differ(&place, before, item, &mut operations),
            _ if there.contains(id) => return None,
            _ => {
                operations.push(add(place, item.clone()));
                present.insert(index, (id, item));
            }
        }
    }
    Some(operations)
}

fn take(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name)
}

fn place(path: &'static str) -> PointerBuf {
    Pointer::from_static(path).to_owned()
}

fn below(at: &Pointer, name: &str) -> PointerBuf {
    let mut path = at.to_owned();
    path.push_back(name);
    path
}

fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}

fn remove(path: PointerBuf) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path })
}

#[cfg(test)]
mod tests {
    use indexbuild_api::{
        Chosen, Claim, Condition, Epoch, FormerVolume, Grant, OwnerChange, Release, Report, VolumeRef, VolumeState,
        Work, WorkCounts,
    };
    use json_patch::Patch;
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// A record as a later version has left it: a field at each place that this version does not know, and a word.
    fn record() -> Value {
        json!({
            "spec": {
                "buildName": "orders", "buildUID": "u", "slot": 0, "renewInterval": "1s", "later": {"a": 1},
                "grant": {"epoch": 3, "podName": "p3", "podUID": "", "bootNonce": "", "later": "of epoch 3"},
                "work": {"id": "encode-0", "kind": "Merge", "inputsDigest": "d", "later": "of epoch 3"},
                "volume": {"claimName": "v1", "generation": 1, "later": "of epoch 3"},
                "formerVolumes": [former("v0", "Frozen"), former("v2", "Stranded")],
                "chosen": [chosen("plan"), chosen("encode-1")],
                "past": {"firstEpoch": 1, "later": 7},
            },
            "status": {
                "state": "Throttled", "later": true,
                "conditions": [{"type": "Waiting", "status": "True", "reason": "Throttled", "message": "m", "later": 1}],
                "history": [change(2), change(3)],
                "report": {"epoch": 3, "bootNonce": "n", "renewTime": "t", "later": 1},
            },
        })
    }

    fn former(name: &str, state: &str) -> Value {
        json!({"claimName": name, "claimUID": "c", "generation": 0, "condemned": false, "podName": "p", "podUID": "u",
            "bootNonce": "n", "epoch": 1, "state": state, "later": name})
    }

    fn chosen(work: &str) -> Value {
        json!({"workId": work, "epoch": 1, "bootNonce": "n", "digest": "d", "later": work})
    }

    fn change(epoch: u64) -> Value {
        json!({"epoch": epoch, "podName": "p", "reason": "Throttled", "time": "t", "later": epoch})
    }

    fn patched(object: &Value, operations: Vec<PatchOperation>) -> Value {
        let mut object = object.clone();
        json_patch::patch(&mut object, &Patch(operations)).unwrap();
        object
    }

    fn spec(record: &Value) -> EngineDirectorySpec {
        parse(record["spec"].clone())
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let record = record();
        assert!(of_spec(&spec(&record), &spec(&record)).is_empty());
        let status: EngineDirectoryStatus = parse(record["status"].clone());
        assert!(of_record_status(Some(&status), &status).is_empty());
    }

    #[test]
    fn what_another_version_wrote_beside_what_is_written_stays_within_an_epoch() {
        let record = record();
        let before = spec(&record);
        let mut after = before.clone();
        after.grant =
            Some(Grant { pod_uid: "u3".to_owned(), node_name: "n1".to_owned(), ..before.grant.clone().unwrap() });
        after.volume = Some(VolumeRef { claim_uid: "c1".to_owned(), ..before.volume.clone().unwrap() });
        after.former_volumes.remove(0);
        after.former_volumes[0].state = VolumeState::Idle;
        after.former_volumes.push(FormerVolume { claim_name: "v9".to_owned(), ..FormerVolume::default() });
        after.chosen.push(Chosen { work_id: "encode-2".to_owned(), ..Chosen::default() });
        after.failed_attempts = 2;
        let now = patched(&record, of_spec(&before, &after));
        assert_eq!(spec(&now), after);
        for (at, stays) in [
            ("/spec/later/a", json!(1)),
            ("/spec/grant/later", json!("of epoch 3")),
            ("/spec/work/later", json!("of epoch 3")),
            ("/spec/work/kind", json!("Merge")),
            ("/spec/volume/later", json!("of epoch 3")),
            ("/spec/past/later", json!(7)),
            ("/spec/formerVolumes/0/later", json!("v2")),
            ("/spec/chosen/1/later", json!("encode-1")),
        ] {
            assert_eq!(now.pointer(at), Some(&stays), "{at}");
        }
        assert_eq!(now.pointer("/spec/formerVolumes/1/later"), None);
    }

    /// A field that is not known and speaks of the former owner would be false evidence about the next one.
    #[test]
    fn with_a_new_epoch_grant_work_and_volume_are_replaced_whole_and_all_else_stays() {
        let record = record();
        let before = spec(&record);
        let next = Grant { epoch: Epoch::new(4), pod_name: "p4".to_owned(), ..Grant::default() };
        for work in [before.work.clone(), None] {
            let after = EngineDirectorySpec { grant: Some(next.clone()), work, ..before.clone() };
            let now = patched(&record, of_spec(&before, &after));
            assert_eq!(spec(&now), after);
            for part in OF_THE_EPOCH {
                assert_eq!(now["spec"][part].get("later"), None, "{part}: {now}");
            }
            assert_eq!(now.pointer("/spec/later/a"), Some(&json!(1)));
            assert_eq!(now.pointer("/spec/chosen/0/later"), Some(&json!("plan")));
        }
    }

    #[test]
    fn of_a_records_status_only_the_operators_part_is_written_and_words_and_fields_of_others_stay() {
        let record = record();
        let before: EngineDirectoryStatus = parse(record["status"].clone());
        let mut after = EngineDirectoryStatus {
            claim: Some(Claim::default()),
            report: Some(Report::default()),
            released: [("pod".to_owned(), Release::default())].into(),
            ..before.clone()
        };
        let waiting: Condition = parse(json!({"type": "Ready", "status": "True", "reason": "Pending", "message": ""}));
        after.conditions.insert(0, waiting);
        after.history.remove(0);
        after.history.push(OwnerChange { epoch: Epoch::new(4), ..before.history[1].clone() });
        let operations = of_record_status(Some(&before), &after);
        let written = serde_json::to_string(&operations).unwrap();
        for field in ["/status/claim", "/status/report", "/status/released"] {
            assert!(!written.contains(field), "{written}");
        }
        let now = patched(&record, operations);
        assert_eq!(now["status"]["report"], record["status"]["report"], "the owner's part is the owner's");
        for (at, stays) in [
            ("/status/state", json!("Throttled")),
            ("/status/later", json!(true)),
            ("/status/conditions/1/reason", json!("Throttled")),
            ("/status/conditions/1/later", json!(1)),
            ("/status/history/0/later", json!(3)),
            ("/status/history/0/reason", json!("Throttled")),
            ("/status/history/1/epoch", json!(4)),
        ] {
            assert_eq!(now.pointer(at), Some(&stays), "{at}: {now}");
        }
        let none = of_record_status(None, &after);
        assert_eq!(none.len(), 1, "the whole of it, where there is none");
        assert!(!serde_json::to_string(&none).unwrap().contains("report"), "{none:?}");
    }

    #[test]
    fn a_builds_status_is_written_beside_its_frozen_stages_and_they_beside_it() {
        let object = json!({"status": {
            "observedGeneration": 1, "phase": "Throttling", "later": 1,
            "works": {"stage": "encode", "total": 4, "done": 1, "later": 2},
            "frozenStages": [{"name": "plan", "digest": "d", "later": 3}],
            "lastWait": {"reason": "Throttled", "message": "m", "since": "t"},
        }});
        let before: IndexBuildStatus = parse(object["status"].clone());
        let after = IndexBuildStatus {
            works: Some(WorkCounts { stage: "encode".to_owned(), total: 4, done: 2 }),
            rows: Some(10),
            last_wait: None,
            frozen_stages: None,
            ..before.clone()
        };
        let now = patched(&object, of_build_status(Some(&before), &after));
        assert_eq!(now["status"]["frozenStages"], object["status"]["frozenStages"]);
        assert_eq!(now["status"]["works"], json!({"stage": "encode", "total": 4, "done": 2, "later": 2}));
        assert_eq!((&now["status"]["later"], &now["status"]["phase"]), (&json!(1), &json!("Throttling")));
        assert_eq!(now["status"].get("lastWait"), None);
        let stages = [("plan", "d"), ("encode", "e")];
        let stages = stages.map(|(name, digest)| FrozenStage { name: name.to_owned(), digest: digest.to_owned() });
        let now = patched(&now, of_stages(Some(&after), &[]));
        let all = patched(&object, of_stages(Some(&before), &stages));
        assert_eq!(now["status"]["rows"], 10);
        assert_eq!(all["status"]["frozenStages"][0]["later"], 3);
        assert_eq!(all["status"]["frozenStages"][1], json!({"name": "encode", "digest": "e"}));
        assert_eq!(all["status"]["phase"], "Throttling");
    }

    /// G2: the API server refuses any change of what was chosen; a list in another order is written whole, and means the same.
    #[test]
    fn what_is_made_of_a_list_is_what_was_wanted_whatever_goes_comes_and_stays() {
        let names = ["a", "b", "c", "d"];
        let list = |kept: usize| -> Vec<Chosen> {
            let kept = names.iter().enumerate().filter(|(index, _)| kept >> index & 1 == 1);
            kept.map(|(_, name)| Chosen { work_id: (*name).to_owned(), ..Chosen::default() }).collect()
        };
        let mut lists: Vec<Vec<Chosen>> = (0..16).map(list).collect();
        lists.push(list(15).into_iter().rev().collect());
        for before in &lists {
            for after in &lists {
                let spec = |chosen: &Vec<Chosen>| EngineDirectorySpec {
                    chosen: chosen.clone(),
                    work: Some(parse::<Work>(json!({"id": "plan", "kind": "Plan", "inputsDigest": ""}))),
                    ..EngineDirectorySpec::default()
                };
                let now = patched(&json!({"spec": spec(before)}), of_spec(&spec(before), &spec(after)));
                assert_eq!(parse::<EngineDirectorySpec>(now["spec"].clone()), spec(after));
            }
        }
    }
}
