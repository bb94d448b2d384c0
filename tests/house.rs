//! The shape of the house: who may see what, and that what code and pages cite is there. A dependency that creeps in,
//! or a row, a guard or a page that is cited and gone, fails here, not in a review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where code and pages are, beside the files at the top.
const FOLDERS: [&str; 8] = ["bench", "charts", "crates", "docs", "examples", "gitops", "src", "tests"];

/// The names of all crates that a package of the workspace is built with, tests apart.
fn built_with(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn assert_without(package: &str, banned: &[&str]) {
    let all = built_with(package);
    for banned in banned {
        let found: Vec<_> =
            all.iter().filter(|name| *name == banned || name.starts_with(&format!("{banned}-"))).collect();
        assert!(found.is_empty(), "{package} is built with {found:?}: see ARCHITECTURE.md, \"The house\"");
    }
}

#[test]
fn the_operator_sees_neither_rocksdb_nor_a_table_nor_a_store() {
    assert_without("indexbuild-operator", &["rocksdb", "librocksdb", "arrow", "parquet", "object_store"]);
}

#[test]
fn the_lifecycle_sees_no_client_no_runtime_and_no_engine() {
    assert_without(
        "indexbuild-lifecycle",
        &["tokio", "hyper", "kube-client", "kube-runtime", "rocksdb", "librocksdb", "arrow", "object_store"],
    );
}

#[test]
fn an_index_is_read_without_the_crates_that_build_one() {
    assert_without(
        "indexbuild-index",
        &["indexbuild-engine", "indexbuild-executor", "indexbuild-lifecycle", "indexbuild-api", "kube", "k8s-openapi"],
    );
}

#[test]
fn a_table_is_read_without_rocksdb() {
    assert_without("indexbuild-source", &["rocksdb", "librocksdb"]);
}

/// An interpreter of CEL is for whoever checks a file.
#[test]
fn decisions_are_made_without_the_checks_of_files() {
    for package in ["indexbuild-lifecycle", "indexbuild-operator", "indexbuild-executor"] {
        assert_without(package, &["indexbuild-check", "kube-cel", "cel"]);
    }
}

/// The sources, tests aside, whose text is so.
fn sources_where(holds: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    rust()
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(ROOT).unwrap().to_path_buf(), text))
        .filter(|(path, text)| path.iter().any(|folder| folder == "src") && holds(text))
        .map(|(path, _)| path)
        .collect()
}

/// One place for endpoints, credentials, certificates, idle connections.
#[test]
fn nobody_but_the_store_crate_makes_a_client_of_an_object_store() {
    let builders =
        ["AmazonS3Builder", "GoogleCloudStorageBuilder", "MicrosoftAzureBuilder", "HttpBuilder", "LocalFileSystem"];
    assert_eq!(holders(&builders), BTreeSet::from([PathBuf::from("crates/store/src/client.rs")]));
}

/// The files of the product, with their code, that hold one of these texts.
fn holders(texts: &[&str]) -> BTreeSet<PathBuf> {
    rust()
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(ROOT).unwrap().to_path_buf(), code_of(&text)))
        .filter(|(path, _)| path.iter().any(|folder| folder == "src"))
        .filter(|(_, code)| texts.iter().any(|text| code.contains(text)))
        .map(|(path, _)| path)
        .collect()
}

/// A pointer into the JSON of a sidecar, or a name of a folder or file put together elsewhere, breaks unseen when the
/// format changes: who needs to know asks the engine.
#[test]
fn nobody_but_the_engine_knows_how_sealed_files_are_named_and_described() {
    let others = |texts: &[&str]| -> Vec<PathBuf> {
        holders(texts).into_iter().filter(|path| !path.starts_with("crates/engine")).collect()
    };
    let found = others(&["\"/sealed", "[\"sealed\"]", "join(\"runs\")", "join(\"ranges\")", "\".run\""]);
    assert!(found.is_empty(), "{found:?}");
}

