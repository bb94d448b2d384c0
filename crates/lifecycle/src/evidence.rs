//! Proof that a former owner can no longer write a volume (I4), and proof that the record has condemned it (G7).
//!
//! Neither can be made but from what was observed: the fields are private, and the constructors return
//! nothing where nothing is proved. A silent watch, a missing pod, `phase: Failed` written by the pod
//! garbage collector, a refused token, `ContainerStatusUnknown` prove nothing.

use indexbuild_api::{Attached, Epoch, FormerVolume, VolumeState};

use crate::platform::Platform;
use crate::release;
use crate::world::{NodeView, PodState, Record, Termination, World};

/// Proof that the last owner of a volume can no longer write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    kind: EvidenceKind,
    exit_code: Option<i32>,
    rebooted: bool,
    claim_name: String,
    pod_uid: String,
    epoch: Epoch,
}

/// The kinds of proof; `docs/lifecycle.md` says what each takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceKind {
    Terminated,
    Released,
    NodeRebooted,
    NodeGone,
    OutOfService,
    NeverClaimed,
    Recorded,
}

impl EvidenceKind {
    /// In the order in which they are looked for. What is not listed here proves nothing.
    const ALL: [Self; 7] = [
        Self::Terminated,
        Self::Released,
        Self::NodeRebooted,
        Self::NodeGone,
        Self::OutOfService,
        Self::NeverClaimed,
        Self::Recorded,
    ];

    /// How a former owner is known to be gone, for messages.
    #[must_use]
    pub const fn describe(self, platform: Platform) -> &'static str {
        match self {
            Self::Terminated => match platform {
                Platform::Kubernetes => "the kubelet reported its containers terminated",
                Platform::OneMachine => "its process has ended",
            },
            Self::Released => match platform {
                Platform::Kubernetes => "it said itself that it has released its volume",
                Platform::OneMachine => "it said itself that it has released its folder",
            },
            Self::NodeRebooted => "its machine is back with another boot id",
            Self::NodeGone => "its node is gone and the volume is detached",
            Self::OutOfService => "its node is out of service and the volume is detached",
            Self::NeverClaimed => "no process ever claimed it",
            Self::Recorded => "it was proved before, and the record says so",
        }
    }

    /// All that it takes, for `docs/lifecycle.md`.
    const fn means(self) -> &'static str {
        match self {
            Self::Terminated => {
                "the kubelet itself reported every container of the `restartPolicy: Never` pod ended, with container id and time (a local parent: it reaped the child, or took the lock that every executor holds for its life)"
            }
            Self::Released => {
                "the owner's own last word in the record (`status.released`): its process has closed everything of the volume, and opens nothing of it any more; it is taken once, from that owner alone (pod UID, nonce, epoch, volume), and nothing else of it after that"
            }
            Self::NodeRebooted => {
                "the machine of the process's own word is back with another boot id: the process said which kernel it runs on, and a later live read of its Node showed the same boot id, and so which machine that is (`systemUUID`)"
            }
            Self::NodeGone => {
                "the Node object is gone, and the volume, which was attached to that node when the process was bound (`grant.attached`), is detached by a driver of the chart's `evidence.detachingDrivers`"
            }
            Self::OutOfService => {
                "somebody put the taint `node.kubernetes.io/out-of-service`, the pod object is gone, and the volume is detached likewise"
            }
            Self::NeverClaimed => {
                "no nonce was ever bound to the grant, so that no process could open the volume (G9), and a compare-and-set has ended the chance (G1)"
            }
            Self::Recorded => {
                "one of the above was seen before, and the record says so (`formerVolumes[].state: Idle`); what was proved once stays true"
            }
        }
    }

    /// What may bring it about while a volume is held without proof, and who, of whatever volume.
    const fn comes_when(self) -> Option<&'static str> {
        match self {
            Self::Terminated => Some("the kubelet of its node reports the pod terminated"),
            Self::Released => Some("its process finds its way back and releases the volume"),
            Self::NodeRebooted => Some("the node is rebooted"),
            Self::NodeGone => Some("its Node object is removed and the volume detached"),
            Self::OutOfService => Some(
                "somebody who knows that the machine is down puts the taint node.kubernetes.io/out-of-service on it and the volume is detached",
            ),
            Self::NeverClaimed | Self::Recorded => None,
        }
    }

    /// Whether it takes that the volume is detached from its node.
    const fn takes_a_detach(self) -> bool {
        match self {
            Self::NodeGone | Self::OutOfService => true,
            Self::Terminated | Self::Released | Self::NodeRebooted | Self::NeverClaimed | Self::Recorded => false,
        }
    }

    /// What would prove that the owner of any held volume is gone, and who could supply it; of a volume whose detach proves
    /// something, and of any other. Of one that is there, [`ways`] knows more.
    #[must_use]
    pub fn awaited(detach_proves: bool) -> String {
        let ways = Self::ALL.iter().filter(|kind| detach_proves || !kind.takes_a_detach());
        listed(ways.filter_map(|kind| kind.comes_when()).collect())
    }

    /// The same of one volume, by what is seen of it now: nothing where it cannot come any more, or never could.
    fn still_comes_when(self, world: &World, owner: LastOwner<'_>) -> Option<&'static str> {
        let node_gone = world.node(owner.node_name).is_some_and(|node| node.gone);
        // Whose pod has no object is heard by nobody: there is no status for a kubelet to write, and the API server takes
        // no word from a process whose pod is not there.
        let pod = world.pods.iter().any(|pod| pod.uid == owner.pod_uid);
        let comes = match self {
            Self::Terminated => pod && !node_gone,
            Self::Released => pod && !owner.boot_nonce.is_empty(),
            Self::NodeRebooted => !owner.boot_id.is_empty() && !owner.system_uuid.is_empty(),
            Self::NodeGone => detach_proves(world, owner),
            Self::OutOfService => !node_gone && detach_proves(world, owner),
            Self::NeverClaimed | Self::Recorded => false,
        };
        match self {
            _ if !comes => None,
            Self::NodeRebooted if node_gone => Some("its machine comes back as a node, booted anew"),
            Self::NodeGone if node_gone => Some("the volume is detached from its node, whose object is gone"),
            _ => self.comes_when(),
        }
    }

    /// The same where owners are processes of one machine: the end of the process is all the proof there is.
    pub(crate) const fn awaited_on_one_machine() -> &'static str {
        "its process has ended, which the next run of this command sees"
    }

    /// The rows of the table in `docs/lifecycle.md`.
    #[must_use]
    pub fn reference() -> String {
        Self::ALL.iter().map(|kind| format!("| `{kind:?}` | {} |\n", kind.means())).collect()
    }

    fn is_seen(self, world: &World, owner: LastOwner<'_>) -> bool {
        match self {
            Self::Terminated => exit_code(world, owner).is_some(),
            Self::Released => is_released(world, owner),
            Self::NodeRebooted => rebooted(world, owner),
            Self::NodeGone => node_gone(world, owner),
            Self::OutOfService => out_of_service(world, owner),
            Self::NeverClaimed => owner.boot_nonce.is_empty(),
            Self::Recorded => owner.recorded,
        }
    }
}

