//! A shell in a cluster can break it and mend it: `testbed cut`, `testbed heal`, and what a build needs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use indexbuild_testbed::tools_or_skip;

const SCRIPT: &str = r"
set -euo pipefail
reaches() { timeout 3 bash -c '</dev/tcp/10.88.0.11/10250' 2>/dev/null; }
reaches
testbed cut node1 --from api
! reaches
testbed heal node1
reaches
testbed volumes 2
[ $(kubectl get pv -o name | wc -l) = 2 ]
folder=$(testbed bucket lake)
[ -d $folder ]
! testbed cut node9
echo all of it
";

#[test]
fn a_shell_cuts_and_heals_nodes_and_offers_volumes() {
    let Some(_tools) = tools_or_skip("orders from a testbed's shell") else { return };
    let run = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["--nodes", "1", "--", "bash", "-c", SCRIPT])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.trim_end().ends_with("all of it"), "{out}\n{err}");
    assert!(err.contains("node9"), "what cannot be done says why: {err}");
}
