//! The status of a build about which nothing is decided: what it asks for cannot be done here, or something of it cannot
//! be read.

use indexbuild_api::{ConditionStatus, ConditionType, IndexBuildSpec, IndexBuildStatus, Reason, Unreadable};

use super::conditions::{beside, dated};
use crate::action::Event;

/// The status of a build that names a place which means something on one machine only, for executors on many. `None`: it
/// names none.
#[must_use]
pub fn unsupported(
    spec: &IndexBuildSpec,
    generation: i64,
    before: Option<&IndexBuildStatus>,
    wall: &str,
) -> Option<IndexBuildStatus> {
    let message = one_machine(spec)?;
    let all = [
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Stalled, ConditionStatus::True),
        (ConditionType::Reconciling, ConditionStatus::False),
        (ConditionType::Progressing, ConditionStatus::False),
        (ConditionType::Complete, ConditionStatus::False),
        (ConditionType::Finished, ConditionStatus::False),
    ];
    let list = all.map(|(condition, holds)| (condition, holds, Reason::UnsupportedSpec, message.clone()));
    // Nothing else is known of a build that nobody works for.
    let conditions = dated(&before.cloned().unwrap_or_default(), generation, wall, list.to_vec());
    Some(IndexBuildStatus { observed_generation: generation, conditions, ..IndexBuildStatus::default() })
}

fn one_machine(spec: &IndexBuildSpec) -> Option<String> {
    let source = spec.source.files().flat_map(|files| files.urls);
    let mut places = source.map(|url| ("spec.source", url)).chain([("spec.output.url", &spec.output.url)]);
    let (field, url) = places.find(|(_, url)| url.starts_with("file:"))?;
    Some(format!(
        "{field} names {url}: executors run on different machines, which see no common files; put the files into an object store (s3://, gs://, az://) and make a new build, or use `indexbuild run` on one machine"
    ))
}

/// What people are told of objects that cannot be read.
#[must_use]
pub fn unreadable_event(objects: &[Unreadable]) -> Event {
    let message = objects.iter().map(describe).collect::<Vec<_>>().join("; ");
    Event { reason: Reason::Unreadable, warning: true, message }
}

/// The status of a build of which objects cannot be read, whoever works for it meanwhile. `None`: it has finished, and
/// stays as it is.
#[must_use]
pub fn unreadable(objects: &[Unreadable], before: Option<&IndexBuildStatus>, wall: &str) -> Option<IndexBuildStatus> {
    let before = before.cloned().unwrap_or_default();
    if before.condition(ConditionType::Finished).is_some_and(|finished| finished.status == ConditionStatus::True) {
        return None;
    }
    let Event { reason, warning: _, message } = unreadable_event(objects);
    let ready = before.condition(ConditionType::Ready).map_or(ConditionStatus::False, |ready| ready.status);
    let list = vec![
        (ConditionType::Ready, ready, reason, message.clone()),
        (ConditionType::Stalled, ConditionStatus::True, reason, message),
    ];
    let conditions = beside(&before, dated(&before, before.observed_generation, wall, list));
    Some(IndexBuildStatus { conditions, ..before })
}

/// What cannot be read, in words: which object, why, what follows, and what to do.
fn describe(unreadable: &Unreadable) -> String {
    let Unreadable { kind, api_version: _, namespace, name, uid: _, why: _ } = unreadable;
    let place = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
    let kind = kind.to_lowercase();
    format!(
        "{unreadable}; nothing is decided about its build until it can be read; `kubectl edit {kind} {name}{place}` corrects it, \
         or a newer operator reads it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_one_machine_is_refused_with_the_way_out() {
        let mut spec = IndexBuildSpec::default();
        spec.output.url = "s3://bucket/x".to_owned();
        assert_eq!(unsupported(&spec, 1, None, "t1"), None);
        spec.output.url = "file:///tmp/x".to_owned();
        let first = unsupported(&spec, 1, None, "t1").unwrap();
        let stalled = first.condition(ConditionType::Stalled).unwrap();
        assert!(stalled.status == ConditionStatus::True && stalled.reason == Reason::UnsupportedSpec);
        assert!(stalled.message.contains("spec.output.url") && stalled.message.contains("indexbuild run"));
        let second = unsupported(&spec, 1, Some(&first), "t2");
        assert_eq!(second, Some(first), "it keeps the time since when it is so");
    }

    #[test]
    fn what_is_told_of_an_unreadable_object_names_it_the_cause_and_the_way_out() {
        let build = Unreadable {
            kind: "IndexBuild".to_owned(),
            api_version: "indexbuild.dev/v1alpha1".to_owned(),
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            uid: "u".to_owned(),
            why: "\"100Ei\" is more than 16Ei".to_owned(),
        };
        let event = unreadable_event(std::slice::from_ref(&build));
        for part in [
            "IndexBuild shop/orders cannot be read",
            "100Ei",
            "nothing is decided",
            "kubectl edit indexbuild orders -n shop",
        ] {
            assert!(event.message.contains(part), "{}", event.message);
        }
        let status = unreadable(std::slice::from_ref(&build), None, "t").unwrap();
        assert_eq!(status.condition(ConditionType::Stalled).unwrap().message, event.message);
        let node = Unreadable { kind: "Node".to_owned(), namespace: String::new(), name: "n1".to_owned(), ..build };
        let event = unreadable_event(&[node]);
        assert!(event.message.contains("`kubectl edit node n1`"), "{}", event.message);
    }

    #[test]
    fn a_build_that_has_finished_stays_as_it_is() {
        let list = vec![(ConditionType::Finished, ConditionStatus::True, Reason::Published, String::new())];
        let conditions = dated(&IndexBuildStatus::default(), 1, "t", list);
        let finished = IndexBuildStatus { conditions, ..IndexBuildStatus::default() };
        assert_eq!(unreadable(&[], Some(&finished), "t"), None);
    }
}
