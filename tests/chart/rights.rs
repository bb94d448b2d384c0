//! Rights: what the operator may do, rule by rule.

use std::collections::BTreeSet;

use indexbuild_operator::objects::{self, Owner};
use indexbuild_testbed::tools_or_skip;
use serde_json::Value;

use super::support::{chart, documents, of_kind, template};

/// A right: group, resource with its subresource, verb.
pub(super) type Right = (String, String, String);

/// The rights that rules give.
pub(super) fn rights<'a>(rules: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Right> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

/// The rules of the operator, of all its roles.
pub(super) fn operators_rules(documents: &[Value]) -> Vec<Value> {
    let roles = of_kind(documents, "ClusterRole").into_iter().chain(of_kind(documents, "Role"));
    roles
        .filter(|role| role["metadata"]["name"].as_str().unwrap().starts_with("indexbuild-operator"))
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect()
}

#[test]
fn no_rule_of_the_chart_has_a_wildcard_and_the_operator_reads_no_secret_and_gives_itself_no_rights() {
    let Some(tools) = tools_or_skip("the chart's roles") else { return };
    let all = documents(&template(&tools, &[]).unwrap());
    let roles: Vec<_> = of_kind(&all, "ClusterRole").into_iter().chain(of_kind(&all, "Role")).collect();
    assert!(roles.len() >= 4);
    for role in roles {
        let text = role["rules"].to_string();
        assert!(!text.contains('*'), "{text}");
        for word in ["\"secrets\"", "\"escalate\"", "\"bind\"", "\"impersonate\""] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    let rights = rights(&operators_rules(&all));
    for (group, resource, verb) in &rights {
        let reads = ["get", "list", "watch"].contains(&verb.as_str());
        let of_the_cluster = ["nodes", "persistentvolumes", "volumeattachments", "storageclasses", "namespaces"];
        assert!(reads || !of_the_cluster.contains(&resource.as_str()), "{group} {resource} {verb}");
        assert!(verb != "update" && verb != "deletecollection", "{group} {resource} {verb}");
    }
}

/// Else the API server refuses the roles that it makes for executors: it has no `escalate`.
#[test]
fn the_operator_holds_all_that_it_grants_to_executors() {
    let Some(tools) = tools_or_skip("what the operator grants") else { return };
    let all = documents(&template(&tools, &[]).unwrap());
    let held = rights(&operators_rules(&all));
    let owner = Owner { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: "0b7e1c9a".to_owned() };
    let role = serde_json::to_value(objects::role(&owner, 0..2, &["plan".to_owned()])).unwrap();
    let granted = rights(role["rules"].as_array().unwrap());
    assert!(granted.len() >= 4);
    let lacking: Vec<_> = granted.difference(&held).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[test]
fn each_rule_of_the_operator_says_why_it_is_there() {
    let mut rules = 0;
    for (path, text) in super::support::texts(&chart().join("templates"), &["yaml", "tpl"]) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- apiGroups:")) {
            let reason = at > 0 && lines[at - 1].starts_with("# ");
            assert!(reason, "{}:{}: {line} has no reason above it", path.display(), at + 1);
            rules += 1;
        }
    }
    assert!(rules >= 15, "{rules}");
}
