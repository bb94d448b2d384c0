//! One node is cut off from the API server for longer than `replaceAfter`, and another one crashes and comes back with
//! another boot id. Owners are replaced, return, are rebound; builds are deleted meanwhile; two owners work at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use indexbuild_testbed::{Direction, Peer};
use serde_json::{Value, json};

use crate::short_timers::{SMALL, slow};
use crate::support::{Fixture, NAMESPACE, history, holds, message, prefer, switch, text};

/// Where the operator forgets volumes that a replacement left behind: nobody returns.
pub(crate) const FORGETFUL: &str = "forgetful";
/// Where it takes a pod on a silent node for ended.
pub(crate) const TRUSTING: &str = "trusting";
/// Where it takes any report for the owner's.
pub(crate) const CREDULOUS: &str = "credulous";

/// Deleted during the cut: one keeps its volume; the other one's is to go, but its record is of an older version, and
/// does not say so.
const KEPT: [&str; 2] = ["kept", "kept-unsaid"];

const CUT: &str = "node2";
const CRASHED: &str = "node4";

pub(crate) fn run(fixture: &mut Fixture) {
    let made = builds(fixture);
    fixture.cluster.apply(&made).unwrap();
    let owner = |namespace: &str, name: &str, node: &str| {
        let record = fixture.at_work(namespace, name, 0, 1);
        assert_eq!(text(&record, "/spec/grant/nodeName"), node, "{namespace}/{name} is where it should be");
        record
    };
    let crashed = owner(NAMESPACE, "crashed", CRASHED);
    let crashed_blind = owner(NAMESPACE, "crashed-blind", CRASHED);
    let replaced = owner(NAMESPACE, "replaced", CUT);
    let returned = owner(NAMESPACE, "returned", CUT);
    let deleted = owner(NAMESPACE, "deleted", CUT);
    let kept = KEPT.map(|name| owner(NAMESPACE, name, CUT));
    let forgotten = owner(FORGETFUL, "returned", CUT);
    let trusted = owner(TRUSTING, "replaced", CUT);
    let deleted_on_trust = owner(TRUSTING, "deleted", CUT);
    let mixed = owner(CREDULOUS, "mixed", CUT);

    fixture.cluster.crash_node(CRASHED).unwrap();
    fixture.cluster.cut(CUT, Peer::Api, Direction::Both).unwrap();
    let cut = Instant::now();
    fixture.say(&format!("{CUT} is cut off from the API server, {CRASHED} has crashed"));
    // However long the cut lasts, these replacements have not caught up when it ends. The old owners do not hear of it.
    for (namespace, name) in [(NAMESPACE, "returned"), (CREDULOUS, "mixed")] {
        let patch = json!({"spec": {"rowsPerSecond": 60}}).to_string();
        fixture.kubectl(&["patch", "ib", name, "-n", namespace, "--type=merge", "-p", &patch]);
    }
    for namespace in [NAMESPACE, TRUSTING] {
        fixture.kubectl(&["delete", "ib", "deleted", "-n", namespace, "--wait=false"]);
    }
    for name in KEPT {
        fixture.kubectl(&["delete", "ib", name, "--wait=false"]);
    }
    fixture.cluster.boot_node(CRASHED, true).unwrap();
    let fixture = &*fixture;
    is_replaced(fixture, &replaced);
    is_trusted(fixture, "replaced", &trusted);
    is_rebound(fixture, &crashed);
    for (namespace, before) in [(NAMESPACE, &returned), (FORGETFUL, &forgotten)] {
        fixture.until("the one that will return is replaced", Duration::from_secs(80), |fixture| {
            let now = fixture.slots(namespace, "returned")[0].clone();
            let another = now["spec"]["volume"] != before["spec"]["volume"];
            if another { Ok(()) } else { Err(format!("{:?}", history(&now))) }
        });
    }
    let uid = text(&replaced, "/spec/buildUID").to_owned();
    fixture.until("both owners have done the same work", Duration::from_secs(120), |fixture| {
        let results = fixture.watcher.results(&uid, "encode-0");
        if results.len() == 2 { Ok(()) } else { Err(format!("{results:?}")) }
    });
    is_trusted(fixture, "deleted", &deleted_on_trust);
    is_let_go(fixture, "deleted", &deleted, "Delete");
    for ((name, when_deleted), before) in KEPT.into_iter().zip(["Retain", "Delete"]).zip(&kept) {
        is_let_go(fixture, name, before, when_deleted);
    }
    forget_what_was_asked(fixture, &kept[1]);

    fixture.cluster.heal(CUT).unwrap();
    fixture.say(&format!("healed after {:.1} s", cut.elapsed().as_secs_f64()));
    is_mixed(fixture, &mixed);
    check_two_owners(fixture, &replaced);
    check_return(fixture, &returned, NAMESPACE, true);
    check_return(fixture, &forgotten, FORGETFUL, false);
    fixture.assert_gone(NAMESPACE, "deleted", text(&deleted, "/spec/buildUID"), Duration::from_secs(60));
    fixture.say("deleted: nothing is left");
    for (name, before) in KEPT.into_iter().zip(&kept) {
        is_kept(fixture, name, before);
    }
    let crashed_uid = text(&crashed, "/spec/buildUID");
    fixture.complete("crashed", Duration::from_secs(120));
    fixture.complete("crashed-blind", Duration::from_secs(120));
    fixture.assert_same_as_local(NAMESPACE, "crashed");
    let rebuilt = fixture.watcher.rebuilt(crashed_uid);
    let blind = fixture.watcher.rebuilt(text(&crashed_blind, "/spec/buildUID"));
    fixture.say(&format!("crashed: {rebuilt} rows rebuilt, {blind} where nothing is taken over"));
    assert_eq!(rebuilt, 0, "what was sealed on the crashed node is taken over");
    assert!(blind >= SMALL / 10, "the control: what was sealed is encoded again, {blind} rows");
}

