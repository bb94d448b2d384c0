//! Whether a table's URLs could name the files of an index that is written beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use indexbuild_store::path_of_file_url;

use super::location::{LocalPlace, Location, Name};
use super::walk::{MATCHING, pattern_or};
use crate::error::SourceError;
use crate::snapshot::Snapshot;

/// The first of the URLs whose pattern could match a file in `folder`, a `file://` URL or that of a prefix, or in any folder
/// below it, whatever its name.
pub fn pattern_over<'a>(urls: &'a [String], folder: &str) -> Result<Option<&'a str>, SourceError> {
    // With a name behind it, it is the place of a file, as those of a source are.
    let folder = Location::parse(&format!("{}/file", folder.trim_end_matches('/')))?;
    for url in urls {
        let (names, fixed) = match (Location::parse(url)?, &folder) {
            (Location::Local(place), Location::Local(folder)) if place.is_pattern() => {
                let parent = folder.path.parent().unwrap_or(Path::new("/"));
                (real_names(place), texts(&real(parent)))
            }
            (
                Location::Remote { scheme, base, key: _, pattern: Some(pattern) },
                Location::Remote { scheme: of, base: bucket, key, pattern: _ },
            ) if scheme == *of && base.eq_ignore_ascii_case(bucket) => {
                let fixed = key.split('/').map(str::to_owned).collect::<Vec<_>>();
                let names = pattern.split('/').map(|name| Name { name: name.into(), pattern: Some(name.to_owned()) });
                (names.collect(), fixed.split_last().map(|(_, folder)| folder.to_vec()).unwrap_or_default())
            }
            (Location::Local(_) | Location::Remote { .. }, Location::Local(_) | Location::Remote { .. }) => continue,
        };
        if matches_below(url, &names, &fixed)? {
            return Ok(Some(url));
        }
    }
    Ok(None)
}

/// The first file of the snapshot that lies in `folder`, by whatever links it was found.
pub fn file_under<'a>(snapshot: &'a Snapshot, folder: &str) -> Option<&'a str> {
    let folder = real(&path_of_file_url(folder).ok()?);
    snapshot.files.iter().map(|file| file.url.as_str()).find(|url| {
        path_of_file_url(url).is_ok_and(|path| path.canonicalize().is_ok_and(|path| path.starts_with(&folder)))
    })
}

/// The names of a place, with the links of those before its first pattern followed.
fn real_names(place: LocalPlace) -> Vec<Name> {
    let first = place.names.iter().position(|name| name.pattern.is_some()).unwrap_or(place.names.len());
    let (before, rest) = place.names.split_at(first);
    let before: PathBuf =
        std::iter::once(OsStr::new("/")).chain(before.iter().map(|name| name.name.as_os_str())).collect();
    let literal = |name: String| Name { name: name.into(), pattern: None };
    texts(&real(&before)).into_iter().map(literal).chain(rest.iter().cloned()).collect()
}

/// The path behind links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), None, _) | (Err(_), _, None) => path.to_owned(),
    }
}

fn texts(path: &Path) -> Vec<String> {
    path.iter().skip(1).map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Whether these names could match a path that goes on below `fixed`.
fn matches_below(url: &str, names: &[Name], fixed: &[String]) -> Result<bool, SourceError> {
    let is_folders = |at: usize| names.get(at).is_some_and(|name| name.pattern.as_deref() == Some("**"));
    // How many of the names may have been used up so far.
    let mut used = vec![0];
    for folder in std::iter::once(None).chain(fixed.iter().map(Some)) {
        if let Some(folder) = folder {
            let mut next = Vec::new();
            for at in used {
                let Some(Name { name, pattern }) = names.get(at) else { continue };
                match pattern.as_deref() {
                    Some("**") => next.push(at),
                    Some(pattern) if pattern_or(url, pattern)?.matches_with(folder, MATCHING) => next.push(at + 1),
                    None if name.to_string_lossy() == folder.as_str() => next.push(at + 1),
                    Some(_) | None => {}
                }
            }
            used = next;
        }
        // `**` stands for no folder, too.
        let mut at = 0;
        while let Some(place) = used.get(at).copied() {
            if is_folders(place) && !used.contains(&(place + 1)) {
                used.push(place + 1);
            }
            at += 1;
        }
    }
    Ok(used.into_iter().any(|at| at < names.len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_over_an_output_where_it_could_match_a_file_of_it() {
        for (url, folder, over) in [
            ("s3://b/t/**/*.parquet", "s3://b/t/index/default/orders", true),
            ("s3://b/**", "s3://b/index/default/orders/", true),
            ("s3://b/t/*/*/*/*", "s3://b/t/index/default/orders", true),
            ("s3://b/t/*/*/*/*/*.sst", "s3://b/t/index/default/orders", true),
            ("s3://b/t/i*/default/orders/**", "s3://b/t/index/default/orders", true),
            ("s3://b/t/*.parquet", "s3://b/t/index/default/orders", false),
            ("s3://b/t/*/*.parquet", "s3://b/t/index/default/orders", false),
            ("s3://b/u/**/*.parquet", "s3://b/t/index/default/orders", false),
            ("s3://c/t/**/*.parquet", "s3://b/t/index/default/orders", false),
            ("s3://b/t/part[0-9]/**", "s3://b/t/index/default/orders", false),
            ("s3://b/t/index/default/orders/x.parquet", "s3://b/t/index/default/orders", false),
            ("gs://b/t/**", "s3://b/t/index/default/orders", false),
            ("file:///none/t/**/*.csv", "file:///none/t/index/default/orders", true),
            ("/none/t/**/*.csv", "file:///none/t/a%20b/default/orders", true),
            ("file:///none/%5Bt]/**", "file:///none/[t]/default/orders", true),
            ("file:///none/t/*.csv", "file:///none/t/index/default/orders", false),
            ("file:///none/t/*", "s3://none/t/index/default/orders", false),
        ] {
            let urls = [url.to_owned()];
            let found = pattern_over(&urls, folder).unwrap();
            assert_eq!(found.is_some(), over, "{url} and {folder}");
        }
    }

    #[test]
    fn links_to_folders_are_followed_on_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("real/t")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        for (source, output) in [("link", "real"), ("real", "link")] {
            let url = format!("{}/{source}/t/**/*.csv", root.display());
            let folder = format!("file://{}/{output}/t/index/default/orders", root.display());
            assert!(pattern_over(&[url], &folder).unwrap().is_some(), "{source} and {output}");
        }
    }
}
