//! Objects of somebody else under names of ours: no list of the build's objects has them, so that they are asked for by name
//! where a write has met one. None of them is taken for ours, or removed.

use indexbuild_api::{Grant, Guarded};
use indexbuild_lifecycle::world::{ClaimPhase, ClaimView};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt as _};

use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::observe::Objects;
use crate::views::{self, is_of_build};

impl Objects {
    /// Claims.
    pub(crate) async fn look_at_foreign(
        &mut self,
        client: &Client,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<(), kube::Error> {
        let api = Api::<Guarded<PersistentVolumeClaim>>::namespaced(client.clone(), &owner.namespace);
        for (name, (slot, generation)) in &memory.foreign_claims {
            let Some(claim) = api.get_opt(name).await? else {
                continue;
            };
            if is_of_build(&claim, owner) {
                continue;
            }
            self.foreign.push(ClaimView {
                name: name.clone(),
                uid: claim.uid().unwrap_or_default(),
                slot: *slot,
                generation: *generation,
                phase: ClaimPhase::Bound,
                foreign: true,
                nodes: None,
                outdated: false,
            });
        }
        Ok(())
    }

    /// Pods under names that grants give, and that somebody else has: no list of the build's objects has them.
    pub(crate) async fn look_at_foreign_pods(
        &mut self,
        client: &Client,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<(), kube::Error> {
        let api = Api::<Guarded<Pod>>::namespaced(client.clone(), &owner.namespace);
        let grants: Vec<_> = self.directories.iter().map(|one| (one.spec.slot, one.spec.grant.clone())).collect();
        for (slot, grant) in grants {
            let unbound =
                grant.filter(|grant| grant.pod_uid.is_empty() && memory.foreign_pods.contains(&grant.pod_name));
            let Some(Grant { epoch, pod_name, .. }) = unbound else { continue };
            // One with our labels is in the list.
            if self.pods.iter().any(|pod| pod.name_any() == pod_name) {
                continue;
            }
            match api.get_opt(&pod_name).await?.map(|pod| pod.read()) {
                Some(Ok(pod)) => self.foreign_pods.extend(views::foreign_pod(&pod, slot, epoch)),
                Some(Err(unreadable)) => self.unreadable.push(unreadable),
                None => {}
            }
        }
        Ok(())
    }

    /// Objects under names of stages that do not say whose they are: no list of the build's objects has them.
    pub(crate) async fn look_at_foreign_stages(
        &mut self,
        client: &Client,
        owner: &Owner,
        memory: &BuildMemory,
    ) -> Result<(), kube::Error> {
        let api = Api::<Guarded<ConfigMap>>::namespaced(client.clone(), &owner.namespace);
        for name in &memory.foreign_stages {
            if self.stages.iter().any(|map| map.name_any() == *name) {
                continue;
            }
            match api.get_opt(name).await?.map(|map| map.read()) {
                Some(Ok(map)) => self.stages.push(map),
                Some(Err(unreadable)) => self.unreadable.push(unreadable),
                None => {}
            }
        }
        Ok(())
    }
}