/// Who is cut off has work for 100 s at 200 rows a second. It is replaced some 45 s after it began, and writes then.
fn builds(fixture: &Fixture) -> Vec<Value> {
    let all = [
        (NAMESPACE, "crashed", 1, 200, CRASHED),
        (NAMESPACE, "crashed-blind", 1, 200, CRASHED),
        (NAMESPACE, "replaced", 2, 200, CUT),
        (NAMESPACE, "returned", 1, 200, CUT),
        (NAMESPACE, "deleted", 1, 200, CUT),
        (NAMESPACE, KEPT[0], 1, 200, CUT),
        (NAMESPACE, KEPT[1], 1, 200, CUT),
        (FORGETFUL, "returned", 1, 200, CUT),
        (TRUSTING, "replaced", 1, 100, CUT),
        (TRUSTING, "deleted", 1, 100, CUT),
        (CREDULOUS, "mixed", 1, 200, CUT),
    ];
    let made = all.map(|(namespace, name, slots, rate, node)| {
        let mut build = slow(fixture, name, slots, rate);
        build["metadata"]["namespace"] = json!(namespace);
        prefer(&mut build, node);
        if namespace == CREDULOUS {
            switch(&mut build, &json!({"runBytes": 1, "neverGiveWay": true}));
        }
        if name == KEPT[0] {
            build["spec"]["volume"]["retention"] = json!({"whenDeleted": "Retain"});
        }
        if name == "crashed-blind" {
            switch(&mut build, &json!({"runBytes": 1, "adoptNothing": true}));
        }
        if name.starts_with("crashed") {
            // Longer than a node takes to boot.
            build["spec"]["disruption"]["replaceAfter"] = json!("90s");
        }
        build
    });
    made.to_vec()
}

/// The runs that an owner has sealed so far.
fn sealed_by(fixture: &Fixture, record: &Value) -> BTreeSet<String> {
    let nonce = text(record, "/spec/grant/bootNonce");
    let all = fixture.watcher.sealed(text(record, "/spec/buildUID"));
    all.into_iter().filter(|run| run.nonce == nonce).map(|run| run.name).collect()
}

/// Waits until an owner that is cut off seals one more run: its container writes to its volume.
pub(crate) fn writes_on(fixture: &Fixture, record: &Value) {
    let before = sealed_by(fixture, record).len();
    fixture.until("the container of the owner that is cut off writes", Duration::from_secs(60), |fixture| {
        let now = sealed_by(fixture, record).len();
        if now > before { Ok(()) } else { Err(format!("{now} runs")) }
    });
}

pub(crate) fn claim_of(fixture: &Fixture, namespace: &str, record: &Value) -> Option<Value> {
    let name = text(record, "/spec/volume/claimName");
    fixture.cluster.get(&["pvc", name, "-n", namespace]).ok()
}

/// With proof (the kubelet's word, or another boot id) the volume goes to a new pod.
fn is_rebound(fixture: &Fixture, before: &Value) {
    fixture.until("the crashed node's slot has a new owner on the same volume", Duration::from_secs(60), |fixture| {
        let now = fixture.slots(NAMESPACE, "crashed")[0].clone();
        let another = now["spec"]["grant"]["podName"] != before["spec"]["grant"]["podName"];
        let same = now["spec"]["volume"] == before["spec"]["volume"];
        let bound = !text(&now, "/spec/grant/bootNonce").is_empty();
        if another && same && bound { Ok(()) } else { Err(format!("{} {:?}", now["spec"], history(&now))) }
    });
}

