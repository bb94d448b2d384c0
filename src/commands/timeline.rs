//! `indexbuild timeline`: who owned which directory of a build on a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indexbuild_timeline::{Timeline, picture, text};
use kube::ResourceExt as _;

use crate::cluster::{Cluster, ClusterArgs, Follow, ask, ownership};

/// Show who owned which directory of a build on a cluster, when, on which node and volume, and why that changed
///
/// It is read from the history of the build's EngineDirectories, which remember the last 20 changes of owner or work
/// each and go when no volume of the build is held any more. With --follow it is collected while the build runs,
/// without a limit, and shown when it has ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Times are counted from the first grant. A build on this machine shows its own: `indexbuild run --timeline FILE`.

Exit codes: 0 done, 1 it failed (no such build, nothing is remembered), 2 wrong usage.

Examples:
  indexbuild timeline orders -n shop
  indexbuild timeline orders -n shop --format svg > orders.svg
  indexbuild timeline orders -n shop --follow --format html --out orders.html")]
pub(crate) struct TimelineArgs {
    /// The build
    #[arg(value_name = "BUILD")]
    build: String,
    /// What it is drawn as
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Collect until the build has ended
    #[arg(short, long)]
    follow: bool,
    /// Write it into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// A picture that needs nothing else
    Svg,
    /// A page with the picture and the table
    Html,
}

pub(crate) fn run(args: TimelineArgs) -> anyhow::Result<ExitCode> {
    let TimelineArgs { build, format, follow, out, cluster } = args;
    let follow = if follow { Follow::UntilItEnds } else { Follow::No };
    let (title, timeline) = ask(&cluster, async |cluster: Cluster| {
        let found = cluster.build(&build).await?;
        let timeline = ownership(&cluster, &found, follow, crate::output::note).await?;
        Ok((format!("{}/{}", cluster.namespace, found.name_any()), timeline))
    })?;
    if timeline.spans.is_empty() {
        bail!(
            "nothing is remembered of who owned what in build {title}: it has not begun, or it has ended and its records went with its volumes; --follow collects it while a build runs, spec.volume.retention keeps records and volumes"
        );
    }
    let drawn = draw(format, &timeline, &title);
    match out {
        None => crate::output::text(&drawn)?,
        Some(file) => {
            std::fs::write(&file, drawn).with_context(|| format!("cannot write {}", file.display()))?;
            crate::output::note(&format!("wrote {}", file.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(format: Format, timeline: &Timeline, title: &str) -> String {
    let since = i64::try_from(timeline.start).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let since = since.map(|since| since.to_string()).unwrap_or_default();
    let title = format!("{title}, from {since}");
    match format {
        Format::Text => format!("who owned which directory of {title}\n{}", text(timeline)),
        Format::Svg => picture::svg(timeline, &title),
        Format::Html => picture::html(timeline, &title),
    }
}
