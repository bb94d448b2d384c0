//! What the whole-build tests share: a folder of their own, the binary, and a look at the outcome.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) const INDEXBUILD: &str = env!("CARGO_BIN_EXE_indexbuild");

/// No command of a test may take longer; a build that hangs is a failure that names itself.
const DEADLINE: Duration = Duration::from_secs(120);

/// The Python of the test environment, with DuckDB and rocksdict (`make test` installs it).
pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("INDEXBUILD_PYTHON").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            Path::new(&home).join(".cache/indexbuild/python/bin/python")
        },
        PathBuf::from,
    );
    assert!(python.exists(), "{} is missing: run `make python` (or the tests through `make test`)", python.display());
    python
}

/// A folder with a table and a build, removed at the end.
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
}

/// What one command did.
pub(crate) struct CommandOutput {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    pub(crate) fn succeeded(self, what: &str) -> Self {
        assert_eq!(self.code, Some(0), "{what}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn failed(self, what: &str) -> Self {
        assert!(
            self.code != Some(0),
            "{what} should have failed\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// Everything that was printed.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("ib-").tempdir().unwrap() }
    }

    /// In memory, so that a thousand syncs need no disk that is quick: a process that is killed loses nothing of what it
    /// wrote, whether it was synced or not. For small tables: a container has 64 MiB of such memory.
    pub(crate) fn in_memory() -> Self {
        let folder = tempfile::Builder::new().prefix("ib-").tempdir_in("/dev/shm");
        folder.map_or_else(|_| Self::new(), |folder| Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.join(name), text).unwrap();
        self
    }

    /// A sysbench-shaped table.
    pub(crate) fn sample(&self, rows: u64, file: &str, more: &[&str]) -> &Self {
        let rows = rows.to_string();
        let mut arguments = vec!["sample", "--rows", &rows, "--out", file];
        arguments.extend_from_slice(more);
        self.indexbuild(&arguments).succeeded("sample");
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(INDEXBUILD);
        command.args(arguments).current_dir(self.path()).env_remove("INDEXBUILD_FAULTS").stdin(Stdio::null());
        command
    }

    pub(crate) fn indexbuild(&self, arguments: &[&str]) -> CommandOutput {
        finish(self.command(arguments), &arguments.join(" "))
    }

    pub(crate) fn indexbuild_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        finish(command, &arguments.join(" "))
    }

    /// The folder `<output>/default/<name>/<uid>` of the one build below `indexes`.
    pub(crate) fn build_folder(&self, name: &str) -> PathBuf {
        build_folder(&self.join("indexes"), name)
    }

    pub(crate) fn manifest(&self, name: &str) -> Value {
        manifest_in(&self.build_folder(name))
    }

    /// What an index is: per file, in order, its bounds, entries and the digest of its entries.
    pub(crate) fn content(&self, name: &str) -> Vec<String> {
        content_of(&self.manifest(name))
    }

    /// What I10 promises to be the same: the content, and of each file, in order, its bytes.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let folder = self.build_folder(name);
        files_of(&folder, &manifest_in(&folder))
    }
}

pub(crate) fn build_folder(indexes: &Path, name: &str) -> PathBuf {
    let folder = indexes.join("default").join(name);
    let mut builds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(builds.len(), 1, "one build below {}: {builds:?}", folder.display());
    builds.remove(0)
}

