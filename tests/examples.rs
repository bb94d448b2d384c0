//! Each example is a build that `indexbuild run --dry-run` takes; and what its comments tell to type works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{INDEXBUILD, Workspace};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    files.sort();
    assert!(files.len() >= 4);
    files
}

#[test]
fn every_example_passes_a_dry_run_and_one_with_a_mistake_does_not() {
    let workspace = Workspace::new();
    for file in examples() {
        let dry = |file: &Path| {
            Command::new(INDEXBUILD)
                .arg("run")
                .arg(file)
                .arg("--dry-run")
                .current_dir(workspace.path())
                .output()
                .unwrap()
        };
        let taken = dry(&file);
        assert!(taken.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&taken.stderr));
        let text = std::fs::read_to_string(&file).unwrap().replace("columns:", "column:");
        let name = file.file_name().unwrap().to_str().unwrap();
        workspace.write(name, &text);
        let refused = dry(&workspace.join(name));
        assert_eq!(refused.status.code(), Some(2), "{name}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("did you mean \"columns\""), "{name}");
    }
}

#[test]
fn the_commands_in_the_local_examples_work_as_they_stand() {
    for file in examples() {
        let text = std::fs::read_to_string(&file).unwrap();
        let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#   indexbuild ")).collect();
        if commands.is_empty() {
            continue;
        }
        // In a folder of the test instead of /tmp; and fewer rows.
        let workspace = Workspace::new();
        let here = workspace.path().display().to_string();
        let here = here.trim_end_matches('/');
        let moved = text.replace("/tmp/", &format!("{here}/"));
        workspace.write("example.yaml", &moved);
        for command in commands {
            let command = command.replace("/tmp/", &format!("{here}/")).replace("1000000", "2000");
            let words = command.split_whitespace().map(|word| {
                let names_it = word.starts_with("examples/");
                if names_it { "example.yaml".to_owned() } else { word.to_owned() }
            });
            let words: Vec<String> = words.collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            workspace.indexbuild(&words).succeeded(&format!("{}: {command}", file.display()));
        }
    }
}