/// Without proof a new owner works on a new volume; the old one is held, and shown.
fn is_replaced(fixture: &Fixture, before: &Value) {
    let now = fixture.until("the silent owner is replaced", Duration::from_secs(60), |fixture| {
        let now = fixture.slots(NAMESPACE, "replaced")[0].clone();
        if history(&now).iter().any(|reason| reason == "Replaced") { Ok(now) } else { Err(now["spec"].to_string()) }
    });
    // First of all, while it has work.
    writes_on(fixture, before);
    let former = &now["spec"]["formerVolumes"][0];
    assert_eq!(former["claimUID"], before["spec"]["volume"]["claimUID"]);
    assert_eq!(former["state"], "Stranded");
    assert_ne!(now["spec"]["volume"]["claimName"], before["spec"]["volume"]["claimName"]);
    fixture.until("the stranded volume is shown", Duration::from_secs(30), |fixture| {
        let said = message(&fixture.read("replaced"), "VolumesHeld");
        if said.starts_with("\"VolumesStranded\"") { Ok(()) } else { Err(said) }
    });
    let claim = claim_of(fixture, NAMESPACE, before).unwrap();
    assert_eq!(claim["metadata"]["deletionTimestamp"], Value::Null, "I4: its container writes, so it stays");
}

/// The control: silence is taken for proof, and the volume of a living container is given up to deletion.
fn is_trusted(fixture: &Fixture, name: &str, before: &Value) {
    fixture.until(
        "the control deletes a volume that is written to",
        Duration::from_secs(90),
        |fixture| match claim_of(fixture, TRUSTING, before) {
            None => Ok(()),
            Some(claim) if claim["metadata"]["deletionTimestamp"] != Value::Null => Ok(()),
            Some(_) => Err(format!("{name}: {:?}", fixture.slots(TRUSTING, name))),
        },
    );
    writes_on(fixture, before);
}

/// A build that is deleted during the cut is let go; its record outlives it for the volume that nobody accounts for, and
/// says what is to become of it.
fn is_let_go(fixture: &Fixture, name: &str, before: &Value, when_deleted: &str) {
    let uid = text(before, "/spec/buildUID");
    fixture.until("the deleted build is let go", Duration::from_secs(90), |fixture| {
        let build = fixture.cluster.get(&["ib", name, "--ignore-not-found"]);
        match build {
            Ok(build) if build["metadata"]["uid"] == uid => Err(build["status"].to_string()),
            _ => Ok(()),
        }
    });
    let record = fixture.slots(NAMESPACE, name)[0].clone();
    assert_eq!(record["status"]["state"], "Tombstone", "{record}");
    assert_eq!(record["spec"]["afterBuild"], json!({"volumes": when_deleted, "replaceAfter": "25s"}));
    let claim = claim_of(fixture, NAMESPACE, before).unwrap();
    assert_eq!(claim["metadata"]["deletionTimestamp"], Value::Null, "I4: its container may write");
}

/// Makes a tombstone one that an older version wrote.
fn forget_what_was_asked(fixture: &Fixture, before: &Value) {
    let patch = json!([{"op": "remove", "path": "/spec/afterBuild"}]).to_string();
    fixture.kubectl(&["patch", "ed", text(before, "/metadata/name"), "--type=json", "-p", &patch]);
}

/// I9: a volume that its deleted build asked to keep, or of which nobody knows, stays when its owner is proved gone; the
/// record that held it goes. The control is `deleted`, of which nothing is left.
fn is_kept(fixture: &Fixture, name: &str, before: &Value) {
    let uid = text(before, "/spec/buildUID");
    fixture.until(&format!("the record of {name} goes"), Duration::from_secs(60), |fixture| {
        let records = fixture.slots(NAMESPACE, name);
        if records.is_empty() { Ok(()) } else { Err(format!("{records:?}")) }
    });
    let claim = claim_of(fixture, NAMESPACE, before).unwrap();
    assert_eq!(claim["metadata"]["deletionTimestamp"], Value::Null, "{name}: its claim stays: {claim}");
    assert_eq!(claim["metadata"]["ownerReferences"], Value::Null, "no garbage collector takes it: {claim}");
    assert_eq!(claim["metadata"]["labels"]["indexbuild.dev/build-uid"], uid, "it is found by its build: {claim}");
    assert_eq!(claim["status"]["phase"], "Bound");
    let volume = fixture.cluster.get(&["pv", text(&claim, "/spec/volumeName")]).unwrap();
    assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"], "{name}: its volume stays: {volume}");
    assert_eq!(volume["status"]["phase"], "Bound");
    assert!(!fixture.watcher.files_of_volumes(uid).is_empty(), "{name}: what its owner wrote is there");
    let about = format!("involvedObject.uid={},reason=VolumesRetained", text(&claim, "/metadata/uid"));
    let told = fixture.until("people are told why it is there", Duration::from_secs(20), |fixture| {
        let events = fixture.cluster.get(&["events", "-n", NAMESPACE, "--field-selector", &about]);
        let events = events.map_err(|error| error.to_string())?;
        let told = text(&events, "/items/0/message").to_owned();
        if told.is_empty() { Err(events.to_string()) } else { Ok(told) }
    });
    let claim = text(before, "/spec/volume/claimName");
    assert!(told.contains(uid) && told.contains(&format!("kubectl delete pvc -n {NAMESPACE} {claim}")), "{told}");
    fixture.say(&format!("{name}: {told}"));
}