/// The manifest of a build, from its folder below the output.
pub(crate) fn manifest_in(folder: &Path) -> Value {
    let path = folder.join("manifest.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

pub(crate) fn content_of(manifest: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for index in manifest["indexes"].as_array().unwrap() {
        let name = index["definition"]["name"].as_str().unwrap();
        lines.push(format!("{name} {} entries, hash {}", index["entries"], index["hash"]));
        for file in index["files"].as_array().unwrap() {
            lines.push(format!(
                "{name} {} {}..{} {} {}",
                file["range"], file["firstKey"], file["lastKey"], file["entries"], file["contentDigest"]
            ));
        }
    }
    lines
}

/// The content, and of each file that the manifest names, in its order, the length and digest of what lies there. Nothing is
/// asked of the bytes where the switch `rocksdbWritesFiles` is on: RocksDB's own writer puts the time and a random id into each.
pub(crate) fn files_of(folder: &Path, manifest: &Value) -> Vec<String> {
    let mut lines = content_of(manifest);
    if std::env::var("INDEXBUILD_TEST_SWITCHES").is_ok_and(|switches| switches.contains("rocksdbWritesFiles")) {
        return lines;
    }
    for file in manifest["indexes"].as_array().unwrap().iter().flat_map(|index| index["files"].as_array().unwrap()) {
        let path = folder.join(file["path"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let digest = xxhash_rust::xxh3::xxh3_128(&bytes);
        lines.push(format!(
            "range {}: {} bytes {digest:032x} by {}",
            file["range"],
            bytes.len(),
            file["writerVersion"]
        ));
    }
    lines
}

/// Runs to the end, or fails with what was printed so far.
pub(crate) fn finish(mut command: Command, what: &str) -> CommandOutput {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let out = std::thread::spawn(move || read_all(&mut stdout));
    let err = std::thread::spawn(move || read_all(&mut stderr));
    std::thread::spawn(move || sender.send(child.wait()));
    let Ok(status) = receiver.recv_timeout(DEADLINE) else {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!(
            "{what}: no end after {DEADLINE:?}\n--- stdout\n{}\n--- stderr\n{}",
            out.join().unwrap(),
            err.join().unwrap()
        );
    };
    CommandOutput { code: status.unwrap().code(), stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_all(from: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `holds` gives something, or fails saying what was waited for.
pub(crate) fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every file below a folder, by its path from there.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let length = entry.metadata().map_or(0, |metadata| metadata.len());
                files.insert(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned(), length);
            }
        }
    }
    files
}

/// A build over `table.parquet` with an index on k and, where wanted, one on c.
pub(crate) fn build_yaml(name: &str, columns: &[&str], more: &str) -> String {
    let indexes: String = columns
        .iter()
        .map(|column| format!("    - {{name: by_{column}, columns: [{{name: {column:?}}}]}}\n"))
        .collect();
    format!(
        "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: {name}}}\nspec:\n  source:\n    parquet: {{urls: [table.parquet]}}\n  rowId: {{columns: [id]}}\n  indexes:\n{indexes}  output: {{url: indexes}}\n{more}"
    )
}

/// The sidecars of every attempt of a build, also of those that are cleaned at its end: what was sealed, by
/// whom. They are read while the build runs.
pub(crate) struct Sidecars {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    reader: std::thread::JoinHandle<BTreeMap<String, Value>>,
}

impl Sidecars {
    /// Reads what is below these folders until [`Sidecars::seen`]. Sealed files stay for as long as their
    /// attempt's folder, which is removed after the build: nobody is too fast for this.
    pub(crate) fn watch(folders: Vec<PathBuf>) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                for folder in &folders {
                    for file in files_below(folder).into_keys().filter(|file| file.ends_with(".json")) {
                        let path = folder.join(file);
                        let document = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
                        if let Some(document) = document {
                            seen.insert(path.to_string_lossy().into_owned(), document);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Self { stop, reader }
    }

    /// The rows of each piece of work that was sealed: (work, splits or range) to the attempts that made it.
    /// A sidecar that a later attempt adopted is the same one, whichever folder it stands in.
    pub(crate) fn seen(self) -> Sealed {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut sealed = Sealed::default();
        for document in self.reader.join().unwrap().values() {
            let attempt = format!("{}-{}", document["epoch"], document["bootNonce"]);
            if document["splits"].is_array() && document["tableDigest"].is_string() {
                let key = (attempt, document["splits"].to_string());
                sealed.runs.insert(key, document["rows"].as_u64().unwrap());
            } else if document["sealed"]["range"].is_u64() {
                let key = (attempt, format!("{} {}", document["index"], document["sealed"]["range"]));
                sealed.ranges.insert(key, document["sealed"]["entries"].as_u64().unwrap());
            }
        }
        sealed
    }
}

/// What all attempts of a build sealed: by attempt and by what it covers.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Rows of each run, by attempt and splits.
    pub runs: BTreeMap<(String, String), u64>,
    /// Entries of each range, by attempt, index and range.
    pub ranges: BTreeMap<(String, String), u64>,
}

pub(crate) fn output_text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
