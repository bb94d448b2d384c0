//! The rules of the record: who may become owner, and what may never change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use indexbuild_api::{
    AfterBuild, Attached, Chosen, Duration, EngineDirectorySpec, Epoch, FormerVolume, Grant, Past, Retention,
    RunLocation, VolumeRef, VolumeState, Work, WorkKind, crds,
};
use indexbuild_check::check_directory_spec;

fn work(id: &str) -> Work {
    Work {
        id: id.to_owned(),
        kind: WorkKind::Encode,
        inputs_digest: "00ff".to_owned(),
        runs: RunLocation::Store,
        splits: Vec::new(),
        inputs: vec!["plan".to_owned()],
        input_digests: Vec::new(),
        removes_index: false,
        keeps_volume: false,
    }
}

fn chosen(work: &str, epoch: u64) -> Chosen {
    Chosen {
        work_id: work.to_owned(),
        epoch: Epoch::new(epoch),
        boot_nonce: "n1".to_owned(),
        digest: "abcd".to_owned(),
        ..Chosen::default()
    }
}

/// A record of epoch 3 whose pod exists and whose process has claimed.
fn record() -> EngineDirectorySpec {
    EngineDirectorySpec {
        build_name: "orders".to_owned(),
        build_uid: "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e".to_owned(),
        slot: 0,
        failed_attempts: 0,
        work_failures: Vec::new(),
        renew_interval: indexbuild_api::renew_interval(1),
        grant: Some(Grant {
            epoch: Epoch::new(3),
            pod_name: "orders-0b7e1c9a-0-e2".to_owned(),
            pod_uid: "p1".to_owned(),
            boot_nonce: "n1".to_owned(),
            node_name: "node1".to_owned(),
            boot_id: "b1".to_owned(),
            system_uuid: "m1".to_owned(),
            ..Grant::default()
        }),
        work: Some(work("encode-0")),
        volume: Some(VolumeRef {
            claim_name: "orders-0b7e1c9a-0-v1".to_owned(),
            claim_uid: "c1".to_owned(),
            generation: 1,
            condemned: false,
        }),
        former_volumes: vec![FormerVolume {
            claim_name: "orders-0b7e1c9a-0-v0".to_owned(),
            claim_uid: "c0".to_owned(),
            condemned: true,
            state: VolumeState::Stranded,
            ..FormerVolume::default()
        }],
        chosen: vec![chosen("plan", 1)],
        past: Past { first_epoch: Epoch::new(1), ..Past::default() },
        after_build: Some(AfterBuild { volumes: Retention::Retain, replace_after: Duration::from_secs(600) }),
        untold: Vec::new(),
    }
}

fn attached(node: &str) -> Option<Attached> {
    Some(Attached { driver: "ebs.csi.aws.com".to_owned(), volume: "pv-1".to_owned(), node: node.to_owned() })
}

type Change = fn(&mut EngineDirectorySpec);

fn grant(spec: &mut EngineDirectorySpec) -> &mut Grant {
    spec.grant.as_mut().unwrap()
}

/// Before any pod of it is bound.
fn unbound(grant: &Grant) -> Grant {
    Grant { epoch: grant.epoch, pod_name: grant.pod_name.clone(), ..Grant::default() }
}

fn volume(spec: &mut EngineDirectorySpec) -> &mut VolumeRef {
    spec.volume.as_mut().unwrap()
}

fn outcome(before: Change, after: Change) -> Result<(), String> {
    let mut old = record();
    before(&mut old);
    let mut new = old.clone();
    after(&mut new);
    check_directory_spec(Some(&old), &new).map_err(|error| error.to_string())
}

fn nothing(_: &mut EngineDirectorySpec) {}

