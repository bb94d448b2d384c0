//! One pass over a build: observe, plan, execute, report.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use indexbuild_api::{ConditionStatus, ConditionType, Guarded, IndexBuild, IndexBuildStatus, Reason, apart, labels};
use indexbuild_lifecycle::plan::{describe_wait, transition_events};
use indexbuild_lifecycle::world::{BuildView, NodeReady, World};
use indexbuild_lifecycle::{Action, Decision, Millis, action, plan};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::Action as Requeue;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::caches::{Caches, Nodes};
use crate::error::OperatorError;
use crate::execute::{Hands, slot_of};
use crate::memory::{BuildMemory, NodeMemory};
use crate::metrics::ReconcileResult;
use crate::objects::{Image, Owner};
use crate::observe::{Objects, Observed, remains, world};
use crate::provide;
use crate::reporting::Reporting;
use crate::test_switches::TestSwitches;
use crate::trouble::{self, Trouble};
use crate::unreadable::Blind;
use crate::unreadable::words as words_about;

/// The longest time between two looks at a build that is worked on.
const AT_WORK: Duration = Duration::from_secs(5);
/// The longest time between two looks at a build that has ended.
const AT_REST: Duration = Duration::from_secs(300);
/// Pauses where somebody else wrote first: the first, and the longest. A cache that lags, or that is cut off from its
/// watch, loses every write until it has caught up.
const AFTER_CONFLICT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// After so many milliseconds without a container on its node, or without a volume, events are asked why.
const LATE: Millis = 8_000;
/// Stands for what hinders all slots alike.
const ALL_SLOTS: u32 = u32::MAX;
/// So many writes of one kind are on their way at once.
const ABREAST: usize = 8;
/// Pauses after errors: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

pub(crate) struct Context {
    pub client: Client,
    /// The image that executors run.
    pub image: Image,
    /// What is watched where this operator looks.
    pub caches: Caches,
    pub nodes: Nodes,
    /// Events, metrics, and whether ownership is enforced.
    pub reporting: Arc<Reporting>,
    memories: Mutex<HashMap<String, Arc<tokio::sync::Mutex<BuildMemory>>>>,
    node_memory: Mutex<NodeMemory>,
    failures: Mutex<HashMap<String, u32>>,
    started: Instant,
    switches: TestSwitches,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A context that remembers nothing yet.
    #[must_use]
    pub(crate) fn new(client: Client, image: Image, caches: Caches, nodes: Nodes, reporting: Arc<Reporting>) -> Self {
        Self {
            client,
            image,
            caches,
            nodes,
            reporting,
            memories: Mutex::default(),
            node_memory: Mutex::default(),
            failures: Mutex::default(),
            started: Instant::now(),
            switches: TestSwitches::default(),
        }
    }

    /// With behaviour that only tests ask for.
    #[must_use]
    pub(crate) fn with_switches(self, switches: TestSwitches) -> Self {
        Self { switches, ..self }
    }

