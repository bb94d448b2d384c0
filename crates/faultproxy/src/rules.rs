//! The decision: what happens to one request, given the rules in force and the counts so far. No I/O.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    request::{Forbidden, RequestInfo, RequestMatch, Verb},
    watch::EventMatch,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u64);

/// On which side of the forwarding a stop happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The server never sees the request.
    BeforeForward,
    /// The server has answered; the client never learns it.
    AfterForward,
}

/// An answer in place of the server's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 409 `Conflict`; not forwarded.
    Conflict,
    /// 429 with `Retry-After`, whole seconds; not forwarded.
    TooManyRequests { retry_after: u32 },
    /// 500 `InternalError`; not forwarded.
    InternalError,
    /// 503 `ServiceUnavailable`; not forwarded.
    Unavailable,
    /// 504 `Timeout` after the request was forwarded and done.
    GatewayTimeoutAfterCommit,
}

/// How often a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Until it is lifted.
    UntilLifted,
    /// The first `n` matching requests.
    First(u64),
    /// The `n`-th matching request only, counted from 1.
    Nth(u64),
}

impl Times {
    /// Whether the `n`-th match (from 1) is acted on.
    pub const fn covers(self, n: u64) -> bool {
        match self {
            Self::UntilLifted => true,
            Self::First(most) => n <= most,
            Self::Nth(which) => n == which,
        }
    }
}

/// A way to break the connection between a client and its API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// At the `nth` matching request (from 1, counted from when the rule is added) the connection is closed without an
    /// answer, and every request after it is refused the same way until the rule is lifted: the client's process may
    /// as well have been cut off there.
    StopAt {
        /// Which requests count; [`RequestMatch::mutating`] for "the n-th write".
        which: RequestMatch,
        /// Which of them, from 1.
        nth: u64,
        /// Whether that request still takes effect.
        when: When,
    },
    /// An answer that the server did not give.
    Answer { which: RequestMatch, answer: Answer, times: Times },
    /// Requests wait before anything else happens to them.
    Delay { which: RequestMatch, by: Duration, times: Times },
    /// Events are taken out of watch streams, and stay lost: a later watch that would show them again does not.
    HideEvents { which: RequestMatch, events: EventMatch },
    /// The first answer to each matching GET or LIST is kept, and given again until the rule is lifted.
    OldVersion { which: RequestMatch },
}

/// The rules in force, in the order in which they were added.
pub(crate) type Rules = BTreeMap<RuleId, Rule>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    matched: BTreeMap<RuleId, u64>,
    tripped: Option<RuleId>,
}

impl Counters {
    pub(crate) fn matched(&self, rule: RuleId) -> u64 {
        self.matched.get(&rule).copied().unwrap_or(0)
    }

    /// The stop that is in effect, if any.
    pub(crate) const fn tripped(&self) -> Option<RuleId> {
        self.tripped
    }

    /// Takes a decision into account. Every decision is applied exactly once, before the next is made.
    pub(crate) fn apply(&mut self, decision: &Decision) {
        for rule in &decision.counted {
            *self.matched.entry(*rule).or_insert(0) += 1;
        }
        match decision.act {
            Act::StopBefore(rule) | Act::StopAfter(rule) => self.tripped = Some(rule),
            Act::Refuse(_)
            | Act::Forbid(_)
            | Act::Answer(..)
            | Act::ForwardThenAnswer(..)
            | Act::OldVersion(_)
            | Act::Forward => {}
        }
    }

