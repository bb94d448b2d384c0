//! Texts for people, made in one way everywhere: errors with their causes, messages of a bounded length, figures, tables.

mod error;
mod figures;
mod line;
mod table;

pub use error::{bounded, causes, chain};
pub use figures::{bytes, count};
pub use line::{one_line, short_line};
pub use table::aligned;
