//! Apply: the lifecycle's actions, carried out on the API server.
//!
//! Every change of a record is a compare-and-set (G1), every delete names a UID, and what is there already counts
//! as done only where it is ours.

use futures::StreamExt as _;
use indexbuild_api::{
    DirectoryState, EngineDirectory, EngineDirectorySpec, EngineDirectoryStatus, FrozenStage, Guarded, IndexBuild,
    IndexBuildStatus, labels, names,
};
use indexbuild_lifecycle::plan::kept_claim;
use indexbuild_lifecycle::record::{StatusChange, can_wait, same_but_for_owner, status_after};
use indexbuild_lifecycle::texts::Fitted as _;
use indexbuild_lifecycle::world::{Stage, World};
use indexbuild_lifecycle::{Action, Platform};
use json_patch::{Patch as JsonPatch, PatchOperation, RemoveOperation, ReplaceOperation};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::changes;
use crate::context::Context;
use crate::error::{OperatorError, is_status};
use crate::memory::BuildMemory;
use crate::objects::{self, Owner, PodPlace};
use crate::observe::Objects;
use crate::plan::Pass;
use crate::prerequisites;
use crate::views::{self, is_of_build, is_owned_by};

/// So many writes of one kind are on their way at once.
const ABREAST: usize = 8;

/// How often the status that follows a spec is written where the record's owner reports in between.
const TELLS: usize = 4;

/// Carries out the actions in their order; those of one kind, each of which is about another slot, side by side, as a
/// build may have hundreds. One that fails does not hinder the others; the next pass looks again.
pub(crate) async fn apply(pass: &Pass<'_>, memory: &mut BuildMemory) -> Result<(), OperatorError> {
    let Pass { context, owner, build, objects, world, decision } = pass;
    let mut failed = None;
    let makes_pods = decision.actions.iter().any(|action| matches!(action, Action::CreatePod { .. }));
    // What executors are allowed and told is there before the first of them, and follows the spec, the slots and the
    // stages while they run.
    let follows = memory.provided.is_some() && !decision.actions.is_empty();
    let follows = follows && !world.slots.is_empty() && decision.end.is_none() && world.build.finalizer;
    let provided = if makes_pods || follows || prerequisites::is_behind(build, world, decision, memory) {
        prerequisites::provide(&context.client, build, owner, world, memory).await
    } else {
        Ok(())
    };
    let provided = match provided {
        Ok(()) => {
            memory.failed_actions.remove(&None);
            true
        }
        Err(error) => {
            memory.namespace_ends |= error.is_end_of_namespace();
            tracing::warn!(error = %error.said(), "what executors need is not provided");
            memory.failed_actions.insert(None, error.said());
            failed = Some(error);
            false
        }
    };
    // What hinders it is not in what was decided: then its status is told by itself.
    let said = decision.said_with_stages.clone().filter(|_| !memory.hindered && build.status.is_some());
    let said = said.map(|said| context.switches().later_build(said));
    let hands = ActionRunner { context, build: Some(build), owner, objects, world, said };
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
            let error = match outcome {
                Ok(written) => {
                    context.reporting.metrics.acted(action);
                    if let (Action::RemoveFinalizer, Some(left)) = (action, &decision.leaves) {
                        context.reporting.metrics.left_behind(left.reason);
                    }
                    if slot.is_some() {
                        memory.failed_actions.remove(&slot);
                    }
                    if let Some(version) = written {
                        memory.wrote_build(&build.metadata, build.status.as_ref(), version.clone());
                        if let (Action::RecordStages { stages }, Some(said)) = (action, &hands.said) {
                            let said = IndexBuildStatus { frozen_stages: Some(stages.clone()), ..said.clone() };
                            memory.wrote_status(said, version, context.now());
                        }
                    }
                    continue;
                }
                Err(error) => error,
            };
            if let (Action::CreateClaim { slot, generation, name }, OperatorError::Foreign { .. }) = (action, &error) {
                // The lifecycle takes another name, once it sees that this one is taken.
                memory.foreign_claims.insert(name.clone(), (*slot, *generation));
            }
            if let (Action::CreatePod { name, .. }, OperatorError::Foreign { .. }) = (action, &error) {
                // The lifecycle takes the next epoch, whose pod has another name.
                memory.met_foreign_pod(name);
            }
            if let (Action::FreezeStage { stage }, OperatorError::Foreign { name, .. }) = (action, &error) {
                // The lifecycle tells of it, once it sees what is there.
                tracing::warn!(stage = %stage.name, object = %name, "somebody else's object has the name of a stage");
                memory.foreign_stages.insert(name.clone());
                continue;
            }
            memory.namespace_ends |= error.is_end_of_namespace();
            if error.is_conflict() {
                tracing::debug!(action = name, slot, %error, "somebody else wrote first");
            } else {
                tracing::warn!(action = name, slot, error = %error.said(), "an action failed");
                memory.failed_actions.insert(slot.or(Some(0)), error.said());
            }
            failed = failed.filter(|first: &OperatorError| !first.is_conflict()).or(Some(error));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Carries out actions about one build.
pub(crate) struct ActionRunner<'a> {
    pub context: &'a Context,
    /// The build, as it was read. `None`: it is gone, and nothing is made for it any more.
    pub build: Option<&'a IndexBuild>,
    pub owner: &'a Owner,
    /// Its objects, as they were read live.
    pub objects: &'a Objects,
    pub world: &'a World,
    /// What is said of the build in the write of the list of its frozen stages.
    pub said: Option<IndexBuildStatus>,
}

