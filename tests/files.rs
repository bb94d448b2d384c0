//! Files and folders as people have them, through whole commands: any letters in their names, links, pipes, compressed tables,
//! signals, and a source that has changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{CommandOutput, INDEXBUILD, Workspace, build_yaml, eventually, files_below, finish};

fn csv_yaml(name: &str, urls: &str, output: &str) -> String {
    format!(
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: {name}}}\nspec:\n  parallelism: 1\n  source:\n    csv:\n      urls: {urls}\n      columns: [{{name: id, type: int64}}]\n  indexes:\n    - {{name: by_id, columns: [{{name: id}}]}}\n  output: {{url: {output}}}\n"
    )
}

/// A command in a folder of any name.
fn indexbuild(folder: &Path, arguments: &[OsString]) -> CommandOutput {
    let mut command = Command::new(INDEXBUILD);
    command.args(arguments).current_dir(folder).stdin(std::process::Stdio::null());
    finish(command, &format!("{arguments:?} in {folder:?}"))
}

fn texts(arguments: &[&str]) -> Vec<OsString> {
    arguments.iter().map(OsString::from).collect()
}

/// All printable ASCII characters, and some beyond, in a few names: each stands in a folder's, a file's, the output's and the
/// state's name.
fn names() -> Vec<OsString> {
    let mut names = texts(&[
        "%41#?*",
        "a\\b[c]",
        "~",
        "..x",
        " a b ",
        "!\"$&'()+,-",
        "0123:;<=>@",
        "AZ^_`az{|}",
        "é 日本 🦀",
        "x:",
    ]);
    names.push(OsString::from_vec(vec![b'a', 0xff]));
    names
}

#[test]
fn an_index_lies_where_its_path_says_whatever_letters_that_has() {
    for name in names() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(&name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.csv"), "id\n1\n2\n").unwrap();
        let mut file = OsString::from("b ");
        file.push(&name);
        file.push(".csv");
        fs::write(folder.join(&file), "id\n3\n").unwrap();
        // In YAML, quoted: a name that is no text cannot stand in it, and is reached by its folder's.
        let output = name.to_str().map_or_else(|| "indexes".to_owned(), |name| format!("out {name}"));
        let quoted = format!("'{}'", output.replace('\'', "''"));
        fs::write(folder.join("b.yaml"), csv_yaml("names", "['*.csv']", &quoted)).unwrap();
        let mut state = OsString::from("state ");
        state.push(&name);
        let mut run = texts(&["run", "b.yaml", "-q", "--state"]);
        run.push(state.clone());
        indexbuild(&folder, &run).succeeded("the build");
        assert!(folder.join(&output).join("default/names/LATEST").is_file(), "{name:?}");
        assert!(folder.join(&state).join("build.json").is_file());
        let index = OsString::from(format!("{output}/default/names"));
        let verify = [texts(&["verify"]), vec![index.clone()], texts(&["--source", "b.yaml"])].concat();
        indexbuild(&folder, &verify).succeeded("verify");
        let mut get = vec!["get".into(), folder.join(&index).into_os_string(), "3".into(), "--cache".into()];
        get.push(name.clone());
        indexbuild(&folder, &get).succeeded("get, by the absolute path");
        assert!(folder.join(&name).is_dir(), "the cache");
        let mut there: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.sort();
        let mut expected = vec!["a.csv".into(), file, "b.yaml".into(), state, output.into(), name.clone()];
        expected.sort();
        assert_eq!(there, expected, "and nothing lies anywhere else");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_link_to_a_folder_above_and_a_second_name_read_no_row_twice() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.join("t")).unwrap();
    workspace.write("t/a.csv", "id\n1\n").write("b.yaml", &csv_yaml("once", "['t/**/*.csv', t/a.csv]", "indexes"));
    symlink("..", workspace.join("t/up")).unwrap();
    symlink(".", workspace.join("t/here")).unwrap();
    workspace.indexbuild(&["run", "b.yaml", "-q"]).succeeded("the build");
    assert_eq!(workspace.manifest("once")["source"]["rows"], 1);
}

