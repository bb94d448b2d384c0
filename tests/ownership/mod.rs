//! Who may write what, on a real API server: the resources' own rules, the chart's policies, and what is said
//! to who breaks them. What the lifecycle holds for the rules is the oracle.

mod good_and_bad_builds;
mod guard_policy;
mod pods;
mod records;
mod stages;
mod support;
mod tenants;

use std::collections::BTreeSet;

use indexbuild_testbed::{Options, tools_or_skip};
use serde_json::Value;
use support::{Caller, OPERATOR};

/// One cluster for all that needs no node: the rules of the resources and of the policies.
#[test]
fn the_api_server_accepts_and_refuses_what_the_lifecycle_does_and_says_the_same() {
    let Some(tools) = tools_or_skip("the rules on a real API server") else { return };
    let cluster = support::cluster(&tools, Options { nodes: 0, ..Options::default() });
    support::allow_everything(&cluster, &[OPERATOR, "system:serviceaccount:shop:executor", "somebody"]);
    let forward = cluster.forward_api().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();

    policies_are_well_typed(&cluster);
    good_and_bad_builds::good_builds_are_accepted_and_bad_ones_refused_with_the_message_of_their_head(&tools, &cluster);
    runtime.block_on(async {
        let client = support::client(&forward).await;
        records::specs_follow_each_other_by_the_rules_of_the_lifecycle(&client).await;
        records::statuses_follow_each_other_by_the_rules_of_the_lifecycle(&client, &cluster).await;
        records::nobody_but_the_operator_writes_a_spec(&client, &cluster).await;
        stages::nobody_but_the_operator_freezes_and_kubernetes_removes(&client, &cluster).await;
        guard_policy::the_operator_is_refused_what_it_must_never_do(&client, &cluster).await;
    });
}

#[test]
fn a_stale_pod_a_strangers_pod_and_the_operator_are_refused_from_inside_their_containers() {
    let Some(tools) = tools_or_skip("who speaks for a slot, from inside running containers") else { return };
    let cluster = support::cluster(&tools, Options { nodes: 1, ..Options::default() });
    pods::each_is_refused_what_is_not_its_own_and_with_the_binding_removed_it_succeeds(&tools, &cluster);
}

/// The API server itself finds nothing in the policies that some resource does not have.
fn policies_are_well_typed(cluster: &indexbuild_testbed::Cluster) {
    for policy in support::POLICIES {
        let checked = cluster.wait("the policies are checked", std::time::Duration::from_secs(30), |cluster| {
            let policy = cluster.get(&["validatingadmissionpolicy", policy])?;
            let status = &policy["status"];
            let current = status["observedGeneration"] == policy["metadata"]["generation"];
            Ok(if current { Ok(status["typeChecking"]["expressionWarnings"].clone()) } else { Err(status.to_string()) })
        });
        let warnings = checked.unwrap();
        assert!(warnings.is_null(), "{policy}: {warnings}");
    }
}

/// A new property of a record's status would be anybody's to write until the policy names it.
#[test]
fn the_owner_policy_names_each_property_of_a_records_status() {
    let crd = serde_json::to_value(&indexbuild_api::crds()[1]).unwrap();
    assert_eq!(crd["spec"]["names"]["plural"], "enginedirectories");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let properties: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(properties.len() >= 6, "{properties:?}");
    let text = include_str!("../../charts/indexbuild/templates/policies.yaml");
    let policy = text.split("kind: ValidatingAdmissionPolicyBinding").next().unwrap();
    for property in properties {
        for side in ["object", "oldObject"] {
            let compared = format!("{side}.status.{property}");
            let named = policy
                .match_indices(&compared)
                .any(|(at, found)| !policy[at + found.len()..].starts_with(|next: char| next.is_ascii_alphanumeric()));
            assert!(named, "the policy does not compare {compared}: who may write it?");
        }
    }
}

/// The words by which the lifecycle, the operator's trial and executors know a refusal are the chart's.
#[test]
fn the_policies_say_what_the_lifecycle_says() {
    use indexbuild_lifecycle::admission::{FROZEN_IS_IMMUTABLE, ONLY_THE_OPERATOR, ONLY_THE_OPERATOR_FREEZES, Refusal};
    let text = include_str!("../../charts/indexbuild/templates/policies.yaml");
    let all = [
        Refusal::NotOwner,
        Refusal::NotOperator,
        Refusal::StaleReport,
        Refusal::ForeignClaim,
        Refusal::SecondClaim,
        Refusal::StaleResult,
        Refusal::ResultChanged,
        Refusal::ForeignRelease,
        Refusal::ReleaseTakenBack,
        Refusal::AfterRelease,
    ];
    let more = [ONLY_THE_OPERATOR, ONLY_THE_OPERATOR_FREEZES, FROZEN_IS_IMMUTABLE];
    for words in all.map(|refusal| refusal.to_string()).iter().map(String::as_str).chain(more) {
        let said = |line: &str| line.trim().trim_start_matches("message: ").trim_matches('"') == words;
        assert!(text.lines().any(said), "no policy says: {words}");
    }
}

/// An administrator of the cluster, whom rules about the operator do not concern.
const ADMINISTRATOR: Caller<'static> = Caller { user: "somebody", pod_uid: "" };
/// The operator, from its pod.
const THE_OPERATOR: Caller<'static> = Caller { user: OPERATOR, pod_uid: "operators-own-pod" };

/// A merge of two JSON objects: what `more` names is replaced.
fn with(mut object: Value, more: &Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut object, more) {
        for (key, value) in more {
            fields.insert(key.clone(), value.clone());
        }
    }
    object
}
