//! Ways in which the operator misbehaves, for tests and their negative controls. No product code sets them: they come from
//! the environment alone, and the operator says at its start that one is on.

use std::borrow::Cow;

use indexbuild_api::VolumeState;
use indexbuild_lifecycle::world::{NodeReady, PodState, Termination, World};
use serde::Deserialize;

use crate::observe::Objects;
use crate::views;

/// What of an observation is falsified, read from JSON: the variable `INDEXBUILD_TEST_SWITCHES`. As the operator decides
/// nothing itself, a check is switched off by hiding from the lifecycle what it checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
    /// The API server's clock is taken for unknown, as if its answers told no time.
    pub(crate) forget_server_time: bool,
}

impl TestSwitches {
    /// What is observed, before it is looked at.
    pub(crate) fn hide(self, objects: &Objects) -> Cow<'_, Objects> {
        if !self.forget_unreadable {
            return Cow::Borrowed(objects);
        }
        let mut objects = Objects { unreadable: Vec::new(), ..objects.clone() };
        objects.stages.retain(|map| views::stage(map).is_ok());
        Cow::Owned(objects)
    }

    pub(crate) fn falsify(self, world: &mut World) {
        let Self {
            believe_nodes_ready,
            trust_silence,
            forget_stranded,
            take_any_report,
            forget_unreadable: _,
            forget_server_time: _,
        } = self;
        if trust_silence {
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
        if believe_nodes_ready {
            for node in &mut world.nodes {
                node.ready = NodeReady::True;
                node.readiness_age = 0;
            }
        }
        for slot in &mut world.slots {
            let record = &mut slot.record;
            if forget_stranded {
                for volume in record.spec.former_volumes.iter_mut().filter(|one| one.state == VolumeState::Stranded) {
                    volume.state = VolumeState::Superseded;
                }
            }
            if take_any_report && let (Some(report), Some(grant)) = (&mut record.status.report, &record.spec.grant) {
                report.epoch = grant.epoch;
                report.boot_nonce.clone_from(&grant.boot_nonce);
                if let Some(result) = &mut report.result {
                    result.epoch = grant.epoch;
                }
            }
        }
    }
}
