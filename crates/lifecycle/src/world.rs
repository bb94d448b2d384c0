//! Everything that is observed of one build, read live, at one moment.

use std::collections::BTreeSet;

use indexbuild_api::{
    Attached, Chosen, DeletionPolicy, EngineDirectorySpec, EngineDirectoryStatus, Epoch, FrozenStage, IndexBuildSpec,
    IndexBuildStatus,
};
use serde::{Deserialize, Serialize};

use crate::platform::Platform;

/// Milliseconds of the observer's own monotonic clock. Two machines' clocks are never compared.
pub type Millis = u64;

/// A node that has not been ready for so long is switched off rather than cut off.
const SWITCHED_OFF: Millis = 3_600_000;

/// The record of one slot, as it was read.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The control plane's part.
    pub spec: EngineDirectorySpec,
    pub status: EngineDirectoryStatus,
    /// The `resourceVersion`: what a compare-and-set compares (G1).
    pub version: String,
}

/// Everything that is observed of one build.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Where its owners run: in whose words people are told of them.
    pub platform: Platform,
    pub now: Millis,
    /// The time of day (RFC 3339), which the status tells: the API server's, where it is known.
    pub wall: String,
    pub build: BuildView,
    pub slots: Vec<SlotView>,
    /// Its executors' pods (or processes).
    pub pods: Vec<PodView>,
    /// Its volumes' claims (or folders).
    pub claims: Vec<ClaimView>,
    /// The nodes that are known; empty where nodes cannot be read.
    pub nodes: Vec<NodeView>,
    /// What attaches its volumes to nodes.
    pub attachments: Attachments,
    /// Frozen stages that are believed (`frozen.rs` says which are).
    pub stages: Vec<Stage>,
    /// What else is known of frozen stages.
    pub frozen: Frozen,
    /// What hinders its pods and volumes, as far as anybody says. No action depends on it.
    pub hindrances: Vec<Hindrance>,
    /// Whether reports of anybody but the owner are refused; `None` where there is nobody to refuse them.
    pub enforcement: Option<Enforcement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BuildView {
    /// Its UID: what it is, where its name can come back.
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub generation: i64,
    /// What the user asks for.
    pub spec: IndexBuildSpec,
    /// What was said about it last.
    pub status: Option<IndexBuildStatus>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// For how long its deletion has been asked for; 0 where it was not.
    pub deletion_age: Millis,
    /// How much of that had passed before this observer knew of it.
    pub deletion_unseen: Millis,
    /// Whether its namespace is being deleted: nothing can be made in it any more.
    pub namespace_ends: bool,
    /// For how long it has been active: since its status' start time; 0 where there is none.
    pub active_age: Millis,
    /// Whether it carries the finalizer.
    pub finalizer: bool,
    /// Whether it is to be left alone (`indexbuild.dev/reconcile: disabled`).
    pub reconcile_disabled: bool,
    pub timeouts: Timeouts,
    /// What it is told of the budget that all builds have together.
    pub share: Share,
    /// How fast it advances, in percent of the whole per second, where the observer has measured it.
    pub percent_per_second: Option<f64>,
    /// Whether its object is gone, so that records are all that is left of it. Then what was asked for is known from
    /// each record alone (`afterBuild`): nothing of `spec`, `status` or `clocks` decides anything.
    pub gone: bool,
}

impl BuildView {
    /// Whether a committed index goes, with its build.
    #[must_use]
    pub fn index_goes(&self) -> bool {
        self.deleting
            && match self.spec.output.deletion_policy {
                DeletionPolicy::Delete => true,
                DeletionPolicy::Retain => false,
            }
    }

    /// The prefix under which it writes.
    pub(crate) fn prefix(&self) -> String {
        let url = self.spec.output.url.trim_end_matches('/');
        format!("{url}/{}/{}/{}/", self.namespace, self.name, self.uid)
    }

    #[must_use]
    pub fn gone(uid: String, name: String, namespace: String) -> Self {
        Self {
            uid,
            name,
            namespace,
            generation: 0,
            spec: IndexBuildSpec::default(),
            status: None,
            deleting: true,
            deletion_age: 0,
            deletion_unseen: 0,
            namespace_ends: false,
            active_age: 0,
            finalizer: false,
            reconcile_disabled: false,
            timeouts: Timeouts { renew_interval: 0, replace_after: Millis::MAX, orphan_after: Millis::MAX },
            share: Share::default(),
            percent_per_second: None,
            gone: true,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How often an owner renews its report.
    pub renew_interval: Millis,
    /// After so long without a word from an owner, another one takes its place.
    pub replace_after: Millis,
    /// After so long without contact, an executor ends by itself.
    pub orphan_after: Millis,
}

/// What a build is told of the budget of writes that all builds have together ([`crate::writes`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How often its owners are to report, where its own interval is not longer; 0: nothing is told.
    pub interval: Millis,
    /// Its place in the queue, where it waits: it makes no pods.
    pub queued: Option<Queued>,
}

/// A place in the queue of builds that wait for the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// From 1.
    pub number: u32,
    /// How many wait.
    pub of: u32,
    /// The writes in a second that all builds have together.
    pub budget: u32,
}

