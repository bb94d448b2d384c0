//! How long a build is patient with a part of it that is cut off.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// How long a build is patient with an executor that is cut off.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.orphanAfter) > duration(self.replaceAfter)")
        .message("orphanAfter must be longer than replaceAfter: an executor that is cut off must outlive the wait for its return")
        .field_path(".orphanAfter")
)]
pub struct DisruptionSpec {
    /// After so long without a word from a slot's owner, another one takes its place on a new volume.
    #[serde(default = "default_replace_after")]
    pub replace_after: Duration,
    /// After so long without contact, an executor ends by itself.
    #[serde(default = "default_orphan_after")]
    pub orphan_after: Duration,
}

impl Default for DisruptionSpec {
    fn default() -> Self {
        Self { replace_after: default_replace_after(), orphan_after: default_orphan_after() }
    }
}

fn default_replace_after() -> Duration {
    Duration::from_secs(600)
}

fn default_orphan_after() -> Duration {
    Duration::from_secs(1_800)
}

/// How often an owner renews its report, so that a build, however many slots it has, writes at most
/// 20 times a second: 5 s, or a twentieth of a second for each slot if that is longer.
#[must_use]
pub fn renew_interval(parallelism: u32) -> Duration {
    Duration::from_millis(u64::from(parallelism).saturating_mul(50).max(5_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_renews_at_most_twenty_times_a_second_however_many_slots_it_has() {
        for slots in [1, 4, 100, 101, 1_000] {
            let interval = renew_interval(slots).as_millis();
            assert!(interval >= 5_000);
            assert!(u64::from(slots) * 1_000 <= 20 * interval);
        }
    }
}
