//! Texts for people, made in one way everywhere: errors with their causes, messages of a bounded length, figures, tables.

mod error;
mod figures;
mod table;

pub use error::{bounded, causes, chain, panic_words};
pub use figures::{bytes, count};
pub use table::aligned;