/// The control: where the engine names its folders is found.
#[test]
fn the_engine_names_its_folders_control() {
    let attempt = PathBuf::from("crates/engine/src/attempt.rs");
    assert_eq!(holders(&["join(\"runs\")", "join(\"ranges\")"]), BTreeSet::from([attempt]));
}

/// Whether code makes a `Condition`: its type's definition and implementations, patterns, and longer names aside.
fn makes_condition(code: &str) -> bool {
    code.match_indices("Condition {").any(|(at, _)| {
        let before = &code[..at];
        let longer = before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let names_it = ["struct ", "impl ", "for ", "-> ", "let "].iter().any(|word| before.ends_with(word));
        !longer && !names_it
    })
}

/// One author of status: what is said, in which words and how loud, is decided where it is decided what is done.
#[test]
fn nobody_but_the_lifecycle_makes_a_condition() {
    let makers: BTreeSet<PathBuf> = rust()
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(ROOT).unwrap().to_path_buf(), code_of(&text)))
        .filter(|(path, code)| path.iter().any(|folder| folder == "src") && makes_condition(code))
        .map(|(path, _)| path)
        .collect();
    assert!(!makers.is_empty(), "the lifecycle makes them");
    let others: Vec<_> = makers.iter().filter(|path| !path.starts_with("crates/lifecycle/src")).collect();
    assert!(others.is_empty(), "{others:?}: what is observed goes into the lifecycle's World, which says it");
}

/// The control: a condition that is made is found, and one that is read is not.
#[test]
fn a_condition_that_is_made_is_found_control() {
    for made in ["let one = Condition { status, reason };", "vec![Condition {\n", "indexbuild_api::Condition { .. }"] {
        assert!(makes_condition(made), "{made}");
    }
    for read in [
        "pub struct Condition {",
        "impl Shown for Condition {",
        "fn worst(&self) -> Condition {",
        "PodCondition { status }",
        "let Condition { reason, .. } = one;",
        "status.condition(ConditionType::Ready)",
    ] {
        assert!(!makes_condition(read), "{read}");
    }
}

/// In what ways a crate misbehaves when a test asks for it stands in one file of it.
#[test]
fn test_switches_stand_in_files_of_that_name() {
    let signs = ["INDEXBUILD_TEST_SWITCHES", "INDEXBUILD_FAULTS", "struct TestSwitches"];
    let (named, others): (BTreeSet<_>, BTreeSet<_>) =
        sources_where(|text| signs.iter().any(|sign| text.contains(sign)))
            .into_iter()
            .partition(|path| path.ends_with("src/test_switches.rs"));
    assert_eq!(others, BTreeSet::new());
    assert_eq!(named.len(), 4, "durable, engine, executor, operator: {named:?}");
}

/// The control: what the engine is built with is found.
#[test]
fn the_engine_is_built_with_rocksdb_control() {
    assert!(built_with("indexbuild-engine").contains("librocksdb-sys"));
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Code and pages whose names have one of these endings, each with its text.
fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(ROOT);
    let mut paths = entries(root);
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if !path.is_dir() {
                paths.push(path);
            } else if !path.ends_with("target") {
                folders.push(path);
            }
        }
    }
    let wanted = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        path.is_file() && endings.contains(&ending)
    };
    paths.retain(wanted);
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The rows that a text cites: `failure-modes.md #4`, or several with commas between.
fn cited_rows(text: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    for after in text.split("failure-modes.md ").skip(1) {
        for part in after.split(", ") {
            let rest = part.strip_prefix('#').unwrap_or_default();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let Ok(row) = digits.parse::<u32>() else { break };
            rows.push(row);
            if digits.len() < rest.len() {
                break;
            }
        }
    }
    rows
}

