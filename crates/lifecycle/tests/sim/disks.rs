//! What attaches volumes to machines, as far as anybody says, and what that does.

use indexbuild_api::Attached;
use indexbuild_lifecycle::world::{AttachmentView, Attachments};

use super::*;

/// A CSI driver, by what its detach does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// It cuts the machine off.
    Detaches,
    /// Nothing, while all say that it is detached: whoever has the volume writes on.
    Pretends,
    /// It is never attached, so that nothing has to be detached: NFS, a local disk.
    Mounts,
}

impl Driver {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Detaches => "detaches.example.com",
            Self::Pretends => "pretends.example.com",
            Self::Mounts => "mounts.example.com",
        }
    }

    /// Of each kind as many.
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.below(3) {
            0 => Self::Detaches,
            1 => Self::Pretends,
            _ => Self::Mounts,
        }
    }
}

impl Sim {
    /// What an administrator who believes each driver would say.
    pub(crate) fn believe_all_drivers(&mut self) {
        self.believed_drivers = [Driver::Detaches, Driver::Pretends, Driver::Mounts].map(Driver::name).into();
    }

    fn driver_of(&self, process: &Process) -> Driver {
        self.drivers.get(&process.claim_uid).copied().unwrap_or(Driver::Mounts)
    }

    /// What is attached now, as the API says.
    pub(super) fn attachments(&self) -> Attachments {
        let attached = self.processes.iter().filter(|process| {
            let there = process.object && process.scheduled && !self.nodes[process.node].detached;
            there && self.driver_of(process) != Driver::Mounts
        });
        let seen = attached.filter_map(|process| {
            let claim = self.claims.values().find(|claim| claim.uid == process.claim_uid)?;
            let (driver, node) = (self.driver_of(process).name().to_owned(), self.nodes[process.node].name.clone());
            let attached = Attached { driver, volume: claim.uid.clone(), node };
            Some(AttachmentView { claim: claim.name.clone(), attached })
        });
        Attachments {
            detaching_drivers: self.believed_drivers.iter().map(|driver| (*driver).to_owned()).collect(),
            seen: seen.collect(),
        }
    }

    /// A Node object is removed while its machine runs on, cut off, and what was attached to it is detached: only of some
    /// drivers does that keep anybody from writing.
    pub(super) fn remove_node(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        (node.gone, node.connected, node.changed_at, node.detached) = (true, false, now, true);
        for at in 0..self.processes.len() {
            if self.processes[at].node != index {
                continue;
            }
            self.processes[at].object = false;
            if self.processes[at].alive && self.driver_of(&self.processes[at]) == Driver::Detaches {
                self.end_process(at, 137);
            }
        }
    }
}
