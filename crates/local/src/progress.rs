//! What a run shows while it goes on.

use std::time::Duration;

use indexbuild_api::{Phase, WorkKind};

/// Where a run's progress goes.
pub trait ProgressSink: Send {
    /// How far the run is. Called whenever something was observed; the sink decides how often it
    /// shows that.
    fn show(&mut self, progress: &Progress);

    /// Something happened that a person should read once.
    fn say(&mut self, message: &str, warning: bool);

    /// As [`Self::say`], for what a person should read however quiet the run is.
    fn insist(&mut self, message: &str) {
        self.say(message, true);
    }

    fn finish(&mut self) {}
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What the build is doing.
    pub phase: Phase,
    /// How much of the whole is done, 0 to 100.
    pub percent: u32,
    pub rows: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Works of the stage in hand that are done, and all of them.
    pub works: Option<(String, u32, u32)>,
    /// When the build will end at the present rate.
    pub eta: Option<Duration>,
    pub elapsed: Duration,
    pub slots: Vec<SlotProgress>,
}

/// How far a slot is with its work.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotProgress {
    pub slot: u32,
    pub work: Option<(String, WorkKind)>,
    pub step: Option<String>,
    /// 0 to 100 of that work.
    pub percent: u32,
    /// Rows or entries of that work so far.
    pub rows: u64,
    /// Bytes written for that work so far.
    pub bytes: u64,
    /// Since when nothing was heard, if that is long.
    pub silent: Option<Duration>,
    pub waiting: Option<String>,
}
