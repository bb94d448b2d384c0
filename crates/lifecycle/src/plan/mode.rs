//! What a build is about: running, pausing, cleaning up, or nothing any more.

use indexbuild_api::{
    AfterBuild, Chosen, ConditionStatus, ConditionType, Duration, Epoch, IndexBuildStatus, Retention, VolumeRetention,
};

use super::stages::{CLEAN, CLEAN_INDEX, CLEAN_WORK, PUBLISH};
use crate::action::End;
use crate::world::{BuildView, Millis, World};

/// What a build is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is done: it is to be left alone.
    Disabled,
    /// Nothing is left to do: it is deleted, and nobody holds it.
    Gone,
    Run,
    Suspend,
    /// One slot removes what is not needed in the store; the others go.
    Clean(End),
    /// All slots go, and their volumes as the policy says.
    Drain(End),
}

impl Mode {
    /// What the build is about, as observed. What has been reached is in frozen stages and, for a failure, in the
    /// status: an operator that starts anew finds the same.
    pub(super) fn of(world: &World) -> Self {
        let build = &world.build;
        if build.gone {
            // Its clean-up in the store is over, or was given up: what is left are volumes.
            return Self::Drain(End::Aborted);
        }
        if build.reconcile_disabled {
            return Self::Disabled;
        }
        if build.deleting && !build.finalizer {
            return Self::Gone;
        }
        let Some(end) = ending(world) else {
            return if build.spec.suspend { Self::Suspend } else { Self::Run };
        };
        // Where nothing can be made, no slot can be given a Clean, and none could be frozen.
        let cannot_clean = build.deleting && build.namespace_ends;
        if cannot_clean || world.is_frozen(clean_stage(world)) || nothing_was_begun(world) {
            Self::Drain(end)
        } else {
            Self::Clean(end)
        }
    }

    pub(super) const fn end(self) -> Option<End> {
        match self {
            Self::Clean(end) | Self::Drain(end) => Some(end),
            Self::Gone => Some(End::Aborted),
            Self::Disabled | Self::Run | Self::Suspend => None,
        }
    }

    /// What becomes of a volume that nobody needs, and whose owner is proved gone.
    pub(super) fn retention(self, build: &BuildView, after_build: Option<&AfterBuild>) -> Retention {
        if build.gone {
            return after_build.map_or(Retention::Retain, |after| known(after.volumes));
        }
        let VolumeRetention { when_published, when_failed, when_deleted } = retention(build);
        known(match self {
            // While it runs, what a slot left behind has the fate of a build that ends well.
            Self::Disabled | Self::Gone | Self::Run | Self::Suspend => when_published,
            Self::Clean(end) | Self::Drain(end) => match end {
                End::Complete => when_published,
                End::Failed => when_failed,
                End::Aborted => when_deleted,
            },
        })
    }
}

/// Whoever does not know what was asked for destroys nothing.
const fn known(asked: Retention) -> Retention {
    match asked {
        Retention::Delete => Retention::Delete,
        Retention::Retain | Retention::Other(_) => Retention::Retain,
    }
}

/// Whether volumes stay as they are when the build ends as it does now.
pub(super) fn keeps_volumes(world: &World) -> bool {
    ending(world).is_some_and(|end| Mode::Clean(end).retention(&world.build, None) == Retention::Retain)
}

fn retention(build: &BuildView) -> VolumeRetention {
    build.spec.volume_or_default().retention.unwrap_or_default()
}

/// What a build's records are to go by once it is gone.
pub(super) fn after_build(build: &BuildView) -> AfterBuild {
    AfterBuild {
        volumes: retention(build).when_deleted,
        replace_after: Duration::from_millis(build.timeouts.replace_after),
    }
}

/// How a build ends. A commit outlives everything but the build's deletion.
fn ending(world: &World) -> Option<End> {
    if world.build.deleting {
        Some(End::Aborted)
    } else if published(world) {
        Some(End::Complete)
    } else if failed(world) {
        Some(End::Failed)
    } else {
        None
    }
}

/// Whether the index is committed: Publish was chosen; or a Clean found its manifest, as a Publish that was granted before
/// the build failed may commit until a tombstone stands in its place.
pub(super) fn published(world: &World) -> bool {
    world.is_frozen(PUBLISH) || found_committed(world).is_some()
}

