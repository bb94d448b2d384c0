//! What cuts a pause of the loop short.

use std::sync::Arc;
use std::time::Duration;

use crate::attempt::Attempt;

/// Reports of waits that begin or end are so far apart, at least: a store that answers every second request must not
/// make the control plane hear of each.
pub(crate) const REPORTS_APART: Duration = Duration::from_secs(1);

/// What a pause is cut short by, beside the wish that the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeOn {
    /// The attempt's end, and that it waits for something or no longer does: there is somebody to be told.
    News,
    End,
    Nothing,
}

/// Returns when the attempt has ended just now, or waits (`waits`) where that is asked for; never where its end was seen
/// before, or where there is no attempt.
pub(crate) async fn wake(attempt: &mut Option<Attempt>, waits: Option<WaitChange>) {
    let Some(attempt) = attempt.as_mut().filter(|attempt| !attempt.has_ended()) else {
        return std::future::pending().await;
    };
    let shared = Arc::clone(attempt.shared());
    let changed = async {
        match waits {
            Some(WaitChange { wanted, apart }) => {
                tokio::time::sleep(apart).await;
                shared.waits(wanted).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = attempt.ended() => {}
        () = changed => {}
    }
}

/// What is news of a wait: that there is one, or none; not before so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitChange {
    pub(crate) wanted: bool,
    pub(crate) apart: Duration,
}
