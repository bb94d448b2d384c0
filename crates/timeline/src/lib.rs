//! Who owned which engine directory, when, and why that changed.
//!
//! Pure: a local run's journal and a cluster's records ([`cluster`]) become entries, entries become spans, and spans
//! become text or a picture. Words: `docs/glossary.md`.

pub mod cluster;
pub mod picture;
pub mod timeline;

pub use timeline::{Entry, Remark, SlotEvent, Span, Timeline, text, timeline, timeline_until, why};
