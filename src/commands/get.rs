//! `indexbuild get`: the rows with given values of an index's columns.

use std::ops::Bound;
use std::process::ExitCode;

use clap::Args;
use indexbuild_index::reader::Scan;
use indexbuild_index::{IndexDefinition, Value};

use super::index_location::IndexLocation;
use crate::output::OutputFormat;

/// Look up rows by the values of an index's columns
#[derive(Debug, Args)]
#[command(after_help = "\
Values are those of the index's leading columns, in the index's order; NULL is written as NULL.
Exit code 1 when there is no such entry.

Examples:
  indexbuild get indexes/default/orders --index by_customer 17
  indexbuild get s3://indexes/shop/default/orders --region eu-west-1 --index by_customer 17 -o json")]
pub(crate) struct GetArgs {
    #[command(flatten)]
    location: IndexLocation,
    /// The index; may be left out where the build has one only
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
    /// Values of the leading columns
    #[arg(required = true, value_name = "VALUE", allow_negative_numbers = true)]
    values: Vec<String>,
    /// How the entries are written
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Prints the entries; none is exit code 1.
pub(crate) fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let GetArgs { location, index, values, output } = args;
    let opened = location.open()?;
    let index = opened.index(index.as_deref())?;
    let values = parse(index.definition(), &values)?;
    // Fewer values than columns: all entries that begin with them.
    let scan = Scan { prefix: values, from: Bound::Unbounded, to: Bound::Unbounded, limit: None, reverse: false };
    let definition = index.definition().clone();
    let found = super::entries::write(output, &definition, index.scan(scan)?)?;
    if found == 0 {
        crate::output::note("there is no such entry");
        return Ok(ExitCode::from(super::exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Values of an index's leading columns, from text.
pub(crate) fn parse(definition: &IndexDefinition, texts: &[String]) -> anyhow::Result<Vec<Value>> {
    anyhow::ensure!(
        texts.len() <= definition.columns.len(),
        "index {} has {} columns, and {} values were given",
        definition.name,
        definition.columns.len(),
        texts.len()
    );
    let pairs = definition.columns.iter().zip(texts);
    pairs
        .map(|(column, text)| {
            if text == "NULL" {
                return Ok(Value::Null);
            }
            Value::parse(text, column.column_type).map_err(|error| anyhow::anyhow!("column {}: {error}", column.name))
        })
        .collect()
}
