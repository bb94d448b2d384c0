//! Plan: what the build reads and how it is cut, fixed once.

use bytes::Bytes;
use indexbuild_api::{Compression as ApiCompression, IndexBuildSpec, WorkError, WorkErrorReason, WorkResult};
use indexbuild_engine::{EngineError, IndexPlan, plan_index};
use indexbuild_index::definition::{Compression, IndexDefinition};
use indexbuild_index::digest::digest_bytes;
use indexbuild_index::manifest::Document;
use indexbuild_index::{Arena, ArenaEntry, EncodeError, Encoder, Entries, RowPositions, Rows};
use indexbuild_source::{
    BatchRows, ReadColumns, ReadOptions, SourceBatch, SourceError, Split, SplitPart, Table, file_under, pattern_over,
};
use indexbuild_store::in_parallel;
use xxhash_rust::xxh3::xxh3_64;

use super::Job;
use super::room::Room;
use crate::attempt_state::EndRequest;
use crate::definitions::{self, definitions, projection};
use crate::failure::WorkFailure;
use crate::names;
use crate::plan_file::{PLAN_VERSION, PlanFile, encode_works, sort_works};
use crate::results::PlanResult;
use crate::source_access;

/// Splits that are sampled at most.
const SAMPLED_SPLITS: usize = 1_000;
/// Rows that are sampled of a split at most.
const SAMPLED_ROWS: u64 = 1_024;
/// And at least: a sample of fewer says little about the split.
const FEWEST_ROWS: u64 = 32;
/// Bytes of rows that are sampled in all. A constant: the plan must not depend on memory.
const SAMPLED_BYTES: u64 = 32 << 20;
/// ... and of one split, unless its first row alone takes more.
const SPLIT_BYTES: u64 = 1 << 20;

