//! An owner's last word: that it has closed everything of its volume, and opens nothing of it any more. It stands in the
//! record (`status.released`), so that it outlives the pod, whose object is gone a second after its end.

use std::collections::BTreeMap;

use indexbuild_api::{EngineDirectorySpec, Epoch, Release};
use serde::{Deserialize, Serialize};

use crate::world::Record;

/// What a process that ends in peace writes into `status.released`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastWord {
    /// The key: who says it.
    pub pod_uid: String,
    pub release: Release,
    /// Words of others that speak of no owner of the slot's volumes any more: they go in the same write, so that the
    /// record holds at most one for each volume, and nobody needs a write of his own to forget them.
    pub outdated: Vec<String>,
}

impl LastWord {
    /// What a process may say, as the record is: of the volume that it is granted, or of the one that it had when
    /// another epoch was granted. `None` where it has none, or has said it.
    #[must_use]
    pub fn of(record: &Record, pod_uid: &str, boot_nonce: &str) -> Option<Self> {
        if record.status.released.contains_key(pod_uid) {
            return None;
        }
        let mut said = owned(&record.spec, pod_uid).filter(|owned| owned.boot_nonce == boot_nonce);
        let Owned { claim_name, boot_nonce, epoch } = said.next()?;
        if pod_uid.is_empty() || boot_nonce.is_empty() {
            return None;
        }
        let release = Release { epoch, boot_nonce: boot_nonce.to_owned(), claim_name: claim_name.to_owned() };
        let outdated = record.status.released.keys().filter(|uid| !concerns(&record.spec, uid)).cloned().collect();
        Some(Self { pod_uid: pod_uid.to_owned(), release, outdated })
    }

    /// What the record says then.
    pub fn write(self, released: &mut BTreeMap<String, Release>) {
        let Self { pod_uid, release, outdated } = self;
        released.retain(|uid, _| !outdated.contains(uid));
        released.insert(pod_uid, release);
    }
}

/// A volume that a pod has in a record, or had last.
struct Owned<'a> {
    claim_name: &'a str,
    boot_nonce: &'a str,
    epoch: Epoch,
}

/// The volumes whose last owner is a pod, the one that is granted first.
fn owned<'a>(spec: &'a EngineDirectorySpec, pod_uid: &str) -> impl Iterator<Item = Owned<'a>> {
    let granted = spec.grant.as_ref().filter(|grant| grant.pod_uid == pod_uid).zip(spec.volume.as_ref());
    let granted = granted.map(|(grant, volume)| Owned {
        claim_name: &volume.claim_name,
        boot_nonce: &grant.boot_nonce,
        epoch: grant.epoch,
    });
    let former = spec.former_volumes.iter().filter(move |volume| volume.pod_uid == pod_uid).map(|volume| Owned {
        claim_name: &volume.claim_name,
        boot_nonce: &volume.boot_nonce,
        epoch: volume.epoch,
    });
    granted.into_iter().chain(former)
}

/// Whether a release is that of the owner of this volume with this nonce and epoch.
pub(crate) fn is_of(release: &Release, claim_name: &str, boot_nonce: &str, epoch: Epoch) -> bool {
    let Release { epoch: released, boot_nonce: nonce, claim_name: claim } = release;
    *released == epoch && nonce == boot_nonce && claim == claim_name && !nonce.is_empty()
}

/// Whether a pod may say this in a record with this spec.
pub(crate) fn may_say(spec: &EngineDirectorySpec, pod_uid: &str, release: &Release) -> bool {
    !pod_uid.is_empty()
        && owned(spec, pod_uid).any(|owned| is_of(release, owned.claim_name, owned.boot_nonce, owned.epoch))
}

/// Whether what a pod has said is, or may be, of an owner that the record still knows.
pub(crate) fn concerns(spec: &EngineDirectorySpec, pod_uid: &str) -> bool {
    let granted = spec.grant.iter().any(|grant| grant.pod_uid == pod_uid);
    granted || spec.former_volumes.iter().any(|volume| volume.pod_uid == pod_uid)
}