#[test]
fn what_cannot_be_a_source_is_said_at_once() {
    let workspace = Workspace::new();
    workspace.write("orders.csv", "id\n1\n");
    fs::create_dir(workspace.join("folder.csv")).unwrap();
    let made = Command::new("mkfifo").arg(workspace.join("pipe.csv")).status().unwrap();
    assert!(made.success());
    for (number, (url, part)) in [
        ("pipe.csv", "named pipe"),
        ("orders.csv/x", "through a file"),
        ("folder.csv", "it is a folder"),
        ("'p*.csv'", "named pipe"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("b{number}");
        workspace.write("b.yaml", &csv_yaml(&name, &format!("[{url}]"), "indexes"));
        let begun = std::time::Instant::now();
        let output = workspace.indexbuild(&["run", "b.yaml", "-q"]).failed(url);
        assert!(output.text().contains(part), "{part} in {}", output.text());
        assert!(begun.elapsed().as_secs() < 20, "{url}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_compressed_table_makes_the_index_of_its_text() {
    let workspace = Workspace::new();
    let text: String = std::iter::once("id\n".to_owned()).chain((0..50_000).map(|row| format!("{row}\n"))).collect();
    workspace.write("t.csv", &text).write("plain.yaml", &csv_yaml("plain", "[t.csv]", "indexes"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    fs::write(workspace.join("t.csv.gz"), gzip.finish().unwrap()).unwrap();
    workspace.write("packed.yaml", &csv_yaml("packed", "[t.csv.gz]", "indexes"));
    for name in ["plain", "packed"] {
        workspace.indexbuild(&["run", &format!("{name}.yaml"), "-q"]).succeeded(name);
    }
    assert_eq!(workspace.files("plain"), workspace.files("packed"));
    let index = "indexes/default/packed";
    workspace.indexbuild(&["verify", index, "--source", "packed.yaml"]).succeeded("verify");
}

#[test]
fn an_output_that_the_source_would_read_is_refused_with_both_named() {
    let workspace = Workspace::new();
    fs::create_dir_all(workspace.join("t/deep")).unwrap();
    symlink("t", workspace.join("link")).unwrap();
    workspace.write("t/a.csv", "id\n1\n");
    for (number, (urls, output, refused)) in [
        ("['t/**/*.csv']", "t/index", true),
        ("['t/**/*.csv']", "link/index", true),
        ("['link/**/*.csv']", "t/index", true),
        ("['t/*.csv']", "t/index", false),
        ("['t/**/*.csv']", "index", false),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, file) = (format!("over{number}"), format!("over{number}.yaml"));
        workspace.write(&file, &csv_yaml(&name, urls, output));
        let ended = workspace.indexbuild(&["run", &file, "-q"]);
        if refused {
            let text = ended.failed(urls).text();
            for part in ["/t/index/default", "**/*.csv"] {
                assert!(text.replace("link/", "t/").contains(part), "{part} in {text}");
            }
        } else {
            ended.succeeded(urls);
        }
    }
}

/// The source of a build that is complete: the same command says what is another one, and that is no failure.
#[test]
fn the_same_command_after_the_source_changed_says_so() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.join("t")).unwrap();
    workspace.write("t/a.csv", "id\n1\n").write("t/b.csv", "id\n2\n");
    workspace.write("b.yaml", &csv_yaml("same", "['t/*.csv']", "indexes"));
    let run = ["run", "b.yaml", "-q"];
    workspace.indexbuild(&run).succeeded("the build");
    let same = workspace.indexbuild(&run).succeeded("nothing has changed");
    assert!(!same.stderr.contains("source"), "{}", same.stderr);
    workspace.write("t/a.csv", "id\n7\n8\n").write("t/c.csv", "id\n3\n");
    fs::remove_file(workspace.join("t/b.csv")).unwrap();
    let other = workspace.indexbuild(&run).succeeded("the source has changed");
    for part in ["1 file changed", "/t/a.csv", "1 added", "/t/c.csv", "1 gone", "/t/b.csv", "--fresh"] {
        assert!(other.stderr.contains(part), "{part} in {}", other.stderr);
    }
    assert!(other.stdout.contains("complete already"), "{}", other.stdout);
    fs::remove_dir_all(workspace.join("t")).unwrap();
    let gone = workspace.indexbuild(&run).succeeded("the source is gone");
    assert!(gone.stderr.contains("cannot be told"), "{}", gone.stderr);
}

#[test]
fn a_damaged_table_is_told_by_verify_without_a_panic() {
    let workspace = Workspace::new();
    workspace.sample(20_000, "table.parquet", &["--columns", "id,k,c", "--row-group-rows", "5000"]);
    workspace.write("build.yaml", &build_yaml("sound", &["k", "c"], "  parallelism: 1\n"));
    workspace.indexbuild(&["run", "build.yaml", "-q"]).succeeded("the build");
    let path = workspace.join("table.parquet");
    let sound = fs::read(&path).unwrap();
    let mut told = 0;
    for at in (1..40).map(|part| sound.len() * part / 50) {
        let mut damaged = sound.clone();
        damaged[at..at + 64].fill(0xff);
        fs::write(&path, damaged).unwrap();
        let output =
            workspace.indexbuild(&["verify", "indexes/default/sound", "--source", "build.yaml"]).failed("damage");
        assert!(!output.stderr.contains("panicked"), "at {at}: {}", output.stderr);
        told += usize::from(output.stderr.contains("table.parquet is damaged"));
    }
    assert!(told > 10, "{told} of the damages were seen by the decoder");
}

/// What a command leaves in the temporary folder: nothing when it is asked to end, and what SIGKILL leaves is swept.
#[test]
fn a_signal_leaves_no_cache_and_the_next_command_sweeps_what_a_kill_left() {
    let workspace = Workspace::new();
    workspace.sample(200_000, "table.parquet", &["--columns", "id,k"]);
    workspace.write("build.yaml", &build_yaml("kept", &["k"], "  parallelism: 1\n"));
    workspace.indexbuild(&["run", "build.yaml", "-q"]).succeeded("the build");
    let temporary = workspace.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let caches = || -> Vec<PathBuf> { fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect() };
    // A scan whose output nobody reads waits for ever, with its cache open.
    let waiting = || {
        let mut command = workspace.command(&["scan", "indexes/default/kept"]);
        let child = command.env("TMPDIR", &temporary).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let sst = |path: &String| path.ends_with(".sst");
        eventually("a cache with a file", || files_below(&temporary).keys().any(sst).then_some(()));
        child
    };
    for signal in ["INT", "TERM", "HUP"] {
        let mut child = waiting();
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_some_and(|code| code > 128), "{signal}: {status}");
        assert_eq!(caches(), Vec::<PathBuf>::new(), "{signal}");
    }
    let mut killed = waiting();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let gone = caches();
    assert_eq!(gone.len(), 1, "the control: a killed one leaves its cache");
    let mut live = waiting();
    let left = eventually("the killed one's cache is swept, by the one that lives now", || {
        let caches = caches();
        (caches.len() == 1 && caches != gone).then_some(caches)
    });
    let inode = fs::metadata(&left[0]).unwrap().ino();
    workspace.indexbuild_with(&["get", "indexes/default/kept", "1"], &[("TMPDIR", temporary.to_str().unwrap())]);
    assert_eq!(fs::metadata(&left[0]).unwrap().ino(), inode, "that of a live process stays");
    live.kill().unwrap();
    live.wait().unwrap();
}
