//! `indexbuild get`: the rows with given values of an index's columns.

use std::ffi::OsString;
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
Values are those of the index's leading columns, in the index's order, one argument each. How values of each type are
written is told in docs/reading-an-index.md; what get and scan print is taken back, in tables and, with its quotes, in JSON.
  NULL                     NULL; the text of these four letters is '\"NULL\"'
  '\"a\\u0000b\"'            any text, as JSON writes it; needed where it begins with a quote or a minus
  00ff                     bytes, as pairs of hex digits, or as a UUID
  2026-01-31T23:59:59Z     an instant; a timestamp without a zone has no Z
Exit code 1 when there is no such entry.

Examples:
  indexbuild get indexes/default/orders --index by_customer 17
  indexbuild get indexes/default/orders --index by_name 'Smith, John' 2026-01-31
  indexbuild get s3://indexes/shop/default/orders --region eu-west-1 --index by_customer 17 -o json")]
pub(crate) struct GetArgs {
    #[command(flatten)]
    location: IndexLocation,
    /// The index; may be left out where the build has one only
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
    /// Values of the leading columns
    #[arg(required = true, value_name = "VALUE")]
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
    let columns: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
    anyhow::ensure!(
        texts.len() <= columns.len(),
        "index {} has {} ({}), and {} values were given; give one value for each column at most, in this order, and put \
         one with blanks in quotes for the shell",
        definition.name,
        if columns.len() == 1 { "one column".to_owned() } else { format!("{} columns", columns.len()) },
        columns.join(", "),
        texts.len()
    );
    let pairs = definition.columns.iter().zip(texts);
    pairs
        .map(|(column, text)| {
            Value::parse(text, column.column_type).map_err(|error| {
                let several = if text.contains(',') { "; values of several columns are given one by one" } else { "" };
                anyhow::anyhow!("column {}: {error}{several}", column.name)
            })
        })
        .collect()
}

/// The command line, with those values of `get` in quotes that begin with a minus and are no option: `-inf`, `-1.5e-7`,
/// `-0001-12-31`. In quotes they are the same values; as they are, clap knows none but plain numbers.
pub(crate) fn with_negative_values(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let (mut of_get, mut only_values) = (false, false);
    let quoted = |argument: OsString| match argument.to_str() {
        Some(text) if begins_as_number(text) => serde_json::Value::from(text).to_string().into(),
        Some(_) | None => argument,
    };
    arguments
        .enumerate()
        .map(|(place, argument)| {
            only_values |= argument == "--";
            if of_get && !only_values {
                return quoted(argument);
            }
            of_get |= place > 0 && argument == "get";
            argument
        })
        .collect()
}

fn begins_as_number(text: &str) -> bool {
    let Some(after) = text.strip_prefix('-') else { return false };
    let digits = after.strip_prefix('.').unwrap_or(after);
    // No option is named by a digit, or by `i`.
    digits.starts_with(|c: char| c.is_ascii_digit()) || after.starts_with(['i', 'I'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_minus_is_a_value_and_an_option_stays_one() {
        for (line, expected) in [
            ("x get i -5 -o json", r#"x get i "-5" -o json"#),
            ("x -v get i -inf -Infinity -v", r#"x -v get i "-inf" "-Infinity" -v"#),
            ("x get i -.5 -1.5e-7 -0001-12-31", r#"x get i "-.5" "-1.5e-7" "-0001-12-31""#),
            ("x get i -- -5 -inf", "x get i -- -5 -inf"),
            ("x get i --index=-5 - -", "x get i --index=-5 - -"),
            ("x scan i --from -5", "x scan i --from -5"),
            ("get scan i -5", "get scan i -5"),
        ] {
            let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(with_negative_values(words(line).into_iter()), words(expected), "{line}");
        }
    }
}
