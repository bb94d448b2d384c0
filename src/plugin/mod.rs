//! `kubectl indexbuild`: the same binary under the name `kubectl-indexbuild`, with what people do about builds on a
//! cluster. It acts by the API alone: what it changes is a field of the build, or the build's deletion.

mod cancel;
mod complete;
mod logs;
mod report;
mod status;
mod suspend;
mod table;
mod volumes;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cluster::ClusterArgs;
use crate::commands::timeline;
use crate::logging::{LogLevel, Logging};
use crate::output::OutputFormat;
use table::Cells;

/// The name under which kubectl finds the plugin.
pub(crate) const NAME: &str = "kubectl-indexbuild";
/// The name under which kubectl asks how its arguments go on.
pub(crate) const COMPLETE: &str = "kubectl_complete-indexbuild";

/// Look at index builds, pause, resume and cancel them, and collect what a bug report needs
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl indexbuild", version, after_help = EXAMPLES)]
struct Plugin {
    /// Log more to standard error: -v info, -vv debug
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kubectl indexbuild status                    all builds of the namespace
  kubectl indexbuild status orders             one build: conditions, slots, who owned what and when
  kubectl indexbuild logs orders --slot 2 -f   what an executor logs
  kubectl indexbuild suspend orders            executors end, volumes stay
  kubectl indexbuild cancel orders --yes       no index; what was written is removed
  kubectl indexbuild report orders             an archive for a bug report, without secrets

Exit codes:
  0  done
  1  it failed; the message says what, where, and what to do next
  2  wrong usage";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show builds, or one build with its slots and who owned what
    Status(status::StatusArgs),
    /// Show what the executors of a build log
    Logs(logs::LogsArgs),
    /// Pause a build: its executors end, its volumes stay
    Suspend(suspend::SuspendArgs),
    /// Let a paused build go on
    Resume(suspend::ResumeArgs),
    /// Give a build up before its commit: no index, and nothing of it stays
    Cancel(cancel::CancelArgs),
    /// Show the volumes of a build, who had them, and what holds them
    Volumes(volumes::VolumesArgs),
    /// Show who owned which directory, when, where, and why that changed
    Timeline(timeline::TimelineArgs),
    /// Collect objects, events and logs of a build into one archive for a bug report
    Report(report::ReportArgs),
}

/// What to print where there is a choice.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people; long messages are cut.
    #[default]
    Table,
    /// For people, with whole messages.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

impl Output {
    /// Writes a result: `table` gives its form for people.
    fn write<T: Serialize>(self, value: &T, table: impl FnOnce(&T, Cells) -> String) -> anyhow::Result<()> {
        let (format, cells) = match self.output {
            Form::Table => (OutputFormat::Table, Cells::Short),
            Form::Wide => (OutputFormat::Table, Cells::Whole),
            Form::Json => (OutputFormat::Json, Cells::Whole),
            Form::Yaml => (OutputFormat::Yaml, Cells::Whole),
        };
        crate::output::write(format, value, |value| table(value, cells))
    }
}

/// Runs the plugin, if this process was called by one of its names.
pub(crate) fn run_if_called() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    let name = std::path::Path::new(&program).file_stem()?.to_str()?.to_owned();
    match name.as_str() {
        NAME => Some(run()),
        COMPLETE => Some(complete::run(&arguments.collect::<Vec<OsString>>())),
        _ => None,
    }
}

fn run() -> ExitCode {
    let Plugin { verbose, cluster, command } = Plugin::parse();
    let level = match verbose {
        0 => LogLevel::Error,
        1 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    Logging { level, format: None }.start();
    // Each command has the same, wherever they were typed.
    tracing::debug!(?cluster, "asking");
    let done = match command {
        Command::Status(args) => status::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Suspend(args) => suspend::suspend(args),
        Command::Resume(args) => suspend::resume(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Volumes(args) => volumes::run(args),
        Command::Timeline(args) => timeline::run(args),
        Command::Report(args) => report::run(args),
    };
    done.unwrap_or_else(|error| {
        crate::output::error(&error);
        ExitCode::from(crate::commands::exit::FAILED)
    })
}
