//! The end of a process's life on its volume: who may open it, and the last word that says that nobody does any more.
//!
//! The control plane takes that word for proof, and gives the volume to another process at once (I4). So it is said only
//! when no attempt can reach the volume, and nothing can be begun after it: the path to the volume is in [`VolumeAccess`]
//! alone, each attempt has it by a [`Lease`], and who says the word has used up the one and seen the end of the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexbuild_api::Epoch;
use indexbuild_lifecycle::owner::OwnerState;
use indexbuild_lifecycle::release::LastWord;

use crate::control::{ControlPlane, WriteError};
use crate::exit::ExitStatus;
use crate::grace::{HANDLES_WITHIN, RELEASE_WITHIN};

/// The pauses before it is tried again.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(600)];

/// The one way to the slot's volume.
#[derive(Debug)]
pub(crate) struct VolumeAccess {
    root: Arc<PathBuf>,
}

/// An attempt's way to the volume, for as long as its thread works.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    root: Arc<PathBuf>,
}

/// Nobody in this process has a way to the volume any more, and nobody can get one.
#[derive(Debug)]
pub(crate) struct Closed(());

impl VolumeAccess {
    /// The configuration forgets where the volume is: nothing else can open it.
    pub(crate) fn take(root: &mut PathBuf) -> Self {
        Self { root: Arc::new(std::mem::take(root)) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease { root: Arc::clone(&self.root) }
    }

    /// Gives the volume up, when every attempt has given back its lease and every engine handle is closed; `None`: one
    /// has not.
    pub(crate) async fn give_up(self) -> Option<Closed> {
        let closed = handles_closed(HANDLES_WITHIN).await;
        (closed && Arc::into_inner(self.root).is_some()).then_some(Closed(()))
    }

    /// The guard is off: for a control.
    pub(crate) fn claim_to_have_closed(&self) -> Closed {
        tracing::warn!(volume = %self.root.display(), "the volume is said to be released, and is not");
        Closed(())
    }
}

impl Lease {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// Whether a process that ends so has let go of its volume by itself. Where a claim was refused another process of the pod
/// may have it; of the others something is open, or may be.
pub(crate) const fn ends_in_peace(status: ExitStatus) -> bool {
    match status {
        ExitStatus::Done
        | ExitStatus::GaveWay
        | ExitStatus::Stopped
        | ExitStatus::WorkFailed
        | ExitStatus::Orphaned => true,
        ExitStatus::ClaimRefused | ExitStatus::HandleLeaked | ExitStatus::CloseHung | ExitStatus::Unusable => false,
    }
}

/// Says that the volume is released, of which this process was the owner. In bounded time: without the word its end is
/// proved as that of any process.
pub(crate) async fn say(control: &dyn ControlPlane, owner: &OwnerState, closed: Closed) {
    let Closed(()) = closed;
    let said = until_said(control, &owner.pod_uid, &owner.boot_nonce);
    let why = match tokio::time::timeout(RELEASE_WITHIN, said).await {
        Ok(Ok(Some(epoch))) => return tracing::info!(epoch = epoch.get(), "the volume is released"),
        Ok(Ok(None)) => return tracing::debug!("there is no volume to release"),
        Ok(Err(why)) => why,
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(
        "the record does not say that the volume is released ({why}); this process ends all the same, and the kubelet's word of that is the proof"
    );
}

/// The epoch that was released; `None`: the record knows no volume of this process.
async fn until_said(control: &dyn ControlPlane, pod_uid: &str, boot_nonce: &str) -> Result<Option<Epoch>, String> {
    let mut pauses = PAUSES.into_iter();
    loop {
        // Read anew each time: the epoch may have been raised, or the volume put among the former ones, meanwhile.
        let why = match control.record().await {
            Ok(None) => return Ok(None),
            Ok(Some(record)) => {
                let Some(word) = LastWord::of(&record, pod_uid, boot_nonce) else {
                    return Ok(None);
                };
                let epoch = word.release.epoch;
                match control.release(word).await {
                    Ok(()) => return Ok(Some(epoch)),
                    Err(error @ (WriteError::Refused(_) | WriteError::Conflict | WriteError::Contact(_))) => {
                        error.to_string()
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        match pauses.next() {
            // Who is asked to stay away for longer than that ends without the word.
            Some(pause) if control.hold_off() <= pause => tokio::time::sleep(pause).await,
            Some(_) | None => return Err(why),
        }
    }
}

/// Waits until this process holds no engine handle (I7). A handle is closed by the thread that
/// worked, before it says that it has ended; a moment is for other attempts of a test's process.
pub(crate) async fn handles_closed(within: Duration) -> bool {
    let until = Instant::now() + within;
    while indexbuild_engine::open_handles() > 0 {
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> VolumeAccess {
        let mut root = PathBuf::from("/volume");
        let access = VolumeAccess::take(&mut root);
        assert_eq!(root, PathBuf::new(), "nobody else knows where it is");
        access
    }

    /// I4: the word needs a proof that cannot be made while an attempt may write.
    #[tokio::test]
    async fn a_volume_is_given_up_when_the_last_lease_is_given_back_and_not_before() {
        let held = access();
        let lease = held.lease();
        assert!(held.give_up().await.is_none(), "an attempt's thread has it yet");
        drop(lease);
        let free = access();
        drop(free.lease());
        assert!(free.give_up().await.is_some());
    }
}