/// What is told of a record's spec that was just written: over which status, and what it is then.
struct Told<'a> {
    spec: &'a EngineDirectorySpec,
    before: Option<&'a EngineDirectoryStatus>,
    after: &'a EngineDirectoryStatus,
}

fn slot_of(action: &Action) -> Option<u32> {
    match action {
        Action::CreateDirectory { slot, .. }
        | Action::UpdateDirectory { slot, .. }
        | Action::DeleteDirectory { slot, .. }
        | Action::CreateClaim { slot, .. }
        | Action::CreatePod { slot, .. }
        | Action::KeepClaim { slot, .. } => Some(*slot),
        Action::AddFinalizer
        | Action::RemoveFinalizer
        | Action::StopPod { .. }
        | Action::DeleteClaim { .. }
        | Action::RecordStages { .. }
        | Action::FreezeStage { .. } => None,
    }
}

fn post() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(labels::FIELD_MANAGER.to_owned()) }
}

fn by_uid(uid: &str, version: Option<&str>) -> DeleteParams {
    DeleteParams::background()
        .preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(str::to_owned) })
}

/// Changes an object, where it is still at `version`: the API server compares (G1).
pub(crate) fn compare_and_set(version: &str, mut operations: Vec<PatchOperation>) -> Patch<()> {
    let replaced = replace("/metadata/resourceVersion", json!(version));
    operations.insert(0, replaced);
    Patch::Json(JsonPatch(operations))
}

fn replace(path: &'static str, value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation {
        path: json_patch::jsonptr::PointerBuf::parse(path).unwrap_or_default(),
        value,
    })
}

fn remove(path: &'static str) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: json_patch::jsonptr::PointerBuf::parse(path).unwrap_or_default() })
}

