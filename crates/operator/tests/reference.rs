//! `docs/metrics-and-events.md` names what the code has, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexbuild_operator::metrics::Metrics;

const HEAD: &str = "| metric | kind | labels | meaning |\n|---|---|---|---|\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `make generated` writes the table anew.
#[test]
fn the_metrics_in_docs_are_those_that_are_registered() {
    let file = root().join("docs/metrics-and-events.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(HEAD).unwrap();
    let end = rest.find("\n## ").unwrap();
    let table = Metrics::new().reference().unwrap();
    assert!(table.lines().count() >= 10 && table.lines().all(|line| line.split('|').count() == 6), "{table}");
    let fresh = format!("{before}{HEAD}{table}{}", &rest[end..]);
    if std::env::var_os("INDEXBUILD_UPDATE").is_some() {
        std::fs::write(&file, &fresh).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert!(found == fresh, "docs/metrics-and-events.md is stale: run make generated");
}

/// The files of a crate's sources, without their tests.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            into.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

#[test]
fn the_events_in_docs_are_those_that_the_code_makes() {
    let mut texts = Vec::new();
    for folder in ["crates/lifecycle/src", "crates/operator/src"] {
        sources(&root().join(folder), &mut texts);
    }
    let mut made: BTreeSet<String> = BTreeSet::new();
    for text in &texts {
        for after in text.split("Event {").skip(1) {
            let reason = after.trim_start().strip_prefix("reason: Reason::");
            made.extend(reason.and_then(|reason| Some(reason.split_once(',')?.0.to_owned())));
        }
    }
    // What `transition_events` tells takes its reason from the condition, what `falls_silent` and `begins_to_wait` tell from the
    // wait, and what is said of a build's remains from why it goes.
    made.extend(
        ["Published", "DeadlineExceeded", "OwnerSilent", "WaitingForStore", "WaitingForSpace"].map(str::to_owned),
    );
    made.insert("NamespaceDeleted".to_owned());
    let page = std::fs::read_to_string(root().join("docs/metrics-and-events.md")).unwrap();
    let (_, events) = page.split_once("\n## Events").unwrap();
    let told: BTreeSet<String> =
        events.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert_eq!(made, told);
    assert!(made.len() >= 5);
}
