//! The table of good and bad builds in `tests/builds`, held against the API server as a user meets it: by kubectl.

#[path = "../builds/files.rs"]
mod files;

use std::path::Path;

use files::header;
use indexbuild_testbed::{Cluster, Tools};

use super::support::NAMESPACE;

/// To kubectl, two documents are two builds; and it sends JSON, in which a field that was given twice is there once.
const KUBECTL_TAKES: [&str; 2] = ["two-documents.yaml", "field-twice.yaml"];

fn files(folder: &str) -> Vec<(String, String)> {
    files::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builds").join(folder))
}

fn kubectl(cluster: &Cluster, tools: &Tools, arguments: &[&str], text: &str) -> Result<String, String> {
    use std::io::Write as _;
    let mut command = cluster.command(tools.path("kubectl"));
    command.args(arguments).args(["-n", NAMESPACE, "-f", "-"]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What the head of a file promises and the API server did not say.
fn unsaid(name: &str, text: &str, refusal: &str) -> Vec<String> {
    let promised = [header(text, "expect"), header(text, "server")].concat();
    let missing = promised.iter().filter(|part| !refusal.contains(**part));
    missing.map(|part| format!("{name}: expected: {part}\nsaid: {refusal}")).collect()
}

pub(super) fn good_builds_are_accepted_and_bad_ones_refused_with_the_message_of_their_head(
    tools: &Tools,
    cluster: &Cluster,
) {
    let mut wrong = Vec::new();
    let try_out = ["create", "--dry-run=server", "--validate=strict"];
    for (name, text) in files("good") {
        if let Err(refusal) = kubectl(cluster, tools, &try_out, &text) {
            wrong.push(format!("good/{name} was refused: {refusal}"));
        }
    }
    for (name, text) in files("bad") {
        match kubectl(cluster, tools, &try_out, &text) {
            Ok(_) if KUBECTL_TAKES.contains(&name.as_str()) => {}
            Ok(said) => wrong.push(format!("bad/{name} was accepted: {said}")),
            Err(refusal) if KUBECTL_TAKES.contains(&name.as_str()) => {
                wrong.push(format!("bad/{name} is refused by now: {refusal}"));
            }
            Err(refusal) => wrong.extend(unsaid(&name, &text, &refusal)),
        }
    }
    for (name, text) in files("updates") {
        let (old, new) = text.split_once("\n---\n").expect("two documents");
        kubectl(cluster, tools, &["create"], old).unwrap_or_else(|error| panic!("updates/{name}: {error}"));
        match kubectl(cluster, tools, &["replace", "--dry-run=server"], new) {
            Ok(_) if text.starts_with("# accept\n") => {}
            Ok(_) => wrong.push(format!("updates/{name} was accepted")),
            Err(refusal) if text.starts_with("# accept\n") => {
                wrong.push(format!("updates/{name} was refused: {refusal}"));
            }
            Err(refusal) => wrong.extend(unsaid(&name, &text, &refusal)),
        }
        kubectl(cluster, tools, &["delete", "--wait=false"], old).unwrap();
    }
    assert!(wrong.is_empty(), "{} of the table\n{}", wrong.len(), wrong.join("\n\n"));
}