    /// Milliseconds of this process's own monotonic clock.
    pub(crate) fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Counts one more failure in a row of a build's passes. How many there are now.
    fn failed(&self, uid: String) -> u32 {
        let mut all = lock(&self.failures);
        let failures = all.entry(uid).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    fn memory(&self, uid: &str) -> Arc<tokio::sync::Mutex<BuildMemory>> {
        Arc::clone(lock(&self.memories).entry(uid.to_owned()).or_default())
    }

    /// Forgets builds that are not there any more.
    pub(crate) fn forget_all_but(&self, uids: &std::collections::HashSet<String>) {
        lock(&self.failures).retain(|uid, _| uids.contains(uid));
        lock(&self.memories).retain(|uid, _| {
            let known = uids.contains(uid);
            if !known {
                self.reporting.events.forget(uid);
            }
            known
        });
    }

    /// The lifecycle's view of a build.
    pub(crate) fn world(
        &self,
        build: &IndexBuild,
        status: Option<IndexBuildStatus>,
        objects: &Objects,
        memory: &mut BuildMemory,
    ) -> Result<World, Blind> {
        let observed = Observed { build, status, now: self.now(), wall: jiff::Timestamp::now().to_string() };
        let objects = self.switches.hide(objects);
        let world = world(observed, &objects, memory, &mut lock(&self.node_memory))?;
        Ok(self.completed(world))
    }

    /// The lifecycle's view of what a build left whose object is gone.
    pub(crate) fn remains(&self, owner: &Owner, objects: &Objects, memory: &mut BuildMemory) -> Result<World, Blind> {
        let Owner { namespace, name, uid } = owner.clone();
        let (build, wall) = (BuildView::gone(uid, name, namespace), jiff::Timestamp::now().to_string());
        let objects = self.switches.hide(objects);
        let world = remains(build, self.now(), wall, &objects, memory, &mut lock(&self.node_memory))?;
        Ok(self.completed(world))
    }

    fn completed(&self, mut world: World) -> World {
        self.caches.ended.remember(&mut world);
        self.switches.falsify(&mut world);
        world
    }
}

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
    let begun = Instant::now();
    let outcome = match read(&build, &context).await {
        Ok(Some(build)) => pass(&build, &context).await,
        Ok(None) => Ok(AT_WORK),
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Err(OperatorError::Blind(Blind(unreadable))) => {
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
            lock(&context.failures).remove(&uid);
            Ok(Requeue::requeue(jittered(wait)))
        }
        Err(error) if error.is_conflict() => {
            let pause = growing(AFTER_CONFLICT, context.failed(uid));
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
    Requeue::requeue(jittered(growing(BACKOFF, failures)))
}

/// The pause after so many failures in a row: twice as long after each.
fn growing((first, longest): (Duration, Duration), failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest)
}

/// Within a tenth of it, so that many builds are not looked at in one moment.
fn jittered(wait: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() % 200;
    let share = u32::try_from(random).unwrap_or(100) + 900;
    wait.saturating_mul(share) / 1_000
}

/// A build as the watch told it; where that cannot be read, as the API server has it now, as the watch may be behind.
/// `None`: it is not there any more.
async fn read(build: &Guarded<IndexBuild>, context: &Context) -> Result<Option<Arc<IndexBuild>>, OperatorError> {
    if let Ok(build) = build.read() {
        return Ok(Some(build));
    }
    let owner = Owner::of(build);
    let memory = context.memory(&owner.uid);
    memory.lock().await.count_anew();
    live(context, &owner).await
}

/// A build as the API server has it now; `None`: it is not there, or another one has its name.
async fn live(context: &Context, owner: &Owner) -> Result<Option<Arc<IndexBuild>>, OperatorError> {
    let api = Api::<Guarded<IndexBuild>>::namespaced(context.client.clone(), &owner.namespace);
    let live =
        api.get_opt(&owner.name).await.map_err(OperatorError::api(format!("build {} is not read", owner.name)))?;
    let live = live.filter(|live| live.uid().as_deref() == Some(owner.uid.as_str()));
    Ok(live.map(|live| live.read()).transpose().map_err(|unreadable| Blind(vec![unreadable]))?)
}

async fn pass(build: &IndexBuild, context: &Context) -> Result<Duration, OperatorError> {
    let owner = Owner::of(build);
    let memory = context.memory(&owner.uid);
    let mut memory = memory.lock().await;
    let memory = &mut *memory;
    if let Some(trouble) = trouble::unsupported(&build.spec).filter(|_| build.metadata.deletion_timestamp.is_none()) {
        let mut status = IndexBuildStatus {
            observed_generation: build.metadata.generation.unwrap_or_default(),
            ..IndexBuildStatus::default()
        };
        refuse(&mut status, build.status.as_ref(), &trouble);
        write_status(context, &owner, build.status.as_ref(), status, true, memory).await?;
        return Ok(AT_REST);
    }
    // Observe, and plan.
    let objects = Objects::cached(&context.caches, &context.nodes, &owner);
    let status = memory.newest_status(build.status.as_ref());
    // What cannot be read in the caches is looked at live, as they may be behind.
    if let Ok(seen) = context.world(build, status.clone(), &objects, memory) {
        let decision = plan(&seen);
        let idle = decision.actions.is_empty() && !provide::is_behind(build, &seen, &decision, memory);
        if idle && !memory.live_look_is_due(decision.end.is_some(), context.now()) {
            return report(context, build, &owner, &objects, &seen, status.as_ref(), decision, memory).await;
        }
    }
    // Something is to be done, or an event may have been lost on its way to the caches: it is decided anew on what
    // is read live, in this pass.
    let Some(live) = live(context, &owner).await? else {
        return Ok(AT_WORK);
    };
    let objects = Objects::live(&context.client, &context.nodes, &owner, memory)
        .await
        .map_err(OperatorError::api(format!("the objects of build {} are not read", owner.name)))?;
    memory.looked_live(context.now());
    let seen = match context.world(&live, live.status.clone(), &objects, memory) {
        Ok(seen) => seen,
        Err(blind) => return undecided(context, &live, &owner, blind, memory).await,
    };
    let decision = plan(&seen);
    // Execute.
    let done = execute(context, &live, &owner, &objects, &seen, &decision, memory).await;
    // Report.
    let status = live.status.clone();
    let wait = report(context, &live, &owner, &objects, &seen, status.as_ref(), decision, memory).await?;
    done.map(|()| wait)
}

/// A build of which something cannot be read. What that is would be absent from what is decided on: it would be made
/// again, or taken for gone. So nothing is decided, and it is told which object stands in the way.
async fn undecided(
    context: &Context,
    build: &IndexBuild,
    owner: &Owner,
    blind: Blind,
    memory: &mut BuildMemory,
) -> Result<Duration, OperatorError> {
    memory.count_anew();
    let before = build.status.as_ref();
    let message = blind.0.iter().map(words_about).collect::<Vec<_>>().join("; ");
    let event = action::Event { reason: Reason::Unreadable, warning: true, message: message.clone() };
    context.reporting.events.publish(build, &[event]).await;
    let finished = before.and_then(|status| status.condition(ConditionType::Finished));
    if finished.is_none_or(|finished| finished.status != ConditionStatus::True) {
        let mut status = before.cloned().unwrap_or_default();
        let wall = jiff::Timestamp::now().to_string();
        trouble::stall(&mut status, before, &Trouble { reason: Reason::Unreadable, message }, &wall);
        write_status(context, owner, before, status, true, memory).await?;
    }
    Err(blind.into())
}

/// Carries out the actions in their order; those of one kind, each of which is about another slot, side by side, as a
/// build may have hundreds. One that fails does not hinder the others; the next pass looks again.
async fn execute(
    context: &Context,
    build: &IndexBuild,
    owner: &Owner,
    objects: &Objects,
    world: &World,
    decision: &Decision,
    memory: &mut BuildMemory,
) -> Result<(), OperatorError> {
    let mut failed = None;
    let makes_pods = decision.actions.iter().any(|action| matches!(action, Action::CreatePod { .. }));
    // What executors are allowed and told is there before the first of them, and follows the spec, the slots and the
    // stages while they run.
    let follows = memory.provided.is_some() && !decision.actions.is_empty();
    let follows = follows && !world.slots.is_empty() && decision.end.is_none() && world.build.finalizer;
    let provided = if makes_pods || follows || provide::is_behind(build, world, decision, memory) {
        provide::provide(&context.client, build, owner, world, memory).await
    } else {
        Ok(())
    };
    let provided = match provided {
        Ok(()) => {
            memory.trouble.remove(&ALL_SLOTS);
            true
        }
        Err(error) => {
            tracing::warn!(error = %error.said(), "what executors need is not provided");
            memory.trouble.insert(ALL_SLOTS, error.said());
            failed = Some(error);
            false
        }
    };
    let (client, image, announcer) = (&context.client, &context.image, &context.reporting.events);
    let hands = Hands { client, image, announcer, build: Some(build), owner, objects, world };
    for alike in decision.actions.chunk_by(|one, next| one.name() == next.name()) {
        if !provided && matches!(alike, [Action::CreatePod { .. }, ..]) {
            continue;
        }
        let carried_out = |action: &Action| {
            let (hands, action) = (&hands, action.clone());
            async move { hands.carry_out(action).await }
        };
        let under_way: Vec<_> = alike.iter().map(carried_out).collect();
        let outcomes: Vec<_> = futures::stream::iter(under_way).buffered(ABREAST).collect().await;
        for (action, outcome) in alike.iter().zip(outcomes) {
            let (name, slot) = (action.name(), slot_of(action));
            let Err(error) = outcome else {
                context.reporting.metrics.acted(action);
                if let Some(slot) = slot {
                    memory.trouble.remove(&slot);
                }
                continue;
            };
            if let (Action::CreateClaim { slot, generation, name }, OperatorError::Foreign { .. }) = (action, &error) {
                // The lifecycle takes another name, once it sees that this one is taken.
                memory.foreign_claims.insert(name.clone(), (*slot, *generation));
            }
            if error.is_conflict() {
                tracing::debug!(action = name, slot, %error, "somebody else wrote first");
            } else {
                tracing::warn!(action = name, slot, error = %error.said(), "an action failed");
                memory.trouble.insert(slot.unwrap_or(0), error.said());
            }
            failed = failed.filter(|first: &OperatorError| !first.is_conflict()).or(Some(error));
        }
    }
    failed.map_or(Ok(()), Err)
}

#[allow(clippy::too_many_arguments)] // each is what one line of it needs
async fn report(
    context: &Context,
    build: &IndexBuild,
    owner: &Owner,
    objects: &Objects,
    world: &World,
    before: Option<&IndexBuildStatus>,
    decision: Decision,
    memory: &mut BuildMemory,
) -> Result<Duration, OperatorError> {
    let Decision { actions, mut status, requeue, end, waits, mut events } = decision;
    let wall = jiff::Timestamp::now().to_string();
    memory.see_percent(status.percent.unwrap_or(0), context.now());
    if end.is_some() {
        memory.trouble.clear();
    }
    let wanted = || objects.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    // Until when a pod is waited for, and what is done then.
    let waited = |pod: &Pod| {
        let slot = crate::views::pod(pod).map(|pod| pod.slot);
        let said = before.and_then(|before| before.condition(ConditionType::Ready));
        let waits = waits.iter().filter(|wait| wait.slot == slot && wait.reason == Reason::WaitingForPod);
        waits.map(|wait| describe_wait(wait, world, said.map(|said| said.message.as_str()))).next()
    };
    let mut hindered: Vec<Trouble> = wanted().filter_map(|pod| Some(trouble::of_pod(pod)?.and(waited(pod)))).collect();
    // What their status does not say is told in events: asked for where something takes long, and only then.
    // A pod whose process has claimed its grant runs, whatever the kubelet of a node that was lost since said last.
    let claimed = |pod: &Pod| {
        let grants = world.slots.iter().filter_map(|slot| slot.record.spec.grant.as_ref());
        let mut claimed = grants.filter(|grant| !grant.boot_nonce.is_empty());
        claimed.any(|grant| pod.metadata.uid.as_deref() == Some(grant.pod_uid.as_str()))
    };
    let unstarted: Vec<_> = wanted().filter(|pod| trouble::is_unstarted(pod) && !claimed(pod)).collect();
    let unbound: Vec<_> = objects.claims.iter().filter(|claim| trouble::is_unbound(claim)).collect();
    let uids = unstarted.iter().filter_map(|pod| pod.metadata.uid.as_deref());
    let uids: Vec<_> = uids.chain(unbound.iter().filter_map(|claim| claim.metadata.uid.as_deref())).collect();
    let late = memory.late(&uids, LATE, context.now());
    let is_late = |uid: Option<String>| uid.is_some_and(|uid| late.contains(&uid));
    if let Some(claim) = unbound.iter().find(|claim| is_late(claim.uid()))
        && let Some(told) = trouble::of_unbound(claim, &warnings(context, owner, claim.uid()).await)
    {
        hindered.insert(0, told);
    }
    if let Some(pod) = unstarted.iter().find(|pod| is_late(pod.uid()))
        && hindered.is_empty()
    {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let lost = node.filter(|name| world.node(name).is_some_and(|node| node.ready != NodeReady::True));
        let warnings = if lost.is_none() { warnings(context, owner, pod.uid()).await } else { Vec::new() };
        hindered.push(trouble::of_unstarted(pod, lost, &warnings).and(waited(pod)));
    }
    if let Some(trouble) = trouble::first(hindered.into_iter(), &memory.trouble).filter(|_| end.is_none()) {
        trouble::say(&mut status, before, &trouble, &wall);
    }
    if end.is_none() {
        context.reporting.say_ownership(&mut status, before, &wall);
        events.extend(context.reporting.ownership_event());
    }
    let events = [events, transition_events(before, &status)].concat();
    context.reporting.events.publish(build, &events).await;
    let said = write_status(context, owner, before, status, end.is_some(), memory).await?;
    let longest = if end.is_some() && actions.is_empty() && said { AT_REST } else { AT_WORK };
    Ok(Duration::from_millis(requeue.max(50)).min(longest))
}

/// The warnings about an object, as far as they can be read; none where events may not be.
async fn warnings(context: &Context, owner: &Owner, uid: Option<String>) -> Vec<Event> {
    let about = format!("involvedObject.uid={},type=Warning", uid.unwrap_or_default());
    let events = Api::<Guarded<Event>>::namespaced(context.client.clone(), &owner.namespace);
    match events.list(&ListParams::default().fields(&about).limit(50)).await {
        Ok(events) => apart(events.items).0.into_iter().map(Arc::unwrap_or_clone).collect(),
        Err(error) => {
            tracing::debug!(%error, "events are not read");
            Vec::new()
        }
    }
}

/// A build that cannot be carried out here.
fn refuse(status: &mut IndexBuildStatus, before: Option<&IndexBuildStatus>, trouble: &Trouble) {
    use indexbuild_api::ConditionStatus::{False, True};
    let wall = jiff::Timestamp::now().to_string();
    let Trouble { reason, message } = trouble;
    let all = [
        (ConditionType::Ready, False),
        (ConditionType::Stalled, True),
        (ConditionType::Reconciling, False),
        (ConditionType::Progressing, False),
        (ConditionType::Complete, False),
        (ConditionType::Finished, False),
    ];
    for (condition, holds) in all {
        trouble::put(status, before, condition, holds, *reason, message, &wall);
    }
}

/// Writes the status where it says something new (I8); a last word at once. Whether all is said.
async fn write_status(
    context: &Context,
    owner: &Owner,
    before: Option<&IndexBuildStatus>,
    status: IndexBuildStatus,
    last_word: bool,
    memory: &mut BuildMemory,
) -> Result<bool, OperatorError> {
    let now = context.now();
    let differs = before != Some(&status);
    if !differs || !(last_word || memory.status_is_due(before, &status, now)) {
        return Ok(!differs);
    }
    let patch = json!({
        "apiVersion": "indexbuild.dev/v1alpha1",
        "kind": "IndexBuild",
        "metadata": {"name": owner.name, "uid": owner.uid},
        "status": status,
    });
    let api = Api::<Guarded<IndexBuild>>::namespaced(context.client.clone(), &owner.namespace);
    let written =
        api.patch_status(&owner.name, &PatchParams::apply(labels::FIELD_MANAGER).force(), &Patch::Apply(patch)).await;
    match written {
        Ok(_) => {
            memory.wrote_status(status, now);
            Ok(true)
        }
        // Deleted meanwhile: nobody is left to be told.
        Err(error) if crate::error::is_status(&error, 404) => Ok(true),
        Err(error) => {
            memory.forget_status();
            Err(OperatorError::api(format!("the status of build {} is not written", owner.name))(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that is cut off from its watch loses each write: without longer pauses, five passes a second.
    #[test]
    fn passes_that_lose_their_writes_again_and_again_become_seldom() {
        let pauses = [1, 2, 3, 5, 6, 40, u32::MAX].map(|failures| growing(AFTER_CONFLICT, failures).as_millis());
        assert_eq!(pauses, [200, 400, 800, 3_200, 5_000, 5_000, 5_000]);
        let minute: Duration = (1..=16).map(|failures| growing(AFTER_CONFLICT, failures)).sum();
        assert!(minute > Duration::from_secs(55), "{minute:?}");
        assert_eq!(growing(BACKOFF, 40), Duration::from_secs(30));
    }
}