/// The numbers of the guards that a text names.
fn guards(text: &str) -> BTreeSet<u32> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter_map(|word| word.strip_prefix('G'))
        .filter(|number| number.chars().all(|c| c.is_ascii_digit()))
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The numbers in the first column of a page's tables, each after the same letters.
fn numbered_rows(page: &str, letters: &str) -> BTreeSet<u32> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_prefix(letters)?.split(" |").next()?.parse().ok())
        .collect()
}

/// A page's lines that are not in fenced code.
fn prose(page: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut in_code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(line);
        }
    }
    lines
}

/// What a page's links lead to, those in code aside.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(page) {
        for text in line.split('`').step_by(2) {
            for after in text.split("](").skip(1) {
                links.extend(after.split(')').next().map(str::to_owned));
            }
        }
    }
    links
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let anchor = |line: &str| -> String {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(page).into_iter().filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn a_row_of_failure_modes_that_is_cited_is_there() {
    let rows = numbered_rows(&page("docs/failure-modes.md"), "");
    let mut count = 0;
    for (path, text) in files(&["rs", "md"]) {
        for row in cited_rows(&text) {
            assert!(rows.contains(&row), "{}: docs/failure-modes.md has no row {row}", path.display());
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} citations were found");
}

#[test]
fn a_guard_that_is_named_is_in_the_glossary() {
    let told = numbered_rows(&page("docs/glossary.md"), "G");
    let mut named = BTreeSet::new();
    for (path, text) in files(&["rs", "md"]) {
        let guards = guards(&text);
        let untold: Vec<&u32> = guards.difference(&told).collect();
        assert!(untold.is_empty(), "{}: docs/glossary.md has no guard {untold:?}", path.display());
        if path.extension().is_some_and(|ending| ending == "rs") {
            named.extend(guards);
        }
    }
    assert_eq!(named, told, "the guards that code names, and those of docs/glossary.md");
}

#[test]
fn a_link_between_pages_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    for (path, text) in files(&["md"]) {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: nothing is at {link}", path.display());
            if !heading.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{}: no heading is at {link}, but {there:?}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 30, "only {count} links were found");
}

/// The control: what is cited, named or linked is found, and nothing else.
#[test]
fn citations_guards_and_links_are_found_control() {
    let text = "(failure-modes.md #5, #8). As failure-modes.md #23, and failure-modes.md says; #7.";
    assert_eq!(cited_rows(text), [5, 8, 23]);
    assert_eq!(guards("(G11), G1–G3: Go, g4, _G5, G_6, BG7, G"), BTreeSet::from([1, 3, 11]));
    assert_eq!(
        numbered_rows("| # | what |\n|---|---|\n| 1 | a |\n| 23 | 24 |\n| x | 3 |", ""),
        BTreeSet::from([1, 23])
    );
    let page = "# A `b` (c)\n[x](a.md#d), `[y](b.md)` and [`z`](c.md)\n```\n# e\n[u](d.md)\n```\n## F-g h\n";
    assert_eq!(links(page), ["a.md#d", "c.md"]);
    assert_eq!(anchors(page), BTreeSet::from(["a-b-c".to_owned(), "f-g-h".to_owned()]));
}

/// The Rust sources of the workspace, tests included.
fn rust() -> Vec<(PathBuf, String)> {
    files(&["rs"])
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    const LINES: usize = 600;
    let long: Vec<_> = rust()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .collect();
    assert!(long.is_empty(), "past {LINES} lines a file wants to be two: {long:?}");
}

/// A module by the names on the way to it; the crate itself is empty.
type Module = Vec<String>;

/// What a `use` tree or a path names, below `prefix`.
fn named(prefix: &[String], text: &str) -> Vec<Module> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('{') {
        let (mut depth, mut items) = (0_i32, vec![String::new()]);
        for letter in inner.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    items.push(String::new());
                    continue;
                }
                _ => {}
            }
            items.last_mut().unwrap().push(letter);
        }
        return items.iter().filter(|item| !item.trim().is_empty()).flat_map(|item| named(prefix, item)).collect();
    }
    let word: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    if word.is_empty() || word == "self" {
        return vec![prefix.to_vec()];
    }
    let mut path = prefix.to_vec();
    path.push(word.clone());
    match text[word.len()..].strip_prefix("::") {
        Some(rest) => named(&path, rest),
        None => vec![path],
    }
}

