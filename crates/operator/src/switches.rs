//! Ways to misbehave, for tests and their negative controls.

use std::borrow::Cow;

use indexbuild_api::VolumeState;
use indexbuild_lifecycle::world::{NodeReady, PodState, Termination, World};
use serde::Deserialize;

use crate::observe::Objects;
use crate::views;

/// The environment variable that sets [`TestSwitches`].
pub const TEST_SWITCHES_VARIABLE: &str = "INDEXBUILD_TEST_SWITCHES";

/// What of an observation is falsified. No product code sets these: they come from the environment variable
/// `INDEXBUILD_TEST_SWITCHES` alone (a JSON object), and the operator says at its start that one is on. As it decides
/// nothing itself, a check is switched off by hiding from the lifecycle what it checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TestSwitches {
    /// Each node is taken for ready: that most of them are lost is not seen.
    pub believe_nodes_ready: bool,
    /// A pod on a node that is not ready is taken for ended, as if the kubelet had said so (G8, I4 are off).
    pub trust_silence: bool,
    /// A volume that a replacement left behind is taken for one of no further use: nobody returns.
    pub forget_stranded: bool,
    /// A report is taken for the present owner's, whoever wrote it (G3 is off).
    pub take_any_report: bool,
    /// What cannot be read is taken for absent.
    pub forget_unreadable: bool,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{TEST_SWITCHES_VARIABLE} is not understood: {source}; unset it (only tests set it), or write a JSON object such as {{\"trustSilence\": true}}"
)]
pub struct BadSwitches {
    source: serde_json::Error,
}

impl TestSwitches {
    /// The switches that the environment asks for; none without the variable.
    ///
    /// # Errors
    /// When the variable is there and not understood: a fault that was asked for and not understood must not read
    /// as a test passed.
    pub fn from_environment() -> Result<Self, BadSwitches> {
        match std::env::var(TEST_SWITCHES_VARIABLE) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| BadSwitches { source }),
            Err(_) => Ok(Self::default()),
        }
    }

    /// What is observed, before it is looked at.
    pub(crate) fn hide(self, objects: &Objects) -> Cow<'_, Objects> {
        if !self.forget_unreadable {
            return Cow::Borrowed(objects);
        }
        let mut objects = Objects { unreadable: Vec::new(), ..objects.clone() };
        objects.stages.retain(|map| views::stage(map).is_ok());
        Cow::Owned(objects)
    }

    pub fn falsify(self, world: &mut World) {
        let Self { believe_nodes_ready, trust_silence, forget_stranded, take_any_report, forget_unreadable: _ } = self;
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
