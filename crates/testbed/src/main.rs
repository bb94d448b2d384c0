//! `testbed`: a shell, or one command, on a cluster that goes away afterwards.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use indexbuild_testbed::{Clocks, Cluster, Options, TestbedError, Tools};

/// Start a real Kubernetes cluster on this machine, run a shell or a command with kubectl, remove it
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes; 0 is a control plane alone
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// How soon a silent node is given up
    #[arg(long, value_enum, default_value_t = Timers::Short)]
    clocks: Timers,
    /// The command; a shell without one
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Timers {
    /// Tens of seconds
    Short,
    /// Those of Kubernetes: minutes
    Default,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, TestbedError> {
    let Arguments { nodes, clocks, command } = arguments;
    let clocks = match clocks {
        Timers::Short => Clocks::SHORT,
        Timers::Default => Clocks::DEFAULT,
    };
    let tools = Tools::find()?;
    let start = Instant::now();
    let cluster = Cluster::start(&tools, Options { nodes, clocks })?;
    eprintln!(
        "{nodes} nodes ready after {:.1} s; {clocks}; logs in {}",
        start.elapsed().as_secs_f64(),
        cluster.logs().display()
    );
    let (program, rest) = match command.split_first() {
        Some((program, rest)) => (program.clone(), rest.to_vec()),
        None => (std::env::var("SHELL").unwrap_or_else(|_| "bash".to_owned()), Vec::new()),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let status = cluster
        .command(&program)
        .args(rest)
        .env("PATH", format!("{}:{path}", tools.bin().display()))
        .status()
        .map_err(|source| TestbedError::Spawn { program, source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
