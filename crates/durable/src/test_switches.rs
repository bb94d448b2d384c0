//! What tests ask of a process through its environment. No product code sets these variables, and without them nothing
//! here changes what a process does.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The variable by which an executor or an operator is asked to misbehave, each by a type of its own (`TestSwitches`).
pub const SWITCHES: &str = "INDEXBUILD_TEST_SWITCHES";
/// The variable that asks for [`Faults`].
pub const FAULTS: &str = "INDEXBUILD_FAULTS";

/// What a process's durable steps suffer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// The process kills itself (SIGKILL) at this point, counted from 0.
    pub kill_at: Option<u64>,
    /// Each point passed is appended to this file, a line each.
    pub trace: Option<PathBuf>,
    /// The n-th write (counted from 0) fails with an input/output error, once.
    pub fail_write: Option<u64>,
    /// While this file exists, nothing can be created or written: no space left on device.
    pub no_space_while: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("{variable} is not understood: {source}; unset it (only tests set it), or write a JSON object")]
pub struct BadSwitches {
    variable: &'static str,
    source: serde_json::Error,
}

/// What the variable, a JSON object, asks for; nothing without it.
///
/// # Errors
/// When it is there and not understood: a fault that was asked for and not understood must not read as a test passed.
pub fn from_environment<T: DeserializeOwned + Default>(variable: &'static str) -> Result<T, BadSwitches> {
    match std::env::var(variable) {
        Ok(text) => serde_json::from_str(&text).map_err(|source| BadSwitches { variable, source }),
        Err(_) => Ok(T::default()),
    }
}
