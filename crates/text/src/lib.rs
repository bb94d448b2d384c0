//! Texts for people, made in one way everywhere: errors with their causes, messages of a bounded length, figures, tables;
//! and values that people write, read in one way: [`calendar`], floats.

pub mod calendar;
mod error;
mod figures;
mod float;
mod line;
mod table;

pub use error::{bounded, causes, chain, panic_words};
pub use figures::{bytes, count};
pub use float::{float32, float64, print_float32, print_float64};
pub use line::{one_line, short_line};
pub use table::aligned;
