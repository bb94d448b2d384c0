//! The parent's side of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::hub::{Hub, Outcome};
use crate::inject::InjectedFault;
use crate::protocol::{Answer, Request, receive, send};

/// How long a child may take to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Listens on the socket of a state folder whose lock this process holds: whatever stands there is
/// a former parent's.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("the socket {} cannot be made: {error}", path.display()))
    };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

/// Answers children until the task is dropped.
pub(crate) async fn serve(hub: Arc<Hub>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let hub = Arc::clone(&hub);
                tokio::spawn(async move {
                    if let Err(error) = connection(&hub, stream).await {
                        tracing::debug!(%error, "a child's connection ended early");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, say: children try again.
                tracing::warn!(%error, "a child's connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(hub: &Hub, mut stream: UnixStream) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    if credentials.uid() != rustix::process::geteuid().as_raw() {
        let message = "this run belongs to another user".to_owned();
        return send(&mut stream, &Answer::Unknown { message }).await;
    }
    let request: Request = timeout(REQUEST_LIMIT, receive(&mut stream)).await??;
    let pod_uid = request.pod_uid.clone();
    let outcome = hub.answer(request, credentials.pid().unwrap_or(0));
    let (answer, strikes): (Answer, Vec<InjectedFault>) = match outcome {
        Outcome::Answer(answer, strikes) => (*answer, strikes),
        Outcome::Wait(slot, version, within) => {
            wait_for_change(hub, &mut stream, slot, &version, within).await?;
            (Answer::Done, Vec::new())
        }
        Outcome::Lost => {
            black_hole(hub, &pod_uid).await;
            return Ok(());
        }
    };
    // Neither direction passes: what was asked before a cut is not answered during it.
    if hub.is_cut(&pod_uid) {
        black_hole(hub, &pod_uid).await;
        return Ok(());
    }
    send(&mut stream, &answer).await?;
    if !strikes.is_empty() {
        hub.strike(&pod_uid, &strikes);
    }
    Ok(())
}

/// Returns when the slot's record is no longer at `version`, after `within`, or as an error when the
/// child is gone.
async fn wait_for_change(
    hub: &Hub,
    stream: &mut UnixStream,
    slot: u32,
    version: &str,
    within: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let changed = hub.changed.notified();
        tokio::pin!(changed);
        // Registered before the look, so that no change falls in between.
        changed.as_mut().enable();
        if hub.changed_since(slot, version) {
            return Ok(());
        }
        tokio::select! {
            outcome = timeout_at(deadline, changed) => if outcome.is_err() {
                return Ok(());
            },
            // A child says nothing more on this connection: what can be read is its end.
            ready = stream.readable() => {
                ready?;
                match stream.try_read(&mut [0]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        }
    }
}

/// Keeps a connection without a word until its pod is no longer cut off, then lets it end.
async fn black_hole(hub: &Hub, pod_uid: &str) {
    loop {
        let healed = hub.healed.notified();
        tokio::pin!(healed);
        healed.as_mut().enable();
        if !hub.is_cut(pod_uid) {
            return;
        }
        healed.await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use indexbuild_api::{Claim, DirectoryState, EngineDirectorySpec, Epoch, OwnerChangeReason, Report};
    use indexbuild_executor::{ContactError, ControlPlane, WriteError};

    use super::*;
    use crate::ParentClient;
    use crate::folder::{Folder, Layout};
    use crate::hub::State;
    use crate::inject::Injector;
    use crate::journal::Journal;
    use crate::pods::{PodFile, Pods};
    use crate::records::tests::spec;
    use crate::records::{Change, Records, this_machine};

    const LIMIT: Duration = Duration::from_millis(300);

    /// A parent with slot 0, whose epoch 1 is granted to the pod `old`; `new` is another pod of the slot.
    fn parent(folder: &Path, faults: &[&str]) -> (Arc<Hub>, tokio::task::JoinHandle<()>) {
        let layout = Layout::new(folder.to_owned());
        drop(Folder::hold(layout.clone()).unwrap());
        let faults: Vec<_> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let mut state = State {
            records: Records::load(layout.clone()).unwrap(),
            pods: Pods::load(layout.clone()).unwrap(),
            volumes: Vec::new(),
            stages: BTreeMap::new(),
            injector: Injector::new(&faults),
            journal: Journal::open(&layout.journal()),
        };
        if state.records.get(0).is_none() {
            state.records.create(0, spec(1, "old", "")).unwrap();
        }
        for uid in ["old", "new"] {
            let file = PodFile {
                name: format!("pod-{uid}"),
                uid: uid.to_owned(),
                slot: 0,
                epoch: Epoch::new(1),
                volume_generation: 1,
                threads: 1,
                memory_limit: 1 << 28,
                orphan_after_ms: 1_000,
            };
            state.pods.create(file).unwrap();
        }
        let listener = listen(&layout.socket()).unwrap();
        let hub = Arc::new(Hub::new(layout, this_machine(), state));
        (Arc::clone(&hub), tokio::spawn(serve(hub, listener)))
    }

    fn child(hub: &Hub, uid: &str) -> ParentClient {
        ParentClient::new(hub.layout.socket(), uid.to_owned()).with_limit(LIMIT)
    }

    fn update(hub: &Hub, spec: EngineDirectorySpec, change: Option<OwnerChangeReason>) {
        let mut state = hub.state();
        let version = state.records.get(0).unwrap().version;
        let change = Change { spec, state: DirectoryState::Working, change, conditions: Vec::new() };
        state.records.update(0, &version, change, "").unwrap();
        drop(state);
        hub.changed.notify_waiters();
    }

    fn report(epoch: u64, boot_nonce: &str, progress: f64) -> Report {
        Report {
            epoch: Epoch::new(epoch),
            boot_nonce: boot_nonce.to_owned(),
            renew_time: "2026-01-01T00:00:00Z".to_owned(),
            progress: Some(progress),
            ..Report::default()
        }
    }

    async fn claimed(hub: &Hub) -> ParentClient {
        let old = child(hub, "old");
        old.claim(Claim { pod_uid: "old".to_owned(), boot_nonce: "n".to_owned(), boot_id: String::new() })
            .await
            .unwrap();
        update(hub, spec(1, "old", "n"), None);
        old
    }

    /// I1, G3: only the owner of the current epoch is heard.
    #[tokio::test]
    async fn the_owner_is_heard_and_everybody_else_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, _serving) = parent(folder.path(), &[]);
        let old = claimed(&hub).await;
        old.report(report(1, "n", 0.5)).await.unwrap();
        assert_eq!(old.record().await.unwrap().unwrap().status.report, Some(report(1, "n", 0.5)));
        assert_eq!(old.stage("encode").await.unwrap(), None);
        let other = child(&hub, "new").report(report(1, "n", 0.9)).await;
        assert!(matches!(other, Err(WriteError::Refused(_))), "{other:?}");
        let stranger = child(&hub, "nobody").record().await;
        assert!(matches!(stranger, Err(ContactError::Refused(_))), "{stranger:?}");
        update(&hub, spec(2, "new", ""), Some(OwnerChangeReason::Replaced));
        let late = old.report(report(1, "n", 0.9)).await;
        assert!(matches!(late, Err(WriteError::Refused(_))), "{late:?}");
    }

    #[tokio::test]
    async fn a_process_cannot_speak_for_another_ones_pod() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, _serving) = parent(folder.path(), &[]);
        hub.state().pods.get_mut("pod-old").unwrap().pid = Some(1);
        let outcome = child(&hub, "old").record().await;
        assert!(matches!(outcome, Err(ContactError::Refused(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_child_that_waits_for_a_change_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, _serving) = parent(folder.path(), &[]);
        let old = claimed(&hub).await;
        let version = old.record().await.unwrap().unwrap().version;
        let waiting = {
            let (old, version) = (old.clone(), version.clone());
            tokio::spawn(async move { old.changed(&version, Duration::from_secs(60)).await })
        };
        old.report(report(1, "n", 0.1)).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "its own renewal is no change");
        update(&hub, spec(2, "new", ""), Some(OwnerChangeReason::Replaced));
        timeout(Duration::from_secs(10), waiting).await.expect("told at once").unwrap().unwrap();
        let told = timeout(Duration::from_secs(10), old.changed(&version, Duration::from_secs(60))).await;
        told.expect("told already").unwrap();
    }

    /// A cut is silence in both directions, and of one process: nothing is refused, nothing arrives.
    #[tokio::test]
    async fn during_a_cut_nothing_passes_and_after_it_everything_does() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, _serving) = parent(folder.path(), &["cut:0:1h@plan:50%"]);
        let old = claimed(&hub).await;
        old.report(report(1, "n", 0.4)).await.unwrap();
        let version = old.record().await.unwrap().unwrap().version;
        // Asked before the cut, answered during it: lost as well.
        let asked = {
            let old = old.clone();
            tokio::spawn(async move { old.changed(&version, Duration::from_secs(3_600)).await })
        };
        let lost = old.report(report(1, "n", 0.6)).await;
        assert!(matches!(lost, Err(WriteError::Contact(ContactError::Unreachable(_)))), "{lost:?}");
        let seen = hub.state().records.get(0).unwrap().status.report;
        assert_eq!(seen, Some(report(1, "n", 0.4)), "the parent did not see it");
        assert!(matches!(old.record().await, Err(ContactError::Unreachable(_))));
        update(&hub, spec(2, "new", ""), Some(OwnerChangeReason::Replaced));
        assert!(child(&hub, "new").record().await.is_ok(), "its replacement is not cut off");
        assert!(!asked.is_finished(), "no answer passes");

        let now = std::time::Instant::now();
        hub.state().injector.end_all(now);
        assert_eq!(hub.state().injector.over(now).healed, vec!["old".to_owned()]);
        hub.healed.notify_waiters();
        let asked = timeout(Duration::from_secs(10), asked).await.expect("the connection ends with the cut").unwrap();
        assert!(matches!(asked, Err(ContactError::Unreachable(_))), "nothing was told: {asked:?}");
        let record = old.record().await.unwrap().unwrap();
        assert_eq!(record.spec.grant.unwrap().epoch, 2, "it sees that it has to give way");
    }

    #[tokio::test]
    async fn a_child_that_outlived_its_parent_finds_the_next_one_on_the_same_path() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, serving) = parent(folder.path(), &[]);
        let old = claimed(&hub).await;
        serving.abort();
        let _ = serving.await;
        assert!(matches!(old.record().await, Err(ContactError::Unreachable(_))));
        let (_hub, _serving) = parent(folder.path(), &[]);
        let record = old.record().await.unwrap().unwrap();
        assert_eq!(record.spec.grant.unwrap().boot_nonce, "n", "the grant is still its own");
        old.report(report(1, "n", 0.7)).await.unwrap();
    }
}
