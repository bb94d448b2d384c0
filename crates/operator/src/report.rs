//! Report: a build's status and events, and when to look again.

use std::time::Duration;

use indexbuild_api::{Guarded, IndexBuild, IndexBuildStatus, labels};
use indexbuild_lifecycle::plan::{transition_events, unreadable, unreadable_event};
use indexbuild_lifecycle::{Action, Decision, World, plan};
use kube::api::PatchParams;
use kube::core::ObjectMeta;
use kube::{Api, Resource as _, ResourceExt as _};

use crate::apply::compare_and_set;
use crate::changes;
use crate::context::Context;
use crate::error::{OperatorError, is_status};
use crate::hindrances::hindrances;
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::plan::Pass;
use crate::unreadable::UnreadableObjects;

/// The longest time between two looks at a build that is worked on.
pub(crate) const AT_WORK: Duration = Duration::from_secs(5);
/// The longest time between two looks at a build that has ended.
pub(crate) const AT_REST: Duration = Duration::from_secs(300);

/// Says what a build that is let go leaves behind, before it is: nobody would know of it after a crash in between. Its own
/// namespace may be about to go, and takes no event then.
pub(crate) async fn tell_what_stays(pass: &Pass<'_>) {
    let Some(event) = &pass.decision.leaves else {
        return;
    };
    let Owner { namespace, name, uid } = pass.owner;
    tracing::warn!(namespace, name, uid, reason = %event.reason, "{}", event.message);
    pass.context.reporting.events.tell_at_home(event).await;
}

/// Says how the build is, as people and programs see it. How long it may be until the next look.
pub(crate) async fn report(pass: Pass<'_>, memory: &mut BuildMemory) -> Result<Duration, OperatorError> {
    let Pass { context, owner: _, build, objects, world, decision } = pass;
    let Decision { actions, mut status, requeue, end, waits: _, events, leaves: _, said_with_stages: _ } = decision;
    memory.observer.see_percent(status.percent.unwrap_or(0), context.now());
    if end.is_some() {
        memory.failed_actions.clear();
    }
    let before = world.build.status.clone();
    let namespace_ends = world.build.namespace_ends;
    // What was just done may have been refused: the status is that of the build with what hinders it now.
    let hindrances = hindrances(&context.client, &objects, &world, context.moment().server, memory).await;
    let unhindered = hindrances.is_empty();
    memory.hindered = !unhindered;
    if !unhindered {
        status = plan(&World { hindrances, ..world }).status;
    }
    let events = [events, transition_events(before.as_ref(), &status)].concat();
    // A namespace that is being deleted takes none; what matters was told elsewhere.
    if !namespace_ends {
        context.reporting.events.publish(&build, &events).await;
    }
    // What was just begun changes what is to be said, and the next pass comes at once.
    let says_more = actions.iter().any(|action| matches!(action, Action::RecordStages { .. } | Action::AddFinalizer));
    if says_more && unhindered && end.is_none() {
        return Ok(Duration::from_millis(requeue.max(50)));
    }
    let said = write_status(context, build.as_ref().into(), before.as_ref(), status, end.is_some(), memory).await?;
    let longest = if end.is_some() && actions.is_empty() && said { AT_REST } else { AT_WORK };
    Ok(Duration::from_millis(requeue.max(50)).min(longest))
}

/// Says of a build about which nothing is decided which object stands in the way.
pub(crate) async fn report_undecided(
    context: &Context,
    build: &IndexBuild,
    blind: &UnreadableObjects,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    context.reporting.events.publish(build, &[unreadable_event(&blind.0)]).await;
    stall(context, &build.metadata, build.status.as_ref(), blind, memory).await
}

/// Says of a build that itself cannot be read, or has in its spec what this version does not know, that it is not carried
/// out: in its status, as far as that can be read. The event is told with those of all objects that cannot be read.
pub(crate) async fn report_unread(
    context: &Context,
    build: &Guarded<IndexBuild>,
    blind: &UnreadableObjects,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    match build.status() {
        Ok(before) => stall(context, build.meta(), before.as_ref(), blind, memory).await,
        Err(_) => Ok(()),
    }
}

async fn stall(
    context: &Context,
    build: &ObjectMeta,
    before: Option<&IndexBuildStatus>,
    blind: &UnreadableObjects,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    memory.observer.count_anew();
    let Some(status) = unreadable(&blind.0, before, &context.moment().wall()) else {
        return Ok(());
    };
    write_status(context, Seen { build, status: before }, before, status, true, memory).await.map(drop)
}

/// A build's object as it was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    build: &'a ObjectMeta,
    status: Option<&'a IndexBuildStatus>,
}

impl<'a> From<&'a IndexBuild> for Seen<'a> {
    fn from(build: &'a IndexBuild) -> Self {
        Self { build: &build.metadata, status: build.status.as_ref() }
    }
}

/// Writes the status where it says something new (I8); a last word at once. Whether all is said. By compare-and-set: later
/// decisions read it (that the build has failed is final), and a former leader's late word is refused.
pub(crate) async fn write_status(
    context: &Context,
    seen: Seen<'_>,
    before: Option<&IndexBuildStatus>,
    status: IndexBuildStatus,
    last_word: bool,
    memory: &mut BuildMemory,
) -> Result<bool, OperatorError> {
    let now = context.now();
    // The list of frozen stages is written by compare-and-set alone: what is absent here stays as it is.
    let status = IndexBuildStatus { frozen_stages: before.and_then(|before| before.frozen_stages.clone()), ..status };
    let status = context.switches().later_build(status);
    let differs = before != Some(&status);
    if !differs || !(last_word || memory.status_is_due(before, &status, now)) {
        return Ok(!differs);
    }
    let build = seen.build;
    let (name, namespace) = (build.name.clone().unwrap_or_default(), build.namespace.clone().unwrap_or_default());
    // Field by field, over what is there: another version may have put something beside it.
    let (version, there) = memory.base_of(build, seen.status);
    let operations = changes::of_build_status(there.as_ref(), &status);
    let patch = compare_and_set(&version, context.switches().later_status(operations));
    let parameters = PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let api = Api::<Guarded<IndexBuild>>::namespaced(context.client.clone(), &namespace);
    match api.patch_status(&name, &parameters, &patch).await {
        Ok(written) => {
            context.reporting.count_ends(before, &status);
            let version = written.resource_version().unwrap_or_default();
            memory.wrote_build(build, seen.status, version.clone());
            memory.wrote_status(status, version, now);
            Ok(true)
        }
        // Deleted meanwhile: nobody is left to be told.
        Err(error) if is_status(&error, 404) => Ok(true),
        Err(error) => {
            memory.forget_status();
            Err(OperatorError::api(format!("the status of build {name} is not written"))(error))
        }
    }
}
