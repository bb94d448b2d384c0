//! The manifest as a pure function of the chosen results, and the proof that they add up.

use indexbuild_api::Chosen;
use indexbuild_engine::EntrySum;
use indexbuild_index::digest::digest_bytes;
use indexbuild_index::manifest::{
    ChosenWork, FORMAT_VERSION, IndexFile, IndexManifest, Manifest, SourceFile, SourceSummary,
};
use indexbuild_source::FileStamp;

use crate::coverage::{CoverageError, cover};
use crate::plan_file::{PlanFile, SortWork};
use crate::results::{DuplicateSummary, EncodeResult, SortResult};

/// Why the chosen results make no index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssembleError {
    #[error(transparent)]
    Coverage(#[from] CoverageError),
    #[error("the result of {work_id} follows another plan ({theirs}) than the one chosen ({ours})")]
    OtherPlan { work_id: String, theirs: String, ours: String },
    /// Lanes that are missing, there twice, or unknown.
    #[error("the chosen Sorts do not cover each lane once: {0}")]
    Lanes(String),
    /// I6.
    #[error(
        "index {index:?}: {rows} rows were read and {encoded} entries encoded (hash {encoded_hash}), but {sorted} sorted (hash {sorted_hash}): entries were lost, doubled or changed on the way; the build must not be published"
    )]
    Disagree { index: String, rows: u64, encoded: u64, encoded_hash: String, sorted: u64, sorted_hash: String },
    #[error("the result of {work_id} contradicts itself: {what}")]
    Contradiction { work_id: String, what: String },
    #[error("{}", duplicates_message(.0))]
    Duplicates(Vec<IndexDuplicates>),
    #[error("the list of chosen results cannot be written: {0}")]
    Json(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexDuplicates {
    pub index: String,
    /// Entries whose key an earlier entry has; exact.
    pub count: u64,
    /// The objects with up to 100 pairs each.
    pub files: Vec<String>,
    pub example: Option<String>,
}

fn duplicates_message(all: &[IndexDuplicates]) -> String {
    let texts = all.iter().map(|IndexDuplicates { index, count, files, example }| {
        let example = example.as_ref().map(|pair| format!(", for example {pair}")).unwrap_or_default();
        format!(
            "unique index {index:?} has {count} duplicate {}{example}; pairs of rows are listed in {}",
            if *count == 1 { "key" } else { "keys" },
            files.join(", ")
        )
    });
    format!(
        "{}. Remove the duplicates from the table, add a column to the key, or make the index not unique",
        texts.collect::<Vec<_>>().join("; ")
    )
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChosenResults {
    /// The entries of all frozen stages, in their order.
    pub chosen: Vec<Chosen>,
    pub encode: Vec<EncodeResult>,
    pub sort: Vec<SortResult>,
}

/// Makes the manifest (I1), after proving that splits are covered exactly once, that lanes are, and
/// that entries and hashes of Encode and Sort agree (I6).
///
/// # Errors
/// [`AssembleError`]. Duplicates come last: with another fault they might not be what they seem.
pub(crate) fn assemble(plan: &PlanFile, plan_digest: &str, results: &ChosenResults) -> Result<Manifest, AssembleError> {
    let ChosenResults { chosen, encode, sort } = results;
    let followed = encode
        .iter()
        .map(|result| (&result.attempt, &result.plan_digest))
        .chain(sort.iter().map(|result| (&result.attempt, &result.plan_digest)));
    for (attempt, theirs) in followed {
        if theirs != plan_digest {
            return Err(AssembleError::OtherPlan {
                work_id: attempt.work_id.clone(),
                theirs: theirs.clone(),
                ours: plan_digest.to_owned(),
            });
        }
    }
    let coverage = cover(plan, encode)?;
    let lanes = by_lane(plan, sort)?;

    let mut indexes = Vec::with_capacity(plan.indexes.len());
    let mut duplicates = Vec::new();
    for ((number, index), encoded) in (0u32..).zip(&plan.indexes).zip(&coverage.indexes) {
        let mut sorted = EntrySum::default();
        let mut files: Vec<IndexFile> = Vec::new();
        let mut found =
            IndexDuplicates { index: index.definition.name.clone(), count: 0, files: Vec::new(), example: None };
        for (_, result) in lanes.iter().filter(|(work, _)| work.index == number) {
            sorted.merge(check_sort(plan, result)?);
            files.extend(result.ranges.iter().flat_map(|range| range.files.iter().cloned()));
            let DuplicateSummary { count, file, example } = &result.duplicates;
            found.count += count;
            found.files.extend(file.clone());
            found.example = found.example.take().or_else(|| example.clone());
        }
        // Of rows with equal keys in a unique index only the first is written: then entries and
        // duplicates together are the rows, and hashes cannot agree.
        let agrees =
            sorted.entries + found.count == encoded.entries && (found.count > 0 || sorted.hash == encoded.hash);
        if !agrees || encoded.entries != coverage.rows || (found.count > 0 && !index.definition.unique) {
            return Err(AssembleError::Disagree {
                index: index.definition.name.clone(),
                rows: coverage.rows,
                encoded: encoded.entries,
                encoded_hash: encoded.hash.hex(),
                sorted: sorted.entries,
                sorted_hash: sorted.hash.hex(),
            });
        }
        if found.count > 0 {
            duplicates.push(found);
        }
        indexes.push(IndexManifest {
            definition: index.definition.clone(),
            entries: sorted.entries,
            hash: sorted.hash.hex(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        });
    }
    if !duplicates.is_empty() {
        return Err(AssembleError::Duplicates(duplicates));
    }
    let works: Vec<ChosenWork> = chosen
        .iter()
        .map(|chosen| ChosenWork {
            work_id: chosen.work_id.clone(),
            epoch: chosen.epoch.get(),
            boot_nonce: chosen.boot_nonce.clone(),
            digest: chosen.digest.clone(),
        })
        .collect();
    // Who publishes again from the same choice writes the same bytes: the id names the content.
    let put_id = digest_bytes(&serde_json::to_vec(&works).map_err(|error| AssembleError::Json(error.to_string()))?);
    Ok(Manifest {
        version: FORMAT_VERSION,
        put_id,
        build: plan.build.clone(),
        plan_digest: plan_digest.to_owned(),
        source: SourceSummary {
            files: plan
                .snapshot
                .files
                .iter()
                .map(|FileStamp { url, size, etag, mtime }| SourceFile {
                    url: url.clone(),
                    size: *size,
                    etag: etag.clone(),
                    mtime: mtime.clone(),
                })
                .collect(),
            rows: coverage.rows,
        },
        indexes,
        works,
    })
}

/// The Sorts' results in the plan's order: each lane once.
fn by_lane<'a>(plan: &PlanFile, sort: &'a [SortResult]) -> Result<Vec<(SortWork, &'a SortResult)>, AssembleError> {
    let mut lanes: Vec<(SortWork, &SortResult)> =
        sort.iter().map(|result| (SortWork { index: result.index, lane: result.lane }, result)).collect();
    lanes.sort_by_key(|(work, _)| (work.index, work.lane));
    if let Some(twice) = lanes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let SortWork { index, lane } = twice[0].0;
        return Err(AssembleError::Lanes(format!("lane {lane} of index {index} is there twice")));
    }
    if let Some(missing) = plan.sort_works.iter().find(|work| !lanes.iter().any(|(there, _)| there == *work)) {
        return Err(AssembleError::Lanes(format!("lane {} of index {} is missing", missing.lane, missing.index)));
    }
    if lanes.len() != plan.sort_works.len() {
        return Err(AssembleError::Lanes(format!("{} results for {} lanes", lanes.len(), plan.sort_works.len())));
    }
    Ok(lanes)
}

/// A Sort's files add up to its ranges, these to its sums, and these to what RocksDB counted.
fn check_sort(plan: &PlanFile, result: &SortResult) -> Result<EntrySum, AssembleError> {
    let contradiction = |what| AssembleError::Contradiction { work_id: result.attempt.work_id.clone(), what };
    let lane = usize::try_from(result.index)
        .ok()
        .and_then(|index| plan.indexes.get(index))
        .zip(usize::try_from(result.lane).ok())
        .and_then(|(index, lane)| index.lanes.get(lane))
        .ok_or_else(|| contradiction("the plan has no such lane".to_owned()))?;
    let expected = lane.first_range..lane.first_range.saturating_add(lane.ranges);
    if !result.ranges.iter().map(|range| range.range).eq(expected) {
        return Err(contradiction("its ranges are not those of its lane, each once and in order".to_owned()));
    }
    let mut sum = EntrySum::default();
    let mut files = 0;
    for range in &result.ranges {
        let in_files: u64 = range.files.iter().map(|file| file.entries).sum();
        if in_files != range.sum.entries {
            return Err(contradiction(format!(
                "the files of range {} hold {in_files} entries, the range {}",
                range.range, range.sum.entries
            )));
        }
        files += range.files.len() as u64;
        sum.merge(range.sum);
    }
    if sum != result.sum {
        return Err(contradiction("its ranges do not add up to its own entries and hash".to_owned()));
    }
    if (result.ingested.entries, result.ingested.files) != (sum.entries, files) {
        return Err(contradiction(format!(
            "RocksDB counted {} entries in {} files, the result names {} in {files}",
            result.ingested.entries, result.ingested.files, sum.entries
        )));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use indexbuild_api::Epoch;
    use indexbuild_engine::{EngineCheck, IndexPlan, Lane};
    use indexbuild_index::SetHash;
    use indexbuild_index::definition::{ColumnType, Compression, IndexDefinition, KeyColumn, Nulls, Order, RowId};
    use indexbuild_index::manifest::BuildRef;
    use indexbuild_source::{Snapshot, Split, SplitPart};

    use super::*;
    use crate::plan_file::PLAN_VERSION;
    use crate::results::{AttemptName, RangeResult, RunPlace, RunRef};
    use crate::stats::Statistics;

    fn plan() -> PlanFile {
        let column =
            KeyColumn { name: "k".into(), column_type: ColumnType::Int64, order: Order::Asc, nulls: Nulls::Last };
        let definition = IndexDefinition {
            name: "by_k".into(),
            unique: true,
            columns: vec![column],
            row_id: RowId::Position,
            include: Vec::new(),
        };
        let index = IndexPlan {
            definition,
            boundaries: vec!["0102".into()],
            lanes: vec![Lane { first_range: 0, ranges: 2 }],
            target_file_bytes: 1 << 20,
            compression: Compression::Lz4,
            bloom_bits_per_key: 0,
        };
        PlanFile {
            version: PLAN_VERSION,
            build: BuildRef { namespace: "n".into(), name: "b".into(), uid: "u".into() },
            spec_digest: "s".into(),
            snapshot: Snapshot::default(),
            columns: vec!["k".into()],
            estimated_rows: 30,
            estimated_row_bytes: 8,
            estimated_entry_bytes: 300,
            splits: (0..3)
                .map(|id| Split {
                    id,
                    file: 0,
                    part: SplitPart::RowGroups { first: id, count: 1 },
                    rows: Some(10),
                    bytes: 80,
                })
                .collect(),
            encode_works: vec![vec![0, 1], vec![2]],
            sort_works: vec![SortWork { index: 0, lane: 0 }],
            indexes: vec![index],
        }
    }

    fn attempt(work_id: &str) -> AttemptName {
        AttemptName {
            version: 1,
            build_uid: "u".into(),
            work_id: work_id.into(),
            epoch: Epoch::new(3),
            boot_nonce: "n".into(),
        }
    }

    fn sum(entries: u64, hash: u128) -> EntrySum {
        EntrySum { entries, hash: SetHash(hash) }
    }

    /// A run's hash is the sum of 100 for each of its splits.
    fn run(name: &str, splits: &[u32]) -> RunRef {
        let many = splits.len() as u64;
        RunRef {
            name: name.into(),
            place: RunPlace::Store { path: format!("attempts/{name}") },
            splits: splits.to_vec(),
            rows: 10 * many,
            bytes: 1,
            table_digest: "t".into(),
            indexes: vec![sum(10 * many, 100 * u128::from(many))],
        }
    }

    fn encode(work_id: &str, splits: &[u32], runs: Vec<RunRef>) -> EncodeResult {
        let many = runs.iter().map(|run| run.splits.len() as u64).sum::<u64>();
        EncodeResult {
            attempt: attempt(work_id),
            plan_digest: "p".into(),
            splits: splits.to_vec(),
            rows: 10 * many,
            indexes: vec![sum(10 * many, 100 * u128::from(many))],
            runs,
            statistics: Statistics::default(),
        }
    }

    fn file(range: u32, entries: u64) -> IndexFile {
        IndexFile {
            path: format!("attempts/sort-0/r{range}.sst"),
            range,
            first_key: "01".into(),
            last_key: "02".into(),
            entries,
            bytes: 5,
            entry_bytes: 9,
            content_digest: "c".into(),
            file_digest: "f".into(),
            writer_version: Some(1),
        }
    }

    fn results() -> ChosenResults {
        let chosen = |work_id: &str| Chosen {
            work_id: work_id.into(),
            epoch: Epoch::new(3),
            boot_nonce: "n".into(),
            ..Chosen::default()
        };
        ChosenResults {
            chosen: ["plan", "encode-0", "encode-1", "sort-0"].map(chosen).into(),
            encode: vec![
                encode("encode-0", &[0, 1], vec![run("a", &[0, 1])]),
                encode("encode-1", &[2], vec![run("b", &[2])]),
            ],
            sort: vec![SortResult {
                attempt: attempt("sort-0"),
                plan_digest: "p".into(),
                index: 0,
                lane: 0,
                sum: sum(30, 300),
                ranges: vec![
                    RangeResult { range: 0, sum: sum(20, 250), files: vec![file(0, 20)] },
                    RangeResult { range: 1, sum: sum(10, 50), files: vec![file(1, 10)] },
                ],
                duplicates: DuplicateSummary::default(),
                ingested: EngineCheck { entries: 30, files: 2 },
                statistics: Statistics::default(),
            }],
        }
    }

    fn broken(change: impl FnOnce(&mut ChosenResults)) -> AssembleError {
        let mut results = results();
        change(&mut results);
        assemble(&plan(), "p", &results).expect_err("an error")
    }

    /// I1.
    #[test]
    fn the_manifest_is_a_function_of_what_was_chosen() {
        let manifest = assemble(&plan(), "p", &results()).unwrap();
        assert_eq!((manifest.source.rows, manifest.indexes[0].entries, manifest.indexes[0].bytes), (30, 30, 10));
        assert_eq!(manifest.works.len(), 4);
        assert_eq!(manifest, assemble(&plan(), "p", &results()).unwrap());
        let mut other = results();
        other.chosen[1].epoch = Epoch::new(4);
        assert_ne!(assemble(&plan(), "p", &other).unwrap().put_id, manifest.put_id);
    }

    /// I6: a lost entry, a doubled one, a changed one.
    #[test]
    fn entries_that_were_lost_doubled_or_changed_are_not_published() {
        for (entries, hash) in [(9, 45), (11, 55), (10, 51)] {
            let error = broken(|results| {
                let sort = &mut results.sort[0];
                sort.ranges[1] = RangeResult { range: 1, sum: sum(entries, hash), files: vec![file(1, entries)] };
                sort.sum = sum(20 + entries, 250 + hash);
                sort.ingested.entries = 20 + entries;
            });
            assert!(matches!(error, AssembleError::Disagree { .. }), "{error}");
        }
    }

    #[test]
    fn results_that_contradict_themselves_are_refused() {
        let ranges = broken(|results| results.sort[0].ranges.truncate(1));
        let files = broken(|results| results.sort[0].ranges[0].files[0].entries = 19);
        let engine = broken(|results| results.sort[0].ingested.files = 3);
        for error in [ranges, files, engine] {
            assert!(matches!(error, AssembleError::Contradiction { .. }), "{error}");
        }
        let rows = broken(|results| results.encode[0].rows = 19);
        let metadata = broken(|results| {
            results.encode[1] = encode("encode-1", &[2], vec![RunRef { rows: 9, ..run("b", &[2]) }]);
        });
        for error in [rows, metadata] {
            assert!(matches!(error, AssembleError::Coverage(CoverageError::Contradiction { .. })), "{error}");
        }
        assert!(matches!(broken(|results| results.sort[0].plan_digest = "q".into()), AssembleError::OtherPlan { .. }));
        assert!(matches!(broken(|results| results.sort.clear()), AssembleError::Lanes(_)));
    }

    #[test]
    fn each_split_counts_exactly_once() {
        let missing = broken(|results| results.encode.truncate(1));
        assert_eq!(missing, AssembleError::Coverage(CoverageError::Missing(vec![2])));
        let twice = broken(|results| results.encode.push(encode("encode-2", &[2], vec![run("c", &[2])])));
        assert!(matches!(twice, AssembleError::Coverage(CoverageError::Twice { split: 2, .. })), "{twice}");
        let unknown = broken(|results| results.encode.push(encode("encode-2", &[3], vec![run("c", &[3])])));
        assert!(matches!(unknown, AssembleError::Coverage(CoverageError::Unknown { split: 3, .. })), "{unknown}");
    }

    /// I3: a later round takes the place of whole runs, and only of those.
    #[test]
    fn the_latest_round_wins_and_a_run_counts_as_a_whole() {
        let mut repaired = results();
        repaired.encode.push(encode("encode-r1-0", &[0, 1], vec![run("a1", &[0]), run("a2", &[1])]));
        let coverage = cover(&plan(), &repaired.encode).unwrap();
        let names: Vec<&str> = coverage.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["a1", "a2", "b"]);
        assert!(assemble(&plan(), "p", &repaired).is_ok());
        let part = broken(|results| results.encode.push(encode("encode-r1-0", &[0], vec![run("a1", &[0])])));
        assert!(matches!(part, AssembleError::Coverage(CoverageError::InPart { .. })), "{part}");
    }

    #[test]
    fn duplicates_are_counted_against_the_rows_and_named() {
        let error = broken(|results| {
            let sort = &mut results.sort[0];
            sort.ranges[1] = RangeResult { range: 1, sum: sum(8, 40), files: vec![file(1, 8)] };
            sort.sum = sum(28, 290);
            sort.ingested.entries = 28;
            sort.duplicates = DuplicateSummary { count: 2, file: Some("d".into()), example: Some("k = 1".into()) };
        });
        assert!(matches!(&error, AssembleError::Duplicates(all) if all[0].count == 2), "{error}");
        assert!(error.to_string().contains("2 duplicate keys") && error.to_string().contains("k = 1"), "{error}");
    }
}