/// G2, G3, G7: what the operator does in a build's life passes.
#[test]
fn what_the_protocol_does_is_accepted() {
    let cases: [(&str, Change, Change); 18] = [
        ("nothing changes", nothing, nothing),
        (
            "the first grant",
            |s| (s.grant, s.work) = (None, None),
            |s| {
                s.grant = record().grant;
                s.work = record().work;
            },
        ),
        (
            "the pod's UID is filled in, with its node",
            |s| *grant(s) = unbound(grant(s)),
            |s| (grant(s).pod_uid, grant(s).node_name) = ("p1".into(), "node1".into()),
        ),
        (
            "the nonce is bound, with the kernel that its process has said",
            |s| *grant(s) = Grant { pod_uid: "p1".into(), node_name: "node1".into(), ..unbound(grant(s)) },
            |s| (grant(s).boot_nonce, grant(s).boot_id) = ("n1".into(), "b1".into()),
        ),
        (
            "the machine is filled in once its Node shows that kernel",
            |s| grant(s).system_uuid = String::new(),
            |s| grant(s).system_uuid = "m1".into(),
        ),
        ("a new owner", nothing, |s| {
            s.grant = Some(Grant { epoch: Epoch::new(4), pod_name: "orders-0b7e1c9a-0-e4".into(), ..Grant::default() });
        }),
        ("the same process takes its next work", nothing, |s| {
            grant(s).epoch = Epoch::new(4);
            s.work = Some(work("encode-1"));
        }),
        ("the work is taken away with the epoch", nothing, |s| {
            grant(s).epoch = Epoch::new(4);
            s.work = None;
        }),
        ("another result is chosen", nothing, |s| s.chosen.push(chosen("encode-0", 3))),
        ("the choice is emptied once it is frozen", nothing, |s| s.chosen.clear()),
        ("the volume is condemned", nothing, |s| volume(s).condemned = true),
        ("a new volume", nothing, |s| {
            *volume(s) = VolumeRef { claim_name: "orders-0b7e1c9a-0-v2".into(), generation: 2, ..VolumeRef::default() };
            grant(s).epoch = Epoch::new(4);
        }),
        (
            "the claim's UID is filled in",
            |s| volume(s).claim_uid = String::new(),
            |s| volume(s).claim_uid = "c1".into(),
        ),
        ("a former volume is accounted for", nothing, |s| s.former_volumes.clear()),
        (
            "the volume of the process that is bound is attached",
            |s| grant(s).boot_nonce = String::new(),
            |s| *grant(s) = Grant { attached: attached("node-1"), ..record().grant.unwrap() },
        ),
        (
            "that goes on with the process",
            |s| grant(s).attached = attached("node-1"),
            |s| {
                grant(s).epoch = Epoch::new(4);
                s.work = Some(work("encode-1"));
            },
        ),
        ("it is forgotten", |s| grant(s).attached = attached("node-1"), |s| grant(s).attached = None),
        (
            "it stays with what the process had",
            |s| grant(s).attached = attached("node-1"),
            |s| {
                let former =
                    FormerVolume { claim_name: "v1".into(), attached: attached("node-1"), ..FormerVolume::default() };
                s.former_volumes.push(former);
                s.grant =
                    Some(Grant { epoch: Epoch::new(4), pod_name: "orders-0b7e1c9a-0-e4".into(), ..Grant::default() });
            },
        ),
    ];
    for (what, before, after) in cases {
        assert_eq!(outcome(before, after), Ok(()), "{what}");
    }
}

