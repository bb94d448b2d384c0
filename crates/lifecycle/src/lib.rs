//! The decisions of `indexbuild`, and nothing else: what is observed goes in, the next actions and the
//! status come out. No client, no clock, no runtime; `now` is an argument.
//!
//! [`plan::plan`] is the control plane's side, [`owner::next`] an executor's, [`admission`] the rules by
//! which the record of ownership may change, [`observer`] what remembers since when things are as they are, [`writes`] what all
//! builds may write together.
//! `docs/lifecycle.md` explains states and evidence.
//! Words and guards: `docs/glossary.md`.

pub mod action;
pub mod admission;
pub mod evidence;
pub mod frozen;
pub mod observer;
pub mod owner;
pub mod plan;
pub mod platform;
pub mod record;
pub mod release;
pub mod texts;
pub mod world;
pub mod writes;

pub use action::{Action, Decision, End, Event, StopReason, Wait};
pub use evidence::{Condemned, Evidence, EvidenceKind};
pub use plan::plan;
pub use platform::Platform;
pub use world::{Millis, Record, Stage, World};
