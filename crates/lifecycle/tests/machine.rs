//! I4: which machine an owner runs on is its process's own word, and counts from when its Node has shown the same kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{Claim, ConditionType, Grant, OwnerChangeReason};
use indexbuild_lifecycle::world::{PodState, Record, World};
use indexbuild_lifecycle::{Evidence, EvidenceKind, plan};
use scene::{carry_out, changed, encoding, silent, update};

/// A pod of slot 0 is made for node-0, and its container is not there yet.
fn unborn() -> World {
    let mut world = encoding();
    let record = &mut world.slots[0].record;
    let grant = record.spec.grant.as_mut().unwrap();
    *grant = Grant { epoch: grant.epoch, pod_name: grant.pod_name.clone(), ..Grant::default() };
    (record.status.claim, record.status.report) = (None, None);
    world.pods[0].state = PodState::Pending;
    world
}

/// Its process begins, and says which kernel it runs on.
fn registers(world: &mut World, boot_id: &str) {
    world.pods[0].state = PodState::Running;
    let claim = Claim { pod_uid: "pod-0".to_owned(), boot_nonce: "x".to_owned(), boot_id: boot_id.to_owned() };
    world.slots[0].record.status.claim = Some(claim);
}

fn passes(world: &mut World, times: usize) {
    for _ in 0..times {
        let decision = plan(world);
        carry_out(world, &decision);
    }
}

fn proof(world: &World) -> Option<EvidenceKind> {
    Evidence::of_current(world, &world.slots[0].record).map(|evidence| evidence.kind())
}

fn granted(world: &World) -> &Grant {
    world.slots[0].record.spec.grant.as_ref().unwrap()
}

/// I4: what a Node shows is compared only once it has shown what the process says, however late that is.
#[test]
fn a_machine_is_evidence_from_when_its_node_shows_the_kernel_that_the_process_has_said() {
    let mut world = unborn();
    passes(&mut world, 1);
    registers(&mut world, "boot-2");
    passes(&mut world, 2);
    let Grant { boot_id, system_uuid, .. } = granted(&world);
    assert_eq!((boot_id.as_str(), system_uuid.as_str()), ("boot-2", ""), "its Node shows the boot before");
    assert_eq!(proof(&world), None);
    world.nodes[0].boot_id = "boot-2".to_owned();
    passes(&mut world, 1);
    assert_eq!(granted(&world).system_uuid, "machine-0");
    assert_eq!(proof(&world), None);
    world.nodes[0].system_uuid = "machine-7".to_owned();
    world.nodes[0].boot_id = "boot-3".to_owned();
    assert_eq!(proof(&world), None, "another machine of that name");
    world.nodes[0].system_uuid = "machine-0".to_owned();
    assert_eq!(proof(&world), Some(EvidenceKind::NodeRebooted));
}

/// A sandboxed runtime has a kernel, and so a boot id, of its own; an executor of an older version says none. A reboot
/// proves nothing there, and who reads of the volume that is held is told so.
#[test]
fn a_process_whose_kernel_its_node_never_shows_is_not_proved_gone_by_a_reboot_and_people_are_told() {
    for (said, told) in [("guest", "never showed the boot id"), ("", "has not said on which kernel it runs")] {
        let mut world = unborn();
        passes(&mut world, 1);
        registers(&mut world, said);
        passes(&mut world, 2);
        assert_eq!((granted(&world).boot_id.as_str(), granted(&world).system_uuid.as_str()), (said, ""));
        assert_eq!(update(&plan(&world), 0), None, "I8: what is never seen is not written again and again");
        world.nodes[0].boot_id = "boot-2".to_owned();
        assert_eq!(proof(&world), None, "{said}");
        silent(&mut world, 0, 11_000);
        world.slots[0].grant_age = 11_000;
        let decision = plan(&world);
        assert_eq!(changed(&decision, 0), Some(OwnerChangeReason::Replaced));
        carry_out(&mut world, &decision);
        world.slots[0].grant_age = 400_000;
        let held = plan(&world).status.condition(ConditionType::VolumesHeld).unwrap().message.clone();
        assert!(held.contains(told), "{held}");
    }
}

/// A record that an older version wrote has the machine of its pod's binding in its status, which nobody reads any more.
#[test]
fn a_record_of_an_older_version_is_no_false_evidence_and_gets_its_node_with_the_next_look() {
    let old = serde_json::json!({
        "spec": {
            "buildName": "orders", "buildUID": scene::UID, "slot": 0, "renewInterval": "1s",
            "grant": {"epoch": 3, "podName": "p", "podUID": "pod-0", "bootNonce": "x"},
            "work": {"id": "encode-0", "kind": "Encode", "inputsDigest": "d"},
            "formerVolumes": [{
                "claimName": "c", "claimUID": "u", "generation": 1, "condemned": false, "podName": "q", "podUID": "pod-9",
                "bootNonce": "y", "epoch": 2, "nodeName": "node-2", "nodeBootID": "boot-0", "nodeSystemUUID": "machine-2",
                "state": "Stranded",
            }],
        },
        "status": {"state": "Working", "nodeName": "node-0", "nodeBootID": "boot-0", "nodeSystemUUID": "machine-0",
            "claim": {"podUID": "pod-0", "bootNonce": "x"}},
        "version": "1",
    });
    let mut world = encoding();
    let mut record: Record = serde_json::from_value(old).unwrap();
    record.spec.volume.clone_from(&world.slots[0].record.spec.volume);
    world.slots[0].record = record;
    assert_eq!(proof(&world), None);
    let former = &world.slots[0].record.spec.former_volumes[0];
    assert_eq!(Evidence::of_former(&world, former), None, "the boot of its pod's binding proves nothing");
    passes(&mut world, 1);
    assert_eq!(granted(&world).node_name, "node-0");
    world.nodes[0].boot_id = "boot-7".to_owned();
    assert_eq!(proof(&world), None);
}
