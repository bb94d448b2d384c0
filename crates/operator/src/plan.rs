//! Plan: the caches tell whether anything is to be done about a build; what, the lifecycle decides on what is read live.

use std::sync::Arc;

use indexbuild_api::{Guarded, IndexBuild};
use indexbuild_lifecycle::{Decision, World, plan};

use crate::context::Context;
use crate::error::OperatorError;
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::observe::{self, Objects};
use crate::unreadable::UnreadableObjects;
use crate::{prerequisites, unstarted};

/// One pass over a build: what was observed of it, and what is to be done.
pub(crate) struct Pass<'a> {
    pub context: &'a Context,
    pub owner: &'a Owner,
    pub build: Arc<IndexBuild>,
    pub objects: Objects,
    pub world: World,
    pub decision: Decision,
}

pub(crate) enum Planned<'a> {
    Decided(Box<Pass<'a>>),
    /// Something of it cannot be read. That would be absent from what is decided on: it would be made again, or taken
    /// for gone.
    Undecided(Arc<IndexBuild>, UnreadableObjects),
    /// It cannot be read itself, or asks for what this version does not know.
    Unread(Box<Guarded<IndexBuild>>, UnreadableObjects),
    /// It is not there any more.
    Gone,
}

pub(crate) async fn decide<'a>(
    context: &'a Context,
    build: Arc<IndexBuild>,
    owner: &'a Owner,
    memory: &mut BuildMemory,
) -> Result<Planned<'a>, OperatorError> {
    let objects = Objects::cached(&context.caches, &context.nodes, owner);
    let status = memory.newest_status(build.status.as_ref());
    let unread = || OperatorError::api(format!("the volumes of build {} are not read", owner.name));
    unstarted::read_volumes(&context.client, &objects, memory).await.map_err(unread())?;
    // What cannot be read in the caches is looked at live, as they may be behind.
    if let Ok(world) = context.world(&build, status, &objects, memory) {
        let decision = plan(&world);
        // A stage that the caches lack is not gone for that: the event of its object may be the one that was lost.
        let idle = decision.actions.is_empty()
            && world.frozen.lost.is_empty()
            && !prerequisites::is_behind(&build, &world, &decision, memory);
        if idle && !memory.live_look_is_due(decision.end.is_some() || memory.share.queued.is_some(), context.now()) {
            return Ok(Planned::Decided(Box::new(Pass { context, owner, build, objects, world, decision })));
        }
    }
    // Something is to be done, or an event may have been lost on its way to the caches: it is decided anew on what
    // is read live, in this pass.
    let Some(live) = observe::live(&context.client, owner).await? else {
        return Ok(Planned::Gone);
    };
    let build = match live.read() {
        Ok(build) => build,
        Err(unreadable) => return Ok(Planned::Unread(Box::new(live), UnreadableObjects(vec![unreadable]))),
    };
    let objects = Objects::live(&context.client, &context.nodes, owner, memory)
        .await
        .map_err(OperatorError::api(format!("the objects of build {} are not read", owner.name)))?;
    unstarted::read_volumes(&context.client, &objects, memory).await.map_err(unread())?;
    memory.looked_live(context.now());
    Ok(match context.world(&build, build.status.clone(), &objects, memory) {
        Ok(world) => {
            let decision = plan(&world);
            Planned::Decided(Box::new(Pass { context, owner, build, objects, world, decision }))
        }
        Err(blind) => Planned::Undecided(build, blind),
    })
}
