//! Stories of builds as golden text, in `scenarios`: what happens, and the decisions that follow. They run in the simulated
//! world, which asserts the protocol's invariants on the truth at each step. `make scenarios` records them anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::format_push_string
)]

mod sim;
mod story;

use std::fs;
use std::path::Path;

/// Whether a head says which invariant or guard its story is about.
fn names_a_rule(head: &str) -> bool {
    let rule = |word: &str| {
        let digits = word.strip_prefix(['G', 'I']).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    head.split(|letter: char| !letter.is_ascii_alphanumeric()).any(rule)
}

#[test]
fn the_scenarios_are_decided_as_they_are_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    let mut stale = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let script = fs::read_to_string(&file).unwrap();
        let head: String = script.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(names_a_rule(&head), "{name} says at its head what it shows, and which I or G it is about");
        let told = story::retell(&script).unwrap_or_else(|error| panic!("{name}: {error}"));
        if std::env::var_os("INDEXBUILD_UPDATE").is_some() {
            fs::write(&file, &told).unwrap();
        } else if told != script {
            let differs = (1..).zip(told.lines().zip(script.lines())).find(|(_, (now, before))| now != before);
            let at = differs.map(|(number, (now, before))| format!("line {number}:\n  was {before}\n  is  {now}"));
            stale.push(format!("{name}, {}", at.unwrap_or_else(|| "at its end".to_owned())));
        }
    }
    let stale = stale.join("\n");
    assert!(stale.is_empty(), "stale: run `make scenarios`, and read what has changed in the stories\n{stale}");
}
