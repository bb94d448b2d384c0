//! Of a held volume only what can still prove its owner gone is told, of that volume on that node in its state; and what
//! somebody can do who knows more than the cluster. Who is told to remove a node, where that proves nothing, waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scene;

use indexbuild_api::{Attached, ConditionType, FormerVolume, Reason, names};
use indexbuild_lifecycle::plan;
use indexbuild_lifecycle::world::{ClaimView, World};
use scene::*;

const KUBELET: &str = "the kubelet of its node reports the pod terminated";
const RETURNS: &str = "its process finds its way back";
const REBOOT: &str = "the node is rebooted";
const COMES_BACK: &str = "its machine comes back as a node, booted anew";
const REMOVED: &str = "its Node object is removed and the volume detached";
const DETACHED: &str = "the volume is detached from its node, whose object is gone";
const TAINT: &str = "puts the taint node.kubernetes.io/out-of-service";
const ALL: [&str; 7] = [KUBELET, RETURNS, REBOOT, COMES_BACK, REMOVED, DETACHED, TAINT];

/// All that people are told of it: the condition, the event, the slot's wait.
fn told(world: &World) -> [String; 3] {
    let decision = plan(world);
    let wait = decision.waits.iter().find(|wait| wait.reason == Reason::VolumesStranded).unwrap();
    let held = decision.status.condition(ConditionType::VolumesHeld).unwrap().message.clone();
    let event = decision.events.iter().find(|event| event.reason == Reason::VolumeReleaseBlocked).unwrap();
    [wait.ends_when.clone(), held, event.message.clone()]
}

struct Case {
    name: &'static str,
    pod: bool,
    node_gone: bool,
    boot_known: bool,
    attached: Option<Attached>,
    ways: &'static [&'static str],
}

#[test]
fn only_what_can_still_come_is_named_and_the_command_that_ends_it_always() {
    let case = |name, attached, ways| Case { name, pod: true, node_gone: false, boot_known: true, attached, ways };
    let local = |name, ways| case(name, None, ways);
    for Case { name, pod, node_gone, boot_known, attached, ways } in [
        case("all can come", attached("node-2"), &[KUBELET, RETURNS, REBOOT, REMOVED, TAINT]),
        local("a local volume", &[KUBELET, RETURNS, REBOOT]),
        Case { pod: false, ..local("a local volume whose pod is not there", &[REBOOT]) },
        Case { node_gone: true, ..local("a local volume whose node was removed", &[RETURNS, COMES_BACK]) },
        Case { pod: false, node_gone: true, ..local("and whose pod went with it", &[COMES_BACK]) },
        Case { pod: false, boot_known: false, ..local("nothing can come", &[]) },
        Case {
            node_gone: true,
            ..case("a network volume whose node was removed", attached("node-2"), &[RETURNS, COMES_BACK, DETACHED])
        },
        case("attached elsewhere", attached("node-1"), &[KUBELET, RETURNS, REBOOT]),
    ] {
        let mut world = replaced();
        world.pods.retain(|other| pod || other.uid != "pod-9");
        world.nodes[2].gone = node_gone;
        let former = &mut world.slots[0].record.spec.former_volumes[0];
        former.attached = attached;
        if !boot_known {
            (former.boot_id, former.system_uuid) = (String::new(), String::new());
        }
        let claim = names::claim("orders", UID, 0, 9);
        for said in told(&world) {
            for way in ALL {
                assert_eq!(said.contains(way), ways.contains(&way), "{name}: {way}: {said}");
            }
            assert!(said.contains(&format!("`kubectl delete pvc -n shop {claim}`")), "{name}: {said}");
            assert!(said.len() <= 1_024, "an event takes it whole: {}", said.len());
        }
    }
}

#[test]
fn volumes_of_different_chances_are_told_apart_and_removed_by_one_command() {
    let mut world = replaced();
    let other = FormerVolume {
        claim_name: names::claim("orders", UID, 0, 8),
        claim_uid: "claim-8".to_owned(),
        generation: 8,
        pod_uid: "pod-8".to_owned(),
        attached: None,
        ..stranded(0)
    };
    world.claims.push(ClaimView {
        name: other.claim_name.clone(),
        uid: "claim-8".to_owned(),
        generation: 8,
        ..world.claims[2].clone()
    });
    let names = [world.slots[0].record.spec.former_volumes[0].claim_name.clone(), other.claim_name.clone()];
    world.slots[0].record.spec.former_volumes.push(other);
    let said = plan(&world).status.condition(ConditionType::VolumesHeld).unwrap().message.clone();
    for part in [
        format!("of {}: {KUBELET}", names[0]),
        format!("of {}: {REBOOT};", names[1]),
        format!("`kubectl delete pvc -n shop {}`", names.join(" ")),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
}
