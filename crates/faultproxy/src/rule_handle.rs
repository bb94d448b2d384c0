//! The handle of a rule in force.

use std::sync::Arc;

use crate::rules::RuleId;

/// The proxy that keeps a handle's rule.
pub(crate) trait RuleKeeper: Send + Sync {
    fn lift(&self, rule: RuleId);
    fn fired(&self, rule: RuleId) -> u64;
}

/// Lifts a rule, at the latest when it is dropped.
#[must_use = "dropping the handle lifts the rule"]
pub struct RuleHandle {
    pub(crate) rule: RuleId,
    pub(crate) keeper: Arc<dyn RuleKeeper>,
}

impl RuleHandle {
    /// Which rule this is, as the log names it.
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

impl Drop for RuleHandle {
    fn drop(&mut self) {
        self.keeper.lift(self.rule);
    }
}
