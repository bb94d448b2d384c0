//! `indexbuild verify`: an index checked against its manifest, and against the table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indexbuild_executor::StoreAccess;
use indexbuild_index::definition::IndexDefinition;
use indexbuild_index::manifest::Manifest;
use indexbuild_index::reader::VerifyOptions;
use indexbuild_index::{Encoder, Entries, Frame, RowPositions, Rows, SetHash, entry_hash};
use indexbuild_source::{BatchRows, ReadOptions, SourceError, Split, Table};
use indexbuild_store::in_parallel;
use serde::Serialize;

use super::index_location::IndexLocation;
use crate::output::OutputFormat;

/// Check an index: every file, every entry, and with --source the table itself
#[derive(Debug, Args)]
#[command(after_help = "\
Every file is read: its length, digest, checksums, order and key bounds, the number and the digest of its
entries, and per index the sum of their hashes. With --source the table is read again, its rows are encoded,
and counts and hashes are compared: a row missing from the index, doubled in it or changed is found. Keys come
from the environment, and --ca-file holds for the table's store too.

Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage.

Examples:
  indexbuild verify indexes/default/orders
  indexbuild verify indexes/default/orders --source orders.yaml -o json")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    location: IndexLocation,
    /// The build's YAML file, whose source is read again
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// How the report is written
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    url: String,
    ok: bool,
    indexes: Vec<IndexLine>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexLine {
    index: String,
    files: usize,
    entries: u64,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_hash: Option<String>,
}

/// Prints the report; anything wrong is exit code 1.
pub(crate) fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let VerifyArgs { location, source, output } = args;
    let opened = location.open()?;
    let access = location.access();
    let found = opened.set.verify(&VerifyOptions { threads: 0, progress: None })?;
    let mut problems: Vec<String> = found
        .problems()
        .map(|(index, file, problem)| match file {
            Some(file) => format!("index {index}, file {file}: {problem}"),
            None => format!("index {index}: {problem}"),
        })
        .collect();
    let table = source.map(|path| table_hashes(&path, &access, opened.set.manifest(), &mut problems)).transpose()?;
    let mut indexes = Vec::new();
    for (position, index) in found.indexes.iter().enumerate() {
        let of_table = table.as_ref().and_then(|hashes| hashes.get(position)).copied();
        if let Some((rows, hash)) = of_table {
            if rows != index.entries {
                problems
                    .push(format!("index {}: {} entries, and the table has {rows} rows", index.name, index.entries));
            } else if hash != index.hash {
                problems.push(format!(
                    "index {}: as many entries as the table has rows ({rows}), but not the same: their hashes sum to {} and {}",
                    index.name,
                    index.hash.hex(),
                    hash.hex()
                ));
            }
        }
        indexes.push(IndexLine {
            index: index.name.clone(),
            files: index.files.len(),
            entries: index.entries,
            hash: index.hash.hex(),
            source_entries: of_table.map(|(rows, _)| rows),
            source_hash: of_table.map(|(_, hash)| hash.hex()),
        });
    }
    let report = Report { url: opened.set.url(), ok: problems.is_empty(), indexes, problems };
    crate::output::write(output, &report, table_text)?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(super::exit::FAILED) })
}

fn table_text(report: &Report) -> String {
    let Report { url, ok, indexes, problems } = report;
    let mut text = format!("{url}\n");
    for line in indexes {
        let IndexLine { index, files, entries, hash, source_entries, source_hash: _ } = line;
        text.push_str(&format!("  {index}: {entries} entries in {files} files, hash {hash}"));
        if let Some(rows) = source_entries {
            text.push_str(&format!("; the table has {rows} rows"));
        }
        text.push('\n');
    }
    for problem in problems {
        text.push_str(&format!("  WRONG: {problem}\n"));
    }
    text.push_str(if *ok { "verified: nothing is wrong\n" } else { "not verified\n" });
    text
}

