//! What a new user does first: README's own table, file and commands, as they stand there; then mistakes
//! in that file, each told with its place and the way out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Workspace;

const README: &str = include_str!("../README.md");

/// The fenced blocks of the section "Your own table": the table's beginning, the build, the commands.
fn blocks() -> [&'static str; 3] {
    let section = README.split("\n## ").find(|section| section.starts_with("Your own table")).unwrap();
    let fenced: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let [table, build, commands] = fenced[..] else { panic!("three blocks, not {}", fenced.len()) };
    [table.trim_start(), build.strip_prefix("yaml\n").unwrap(), commands.trim_start()]
}

fn workspace() -> Workspace {
    let [table, build, _] = blocks();
    let workspace = Workspace::new();
    let more: String =
        (2..500).map(|id| format!("{id},{},2026-02-{:02}T11:30:00,{}.25\n", id % 30, id % 28 + 1, id * 3)).collect();
    workspace.write("orders.csv", &format!("{table}{more}")).write("orders.yaml", build);
    workspace
}

#[test]
fn each_command_of_the_readme_works_on_the_readmes_table() {
    let [_, _, commands] = blocks();
    let workspace = workspace();
    let mut outputs = Vec::new();
    for line in commands.lines() {
        let command = line.split('#').next().unwrap().trim();
        let arguments: Vec<&str> = command.strip_prefix("indexbuild ").unwrap().split_whitespace().collect();
        outputs.push(workspace.indexbuild(&arguments).succeeded(command).stdout);
    }
    assert!(outputs.len() >= 6, "{commands}");
    let of = |name: &str| {
        let line = commands.lines().position(|line| line.split_whitespace().nth(1) == Some(name)).unwrap();
        outputs[line].as_str()
    };
    assert!(of("verify").contains("nothing is wrong"), "{}", of("verify"));
    assert!(of("get").contains("customer=17 created=2026-01-31T10:00:00 -> id=1 | total=12.50"), "{}", of("get"));
    assert_eq!(of("get").lines().count(), 1 + (2..500).filter(|id| id % 30 == 17).count());
    assert_eq!(of("scan").lines().count(), 5, "{}", of("scan"));
}

#[test]
fn a_mistake_in_the_readmes_build_is_told_with_its_place_and_the_way_out() {
    let [_, build, _] = blocks();
    for (right, wrong, told) in [
        ("include:", "includes:", &["orders.yaml:", "includes", "did you mean \"include\"?"][..]),
        ("type: timestamp}", "type: datetime}", &["orders.yaml:", "columns[2].type", "timestamp"]),
        ("order: Desc", "order: descending", &["orders.yaml:", "order", "\"Asc\", \"Desc\""]),
        ("parallelism: 2", "parallelism: two", &["orders.yaml:", "spec.parallelism", "integer"]),
        ("{name: customer}, ", "{name: client}, ", &["\"client\"", "id, customer, created, total"]),
        ("[orders.csv]", "[order.csv]", &["order.csv"]),
    ] {
        let workspace = workspace();
        assert!(build.contains(right), "{right}");
        workspace.write("orders.yaml", &build.replacen(right, wrong, 1));
        let ran = workspace.indexbuild(&["run", "orders.yaml", "--quiet"]).failed(wrong);
        for part in told {
            assert!(ran.stderr.contains(part), "{wrong}: {part} is not told by:\n{}", ran.stderr);
        }
        // The corrected file is all it takes.
        workspace.write("orders.yaml", build);
        workspace.indexbuild(&["run", "orders.yaml", "--quiet"]).succeeded(right);
    }
}

/// What a local run cannot honour is said, not passed over.
#[test]
fn a_secret_that_only_a_cluster_has_is_named_with_what_is_used_instead() {
    let [_, build, _] = blocks();
    let workspace = workspace();
    let with_secret =
        build.replace("output: {url: indexes}", "output: {url: indexes, credentials: {secretName: keys}}");
    assert_ne!(with_secret, build);
    workspace.write("orders.yaml", &with_secret);
    let told =
        workspace.indexbuild(&["run", "orders.yaml", "--dry-run"]).succeeded("a build that names a secret").stderr;
    assert!(told.contains("spec.output.credentials") && told.contains("AWS_ACCESS_KEY_ID"), "{told}");
    workspace.write("orders.yaml", build);
    let told = workspace.indexbuild(&["run", "orders.yaml", "--dry-run"]).succeeded("a build without secrets").stderr;
    assert!(!told.contains("secret"), "{told}");
}
