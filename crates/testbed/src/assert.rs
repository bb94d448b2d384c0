//! What tests ask at their end: nothing left over, nobody writes any more.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::TestbedError;

impl Cluster {
    /// The objects of these kinds in all namespaces, as `kind namespace/name`.
    ///
    /// # Errors
    /// kubectl's.
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
