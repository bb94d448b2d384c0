//! What is said of a build that has failed: why, and what still helps. Its failure is final: what would have kept it going
//! an hour ago (a bucket that is made, a file that is put back) makes it go on no more, and whoever reads no further than
//! that waits for ever.

use indexbuild_api::{IndexBuildSpec, Reason};
use indexbuild_text::bounded;

use super::Pass;
use super::budget::{Failure, Spent};

/// How much is told of what an attempt said: what helps stands behind it, and must not be cut off.
const MAX_SAID: usize = 3_400;

impl Pass<'_> {
    /// Why a build fails, in a word and in full, with the way out.
    pub(super) fn why_failed(&self, failure: &Failure) -> (Reason, String) {
        let (reason, said) = if failure.permanent {
            (Reason::from(failure.reason), format!("{}: {}", failure.work_id, failure.message))
        } else {
            self.spent(failure)
        };
        (reason, format!("{}; {}", bounded(&said, MAX_SAID), way_out(reason)))
    }

    fn spent(&self, failure: &Failure) -> (Reason, String) {
        let IndexBuildSpec { backoff_limit, backoff_limit_per_work, .. } = &self.world.build.spec;
        let last = format!("the last, {}: {}", failure.work_id, failure.message);
        let message = match &failure.spent {
            Some(Spent::Time) => return (Reason::DeadlineExceeded, failure.message.clone()),
            Some(Spent::Work { work_id, times }) => format!(
                "{work_id} failed {times} times, more often than backoffLimitPerWork ({backoff_limit_per_work}) allows; {last}"
            ),
            Some(Spent::Build) | None => {
                let limit = backoff_limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
                format!("more attempts failed than backoffLimit ({limit}) allows; {last}")
            }
        };
        (Reason::BackoffLimitExceeded, message)
    }
}

/// What still helps where a build has failed for this reason.
const fn way_out(reason: Reason) -> &'static str {
    match reason {
        Reason::SourceChanged => {
            "this build has failed for good, and no file that is put back makes it go on: make the build anew, over the files as they are then, and change none while it runs"
        }
        Reason::InvalidData
        | Reason::DuplicateKey
        | Reason::DuplicateRowId
        | Reason::NullRowId
        | Reason::KeyTooLong
        | Reason::MissingColumn
        | Reason::UnsupportedType => {
            "this build has failed for good: correct the table or the spec, and make the build anew"
        }
        Reason::OutputConflict | Reason::Tombstoned => {
            "this build has failed for good: make it anew, under a name or with an output.url that no other build has"
        }
        Reason::BackoffLimitExceeded => {
            "this build has failed for good, and no other attempt is made: once the cause is gone, make the build anew, with a higher limit if the cause may come again"
        }
        Reason::DeadlineExceeded => {
            "this build has failed for good: once what it waited for is there, make the build anew, with a longer activeDeadlineSeconds, or none"
        }
        Reason::VerificationFailed | Reason::InternalError => {
            "this build has failed for good and published nothing: make the build anew, and report it if that fails in the same way"
        }
        _ => {
            "this build has failed for good, and does not go on when that is mended: mend it, and then make the build anew"
        }
    }
}