/// What may still prove that the last owner of a volume is gone, and who could supply it: the one list of it. Empty where
/// nothing can.
pub(crate) fn ways(world: &World, owner: LastOwner<'_>) -> String {
    listed(EvidenceKind::ALL.iter().filter_map(|kind| kind.still_comes_when(world, owner)).collect())
}

fn listed(mut ways: Vec<&str>) -> String {
    let last = ways.pop().unwrap_or_default();
    if ways.is_empty() { last.to_owned() } else { format!("{}, or {last}", ways.join(", ")) }
}

/// Who owned a volume last, as the record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastOwner<'a> {
    claim_name: &'a str,
    pod_uid: &'a str,
    boot_nonce: &'a str,
    epoch: Epoch,
    node_name: &'a str,
    /// The boot id that its process said.
    boot_id: &'a str,
    /// The machine, where its Node has shown that boot id.
    system_uuid: &'a str,
    attached: Option<&'a Attached>,
    recorded: bool,
}

impl<'a> LastOwner<'a> {
    /// The record's present owner, if it has one.
    pub(crate) fn current(record: &'a Record) -> Option<Self> {
        let grant = record.spec.grant.as_ref()?;
        Some(Self {
            claim_name: record.spec.volume.as_ref().map_or("", |volume| volume.claim_name.as_str()),
            pod_uid: &grant.pod_uid,
            boot_nonce: &grant.boot_nonce,
            epoch: grant.epoch,
            node_name: &grant.node_name,
            boot_id: &grant.boot_id,
            system_uuid: &grant.system_uuid,
            attached: grant.attached.as_ref(),
            recorded: false,
        })
    }

