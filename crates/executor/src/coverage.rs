//! Which runs count: those whose splits no later round encoded again.
//!
//! A chosen result says which splits it encoded, and names the runs that hold their rows (a split
//! without rows is in no run). Rounds beyond the first repair what a Sort found damaged: always all
//! splits of a run, so a run counts as a whole or not at all.

use std::collections::BTreeMap;

use indexbuild_api::WorkId;
use indexbuild_engine::EntrySum;

use crate::plan_file::PlanFile;
use crate::results::{EncodeResult, RunRef};

/// The chosen results do not cover the plan exactly once. None of this can be repaired by trying
/// again: it is a fault of this software or of the store, and the build must not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CoverageError {
    #[error("{} splits of the plan are in no chosen result, the first is split {}", .0.len(), .0.first().copied().unwrap_or_default())]
    Missing(Vec<u32>),
    #[error("split {split} is in two chosen results, {first} and {second}: its rows would be indexed twice")]
    Twice { split: u32, first: String, second: String },
    #[error("{work_id} encoded split {split}, which the plan does not have")]
    Unknown { split: u32, work_id: String },
    #[error("run {run} of {work_id} is replaced in part: splits {replaced:?} were encoded again, others were not")]
    InPart {
        run: String,
        work_id: String,
        /// The splits that a later round has.
        replaced: Vec<u32>,
    },
    #[error("the result of {work_id} contradicts itself: {what}")]
    Contradiction { work_id: String, what: String },
}

/// The runs that count, and what they hold together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Coverage<'a> {
    /// The runs, in the order of their first split.
    pub runs: Vec<&'a RunRef>,
    pub rows: u64,
    /// Per index of the plan.
    pub indexes: Vec<EntrySum>,
}

/// Chooses the runs that count, and proves that they cover the plan's splits exactly once.
pub(crate) fn cover<'a>(plan: &PlanFile, results: &'a [EncodeResult]) -> Result<Coverage<'a>, CoverageError> {
    let mut winners: BTreeMap<u32, (u32, &str)> = BTreeMap::new();
    let mut rounds = Vec::with_capacity(results.len());
    for result in results {
        let work_id = result.attempt.work_id.as_str();
        let Ok(WorkId::Encode { round, .. }) = work_id.parse::<WorkId>() else {
            return Err(contradiction(work_id, "it is no Encode's".to_owned()));
        };
        rounds.push(round);
        for split in &result.splits {
            if usize::try_from(*split).map_or(true, |place| place >= plan.splits.len()) {
                return Err(CoverageError::Unknown { split: *split, work_id: work_id.to_owned() });
            }
            match winners.get(split) {
                Some((other, first)) if *other == round => {
                    return Err(CoverageError::Twice {
                        split: *split,
                        first: (*first).to_owned(),
                        second: work_id.to_owned(),
                    });
                }
                Some((other, _)) if *other > round => {}
                Some(_) | None => {
                    winners.insert(*split, (round, work_id));
                }
            }
        }
    }
    let missing: Vec<u32> =
        plan.splits.iter().map(|split| split.id).filter(|split| !winners.contains_key(split)).collect();
    if !missing.is_empty() {
        return Err(CoverageError::Missing(missing));
    }

    let mut runs = Vec::new();
    for (result, round) in results.iter().zip(&rounds) {
        check_result(plan, result)?;
        for run in &result.runs {
            let (kept, replaced): (Vec<u32>, Vec<u32>) = run
                .splits
                .iter()
                .copied()
                .partition(|split| winners.get(split).is_some_and(|(winner, _)| winner == round));
            match (kept.is_empty(), replaced.is_empty()) {
                (false, true) => runs.push(run),
                (true, _) => {}
                (false, false) => {
                    return Err(CoverageError::InPart {
                        run: run.name.clone(),
                        work_id: result.attempt.work_id.clone(),
                        replaced,
                    });
                }
            }
        }
    }
    runs.sort_by(|left, right| (&left.splits, &left.name).cmp(&(&right.splits, &right.name)));
    let rows = runs.iter().map(|run| run.rows).sum();
    let sums = runs.iter().map(|run| (run.indexes.as_slice(), run.name.as_str()));
    let indexes = sum(plan.indexes.len(), sums).map_err(|what| contradiction("an Encode", what))?;
    Ok(Coverage { runs, rows, indexes })
}

fn contradiction(work_id: &str, what: String) -> CoverageError {
    CoverageError::Contradiction { work_id: work_id.to_owned(), what }
}

/// A result's runs hold its splits, each once, and add up to its sums (I6).
fn check_result(plan: &PlanFile, result: &EncodeResult) -> Result<(), CoverageError> {
    let contradiction = |what| contradiction(&result.attempt.work_id, what);
    let mut held: BTreeMap<u32, &str> = BTreeMap::new();
    for run in &result.runs {
        for split in &run.splits {
            if !result.splits.contains(split) {
                return Err(contradiction(format!("run {} holds split {split}, which it does not list", run.name)));
            }
            if let Some(other) = held.insert(*split, &run.name) {
                return Err(contradiction(format!("runs {other} and {} both hold split {split}", run.name)));
            }
        }
        check_rows(plan, run).map_err(contradiction)?;
    }
    let rows: u64 = result.runs.iter().map(|run| run.rows).sum();
    if rows != result.rows {
        return Err(contradiction(format!("its runs hold {rows} rows, it names {}", result.rows)));
    }
    let runs = result.runs.iter().map(|run| (run.indexes.as_slice(), run.name.as_str()));
    let of_runs = sum(plan.indexes.len(), runs).map_err(contradiction)?;
    let own = sum(plan.indexes.len(), [(result.indexes.as_slice(), "itself")]).map_err(contradiction)?;
    if of_runs != own {
        return Err(contradiction("entries or hashes of its runs do not add up to its own".to_owned()));
    }
    Ok(())
}

/// Where the files' metadata say how many rows a split has, a run of it holds as many; and one
/// entry per row and index.
fn check_rows(plan: &PlanFile, run: &RunRef) -> Result<(), String> {
    let known: Option<u64> = run
        .splits
        .iter()
        .map(|split| usize::try_from(*split).ok().and_then(|place| plan.splits.get(place)).and_then(|split| split.rows))
        .sum();
    if let Some(known) = known
        && known != run.rows
    {
        return Err(format!("run {} holds {} rows, its splits have {known}", run.name, run.rows));
    }
    for (index, EntrySum { entries, hash: _ }) in run.indexes.iter().enumerate() {
        if *entries != run.rows {
            return Err(format!("run {} holds {} rows, but {entries} entries of index {index}", run.name, run.rows));
        }
    }
    Ok(())
}

fn sum<'a>(
    indexes: usize,
    parts: impl IntoIterator<Item = (&'a [EntrySum], &'a str)>,
) -> Result<Vec<EntrySum>, String> {
    let mut total = vec![EntrySum::default(); indexes];
    for (sums, name) in parts {
        if sums.len() != indexes {
            return Err(format!("{name} has sums of {} indexes, the plan has {indexes}", sums.len()));
        }
        for (total, part) in total.iter_mut().zip(sums) {
            total.merge(*part);
        }
    }
    Ok(total)
}
