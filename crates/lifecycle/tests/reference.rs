//! `docs/lifecycle.md` tells the proofs that the code has, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use indexbuild_lifecycle::EvidenceKind;

const HEAD: &str = "| evidence | means |\n|---|---|\n";

/// `make generated` writes the table anew.
#[test]
fn the_proofs_in_docs_are_those_that_the_code_knows() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lifecycle.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(HEAD).unwrap();
    let end = rest.find("\n\n").unwrap();
    let fresh = format!("{before}{HEAD}{}{}", EvidenceKind::reference(), &rest[end + 1..]);
    if std::env::var_os("INDEXBUILD_UPDATE").is_some() {
        std::fs::write(&file, &fresh).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert!(found == fresh, "docs/lifecycle.md is stale: run make generated");
}
