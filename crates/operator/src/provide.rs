//! What executors need beside their volume: an account, its role, and the build's file.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use indexbuild_api::{IndexBuild, labels};
use indexbuild_lifecycle::plan::stage_names;
use indexbuild_lifecycle::world::World;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::OperatorError;
use crate::memory::BuildMemory;
use crate::objects::{self, Owner};

/// Applies what the build's executors need, where it is not what was applied last (I8).
///
/// # Errors
/// The API server's.
pub async fn provide(
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
    if memory.provided.as_ref() == Some(&digest) {
        return Ok(());
    }
    if let Some(account) = &account {
        apply(client, owner, "ServiceAccount", account).await?;
    }
    apply(client, owner, "ConfigMap", &file).await?;
    apply(client, owner, "Role", &role).await?;
    apply(client, owner, "RoleBinding", &binding).await?;
    memory.provided = Some(digest);
    Ok(())
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
    let api: Api<K> = Api::namespaced(client.clone(), &owner.namespace);
    api.patch(&name, &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .map(|_| ())
        .map_err(OperatorError::api(format!("{kind} {name} is not applied")))
}
