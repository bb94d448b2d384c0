//! Texts for people, made in one way everywhere: errors with their causes, messages of a bounded length, figures.

mod error;
mod figures;

pub use error::{bounded, causes, chain};
pub use figures::{bytes, count};
