//! Why an attempt at a work ends without a result: one place that sorts every error of the data
//! path into the closed list that the control plane knows.

use std::error::Error;

use indexbuild_api::{WorkError, WorkErrorReason};
use indexbuild_engine::EngineError;
use indexbuild_index::EncodeError;
use indexbuild_index::store::StoreError;
use indexbuild_source::SourceError;
use indexbuild_text::{bounded, causes, chain};

use crate::attempt_state::Ended;
use crate::definitions::DefinitionError;
use crate::source_access::Unanswered;
use crate::stored_objects::ObjectError;

/// The longest message that a report carries, in characters.
const LONGEST_MESSAGE: usize = 4_000;
/// The most damaged splits that a report names; the rest is found by the next attempt.
const MOST_DAMAGED: usize = 1_000;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkFailure {
    /// The attempt was told to end; that is no failure.
    Ended,
    /// The volume is full: nothing sealed is lost, and the work goes on when there is room.
    NoSpace(String),
    Failed(WorkError),
}

impl WorkFailure {
    /// A failure for a reason, with what happened, to which object, and the way out.
    #[must_use]
    pub fn failed(reason: WorkErrorReason, retryable: bool, message: impl Into<String>) -> Self {
        let message = bounded(&message.into(), LONGEST_MESSAGE);
        Self::Failed(WorkError { reason, message, retryable, damaged_splits: Vec::new() })
    }

    /// A fault of this software. Bounded retries may help; a report to its authors does.
    #[must_use]
    pub fn internal(what: impl std::fmt::Display) -> Self {
        Self::failed(WorkErrorReason::Internal, true, what.to_string())
    }

    /// What is reported of it; nothing of an attempt that was told to end.
    pub fn error(&self) -> Option<WorkError> {
        match self {
            Self::Ended => None,
            Self::NoSpace(message) => match Self::failed(WorkErrorReason::NoSpace, true, message.clone()) {
                Self::Failed(error) => Some(error),
                Self::Ended | Self::NoSpace(_) => None,
            },
            Self::Failed(error) => Some(error.clone()),
        }
    }

    /// Runs whose splits must be encoded again (I3).
    #[must_use]
    pub fn damaged(mut splits: Vec<u32>, message: impl Into<String>) -> Self {
        splits.sort_unstable();
        splits.dedup();
        splits.truncate(MOST_DAMAGED);
        match Self::failed(WorkErrorReason::DamagedInput, true, message) {
            Self::Failed(error) => Self::Failed(WorkError { damaged_splits: splits, ..error }),
            other @ (Self::Ended | Self::NoSpace(_)) => other,
        }
    }

    /// As [`Self::from_error`], and names the file that the error is about by its URL: a number says nothing to people.
    pub(crate) fn about(error: &(dyn Error + 'static), url_of: impl FnOnce(u32) -> Option<String>) -> Self {
        match (Self::from_error(error), file_of(error).and_then(url_of)) {
            (Self::Failed(failed), Some(url)) => {
                Self::failed(failed.reason, failed.retryable, format!("{url}: {}", chain(error)))
            }
            (failure, _) => failure,
        }
    }

    /// Sorts an error by what stands deepest in its chain and is known.
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        let message = chain(error);
        let kind = causes(error).filter_map(kind_of).last().unwrap_or(Kind::Unknown);
        match kind {
            Kind::Ended => Self::Ended,
            Kind::NoSpace => Self::NoSpace(message),
            Kind::Damaged(splits) => Self::damaged(splits, message),
            Kind::Reason(reason, retryable) => Self::failed(reason, retryable, message),
            Kind::Unknown => Self::failed(WorkErrorReason::Internal, true, message),
        }
    }
}

enum Kind {
    Ended,
    NoSpace,
    Damaged(Vec<u32>),
    Reason(WorkErrorReason, bool),
    Unknown,
}

fn kind_of(error: &(dyn Error + 'static)) -> Option<Kind> {
    if error.is::<Ended>() {
        return Some(Kind::Ended);
    }
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return Some(of_engine(error));
    }
    if let Some(error) = error.downcast_ref::<ObjectError>() {
        return Some(match error {
            ObjectError::Ended(_) => Kind::Ended,
            // Who waits for a store as long as it takes gives up only where that is of no use.
            ObjectError::Unavailable { .. } | ObjectError::Refused { .. } | ObjectError::Failed { .. } => {
                Kind::Reason(WorkErrorReason::StoreUnavailable, false)
            }
        });
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(of_store(error));
    }
    if error.is::<Unanswered>() {
        return Some(Kind::Reason(WorkErrorReason::StoreUnavailable, false));
    }
    if let Some(error) = error.downcast_ref::<SourceError>() {
        return Some(of_source(error));
    }
    if let Some(error) = error.downcast_ref::<EncodeError>() {
        return Some(of_encode(error));
    }
    if let Some(error) = error.downcast_ref::<DefinitionError>() {
        let reason = match error {
            DefinitionError::MissingColumn { .. } => WorkErrorReason::MissingColumn,
            DefinitionError::UnsupportedType { .. } => WorkErrorReason::UnsupportedType,
            DefinitionError::NoSource => WorkErrorReason::Internal,
        };
        return Some(Kind::Reason(reason, false));
    }
    None
}

