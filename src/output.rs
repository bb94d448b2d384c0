//! What commands write: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

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
    let text = match format {
        OutputFormat::Table => table(value),
        OutputFormat::Json => serde_json::to_string_pretty(value)? + "\n",
        OutputFormat::Yaml => serde_saphyr::to_string(value)?,
    };
    self::text(&text)
}

pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader such as `head` that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
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
