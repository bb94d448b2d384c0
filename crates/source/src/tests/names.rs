//! Files and folders as people have them: any letters in their names, links, and what is no file.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use indexbuild_store::{file_url, path_of_file_url, readable_file_url};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::files::Stores;
use crate::retry::LibraryRetries;
use crate::{FailedRequest, Retry, RetryPolicy, Snapshot};

/// A folder with these CSV files of one row each, below folders that are made.
fn folder(names: &[OsString]) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "id\n1\n").unwrap();
    }
    (folder, root)
}

fn of_texts(names: &[&str]) -> (TempDir, PathBuf) {
    folder(&names.iter().map(OsString::from).collect::<Vec<_>>())
}

fn spec(urls: &[String]) -> TableSpec {
    TableSpec::Csv { urls: urls.to_vec(), options: CsvOptions::default() }
}

/// The files that URLs name, as paths from `root`.
fn listed(root: &Path, urls: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    let snapshot = Table::pin(&spec(urls), &StoreOptions::default())?;
    Table::open(&spec(urls), &StoreOptions::default(), &snapshot)?;
    let path = |url: &str| {
        let path = path_of_file_url(url).unwrap();
        path.strip_prefix(root).unwrap_or_else(|_| panic!("{path:?} of {url} is not below {root:?}")).to_owned()
    };
    Ok(snapshot.files.iter().map(|file| path(&file.url)).collect())
}

/// A URL in which the folder's letters stand for themselves, and those of `pattern` are a pattern's.
fn within(root: &Path, pattern: &str) -> Vec<String> {
    vec![format!("{}/{pattern}", readable_file_url(root))]
}

/// Each printable ASCII character, what a URL would take for something else, text beyond ASCII, and bytes that are no text.
fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> =
        (b' '..=b'~').filter(|byte| !b"/.".contains(byte)).map(|byte| OsString::from_vec(vec![byte])).collect();
    names.extend(
        ["é", "日本", "🦀", "%41", "%2F", "a:", "..x", ".hidden", "~", "\t", "\n", "**", "[a]"].map(OsString::from),
    );
    names.push("n".repeat(240).into());
    names.push(OsString::from_vec(vec![b'a', 0xff, 0xfe]));
    names
}

#[test]
fn a_pattern_finds_each_file_whatever_letters_its_name_and_its_folder_have() {
    for name in odd_names() {
        let mut file = name.clone();
        file.push(".csv");
        let (_keep, root) = folder(&[PathBuf::from(&name).join(&file).into_os_string(), "other/plain.csv".into()]);
        let inner = root.join(&name);
        let found = listed(&inner, &within(&inner, "*.csv")).unwrap();
        assert_eq!(found, [PathBuf::from(&file)], "in {name:?}");
        let all = listed(&root, &within(&root, "**/*.csv")).unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        // Literally, by each form of its URL.
        // The URL that is told of a file leaves letters of patterns as they are: as a source it is a pattern.
        let told = Some(file_url(&inner.join(&file))).filter(|url| !url.contains(['*', '[']));
        for url in told.into_iter().chain([readable_file_url(&inner.join(&file))]) {
            assert_eq!(listed(&inner, std::slice::from_ref(&url)).unwrap(), [PathBuf::from(&file)], "{url}");
        }
    }
}

