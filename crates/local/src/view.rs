//! From what is observed to what a person sees.

use std::time::Duration;

use indexbuild_api::IndexBuildStatus;
use indexbuild_lifecycle::World;
use indexbuild_lifecycle::world::{Millis, SlotView};

use crate::progress::{Progress, SlotProgress};

/// After so many renew intervals without a word a slot is shown as silent.
const SILENT_AFTER: u64 = 4;

/// How far the run is.
pub(crate) fn progress(world: &World, status: &IndexBuildStatus, elapsed: Duration) -> Progress {
    let percent = status.percent.unwrap_or(0).min(100);
    let left = f64::from(100 - percent);
    let rate = world.build.percent_per_second;
    let eta =
        rate.filter(|rate| *rate > 0.0 && percent < 100).and_then(|rate| Duration::try_from_secs_f64(left / rate).ok());
    Progress {
        phase: status.phase.unwrap_or_default(),
        percent,
        rows: status.rows.unwrap_or(0),
        bytes: status.bytes.unwrap_or(0),
        works: status.works.as_ref().map(|works| (works.stage.clone(), works.done, works.total)),
        eta,
        elapsed,
        slots: world.slots.iter().map(|slot| of_slot(slot, world.build.timeouts.renew_interval)).collect(),
    }
}

fn of_slot(slot: &SlotView, renew_interval: Millis) -> SlotProgress {
    let SlotView { record, report_age, progress_age: _, grant_age, longest_interval: _ } = slot;
    let work = record.spec.work.as_ref();
    let epoch = record.spec.grant.as_ref().map(|grant| grant.epoch);
    let report = record.status.report.as_ref().filter(|report| Some(report.epoch) == epoch && work.is_some());
    let quiet = (*report_age).min(*grant_age);
    let late = work.is_some() && quiet > renew_interval.saturating_mul(SILENT_AFTER).max(1_000);
    let share = report.and_then(|report| report.progress).unwrap_or(0.0).clamp(0.0, 1.0);
    // In range by the clamp.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let percent = (share * 100.0) as u32;
    SlotProgress {
        slot: record.spec.slot,
        work: work.map(|work| (work.id.clone(), work.kind)),
        step: report.and_then(|report| report.step.clone()),
        percent,
        rows: report.and_then(|report| report.rows).unwrap_or(0),
        bytes: report.and_then(|report| report.bytes).unwrap_or(0),
        silent: late.then(|| Duration::from_millis(quiet)),
        waiting: report.and_then(|report| report.waiting.as_ref()).map(|waiting| waiting.message.clone()),
    }
}
