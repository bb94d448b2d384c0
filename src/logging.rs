//! Log lines: human on a terminal, JSON otherwise.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What failed.
    Error,
    /// What a person should look at.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// For machines: one object a line.
    Json,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Logging {
    pub level: LogLevel,
    /// `None`: by whether standard error is a terminal.
    pub format: Option<LogFormat>,
}

impl Logging {
    /// Begins to log. `INDEXBUILD_LOG`, in the syntax of tracing's filters, is stronger than the level.
    pub(crate) fn start(self) {
        let level = match self.level {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Trace => Level::TRACE,
        };
        let filter =
            EnvFilter::builder().with_default_directive(level.into()).with_env_var("INDEXBUILD_LOG").from_env_lossy();
        let terminal = io::stderr().is_terminal();
        let format = self.format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BesideBars);
        // Only one subscriber is ever set: a second call would be a test's, and changes nothing.
        let outcome = match format {
            LogFormat::Human => builder.with_ansi(terminal).with_target(false).try_init(),
            LogFormat::Json => builder.json().with_current_span(false).try_init(),
        };
        if let Err(error) = outcome {
            let _ = writeln!(io::stderr(), "logging is set up already: {error}");
        }
    }
}

/// Standard error, with progress bars out of the way while a line is written.
#[derive(Clone, Copy, Debug)]
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::progress::bars().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        *self
    }
}
