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

pub(crate) use reader::CsvReader;
pub(crate) use table::CsvTable;