/// What the code of a module names of its own crate.
fn names_within(module: &Module, code: &str) -> Vec<Module> {
    let mut all = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let whole = !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$');
        if whole {
            all.extend(named(&[], &code[at + "crate::".len()..]));
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let (mut up, mut rest) = (0, &code[at..]);
        while let Some(after) = rest.strip_prefix("super::") {
            (up, rest) = (up + 1, after);
        }
        if let Some(parent) = module.len().checked_sub(up) {
            all.extend(named(&module[..parent], rest));
        }
    }
    all
}

/// The code of a file without its comments and its tests.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Which modules of a crate name which others. What lies below one module counts as that module for those beside it, and
/// a module and what is below it are one.
fn edges(modules: &BTreeMap<Module, String>) -> BTreeSet<(Module, Module)> {
    let mut edges = BTreeSet::new();
    for (module, code) in modules {
        for path in names_within(module, code) {
            let known =
                (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|path| modules.contains_key(path));
            let Some(other) = known else { continue };
            let common = module.iter().zip(&other).take_while(|(one, other)| one == other).count();
            if common < module.len() && common < other.len() {
                edges.insert((module[..=common].to_vec(), other[..=common].to_vec()));
            }
        }
    }
    edges
}

/// The modules that can be reached from themselves.
fn in_circles(edges: &BTreeSet<(Module, Module)>) -> Vec<Module> {
    let starts: BTreeSet<&Module> = edges.iter().map(|(from, _)| from).collect();
    let reaches_itself = |start: &&Module| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![*start]);
        while let Some(module) = waiting.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| from == module) {
                if to == *start {
                    return true;
                }
                if seen.insert(to) {
                    waiting.push(to);
                }
            }
        }
        false
    };
    starts.into_iter().filter(reaches_itself).cloned().collect()
}

#[test]
fn no_two_files_of_a_crate_need_each_other() {
    let mut crates: BTreeMap<PathBuf, BTreeMap<Module, String>> = BTreeMap::new();
    for (path, text) in rust() {
        let path = path.strip_prefix(ROOT).unwrap();
        let below: Vec<&Path> = path.ancestors().filter(|folder| folder.ends_with("src")).collect();
        let Some(folder) = below.last() else { continue };
        let mut module: Module = path
            .with_extension("")
            .strip_prefix(folder)
            .unwrap()
            .iter()
            .map(|name| name.to_string_lossy().into())
            .collect();
        module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
        let tests = module.iter().any(|name| name.ends_with("tests") || name == "testing");
        if !tests && !module.is_empty() {
            crates.entry(folder.to_path_buf()).or_default().insert(module, code_of(&text));
        }
    }
    assert!(crates.len() > 10, "{:?}", crates.keys());
    for (folder, modules) in crates {
        let circle = in_circles(&edges(&modules));
        assert!(circle.is_empty(), "{}: {circle:?} need each other: move one item", folder.display());
    }
}

/// The control: a circle is found, through groups and from below, and parent and child are none.
#[test]
fn a_circle_is_found_control() {
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    let code = |text: &str| code_of(text);
    let modules = BTreeMap::from([
        (module("a"), code("use crate::{b::{self, X}, c};")),
        (module("b"), code("fn f() { crate::d::e::g() }")),
        (module("c"), code("// crate::a")),
        (module("d"), code("mod e;")),
        (module("d::e"), code("use super::super::a::Y;\nuse super::f;")),
        (module("d::f"), code("")),
    ]);
    assert_eq!(in_circles(&edges(&modules)), ["a", "b", "d"].map(module));
}