/// The record of a slot, and for how long the observer has seen it unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    pub record: Record,
    /// Since the observer saw the report change, or began to watch.
    pub report_age: Millis,
    /// Since the observer saw rows, bytes, progress or step change, or began to watch.
    pub progress_age: Millis,
    /// Since the observer saw the grant change (binding a pod or a nonce is a change), or began to watch.
    pub grant_age: Millis,
    /// The longest interval at which its owner may report: that of the record, or a longer one that was there before, until
    /// the owner must have read the shorter one.
    pub longest_interval: Millis,
}

/// An executor's pod, or process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name: contains the epoch that it was made for (G10).
    pub name: String,
    /// Its UID: as `restartPolicy` is Never, its one incarnation.
    pub uid: String,
    pub slot: u32,
    pub epoch: Epoch,
    pub node: Option<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Whether the cluster ends it for reasons of its own (the pod's condition `DisruptionTarget`: a drain, a preemption,
    /// a node under pressure), or a kubelet refused to let it run. Whoever ends so has not failed. An out-of-memory kill and a
    /// pod above its own limit do not have it.
    pub disrupted: bool,
    /// Whether it is somebody else's: no record has its UID, and the build does not own it. Whatever its name and its labels say,
    /// it is not taken for a grant's pod, and not touched.
    pub foreign: bool,
    /// The exit code of our own container, where that ended before anybody asked the pod to end: beside it a container
    /// that a webhook has added may run on.
    pub own_exit: Option<i32>,
    /// Whether it was made from what the build asks for now; `None` where its object does not say. Asked for only of one that
    /// has not begun.
    pub as_asked: Option<bool>,
    /// The nodes that its selectors, its tolerations and its size let it run on, whatever is in use there and wherever its
    /// volume is. Asked for only of one that the scheduler found no node for.
    pub suited: Vec<String>,
    /// What is known of its process.
    pub state: PodState,
}

impl PodView {
    /// Whether its process was not started yet, as far as anybody said.
    #[must_use]
    pub const fn is_unstarted(&self) -> bool {
        match self.state {
            PodState::Queued | PodState::Pending => true,
            PodState::Running | PodState::Terminated(_) | PodState::Unknown => false,
        }
    }
}

/// What is known of a pod's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// No scheduler has looked at it yet (it is busy, away, or held back by a gate): where it fits is not known.
    Queued,
    /// It was not started yet, as far as anybody said.
    Pending,
    /// It runs, as far as anybody said.
    Running,
    /// It is said to have ended. Whether that is proof is for [`crate::evidence`] to say (G8).
    Terminated(Termination),
    Unknown,
}

/// How a process is said to have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    pub exit_code: i32,
    /// When it ended (RFC 3339); empty where nobody said.
    pub finished_at: String,
    /// Whether the kubelet itself (or the parent that reaped it) said so, of every container.
    pub kubelet_written: bool,
    /// Whether every container has a container id: `ContainerStatusUnknown` has none.
    pub container_id_present: bool,
    /// Whether the pod's `restartPolicy` is Never.
    pub restart_never: bool,
}

/// The claim of a volume, or its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    pub name: String,
    pub uid: String,
    pub slot: u32,
    pub generation: u32,
    pub phase: ClaimPhase,
    /// Whether it belongs to somebody else.
    pub foreign: bool,
    /// The nodes that its volume can be used on, where that is not on any; `None` also where nobody says. Asked for only where
    /// its pod waits for a node.
    pub nodes: Option<Vec<String>>,
    /// Whether the build asks for one of another size by now. Asked for only where no volume is bound to it yet, and its pod
    /// has not begun.
    pub outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimPhase {
    /// No volume is bound to it yet.
    Pending,
    Bound,
    Lost,
    Terminating,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub name: String,
    /// The boot id of its kernel now.
    pub boot_id: String,
    pub system_uuid: String,
    pub ready: NodeReady,
    /// For how long it has been ready, or not ready, as it is now.
    pub readiness_age: Millis,
    /// Whether somebody put the out-of-service taint.
    pub out_of_service: bool,
    /// Whether its Node object is gone (a live read said 404).
    pub gone: bool,
    /// Whether a live read saw nothing that attaches one of the build's volumes to it. Alone it proves nothing: of a volume
    /// that is never attached (a local one, NFS) it is always so.
    pub volumes_detached: bool,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// Whether its kubelet says that it is short of disk, memory or process ids: it ends pods then, and takes back none.
    pub pressed: bool,
}

