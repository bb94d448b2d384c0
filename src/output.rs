//! What commands write: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use indexbuild_text::chain;
use serde::Serialize;

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Writes a result: `table` gives its form for people.
pub(crate) fn write<T: Serialize>(
    format: OutputFormat,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    self::text(&in_format(format, value, table)?)
}

fn in_format<T: Serialize>(
    format: OutputFormat,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Table => table(value),
        OutputFormat::Json => serde_json::to_string_pretty(value)? + "\n",
        OutputFormat::Yaml => serde_saphyr::to_string(value)?,
    })
}

/// Whoever read standard output, such as `head`, has seen enough. It ends the command as any error does, so that nothing is
/// computed that nobody reads, and is told by the exit code alone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
struct ReaderGone;

pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    // What has no line break at its end would be written at the process's end, where nobody learns that it was not.
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        outcome => outcome.context("standard output cannot be written"),
    }
}

/// Whether a command failed only because nobody reads what it writes.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.is::<ReaderGone>()
}

/// Writes an error with its causes, each once.
pub(crate) fn error(error: &anyhow::Error) {
    let text = chain(error.as_ref());
    // As kubectl prints them, whose users look for these words at the beginning.
    if ["Error from server", "Unable to "].iter().any(|known| text.starts_with(known)) {
        let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
        return;
    }
    message("error", "31", &text);
}

/// Writes a remark.
pub(crate) fn note(text: &str) {
    message("note", "36", text);
}

fn message(kind: &str, colour: &str, text: &str) {
    let mut stderr = io::stderr();
    let line = if stderr.is_terminal() {
        format!("\x1b[1;{colour}m{kind}\x1b[0m: {text}\n")
    } else {
        format!("{kind}: {text}\n")
    };
    crate::progress::bars().suspend(|| {
        let _ = stderr.write_all(line.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_a_document_in_every_format_for_programs() {
        let table = |_: &Vec<u8>| String::new();
        assert_eq!(in_format(OutputFormat::Json, &Vec::new(), table).unwrap(), "[]\n");
        assert_eq!(in_format(OutputFormat::Yaml, &Vec::new(), table).unwrap().trim_end(), "[]");
        assert_eq!(in_format(OutputFormat::Yaml, &vec![1_u8], table).unwrap().trim_end(), "- 1");
    }

    #[test]
    fn a_reader_that_is_gone_is_told_apart_from_a_failure_whatever_was_said_around_it() {
        let gone = anyhow::Error::from(ReaderGone).context("while writing");
        assert!(reader_is_gone(&gone));
        assert!(
            !reader_is_gone(&io::Error::from(io::ErrorKind::BrokenPipe).into()),
            "a pipe or socket of another kind"
        );
    }
}
