//! The parent's side of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::hub::{Hub, Outcome};
use crate::inject::Strike;
use crate::protocol::{Answer, Request, receive, send};

/// How long a child may take to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Listens on the socket of a state folder whose lock this process holds: whatever stands there is
/// a former parent's.
///
/// # Errors
/// Those of the system, with the path.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
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
pub async fn serve(hub: Arc<Hub>, listener: UnixListener) {
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
    let (answer, strikes): (Answer, Vec<Strike>) = match outcome {
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
