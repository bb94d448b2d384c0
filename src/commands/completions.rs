//! `indexbuild completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  indexbuild completions bash > /etc/bash_completion.d/indexbuild\n  indexbuild completions zsh > ~/.zfunc/_indexbuild"
)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let CompletionsArgs { shell } = *args;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "indexbuild", &mut script);
    crate::output::text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