impl ActionRunner<'_> {
    /// Answers are read by the guard: what was written is written, whether or not the whole of it can be read.
    fn api<K>(&self) -> Api<Guarded<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone,
    {
        Api::namespaced(self.context.client.clone(), &self.owner.namespace)
    }

    /// Carries out one action. What it finds done already counts as done. The build's version, where its object was written.
    ///
    /// # Errors
    /// [`OperatorError`]: a conflict means to look again.
    pub(crate) async fn carry_out(&self, action: Action) -> Result<Option<String>, OperatorError> {
        tracing::debug!(?action, "an action");
        let done = match action {
            Action::AddFinalizer => return self.finalizer(true).await,
            Action::RemoveFinalizer => return self.finalizer(false).await,
            Action::RecordStages { stages } => return self.record_stages(&stages).await,
            Action::CreateDirectory { slot, spec } => self.create_directory(slot, spec).await,
            Action::UpdateDirectory { slot, version, spec, state, change, conditions } => {
                let change = StatusChange { state, change, conditions: &conditions };
                self.update_directory(slot, &version, &spec, change).await
            }
            Action::DeleteDirectory { slot, version } => self.delete_directory(slot, &version).await,
            Action::CreateClaim { slot, generation, name } => self.create_claim(slot, generation, name).await,
            Action::CreatePod { slot, epoch, name, claim } => {
                self.create_pod(PodPlace { slot, epoch, name, claim }).await
            }
            Action::StopPod { name, uid, reason } => {
                let pod = self.objects.pods.iter().find(|pod| pod.uid().as_deref() == Some(uid.as_str()));
                let last_words = pod.and_then(|pod| views::last_words(pod));
                tracing::info!(pod = %name, ?reason, last_words, "a pod is asked to stop");
                gone(self.api::<Pod>().delete(&name, &by_uid(&uid, None)).await, format!("pod {name} is not deleted"))
            }
            Action::DeleteClaim { name, uid, condemned, evidence } => {
                tracing::info!(claim = %name, record = condemned.version(), proof = evidence.kind().describe(Platform::Kubernetes), "a volume is removed");
                let deleted = self.api::<PersistentVolumeClaim>().delete(&name, &by_uid(&uid, None)).await;
                gone(deleted, format!("claim {name} is not deleted"))
            }
            Action::KeepClaim { slot, name, uid, evidence } => {
                tracing::info!(claim = %name, proof = evidence.kind().describe(Platform::Kubernetes), "a volume is kept");
                self.context
                    .reporting
                    .events
                    .tell_claim(&self.owner.namespace, &name, &uid, &kept_claim(self.world, slot, &name))
                    .await;
                Ok(())
            }
            Action::FreezeStage { stage } => self.freeze(&stage).await,
        };
        done.map(|()| None)
    }

    fn build(&self) -> Result<&IndexBuild, OperatorError> {
        self.build.ok_or_else(|| OperatorError::Gone { name: self.owner.name.clone() })
    }

    async fn finalizer(&self, wanted: bool) -> Result<Option<String>, OperatorError> {
        let build = self.build()?;
        let mut finalizers = build.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != labels::FINALIZER);
        if wanted {
            finalizers.push(labels::FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {
            "uid": self.owner.uid,
            "resourceVersion": build.resource_version(),
            "finalizers": finalizers,
        }});
        let name = &self.owner.name;
        let done = self.api::<IndexBuild>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match done {
            Ok(written) => Ok(written.resource_version()),
            Err(error) if !wanted && is_status(&error, 404) => Ok(None),
            Err(error) => Err(OperatorError::api(format!("the finalizer of build {name} is not written"))(error)),
        }
    }

    async fn create_directory(&self, slot: u32, spec: EngineDirectorySpec) -> Result<(), OperatorError> {
        let directory = objects::directory(self.owner, slot, spec, &self.context.reporting.events.lease());
        let name = directory.name_any();
        let api = self.api::<EngineDirectory>();
        created(api.create(&post(), &Guarded::readable(directory)).await, &api, "EngineDirectory", &name, self.owner)
            .await
    }

    /// Two writes, each by compare-and-set: the spec, by which all is decided, then what people read of it.
    async fn update_directory(
        &self,
        slot: u32,
        version: &str,
        spec: &EngineDirectorySpec,
        change: StatusChange<'_>,
    ) -> Result<(), OperatorError> {
        let name = names::directory(&self.owner.name, &self.owner.uid, slot);
        let Some(observed) = self.objects.directory(slot) else {
            return Ok(());
        };
        let before = observed.status.as_ref();
        let said = observed.status.clone().unwrap_or_default();
        let after = status_after(&observed.spec, &said, spec, change, &self.world.wall).fitted();
        let after = self.context.switches().later_record(after);
        if *spec == observed.spec && change.state != DirectoryState::Tombstone {
            return if after == said { Ok(()) } else { self.write_status(&name, version, before, &after).await };
        }
        let operations = changes::of_spec(&observed.spec, spec);
        let mut operations = self.context.switches().later_spec(spec, operations);
        if change.state == DirectoryState::Tombstone && observed.metadata.owner_references.is_some() {
            operations.push(remove("/metadata/ownerReferences"));
        }
        let patch = compare_and_set(version, operations);
        let parameters =
            PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = self
            .api::<EngineDirectory>()
            .patch(&name, &parameters, &patch)
            .await
            .map_err(OperatorError::api(format!("record {name} is not written")))?;
        if after == said || can_wait(&said, &after) {
            return Ok(());
        }
        let told = Told { spec, before, after: &after };
        self.tell(&name, written.resource_version().unwrap_or_default(), told).await
    }

    /// Writes the status that follows a spec that was just written. That the owner reports in between is no reason to lose
    /// it. Whoever else has written the record meanwhile knows more than this process, which may be a former leader's.
    async fn tell(&self, name: &str, mut version: String, told: Told<'_>) -> Result<(), OperatorError> {
        let Told { spec, before, after } = told;
        let said = before.cloned().unwrap_or_default();
        let mut there = before.cloned();
        for _ in 1..TELLS {
            match self.write_status(name, &version, there.as_ref(), after).await {
                Err(error) if error.is_conflict() => {
                    let read = self.api::<EngineDirectory>().get_opt(name).await;
                    let read = read.map_err(OperatorError::api(format!("record {name} is not read")))?;
                    let Some(Ok(now)) = read.map(|record| record.read()) else {
                        return Err(error);
                    };
                    let status = now.status.clone().unwrap_or_default();
                    if now.spec != *spec || !same_but_for_owner(&status, &said) {
                        return Err(error);
                    }
                    there.clone_from(&now.status);
                    version = now.resource_version().unwrap_or_default();
                }
                done => return done,
            }
        }
        self.write_status(name, &version, there.as_ref(), after).await
    }

    /// By compare-and-set, as all that a record says: a former leader's late write is refused. `there`: the status at that
    /// version.
    async fn write_status(
        &self,
        name: &str,
        version: &str,
        there: Option<&EngineDirectoryStatus>,
        status: &EngineDirectoryStatus,
    ) -> Result<(), OperatorError> {
        let operations = self.context.switches().later_status(changes::of_record_status(there, status));
        let patch = compare_and_set(version, operations);
        let parameters =
            PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api::<EngineDirectory>()
            .patch_status(name, &parameters, &patch)
            .await
            .map(drop)
            .map_err(OperatorError::api(format!("the status of record {name} is not written")))
    }

    async fn delete_directory(&self, slot: u32, version: &str) -> Result<(), OperatorError> {
        let Some(uid) = self.objects.directory(slot).and_then(kube::ResourceExt::uid) else {
            return Ok(());
        };
        let name = names::directory(&self.owner.name, &self.owner.uid, slot);
        let deleted = self.api::<EngineDirectory>().delete(&name, &by_uid(&uid, Some(version))).await;
        gone(deleted, format!("record {name} is not deleted"))
    }

    async fn create_claim(&self, slot: u32, generation: u32, name: String) -> Result<(), OperatorError> {
        let claim = objects::claim(self.build()?, self.owner, slot, generation, name.clone());
        let api = self.api::<PersistentVolumeClaim>();
        created(api.create(&post(), &Guarded::readable(claim)).await, &api, "PersistentVolumeClaim", &name, self.owner)
            .await
    }

    async fn create_pod(&self, place: PodPlace) -> Result<(), OperatorError> {
        let name = place.name.clone();
        let pod = objects::pod(self.build()?, self.owner, &self.context.image, place)?;
        let pod = self.context.switched(pod);
        let api = self.api::<Pod>();
        created(api.create(&post(), &Guarded::readable(pod)).await, &api, "Pod", &name, self.owner).await
    }

    /// G2: by the version of the build that was decided on. No other write of the status has this part, so that none
    /// takes it away, not even one of a version that does not know it. What is said with it is of the same version.
    async fn record_stages(&self, stages: &[FrozenStage]) -> Result<Option<String>, OperatorError> {
        let (build, name) = (self.build()?, &self.owner.name);
        let version = build.resource_version().unwrap_or_default();
        let mut operations = changes::of_stages(build.status.as_ref(), stages);
        if let Some(said) = &self.said {
            operations.extend(changes::of_build_status(build.status.as_ref(), said));
        }
        let patch = compare_and_set(&version, operations);
        let parameters =
            PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = self
            .api::<IndexBuild>()
            .patch_status(name, &parameters, &patch)
            .await
            .map_err(OperatorError::api(format!("which stages of build {name} are frozen is not written")))?;
        let version = written.resource_version();
        let kept = written.read().ok().and_then(|build| build.status.clone()?.frozen_stages);
        if kept.as_deref() == Some(stages) {
            Ok(version)
        } else {
            Err(OperatorError::OldDefinition { name: name.clone() })
        }
    }

    /// G2, G6: made once, and never changed. One that exists is ours if it holds the same and a list of the build's stages
    /// has it.
    async fn freeze(&self, stage: &Stage) -> Result<(), OperatorError> {
        let map = objects::stage(self.owner, stage)
            .map_err(|source| OperatorError::Json { what: "a frozen stage", source })?;
        let name = map.name_any();
        let api = self.api::<ConfigMap>();
        let made = api.create(&post(), &Guarded::readable(map.clone())).await;
        if made.is_ok() {
            return Ok(());
        }
        created(made, &api, "ConfigMap", &name, self.owner).await?;
        let there = api.get_opt(&name).await.map_err(OperatorError::api(format!("ConfigMap {name} is not read")))?;
        let ours = |there: Guarded<ConfigMap>| {
            let labelled = map.labels().iter().all(|label| there.labels().get_key_value(label.0) == Some(label));
            labelled && there.read().is_ok_and(|there| there.data == map.data)
        };
        if there.is_none_or(ours) { Ok(()) } else { Err(OperatorError::Foreign { kind: "ConfigMap", name }) }
    }
}

