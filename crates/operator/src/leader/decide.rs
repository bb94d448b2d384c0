//! What a Lease means that was read. No I/O and no clock: `now` is an argument, on a clock that only goes forward.

use std::time::Duration;

use jiff::Timestamp;

/// The longest that a holder's own promise is waited for: longer ones are a mistake or a foreign tool's.
const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// The clocks of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long a record that does not change keeps the others away.
    pub lease: Duration,
    /// For how long a leader goes on without a renewal. Shorter than `lease`: the difference is what the
    /// leader's last writes have for arriving before another one begins.
    pub renew_deadline: Duration,
    /// How long between two looks, or two renewals.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease: seconds(15), renew_deadline: seconds(10), retry: seconds(2) }
    }
}

/// What a Lease says. Its times are for people: no decision compares them with a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` when nobody does.
    pub holder: Option<String>,
    /// For how long the holder means to keep the others away without a renewal.
    pub lease: Option<Duration>,
    /// When the holder says that it took it.
    pub acquired: Option<Timestamp>,
    /// When the holder says that it renewed it last.
    pub renewed: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
}

/// A write of this process whose outcome is not known, or that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was written. Its times make it unlike anything that another process wrote.
    pub record: Record,
    /// When it was sent. What it proves, it proves from then on.
    pub sent: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Absent {
        /// What its last holder, as far as it was seen, had promised itself. Somebody who deletes a Lease does not
        /// stop its holder, which may not know yet.
        held_for: Option<Duration>,
    },
    There {
        record: Record,
        /// The `resourceVersion` that a write must find.
        version: String,
    },
}

/// What was read last, and since when it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub what: What,
    /// When this was first seen, on this process's clock. A new `resourceVersion` alone (a label, say) is no
    /// sign of life of the holder and does not change it.
    pub since: Duration,
}

