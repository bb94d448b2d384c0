//! Ways in which the operator misbehaves, for tests and their negative controls. No product code sets them: they come from
//! the environment alone, and the operator says at its start that one is on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexbuild_api::{
    Condition, ConditionType, EngineDirectorySpec, EngineDirectoryStatus, Epoch, IndexBuildStatus, VolumeState,
};
use indexbuild_lifecycle::world::{NodeReady, PodState, Termination, World};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::observe::Objects;

/// What of an observation is falsified, read from JSON: the variable `INDEXBUILD_TEST_SWITCHES`. As the operator decides
/// nothing itself, a check is switched off by hiding from the lifecycle what it checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TestSwitches {
    /// Each node is taken for ready: that most of them are lost is not seen.
    pub(crate) believe_nodes_ready: bool,
    /// A pod on a node that is not ready is taken for ended, as if the kubelet had said so (G8, I4 are off).
    pub(crate) trust_silence: bool,
    /// A volume that a replacement left behind is taken for one of no further use: nobody returns.
    pub(crate) forget_stranded: bool,
    /// A report is taken for the present owner's, whoever wrote it (G3 is off).
    pub(crate) take_any_report: bool,
    /// What cannot be read is taken for absent.
    pub(crate) forget_unreadable: bool,
    /// A folder of every node with a file for each of them, named as it is, that holds its boot id: executors read theirs
    /// there, as nodes that share one kernel do not differ in its own.
    pub(crate) node_boot_ids: Option<String>,
    /// By node: the boot that each owner there is taken to have begun at, whatever it says, as if that had been noted
    /// when its pod was bound (I4 is off).
    pub(crate) noted_boots: BTreeMap<String, String>,
    /// An object is taken for a frozen stage by its name alone (G2, G6 are off).
    pub(crate) believe_any_stage: bool,
    /// The API server's clock is taken for unknown, as if its answers told no time.
    pub(crate) forget_server_time: bool,
    /// What a build's `spec.executor.podMetadata` has under the annotation [`HANDED_OVER`] is handed to its executors as their
    /// switches: the variable itself is refused in a build's environment.
    pub(crate) hand_over: bool,
    /// It is of a later version: what it writes has one more field wherever fields may be, and one more word, neither of which
    /// an operator or an executor of this version knows.
    pub(crate) later_version: bool,
}

/// The annotation of a pod by which a test hands switches to its executor.
const HANDED_OVER: &str = "indexbuild.dev/test-switches";

/// The variable by which an executor is asked to misbehave.
const SWITCHES: &str = "INDEXBUILD_TEST_SWITCHES";

/// The field that an operator of a later version writes.
const LATER_FIELD: &str = "laterVersion";

/// The word that an operator of a later version writes.
const LATER_WORD: &str = "LaterVersion";

/// Where a pod finds the boot ids of nodes.
const BOOT_IDS: &str = "/var/lib/boot-ids";

