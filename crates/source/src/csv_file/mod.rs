//! CSV: rows and cells, typed columns, splits that respect quoting.

mod cells;
mod cuts;
mod kinds;
mod lines;
mod reader;
mod rows;
mod table;
mod text;
mod types;

pub(crate) use cells::value_of;
pub(crate) use reader::CsvReader;
pub(crate) use table::CsvTable;
pub(crate) use types::{by_name as type_by_name, describe};
