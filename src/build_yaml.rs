//! Reads a build from the user's YAML file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use indexbuild_api::IndexBuild;
use indexbuild_check::{CheckError, PlaceOf};
use indexbuild_store::readable_file_url;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFileError {
    #[error("cannot read {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Invalid(CheckError),
}

/// Reads and checks a build by the resource's rules. What has no scheme in `source` and `output` is a
/// path, relative to the file's own folder.
pub(crate) fn read(path: &Path) -> Result<IndexBuild, BuildFileError> {
    let io = |source| BuildFileError::Io { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let absolute = std::path::absolute(path).map_err(io)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    indexbuild_check::check_build_in(&path.display().to_string(), &text, &|of, place| resolve(folder, of, place))
        .map_err(BuildFileError::Invalid)
}

/// A place as a URL: what has no scheme is a path, relative to `folder`, and no letter of it is an encoding. In a source's
/// place `*`, `?` and `[` are those of a pattern; the letters of `folder` never are.
fn resolve(folder: &Path, of: PlaceOf, place: &str) -> String {
    if place.is_empty() || has_scheme(place) {
        return place.to_owned();
    }
    let path = normal(&folder.join(place));
    if of == PlaceOf::Output || !place.contains(['*', '?', '[']) {
        return readable_file_url(&path);
    }
    // What stays of the text itself after its way from `folder`, by names: those are its last ones.
    let own = place.split('/').filter(|name| !matches!(*name, "" | ".")).collect::<Vec<_>>();
    let upward = own.iter().rposition(|name| *name == "..").map_or(0, |at| at + 1);
    let own = &own[upward..];
    let before: PathBuf = {
        let names: Vec<_> = path.components().collect();
        names[..names.len().saturating_sub(own.len())].iter().collect()
    };
    let mut url = readable_file_url(&before);
    for name in own {
        if !url.ends_with('/') {
            url.push('/');
        }
        url.push_str(&encoded_pattern(name));
    }
    url
}

/// A name that may be a pattern, as a part of a URL in which it is the same one.
fn encoded_pattern(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        match letter {
            // In a class of letters too: there is none of these that a pattern means.
            '%' => out.push_str("%25"),
            '#' => out.push_str("%23"),
            '\\' => out.push_str("%5C"),
            letter => out.push(letter),
        }
    }
    out
}

fn has_scheme(place: &str) -> bool {
    place.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// A place named on the command line, as a URL: one folder, no letter of whose path is a pattern or an encoding.
pub(crate) fn resolve_here(place: &OsStr) -> anyhow::Result<String> {
    if place.as_bytes().is_empty() {
        anyhow::bail!("the place of the index is empty: name its folder or its URL");
    }
    if let Some(url) = place.to_str().filter(|place| has_scheme(place)) {
        return Ok(url.to_owned());
    }
    let here = std::env::current_dir().context("the current folder cannot be told")?;
    Ok(readable_file_url(&normal(&here.join(place))))
}

/// The path without `.` and `..`; what it names need not exist yet. `..` after a link to a folder leads to the folder that
/// holds the one behind the link, as everywhere.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                if out.is_symlink()
                    && let Ok(behind) = out.canonicalize()
                {
                    out = behind;
                }
                out.pop();
            }
            std::path::Component::Prefix(_) | std::path::Component::RootDir | std::path::Component::Normal(_) => {
                out.push(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use indexbuild_store::path_of_file_url;

    use super::*;

    #[test]
    fn what_has_no_scheme_is_a_path_beside_the_file() {
        let folder = Path::new("/home/u/builds");
        for (place, url) in [
            ("orders.csv", "file:///home/u/builds/orders.csv"),
            ("../data/*.parquet", "file:///home/u/data/*.parquet"),
            ("*/../x[1]/./y?.csv", "file:///home/u/builds/x[1]/y?.csv"),
            ("./x", "file:///home/u/builds/x"),
            ("/abs/x", "file:///abs/x"),
            ("s3://lake/x", "s3://lake/x"),
            ("file:///x", "file:///x"),
            ("ftp://x", "ftp://x"),
            ("", ""),
        ] {
            assert_eq!(resolve(folder, PlaceOf::Source, place), url);
        }
    }

    /// Names that a URL would decode, cut, or take for a pattern.
    const NAMES: [&str; 14] =
        ["%41", "a#b", "a?b", "*", "a\\b", "[a]", "a b", "..x", "~", "a:", "é", "日本", "🦀", "\"'`<>{}|^&$!@=+;,()"];

    #[test]
    fn a_plain_path_is_the_same_path_whatever_letters_it_has() {
        for name in NAMES {
            let folder = Path::new("/home").join(name);
            let path = folder.join(name);
            let output = resolve(&folder, PlaceOf::Output, name);
            assert_eq!(path_of_file_url(&output).unwrap(), path, "{output}");
            assert!(!output.contains(['*', '?']), "{output}: the rule of output.url would refuse it");
            let source = resolve(&folder, PlaceOf::Source, &format!("{name}/*.csv"));
            assert_eq!(path_of_file_url(&source).unwrap(), path.join("*.csv"), "{source}");
            let folders = source.split_once(":///home/").unwrap().1.split('/').next().unwrap();
            assert!(!folders.contains(['*', '?', '[']), "{source}: of the file's folder nothing is a pattern");
            assert_eq!(path_of_file_url(&resolve_here(path.as_os_str()).unwrap()).unwrap(), path);
        }
        assert_eq!(resolve(Path::new("/a[1]*"), PlaceOf::Source, "x[1]*"), "file:///a%5B1]%2A/x[1]*");
    }

    #[test]
    fn upward_after_a_link_is_upward_from_what_is_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("deep/er")).unwrap();
        std::os::unix::fs::symlink(root.join("deep/er"), root.join("link")).unwrap();
        assert_eq!(normal(&root.join("link/../x")), root.join("deep/x"));
        assert_eq!(normal(&root.join("deep/../x")), root.join("x"));
        assert_eq!(normal(&root.join("none/../x")), root.join("x"));
    }
}
