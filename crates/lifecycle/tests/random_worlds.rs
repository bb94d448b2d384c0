//! Whatever is observed, arbitrary nonsense included: no action without its evidence; and on one machine no word of what only a
//! cluster has.
//!
//! The oracle looks at the world alone, never at the types that the planner makes its proofs of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod random;
mod scene;

use indexbuild_lifecycle::world::{Attachments, NodeReady, NodeView, PodState, World};
use indexbuild_lifecycle::{Platform, plan};
use proptest::prelude::*;
use random::{oracle, world};

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// G1, G2, G3, G6, G7, G8, G9, G10, I4, I5, I8, I9, on whatever is observed.
    #[test]
    fn no_action_without_its_evidence_whatever_is_observed(world in world()) {
        oracle::check(&world);
    }

    /// I9: of a build that is gone, what its records say decides, and nothing else.
    #[test]
    fn what_a_build_left_is_decided_about_by_its_records_alone(world in world()) {
        oracle::check_gone(&world);
    }
}

/// What there is on a cluster alone.
const OF_A_CLUSTER: [&str; 14] = [
    "kubelet",
    "kubectl",
    "Kubernetes",
    "taint",
    "Node object",
    "detach",
    "API server",
    "NetworkPolicy",
    "ConfigMap",
    "StorageClass",
    "scheduler",
    "pvc",
    " pod ",
    "reboot",
];

/// Everything that people are told by one pass.
fn told(world: &World) -> Vec<String> {
    let decision = plan(world);
    let waits = decision.waits.iter().flat_map(|wait| [wait.what.clone(), wait.ends_when.clone()]);
    let events = decision.events.iter().map(|event| event.message.clone());
    let conditions = decision.status.conditions.iter().map(|condition| condition.message.clone());
    let texts: Vec<String> = waits.chain(events).chain(conditions).collect();
    // At the begin of a text too.
    texts.into_iter().map(|text| format!(" {text} ")).collect()
}

/// What the parent of a run observes: one node, which is itself, and nothing that attaches volumes.
fn of_one_machine(mut world: World) -> World {
    world.platform = Platform::OneMachine;
    let node = NodeView {
        name: "laptop".to_owned(),
        boot_id: "boot".to_owned(),
        system_uuid: "machine".to_owned(),
        ready: NodeReady::True,
        readiness_age: 0,
        out_of_service: false,
        gone: false,
        volumes_detached: false,
        cordoned: false,
        pressed: false,
    };
    world.nodes = vec![node];
    world.attachments = Attachments::default();
    world.hindrances = vec![];
    world.enforcement = None;
    // Its stages are files that nobody else writes, and its builds have neither namespace nor objects that can be gone.
    world.frozen.lost = vec![];
    world.frozen.unproved = vec![];
    world.build.namespace_ends = false;
    world.build.gone = false;
    for pod in &mut world.pods {
        pod.node = None;
        // A child runs or has ended.
        if pod.is_unstarted() {
            pod.state = PodState::Running;
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Owners are processes there and volumes are folders: nobody is told of a kubelet, a taint or a claim, which that person
    /// cannot look for.
    #[test]
    fn on_one_machine_nobody_is_told_of_a_cluster(world in world()) {
        for text in told(&of_one_machine(world)) {
            for word in OF_A_CLUSTER {
                prop_assert!(!text.contains(word), "{word:?} in {text:?}");
            }
        }
    }
}

#[test]
fn on_a_cluster_a_silent_owner_that_is_asked_to_end_is_told_in_its_words() {
    let mut world = scene::replaced();
    world.now += 60_000;
    let cluster = told(&world).join("\n");
    assert!(cluster.contains("kubelet") || cluster.contains("pod "), "{cluster}");
    let local = told(&of_one_machine(world)).join("\n");
    assert!(local.contains("process") && !local.contains("pod "), "{local}");
}