/// 404 is success: what was to go is gone. 409: it is another one by now, look again.
fn gone<T>(deleted: Result<T, kube::Error>, what: String) -> Result<(), OperatorError> {
    match deleted {
        Ok(_) => Ok(()),
        Err(error) if is_status(&error, 404) => Ok(()),
        Err(error) => Err(OperatorError::api(what)(error)),
    }
}

/// An object that exists already is read: ours counts as made, somebody else's is named.
async fn created<K>(
    made: Result<Guarded<K>, kube::Error>,
    api: &Api<Guarded<K>>,
    kind: &'static str,
    name: &str,
    owner: &Owner,
) -> Result<(), OperatorError>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let Err(error) = made else {
        return Ok(());
    };
    let exists = matches!(&error, kube::Error::Api(status) if status.is_already_exists());
    if !exists {
        return Err(OperatorError::api(format!("{kind} {name} is not made"))(error));
    }
    match api.get_opt(name).await.map_err(OperatorError::api(format!("{kind} {name} is not read")))? {
        Some(object) if !is_of_build(&object, owner) || (kind == "Pod" && !is_owned_by(&object, &owner.uid)) => {
            Err(OperatorError::Foreign { kind, name: name.to_owned() })
        }
        // Ours, made by an earlier pass; or it went meanwhile: the next pass sees which.
        Some(_) | None => Ok(()),
    }
}
