//! What `/metrics` says, and its table in the docs.

use super::*;

#[test]
fn everything_has_its_name_its_labels_and_its_number() {
    let metrics = Metrics::new();
    metrics.set_builds([Phase::Sorting, Phase::Sorting, Phase::Failed]);
    metrics.set_slots([DirectoryState::Working, DirectoryState::Silent]);
    metrics.set_volumes(VolumeCounts { held: 3, stranded: 1, retained: 2 });
    metrics.set_unreadable(&BTreeMap::from([("Pod".to_owned(), 2)]));
    metrics.reconciled(ReconcileResult::Success, Duration::from_millis(20));
    metrics.reconciled(ReconcileResult::Error, Duration::from_secs(2));
    metrics.acted(&Action::AddFinalizer);
    metrics.left_behind(Reason::NamespaceDeleted);
    metrics.ended(BuildEnd::Failed);
    metrics.set_stalled([Reason::WaitingForVolume, Reason::MissingPermission]);
    metrics.set_stalled([Reason::MissingPermission, Reason::MissingPermission]);
    let waiting = vec!["u".to_owned(), "v".to_owned()];
    metrics.set_budget(&Shares { budget: 25, interval: 10_000, milliwrites: 24_200, waiting });
    metrics.set_leader(true);
    metrics.set_ownership(&Enforcement::NotEnforced { message: String::new() });
    metrics.api_request(Verb::Patch, "enginedirectories/status", Code::Status(409));
    metrics.api_request(Verb::Watch, "pods", Code::None);
    let text = metrics.text().unwrap();
    for line in [
        r#"indexbuild_builds{phase="Sorting"} 2"#,
        r#"indexbuild_builds{phase="Failed"} 1"#,
        r#"indexbuild_builds{phase="Pending"} 0"#,
        r#"indexbuild_slots{state="Silent"} 1"#,
        r#"indexbuild_slots{state="Idle"} 0"#,
        r#"indexbuild_volumes{class="held"} 3"#,
        r#"indexbuild_volumes{class="stranded"} 1"#,
        r#"indexbuild_volumes{class="retained"} 2"#,
        "indexbuild_reconcile_duration_seconds_count 2",
        r#"indexbuild_reconcile_duration_seconds_bucket{le="0.05"} 1"#,
        r#"indexbuild_reconcile_total{result="success"} 1"#,
        r#"indexbuild_reconcile_total{result="error"} 1"#,
        "indexbuild_reconcile_errors_total 1",
        r#"indexbuild_actions_total{action="AddFinalizer"} 1"#,
        r#"indexbuild_unreadable_objects{kind="Pod"} 2"#,
        r#"indexbuild_unreadable_objects{kind="IndexBuild"} 0"#,
        r#"indexbuild_left_behind_total{reason="NamespaceDeleted"} 1"#,
        r#"indexbuild_left_behind_total{reason="CleanupTimedOut"} 0"#,
        r#"indexbuild_builds_ended_total{result="failed"} 1"#,
        r#"indexbuild_builds_ended_total{result="complete"} 0"#,
        r#"indexbuild_builds_stalled{reason="MissingPermission"} 2"#,
        r#"indexbuild_builds_stalled{reason="WaitingForVolume"} 0"#,
        "indexbuild_write_budget 25",
        "indexbuild_write_budget_used 24.2",
        "indexbuild_report_interval_seconds 10.0",
        "indexbuild_queued_builds 2",
        "indexbuild_leader 1",
        "indexbuild_ownership_enforced 0",
        r#"indexbuild_api_requests_total{verb="patch",kind="enginedirectories/status",code="409"} 1"#,
        r#"indexbuild_api_requests_total{verb="watch",kind="pods",code="none"} 1"#,
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_there_no_more_is_shown_as_none() {
    let metrics = Metrics::new();
    metrics.set_builds([Phase::Sorting]);
    metrics.set_builds([Phase::Complete]);
    assert!(metrics.text().unwrap().contains(r#"indexbuild_builds{phase="Sorting"} 0"#));
}

#[test]
fn every_phase_and_state_is_listed_once() {
    let phases: std::collections::BTreeSet<&str> = PHASES.into_iter().map(phase_name).collect();
    assert_eq!(phases.len(), PHASES.len());
    let states: std::collections::BTreeSet<&str> = STATES.into_iter().map(state_name).collect();
    assert_eq!(states.len(), STATES.len());
    for (name, schema) in [("phase", &phases), ("state", &states)] {
        assert!(crd_enum(name).iter().all(|value| schema.contains(value.as_str())), "{name}");
    }
}

/// The values that the CRDs' schemas allow for a status field.
fn crd_enum(field: &str) -> Vec<String> {
    let found: Vec<String> = indexbuild_api::crds()
        .iter()
        .map(|crd| serde_json::to_value(crd).unwrap())
        .filter_map(|crd| {
            let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
            status["properties"][field]["enum"].as_array().cloned()
        })
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    assert!(found.len() >= 10, "{field}: {found:?}");
    found
}
