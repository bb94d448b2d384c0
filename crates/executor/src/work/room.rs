//! How much of a table is read at once; more than usually, where a file turns out to need it.

use std::error::Error;

use indexbuild_source::{ReadOptions, SourceError};
use indexbuild_text::causes;

use super::Job;
use crate::memory_budget::{Budget, Needs};

/// What an attempt has found out about what its table needs.
pub(super) struct Room {
    limit: u64,
    needs: Needs,
    pub(super) budget: Budget,
}

impl Room {
    pub(super) fn of(job: &Job) -> Self {
        Self { limit: job.config.memory_limit, needs: Needs::default(), budget: job.budget }
    }

    pub(super) fn options(&self, batch_rows: usize, batch_bytes: u64) -> ReadOptions {
        let Budget { row, page, .. } = self.budget;
        ReadOptions { batch_rows, batch_bytes, row_budget: row, page_budget: page }
    }

    /// Divides the memory anew after a read that did not fit. `false`: the error is another one, or there is no more.
    pub(super) fn grow(&mut self, error: &(dyn Error + 'static)) -> bool {
        let Some(found) = needs_of(error) else { return false };
        let needs = self.needs.and(found);
        // The same error a second time would go on for ever.
        match Budget::with_needs(self.limit, needs).filter(|_| needs != self.needs) {
            Some(budget) => {
                tracing::info!(
                    pages = needs.pages,
                    row = needs.row,
                    "one thread goes on, with more memory for reading"
                );
                (self.needs, self.budget) = (needs, budget);
                true
            }
            None => false,
        }
    }

    /// The message, with the limit that suffices where one is what is missing.
    pub(super) fn told(&self, error: &(dyn Error + 'static), message: String) -> String {
        match needs_of(error).map(|found| self.needs.and(found).limit()) {
            Some(limit) if limit > self.limit => {
                let mib = limit.div_ceil(1 << 20);
                format!("{message}; spec.executor.resources.limits.memory of {mib}Mi suffices")
            }
            Some(_) | None => message,
        }
    }
}

fn needs_of(error: &(dyn Error + 'static)) -> Option<Needs> {
    causes(error).filter_map(|cause| cause.downcast_ref::<SourceError>()).find_map(|error| {
        let pages = error.pages_needed().unwrap_or(0);
        // A value alone may be known: what else is in its row is little.
        let row = error.row_needed().map_or(0, |bytes| bytes + bytes / 16 + (64 << 10));
        (pages > 0 || row > 0).then_some(Needs { pages, row })
    })
}
