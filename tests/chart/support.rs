//! What the tests of the chart share: Helm, and documents of YAML.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use indexbuild_testbed::Tools;
use serde_json::Value;

/// Where it is installed to.
pub(super) const SYSTEM: &str = "indexbuild-system";
/// The name of the release.
pub(super) const RELEASE: &str = "indexbuild";

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn chart() -> PathBuf {
    root().join("charts/indexbuild")
}

/// Runs Helm; `Err`: what it said.
pub(super) fn helm(tools: &Tools, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tools.path("helm")).args(arguments).current_dir(root()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// `helm template` of the chart with these further arguments.
pub(super) fn template(tools: &Tools, arguments: &[&str]) -> Result<String, String> {
    let mut all = vec!["template", RELEASE, "charts/indexbuild", "--namespace", SYSTEM];
    all.extend_from_slice(arguments);
    helm(tools, &all)
}

/// The objects of a rendered chart.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let all = format!("\n{text}");
    let says = |document: &&str| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    all.split("\n---")
        .filter(says)
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap_or_else(|error| panic!("{error}\n{document}")))
        .filter(|document| !document.is_null())
        .collect()
}

/// The objects of one kind.
pub(super) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// The files with one of these endings below a folder.
pub(super) fn texts(folder: &Path, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}
