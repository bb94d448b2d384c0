//! `indexbuild ingest`: an index into a RocksDB of the user's.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indexbuild_index::reader::IngestOptions;

use super::index_location::IndexLocation;

/// Ingest an index's files into a RocksDB
#[derive(Debug, Args)]
#[command(after_help = "\
The database's own options stay as they are; its comparator must be the bytewise one. Stored keys carry no
name of their index: give each index a column family of its own.

Examples:
  indexbuild ingest indexes/default/orders --index by_customer --into ./db --create
  indexbuild ingest indexes/default/orders --index by_customer --into ./db --column-family by_customer --create")]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    location: IndexLocation,
    /// The index; may be left out where the build has one only
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
    /// The database's folder
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The column family; `default` when not said
    #[arg(long, value_name = "NAME")]
    column_family: Option<String>,
    /// Create the database and the column family where they are missing
    #[arg(long)]
    create: bool,
}

pub(crate) fn run(args: IngestArgs) -> anyhow::Result<ExitCode> {
    let IngestArgs { location, index, into, column_family, create } = args;
    let opened = location.open()?;
    let index = opened.index(index.as_deref())?;
    let options = IngestOptions { column_family, create_column_family: create, create_database: create };
    let report = index.ingest(&into, &options)?;
    crate::output::text(&format!(
        "ingested {} entries in {} files of index {} into {}\n",
        report.entries,
        report.files,
        index.definition().name,
        into.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
