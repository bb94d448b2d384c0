//! Names of objects in the output store.
//!
//! All paths are relative to the build's prefix, `<output.url>/<namespace>/<name>/<build UID>/`.

use indexbuild_api::Epoch;
pub use indexbuild_index::manifest::{LATEST, MANIFEST};

/// The plan: created once, if absent.
pub const PLAN: &str = "plan.json";
/// The last object of an attempt.
pub const RESULT: &str = "result.json";
pub const ATTEMPTS: &str = "attempts";

pub fn work_prefix(work_id: &str) -> String {
    format!("{ATTEMPTS}/{work_id}")
}

pub fn attempt_prefix(work_id: &str, epoch: Epoch, boot_nonce: &str) -> String {
    format!("{ATTEMPTS}/{work_id}/{epoch}-{boot_nonce}")
}

pub fn result_path(work_id: &str, epoch: Epoch, boot_nonce: &str) -> String {
    format!("{}/{RESULT}", attempt_prefix(work_id, epoch, boot_nonce))
}
