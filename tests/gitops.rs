//! GitOps tools judge builds rightly: objects recorded from live builds in every stage (`tests/gitops`), by the script for
//! Argo CD in a real Lua, and by kstatus' own code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "gitops/judge.rs"]
mod judge;

use std::path::Path;

use indexbuild_testbed::tools_or_skip;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn recorded() -> Vec<(String, Value)> {
    let read = |stage: &str| -> Value {
        let file = root().join(format!("tests/gitops/{stage}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_saphyr::from_str(&text).unwrap()
    };
    judge::STAGES.iter().map(|(stage, _, _)| ((*stage).to_owned(), read(stage))).collect()
}

#[test]
fn every_stage_of_a_recorded_build_is_judged_rightly_by_argo_cd_and_by_kstatus() {
    let Some(tools) = tools_or_skip("objects of every stage, judged by kstatus' own code") else { return };
    let builds = recorded();
    for (stage, build) in &builds {
        assert!(judge::is_in(stage, build), "{stage}.yaml is of another stage");
    }
    judge::judge(&tools.path("kstatus"), &builds);
}

/// What would be wrong if the script looked at nothing, or the objects were all alike.
#[test]
fn a_change_that_the_operator_has_not_seen_is_never_healthy() {
    let (_, mut complete) = recorded().into_iter().find(|(stage, _)| stage == "complete").unwrap();
    assert_eq!(judge::argo(&complete).0, "Healthy");
    complete["metadata"]["generation"] = Value::from(99);
    assert_eq!(judge::argo(&complete).0, "Progressing");
    complete["status"] = Value::Null;
    assert_eq!(judge::argo(&complete).0, "Progressing");
}

#[test]
fn the_config_map_for_argo_cd_holds_the_script() {
    let text = std::fs::read_to_string(root().join("gitops/argocd/argocd-cm.yaml")).unwrap();
    let map: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(map["data"]["resource.customizations.health.indexbuild.dev_IndexBuild"], judge::script().as_str());
}