impl NodeView {
    /// Whether it takes new pods, as far as they fit.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ready == NodeReady::True && !self.gone && !self.cordoned
    }
}

/// What is known of the attachment of volumes to nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// The CSI drivers whose detach cuts a node off from the volume, as the administrator of the cluster says. Of any other
    /// one it proves nothing: it may do nothing at all, while the node writes on.
    pub detaching_drivers: BTreeSet<String>,
    /// The build's volumes that are attached, as was read live for this look; empty where nothing was to be read.
    pub seen: Vec<AttachmentView>,
}

/// A volume that is attached to a node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentView {
    /// The claim that the volume is bound to.
    pub claim: String,
    pub attached: Attached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeReady {
    True,
    False,
    Unknown,
}

/// What hinders a build outside of it. What others said of it is passed on in their words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// A claim has had no volume for long, and a warning says why.
    ClaimUnbound {
        claim: String,
        warning: Warning,
    },
    /// A claim has had no volume for long: it names no storage class, and the cluster has no default one.
    NoDefaultClass {
        claim: String,
    },
    /// A pod's container cannot be started, and that does not end by itself: no image, a bad configuration.
    ContainerStuck {
        pod: String,
        reason: String,
        said: Option<String>,
    },
    /// A pod has scheduling gates.
    PodGated {
        pod: String,
        said: Option<String>,
    },
    PodFitsNowhere {
        pod: String,
        said: Option<String>,
    },
    /// A pod has been on its node for long, and none of its containers was made.
    PodUnstarted {
        pod: String,
        why: Unstarted,
    },
    /// An action failed, for this slot or, with `None`, for all of them.
    ActionFailed {
        slot: Option<u32>,
        message: String,
    },
}

/// Why a pod has not started on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unstarted {
    NodeNotReady {
        node: String,
    },
    Warned(Warning),
    /// Nobody says; these Secrets are what it mounts.
    Unknown {
        secrets: Vec<String>,
    },
}

/// A warning about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub reason: String,
    pub message: String,
}

/// Whether reports are accepted from the owner alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// A report from somebody else was refused by the rule about owners.
    Enforced,
    /// A report from somebody else would have been accepted.
    NotEnforced { message: String },
    /// It could not be tried.
    Unknown {
        /// Why, and what would change it.
        why: String,
    },
    /// This observer has not tried it: what an earlier one has found out stands (I8).
    Untried {
        /// Why, and when it will be.
        why: String,
    },
}

/// A frozen stage: which attempts count. Immutable once it is there (G6).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// `plan`, `encode`, `encode-r1`, `sort`, `publish`, `clean`.
    pub name: String,
    /// One attempt per work, in the order of the works.
    pub chosen: Vec<Chosen>,
}

/// What is known of frozen stages beside those that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// What the build's status is to say before anything is decided, as it says nothing of stages yet.
    pub unsaid: Option<Vec<FrozenStage>>,
    /// Stages that are frozen, and whose content is not there: nobody made the object yet, somebody removed it, or another
    /// one stands in its place.
    pub lost: Vec<FrozenStage>,
    /// Objects under the names of stages that nothing vouches for yet.
    pub unproved: Vec<Unproved>,
}

/// An object under the name of a stage that nothing vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproved {
    /// The stage whose name it has.
    pub stage: String,
    /// The object's name.
    pub object: String,
    /// What it holds, and the digest of that; `None`: nothing that is a stage of this name.
    pub holds: Option<(Stage, String)>,
}

impl World {
    /// Whether more than half of the nodes look lost at once. Then it is probably the observer that is cut
    /// off, and nothing is destroyed or replaced (failure-modes.md #23). Nodes that have not been ready for long are no
    /// sign of it: a pool that is switched off would otherwise stop every replacement for good.
    #[must_use]
    pub fn most_nodes_lost(&self) -> bool {
        let lost = self.nodes_in_use().filter(|node| node.ready != NodeReady::True).count();
        lost * 2 > self.nodes_in_use().count()
    }

    /// The nodes of which most being lost would mean something.
    pub(crate) fn nodes_in_use(&self) -> impl Iterator<Item = &NodeView> {
        let in_use = |node: &&NodeView| node.ready == NodeReady::True || node.readiness_age < SWITCHED_OFF;
        self.nodes.iter().filter(|node| !node.gone).filter(in_use)
    }

    /// What a frozen stage holds. `None`: it is not frozen, or what it held is lost.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Whether a stage is frozen, whatever became of the object that holds it (G6).
    #[must_use]
    pub fn is_frozen(&self, name: &str) -> bool {
        self.stage(name).is_some() || self.frozen.lost.iter().any(|lost| lost.name == name)
    }

    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == name)
    }

    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&ClaimView> {
        self.claims.iter().find(|claim| claim.name == name)
    }
}
