//! Records that outlived their build: a volume of it was not accounted for when it went (disruptions, row 26). When
//! its former owner is proved gone, it is cleaned as the build's own deletion would have done.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use indexbuild_api::{EngineDirectory, IndexBuild, IndexBuildSpec, labels};
use indexbuild_lifecycle::plan::CLEAN;
use indexbuild_lifecycle::world::Stage;
use indexbuild_lifecycle::{Action, plan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt as _};

use crate::error::OperatorError;
use crate::execute::{Hands, name_of};
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::observe::Objects;
use crate::reconcile::Context;

/// The builds of records whose own build is not there, as far as the caches tell.
fn orphaned(context: &Context) -> Vec<Owner> {
    let known: HashSet<String> = context.caches.builds.state().iter().filter_map(|build| build.uid()).collect();
    let is_orphan = |record: &EngineDirectory| !known.contains(&record.spec.build_uid);
    let mut owners: BTreeMap<String, Owner> = BTreeMap::new();
    for record in context.caches.directories.state_filter(is_orphan) {
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
pub async fn reap(context: &Context, memories: &mut BTreeMap<String, BuildMemory>) {
    let owners = orphaned(context);
    memories.retain(|uid, _| owners.iter().any(|owner| owner.uid == *uid));
    for owner in owners {
        let memory = memories.entry(owner.uid.clone()).or_default();
        if let Err(error) = reap_one(context, &owner, memory).await {
            tracing::warn!(build = owner.name, uid = owner.uid, error = %error.said(), "a record that outlived its build waits");
        }
    }
}

async fn reap_one(context: &Context, owner: &Owner, memory: &mut BuildMemory) -> Result<(), OperatorError> {
    let api = Api::<IndexBuild>::namespaced(context.client.clone(), &owner.namespace);
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
    let build = as_it_was(owner);
    let mut world = context.world(&build, None, &objects, memory)?;
    // Its clean-up in the store is over, or was given up: what is left are volumes.
    world.stages.push(Stage { name: CLEAN.to_owned(), chosen: Vec::new() });
    for action in plan(&world).actions {
        let about_the_build =
            matches!(action, Action::AddFinalizer | Action::RemoveFinalizer | Action::FreezeStage { .. });
        if about_the_build {
            continue;
        }
        let name = name_of(&action);
        let counted = action.clone();
        let (client, image, build) = (&context.client, &context.image, &build);
        let hands = Hands { client, image, build, owner, objects: &objects, world: &world };
        match hands.carry_out(action).await {
            Ok(()) => {
                context.rim.metrics.acted(&counted);
                tracing::info!(action = name, build = owner.name, uid = owner.uid, "what a build left is cleaned");
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A build that is being deleted, of which nothing else is known any more. Only volumes that go with their build
/// leave a tombstone that is acted on; retained ones are let go of before.
fn as_it_was(owner: &Owner) -> IndexBuild {
    let mut build = IndexBuild::new(&owner.name, IndexBuildSpec::default());
    build.metadata.namespace = Some(owner.namespace.clone());
    build.metadata.uid = Some(owner.uid.clone());
    build.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    build.metadata.finalizers = Some(vec![labels::FINALIZER.to_owned()]);
    build
}
