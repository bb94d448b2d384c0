//! Whose owner is proved gone, by the world alone: `docs/lifecycle.md`, "Evidence", in other words than the planner's.

use indexbuild_api::*;
use indexbuild_lifecycle::world::*;

pub(super) struct Owner<'a> {
    pub pod_uid: &'a str,
    pub nonce: &'a str,
    pub node: &'a str,
    pub boot: &'a str,
    pub machine: &'a str,
    pub attached: Option<&'a Attached>,
    pub recorded: bool,
    pub epoch: Epoch,
    pub claim: &'a str,
}

/// docs/lifecycle.md, "Evidence", word by word.
pub(super) fn proved_gone(world: &World, owner: &Owner<'_>) -> bool {
    if owner.nonce.is_empty() || owner.recorded {
        return true;
    }
    let a = !owner.pod_uid.is_empty()
        && world.pods.iter().any(|pod| pod.uid == owner.pod_uid)
        && world.pods.iter().filter(|pod| pod.uid == owner.pod_uid).all(|pod| match &pod.state {
            PodState::Terminated(ended) => {
                ended.restart_never
                    && ended.container_id_present
                    && ended.kubelet_written
                    && !ended.finished_at.is_empty()
            }
            _ => false,
        });
    let node = world.nodes.iter().find(|node| node.name == owner.node);
    let b = node.is_some_and(|node| {
        !node.gone
            && !owner.machine.is_empty()
            && owner.machine == node.system_uuid
            && !owner.boot.is_empty()
            && !node.boot_id.is_empty()
            && owner.boot != node.boot_id
    });
    // It was attached there, by a driver whose detach is known to cut a node off, and is not any more.
    let detached = |node: &NodeView| {
        node.volumes_detached
            && owner.attached.is_some_and(|attached| {
                attached.node == owner.node && world.attachments.detaching_drivers.contains(&attached.driver)
            })
    };
    let c = node.is_some_and(|node| node.gone && detached(node));
    let d = node.is_some_and(|node| node.out_of_service && detached(node))
        && !world.pods.iter().any(|pod| pod.uid == owner.pod_uid);
    // Its own word, of just this process, epoch and volume, in one of the build's records.
    let e = world.slots.iter().any(|view| {
        view.record.status.released.iter().any(|(uid, said)| {
            !uid.is_empty()
                && uid == owner.pod_uid
                && said.boot_nonce == owner.nonce
                && said.epoch == owner.epoch
                && said.claim_name == owner.claim
        })
    });
    a || b || c || d || e
}

pub(super) fn current_owner<'a>(record: &'a Record) -> Option<Owner<'a>> {
    let grant = record.spec.grant.as_ref()?;
    Some(Owner {
        pod_uid: &grant.pod_uid,
        nonce: &grant.boot_nonce,
        node: &grant.node_name,
        boot: &grant.boot_id,
        machine: &grant.system_uuid,
        attached: grant.attached.as_ref(),
        recorded: false,
        epoch: grant.epoch,
        claim: record.spec.volume.as_ref().map_or("", |volume| &volume.claim_name),
    })
}

pub(super) fn former_owner(volume: &FormerVolume) -> Owner<'_> {
    Owner {
        pod_uid: &volume.pod_uid,
        nonce: &volume.boot_nonce,
        node: &volume.node_name,
        boot: &volume.boot_id,
        machine: &volume.system_uuid,
        attached: volume.attached.as_ref(),
        recorded: volume.state == VolumeState::Idle,
        epoch: volume.epoch,
        claim: &volume.claim_name,
    }
}
