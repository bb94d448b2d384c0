//! What a process has for each thing that it does at its end.

use std::time::Duration;

/// For sealing, once it is asked to stop.
pub(crate) const SEAL_WITHIN: Duration = Duration::from_secs(10);
/// For an attempt to close everything, once it must.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// For its handles to close after its end.
pub(crate) const HANDLES_WITHIN: Duration = Duration::from_secs(2);
/// For the last report.
pub(crate) const LAST_REPORT_WITHIN: Duration = Duration::from_secs(3);
/// For the removal of late objects of a build that has ended, beside the last report.
pub(crate) const RETIRE_WITHIN: Duration = Duration::from_secs(4);
/// For the word that the volume is released, whatever the control plane does.
pub(crate) const RELEASE_WITHIN: Duration = Duration::from_secs(3);

/// The kubelet kills so long after SIGTERM. Each of the above may take all of its time, one after the other: a process
/// that is killed has sealed less than it could, and has not said what it let go of.
const KILLED_AFTER: Duration = Duration::from_secs(30);

const _: () = {
    let beside =
        if LAST_REPORT_WITHIN.as_secs() > RETIRE_WITHIN.as_secs() { LAST_REPORT_WITHIN } else { RETIRE_WITHIN };
    let parts = [SEAL_WITHIN, CLOSE_WITHIN, HANDLES_WITHIN, beside, RELEASE_WITHIN];
    let (mut sum, mut index) = (0, 0);
    while index < parts.len() {
        sum += parts[index].as_secs();
        index += 1;
    }
    assert!(sum < KILLED_AFTER.as_secs(), "the end of a process fits into the kubelet's grace");
};
