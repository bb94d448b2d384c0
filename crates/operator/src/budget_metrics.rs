//! What is told of the budget of writes that all builds have together.

use std::sync::atomic::AtomicU64;

use indexbuild_lifecycle::writes::Shares;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Default)]
pub(crate) struct BudgetMetrics {
    budget: Gauge,
    used: Gauge<f64, AtomicU64>,
    interval: Gauge<f64, AtomicU64>,
    queued: Gauge,
}

impl BudgetMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { budget, used, interval, queued } = self;
        registry.register(
            "write_budget",
            "Writes to the Kubernetes API in a second that all builds have together",
            budget.clone(),
        );
        registry.register(
            "write_budget_used",
            "Writes in a second, of that budget, of owners' reports and builds' status at the present interval",
            used.clone(),
        );
        registry.register_with_unit(
            "report_interval",
            "How often owners that are told now report; of a build of more than 100 slots at least a twentieth of a second for each slot",
            Unit::Seconds,
            interval.clone(),
        );
        registry.register("queued_builds", "Builds that wait for the budget of writes", queued.clone());
    }

    pub(crate) fn set(&self, shares: &Shares) {
        let Shares { budget, interval, milliwrites, waiting } = shares;
        let thousandths = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / 1_000.0;
        self.budget.set(i64::from(*budget));
        self.used.set(thousandths(*milliwrites));
        self.interval.set(thousandths(*interval));
        self.queued.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }
}