/// The Clean that found a committed index.
pub(super) fn found_committed(world: &World) -> Option<&Chosen> {
    world.stage(CLEAN)?.chosen.iter().find(|chosen| chosen.committed)
}

/// Whether the build was said to have failed: final, unless its Publish had committed.
pub(super) fn failed(world: &World) -> bool {
    let status = world.build.status.as_ref();
    status
        .and_then(|status| status.condition(ConditionType::Failed))
        .is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// The Clean stage that is meant: a committed index whose build is deleted needs another one than its commit did.
pub(super) fn clean_stage(world: &World) -> &'static str {
    if published(world) && world.build.index_goes() { CLEAN_INDEX } else { CLEAN }
}

/// What an observer that learns late of a deletion has for it at least, as the control plane's absence is not held against
/// the build: time to make its records stand alone, and to try to clean.
const CHANCE: Millis = 60_000;

/// Whether the time for cleaning up after a deletion is over.
pub(super) fn cleaning_is_over(build: &BuildView) -> bool {
    deletion_has_lasted(build, 1)
}

/// Whether the finalizer goes whatever is left.
pub(super) fn deletion_is_over(build: &BuildView) -> bool {
    deletion_has_lasted(build, 2)
}

/// Whether a deletion was asked for so many times `orphanAfter` ago, and this observer has had its chance as often.
fn deletion_has_lasted(build: &BuildView, times: Millis) -> bool {
    let BuildView { deleting, deletion_age, deletion_unseen, timeouts, .. } = build;
    let chance = CHANCE.min(timeouts.orphan_after / 4).saturating_mul(times);
    *deleting
        && *deletion_age >= timeouts.orphan_after.saturating_mul(times)
        && deletion_age.saturating_sub(*deletion_unseen) >= chance
}

/// Whether no executor can ever have written anything: nothing is to be cleaned in the store. A process writes there
/// under a grant that names it, and is named only after it has claimed the record, which keeps its claim. So a build
/// whose pods never started (no node fits, no image) goes at once, without another pod that would not start either.
fn nothing_was_begun(world: &World) -> bool {
    let unrecorded = world.slots.is_empty() && !(world.pods.iter().all(|pod| pod.foreign) && world.claims.is_empty());
    // A record that begins above the first epoch was made anew: what its predecessor saw is not known. Nor is it of one
    // that does not say with which it began, as an older version made it.
    let untouched = |record: &crate::world::Record| {
        let silent = record.status.claim.is_none() && record.status.report.is_none() && record.spec.chosen.is_empty();
        silent && record.spec.past.first_epoch == Epoch::FIRST
    };
    let there = world.stages.iter().map(|stage| &stage.name);
    let lost = world.frozen.lost.iter().map(|stage| &stage.name);
    let of_work = |name: &String| !matches!(name.as_str(), CLEAN | CLEAN_INDEX);
    !unrecorded
        && !there.chain(lost).any(of_work)
        && world.slots.iter().all(|slot| untouched(&slot.record))
        && !told_of_work(world)
}

/// Whether the status tells of work: its records may be gone since (a namespace that is deleted, or somebody's hand).
fn told_of_work(world: &World) -> bool {
    world.build.status.as_ref().is_some_and(|status| {
        let IndexBuildStatus { percent, rows, entries, bytes, manifest, .. } = status;
        percent.is_some_and(|percent| percent > 0)
            || [rows, entries, bytes].into_iter().any(Option::is_some)
            || manifest.is_some()
    })
}

/// Whether what the build wrote is accounted for: it was cleaned, be it that no stage could be frozen any more, or nothing
/// was ever written.
pub(super) fn was_cleaned(world: &World) -> bool {
    let stage = world.stage(clean_stage(world)).is_some_and(|stage| !stage.chosen.is_empty());
    let ours = world.slots.iter().filter(|slot| slot.record.spec.build_uid == world.build.uid);
    let recorded = ours.flat_map(|slot| &slot.record.spec.chosen).any(|chosen| chosen.work_id == CLEAN_WORK);
    stage || (recorded && !published(world)) || nothing_was_begun(world)
}
