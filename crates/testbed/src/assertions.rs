//! What tests assert at their end: nothing is left over, nobody writes any more, all is as in an undisturbed run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::TestbedError;

impl Cluster {
    /// The objects of these kinds in all namespaces, as `kind namespace/name`.
    pub fn objects(&self, kinds: &[&str]) -> Result<BTreeSet<String>, TestbedError> {
        let mut found = BTreeSet::new();
        let list = self.get(&[&kinds.join(","), "-A"])?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &item["metadata"];
            found.insert(format!(
                "{} {}/{}",
                text(&item["kind"]),
                text(&metadata["namespace"]),
                text(&metadata["name"])
            ));
        }
        Ok(found)
    }

    /// The objects of these kinds in all namespaces, without what differs between any two runs: UIDs, versions, moments,
    /// and the fields that `forget` names (`status.hostIP`, `metadata.annotations`). Two runs that ended alike give equal
    /// maps.
    pub fn end_state(&self, kinds: &[&str], forget: &[&str]) -> Result<BTreeMap<String, Value>, TestbedError> {
        let mut found = BTreeMap::new();
        let list = self.get(&[&kinds.join(","), "-A"])?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &item["metadata"];
            let name = format!("{} {}/{}", text(&item["kind"]), text(&metadata["namespace"]), text(&metadata["name"]));
            found.insert(name, comparable(item.clone(), forget));
        }
        Ok(found)
    }

    /// Waits until there are no more objects of these kinds than before.
    ///
    /// # Errors
    /// [`TestbedError::Deadline`] that names what is left.
    pub fn nothing_left_over(
        &self,
        kinds: &[&str],
        before: &BTreeSet<String>,
        within: Duration,
    ) -> Result<(), TestbedError> {
        self.wait("nothing is left over", within, |cluster| {
            let left: Vec<String> = cluster.objects(kinds)?.difference(before).cloned().collect();
            Ok(if left.is_empty() { Ok(()) } else { Err(left.join(", ")) })
        })
    }

    /// Watches these kinds in all namespaces for so long. Returns every change that was seen, a change that was
    /// undone too: empty when nobody wrote.
    ///
    /// # Errors
    /// A watch that could not be held.
    pub fn writes_within(&self, kinds: &[&str], time: Duration) -> Result<Vec<String>, TestbedError> {
        let mut watches = Vec::new();
        for kind in kinds {
            let mut command = self.command(self.tools().path("kubectl"));
            // A second more: kubectl needs some of it to begin.
            let limit = format!("--request-timeout={}s", time.as_secs() + 1);
            command.args(["get", kind, "-A", "--watch-only", "--output-watch-events", "--no-headers", &limit]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child =
                command.spawn().map_err(|source| TestbedError::Spawn { program: "kubectl".to_owned(), source })?;
            watches.push((*kind, child));
        }
        let mut seen = Vec::new();
        for (kind, child) in watches {
            let output = child
                .wait_with_output()
                .map_err(|source| TestbedError::Spawn { program: "kubectl".to_owned(), source })?;
            let said = String::from_utf8_lossy(&output.stderr);
            // The end of the time is how it ends; anything else would be a watch that saw nothing.
            let over = said.is_empty() || said.contains("imeout") || said.contains("deadline exceeded");
            if !over {
                return Err(TestbedError::Command {
                    command: format!("kubectl get {kind} --watch-only"),
                    status: output.status.to_string(),
                    output: said.into_owned(),
                });
            }
            seen.extend(String::from_utf8_lossy(&output.stdout).lines().map(|line| format!("{kind}: {line}")));
        }
        Ok(seen)
    }
}

/// An object without what differs between any two runs.
fn comparable(mut object: Value, forget: &[&str]) -> Value {
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"] {
        remove(&mut object, &["metadata", field]);
    }
    for path in forget {
        remove(&mut object, &path.split('.').collect::<Vec<_>>());
    }
    mask(&mut object);
    object
}

fn remove(value: &mut Value, path: &[&str]) {
    match (path, value) {
        ([last], Value::Object(fields)) => {
            fields.remove(*last);
        }
        ([first, rest @ ..], Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(*first) {
                remove(inner, rest);
            }
        }
        (_, Value::Array(items)) => items.iter_mut().for_each(|item| remove(item, path)),
        _ => {}
    }
}

/// Replaces UIDs and times by placeholders: two runs differ in them, and only their presence is compared.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) if is_uid(text) => "<uid>".clone_into(text),
        Value::String(text) if is_moment(text) => "<moment>".clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_uid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// `2006-01-02T15:04:05Z`, with or without a fraction.
fn is_moment(text: &str) -> bool {
    let shape: String = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    let fraction = |rest: &str| rest.strip_suffix('Z').is_some_and(|digits| digits.bytes().all(|byte| byte == b'0'));
    shape
        .strip_prefix("0000-00-00T00:00:00")
        .is_some_and(|rest| rest == "Z" || rest.strip_prefix('.').is_some_and(fraction))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_runs_differ_in_uids_and_moments_and_are_equal_without_them_but_not_without_what_they_did() {
        let run = |uid: &str, moment: &str, phase: &str, address: &str| {
            let object = json!({
                "metadata": {"name": "a", "uid": uid, "resourceVersion": uid, "ownerReferences": [{"uid": uid}]},
                "status": {"phase": phase, "since": moment, "podIP": address},
            });
            comparable(object, &["status.podIP"])
        };
        let first = run("00000000-0000-4000-8000-000000000001", "2026-01-02T03:04:05Z", "Bound", "10.0.0.1");
        let second = run("00000000-0000-4000-8000-00000000000f", "2026-01-02T03:04:06.123456Z", "Bound", "10.0.0.2");
        assert_eq!(first, second);
        assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "<uid>");
        assert_ne!(first, run("00000000-0000-4000-8000-000000000001", "2026-01-02T03:04:05Z", "Lost", "10.0.0.1"));
        let endless = run("00000000-0000-4000-8000-000000000001", "never", "Bound", "10.0.0.1");
        assert_ne!(first, endless, "that there is a moment is compared");
    }
}
