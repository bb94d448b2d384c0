//! What executors need beside their volume: an account, its role, and the build's file.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use indexbuild_api::{Guarded, IndexBuild, labels};
use indexbuild_lifecycle::Decision;
use indexbuild_lifecycle::plan::stage_names;
use indexbuild_lifecycle::world::World;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::OperatorError;
use crate::memory::{BuildMemory, Provided};
use crate::objects::{self, Owner};

/// Whether the executors of a build that is worked on go by an older spec, or one that this operator, which may have
/// just begun, knows nothing of: they hear of a change by their file alone, and nothing else may be left to do.
pub(crate) fn is_behind(build: &IndexBuild, world: &World, decision: &Decision, memory: &BuildMemory) -> bool {
    // Of a pause nobody is left to be told: what executors need is applied before the next of them is made.
    let paused = world.build.spec.suspend && world.pods.is_empty();
    let at_work = !world.slots.is_empty() && decision.end.is_none() && world.build.finalizer && !paused;
    let provided = memory.provided.as_ref().map(|provided| provided.generation);
    at_work && build.metadata.deletion_timestamp.is_none() && provided != Some(build.metadata.generation)
}

/// Applies what the build's executors need, where it is not what was applied last (I8).
///
/// # Errors
/// The API server's.
pub(crate) async fn provide(
    client: &Client,
    build: &IndexBuild,
    owner: &Owner,
    world: &World,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    let present = world.slots.iter().map(|slot| slot.record.spec.slot.saturating_add(1)).max().unwrap_or(0);
    let slots = 0..present.max(build.spec.parallelism);
    let account = objects::service_account(build, owner);
    let role = objects::role(owner, slots, &stage_names(world));
    let binding = objects::role_binding(build, owner);
    let file = objects::build_file(build, owner);
    let digest = {
        let mut hasher = DefaultHasher::new();
        let all = serde_json::to_string(&(&account, &role, &binding, &file))
            .map_err(|source| OperatorError::Json { what: "what executors need", source })?;
        all.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    let wanted = Provided { generation: build.metadata.generation, digest };
    if memory.provided.as_ref().is_some_and(|provided| provided.digest == wanted.digest) {
        memory.provided = Some(wanted);
        return Ok(());
    }
    if let Some(account) = &account {
        apply(client, owner, "ServiceAccount", account).await?;
    }
    is_free(client, owner, &file.name_any()).await?;
    apply(client, owner, "ConfigMap", &file).await?;
    apply(client, owner, "Role", &role).await?;
    apply(client, owner, "RoleBinding", &binding).await?;
    memory.provided = Some(wanted);
    Ok(())
}

/// An object that somebody else has put under the name of the build's file is not taken over.
async fn is_free(client: &Client, owner: &Owner, name: &str) -> Result<(), OperatorError> {
    let api: Api<Guarded<ConfigMap>> = Api::namespaced(client.clone(), &owner.namespace);
    let there = api.get_opt(name).await.map_err(OperatorError::api(format!("ConfigMap {name} is not read")))?;
    let ours = |there: &Guarded<ConfigMap>| there.owner_references().contains(&owner.reference());
    if there.as_ref().is_none_or(ours) {
        Ok(())
    } else {
        Err(OperatorError::Foreign { kind: "ConfigMap", name: name.to_owned() })
    }
}

async fn apply<K>(client: &Client, owner: &Owner, kind: &str, object: &K) -> Result<(), OperatorError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let name = object.name_any();
    // What was applied is applied, whether or not the answer can be read.
    let api: Api<Guarded<K>> = Api::namespaced(client.clone(), &owner.namespace);
    api.patch(&name, &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .map(|_| ())
        .map_err(OperatorError::api(format!("{kind} {name} is not applied")))
}