#[test]
fn a_name_with_letters_of_a_pattern_can_be_written_literally_and_is_never_taken_for_others() {
    let (_keep, root) = of_texts(&["x[1].csv", "x1.csv", "*.csv", "y?.csv", "z[0].csv"]);
    let found = |pattern: &str| {
        listed(&root, &within(&root, pattern))
            .map(|found| found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(found("x%5B1%5D.csv").unwrap(), ["x[1].csv"]);
    assert_eq!(found("x[[]1].csv").unwrap(), ["x[1].csv"]);
    assert_eq!(found("%2A.csv").unwrap(), ["*.csv"]);
    assert_eq!(found("[*].csv").unwrap(), ["*.csv"]);
    assert_eq!(found("y%3F.csv").unwrap(), ["y?.csv"]);
    assert_eq!(found("z[0].csv").unwrap(), ["z[0].csv"], "it matches nothing else, and a file has that very name");
    assert_eq!(found("*.csv").unwrap().len(), 5, "that a file is named so takes nothing away");
    let error = found("x[1].csv").unwrap_err().to_string();
    assert!(
        error.contains("the name of a file, and a pattern that matches others") && error.contains("x1.csv"),
        "{error}"
    );
}

#[test]
fn a_file_is_read_once_however_it_is_reached() {
    let (_keep, root) = of_texts(&["a.csv", "deep/b.csv"]);
    symlink("..", root.join("deep/up")).unwrap();
    symlink(".", root.join("here")).unwrap();
    symlink("a.csv", root.join("link.csv")).unwrap();
    fs::hard_link(root.join("a.csv"), root.join("hard.csv")).unwrap();
    for (patterns, count) in [
        (&["**/*.csv"][..], 2),
        (&["**"], 2),
        (&["**/deep/**/*.csv"], 1),
        (&["*.csv"], 1),
        (&["*/*.csv"], 2),
        (&["a.csv", "*.csv", "./link.csv"], 1),
        (&["deep/up/a.csv", "a.csv"], 1),
        (&["here/deep/*.csv", "deep/b.csv"], 1),
    ] {
        let urls: Vec<String> = patterns.iter().flat_map(|pattern| within(&root, pattern)).collect();
        assert_eq!(listed(&root, &urls).unwrap().len(), count, "{patterns:?}");
    }
    // Two files of equal content stay two.
    fs::write(root.join("deep/c.csv"), "id\n1\n").unwrap();
    assert_eq!(listed(&root, &within(&root, "deep/*.csv")).unwrap().len(), 2);
}

#[test]
fn what_is_no_file_is_refused_at_once_by_its_name() {
    let (_keep, root) = of_texts(&["orders.csv", "folder.csv/x.csv"]);
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.csv"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("s.csv")).unwrap();
    symlink("nowhere", root.join("dangling.csv")).unwrap();
    symlink("loop.csv", root.join("loop.csv")).unwrap();
    for (url, parts) in [
        ("pipe.csv", ["pipe.csv", "named pipe"]),
        ("p*.csv", ["pipe.csv", "named pipe"]),
        ("s.csv", ["s.csv", "a socket"]),
        ("/dev/null", ["/dev/null", "a device"]),
        ("orders.csv/x", ["orders.csv/x", "through a file"]),
        ("orders.csv/", ["orders.csv", "through a file"]),
        ("folder.csv", ["folder.csv", "it is a folder"]),
        ("da*.csv", ["dangling.csv", "a link to nothing"]),
        ("dangling.csv", ["dangling.csv", "no file matches"]),
        ("loop.csv", ["loop.csv", "could not be read"]),
        ("orders.csv/*.csv", ["orders.csv", "could not be read"]),
    ] {
        let url = if url.starts_with('/') { url.to_owned() } else { format!("{}/{url}", root.display()) };
        let error = Table::pin(&spec(std::slice::from_ref(&url)), &StoreOptions::default()).unwrap_err();
        assert!(!error.is_retryable(), "{url}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn a_pipe_that_takes_a_files_place_is_a_change_and_not_waited_for() {
    let (_keep, root) = of_texts(&["t.csv"]);
    let path = root.join("t.csv");
    let spec = spec(&[path.display().to_string()]);
    let table = table(&spec).unwrap();
    let split = table.splits(&names(&["id"])).unwrap()[0].clone();
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    let error = read_split(&table, &split, &names(&["id"]), &ReadOptions::default()).unwrap_err();
    assert!(matches!(error, SourceError::FileChanged { .. }), "{error}");
}

#[test]
fn a_folder_that_may_not_be_listed_is_an_error_and_no_folder_without_files() {
    let (_keep, root) = of_texts(&["a.csv", "locked/b.csv"]);
    fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    let found = listed(&root, &within(&root, "**/*.csv"));
    // Access rights do not hold for root.
    let root_user = fs::read_dir(root.join("locked")).is_ok();
    fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o700)).unwrap();
    match found {
        Err(SourceError::Denied { url, .. }) => assert!(url.contains("/locked"), "{url}"),
        other => assert!(root_user && other.unwrap().len() == 2),
    }
}

#[test]
fn folders_without_end_are_an_error_that_says_so() {
    let (_keep, root) = of_texts(&["a.csv"]);
    let mut deep = root.clone();
    for _ in 0..130 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let error = listed(&root, &within(&root, "**/*.csv")).unwrap_err();
    assert!(error.to_string().contains("nested more than 128 deep"), "{error}");
    assert_eq!(listed(&root, &within(&root, "*.csv")).unwrap().len(), 1);
}

/// Lets so many steps pass, and then wants everything to end.
#[derive(Debug)]
struct Ending {
    retries: LibraryRetries,
    left: AtomicU32,
}

impl RetryPolicy for Ending {
    fn settings(&self) -> Result<StoreOptions, SourceError> {
        self.retries.settings()
    }
    fn waits(&self) -> bool {
        false
    }
    fn answered(&self) {}
    fn slow(&self, _: &str) {}
    fn failed(&self, _: &FailedRequest<'_>) -> Retry {
        Retry::GiveUp
    }
    fn go_on(&self, url: &str) -> Result<(), SourceError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| SourceError::Store { url: url.to_owned(), source: "told to end".into() })
    }
}

#[test]
fn who_is_to_end_does_so_in_the_midst_of_a_list_and_of_a_file() {
    let (_keep, root) = of_texts(&["a.csv", "b/c.csv", "b/d/e.csv"]);
    let spec = spec(&within(&root, "**/*.csv"));
    let pin = |steps| -> Result<Snapshot, SourceError> {
        let policy = Ending { retries: LibraryRetries(StoreOptions::default()), left: AtomicU32::new(steps) };
        Table::pin_in(&spec, &Stores::with_policy(Arc::new(policy)))
    };
    assert_eq!(pin(10_000).unwrap().files.len(), 3);
    let mut ended = 0;
    while let Err(error) = pin(ended) {
        assert!(error.to_string().contains("told to end"), "{error}");
        ended += 1;
    }
    assert!(ended > 6, "{ended} steps: each folder and each file is one at least");
}