    /// The last owner of a volume that a slot had.
    pub(crate) fn former(volume: &'a FormerVolume) -> Self {
        Self {
            claim_name: &volume.claim_name,
            pod_uid: &volume.pod_uid,
            boot_nonce: &volume.boot_nonce,
            epoch: volume.epoch,
            node_name: &volume.node_name,
            boot_id: &volume.boot_id,
            system_uuid: &volume.system_uuid,
            attached: volume.attached.as_ref(),
            recorded: volume.state == VolumeState::Idle,
        }
    }

    /// The claim of the volume.
    pub(crate) const fn claim_name(&self) -> &'a str {
        self.claim_name
    }

    /// Why its volume's detach would prove nothing; `None`: it would.
    pub(crate) fn why_detach_proves_nothing(&self, world: &World) -> Option<String> {
        why_detach_proves_nothing(world, self.attached)
    }
}

impl Evidence {
    /// Proof that the record's present owner is gone.
    #[must_use]
    pub fn of_current(world: &World, record: &Record) -> Option<Self> {
        Self::of(world, LastOwner::current(record)?)
    }

    /// Proof that the last owner of a volume that a slot had is gone.
    #[must_use]
    pub fn of_former(world: &World, volume: &FormerVolume) -> Option<Self> {
        // What a later version has found out about it, this one does not know: nothing is concluded about it.
        if matches!(volume.state, VolumeState::Other(_)) {
            return None;
        }
        Self::of(world, LastOwner::former(volume))
    }

    /// Whether the record itself has such a proof, whatever else may go that shows it now.
    pub(crate) fn is_in_record(world: &World, volume: &FormerVolume) -> bool {
        let owner = LastOwner::former(volume);
        owner.recorded || is_released(world, owner)
    }

    fn of(world: &World, owner: LastOwner<'_>) -> Option<Self> {
        let kind = EvidenceKind::ALL.into_iter().find(|kind| kind.is_seen(world, owner))?;
        let exit_code = exit_code(world, owner);
        let rebooted = rebooted(world, owner);
        let LastOwner { claim_name, pod_uid, epoch, .. } = owner;
        Some(Self { kind, exit_code, rebooted, claim_name: claim_name.to_owned(), pod_uid: pod_uid.to_owned(), epoch })
    }

    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        self.kind
    }

    /// How the owner's process ended, where its end was seen.
    #[must_use]
    pub const fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Whether its machine has rebooted since. The kubelet that comes back reports what ran before as terminated, with
    /// an exit code that says nothing.
    #[must_use]
    pub const fn rebooted(&self) -> bool {
        self.rebooted
    }

    /// The claim of the volume that it is about.
    #[must_use]
    pub fn claim_name(&self) -> &str {
        &self.claim_name
    }

    /// The pod of the owner that is gone; empty where there never was one.
    #[must_use]
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// G8: "terminated" counts only with `restartPolicy: Never` and the kubelet's own word: else the kubelet
/// starts the owner again on a volume that was given away.
#[must_use]
pub fn is_final(termination: &Termination) -> bool {
    let Termination { exit_code: _, finished_at, kubelet_written, container_id_present, restart_never } = termination;
    *kubelet_written && *container_id_present && *restart_never && !finished_at.is_empty()
}

/// The exit code of a pod whose end is proved.
fn exit_code(world: &World, owner: LastOwner<'_>) -> Option<i32> {
    if owner.pod_uid.is_empty() {
        return None;
    }
    let mut pods = world.pods.iter().filter(|pod| pod.uid == owner.pod_uid).peekable();
    let PodState::Terminated(first) = &pods.peek()?.state else {
        return None;
    };
    let exit_code = first.exit_code;
    // Two objects of one UID cannot be; should an observer say so all the same, both must have ended.
    pods.all(|pod| matches!(&pod.state, PodState::Terminated(termination) if is_final(termination)))
        .then_some(exit_code)
}

/// Admission takes that word only in the record of the owner's volume, so that it does not matter which of the build's
/// records has it.
fn is_released(world: &World, owner: LastOwner<'_>) -> bool {
    let LastOwner { claim_name, pod_uid, boot_nonce, epoch, .. } = owner;
    !pod_uid.is_empty()
        && world.slots.iter().any(|view| {
            let said = view.record.status.released.get(pod_uid);
            said.is_some_and(|said| release::is_of(said, claim_name, boot_nonce, epoch))
        })
}