/// I1: of two owners that both did the work, the present one counts.
fn check_two_owners(fixture: &Fixture, before: &Value) {
    let uid = text(before, "/spec/buildUID");
    fixture.complete("replaced", Duration::from_secs(90));
    fixture.assert_same_as_local(NAMESPACE, "replaced");
    let chosen = chosen_nonce(fixture, NAMESPACE, "replaced", uid);
    assert_ne!(chosen, before["spec"]["grant"]["bootNonce"], "the one whose epoch is over");
    fixture.until("the stranded volume is cleaned after the heal", Duration::from_secs(60), |fixture| {
        let there = claim_of(fixture, NAMESPACE, before).is_some();
        let held = holds(&fixture.read("replaced"), "VolumesHeld");
        if there || held { Err(format!("claim {there}, held {held}")) } else { Ok(()) }
    });
    fixture.say(&format!("replaced: {} rows rebuilt; its old volume is cleaned", fixture.watcher.rebuilt(uid)));
}

/// The process whose Encode the manifest names: one.
fn chosen_nonce(fixture: &Fixture, namespace: &str, name: &str, uid: &str) -> String {
    let manifest = fixture.manifest(namespace, name, uid);
    let works = manifest["works"].as_array().unwrap();
    let chosen: Vec<_> = works.iter().filter(|work| work["workId"] == "encode-0").collect();
    assert_eq!(chosen.len(), 1, "{works:?}");
    text(chosen[0], "/bootNonce").to_owned()
}

/// An owner that comes back before its replacement has caught up: what it sealed counts.
fn check_return(fixture: &Fixture, before: &Value, namespace: &str, counts: bool) {
    let sealed = sealed_by(fixture, before);
    let build = fixture.complete_in(namespace, "returned", Duration::from_secs(120));
    fixture.assert_same_as_local(namespace, "returned");
    assert_eq!(build["status"]["rows"], SMALL);
    let uid = text(before, "/spec/buildUID");
    let results = fixture.watcher.results(uid, "encode-0");
    // An owner that has ended its work while it was cut off has a result, which nobody takes where it does not return.
    let chosen = chosen_nonce(fixture, namespace, "returned", uid);
    let named: BTreeSet<String> = results
        .iter()
        .filter(|(attempt, _)| attempt.ends_with(&chosen))
        .flat_map(|(_, result)| {
            let runs = result["runs"].as_array().cloned().unwrap_or_default();
            runs.into_iter().map(|run| text(&run, "/name").trim_end_matches(".run").to_owned())
        })
        .collect();
    let kept = sealed.intersection(&named).count();
    let rebuilt = fixture.watcher.rebuilt(uid);
    fixture.say(&format!("returned ({namespace}): {kept} of {} runs count, {rebuilt} rows rebuilt", sealed.len()));
    if counts {
        assert_eq!(kept, sealed.len(), "what the old owner sealed counts: {sealed:?}, {named:?}");
    } else {
        assert_eq!(kept, 0, "the control: its work is lost");
    }
}

/// The control of "exactly one is chosen": where any report is taken for the owner's, a result is chosen that the
/// owner does not have.
fn is_mixed(fixture: &Fixture, before: &Value) {
    let uid = text(before, "/spec/buildUID").to_owned();
    let chosen = fixture.until("the control chooses", Duration::from_secs(60), |fixture| {
        let stage = format!("mixed-{}-encode", &uid[..8]);
        let map = fixture.cluster.get(&["configmap", &stage, "-n", CREDULOUS]).map_err(|error| error.to_string())?;
        let stage: Value = serde_json::from_str(text(&map, "/data/stage.json")).map_err(|error| error.to_string())?;
        Ok(stage["chosen"][0].clone())
    });
    let attempt = format!("{}-{}", chosen["epoch"], text(&chosen, "/bootNonce"));
    let results = fixture.watcher.results(&uid, "encode-0");
    let there = results.contains_key(&attempt);
    assert_ne!(chosen["bootNonce"], before["spec"]["grant"]["bootNonce"]);
    assert!(!there, "the control: {attempt} is chosen and there is no such result: {results:?}");
}
