//! `indexbuild crd`: the resources' definitions, generated from their types.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

/// Print or write the CustomResourceDefinitions
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  indexbuild crd | kubectl apply --server-side -f -\n  indexbuild crd --output crds"
)]
pub(crate) struct CrdArgs {
    /// Write one file per resource into this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: CrdArgs) -> anyhow::Result<ExitCode> {
    let CrdArgs { output } = args;
    let files = indexbuild_api::crd_yaml().context("cannot write the definitions as YAML")?;
    match output {
        None => {
            let documents: Vec<String> = files.into_iter().map(|(_, text)| text).collect();
            crate::output::text(&documents.join("---\n"))?;
        }
        Some(folder) => {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            for (name, text) in files {
                let path = folder.join(name);
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                crate::output::note(&format!("wrote {}", path.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
