//! The API server's time of day, as its answers tell it (`Date`).
//!
//! Objects bear times that the API server wrote: when a deletion was asked for, since when a build is active (its status is
//! written with this time). How old such a thing is, is asked of this clock, and never of this machine's own, which may be
//! hours off. It is asked once for each of them, and counted on from there (`indexbuild_lifecycle::observer`): a clock that
//! jumps later changes nothing that is counted already. Where no answer bears a time that can be read (a proxy took it
//! away), no age is known, and each is counted from when it was first seen; people are told this machine's time then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use indexbuild_lifecycle::Millis;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// An answer's time has whole seconds, and was a while on its way.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Told {
    time: Timestamp,
    at: Instant,
}

impl Told {
    fn time(self, now: Instant) -> Option<Timestamp> {
        let since: Duration = now.saturating_duration_since(self.at);
        self.time.checked_add(SignedDuration::try_from(since).ok()?).ok()
    }
}

/// What is known of the API server's clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerTime(Arc<Mutex<Option<Told>>>);

impl ServerTime {
    /// Takes note of an answer that came in at `at`. How far the server's clock is ahead of `own`, if it said.
    pub(crate) fn note(&self, answer: &HeaderMap, at: Instant, own: Timestamp) -> Option<SignedDuration> {
        let time = date(answer)?;
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.and_then(|told| told.time(at));
        // What is known already is as right as an answer can tell: it goes on evenly.
        let agrees = known.is_some_and(|known| known >= time && known.duration_since(time) <= SLACK);
        if !agrees {
            *told = Some(Told { time, at });
        }
        Some(time.duration_since(own))
    }

    /// The time at `at`; `None`: no answer has told it.
    pub(crate) fn at(&self, at: Instant) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).and_then(|told| told.time(at))
    }
}

/// When something was observed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// On this process's own monotonic clock.
    pub now: Millis,
    /// By the API server's clock; `None`: it has not told its time.
    pub server: Option<Timestamp>,
}

impl Moment {
    /// The time of day as people are told it.
    pub(crate) fn wall(self) -> String {
        self.server.unwrap_or_else(Timestamp::now).to_string()
    }

    /// How old something is that began then, by the API server's clock.
    pub(crate) fn since(self, begun: Timestamp) -> Option<Millis> {
        let age = self.server?.duration_since(begun).as_millis();
        Some(Millis::try_from(age).unwrap_or(0))
    }
}

fn date(answer: &HeaderMap) -> Option<Timestamp> {
    let text = answer.get(header::DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(date: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, date.parse().unwrap());
        headers
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_time_is_the_servers_whatever_this_machines_clock_says() {
        let (clock, start) = (ServerTime::default(), Instant::now());
        assert_eq!(clock.at(start), None, "nobody has told");
        let own = time("2026-01-01T11:00:00Z");
        let ahead = clock.note(&answer("Thu, 01 Jan 2026 12:00:00 GMT"), start, own);
        assert_eq!(ahead, Some(SignedDuration::from_hours(1)));
        assert_eq!(clock.at(start + Duration::from_secs(90)), Some(time("2026-01-01T12:01:30Z")));
    }

    #[test]
    fn whole_seconds_of_answers_do_not_make_it_go_to_and_fro_and_a_clock_that_was_set_is_followed() {
        let (clock, start) = (ServerTime::default(), Instant::now());
        let own = Timestamp::UNIX_EPOCH;
        clock.note(&answer("Thu, 01 Jan 2026 12:00:00 GMT"), start, own);
        let later = start + Duration::from_millis(10_900);
        clock.note(&answer("Thu, 01 Jan 2026 12:00:10 GMT"), later, own);
        assert_eq!(clock.at(later), Some(time("2026-01-01T12:00:10.9Z")));
        for set in ["Thu, 01 Jan 2026 13:00:00 GMT", "Thu, 01 Jan 2026 11:00:00 GMT", "Thu, 01 Jan 2026 11:00:01 GMT"] {
            clock.note(&answer(set), later, own);
            let expected = rfc2822::DateTimeParser::new().parse_timestamp(set).unwrap();
            assert_eq!(clock.at(later), Some(expected));
        }
    }

    #[test]
    fn an_answer_without_a_time_that_can_be_read_changes_nothing() {
        let (clock, start) = (ServerTime::default(), Instant::now());
        for bad in ["", "yesterday", "Thu, 01 Jan", "99999999999"] {
            assert_eq!(clock.note(&answer(bad), start, Timestamp::UNIX_EPOCH), None, "{bad}");
        }
        assert_eq!(clock.note(&HeaderMap::new(), start, Timestamp::UNIX_EPOCH), None);
        assert_eq!(clock.at(start), None);
    }
}