impl Observed {
    /// Takes a read into account that was answered at `at`.
    #[must_use]
    pub fn after(before: Option<&Self>, read: Option<(Record, String)>, at: Duration, timing: Timing) -> Self {
        let what = match (read, before.map(|observed| &observed.what)) {
            (Some((record, version)), _) => What::There { record, version },
            (None, None) => What::Absent { held_for: None },
            (None, Some(What::Absent { held_for })) => What::Absent { held_for: *held_for },
            (None, Some(What::There { record, version: _ })) => {
                What::Absent { held_for: record.holder.is_some().then(|| patience(record, timing)) }
            }
        };
        let since = match (before, &what) {
            (Some(Self { what: What::Absent { .. }, since }), What::Absent { .. }) => *since,
            (Some(Self { what: What::There { record: old, .. }, since }), What::There { record: new, .. })
                if old == new =>
            {
                *since
            }
            (None, _) | (Some(_), What::Absent { .. } | What::There { .. }) => at,
        };
        Self { what, since }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    /// Write it over, if it still has this version.
    Acquire {
        version: String,
    },
    /// It is this process's: an attempt whose answer was lost has succeeded.
    Hold {
        /// When the attempt was sent: leading counts from then.
        sent: Duration,
        version: String,
    },
    /// It is somebody else's, who may be alive.
    Wait {
        /// When that is over if nothing changes.
        until: Duration,
    },
}

/// Decides what to do about a Lease.
///
/// `attempts` are this process's own writes that may have taken effect. A record that none of them wrote is
/// somebody else's, also when it bears this process's name: it may be a former process of the same pod, or a
/// second one that was given the same name by mistake, and leading beside it is what must not happen.
///
/// Whether a holder is silent is measured on this process's clock alone, since the record last changed: clocks of
/// machines differ, and a comparison of `renewTime` with one's own time gives two leaders or none.
pub fn step(observed: &Observed, attempts: &[Attempt], now: Duration, timing: Timing) -> Step {
    let Observed { what, since } = observed;
    let silent_at = |patience: Duration| since.saturating_add(patience);
    match what {
        What::Absent { held_for: None } => Step::Create,
        What::Absent { held_for: Some(patience) } => {
            let until = silent_at(*patience);
            if now >= until { Step::Create } else { Step::Wait { until } }
        }
        What::There { record, version } => {
            let version = version.clone();
            if let Some(attempt) = attempts.iter().find(|attempt| attempt.record == *record) {
                // Too old to lead by, but nobody else's: it may be renewed at once.
                return if now < attempt.sent.saturating_add(timing.renew_deadline) {
                    Step::Hold { sent: attempt.sent, version }
                } else {
                    Step::Acquire { version }
                };
            }
            if record.holder.is_none() {
                return Step::Acquire { version };
            }
            let until = silent_at(patience(record, timing));
            if now >= until { Step::Acquire { version } } else { Step::Wait { until } }
        }
    }
}

/// For how long an unchanged record keeps the others away: never shorter than one's own setting, and as long as the
/// holder's, which may have been started with a longer one.
fn patience(record: &Record, timing: Timing) -> Duration {
    record.lease.unwrap_or(timing.lease).clamp(timing.lease, LONGEST_LEASE.max(timing.lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timing() -> Timing {
        Timing::default()
    }

    fn held_by(holder: &str, renewed: i64) -> Record {
        Record {
            holder: (!holder.is_empty()).then(|| holder.to_owned()),
            lease: Some(s(15)),
            acquired: Some(Timestamp::from_second(1_000).unwrap()),
            renewed: Some(Timestamp::from_second(renewed).unwrap()),
            transitions: 3,
        }
    }

    fn read(before: Option<&Observed>, record: &Record, version: &str, at: Duration) -> Observed {
        Observed::after(before, Some((record.clone(), version.to_owned())), at, timing())
    }

    fn absent(before: Option<&Observed>, at: Duration) -> Observed {
        Observed::after(before, None, at, timing())
    }

    fn acquire(version: &str) -> Step {
        Step::Acquire { version: version.to_owned() }
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_at_once() {
        assert_eq!(step(&absent(None, s(5)), &[], s(5), timing()), Step::Create);
        let released = read(None, &held_by("", 1_000), "7", s(5));
        assert_eq!(step(&released, &[], s(5), timing()), acquire("7"));
        let after_release = absent(Some(&released), s(6));
        assert_eq!(step(&after_release, &[], s(6), timing()), Step::Create, "nobody held it when it vanished");
    }

    #[test]
    fn a_silent_holder_is_waited_for_from_when_it_was_first_seen_however_old_its_times_are() {
        // The holder's clock is years behind, exact, or years ahead.
        for renewed in [0, 1_700_000_000, 4_000_000_000] {
            let first = read(None, &held_by("other", renewed), "7", s(100));
            for now in [100, 107, 114] {
                assert_eq!(step(&first, &[], s(now), timing()), Step::Wait { until: s(115) }, "{renewed}");
            }
            let again = read(Some(&first), &held_by("other", renewed), "7", s(114));
            assert_eq!(step(&again, &[], s(115), timing()), acquire("7"), "reading it again is no sign of life");
        }
    }

    #[test]
    fn each_renewal_starts_the_wait_anew_and_a_foreign_label_does_not() {
        let first = read(None, &held_by("other", 1_000), "7", s(100));
        let renewed = read(Some(&first), &held_by("other", 1_002), "8", s(102));
        assert_eq!(step(&renewed, &[], s(116), timing()), Step::Wait { until: s(117) });
        let labelled = read(Some(&renewed), &held_by("other", 1_002), "9", s(110));
        assert_eq!(step(&labelled, &[], s(117), timing()), acquire("9"), "and the write must find the new version");
        let backwards = read(Some(&labelled), &held_by("other", 900), "10", s(118));
        assert_eq!(step(&backwards, &[], s(132), timing()), Step::Wait { until: s(133) }, "its clock was set back");
        let taken = read(Some(&backwards), &held_by("third", 900), "11", s(133));
        assert_eq!(step(&taken, &[], s(133), timing()), Step::Wait { until: s(148) }, "another was faster");
    }

    #[test]
    fn a_lease_that_was_deleted_under_its_holder_is_not_taken_before_the_holder_must_have_noticed() {
        let held = read(None, &held_by("other", 1_000), "7", s(100));
        let gone = absent(Some(&held), s(101));
        assert_eq!(step(&gone, &[], s(101), timing()), Step::Wait { until: s(116) });
        let still = absent(Some(&gone), s(110));
        assert_eq!(step(&still, &[], s(115), timing()), Step::Wait { until: s(116) });
        assert_eq!(step(&still, &[], s(116), timing()), Step::Create);
    }

    #[test]
    fn a_longer_promise_of_the_holder_counts_and_a_shorter_or_absurd_one_does_not() {
        for (promised, expected) in
            [(None, 15), (Some(s(0)), 15), (Some(s(1)), 15), (Some(s(60)), 60), (Some(s(86_400)), 600)]
        {
            let record = Record { lease: promised, ..held_by("other", 1_000) };
            let seen = read(None, &record, "7", s(0));
            assert_eq!(step(&seen, &[], s(0), timing()), Step::Wait { until: s(expected) }, "{promised:?}");
        }
    }

    #[test]
    fn a_write_whose_answer_was_lost_leads_from_when_it_was_sent_and_only_while_it_is_young() {
        let lost = Attempt { record: held_by("me", 1_000), sent: s(50) };
        let newer = Attempt { record: held_by("me", 1_005), sent: s(55) };
        let attempts = [lost.clone(), newer];
        let seen = read(None, &lost.record, "7", s(58));
        let hold = Step::Hold { sent: s(50), version: "7".to_owned() };
        assert_eq!(step(&seen, &attempts, s(58), timing()), hold);
        assert_eq!(step(&seen, &attempts, s(59), timing()), hold);
        assert_eq!(step(&seen, &attempts, s(60), timing()), acquire("7"), "renewed before it is led by");
    }

    #[test]
    fn a_record_with_this_process_name_that_it_did_not_write_is_somebody_elses() {
        let mine = Attempt { record: held_by("me", 1_000), sent: s(50) };
        let namesake = read(None, &held_by("me", 1_001), "7", s(51));
        assert_eq!(step(&namesake, &[], s(51), timing()), Step::Wait { until: s(66) });
        assert_eq!(step(&namesake, &[mine], s(51), timing()), Step::Wait { until: s(66) });
    }

    /// Every schedule of one leader's renewals, losses and readings of one candidate, in half seconds: what the leader
    /// does last comes before what the candidate does first.
    #[test]
    fn a_candidate_never_takes_over_before_the_leaders_deadline_has_passed() {
        let half = |n: u64| Duration::from_millis(500 * n);
        let mut taken = 0;
        // The leader renews every two seconds until `last`; each write arrives `late` after it was sent.
        for last in 0..12_u64 {
            for late in 0..8_u64 {
                for (phase, period) in [(0, 4), (1, 4), (3, 4), (0, 1), (2, 7)] {
                    let sends: Vec<u64> = (0..=last).map(|n| 4 * n).collect();
                    let deadline = half(4 * last) + timing().renew_deadline;
                    let mut observed = None;
                    let mut at = phase;
                    loop {
                        let written = sends.iter().rposition(|sent| sent + late <= at);
                        let look = written.map(|n| (held_by("leader", 1_000 + n as i64), n.to_string()));
                        if look.is_some() || observed.is_some() {
                            let seen = Observed::after(observed.as_ref(), look, half(at), timing());
                            match step(&seen, &[], half(at), timing()) {
                                Step::Acquire { .. } => {
                                    assert!(half(at) > deadline, "last {last} late {late} at {at}");
                                    taken += 1;
                                    break;
                                }
                                Step::Wait { until } => assert!(until > half(at)),
                                Step::Create | Step::Hold { .. } => panic!("there is a Lease of somebody else"),
                            }
                            observed = Some(seen);
                        }
                        at += period;
                        assert!(at < 400, "the candidate waits for ever");
                    }
                }
            }
        }
        assert_eq!(taken, 12 * 8 * 5);
    }
}
