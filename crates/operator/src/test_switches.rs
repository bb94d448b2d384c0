//! Ways in which the operator misbehaves, for tests and their negative controls. No product code sets them: they come from
//! the environment alone, and the operator says at its start that one is on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexbuild_api::VolumeState;
use indexbuild_lifecycle::world::{NodeReady, PodState, Termination, World};
use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;

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
}

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

    /// A pod that reads the boot id of its node where the test bed keeps it.
    pub(crate) fn switched(&self, mut pod: core::Pod) -> core::Pod {
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
