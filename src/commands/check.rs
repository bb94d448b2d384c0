//! `indexbuild check`: is an installation in a cluster sound? `helm test` runs it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indexbuild_operator::check::{Finding, Installation, check};
use indexbuild_operator::client::client;
use indexbuild_operator::metrics::Metrics;

use crate::commands::exit;

/// Check an installation in a cluster: resources, rules, and an operator that leads
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  indexbuild check --namespace indexbuild-system\n  helm test indexbuild -n indexbuild-system"
)]
pub(crate) struct CheckArgs {
    /// The operator's namespace
    #[arg(long, value_name = "NAMESPACE", default_value = "indexbuild-system")]
    namespace: String,
    /// The name of the Lease by which it leads
    #[arg(long, value_name = "NAME", default_value = "indexbuild-operator")]
    lease_name: String,
    /// The admission policies are not meant to hold in that namespace
    #[arg(long)]
    without_policies: bool,
    /// How many seconds an operator has to show that it leads
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    within: u64,
}

pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let CheckArgs { namespace, lease_name, without_policies, within } = args;
    let installation =
        Installation { namespace, lease_name, policies: !without_policies, within: Duration::from_secs(within) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let findings = runtime.block_on(async {
        let client = client(&Metrics::new()).await?;
        Ok::<_, anyhow::Error>(check(&client, &installation).await)
    })?;
    let mut lines = String::new();
    let mut wrong = 0_usize;
    for Finding { what, answer } in &findings {
        match answer {
            Ok(how) => lines.push_str(&format!("ok     {what}: {how}\n")),
            Err(why) => {
                wrong = wrong.saturating_add(1);
                lines.push_str(&format!("WRONG  {what}: {why}\n"));
            }
        }
    }
    crate::output::text(&lines)?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}
