//! `indexbuild run`: a build on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indexbuild_api::{Credentials, IndexBuild, SecretRef, parse_quantity};
use indexbuild_local::{Fault, Overrides, RunError, RunOptions, RunSummary, run as run_build, state_folder};
use indexbuild_timeline::{picture, timeline};

use crate::build_yaml::{self, BuildFileError};
use crate::commands::exit;
use crate::commands::index_location::CaFile;
use crate::output::OutputFormat;

/// Build the indexes of a file on this machine, in several processes
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, after_long_help = after_long_help())]
pub(crate) struct RunArgs {
    /// The build: a YAML file with one IndexBuild
    #[arg(value_name = "BUILD.YAML")]
    build: PathBuf,
    /// Only check the file: what is wrong, and where
    #[arg(long)]
    dry_run: bool,
    /// Where the run keeps its state [default: .indexbuild/NAMESPACE/NAME in the current folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How the summary is written
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Show no progress, only what the run waits for
    #[arg(short, long)]
    quiet: bool,
    /// Also draw who owned which directory, when, and why that changed (.svg or .html)
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    #[command(flatten)]
    ca: CaFile,

    /// How many processes work, instead of spec.parallelism
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Instead of what the file says")]
    parallelism: Option<u32>,
    /// Threads of each process [default: the cores that the file asks for, else this machine's, shared]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Instead of what the file says")]
    threads: Option<u16>,
    /// What each process may use, as 512Mi, instead of spec.executor.resources.limits.memory
    #[arg(long, value_name = "SIZE", value_parser = memory, help_heading = "Instead of what the file says")]
    memory: Option<u64>,
    /// After so long without a word from a process, another takes its place, as 10m
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Instead of what the file says")]
    replace_after: Option<Duration>,
    /// After so long without contact, a process ends by itself
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Instead of what the file says")]
    orphan_after: Option<Duration>,
    /// After so long the build fails, as 2h, instead of spec.activeDeadlineSeconds
    #[arg(long, value_name = "TIME", value_parser = active_deadline, help_heading = "Instead of what the file says")]
    active_deadline: Option<Duration>,
    /// How often a process says how far it is [default: 250ms]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Instead of what the file says")]
    renew_interval: Option<Duration>,

    /// Keep the processes' volumes at the end
    #[arg(long, help_heading = "The run's state")]
    keep_volumes: bool,
    /// Forget a build of this state folder that has ended, and begin a new one
    #[arg(long, conflicts_with = "abort", help_heading = "The run's state")]
    fresh: bool,
    /// Give the build up: no index, and nothing of it stays
    #[arg(long, help_heading = "The run's state")]
    abort: bool,

    /// Break something on purpose; may be given several times (see below)
    #[arg(long, value_name = "FAULT", hide_short_help = true, help_heading = "Fault injection")]
    fault: Vec<Fault>,
}

const AFTER_HELP: &str = "\
The same command given again goes on with a run that was interrupted or killed.

Exit codes:
  0  complete          1  the build failed; the message says why
  2  the command or the build's file is not valid
  3  interrupted; the same command goes on
  4  another run holds the state folder

Examples:
  indexbuild run orders.yaml --dry-run
  indexbuild run orders.yaml
  indexbuild run orders.yaml --parallelism 4 --memory 1Gi --timeline orders.svg
  indexbuild run orders.yaml --active-deadline 2h
  indexbuild run orders.yaml -o json > summary.json";

fn after_long_help() -> String {
    let faults: String = Fault::FORMS.iter().map(|(form, what)| format!("  {form:<33}{what}\n")).collect();
    format!(
        "\
The same command given again goes on with a run that was interrupted or killed. What cannot change
between the two is refused with its reason; --parallelism and the other options may differ.

Exit codes:
  0  complete
  1  the build failed; the message says why
  2  the command or the build's file is not valid
  3  interrupted (Ctrl-C, SIGTERM); what was finished is sealed, and the same command goes on
  4  another run holds the state folder

Fault injection (--fault):
{faults}  <when> is a kind of work and how far it is (plan, encode:50%, sort, publish, clean); without it, the
  fault comes as soon as the slot works.

Examples:
  indexbuild run orders.yaml --dry-run
  indexbuild run orders.yaml
  indexbuild run orders.yaml --parallelism 4 --memory 1Gi --timeline orders.svg
  indexbuild run orders.yaml -o json > summary.json
  indexbuild run orders.yaml --replace-after 2s --fault cut:1:4s@encode --timeline cut.html"
    )
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<indexbuild_api::Duration>().map(Into::into).map_err(|error| error.to_string())
}

fn active_deadline(text: &str) -> Result<Duration, String> {
    // As the build's file may say.
    const LONGEST: Duration = Duration::from_secs(1_000_000_000);
    let time = duration(text)?;
    if time.is_zero() || time > LONGEST {
        return Err("more than nothing, and at most 1000000000s".to_owned());
    }
    Ok(time)
}

fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 128 << 20;
    let bytes = parse_quantity(text).map_err(|error| error.to_string())?;
    if bytes < LEAST { Err("at least 128Mi: a process's buffers need that much".to_owned()) } else { Ok(bytes) }
}

/// The fields by which a build names secrets of a cluster.
fn secrets_of(build: &IndexBuild) -> Vec<String> {
    let output = &build.spec.output;
    let source = build.spec.source.files();
    let stores = source.map(|files| (format!("source.{}", files.field), files.credentials, files.ca_secret));
    let output = ("output".to_owned(), output.credentials.as_ref(), output.ca_secret.as_ref());
    let fields = |(store, credentials, ca): (String, Option<&Credentials>, Option<&SecretRef>)| {
        [("credentials", credentials.is_some()), ("caSecret", ca.is_some())]
            .into_iter()
            .filter(|(_, named)| *named)
            .map(move |(field, _)| format!("spec.{store}.{field}"))
    };
    stores.chain([output]).flat_map(fields).collect()
}

/// Runs the build, prints its summary, and says by the exit code how it ended.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let build = match build_yaml::read(&args.build) {
        Ok(build) => build,
        Err(error @ (BuildFileError::Invalid(_) | BuildFileError::Io { .. })) => {
            crate::output::error(&error.into());
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let secrets = secrets_of(&build);
    if !secrets.is_empty() {
        crate::output::note(&format!(
            "{}: there are no secrets on one machine: keys come from the environment (AWS_ACCESS_KEY_ID, …), \
             CA certificates from --ca-file, beside the system's",
            secrets.join(", ")
        ));
    }
    // Each process reads it when it opens a store; one that cannot be used is told before any begins.
    if let Err(error) = args.ca.read() {
        crate::output::error(&error.into());
        return Ok(ExitCode::from(exit::USAGE));
    }
    if args.dry_run {
        crate::output::note(&format!("{} is valid", args.build.display()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(picture) = &args.timeline {
        picture_kind(picture)?;
    }
    let RunArgs {
        build: _,
        dry_run: _,
        state,
        output,
        quiet,
        timeline,
        parallelism,
        threads,
        memory,
        replace_after,
        orphan_after,
        active_deadline,
        renew_interval,
        keep_volumes,
        fresh,
        abort,
        ca,
        fault,
    } = args;
    let state = match state {
        Some(state) => state,
        None => state_folder(&std::env::current_dir().context("the current folder cannot be told")?, &build),
    };
    let options = RunOptions {
        build,
        state,
        overrides: Overrides {
            parallelism,
            threads: threads.map(usize::from),
            memory,
            replace_after,
            orphan_after,
            active_deadline,
            renew_interval,
        },
        faults: fault,
        executable: std::env::current_exe().context("the program's own file cannot be told")?,
        progress: crate::progress::sink(quiet),
        keep_volumes,
        fresh,
        abort,
        signals: true,
        ca_file: ca.ca_file,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(run_build(options));
    runtime.shutdown_background();
    match outcome {
        Ok(summary) => {
            if let Some(file) = &timeline {
                draw(file, &summary)?;
            }
            crate::output::write(output, &summary, |summary| {
                format!("{}\nwho owned which directory\n{}", summary.table(), timeline::text(&summary.timeline))
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let code = code_of(&error);
            crate::output::error(&error.into());
            Ok(ExitCode::from(code))
        }
    }
}

fn code_of(error: &RunError) -> u8 {
    match error {
        RunError::Interrupted { .. } | RunError::Suspended => exit::INTERRUPTED,
        RunError::State(indexbuild_local::StateError::Held { .. }) => exit::HELD,
        RunError::Build(_) | RunError::CompleteAlready { .. } | RunError::NotEnded { .. } => exit::USAGE,
        RunError::State(_)
        | RunError::Socket(_)
        | RunError::Action(_)
        | RunError::Failed { .. }
        | RunError::FaultsTooLate => exit::FAILED,
    }
}

#[derive(Clone, Copy)]
enum Picture {
    Svg,
    Html,
}

fn picture_kind(file: &Path) -> anyhow::Result<Picture> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Picture::Svg),
        Some("html" | "htm") => Ok(Picture::Html),
        Some(_) | None => anyhow::bail!("--timeline {}: name a file that ends in .svg or .html", file.display()),
    }
}

fn draw(file: &Path, summary: &RunSummary) -> anyhow::Result<()> {
    let title = format!("{}/{}: who owned which directory", summary.namespace, summary.name);
    let text = match picture_kind(file)? {
        Picture::Svg => picture::svg(&summary.timeline, &title),
        Picture::Html => picture::html(&summary.timeline, &title),
    };
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
