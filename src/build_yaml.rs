//! Reads a build from the user's YAML file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use indexbuild_api::IndexBuild;
use indexbuild_check::CheckError;

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
    indexbuild_check::check_build_in(&path.display().to_string(), &text, &|url| resolve(folder, url))
        .map_err(BuildFileError::Invalid)
}

/// A place as a URL: what has no scheme is a path, relative to `folder`.
pub(crate) fn resolve(folder: &Path, place: &str) -> String {
    let has_scheme = place.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    if place.is_empty() || has_scheme {
        return place.to_owned();
    }
    format!("file://{}", normal(&folder.join(place)).display())
}

/// A place named on the command line, as a URL.
pub(crate) fn resolve_here(place: &str) -> anyhow::Result<String> {
    let here = std::env::current_dir().context("the current folder cannot be told")?;
    Ok(resolve(&here, place))
}

/// The path without `.` and `..`, by its text alone: what it names need not exist yet.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
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
    use super::*;

    #[test]
    fn what_has_no_scheme_is_a_path_beside_the_file() {
        let folder = Path::new("/home/u/builds");
        for (place, url) in [
            ("orders.csv", "file:///home/u/builds/orders.csv"),
            ("../data/*.parquet", "file:///home/u/data/*.parquet"),
            ("./x", "file:///home/u/builds/x"),
            ("/abs/x", "file:///abs/x"),
            ("s3://lake/x", "s3://lake/x"),
            ("file:///x", "file:///x"),
            ("ftp://x", "ftp://x"),
            ("", ""),
        ] {
            assert_eq!(resolve(folder, place), url);
        }
    }
}
