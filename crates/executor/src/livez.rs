//! The liveness probe: whether the process's own loop turns. Whether its work advances is for the control plane to
//! judge, which knows what the work waits for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
pub use indexbuild_process::Heartbeat;
use indexbuild_process::{listen, probe};
use tokio::net::TcpListener;

/// The loop turns at least every few seconds, whatever the network does: each of its calls has a limit, and so has each
/// pause after one that failed. With many slots it renews more seldom, so that the limit is generous.
const LIMIT: Duration = Duration::from_secs(120);

/// The heartbeat of an executor's loop.
pub fn heartbeat() -> Heartbeat {
    Heartbeat::within(LIMIT)
}

/// Answers `/livez` until the task is dropped.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(bind: SocketAddr, heartbeat: Arc<Heartbeat>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::from_std(listen(bind)?)?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/livez", get(livez)).with_state(heartbeat);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the liveness probe is not answered any more");
        }
    });
    Ok(address)
}

async fn livez(State(heartbeat): State<Arc<Heartbeat>>) -> (StatusCode, String) {
    probe(heartbeat.check())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn asked(address: SocketAddr) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_loop_that_does_not_turn_is_told_and_one_that_turns_again_lives() {
        let heartbeat = Arc::new(Heartbeat::within(Duration::from_millis(300)));
        let address = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&heartbeat)).await.unwrap();
        heartbeat.beat();
        assert!(asked(address).await.starts_with("HTTP/1.1 200"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked(address).await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "the stalled loop was never told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let answer = asked(address).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("last turned"), "{answer}");
        heartbeat.beat();
        assert!(asked(address).await.starts_with("HTTP/1.1 200"));
    }
}
