//! One pass over a build: observe, plan, apply, report; and how long until the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexbuild_api::{Guarded, IndexBuild};
use indexbuild_lifecycle::plan::unsupported;
use indexbuild_process::{Pauses, about};
use kube::runtime::controller::Action as Requeue;
use kube::{Resource as _, ResourceExt as _};

use crate::apply::apply;
use crate::context::Context;
use crate::error::OperatorError;
use crate::memory::BuildMemory;
use crate::metrics::ReconcileResult;
use crate::objects::Owner;
use crate::observe;
use crate::plan::{Planned, decide};
use crate::report::{AT_REST, AT_WORK, report, report_undecided, report_unread, tell_what_stays, write_status};
use crate::unreadable::UnreadableObjects;

/// Pauses where somebody else wrote first. A cache that lags, or that is cut off from its watch, loses every write until
/// it has caught up.
const AFTER_CONFLICT: Pauses = Pauses { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
/// Pauses after errors.
const BACKOFF: Pauses = Pauses { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// One pass over a build.
///
/// # Errors
/// [`OperatorError`]; the pass is repeated after a pause.
#[tracing::instrument(
    name = "reconcile",
    skip_all,
    fields(namespace = build.namespace(), name = build.name_any(), uid = build.uid(), generation = build.meta().generation)
)]
pub(crate) async fn reconcile(
    build: Arc<Guarded<IndexBuild>>,
    context: Arc<Context>,
) -> Result<Requeue, OperatorError> {
    // In the order of asking. Boxed behind it: a pass is large, and thousands may wait.
    let Some(_turn) = context.turns.take().await else {
        return Ok(Requeue::await_change());
    };
    let build = context.newest(build);
    Box::pin(in_turn(build, &context)).await
}

async fn in_turn(build: Arc<Guarded<IndexBuild>>, context: &Context) -> Result<Requeue, OperatorError> {
    let begun = Instant::now();
    let outcome = match read(&build, context).await {
        Ok(Some(build)) => match build.read() {
            Ok(whole) => pass(whole, context).await,
            Err(unreadable) => {
                let memory = context.memory(&build.uid().unwrap_or_default());
                unread(&build, UnreadableObjects(vec![unreadable]), context, &mut *memory.lock().await).await
            }
        },
        Ok(None) => Ok(AT_WORK),
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Err(OperatorError::UnreadableObjects(UnreadableObjects(unreadable))) => {
            context.reporting.tell_unreadable(&unreadable).await;
            Ok(AT_WORK)
        }
        other => other,
    };
    let result = match &outcome {
        Ok(_) => ReconcileResult::Success,
        Err(error) if error.is_conflict() => ReconcileResult::Success,
        Err(_) => ReconcileResult::Error,
    };
    context.reporting.metrics.reconciled(result, begun.elapsed());
    let uid = build.uid().unwrap_or_default();
    match outcome {
        Ok(wait) => {
            context.succeeded(&uid);
            Ok(Requeue::requeue(jittered(wait)))
        }
        Err(error) if error.is_conflict() => {
            let pause = AFTER_CONFLICT.after(context.failed(uid));
            tracing::debug!(%error, again_in = ?pause, "looking again");
            Ok(Requeue::requeue(jittered(pause)))
        }
        Err(error) => Err(error),
    }
}

/// What happens after a pass that failed: the next one, the later the more have failed.
pub(crate) fn after_error(build: Arc<Guarded<IndexBuild>>, error: &OperatorError, context: Arc<Context>) -> Requeue {
    let uid = build.uid().unwrap_or_default();
    let failures = context.failed(uid);
    tracing::warn!(namespace = build.namespace(), name = build.name_any(), failures, error = %error.said(), "a pass failed");
    Requeue::requeue(jittered(BACKOFF.after(failures)))
}

/// Within a tenth of it, so that many builds are not looked at in one moment.
fn jittered(wait: Duration) -> Duration {
    about(wait, 10)
}

/// A build as the watch told it; where that cannot be read, as the API server has it now, as the watch may be behind.
/// `None`: it is not there any more.
async fn read(build: &Guarded<IndexBuild>, context: &Context) -> Result<Option<Guarded<IndexBuild>>, OperatorError> {
    if build.read().is_ok() {
        return Ok(Some(build.clone()));
    }
    let owner = Owner::of(build);
    let memory = context.memory(&owner.uid);
    memory.lock().await.observer.count_anew();
    observe::live(&context.client, &owner).await
}

/// A build that itself cannot be read, or asks for what this version does not know: nothing is decided about it, and it says
/// so, where its status can be written. The event that tells of it depends on nothing.
async fn unread(
    build: &Guarded<IndexBuild>,
    unreadable: UnreadableObjects,
    context: &Context,
    memory: &mut BuildMemory,
) -> Result<Duration, OperatorError> {
    if let Err(error) = report_unread(context, build, &unreadable, memory).await {
        tracing::warn!(error = %error.said(), "the status of a build that cannot be read is not written");
    }
    Err(unreadable.into())
}

async fn pass(build: Arc<IndexBuild>, context: &Context) -> Result<Duration, OperatorError> {
    let owner = Owner::of(build.as_ref());
    let memory = context.memory(&owner.uid);
    let mut memory = memory.lock().await;
    let memory = &mut *memory;
    let before = build.status.as_ref();
    let (generation, wall) = (build.metadata.generation.unwrap_or_default(), context.moment().wall());
    if build.metadata.deletion_timestamp.is_none()
        && let Some(status) = unsupported(&build.spec, generation, before, &wall)
    {
        write_status(context, build.as_ref().into(), before, status, true, memory).await?;
        return Ok(AT_REST);
    }
    match decide(context, build, &owner, memory).await? {
        Planned::Decided(pass) => {
            tell_what_stays(&pass).await;
            let done = apply(&pass, memory).await;
            let wait = report(*pass, memory).await?;
            done.map(|()| wait)
        }
        Planned::Undecided(build, blind) => {
            report_undecided(context, &build, &blind, memory).await?;
            Err(blind.into())
        }
        Planned::Unread(build, blind) => unread(&build, blind, context, memory).await,
        Planned::Gone => Ok(AT_WORK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that is cut off from its watch loses each write: without longer pauses, five passes a second.
    #[test]
    fn passes_that_lose_their_writes_again_and_again_become_seldom() {
        let pauses = [1, 2, 3, 5, 6, 40, u32::MAX].map(|failures| AFTER_CONFLICT.after(failures).as_millis());
        assert_eq!(pauses, [200, 400, 800, 3_200, 5_000, 5_000, 5_000]);
        let minute: Duration = (1..=16).map(|failures| AFTER_CONFLICT.after(failures)).sum();
        assert!(minute > Duration::from_secs(55), "{minute:?}");
        assert_eq!(BACKOFF.after(40), Duration::from_secs(30));
    }
}