/// Whether the kernel that the process ran on is not there any more. The machine is known only where the Node was seen
/// with the process's own boot id: what a Node showed before the process began may be of the boot before.
fn rebooted(world: &World, owner: LastOwner<'_>) -> bool {
    world.node(owner.node_name).is_some_and(|node| {
        let same_machine = !owner.system_uuid.is_empty() && node.system_uuid == owner.system_uuid;
        let known = !owner.boot_id.is_empty() && !node.boot_id.is_empty();
        !node.gone && same_machine && known && node.boot_id != owner.boot_id
    })
}

/// The machine (`systemUUID`) that a process runs on, where its Node shows the boot id that the process has said: the
/// Node was read after the process had spoken, as records are read before nodes.
#[must_use]
pub fn machine_of<'w>(world: &'w World, node_name: &str, boot_id: &str) -> Option<&'w str> {
    let known = !node_name.is_empty() && !boot_id.is_empty();
    let node = world.node(node_name).filter(|node| known && !node.gone && node.boot_id == boot_id)?;
    (!node.system_uuid.is_empty()).then_some(node.system_uuid.as_str())
}

fn node_gone(world: &World, owner: LastOwner<'_>) -> bool {
    // A node that is merely not in the list is unknown, not gone: that takes a live read.
    world.node(owner.node_name).is_some_and(|node| node.gone && is_detached(world, owner, node))
}

fn out_of_service(world: &World, owner: LastOwner<'_>) -> bool {
    let pod_gone = world.pods.iter().all(|pod| pod.uid != owner.pod_uid);
    world.node(owner.node_name).is_some_and(|node| node.out_of_service && is_detached(world, owner, node) && pod_gone)
}

/// Whether the owner's volume was attached to its node, and is not any more, by a driver whose detach cuts the node off.
/// That nothing attaches a volume is true of NFS too, and a driver may detach by doing nothing (democratic-csi#307,
/// ceph-csi#3199).
fn is_detached(world: &World, owner: LastOwner<'_>, node: &NodeView) -> bool {
    node.volumes_detached && node.name == owner.node_name && detach_proves(world, owner)
}

/// Whether a detach of the owner's volume from its node would count.
fn detach_proves(world: &World, owner: LastOwner<'_>) -> bool {
    let was_attached = owner.attached.is_some_and(|attached| attached.node == owner.node_name);
    was_attached && why_detach_proves_nothing(world, owner.attached).is_none()
}

/// Why neither the loss of a node nor the out-of-service taint would prove anything about a volume; `None`: with its detach
/// it would.
fn why_detach_proves_nothing(world: &World, attached: Option<&Attached>) -> Option<String> {
    const NO_HELP: &str = "so that neither the removal of its Node object nor the taint node.kubernetes.io/out-of-service proves anything";
    match attached {
        None => Some(format!(
            "nothing was seen to attach it when that owner began (local volumes and those of NFS are never attached), {NO_HELP}"
        )),
        Some(Attached { driver, volume: _, node: _ }) if !world.attachments.detaching_drivers.contains(driver) => {
            Some(format!(
                "its driver {driver} is not in the chart's evidence.detachingDrivers, {NO_HELP}; the driver is added where its detach really cuts the node off"
            ))
        }
        Some(_) => None,
    }
}

/// Proof that the record, read live, says that a volume is about to be deleted: no grant can land on it any more (G7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    claim_name: String,
    claim_uid: String,
    version: String,
}

impl Condemned {
    /// The proof for a claim, if the record condemns exactly it.
    #[must_use]
    pub fn of(record: &Record, claim_name: &str, claim_uid: &str) -> Option<Self> {
        let current = record
            .spec
            .volume
            .iter()
            .any(|volume| volume.condemned && volume.claim_name == claim_name && volume.claim_uid == claim_uid);
        let former = record
            .spec
            .former_volumes
            .iter()
            .any(|volume| volume.condemned && volume.claim_name == claim_name && volume.claim_uid == claim_uid);
        (!claim_uid.is_empty() && (current || former)).then(|| Self {
            claim_name: claim_name.to_owned(),
            claim_uid: claim_uid.to_owned(),
            version: record.version.clone(),
        })
    }

    #[must_use]
    pub fn claim_name(&self) -> &str {
        &self.claim_name
    }

    #[must_use]
    pub fn claim_uid(&self) -> &str {
        &self.claim_uid
    }

    /// The version of the record that says so.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}