/// G1 to G3, G7, G9: each rule refuses what it is there for.
#[test]
fn what_the_protocol_forbids_is_refused() {
    const ATTACHED: &str = "that a volume was attached is said in the write that binds the process, once, and goes with that process alone";
    const EPOCH: &str = "the epoch rises by one with every change of owner; within an epoch podUID, bootNonce and the machine are set once";
    const MACHINE: &str = "the machine is that of a bound process";
    let cases: [(&str, Change, Change, &str); 31] = [
        ("another build", nothing, |s| s.build_uid = "x".into(), "the slot's identity is immutable"),
        ("another slot", nothing, |s| s.slot = 1, "the slot's identity is immutable"),
        ("the epoch falls", nothing, |s| grant(s).epoch = Epoch::new(2), EPOCH),
        ("the epoch jumps", nothing, |s| grant(s).epoch = Epoch::new(5), EPOCH),
        ("the grant is taken back", nothing, |s| (s.grant, s.work) = (None, None), EPOCH),
        ("another pod in the same epoch", nothing, |s| grant(s).pod_uid = "p2".into(), EPOCH),
        ("another process in the same epoch", nothing, |s| grant(s).boot_nonce = "n2".into(), EPOCH),
        ("another name in the same epoch", nothing, |s| grant(s).pod_name = "x".into(), EPOCH),
        ("the nonce is emptied", nothing, |s| grant(s).boot_nonce = String::new(), EPOCH),
        ("another node in the same epoch", nothing, |s| grant(s).node_name = "node2".into(), EPOCH),
        ("another kernel in the same epoch", nothing, |s| grant(s).boot_id = "b2".into(), EPOCH),
        ("another machine in the same epoch", nothing, |s| grant(s).system_uuid = "m2".into(), EPOCH),
        (
            "the next pod has the node of the one before",
            nothing,
            |s| (grant(s).epoch, grant(s).pod_uid) = (Epoch::new(4), String::new()),
            MACHINE,
        ),
        (
            "the next process has the kernel of the one before",
            nothing,
            |s| (grant(s).epoch, grant(s).boot_nonce) = (Epoch::new(4), String::new()),
            MACHINE,
        ),
        (
            "a machine of which no process has spoken",
            nothing,
            |s| (grant(s).epoch, grant(s).boot_id) = (Epoch::new(4), String::new()),
            MACHINE,
        ),
        (
            "other work in the same epoch",
            nothing,
            |s| s.work = Some(work("encode-1")),
            "a change of work raises the epoch",
        ),
        ("the work is dropped in the same epoch", nothing, |s| s.work = None, "a change of work raises the epoch"),
        (
            "work appears in the same epoch",
            |s| s.work = None,
            |s| s.work = Some(work("a")),
            "a change of work raises the epoch",
        ),
        (
            "work without an owner",
            |s| (s.grant, s.work) = (None, None),
            |s| s.work = Some(work("a")),
            "work needs a grant",
        ),
        (
            "the choice changes",
            nothing,
            |s| s.chosen[0] = chosen("plan", 2),
            "what was chosen for a work never changes",
        ),
        ("the volume's number falls", nothing, |s| volume(s).generation = 0, "another volume has a higher generation"),
        (
            "another claim of the same number",
            nothing,
            |s| volume(s).claim_uid = "c9".into(),
            "within a generation claimUID is set once",
        ),
        (
            "a condemned volume is pardoned",
            |s| volume(s).condemned = true,
            |s| volume(s).condemned = false,
            "a condemned volume stays condemned",
        ),
        (
            "a former volume is pardoned",
            nothing,
            |s| s.former_volumes[0].condemned = false,
            "a condemned volume stays condemned",
        ),
        (
            "a grant on a condemned volume",
            |s| volume(s).condemned = true,
            |s| grant(s).epoch = Epoch::new(4),
            "nothing is granted on a condemned volume",
        ),
        ("attached, of a process that was bound before", nothing, |s| grant(s).attached = attached("node-1"), ATTACHED),
        (
            "attached, of nobody yet",
            |s| grant(s).boot_nonce = String::new(),
            |s| grant(s).attached = attached("node-1"),
            ATTACHED,
        ),
        (
            "attached elsewhere",
            |s| grant(s).attached = attached("node-1"),
            |s| grant(s).attached = attached("node-2"),
            ATTACHED,
        ),
        (
            "attached, and carried to the next owner",
            |s| grant(s).attached = attached("node-1"),
            |s| {
                let next = Grant { epoch: Epoch::new(4), pod_name: "orders-0b7e1c9a-0-e4".into(), ..Grant::default() };
                s.grant = Some(Grant { attached: attached("node-1"), ..next });
            },
            ATTACHED,
        ),
        (
            "a former volume was attached after all",
            nothing,
            |s| s.former_volumes[0].attached = attached("node-1"),
            ATTACHED,
        ),
        (
            "a former volume was attached elsewhere",
            |s| s.former_volumes[0].attached = attached("node-1"),
            |s| s.former_volumes[0].attached = attached("node-2"),
            ATTACHED,
        ),
    ];
    for (what, before, after, message) in cases {
        let refusal = outcome(before, after).expect_err(what);
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
}

#[test]
fn every_rule_of_the_record_is_tried_above() {
    let text = serde_json::to_string(&crds()[1]).unwrap();
    let rules = text.matches("\"rule\":").count();
    assert_eq!(rules, 12, "a rule was added or removed: add what it accepts and refuses");
}

#[test]
fn a_record_may_hold_as_many_choices_as_a_stage_has_works() {
    let mut spec = record();
    spec.chosen = (0..1000).map(|number| chosen(&format!("encode-{number}"), 3)).collect();
    check_directory_spec(None, &spec).unwrap();
    check_directory_spec(Some(&spec), &spec.clone()).unwrap();
    spec.chosen.push(chosen("encode-0", 4));
    let refusal = check_directory_spec(None, &spec).unwrap_err().to_string();
    assert!(refusal.contains("spec.chosen[1000]: Duplicate value"), "{refusal}");
}

#[test]
fn the_record_is_written_with_the_names_that_the_admission_policy_reads() {
    let json = serde_json::to_value(record()).unwrap();
    assert_eq!(json["grant"]["podUID"], "p1");
    assert_eq!(json["grant"]["bootNonce"], "n1");
    assert_eq!(json["buildUID"], "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e");
    assert_eq!(json["volume"]["claimUID"], "c1");
    assert_eq!(json["chosen"][0]["workId"], "plan");
    assert_eq!(json["renewInterval"], "5s");
    assert_eq!(json["afterBuild"], serde_json::json!({"volumes": "Retain", "replaceAfter": "10m"}));
}

/// A record of an older version is read, and says nothing about what becomes of its volumes: no default stands for it.
#[test]
fn a_record_that_does_not_say_what_its_build_asked_for_is_read_as_one_that_does_not() {
    let mut json = serde_json::to_value(record()).unwrap();
    json.as_object_mut().unwrap().remove("afterBuild");
    let old: EngineDirectorySpec = serde_json::from_value(json).unwrap();
    assert_eq!(old.after_build, None);
    assert!(check_directory_spec(None, &old).is_ok());
}
