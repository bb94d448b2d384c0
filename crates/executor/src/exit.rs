//! How a process ends.

use std::process::ExitCode;

use indexbuild_lifecycle::owner::ORPHANED_EXIT_CODE;

/// Why an executor process ended. Its exit code tells the same to whoever reads `kubectl describe pod`. Results count only
/// through the record. The control plane decides one thing by the code: whether an end without a report counts against the
/// build's budget (`lifecycle/plan/budget.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// Code 0: there is nothing left to do for this process.
    Done,
    /// Code 0: a higher epoch was seen, or the pod is no longer the owner; all was closed.
    GaveWay,
    /// Code 0: told to stop (SIGTERM); what was in hand is sealed.
    Stopped,
    /// Code 10: the work in hand failed; the report says why. The next attempt is a new process.
    WorkFailed,
    /// Code 11: no contact with the control plane for `spec.disruption.orphanAfter`.
    Orphaned,
    /// Code 12: another process holds the claim under this pod's UID, or the claim was refused.
    ClaimRefused,
    /// Code 13: an engine handle was still open when an attempt had ended (I7). The kernel closes it.
    HandleLeaked,
    /// Code 14: the attempt did not close within its time; the process ended under it (G11).
    CloseHung,
    /// Code 15: the process cannot work as it was started (volume not usable, build without UID).
    Unusable,
}

impl ExitStatus {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done | Self::GaveWay | Self::Stopped => 0,
            Self::WorkFailed => 10,
            Self::Orphaned => ORPHANED_EXIT_CODE,
            Self::ClaimRefused => 12,
            Self::HandleLeaked => 13,
            Self::CloseHung => 14,
            Self::Unusable => 15,
        }
    }

    /// What the code means, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "nothing left to do",
            Self::GaveWay => "gave way to a newer owner",
            Self::Stopped => "stopped when asked to, with its finished files sealed",
            Self::WorkFailed => "its work failed; the report says why",
            Self::Orphaned => "no contact with the control plane for orphanAfter",
            Self::ClaimRefused => "its claim was refused: another process holds it",
            Self::HandleLeaked => "an engine handle stayed open after an attempt",
            Self::CloseHung => "an attempt did not close in time",
            Self::Unusable => "cannot work as it was started",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_the_docs_cite_are_those_of_the_process() {
        let failures = include_str!("../../../docs/failure-modes.md");
        let lifecycle = include_str!("../../../docs/lifecycle.md");
        for (page, cited) in [
            (failures, format!("the process ended with code {} ", ExitStatus::HandleLeaked.code())),
            (failures, format!("its claim is refused, exit code {} ", ExitStatus::ClaimRefused.code())),
            (
                lifecycle,
                format!("another exit code than {} and {} ", ExitStatus::Done.code(), ExitStatus::Orphaned.code()),
            ),
        ] {
            assert!(page.contains(&cited), "{cited}");
        }
    }
}
