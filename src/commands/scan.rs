//! `indexbuild scan`: a part of an index, in its order.

use std::ops::Bound;
use std::process::ExitCode;

use clap::Args;
use indexbuild_index::reader::Scan;

use super::get::parse;
use super::index_location::IndexLocation;
use crate::output::OutputFormat;

/// Read a part of an index, in its order
#[derive(Debug, Args)]
#[command(after_help = "\
Bounds are values of the leading columns, in the index's order, one for each --prefix, --from or --to: for the next column
the option is given again. Values are written as for get (`indexbuild get --help`). Of a descending column --from is the
greater one. --from is part of the scan, --to is not.

Examples:
  indexbuild scan indexes/default/orders --index by_customer --limit 10
  indexbuild scan indexes/default/orders --index by_customer --from 10 --to 20 --reverse
  indexbuild scan indexes/default/orders --index by_customer --prefix 17 -o json
  indexbuild scan indexes/default/orders --index by_name --prefix 'Smith, John' --prefix 2026-01-31")]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    location: IndexLocation,
    /// The index; may be left out where the build has one only
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
    /// Only entries that begin with this value; again for the next column's
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, conflicts_with_all = ["from", "to"])]
    prefix: Vec<String>,
    /// Begin here; again for the next column's value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    from: Vec<String>,
    /// End before here; again for the next column's value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    to: Vec<String>,
    /// At most so many entries
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// From the end backwards
    #[arg(long)]
    reverse: bool,
    /// How the entries are written
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn run(args: ScanArgs) -> anyhow::Result<ExitCode> {
    let ScanArgs { location, index, prefix, from, to, limit, reverse, output } = args;
    let opened = location.open()?;
    let index = opened.index(index.as_deref())?;
    let definition = index.definition().clone();
    let scan = Scan {
        prefix: parse(&definition, &prefix)?,
        from: if from.is_empty() { Bound::Unbounded } else { Bound::Included(parse(&definition, &from)?) },
        to: if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(parse(&definition, &to)?) },
        limit,
        reverse,
    };
    super::entries::write(output, &definition, index.scan(scan)?)?;
    Ok(ExitCode::SUCCESS)
}
