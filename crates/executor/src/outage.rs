//! Waiting for a store that does not do what it is asked: nobody's fault, and so no failure of the attempt.
//!
//! An outage of a store takes all executors of all builds at once. Counted as failures, one of two minutes spent the
//! budget of a build that had lost nothing, and its sealed work was deleted. So it is waited for as long as it takes: the
//! report says for what, since when and what was answered, and the work goes on by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indexbuild_api::{Reason, ReportedWait};
use indexbuild_process::{Pauses, about};
use indexbuild_store::Fault;
use jiff::Timestamp;

use crate::attempt_state::{AttemptState, WaitsFor};

/// A local run whose store has not answered once within this time ends: its endpoint or its keys are probably wrong, and
/// whoever started it sits before it.
pub(crate) const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The same for who cleans up: what never answered its build holds nothing of it.
pub(crate) const FIRST_ANSWER_WITHIN_WHEN_CLEANING: Duration = Duration::from_secs(5);
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// An outage shorter than this is not worth a word in the report.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Where a process runs, and with it who can mend what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// In a pod: buckets, secrets and policies are made by others, in any order.
    #[default]
    Cluster,
    /// As a child of a run on one machine: whoever started it sees its error.
    OneMachine,
}

/// What becomes of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is made again, as long as it takes.
    Wait {
        /// Whether it goes on only when somebody does something.
        needs_help: bool,
    },
    End,
}

/// What becomes of a request that failed in such a way. A pure function, so that each case can be looked at.
///
/// `hopeless`: the store has not answered once within the time that it had for that.
pub(crate) fn next(fault: Fault, site: Site, hopeless: bool) -> Next {
    let hopeless = site == Site::OneMachine && hopeless;
    match (fault, site) {
        (Fault::NotFound | Fault::Final, _) | (Fault::NoBucket, Site::OneMachine) => Next::End,
        (Fault::Outage | Fault::Refused, _) if hopeless => Next::End,
        (Fault::Outage, _) => Next::Wait { needs_help: false },
        (Fault::Refused, _) | (Fault::NoBucket, Site::Cluster) => Next::Wait { needs_help: true },
    }
}

/// Whether a store is opened anew before a request is made again that has failed so often: with the credentials of then,
/// and with connections that no partition has cut.
pub(crate) fn reopens(fault: Fault, tries: u32) -> bool {
    const AFTER: u32 = 3;
    fault != Fault::Outage || tries >= AFTER
}

/// How long to wait before a request is made again that has failed so often: up to a fifth more or less at random, as an
/// outage's end finds all executors waiting.
pub(crate) fn pause(tries: u32) -> Duration {
    about(PAUSES.after(tries.saturating_add(1)), 5)
}

/// What is known of one store while an attempt asks it, from however many threads.
#[derive(Debug)]
pub(crate) struct Watch {
    which: WaitsFor,
    site: Site,
    shared: Arc<AttemptState>,
    first_answer_within: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answered: bool,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    /// By the time of day, for people.
    from: Timestamp,
    told: Option<(Fault, String)>,
}

