//! An operator that is rolled forward and back under running builds. The later one writes a field more wherever it writes, and a
//! word more on each slot; the executors, and the operator that comes back, know neither. The builds end as one that nobody
//! disturbed.

use std::path::Path;
use std::time::Duration;

use indexbuild_testbed::{Options, Tools, tools_or_skip};
use serde_json::{Value, json};

use crate::later_version::{FIELD, WORD, later};
use crate::short_timers::{SMALL, slow};
use crate::support::operator_process::OperatorOptions;
use crate::support::{Fixture, NAMESPACE, history, text};

const BUILDS: [&str; 2] = ["rolled-one", "rolled-two"];
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_operator_is_rolled_forward_and_back_under_builds_and_no_executor_and_no_row_is_lost_by_it_i10() {
    let Some(tools) = tools_or_skip("operators of two versions on real nodes") else { return };
    run(&tools);
}

fn define_later(fixture: &Fixture) {
    for kind in ["indexbuilds", "enginedirectories"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("crds/{kind}.indexbuild.dev.yaml"));
        let mut crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            later(&mut schema["properties"][part]);
        }
        fixture.cluster.apply(&[crd]).unwrap();
    }
}

fn is_later(record: &Value) -> bool {
    let words = history(record);
    record["spec"][FIELD].is_string() && !words.is_empty() && words.iter().all(|word| word == WORD)
}

fn record(fixture: &Fixture, name: &str) -> Result<Value, String> {
    fixture.slots(NAMESPACE, name).first().cloned().ok_or_else(|| "no record".to_owned())
}

/// Waits until the records of both builds are so.
fn become_so(fixture: &Fixture, what: &str, holds: impl Fn(&Value) -> bool) {
    for name in BUILDS {
        fixture.until(&format!("{name}: {what}"), WITHIN, |fixture| {
            let now = record(fixture, name)?;
            if holds(&now) { Ok(()) } else { Err(now.to_string()) }
        });
    }
}

fn run(tools: &Tools) {
    let mut fixture = Fixture::start(tools, Options { nodes: 1, ..Options::default() }, 4);
    fixture.table("small", SMALL, 10, &["--columns", "id,k"]);
    define_later(&fixture);
    let (earlier, later) = (OperatorOptions::of(NAMESPACE, 8080), || {
        OperatorOptions::of(NAMESPACE, 8080).with(json!({"laterVersion": true}))
    });
    fixture.start_operator(earlier);
    let builds = BUILDS.map(|name| slow(&fixture, name, 1, 300));
    fixture.cluster.apply(&builds).unwrap();
    let owners = BUILDS.map(|name| fixture.at_work(NAMESPACE, name, 0, 2));

    // Forward: a word and a field that the executors, which run on, do not know.
    fixture.stop_operator();
    fixture.start_operator(later());
    fixture.cluster.kill_container(text(&owners[0], "/spec/grant/podName")).unwrap();
    fixture.until("the killed owner is followed by another, in later words", WITHIN, |fixture| {
        let now = record(fixture, BUILDS[0])?;
        let another = now["spec"]["grant"]["podName"] != owners[0]["spec"]["grant"]["podName"];
        let at_work = !text(&now, "/spec/grant/bootNonce").is_empty() && now["spec"]["grant"][FIELD].is_string();
        if another && at_work && is_later(&now) { Ok(()) } else { Err(now.to_string()) }
    });
    let started = record(&fixture, BUILDS[0]).unwrap();
    // It reports under words that it does not know.
    fixture.until("the executor goes on", WITHIN, |fixture| {
        let now = record(fixture, BUILDS[0])?;
        let rows = now["status"]["report"]["rows"].as_u64().unwrap_or_default();
        let same = now["spec"]["grant"]["podName"] == started["spec"]["grant"]["podName"];
        if same && now["status"]["report"]["epoch"] == now["spec"]["grant"]["epoch"] && rows > 0 {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });

    // And back.
    fixture.stop_operator();
    fixture.start_operator(OperatorOptions::of(NAMESPACE, 8080));
    let before = record(&fixture, BUILDS[0]).unwrap();
    fixture.cluster.kill_container(text(&before, "/spec/grant/podName")).unwrap();
    fixture.until("the operator that was rolled back goes on with the slot", WITHIN, |fixture| {
        let now = record(fixture, BUILDS[0])?;
        let another = now["spec"]["grant"]["podName"] != before["spec"]["grant"]["podName"];
        let told = history(&now).iter().any(|word| word != WORD) && history(&now).iter().any(|word| word == WORD);
        let clean = now["spec"]["grant"].get(FIELD).is_none();
        if another && told && clean && now["spec"][FIELD] == before["spec"][FIELD] {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
    become_so(&fixture, "an owner is at work", |record| !text(record, "/spec/grant/bootNonce").is_empty());

    // Forward again, to the end.
    fixture.stop_operator();
    fixture.start_operator(later());
    for name in BUILDS {
        let build = fixture.complete(name, Duration::from_secs(180));
        assert_eq!(build["status"]["rows"], SMALL);
        fixture.assert_same_as_local(NAMESPACE, name);
    }
    fixture.assert_within_rights();
    fixture.say("done");
}
