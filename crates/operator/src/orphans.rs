//! Records that outlived their build: a volume of it was not accounted for when it went (failure-modes.md #26), or is
//! to be kept. When its former owner is proved gone, it goes or stays as its own record says (`afterBuild`): what the
//! build asked for is not known otherwise, and nothing is made up for it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use indexbuild_api::{EngineDirectory, Guarded, IndexBuild};
use indexbuild_lifecycle::plan;
use kube::{Api, ResourceExt as _};

use crate::apply::ActionRunner;
use crate::caches::readable;
use crate::context::Context;
use crate::error::OperatorError;
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::observe::Objects;
use crate::unreadable::UnreadableObjects;

/// The builds of records whose own build is not there, as far as the caches tell. One that cannot be read is there. Of a
/// record that cannot be read, nobody knows whose it is: it is left alone.
fn orphaned(context: &Context) -> Vec<Owner> {
    let known: HashSet<String> = context.caches.builds.state().iter().filter_map(|build| build.uid()).collect();
    let is_orphan = |record: &Arc<EngineDirectory>| !known.contains(&record.spec.build_uid);
    let mut owners: BTreeMap<String, Owner> = BTreeMap::new();
    for record in readable(&context.caches.directories).into_iter().filter(is_orphan) {
        let EngineDirectory { metadata, spec, status: _ } = record.as_ref();
        owners.entry(spec.build_uid.clone()).or_insert_with(|| Owner {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: spec.build_name.clone(),
            uid: spec.build_uid.clone(),
        });
    }
    owners.into_values().collect()
}

/// Looks once at all records that outlived their build.
pub(crate) async fn reap(context: &Context, memories: &mut BTreeMap<String, BuildMemory>) {
    let owners = orphaned(context);
    memories.retain(|uid, _| owners.iter().any(|owner| owner.uid == *uid));
    for owner in owners {
        let memory = memories.entry(owner.uid.clone()).or_default();
        let reaped = reap_one(context, &owner, memory).await;
        if let Err(OperatorError::UnreadableObjects(UnreadableObjects(unreadable))) = reaped {
            memory.observer.count_anew();
            context.reporting.tell_unreadable(&unreadable).await;
        } else if let Err(error) = reaped {
            tracing::warn!(build = owner.name, uid = owner.uid, error = %error.said(), "a record that outlived its build waits");
        }
    }
}

async fn reap_one(context: &Context, owner: &Owner, memory: &mut BuildMemory) -> Result<(), OperatorError> {
    let api = Api::<Guarded<IndexBuild>>::namespaced(context.client.clone(), &owner.namespace);
    let live = api.get_opt(&owner.name).await.map_err(OperatorError::api("a build is not read"))?;
    if live.is_some_and(|live| live.uid().as_deref() == Some(owner.uid.as_str())) {
        return Ok(());
    }
    let objects = Objects::live(&context.client, &context.nodes, owner, memory)
        .await
        .map_err(OperatorError::api(format!("what build {} left is not read", owner.name)))?;
    // A record that still has its owner reference is the garbage collector's to remove. What its status says is not
    // asked: a tombstone's changes while its volumes go.
    let kept = |record: &Arc<EngineDirectory>| record.owner_references().is_empty();
    if !objects.directories.iter().any(kept) {
        return Ok(());
    }
    let world = context.remains(owner, &objects, memory)?;
    for action in plan(&world).actions {
        let name = action.name();
        let counted = action.clone();
        let hands = ActionRunner { context, build: None, owner, objects: &objects, world: &world, said: None };
        match hands.carry_out(action).await {
            Ok(_) => {
                context.reporting.metrics.acted(&counted);
                tracing::info!(action = name, build = owner.name, uid = owner.uid, "what a build left is cleaned");
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