/// A folder's failure that lasts is one of the attempt, and counts; an outage of a store is nobody's.
fn of_store(error: &StoreError) -> Kind {
    match error.fault() {
        Some(_) => Kind::Reason(WorkErrorReason::StoreUnavailable, error.is_retryable()),
        None if error.is_retryable() => Kind::Reason(WorkErrorReason::Volume, true),
        None => Kind::Reason(WorkErrorReason::StoreUnavailable, false),
    }
}

fn of_engine(error: &EngineError) -> Kind {
    if error.is_no_space() {
        return Kind::NoSpace;
    }
    let (reason, retryable) = match error {
        EngineError::Cancelled => return Kind::Ended,
        EngineError::Damaged { splits, .. } => return Kind::Damaged(splits.clone()),
        EngineError::Io { .. } | EngineError::BadTable { .. } | EngineError::Rocks { .. } => {
            (WorkErrorReason::Volume, true)
        }
        EngineError::EngineLocked { .. } => (WorkErrorReason::EngineLocked, true),
        EngineError::DuplicateKeyOutsideUnique { .. } => (WorkErrorReason::DuplicateRowId, false),
        EngineError::Disagrees { .. } => (WorkErrorReason::Verification, true),
        EngineError::Definition { .. } => (WorkErrorReason::UnsupportedType, false),
        EngineError::BadPlan { .. } => (WorkErrorReason::Verification, false),
        // What stands below says more, where anything does; so does a later version's kind.
        _ => (WorkErrorReason::Internal, true),
    };
    Kind::Reason(reason, retryable)
}

fn of_source(error: &SourceError) -> Kind {
    let reason = match error {
        SourceError::FileChanged { .. } => WorkErrorReason::SourceChanged,
        SourceError::MissingColumn { .. } | SourceError::MissingInFile { .. } => WorkErrorReason::MissingColumn,
        SourceError::UnsupportedType { .. } => WorkErrorReason::UnsupportedType,
        SourceError::Cell { .. } | SourceError::PartitionValue { .. } | SourceError::DoesNotFit { .. } => {
            WorkErrorReason::InvalidData
        }
        SourceError::Store { .. } => WorkErrorReason::StoreUnavailable,
        _ => WorkErrorReason::SourceUnreadable,
    };
    Kind::Reason(reason, error.is_retryable())
}

fn of_encode(error: &EncodeError) -> Kind {
    let reason = match error {
        EncodeError::NullRowId { .. } => WorkErrorReason::NullRowId,
        EncodeError::KeyTooLong { .. } => WorkErrorReason::KeyTooLong,
        EncodeError::MissingColumn { .. } => WorkErrorReason::MissingColumn,
        EncodeError::WrongType { .. } | EncodeError::Definition(_) => WorkErrorReason::UnsupportedType,
        _ => WorkErrorReason::InvalidData,
    };
    Kind::Reason(reason, false)
}

/// The number of the file that an error is about, to be named by its URL.
fn file_of(error: &(dyn Error + 'static)) -> Option<u32> {
    causes(error).find_map(|error| match error.downcast_ref::<EncodeError>() {
        Some(
            EncodeError::NullRowId { file, .. }
            | EncodeError::KeyTooLong { file, .. }
            | EncodeError::DecimalDoesNotFit { file, .. },
        ) => Some(*file),
        _ => None,
    })
}

impl From<Ended> for WorkFailure {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

macro_rules! sorted {
    ($($type:ty),+) => {$(
        impl From<$type> for WorkFailure {
            fn from(error: $type) -> Self {
                Self::from_error(&error)
            }
        }
    )+};
}

sorted!(EngineError, ObjectError, StoreError, SourceError, EncodeError, DefinitionError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_deepest_decides_and_the_message_keeps_the_chain() {
        let inner = EncodeError::KeyTooLong { index: "by_name".into(), file: 0, row: 7, bytes: 9_000 };
        let outer = EngineError::Encode { index: "by_name".into(), split: 3, source: inner };
        assert_eq!(file_of(&outer), Some(0));
        let WorkFailure::Failed(error) = outer.into() else { panic!("not a failure") };
        assert_eq!((error.reason, error.retryable), (WorkErrorReason::KeyTooLong, false));
        assert!(error.message.contains("split 3") && error.message.contains("row 7"), "{}", error.message);
    }

    #[test]
    fn being_told_to_end_is_no_failure_however_deep_it_stands() {
        let error = EngineError::Read { split: 1, source: Box::new(ObjectError::Ended(Ended)) };
        assert_eq!(WorkFailure::from(error), WorkFailure::Ended);
        assert_eq!(WorkFailure::from(EngineError::Cancelled), WorkFailure::Ended);
    }

    #[test]
    fn a_full_volume_is_told_apart() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = EngineError::NoSpace { path: "/volume".into(), source: Box::new(source) };
        assert!(matches!(WorkFailure::from(error), WorkFailure::NoSpace(_)));
    }

    #[test]
    fn damaged_splits_are_named_once_and_not_without_bound() {
        let WorkFailure::Failed(error) = WorkFailure::damaged((0..5_000).chain(0..10).rev().collect(), "x") else {
            panic!("not a failure")
        };
        assert_eq!(error.damaged_splits, (0..1_000).collect::<Vec<_>>());
    }
}