impl Watch {
    #[must_use]
    pub(crate) fn new(which: WaitsFor, site: Site, shared: Arc<AttemptState>, first_answer_within: Duration) -> Self {
        Self { which, site, shared, first_answer_within, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has done what it was asked, or has said that there is no such object.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        state.answered = true;
        if let Some(Failing { told: Some(_), .. }) = state.failing.take() {
            self.shared.set_waiting(self.which, None);
        }
    }

    /// A request about `what` is under way for long, and nothing was answered yet.
    pub(crate) fn silent(&self, what: &str) {
        let mut state = self.state();
        let failing = state.failing.get_or_insert_with(Failing::now);
        if failing.told.is_none() {
            let answer = "it has not answered yet".to_owned();
            self.say(failing, what, Fault::Outage, answer, false);
        }
    }

    /// A request about `what` has failed. What becomes of it; where it ends, what was answered is the caller's to tell.
    pub(crate) fn failed(&self, what: &str, fault: Fault, answer: &str) -> Next {
        let mut state = self.state();
        let answered = state.answered;
        let failing = state.failing.get_or_insert_with(Failing::now);
        let failing_for = failing.since.elapsed();
        let next = next(fault, self.site, !answered && failing_for >= self.first_answer_within);
        match next {
            Next::Wait { needs_help } => {
                let due = needs_help || failing_for >= TOLD_AFTER;
                // Other threads ask for other objects: the first stands for all, until something else is answered.
                let news = failing.told.as_ref().is_none_or(|(was, said)| (*was, said.as_str()) != (fault, answer));
                if due && news {
                    self.say(failing, what, fault, answer.to_owned(), needs_help);
                }
            }
            Next::End if fault != Fault::NotFound => {
                if let Some(Failing { told: Some(_), .. }) = state.failing.take() {
                    self.shared.set_waiting(self.which, None);
                }
            }
            Next::End => {}
        }
        next
    }

    fn say(&self, failing: &mut Failing, what: &str, fault: Fault, answer: String, needs_help: bool) {
        let store = match self.which {
            WaitsFor::Source => "the source's store",
            WaitsFor::Output | WaitsFor::Room | WaitsFor::Engine => "the output's store",
        };
        let way_out = match fault {
            Fault::Refused => "it is asked again and again, with the credentials and the CA that the secrets hold then",
            Fault::NoBucket => "it goes on by itself when there is one",
            Fault::Outage | Fault::NotFound | Fault::Final => {
                "it is asked again and again, and the work goes on by itself"
            }
        };
        let message = format!("{store}, since {}: {what}: {answer}; {way_out}", failing.from);
        failing.told = Some((fault, answer));
        self.shared
            .set_waiting(self.which, Some(ReportedWait { reason: Reason::WaitingForStore, message, needs_help }));
    }
}

impl Failing {
    fn now() -> Self {
        let now = Timestamp::now();
        let from = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { since: Instant::now(), from, told: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_or_can_be_mended_is_waited_for_and_the_rest_ends_i5() {
        use Fault::{Final, NoBucket, NotFound, Outage, Refused};
        use Site::{Cluster, OneMachine};
        let (waits, needs_help) = (Next::Wait { needs_help: false }, Next::Wait { needs_help: true });
        for hopeless in [false, true] {
            assert_eq!(next(Outage, Cluster, hopeless), waits);
            assert_eq!(next(Refused, Cluster, hopeless), needs_help);
            assert_eq!(next(NoBucket, Cluster, hopeless), needs_help);
            assert_eq!(next(NoBucket, OneMachine, hopeless), Next::End);
            for site in [Cluster, OneMachine] {
                assert_eq!(next(Final, site, hopeless), Next::End);
                assert_eq!(next(NotFound, site, hopeless), Next::End);
            }
        }
        assert_eq!(next(Outage, OneMachine, false), waits);
        assert_eq!(next(Refused, OneMachine, false), needs_help);
        assert_eq!(next(Outage, OneMachine, true), Next::End, "it never answered: whoever waits is told");
        assert_eq!(next(Refused, OneMachine, true), Next::End);
    }

    #[test]
    fn one_answer_is_enough_to_wait_for_the_next_as_long_as_it_takes() {
        let shared = Arc::new(AttemptState::new());
        let watch = Watch::new(WaitsFor::Output, Site::OneMachine, Arc::clone(&shared), Duration::ZERO);
        assert_eq!(watch.failed("a", Fault::Outage, "503"), Next::End);
        watch.answered();
        assert_eq!(watch.failed("a", Fault::Outage, "503"), Next::Wait { needs_help: false });
    }

    #[test]
    fn pauses_grow_and_stay_within_a_fifth_of_their_bound() {
        assert!(pause(0) <= PAUSES.first * 2);
        for tries in [6, 10, 31, 32, u32::MAX] {
            let pause = pause(tries);
            assert!(pause >= PAUSES.longest * 4 / 5 && pause <= PAUSES.longest * 6 / 5, "{tries}: {pause:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_once_with_its_words_and_taken_back_when_the_store_answers_i8() {
        let shared = Arc::new(AttemptState::new());
        let watch = Watch::new(WaitsFor::Output, Site::Cluster, Arc::clone(&shared), FIRST_ANSWER_WITHIN);
        watch.failed("cannot read a", Fault::Refused, "403 Forbidden: AccessDenied");
        let told = shared.view().waiting.unwrap();
        assert!(told.needs_help && told.reason == Reason::WaitingForStore);
        for part in ["the output's store, since 2", "cannot read a", "403 Forbidden: AccessDenied"] {
            assert!(told.message.contains(part), "{part} in {}", told.message);
        }
        watch.failed("cannot read b", Fault::Refused, "403 Forbidden: AccessDenied");
        assert_eq!(shared.view().waiting.unwrap(), told, "another object and later: the same is said");
        watch.failed("cannot read b", Fault::Refused, "403 Forbidden: ExpiredToken");
        assert!(shared.view().waiting.unwrap().message.contains("ExpiredToken"));
        watch.answered();
        assert_eq!(shared.view().waiting, None);
    }

    #[test]
    fn a_short_outage_is_not_told_and_a_silent_one_is() {
        let shared = Arc::new(AttemptState::new());
        let watch = Watch::new(WaitsFor::Source, Site::Cluster, Arc::clone(&shared), FIRST_ANSWER_WITHIN);
        watch.failed("cannot read a", Fault::Outage, "503 Service Unavailable");
        assert_eq!(shared.view().waiting, None);
        watch.silent("reading a");
        let told = shared.view().waiting.unwrap();
        assert!(told.message.contains("the source's store") && !told.needs_help, "{told:?}");
    }
}
