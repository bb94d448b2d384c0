//! Report: a build's status and events, and when to look again.

use std::time::Duration;

use indexbuild_api::{Guarded, IndexBuild, IndexBuildStatus, labels};
use indexbuild_lifecycle::plan::{transition_events, unreadable, unreadable_event};
use indexbuild_lifecycle::{Decision, World, plan};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::context::Context;
use crate::error::{OperatorError, is_status};
use crate::hindrances::hindrances;
use crate::memory::BuildMemory;
use crate::objects::Owner;
use crate::plan::Pass;
use crate::unreadable::Blind;

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
    let Decision { actions, mut status, requeue, end, waits: _, events, leaves: _ } = decision;
    memory.observer.see_percent(status.percent.unwrap_or(0), context.now());
    if end.is_some() {
        memory.failed_actions.clear();
    }
    let before = world.build.status.clone();
    let namespace_ends = world.build.namespace_ends;
    // What was just done may have been refused: the status is that of the build with what hinders it now.
    let hindrances = hindrances(&context.client, &objects, &world, context.moment().server, memory).await;
    if !hindrances.is_empty() {
        status = plan(&World { hindrances, ..world }).status;
    }
    let events = [events, transition_events(before.as_ref(), &status)].concat();
    // A namespace that is being deleted takes none; what matters was told elsewhere.
    if !namespace_ends {
        context.reporting.events.publish(&build, &events).await;
    }
    let said = write_status(context, &build, before.as_ref(), status, end.is_some(), memory).await?;
    let longest = if end.is_some() && actions.is_empty() && said { AT_REST } else { AT_WORK };
    Ok(Duration::from_millis(requeue.max(50)).min(longest))
}

/// Says of a build about which nothing is decided which object stands in the way.
pub(crate) async fn report_undecided(
    context: &Context,
    build: &IndexBuild,
    blind: &Blind,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    memory.observer.count_anew();
    let before = build.status.as_ref();
    context.reporting.events.publish(build, &[unreadable_event(&blind.0)]).await;
    if let Some(status) = unreadable(&blind.0, before, &context.moment().wall()) {
        write_status(context, build, before, status, true, memory).await?;
    }
    Ok(())
}

/// Writes the status where it says something new (I8); a last word at once. Whether all is said. By compare-and-set: later
/// decisions read it (that the build has failed is final), and a former leader's late word is refused.
pub(crate) async fn write_status(
    context: &Context,
    build: &IndexBuild,
    before: Option<&IndexBuildStatus>,
    status: IndexBuildStatus,
    last_word: bool,
    memory: &mut BuildMemory,
) -> Result<bool, OperatorError> {
    let now = context.now();
    // The list of frozen stages is written by compare-and-set alone: what is absent here stays as it is.
    let status = IndexBuildStatus { frozen_stages: before.and_then(|before| before.frozen_stages.clone()), ..status };
    let differs = before != Some(&status);
    if !differs || !(last_word || memory.status_is_due(before, &status, now)) {
        return Ok(!differs);
    }
    let (name, namespace) = (build.name_any(), build.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": "indexbuild.dev/v1alpha1",
        "kind": "IndexBuild",
        "metadata": {"name": name, "uid": build.metadata.uid, "resourceVersion": memory.version_of(build)},
        "status": IndexBuildStatus { frozen_stages: None, ..status.clone() },
    });
    let api = Api::<Guarded<IndexBuild>>::namespaced(context.client.clone(), &namespace);
    let written =
        api.patch_status(&name, &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(patch)).await;
    match written {
        Ok(written) => {
            context.reporting.count_ends(before, &status);
            memory.wrote_status(status, now);
            memory.wrote_build(build, written.resource_version().unwrap_or_default());
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
