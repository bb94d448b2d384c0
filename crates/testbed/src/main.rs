//! `testbed`: a shell, or one command, on a cluster that goes away afterwards.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use indexbuild_testbed::{Clocks, Cluster, Console, ConsoleCommand, Options, SOCKET, TestbedError, Tools, send};

/// Start a real Kubernetes cluster on this machine, run a shell or a command with kubectl, remove it
///
/// Within that shell, `testbed cut node2` and the other orders below break it and mend it.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    console: Option<ConsoleCommand>,
    /// Nodes; 0 is a control plane alone
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Fake nodes, on which pods run in the API alone
    #[arg(long, default_value_t = 0)]
    fake_nodes: u32,
    /// Start so many clusters, one after the other, tell how long each took, and end at the first that fails
    #[arg(long, value_name = "TIMES", conflicts_with = "command")]
    starts: Option<u32>,
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
    let Arguments { console, nodes, fake_nodes, starts, clocks, command } = arguments;
    if let Some(command) = console {
        println!("{}", send(&command)?);
        return Ok(ExitCode::SUCCESS);
    }
    let clocks = match clocks {
        Timers::Short => Clocks::SHORT,
        Timers::Default => Clocks::DEFAULT,
    };
    let tools = Tools::find()?;
    let options = Options { nodes, fake_nodes, clocks, ..Options::default() };
    if let Some(times) = starts {
        return start_again_and_again(&tools, options, times);
    }
    let start = Instant::now();
    let mut cluster = Cluster::start(&tools, options)?;
    eprintln!(
        "{} nodes ready after {:.1} s; {clocks}; logs in {}",
        nodes + fake_nodes,
        start.elapsed().as_secs_f64(),
        cluster.logs().display()
    );
    let (program, rest) = match command.split_first() {
        Some((program, rest)) => (program.clone(), rest.to_vec()),
        None => (std::env::var("SHELL").unwrap_or_else(|_| "bash".to_owned()), Vec::new()),
    };
    let mut console = Console::new(&cluster)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let here = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.display().to_string()));
    let (endpoint, key, secret) = cluster.object_store();
    let mut child = cluster
        .command(&program)
        .args(rest)
        .env("PATH", format!("{}:{}:{path}", tools.bin().display(), here.unwrap_or_default()))
        .env(SOCKET, console.path())
        .envs([("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)])
        .env("AWS_REGION", "us-east-1")
        .spawn()
        .map_err(|source| TestbedError::Spawn { program, source })?;
    let status = console.serve(&mut cluster, &mut child)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn start_again_and_again(tools: &Tools, options: Options, times: u32) -> Result<ExitCode, TestbedError> {
    let mut longest: f64 = 0.0;
    for number in 1..=times {
        let start = Instant::now();
        let cluster = Cluster::start(tools, options)?;
        let ready = start.elapsed().as_secs_f64();
        longest = longest.max(ready);
        let folder = cluster.logs().parent().map(Path::to_owned).unwrap_or_default();
        let end = Instant::now();
        drop(cluster);
        println!("{number:3}: ready after {ready:4.1} s, gone after {:.1} s more", end.elapsed().as_secs_f64());
        if folder.exists() {
            eprintln!("error: {} was left behind", folder.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{times} starts, none failed, the longest took {longest:.1} s; {}", options.clocks);
    Ok(ExitCode::SUCCESS)
}
