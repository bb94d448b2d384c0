//! What of a table's files is another one now than when an index was built from them.

use std::collections::BTreeMap;
use std::fmt;

use indexbuild_api::IndexBuildSpec;
use indexbuild_index::manifest::SourceFile;
use indexbuild_source::{FileStamp, Table};
use indexbuild_text::chain;

use crate::access::StoreAccess;
use crate::definitions::{source, source_settings};

/// So many files of each kind are named.
const NAMED: usize = 3;

/// Files of a table that are not those of its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceChanges {
    pub changed: Vec<String>,
    pub added: Vec<String>,
    pub gone: Vec<String>,
}

/// Lists the table's files, and compares them with those of a manifest. It blocks.
///
/// # Errors
/// Why the files cannot be listed, in words.
pub fn source_changes(
    spec: &IndexBuildSpec,
    access: &StoreAccess,
    built_from: &[SourceFile],
) -> Result<SourceChanges, String> {
    let table = source(spec).map_err(|error| chain(&error))?;
    let settings = source_settings(spec, access).map_err(|error| chain(&error))?;
    let now = Table::list(&table, &settings).map_err(|error| chain(&error))?;
    Ok(SourceChanges::between(built_from, &now.files))
}

impl SourceChanges {
    fn between(built_from: &[SourceFile], now: &[FileStamp]) -> Self {
        let mut gone: BTreeMap<&str, &SourceFile> = built_from.iter().map(|file| (file.url.as_str(), file)).collect();
        let mut changes = Self::default();
        for file in now {
            match gone.remove(file.url.as_str()) {
                None => changes.added.push(file.url.clone()),
                Some(SourceFile { url, size, etag, mtime }) => {
                    let was = FileStamp { url: url.clone(), size: *size, etag: etag.clone(), mtime: mtime.clone() };
                    if !was.same_state(file) {
                        changes.changed.push(file.url.clone());
                    }
                }
            }
        }
        changes.gone = gone.into_keys().map(str::to_owned).collect();
        changes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { changed, added, gone } = self;
        changed.is_empty() && added.is_empty() && gone.is_empty()
    }
}

/// `1 file changed (a), 4 added (b, c, d, ...)`
impl fmt::Display for SourceChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changed, added, gone } = self;
        let mut first = true;
        for (files, what) in [(changed, "changed"), (added, "added"), (gone, "gone")] {
            if files.is_empty() {
                continue;
            }
            let unit = match (first, files.len()) {
                (true, 1) => " file",
                (true, _) => " files",
                (false, _) => "",
            };
            let named = files.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if files.len() > NAMED { ", ..." } else { "" };
            let comma = if first { "" } else { ", " };
            write!(f, "{comma}{}{unit} {what} ({named}{more})", files.len())?;
            first = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn was(url: &str, size: u64) -> SourceFile {
        SourceFile { url: url.to_owned(), size, etag: None, mtime: Some("2026-01-01T10:00:00.5Z".to_owned()) }
    }

    fn is(url: &str, size: u64, etag: Option<&str>) -> FileStamp {
        let mtime = Some("2026-01-01T10:00:00.5Z".to_owned());
        FileStamp { url: url.to_owned(), size, etag: etag.map(str::to_owned), mtime }
    }

    #[test]
    fn what_changed_came_and_went_is_told_and_what_is_the_same_is_not() {
        let built_from = [was("s3://b/a", 1), was("s3://b/b", 1), was("s3://b/c", 1)];
        let same = [is("s3://b/a", 1, None), is("s3://b/b", 1, Some("x")), is("s3://b/c", 1, None)];
        assert!(SourceChanges::between(&built_from, &same).is_empty());
        let now = [is("s3://b/a", 2, None), is("s3://b/b", 1, None), is("s3://b/d", 1, None), is("s3://b/e", 1, None)];
        let changes = SourceChanges::between(&built_from, &now);
        assert_eq!(changes.to_string(), "1 file changed (s3://b/a), 2 added (s3://b/d, s3://b/e), 1 gone (s3://b/c)");
        let many: Vec<_> = (0..5).map(|file| is(&format!("s3://b/{file}"), 1, None)).collect();
        let changes = SourceChanges::between(&[], &many);
        assert_eq!(changes.to_string(), "5 files added (s3://b/0, s3://b/1, s3://b/2, ...)");
    }
}
