//! The handle of something in force.

use std::sync::Arc;

use crate::rules::RuleId;

/// Where a handle's rule is kept.
pub(crate) trait Keeper: Send + Sync {
    fn lift(&self, rule: RuleId);
    fn fired(&self, rule: RuleId) -> u64;
}

/// Lifts a perturbation, at the latest when it is dropped.
#[must_use = "dropping the handle lifts the perturbation"]
pub struct Handle {
    pub(crate) rule: RuleId,
    pub(crate) keeper: Arc<dyn Keeper>,
}

impl Handle {
    /// Which rule this is, as named by what was seen.
    pub const fn rule(&self) -> RuleId {
        self.rule
    }

    /// How often it has acted.
    pub fn fired(&self) -> u64 {
        self.keeper.fired(self.rule)
    }

    pub fn lift(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.keeper.lift(self.rule);
    }
}
