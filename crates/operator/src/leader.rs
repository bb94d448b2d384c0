//! One operator at a time: leader election by a `Lease`.
//!
//! A Lease is no fence: a leader that was stopped and goes on writes once more before it looks at its clock.
//! So writes that matter carry preconditions, and this keeps two operators from getting in each other's way.
//!
//! - `decide`: what a Lease that was read means, as a pure function of what this process saw and when.
//! - `elector`: reads and writes of the Lease, and the time until which this process leads.

mod decide;
mod elector;
#[cfg(test)]
mod tests;

pub use decide::{Attempt, Observed, Record, Step, Timing, What, step};
pub use elector::{Held, Leader, LeaderError, Released};