    pub(crate) fn forget(&mut self, rule: RuleId) {
        self.matched.remove(&rule);
        if self.tripped == Some(rule) {
            self.tripped = None;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A stop is in effect: close the connection.
    Refuse(RuleId),
    /// The deny-list: answer 403, remember.
    Forbid(Forbidden),
    /// Close the connection; the server sees nothing.
    StopBefore(RuleId),
    /// Forward, wait for the server's answer, close the connection.
    StopAfter(RuleId),
    Answer(RuleId, Answer),
    /// Forward, then answer in the server's place.
    ForwardThenAnswer(RuleId, Answer),
    /// Answer from the record; forward and record if there is none.
    OldVersion(RuleId),
    Forward,
}

/// The whole decision on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Rules whose count goes up by one.
    pub counted: Vec<RuleId>,
    /// Rules that make it wait, and how long in all.
    pub delays: Vec<RuleId>,
    pub delay: Duration,
    pub act: Act,
    /// Rules that filter the stream, if it is a watch.
    pub filters: Vec<RuleId>,
}

/// Decides on one request.
///
/// Order: a stop in effect refuses everything. What the deny-list names is refused next, whatever other
/// rules say. Then stops, then answers, then old versions, each kind in the order in which it was added: the first
/// that covers the request acts. Every rule that matches is counted, whether it acted or not, so that "the n-th" means
/// the client's n-th. Delays add up and come before the act.
pub(crate) fn decide(rules: &Rules, info: &RequestInfo, counters: &Counters) -> Decision {
    let mut decision = Decision {
        counted: Vec::new(),
        delays: Vec::new(),
        delay: Duration::ZERO,
        act: Act::Forward,
        filters: Vec::new(),
    };
    if let Some(id) = counters.tripped {
        decision.act = Act::Refuse(id);
        return decision;
    }
    if let Some(forbidden) = &info.forbidden {
        decision.act = Act::Forbid(forbidden.clone());
        return decision;
    }
    let (mut stop, mut answered, mut old) = (None, None, None);
    for (&id, rule) in rules {
        let mut count = |which: &RequestMatch| {
            which.matches(info).then(|| {
                decision.counted.push(id);
                counters.matched(id) + 1
            })
        };
        match rule {
            Rule::StopAt { which, nth, when } => {
                if count(which) == Some(*nth) && stop.is_none() {
                    stop = Some(match when {
                        When::BeforeForward => Act::StopBefore(id),
                        When::AfterForward => Act::StopAfter(id),
                    });
                }
            }
            Rule::Answer { which, answer, times } => {
                if count(which).is_some_and(|n| times.covers(n)) && answered.is_none() {
                    answered = Some(match answer {
                        Answer::GatewayTimeoutAfterCommit => Act::ForwardThenAnswer(id, *answer),
                        Answer::Conflict
                        | Answer::TooManyRequests { .. }
                        | Answer::InternalError
                        | Answer::Unavailable => Act::Answer(id, *answer),
                    });
                }
            }
            Rule::Delay { which, by, times } => {
                if count(which).is_some_and(|n| times.covers(n)) {
                    decision.delays.push(id);
                    decision.delay += *by;
                }
            }
            Rule::HideEvents { which, events: _ } => {
                if info.verb == Verb::Watch && count(which).is_some() {
                    decision.filters.push(id);
                }
            }
            Rule::OldVersion { which } => {
                if matches!(info.verb, Verb::Get | Verb::List) && count(which).is_some() && old.is_none() {
                    old = Some(Act::OldVersion(id));
                }
            }
        }
    }
    decision.act = stop.or(answered).or(old).unwrap_or(Act::Forward);
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> RequestInfo {
        RequestInfo::parse("GET", "/api/v1/namespaces/a/configmaps/c")
    }
    fn put() -> RequestInfo {
        RequestInfo::parse("PUT", "/api/v1/namespaces/a/configmaps/c")
    }
    fn watch() -> RequestInfo {
        RequestInfo::parse("GET", "/api/v1/namespaces/a/configmaps?watch=true")
    }
    fn rules(list: Vec<Rule>) -> Rules {
        (1..).map(RuleId).zip(list).collect()
    }
    fn run(rules: &Rules, requests: &[RequestInfo]) -> Vec<Act> {
        let mut counters = Counters::default();
        requests
            .iter()
            .map(|info| {
                let decision = decide(rules, info, &counters);
                counters.apply(&decision);
                decision.act
            })
            .collect()
    }
    const R1: RuleId = RuleId(1);
    const R2: RuleId = RuleId(2);

    #[test]
    fn without_rules_everything_is_forwarded() {
        assert_eq!(run(&Rules::new(), &[get(), put(), watch()]), [Act::Forward, Act::Forward, Act::Forward]);
    }

    #[test]
    fn a_stop_counts_writes_only_and_refuses_everything_after_it() {
        for (when, act) in [(When::BeforeForward, Act::StopBefore(R1)), (When::AfterForward, Act::StopAfter(R1))] {
            let rules = rules(vec![Rule::StopAt { which: RequestMatch::mutating(), nth: 2, when }]);
            assert_eq!(
                run(&rules, &[put(), get(), put(), get(), watch(), put()]),
                [Act::Forward, Act::Forward, act, Act::Refuse(R1), Act::Refuse(R1), Act::Refuse(R1)]
            );
        }
    }

    #[test]
    fn a_lifted_stop_lets_everything_pass() {
        let mut rules =
            rules(vec![Rule::StopAt { which: RequestMatch::mutating(), nth: 1, when: When::BeforeForward }]);
        let mut counters = Counters::default();
        counters.apply(&decide(&rules, &put(), &counters));
        assert_eq!(counters.tripped(), Some(R1));
        rules.remove(&R1);
        counters.forget(R1);
        assert_eq!(decide(&rules, &put(), &counters).act, Act::Forward);
    }

    #[test]
    fn forgetting_another_rule_keeps_the_stop() {
        let rules = rules(vec![Rule::StopAt { which: RequestMatch::mutating(), nth: 1, when: When::BeforeForward }]);
        let mut counters = Counters::default();
        counters.apply(&decide(&rules, &put(), &counters));
        counters.forget(R2);
        assert_eq!(decide(&rules, &put(), &counters).act, Act::Refuse(R1));
    }

    #[test]
    fn each_answer_is_given_as_often_as_it_says() {
        for answer in
            [Answer::Conflict, Answer::TooManyRequests { retry_after: 1 }, Answer::InternalError, Answer::Unavailable]
        {
            let act = Act::Answer(R1, answer);
            let which = RequestMatch::verb(Verb::Update);
            let with = |times| rules(vec![Rule::Answer { which: which.clone(), answer, times }]);
            let three = [put(), get(), put(), put()];
            let pass = Act::Forward;
            assert_eq!(run(&with(Times::First(2)), &three), [act.clone(), pass.clone(), act.clone(), pass.clone()]);
            assert_eq!(run(&with(Times::Nth(2)), &three), [pass.clone(), pass.clone(), act.clone(), pass.clone()]);
            assert_eq!(run(&with(Times::UntilLifted), &three), [act.clone(), pass, act.clone(), act]);
        }
    }

    #[test]
    fn a_timeout_after_commit_is_forwarded_first() {
        let answer = Answer::GatewayTimeoutAfterCommit;
        let rules = rules(vec![Rule::Answer { which: RequestMatch::mutating(), answer, times: Times::First(1) }]);
        assert_eq!(run(&rules, &[put(), put()]), [Act::ForwardThenAnswer(R1, answer), Act::Forward]);
    }

    #[test]
    fn delays_add_up_and_come_with_whatever_else_happens() {
        let delay =
            |ms| Rule::Delay { which: RequestMatch::any(), by: Duration::from_millis(ms), times: Times::First(1) };
        let rules = rules(vec![
            delay(10),
            delay(20),
            Rule::Answer { which: RequestMatch::any(), answer: Answer::Conflict, times: Times::UntilLifted },
        ]);
        let mut counters = Counters::default();
        let first = decide(&rules, &get(), &counters);
        assert_eq!(first.delay, Duration::from_millis(30));
        assert_eq!(first.delays, [R1, R2]);
        assert_eq!(first.act, Act::Answer(RuleId(3), Answer::Conflict));
        counters.apply(&first);
        assert_eq!(decide(&rules, &get(), &counters).delay, Duration::ZERO);
    }

    #[test]
    fn only_watches_are_filtered_and_only_reads_are_old() {
        let rules = rules(vec![
            Rule::HideEvents { which: RequestMatch::any(), events: EventMatch::default() },
            Rule::OldVersion { which: RequestMatch::any() },
        ]);
        let counters = Counters::default();
        let on_watch = decide(&rules, &watch(), &counters);
        assert_eq!((on_watch.filters, on_watch.act), (vec![R1], Act::Forward));
        let on_get = decide(&rules, &get(), &counters);
        assert_eq!((on_get.filters, on_get.act), (vec![], Act::OldVersion(R2)));
        let on_put = decide(&rules, &put(), &counters);
        assert_eq!((on_put.filters, on_put.act), (vec![], Act::Forward));
    }

    #[test]
    fn a_stop_goes_before_an_answer_and_an_answer_before_an_old_version() {
        let old = Rule::OldVersion { which: RequestMatch::any() };
        let answer =
            Rule::Answer { which: RequestMatch::any(), answer: Answer::Unavailable, times: Times::UntilLifted };
        let stop = Rule::StopAt { which: RequestMatch::any(), nth: 2, when: When::BeforeForward };
        assert_eq!(
            run(&rules(vec![old, answer, stop]), &[get(), get()]),
            [Act::Answer(R2, Answer::Unavailable), Act::StopBefore(RuleId(3))]
        );
    }

    #[test]
    fn the_first_of_two_answers_wins_and_both_are_counted() {
        let answer = |answer| Rule::Answer { which: RequestMatch::any(), answer, times: Times::First(1) };
        let rules = rules(vec![answer(Answer::Conflict), answer(Answer::Unavailable)]);
        assert_eq!(run(&rules, &[get(), get()]), [Act::Answer(R1, Answer::Conflict), Act::Forward]);
    }

    #[test]
    fn the_deny_list_goes_before_every_rule_but_a_stop_in_effect() {
        let mut bad = put();
        bad.forbidden = Some(Forbidden::VolumeAttachmentDelete);
        let rules = rules(vec![
            Rule::Answer { which: RequestMatch::any(), answer: Answer::Conflict, times: Times::UntilLifted },
            Rule::StopAt { which: RequestMatch::verb(Verb::Get), nth: 1, when: When::BeforeForward },
        ]);
        assert_eq!(
            run(&rules, &[bad.clone(), get(), bad]),
            [Act::Forbid(Forbidden::VolumeAttachmentDelete), Act::StopBefore(R2), Act::Refuse(R2)]
        );
    }
}
