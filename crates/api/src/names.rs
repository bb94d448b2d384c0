//! Names of a build's objects: deterministic, and different for builds of one name that follow each other.

use crate::vocabulary::Epoch;

/// The folders in which a pod has the secrets of one store, below that of all its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSecrets {
    /// One file for each variable.
    pub credentials: &'static str,
    /// CA certificates, in the file [`CA_KEY`].
    pub ca: &'static str,
}

/// Those of the source's store.
pub const SOURCE_SECRETS: StoreSecrets = StoreSecrets { credentials: "source", ca: "source-ca" };
/// Those of the output's store.
pub const OUTPUT_SECRETS: StoreSecrets = StoreSecrets { credentials: "output", ca: "output-ca" };
/// The key of a `caSecret`, and its file.
pub const CA_KEY: &str = "ca.crt";

/// The first eight characters of a build's UID.
#[must_use]
pub fn short_uid(build_uid: &str) -> &str {
    build_uid.get(..8).unwrap_or(build_uid)
}

/// The `EngineDirectory` of a slot.
#[must_use]
pub fn directory(build_name: &str, build_uid: &str, slot: u32) -> String {
    format!("{build_name}-{}-{slot}", short_uid(build_uid))
}

/// The pod that was made for an epoch. Never used again: a pod that hangs in Terminating blocks nobody's name (G10).
#[must_use]
pub fn pod(build_name: &str, build_uid: &str, slot: u32, epoch: Epoch) -> String {
    format!("{build_name}-{}-{slot}-e{epoch}", short_uid(build_uid))
}

/// The claim of a slot's volume.
#[must_use]
pub fn claim(build_name: &str, build_uid: &str, slot: u32, generation: u32) -> String {
    format!("{build_name}-{}-{slot}-v{generation}", short_uid(build_uid))
}

/// The immutable `ConfigMap` of a stage: `plan`, `encode`, `encode-r1`, `sort`.
#[must_use]
pub fn config_map(build_name: &str, build_uid: &str, stage: &str) -> String {
    format!("{build_name}-{}-{stage}", short_uid(build_uid))
}

/// The container of an executor's pod: webhooks may add others to it.
pub const CONTAINER: &str = "executor";

/// The key of a stage's `ConfigMap`.
pub const STAGE_KEY: &str = "stage.json";

/// The service account, role and role binding of a build's executors.
#[must_use]
pub fn executor_account(build_name: &str, build_uid: &str) -> String {
    format!("{build_name}-{}", short_uid(build_uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e";

    /// G10.
    #[test]
    fn names_contain_what_makes_them_unique_and_fit_in_a_pod_name() {
        let build = "a".repeat(crate::MAX_BUILD_NAME);
        assert_eq!(directory("orders", UID, 3), "orders-0b7e1c9a-3");
        assert_eq!(pod("orders", UID, 3, Epoch::new(17)), "orders-0b7e1c9a-3-e17");
        assert_eq!(claim("orders", UID, 3, 2), "orders-0b7e1c9a-3-v2");
        assert_eq!(config_map("orders", UID, "encode-r1"), "orders-0b7e1c9a-encode-r1");
        assert!(pod(&build, UID, 999, Epoch::new(9_999_999)).len() <= 63);
    }
}
