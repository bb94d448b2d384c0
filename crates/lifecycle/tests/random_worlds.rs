//! Whatever is observed, arbitrary nonsense included: no action without its evidence.
//!
//! The oracle looks at the world alone, never at the types that the planner makes its proofs of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod random;
mod scene;

use proptest::prelude::*;
use random::{oracle, world};

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// G1, G2, G3, G6, G7, G8, G9, G10, I4, I5, I8, I9, on whatever is observed.
    #[test]
    fn no_action_without_its_evidence_whatever_is_observed(world in world()) {
        oracle::check(&world);
    }

    /// I9: of a build that is gone, what its records say decides, and nothing else.
    #[test]
    fn what_a_build_left_is_decided_about_by_its_records_alone(world in world()) {
        oracle::check_gone(&world);
    }
}
