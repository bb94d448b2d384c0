//! What to do next about a build.

use indexbuild_api::IndexBuildStatus;

use crate::action::Decision;
use crate::world::World;

/// What to do next about a build, given everything observed. A pure function.
#[must_use]
pub fn plan(world: &World) -> Decision {
    Decision {
        actions: Vec::new(),
        status: world.build.status.clone().unwrap_or_else(IndexBuildStatus::default),
        requeue: world.build.clocks.renew_interval,
        end: None,
        waits: Vec::new(),
        events: Vec::new(),
    }
}