/// Makes the plan, or adopts the one that is there.
pub(crate) fn plan(job: &Job) -> Result<WorkResult, WorkFailure> {
    check_output(job)?;
    super::latest::check(job)?;
    super::probe::conditional_writes(job)?;
    let digest = definitions::spec_digest(&job.config.build.spec).map_err(WorkFailure::internal)?;
    let (plan, bytes) = match job.objects.get(names::PLAN)? {
        Some((bytes, _)) => adopt(job, &digest, &bytes)?,
        None => create(job, &digest)?,
    };
    let (encode_works, sort_works) = (count(plan.encode_works.len()), count(plan.sort_works.len()));
    let mut statistics = job.meter.statistics();
    statistics.threads = job.budget.threads as u64;
    let result = PlanResult {
        attempt: job.attempt.clone(),
        plan_digest: digest_bytes(&bytes),
        encode_works,
        sort_works,
        statistics,
    };
    let sealed = job.hand_over(&result)?;
    Ok(WorkResult {
        rows: plan.estimated_rows,
        bytes: plan.estimated_entry_bytes,
        encode_works: Some(encode_works),
        sort_works: Some(sort_works),
        ..job.reported(sealed.digest)
    })
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The prefix is this build's own, and no tombstone stands in it.
pub(super) fn check_output(job: &Job) -> Result<Option<Document>, WorkFailure> {
    let Some((bytes, _)) = job.objects.get(names::MANIFEST)? else {
        return Ok(None);
    };
    let conflict = |why: String| {
        WorkFailure::failed(
            WorkErrorReason::OutputConflict,
            false,
            format!("{} under {} {why}; give the build an output.url of its own", names::MANIFEST, job.objects.url()),
        )
    };
    let document = Document::parse(&bytes).map_err(|error| conflict(format!("is not this build's: {error}")))?;
    let build = document.build();
    if *build != job.build {
        return Err(conflict(format!("belongs to another build, {}/{} ({})", build.namespace, build.name, build.uid)));
    }
    match document {
        Document::Tombstone(tombstone) => Err(WorkFailure::failed(
            WorkErrorReason::Tombstoned,
            false,
            format!(
                "a tombstone stands at {} under {}: {}; this build can never be committed, make a new one",
                names::MANIFEST,
                job.objects.url(),
                tombstone.reason
            ),
        )),
        manifest @ Document::Manifest(_) => Ok(Some(manifest)),
    }
}

/// An existing plan is the truth, if it is of this build and spec.
fn adopt(job: &Job, spec_digest: &str, bytes: &Bytes) -> Result<(PlanFile, Bytes), WorkFailure> {
    let conflict = |why: String| {
        WorkFailure::failed(
            WorkErrorReason::OutputConflict,
            false,
            format!("{} under {} {why}", names::PLAN, job.objects.url()),
        )
    };
    let plan = PlanFile::from_bytes(bytes).map_err(|error| conflict(format!("cannot be followed: {error}")))?;
    if plan.build != job.build {
        let other = &plan.build;
        return Err(conflict(format!(
            "belongs to another build, {}/{} ({}): give this one an output.url of its own",
            other.namespace, other.name, other.uid
        )));
    }
    if plan.spec_digest != spec_digest {
        return Err(conflict(
            "was made for another source, rowId, indexes or output than the spec has now: these cannot change; undo the change, or start a new build"
                .to_owned(),
        ));
    }
    tracing::info!("the plan is there already and is adopted");
    Ok((plan, bytes.clone()))
}

fn create(job: &Job, spec_digest: &str) -> Result<(PlanFile, Bytes), WorkFailure> {
    let plan = make(job, spec_digest.to_owned())?;
    let bytes = Bytes::from(plan.to_bytes().map_err(WorkFailure::internal)?);
    job.shared.go_on()?;
    // Created or not: what stands there now is the plan, ours or that of an attempt that was first.
    job.objects.put_if_absent(names::PLAN, &bytes)?;
    let Some((there, _)) = job.objects.get(names::PLAN)? else {
        return Err(super::lost(job, names::PLAN));
    };
    if there == bytes { Ok((plan, there)) } else { adopt(job, spec_digest, &there) }
}

/// The plan: a pure function of the table's files and the spec, but for the grouping into works.
fn make(job: &Job, spec_digest: String) -> Result<PlanFile, WorkFailure> {
    let spec = &job.config.build.spec;
    let (source, policy) = source_access::source(&job.config, &job.shared, EndRequest::Seal)?;
    job.shared.set_step(Some("pinning the table's files"));
    let output = format!("{}/{}/{}", spec.output.url.trim_end_matches('/'), job.build.namespace, job.build.name);
    refuse_overlap(spec, &output)?;
    let (snapshot, table) = Table::pin_with(&source, policy)?;
    if let Some(file) = file_under(&snapshot, &output).filter(|_| has_pattern(spec)) {
        return Err(overlap(file, &output));
    }
    job.shared.go_on()?;
    // The types of all files together: they decide how keys are encoded, and stand in the plan with the definitions.
    let schema = table.survey(&definitions::named_columns(spec), &definitions::column_rules(spec))?;
    let definitions = definitions(spec, &schema)?;
    let columns = projection(&definitions);
    let read = definitions::read_columns(spec, &definitions);
    job.shared.go_on()?;
    job.shared.set_step(Some("listing splits"));
    let splits = table.splits(&columns)?;
    job.shared.go_on()?;
    job.shared.set_step(Some(match table.compressed_files() {
        0 => "sampling",
        files => {
            tracing::info!(files, "compressed files are one split each: they are read from their start, by one thread");
            "sampling (a compressed file is one split)"
        }
    }));
    let sample = Sample::take(job, &table, &splits, &read, &definitions)?;
    let slots = spec.parallelism;
    let estimated_rows = sample.rows(&splits);
    let indexes = definitions
        .into_iter()
        .zip(sample.entries.iter().zip(&sample.left_out))
        .map(|(definition, (entries, left_out))| {
            let target = spec.output.target_file_bytes();
            let bytes = estimated_bytes(entries, *left_out, estimated_rows);
            // A lookup by a key that is not unique goes by a prefix, of which a filter of whole keys says nothing.
            let bloom_bits_per_key = if definition.unique { spec.output.bloom_bits_per_key() } else { 0 };
            let plan = plan_index(definition, entries, estimated_rows, bytes, target, compression(spec), slots)?;
            Ok(IndexPlan { bloom_bits_per_key, ..plan })
        })
        .collect::<Result<Vec<IndexPlan>, EngineError>>()?;
    let split_bytes: u64 = splits.iter().map(|split| split.bytes).sum();
    Ok(PlanFile {
        version: PLAN_VERSION,
        build: job.build.clone(),
        spec_digest,
        snapshot,
        columns,
        estimated_rows,
        estimated_row_bytes: split_bytes.div_ceil(estimated_rows.max(1)).max(1),
        estimated_entry_bytes: sample.entry_bytes(estimated_rows),
        encode_works: encode_works(&splits, u64::from(slots)),
        sort_works: sort_works(&indexes),
        splits,
        indexes,
    })
}

/// The index itself must be no part of the table: it would be read by the next build, or by this one's later listing.
fn refuse_overlap(spec: &IndexBuildSpec, output: &str) -> Result<(), WorkFailure> {
    for files in spec.source.files() {
        // Of two stores that are reached in different ways nothing is known.
        let one_store = files.endpoint == spec.output.endpoint.as_ref() || output.starts_with("file:");
        if let Some(url) = pattern_over(files.urls, output)?.filter(|_| one_store) {
            return Err(overlap(url, output));
        }
    }
    Ok(())
}

fn has_pattern(spec: &IndexBuildSpec) -> bool {
    spec.source.files().flat_map(|files| files.urls).any(|url| url.contains(['*', '?', '[']))
}

fn overlap(source: &str, output: &str) -> WorkFailure {
    WorkFailure::failed(
        WorkErrorReason::OutputConflict,
        false,
        format!(
            "the source {source} names files of the output {output} too: the index would be read as a part of the table; give the build an output.url outside of it, or write the source's URL so that it does not match"
        ),
    )
}

fn compression(spec: &IndexBuildSpec) -> Compression {
    match spec.output.compression {
        ApiCompression::None => Compression::None,
        ApiCompression::Lz4 => Compression::Lz4,
        ApiCompression::Zstd => Compression::Zstd,
    }
}

/// Rows of splits chosen by hash, encoded for each index.
struct Sample {
    entries: Vec<Entries>,
    /// Bytes of values that are left out of them, by index: only keys are looked at.
    left_out: Vec<u64>,
    rows: u64,
    /// Of files whose metadata say nothing about rows: bytes from row to row, and such steps.
    stepped: (u64, u64),
}

impl Sample {
    fn take(
        job: &Job,
        table: &Table,
        splits: &[Split],
        columns: &ReadColumns,
        definitions: &[IndexDefinition],
    ) -> Result<Self, WorkFailure> {
        let mut encoders =
            definitions::shared(definitions).into_iter().map(Encoder::new).collect::<Result<Vec<_>, _>>()?;
        let mut sample = Self {
            entries: definitions.iter().map(|_| Entries::default()).collect(),
            left_out: vec![0; definitions.len()],
            rows: 0,
            stepped: (0, 0),
        };
        let chosen = choose(splits);
        let rows_each = rows_each(splits, chosen.len());
        job.shared.set_total(chosen.len() as u64);
        let mut room = Room::of(job);
        let mut rest = chosen.as_slice();
        while !rest.is_empty() {
            let (some, after) = rest.split_at(room.budget.threads.clamp(1, rest.len()));
            rest = after;
            job.shared.go_on()?;
            let options = room.options(rows_each, SPLIT_BYTES);
            // A sample is mostly waiting for a store.
            let sampled = in_parallel(some, some.len(), |split| {
                Ok::<_, WorkFailure>((*split, first_batch(table, split, columns, &options)))
            })?;
            for (split, outcome) in sampled {
                let batch = match outcome {
                    Ok(batch) => batch,
                    Err(error) => alone(table, split, columns, rows_each, &mut room, error)?,
                };
                job.shared.add_done(1);
                // Whichever thread read it: the plan is the same with one thread and with many.
                if let Some(batch) = batch
                    && sample.bytes() < SAMPLED_BYTES
                {
                    sample
                        .add(&batch, &mut encoders)
                        .map_err(|error| WorkFailure::about(&error, |file| table.url_of(file).map(str::to_owned)))?;
                }
            }
            if sample.bytes() >= SAMPLED_BYTES {
                break;
            }
        }
        Ok(sample)
    }

    /// The bytes of the entries so far.
    fn bytes(&self) -> u64 {
        let held = self.entries.iter().map(|entries| entries.general.bytes.len() as u64).sum::<u64>();
        held + self.left_out.iter().sum::<u64>()
    }

    fn add(&mut self, whole: &SourceBatch, encoders: &mut [Encoder]) -> Result<(), EncodeError> {
        let SourceBatch { batch, file, rows } = whole;
        let rows = match rows {
            BatchRows::From(first) => Rows::From(*first),
            BatchRows::Each(places) => {
                if let (Some(first), Some(last)) = (places.first(), places.last()) {
                    self.stepped.0 += last - first;
                    self.stepped.1 += places.len() as u64 - 1;
                }
                Rows::Each(places)
            }
        };
        let at = RowPositions { file: *file, rows };
        for ((encoder, entries), left_out) in encoders.iter_mut().zip(&mut self.entries).zip(&mut self.left_out) {
            if batch.num_rows() == 1 && encoder.packed().is_none() {
                *left_out += add_key(encoder, whole, &at, &mut entries.general)?;
            } else {
                encoder.encode(batch, &at, entries)?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Rows of the table: from metadata where there are any, else by the sample's mean row.
    fn rows(&self, splits: &[Split]) -> u64 {
        if let Some(rows) = splits.iter().map(|split| split.rows).sum::<Option<u64>>() {
            return rows;
        }
        let bytes: u64 = splits
            .iter()
            .map(|split| match split.part {
                SplitPart::Bytes { start, end } => end.saturating_sub(start),
                SplitPart::RowGroups { .. } => split.bytes,
            })
            .sum();
        let (stepped, steps) = self.stepped;
        let estimate = u128::from(bytes) * u128::from(steps) / u128::from(stepped.max(1));
        u64::try_from(estimate).unwrap_or(u64::MAX).max(self.rows)
    }

    /// Bytes of the entries of all indexes, if `rows` rows are like those sampled.
    fn entry_bytes(&self, rows: u64) -> u64 {
        let sampled: u64 = self
            .entries
            .iter()
            .map(|entries| {
                (entries.packed.len() * 16 + entries.general.bytes.len() + entries.general.entries.len() * 8) as u64
            })
            .sum::<u64>()
            + self.left_out.iter().sum::<u64>();
        let estimate = u128::from(sampled) * u128::from(rows) / u128::from(self.rows.max(1));
        u64::try_from(estimate).unwrap_or(u64::MAX)
    }
}

/// The bytes of an index of so many rows like those sampled, of which values were left out; 0, if none were: then the entries
/// tell it. Without it an index of long rows would be one range, and one slot's work.
fn estimated_bytes(entries: &Entries, left_out: u64, rows: u64) -> u64 {
    if left_out == 0 {
        return 0;
    }
    let sampled = u128::from(entries.general.bytes.len() as u64 + left_out);
    let estimate = sampled * u128::from(rows) / (entries.general.entries.len() as u128).max(1);
    u64::try_from(estimate).unwrap_or(u64::MAX)
}

/// Adds an entry of a row alone, which may be long, without its value; how many bytes that has.
fn add_key(
    encoder: &mut Encoder,
    row: &SourceBatch,
    at: &RowPositions<'_>,
    arena: &mut Arena,
) -> Result<u64, EncodeError> {
    let entry = encoder.encode_long(&row.batch, at)?;
    let short = |length: usize| {
        u32::try_from(length).map_err(|_| EncodeError::BufferTooLarge { index: encoder.definition().name.clone() })
    };
    let (offset, key_len) = (short(arena.bytes.len())?, short(entry.key().len())?);
    arena.bytes.extend_from_slice(entry.key());
    arena.entries.push(ArenaEntry { offset, key_len, value_len: 0 });
    Ok(entry.value_len() as u64)
}

fn first_batch(
    table: &Table,
    split: &Split,
    columns: &ReadColumns,
    options: &ReadOptions,
) -> Result<Option<SourceBatch>, SourceError> {
    table.read_as(split, columns, options)?.next().transpose()
}

/// Samples a split again, and nothing else meanwhile, with the memory that it was found to need.
fn alone(
    table: &Table,
    split: &Split,
    columns: &ReadColumns,
    rows_each: usize,
    room: &mut Room,
    mut error: SourceError,
) -> Result<Option<SourceBatch>, WorkFailure> {
    while room.grow(&error) {
        match first_batch(table, split, columns, &room.options(rows_each, SPLIT_BYTES)) {
            Ok(batch) => return Ok(batch),
            Err(other) => error = other,
        }
    }
    Err(match WorkFailure::from_error(&error) {
        WorkFailure::Failed(failed) => {
            WorkFailure::Failed(WorkError { message: room.told(&error, failed.message), ..failed })
        }
        other @ (WorkFailure::Ended | WorkFailure::NoSpace(_)) => other,
    })
}

/// The splits that are sampled: all, or as many as the limit allows, in an order by hash, so that those before any limit
/// are spread over the table.
fn choose(splits: &[Split]) -> Vec<&Split> {
    let mut by_hash: Vec<(u64, &Split)> =
        splits.iter().map(|split| (xxh3_64(&split.id.to_le_bytes()), split)).collect();
    by_hash.sort_unstable_by_key(|(hash, split)| (*hash, split.id));
    by_hash.into_iter().take(SAMPLED_SPLITS).map(|(_, split)| split).collect()
}

/// Rows to sample of each split, so that wide rows do not fill the memory.
fn rows_each(splits: &[Split], chosen: usize) -> usize {
    let bytes: u64 = splits.iter().map(|split| split.bytes).sum();
    let width =
        splits.iter().map(|split| split.rows).sum::<Option<u64>>().map_or(256, |rows| bytes / rows.max(1)).max(1);
    let rows = SAMPLED_BYTES / (chosen.max(1) as u64 * width).max(1);
    usize::try_from(rows.clamp(FEWEST_ROWS, SAMPLED_ROWS)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use indexbuild_index::{ColumnType, IncludedColumn, IndexDefinition, KeyColumn, Nulls, Order, RowId};

    use super::*;

    /// I10: how rows come to the sample is a matter of their length, and no index of long rows is one range.
    #[test]
    fn an_index_is_cut_alike_whether_its_rows_were_sampled_together_or_each_alone() {
        let (name, column_type) = ("id".to_owned(), ColumnType::Int64);
        let definition = IndexDefinition {
            name: "by_id".to_owned(),
            columns: vec![KeyColumn { name, column_type, order: Order::Asc, nulls: Nulls::Last }],
            row_id: RowId::Position,
            unique: false,
            include: vec![IncludedColumn { name: "text".to_owned(), column_type: ColumnType::String }],
        };
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|row| "x".repeat(row))));
        let table = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
        let plan_of = |rows_at_once: usize| {
            let mut sample = Sample { entries: vec![Entries::default()], left_out: vec![0], rows: 0, stepped: (0, 0) };
            let mut encoders = [Encoder::new(Arc::new(definition.clone())).unwrap()];
            for first in (0..1000).step_by(rows_at_once) {
                let batch = table.slice(first, rows_at_once);
                let rows = BatchRows::From(first as u64);
                sample.add(&SourceBatch { batch, file: 0, rows }, &mut encoders).unwrap();
            }
            let bytes = estimated_bytes(&sample.entries[0], sample.left_out[0], 1 << 20);
            let compression = indexbuild_index::Compression::Lz4;
            plan_index(definition.clone(), &sample.entries[0], 1 << 20, bytes, 64 << 20, compression, 4).unwrap()
        };
        let together = plan_of(1000);
        assert!(together.ranges() > 8, "{} ranges", together.ranges());
        assert_eq!(plan_of(1), together);
    }
}
