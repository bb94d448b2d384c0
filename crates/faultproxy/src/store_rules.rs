//! What happens to one request to an object store, given the rules in force. No I/O.

use std::collections::BTreeMap;

use crate::rules::{RuleId, Times};

/// What a request asks of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreOp {
    /// An object (or a range of it) is read.
    Get,
    /// An object's properties are read.
    Head,
    List,
    /// A whole object is put.
    Put,
    /// A part of a multipart upload is put.
    UploadPart,
    /// A multipart upload is begun.
    CreateMultipart,
    CompleteMultipart,
    /// A multipart upload is given up.
    AbortMultipart,
    /// An object is deleted, or several.
    Delete,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    pub op: StoreOp,
    /// Path, percent-encoded as sent: `/bucket/key`.
    pub path: String,
}

impl StoreRequest {
    /// Reads method and target (path and query), path-style addressing.
    #[must_use]
    pub fn parse(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let has = |key: &str| query.split('&').any(|p| p.split('=').next() == Some(key));
        let object = path.trim_matches('/').contains('/');
        let op = match method {
            "GET" if object && !has("uploadId") => StoreOp::Get,
            "GET" => StoreOp::List,
            "HEAD" => StoreOp::Head,
            "PUT" if has("partNumber") => StoreOp::UploadPart,
            "PUT" if object => StoreOp::Put,
            "POST" if has("uploads") => StoreOp::CreateMultipart,
            "POST" if has("uploadId") => StoreOp::CompleteMultipart,
            "POST" if has("delete") => StoreOp::Delete,
            "DELETE" if has("uploadId") => StoreOp::AbortMultipart,
            "DELETE" => StoreOp::Delete,
            _ => StoreOp::Other,
        };
        Self { op, path: path.to_owned() }
    }
}

/// Which requests a rule is about. Empty fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreMatch {
    op: Option<StoreOp>,
    contains: Option<String>,
}

impl StoreMatch {
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn op(op: StoreOp) -> Self {
        Self { op: Some(op), contains: None }
    }

    /// Only where the path has this in it.
    #[must_use]
    pub fn path(mut self, contains: &str) -> Self {
        self.contains = Some(contains.to_owned());
        self
    }

    /// Whether a request is meant.
    pub fn matches(&self, info: &StoreRequest) -> bool {
        let Self { op, contains } = self;
        op.is_none_or(|op| op == info.op) && contains.as_ref().is_none_or(|c| info.path.contains(c.as_str()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreEffect {
    /// The store does it; the connection is closed without an answer.
    LoseReply,
    /// 503 `SlowDown`, not forwarded.
    SlowDown,
    /// The connection is closed after this many bytes: of what is sent for a PUT, of what is answered otherwise.
    CutAfter(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRule {
    pub which: StoreMatch,
    pub times: Times,
    pub effect: StoreEffect,
}

/// Decides on one request: the rules whose count goes up, and what the first that covers it does.
#[must_use]
pub fn decide(
    rules: &BTreeMap<RuleId, StoreRule>,
    info: &StoreRequest,
    matched: &BTreeMap<RuleId, u64>,
) -> (Vec<RuleId>, Option<(RuleId, StoreEffect)>) {
    let counted: Vec<RuleId> = rules.iter().filter(|(_, rule)| rule.which.matches(info)).map(|(id, _)| *id).collect();
    let acts = counted.iter().find_map(|id| {
        let rule = rules.get(id)?;
        let n = matched.get(id).copied().unwrap_or(0) + 1;
        rule.times.covers(n).then_some((*id, rule.effect))
    });
    (counted, acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (method, target, op) in [
            ("GET", "/b/k", StoreOp::Get),
            ("GET", "/b?list-type=2", StoreOp::List),
            ("GET", "/b/?list-type=2", StoreOp::List),
            ("HEAD", "/b/k", StoreOp::Head),
            ("PUT", "/b/k", StoreOp::Put),
            ("PUT", "/b", StoreOp::Other),
            ("PUT", "/b/k?partNumber=1&uploadId=u", StoreOp::UploadPart),
            ("POST", "/b/k?uploads", StoreOp::CreateMultipart),
            ("POST", "/b/k?uploads=", StoreOp::CreateMultipart),
            ("POST", "/b/k?uploadId=u", StoreOp::CompleteMultipart),
            ("DELETE", "/b/k?uploadId=u", StoreOp::AbortMultipart),
            ("DELETE", "/b/k", StoreOp::Delete),
            ("POST", "/b?delete", StoreOp::Delete),
            ("PATCH", "/b/k", StoreOp::Other),
        ] {
            assert_eq!(StoreRequest::parse(method, target).op, op, "{method} {target}");
        }
    }

    #[test]
    fn the_nth_is_counted_per_rule_and_the_first_that_covers_acts() {
        let put = StoreRequest::parse("PUT", "/b/k");
        let get = StoreRequest::parse("GET", "/b/k");
        let rule = |op, times, effect| StoreRule { which: StoreMatch::op(op), times, effect };
        let rules = BTreeMap::from([
            (RuleId(1), rule(StoreOp::Put, Times::Nth(2), StoreEffect::LoseReply)),
            (RuleId(2), rule(StoreOp::Put, Times::UntilLifted, StoreEffect::SlowDown)),
            (RuleId(3), rule(StoreOp::Get, Times::First(1), StoreEffect::CutAfter(3))),
        ]);
        let none = BTreeMap::new();
        assert_eq!(decide(&rules, &put, &none), (vec![RuleId(1), RuleId(2)], Some((RuleId(2), StoreEffect::SlowDown))));
        let one = BTreeMap::from([(RuleId(1), 1), (RuleId(3), 1)]);
        assert_eq!(decide(&rules, &put, &one).1, Some((RuleId(1), StoreEffect::LoseReply)));
        assert_eq!(decide(&rules, &get, &none).1, Some((RuleId(3), StoreEffect::CutAfter(3))));
        assert_eq!(decide(&rules, &get, &one).1, None);
        assert!(!StoreMatch::op(StoreOp::Put).path("other").matches(&put));
    }
}