impl TestSwitches {
    /// What is observed, before it is looked at.
    pub(crate) fn hide<'o>(&self, objects: &'o Objects) -> Cow<'o, Objects> {
        if !self.forget_unreadable {
            return Cow::Borrowed(objects);
        }
        Cow::Owned(Objects { unreadable: Vec::new(), ..objects.clone() })
    }

    /// A pod that is told what its build's test wants of it.
    pub(crate) fn switched(&self, mut pod: core::Pod) -> core::Pod {
        let told = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(HANDED_OVER)).cloned();
        if let (true, Some(switches), Some(spec)) = (self.hand_over, told, &mut pod.spec) {
            for container in &mut spec.containers {
                container.env.get_or_insert_default().push(core::EnvVar {
                    name: SWITCHES.to_owned(),
                    value: Some(switches.clone()),
                    value_from: None,
                });
            }
        }
        self.reading_boot_ids(pod)
    }

    /// A pod that reads the boot id of its node where the test bed keeps it.
    fn reading_boot_ids(&self, mut pod: core::Pod) -> core::Pod {
        let (Some(folder), Some(spec)) = (&self.node_boot_ids, &mut pod.spec) else {
            return pod;
        };
        spec.volumes.get_or_insert_default().push(core::Volume {
            name: "boot-ids".to_owned(),
            host_path: Some(core::HostPathVolumeSource { path: folder.clone(), type_: Some("Directory".to_owned()) }),
            ..core::Volume::default()
        });
        for container in &mut spec.containers {
            container.volume_mounts.get_or_insert_default().push(core::VolumeMount {
                name: "boot-ids".to_owned(),
                mount_path: BOOT_IDS.to_owned(),
                read_only: Some(true),
                ..core::VolumeMount::default()
            });
            container.env.get_or_insert_default().push(core::EnvVar {
                name: "NODE_NAME".to_owned(),
                value_from: Some(core::EnvVarSource {
                    field_ref: Some(core::ObjectFieldSelector {
                        field_path: "spec.nodeName".to_owned(),
                        api_version: None,
                    }),
                    ..core::EnvVarSource::default()
                }),
                ..core::EnvVar::default()
            });
            container.args.get_or_insert_default().push(format!("--boot-id-file={BOOT_IDS}/$(NODE_NAME)"));
        }
        pod
    }

    /// What an operator of a later version writes of a record's spec: what this one does, and a field more wherever it writes.
    pub(crate) fn later_spec(
        &self,
        spec: &EngineDirectorySpec,
        mut operations: Vec<PatchOperation>,
    ) -> Vec<PatchOperation> {
        if !self.later_version || operations.is_empty() {
            return operations;
        }
        // A work is said once, with its epoch.
        let says_work = operations.iter().any(|operation| operation.path().as_str() == "/spec/work");
        let parts = [
            ("/spec", true),
            ("/spec/grant", spec.grant.is_some()),
            ("/spec/volume", spec.volume.is_some()),
            ("/spec/work", spec.work.is_some() && says_work),
        ];
        let epoch = spec.grant.as_ref().map_or(Epoch::NONE, |grant| grant.epoch);
        let there = parts.into_iter().filter(|(_, there)| *there);
        operations.extend(there.map(|(part, _)| later_field(part, &format!("of epoch {epoch}"))));
        operations
    }

    /// The same of a status, of a record or of a build.
    pub(crate) fn later_status(&self, mut operations: Vec<PatchOperation>) -> Vec<PatchOperation> {
        if self.later_version && !operations.is_empty() {
            operations.push(later_field("/status", "of a status"));
        }
        operations
    }

    /// The words that it tells people of a slot.
    pub(crate) fn later_record(&self, mut status: EngineDirectoryStatus) -> EngineDirectoryStatus {
        if self.later_version {
            status.history.iter_mut().for_each(|change| change.reason = later_word(change.reason));
            status.conditions.iter_mut().for_each(|condition| condition.reason = later_word(condition.reason));
        }
        status
    }

    /// The words that it tells people of a build.
    pub(crate) fn later_build(&self, mut status: IndexBuildStatus) -> IndexBuildStatus {
        let told = |condition: &&mut Condition| condition.condition_type == ConditionType::Progressing;
        if self.later_version {
            status
                .conditions
                .iter_mut()
                .filter(told)
                .for_each(|condition| condition.reason = later_word(condition.reason));
        }
        status
    }

    pub(crate) fn falsify(&self, world: &mut World) {
        let Self {
            believe_nodes_ready,
            trust_silence,
            forget_stranded,
            take_any_report,
            forget_unreadable: _,
            forget_server_time: _,
            believe_any_stage,
            node_boot_ids: _,
            noted_boots,
            hand_over: _,
            later_version: _,
        } = self;
        if *believe_any_stage {
            for (stage, _) in world.frozen.unproved.drain(..).filter_map(|unproved| unproved.holds) {
                world.frozen.lost.retain(|lost| lost.name != stage.name);
                world.stages.push(stage);
            }
        }
        for slot in &mut world.slots {
            let grant = slot.record.spec.grant.as_mut().filter(|grant| !grant.boot_nonce.is_empty());
            if let Some(grant) = grant
                && let Some(noted) = noted_boots.get(&grant.node_name)
                && let Some(node) = world.nodes.iter().find(|node| node.name == grant.node_name)
            {
                grant.boot_id.clone_from(noted);
                grant.system_uuid.clone_from(&node.system_uuid);
            }
        }
        if *trust_silence {
            let World { pods, nodes, .. } = world;
            let silent = |name: &str| nodes.iter().any(|node| node.name == name && node.ready != NodeReady::True);
            for pod in pods.iter_mut().filter(|pod| pod.node.as_deref().is_some_and(silent)) {
                pod.state = PodState::Terminated(Termination {
                    exit_code: 0,
                    finished_at: world.wall.clone(),
                    kubelet_written: true,
                    container_id_present: true,
                    restart_never: true,
                });
            }
        }
        if *believe_nodes_ready {
            for node in &mut world.nodes {
                node.ready = NodeReady::True;
                node.readiness_age = 0;
            }
        }
        for slot in &mut world.slots {
            let record = &mut slot.record;
            if *forget_stranded {
                for volume in record.spec.former_volumes.iter_mut().filter(|one| one.state == VolumeState::Stranded) {
                    volume.state = VolumeState::Superseded;
                }
            }
            if *take_any_report && let (Some(report), Some(grant)) = (&mut record.status.report, &record.spec.grant) {
                report.epoch = grant.epoch;
                report.boot_nonce.clone_from(&grant.boot_nonce);
                if let Some(result) = &mut report.result {
                    result.epoch = grant.epoch;
                }
            }
        }
    }
}

fn later_field(part: &str, value: &str) -> PatchOperation {
    let path = PointerBuf::parse(format!("{part}/{LATER_FIELD}")).unwrap_or_default();
    PatchOperation::Add(AddOperation { path, value: Value::from(value) })
}

/// A word of any closed set.
fn later_word<T: DeserializeOwned>(known: T) -> T {
    serde_json::from_value(Value::from(LATER_WORD)).unwrap_or(known)
}
