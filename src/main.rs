//! `indexbuild`: builds secondary indexes, and finishes whatever breaks on the way.

mod build_yaml;
mod cluster;
mod commands;
mod logging;
mod output;
mod plugin;
mod progress;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    check, completions, crd, executor, exit, get, ingest, operator, run, sample, scan, timeline, verify,
};
use crate::logging::{LogFormat, LogLevel, Logging};

/// Buffers come and go with each split and range: an allocator that gives memory back keeps a
/// process within its limit.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Builds secondary indexes over tables too large for one machine, and finishes whatever breaks on the way.
#[derive(Debug, Parser)]
#[command(name = "indexbuild", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  indexbuild run orders.yaml --dry-run                   check a build: what is wrong, and where
  indexbuild run orders.yaml                             build; the same command again goes on after a crash
  indexbuild verify indexes/default/orders               check every file of an index

Exit codes:
  0  done
  1  it failed; the message says why
  2  wrong usage, or the build's file is not valid
  141  whoever read the output, such as head, has gone";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// How much is logged to standard error
    #[arg(long, global = true, value_enum)]
    log_level: Option<LogLevel>,
    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,
    /// How log lines look; human on a terminal, JSON otherwise
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
}

/// One line here and one in `dispatch` for each command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Build the indexes of a file on this machine
    Run(Box<run::RunArgs>),
    /// Check an index: every file, every entry, and with --source the table itself
    Verify(verify::VerifyArgs),
    /// Look up rows by the values of an index's columns
    Get(get::GetArgs),
    /// Read a part of an index, in its order
    Scan(scan::ScanArgs),
    /// Ingest an index's files into a RocksDB
    Ingest(ingest::IngestArgs),
    /// Write a table to try things on
    Sample(sample::SampleArgs),
    /// Print or write the CustomResourceDefinitions
    Crd(crd::CrdArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Show who owned which directory of a build on a cluster, when, on which node and volume
    Timeline(timeline::TimelineArgs),
    /// Carry out the IndexBuilds of a cluster; started by the Helm chart
    Operator(operator::OperatorArgs),
    /// Check an installation in a cluster: resources, rules, and an operator that leads
    Check(check::CheckArgs),
    /// One process of a build; started by `run`
    #[command(hide = true)]
    Executor(executor::ExecutorArgs),
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(*args),
        Command::Verify(args) => verify::run(args),
        Command::Get(args) => get::run(args),
        Command::Scan(args) => scan::run(args),
        Command::Ingest(args) => ingest::run(args),
        Command::Sample(args) => sample::run(args).map(|()| ExitCode::SUCCESS),
        Command::Crd(args) => crd::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Timeline(args) => timeline::run(args),
        Command::Operator(args) => operator::run(args),
        Command::Check(args) => check::run(args),
        Command::Executor(args) => executor::run(args),
    }
}

fn main() -> ExitCode {
    if let Some(code) = plugin::run_if_called() {
        return code;
    }
    let Cli { global, command } = Cli::parse_from(get::with_negative_values(std::env::args_os()));
    let Global { log_level, verbose, log_format } = global;
    let default = match &command {
        // A child's log is a file, and is read when something went wrong.
        Command::Executor(_) | Command::Operator(_) => LogLevel::Info,
        Command::Run(_)
        | Command::Verify(_)
        | Command::Get(_)
        | Command::Scan(_)
        | Command::Ingest(_)
        | Command::Sample(_)
        | Command::Timeline(_)
        | Command::Crd(_)
        | Command::Check(_)
        | Command::Completions(_) => LogLevel::Warn,
    };
    let level = log_level.unwrap_or(match verbose {
        0 => default,
        1 => LogLevel::Info,
        2 => LogLevel::Debug,
        _ => LogLevel::Trace,
    });
    Logging { level, format: log_format }.start();
    // A panic, on whichever thread, is an error with its words; which code it is from, the panic itself has said.
    let outcome = catch_unwind(AssertUnwindSafe(|| dispatch(command))).unwrap_or_else(|panic| {
        let words = indexbuild_text::panic_words(panic.as_ref());
        Err(anyhow::anyhow!("the program panicked: {words}; report it"))
    });
    match outcome {
        Ok(code) => code,
        Err(error) => exit::of(&error),
    }
}
