//! The table of good and bad builds: files of one folder each, and what a file's head says that a user reads.

use std::fs;
use std::path::Path;

/// Name and text of each YAML file of a folder, in order.
pub(super) fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The lines `# <kind>: <text>` at the head of a file.
pub(super) fn header<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let prefix = format!("# {kind}: ");
    text.lines().take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix(&prefix)).collect()
}
