//! Ways in which an executor misbehaves, for tests and their negative controls. No product code sets them: they come
//! from the environment alone, and a process says at its start that one is on.

use indexbuild_api::WorkKind;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Read from JSON: the variable [`indexbuild_durable::test_switches::SWITCHES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TestSwitches {
    /// Those of the engine. With a shared directory, a failed Sort is also tried again inside the same process.
    #[serde(flatten)]
    pub(crate) engine: indexbuild_engine::TestSwitches,
    /// An Encode opens a RocksDB in its `engine/` when it begins, and never closes it (I7 is broken).
    pub(crate) leak_engine_in_encode: bool,
    /// Nothing that older attempts sealed is taken over (adoption is off).
    pub(crate) adopt_nothing: bool,
    /// A process that sees that its slot has another owner works on, and reports (G11 is off).
    pub(crate) never_give_way: bool,
    /// An attempt at a work of this kind (`Plan`, `Encode`, ...) does nothing until it is told to end.
    #[serde(deserialize_with = "known_kind")]
    pub(crate) stand_still_in: Option<WorkKind>,
    /// An attempt at a work of this kind begins when a file `go` lies on the slot's volume.
    #[serde(deserialize_with = "known_kind")]
    pub(crate) begin_when_told_in: Option<WorkKind>,
    /// A store that is away, or refuses, makes the attempt fail (waiting for stores is off).
    pub(crate) never_wait_for_stores: bool,
    /// A process that gives way says that it has released its volume, and then works on for two seconds (the guard of the
    /// last word is off).
    pub(crate) release_too_early: bool,
    /// A process that ends in peace does not say that it has released its volume.
    pub(crate) never_release: bool,
    /// Encode seals a run when it holds so many bytes: a small table then has many.
    pub(crate) run_bytes: Option<u64>,
}

/// A kind of work that there is: a record may name one of a later version, a test may not.
fn known_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WorkKind>, D::Error> {
    let kind = Option::<WorkKind>::deserialize(deserializer)?;
    match kind {
        Some(WorkKind::Other(word)) => Err(D::Error::custom(format!("there is no work of kind {word}"))),
        known => Ok(known),
    }
}

impl TestSwitches {
    /// With a Sort that does not close its engine.
    #[must_use]
    pub fn leaking_the_engine(mut self) -> Self {
        self.engine.leak_engine_handle = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A switch that is not understood must not read as a test passed, and the engine's stand beside the executor's.
    #[test]
    fn switches_are_one_flat_object_and_a_name_that_is_not_known_is_refused() {
        let read = |text: &str| serde_json::from_str::<TestSwitches>(text);
        let leaking = read(r#"{"leakEngineHandle": true, "standStillIn": "Sort"}"#).unwrap();
        assert_eq!(
            leaking,
            TestSwitches { stand_still_in: Some(WorkKind::Sort), ..TestSwitches::default().leaking_the_engine() }
        );
        assert_eq!(read(&serde_json::to_string(&leaking).unwrap()).unwrap(), leaking);
        for unknown in [r#"{"leakEngine": true}"#, r#"{"engine": {"trustRuns": true}}"#, r#"{"standStillIn": "Lunch"}"#]
        {
            assert!(read(unknown).is_err(), "{unknown}");
        }
    }
}