/// Per index of the manifest: the number of the table's rows, and the sum of the hashes of the entries
/// that they make. Memory: one batch per thread.
fn table_hashes(
    build: &std::path::Path,
    access: &StoreAccess,
    manifest: &Manifest,
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<(u64, SetHash)>> {
    let build = crate::build_yaml::read(build)?;
    let spec = indexbuild_executor::definitions::source(&build.spec)?;
    let settings = indexbuild_executor::definitions::source_settings(&build.spec, access)?;
    let snapshot = Table::pin(&spec, &settings)?;
    let pinned: Vec<_> = manifest.source.files.iter().map(|file| (file.url.as_str(), file.size)).collect();
    let present: Vec<_> = snapshot.files.iter().map(|file| (file.url.as_str(), file.size)).collect();
    if pinned != present {
        problems
            .push("the table's files are not those that the index was built from (other names or sizes)".to_owned());
    }
    let table = Table::open(&spec, &settings, &snapshot)?;
    let definitions = indexbuild_executor::definitions::shared(
        &manifest.indexes.iter().map(|index| index.definition.clone()).collect::<Vec<_>>(),
    );
    let columns = indexbuild_executor::definitions::projection(definitions.iter().map(AsRef::as_ref));
    let splits = table.splits(&columns)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let parts = in_parallel(&splits, threads, |split| {
        let mut options = ReadOptions::default();
        loop {
            let outcome = split_hashes(&table, split, &columns, &definitions, &options);
            // Nobody bounds the memory of this command: what a file needs, it gets.
            let larger =
                outcome.as_ref().err().and_then(|error| error.downcast_ref::<SourceError>()).and_then(|error| {
                    let pages = error.pages_needed().map(|pages| options.with_pages(pages));
                    pages.or_else(|| Some(ReadOptions { row_budget: error.row_needed()?.saturating_mul(2), ..options }))
                });
            match larger {
                Some(larger) if larger != options => options = larger,
                Some(_) | None => return outcome,
            }
        }
    })?;
    let mut sums = vec![(0, SetHash::default()); definitions.len()];
    for part in parts {
        for (sum, (rows, hash)) in sums.iter_mut().zip(part) {
            sum.0 += rows;
            sum.1.merge(hash);
        }
    }
    Ok(sums)
}

/// What [`table_hashes`] sums up, of one split.
fn split_hashes(
    table: &Table,
    split: &Split,
    columns: &[String],
    definitions: &[Arc<IndexDefinition>],
    options: &ReadOptions,
) -> anyhow::Result<Vec<(u64, SetHash)>> {
    let mut sums = vec![(0, SetHash::default()); definitions.len()];
    let encoders = definitions.iter().map(|definition| Encoder::new(Arc::clone(definition)));
    let mut encoders = encoders.collect::<Result<Vec<_>, _>>()?;
    for batch in table.read(split, columns, options)? {
        let batch = batch?;
        let rows = match &batch.rows {
            BatchRows::From(first) => Rows::From(*first),
            BatchRows::Each(places) => Rows::Each(places),
        };
        let at = RowPositions { file: batch.file, rows };
        for (encoder, sum) in encoders.iter_mut().zip(&mut sums) {
            add(encoder, &batch.batch, &at, sum)?;
        }
    }
    Ok(sums)
}

fn add(
    encoder: &mut Encoder,
    batch: &arrow_array::RecordBatch,
    at: &RowPositions<'_>,
    sum: &mut (u64, SetHash),
) -> anyhow::Result<()> {
    let mut entries = Entries::default();
    encoder.encode(batch, at, &mut entries)?;
    let mut frame = Frame::new();
    if let Some(layout) = encoder.packed() {
        for packed in &entries.packed {
            layout.expand(*packed, &mut frame);
            sum.1.add(entry_hash(frame.bytes()));
        }
    }
    for entry in &entries.general.entries {
        frame.set(entries.general.key(*entry), entries.general.value(*entry));
        sum.1.add(entry_hash(frame.bytes()));
    }
    sum.0 += entries.len() as u64;
    Ok(())
}
