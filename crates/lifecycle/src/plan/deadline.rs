//! The time that a build is given, `spec.activeDeadlineSeconds`: as a Job's. It counts from the status' start time, which
//! a pause takes away; it fails a build that runs, and never one whose index is committed.

use indexbuild_api::{IndexBuildStatus, LastWait, Phase, Reason, WorkErrorReason};
use indexbuild_text::bounded;

use super::Pass;
use super::budget::{Failure, Spent};
use super::mode::Mode;
use crate::world::Millis;

/// The longest text of what was waited for last, in bytes.
const MAX_LAST_WAIT: usize = 1_024;

impl Pass<'_> {
    /// What is left of the build's time. `None`: it has any, or the clock stands.
    fn time_left(&self) -> Option<Millis> {
        let build = &self.world.build;
        match self.mode {
            Mode::Run => {
                let allowed = build.spec.active_deadline_seconds?.saturating_mul(1_000);
                Some(allowed.saturating_sub(build.active_age))
            }
            Mode::Disabled | Mode::Gone | Mode::Suspend | Mode::Clean(_) | Mode::Drain(_) => None,
        }
    }

    /// The failure that it is when a build's time is over. A Publish that was granted before may still commit: the Clean
    /// that follows finds out which of manifest and tombstone came first.
    pub(super) fn overdue(&self) -> Option<Failure> {
        self.time_left().filter(|left| *left == 0)?;
        let build = &self.world.build;
        let allowed = build.spec.active_deadline_seconds.unwrap_or_default();
        let status = build.status.clone().unwrap_or_default();
        let IndexBuildStatus { start_time, phase, progress, last_wait, .. } = status;
        let waited = last_wait.map_or_else(
            || "it waited for nothing".to_owned(),
            |LastWait { reason, message, since }| {
                format!("what it waited for last, since {since}: {reason}: {message}")
            },
        );
        let message = format!(
            "the build was active for longer than activeDeadlineSeconds ({allowed}) allows, since {}: it was {} at {}; {waited}; its volumes stay or go as volume.retention.whenFailed says",
            start_time.unwrap_or_default(),
            phase.unwrap_or(Phase::Pending),
            progress.unwrap_or_default(),
        );
        Some(Failure {
            // No attempt is to blame.
            work_id: String::new(),
            reason: WorkErrorReason::Internal,
            message,
            permanent: false,
            counts: false,
            damaged: Vec::new(),
            spent: Some(Spent::Time),
        })
    }

    /// The build's time is a deadline like others (I5): it is looked at again when it is over.
    pub(super) fn deadline_wait(&mut self) {
        if let Some(left) = self.time_left().filter(|left| *left > 0) {
            let what = "the build is active".to_owned();
            self.wait(Reason::DeadlineExceeded, None, left, what, "it is complete; else it fails, as its time is over");
        }
    }

    /// Since when the build is active.
    pub(super) fn start_time(&self, before: &IndexBuildStatus, finished: bool) -> Option<String> {
        match self.mode {
            Mode::Suspend if !finished => None,
            // By it a build is known that was begun before there was a list of its stages: it comes after that list.
            Mode::Run => {
                let begins = || self.world.frozen.unsaid.is_none().then(|| self.world.wall.clone());
                before.start_time.clone().or_else(begins)
            }
            Mode::Suspend | Mode::Disabled | Mode::Gone | Mode::Clean(_) | Mode::Drain(_) => before.start_time.clone(),
        }
    }

    /// What the build waits for, as people are told of it; else what it waited for last. It must outlast the wait: a build
    /// whose time is over seldom waits in that very moment for what took its time.
    pub(super) fn last_wait(&self, before: &IndexBuildStatus, ended: bool) -> Option<LastWait> {
        let waits =
            || self.worst_wait().map(|wait| (wait.reason, format!("{}: ends when {}", wait.what, wait.ends_when)));
        let last = before.last_wait.as_ref();
        let said = last.map(|last| last.message.as_str());
        let Some((reason, message)) = self.hindrance(said, ended).or_else(waits) else {
            return last.cloned();
        };
        let message = bounded(&message, MAX_LAST_WAIT);
        let since = last.filter(|last| last.reason == reason).map_or(&self.world.wall, |last| &last.since);
        Some(LastWait { reason, message, since: since.clone() })
    }
}
