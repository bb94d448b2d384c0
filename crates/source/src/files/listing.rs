//! From URLs with patterns to the list of files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use indexbuild_store::is_readable;
use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::location::{Location, Scheme, is_pattern};
use super::pinned::{object, objects, remote_stamp, stamp_of_path};
use super::stores::Stores;
use crate::error::SourceError;
use crate::snapshot::{FileStamp, Snapshot};

/// Row positions hold 24 bits of file number.
const MOST_FILES: usize = 1 << 24;

/// Of a key that the stores' clients cannot ask for.
const UNREADABLE: &str = "has an empty part, `.` or `..`, or a control character in it, and cannot be read; copy the object to another key, and name that";

const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// All files that the URLs name, each once, sorted by URL.
pub(crate) fn list(urls: &[String], stores: &Stores) -> Result<Snapshot, SourceError> {
    let mut files = Vec::new();
    for url in urls {
        let before = files.len();
        match Location::parse(url)? {
            Location::Local(path) => local(url, &path, &mut files)?,
            Location::Remote { scheme, base, key } => remote(url, scheme, &base, &key, stores, &mut files)?,
        }
        if files.len() == before {
            return Err(SourceError::NoFiles { url: url.clone() });
        }
    }
    if urls.is_empty() {
        return Err(SourceError::InvalidOptions {
            message: "the source has no urls; name at least one file".to_owned(),
        });
    }
    files.sort_unstable_by(|left: &FileStamp, right| left.url.cmp(&right.url));
    files.dedup_by(|left, right| left.url == right.url);
    if files.len() > MOST_FILES {
        return Err(SourceError::TooLarge {
            url: urls.join(", "),
            what: format!("{} files match, and the limit is {MOST_FILES}", files.len()),
        });
    }
    Ok(Snapshot { files })
}

fn local(url: &str, path: &Path, files: &mut Vec<FileStamp>) -> Result<(), SourceError> {
    // A file whose name holds pattern characters is meant literally.
    let pattern = path.to_str().filter(|text| is_pattern(text) && !path.exists());
    let Some(pattern) = pattern else {
        files.push(stamp_of_path(path)?);
        return Ok(());
    };
    let unreadable = |folder: PathBuf, error: std::io::Error| {
        SourceError::from_io(&format!("{url} (in {})", folder.display()), error)
    };
    // The glob library passes over a first folder that it cannot list without a word.
    let root: PathBuf =
        Path::new(pattern).components().take_while(|part| !part.as_os_str().to_str().is_some_and(is_pattern)).collect();
    match std::fs::read_dir(&root) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SourceError::NoFiles { url: url.to_owned() });
        }
        Err(error) => return Err(unreadable(root, error)),
    }
    let paths = glob::glob_with(pattern, MATCHING).map_err(|error| SourceError::InvalidUrl {
        url: url.to_owned(),
        why: format!("the pattern is not valid: {error}"),
    })?;
    for path in paths {
        let path = path.map_err(|error| unreadable(error.path().to_owned(), error.into()))?;
        if !path.is_dir() {
            files.push(stamp_of_path(&path)?);
        }
    }
    Ok(())
}

fn remote(
    url: &str,
    scheme: Scheme,
    base: &str,
    key: &str,
    stores: &Stores,
    files: &mut Vec<FileStamp>,
) -> Result<(), SourceError> {
    let invalid = |why: String| SourceError::InvalidUrl { url: url.to_owned(), why };
    if matches!(scheme, Scheme::S3 | Scheme::Gs | Scheme::Az) && !is_readable(key) {
        return Err(invalid(format!("the key {key:?} {UNREADABLE}")));
    }
    let bucket = stores.bucket(scheme, base)?;
    if !is_pattern(key) {
        let path = Key::parse(key).map_err(|error| invalid(error.to_string()))?;
        let meta = object(url, &bucket, &path)?;
        files.push(remote_stamp(&stamp_url(scheme, base, &meta.location), &meta));
        return Ok(());
    }
    let pattern = Pattern::new(key).map_err(|error| invalid(format!("the pattern is not valid: {error}")))?;
    let folder = key
        .find(['*', '?', '['])
        .and_then(|first| key.get(..first))
        .and_then(|literal| literal.rsplit_once('/'))
        .map(|(folder, _)| Key::parse(folder))
        .transpose()
        .map_err(|error| invalid(error.to_string()))?;
    let listed = objects(url, &bucket, folder.as_ref())?;
    let folders = folders(&listed);
    for meta in &listed {
        let key = meta.location.as_ref();
        if pattern.matches_with(key, MATCHING) && !(meta.size == 0 && marks_folder(key, &folders)) {
            files.push(remote_stamp(&stamp_url(scheme, base, &meta.location), meta));
        }
    }
    Ok(())
}

/// The folders in which something stands.
fn folders(listed: &[ObjectMeta]) -> HashSet<&str> {
    let mut folders = HashSet::new();
    for meta in listed {
        let mut key = meta.location.as_ref();
        while let Some((folder, _)) = key.rsplit_once('/')
            && folders.insert(folder)
        {
            key = folder;
        }
    }
    folders
}

/// Whether an empty object only says that there is a folder: Hadoop's by its name, and those of Azure's hierarchical namespaces
/// by what stands in it. Marks that end in a slash are in no list.
fn marks_folder(key: &str, folders: &HashSet<&str>) -> bool {
    key.ends_with("_$folder$") || folders.contains(key)
}

fn stamp_url(scheme: Scheme, base: &str, key: &Key) -> String {
    match scheme {
        Scheme::S3 | Scheme::Gs | Scheme::Az => format!("{base}/{key}"),
        // Keys of web servers are decoded when a URL is taken apart.
        Scheme::Http | Scheme::Https => {
            let encoded = key.as_ref().replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
            format!("{base}/{encoded}")
        }
    }
}
