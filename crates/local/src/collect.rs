//! Collects what the chosen attempts say they cost.
//!
//! A result is read as soon as it is chosen: a Clean may remove it later. What cannot be read is left
//! out of the summary, and nothing else: no decision looks at it.

use std::collections::{BTreeMap, BTreeSet};

use indexbuild_api::{Chosen, WorkId, WorkKind};
use indexbuild_executor::StoreAccess;
use indexbuild_executor::definitions::output_options;
use indexbuild_executor::names::result_path;
use indexbuild_executor::results;
use indexbuild_executor::stats::Statistics;
use indexbuild_index::store::Store;
use indexbuild_text::chain;
use tokio::task::JoinSet;

use crate::build::StoredBuild;
use crate::requested_fault::kind_name;
use crate::summary::StageSummary;

/// The figures of the results that were chosen so far.
#[derive(Debug)]
pub(crate) struct Collector {
    store: Option<Store>,
    asked: BTreeSet<String>,
    reading: JoinSet<Option<(String, Statistics)>>,
    found: BTreeMap<String, Statistics>,
}

impl Collector {
    /// A collector for a build's output.
    #[must_use]
    pub(crate) fn new(build: &StoredBuild, access: &StoreAccess) -> Self {
        let store = output_options(&build.spec, access)
            .map_err(|error| chain(&error))
            .and_then(|options| Store::open(&build.spec.output.url, &options).map_err(|error| chain(&error)))
            .map(|store| store.child(&format!("{}/{}/{}", build.namespace, build.name, build.uid)))
            .map_err(|error| tracing::warn!(error, "the figures of the results cannot be read"))
            .ok();
        Self { store, asked: BTreeSet::new(), reading: JoinSet::new(), found: BTreeMap::new() }
    }

    /// Reads the result of a choice, if that was not done yet.
    pub(crate) fn see(&mut self, chosen: &Chosen) {
        let Some(store) = self.store.clone().filter(|_| self.asked.insert(chosen.work_id.clone())) else {
            return;
        };
        let Chosen { work_id, epoch, boot_nonce, digest, .. } = chosen.clone();
        self.reading.spawn(async move {
            let path = result_path(&work_id, epoch, &boot_nonce);
            let (bytes, _) = store.get(&path).await.ok().flatten()?;
            Some((work_id, results::statistics(&bytes, &digest).ok()?))
        });
    }

    /// Everything that was read, by stage, in the order of the stages.
    pub(crate) async fn finish(mut self) -> Vec<StageSummary> {
        while let Some(read) = self.reading.join_next().await {
            if let Ok(Some((work_id, statistics))) = read {
                self.found.insert(work_id, statistics);
            }
        }
        by_stage(&self.found)
    }
}

fn by_stage(found: &BTreeMap<String, Statistics>) -> Vec<StageSummary> {
    use WorkKind::{Clean, Encode, Plan, Publish, Sort};
    let kind_of = |work_id: &str| work_id.parse().ok().map(WorkId::kind);
    [Plan, Encode, Sort, Publish, Clean]
        .into_iter()
        .filter_map(|kind| {
            let mut summary = StageSummary::new(kind_name(kind));
            for (_, statistics) in found.iter().filter(|(work_id, _)| kind_of(work_id) == Some(kind)) {
                summary.add(statistics);
            }
            (summary.works > 0).then_some(summary)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_by_stage_in_the_order_of_the_stages() {
        let of = |rows| Statistics { rows, ..Statistics::default() };
        let found = [("sort-0", 5), ("encode-r1-0", 7), ("encode-0", 3), ("plan", 1)]
            .map(|(work, rows)| (work.to_owned(), of(rows)))
            .into();
        let stages = by_stage(&found);
        let shown: Vec<_> =
            stages.iter().map(|stage| (stage.stage.as_str(), stage.works, stage.statistics.rows)).collect();
        assert_eq!(shown, vec![("plan", 1, 1), ("encode", 2, 10), ("sort", 1, 5)]);
    }
}
