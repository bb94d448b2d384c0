//! How Argo CD (our script, by a real Lua of its version) and kstatus (its own code) judge an IndexBuild.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mlua::{Lua, Value as LuaValue};
use serde_json::Value;

/// The stages of a build's life, and what both tools say of each.
pub(crate) const STAGES: [(&str, &str, &str); 13] = [
    ("pending", "Progressing", "InProgress"),
    ("planning", "Progressing", "InProgress"),
    ("encoding", "Progressing", "InProgress"),
    ("sorting", "Progressing", "InProgress"),
    ("publishing", "Progressing", "InProgress"),
    ("cleaning", "Healthy", "InProgress"),
    ("complete", "Healthy", "Current"),
    ("failed", "Degraded", "Failed"),
    ("suspended", "Suspended", "InProgress"),
    ("waiting-for-pod", "Progressing", "InProgress"),
    ("stalled", "Degraded", "InProgress"),
    ("refused", "Degraded", "Failed"),
    ("deleting", "Progressing", "Terminating"),
];

/// Whether a build, as the API server has it, is in a stage.
pub(crate) fn is_in(stage: &str, build: &Value) -> bool {
    let status = &build["status"];
    let condition = |name: &str| {
        let all = status["conditions"].as_array().into_iter().flatten();
        all.filter(|found| found["type"] == name && found["status"] == "True")
            .map(|found| found["reason"].clone())
            .next()
    };
    let stalled = condition("Stalled");
    let deleting = !build["metadata"]["deletionTimestamp"].is_null();
    let phase = |phase: &str| !deleting && stalled.is_none() && status["phase"] == phase;
    match stage {
        "pending" => !deleting && status["observedGeneration"] == 0,
        "planning" => phase("Planning"),
        "encoding" => phase("Encoding"),
        "sorting" => phase("Sorting"),
        "publishing" => phase("Publishing"),
        "cleaning" => phase("Cleaning"),
        "complete" => phase("Complete"),
        "failed" => !deleting && status["phase"] == "Failed",
        "suspended" => phase("Suspended"),
        "waiting-for-pod" => !deleting && stalled.is_some_and(|reason| reason == "WaitingForPod"),
        "stalled" => {
            let reasons = ["WaitingForStore", "NoProgress", "OwnerSilent"];
            !deleting && stalled.is_some_and(|reason| reasons.iter().any(|known| reason == *known))
        }
        "refused" => !deleting && stalled.is_some_and(|reason| reason == "UnsupportedSpec"),
        "deleting" => deleting,
        other => panic!("no stage {other}"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The script for Argo CD.
pub(crate) fn script() -> String {
    std::fs::read_to_string(root().join("gitops/argocd/health.lua")).unwrap()
}

/// The health that Argo CD shows, and its message.
pub(crate) fn argo(build: &Value) -> (String, String) {
    let lua = Lua::new();
    lua.globals().set("obj", to_lua(&lua, build)).unwrap();
    let health: mlua::Table = lua.load(script()).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

/// As Argo CD hands an object to its scripts: what is null is not there.
fn to_lua(lua: &Lua, value: &Value) -> LuaValue {
    match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(value) => LuaValue::Boolean(*value),
        Value::Number(value) => LuaValue::Number(value.as_f64().unwrap()),
        Value::String(value) => LuaValue::String(lua.create_string(value).unwrap()),
        Value::Array(items) => {
            let table = lua.create_table().unwrap();
            for item in items {
                table.push(to_lua(lua, item)).unwrap();
            }
            LuaValue::Table(table)
        }
        Value::Object(fields) => {
            let table = lua.create_table().unwrap();
            for (name, field) in fields {
                table.set(name.as_str(), to_lua(lua, field)).unwrap();
            }
            LuaValue::Table(table)
        }
    }
}

/// What kstatus says of each, in their order.
pub(crate) fn kstatus(tool: &Path, builds: &[&Value]) -> Vec<String> {
    let mut child = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for build in builds {
        writeln!(input, "{build}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// Judges builds that are each in a stage. Fails with all that is judged wrongly.
pub(crate) fn judge(tool: &Path, builds: &[(String, Value)]) {
    let said = kstatus(tool, &builds.iter().map(|(_, build)| build).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for ((stage, build), kstatus) in builds.iter().zip(said) {
        let (_, argo_wanted, kstatus_wanted) = STAGES.iter().find(|(name, _, _)| name == stage).unwrap();
        let (argo, message) = argo(build);
        if argo != *argo_wanted || kstatus != *kstatus_wanted || message.is_empty() {
            wrong.push(format!(
                "{stage}: Argo CD {argo} ({message}) instead of {argo_wanted}; kstatus {kstatus} instead of {kstatus_wanted}: {}",
                build["status"]["conditions"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
